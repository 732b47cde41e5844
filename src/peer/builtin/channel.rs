//! hyper's connection as the transport that tonic's client wants, which notes what the server sent:
//! a status that was received is told from one that the library made up, and what is no gRPC at all
//! by what it was. tonic's own `Channel` would put a queue, a worker and a reconnecting layer between.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tonic::Code;
use tonic::body::Body;
use tower::Service;

/// One call's way to the server.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    sender: SendRequest<Body>,
    seen: Arc<Seen>,
}

impl Channel {
    /// For one call. What comes back is noted in the second.
    pub(super) fn new(sender: SendRequest<Body>) -> (Self, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        (Self { sender, seen: Arc::clone(&seen) }, seen)
    }
}

/// What the server sent.
#[derive(Debug, Default)]
pub(super) struct Seen {
    head: OnceLock<Head>,
    ended: OnceLock<Option<String>>,
}

#[derive(Debug)]
struct Head {
    status: u16,
    content_type: Option<String>,
    grpc_status: Option<String>,
}

/// Characters kept of what a server sent.
const KEPT: usize = 60;

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).chars().take(KEPT).collect())
}

impl Seen {
    /// `grpc-status` as it came.
    pub(super) fn grpc_status(&self) -> Option<&str> {
        let first = self.head.get().and_then(|head| head.grpc_status.as_deref());
        first.or_else(|| self.ended.get().and_then(Option::as_deref))
    }

    /// Whether the server itself gave this status.
    pub(super) fn gave(&self, code: Code) -> bool {
        self.grpc_status().and_then(|text| text.parse().ok()) == Some(i32::from(code))
    }

    /// How the answer is none of gRPC: HTTP status and content type
    /// (gRPC over HTTP/2, "Responses": 200 and `application/grpc`).
    pub(super) fn no_grpc(&self) -> Option<(&'static str, String)> {
        let head = self.head.get()?;
        let content = head.content_type.as_deref();
        let kind = content.map_or("no content type".to_owned(), |content| format!("content type `{content}`"));
        if head.status != 200 {
            return Some(("http-status", format!("HTTP status {} and {kind}", head.status)));
        }
        let grpc = content.is_some_and(|content| content.starts_with("application/grpc"));
        (!grpc).then_some(("content-type", kind))
    }

    /// Whether the answer ended.
    pub(super) fn ended(&self) -> bool {
        self.ended.get().is_some()
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Heard>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.sender.send_request(request);
        let seen = Arc::clone(&self.seen);
        Box::pin(async move {
            let response = response.await?;
            let headers = response.headers();
            let head = Head {
                status: response.status().as_u16(),
                content_type: text(headers, "content-type"),
                grpc_status: text(headers, "grpc-status"),
            };
            let _ = seen.head.set(head);
            Ok(response.map(|body| Heard { body, seen }))
        })
    }
}

/// A response's body, whose end is noted.
pub(super) struct Heard {
    body: Incoming,
    seen: Arc<Seen>,
}

impl http_body::Body for Heard {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let status = match &frame {
            None => Some(None),
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| text(trailers, "grpc-status")),
            Some(Err(_)) => None,
        };
        if let Some(status) = status {
            let _ = self.seen.ended.set(status);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
