//! Differences as a few lines that people can read, bounded whatever was compared.

use std::fmt::Write as _;

use serde_json::Value;

use super::expect;

/// Differences shown; more are counted.
const MAX_SHOWN: usize = 8;
/// Characters of a value on a line.
const MAX_SHOWN_VALUE: usize = 160;
/// Characters around the first difference of two long values.
const AROUND: usize = 24;

/// What does not hold, a few lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    lines: Vec<String>,
    more: usize,
}

impl std::fmt::Display for Diff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines.join("\n"))?;
        if self.more > 0 { write!(f, "\n… and {} more", self.more) } else { Ok(()) }
    }
}

impl std::error::Error for Diff {}

/// Collects differences.
#[derive(Debug, Default)]
pub(super) struct Differences {
    lines: Vec<String>,
    more: usize,
}

impl Differences {
    pub(super) fn finish(self) -> Result<(), Diff> {
        if self.lines.is_empty() { Ok(()) } else { Err(Diff { lines: self.lines, more: self.more }) }
    }

    /// A difference in words.
    pub(super) fn say(&mut self, path: &str, text: &str) {
        if self.lines.len() < MAX_SHOWN {
            self.lines.push(if path.is_empty() { text.to_owned() } else { format!("{path}: {text}") });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn differ(&mut self, path: &str, expected: &Value, actual: Option<&Value>) {
        if self.lines.len() >= MAX_SHOWN {
            self.more += 1;
            return;
        }
        let text = match actual.and_then(|a| long(expected, a)) {
            Some(text) => text,
            None => format!("expected {}\n  actual {}", show(expected), actual.map_or_else(|| "nothing".into(), show)),
        };
        self.say(path, &text);
    }

    pub(super) fn unexpected(&mut self, path: &str, actual: &Value) {
        self.say(path, &format!("expected nothing\n  actual {}", show(actual)));
    }

    pub(super) fn none_of(&mut self, path: &str, choices: &[Value], actual: Option<&Value>) {
        let list: Vec<String> = choices.iter().take(MAX_SHOWN).map(show).collect();
        let actual = actual.map_or_else(|| "nothing".into(), show);
        self.say(path, &format!("expected one of {}\n  actual {actual}", list.join(", ")));
    }

    pub(super) fn no_match(&mut self, path: &str, pattern: &str, actual: Option<&Value>) {
        let actual = actual.map_or_else(|| "nothing".into(), show);
        self.say(path, &format!("expected a match of /{}/\n  actual {actual}", cut(pattern)));
    }

    pub(super) fn not_found(&mut self, path: &str, expected: &Value, among: usize) {
        self.say(path, &format!("expected an element {}\n  actual {among} elements, none of them", show(expected)));
    }
}

/// Two texts or byte strings of which one is long: lengths, and where they part.
fn long(expected: &Value, actual: &Value) -> Option<String> {
    let (a, b) = (expect::bytes(expected)?, expect::bytes(actual)?);
    if a.len().max(b.len()) <= MAX_SHOWN_VALUE {
        return None;
    }
    let at = a.iter().zip(b.iter()).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
    Some(format!(
        "expected {} bytes, actual {} bytes; the first difference is at byte {at}\n  expected {}\n  actual {}",
        a.len(),
        b.len(),
        around(&a, at),
        around(&b, at)
    ))
}

fn around(bytes: &[u8], at: usize) -> String {
    let (from, to) = (at.saturating_sub(AROUND).min(bytes.len()), (at + AROUND).min(bytes.len()));
    let part = &bytes[from..to];
    let text = match expect::value(bytes) {
        Value::String(_) => format!("{:?}", String::from_utf8_lossy(part)),
        _ => hex::encode(part),
    };
    format!("{}{text}{}", if from > 0 { "…" } else { "" }, if to < bytes.len() { "…" } else { "" })
}

fn show(value: &Value) -> String {
    binary(value).unwrap_or_else(|| cut(&value.to_string()))
}

/// Bytes that are no text, in hex.
fn binary(value: &Value) -> Option<String> {
    let bytes = expect::bytes(value).filter(|_| value.is_object())?;
    let shown = &bytes[..bytes.len().min(AROUND)];
    let dots = if shown.len() < bytes.len() { "…" } else { "" };
    Some(format!("{} bytes {}{dots}", bytes.len(), hex::encode(shown)))
}

fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_SHOWN_VALUE).collect();
    if out.len() < text.len() {
        let _ = write!(out, "… ({} bytes)", text.len());
    }
    out
}
