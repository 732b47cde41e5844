//! `rewrite`: what is changed of a server's start that a client composed.

use super::command::environment;
use super::model::{ArgRule, Rewrite};
use crate::scenario::decode::{Fields, Sink};
use crate::scenario::schema;
use crate::scenario::scope::Scope;
use crate::scenario::template;
use crate::scenario::yaml::Node;

/// The list of the client's own arguments, as an entry of a plugin's `run`.
const CLIENT_ARGS: &str = "client.args";

/// Whether an entry of `run` stands for the arguments that the client composed.
#[must_use]
pub(crate) fn is_client_args(text: &str) -> bool {
    template::lone_expression(text).is_some_and(|inner| inner.trim() == CLIENT_ARGS)
}

/// Says where `{{ client.args }}` is used as if it were a text.
pub(in crate::scenario) fn check_client_args(sink: &mut Sink, node: &Node, run: &[String]) {
    let mixed = |text: &&String| {
        !is_client_args(text) && template::names(text).is_ok_and(|names| names.iter().any(|name| name == CLIENT_ARGS))
    };
    if let Some(text) = run.iter().find(mixed) {
        let message = format!("`{text}` mixes the client's arguments with other text");
        let help = "they are a list: write `\"{{ client.args }}\"` as an entry of its own";
        sink.error("bad-template", node.span, message, "in this command", help);
    }
}

/// Reads `rewrite` of a client or of a plugin; nothing where there is none.
pub(in crate::scenario) fn read(sink: &mut Sink, scope: &Scope, fields: &Fields<'_>) -> Rewrite {
    let fields = fields.get(sink, "rewrite").and_then(|node| sink.fields::<schema::Rewrite>(node));
    let Some(fields) = fields else { return Rewrite::default() };
    let args = fields.get(sink, "args").and_then(|node| sink.list(node, "`args`")).unwrap_or_default();
    let drop_env = fields.get(sink, "drop_env").and_then(|node| sink.texts(node, "`drop_env`", true));
    Rewrite {
        args: args.iter().filter_map(|node| rule(sink, scope, node)).collect(),
        env: environment(sink, scope, &fields),
        drop_env: drop_env.unwrap_or_default().into_iter().map(|text| text.value).collect(),
    }
}

fn rule(sink: &mut Sink, scope: &Scope, node: &Node) -> Option<ArgRule> {
    let fields = sink.fields::<schema::RewriteArg>(node)?;
    let ways: Vec<_> = ["drop", "replace", "add"].into_iter().filter(|key| fields.entry(key).is_some()).collect();
    let [way] = ways.as_slice() else {
        let help = "give it exactly one of `drop: GLOBS`, `replace: GLOBS` with `by: ARGUMENTS`, `add: ARGUMENTS`";
        sink.error("no-way", fields.span, "a rule does one thing to the arguments", "what?", help);
        return None;
    };
    let texts = |sink: &mut Sink, key: &str| {
        let node = fields.get(sink, key)?;
        let texts = sink.texts(node, &format!("`{key}`"), true)?;
        if texts.is_empty() {
            sink.error("empty", node.span, format!("`{key}` is empty"), "nothing in it", "name an argument");
        }
        if key != "drop" && key != "replace" {
            scope.list(sink, node);
        }
        Some(texts.into_iter().map(|text| text.value).collect::<Vec<_>>()).filter(|texts| !texts.is_empty())
    };
    if let (Some(by), true) = (fields.entry("by"), *way != "replace") {
        sink.error("useless-key", by.span, "`by` without `replace`", "without effect here", "");
    }
    Some(match *way {
        "drop" => ArgRule::Replace { these: texts(sink, "drop")?, by: Vec::new() },
        "add" => ArgRule::Add(texts(sink, "add")?),
        _ => {
            let these = texts(sink, "replace")?;
            fields.require(sink, "by", "the arguments that take their place")?;
            ArgRule::Replace { these, by: texts(sink, "by")? }
        }
    })
}
