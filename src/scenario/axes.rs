//! One axis of a block: built-in ones by the axis table, the user's by what they declare.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::decode::Sink;
use super::expr::Pending;
use super::files::normal;
use super::json;
use super::matrix::{Subject, peer_facts};
use super::model::{Affects, Axis, AxisValue, EffectivePolicy, Peer};
use super::reader::legal_name;
use super::schema::{self, Shape};
use super::variants;
use super::yaml::{Entry, Kind, Node, short};
use crate::axis::values::{HostChanges, KeyType, Mistakes, TlsFiles};
use crate::axis::{self, AxisDef};
use crate::diag::{Diagnostic, Span, Spanned, did_you_mean};
use crate::filter;

/// Names that expressions use for something else.
const RESERVED: &[&str] = &["script", "block", "id", "case", "vars", "axes", "and", "or", "not", "in", "true", "false"];

/// Reads an axis; nothing when it has no value that can be used.
pub(super) fn axis(sink: &mut Sink, pending: &mut Pending, subject: &Subject<'_>, entry: &Entry) -> Option<Axis> {
    let name = entry.key.as_str();
    let def = axis::find(name);
    let long = match &entry.value.kind {
        Kind::Map(keys) => keys.iter().any(|e| e.key == "values"),
        _ => false,
    };
    if def.is_none() && !own_name(sink, entry, long) {
        return None;
    }
    let (values_node, fields) = if long {
        let fields = sink.fields::<schema::AxisLong>(&entry.value)?;
        (fields.require(sink, "values", "list its values")?, Some(fields))
    } else {
        (&entry.value, None)
    };
    let mut affects = def.map_or(Affects::Server, |def| def.affects);
    let mut applies = def.and_then(|def| own_condition(def, entry.span));
    let mut effective = EffectivePolicy::Require;
    if let Some(fields) = &fields {
        for key in ["affects", "applies"] {
            if let (Some(entry), Some(def)) = (fields.entry(key), def) {
                let message = format!("`{key}` of the built-in axis `{}` is fixed", def.name);
                sink.error("useless-key", entry.span, message, "not here", "only axes of your own have it");
            }
        }
        if def.is_none() {
            if let Some(node) = fields.get(sink, "affects") {
                affects = match sink.word(node, "`affects`", &["server", "client", "connection", "call"]) {
                    Some("client") => Affects::Client,
                    Some("connection") => Affects::Connection,
                    Some("call") => Affects::Call,
                    _ => Affects::Server,
                };
            }
            if let Some(node) = fields.get(sink, "applies") {
                applies = pending.read(sink, node, "`applies`", false);
            }
        }
        if let Some(node) = fields.get(sink, "effective") {
            effective = policy(sink, pending, node);
        }
    }
    let values = values(sink, subject, name, def, values_node);
    if values.is_empty() {
        return None;
    }
    if let Some(value) = values.iter().find(|value| value.host.is_some() && affects == Affects::Call) {
        let message = format!("`{}` changes the plugin host, and `{name}` says that it affects only calls", value.name);
        sink.error("wrong-affects", value.span, message, "changes the host", "say `affects: server`, or leave it out");
    }
    Some(Axis { name: name.to_owned(), values, applies, affects, effective, span: entry.span })
}

/// A value that means itself.
pub(super) fn plain_value(name: &str, span: Span) -> AxisValue {
    AxisValue { name: name.to_owned(), facts: BTreeMap::new(), files: None, host: None, means: name.to_owned(), span }
}

/// An axis of the table without anything special.
pub(super) fn plain_axis(name: &str, values: Vec<AxisValue>, span: Span) -> Axis {
    let affects = axis::find(name).map_or(Affects::Server, |def| def.affects);
    Axis { name: name.to_owned(), values, applies: None, affects, effective: EffectivePolicy::Require, span }
}

/// Whether an axis that is not in the table may be one of the user's. One that looks like a slip of
/// the keyboard must say `affects` to be believed.
fn own_name(sink: &mut Sink, entry: &Entry, long: bool) -> bool {
    let name = entry.key.as_str();
    let declared = match &entry.value.kind {
        Kind::Map(keys) if long => keys.iter().any(|e| e.key == "affects"),
        _ => false,
    };
    let builtin = || axis::table().iter().map(|def| def.name);
    if !declared && did_you_mean(name, builtin()).is_some() {
        let help = format!(
            "{}; an axis of your own with this name is written `{name}: {{ values: […], affects: connection }}`",
            sink.suggest(name, "axes", builtin())
        );
        sink.error("unknown-axis", entry.span, format!("unknown axis `{}`", short(name)), "not an axis", &help);
        return false;
    }
    if RESERVED.contains(&name) || name.contains(['.', ':', '+']) {
        let message = format!("`{}` cannot name an axis", short(name));
        sink.error("bad-name", entry.span, message, "has another meaning in expressions", "choose another name");
        return false;
    }
    legal_name(sink, name, entry.span, "an axis")
}

