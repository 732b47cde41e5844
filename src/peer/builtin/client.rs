//! The client: one connection, dialled once, never reconnected; calls of any method by its bytes.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Uri;
use http::uri::PathAndQuery;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, Binary, KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::account::{End, Known, account, find, gone, http2, local_status, never_sent};
use super::channel::Channel;
use super::codec::Raw;
use super::host;
use super::spawn::{Spawner, TokioSpawner};
use super::stream::OpenStream;
use crate::dynamic::DETAILS;
use crate::outcome::evidence::{ConnectionFacts, Side};
use crate::outcome::{GrpcStatus, Phase};
use crate::peer::{
    CallOptions, CallRequest, CallResult, ChannelOptions, Client, Compression, ConnectRequest, Connection,
    LaunchRequest, Limits, Metadata, PeerError, Stream, Target, TlsSpec,
};
use crate::transport::{Fault, Watch, dial};

/// The largest message that is taken, in bytes.
pub(super) const MESSAGE_LIMIT: usize = 64 << 20;

/// All messages of a whole stream together, at most, in bytes.
const RECEIVE_LIMIT: usize = 256 << 20;

/// What a call that found its connection ended waits for the reason.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Some servers reset a call at its deadline instead of answering it; one that notices first does so
/// this much before the client at most.
const DEADLINE_NEAR: Duration = Duration::from_millis(20);

/// How long the other side may take to see a connection's orderly end.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// The built-in client role.
#[derive(Debug, Clone)]
pub struct BuiltinClient {
    spawner: Arc<dyn Spawner>,
    lenient: bool,
}

impl Default for BuiltinClient {
    fn default() -> Self {
        Self::new(TokioSpawner)
    }
}

impl BuiltinClient {
    /// A client that starts plugins with `spawner`.
    #[must_use]
    pub fn new(spawner: impl Spawner + 'static) -> Self {
        Self { spawner: Arc::new(spawner), lenient: false }
    }

    /// As a host it goes on in plaintext when a plugin announces no certificate under `AutoMTLS`, as
    /// pyvider-rpcplugin's does.
    #[must_use]
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }
}

impl Client for BuiltinClient {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, PeerError>> {
        Box::pin(async move {
            let wire = Wire::open(&request.target, &request.tls, request.options, request.within).await?;
            Ok(Box::new(wire) as Box<dyn Connection>)
        })
    }

    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, PeerError>> {
        Box::pin(async move {
            let hosted = host::launch(self.spawner.as_ref(), request, self.lenient).await?;
            Ok(Box::new(hosted) as Box<dyn Connection>)
        })
    }
}

