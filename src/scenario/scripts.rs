//! `scripts`: what is done in a case, step by step.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::builtin::known_capabilities;
use super::expr::Pending;
use super::model::{Block, Branches, Op, OpDef, Peer, Script, Step};
use super::reader::{World, legal_name};
use super::schema;
use super::scope::Scope;
use super::services::Services;
use super::template;
use super::yaml::{Entry, Kind, Node, short};
use super::{decode::Sink, matrix};
use crate::axis::Needs;
use crate::diag::{Diagnostic, Span, Spanned};
use crate::op::{self, Noted, Vocabulary};

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
    let scope = names(subject, world.incomplete);
    let incomplete = world.incomplete;
    let mut scripts = IndexMap::new();
    for entry in entries {
        legal_name(&mut world.sink, &entry.key, entry.span, "a script");
        let ops = vocabulary(subject, &entry.key);
        let script = script(&mut world.sink, pending, subject, &ops, scope.clone(), entry, incomplete);
        scripts.extend(script.map(|script| (entry.key.clone(), Arc::new(script))));
    }
    scripts
}

/// The ops of a script: those of the services that it runs against come before others.
fn vocabulary<'a>(subject: &'a Subject<'_>, script: &'a str) -> Vocabulary<'a> {
    let own = services_of(subject, script).filter_map(|(name, _)| subject.services.all.get(name));
    let mut ops = Vocabulary::new();
    for (name, op) in own.chain(subject.services.all.values()).flat_map(|service| &service.ops) {
        ops.entry(name).or_insert(op);
    }
    ops
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
            "work" => scope.root("work", []),
            "run" => scope.root("run", ["work"]),
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
    let needs = fields.get(sink, "needs").map(|node| needs(sink, subject, node)).unwrap_or_default();
    let list = fields.require(sink, "ops", "list its steps: `ops: [{ get: { key: a } }]`")?;
    let items = sink.list(list, "`ops`")?;
    if items.is_empty() {
        let message = format!("the script `{}` has no steps", short(name));
        sink.error("empty", list.span, message, "it would show nothing", "");
    }
    let mut names = Names::default();
    let mut noted = Vec::new();
    let mut steps = Vec::new();
    for (position, item) in items.iter().enumerate() {
        let Some(parsed) = op::parse_step(sink, &mut scope, ops, item, position, 0) else {
            // A step that is not understood may have opened a stream or a connection.
            names.unsure = true;
            continue;
        };
        noted.push(parsed.noted);
        steps.push(parsed.step);
    }
    names.follow(sink, &noted);
    // A script with a condition may leave out the services that lack its ops.
    let unconditional = when.is_none();
    mentioned(&noted, &mut |noted| {
        if let Some(method) = noted.method.as_ref().filter(|_| !incomplete) {
            check_method(sink, subject, name, method);
        }
        if let Some(op) = ops.get(noted.op.as_str()) {
            check_services(sink, subject, name, (&noted.op, op), noted.op_span, unconditional);
        }
    });
    let width = width(&steps);
    if width > MAX_WIDTH {
        let message = format!("the script `{}` does {width} things at once, and {MAX_WIDTH} is the limit", short(name));
        sink.error("out-of-range", list.span, message, "too many at once", "make `parallel` smaller");
    }
    let uses_work = mentions_work(&entry.value);
    Some(Script { name: name.to_owned(), span: entry.span, description, when, steps, needs, isolation, uses_work })
}

/// `needs`: role → capabilities.
fn needs(sink: &mut Sink, subject: &Subject<'_>, node: &Node) -> Vec<(Needs, String)> {
    let Some(fields) = sink.fields::<schema::ScriptNeeds>(node) else { return Vec::new() };
    let known = known_capabilities(subject.services.all.keys().map(String::as_str));
    let mut all = Vec::new();
    for (key, role) in [("client", Needs::Client), ("server", Needs::Server)] {
        let Some(node) = fields.get(sink, key) else { continue };
        for name in sink.texts(node, &format!("`{key}`"), true).unwrap_or_default() {
            if known.contains(&name.value) {
                all.push((role, name.value));
            } else {
                let help = sink.suggest(&name.value, "capabilities", known.iter().map(String::as_str));
                let message = format!("unknown capability `{}`", short(&name.value));
                sink.error("unknown-capability", name.span, message, "no peer can have it", &help);
            }
        }
    }
    all
}

/// What one script does at once, at most.
const MAX_WIDTH: u64 = 1024;

