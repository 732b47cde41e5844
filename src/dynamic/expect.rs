//! What a script expects, held against what came.
//!
//! | written | holds when |
//! |---|---|
//! | a scalar | the value is equal; numbers by value (`1` is `1.0`), text never equals a number |
//! | a map | every field named in it holds; fields that it does not name are not looked at |
//! | a list | it is as long, and every element holds |
//! | `null` | the field is absent or null |
//! | `{$any: true}` | there is a value |
//! | `{$any: [a, b]}` | one of them holds |
//! | `{$regex: "…"}` | the text (or number) contains a match |
//! | `{$subset: […]}` | every element is found somewhere in the list |
//! | `{$subset: {…}}` | as a map; where the value is a text, the text is read as JSON |
//! | `{$exact: {…}}` | as a map, and there is no other field, down to the bottom |
//! | `{$base64: "…"}` | the bytes are equal |
//! | `{$bytes: {size: 5MiB, seed: 1}}` | the bytes are those that are made so |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::diff::{Diff, Differences};
use crate::scenario::made::Made;

/// Deeper values are not compared: no message is that deep (protobuf's own limit is 100).
const MAX_DEPTH: usize = 128;
/// Bytes of a compiled pattern.
const MAX_PATTERN: usize = 1 << 20;

/// Compares; the error is what differs.
///
/// # Errors
/// When the expectation does not hold, or is malformed (a pattern that is none).
pub fn compare(expected: &Value, actual: &Value) -> Result<(), Diff> {
    let mut out = Differences::default();
    Walk { out: &mut out, exact: false, depth: 0 }.value("", expected, Some(actual));
    out.finish()
}

/// Bytes as a value: text where they are UTF-8, `{"$base64": "…"}` otherwise.
#[must_use]
pub fn value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => serde_json::json!({ "$base64": STANDARD.encode(bytes) }),
    }
}

/// The bytes that a value stands for: those of a text, of `{"$base64": "…"}` or of
/// `{"$bytes": …}`; `None` otherwise.
#[must_use]
pub fn bytes(value: &Value) -> Option<Bytes> {
    match value {
        Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Value::Object(fields) => match directive(fields)? {
            ("$base64", Value::String(text)) => STANDARD.decode(text).ok().map(Bytes::from),
            ("$bytes", made) => Made::parse(made).ok().map(|made| Bytes::from(made.bytes())),
            _ => None,
        },
        _ => None,
    }
}

/// The only key of a map, if it begins with `$`.
fn directive(fields: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut entries = fields.iter();
    match (entries.next(), entries.next()) {
        (Some((key, value)), None) if key.starts_with('$') => Some((key, value)),
        _ => None,
    }
}

struct Walk<'a> {
    out: &'a mut Differences,
    exact: bool,
    depth: usize,
}

