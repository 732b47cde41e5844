//! What a script's run left behind: checks, records of ops, what was being waited for. Bounded,
//! however often something is repeated.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::OpRecord;
use crate::outcome::evidence::RanOut;
use crate::outcome::{CheckResult, GrpcStatus};

/// Checks that held, kept one by one in an observation; beyond it they are only counted.
const HELD_KEPT: usize = 32;
/// Records of ops that are kept from the beginning.
const FIRST_OPS: usize = 64;
/// Records of ops that are kept from the end.
const LAST_OPS: usize = 64;
/// JSON of a message in an op record, in bytes; larger ones are replaced by size and digest.
const RECORD_LIMIT: usize = 4 << 10;
/// Levels of a message in an op record; what is deeper is replaced as well. A reader of JSON follows
/// 128, some of which the record itself takes.
const RECORD_DEPTH: usize = 48;

/// What a script's run left behind.
#[derive(Default)]
pub(super) struct Transcript {
    pub(super) checks: Vec<CheckResult>,
    pub(super) checked: u32,
    pub(super) ops: Vec<OpRecord>,
    /// The status of the last call that failed a check or ended the script.
    pub(super) status: Option<GrpcStatus>,
    /// What is being executed, for timeouts.
    pub(super) current: String,
    /// The budget that ran out, if one did.
    pub(super) ran_out: Option<RanOut>,
    /// Branches that run at the moment, or were cut off.
    pub(super) branches: Vec<Transcript>,
}

impl Transcript {
    /// Notes whether a check held.
    pub(super) fn check(&mut self, id: String, held: Result<(), String>, place: impl FnOnce() -> crate::diag::Place) {
        self.checked = self.checked.saturating_add(1);
        match held {
            Ok(()) => self.keep(CheckResult { id, held: true, diff: None, place: None }),
            Err(diff) => self.keep(CheckResult { id, held: false, diff: Some(diff), place: Some(place()) }),
        }
    }

    fn keep(&mut self, check: CheckResult) {
        if !check.held || self.checks.len() < HELD_KEPT {
            self.checks.push(check);
        }
    }

    /// Notes what an op did.
    pub(super) fn record(&mut self, record: OpRecord) {
        if self.ops.len() >= FIRST_OPS + LAST_OPS {
            self.ops.remove(FIRST_OPS);
        }
        self.ops.push(record);
    }

    /// Takes over what branches did, in their order.
    pub(super) fn fold(&mut self) {
        for mut branch in std::mem::take(&mut self.branches) {
            branch.fold();
            self.checked = self.checked.saturating_add(branch.checked);
            branch.checks.into_iter().for_each(|check| self.keep(check));
            branch.ops.into_iter().for_each(|record| self.record(record));
            self.status = self.status.take().or(branch.status);
            self.ran_out = self.ran_out.take().or(branch.ran_out);
        }
    }

    /// What is being waited for.
    pub(super) fn waiting(&self) -> String {
        let branches: Vec<String> = self.branches.iter().map(Self::waiting).filter(|text| !text.is_empty()).collect();
        match branches.as_slice() {
            [] => self.current.clone(),
            [some @ .., last] if some.len() < 3 => some.iter().chain([last]).cloned().collect::<Vec<_>>().join(", "),
            [first, rest @ ..] => format!("{first} and {} other branches", rest.len()),
        }
    }
}

/// A message as records keep it.
pub(super) fn bounded(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= RECORD_LIMIT { shallow(value, RECORD_DEPTH) } else { left_out(&text) }
}

/// A value without what is more than so many levels deep.
fn shallow(value: &Value, levels: usize) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => left_out(&value.to_string()),
        Value::Array(items) => items.iter().map(|item| shallow(item, levels - 1)).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), shallow(value, levels - 1))).collect())
        }
        other => other.clone(),
    }
}

fn left_out(text: &str) -> Value {
    Value::String(format!("({} bytes of JSON with the digest {:016x}, left out)", text.len(), xxh3_64(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(op: &str) -> OpRecord {
        OpRecord { op: op.into(), sent: None, received: None, status: None, failed_checks: Vec::new(), elapsed_us: 0 }
    }

    #[test]
    fn repetition_does_not_grow_it_and_what_failed_is_kept() {
        let mut transcript = Transcript::default();
        for n in 0..10_000 {
            transcript.record(record(&n.to_string()));
            transcript.check(format!("{n}"), Ok(()), || unreachable!());
        }
        let place = crate::diag::Place { file: "a.yaml".into(), line: 1, column: 1 };
        transcript.check("bad".into(), Err("differs".into()), || place);
        assert_eq!(transcript.checked, 10_001);
        assert_eq!(transcript.checks.len(), HELD_KEPT + 1);
        assert_eq!(transcript.ops.len(), FIRST_OPS + LAST_OPS);
        assert_eq!((transcript.ops[0].op.as_str(), transcript.ops.last().unwrap().op.as_str()), ("0", "9999"));
    }

    #[test]
    fn branches_come_in_their_order() {
        let mut transcript = Transcript::default();
        for name in ["a", "b"] {
            let mut branch = Transcript { current: name.into(), ..Transcript::default() };
            branch.check(name.into(), Ok(()), || unreachable!());
            transcript.branches.push(branch);
        }
        assert_eq!(transcript.waiting(), "a, b");
        transcript.fold();
        let ids: Vec<&str> = transcript.checks.iter().map(|check| check.id.as_str()).collect();
        assert_eq!((ids, transcript.checked), (vec!["a", "b"], 2));
    }

    #[test]
    fn large_messages_are_told_by_size_and_digest() {
        let large = |c: &str| bounded(&Value::String(c.repeat(RECORD_LIMIT)));
        assert!(large("a").as_str().is_some_and(|text| text.contains("4098 bytes") && text.len() < 80));
        assert_ne!(large("a"), large("b"));
    }

    #[test]
    fn deep_messages_can_be_read_again() {
        let nest = |levels: usize| (0..levels).fold(Value::from("x"), |inner, _| serde_json::json!({ "n": [inner] }));
        let read = |value: &Value| serde_json::from_str::<Value>(&value.to_string());
        assert!(read(&nest(90)).is_err(), "it would make the journal unreadable");
        let text = read(&bounded(&nest(90))).unwrap().to_string();
        assert!(text.contains("bytes of JSON with the digest"), "{text}");
        assert_eq!(bounded(&nest(20)), nest(20));
    }
}
