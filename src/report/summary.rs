//! What a run comes to, counted from its events in bounded memory. Read by every reporter and by
//! `cli` for the exit status. The dispatcher has counts of its own; these are for the reports.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::one_line;
use crate::event::{CaseRecord, RunEvent, RunHeader};
use crate::outcome::{Effective, Expected, Verdict};

/// So many red cases are named; the others are counted, and named in `results.json`.
const RED_NAMED: usize = 1000;
/// So many different reasons are counted apart.
const REASONS: usize = 200;
/// So many slow cases are named, the slowest.
const SLOW_NAMED: usize = 10;
/// Differences of a rule that are counted one by one.
const INSTEAD: usize = 32;
/// So many notes are kept.
const NOTES: usize = 200;
/// Where reasons beyond [`REASONS`] are counted.
const OTHER: &str = "other reasons";

/// The totals of a run. Built by [`Summary::event`]; a few hundred kilobytes at most, whatever the
/// number of cases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// The head, if the run came that far.
    #[serde(skip)]
    pub header: Option<RunHeader>,
    /// Cases that were selected.
    pub selected: u64,
    /// Cases that came to a verdict.
    pub finished: u64,
    /// Cases with at least one attempt.
    pub executed: u64,
    /// Cases by verdict, without zeros.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Limitations that were met, by rule.
    pub limitations: BTreeMap<String, Met>,
    /// What was asked and what was in force instead in known cases, by rule: at most
    /// 32 differences of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instead: BTreeMap<String, BTreeMap<String, u64>>,
    /// Unsupported cases that no rule names, by reason.
    pub unsupported: BTreeMap<String, u64>,
    /// Cases that were left out, by reason.
    pub not_run: BTreeMap<String, u64>,
    /// Red cases, the first thousand.
    pub red: Vec<RedCase>,
    /// Cases that were slower than `timeouts.slow`.
    pub slow: u64,
    /// The slowest of them, slowest first.
    pub slowest: Vec<SlowCase>,
    /// Cases that held on a retry and are not red (`flaky: allow`, `[failed, passed]`).
    pub retried: u64,
    /// Cases that failed on an instance that others used, and were run once more on a fresh one.
    pub rerun_fresh: u64,
    /// Passed cases in which a requested fact was not in force, but only reported (`effective: report`), by fact.
    pub only_reported: BTreeMap<String, u64>,
    /// Passed cases in which a requested fact could not be observed, by fact.
    pub not_observable: BTreeMap<String, u64>,
    /// Peers that could not be had, with the reason.
    pub missing_peers: BTreeMap<String, String>,
    /// Notes, the first two hundred.
    pub notes: Vec<String>,
    /// It was stopped, or its journal has no end.
    pub interrupted: bool,
    /// Milliseconds from start to end.
    pub elapsed_ms: u64,
}

/// How often a limitation was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Met {
    /// Cases that failed, or passed without a fact, as the rule says.
    pub known: u64,
    /// Cases that were not executed because of it.
    pub unsupported: u64,
    /// Cases that passed where the rule allows it (`[failed, passed]`).
    pub passed: u64,
}

/// A red case by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedCase {
    /// Its verdict.
    pub verdict: Verdict,
    /// Readable label.
    pub id: String,
    /// Stable key.
    pub key: String,
    /// Why, in one line.
    pub why: String,
    /// The rule that it is about, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// A slow case by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlowCase {
    /// Readable label.
    pub id: String,
    /// Microseconds of all attempts.
    pub elapsed_us: u64,
}

/// What a process ends with (architecture, "Outcome × expectation → verdict").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: nothing red.
    Green,
    /// 1: a red verdict that is about a pair.
    Red,
    /// 2: the input cannot be used; never from a summary.
    InvalidInput,
    /// 3: the only red ones are errored, or a report could not be written.
    Errored,
    /// 4: nothing was selected, or nothing executed.
    Nothing,
    /// 130: it was stopped.
    Interrupted,
}

