//! One step of a script: a map with one op and its siblings `id`, `on`, `expect`, `capture`, `checks`.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::{OpReader, named, table};
use crate::diag::{Diagnostic, Span, Spanned};
use crate::scenario::decode::Sink;
use crate::scenario::model::{Expect, OpDef, Step};
use crate::scenario::schema::{self, Text};
use crate::scenario::scope::Scope;
use crate::scenario::yaml::{Entry, Node, short};

/// Keys of a step beside its op.
pub(crate) const SIBLINGS: &[&str] = &["id", "on", "expect", "capture", "checks"];

/// The ops that the scenario's services declare, by name; services with the same op share a name.
pub(crate) type Vocabulary<'a> = IndexMap<&'a str, &'a OpDef>;

/// A step with the places of what is checked against the rest of the scenario.
pub(crate) struct ParsedStep {
    /// The step.
    pub(crate) step: Step,
    /// The places.
    pub(crate) noted: Noted,
}

/// What a step mentions, with its places.
pub(crate) struct Noted {
    /// Its id.
    pub(crate) id: String,
    /// Where it is written.
    pub(crate) span: Span,
    /// The name of its op.
    pub(crate) op: String,
    /// Where its op is named.
    pub(crate) op_span: Span,
    /// The method that it names.
    pub(crate) method: Option<Spanned<String>>,
    /// The stream that it names.
    pub(crate) stream: Option<Spanned<String>>,
    /// The connection that it makes.
    pub(crate) connects: Option<Spanned<String>>,
    /// The connection that it is about.
    pub(crate) on: Option<Spanned<String>>,
    /// The steps inside of it, by branch.
    pub(crate) inner: Vec<Vec<Noted>>,
}

/// Reads a step. What it captures is added to the names of the steps after it.
pub(crate) fn parse_step(
    sink: &mut Sink,
    scope: &mut Scope,
    ops: &Vocabulary<'_>,
    node: &Node,
    position: usize,
    nesting: usize,
) -> Option<ParsedStep> {
    let entries = sink.entries(node, "a step")?;
    let op = one_op(sink, ops, entries, node.span);
    let find = |key: &str| entries.iter().find(|e| e.key == key);

    let mut reader = OpReader { sink, scope, ops, nesting };
    let parsed = op.map(|entry| {
        let builtin = table().iter().find(|def| def.name == entry.key);
        let (parsed, meant) = match (builtin, ops.get(entry.key.as_str())) {
            (Some(def), _) => ((def.parse)(&mut reader, &entry.value), def.expects.to_vec()),
            (None, Some(def)) => {
                let mut meant = named::EXPECTS.to_vec();
                meant.extend(def.yields.is_some().then_some("value"));
                (named::parse(&mut reader, entry, def), meant)
            }
            (None, None) => (None, Vec::new()),
        };
        (entry, parsed, meant)
    });
    let (name, meant) =
        parsed.as_ref().map_or(("this op", &[][..]), |(entry, _, meant)| (&*entry.key, meant.as_slice()));
    let expect = match find("expect") {
        Some(entry) if op.is_some() => reader.expect(&entry.value, name, meant),
        _ => Expect::default(),
    };
    for key in ["checks", "capture"] {
        if let Some(entry) = find(key).filter(|_| op.is_some_and(|op| !has_result(&op.key))) {
            let message = format!("`{name}` has no result to look at");
            let help = format!("put `{key}` beside the call whose result it is about");
            reader.sink.error("misplaced-key", entry.span, message, "without effect here", &help);
        }
    }
    let checks = find("checks").map(|entry| reader.checks(&entry.value)).unwrap_or_default();
    let capture = find("capture").map(|entry| captures(&mut reader, &entry.value)).unwrap_or_default();
    let id = find("id").and_then(|entry| reader.sink.text(&entry.value, "`id`")).map(|id| id.value);
    let on = find("on").and_then(|entry| {
        let on = reader.sink.text(&entry.value, "`on`")?;
        if op.is_some_and(|op| !takes_on(&op.key)) {
            let message = format!("`{name}` is about no connection");
            let help = "a stream stays on the connection that it was opened on; take `on` away";
            reader.sink.error("misplaced-key", entry.span, message, "without effect here", help);
        }
        Some(on)
    });

    for name in capture.keys() {
        scope.open(name);
    }
    let (entry, parsed, _) = parsed?;
    let parsed = parsed?;
    let id = id.unwrap_or_else(|| format!("{}-{}", entry.key, position + 1));
    Some(ParsedStep {
        noted: Noted {
            id: id.clone(),
            span: node.span,
            op: entry.key.clone(),
            op_span: entry.span,
            method: parsed.method,
            stream: parsed.stream,
            connects: parsed.connects,
            on: on.clone(),
            inner: parsed.inner,
        },
        step: Step { id, op: parsed.op, expect, capture, checks, on: on.map(|on| on.value), span: node.span },
    })
}

