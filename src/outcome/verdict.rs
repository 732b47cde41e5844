//! The one function from observations and expectation to a verdict, and why it is so. Pure. L2.
//!
//! Reads `Expected` and `Observation`; read by `event` (a record derives its verdict), `exec`
//! (fail-fast, retries) and `report`. Its whole table is in `verdict_tests.rs`, in words in
//! `docs/verdicts.md`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matching::{Mismatch, mismatches};
use super::{Effective, Ending, Expected, FactReading, Observation, Phase};

/// The engine's word on a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It held.
    Passed,
    /// It failed as a rule says it does.
    Known,
    /// A capability or rule says that it cannot be asked.
    Unsupported,
    /// It was left out: missing peer allowed, cancelled, fail-fast.
    NotRun,
    /// It should have held and did not.
    Failed,
    /// A rule says that it fails, and it did not.
    UnexpectedPass,
    /// A rule says that it fails, and it failed in another way.
    WrongFailure,
    /// It held, but not with what was asked for.
    NotEffective,
    /// It held only on a retry.
    Flaky,
    /// Nothing can be said about the pair: the harness failed.
    Errored,
}

impl Verdict {
    /// Every verdict, green ones first, in the order in which reports count them.
    pub const ALL: [Self; 10] = [
        Self::Passed,
        Self::Known,
        Self::Unsupported,
        Self::NotRun,
        Self::Failed,
        Self::UnexpectedPass,
        Self::WrongFailure,
        Self::NotEffective,
        Self::Flaky,
        Self::Errored,
    ];

    /// Whether this verdict turns a run red.
    #[must_use]
    pub const fn is_red(self) -> bool {
        !matches!(self, Self::Passed | Self::Known | Self::Unsupported | Self::NotRun)
    }

    /// Its name in reports, the journal and `results.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Known => "known",
            Self::Unsupported => "unsupported",
            Self::NotRun => "not-run",
            Self::Failed => "failed",
            Self::UnexpectedPass => "unexpected-pass",
            Self::WrongFailure => "wrong-failure",
            Self::NotEffective => "not-effective",
            Self::Flaky => "flaky",
            Self::Errored => "errored",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A verdict with the attempt that it rests on and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The observation that decided it, normally the last; `None` when nothing was executed.
    pub deciding: Option<&'a Observation>,
    /// Why, beyond what the observation itself says.
    pub why: Why<'a>,
}

/// Why a verdict is what it is; `Display` gives a sentence, empty for [`Why::Plain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why<'a> {
    /// The observation speaks for itself.
    Plain,
    /// It ended as this rule says.
    Rule(&'a str),
    /// A missing capability or a rule says that it cannot be asked.
    CannotBeAsked {
        /// The reason given.
        reason: &'a str,
        /// It was probed, and this is how the probe ended.
        probed: Option<Ending>,
    },
    /// The peer itself says that it cannot.
    Refused,
    /// It passed without a single check: nothing is known.
    CheckedNothing,
    /// A rule expects a failure and there was none.
    PassedDespite(&'a str),
    /// A rule expects that a fact is not honoured, and that was not seen.
    FactHonoured {
        /// The rule.
        rule: &'a str,
        /// The fact that it names.
        fact: &'a str,
        /// What was read of it, if anything.
        reading: Option<&'a FactReading>,
    },
    /// Declared unsupported, probed, and it works.
    WorksAfterAll(&'a str),
    /// A rule expects a failure, but another one.
    Wrong {
        /// The rule.
        rule: &'a str,
        /// Every way in which the failure is not the rule's; never empty.
        mismatches: Vec<Mismatch<'a>>,
    },
    /// A rule expects a pass without a fact, and it failed.
    WrongFailed {
        /// The rule.
        rule: &'a str,
        /// The fact that it names.
        fact: &'a str,
        /// Where it failed.
        phase: Option<Phase>,
    },
    /// These requested facts were not in force.
    Differ(Vec<&'a FactReading>),
    /// It held only on this attempt (1-based), not on the ones before it.
    OnlyOnRetry {
        /// The attempt that held.
        attempt: usize,
        /// The last observation before it that did not.
        before: &'a Observation,
    },
}

/// The verdict of a case from its attempts, oldest first. No attempt means it was not executed.
#[must_use]
pub fn verdict<'a>(
    expected: &'a Expected,
    attempts: impl IntoIterator<Item = &'a Observation>,
    flaky_allowed: bool,
) -> Verdict {
    judge(expected, attempts, flaky_allowed).verdict
}

/// Why the verdict is what it is, as one sentence for people; empty where the observation says it all.
#[must_use]
pub fn explain<'a>(
    expected: &'a Expected,
    attempts: impl IntoIterator<Item = &'a Observation>,
    flaky_allowed: bool,
) -> String {
    judge(expected, attempts, flaky_allowed).why.to_string()
}

/// The verdict of a case with its reason.
///
/// The last attempt decides. Earlier ones matter in one way only: one that ended badly takes the
/// certainty from a later one that held (`flaky`). Attempts that could not run, or that the peer
/// refused, say nothing about the pair and make nothing flaky.
#[must_use]
pub fn judge<'a>(
    expected: &'a Expected,
    attempts: impl IntoIterator<Item = &'a Observation>,
    flaky_allowed: bool,
) -> Judgement<'a> {
    let mut count = 0;
    let mut last: Option<&Observation> = None;
    let mut before: Vec<&Observation> = Vec::new();
    for attempt in attempts {
        if let Some(previous) = last
            && previous.ending.is_bad()
        {
            before.push(previous);
        }
        // A refusal after a failure must not hide the failure.
        let hides = attempt.ending == Ending::RefusedByPeer && last.is_some_and(|previous| previous.ending.is_bad());
        if !hides {
            last = Some(attempt);
        }
        count += 1;
    }
    let Some(last) = last else { return not_executed(expected) };
    let (verdict, why) = judge_one(expected, last);
    // A pass is blemished by any failure before it, an expected failure only by another kind of failure.
    let blemish = before.into_iter().rev().find(|seen| {
        !std::ptr::eq(*seen, last) && (last.ending == Ending::Passed || as_expected(expected, seen).is_err())
    });
    let (verdict, why) = match blemish {
        Some(before) => {
            settle_retry(expected, verdict, why, flaky_allowed, Why::OnlyOnRetry { attempt: count, before })
        }
        None => (verdict, why),
    };
    Judgement { verdict, deciding: Some(last), why }
}