/// A live HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Wire {
    sender: Option<SendRequest<Body>>,
    origin: Uri,
    facts: ConnectionFacts,
    watch: Arc<Watch>,
    end: End,
    task: JoinHandle<()>,
    limits: Limits,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    /// Dials, and waits for the server's first byte (its SETTINGS frame, which RFC 9113 section 3.4
    /// makes it send first): only then has a TLS 1.3 server accepted the client's certificate.
    pub(super) async fn open(
        target: &Target,
        tls: &TlsSpec,
        options: ChannelOptions,
        within: Duration,
    ) -> Result<Self, Fault> {
        if options.lazy {
            let text = "the built-in client dials once and at once: it has no connection to wait for";
            return Err(Fault::new(Phase::Connect, "connect.unsupported.lazy", text).refused());
        }
        let deadline = Instant::now() + within;
        let mut link = dial(target, tls, within).await?;
        let (facts, watch, first) = (link.facts().clone(), link.watch(), link.first_byte());
        let scheme = if facts.tls == Some(true) { "https" } else { "http" };
        let origin = format!("{scheme}://{}", tls.server_name)
            .parse()
            .map_err(|_| Fault::new(Phase::Tls, "tls.setup", format!("`{}` is no host name", tls.server_name)))?;
        let broken = |watch: &Watch, fault: Option<Fault>| {
            fault.or_else(|| watch.fault()).unwrap_or_else(|| {
                let text = format!("the server at {target} does not speak HTTP/2: it closed the connection");
                Fault::new(Phase::Rpc, "rpc.http2.by-server", text)
            })
        };
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        if let Some(keepalive) = options.keepalive {
            builder.timer(TokioTimer::new());
            builder.keep_alive_interval(keepalive.every);
            builder.keep_alive_timeout(keepalive.timeout).keep_alive_while_idle(true);
        }
        let (sender, connection) =
            builder.handshake(TokioIo::new(link)).await.map_err(|error| broken(&watch, of_connection(&error)))?;
        let (ended, end) = watch::channel(None);
        let task = tokio::spawn(async move {
            let fault = connection.await.err().and_then(|error| of_connection(&error));
            ended.send_replace(Some(fault));
        });
        let mut wire = Self { sender: Some(sender), origin, facts, watch, end, task, limits: options.limits };
        match timeout_at(deadline, first).await {
            Ok(Ok(())) => match wire.watch.fault() {
                Some(fault) => Err(fault),
                None => Ok(wire),
            },
            Ok(Err(_)) => {
                let _ = (&mut wire.task).await;
                let fault = wire.end.borrow().clone().flatten();
                Err(broken(&wire.watch, fault))
            }
            Err(_) => {
                let text = format!("the server at {target} sent nothing within {within:?}");
                Err(Fault::new(Phase::Rpc, "rpc.timeout", text).timed_out())
            }
        }
    }

    /// Ends it in order.
    pub(super) async fn end(mut self) {
        self.sender = None;
        let _ = timeout(CLOSE_LIMIT, &mut self.task).await;
    }

    /// A client for one call, and what will be known of it.
    pub(super) fn grpc(&self, options: CallOptions) -> Result<(Grpc<Channel>, Known), PeerError> {
        if options.wait_for_ready {
            let text = "the built-in client has no connection to wait for: it dials once and at once";
            return Err(Fault::new(Phase::Rpc, "rpc.unsupported.wait-for-ready", text).refused().into());
        }
        let Some(sender) = self.sender.clone() else {
            return Err(Fault::new(Phase::Rpc, "rpc.closed", "the connection was closed by this client").into());
        };
        let (channel, seen) = Channel::new(sender);
        let bytes = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
        let mut grpc = Grpc::with_origin(channel, self.origin.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(self.limits.receive.map_or(MESSAGE_LIMIT, bytes));
        if let Some(limit) = self.limits.send {
            grpc = grpc.max_encoding_message_size(bytes(limit));
        }
        if options.compression == Some(Compression::Gzip) {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        Ok((grpc, Known { seen, watch: Arc::clone(&self.watch), end: self.end.clone() }))
    }

    /// A call from its first to its last message.
    pub(super) async fn run(&self, request: CallRequest) -> Result<CallResult, PeerError> {
        let (mut grpc, known) = self.grpc(request.options)?;
        let CallRequest { method, send, metadata, deadline, options: _ } = request;
        let path = path(&method)?;
        let request = prepare(futures::stream::iter(send), &metadata, Some(deadline))?;
        let mut result = unfinished();
        let began = Instant::now();
        let ended = timeout(deadline, exchange(&mut grpc, request, path, &mut result)).await;
        let status = match ended {
            Ok(Err(status)) if is_cancelled(&status) && began.elapsed() + DEADLINE_NEAR >= deadline => {
                Err(deadline_passed(deadline))
            }
            Ok(status) => status,
            Err(_) => Err(deadline_passed(deadline)),
        };
        if status.as_ref().is_err_and(never_sent) {
            // Calls learn that the connection has ended a moment before it is known why.
            let _ = timeout(LAST_WORD, self.end.clone().wait_for(Option::is_some)).await;
        }
        finish(&mut result, status, &known);
        Ok(result)
    }
}

async fn exchange(
    grpc: &mut Grpc<Channel>,
    request: tonic::Request<futures::stream::Iter<std::vec::IntoIter<Bytes>>>,
    path: PathAndQuery,
    result: &mut CallResult,
) -> Result<MetadataMap, Status> {
    let (headers, mut body, _) = grpc.streaming(request, path, Raw).await?.into_parts();
    result.headers = from_map(&headers);
    let mut total = 0;
    while let Some(message) = body.message().await? {
        total += message.len();
        if total > RECEIVE_LIMIT {
            let text = format!("more than {RECEIVE_LIMIT} bytes were received in one call; open a stream instead");
            return Err(local_status(Code::ResourceExhausted, text));
        }
        result.receive.push(message);
    }
    Ok(body.trailers().await?.unwrap_or_default())
}

impl Connection for Wire {
    fn facts(&self) -> Option<ConnectionFacts> {
        Some(self.facts.clone())
    }

    fn call(&self, request: CallRequest) -> BoxFuture<'_, Result<CallResult, PeerError>> {
        Box::pin(self.run(request))
    }

    fn open(&self, request: CallRequest) -> Option<BoxFuture<'_, Result<Box<dyn Stream>, PeerError>>> {
        Some(Box::pin(async move { Ok(Box::new(OpenStream::start(self, request)?) as Box<dyn Stream>) }))
    }

    fn stdio(&self) -> Option<(Bytes, Bytes)> {
        None
    }

    fn stdio_changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.end())
    }
}

