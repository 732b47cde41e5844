//! Which peers there are, for every command that names one: where they are declared, and having
//! them built.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::exit;
use super::printer::Printer;
use super::run::builds;
use crate::peer::build::{BuildLine, Builder, Built};
use crate::process::Spawner;
use crate::scenario::model::{Peer, Service};
use crate::scenario::{self, DiskFiles, Files, MemoryFiles, PeerList};

/// Where files of peers are when none is named.
const LISTS: &str = "scenarios/peers";
/// Where peers with a folder of their own are.
const FOLDERS: &str = "fixtures/peers";
/// The peer that needs no file.
const OWN: &str = "soupscen: 1\npeers: { rust: { builtin: {} } }\n";

/// A peer with what its file says around it.
pub(super) struct Found {
    pub(super) peer: Peer,
    /// Services that it may be asked for, by name.
    pub(super) services: IndexMap<String, Service>,
    pub(super) vars: Map<String, Value>,
}

/// Files in which peers are looked for when none is named: `scenarios/peers/*.yaml`, then
/// `fixtures/peers/*/peer.yaml`.
pub(super) fn default_files() -> Vec<PathBuf> {
    let listed = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let lists = listed(LISTS).into_iter().filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let own = listed(FOLDERS).into_iter().map(|folder| folder.join("peer.yaml")).filter(|path| path.is_file());
    lists.chain(own).collect()
}

/// How the default files are named in messages.
pub(super) fn default_places() -> String {
    format!("`{LISTS}/*.yaml` and `{FOLDERS}/*/peer.yaml`")
}

/// Reads a file of peers, and tells what is wrong with it.
pub(super) fn read(file: &Path, printer: &Printer) -> Result<PeerList, ExitCode> {
    read_from(file, &DiskFiles, printer)
}

/// The peer `rust`, and the services that are always there.
pub(super) fn own(printer: &Printer) -> Result<PeerList, ExitCode> {
    read_from(Path::new("rust.yaml"), &MemoryFiles::new().with("rust.yaml", OWN), printer)
}

fn read_from(file: &Path, files: &dyn Files, printer: &Printer) -> Result<PeerList, ExitCode> {
    match scenario::load_peers(file, files) {
        Ok(list) => {
            printer.diagnostics(&list.sources, &list.diagnostics);
            Ok(list)
        }
        Err((sources, diagnostics)) => {
            printer.diagnostics(&sources, &diagnostics);
            Err(ExitCode::from(exit::INVALID))
        }
    }
}

/// The peer of this name: of `from`, or of the default files; `rust` is always there.
///
/// # Errors
/// The exit status, when there is none, or its file cannot be used; that was told.
pub(super) fn find(name: &str, from: Option<&Path>, printer: &Printer) -> Result<Found, ExitCode> {
    let mut known: Vec<String> = Vec::new();
    let mut broken = None;
    let mut take = |list: PeerList| {
        known.extend(list.peers.keys().cloned());
        let PeerList { mut peers, services, vars, .. } = list;
        peers.swap_remove(name).map(|peer| Found { peer, services, vars })
    };
    if let Some(file) = from {
        if let Some(found) = take(read(file, printer)?) {
            return Ok(found);
        }
        let text = format!("`{}` has no peer `{name}`; it has: {}", file.display(), known.join(", "));
        printer.error(&text);
        return Err(ExitCode::from(exit::INVALID));
    }
    for file in default_files() {
        match scenario::load_peers(&file, &DiskFiles) {
            Ok(list) => {
                if let Some(found) = take(list) {
                    return Ok(found);
                }
            }
            // It matters only if the peer is nowhere else.
            Err(problems) => {
                broken.get_or_insert(problems);
            }
        }
    }
    if let Some(found) = take(own(printer)?) {
        return Ok(found);
    }
    if let Some((sources, diagnostics)) = broken {
        printer.diagnostics(&sources, &diagnostics);
    }
    let mut seen = std::collections::BTreeSet::new();
    known.retain(|name| seen.insert(name.clone()));
    printer.error(&format!(
        "there is no peer `{name}` in {}; there are: {}; `--from FILE` names another file",
        default_places(),
        known.join(", ")
    ));
    Err(ExitCode::from(exit::INVALID))
}

/// Builds a peer where it has to be, and says so.
///
/// # Errors
/// The exit status, when it cannot be had; why was told.
pub(super) async fn build(peer: &Peer, spawner: &Spawner, printer: &Printer) -> Result<Built, ExitCode> {
    let builder = Builder::new(builds(), false, spawner.clone());
    let name = &peer.name;
    let built = builder.build(peer, |line| match line {
        BuildLine::Started { command } => printer.say(&format!("building {name}: {command}")),
        BuildLine::Waiting { text } => printer.say(&text),
        BuildLine::Output { .. } => {}
    });
    built.await.map_err(|error| {
        printer.error(&error.to_string());
        ExitCode::from(exit::INVALID)
    })
}
