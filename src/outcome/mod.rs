//! What happened, what was expected, and what follows: observation × expectation → verdict.
//! Pure: no clock, no I/O. L2.

pub mod diagnose;
pub mod effective;
pub mod evidence;
mod matching;
pub mod records;
mod verdict;
mod words;

pub use matching::Mismatch;
pub use verdict::{Judgement, Verdict, Why, explain, judge, verdict};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where in a case's life something happened, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Building the peer.
    Build,
    /// Starting its process.
    Spawn,
    /// The go-plugin line, its arguments and environment.
    Handshake,
    /// TCP or unix connect.
    Connect,
    /// The TLS handshake.
    Tls,
    /// HTTP/2 and gRPC.
    Rpc,
    /// An assertion of the script.
    Check,
    /// Ending what was started.
    Teardown,
    /// The driver program broke its contract; never the fault of the pair under test.
    Driver,
}

/// How a cause is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// A peer's own text says so.
    Reported,
    /// Follows from offers, issued certificates, record lengths or close order.
    Deduced,
    /// Seen on the wire in plaintext, at our own end, by key log, or by the process.
    Observed,
}

/// Why a case ended as it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Stable dotted code, coarse to fine, e.g. `tls.rejected.server-cert.by-client`; rules match
    /// it by prefix of whole segments. Only as fine as what is known.
    pub code: String,
    /// How it is known.
    pub certainty: Certainty,
    /// One sentence for people: who did what, with the evidence in it.
    pub text: String,
}

/// What kind of end an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every op and check held.
    Passed,
    /// It came to a definite, wrong end.
    Failed,
    /// A deadline passed; the cause says what was being waited for.
    TimedOut,
    /// A process under test ended by itself when it should not have.
    Crashed,
    /// The peer says that it cannot do what was asked.
    RefusedByPeer,
    /// The harness could not get far enough to say anything about the pair.
    CouldNotRun,
}

/// A gRPC status as received; `code` is the canonical name (`NOT_FOUND`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrpcStatus {
    /// Canonical upper-case name.
    pub code: String,
    /// `grpc-message`, percent-decoded.
    pub text: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// `exit(n)`.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// The effective value of a requested fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effective {
    /// What was in force, by its axis value name.
    Value(String),
    /// Nothing in the evidence tells; never to be read as "as requested".
    NotObservable,
}

/// One requested fact held against what was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FactReading {
    /// Axis name: `key`, `tls`, `tls_version`, `group`, `transport`, `client_key`, `protocol`.
    pub fact: String,
    /// What the case asked for; `None` when it asked for nothing.
    pub requested: Option<String>,
    /// What was in force.
    pub effective: Effective,
    /// How that is known; `None` with `NotObservable`.
    pub certainty: Option<Certainty>,
    /// Where it was read, in a few words (`server hello`, `field 6`, `client's own end`).
    pub source: String,
    /// The axis says `effective: report` of this difference: it is shown, with this reason, but not red.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_only: Option<String>,
}

impl FactReading {
    /// Whether a requested value is known not to be in force.
    #[must_use]
    pub fn differs(&self) -> bool {
        match (&self.requested, &self.effective) {
            (Some(asked), Effective::Value(got)) => asked != got,
            _ => false,
        }
    }
}

/// One assertion that was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// Its id: the user's, or `get.value`-like from op and field.
    pub id: String,
    /// Whether it held.
    pub held: bool,
    /// When it did not: expected against actual, a few lines, bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// Where the assertion is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<crate::diag::Place>,
}

/// What happened in one attempt at a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// The kind of end.
    pub ending: Ending,
    /// The phase it came to, for anything but `passed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why, for anything but `passed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The status that decided it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<GrpcStatus>,
    /// The exit status that decided it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// The TLS alert number, where it was seen (RFC 8446 section 6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<u8>,
    /// The peers' own words for it, most telling first, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
    /// Requested against effective.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<FactReading>,
    /// Checks that were executed, in order; all that failed, and up to a bound of those that held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// How many checks were executed in all.
    pub checked: u32,
    /// Microseconds from admission to end, without key generation and builds.
    pub elapsed_us: u64,
}

/// What a rule says must match beside the phase. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// Prefix of the cause's code, in whole segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Any of these gRPC codes (canonical names).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<String>,
    /// Beginning of the id of a check that did not hold, in whole segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// A regular expression found in the cause's text, the status text or any of the texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// TLS alert number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<u8>,
    /// Exit of the process that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

/// What the rules expect of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Expected {
    /// No rule: it must pass.
    Passed,
    /// A known limitation.
    Failed {
        /// The rule's id.
        rule: String,
        /// Required phase.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Phase>,
        /// What else must match.
        #[serde(rename = "match", default)]
        matches: Match,
        /// `[failed, passed]`: passing is fine too.
        #[serde(default)]
        or_passed: bool,
    },
    /// It passes, but a fact is known not to be honoured.
    NotEffective {
        /// The rule's id.
        rule: String,
        /// The fact (axis) that is not honoured.
        fact: String,
    },
    /// Not executed unless probed: by rule, or derived from a missing capability.
    Unsupported {
        /// The rule's id, absent when derived from a capability.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// Why, as a sentence (`server python has no capability launch.direct`).
        reason: String,
    },
}
