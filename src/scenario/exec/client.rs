//! `exec` of a client role.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::model::{ExecClient, ExecRun, Form, Meaning, Pattern};
use super::{command, patterns, rewrite};
use crate::scenario::decode::{Fields, Sink};
use crate::scenario::expr::Pending;
use crate::scenario::schema;
use crate::scenario::scope::Scope;
use crate::scenario::yaml::{Entry, Node, short};

/// What a call hands over beside the op's own arguments.
const CALL_NAMES: &[&str] = &["method", "message", "messages", "metadata", "deadline"];

/// Reads the client; `ops` are the named ops of all services with their arguments.
pub(in crate::scenario) fn client(
    sink: &mut Sink,
    pending: &mut Pending,
    scope: &Scope,
    ops: &BTreeMap<String, Vec<String>>,
    node: &Node,
) -> Option<ExecClient> {
    let fields = sink.fields::<schema::ExecClient>(node)?;
    let own = fields.get(sink, "patterns").map(|node| patterns::read(sink, node)).unwrap_or_default();
    let env = command::environment(sink, scope, &fields);
    let mut reader = Reader { pending, scope, own, env };
    let mut named = IndexMap::new();
    if let Some(node) = fields.get(sink, "ops") {
        for entry in sink.entries(node, "`ops`").unwrap_or_default() {
            let Some(args) = ops.get(&entry.key) else {
                let help = sink.suggest(&entry.key, "ops", ops.keys().map(String::as_str));
                let message = format!("no service has an op `{}`", short(&entry.key));
                sink.error("unknown-op", entry.span, message, "not an op", &help);
                continue;
            };
            let run = reader.run(sink, &entry.value, args, CALL_NAMES);
            named.extend(run.map(|run| (entry.key.clone(), run)));
        }
    }
    let call = reader.optional(sink, &fields, "call", CALL_NAMES);
    let test = reader.optional(sink, &fields, "test", &["test", "deadline"]);
    let refuses = reader.optional(sink, &fields, "refuses", &["unknown"]);
    if ["ops", "call", "test"].iter().all(|key| fields.entry(key).is_none()) {
        let help = "give it `ops: { NAME: { run: […] } }`, `call: { run: […] }` or `test: { run: […] }`";
        sink.error("no-way", fields.span, "the program is never run", "for what?", help);
    }
    let rewrite = rewrite::read(sink, scope, &fields);
    let client = ExecClient { ops: named, call, test, refuses, rewrite, span: fields.span };
    proof(sink, &client);
    Some(client)
}

/// Who can refuse has to show that it can, or every failure could be dressed up as one.
fn proof(sink: &mut Sink, client: &ExecClient) {
    let runs = client.ops.values().chain(&client.call).chain(&client.test);
    let refusal = runs.flat_map(|run| &run.patterns).find(|pattern| matches!(pattern.meaning, Meaning::Refused));
    if let (Some(pattern), None) = (refusal, &client.refuses) {
        sink.error(
            "no-proof",
            pattern.span,
            "a pattern for refusals needs the proof that the program can refuse",
            "nothing shows that this ever matches",
            "add `refuses: { run: [PROGRAM, …, \"{{ unknown }}\"] }`: a run with a made-up name that must be refused",
        );
    }
}

struct Reader<'a> {
    pending: &'a mut Pending,
    scope: &'a Scope,
    /// The patterns that stand behind those of each run.
    own: Vec<Pattern>,
    /// The environment under that of each run.
    env: IndexMap<String, String>,
}

impl Reader<'_> {
    fn optional(&mut self, sink: &mut Sink, fields: &Fields<'_>, key: &str, names: &[&str]) -> Option<ExecRun> {
        let node = fields.get(sink, key)?;
        self.run(sink, node, &[], names)
    }

    fn run(&mut self, sink: &mut Sink, node: &Node, args: &[String], names: &[&str]) -> Option<ExecRun> {
        let fields = sink.fields::<schema::ExecRun>(node)?;
        let mut scope = self.scope.clone();
        for name in args.iter().map(String::as_str).chain(names.iter().copied()) {
            scope.open(name);
        }
        let mut patterns = fields.get(sink, "patterns").map(|node| patterns::read(sink, node)).unwrap_or_default();
        patterns.extend(self.own.iter().cloned());
        if patterns.is_empty() && fields.entry("patterns").is_none() {
            let help = "add `patterns: [{ exit: 0, ok: true }, …]`, here or beside `ops`";
            sink.error("missing-key", fields.span, "nothing says what its outcome means", "no `patterns`", help);
        }
        let forms = forms(sink, &fields, args);
        let mut command = command::read(sink, self.pending, &scope, &fields, true)?;
        for (key, value) in &self.env {
            command.env.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Some(ExecRun { command, forms, patterns })
    }
}

/// `values`: argument → how it is handed over.
fn forms(sink: &mut Sink, fields: &Fields<'_>, args: &[String]) -> IndexMap<String, Form> {
    let mut forms = IndexMap::new();
    let Some(node) = fields.get(sink, "values") else { return forms };
    for Entry { key, span, value, .. } in sink.entries(node, "`values`").unwrap_or_default() {
        if !args.contains(key) && key != "message" {
            let known = args.iter().map(String::as_str).chain(["message"]);
            let help = sink.suggest(key, "arguments", known);
            let message = format!("the op has no argument `{}`", short(key));
            sink.error("unknown-argument", *span, message, "not an argument", &help);
        }
        let word = sink.word(value, "a form", &["text", "base64", "file"]);
        forms.insert(key.clone(), patterns::form_of(word));
    }
    forms
}