/// The condition of a built-in axis; it is the table's own text, so it parses.
fn own_condition(def: &AxisDef, span: Span) -> Option<Arc<filter::Expr>> {
    filter::parse_at(span, def.applies?).ok().map(Arc::new)
}

fn policy(sink: &mut Sink, pending: &mut Pending, node: &Node) -> EffectivePolicy {
    if !matches!(node.kind, Kind::Map(_)) {
        sink.word(node, "`effective`", &["require"]);
        return EffectivePolicy::Require;
    }
    let Some(fields) = sink.fields::<schema::EffectiveReport>(node) else { return EffectivePolicy::Require };
    let reason = fields.require(sink, "report", "say why a difference is good enough: `effective: { report: REASON }`");
    let when = fields.get(sink, "when").and_then(|node| pending.read(sink, node, "`when`", true));
    let only = fields.get(sink, "only").and_then(|node| sink.texts(node, "`only`", true)).unwrap_or_default();
    match reason.and_then(|node| sink.text(node, "`report`")) {
        Some(reason) => EffectivePolicy::Report {
            reason: reason.value,
            when,
            only: only.into_iter().map(|value| value.value).collect(),
        },
        None => EffectivePolicy::Require,
    }
}

fn values(sink: &mut Sink, subject: &Subject<'_>, axis: &str, def: Option<&AxisDef>, node: &Node) -> Vec<AxisValue> {
    let mut values: Vec<AxisValue> = Vec::new();
    let mut seen: HashMap<String, Span> = HashMap::new();
    let mut keep = |sink: &mut Sink, value: AxisValue| {
        if let Some(first) = seen.insert(value.name.clone(), value.span) {
            sink.push(
                Diagnostic::error("duplicate-value", format!("`{}` is twice on the axis `{axis}`", value.name))
                    .at(value.span, "again here")
                    .at(first, "first here"),
            );
        } else {
            values.push(value);
        }
    };
    let empty = match &node.kind {
        Kind::List(items) => {
            for item in items {
                let value = match &item.kind {
                    Kind::Scalar(scalar) if !several(subject, axis, &scalar.text).is_empty() => {
                        for name in several(subject, axis, &scalar.text) {
                            let text = Spanned { value: name, span: item.span };
                            let value = resolve(sink, subject, axis, &text);
                            if let Some(value) = value {
                                keep(sink, value);
                            }
                        }
                        None
                    }
                    Kind::Map(entries) => {
                        if let [only] = entries.as_slice() {
                            named(sink, subject, axis, def, only)
                        } else {
                            let message = "a value with facts is a map of its name to them";
                            let help = "write `- name: { fact: value }`";
                            sink.error("wrong-type", item.span, message, "not one key", help);
                            None
                        }
                    }
                    _ => sink.text(item, "a value").and_then(|text| resolve(sink, subject, axis, &text)),
                };
                if let Some(value) = value {
                    keep(sink, value);
                }
            }
            items.is_empty()
        }
        Kind::Map(entries) => {
            for entry in entries {
                if let Some(value) = named(sink, subject, axis, def, entry) {
                    keep(sink, value);
                }
            }
            entries.is_empty()
        }
        Kind::Scalar(_) => {
            let message = format!("the values of `{axis}` must be a list or a map, this is {}", node.noun());
            sink.error("wrong-type", node.span, message, "expected a list", &format!("write `{axis}: […]`"));
            false
        }
    };
    if empty {
        let message = format!("the axis `{axis}` has no values, so there would be no cases");
        sink.error("empty-axis", node.span, message, "empty", "give it values or leave the axis out");
    }
    values
}

/// The peers that one entry of an axis stands for: all variants of a definition, or those with a
/// role that a glob fits. Empty where it is one name.
fn several(subject: &Subject<'_>, axis: &str, text: &str) -> Vec<String> {
    if !matches!(axis, "client" | "server") || subject.peers.contains_key(text) {
        return Vec::new();
    }
    let is_glob = text.contains(['*', '?']);
    let fits = |peer: &&Peer| {
        let has = if axis == "client" { peer.client.is_some() } else { peer.server.is_some() };
        let variant = peer.facts.get(variants::VARIANT_OF).is_some_and(|of| of == text);
        variant || (is_glob && has && filter::glob(text, &peer.name))
    };
    subject.peers.values().filter(fits).map(|peer| peer.name.clone()).collect()
}

