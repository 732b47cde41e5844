//! The server that clients are held against: it answers by the key that it is asked for, and
//! remembers what arrived.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::peer::Target;
use crate::peer::builtin::proto::kv::{GetRequest, GetResponse};
use crate::transport::{Listener, Socket, secure};

/// A key whose get is never answered.
pub(super) const SLOW: &str = "slow";
/// A key whose get is refused, with [`REFUSAL`].
pub(super) const REFUSED: &str = "refused";
/// A key whose get gives [`BIG_BYTES`] bytes.
pub(super) const BIG: &str = "big";
/// What a refusal says: it has to be percent-encoded on the wire (gRPC over HTTP/2, "Responses").
pub(super) const REFUSAL: &str = "nicht für dich: 100 %";
const REFUSAL_ENCODED: &str = "nicht f%C3%BCr dich: 100 %25";
/// The size of the big value.
pub(super) const BIG_BYTES: usize = 1 << 20;
/// What a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// What has happened so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Connections that were accepted.
    pub(super) accepted: usize,
    /// Connections that have ended.
    pub(super) ended: usize,
    /// Calls that were given up by the client.
    pub(super) given_up: usize,
    /// The compressed flag of the last request message.
    pub(super) flag: Option<u8>,
    /// Headers of the last call of each key.
    pub(super) headers: HashMap<String, HeaderMap>,
}

/// A running mirror; dropping it ends it.
pub(super) struct Mirror {
    pub(super) target: Target,
    pub(super) seen: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

type State = Arc<watch::Sender<Seen>>;

impl Mirror {
    /// Listens on loopback, or on a socket in `folder`.
    pub(super) async fn start(folder: Option<&Path>, config: Option<Arc<ServerConfig>>) -> std::io::Result<Self> {
        let listener = match folder {
            Some(folder) => Listener::unix(&folder.join("mirror.sock"))?,
            None => Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await?,
        };
        let target = listener.target().clone();
        let (state, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(accept(listener, config, Arc::new(state)));
        Ok(Self { target, seen, _task: AbortOnDropHandle::new(task) })
    }

    /// Where, in the contract's form.
    pub(super) fn address(&self) -> serde_json::Value {
        match &self.target {
            Target::Tcp(address) => serde_json::json!({"tcp": address.to_string()}),
            Target::Unix(path) => serde_json::json!({"unix": path}),
        }
    }

    /// Waits until something has happened.
    pub(super) async fn until(&self, within: Duration, mut happened: impl FnMut(&Seen) -> bool) -> bool {
        let mut seen = self.seen.clone();
        matches!(tokio::time::timeout(within, seen.wait_for(|seen| happened(seen))).await, Ok(Ok(_)))
    }
}

async fn accept(listener: Listener, config: Option<Arc<ServerConfig>>, state: State) {
    // Dropped with this task, and with it every connection.
    let connections = Mutex::new(Vec::new());
    while let Ok(socket) = listener.accept().await {
        state.send_modify(|seen| seen.accepted += 1);
        let task = tokio::spawn(connection(socket, config.clone(), Arc::clone(&state)));
        connections.lock().unwrap_or_else(PoisonError::into_inner).push(AbortOnDropHandle::new(task));
    }
}

async fn connection(socket: Socket, config: Option<Arc<ServerConfig>>, state: State) {
    if let Ok(link) = secure(socket, config, HANDSHAKE_LIMIT).await {
        let answers = Arc::clone(&state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&answers);
            async move { Ok::<_, Infallible>(answer(request, &state).await) }
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(link), service).await;
    }
    state.send_modify(|seen| seen.ended += 1);
}

/// Notes a call that is dropped before its answer.
struct Unanswered<'a>(&'a State);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.given_up += 1);
    }
}

async fn answer(request: Request<Incoming>, state: &State) -> Response<BoxBody<Bytes, Infallible>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    // A put begins as a get does: the key is field 1 of both, and the rest is not looked at.
    let key = GetRequest::decode(body.slice(body.len().min(5)..)).map(|m| m.key).unwrap_or_default();
    state.send_modify(|seen| {
        seen.flag = body.first().copied();
        drop(seen.headers.insert(key.clone(), parts.headers));
    });
    let value = match key.as_str() {
        SLOW => {
            let _unanswered = Unanswered(state);
            std::future::pending::<Vec<u8>>().await
        }
        BIG => vec![7; BIG_BYTES],
        _ => key.clone().into_bytes(),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("x-check-end", HeaderValue::from_static("done"));
    let data = if key == REFUSED {
        trailers.insert("grpc-status", HeaderValue::from_static("7"));
        trailers.insert("grpc-message", HeaderValue::from_static(REFUSAL_ENCODED));
        Bytes::new()
    } else {
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        frame(if parts.uri.path().ends_with("/Put") { &[] } else { &value })
    };
    let body = Full::new(data).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.append("x-check", HeaderValue::from_static("one"));
    headers.append("x-check", HeaderValue::from_static("two"));
    headers.append("x-check-bin", HeaderValue::from_static("AP8"));
    response
}

/// A length-prefixed message (gRPC over HTTP/2, "Length-Prefixed-Message"): no value, no field.
fn frame(value: &[u8]) -> Bytes {
    let message = GetResponse { value: Bytes::copy_from_slice(value) }.encode_to_vec();
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(&message);
    out.freeze()
}
