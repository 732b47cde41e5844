//! One row of a plan, and what the plan says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::axis;
use crate::axis::values::{Group, HostChanges, KeyType, Launch, Request, TlsMode, TlsVersion, Transport};
use crate::filter::Expr;
use crate::scenario::model::{Affects, Axis, Block, EffectivePolicy, Isolation, Script};

use super::capability::{Missing, Role};
use super::condition::Condition;
use super::condition::Index;
use super::space::{DimValue, SCRIPT, Space};
use super::{Plan, Why, why};

/// One row of a plan: variant × script. Small, and meaningless without its plan, which is asked
/// about it ([`Plan::id`], [`Plan::request`], …).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Case {
    /// Its position among all cases of the plan, whatever is selected.
    pub index: u64,
    pub(super) space: u32,
    pub(super) row: Box<[Index]>,
}

/// Whether a case is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// It is, unless a rule says `unsupported`.
    Run,
    /// Its peers cannot be asked for it.
    Unsupported(Lacking),
}

/// Everything that the peers of a case cannot be asked for; at least one thing. Reads as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Lacking(pub Vec<Missing>);

/// The sides of a case that are asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChosenBy {
    /// The client is.
    pub client: bool,
    /// The server is.
    pub server: bool,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for missing in &self.0 {
            write!(f, "{separator}{}", missing.reason)?;
            separator = "; ";
        }
        Ok(())
    }
}

/// A fact of which a difference is shown and not red (`effective: {report: …}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct OnlyReported {
    /// Its name in the evidence.
    pub fact: String,
    /// The effective values of which that holds; of all, when none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Why.
    pub reason: String,
}

/// The fact that the evidence has of an axis.
fn fact_of(axis: &Axis) -> &str {
    axis::find(&axis.name).and_then(|def| def.fact).unwrap_or(&axis.name)
}

impl Case {
    pub(super) fn new(index: u64, space: usize, row: &[Index]) -> Self {
        Self { index, space: u32::try_from(space).unwrap_or(u32::MAX), row: row.into() }
    }
}

/// What the plan says of a case. A case of another plan gives nonsense or a panic.
impl Plan {
    pub(super) fn space(&self, case: &Case) -> &Space {
        &self.inner.spaces[case.space as usize]
    }

    /// Its block.
    #[must_use]
    pub fn block(&self, case: &Case) -> &Block {
        &self.scenario().blocks[self.space(case).block]
    }

    /// Its stable key: 16 hexadecimal digits, the first half of XXH3-128 over the scenario's name
    /// and the assignment with its script, sorted by axis.
    #[must_use]
    pub fn key(&self, case: &Case) -> String {
        format!("{:016x}", self.space(case).key(&case.row))
    }

    /// Its readable label, unique in a plan: `kv/put-get[client=go,server=rust,key=p521]`. An axis
    /// with the same single value everywhere is left out, but for client and server.
    #[must_use]
    pub fn id(&self, case: &Case) -> String {
        self.space(case).id(&case.row)
    }

    /// Its storage name, `[a-z0-9-]{1,32}`, unique as its key is.
    #[must_use]
    pub fn slug(&self, case: &Case) -> String {
        self.space(case).slug(&case.row)
    }

    fn entry(&self, case: &Case, axis: &str) -> Option<&DimValue> {
        self.space(case).value_of(&case.row, axis)
    }

    /// Its value on an axis, as named in the scenario; `None` where the axis is absent or does not
    /// apply. `script` is an axis here.
    #[must_use]
    pub fn value(&self, case: &Case, axis: &str) -> Option<&str> {
        self.entry(case, axis).map(|value| value.name.as_str())
    }

    /// Facts of its value on an axis.
    #[must_use]
    pub fn facts(&self, case: &Case, axis: &str) -> Option<&BTreeMap<String, serde_json::Value>> {
        self.entry(case, axis).map(|value| &value.facts)
    }

    /// Its axes with their values by name, without those that do not apply and without the script.
    #[must_use]
    pub fn axes(&self, case: &Case) -> BTreeMap<String, String> {
        let space = self.space(case);
        let values = space.dims.iter().enumerate().filter(|(_, dim)| dim.axis != SCRIPT);
        values.filter_map(|(at, dim)| Some((dim.axis.clone(), space.value(&case.row, at)?.name.clone()))).collect()
    }

    /// The client's name. Every case has one.
    #[must_use]
    pub fn client(&self, case: &Case) -> &str {
        self.value(case, "client").unwrap_or_default()
    }

    /// The server's name. Every case has one.
    #[must_use]
    pub fn server(&self, case: &Case) -> &str {
        self.value(case, "server").unwrap_or_default()
    }

    /// The service's name. Every case has one.
    #[must_use]
    pub fn service(&self, case: &Case) -> &str {
        self.value(case, "service").unwrap_or_default()
    }

    /// Its script.
    #[must_use]
    pub fn script(&self, case: &Case) -> &Arc<Script> {
        let space = self.space(case);
        // Scripts are the last dimension, and always apply.
        let index = case.row.last().copied().unwrap_or_default();
        &space.scripts[usize::from(index)]
    }

