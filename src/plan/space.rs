//! A space: the dimensions of one block of the matrix, or of one `include` row, with everything
//! that is asked of its rows, compiled. A row is an index per dimension; nothing here holds rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::axis::values::{HostChanges, TlsFiles};
use crate::diag::Span;
use crate::filter::Expr;
use crate::scenario::model::{Affects, AxisValue, Scenario, Script};

use super::condition::{Condition, Dims, Index, Node, UNBOUND, to_index};

/// The dimension that scripts are.
pub(super) const SCRIPT: &str = "script";
/// Longest slug.
const SLUG: usize = 32;
/// Hexadecimal digits of a key.
pub(super) const KEY_DIGITS: usize = 16;

/// One dimension of a space.
#[derive(Debug, Clone)]
pub(super) struct Dim {
    pub(super) axis: String,
    pub(super) values: Vec<DimValue>,
    /// As written; for `why`.
    pub(super) condition: Option<Arc<Expr>>,
    pub(super) applies: Node,
    pub(super) affects: Affects,
    pub(super) span: Option<Span>,
}

/// One value of a dimension.
#[derive(Debug, Clone)]
pub(super) struct DimValue {
    pub(super) name: String,
    /// With those of its built-in meaning, or of the peer that it names.
    pub(super) facts: BTreeMap<String, Value>,
    pub(super) means: String,
    pub(super) files: Option<TlsFiles>,
    pub(super) host: Option<Arc<HostChanges>>,
    pub(super) span: Option<Span>,
    /// What it adds to the text that keys are a hash of.
    encoded: Box<[u8]>,
}

impl DimValue {
    pub(super) fn new(axis: &str, value: &AxisValue, scenario: &Scenario) -> Self {
        let mut facts = crate::filter::facts_of(axis, value);
        if matches!(axis, "client" | "server")
            && let Some(peer) = scenario.peers.get(&value.name)
        {
            for (fact, text) in &peer.facts {
                facts.entry(fact.clone()).or_insert_with(|| text.clone().into());
            }
            facts.entry("name".to_owned()).or_insert_with(|| value.name.clone().into());
        }
        Self {
            name: value.name.clone(),
            facts,
            means: value.means.clone(),
            files: value.files.clone(),
            host: value.host.clone(),
            span: Some(value.span),
            encoded: encoded(axis, &value.name),
        }
    }

    pub(super) fn script(script: &Script) -> Self {
        Self {
            name: script.name.clone(),
            facts: BTreeMap::new(),
            means: script.name.clone(),
            files: None,
            host: None,
            span: Some(script.span),
            encoded: encoded(SCRIPT, &script.name),
        }
    }
}

/// Lengths before texts, so that no two assignments have the same encoding.
fn encoded(axis: &str, value: &str) -> Box<[u8]> {
    let mut out = Vec::with_capacity(axis.len() + value.len() + 8);
    for text in [axis, value] {
        out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(text.as_bytes());
    }
    out.into()
}

/// Why rows of a space are no cases.
#[derive(Debug, Clone)]
pub(super) struct Remove {
    pub(super) kind: RemoveKind,
    /// As it would be written.
    pub(super) text: String,
    pub(super) reason: String,
    pub(super) span: Option<Span>,
    /// What later spaces ask of their rows too. None for duplicates: whoever knows the spaces before
    /// this one knows them.
    pub(super) condition: Option<Condition>,
    pub(super) node: Node,
}

/// What kind of constraint it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RemoveKind {
    /// A value that has no meaning beside others (`tls: auto` without a plugin launch).
    Meaningless,
    /// An `exclude` of the scenario.
    Exclude,
    /// The `when` of a script.
    Script,
    /// The same case is already in an earlier block or row.
    Duplicate,
}

/// The dimensions of one block or row with what is asked of its rows.
#[derive(Debug, Clone)]
pub(super) struct Space {
    pub(super) scenario: Arc<str>,
    pub(super) block: usize,
    pub(super) block_name: Option<String>,
    /// The `include` row that it is, by position in its block.
    pub(super) include: Option<usize>,
    pub(super) span: Option<Span>,
    /// In plan order: an axis comes after those that its condition names, scripts come last.
    pub(super) dims: Vec<Dim>,
    /// The values of the last dimension.
    pub(super) scripts: Vec<Arc<Script>>,
    pub(super) removes: Vec<Remove>,
    /// Rows that a capability is missing for, one condition per axis and role.
    pub(super) unsupported: Vec<Node>,
    /// The `when` of every rule.
    pub(super) rules: Vec<Node>,
    /// Dimensions in the order of their axes' names: the order of keys.
    pub(super) key_order: Vec<usize>,
    /// Dimensions that ids show, in the order of the axis table, without scripts.
    pub(super) shown: Vec<usize>,
}

