//! From evidence to phase and cause: one pure function with a table of tests.
use super::{Cause, Ending, Exit, GrpcStatus, Phase, evidence::Evidence};

/// What the evidence of a failure says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// `Failed`, `TimedOut`, `Crashed` or `CouldNotRun`.
    pub ending: Ending,
    /// Where it failed.
    pub phase: Phase,
    /// Why.
    pub cause: Cause,
    /// The deciding status.
    pub status: Option<GrpcStatus>,
    /// The deciding exit.
    pub exit: Option<Exit>,
    /// The deciding alert.
    pub alert: Option<u8>,
    /// Peers' words, most telling first.
    pub texts: Vec<String>,
}
/// Names phase and cause of a failed attempt.
#[must_use]
pub fn diagnose(_evidence: &Evidence) -> Diagnosis { unimplemented!() }
