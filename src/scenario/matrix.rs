//! `matrix`: blocks of axes with their constraints.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use indexmap::IndexMap;
use serde_json::Value;

use super::axes;
use super::builtin;
use super::decode::{Fields, Sink};
use super::expr::Pending;
use super::model::{Axis, AxisValue, Block, Exclude, IncludeRow, Isolation, Peer};
use super::reader::legal_name;
use super::schema;
use super::services::Services;
use super::yaml::{Kind, Node, short};
use crate::axis;
use crate::diag::{Diagnostic, Span};

/// What a matrix is about.
pub(super) struct Subject<'a> {
    pub(super) peers: &'a IndexMap<String, Peer>,
    pub(super) services: &'a Services,
    /// Script names with their places.
    pub(super) scripts: &'a [(String, Span)],
    /// Folder of the file, for certificate files.
    pub(super) folder: &'a Path,
    /// Something could not be read: unknown peers are not reported.
    pub(super) incomplete: bool,
    /// Roles of peers that are there but could not be read.
    pub(super) broken: &'a [(String, &'static str)],
}

/// Reads the matrix; `whole` is where its absence is reported.
pub(super) fn read(sink: &mut Sink, pending: &mut Pending, subject: &Subject<'_>, node: &Node) -> Vec<Block> {
    let nodes = match &node.kind {
        Kind::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    if nodes.is_empty() {
        sink.error(
            "empty",
            node.span,
            "`matrix` has no blocks",
            "nothing to run",
            "write `matrix: { axes: { client: […], server: […] } }`",
        );
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut names: HashMap<String, Span> = HashMap::new();
    for node in nodes {
        let Some(fields) = sink.fields::<schema::Block>(node) else { continue };
        let name = fields.get(sink, "name").and_then(|node| sink.text(node, "`name`"));
        if let Some(name) = &name {
            legal_name(sink, &name.value, name.span, "a block");
            if let Some(first) = names.insert(name.value.clone(), name.span) {
                sink.push(
                    Diagnostic::error("duplicate-name", format!("two blocks are named `{}`", short(&name.value)))
                        .at(name.span, "second")
                        .at(first, "first"),
                );
            }
        }
        blocks.push(block(sink, pending, subject, &fields, name.map(|n| n.value)));
    }
    one_meaning(sink, &blocks);
    blocks
}

/// A value's name means one thing in the whole matrix: keys of cases, duplicates, and what cases can
/// share go by names.
fn one_meaning(sink: &mut Sink, blocks: &[Block]) {
    let mut known: HashMap<(&str, &str), &AxisValue> = HashMap::new();
    let mut told = HashSet::new();
    for block in blocks {
        let of_axes = block.axes.iter().flat_map(|axis| axis.values.iter().map(|value| (axis.name.as_str(), value)));
        let rows = block.include.iter().flat_map(|row| &row.values);
        for (axis, value) in of_axes.chain(rows.map(|(axis, value)| (axis.as_str(), value))) {
            let first = *known.entry((axis, value.name.as_str())).or_insert(value);
            let same = (&first.means, &first.facts, &first.files, &first.host)
                == (&value.means, &value.facts, &value.files, &value.host);
            if !same && told.insert((axis, value.name.as_str())) {
                let message = format!("the name `{}` of the axis `{axis}` means two things", short(&value.name));
                sink.push(
                    Diagnostic::error("two-meanings", message)
                        .at(value.span, "something else here")
                        .at(first.span, "first here")
                        .help("give one of them another name: cases are told apart by names"),
                );
            }
        }
    }
}

/// `isolation`.
pub(super) fn isolation(sink: &mut Sink, fields: &Fields<'_>) -> Option<Isolation> {
    let node = fields.get(sink, "isolation")?;
    match sink.word(node, "`isolation`", &["shared", "connection", "case"])? {
        "connection" => Some(Isolation::Connection),
        "case" => Some(Isolation::Case),
        _ => Some(Isolation::Shared),
    }
}

fn block(
    sink: &mut Sink,
    pending: &mut Pending,
    subject: &Subject<'_>,
    fields: &Fields<'_>,
    name: Option<String>,
) -> Block {
    let mut given: Vec<Axis> = Vec::new();
    let axes_node = fields.require(sink, "axes", "name at least the axes `client` and `server`");
    let mut named = Vec::new();
    if let Some(node) = axes_node {
        for entry in sink.entries(node, "`axes`").unwrap_or_default() {
            named.push(entry.key.as_str());
            given.extend(axes::axis(sink, pending, subject, entry));
        }
        for role in ["client", "server"] {
            if !named.contains(&role) {
                let message = format!("the matrix has no axis `{role}`");
                sink.error(
                    "missing-axis",
                    node.span,
                    message,
                    &format!("no `{role}` in it"),
                    &format!("write `{role}: [PEER, …]`"),
                );
            }
        }
        if !named.contains(&"service") {
            given.extend(only_service(sink, subject, node.span));
        }
    }
    let mut axes: Vec<Axis> = Vec::new();
    for def in axis::table() {
        if let Some(position) = given.iter().position(|axis| axis.name == def.name) {
            axes.push(given.remove(position));
        }
    }
    axes.append(&mut given);

    let exclude = fields.get(sink, "exclude").map(|node| excludes(sink, pending, node)).unwrap_or_default();
    let include = fields.get(sink, "include").map(|node| includes(sink, subject, &axes, node)).unwrap_or_default();
    let scripts = match fields.get(sink, "scripts") {
        Some(node) => scripts(sink, subject, node),
        None => subject.scripts.iter().map(|(name, _)| name.clone()).collect(),
    };
    let isolation = isolation(sink, fields).unwrap_or(Isolation::Shared);
    Block { name, axes, scripts, exclude, include, isolation }
}

/// The axis `service` where it is left out: the only service there is.
fn only_service(sink: &mut Sink, subject: &Subject<'_>, span: Span) -> Option<Axis> {
    let services = &subject.services.all;
    let name = match subject.services.declared {
        0 => builtin::KV.to_owned(),
        // What is declared comes before what is always there.
        1 => services.keys().next()?.clone(),
        _ => {
            let names: Vec<&str> = services.keys().map(String::as_str).collect();
            let help =
                format!("there is more than one service, name those under test: `service: [{}]`", names.join(", "));
            sink.error("missing-axis", span, "the matrix has no axis `service`", "no `service` in it", &help);
            return None;
        }
    };
    Some(axes::plain_axis("service", vec![axes::plain_value(&name, span)], span))
}

fn scripts(sink: &mut Sink, subject: &Subject<'_>, node: &Node) -> Vec<String> {
    let mut scripts: Vec<String> = Vec::new();
    for name in sink.texts(node, "`scripts`", true).unwrap_or_default() {
        if !subject.scripts.iter().any(|(known, _)| *known == name.value) {
            if !subject.incomplete {
                let help = sink.suggest(&name.value, "scripts", subject.scripts.iter().map(|(n, _)| n.as_str()));
                let message = format!("unknown script `{}`", short(&name.value));
                sink.error("unknown-script", name.span, message, "no such script", &help);
            }
        } else if !scripts.contains(&name.value) {
            scripts.push(name.value);
        }
    }
    scripts
}

fn excludes(sink: &mut Sink, pending: &mut Pending, node: &Node) -> Vec<Exclude> {
    let mut excludes = Vec::new();
    for item in sink.list(node, "`exclude`").unwrap_or_default() {
        let Some(fields) = sink.fields::<schema::Exclude>(item) else { continue };
        let when = fields.require(sink, "when", "say which rows: `when: client == go and key == p521`");
        let when = when.and_then(|node| pending.read(sink, node, "`when`", true));
        let reason = fields.require(sink, "reason", "say why these rows are left out; it is shown by `soupscen plan`");
        let reason = reason.and_then(|node| sink.text(node, "`reason`"));
        if let (Some(when), Some(reason)) = (when, reason) {
            excludes.push(Exclude { when, reason: reason.value, span: item.span });
        }
    }
    excludes
}

fn includes(sink: &mut Sink, subject: &Subject<'_>, axes: &[Axis], node: &Node) -> Vec<IncludeRow> {
    let mut rows = Vec::new();
    for item in sink.list(node, "`include`").unwrap_or_default() {
        let Some(entries) = sink.entries(item, "a row of `include`") else { continue };
        let mut values: IndexMap<String, AxisValue> = IndexMap::new();
        for entry in entries {
            let own = axes.iter().find(|axis| axis.name == entry.key);
            if own.is_none() && axis::find(&entry.key).is_none() {
                let known = axis::table().iter().map(|def| def.name).chain(axes.iter().map(|a| a.name.as_str()));
                let mut known: Vec<&str> = known.collect();
                known.dedup();
                let message = format!("unknown axis `{}`", short(&entry.key));
                sink.error(
                    "unknown-axis",
                    entry.span,
                    message,
                    "no such axis",
                    &sink.suggest(&entry.key, "axes", known),
                );
                continue;
            }
            let Some(text) = sink.text(&entry.value, "a value of a row") else { continue };
            // The user's own names of `tls` values are known from the axis itself.
            let listed = own.and_then(|axis| axis.values.iter().find(|value| value.name == text.value));
            let value = match listed {
                Some(value) => Some(AxisValue { span: text.span, ..value.clone() }),
                None => axes::resolve(sink, subject, &entry.key, &text),
            };
            values.extend(value.map(|value| (entry.key.clone(), value)));
        }
        for role in ["client", "server"] {
            if !entries.iter().any(|entry| entry.key == role) {
                let message = format!("a row of `include` needs `{role}`");
                sink.error(
                    "missing-axis",
                    item.span,
                    message,
                    &format!("no `{role}` in it"),
                    "axes that a row does not name are unset",
                );
            }
        }
        if !values.contains_key("service") {
            let only = axes.iter().find(|axis| axis.name == "service").map(|axis| axis.values.as_slice());
            match only {
                Some([only]) => {
                    values.insert("service".to_owned(), AxisValue { span: item.span, ..only.clone() });
                }
                Some(_) => {
                    let message = "a row of `include` needs `service` where there is more than one";
                    sink.error("missing-axis", item.span, message, "no `service` in it", "");
                }
                None => {}
            }
        }
        rows.push(IncludeRow { values, span: item.span });
    }
    rows
}

/// Facts of a peer as those of a value of `client` and `server`.
pub(super) fn peer_facts(peer: &Peer) -> BTreeMap<String, Value> {
    peer.facts.iter().map(|(name, text)| (name.clone(), Value::String(text.clone()))).collect()
}
