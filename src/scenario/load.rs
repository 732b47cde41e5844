//! One scenario from its file: reads, decodes in the order in which parts need each other, and
//! checks expressions when everything is known.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::decode::Fields;
use super::expr::Pending;
use super::files::Files;
use super::model::{Peer, Scenario, Service};
use super::reader::{Document, World};
use super::yaml::{Entry, short};
use super::{matrix, peers, rules, schema, scripts, services, settings};
use crate::diag::{Diagnostic, SourceMap, Span};
use crate::filter::Domain;

/// Keys that mean something only in the scenario's own file.
const OWN: &[&str] = &["labels", "timeouts", "retry", "missing_peers", "matrix"];

/// Reads a scenario with everything that it includes.
///
/// The warnings and notes come with it; `Scenario::sources` has the texts to show them with.
///
/// # Errors
/// Every problem of every file, in the order of the files, with the texts to show them with. There
/// is at least one error among them.
pub fn load(path: &Path, files: &dyn Files) -> Result<(Scenario, Vec<Diagnostic>), (SourceMap, Vec<Diagnostic>)> {
    let mut world = World::new(files);
    let documents = world.documents(path);
    let scenario = resolve(&mut world, path, &documents);
    let (diagnostics, failed) = std::mem::take(&mut world.sink).finish();
    match scenario {
        Some(mut scenario) if !failed => {
            scenario.sources = Arc::new(world.sources);
            Ok((scenario, diagnostics))
        }
        _ => Err((world.sources, diagnostics)),
    }
}

/// Peers without a scenario around them.
pub struct PeerList {
    /// By name.
    pub peers: IndexMap<String, Peer>,
    /// Services by name: those of the files, and those that are always there.
    pub services: IndexMap<String, Service>,
    /// `vars`, for templates.
    pub vars: Map<String, Value>,
    /// The texts to show diagnostics with.
    pub sources: SourceMap,
    /// Warnings and notes.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads only the peers of a scenario, or of a file of peers, with those of what it includes.
/// Conditions of capabilities are not checked: they speak of axes, which only a scenario has.
///
/// # Errors
/// As [`load`].
pub fn load_peers(path: &Path, files: &dyn Files) -> Result<PeerList, (SourceMap, Vec<Diagnostic>)> {
    let mut world = World::new(files);
    let documents = world.documents(path);
    let tops = tops(&mut world, &documents);
    let vars = vars(&mut world, &tops);
    let whole = tops.first().map(|top| Span { end: top.fields.span.start, ..top.fields.span });
    let peers = whole.map(|whole| {
        let entries = named(&mut world, &tops, "services", "services");
        let services = services::read(&mut world, &entries, whole);
        let entries = named(&mut world, &tops, "peers", "peers");
        let mut pending = Pending::default();
        let mut context = peers::Context::new(&mut pending, &services.all, &vars);
        (peers::read(&mut world, &mut context, &entries), services.all)
    });
    let (diagnostics, failed) = std::mem::take(&mut world.sink).finish();
    match peers {
        Some((peers, services)) if !failed => {
            Ok(PeerList { peers, services, vars, sources: world.sources, diagnostics })
        }
        _ => Err((world.sources, diagnostics)),
    }
}

/// A file's top level.
struct Top<'n> {
    fields: Fields<'n>,
    document: &'n Document,
}

/// The top levels, the scenario's own file first. What only that one may say is refused elsewhere.
fn tops<'n>(world: &mut World<'_>, documents: &'n [Document]) -> Vec<Top<'n>> {
    let mut tops = Vec::new();
    for document in documents {
        let Some(fields) = world.sink.fields::<schema::ScenarioFile>(&document.node) else { continue };
        if document.included {
            for key in OWN {
                if let Some(entry) = fields.entry(key) {
                    let message = format!("`{key}` belongs into the scenario's own file, this one is included");
                    let help = "included files give vars, peers, services, scripts and expectations";
                    world.sink.error("not-when-included", entry.span, message, "without effect here", help);
                }
            }
        }
        tops.push(Top { fields, document });
    }
    tops
}

