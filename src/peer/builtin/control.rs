//! What every plugin serves beside its own service: health, and go-plugin's broker, controller and
//! stdio.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::proto::health::health_server::Health;
use super::proto::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use super::proto::plugin::grpc_broker_server::GrpcBroker;
use super::proto::plugin::grpc_controller_server::GrpcController;
use super::proto::plugin::grpc_stdio_server::GrpcStdio;
use super::proto::plugin::{ConnInfo, Empty, StdioData, stdio_data::Channel};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Health of the names that are served; `plugin` is the one that go-plugin hosts ask for.
#[derive(Debug)]
pub(super) struct HealthService {
    pub(super) serving: Vec<&'static str>,
}

impl HealthService {
    fn status(&self, service: &str) -> Option<HealthCheckResponse> {
        self.serving.contains(&service).then(|| HealthCheckResponse { status: ServingStatus::Serving.into() })
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Replies<HealthCheckResponse>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        let found = self.status(service).ok_or_else(|| Status::not_found(format!("unknown service: {service}")))?;
        Ok(Response::new(found))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        // The protocol's words for an unknown name here: a status message, not an error.
        let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
        let first = self.status(&request.get_ref().service).unwrap_or(unknown);
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(first)).chain(futures::stream::pending()))))
    }
}

/// Accepts the broker's stream and has nothing to announce.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) end: CancellationToken,
}

#[tonic::async_trait]
impl GrpcBroker for Broker {
    type StartStreamStream = Replies<ConnInfo>;

    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        // The reply stays open as long as the host's side does, and drains it; the end of the plugin
        // ends it too, or its connection could not end in order.
        let announcements = request.into_inner().filter_map(|announcement| announcement.err().map(Err));
        let announcements = futures::StreamExt::take_until(announcements, self.end.clone().cancelled_owned());
        Ok(Response::new(Box::pin(announcements)))
    }
}

/// Ends the process.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) end: CancellationToken,
}

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _request: Request<Empty>) -> Result<Response<Empty>, Status> {
        // Connections end in order, so this answer still leaves.
        self.end.cancel();
        Ok(Response::new(Empty {}))
    }
}

/// Bytes for the host that it has not fetched yet, at most; older ones are dropped first.
const BACKLOG: usize = 1 << 20;

/// The plugin's stdout as `GRPCStdio` streams it. Only what is given to it: the real stdout of the
/// process carries nothing but the handshake line.
#[derive(Debug)]
pub(super) struct Stdio {
    pending: watch::Sender<BytesMut>,
    taken: std::sync::atomic::AtomicBool,
}

impl Stdio {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { pending: watch::channel(BytesMut::new()).0, taken: false.into() })
    }

    pub(super) fn stdout(&self, bytes: &[u8]) {
        self.pending.send_modify(|pending| {
            pending.extend_from_slice(bytes);
            if pending.len() > BACKLOG {
                let excess = pending.len() - BACKLOG;
                let _ = pending.split_to(excess);
            }
        });
    }
}

/// Streams [`Stdio`] until the plugin ends.
#[derive(Debug)]
pub(super) struct StdioService {
    pub(super) stdio: Arc<Stdio>,
    pub(super) end: CancellationToken,
}

#[tonic::async_trait]
impl GrpcStdio for StdioService {
    type StreamStdioStream = Replies<StdioData>;

    async fn stream_stdio(&self, _request: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        if self.stdio.taken.swap(true, std::sync::atomic::Ordering::AcqRel) {
            return Err(Status::failed_precondition("stdio is already being streamed; it can be fetched once"));
        }
        let state = (self.stdio.pending.subscribe(), Arc::clone(&self.stdio), self.end.clone());
        let chunks = futures::stream::unfold(state, |(mut changes, stdio, end)| async move {
            let data = tokio::select! {
                biased;
                grown = changes.wait_for(|pending| !pending.is_empty()) => {
                    grown.ok()?;
                    take(&stdio)
                }
                () = end.cancelled() => return None,
            };
            let message = StdioData { channel: Channel::Stdout.into(), data };
            Some((Ok(message), (changes, stdio, end)))
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}

fn take(stdio: &Stdio) -> Bytes {
    let mut data = BytesMut::new();
    stdio.pending.send_if_modified(|pending| {
        data = pending.split();
        false
    });
    data.freeze()
}
