//! The sending side of a driver's stream: used by the stream itself, or by whoever sends while
//! another receives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::link::{LinkError, Slot};
use super::message::{ErrorKind, Reply, Request, encode};
use super::{Driver, Running};
use crate::outcome::evidence::Reported;
use crate::outcome::{Cause, Certainty, Phase};
use crate::peer::{PeerError, StreamSender};

/// A stream of a driver, as requests name it.
#[derive(Clone)]
pub(super) struct Sending {
    pub(super) driver: Driver,
    pub(super) running: Arc<Running>,
    pub(super) stream: String,
    pub(super) deadline: Duration,
}

impl Sending {
    /// Asks something about the stream. An `error` to what is to go out may mean that the stream has
    /// ended meanwhile, which is no fault of the driver.
    pub(super) async fn ask(&self, verb: &'static str, request: Request) -> Result<Reply, PeerError> {
        let slot = Slot::Stream(self.stream.clone(), verb);
        let answer = self.driver.try_ask(&self.running, slot, &request, None, (verb, self.deadline)).await?;
        match answer {
            Ok(reply) => Ok(reply),
            Err(LinkError::Refused { kind: ErrorKind::Contract, text }) if matches!(verb, "send" | "half_close") => {
                Err(over(&text))
            }
            Err(error) => Err(self.driver.link_error(&self.running, &error).await),
        }
    }
}

/// As the built-in client tells it.
fn over(why: &str) -> PeerError {
    let text = format!("the message cannot be sent: {why}");
    let cause = Cause { code: "rpc.stream.over".into(), certainty: Certainty::Reported, text: text.clone() };
    PeerError {
        reported: Reported { phase: Some(Phase::Rpc), error: text, native: None, status: None, cause: Some(cause) },
        refused: false,
        harness: false,
        timed_out: false,
    }
}

impl StreamSender for Sending {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move {
            let seq = self.running.link.fresh();
            let request = Request::Send { stream: self.stream.clone(), seq, m: encode(&message) };
            match self.ask("send", request).await? {
                Reply::Sent { .. } => Ok(()),
                other => Err(self.driver.unexpected("send", &other)),
            }
        })
    }

    fn half_close(&mut self) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move {
            let request = Request::HalfClose { stream: self.stream.clone() };
            match self.ask("half_close", request).await? {
                Reply::HalfClosed { .. } => Ok(()),
                other => Err(self.driver.unexpected("half_close", &other)),
            }
        })
    }
}