fn resolve(world: &mut World<'_>, path: &Path, documents: &[Document]) -> Option<Scenario> {
    let tops = tops(world, documents);
    let own = tops.first().filter(|top| !top.document.included)?;
    let whole = Span { end: own.fields.span.start, ..own.fields.span };

    let name = own.fields.text(&mut world.sink, "name");
    let description = own.fields.text(&mut world.sink, "description");
    let labels = settings::labels(&mut world.sink, &own.fields);
    let timeouts = settings::timeouts(&mut world.sink, &own.fields);
    let retry = settings::retry(&mut world.sink, &own.fields);
    let missing_peers = settings::missing_peers(&mut world.sink, &own.fields);

    let vars = vars(world, &tops);

    let mut pending = Pending::default();
    let entries = named(world, &tops, "services", "services");
    let services = services::read(world, &entries, whole);

    let entries = named(world, &tops, "peers", "peers");
    let mut context = peers::Context::new(&mut pending, &services.all, &vars);
    let peers = peers::read(world, &mut context, &entries);
    let broken = context.broken;

    let script_entries = named(world, &tops, "scripts", "scripts");
    let script_names: Vec<(String, Span)> = script_entries.iter().map(|(e, _)| (e.key.clone(), e.span)).collect();
    if script_names.is_empty() && !world.incomplete {
        let help = "write `scripts: { NAME: { ops: […] } }`";
        world.sink.error("missing-key", whole, "the scenario has no scripts", "nothing to run", help);
    }

    let subject = matrix::Subject {
        peers: &peers,
        services: &services,
        scripts: &script_names,
        folder: &own.document.folder,
        incomplete: world.incomplete,
        broken: &broken,
    };
    let blocks = if own.fields.entry("matrix").is_some() {
        let node = own.fields.get(&mut world.sink, "matrix");
        node.map(|node| matrix::read(&mut world.sink, &mut pending, &subject, node)).unwrap_or_default()
    } else {
        let help = "write `matrix: { axes: { client: […], server: […] } }`";
        world.sink.error("missing-key", whole, "the scenario has no `matrix`", "nothing to run", help);
        Vec::new()
    };

    let subject = scripts::Subject { peers: &peers, services: &services, blocks: &blocks, vars: &vars };
    let entries: Vec<&Entry> = script_entries.iter().map(|(entry, _)| *entry).collect();
    let scripts = scripts::read(world, &mut pending, &subject, &entries);

    let mut rules = rules::Rules::new(&peers, world.incomplete);
    for top in &tops {
        if let Some(node) = top.fields.get(&mut world.sink, "expectations") {
            rules.read(&mut world.sink, &mut pending, node, top.document.included);
        }
    }
    let rules = rules.all;

    if !world.incomplete {
        let mut domain = Domain::of(
            &peers,
            &services.all,
            script_names.iter().map(|(name, _)| name.as_str()),
            blocks.iter().filter_map(|block| block.name.as_deref()),
            blocks.iter().flat_map(|block| &block.axes),
        );
        for (axis, value) in blocks.iter().flat_map(|b| &b.include).flat_map(|row| &row.values) {
            domain.axis_value(axis, value);
        }
        pending.check(&mut world.sink, &domain);
    }
    let stem = || path.file_stem().map_or_else(|| "scenario".to_owned(), |stem| stem.to_string_lossy().into_owned());
    Some(Scenario {
        name: name.unwrap_or_else(stem),
        description,
        labels,
        file: path.to_path_buf(),
        sources: Arc::default(),
        vars,
        timeouts,
        retry,
        missing_peers,
        peers,
        services: services.all,
        blocks,
        scripts,
        rules,
    })
}

fn vars(world: &mut World<'_>, tops: &[Top<'_>]) -> Map<String, Value> {
    let entries: Vec<&Entry> = tops
        .iter()
        .flat_map(|top| {
            let node = top.fields.get(&mut world.sink, "vars");
            node.and_then(|node| world.sink.entries(node, "`vars`")).unwrap_or_default()
        })
        .collect();
    settings::vars(entries.into_iter())
}

/// Entries of a map of names over all files, with the folder of each; a name may be given once.
fn named<'n>(world: &mut World<'_>, tops: &[Top<'n>], key: &str, plural: &str) -> Vec<(&'n Entry, &'n Path)> {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    let mut all = Vec::new();
    for top in tops {
        let Some(node) = top.fields.get(&mut world.sink, key) else { continue };
        for entry in world.sink.entries(node, &format!("`{key}`")).unwrap_or_default() {
            if let Some(first) = seen.insert(&entry.key, entry.span) {
                world.sink.push(
                    Diagnostic::error("duplicate-name", format!("two {plural} are named `{}`", short(&entry.key)))
                        .at(entry.span, "again here")
                        .at(first, "first here")
                        .help("rename one of them"),
                );
            } else {
                all.push((entry, top.document.folder.as_path()));
            }
        }
    }
    all
}
