//! From the YAML tree to typed values, one problem at a time and none of them final: a value that
//! cannot be read is reported and left out, and its neighbours are read all the same.

use std::time::Duration;

use serde_json::Value;

use super::json;
use super::schema::Shape;
use super::yaml::{Entry, Kind, Node, Scalar, short};
use crate::diag::{Diagnostic, Span, Spanned, suggestion};

/// Names of the gRPC status codes, in the order of their numbers.
pub(crate) const CODES: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// More diagnostics than this are counted, not kept.
const KEPT: usize = 500;
/// The longest duration that can be given, in hours.
const MAX_HOURS: u64 = 24;

/// Collects diagnostics, bounded.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    found: Vec<Diagnostic>,
    dropped: usize,
}

impl Sink {
    /// Keeps a diagnostic.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.found.len() < KEPT {
            self.found.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }

    /// Keeps many.
    pub(crate) fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        for diagnostic in diagnostics {
            self.push(diagnostic);
        }
    }

    /// An error at a place.
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        label: &str,
        help: &str,
    ) {
        let mut diagnostic = Diagnostic::error(code, message).at(span, label);
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        self.push(diagnostic);
    }

    /// A help text for an unknown word; nothing once no more diagnostics are kept, so that a file
    /// full of mistakes is answered in time.
    pub(crate) fn suggest<'a>(&self, word: &str, kind: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
        if self.found.len() < KEPT { suggestion(word, kind, candidates) } else { String::new() }
    }

    /// All of them by place, errors among them or not.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, bool) {
        let failed = self.dropped > 0 || self.found.iter().any(Diagnostic::is_error);
        self.found.sort_by_key(|d| d.span().map_or((0, 0), |s| (s.source.0, s.start)));
        self.found.dedup();
        if self.dropped > 0 {
            self.found.push(Diagnostic::error("too-many", format!("{} more problems are not listed", self.dropped)));
        }
        (self.found, failed)
    }

    /// How many there are so far, to see whether something went wrong in between.
    pub(crate) fn len(&self) -> usize {
        self.found.len() + self.dropped
    }

    fn wrong_type(&mut self, node: &Node, expected: &str, what: &str) {
        let message = format!("{what} must be {expected}, this is {}", node.noun());
        self.error("wrong-type", node.span, message, &format!("expected {expected}"), "");
    }

    /// A map with known keys; unknown ones are reported.
    pub(crate) fn fields<'n, S: Shape>(&mut self, node: &'n Node) -> Option<Fields<'n>> {
        self.fields_beside::<S>(node, &[])
    }

    /// A map with known keys and further ones that only the caller knows.
    pub(crate) fn fields_beside<'n, S: Shape>(&mut self, node: &'n Node, further: &[&str]) -> Option<Fields<'n>> {
        let Kind::Map(entries) = &node.kind else {
            self.wrong_type(node, "a map", S::WHAT);
            return None;
        };
        for entry in entries {
            if !S::KEYS.contains(&entry.key.as_str()) && !further.contains(&entry.key.as_str()) {
                let help = if S::KEYS.is_empty() {
                    "it has no keys: write `{}`".to_owned()
                } else {
                    self.suggest(&entry.key, "keys", S::KEYS.iter().chain(further).copied())
                };
                let message = format!("unknown key `{}` in {}", short(&entry.key), S::WHAT);
                self.error("unknown-key", entry.span, message, "not known here", &help);
            }
        }
        Some(Fields { entries, span: node.span, what: S::WHAT, known: S::KEYS })
    }

    /// A map whose keys are the user's names.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        if let Kind::Map(entries) = &node.kind {
            return Some(entries);
        }
        self.wrong_type(node, "a map", what);
        None
    }

    /// A list.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        if let Kind::List(items) = &node.kind {
            return Some(items);
        }
        self.wrong_type(node, "a list", what);
        None
    }

    /// A scalar but null; numbers and booleans count as they are written.
    pub(crate) fn scalar<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Scalar> {
        match &node.kind {
            Kind::Scalar(scalar) if !node.is_null() => Some(scalar),
            _ => {
                self.wrong_type(node, "text", what);
                None
            }
        }
    }

    /// Text that is not blank.
    pub(crate) fn text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let scalar = self.scalar(node, what)?;
        if scalar.text.trim().is_empty() {
            self.error("empty", node.span, format!("{what} is empty"), "nothing in it", "");
            return None;
        }
        Some(Spanned { value: scalar.text.clone(), span: node.span })
    }

    /// Text as it is, also the empty one.
    pub(crate) fn any_text(&mut self, node: &Node, what: &str) -> Option<String> {
        self.scalar(node, what).map(|s| s.text.clone())
    }

    /// A list of texts; with `one_or_more` also a single one.
    pub(crate) fn texts(&mut self, node: &Node, what: &str, one_or_more: bool) -> Option<Vec<Spanned<String>>> {
        if one_or_more && matches!(node.kind, Kind::Scalar(_)) {
            return self.text(node, what).map(|t| vec![t]);
        }
        let items = self.list(node, what)?;
        Some(items.iter().filter_map(|item| self.text(item, &format!("an entry of {what}"))).collect())
    }

    /// Arguments: a list of texts, of which later ones may be empty; the first is a program.
    pub(crate) fn command(&mut self, node: &Node, what: &str) -> Option<Vec<String>> {
        let items = self.list(node, what)?;
        let Some((program, arguments)) = items.split_first() else {
            self.error(
                "empty",
                node.span,
                format!("{what} is empty"),
                "no program",
                "name the program first, then its arguments",
            );
            return None;
        };
        let mut run = vec![self.text(program, &format!("the program of {what}"))?.value];
        run.extend(arguments.iter().filter_map(|a| self.any_text(a, &format!("an argument of {what}"))));
        Some(run)
    }

    /// One of a fixed set of words.
    pub(crate) fn word(&mut self, node: &Node, what: &str, known: &[&'static str]) -> Option<&'static str> {
        let scalar = self.scalar(node, what)?;
        if let Some(word) = known.iter().find(|word| **word == scalar.text) {
            return Some(word);
        }
        let message = format!("{what} cannot be `{}`", short(&scalar.text));
        self.error(
            "unknown-value",
            node.span,
            message,
            "not known",
            &self.suggest(&scalar.text, "values", known.iter().copied()),
        );
        None
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, node: &Node, what: &str, from: i64, to: i64) -> Option<i64> {
        let Value::Number(number) = json::value(node) else {
            self.wrong_type(node, "a number", what);
            return None;
        };
        if let Some(number) = number.as_i64().filter(|n| (from..=to).contains(n)) {
            return Some(number);
        }
        self.error(
            "out-of-range",
            node.span,
            format!("{what} must be a whole number from {from} to {to}"),
            "out of range",
            "",
        );
        None
    }

    /// A duration: `500ms`, `20s`, `1.5m`.
    pub(crate) fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let scalar = self.scalar(node, what)?;
        match duration(&scalar.text) {
            Ok(duration) => Some(duration),
            Err(help) => {
                let message = format!("`{}` is no duration for {what}", short(&scalar.text));
                self.error("bad-duration", node.span, message, "not a duration", &help);
                None
            }
        }
    }

    /// A gRPC status code, or a list of which any will do.
    pub(crate) fn codes(&mut self, node: &Node) -> Option<Vec<String>> {
        let names = self.texts(node, "`code`", true)?;
        if names.is_empty() {
            self.error("empty", node.span, "`code` is an empty list, which no status can match", "no codes", "");
        }
        let mut codes = Vec::new();
        for name in names {
            if CODES.contains(&name.value.as_str()) {
                codes.push(name.value);
            } else {
                let help = self.suggest(&name.value, "codes", CODES.iter().copied());
                let message = format!("unknown gRPC status code `{}`", short(&name.value));
                self.error("unknown-code", name.span, message, "not a code", &help);
            }
        }
        Some(codes)
    }

    /// A regular expression, compiled once to see that it can be.
    pub(crate) fn regex(&mut self, pattern: &str, span: Span) {
        if let Err(error) = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build() {
            self.bad_regex(&error, span);
        }
    }

    /// The same for one that is to be found in raw bytes.
    pub(crate) fn bytes_regex(&mut self, pattern: &str, span: Span) -> Option<regex::bytes::Regex> {
        match regex::bytes::RegexBuilder::new(pattern).size_limit(1 << 20).build() {
            Ok(regex) => Some(regex),
            Err(error) => {
                self.bad_regex(&error, span);
                None
            }
        }
    }

    fn bad_regex(&mut self, error: &regex::Error, span: Span) {
        let text = error.to_string();
        let cause = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        self.error("bad-regex", span, format!("the regular expression is not valid: {cause}"), "this one", "");
    }
}