impl ExitStatus {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Green => 0,
            Self::Red => 1,
            Self::InvalidInput => 2,
            Self::Errored => 3,
            Self::Nothing => 4,
            Self::Interrupted => 130,
        }
    }

    /// The same when something beside the cases failed: a report or the journal could not be
    /// written. Green becomes `Errored`, what is worse stays.
    #[must_use]
    pub const fn with_trouble(self, trouble: bool) -> Self {
        match self {
            Self::Green if trouble => Self::Errored,
            other => other,
        }
    }
}

impl Summary {
    /// Counts an event.
    pub fn event(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RunStarted(header) => {
                self.selected = header.cases;
                self.interrupted = true;
                self.header = Some(header.clone());
            }
            RunEvent::CaseFinished(record) => self.case(record),
            RunEvent::PeerMissing { peer, reason, .. } => {
                self.missing_peers.insert(peer.clone(), reason.clone());
            }
            RunEvent::Note { text, place } => {
                let at = place.as_ref().map(|p| format!("{}:{}:{}: ", p.file, p.line, p.column)).unwrap_or_default();
                let note = format!("{at}{text}");
                if self.notes.len() < NOTES && !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            }
            RunEvent::RunFinished { interrupted, elapsed_ms } => {
                self.interrupted = *interrupted;
                self.elapsed_ms = *elapsed_ms;
            }
            RunEvent::BuildStarted { .. }
            | RunEvent::BuildOutput { .. }
            | RunEvent::BuildFinished { .. }
            | RunEvent::PeerVersions { .. }
            | RunEvent::CaseStarted { .. } => {}
        }
    }

    /// How many cases have this verdict.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.verdicts.get(&verdict).copied().unwrap_or(0)
    }

    /// How many are red.
    #[must_use]
    pub fn red_count(&self) -> u64 {
        self.verdicts.iter().filter(|(verdict, _)| verdict.is_red()).map(|(_, n)| n).sum()
    }

    /// What the process ends with. `nothing_is_fine`: an empty shard, or nothing failed before.
    #[must_use]
    pub fn exit_status(&self, nothing_is_fine: bool) -> ExitStatus {
        if self.interrupted {
            return ExitStatus::Interrupted;
        }
        if self.executed == 0 {
            let fine = self.selected == 0 && self.finished == 0 && nothing_is_fine;
            return if fine { ExitStatus::Green } else { ExitStatus::Nothing };
        }
        match (self.red_count(), self.of(Verdict::Errored)) {
            (0, _) => ExitStatus::Green,
            (red, errored) if red == errored => ExitStatus::Errored,
            _ => ExitStatus::Red,
        }
    }

    fn case(&mut self, record: &CaseRecord) {
        let judged = record.judge();
        self.finished += 1;
        self.executed += u64::from(!record.attempts.is_empty());
        *self.verdicts.entry(judged.verdict).or_default() += 1;
        self.rerun_fresh += u64::from(record.attempts.iter().rev().skip(1).any(|attempt| attempt.on_shared));
        match judged.verdict {
            Verdict::NotRun => tally(&mut self.not_run, record.not_run.as_deref().unwrap_or("no reason was given")),
            Verdict::Unsupported => match (&record.expected, rule_of(&record.expected)) {
                (Expected::Unsupported { .. }, Some(rule)) => self.met(rule).unsupported += 1,
                (Expected::Unsupported { reason, .. }, None) => tally(&mut self.unsupported, reason),
                _ => tally(&mut self.unsupported, &judged.why.to_string()),
            },
            Verdict::Known => {
                if let Some(rule) = rule_of(&record.expected) {
                    self.met(rule).known += 1;
                }
                if let Expected::NotEffective { rule, fact } = &record.expected {
                    let facts = judged.deciding.iter().flat_map(|seen| &seen.facts);
                    for fact in facts.filter(|seen| seen.fact == *fact && seen.differs()) {
                        if let (Some(asked), Effective::Value(got)) = (&fact.requested, &fact.effective) {
                            let instead = self.instead.entry(rule.clone()).or_default();
                            let text = format!("{} {asked}, got {got}", fact.fact);
                            if instead.len() < INSTEAD || instead.contains_key(&text) {
                                tally(instead, &text);
                            }
                        }
                    }
                }
            }
            Verdict::Passed => {
                if let Some(rule) = rule_of(&record.expected) {
                    self.met(rule).passed += 1;
                }
                self.retried += u64::from(record.counted().count() > 1);
                for fact in judged.deciding.iter().flat_map(|seen| &seen.facts).filter(|f| f.requested.is_some()) {
                    if let (Some(asked), Effective::Value(got), Some(why)) =
                        (&fact.requested, &fact.effective, fact.report_only.as_ref().filter(|_| fact.differs()))
                    {
                        tally(&mut self.only_reported, &format!("{}: asked for {asked}, got {got}: {why}", fact.fact));
                    } else if fact.effective == Effective::NotObservable {
                        tally(&mut self.not_observable, &fact.fact);
                    }
                }
            }
            _ => self.name_red(record, judged.verdict),
        }
        self.note_slow(record);
    }

    fn met(&mut self, rule: &str) -> &mut Met {
        if !self.limitations.contains_key(rule) {
            self.limitations.insert(rule.to_owned(), Met::default());
        }
        self.limitations.entry(rule.to_owned()).or_default()
    }

    fn name_red(&mut self, record: &CaseRecord, verdict: Verdict) {
        if self.red.len() >= RED_NAMED {
            return;
        }
        self.red.push(RedCase {
            verdict,
            id: one_line(&record.id, 300),
            key: record.key.clone(),
            why: one_line(&reason(record), 300),
            rule: rule_of(&record.expected).map(str::to_owned),
        });
    }

    fn note_slow(&mut self, record: &CaseRecord) {
        let threshold = self.header.as_ref().map_or(0, |header| header.slow_ms.saturating_mul(1000));
        let elapsed_us = record.elapsed_us();
        if threshold == 0 || elapsed_us <= threshold {
            return;
        }
        self.slow += 1;
        let at = self.slowest.partition_point(|other| other.elapsed_us >= elapsed_us);
        if at < SLOW_NAMED {
            self.slowest.insert(at, SlowCase { id: one_line(&record.id, 300), elapsed_us });
            self.slowest.truncate(SLOW_NAMED);
        }
    }
}

