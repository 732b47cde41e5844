//! An open stream of a call: message by message, in any order of both directions.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Response, Status, Streaming};

use super::account::{Known, local_status};
use super::client::{Wire, deadline_passed, finish, from_map, path, prepare, unfinished};
use super::codec::Raw;
use crate::outcome::Phase;
use crate::peer::{CallRequest, CallResult, PeerError, Stream, StreamSender};
use crate::transport::Fault;

/// A message on its way, and the sender that waits until the transport takes it.
type Outgoing = (Bytes, oneshot::Sender<()>);

enum Receiving {
    /// The response headers have not come. They may not before a message was sent, so this runs in
    /// its own task.
    Headers(JoinHandle<Result<Response<Streaming<Bytes>>, Status>>),
    Messages(Box<Streaming<Bytes>>),
    Ended,
}

pub(super) struct OpenStream {
    sending: Sending,
    receiving: Receiving,
    known: Known,
    result: CallResult,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Receiving::Headers(task) = &self.receiving {
            task.abort();
        }
    }
}

impl OpenStream {
    pub(super) fn start(wire: &Wire, request: CallRequest) -> Result<Self, PeerError> {
        let (mut grpc, known) = wire.grpc(request.options)?;
        let CallRequest { method, send, metadata, deadline, options: _ } = request;
        let path = path(&method)?;
        let (outgoing, queue) = mpsc::channel::<Outgoing>(1);
        let later = futures::stream::unfold(queue, |mut queue| async move {
            let (message, taken) = queue.recv().await?;
            let _ = taken.send(());
            Some((message, queue))
        });
        let messages = futures::StreamExt::chain(futures::stream::iter(send), later);
        let request = prepare(messages, &metadata, Some(deadline))?;
        let task = tokio::spawn(async move { grpc.streaming(request, path, Raw).await });
        Ok(Self {
            sending: Sending { outgoing: Some(outgoing), deadline: Instant::now() + deadline, budget: deadline },
            receiving: Receiving::Headers(task),
            known,
            result: unfinished(),
        })
    }

    fn ended(&mut self, end: Result<tonic::metadata::MetadataMap, Status>) {
        if let Receiving::Headers(task) = &self.receiving {
            task.abort();
        }
        // Dropping the response resets the stream if it is still open.
        self.receiving = Receiving::Ended;
        self.sending.outgoing = None;
        finish(&mut self.result, end, &self.known);
    }

    /// The next message; `None` once ended, with the status in `result`. Safe to drop while waiting.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match &mut self.receiving {
                Receiving::Ended => return None,
                Receiving::Headers(task) => {
                    let Ok(joined) = timeout_at(self.sending.deadline, task).await else {
                        self.ended(Err(deadline_passed(self.sending.budget)));
                        continue;
                    };
                    match joined.unwrap_or_else(|error| Err(local_status(Code::Internal, error.to_string()))) {
                        Ok(response) => {
                            let (headers, body, _) = response.into_parts();
                            self.result.headers = from_map(&headers);
                            self.receiving = Receiving::Messages(Box::new(body));
                        }
                        Err(status) => self.ended(Err(status)),
                    }
                }
                Receiving::Messages(body) => match timeout_at(self.sending.deadline, body.message()).await {
                    Ok(Ok(Some(message))) => return Some(message),
                    Ok(Ok(None)) => {
                        let trailers = body.trailers().await.map(Option::unwrap_or_default);
                        self.ended(trailers);
                    }
                    Ok(Err(status)) => self.ended(Err(status)),
                    Err(_) => self.ended(Err(deadline_passed(self.sending.budget))),
                },
            }
        }
    }
}

/// The end of a stream on which messages go out; without a queue once it is closed.
struct Sending {
    outgoing: Option<mpsc::Sender<Outgoing>>,
    deadline: Instant,
    budget: Duration,
}

impl StreamSender for Sending {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move {
            let over = |why: &str| -> PeerError {
                Fault::new(Phase::Rpc, "rpc.stream.over", format!("the message cannot be sent: {why}")).into()
            };
            let Some(outgoing) = &self.outgoing else { return Err(over("the sending side has ended")) };
            let (taken, wait) = oneshot::channel();
            let sent = async {
                outgoing.send((message, taken)).await.map_err(|_| ())?;
                wait.await.map_err(|_| ())
            };
            match timeout_at(self.deadline, sent).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(())) => Err(over("the call has ended; its status says why")),
                Err(_) => {
                    let text = format!("the transport took no message within the deadline of {:?}", self.budget);
                    Err(Fault::new(Phase::Rpc, "rpc.deadline", text).timed_out().into())
                }
            }
        })
    }

    fn half_close(&mut self) -> BoxFuture<'_, Result<(), PeerError>> {
        self.outgoing = None;
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Stream for OpenStream {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), PeerError>> {
        self.sending.send(message)
    }

    fn take_sender(&mut self) -> Box<dyn StreamSender> {
        let outgoing = self.sending.outgoing.take();
        Box::new(Sending { outgoing, deadline: self.sending.deadline, budget: self.sending.budget })
    }

    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async move { Ok(self.next().await) })
    }

    fn half_close(&mut self) -> BoxFuture<'_, Result<(), PeerError>> {
        self.sending.half_close()
    }

    fn cancel(&mut self) -> BoxFuture<'_, ()> {
        if !matches!(self.receiving, Receiving::Ended) {
            self.ended(Err(local_status(Code::Cancelled, "the call was cancelled by this client")));
        }
        Box::pin(std::future::ready(()))
    }

    fn end(&mut self) -> BoxFuture<'_, Result<CallResult, PeerError>> {
        Box::pin(async move {
            // What nobody received is drained, bounded by the deadline and not kept.
            while self.next().await.is_some() {}
            Ok(self.result.clone())
        })
    }
}
