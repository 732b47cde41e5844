//! Which names the templates of a place may use, and the check of every text against them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::decode::Sink;
use super::json;
use super::template;
use super::yaml::{Kind, Node, Scalar, short};
use crate::diag::Span;

/// The names of one place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// Name → its known fields.
    roots: BTreeMap<String, BTreeSet<String>>,
    /// Names whose fields are only known at run time: captures, arguments.
    open: BTreeSet<String>,
    /// Some file could not be read, so that fields may exist which are not known here.
    incomplete: bool,
}

impl Scope {
    /// A place where not everything is known, so that unknown fields are not reported.
    pub(crate) fn incomplete(mut self, incomplete: bool) -> Self {
        self.incomplete = incomplete;
        self
    }

    /// Adds a name with its fields; without any it stands for itself.
    pub(crate) fn root<'a>(mut self, name: &str, fields: impl IntoIterator<Item = &'a str>) -> Self {
        self.roots.insert(name.to_owned(), fields.into_iter().map(str::to_owned).collect());
        self
    }

    /// Adds a name that may have any fields.
    pub(crate) fn open(&mut self, name: &str) {
        self.open.insert(name.to_owned());
    }

    /// Whether a name is taken.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.roots.contains_key(name)
    }

    /// The fixed names.
    pub(crate) fn root_names(&self) -> impl Iterator<Item = &str> {
        self.roots.keys().map(String::as_str)
    }

    /// Reads a tree whose texts are templates, and checks each of them.
    pub(crate) fn tree(&self, sink: &mut Sink, node: &Node) -> Value {
        self.walk(sink, node);
        json::value(node)
    }

    fn walk(&self, sink: &mut Sink, node: &Node) {
        match &node.kind {
            Kind::Scalar(scalar) => self.scalar(sink, scalar, node.span),
            Kind::List(items) => items.iter().for_each(|item| self.walk(sink, item)),
            Kind::Map(entries) => entries.iter().for_each(|entry| self.walk(sink, &entry.value)),
        }
    }

    /// Checks one text.
    pub(crate) fn scalar(&self, sink: &mut Sink, scalar: &Scalar, span: Span) {
        match template::names(&scalar.text) {
            Ok(names) => {
                for name in names {
                    self.name(sink, &name, scalar, span);
                }
            }
            Err(error) => {
                let place = error.range.map_or(span, |range| within(scalar, span, range.start, range.end));
                sink.error("bad-template", place, error.message, "in this template", "");
            }
        }
    }

    /// Checks the texts of a list that are templates (a command).
    pub(crate) fn list(&self, sink: &mut Sink, node: &Node) {
        self.walk(sink, node);
    }

    fn name(&self, sink: &mut Sink, dotted: &str, scalar: &Scalar, span: Span) {
        let mut parts = dotted.split('.');
        let root = parts.next().unwrap_or_default();
        if self.open.contains(root) {
            return;
        }
        let place = scalar.text.find(dotted).map_or(span, |at| within(scalar, span, at, at + dotted.len()));
        let Some(fields) = self.roots.get(root) else {
            let known = self.roots.keys().chain(&self.open).map(String::as_str);
            let message = format!("unknown name `{}` in a template", short(root));
            sink.error("unknown-name", place, message, "no such name here", &sink.suggest(root, "names", known));
            return;
        };
        if let Some(field) = parts.next().filter(|field| !fields.contains(*field) && !self.incomplete) {
            let message = format!("`{root}` has no `{}`", short(field));
            let help = sink.suggest(field, &format!("fields of `{root}`"), fields.iter().map(String::as_str));
            sink.error("unknown-name", place, message, "no such field", &help);
        }
    }
}

/// A byte range of a scalar's content as a place, the whole scalar where the content is not written
/// letter for letter.
fn within(scalar: &Scalar, span: Span, start: usize, end: usize) -> Span {
    let Some(offset) = scalar.offset else { return span };
    let at = |n: usize| offset.saturating_add(u32::try_from(n).unwrap_or(0)).min(span.end);
    Span { source: span.source, start: at(start), end: at(end.max(start + 1)) }
}