/// A map with known keys.
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    /// The whole map.
    pub(crate) span: Span,
    /// What messages call it.
    pub(crate) what: &'static str,
    known: &'static [&'static str],
}

impl<'n> Fields<'n> {
    /// The entry of a key.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n Entry> {
        debug_assert!(self.known.contains(&key), "the key {key} is missing in the shape of {}", self.what);
        self.entries.iter().find(|e| e.key == key)
    }

    /// The value of a key that may be left out. A key without a value is reported.
    pub(crate) fn get(&self, sink: &mut Sink, key: &str) -> Option<&'n Node> {
        let entry = self.entry(key)?;
        if entry.value.is_null() {
            let message = format!("`{key}` in {} has no value", self.what);
            sink.error("no-value", entry.span, message, "nothing follows", "give it a value or remove the key");
            return None;
        }
        Some(&entry.value)
    }

    /// The value of a key that must be there.
    pub(crate) fn require(&self, sink: &mut Sink, key: &str, help: &str) -> Option<&'n Node> {
        if self.entry(key).is_none() {
            let message = format!("{} needs `{key}`", self.what);
            sink.error("missing-key", self.span, message, &format!("no `{key}` in it"), help);
        }
        self.get(sink, key)
    }

    /// A text that may be left out.
    pub(crate) fn text(&self, sink: &mut Sink, key: &str) -> Option<String> {
        let node = self.get(sink, key)?;
        sink.text(node, &format!("`{key}`")).map(|t| t.value)
    }
}

