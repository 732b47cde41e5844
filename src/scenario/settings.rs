//! What a scenario says about itself: name, labels, vars, budgets, retries.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::decode::{Fields, Sink};
use super::model::{MissingPeers, Retry, Timeouts};
use super::yaml::Entry;
use super::{json, schema};
use crate::outcome::Ending;
use std::time::Duration;

/// `labels`.
pub(super) fn labels(sink: &mut Sink, fields: &Fields<'_>) -> BTreeMap<String, String> {
    let Some(node) = fields.get(sink, "labels") else { return BTreeMap::new() };
    let entries = sink.entries(node, "`labels`").unwrap_or_default();
    entries.iter().filter_map(|e| Some((e.key.clone(), sink.any_text(&e.value, "a label")?))).collect()
}

/// `vars` of all files; the first mention counts, so that a scenario can override what it includes.
pub(super) fn vars<'n>(entries: impl Iterator<Item = &'n Entry>) -> Map<String, Value> {
    let mut vars = Map::new();
    for entry in entries {
        vars.entry(entry.key.clone()).or_insert_with(|| json::value(&entry.value));
    }
    vars
}

/// `timeouts`.
pub(super) fn timeouts(sink: &mut Sink, fields: &Fields<'_>) -> Timeouts {
    let mut timeouts = Timeouts {
        case: Duration::from_secs(20),
        start: Duration::from_secs(10),
        op: Duration::from_secs(3),
        grace: Duration::from_secs(2),
        slow: Duration::from_secs(5),
    };
    let Some(given) = fields.get(sink, "timeouts").and_then(|node| sink.fields::<schema::Timeouts>(node)) else {
        return timeouts;
    };
    for (key, field) in [
        ("case", &mut timeouts.case),
        ("start", &mut timeouts.start),
        ("op", &mut timeouts.op),
        ("grace", &mut timeouts.grace),
        ("slow", &mut timeouts.slow),
    ] {
        let node = given.get(sink, key);
        if let Some(duration) = node.and_then(|node| sink.duration(node, &format!("`{key}`"))) {
            *field = duration;
        }
    }
    timeouts
}

/// `retry`.
pub(super) fn retry(sink: &mut Sink, fields: &Fields<'_>) -> Retry {
    let all = vec![Ending::Failed, Ending::TimedOut, Ending::Crashed];
    let mut retry = Retry { attempts: 1, only: all, flaky_allowed: false };
    let Some(given) = fields.get(sink, "retry").and_then(|node| sink.fields::<schema::Retry>(node)) else {
        return retry;
    };
    if let Some(attempts) = given.get(sink, "attempts").and_then(|node| sink.number(node, "`attempts`", 1, 100)) {
        retry.attempts = u32::try_from(attempts).unwrap_or(1);
    }
    if let Some(node) = given.get(sink, "only") {
        retry.only.clear();
        for item in sink.list(node, "`only`").unwrap_or_default() {
            let ending = match sink.word(item, "an entry of `only`", &["failed", "timed-out", "crashed"]) {
                Some("failed") => Ending::Failed,
                Some("timed-out") => Ending::TimedOut,
                Some("crashed") => Ending::Crashed,
                _ => continue,
            };
            if !retry.only.contains(&ending) {
                retry.only.push(ending);
            }
        }
    }
    if let Some(node) = given.get(sink, "flaky") {
        retry.flaky_allowed = sink.word(node, "`flaky`", &["allow", "fail"]) == Some("allow");
    }
    retry
}

/// `missing_peers`.
pub(super) fn missing_peers(sink: &mut Sink, fields: &Fields<'_>) -> MissingPeers {
    let node = fields.get(sink, "missing_peers");
    match node.and_then(|node| sink.word(node, "`missing_peers`", &["error", "leave-out"])) {
        Some("leave-out") => MissingPeers::LeaveOut,
        _ => MissingPeers::Error,
    }
}