/// How much of some steps goes on at the same time.
fn width(steps: &[Step]) -> u64 {
    let of = |step: &Step| match &step.op {
        Op::Parallel(Branches::Same { times, steps }) => u64::from(*times).saturating_mul(width(steps)),
        Op::Parallel(Branches::Each(branches)) => branches.iter().map(|steps| width(steps)).sum(),
        Op::Repeat { steps, .. } => width(steps),
        _ => 1,
    };
    steps.iter().map(of).max().unwrap_or(1)
}

/// Whether some text uses the case's folder.
fn mentions_work(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(scalar) => template::names(&scalar.text).is_ok_and(|names| names.contains("work")),
        Kind::List(items) => items.iter().any(mentions_work),
        Kind::Map(entries) => entries.iter().any(|entry| mentions_work(&entry.value)),
    }
}

/// Every step, those inside of others too, in the order of the text.
fn mentioned(noted: &[Noted], each: &mut impl FnMut(&Noted)) {
    for noted in noted {
        each(noted);
        for inner in &noted.inner {
            mentioned(inner, each);
        }
    }
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
            known.extend(subject.services.own.get(name).into_iter().flatten().map(String::as_str));
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

/// A declared op must be the same one in every service that the script runs against; only a script
/// with a condition may run against some without it.
fn check_services(
    sink: &mut Sink,
    subject: &Subject<'_>,
    script: &str,
    (op, read_as): (&str, &OpDef),
    span: Span,
    unconditional: bool,
) {
    let args = |op: &OpDef| (op.args.iter().cloned().collect::<BTreeSet<_>>(), op.yields.is_some());
    for (name, place) in services_of(subject, script) {
        let Some(service) = subject.services.all.get(name) else { continue };
        if service.ops.get(op).is_some_and(|other| args(other) != args(read_as)) {
            sink.push(
                Diagnostic::error("op-differs", format!("the op `{op}` of the service `{name}` is another one"))
                    .at(span, "used here")
                    .at(place, "and run against this service, where it has other arguments or another result")
                    .help("run the script in blocks of one of the services only, or give one of the ops another name"),
            );
            return;
        }
        if unconditional && !service.ops.contains_key(op) {
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

/// Follows which streams and connections are there, and which ids are taken.
#[derive(Default, Clone)]
struct Names {
    streams: HashMap<String, Span>,
    connections: HashMap<String, Span>,
    unsure: bool,
}

impl Names {
    fn follow(&mut self, sink: &mut Sink, steps: &[Noted]) {
        let mut ids: HashMap<&str, Span> = HashMap::new();
        for noted in steps {
            if let Some(first) = ids.insert(&noted.id, noted.span) {
                twice(sink, &format!("two steps have the id `{}`", short(&noted.id)), (noted.span, first), "");
            }
            self.stream(sink, noted);
            self.connection(sink, noted);
            for inner in &noted.inner {
                if noted.op == "repeat" {
                    self.follow(sink, inner);
                } else {
                    // A branch has its own streams, and may use the connections made before it.
                    Self { streams: HashMap::new(), ..self.clone() }.follow(sink, inner);
                }
            }
        }
    }

    fn connection(&mut self, sink: &mut Sink, noted: &Noted) {
        if let Some(made) = &noted.connects
            && let Some(first) = self.connections.insert(made.value.clone(), made.span)
        {
            let message = format!("the connection `{}` is made twice", short(&made.value));
            twice(sink, &message, (made.span, first), "give each connection of a script its own name");
        }
        if let Some(on) = noted.on.as_ref().filter(|on| !self.connections.contains_key(&on.value) && !self.unsure) {
            let mut names: Vec<&str> = self.connections.keys().map(String::as_str).collect();
            names.sort_unstable();
            let help = if names.is_empty() {
                format!("make it first: `- connect: {{ as: {} }}`; without `on` it is the case's own", short(&on.value))
            } else {
                sink.suggest(&on.value, "connections", names)
            };
            let message = format!("no step before this makes the connection `{}`", short(&on.value));
            sink.error("unknown-connection", on.span, message, "not there", &help);
        }
    }

    fn stream(&mut self, sink: &mut Sink, noted: &Noted) {
        let Some(stream) = &noted.stream else { return };
        if noted.op == "open" {
            if let Some(first) = self.streams.insert(stream.value.clone(), stream.span) {
                let message = format!("the stream `{}` is opened twice", short(&stream.value));
                twice(sink, &message, (stream.span, first), "give each stream of a script its own name");
            }
        } else if !self.streams.contains_key(&stream.value) && !self.unsure {
            let mut names: Vec<&str> = self.streams.keys().map(String::as_str).collect();
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

fn twice(sink: &mut Sink, message: &str, (again, first): (Span, Span), help: &str) {
    let diagnostic = Diagnostic::error("duplicate-name", message).at(again, "again here").at(first, "first here");
    sink.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
}
