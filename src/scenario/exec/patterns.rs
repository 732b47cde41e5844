//! `patterns`: what exit status and output of a program mean.

use regex::bytes::Regex;

use super::groups::{Piece, pieces};
use super::model::{Form, Meaning, Pattern};
use crate::diag::Diagnostic;
use crate::outcome::{Exit, Phase};
use crate::scenario::decode::{CODES, Sink};
use crate::scenario::schema;
use crate::scenario::yaml::{Kind, Node, short};

/// What a pattern can mean; exactly one of it.
const MEANINGS: &[&str] = &["ok", "value", "message", "code", "error", "failed", "refused"];
/// Where a program can say that it failed.
const PHASES: &[(&str, Phase)] =
    &[("spawn", Phase::Spawn), ("connect", Phase::Connect), ("tls", Phase::Tls), ("rpc", Phase::Rpc)];

/// Reads a list of patterns.
pub(super) fn read(sink: &mut Sink, node: &Node) -> Vec<Pattern> {
    let items = sink.list(node, "`patterns`").unwrap_or_default();
    items.iter().filter_map(|item| pattern(sink, item)).collect()
}

/// Compiles a regular expression over raw output; what is wrong with it is reported.
pub(super) fn regex(sink: &mut Sink, node: &Node, what: &str) -> Option<Regex> {
    let text = sink.text(node, what)?;
    sink.bytes_regex(&text.value, text.span)
}

fn pattern(sink: &mut Sink, node: &Node) -> Option<Pattern> {
    let fields = sink.fields::<schema::ExecPattern>(node)?;
    let exit = fields.get(sink, "exit").map(|node| exits(sink, node)).unwrap_or_default();
    let stdout = fields.get(sink, "stdout").and_then(|node| regex(sink, node, "`stdout`"));
    let stderr = fields.get(sink, "stderr").and_then(|node| regex(sink, node, "`stderr`"));
    let given: Vec<_> = MEANINGS.iter().filter_map(|key| Some((*key, fields.entry(key)?))).collect();
    let [(key, entry)] = given.as_slice() else {
        let names = MEANINGS.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let (message, label) = if given.is_empty() {
            ("a pattern means nothing", "no meaning in it")
        } else {
            ("a pattern means one thing, this one means several", "which one?")
        };
        sink.error("no-meaning", fields.span, message, label, &format!("give it exactly one of {names}"));
        return None;
    };
    for (sibling, of) in [("as", "value"), ("text", "code")] {
        if let Some(other) = fields.entry(sibling).filter(|_| *key != of && !(sibling == "text" && *key == "error")) {
            sink.error("useless-key", other.span, format!("`{sibling}` without `{of}`"), "without effect here", "");
        }
    }
    let node = fields.get(sink, key)?;
    let text = fields.text(sink, "text").unwrap_or_default();
    let meaning = match *key {
        "ok" => flag(sink, node, "`ok`").then_some(Meaning::Ok { value: None, message: None })?,
        "refused" => flag(sink, node, "`refused`").then_some(Meaning::Refused)?,
        "value" => {
            let words = ["text", "base64", "file"];
            let form = fields.get(sink, "as").and_then(|node| sink.word(node, "`as`", &words));
            Meaning::Ok { value: Some((sink.any_text(node, "`value`")?, form_of(form))), message: None }
        }
        "message" => Meaning::Ok { value: None, message: Some(sink.text(node, "`message`")?.value) },
        "code" => Meaning::Status { code: code(sink, node)?, text },
        "error" => {
            let names: Vec<_> = PHASES.iter().map(|(name, _)| *name).collect();
            let word = sink.word(node, "`error`", &names)?;
            let phase = PHASES.iter().find(|(name, _)| *name == word).map_or(Phase::Rpc, |(_, phase)| *phase);
            Meaning::Error { phase, text }
        }
        _ => Meaning::Failed { text: sink.any_text(node, "`failed`")? },
    };
    let found = Pattern { exit, stdout, stderr, meaning, span: fields.span };
    groups(sink, &found, entry.value.span);
    Some(found)
}

/// Reads `as`.
pub(super) fn form_of(word: Option<&str>) -> Form {
    match word {
        Some("base64") => Form::Base64,
        Some("file") => Form::File,
        _ => Form::Text,
    }
}

/// `true`; anything else says nothing.
fn flag(sink: &mut Sink, node: &Node, what: &str) -> bool {
    let yes = matches!(&node.kind, Kind::Scalar(scalar) if scalar.text == "true");
    if !yes {
        let message = format!("{what} can only be `true`");
        sink.error("wrong-type", node.span, message, "expected `true`", "leave the pattern out otherwise");
    }
    yes
}

/// A status, `{ signal: N }`, or a list of these.
fn exits(sink: &mut Sink, node: &Node) -> Vec<Exit> {
    if let Kind::List(items) = &node.kind {
        if items.is_empty() {
            sink.error("empty", node.span, "`exit` lists no end", "empty", "name one, or leave `exit` out for any end");
        }
        return items.iter().filter_map(|item| exit(sink, item)).collect();
    }
    exit(sink, node).into_iter().collect()
}

fn exit(sink: &mut Sink, node: &Node) -> Option<Exit> {
    if matches!(node.kind, Kind::Map(_)) {
        let fields = sink.fields::<schema::ExecSignal>(node)?;
        let signal = fields.require(sink, "signal", "its number, such as 9")?;
        let number = sink.number(signal, "`signal`", 1, 64)?;
        return i32::try_from(number).ok().map(Exit::Signal);
    }
    let number = sink.number(node, "`exit`", 0, 255)?;
    i32::try_from(number).ok().map(Exit::Code)
}

/// A code by its name, or one that a group gives.
fn code(sink: &mut Sink, node: &Node) -> Option<String> {
    let text = sink.text(node, "`code`")?;
    if !text.value.contains('$') && !CODES.contains(&text.value.as_str()) {
        let help = sink.suggest(&text.value, "codes", CODES.iter().copied());
        let message = format!("unknown gRPC status code `{}`", short(&text.value));
        sink.error("unknown-code", text.span, message, "not a code", &help);
        return None;
    }
    Some(text.value)
}

/// The groups that a meaning refers to must be there, and it must be clear whose they are.
fn groups(sink: &mut Sink, pattern: &Pattern, span: crate::diag::Span) {
    let texts: Vec<&str> = match &pattern.meaning {
        Meaning::Ok { value: Some((text, _)), .. }
        | Meaning::Ok { message: Some(text), .. }
        | Meaning::Error { text, .. }
        | Meaning::Failed { text } => vec![text],
        Meaning::Status { code, text } => vec![code, text],
        Meaning::Ok { .. } | Meaning::Refused => Vec::new(),
    };
    let regexes = || [&pattern.stdout, &pattern.stderr].into_iter().flatten();
    let numbered = regexes().filter(|regex| regex.captures_len() > 1).count();
    for piece in texts.into_iter().flat_map(pieces) {
        let Piece::Group(name) = piece else { continue };
        let known = match name.parse::<usize>() {
            Ok(0) => regexes().count() == 1,
            Ok(number) => numbered == 1 && regexes().any(|regex| number < regex.captures_len()),
            Err(_) => regexes().any(|regex| regex.capture_names().flatten().any(|own| own == name)),
        };
        if !known {
            let message = format!("the pattern has no group `{}`", short(name));
            let help = "groups are those of its `stdout` or `stderr`; where both have groups, name them: `(?<text>…)`";
            sink.push(
                Diagnostic::error("no-group", message)
                    .at(span, "taken from here")
                    .at(pattern.span, "in this pattern")
                    .help(help),
            );
        }
    }
}