fn not_executed(expected: &Expected) -> Judgement<'_> {
    let (verdict, why) = match expected {
        Expected::Unsupported { reason, .. } => (Verdict::Unsupported, Why::CannotBeAsked { reason, probed: None }),
        Expected::Passed | Expected::Failed { .. } | Expected::NotEffective { .. } => (Verdict::NotRun, Why::Plain),
    };
    Judgement { verdict, deciding: None, why }
}

/// Whether a bad ending is what the rules expect; otherwise in which ways it is not.
fn as_expected<'a>(expected: &'a Expected, seen: &'a Observation) -> Result<(), Vec<Mismatch<'a>>> {
    match expected {
        Expected::Failed { at, matches, .. } => {
            let wrong = mismatches(*at, matches, seen);
            if wrong.is_empty() { Ok(()) } else { Err(wrong) }
        }
        Expected::Unsupported { .. } => Ok(()),
        Expected::Passed | Expected::NotEffective { .. } => Err(Vec::new()),
    }
}

/// The verdict of one attempt by itself.
fn judge_one<'a>(expected: &'a Expected, seen: &'a Observation) -> (Verdict, Why<'a>) {
    match seen.ending {
        Ending::CouldNotRun => (Verdict::Errored, Why::Plain),
        Ending::RefusedByPeer => (Verdict::Unsupported, Why::Refused),
        Ending::Passed if seen.checked == 0 => (Verdict::Errored, Why::CheckedNothing),
        Ending::Passed => judge_pass(expected, seen),
        Ending::Failed | Ending::TimedOut | Ending::Crashed => judge_failure(expected, seen),
    }
}

fn judge_pass<'a>(expected: &'a Expected, seen: &'a Observation) -> (Verdict, Why<'a>) {
    let red = |f: &&FactReading| f.differs() && f.report_only.is_none();
    let differing: Vec<&FactReading> = seen.facts.iter().filter(red).collect();
    match expected {
        // A probe that passes without what was asked for confirms that it cannot be asked.
        Expected::Unsupported { reason, .. } if !differing.is_empty() => {
            (Verdict::Unsupported, Why::CannotBeAsked { reason, probed: Some(Ending::Passed) })
        }
        Expected::Unsupported { reason, .. } => (Verdict::UnexpectedPass, Why::WorksAfterAll(reason)),
        Expected::NotEffective { rule, fact } => {
            // `tls` is about `other.tls` too: a further connection is between the same two peers.
            let own = |f: &FactReading| f.fact.rsplit('.').next() == Some(fact.as_str());
            let others: Vec<&FactReading> = differing.into_iter().filter(|f| !own(f)).collect();
            let reading = seen.facts.iter().find(|f| f.fact == *fact);
            if !others.is_empty() {
                (Verdict::NotEffective, Why::Differ(others))
            } else if reading.is_some_and(FactReading::differs) {
                (Verdict::Known, Why::Rule(rule))
            } else {
                (Verdict::UnexpectedPass, Why::FactHonoured { rule, fact, reading })
            }
        }
        _ if !differing.is_empty() => (Verdict::NotEffective, Why::Differ(differing)),
        Expected::Failed { rule, or_passed: false, .. } => (Verdict::UnexpectedPass, Why::PassedDespite(rule)),
        Expected::Passed | Expected::Failed { .. } => (Verdict::Passed, Why::Plain),
    }
}

