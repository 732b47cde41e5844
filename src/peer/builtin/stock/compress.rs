//! S-META-7: whether a call's response messages are compressed is the request's choice. tonic knows
//! that per service only, and for streams not per response, so there are two of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tower::Service;

use super::StockService;
use super::mistake::{Mistake, Wrong};
use crate::peer::Limits;
use crate::peer::builtin::proto::stock::stock_server::StockServer;

/// The request metadata that chooses.
const CHOICE: &str = "x-soup-compress";

/// The service as it is, and the same with gzip.
#[derive(Debug, Clone)]
pub(in super::super) struct Choice {
    plain: StockServer<StockService>,
    gzip: StockServer<StockService>,
    wrong: Wrong,
}

impl Choice {
    /// A service whose messages have at most these sizes; requests may come compressed.
    pub(super) fn new(service: StockService, limits: Limits) -> Self {
        let wrong = service.wrong;
        let mut plain = StockServer::from_arc(Arc::new(service)).accept_compressed(CompressionEncoding::Gzip);
        let bytes = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
        if let Some(limit) = limits.receive {
            plain = plain.max_decoding_message_size(bytes(limit));
        }
        if let Some(limit) = limits.send {
            plain = plain.max_encoding_message_size(bytes(limit));
        }
        let gzip = plain.clone().send_compressed(CompressionEncoding::Gzip);
        Self { plain, gzip, wrong }
    }
}

impl Service<http::Request<Incoming>> for Choice {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        let gzip = request.headers().get(CHOICE).is_some_and(|value| value.as_bytes() == b"gzip");
        if gzip && !self.wrong.is(Mistake::NeverCompresses) {
            self.gzip.call(request)
        } else {
            self.plain.call(request)
        }
    }
}
