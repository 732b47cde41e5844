//! What the commands of a server depend on: the axes that their templates and conditions name.

use std::collections::BTreeSet;

use super::exec::model::{Arg, ExecCommand, Ready};
use super::model::{DirectWay, Peer, PluginWay};
use super::template;

/// In place of axes: a template takes them as a whole, so that it may read any.
pub(crate) const ALL: &str = "*";

/// Axes by name, `script` among them where a condition asks for it; [`ALL`] where it cannot be told.
pub(crate) fn server(peer: &Peer) -> BTreeSet<String> {
    let mut reads = BTreeSet::new();
    let Some(role) = &peer.server else { return reads };
    match &role.plugin {
        Some(PluginWay::Run(command)) => texts(&mut reads, command.run.iter().chain(command.env.values())),
        Some(PluginWay::Builtin { args }) => texts(&mut reads, args.iter()),
        None => {}
    }
    if let Some(DirectWay::Exec(server)) = &role.direct {
        texts(&mut reads, server.command.texts().chain(&server.address));
        if let Ready::File(path) = &server.ready {
            texts(&mut reads, [path]);
        }
        conditions(&mut reads, &server.command);
    }
    reads
}

fn texts<'a>(reads: &mut BTreeSet<String>, texts: impl IntoIterator<Item = &'a String>) {
    // One that is no template is an error of the scenario, which was told.
    for name in texts.into_iter().flat_map(|text| template::names(text).unwrap_or_default()) {
        let mut parts = name.split('.');
        if parts.next() == Some("axes") {
            reads.insert(parts.next().unwrap_or(ALL).to_owned());
        }
    }
}

fn conditions(reads: &mut BTreeSet<String>, command: &ExecCommand) {
    for arg in &command.run {
        if let Arg::Group { when: Some(when), .. } = arg {
            reads.extend(when.names().into_iter().map(str::to_owned));
        }
    }
}