fn judge_failure<'a>(expected: &'a Expected, seen: &'a Observation) -> (Verdict, Why<'a>) {
    match expected {
        Expected::Passed => (Verdict::Failed, Why::Plain),
        Expected::Failed { rule, .. } => match as_expected(expected, seen) {
            Ok(()) => (Verdict::Known, Why::Rule(rule)),
            Err(mismatches) => (Verdict::WrongFailure, Why::Wrong { rule, mismatches }),
        },
        Expected::NotEffective { rule, fact } => {
            (Verdict::WrongFailure, Why::WrongFailed { rule, fact, phase: seen.phase })
        }
        Expected::Unsupported { reason, .. } => {
            (Verdict::Unsupported, Why::CannotBeAsked { reason, probed: Some(seen.ending) })
        }
    }
}

/// What becomes of the last attempt's verdict when an attempt before it ended badly.
fn settle_retry<'a>(
    expected: &Expected,
    verdict: Verdict,
    why: Why<'a>,
    flaky_allowed: bool,
    retry: Why<'a>,
) -> (Verdict, Why<'a>) {
    match (expected, verdict) {
        // `[failed, passed]` says that the outcome changes from time to time.
        (Expected::Failed { or_passed: true, .. }, Verdict::Passed | Verdict::Known) => (verdict, why),
        (_, Verdict::Passed | Verdict::Known) if flaky_allowed => (verdict, retry),
        // The last: a limitation that holds sometimes, neither gone nor stable, whatever `flaky` allows.
        (_, Verdict::Passed | Verdict::Known) | (Expected::Failed { .. }, Verdict::UnexpectedPass) => {
            (Verdict::Flaky, retry)
        }
        _ => (verdict, why),
    }
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => Ok(()),
            Self::Rule(rule) => write!(f, "as the rule `{rule}` says"),
            Self::CannotBeAsked { reason, probed: None } => f.write_str(reason),
            Self::CannotBeAsked { reason, probed: Some(Ending::Passed) } => {
                write!(f, "{reason}; probed: it passed, but without what was asked for")
            }
            Self::CannotBeAsked { reason, probed: Some(ending) } => write!(f, "{reason}; probed: it {}", ending.verb()),
            Self::Refused => f.write_str("the peer says that it cannot do what was asked"),
            Self::CheckedNothing => f.write_str("it came to its end without executing a single check"),
            Self::PassedDespite(rule) => write!(f, "the rule `{rule}` expects a failure, and it passed"),
            Self::FactHonoured { rule, fact, reading } => {
                write!(f, "the rule `{rule}` expects that {fact} is not effective, ")?;
                match reading {
                    Some(FactReading { effective: Effective::NotObservable, .. }) => {
                        f.write_str("but its effective value could not be observed")
                    }
                    Some(FactReading { requested: Some(asked), .. }) => {
                        write!(f, "and {fact} was {asked} as asked for")
                    }
                    _ => write!(f, "but this case asks for no {fact}"),
                }
            }
            Self::WorksAfterAll(reason) => write!(f, "declared unsupported ({reason}), but it works"),
            Self::Wrong { rule, mismatches } => {
                write!(f, "the rule `{rule}` does not describe this failure: ")?;
                for (i, mismatch) in mismatches.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    write!(f, "{separator}{mismatch}")?;
                }
                Ok(())
            }
            Self::WrongFailed { rule, fact, phase } => {
                write!(f, "the rule `{rule}` expects it to pass without an effective {fact}, and it failed")?;
                phase.map_or(Ok(()), |phase| write!(f, " in {phase}"))
            }
            Self::Differ(facts) => {
                for (i, fact) in facts.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    let asked = fact.requested.as_deref().unwrap_or("nothing");
                    match &fact.effective {
                        Effective::Value(got) => write!(f, "{separator}asked for {} {asked}, got {got}", fact.fact)?,
                        Effective::NotObservable => write!(f, "{separator}{} could not be observed", fact.fact)?,
                    }
                }
                Ok(())
            }
            Self::OnlyOnRetry { attempt, before } => {
                write!(f, "it held on attempt {attempt} only; before, it {}", before.ending.verb())?;
                before.phase.map_or(Ok(()), |phase| write!(f, " in {phase}"))?;
                before.cause.as_ref().map_or(Ok(()), |cause| write!(f, " ({})", cause.code))
            }
        }
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