    /// What it may share: the stricter of its block's and its script's word.
    #[must_use]
    pub fn isolation(&self, case: &Case) -> Isolation {
        let rank = |isolation: &Isolation| match isolation {
            Isolation::Shared => 0,
            Isolation::Connection => 1,
            Isolation::Case => 2,
        };
        let script = self.script(case);
        // Who ends its server, or has two, cannot share them.
        let own = if script.needs_own_instance() { Some(Isolation::Case) } else { script.isolation };
        let watched = script.reads_wire().then_some(Isolation::Connection);
        own.into_iter().chain(watched).chain([self.block(case).isolation]).max_by_key(rank).unwrap_or(Isolation::Case)
    }

    /// What an axis of its affects; everything, for one that it does not have.
    #[must_use]
    pub fn affects(&self, case: &Case, axis: &str) -> Affects {
        let space = self.space(case);
        space.dim(axis).map_or(Affects::Server, |dim| space.dims[dim].affects)
    }

    /// The reason for which a difference of a fact is only reported, by the fact's name in the
    /// evidence and the value that was in force; `None` where a difference is red.
    #[must_use]
    pub fn softened(&self, case: &Case, fact: &str, effective: &str) -> Option<String> {
        let axis = self.block(case).axes.iter().find(|axis| fact_of(axis) == fact)?;
        let policy = self.softens(case, axis)?;
        (policy.values.is_empty() || policy.values.iter().any(|value| value == effective)).then_some(policy.reason)
    }

    /// Every fact of which some difference, or any, is only reported for this case.
    #[must_use]
    pub fn only_reported(&self, case: &Case) -> Vec<OnlyReported> {
        self.block(case).axes.iter().filter_map(|axis| self.softens(case, axis)).collect()
    }

    fn softens(&self, case: &Case, axis: &Axis) -> Option<OnlyReported> {
        let EffectivePolicy::Report { reason, when, only } = &axis.effective else { return None };
        let space = self.space(case);
        let holds = |when: &Arc<Expr>| Condition::Expr(Arc::clone(when)).compile(space).holds(space, &case.row);
        let policy = || OnlyReported { fact: fact_of(axis).to_owned(), values: only.clone(), reason: reason.clone() };
        when.as_ref().is_none_or(holds).then(policy)
    }

    /// Whether a condition over the axes holds for it.
    #[must_use]
    pub fn holds(&self, case: &Case, when: &Arc<Expr>) -> bool {
        let space = self.space(case);
        Condition::Expr(Arc::clone(when)).compile(space).holds(space, &case.row)
    }

    /// What it asks of the connection.
    #[must_use]
    pub fn request(&self, case: &Case) -> Request {
        let means = |axis: &str| self.entry(case, axis).map(|value| value.means.as_str());
        Request {
            launch: means("launch").and_then(Launch::from_name),
            transport: means("transport").and_then(Transport::from_name),
            tls: means("tls").and_then(TlsMode::from_name),
            files: self.entry(case, "tls").and_then(|value| value.files.clone()),
            key: means("key").and_then(KeyType::from_name),
            client_key: means("client_key").and_then(KeyType::from_name),
            tls_version: means("tls_version").and_then(TlsVersion::from_name),
            group: means("group").and_then(Group::from_name),
        }
    }

    /// Which sides take part in choosing what is negotiated (`tls_version`, `group`): those that can
    /// be asked for the case's value. Both, where neither can, so that they refuse it themselves.
    #[must_use]
    pub fn chosen_by(&self, case: &Case, axis: &str) -> ChosenBy {
        let asks = self.asker().asks(self.space(case), &case.row);
        let lacking = asks.into_iter().find(|(ask, _)| ask.axis == axis).map(|(_, lacking)| lacking);
        let can = |role| lacking.as_ref().is_none_or(|lacking| !lacking.contains(&role));
        match (can(Role::Client), can(Role::Server)) {
            (false, false) => ChosenBy { client: true, server: true },
            (client, server) => ChosenBy { client, server },
        }
    }

    /// What its values change about its plugin host.
    #[must_use]
    pub fn host_changes(&self, case: &Case) -> HostChanges {
        let space = self.space(case);
        let mut changes = HostChanges::default();
        for dim in 0..space.dims.len() {
            if let Some(host) = space.value(&case.row, dim).and_then(|value| value.host.as_ref()) {
                changes.extend(host);
            }
        }
        changes
    }

    /// Whether it is executed, as far as capabilities tell.
    #[must_use]
    pub fn disposition(&self, case: &Case) -> Disposition {
        let space = self.space(case);
        // The compiled conditions are quick; only a case that fails one needs words.
        if !space.unsupported.iter().any(|node| node.holds(space, &case.row)) {
            return Disposition::Run;
        }
        Disposition::Unsupported(Lacking(self.asker().missing(space, &case.row)))
    }

    /// Whether an unsupported case can be executed at all (`--probe-unsupported`): its peers have
    /// the roles, and the server a way of being run, that it takes.
    #[must_use]
    pub fn can_be_tried(&self, case: &Case) -> bool {
        match self.disposition(case) {
            Disposition::Run => true,
            Disposition::Unsupported(Lacking(missing)) => missing.iter().all(|missing| !missing.structural),
        }
    }

    /// Where everything of it comes from.
    #[must_use]
    pub fn why(&self, case: &Case) -> Why {
        why::why(self, case)
    }

    pub(super) fn peer_of(&self, case: &Case, role: &str) -> Option<String> {
        matches!(role, "client" | "server").then(|| self.value(case, role).map(str::to_owned)).flatten()
    }
}
