//! `services`: proto services and the named ops on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::builtin;
use super::decode::Sink;
use super::files::normal;
use super::model::{OpDef, Service};
use super::proto;
use super::reader::{World, legal_name};
use super::schema;
use super::scope::Scope;
use super::template;
use super::yaml::{Entry, Kind, Node, short};
use crate::diag::Span;
use crate::op;

/// Services by name, and what is known of their methods: full service name → methods.
pub(super) struct Services {
    pub(super) all: IndexMap<String, Service>,
    pub(super) methods: BTreeMap<String, Vec<String>>,
    /// How many the files declare.
    pub(super) declared: usize,
}

/// Reads all services; `entries` come with the folder that their paths start from.
pub(super) fn read<'n>(world: &mut World<'_>, entries: &[(&'n Entry, &'n Path)], whole: Span) -> Services {
    let mut services = Services {
        all: IndexMap::new(),
        methods: builtin::METHODS
            .iter()
            .map(|(full, methods)| ((*full).to_owned(), methods.iter().map(|m| (*m).to_owned()).collect()))
            .collect(),
        declared: 0,
    };
    for (entry, folder) in entries {
        legal_name(&mut world.sink, &entry.key, entry.span, "a service");
        services.declared += 1;
        if let Some(service) = service(world, &mut services.methods, entry, folder) {
            services.all.insert(entry.key.clone(), service);
        } else {
            world.incomplete = true;
        }
    }
    for service in builtin::services(whole) {
        services.all.entry(service.name.clone()).or_insert(service);
    }
    services
}

fn service(
    world: &mut World<'_>,
    methods: &mut BTreeMap<String, Vec<String>>,
    entry: &Entry,
    folder: &Path,
) -> Option<Service> {
    let fields = world.sink.fields::<schema::Service>(&entry.value)?;
    let full = fields.require(&mut world.sink, "service", "its full protobuf name, such as `shop.v1.Orders`");
    let full = full.and_then(|node| world.sink.text(node, "`service`"));
    let (files, import, own) = match fields.get(&mut world.sink, "proto") {
        Some(node) => {
            let (files, import) = sources(&mut world.sink, node, folder);
            let own = compile(world, node.span, &files, &import);
            (files, import, own)
        }
        None => (Vec::new(), Vec::new(), None),
    };
    if let Some(full) = &full {
        if fields.entry("proto").is_none() && !builtin::METHODS.iter().any(|(known, _)| *known == full.value) {
            let known = builtin::METHODS.iter().map(|(full, _)| format!("`{full}`")).collect::<Vec<_>>().join(" and ");
            let help = format!("only {known} are known without; write `proto: {{ files: […] }}`");
            let message = format!("the service `{}` needs `proto`", entry.key);
            world.sink.error("missing-key", fields.span, message, "no `proto` in it", &help);
        } else if let Some(own) = own.as_ref().filter(|own| !own.contains_key(&full.value)) {
            let help = world.sink.suggest(&full.value, "services of its files", own.keys().map(String::as_str));
            let message = format!("the proto files have no service `{}`", short(&full.value));
            world.sink.error("unknown-service", full.span, message, "not in the files", &help);
        }
    }
    methods.extend(own.into_iter().flatten());
    let full = full?.value;
    let known = methods.get(&full).map(Vec::as_slice);
    let mut ops = IndexMap::new();
    if let Some(node) = fields.get(&mut world.sink, "ops") {
        for entry in world.sink.entries(node, "`ops`").unwrap_or_default() {
            if let Some(op) = op_def(&mut world.sink, entry, known) {
                ops.insert(entry.key.clone(), op);
            }
        }
    }
    Some(Service { name: entry.key.clone(), span: entry.span, service: full, files, import, ops })
}

/// `proto`: files and import folders. Without any, each file's own folder is one.
fn sources(sink: &mut Sink, node: &Node, folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let Some(fields) = sink.fields::<schema::Proto>(node) else { return (Vec::new(), Vec::new()) };
    let mut paths = |key: &str, node: Option<&Node>| -> Vec<PathBuf> {
        let texts = node.and_then(|node| sink.texts(node, &format!("`{key}`"), true)).unwrap_or_default();
        texts.into_iter().map(|t| normal(&folder.join(t.value))).collect()
    };
    let files = paths("files", fields.entry("files").map(|e| &e.value));
    let mut import = paths("import", fields.entry("import").map(|e| &e.value));
    fields.require(sink, "files", "name the .proto files");
    if import.is_empty() {
        let own: BTreeSet<PathBuf> = files.iter().filter_map(|f| f.parent().map(Path::to_path_buf)).collect();
        import = own.into_iter().collect();
    }
    (files, import)
}

/// Full service name → methods, of these files.
fn compile(
    world: &mut World<'_>,
    span: Span,
    files: &[PathBuf],
    import: &[PathBuf],
) -> Option<BTreeMap<String, Vec<String>>> {
    let found = proto::methods(world.files, files, import);
    if let Err(problem) = &found {
        world.sink.error("bad-proto", span, format!("the proto files cannot be used: {problem}"), "these", "");
        world.incomplete = true;
    }
    found.ok()
}

fn op_def(sink: &mut Sink, entry: &Entry, methods: Option<&[String]>) -> Option<OpDef> {
    let name = entry.key.as_str();
    legal_name(sink, name, entry.span, "an op");
    if op::SIBLINGS.contains(&name) || op::table().iter().any(|def| def.name == name) {
        let message = format!("`{name}` cannot name an op of a service, it has a meaning in every step");
        sink.error("bad-name", entry.span, message, "taken", "choose another name");
    }
    let fields = sink.fields::<schema::OpDef>(&entry.value)?;
    let method = fields.require(sink, "method", "name a method of the service, as in the .proto file");
    let method = method.and_then(|node| sink.text(node, "`method`"));
    if let (Some(method), Some(known)) = (&method, methods)
        && !known.contains(&method.value)
    {
        let help = sink.suggest(&method.value, "methods", known.iter().map(String::as_str));
        let message = format!("unknown method `{}`", short(&method.value));
        sink.error("unknown-method", method.span, message, "not in the service", &help);
    }
    let mut args = Vec::new();
    let mut send = Value::Object(Map::new());
    if let Some(node) = fields.get(sink, "send") {
        sink.entries(node, "`send`");
        arguments(node, &mut args);
        let mut scope = Scope::default();
        for arg in &args {
            scope.open(arg);
        }
        send = scope.tree(sink, node);
    }
    let yields = fields.text(sink, "yields");
    Some(OpDef { method: method?.value, args, send, yields, span: entry.span })
}

/// The names that a message template uses, in the order of mention: its arguments.
fn arguments(node: &Node, args: &mut Vec<String>) {
    match &node.kind {
        Kind::Scalar(scalar) => {
            for name in template::names(&scalar.text).unwrap_or_default() {
                let root = name.split('.').next().unwrap_or_default();
                if !args.iter().any(|arg| arg == root) {
                    args.push(root.to_owned());
                }
            }
        }
        Kind::List(items) => items.iter().for_each(|item| arguments(item, args)),
        Kind::Map(entries) => entries.iter().for_each(|entry| arguments(&entry.value, args)),
    }
}