impl Walk<'_> {
    fn value(&mut self, path: &str, expected: &Value, actual: Option<&Value>) {
        if self.depth > MAX_DEPTH {
            return self.out.say(path, "is deeper than values are compared");
        }
        if let Value::Object(fields) = expected
            && let Some((name, argument)) = directive(fields)
        {
            return self.directive(path, name, argument, expected, actual);
        }
        if expected.is_null() {
            if actual.is_some_and(|a| !a.is_null()) {
                self.out.differ(path, expected, actual);
            }
            return;
        }
        let Some(actual) = actual else { return self.out.differ(path, expected, None) };
        match (expected, actual) {
            (Value::Object(wanted), Value::Object(got)) => self.map(path, wanted, got),
            (Value::Array(wanted), Value::Array(got)) => self.list(path, wanted, got),
            (Value::Number(a), Value::Number(b)) if same_number(a, b) => {}
            (a, b) if a == b => {}
            _ => self.out.differ(path, expected, Some(actual)),
        }
    }

    fn map(&mut self, path: &str, wanted: &Map<String, Value>, got: &Map<String, Value>) {
        self.depth += 1;
        for (name, expected) in wanted {
            self.value(&join(path, name), expected, got.get(name));
        }
        if self.exact {
            for (name, actual) in got.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
                // A field at its default is as good as absent: the wire does not tell them apart.
                if !is_default(actual) {
                    self.out.unexpected(&join(path, name), actual);
                }
            }
        }
        self.depth -= 1;
    }

    fn list(&mut self, path: &str, wanted: &[Value], got: &[Value]) {
        self.depth += 1;
        if wanted.len() != got.len() {
            self.out.say(path, &format!("expected {} elements, actual {}", wanted.len(), got.len()));
        }
        for (i, (expected, actual)) in wanted.iter().zip(got).enumerate() {
            self.value(&format!("{path}[{i}]"), expected, Some(actual));
        }
        for (i, expected) in wanted.iter().enumerate().skip(got.len()) {
            self.out.differ(&format!("{path}[{i}]"), expected, None);
        }
        for (i, actual) in got.iter().enumerate().skip(wanted.len()) {
            self.out.unexpected(&format!("{path}[{i}]"), actual);
        }
        self.depth -= 1;
    }

    fn directive(&mut self, path: &str, name: &str, argument: &Value, expected: &Value, actual: Option<&Value>) {
        match name {
            "$any" => self.any(path, argument, actual),
            "$regex" => self.regex(path, argument, actual),
            "$subset" => self.subset(path, argument, actual),
            "$exact" => {
                let before = std::mem::replace(&mut self.exact, true);
                self.depth += 1;
                self.value(path, argument, actual);
                self.depth -= 1;
                self.exact = before;
            }
            "$base64" => match (bytes(expected), actual.map(bytes)) {
                (None, _) => self.out.say(path, "the expectation's `$base64` is no padded standard base64"),
                (Some(wanted), Some(Some(got))) if wanted == got => {}
                _ => self.out.differ(path, expected, actual),
            },
            "$bytes" => match (Made::parse(argument), actual.map(bytes)) {
                (Err(why), _) => self.out.say(path, &why),
                (Ok(wanted), Some(Some(got))) if wanted.bytes() == got => {}
                (Ok(_), Some(Some(got))) => {
                    let text = format!("expected the bytes of {expected}\n  actual {} other bytes", got.len());
                    self.out.say(path, &text);
                }
                _ => self.out.differ(path, expected, actual),
            },
            // A map whose only field happens to begin with `$`, or a directive nobody knows: data.
            _ => match (expected, actual) {
                (Value::Object(wanted), Some(Value::Object(got))) => self.map(path, wanted, got),
                _ => self.out.differ(path, expected, actual),
            },
        }
    }

    fn any(&mut self, path: &str, argument: &Value, actual: Option<&Value>) {
        let Value::Array(choices) = argument else {
            if actual.is_none_or(Value::is_null) {
                self.out.say(path, "expected any value, actual nothing");
            }
            return;
        };
        if !choices.iter().any(|choice| self.holds(choice, actual)) {
            self.out.none_of(path, choices, actual);
        }
    }

    fn regex(&mut self, path: &str, argument: &Value, actual: Option<&Value>) {
        let pattern = argument.as_str().unwrap_or_default();
        let compiled = match regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN).build() {
            Ok(compiled) if argument.is_string() => compiled,
            Ok(_) => return self.out.say(path, "the expectation's `$regex` is no text"),
            Err(_) => return self.out.say(path, &format!("the expectation's `$regex` is no pattern: {pattern}")),
        };
        let text = match actual {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(n)) => Some(n.to_string()),
            Some(Value::Bool(b)) => Some(b.to_string()),
            _ => None,
        };
        if !text.is_some_and(|text| compiled.is_match(&text)) {
            self.out.no_match(path, pattern, actual);
        }
    }

    fn subset(&mut self, path: &str, argument: &Value, actual: Option<&Value>) {
        let parsed = match (argument, actual) {
            (Value::Object(_) | Value::Array(_), Some(Value::String(text))) => {
                match serde_json::from_str::<Value>(text) {
                    Ok(parsed) => Some(parsed),
                    Err(_) => return self.out.differ(path, argument, actual),
                }
            }
            _ => None,
        };
        let actual = parsed.as_ref().or(actual);
        let before = std::mem::replace(&mut self.exact, false);
        self.depth += 1;
        match (argument, actual) {
            (Value::Array(wanted), Some(Value::Array(got))) => {
                for expected in wanted {
                    if !got.iter().any(|one| self.holds(expected, Some(one))) {
                        self.out.not_found(path, expected, got.len());
                    }
                }
            }
            _ => self.value(path, argument, actual),
        }
        self.depth -= 1;
        self.exact = before;
    }

    fn holds(&self, expected: &Value, actual: Option<&Value>) -> bool {
        let mut out = Differences::default();
        Walk { out: &mut out, exact: self.exact, depth: self.depth + 1 }.value("", expected, actual);
        out.finish().is_ok()
    }
}

fn join(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && !name.contains(['.', '[', ']', '"']);
    match (path.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[\"{name}\"]"),
    }
}

fn same_number(a: &serde_json::Number, b: &serde_json::Number) -> bool {
    a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64()
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(v) => !v,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(v) => v.is_empty(),
        Value::Array(v) => v.is_empty(),
        Value::Object(v) => v.is_empty(),
    }
}
