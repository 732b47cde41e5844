//! Serialisable run events: the journal's lines and the only thing that reporters see. L2.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diag::Place;
use crate::outcome::{CheckResult, Expected, GrpcStatus, Judgement, Observation, Verdict, evidence::Evidence, judge};

/// Version of the journal and of `results.json`.
pub const FORMAT: u32 = 1;

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RunEvent {
    /// First line.
    RunStarted(RunHeader),
    /// A peer is being built.
    BuildStarted {
        /// Whose build.
        peer: String,
        /// The command, as shown to people.
        command: String,
    },
    /// A line of a build's output, for progress only; never in the journal.
    BuildOutput {
        /// Whose build.
        peer: String,
        /// Last line.
        line: String,
    },
    /// A build came to its end.
    BuildFinished {
        /// Whose build.
        peer: String,
        /// Nothing had to be done.
        cached: bool,
        /// Why it failed, with the tool's last lines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Milliseconds.
        elapsed_ms: u64,
    },
    /// A peer was probed.
    PeerVersions {
        /// Which peer.
        peer: String,
        /// Component → version; the peer's own is `self`.
        versions: BTreeMap<String, String>,
    },
    /// A peer cannot be used in this run.
    PeerMissing {
        /// Which peer.
        peer: String,
        /// Why, naming the command and how to get it.
        reason: String,
        /// Its cases are `not-run` instead of `errored`.
        left_out: bool,
    },
    /// A case was admitted. Never in the journal's way: reporters use it for progress.
    CaseStarted {
        /// Position in the plan.
        index: u64,
        /// Readable label.
        id: String,
    },
    /// A case came to its end.
    CaseFinished(Box<CaseRecord>),
    /// Something that people should know, red or not (a rule that matched nothing, a cleaned-up orphan).
    Note {
        /// A sentence.
        text: String,
        /// Where, when it is about the input.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
    /// Last line of a run that came to its end, interrupted or not.
    RunFinished {
        /// It was stopped: by Ctrl-C or SIGTERM, or because it stood still.
        interrupted: bool,
        /// Milliseconds.
        elapsed_ms: u64,
    },
}

/// The head of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunHeader {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of soupscen.
    pub version: String,
    /// The run's name, also its folder's (`2026-11-21T10-11-12-ab12`).
    pub run: String,
    /// Names of the scenarios.
    pub scenarios: Vec<String>,
    /// The scenario files, as given on the command line.
    pub files: Vec<String>,
    /// Digest of the plan; `--resume` refuses another one.
    pub plan_digest: String,
    /// How many cases are selected.
    pub cases: u64,
    /// Milliseconds since the epoch.
    pub started_unix_ms: u64,
    /// In-flight limit.
    pub jobs: u32,
    /// The selection as given (`--filter …`), empty when none.
    pub selection: Vec<String>,
    /// What else the command line changes of the cases (`--set …`, `--attach …`,
    /// `--probe-unsupported`), empty when nothing.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub changes: Box<[String]>,
    /// Process arguments that reproduce the run, without the case selection.
    pub argv: Box<[String]>,
    /// Rules by id, as far as they are limitations.
    pub rules: BTreeMap<String, RuleInfo>,
    /// Labels of the scenario.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A case longer than this many milliseconds is called slow (`timeouts.slow`); 0 means never.
    #[serde(default)]
    pub slow_ms: u64,
}

/// What reports say of a limitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleInfo {
    /// Why it is known.
    pub reason: String,
    /// Link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
    /// What users can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advise: Option<String>,
    /// `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_by: Option<String>,
    /// Where it is written.
    pub place: Place,
}

/// Everything that is known of one finished case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseRecord {
    /// Position in the plan.
    pub index: u64,
    /// Stable key.
    pub key: String,
    /// Readable label.
    pub id: String,
    /// Scenario name.
    pub scenario: String,
    /// Script name.
    pub script: String,
    /// Axis → value name, without those that do not apply.
    pub axes: BTreeMap<String, String>,
    /// What was expected.
    pub expected: Expected,
    /// Passing on a retry is not red (`retry.flaky: allow`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flaky_allowed: bool,
    /// Attempts, oldest first; empty when it was not executed.
    pub attempts: Vec<Attempt>,
    /// Why it was not executed, when it was not and no expectation says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_run: Option<String>,
    /// Milliseconds since the run's start, at admission.
    pub started_ms: u64,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// What happened.
    pub observation: Observation,
    /// It failed on an instance that other cases used too and was run again on a fresh one: it is
    /// kept, but the case is not blamed for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_shared: bool,
    /// Evidence; only for attempts that did not pass or whose facts differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Box<Evidence>>,
    /// Op transcript; only for attempts that did not pass (all with `--evidence all`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<OpRecord>,
    /// Commands and environment to start the peers by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<PeerCommand>,
    /// Output of the peers during the attempt, bounded, marked when shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<PeerOutput>,
    /// Folder with more evidence, relative to the run's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// One executed op.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpRecord {
    /// `put`, `call Create`.
    pub op: String,
    /// Message sent, as JSON, bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<serde_json::Value>,
    /// Message received, as JSON, bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<serde_json::Value>,
    /// Status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<GrpcStatus>,
    /// Checks of this op that did not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_checks: Vec<CheckResult>,
    /// Microseconds.
    pub elapsed_us: u64,
}

/// How a peer was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerCommand {
    /// `client go`, `server rust`.
    pub role: String,
    /// The command line, quoted for a POSIX shell, or `built in`.
    pub command: String,
}

/// Output of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerOutput {
    /// `client go`, `server rust`.
    pub role: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Text, lossy, bounded.
    pub text: String,
    /// The process served other cases at the same time.
    #[serde(default)]
    pub shared: bool,
}

impl CaseRecord {
    /// The verdict, derived.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.judge().verdict
    }
    /// The attempts that count: all but those on a shared instance that were run again.
    pub fn counted(&self) -> impl Iterator<Item = &Attempt> {
        let last = self.attempts.len().saturating_sub(1);
        self.attempts.iter().enumerate().filter(move |(i, a)| *i == last || !a.on_shared).map(|(_, a)| a)
    }
    /// The verdict with its reason, derived.
    #[must_use]
    pub fn judge(&self) -> Judgement<'_> {
        judge(&self.expected, self.counted().map(|a| &a.observation), self.flaky_allowed)
    }
    /// Microseconds of all attempts together.
    #[must_use]
    pub fn elapsed_us(&self) -> u64 {
        self.attempts.iter().map(|a| a.observation.elapsed_us).sum()
    }
    /// The attempt that decided: the last one.
    #[must_use]
    pub fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
}
