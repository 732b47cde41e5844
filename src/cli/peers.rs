//! `soupscen peers`: what peers there are, what each can be asked to do, and what it lacks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::exit;
use super::peer_files;
use super::printer::Printer;
use super::run::builds;
use super::set::{self, Set};
use crate::peer::build::{BuildError, BuildLine, Builder, Built};
use crate::process::{Spawner, guard};
use crate::scenario::model::{Capability, ClientWay, DirectWay, Peer, PluginWay};

#[derive(Debug, Args)]
pub(super) struct PeersArgs {
    /// Scenarios, or files of peers [default: scenarios/peers/*.yaml and
    /// fixtures/peers/*/peer.yaml].
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Build what is not built yet.
    #[arg(long)]
    build: bool,
    /// Another value for one of the files' `vars`; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<Set>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// What there is of a peer.
enum State {
    /// It needs no build, or is built.
    Here(Built),
    /// It can be built.
    Buildable,
    /// It cannot be had.
    Missing(BuildError),
}

/// Runs the command under a guard. Exit statuses: 0 every peer is here or can be built, 1 one cannot
/// be had, 2 a file cannot be used.
pub(super) fn main(args: &PeersArgs, printer: &Printer) -> ExitCode {
    guard::run_guarded(|| {
        let Some(peers) = load(args.files.clone(), &args.set, printer) else { return ExitCode::from(exit::INVALID) };
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                printer.error(&format!("the async runtime cannot be started: {error}"));
                return ExitCode::from(exit::INVALID);
            }
        };
        let status = runtime.block_on(tell(args, &peers, printer));
        runtime.shutdown_background();
        status
    })
}

/// The peers of all files; the first of each name counts.
fn load(mut files: Vec<PathBuf>, sets: &[Set], printer: &Printer) -> Option<IndexMap<String, Peer>> {
    if files.is_empty() {
        files = peer_files::default_files();
    }
    if files.is_empty() {
        let places = peer_files::default_places();
        printer.error(&format!("there are no files in {places}; name a scenario or a file of peers"));
        return None;
    }
    let mut peers: IndexMap<String, Peer> = IndexMap::new();
    for file in &files {
        for (name, peer) in peer_files::read(file, printer).ok()?.peers {
            peers.entry(name).or_insert(peer);
        }
    }
    let changed = peers.values_mut().try_for_each(|peer| set::apply_to_peer(sets, peer));
    let wrong = changed.err().or_else(|| set::unknown(sets, peers.values().map(|peer| &peer.vars)));
    if let Some(problem) = wrong {
        printer.error(&problem);
        return None;
    }
    Some(peers)
}

async fn tell(args: &PeersArgs, peers: &IndexMap<String, Peer>, printer: &Printer) -> ExitCode {
    let spawner = match Spawner::start(&format!("peers-{}", std::process::id())) {
        Ok(spawner) => spawner,
        Err(error) => {
            printer.error(&format!("the thread that starts processes cannot be started: {error}"));
            return ExitCode::from(exit::INVALID);
        }
    };
    let builder = Builder::new(builds(), false, spawner);
    let looks = peers.values().map(|peer| look(&builder, peer, args.build, printer));
    let states = futures::future::join_all(looks).await;
    for (peer, state) in peers.values().zip(&states) {
        if args.json {
            printer.line(&as_json(peer, state).to_string());
        } else {
            show(peer, state, printer);
        }
    }
    let missing = states.iter().any(|state| matches!(state, State::Missing(_)));
    ExitCode::from(if missing { exit::RED } else { exit::OK })
}

async fn look(builder: &Builder, peer: &Peer, build: bool, printer: &Printer) -> State {
    let looked = if build {
        let on_line = |line| {
            if let BuildLine::Started { command } = line {
                printer.say(&format!("building {}: {command}", peer.name));
            }
        };
        builder.build(peer, on_line).await.map(Some)
    } else {
        builder.look(peer).await
    };
    match looked {
        Ok(Some(built)) => State::Here(built),
        Ok(None) => State::Buildable,
        Err(error) => State::Missing(error),
    }
}

