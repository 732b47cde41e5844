//! YAML text → a tree whose every key and value knows where it was written. The only module that
//! knows the YAML crate; read by `decode`.
//!
//! The crate's event parser is used, not its serde reader: the latter returns only its first error
//! and loses how a scalar was written (`1.10` would become `1.1`). Everything is bounded: nodes
//! (aliases expanded), depth, and by the caller the size of the text.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span as RawSpan, Tag};

use super::syntax;
use crate::diag::{Diagnostic, SourceId, Span};

/// Values in one file; those of an anchor are counted again, there and at each of its aliases.
pub(crate) const MAX_NODES: usize = 200_000;
/// Nesting of maps and lists.
pub(crate) const MAX_DEPTH: usize = 64;

/// A value and where it is written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// A scalar with its quotes; a collection from its first to its last content.
    pub(crate) span: Span,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Text, number, boolean or null.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file, without duplicates.
    Map(Vec<Entry>),
}

/// A scalar as written.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    /// Its content, escapes and folding resolved.
    pub(crate) text: String,
    /// Written without quotes, so it may be a number, a boolean or null.
    pub(crate) plain: bool,
    /// Byte offset of the content in the file, when it stands there letter for letter.
    pub(crate) offset: Option<u32>,
}

/// One entry of a map.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key's text.
    pub(crate) key: String,
    /// Where the key is written.
    pub(crate) span: Span,
    /// The value.
    pub(crate) value: Node,
}

impl Node {
    /// Null, written (`~`, `null`) or left out.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(s) if s.plain && matches!(s.text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What a message calls it.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.kind {
            _ if self.is_null() => "nothing",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Scalar(s) if !s.plain => "text",
            Kind::Scalar(s) => match super::json::plain(&s.text) {
                serde_json::Value::Bool(_) => "a boolean",
                serde_json::Value::Number(_) => "a number",
                _ => "text",
            },
        }
    }
}

/// Reads one document. Problems that leave the rest readable (duplicate keys, tags) go to `found`;
/// the first that does not is the error.
pub(crate) fn parse(source: SourceId, text: &str, found: &mut Vec<Diagnostic>) -> Result<Node, Box<Diagnostic>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        source,
        text,
        anchors: HashMap::new(),
        nodes: 0,
        found,
    };
    reader.document()
}

struct Reader<'t, P> {
    events: P,
    source: SourceId,
    text: &'t str,
    /// Finished anchors: the value, and how many nodes and levels it holds.
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    found: &'t mut Vec<Diagnostic>,
}

type Parsed<T> = Result<T, Box<Diagnostic>>;