/// Reads a duration; the error says how to write it.
fn duration(text: &str) -> Result<Duration, String> {
    let hint = || "write a number with its unit: 500ms, 20s, 1.5m, 2h".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| {
        if text.is_empty() { hint() } else { format!("give it a unit: did you mean `{text}s` or `{text}ms`?") }
    })?;
    let (number, unit) = text.split_at(unit);
    let nanos: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return Err(hint()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
        return Err(hint());
    }
    let whole: u64 = whole.parse().map_err(|_| too_long())?;
    let scale = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or(6));
    let part = fraction.parse::<u64>().map_err(|_| hint())?;
    let total =
        whole.checked_mul(nanos).ok_or_else(too_long)?.checked_add(part * (nanos / scale)).ok_or_else(too_long)?;
    let duration = Duration::from_nanos(total);
    if duration.is_zero() {
        return Err("it must be longer than nothing".to_owned());
    }
    if duration > Duration::from_secs(MAX_HOURS * 3_600) { Err(too_long()) } else { Ok(duration) }
}

fn too_long() -> String {
    format!("the longest is {MAX_HOURS}h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("500ms", 500), ("20s", 20_000), ("1m", 60_000), ("1.5s", 1_500), ("0.25m", 15_000), ("24h", 86_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, help) in [
            ("20", "did you mean `20s`"),
            ("", "write a number"),
            ("s", "write a number"),
            ("1.s", "write a number"),
            (".5s", "write a number"),
            ("5 s", "write a number"),
            ("-5s", "write a number"),
            ("20sec", "write a number"),
            ("0s", "longer than nothing"),
            ("25h", "the longest is 24h"),
            ("99999999999999999999h", "the longest is 24h"),
            ("18446744073709551615s", "the longest is 24h"),
        ] {
            assert!(duration(text).unwrap_err().contains(help), "{text}: {:?}", duration(text));
        }
    }
}
