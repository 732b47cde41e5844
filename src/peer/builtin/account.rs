//! What the built-in client makes of a status that no server gave: the server broke HTTP/2 or gRPC,
//! reset the call, went away, or closed; or the client itself gave up.

use std::error::Error;
use std::sync::Arc;

use tonic::{Code, Status};

use super::channel::Seen;
use crate::outcome::evidence::{Reported, Side};
use crate::outcome::{GrpcStatus, Phase};
use crate::transport::{Fault, Watch};

/// What is known of a call's connection.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// What came on the call.
    pub(super) seen: Arc<Seen>,
    /// How the stream of bytes ended.
    pub(super) watch: Arc<Watch>,
    /// How HTTP/2 ended, once it has.
    pub(super) end: End,
}

/// `None` while a connection lasts; then how it ended, if not in order.
pub(super) type End = tokio::sync::watch::Receiver<Option<Option<Fault>>>;

/// Marks a status as made by this client.
#[derive(Debug, thiserror::Error)]
#[error("made by the client itself")]
struct Local;

pub(super) fn local_status(code: Code, text: impl Into<String>) -> Status {
    let mut status = Status::new(code, text);
    status.set_source(Arc::new(Local));
    status
}

/// hyper calls a request that found the connection ended a cancelled one, and tonic repeats it.
pub(super) fn never_sent(status: &Status) -> bool {
    find::<hyper::Error>(status).is_some_and(|error| error.is_canceled() || error.is_closed())
}

pub(super) fn gone(status: Status) -> Status {
    let mut gone = Status::unavailable("the connection has ended");
    gone.set_source(Arc::new(status));
    gone
}

/// The account of a status that is not the server's.
pub(super) fn account(status: &Status, name: &str, known: &Known) -> Reported {
    let given = GrpcStatus { code: name.to_owned(), text: status.message().to_owned() };
    Reported { status: Some(given), ..fault(status, name, known).reported }
}

fn fault(status: &Status, name: &str, known: &Known) -> Fault {
    let fault = |code: &str, text: String| Fault::new(Phase::Rpc, code, text);
    if find::<Local>(status).is_some() {
        let code = if status.code() == Code::DeadlineExceeded { "rpc.deadline".into() } else { format!("rpc.{name}") };
        return fault(&code, status.message().to_owned());
    }
    if let Some(fault) = find::<h2::Error>(status).and_then(|error| http2(error, Side::Server)) {
        return fault;
    }
    let closed = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled);
    if closed && !known.seen.ended() {
        // What ended HTTP/2 is the reason for the end of the bytes below it.
        let end = known.end.borrow().clone();
        if let Some(fault) = end.clone().flatten().or_else(|| known.watch.fault()) {
            return fault;
        }
        if never_sent(status) {
            // HTTP/2 has ended in order, and the bytes below it have not: only GOAWAY does that.
            let code = if end.is_some() { "rpc.goaway.no-error" } else { "rpc.closed" };
            return fault(code, "the server ended the connection before the call".to_owned());
        }
    }
    if let Some((what, how)) = known.seen.no_grpc() {
        return fault(&format!("rpc.grpc.{what}"), format!("the server answered with {how}, which is no gRPC"));
    }
    if status.code() == Code::OutOfRange {
        return fault("rpc.too-large", format!("the server's message is larger than is taken: {}", status.message()));
    }
    match (known.seen.ended(), known.seen.grpc_status()) {
        (true, None) => fault("rpc.grpc.no-status", "the server ended the call without a `grpc-status`".to_owned()),
        (true, Some(given)) if !(0..=16).any(|n: i32| given == n.to_string()) => {
            fault("rpc.grpc.bad-status", format!("the server's `grpc-status` is `{given}`, which is none"))
        }
        _ if status.source().is_none() => {
            fault("rpc.grpc.message", format!("the server's message is no gRPC message: {}", status.message()))
        }
        _ => fault(&format!("rpc.{name}"), chain(status)),
    }
}

/// What an error of HTTP/2 says of the other side.
pub(super) fn http2(error: &h2::Error, other: Side) -> Option<Fault> {
    let other = other.name();
    let fault = |code: String, text: String| Some(Fault::new(Phase::Rpc, code, text).native(error.to_string()));
    let reason = error.reason().map_or_else(|| "unknown".to_owned(), |reason| format!("{reason:?}"));
    let segment = reason.to_lowercase().replace(['_', '('], "-").replace(')', "");
    if error.is_remote() && error.is_go_away() {
        fault(format!("rpc.goaway.{segment}"), format!("the {other} said GOAWAY, {reason}: {error}"))
    } else if error.is_remote() && error.is_reset() {
        fault(format!("rpc.reset.{segment}"), format!("the {other} reset the call, {reason}: {error}"))
    } else if error.is_library() {
        fault(format!("rpc.http2.by-{other}"), format!("the {other} broke HTTP/2: {error}"))
    } else {
        None
    }
}

/// The first error of a type among an error's sources.
pub(super) fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with its sources, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
