//! What an op gave: a message, a status, a failure; and how a script stops for it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::ground::Now;
use super::lane::{LAST_WORD, StartFailure};
use crate::dynamic::{self, expect};
use crate::outcome::diagnose::Diagnosis;
use crate::outcome::evidence::Reported;
use crate::outcome::{Cause, Certainty, GrpcStatus, Phase};
use crate::peer::{CallResult, Connection, PeerError};

/// Failing branches that are named one by one.
const BRANCHES_NAMED: usize = 4;

/// Why a script stopped before its end.
pub(super) enum Stop {
    /// A check did not hold: the first one, as a sentence.
    Check(String),
    /// A call failed: what the client said.
    Failed(Box<Failure>),
    /// The script could not be executed as written (a template failed, a message does not fit).
    Script(String),
    /// A failure was certain before the client said anything.
    Certain(Box<Diagnosis>),
    /// The server is down, and it is the script that ended it.
    Down(String),
    /// A server or a connection that the script asks for cannot be had.
    NoLane(Box<StartFailure>),
}

/// A failed call.
pub(super) struct Failure {
    pub(super) reported: Reported,
    /// A deadline passed.
    pub(super) timed_out: bool,
    /// The harness failed.
    pub(super) harness: bool,
    /// The peer says that it cannot.
    pub(super) refused: bool,
    /// The status came from the server, so the connection works.
    pub(super) remote: bool,
    /// The step, where the ids of the script's own steps do not tell.
    pub(super) step: Option<String>,
}

/// What an op gave, for checks and captures.
#[derive(Default)]
pub(super) struct Outcome {
    /// `value`: what the op yields.
    pub(super) value: Option<Value>,
    /// The (only or last) message.
    pub(super) message: Option<Value>,
    /// Those before it.
    pub(super) earlier: Vec<Value>,
    /// Rich details of the status.
    pub(super) details: Option<Value>,
    pub(super) status: Option<GrpcStatus>,
    pub(super) headers: Map<String, Value>,
    pub(super) trailers: Map<String, Value>,
    pub(super) stdout: Option<Value>,
    pub(super) stderr: Option<Value>,
    /// What passed on the connection meanwhile.
    pub(super) wire: Option<Value>,
    pub(super) failure: Option<Failure>,
}

pub(super) async fn within<T>(
    budget: Duration,
    what: &str,
    future: impl Future<Output = Result<T, PeerError>>,
) -> Result<T, PeerError> {
    tokio::time::timeout(budget, future).await.unwrap_or_else(|_| {
        Err(PeerError {
            reported: Reported {
                phase: Some(Phase::Rpc),
                error: format!("no answer to `{what}` within {budget:?}"),
                native: None,
                status: None,
                cause: None,
            },
            refused: false,
            harness: false,
            timed_out: true,
        })
    })
}

pub(super) fn encode(method: &dynamic::Method, message: &Value) -> Result<Bytes, Stop> {
    method.encode(message).map_err(|e| Stop::Script(e.to_string()))
}

pub(super) fn decode(method: &dynamic::Method, bytes: &[u8]) -> Result<Value, Stop> {
    method.decode(bytes).map_err(|e| Stop::Check(format!("the response is no message of {}: {e}", method.path())))
}

pub(super) fn failed(error: PeerError) -> Outcome {
    let status = error.reported.status.clone();
    Outcome {
        status,
        failure: Some(Failure {
            reported: error.reported,
            timed_out: error.timed_out,
            harness: error.harness,
            refused: error.refused,
            remote: false,
            step: None,
        }),
        ..Outcome::default()
    }
}

/// A status OK with another number of messages than the one that is due, which libraries pass on
/// in different ways, and some not at all.
pub(super) fn miscounted(method: &dynamic::Method, result: &CallResult) -> Option<PeerError> {
    let (code, text) = match result.receive.len() {
        _ if method.server_streaming() || result.status.code != "OK" => return None,
        1 => return None,
        0 => ("rpc.grpc.no-message", "the server said OK and sent no message".to_owned()),
        n => ("rpc.grpc.more-messages", format!("the server sent {n} messages where one is due")),
    };
    Some(PeerError {
        reported: Reported {
            phase: Some(Phase::Rpc),
            error: text.clone(),
            native: None,
            status: None,
            cause: Some(Cause { code: code.into(), certainty: Certainty::Observed, text }),
        },
        refused: false,
        harness: false,
        timed_out: false,
    })
}