/// The value that a name stands for on an axis.
pub(super) fn resolve(sink: &mut Sink, subject: &Subject<'_>, axis: &str, text: &Spanned<String>) -> Option<AxisValue> {
    let (name, span) = (text.value.as_str(), text.span);
    match axis {
        "client" | "server" => {
            let Some(peer) = subject.peers.get(name) else {
                if !subject.incomplete {
                    let help = sink.suggest(name, "peers", subject.peers.keys().map(String::as_str));
                    sink.error("unknown-peer", span, format!("unknown peer `{}`", short(name)), "no such peer", &help);
                }
                return None;
            };
            let has = if axis == "client" { peer.client.is_some() } else { peer.server.is_some() };
            let broken = || subject.broken.iter().any(|(peer, role)| peer == name && *role == axis);
            if !has && !broken() {
                sink.push(
                    Diagnostic::error("no-role", format!("the peer `{name}` has no {axis} role"))
                        .at(span, format!("used as a {axis}"))
                        .at(peer.span, "declared here")
                        .help(format!("give it `{axis}: …` or take it off this axis")),
                );
            }
            Some(AxisValue { facts: peer_facts(peer), ..plain_value(name, span) })
        }
        "service" => {
            if !subject.services.all.contains_key(name) {
                if !subject.incomplete {
                    let help = sink.suggest(name, "services", subject.services.all.keys().map(String::as_str));
                    sink.error(
                        "unknown-service",
                        span,
                        format!("unknown service `{}`", short(name)),
                        "no such service",
                        &help,
                    );
                }
                return None;
            }
            Some(plain_value(name, span))
        }
        _ => match axis::find(axis) {
            Some(def) => {
                let Some(canonical) = axis::canonical(axis, name) else {
                    let help = sink.suggest(name, &format!("values of `{axis}`"), def.values.iter().map(|v| v.name));
                    let message = format!("unknown value `{}` of the axis `{axis}`", short(name));
                    sink.error("unknown-value", span, message, "not known", &help);
                    return None;
                };
                let facts = axis::find_value(axis, canonical).map(|v| v.facts).unwrap_or_default();
                let facts = facts.iter().map(|(name, fact)| ((*name).to_owned(), fact.to_json())).collect();
                Some(AxisValue { facts, ..plain_value(canonical, span) })
            }
            None => legal_name(sink, name, span, "a value").then(|| plain_value(name, span)),
        },
    }
}

/// A value with facts, or with certificates on `tls`.
fn named(
    sink: &mut Sink,
    subject: &Subject<'_>,
    axis: &str,
    def: Option<&AxisDef>,
    entry: &Entry,
) -> Option<AxisValue> {
    if entry.value.is_null() {
        return resolve(sink, subject, axis, &Spanned { value: entry.key.clone(), span: entry.span });
    }
    if axis == "tls" {
        return tls(sink, subject, entry);
    }
    if def.is_some() {
        let message = format!("the values of the built-in axis `{axis}` have their facts already");
        sink.error(
            "useless-key",
            entry.value.span,
            message,
            "not here",
            &format!("write `{axis}: [{}]`", short(&entry.key)),
        );
        return None;
    }
    if !legal_name(sink, &entry.key, entry.span, "a value") {
        return None;
    }
    let mut facts: BTreeMap<String, Value> = BTreeMap::new();
    let mut host = None;
    for fact in sink.entries(&entry.value, "the facts of a value")? {
        if fact.key == "host" && matches!(fact.value.kind, Kind::Map(_)) {
            host = host_changes(sink, &fact.value).map(Arc::new);
        } else if legal_name(sink, &fact.key, fact.span, "a fact") && sink.scalar(&fact.value, "a fact").is_some() {
            facts.insert(fact.key.clone(), json::value(&fact.value));
        }
    }
    Some(AxisValue { facts, host, ..plain_value(&entry.key, entry.span) })
}

/// `host: { env: { BASIC_PLUGIN: null }, protocol_versions: [7] }`
fn host_changes(sink: &mut Sink, node: &Node) -> Option<HostChanges> {
    let fields = sink.fields::<schema::HostChanges>(node)?;
    let mut env = BTreeMap::new();
    if let Some(node) = fields.entry("env").map(|entry| &entry.value) {
        for entry in sink.entries(node, "`env`").unwrap_or_default() {
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                let message = format!("`{}` cannot name an environment variable", short(&entry.key));
                sink.error("bad-name", entry.span, message, "not a name", "");
            } else if entry.value.is_null() {
                env.insert(entry.key.clone(), None);
            } else if let Some(text) = sink.any_text(&entry.value, "an environment variable, or null to take it away") {
                env.insert(entry.key.clone(), Some(text));
            }
        }
    }
    let protocol_versions = fields.get(sink, "protocol_versions").map(|node| {
        let items = sink.list(node, "`protocol_versions`").unwrap_or_default();
        let numbers = items.iter().filter_map(|item| sink.number(item, "a protocol version", 0, i64::from(u32::MAX)));
        numbers.filter_map(|number| u32::try_from(number).ok()).collect()
    });
    Some(HostChanges { env, protocol_versions })
}