impl Space {
    pub(super) fn dim(&self, axis: &str) -> Option<usize> {
        self.dims.iter().position(|dim| dim.axis == axis)
    }

    /// The value of a row in a dimension; `None` is `unset`.
    pub(super) fn value(&self, row: &[Index], dim: usize) -> Option<&DimValue> {
        self.dims.get(dim)?.values.get(usize::from(*row.get(dim)?))
    }

    /// The value of a row on an axis; `None` is `unset`.
    pub(super) fn value_of(&self, row: &[Index], axis: &str) -> Option<&DimValue> {
        self.value(row, self.dim(axis)?)
    }

    /// The tabulated condition that one axis has a value for which `holds`.
    pub(super) fn atom(&self, axis: &str, holds: impl Fn(Option<&DimValue>) -> bool) -> Node {
        let Some(position) = self.dim(axis) else { return Node::Constant(holds(None)) };
        let dim = &self.dims[position];
        let mut bits = vec![0_u64; dim.values.len() / 64 + 1].into_boxed_slice();
        let (mut all, mut any) = (true, false);
        let unset = if dim.condition.is_some() { Some(None) } else { None };
        for (index, value) in dim.values.iter().map(Some).chain(unset).enumerate() {
            if holds(value) {
                bits[index / 64] |= 1 << (index % 64);
                any = true;
            } else {
                all = false;
            }
        }
        if all || !any { Node::Constant(any) } else { Node::Atom(position, bits) }
    }

    /// All dimensions.
    pub(super) fn all(&self) -> Dims {
        Dims::all(self.dims.len())
    }

    /// The index that stands for `unset` in a dimension.
    pub(super) fn unset(&self, dim: usize) -> Index {
        to_index(self.dims[dim].values.len())
    }

    /// Binds what is unbound to the first value that it can have.
    pub(super) fn complete(&self, row: &mut [Index]) {
        for dim in 0..self.dims.len() {
            if row[dim] == UNBOUND {
                row[dim] = if self.dims[dim].applies.eval(self, row) == Some(false) { self.unset(dim) } else { 0 };
            }
        }
    }

    /// The key of a row, as a number: the first 64 bits of XXH3-128 over scenario name and the
    /// assignment (script among the axes) sorted by axis, without unset axes.
    pub(super) fn key(&self, row: &[Index]) -> u64 {
        let mut text = Vec::with_capacity(256);
        text.extend(encoded("scenario", &self.scenario));
        for dim in &self.key_order {
            if let Some(value) = self.value(row, *dim) {
                text.extend_from_slice(&value.encoded);
            }
        }
        let [high @ .., _, _, _, _, _, _, _, _] = xxh3_128(&text).to_be_bytes();
        u64::from_be_bytes(high)
    }

    /// The readable label of a row.
    pub(super) fn id(&self, row: &[Index]) -> String {
        let mut id = String::with_capacity(96);
        label(&mut id, &self.scenario);
        id.push('/');
        label(&mut id, self.value_of(row, SCRIPT).map_or("", |script| &script.name));
        id.push('[');
        let mut separator = "";
        for dim in &self.shown {
            if let Some(value) = self.value(row, *dim) {
                id.push_str(separator);
                label(&mut id, &self.dims[*dim].axis);
                id.push('=');
                label(&mut id, &value.name);
                separator = ",";
            }
        }
        id.push(']');
        id
    }

    /// The storage name of a row: as much of script, client and server as fits, and the key.
    pub(super) fn slug(&self, row: &[Index]) -> String {
        let mut slug = String::with_capacity(SLUG);
        for axis in [SCRIPT, "client", "server"] {
            let name = self.value_of(row, axis).map_or("", |value| value.name.as_str());
            for c in name.chars() {
                let c = c.to_ascii_lowercase();
                let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
                if !(c == '-' && (slug.is_empty() || slug.ends_with('-'))) {
                    slug.push(c);
                }
            }
            if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.truncate(SLUG - KEY_DIGITS - 1);
        let readable = slug.trim_end_matches('-').len();
        slug.truncate(readable);
        if !slug.is_empty() {
            slug.push('-');
        }
        let _ = write!(slug, "{:016x}", self.key(row));
        slug
    }
}

/// Names with a sign that has a meaning in ids are quoted there, so that ids stay unique.
fn label(id: &mut String, name: &str) {
    if name.is_empty()
        || name
            .contains(|c: char| matches!(c, ',' | '=' | '[' | ']' | '"' | '/') || c.is_whitespace() || c.is_control())
    {
        let _ = write!(id, "{name:?}");
    } else {
        id.push_str(name);
    }
}