/// Whether an op goes over a connection of its choice. Ops on streams have theirs already.
fn takes_on(op: &str) -> bool {
    !matches!(op, "send" | "receive" | "half_close" | "cancel" | "end" | "parallel" | "repeat" | "sleep" | "connect")
}

/// Whether there is something to check and capture when an op is done.
fn has_result(op: &str) -> bool {
    !matches!(op, "parallel" | "repeat" | "sleep" | "server" | "connect")
}

/// The one entry of a step that is its op.
fn one_op<'n>(sink: &mut Sink, ops: &Vocabulary<'_>, entries: &'n [Entry], span: Span) -> Option<&'n Entry> {
    let known = |key: &str| table().iter().any(|def| def.name == key) || ops.contains_key(key);
    let mut candidates = entries.iter().filter(|e| !SIBLINGS.contains(&e.key.as_str()));
    let (good, bad): (Vec<&Entry>, Vec<&Entry>) = candidates.by_ref().partition(|e| known(&e.key));
    let names = || ops.keys().copied().chain(table().iter().map(|def| def.name));
    for entry in &bad {
        // Beside an op, a mistyped sibling is the likelier reading.
        let (code, kind, help) = if good.is_empty() {
            ("unknown-op", "op", sink.suggest(&entry.key, "ops", names()))
        } else {
            ("unknown-key", "key", sink.suggest(&entry.key, "keys beside an op", SIBLINGS.iter().copied()))
        };
        sink.error(
            code,
            entry.span,
            format!("unknown {kind} `{}` in a step", short(&entry.key)),
            "not known here",
            &help,
        );
    }
    if let [_, second, ..] = good.as_slice() {
        sink.push(
            Diagnostic::error("two-ops", "a step has two ops")
                .at(second.span, "second op")
                .at(good[0].span, "first op")
                .help("make each of them a step of its own, with its own `- `"),
        );
    }
    if good.is_empty() && bad.is_empty() {
        sink.error("no-op", span, "a step without an op", "no op in it", &sink.suggest("", "ops", names()));
    }
    good.first().copied()
}

fn captures(reader: &mut OpReader<'_>, node: &Node) -> IndexMap<String, String> {
    let mut captures = IndexMap::new();
    for entry in reader.sink.entries(node, "`capture`").unwrap_or_default() {
        let name = entry.key.as_str();
        let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty();
        if !legal {
            let message = format!("`{}` cannot name a captured value", short(name));
            reader.sink.error("bad-name", entry.span, message, "not a name", "names have letters, digits and `_`");
        } else if reader.scope.knows(name) {
            let taken: Vec<&str> = reader.scope.root_names().collect();
            let message = format!("`{name}` is taken");
            reader.sink.error(
                "bad-name",
                entry.span,
                message,
                "has a meaning already",
                &format!("these names have a meaning: {}", taken.join(", ")),
            );
        }
        if let Some(path) = reader.sink.text(&entry.value, "a captured path") {
            reader.path(&path.value, path.span);
            captures.insert(name.to_owned(), path.value);
        }
    }
    captures
}

/// A step in the schema: its siblings, every op of the table, and any map for declared ops.
pub(crate) struct StepForm;

impl JsonSchema for StepForm {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut properties = serde_json::Map::new();
        let mut property = |name: &str, about: &str, schema: Schema| {
            let mut schema = schema;
            schema.insert("description".into(), about.into());
            properties.insert(name.to_owned(), schema.to_value());
        };
        property("id", "Names the step in reports", generator.subschema_for::<Text>());
        property(
            "on",
            "The connection that it is about; without it, the case's own",
            generator.subschema_for::<Text>(),
        );
        property("expect", "What is expected; without it, code: OK", generator.subschema_for::<schema::Expect>());
        property(
            "capture",
            "Name for later templates → path in the result",
            generator.subschema_for::<std::collections::BTreeMap<String, Text>>(),
        );
        property(
            "checks",
            "More checks: id → path → expected value",
            generator.subschema_for::<std::collections::BTreeMap<String, std::collections::BTreeMap<String, Value>>>(),
        );
        for def in table() {
            let schema = (def.schema)(generator);
            property(def.name, def.about, schema);
        }
        schemars::json_schema!({
            "type": "object",
            "description": "one op with what is expected of it; ops that services declare are maps of their arguments",
            "properties": properties,
            "additionalProperties": { "type": "object" },
        })
    }
}