fn tally(counts: &mut BTreeMap<String, u64>, reason: &str) {
    if let Some(n) = counts.get_mut(reason) {
        *n += 1;
    } else {
        let reason = if counts.len() < REASONS { one_line(reason, 500) } else { OTHER.to_owned() };
        *counts.entry(reason).or_default() += 1;
    }
}

/// The rule that an expectation comes from.
pub(super) fn rule_of(expected: &Expected) -> Option<&str> {
    match expected {
        Expected::Passed => None,
        Expected::Failed { rule, .. } | Expected::NotEffective { rule, .. } => Some(rule),
        Expected::Unsupported { rule, .. } => rule.as_deref(),
    }
}

/// Why a case has its verdict, in one sentence: the reason of the judgement, or the cause.
pub(super) fn reason(record: &CaseRecord) -> String {
    let judged = record.judge();
    let why = judged.why.to_string();
    if !why.is_empty() {
        return why;
    }
    if let Some(reason) = &record.not_run {
        return reason.clone();
    }
    match judged.deciding.map(|seen| (seen.phase, seen.cause.as_ref())) {
        Some((Some(phase), Some(cause))) => format!("in {phase}: {} ({})", cause.text, cause.code),
        Some((None, Some(cause))) => format!("{} ({})", cause.text, cause.code),
        Some((Some(phase), None)) => format!("in {phase}, for an unknown cause"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples::{self, attempt, case, done, every_verdict, pass, rejected};
    use crate::outcome::Ending;
    use crate::outcome::Observation;

    fn of(events: &[RunEvent]) -> Summary {
        let mut summary = Summary::default();
        for event in events {
            summary.event(event);
        }
        summary
    }

    fn run(cases: Vec<CaseRecord>) -> Summary {
        let mut events = vec![samples::started()];
        events.extend(cases.into_iter().map(done));
        events.push(samples::finished());
        of(&events)
    }

    fn ending(ending: Ending) -> CaseRecord {
        case("a", Expected::Passed, vec![attempt(Observation { ending, ..rejected() })])
    }
    fn passing() -> CaseRecord {
        case("p", Expected::Passed, vec![attempt(pass())])
    }
    fn left_out() -> CaseRecord {
        case("n", Expected::Passed, Vec::new())
    }

    #[test]
    fn one_of_each_is_counted_and_the_red_ones_are_named() {
        let summary = of(&every_verdict());
        assert!(Verdict::ALL.iter().all(|verdict| summary.of(*verdict) == 1));
        assert_eq!((summary.finished, summary.executed, summary.red_count()), (10, 8, 6));
        assert_eq!(summary.limitations["grpcio-p521"], Met { known: 1, unsupported: 0, passed: 0 });
        assert_eq!(summary.red.len(), 6);
        assert_eq!(summary.slowest.len(), 1);
        assert_eq!(summary.exit_status(false), ExitStatus::Red);
    }

    #[test]
    fn exit_statuses() {
        let status = |cases| run(cases).exit_status(false).code();
        assert_eq!(status(vec![passing(), left_out()]), 0);
        assert_eq!(status(vec![passing(), ending(Ending::Failed), ending(Ending::CouldNotRun)]), 1);
        assert_eq!(status(vec![passing(), ending(Ending::CouldNotRun)]), 3);
        assert_eq!(status(vec![ending(Ending::CouldNotRun)]), 3);
        assert_eq!(status(vec![left_out()]), 4);
        assert_eq!(status(Vec::new()), 4);
        let empty = of(&[RunEvent::RunStarted(RunHeader { cases: 0, ..samples::header() }), samples::finished()]);
        assert_eq!((empty.exit_status(true).code(), empty.exit_status(false).code()), (0, 4));
        assert_eq!(of(&[samples::started(), done(ending(Ending::Failed))]).exit_status(false).code(), 130);
        // Stopped, by a signal or because it stood still: whatever the verdicts are.
        let stopped = RunEvent::RunFinished { interrupted: true, elapsed_ms: 1 };
        let stopped = [samples::started(), done(ending(Ending::CouldNotRun)), stopped];
        assert_eq!(of(&stopped).exit_status(false).with_trouble(true).code(), 130);
        assert_eq!(ExitStatus::Green.with_trouble(true).code(), 3);
        assert_eq!(ExitStatus::Red.with_trouble(true).code(), 1);
    }

    #[test]
    fn a_failure_on_a_shared_instance_is_counted_and_not_blamed() {
        let mut record = passing();
        record.attempts.insert(0, crate::event::Attempt { on_shared: true, ..attempt(rejected()) });
        let summary = run(vec![record]);
        assert_eq!((summary.of(Verdict::Passed), summary.rerun_fresh, summary.retried), (1, 1, 0));
    }

    #[test]
    fn a_summary_stays_small() {
        let mut summary = of(&[samples::started()]);
        for i in 0..5_000 {
            let mut record = ending(Ending::Failed);
            record.id = format!("{i}{}", "x".repeat(10_000));
            summary.event(&done(record));
            let mut record = left_out();
            record.not_run = Some(format!("reason {i}"));
            summary.event(&done(record));
            summary.event(&RunEvent::Note { text: format!("note {i}"), place: None });
        }
        let size = serde_json::to_vec(&summary).unwrap().len();
        assert!(size < 200 * 10_000, "{size} bytes for 10,000 cases");
        assert_eq!(summary.not_run.values().sum::<u64>(), 5_000);
        assert_eq!(summary.of(Verdict::Failed), 5_000);
    }
}
