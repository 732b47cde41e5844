//! Answers that are wrong: HTTP/2 is in order, what it carries is not. Each line of the table is an
//! answer to one method, with what differs from a good one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use nix::sys::signal::Signal;
use tonic::body::Body;

use super::habit::die;

const GET: &str = "/proto.KV/Get";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its switch.
    pub name: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
    method: &'static str,
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [Piece],
    trailers: &'static [(&'static str, &'static str)],
}

/// A part of an answer's body.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// These bytes.
    Bytes(&'static [u8]),
    /// So many zeros, in frames of 16 KiB.
    Zeros(usize),
    /// Nothing more, ever.
    Never,
    /// The process exits.
    Exit(i32),
    /// The process is ended by a signal.
    Die(Signal),
}
use Piece::{Bytes as Raw, Die, Exit, Never, Zeros};

/// A whole answer to `Get`: the value `v`.
const VALUE: &[u8] = b"\0\0\0\0\x03\x0a\x01v";
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const OK: &[(&str, &str)] = &[("grpc-status", "0")];

const GOOD: Answer =
    Answer { name: "", what: "", method: GET, status: 200, headers: &[GRPC], body: &[Raw(VALUE)], trailers: OK };

/// 64 KiB of one header, four times what HTTP/2 stacks take.
const HUGE: &str = {
    static BYTES: [u8; 64 << 10] = [b'h'; 64 << 10];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

const fn answer(name: &'static str, what: &'static str) -> Answer {
    Answer { name, what, ..GOOD }
}

/// All of them.
#[rustfmt::skip]
pub const TABLE: &[Answer] = &[
    Answer { method: HEALTH, body: &[Raw(b"\0\0\0\0\x02\x08\x02")], ..answer("not-serving", "its health is NOT_SERVING") },
    Answer { method: HEALTH, body: &[], trailers: &[("grpc-status", "12")], ..answer("no-health", "has no health service") },
    Answer { headers: &[("content-type", "text/html")], body: &[Raw(b"<h1>It works!</h1>")], trailers: &[], ..answer("html", "answers with a web page") },
    Answer { status: 503, headers: &[("content-type", "text/html")], body: &[Raw(b"<h1>busy</h1>")], trailers: &[], ..answer("http-503", "answers with HTTP status 503") },
    Answer { status: 401, headers: &[], body: &[], trailers: &[], ..answer("http-401", "answers with HTTP status 401") },
    Answer { status: 404, headers: &[], body: &[], trailers: &[], ..answer("http-404", "answers with HTTP status 404") },
    Answer { headers: &[("content-type", "application/json")], body: &[Raw(b"{}")], ..answer("wrong-content-type", "answers with JSON, under a gRPC status") },
    Answer { trailers: &[], ..answer("no-trailers", "sends no trailers") },
    Answer { trailers: &[("x-server", "none")], ..answer("no-grpc-status", "sends trailers without `grpc-status`") },
    Answer { trailers: &[("grpc-status", "99")], ..answer("unknown-status", "answers with the status 99, which does not exist") },
    Answer { trailers: &[("grpc-status", "banana")], ..answer("status-no-number", "answers with a status that is no number") },
    Answer { body: &[Raw(b"\0\0\0\0\x64\x0a\x01v")], ..answer("truncated", "ends within a message") },
    Answer { body: &[Raw(b"\0\0\0")], ..answer("truncated-prefix", "ends within a message's length") },
    Answer { body: &[Raw(b"\0\x04\0\0\x01"), Zeros((64 << 20) + 1)], ..answer("64-mib", "answers with a message of 64 MiB and one byte") },
    Answer { body: &[Raw(b"\0\xff\xff\xff\xff\x0a\x01v")], ..answer("wrong-length", "claims a message of 4 GiB") },
    Answer { body: &[Raw(b"\0\0\0\0\x01\x0a\x01v")], ..answer("short-length", "claims a message shorter than it is") },
    Answer { body: &[Raw(b"\x01\0\0\0\x03\x0a\x01v")], ..answer("compressed-flag", "flags a message as compressed without naming an encoding") },
    Answer { body: &[Raw(b"\x07\0\0\0\x03\x0a\x01v")], ..answer("bad-flag", "flags a message with 7") },
    Answer { headers: &[GRPC, ("grpc-encoding", "cuneiform")], body: &[Raw(b"\x01\0\0\0\x03\x0a\x01v")], ..answer("unknown-encoding", "names an encoding that does not exist") },
    Answer { body: &[Raw(b"\0\0\0\0\x03\xff\xff\xff")], ..answer("no-protobuf", "answers with bytes that are no message") },
    Answer { body: &[Raw(b"\0\0\0\0\x02\x08\x05")], ..answer("other-type", "answers with a message of another type") },
    Answer { body: &[Raw(b"\0\0\0\0\x03\x0a\x01w")], ..answer("other-value", "answers with another value than was put") },
    Answer { body: &[Raw(VALUE), Raw(VALUE)], ..answer("answers-twice", "answers twice") },
    Answer { body: &[], ..answer("no-message", "says OK and sends no message") },
    Answer { trailers: &[("grpc-status", "0"), ("grpc-message", "all is lost")], ..answer("ok-with-text", "says OK and that all is lost") },
    Answer { headers: &[GRPC, ("x-huge", HUGE)], ..answer("huge-header", "sends a header of 64 KiB") },
    Answer { trailers: &[("grpc-status", "0"), ("x-huge", HUGE)], ..answer("huge-trailer", "sends a trailer of 64 KiB") },
    Answer { body: &[Never], ..answer("never-answers", "takes calls and never answers") },
    Answer { body: &[Raw(b"\0\0\0\0\x03\x0a"), Never], ..answer("stalls-in-message", "stalls within a message") },
    Answer { body: &[Raw(VALUE), Never], ..answer("never-ends", "sends its message and never ends the call") },
    Answer { body: &[Exit(7)], ..answer("exits-in-call", "exits with status 7 within a call") },
    Answer { body: &[Exit(0)], ..answer("exits-clean-in-call", "exits with status 0 within a call") },
    Answer { body: &[Die(Signal::SIGSEGV)], ..answer("crashes-in-call", "is ended by SIGSEGV within a call") },
    Answer { body: &[Die(Signal::SIGKILL)], ..answer("killed-in-call", "is ended by SIGKILL within a call") },
];

impl Answer {
    /// Whether it is to a call of this path.
    pub(in super::super) fn is_to(&self, path: &str) -> bool {
        self.method == path
    }

    pub(in super::super) fn response(&'static self) -> Response<Body> {
        let playing = Playing { pieces: self.body, zeros: 0, trailers: Some(map(self.trailers)) };
        let mut response = Response::new(Body::new(playing));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        *response.headers_mut() = map(self.headers);
        response
    }
}

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// The body under way.
struct Playing {
    pieces: &'static [Piece],
    zeros: usize,
    trailers: Option<HeaderMap>,
}

/// Zeros in one frame.
const ZEROS: &[u8] = &[0; 16 << 10];

impl Playing {
    fn some_zeros(&mut self) -> Frame<Bytes> {
        let now = self.zeros.min(ZEROS.len());
        self.zeros -= now;
        Frame::data(Bytes::from_static(&ZEROS[..now]))
    }
}

impl http_body::Body for Playing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.zeros > 0 {
            return Poll::Ready(Some(Ok(self.some_zeros())));
        }
        let Some((first, rest)) = self.pieces.split_first() else {
            let trailers = self.trailers.take().filter(|trailers| !trailers.is_empty());
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        match *first {
            Raw(bytes) => {
                self.pieces = rest;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(bytes)))))
            }
            Zeros(count) => {
                self.pieces = rest;
                self.zeros = count;
                Poll::Ready(Some(Ok(self.some_zeros())))
            }
            Never => Poll::Pending,
            Exit(status) => end(status),
            Die(signal) => die(signal),
        }
    }
}

#[expect(clippy::exit, reason = "a process that ends within a call")]
fn end(status: i32) -> ! {
    std::process::exit(status)
}