/// `make: { server: { expired: true }, client: { issuer: other } }`
fn made(sink: &mut Sink, node: &Node) -> (Option<Mistakes>, Option<Mistakes>) {
    let Some(fields) = sink.fields::<schema::MakeTls>(node) else { return (None, None) };
    let mut side = |key: &str| fields.get(sink, key).and_then(|node| mistakes(sink, node));
    (side("server"), side("client"))
}

fn mistakes(sink: &mut Sink, node: &Node) -> Option<Mistakes> {
    let fields = sink.fields::<schema::Mistakes>(node)?;
    let issuer = fields.get(sink, "issuer").and_then(|node| sink.word(node, "`issuer`", &["other"]));
    let expired = fields.get(sink, "expired").and_then(|node| sink.word(node, "`expired`", &["true", "false"]));
    let names = fields.get(sink, "names").and_then(|node| sink.texts(node, "`names`", true));
    let key_file = fields.get(sink, "key_file").and_then(|node| {
        let text = sink.text(node, "`key_file`")?;
        let key = axis::canonical("key", &text.value).and_then(KeyType::from_name);
        if key.is_none() {
            let known = axis::find("key").map(|def| def.values).unwrap_or_default();
            let help = sink.suggest(&text.value, "key types", known.iter().map(|value| value.name));
            sink.error(
                "unknown-value",
                text.span,
                format!("`{}` is no key type", short(&text.value)),
                "not known",
                &help,
            );
        }
        key
    });
    Some(Mistakes {
        other_authority: issuer.is_some(),
        expired: expired == Some("true"),
        names: names.map(|names| names.into_iter().map(|name| name.value).collect()),
        key_file,
    })
}

/// `mine: { mode: mutual, ca: …, cert: …, key: … }`
fn tls(sink: &mut Sink, subject: &Subject<'_>, entry: &Entry) -> Option<AxisValue> {
    let name = entry.key.as_str();
    if axis::canonical("tls", name).is_some() {
        let help = format!("a value with files needs a name of its own: `my-{name}: {{ mode: {name}, … }}`");
        sink.error("bad-name", entry.span, format!("`{}` is a built-in value of `tls`", short(name)), "taken", &help);
        return None;
    }
    let good = legal_name(sink, name, entry.span, "a value");
    let fields = sink.fields::<schema::TlsValue>(&entry.value)?;
    debug_assert!(schema::TlsValue::KEYS.contains(&"mode"));
    let mode = fields.require(sink, "mode", "say `mode: server` or `mode: mutual`");
    let mode = mode.and_then(|node| sink.text(node, "`mode`")).and_then(|mode| {
        let canonical = axis::canonical("tls", &mode.value).filter(|mode| matches!(*mode, "server" | "mutual"));
        if canonical.is_none() {
            let message = format!("certificates cannot be given for the mode `{}`", short(&mode.value));
            sink.error(
                "unknown-value",
                mode.span,
                message,
                "not possible",
                &sink.suggest(&mode.value, "modes with files", ["server", "mutual"]),
            );
        }
        canonical
    });
    let mut file = |key: &str| fields.text(sink, key).map(|path| normal(&subject.folder.join(path)));
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let (server, client) = fields.get(sink, "make").map_or((None, None), |node| made(sink, node));
    if (server.is_some() || client.is_some()) && (ca.is_some() || cert.is_some() || key.is_some()) {
        let message = "`make` and files in one value";
        sink.error("useless-key", entry.span, message, "one or the other", "certificates are either made or read");
    }
    if let (Some("server"), Some(_), Some(make)) = (mode, &client, fields.entry("make")) {
        let message = "`make` of a client's certificate that is never shown";
        let help = "under `mode: server` the client shows none: say `mode: mutual`, or take `client` away";
        sink.error("useless-key", make.span, message, "without effect here", help);
    }
    let files = TlsFiles { ca, cert, key, server, client };
    if files.cert.is_some() != files.key.is_some() {
        let (given, missing) = if files.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
        let span = fields.entry(given).map_or(fields.span, |e| e.span);
        let message = format!("`{given}` without `{missing}`");
        sink.error("missing-key", span, message, "one of a pair", "a certificate and its private key go together");
    }
    let mode = mode?;
    let facts = BTreeMap::from([("mode".to_owned(), Value::String(mode.to_owned()))]);
    good.then(|| AxisValue {
        name: name.to_owned(),
        facts,
        files: Some(files),
        host: None,
        means: mode.to_owned(),
        span: entry.span,
    })
}
