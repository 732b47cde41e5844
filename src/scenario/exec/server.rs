//! `exec` of a server role.

use super::model::{EndWay, ExecServer, Ready};
use super::{command, patterns};
use crate::scenario::decode::Sink;
use crate::scenario::expr::Pending;
use crate::scenario::schema;
use crate::scenario::scope::Scope;
use crate::scenario::yaml::{Kind, Node};

/// What a server's texts may use beside what every command may.
const NAMES: &[&str] = &["port", "socket"];

/// Reads the server.
pub(in crate::scenario) fn server(
    sink: &mut Sink,
    pending: &mut Pending,
    scope: &Scope,
    node: &Node,
) -> Option<ExecServer> {
    let fields = sink.fields::<schema::ExecServer>(node)?;
    let scope = NAMES.iter().fold(scope.clone(), |scope, name| scope.root(name, []));
    let command = command::read(sink, pending, &scope, &fields, false);
    let address = fields.get(sink, "address").and_then(|node| {
        scope.list(sink, node);
        sink.text(node, "`address`").map(|text| text.value)
    });
    let ready = match fields.get(sink, "ready") {
        Some(node) => ready(sink, &scope, node),
        None => Some(Ready::Connect),
    };
    let end = match fields.get(sink, "end") {
        Some(node) => end(sink, node),
        None => Some(EndWay::Signal),
    };
    let exclusive = fields.text(sink, "exclusive");
    Some(ExecServer { command: command?, address, ready: ready?, end: end?, exclusive })
}

fn ready(sink: &mut Sink, scope: &Scope, node: &Node) -> Option<Ready> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Some(match sink.word(node, "`ready`", &["connect", "health", "line"])? {
            "health" => Ready::Health,
            "line" => Ready::Line,
            _ => Ready::Connect,
        });
    }
    let fields = sink.fields::<schema::ExecReady>(node)?;
    let given: Vec<_> = ["stdout", "stderr", "file"].into_iter().filter(|key| fields.entry(key).is_some()).collect();
    let [key] = given.as_slice() else {
        let help = "give it exactly one of `stdout: REGEX`, `stderr: REGEX`, `file: PATH`";
        sink.error("no-way", fields.span, "readiness is seen in one place", "where?", help);
        return None;
    };
    let node = fields.get(sink, key)?;
    if *key == "file" {
        scope.list(sink, node);
        return sink.text(node, "`file`").map(|text| Ready::File(text.value));
    }
    let pattern = patterns::regex(sink, node, &format!("`{key}`"))?;
    Some(Ready::Output { stderr: *key == "stderr", pattern })
}

fn end(sink: &mut Sink, node: &Node) -> Option<EndWay> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Some(match sink.word(node, "`end`", &["signal", "stdin"])? {
            "stdin" => EndWay::Stdin,
            _ => EndWay::Signal,
        });
    }
    let fields = sink.fields::<schema::ExecEnd>(node)?;
    let call = fields.require(sink, "call", "the method that ends it, as `package.Service/Method`")?;
    let method = sink.text(call, "`call`")?;
    let whole = method.value.split_once('/').is_some_and(|(service, name)| !service.is_empty() && !name.is_empty());
    if !whole {
        sink.error("bad-method", method.span, "a method is written `package.Service/Method`", "not a method", "");
    }
    whole.then_some(EndWay::Call(method.value))
}