pub(super) fn received(method: &dynamic::Method, result: CallResult) -> Result<Outcome, Stop> {
    let failure = (result.status.code != "OK").then(|| Failure {
        timed_out: result.status.code == "DEADLINE_EXCEEDED",
        harness: false,
        refused: false,
        remote: result.local == Some(false),
        step: None,
        reported: result.reported.unwrap_or_else(|| Reported {
            phase: None,
            error: result.status.text.clone(),
            native: None,
            status: Some(result.status.clone()),
            cause: None,
        }),
    });
    let mut messages = result.receive.iter().map(|bytes| decode(method, bytes)).collect::<Result<Vec<_>, _>>()?;
    let mut trailers = result.trailers;
    let details = trailers.iter().position(|(name, _)| name == dynamic::DETAILS).map(|at| trailers.remove(at).1);
    Ok(Outcome {
        message: messages.pop(),
        earlier: messages,
        details: details.map(|bytes| method.details(&bytes)),
        status: Some(result.status),
        headers: metadata(&result.headers),
        trailers: metadata(&trailers),
        failure,
        ..Outcome::default()
    })
}

/// Metadata as JSON: a key with several values is a list.
fn metadata(pairs: &[(String, Bytes)]) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in pairs {
        let value = expect::value(value);
        match map.get_mut(key) {
            None => drop(map.insert(key.clone(), value)),
            Some(Value::Array(list)) => list.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    map
}

/// What `checks` and `capture` paths start from.
pub(super) fn document(outcome: &Outcome) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.into(), value);
        }
    };
    put("value", outcome.value.clone());
    put("message", outcome.message.clone());
    put("messages", Some(outcome.earlier.iter().chain(&outcome.message).cloned().collect()));
    put("details", outcome.details.clone());
    put("code", outcome.status.as_ref().map(|s| s.code.clone().into()));
    put("status_text", outcome.status.as_ref().map(|s| s.text.clone().into()));
    put("metadata", Some(outcome.headers.clone().into()));
    put("trailers", Some(outcome.trailers.clone().into()));
    put("stdout", outcome.stdout.clone());
    put("stderr", outcome.stderr.clone());
    put("wire", outcome.wire.clone());
    Value::Object(map)
}

pub(super) fn connection(now: &Now) -> Option<&dyn Connection> {
    now.lane.as_ref().and_then(|lane| lane.connection())
}

/// What a host says of a plugin that it has ended, in the words of gRPC: there is nobody to ask.
pub(super) fn unreachable(now: &Now) -> PeerError {
    let text = match &now.down {
        Some(by) => format!("the client has no connection: `{by}` had it end its plugin"),
        None => "the client's connection was ended while the call was under way".to_owned(),
    };
    let status = GrpcStatus { code: "UNAVAILABLE".into(), text: text.clone() };
    PeerError {
        reported: Reported { phase: Some(Phase::Rpc), error: text, native: None, status: Some(status), cause: None },
        refused: false,
        harness: false,
        timed_out: false,
    }
}

/// Waits for an op, but no longer than [`LAST_WORD`] after its failure is certain, and not beyond
/// the end of its connection. While a server is down by the script's own doing nothing that its
/// connections suffer is news.
pub(super) async fn watched(now: &Now, op: impl Future<Output = Result<Outcome, Stop>>) -> Result<Outcome, Stop> {
    // A program says once, at its end, what came of it: nothing before that is its word.
    let is_program = connection(now).is_some_and(|connection| connection.actor().is_some());
    let watches = now.down.is_none() && !is_program;
    let Some(lane) = now.lane.as_ref().filter(|lane| watches && !lane.senses.is_blind()) else {
        return op.await;
    };
    let mut op = std::pin::pin!(op);
    tokio::select! {
        biased;
        result = &mut op => result,
        () = lane.leaving() => Ok(failed(unreachable(now))),
        diagnosis = lane.senses.certain() => match tokio::time::timeout(LAST_WORD, op).await {
            Ok(result) => result,
            Err(_) => Err(Stop::Certain(Box::new(diagnosis))),
        },
    }
}

/// Why a parallel step stops the script: what its first failing branch says; failed checks of all.
pub(super) fn first_of(stops: Vec<Stop>) -> Result<(), Stop> {
    let mut checks = Vec::new();
    let mut other = None;
    for stop in stops {
        match stop {
            Stop::Check(text) => checks.push(text),
            stop => drop(other.get_or_insert(stop)),
        }
    }
    if let Some(stop) = other {
        return Err(stop);
    }
    if checks.is_empty() {
        return Ok(());
    }
    let more = checks.len().saturating_sub(BRANCHES_NAMED);
    checks.truncate(BRANCHES_NAMED);
    if more > 0 {
        checks.push(format!("and {more} more branches"));
    }
    Err(Stop::Check(checks.join("; ")))
}
