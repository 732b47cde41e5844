//! `expect` and `checks` of a step: data, with operators where equality is not enough.

use base64::Engine as _;
use serde_json::Value;

use super::OpReader;
use crate::diag::{Span, Spanned};
use crate::scenario::json;
use crate::scenario::made::Made;
use crate::scenario::model::{CheckDef, Expect};
use crate::scenario::schema;
use crate::scenario::template::is_template;
use crate::scenario::yaml::{Kind, Node, short};

/// Operators in expected values: `$any: [a, b]` any of these, `$regex: …` a match in a text,
/// `$subset: …` these fields or members and perhaps others, `$exact: …` these fields and no others,
/// `$base64: …` these bytes, `$bytes: {size: 5MiB, seed: 1}` bytes that are made.
pub const OPERATORS: &[&str] = &["$any", "$regex", "$subset", "$exact", "$base64", "$bytes"];

/// What the first segment of a path may be.
const PATH_ROOTS: &[&str] = &[
    "value",
    "message",
    "messages",
    "code",
    "status_text",
    "details",
    "metadata",
    "trailers",
    "stdout",
    "stderr",
    "wire",
];

impl OpReader<'_> {
    /// Reads `expect` of an op for which the fields `meant` have a meaning.
    pub(super) fn expect(&mut self, node: &Node, op: &str, meant: &[&str]) -> Expect {
        let mut expect = Expect::default();
        let Some(fields) = self.sink.fields::<schema::Expect>(node) else { return expect };
        for key in ["value", "message", "code", "status_text", "stdout", "stderr", "wire"] {
            if let (Some(entry), false) = (fields.entry(key), meant.contains(&key)) {
                let message = format!("`{op}` has no `{key}` to expect");
                self.sink.error(
                    "no-such-result",
                    entry.span,
                    message,
                    "nothing to hold it against",
                    &self.sink.suggest(key, &format!("results of `{op}`"), meant.iter().copied()),
                );
            }
        }
        let mut value = |key: &str| {
            let node = &fields.entry(key)?.value;
            Some(Spanned { value: self.expected(node)?, span: node.span })
        };
        expect.value = value("value");
        expect.message = value("message");
        expect.status_text = value("status_text");
        expect.stdout = value("stdout");
        expect.stderr = value("stderr");
        expect.wire = value("wire");
        if let Some(node) = fields.get(self.sink, "code") {
            expect.code = self.sink.codes(node).map(|value| Spanned { value, span: node.span });
        }
        expect
    }

    /// Reads an expected value: data with operators; texts are templates.
    pub(super) fn expected(&mut self, node: &Node) -> Option<Value> {
        let before = self.sink.len();
        self.operators(node);
        let value = self.scope.tree(self.sink, node);
        (self.sink.len() == before).then_some(value)
    }

    fn operators(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar(_) => {}
            Kind::List(items) => items.iter().for_each(|item| self.operators(item)),
            Kind::Map(entries) => {
                for entry in entries {
                    if entry.key.starts_with('$') {
                        self.operator(&entry.key, entry.span, &entry.value);
                        if entries.len() > 1 {
                            let message = format!("`{}` stands alone in its map", entry.key);
                            self.sink.error("bad-operator", entry.span, message, "not alone", "");
                        }
                    }
                    self.operators(&entry.value);
                }
            }
        }
    }

    fn operator(&mut self, name: &str, span: Span, value: &Node) {
        match name {
            "$any" => {
                if self.sink.list(value, "`$any`").is_some_and(<[Node]>::is_empty) {
                    self.sink.error("empty", value.span, "`$any` has no alternatives", "nothing can match", "");
                }
            }
            "$regex" => {
                if let Some(pattern) = self.sink.any_text(value, "`$regex`").filter(|p| !is_template(p)) {
                    self.sink.regex(&pattern, value.span);
                }
            }
            "$subset" | "$exact" => {
                if matches!(value.kind, Kind::Scalar(_)) {
                    self.sink.error(
                        "wrong-type",
                        value.span,
                        format!("`{name}` must be a map or a list"),
                        "a single value",
                        "",
                    );
                }
            }
            "$base64" => {
                if let Some(text) = self.sink.any_text(value, "`$base64`").filter(|t| !is_template(t))
                    && let Err(error) = base64::engine::general_purpose::STANDARD.decode(&text)
                {
                    let message = format!("this is not base64: {}", error.to_string().to_lowercase());
                    self.sink.error("bad-base64", value.span, message, "not base64", "standard alphabet, with padding");
                }
            }
            "$bytes" => self.made(value),
            _ => {
                let message = format!("unknown operator `{}`", short(name));
                self.sink.error(
                    "unknown-operator",
                    span,
                    message,
                    "not an operator",
                    &self.sink.suggest(name, "operators", OPERATORS.iter().copied()),
                );
            }
        }
    }

    /// Checks every `$bytes` of a message.
    pub(super) fn made_values(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar(_) => {}
            Kind::List(items) => items.iter().for_each(|item| self.made_values(item)),
            Kind::Map(entries) => {
                for entry in entries {
                    if entry.key == "$bytes" { self.made(&entry.value) } else { self.made_values(&entry.value) }
                }
            }
        }
    }

    /// Checks the value of `$bytes`, unless it is only known when a case runs.
    fn made(&mut self, node: &Node) {
        let value = json::value(node);
        if !is_template(&value.to_string())
            && let Err(why) = Made::parse(&value)
        {
            let help = "for example `{ $bytes: { size: 5MiB, seed: 1 } }`";
            self.sink.error("bad-bytes", node.span, why, "cannot be made", help);
        }
    }

    /// Reads `checks`: id → path → expected value.
    pub(super) fn checks(&mut self, node: &Node) -> Vec<CheckDef> {
        let mut checks = Vec::new();
        for entry in self.sink.entries(node, "`checks`").unwrap_or_default() {
            let Some(paths) = self.sink.entries(&entry.value, &format!("the check `{}`", short(&entry.key))) else {
                continue;
            };
            if paths.is_empty() {
                self.sink.error(
                    "empty",
                    entry.span,
                    format!("the check `{}` checks nothing", short(&entry.key)),
                    "empty",
                    "write `PATH: EXPECTED` in it",
                );
            }
            for path in paths {
                self.path(&path.key, path.span);
                if let Some(expected) = self.expected(&path.value) {
                    let span = super::join(path.span, path.value.span);
                    checks.push(CheckDef { id: entry.key.clone(), path: path.key.clone(), expected, span });
                }
            }
        }
        checks
    }

    /// Checks that a path begins with something that a step has.
    pub(super) fn path(&mut self, path: &str, span: Span) {
        let root = path.split(['.', '[']).next().unwrap_or_default();
        if !PATH_ROOTS.contains(&root) {
            let message = format!("the path `{}` begins with nothing that a step has", short(path));
            self.sink.error(
                "bad-path",
                span,
                message,
                "unknown beginning",
                &self.sink.suggest(root, "beginnings", PATH_ROOTS.iter().copied()),
            );
        } else if path.split('.').any(str::is_empty) {
            self.sink.error(
                "bad-path",
                span,
                format!("the path `{}` has an empty segment", short(path)),
                "two dots in a row",
                "",
            );
        }
    }
}
