//! `scripts`: what is done in a case, step by step.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::expr::Pending;
use super::model::{Block, Op, Peer, Script};
use super::reader::{World, legal_name};
use super::schema;
use super::scope::Scope;
use super::services::Services;
use super::template;
use super::yaml::{Entry, short};
use super::{decode::Sink, matrix};
use crate::diag::{Diagnostic, Span, Spanned};
use crate::op::{self, ParsedStep, Vocabulary};

/// What scripts are about.
pub(super) struct Subject<'a> {
    pub(super) peers: &'a IndexMap<String, Peer>,
    pub(super) services: &'a Services,
    pub(super) blocks: &'a [Block],
    pub(super) vars: &'a Map<String, Value>,
}

/// Reads all scripts.
pub(super) fn read(
    world: &mut World<'_>,
    pending: &mut Pending,
    subject: &Subject<'_>,
    entries: &[&Entry],
) -> IndexMap<String, Arc<Script>> {
    let mut ops = Vocabulary::new();
    for service in subject.services.all.values() {
        for (name, op) in &service.ops {
            ops.entry(name).or_insert(op);
        }
    }
    let scope = names(subject, world.incomplete);
    let incomplete = world.incomplete;
    let mut scripts = IndexMap::new();
    for entry in entries {
        legal_name(&mut world.sink, &entry.key, entry.span, "a script");
        let script = script(&mut world.sink, pending, subject, &ops, scope.clone(), entry, incomplete);
        scripts.extend(script.map(|script| (entry.key.clone(), Arc::new(script))));
    }
    scripts
}

/// The names that templates of steps may use.
fn names(subject: &Subject<'_>, incomplete: bool) -> Scope {
    let facts = || {
        let mut facts: Vec<&str> = subject.peers.values().flat_map(|p| p.facts.keys()).map(String::as_str).collect();
        facts.push("name");
        facts
    };
    let axes = subject.blocks.iter().flat_map(|block| &block.axes).map(|axis| axis.name.as_str());
    let mut scope = Scope::default().incomplete(incomplete);
    for name in template::STEP_NAMES {
        scope = match *name {
            "case" => scope.root("case", template::CASE_FIELDS.iter().copied()),
            "client" | "server" => scope.root(name, facts()),
            "axes" => scope.root("axes", axes.clone()),
            "vars" => scope.root("vars", subject.vars.keys().map(String::as_str)),
            name => scope.root(name, ["name"]),
        };
    }
    scope
}

fn script(
    sink: &mut Sink,
    pending: &mut Pending,
    subject: &Subject<'_>,
    ops: &Vocabulary<'_>,
    mut scope: Scope,
    entry: &Entry,
    incomplete: bool,
) -> Option<Script> {
    let name = entry.key.as_str();
    let fields = sink.fields::<schema::Script>(&entry.value)?;
    let description = fields.text(sink, "description");
    let when = fields.get(sink, "when").and_then(|node| pending.read(sink, node, "`when`", false));
    let isolation = matrix::isolation(sink, &fields);
    let list = fields.require(sink, "ops", "list its steps: `ops: [{ get: { key: a } }]`")?;
    let items = sink.list(list, "`ops`")?;
    if items.is_empty() {
        let message = format!("the script `{}` has no steps", short(name));
        sink.error("empty", list.span, message, "it would show nothing", "");
    }
    let mut streams = Streams::default();
    let mut ids: HashMap<String, Span> = HashMap::new();
    let mut steps = Vec::new();
    for (position, item) in items.iter().enumerate() {
        let Some(parsed) = op::parse_step(sink, &mut scope, ops, item, position) else {
            // A step that is not understood may have opened a stream.
            streams.unsure = true;
            continue;
        };
        streams.follow(sink, &parsed);
        if let Some(method) = parsed.method.as_ref().filter(|_| !incomplete) {
            check_method(sink, subject, name, method);
        }
        // A script with a condition may leave out the services that lack its ops.
        if let (Op::Named { name: op, .. }, None) = (&parsed.step.op, &when) {
            check_services(sink, subject, name, op, parsed.op_span);
        }
        if let Some(first) = ids.insert(parsed.step.id.clone(), item.span) {
            sink.push(
                Diagnostic::error("duplicate-name", format!("two steps have the id `{}`", short(&parsed.step.id)))
                    .at(item.span, "second")
                    .at(first, "first"),
            );
        }
        steps.push(parsed.step);
    }
    Some(Script { name: name.to_owned(), span: entry.span, description, when, steps, isolation })
}

