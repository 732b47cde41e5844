//! Ops of clients that are told what to do instead of being given messages.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::{Outcome, Stop, failed};
use super::ground::Now;
use crate::dynamic::Method;
use crate::outcome::evidence::Reported;
use crate::outcome::{Cause, Certainty, Phase};
use crate::peer::{Act, Acted, Actor, CallRequest, PeerError};

/// Has a client do a call in its own way.
pub(super) async fn call(
    now: &Now,
    actor: &dyn Actor,
    (op, args): (&str, &Map<String, Value>),
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
        Ok(_) if never_dialled(now) => Ok(failed(unheard_of())),
        Ok(acted) => outcome(acted, Some(method)),
        Err(error) => Ok(failed(error)),
    }
}

/// Has a client run a test of its own.
pub(super) async fn test(now: &Now, actor: &dyn Actor, name: String, deadline: Duration) -> Result<Outcome, Stop> {
    let act = Act {
        op: "test".to_owned(),
        args: Map::from_iter([("test".to_owned(), Value::String(name))]),
        method: String::new(),
        messages: Vec::new(),
        metadata: Vec::new(),
        deadline,
    };
    match actor.act(act).await {
        Ok(_) if never_dialled(now) => Ok(failed(unheard_of())),
        Ok(acted) => outcome(acted, None),
        Err(error) => Ok(failed(error)),
    }
}

/// A program may say what it likes: whoever did not dial has tested nothing.
fn never_dialled(now: &Now) -> bool {
    now.lane.as_ref().is_some_and(|lane| !lane.senses.was_dialled())
}

fn unheard_of() -> PeerError {
    let text = "the client's program tells of an answer, but it never dialled the server";
    let cause = Cause { code: "connect.never".into(), certainty: Certainty::Observed, text: text.into() };
    let phase = Some(Phase::Connect);
    let reported = Reported { phase, error: text.into(), native: None, status: None, cause: Some(cause) };
    PeerError { reported, refused: false, harness: false, timed_out: false }
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