impl<'t, P: Iterator<Item = Result<(Event<'t>, RawSpan), ScanError>>> Reader<'t, P> {
    fn next(&mut self) -> Parsed<(Event<'t>, RawSpan)> {
        match self.events.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(Box::new(syntax::explain(self.source, self.text, &error))),
            None => Ok((Event::StreamEnd, RawSpan::default())),
        }
    }

    fn document(&mut self) -> Parsed<Node> {
        let mut root = None;
        loop {
            let (event, raw) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Box::new(
                        Diagnostic::error(
                            "multiple-documents",
                            "a scenario file holds one YAML document, here a second one begins",
                        )
                        .at(self.span(&raw), "second document")
                        .help("put each document into its own file and use `include`"),
                    ));
                }
                Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => {
                    root = Some(self.value(event, raw, 0)?);
                }
                _ => {}
            }
        }
        match root {
            Some(root) if !root.is_null() => Ok(root),
            _ => Err(Box::new(
                Diagnostic::error("empty-file", "the file is empty")
                    .at(Span { source: self.source, start: 0, end: 0 }, "nothing but space and comments")
                    .help("a scenario begins with `soupscen: 1`"),
            )),
        }
    }

    fn value(&mut self, event: Event<'t>, raw: RawSpan, depth: usize) -> Parsed<Node> {
        let span = self.span(&raw);
        let before = self.nodes;
        self.count(1, span)?;
        too_deep(depth, span)?;
        let (node, anchor) = match event {
            Event::Scalar(content, style, anchor, tag) => {
                let quoted_by_tag = self.check_tag(tag.as_deref(), &raw);
                let plain = style == ScalarStyle::Plain && !quoted_by_tag;
                let offset = self.verbatim(span, &content);
                (Node { span, kind: Kind::Scalar(Scalar { text: content.into_owned(), plain, offset }) }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), &raw);
                (self.list(span, depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), &raw);
                (self.map(span, depth)?, anchor)
            }
            Event::Alias(id) => {
                let Some(&(_, size, levels)) = self.anchors.get(&id) else {
                    return Err(Box::new(
                        Diagnostic::error("recursive-alias", "the alias refers to a value that contains it")
                            .at(span, "inside its own anchor"),
                    ));
                };
                // Before the copy is made.
                self.count(size, span)?;
                too_deep(depth + levels, span)?;
                let mut node = self.anchors[&id].0.clone();
                // A problem of the aliased value itself is shown where it is used; inside it, where it is written.
                node.span = span;
                return Ok(node);
            }
            _ => {
                return Err(Box::new(
                    Diagnostic::error("syntax", "the YAML is not understood here").at(span, "unexpected"),
                ));
            }
        };
        if anchor != 0 {
            let size = self.nodes - before;
            // The copy that aliases are made of takes memory too.
            self.count(size, span)?;
            self.anchors.insert(anchor, (node.clone(), size, levels(&node)));
        }
        Ok(node)
    }

    fn list(&mut self, start: Span, depth: usize) -> Parsed<Node> {
        let mut items: Vec<Node> = Vec::new();
        loop {
            let (event, raw) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                let span = self.whole(start, &raw, items.last().map(|n| n.span));
                return Ok(Node { span, kind: Kind::List(items) });
            }
            items.push(self.value(event, raw, depth + 1)?);
        }
    }

    fn map(&mut self, start: Span, depth: usize) -> Parsed<Node> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut merged: Vec<Node> = Vec::new();
        let mut last = None;
        loop {
            let (event, raw) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                self.merge(&mut entries, &mut seen, merged);
                let span = self.whole(start, &raw, last);
                return Ok(Node { span, kind: Kind::Map(entries) });
            }
            let key = self.value(event, raw, depth + 1)?;
            let (event, raw) = self.next()?;
            let value = self.value(event, raw, depth + 1)?;
            last = Some(if value.span.end > key.span.end { value.span } else { key.span });
            let Kind::Scalar(Scalar { text, plain, .. }) = key.kind else {
                self.found.push(
                    Diagnostic::error("bad-key", format!("{} cannot be a key", key.noun())).at(key.span, "not a name"),
                );
                continue;
            };
            if plain && text == "<<" {
                merged.push(value);
            } else if let Some(first) = seen.get(&text) {
                self.found.push(
                    Diagnostic::error("duplicate-key", format!("`{}` is given twice in one map", short(&text)))
                        .at(key.span, "again here")
                        .at(*first, "first here")
                        .help("keep one of them; none overrides the other"),
                );
            } else {
                seen.insert(text.clone(), key.span);
                entries.push(Entry { key: text, span: key.span, value });
            }
        }
    }

    /// Merge keys (`<<: *base`): what the map has itself wins.
    fn merge(&mut self, entries: &mut Vec<Entry>, seen: &mut HashMap<String, Span>, merged: Vec<Node>) {
        for node in merged {
            let span = node.span;
            let maps = match node.kind {
                Kind::List(items) => items,
                _ => vec![node],
            };
            for map in maps {
                let Kind::Map(more) = map.kind else {
                    self.found.push(
                        Diagnostic::error("bad-merge", format!("`<<` merges maps, this is {}", map.noun()))
                            .at(span, "not a map"),
                    );
                    continue;
                };
                for entry in more {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(entry.key.clone(), entry.span);
                        entries.push(entry);
                    }
                }
            }
        }
    }

    /// Whether the tag makes a plain scalar text.
    fn check_tag(&mut self, tag: Option<&Tag>, raw: &RawSpan) -> bool {
        let Some(tag) = tag else { return false };
        match tag.core_suffix() {
            Some("str") => true,
            Some("int" | "float" | "bool" | "null" | "map" | "seq") => false,
            _ => {
                let span = raw.tag_span().map_or_else(|| self.span(raw), |s| self.span(&s));
                self.found.push(
                    Diagnostic::error(
                        "unknown-tag",
                        format!("the tag `{}` has no meaning here", short(&tag.original())),
                    )
                    .at(span, "not known")
                    .help("remove it"),
                );
                true
            }
        }
    }

    fn count(&mut self, more: usize, span: Span) -> Parsed<()> {
        self.nodes += more;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(Box::new(
            Diagnostic::error(
                "too-large",
                format!("the file has more than {MAX_NODES} values, those of anchors and aliases counted again"),
            )
            .at(span, "the limit is passed here")
            .help("aliases of aliases multiply; write less of them, or split the file"),
        ))
    }

    fn span(&self, raw: &RawSpan) -> Span {
        let range = raw.byte_range().unwrap_or(0..0);
        let start = range.start.min(self.text.len());
        let end = range.end.clamp(start, self.text.len());
        // A block scalar's or block collection's range runs on to the next token.
        let end = start + self.text.get(start..end).map_or(0, |s| s.trim_end().len());
        Span { source: self.source, start: small(start), end: small(end) }
    }

    /// From the start of a collection to its closing bracket, or to the end of its last value.
    fn whole(&self, start: Span, end: &RawSpan, last: Option<Span>) -> Span {
        let closing = self.span(end);
        let end = if closing.end > closing.start { Some(closing.end) } else { last.map(|s| s.end) };
        Span { end: end.unwrap_or(start.end).max(start.end), ..start }
    }

    fn verbatim(&self, span: Span, content: &str) -> Option<u32> {
        let raw = self.text.get(span.start as usize..span.end as usize)?;
        if raw == content {
            return Some(span.start);
        }
        let inner = raw.get(1..raw.len().checked_sub(1)?)?;
        (inner == content).then_some(span.start + 1)
    }
}

fn too_deep(depth: usize, span: Span) -> Parsed<()> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    let message = format!("maps and lists are nested more than {MAX_DEPTH} deep");
    Err(Box::new(Diagnostic::error("too-deep", message).at(span, "too deep")))
}

/// How many levels of maps and lists a value has below itself.
fn levels(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(_) => 0,
        Kind::List(items) => items.iter().map(|item| levels(item) + 1).max().unwrap_or(0),
        Kind::Map(entries) => entries.iter().map(|entry| levels(&entry.value) + 1).max().unwrap_or(0),
    }
}

fn small(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// A text of the file as quoted in a message.
pub(crate) fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}
