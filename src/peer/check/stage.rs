//! The server that streams are held against: it says what a rule has it say, when the rule has it
//! say it, and remembers what arrived and when: before the end of the sending side, or after.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::peer::Target;
use crate::transport::{Listener, Socket};

/// What a client may send before this server has read it: on one stream, in bytes.
const WINDOW: u32 = 64 << 10;
/// The length of the prefix of a message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// What the server says on a stream. Its headers go out with the first of them.
#[derive(Debug, Clone)]
pub(super) enum Say {
    /// A message.
    Message(Bytes),
    /// The end: a status by its number, with a text that needs no encoding.
    End(&'static str, &'static str),
}

/// What has happened on a stream so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Messages that arrived, in order.
    pub(super) messages: Vec<Bytes>,
    /// The client has ended its sending side.
    pub(super) half_closed: bool,
    /// The client has given the stream up, or the connection is gone.
    pub(super) given_up: bool,
    /// Messages of the server that went to the transport.
    pub(super) taken: usize,
}

/// A stream as the server has it.
pub(super) struct Call {
    pub(super) headers: HeaderMap,
    seen: watch::Receiver<Seen>,
    say: mpsc::UnboundedSender<Say>,
    reads: watch::Sender<bool>,
}

impl Call {
    /// What has happened so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Says something; on a stream that is over, nothing.
    pub(super) fn say(&self, what: Say) {
        let _ = self.say.send(what);
    }

    /// Begins to read what the client sends, where the stage does not do so by itself.
    pub(super) fn read(&self) {
        let _ = self.reads.send(true);
    }

    /// Waits until something has happened, and tells whether it has.
    pub(super) async fn until(&self, within: Duration, mut happened: impl FnMut(&Seen) -> bool) -> bool {
        let mut seen = self.seen.clone();
        matches!(tokio::time::timeout(within, seen.wait_for(|seen| happened(seen))).await, Ok(Ok(_)))
    }
}

/// Connections, each ended when it is dropped.
type Connections = Arc<Mutex<Vec<AbortOnDropHandle<()>>>>;

/// A running server; dropping it ends it and its connections.
pub(super) struct Stage {
    target: Target,
    calls: mpsc::UnboundedReceiver<Call>,
    connections: Connections,
    _task: AbortOnDropHandle<()>,
}

impl Stage {
    /// Listens on loopback, or on a socket in `folder`. `reads` says whether it reads what clients
    /// send by itself.
    pub(super) async fn start(folder: Option<&Path>, reads: bool) -> std::io::Result<Self> {
        let listener = match folder {
            Some(folder) => Listener::unix(&folder.join("stage.sock"))?,
            None => Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await?,
        };
        let target = listener.target().clone();
        let (tell, calls) = mpsc::unbounded_channel();
        let connections = Connections::default();
        let task = tokio::spawn(accept(listener, reads, tell, Arc::clone(&connections)));
        Ok(Self { target, calls, connections, _task: AbortOnDropHandle::new(task) })
    }

    /// Where, in the contract's form.
    pub(super) fn address(&self) -> serde_json::Value {
        match &self.target {
            Target::Tcp(address) => serde_json::json!({"tcp": address.to_string()}),
            Target::Unix(path) => serde_json::json!({"unix": path}),
        }
    }

    /// The next stream that arrives.
    pub(super) async fn call(&mut self, within: Duration) -> Option<Call> {
        tokio::time::timeout(within, self.calls.recv()).await.ok().flatten()
    }

    /// Cuts all connections off, without a word.
    pub(super) fn cut(&self) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

async fn accept(listener: Listener, reads: bool, tell: mpsc::UnboundedSender<Call>, connections: Connections) {
    while let Ok(socket) = listener.accept().await {
        let task = AbortOnDropHandle::new(tokio::spawn(connection(socket, reads, tell.clone())));
        connections.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }
}

async fn connection(socket: Socket, reads: bool, tell: mpsc::UnboundedSender<Call>) {
    let service = service_fn(move |request| {
        let tell = tell.clone();
        async move { Ok::<_, Infallible>(answer(request, reads, &tell).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(WINDOW);
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

type State = Arc<watch::Sender<Seen>>;

/// A stream that is dropped before its end was said is one that the client gave up.
struct Open {
    state: State,
    rest: mpsc::UnboundedReceiver<Say>,
    next: Option<Say>,
    ended: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            self.state.send_modify(|seen| seen.given_up = true);
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    reads: bool,
    tell: &mpsc::UnboundedSender<Call>,
) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let (parts, body) = request.into_parts();
    let (state, seen) = watch::channel(Seen::default());
    let state = Arc::new(state);
    let (say, rest) = mpsc::unbounded_channel();
    let (reads, may_read) = watch::channel(reads);
    let _ = tell.send(Call { headers: parts.headers, seen, say, reads });
    tokio::spawn(read(body, may_read, Arc::clone(&state)));
    let mut open = Open { state, rest, next: None, ended: false };
    open.next = open.rest.recv().await;
    let body = StreamBody::new(stream::unfold(open, speak));
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.append("x-check", HeaderValue::from_static("one"));
    response
}

/// The next frame of what is said; none after the end, or when the rule is over.
async fn speak(mut open: Open) -> Option<(Result<Frame<Bytes>, Infallible>, Open)> {
    if open.ended {
        return None;
    }
    let next = match open.next.take() {
        Some(next) => Some(next),
        None => open.rest.recv().await,
    };
    let frame = match next? {
        Say::Message(message) => {
            open.state.send_modify(|seen| seen.taken += 1);
            let mut out = BytesMut::with_capacity(message.len() + PREFIX);
            out.put_u8(0);
            out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            out.extend_from_slice(&message);
            Frame::data(out.freeze())
        }
        Say::End(code, text) => {
            open.ended = true;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(code));
            trailers.insert("grpc-message", HeaderValue::from_static(text));
            trailers.insert("x-check-end", HeaderValue::from_static("done"));
            Frame::trailers(trailers)
        }
    };
    Some((Ok(frame), open))
}

/// Reads what the client sends, once it may.
async fn read(mut body: Incoming, mut may: watch::Receiver<bool>, state: State) {
    let mut bytes = BytesMut::new();
    if may.wait_for(|may| *may).await.is_err() {
        return;
    }
    loop {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return state.send_modify(|seen| seen.given_up = true),
            None => return state.send_modify(|seen| seen.half_closed = true),
        }
        while let Some(message) = message(&mut bytes) {
            state.send_modify(|seen| seen.messages.push(message));
        }
    }
}

/// Takes a whole message from what has come.
fn message(bytes: &mut BytesMut) -> Option<Bytes> {
    let length = bytes.get(1..PREFIX)?.try_into().ok().map(u32::from_be_bytes)?;
    let length = usize::try_from(length).ok()?;
    if bytes.len() - PREFIX < length {
        return None;
    }
    bytes.advance(PREFIX);
    Some(bytes.split_to(length).freeze())
}