/// The services that a script runs against, by the blocks that run it.
fn services_of<'a>(subject: &'a Subject<'_>, script: &'a str) -> impl Iterator<Item = (&'a str, Span)> {
    let blocks = subject.blocks.iter().filter(move |block| block.scripts.iter().any(|name| name == script));
    let axes = blocks.filter_map(|block| block.axes.iter().find(|axis| axis.name == "service"));
    axes.flat_map(|axis| &axis.values).map(|value| (value.name.as_str(), value.span))
}

/// A method without a service must be one of some service that the script runs against; of a
/// service that is declared, one that it has.
fn check_method(sink: &mut Sink, subject: &Subject<'_>, script: &str, method: &Spanned<String>) {
    if template::is_template(&method.value) {
        return;
    }
    let methods = &subject.services.methods;
    let (short_name, known): (&str, Vec<&str>) = if let Some((service, name)) = method.value.rsplit_once('/') {
        // Other services, such as grpc.health.v1.Health, are the peers' business.
        let Some(known) = methods.get(service) else { return };
        (name, known.iter().map(String::as_str).collect())
    } else {
        let mut known: Vec<&str> = Vec::new();
        for (name, _) in services_of(subject, script) {
            let of = subject.services.all.get(name).and_then(|service| methods.get(&service.service));
            known.extend(of.into_iter().flatten().map(String::as_str));
        }
        if known.is_empty() {
            return;
        }
        (&method.value, known)
    };
    if !known.contains(&short_name) {
        let message = format!("unknown method `{}`", short(short_name));
        let help = sink.suggest(short_name, "methods", known.iter().copied());
        sink.error("unknown-method", method.span, message, "not in the service", &help);
    }
}

/// A declared op must be one of every service that the script runs against.
fn check_services(sink: &mut Sink, subject: &Subject<'_>, script: &str, op: &str, span: Span) {
    for (name, place) in services_of(subject, script) {
        let Some(service) = subject.services.all.get(name) else { continue };
        if !service.ops.contains_key(op) {
            sink.push(
                Diagnostic::error("op-not-in-service", format!("the service `{name}` has no op `{op}`"))
                    .at(span, "used here")
                    .at(place, "and run against this service")
                    .help(format!(
                        "declare it in `services.{name}.ops`, run the script in a block without `{name}`, or give it `when: service != {name}`"
                    )),
            );
            return;
        }
    }
}

/// Follows which streams are open.
#[derive(Default)]
struct Streams {
    open: HashMap<String, Span>,
    unsure: bool,
}

impl Streams {
    fn follow(&mut self, sink: &mut Sink, parsed: &ParsedStep) {
        let Some(stream) = &parsed.stream else { return };
        if matches!(parsed.step.op, Op::Open { .. }) {
            if let Some(first) = self.open.insert(stream.value.clone(), stream.span) {
                sink.push(
                    Diagnostic::error(
                        "duplicate-name",
                        format!("the stream `{}` is opened twice", short(&stream.value)),
                    )
                    .at(stream.span, "again here")
                    .at(first, "first here")
                    .help("give each stream of a script its own name"),
                );
            }
        } else if !self.open.contains_key(&stream.value) && !self.unsure {
            let mut names: Vec<&str> = self.open.keys().map(String::as_str).collect();
            names.sort_unstable();
            let help = if names.is_empty() {
                format!("open it first: `- open: {{ stream: {}, method: … }}`", short(&stream.value))
            } else {
                sink.suggest(&stream.value, "open streams", names)
            };
            let message = format!("no step before this opens the stream `{}`", short(&stream.value));
            sink.error("unknown-stream", stream.span, message, "not open", &help);
        }
    }
}
