//! Ops that a service declares: `put: {key: …, value: …}`. Their names and arguments are the user's.

use serde_json::{Map, Value};

use super::{OpReader, ParsedOp};
use crate::scenario::model::{Op, OpDef};
use crate::scenario::yaml::{Entry, short};

/// Fields of `expect` that have a meaning for a declared op, beside `value` for one that yields.
pub(super) const EXPECTS: &[&str] = &["message", "code", "status_text", "wire"];

/// Reads a step's op `entry` as the declared op `def`.
pub(super) fn parse(reader: &mut OpReader<'_>, entry: &Entry, def: &OpDef) -> Option<ParsedOp> {
    let what = format!("`{}`", entry.key);
    let given = reader.sink.entries(&entry.value, &what)?;
    let mut args = Map::new();
    for argument in given {
        if def.args.contains(&argument.key) {
            reader.made_values(&argument.value);
            args.insert(argument.key.clone(), reader.scope.tree(reader.sink, &argument.value));
        } else {
            let message = format!("{what} has no argument `{}`", short(&argument.key));
            let help = reader.sink.suggest(&argument.key, "arguments", def.args.iter().map(String::as_str));
            reader.sink.error("unknown-argument", argument.span, message, "not an argument", &help);
        }
    }
    for name in &def.args {
        if !given.iter().any(|argument| argument.key == *name) {
            let message = format!("{what} needs the argument `{name}`");
            let help = format!("arguments of {what}: {}", def.args.join(", "));
            reader.sink.error("missing-argument", entry.span, message, &format!("no `{name}`"), &help);
        }
    }
    Some(ParsedOp::of(Op::Named { name: entry.key.clone(), args: args.into_iter().collect::<Map<String, Value>>() }))
}