/// A result to be filled while a call runs.
pub(super) fn unfinished() -> CallResult {
    CallResult {
        status: GrpcStatus { code: "OK".to_owned(), text: String::new() },
        local: Some(false),
        receive: Vec::new(),
        headers: Vec::new(),
        trailers: Vec::new(),
        reported: None,
    }
}

/// The end of a call, local or received.
pub(super) fn finish(result: &mut CallResult, end: Result<MetadataMap, Status>, known: &Known) {
    let status = match (end, known.seen.no_grpc()) {
        (Ok(trailers), None) => {
            result.trailers = from_map(&trailers);
            return;
        }
        // tonic takes any answer that looks like a message.
        (Ok(_), Some((_, how))) => Status::unknown(format!("the answer has {how}")),
        (Err(status), _) => status,
    };
    let local = status.source().is_some() || !known.seen.gave(status.code());
    let status = if never_sent(&status) { gone(status) } else { status };
    result.trailers = from_map(status.metadata());
    if !status.details().is_empty() {
        result.trailers.push((DETAILS.to_owned(), Bytes::copy_from_slice(status.details())));
    }
    let code = code_name(status.code());
    result.status = GrpcStatus { code: code.to_owned(), text: status.message().to_owned() };
    result.local = Some(local);
    if local {
        result.reported = Some(account(&status, code, known));
    }
}

/// Why a connection ended, if the server broke or ended it by HTTP/2.
fn of_connection(error: &hyper::Error) -> Option<Fault> {
    find::<h2::Error>(error).and_then(|error| http2(error, Side::Server))
}

/// Whether the server reset the call with CANCEL.
fn is_cancelled(status: &Status) -> bool {
    find::<h2::Error>(status).is_some_and(|e| e.is_remote() && e.reason() == Some(h2::Reason::CANCEL))
}

pub(super) fn deadline_passed(deadline: Duration) -> Status {
    local_status(Code::DeadlineExceeded, format!("no end of the call within its deadline of {deadline:?}"))
}

/// A request that cannot even be written: the scenario's mistake, not the pair's.
fn unusable(text: String) -> PeerError {
    PeerError { harness: true, ..Fault::new(Phase::Rpc, "rpc.request", text).into() }
}

pub(super) fn path(method: &str) -> Result<PathAndQuery, PeerError> {
    format!("/{}", method.trim_start_matches('/'))
        .parse()
        .map_err(|_| unusable(format!("`{method}` is no method name; write `package.Service/Method`")))
}

pub(super) fn prepare<S>(
    messages: S,
    metadata: &Metadata,
    deadline: Option<Duration>,
) -> Result<tonic::Request<S>, PeerError> {
    let mut request = tonic::Request::new(messages);
    let map = request.metadata_mut();
    for (name, value) in metadata {
        let bad_name =
            |_| unusable(format!("`{name}` is no metadata key; use lower-case letters, digits, `-`, `_`, `.`"));
        if name.ends_with("-bin") {
            let key = MetadataKey::<Binary>::from_bytes(name.as_bytes()).map_err(bad_name)?;
            map.append_bin(key, MetadataValue::from_bytes(value));
        } else {
            let key = MetadataKey::<Ascii>::from_bytes(name.as_bytes()).map_err(bad_name)?;
            let value = MetadataValue::try_from(value.as_ref()).map_err(|_| {
                unusable(format!(
                    "the value of metadata `{name}` is not printable ASCII; use a key that ends with -bin"
                ))
            })?;
            map.append(key, value);
        }
    }
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    Ok(request)
}

/// Metadata as users see it: without what belongs to gRPC and HTTP themselves.
pub(super) fn from_map(map: &MetadataMap) -> Metadata {
    let own = |name: &str| name.starts_with("grpc-") || name == "content-type";
    map.iter()
        .filter_map(|entry| match entry {
            KeyAndValueRef::Ascii(name, value) => (!own(name.as_str()))
                .then(|| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_encoded_bytes()))),
            KeyAndValueRef::Binary(name, value) => {
                let bytes = value.to_bytes().unwrap_or_else(|_| Bytes::copy_from_slice(value.as_encoded_bytes()));
                (!own(name.as_str())).then(|| (name.as_str().to_owned(), bytes))
            }
        })
        .collect()
}

/// The canonical name of a status code.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