/// The roles of a peer: name, how it is run, what it provides.
fn roles(peer: &Peer) -> Vec<(&'static str, Vec<&'static str>, &[Capability])> {
    let mut roles = Vec::new();
    if let Some(client) = &peer.client {
        let way = match client.way {
            ClientWay::Builtin => "builtin",
            ClientWay::Driver(_) => "driver",
            ClientWay::Exec(_) => "exec",
        };
        roles.push(("client", vec![way], client.provides.as_slice()));
    }
    if let Some(server) = &peer.server {
        let plugin = server.plugin.as_ref().map(|way| match way {
            PluginWay::Builtin { .. } => "builtin plugin",
            PluginWay::Run(_) => "plugin",
        });
        let direct = server.direct.as_ref().map(|way| match way {
            DirectWay::Builtin => "builtin",
            DirectWay::Driver(_) => "driver",
            DirectWay::Exec(_) => "exec",
            DirectWay::Attach(_) => "attached",
        });
        roles.push(("server", plugin.into_iter().chain(direct).collect(), server.provides.as_slice()));
    }
    roles
}

fn show(peer: &Peer, state: &State, printer: &Printer) {
    let (on, off) = if printer.colour_stdout() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let fact = |name: &str| peer.facts.get(name).map(String::as_str);
    let kind: Vec<_> = [fact("lang"), fact("stack")].into_iter().flatten().collect();
    let kind = if kind.is_empty() { String::new() } else { format!(" ({})", kind.join(", ")) };
    let name = &peer.name;
    match state {
        State::Here(built) => {
            let word = if peer.build.is_some() { "built" } else { "needs no build" };
            printer.line(&format!("{on}{name}{off}{kind}: {word}"));
            if !built.versions.is_empty() {
                let all: Vec<_> = built.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
                printer.line(&format!("  versions  {}", all.join(", ")));
            }
            for note in &built.notes {
                printer.line(&format!("  note      {note}"));
            }
        }
        State::Buildable => printer.line(&format!(
            "{on}{name}{off}{kind}: not built yet; `soupscen peers --build` does it, and so does a run"
        )),
        State::Missing(error) => {
            printer.line(&format!("{on}{name}{off}{kind}: cannot be had"));
            for line in error.to_string().lines() {
                printer.line(&format!("  {line}"));
            }
        }
    }
    for (role, ways, provides) in roles(peer) {
        printer.line(&format!("  {role:<9} {}: {}", ways.join(", "), grouped(provides)));
    }
}

/// Capabilities by what they are about: `tls.none tls.auto` becomes `tls.{none,auto}`; one that holds
/// only under a condition has a `?`.
fn grouped(provides: &[Capability]) -> String {
    let mut groups: IndexMap<&str, Vec<String>> = IndexMap::new();
    for capability in provides {
        let (group, value) = capability.name.split_once('.').unwrap_or((capability.name.as_str(), ""));
        let mark = if capability.when.is_some() { "?" } else { "" };
        let values = groups.entry(group).or_default();
        let value = format!("{value}{mark}");
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let texts = groups.into_iter().map(|(group, values)| match values.as_slice() {
        [one] if one.is_empty() || one == "?" => format!("{group}{one}"),
        [one] => format!("{group}.{one}"),
        many => format!("{group}.{{{}}}", many.join(",")),
    });
    texts.collect::<Vec<_>>().join(" ")
}

fn as_json(peer: &Peer, state: &State) -> Value {
    let empty = BTreeMap::new();
    let (word, versions, missing) = match state {
        State::Here(built) if peer.build.is_some() => ("built", &built.versions, None),
        State::Here(built) => ("needs-no-build", &built.versions, None),
        State::Buildable => ("not-built", &empty, None),
        State::Missing(error) => ("missing", &empty, Some(error.to_string())),
    };
    let roles: serde_json::Map<_, _> = roles(peer)
        .into_iter()
        .map(|(role, ways, provides)| {
            let provides: Vec<_> = provides
                .iter()
                .map(|c| json!({"capability": c.name, "when": c.when.as_ref().map(|when| &when.text)}))
                .collect();
            (role.to_owned(), json!({"ways": ways, "provides": provides}))
        })
        .collect();
    json!({"peer": peer.name, "facts": peer.facts, "state": word, "versions": versions, "missing": missing, "roles": roles})
}
