//! The sending side of a driver's stream: used by the stream itself, or by whoever sends while
//! another receives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::link::Slot;
use super::message::{Reply, Request, encode};
use super::{Driver, Running};
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
    /// Asks something about the stream.
    pub(super) async fn ask(&self, verb: &'static str, request: Request) -> Result<Reply, PeerError> {
        let slot = Slot::Stream(self.stream.clone(), verb);
        self.driver.ask(&self.running, slot, &request, None, (verb, self.deadline)).await
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
