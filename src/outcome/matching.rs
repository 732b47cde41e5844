//! Whether a failure is the one that a rule describes. Pure. L2. Read by `verdict`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, RwLock};

use regex::{Regex, RegexBuilder};

use super::{Exit, Match, Observation, Phase};

/// A compiled pattern may not be larger than this many bytes.
const PATTERN_BYTES: usize = 1 << 20;
/// So many compiled patterns are kept; a scenario has one per rule at most.
const PATTERNS_KEPT: usize = 1024;

/// One way in which a failure is not the one that a rule describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// It failed elsewhere.
    Phase {
        /// What the rule says.
        expected: Phase,
        /// Where it failed.
        seen: Option<Phase>,
    },
    /// For another cause.
    Cause {
        /// The rule's prefix.
        expected: &'a str,
        /// The cause's code.
        seen: Option<&'a str>,
    },
    /// With another gRPC status.
    Code {
        /// Any of these.
        expected: &'a [String],
        /// The status code.
        seen: Option<&'a str>,
    },
    /// This check held, or was not executed.
    Check {
        /// The rule's prefix.
        expected: &'a str,
        /// The first that did not hold.
        seen: Option<&'a str>,
    },
    /// The pattern is in none of the texts.
    Text {
        /// The pattern.
        pattern: &'a str,
    },
    /// The pattern cannot be compiled; a checked scenario has none like it.
    Pattern {
        /// The pattern.
        pattern: &'a str,
    },
    /// Another alert, or none seen.
    Alert {
        /// The rule's.
        expected: u8,
        /// The one seen.
        seen: Option<u8>,
    },
    /// Another exit, or none.
    Exit {
        /// The rule's.
        expected: Exit,
        /// The one seen.
        seen: Option<Exit>,
    },
}

/// Everything in which `seen` differs from what a rule says; empty when the rule describes it.
pub(super) fn mismatches<'a>(at: Option<Phase>, rule: &'a Match, seen: &'a Observation) -> Vec<Mismatch<'a>> {
    let mut wrong = Vec::new();
    if let Some(expected) = at
        && seen.phase != Some(expected)
    {
        wrong.push(Mismatch::Phase { expected, seen: seen.phase });
    }
    let cause = seen.cause.as_ref().map(|c| c.code.as_str());
    if let Some(expected) = rule.cause.as_deref()
        && !cause.is_some_and(|code| is_prefix(expected, code))
    {
        wrong.push(Mismatch::Cause { expected, seen: cause });
    }
    let code = seen.status.as_ref().map(|s| s.code.as_str());
    if !rule.code.is_empty() && !code.is_some_and(|code| rule.code.iter().any(|c| c == code)) {
        wrong.push(Mismatch::Code { expected: &rule.code, seen: code });
    }
    if let Some(expected) = rule.check.as_deref() {
        let mut failed = seen.checks.iter().filter(|check| !check.held).map(|check| check.id.as_str());
        if !failed.clone().any(|id| is_prefix(expected, id)) {
            wrong.push(Mismatch::Check { expected, seen: failed.next() });
        }
    }
    if let Some(pattern) = rule.text.as_deref() {
        match compiled(pattern) {
            None => wrong.push(Mismatch::Pattern { pattern }),
            Some(regex) if !texts(seen).any(|text| regex.is_match(text)) => wrong.push(Mismatch::Text { pattern }),
            Some(_) => {}
        }
    }
    if let Some(expected) = rule.alert
        && seen.alert != Some(expected)
    {
        wrong.push(Mismatch::Alert { expected, seen: seen.alert });
    }
    if let Some(expected) = rule.exit
        && seen.exit != Some(expected)
    {
        wrong.push(Mismatch::Exit { expected, seen: seen.exit });
    }
    wrong
}

/// Every text in which a rule's `text` is searched.
fn texts(seen: &Observation) -> impl Iterator<Item = &str> {
    let cause = seen.cause.iter().map(|c| c.text.as_str());
    let status = seen.status.iter().map(|s| s.text.as_str());
    cause.chain(status).chain(seen.texts.iter().map(String::as_str))
}

/// Whether `prefix` is `code` or its beginning in whole segments: `tls.rejected` of
/// `tls.rejected.server-cert`, not of `tls.rejected-late`.
fn is_prefix(prefix: &str, code: &str) -> bool {
    let prefix = prefix.strip_suffix('.').unwrap_or(prefix);
    code.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The compiled pattern, from a store that all threads share; `None` for one that cannot be compiled.
fn compiled(pattern: &str) -> Option<Regex> {
    static STORE: LazyLock<RwLock<HashMap<String, Option<Regex>>>> = LazyLock::new(RwLock::default);
    if let Some(known) = STORE.read().ok().and_then(|store| store.get(pattern).cloned()) {
        return known;
    }
    let regex = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build().ok();
    if let Ok(mut store) = STORE.write() {
        if store.len() >= PATTERNS_KEPT {
            store.clear();
        }
        store.insert(pattern.to_owned(), regex.clone());
    }
    regex
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase { expected, seen: Some(seen) } => write!(f, "expected phase {expected}, failed in {seen}"),
            Self::Phase { expected, seen: None } => write!(f, "expected phase {expected}, but the phase is not known"),
            Self::Cause { expected, seen: Some(seen) } => write!(f, "expected cause {expected}, got {seen}"),
            Self::Cause { expected, seen: None } => write!(f, "expected cause {expected}, but the cause is not known"),
            Self::Code { expected, seen } => {
                write!(f, "expected status {}, got {}", expected.join(" or "), seen.unwrap_or("none"))
            }
            Self::Check { expected, seen: Some(seen) } => write!(f, "expected check {expected} to fail, {seen} did"),
            Self::Check { expected, seen: None } => write!(f, "expected check {expected} to fail, none did"),
            Self::Text { pattern } => write!(f, "no text of the failure matches `{pattern}`"),
            Self::Pattern { pattern } => write!(f, "`{pattern}` is not a usable regular expression"),
            Self::Alert { expected, seen: Some(seen) } => write!(f, "expected alert {expected}, got {seen}"),
            Self::Alert { expected, seen: None } => write!(f, "expected alert {expected}, but none was seen"),
            Self::Exit { expected, seen: Some(seen) } => write!(f, "expected {expected}, got {seen}"),
            Self::Exit { expected, seen: None } => write!(f, "expected {expected}, but no process ended by itself"),
        }
    }
}
