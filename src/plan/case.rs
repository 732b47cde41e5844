//! One row of a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::axis::values::{Group, KeyType, Launch, Request, TlsMode, TlsVersion, Transport};
use crate::scenario::model::{Affects, Block, Isolation, Script};

use super::capability::Missing;
use super::condition::Index;
use super::space::{DimValue, SCRIPT, Space};
use super::{Plan, why};

/// One row of a plan: variant × script. Small; everything readable is computed when asked for.
#[derive(Debug, Clone)]
pub struct Case {
    plan: Plan,
    index: u64,
    space: u32,
    row: Box<[Index]>,
}

/// Whether a case is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// It is, unless a rule says `unsupported`.
    Run,
    /// Its peers cannot be asked for it; at least one reason.
    Unsupported(Vec<Missing>),
}

impl Case {
    pub(super) fn new(plan: Plan, index: u64, space: usize, row: &[Index]) -> Self {
        Self { plan, index, space: u32::try_from(space).unwrap_or(u32::MAX), row: row.into() }
    }

    pub(super) fn space(&self) -> &Space {
        &self.plan.inner.spaces[self.space as usize]
    }

    pub(super) fn row(&self) -> &[Index] {
        &self.row
    }

    /// The plan that it is a row of.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its position among all cases of the plan, whatever is selected.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Its block.
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.plan.scenario().blocks[self.space().block]
    }

    /// Its stable key: 16 hexadecimal digits, the first half of XXH3-128 over the scenario's name
    /// and the assignment with its script, sorted by axis.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{:016x}", self.space().key(&self.row))
    }

    /// Its readable label, unique in a plan: `kv/put-get[client=go,server=rust,key=p521]`. An axis
    /// with the same single value everywhere is left out, but for client and server.
    #[must_use]
    pub fn id(&self) -> String {
        self.space().id(&self.row)
    }

    /// Its storage name, `[a-z0-9-]{1,32}`, unique as its key is.
    #[must_use]
    pub fn slug(&self) -> String {
        self.space().slug(&self.row)
    }

    /// Its value on an axis, as named in the scenario; `None` where the axis is absent or does not
    /// apply. `script` is an axis here.
    #[must_use]
    pub fn value(&self, axis: &str) -> Option<&str> {
        self.entry(axis).map(|value| value.name.as_str())
    }

    fn entry(&self, axis: &str) -> Option<&DimValue> {
        self.space().value_of(&self.row, axis)
    }

    /// Its axes with their values by name, without those that do not apply and without the script.
    #[must_use]
    pub fn axes(&self) -> BTreeMap<String, String> {
        let space = self.space();
        let values = space.dims.iter().enumerate().filter(|(_, dim)| dim.axis != SCRIPT);
        values.filter_map(|(at, dim)| Some((dim.axis.clone(), space.value(&self.row, at)?.name.clone()))).collect()
    }

    /// Facts of its value on an axis.
    #[must_use]
    pub fn facts(&self, axis: &str) -> Option<&BTreeMap<String, serde_json::Value>> {
        self.entry(axis).map(|value| &value.facts)
    }

    /// The client's name. Every case has one.
    #[must_use]
    pub fn client(&self) -> &str {
        self.value("client").unwrap_or_default()
    }

    /// The server's name. Every case has one.
    #[must_use]
    pub fn server(&self) -> &str {
        self.value("server").unwrap_or_default()
    }

    /// The service's name. Every case has one.
    #[must_use]
    pub fn service(&self) -> &str {
        self.value("service").unwrap_or_default()
    }

    /// The name of its script.
    #[must_use]
    pub fn script_name(&self) -> &str {
        self.value(SCRIPT).unwrap_or_default()
    }

    /// Its script.
    #[must_use]
    pub fn script(&self) -> Option<&Arc<Script>> {
        self.plan.scenario().scripts.get(self.script_name())
    }

    /// What it may share: the stricter of its block's and its script's word.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        let rank = |isolation: &Isolation| match isolation {
            Isolation::Shared => 0,
            Isolation::Connection => 1,
            Isolation::Case => 2,
        };
        let own = self.script().and_then(|script| script.isolation);
        own.into_iter().chain([self.block().isolation]).max_by_key(rank).unwrap_or(Isolation::Case)
    }

    /// A number that is the same for two cases of a plan exactly when they have the same values on
    /// all axes that affect at least this (but for hash collisions): with `Affects::Client`, cases
    /// whose server and client can be shared; with `Affects::Connection`, also their connection.
    #[must_use]
    pub fn shared_by(&self, affects: Affects) -> u64 {
        let space = self.space();
        let mut text = Vec::with_capacity(128);
        for dim in &space.key_order {
            if space.dims[*dim].affects >= affects
                && let Some(value) = space.value(&self.row, *dim)
            {
                for part in [&space.dims[*dim].axis, &value.name] {
                    text.extend_from_slice(part.as_bytes());
                    text.push(0);
                }
            }
        }
        xxhash_rust::xxh3::xxh3_64(&text)
    }

    /// What it asks of the connection.
    #[must_use]
    pub fn request(&self) -> Request {
        let means = |axis: &str| self.entry(axis).map(|value| value.means.as_str());
        Request {
            launch: means("launch").and_then(Launch::from_name),
            transport: means("transport").and_then(Transport::from_name),
            tls: means("tls").and_then(TlsMode::from_name),
            files: self.entry("tls").and_then(|value| value.files.clone()),
            key: means("key").and_then(KeyType::from_name),
            client_key: means("client_key").and_then(KeyType::from_name),
            tls_version: means("tls_version").and_then(TlsVersion::from_name),
            group: means("group").and_then(Group::from_name),
        }
    }

    /// Whether it is executed, as far as capabilities tell.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        let space = self.space();
        // The compiled conditions are quick; only a case that fails one needs words.
        if !space.unsupported.iter().any(|node| node.holds(space, &self.row)) {
            return Disposition::Run;
        }
        Disposition::Unsupported(self.plan.asker().missing(space, &self.row))
    }

    /// Where everything of it comes from.
    #[must_use]
    pub fn why(&self) -> why::Why {
        why::why(self)
    }

    pub(super) fn peer_of(&self, role: &str) -> Option<String> {
        matches!(role, "client" | "server").then(|| self.value(role).map(str::to_owned)).flatten()
    }
}
