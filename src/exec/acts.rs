//! Ops of clients that are told what to do instead of being given messages.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::script::{Outcome, Stop, failed};
use crate::dynamic::Method;
use crate::peer::{Act, Acted, Actor, CallRequest, PeerError};

/// Has a client do a call in its own way.
pub(super) async fn call(
    actor: &dyn Actor,
    op: &str,
    args: &Map<String, Value>,
    method: &Method,
    request: CallRequest,
) -> Result<Outcome, Stop> {
    let json = |bytes: &Bytes| method.request_to_json(bytes).map_err(|e| Stop::Script(e.to_string()));
    let act = Act {
        op: op.to_owned(),
        args: args.clone(),
        method: request.method,
        messages: request.send.iter().map(json).collect::<Result<_, _>>()?,
        metadata: request.metadata,
        deadline: request.deadline,
    };
    match actor.act(act).await {
        Ok(acted) => outcome(acted, Some(method)),
        Err(error) => Ok(failed(error)),
    }
}

/// Has a client run a test of its own.
pub(super) async fn test(actor: &dyn Actor, name: String, deadline: std::time::Duration) -> Result<Outcome, Stop> {
    let act = Act {
        op: "test".to_owned(),
        args: Map::from_iter([("test".to_owned(), Value::String(name))]),
        method: String::new(),
        messages: Vec::new(),
        metadata: Vec::new(),
        deadline,
    };
    match actor.act(act).await {
        Ok(acted) => outcome(acted, None),
        Err(error) => Ok(failed(error)),
    }
}

fn outcome(acted: Acted, method: Option<&Method>) -> Result<Outcome, Stop> {
    let Acted { status, value, messages, reported } = acted;
    let message = match (messages.last(), method) {
        (Some(message), Some(method)) => match method.response_from_json(message).and_then(|b| method.decode(&b)) {
            Ok(message) => Some(message),
            Err(e) => return Err(Stop::Check(format!("the response is no message of {}: {e}", method.path()))),
        },
        _ => None,
    };
    let bad = reported.filter(|_| status.code != "OK");
    let mut outcome = match bad {
        // Whether the server said so or the program made it up is not known.
        Some(reported) => failed(PeerError {
            timed_out: status.code == "DEADLINE_EXCEEDED",
            reported,
            refused: false,
            harness: false,
        }),
        None => Outcome::default(),
    };
    outcome.status = Some(status);
    outcome.value = value;
    outcome.message = message;
    Ok(outcome)
}
