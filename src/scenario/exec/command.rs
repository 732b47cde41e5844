//! `run` with its conditional parts, `env`, `folder`, `stdin`.

use indexmap::IndexMap;

use super::model::{Arg, ExecCommand};
use crate::scenario::decode::{Fields, Sink};
use crate::scenario::expr::Pending;
use crate::scenario::schema;
use crate::scenario::scope::Scope;
use crate::scenario::yaml::{Kind, Node, short};

/// Lists that `each` goes through.
const LISTS: &[&str] = &["metadata", "messages"];

/// Reads program, environment, folder and input.
pub(super) fn read(
    sink: &mut Sink,
    pending: &mut Pending,
    scope: &Scope,
    fields: &Fields<'_>,
    stdin: bool,
) -> Option<ExecCommand> {
    let run = fields.require(sink, "run", "the program and its arguments, as a list");
    let env = environment(sink, scope, fields);
    let text = |sink: &mut Sink, key: &str| {
        let node = fields.get(sink, key)?;
        scope.list(sink, node);
        sink.any_text(node, &format!("`{key}`"))
    };
    let folder = text(sink, "folder");
    let stdin = if stdin { text(sink, "stdin") } else { None };
    Some(ExecCommand { run: arguments(sink, pending, scope, run?)?, env, folder, stdin, span: fields.span })
}

/// `env`: name → template.
pub(in crate::scenario) fn environment(
    sink: &mut Sink,
    scope: &Scope,
    fields: &Fields<'_>,
) -> IndexMap<String, String> {
    let mut env = IndexMap::new();
    let Some(node) = fields.get(sink, "env") else { return env };
    for entry in sink.entries(node, "`env`").unwrap_or_default() {
        if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
            let message = format!("`{}` cannot name an environment variable", short(&entry.key));
            sink.error("bad-name", entry.span, message, "not a name", "");
        }
        scope.list(sink, &entry.value);
        if let Some(value) = sink.any_text(&entry.value, "an environment variable") {
            env.insert(entry.key.clone(), value);
        }
    }
    env
}

fn arguments(sink: &mut Sink, pending: &mut Pending, scope: &Scope, node: &Node) -> Option<Vec<Arg>> {
    let items = sink.list(node, "`run`")?;
    if !matches!(items.first().map(|item| &item.kind), Some(Kind::Scalar(_))) {
        let (message, label) = ("`run` begins with its program", "no program");
        sink.error("empty", node.span, message, label, "name the program first, then its arguments");
        return None;
    }
    let mut args = Vec::new();
    for (position, item) in items.iter().enumerate() {
        if matches!(item.kind, Kind::Map(_)) {
            args.extend(group(sink, pending, scope, item));
            continue;
        }
        scope.list(sink, item);
        let text = if position == 0 {
            sink.text(item, "the program of `run`").map(|text| text.value)
        } else {
            sink.any_text(item, "an argument of `run`")
        };
        args.extend(text.map(Arg::Text));
    }
    Some(args)
}

/// `{ when: …, each: …, args: […] }`.
fn group(sink: &mut Sink, pending: &mut Pending, scope: &Scope, node: &Node) -> Option<Arg> {
    let fields = sink.fields::<schema::ExecArgs>(node)?;
    let when = fields.get(sink, "when").and_then(|node| pending.read(sink, node, "`when`", false));
    let each = fields.get(sink, "each").and_then(|node| sink.word(node, "`each`", LISTS)).map(str::to_owned);
    if fields.entry("when").is_none() && each.is_none() {
        let help = "give it `when: EXPRESSION` or `each: metadata`, or write them as arguments of their own";
        sink.error("useless-key", fields.span, "arguments without a condition", "always there", help);
    }
    let args = fields.require(sink, "args", "list the arguments")?;
    let scope = if each.is_some() { scope.clone().root("item", ["key", "value"]) } else { scope.clone() };
    scope.list(sink, args);
    let items = sink.list(args, "`args`")?;
    let args = items.iter().filter_map(|item| sink.any_text(item, "an argument")).collect();
    Some(Arg::Group { when, each, args })
}
