//! What holds for every call, whatever its handler does: metadata that is echoed, the deadline, and
//! the count of calls that are open and of those that broke.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::limits::{BROKEN, KEY};
use super::mistake::{Mistake, Wrong};

/// Metadata with this beginning comes back.
const ECHO: &str = "x-soup-echo-";
/// What was left of the deadline when the call arrived, in milliseconds.
const DEADLINE: HeaderName = HeaderName::from_static("x-soup-deadline-ms");

/// Calls that know what they are about.
#[derive(Debug)]
pub(super) struct Calls {
    state: Mutex<State>,
    ended: Notify,
    wrong: Wrong,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// The key or pattern of each open call.
    open: HashMap<u64, String>,
    /// The same of calls that were never answered, newest last.
    broken: VecDeque<String>,
}

impl Calls {
    pub(super) fn new(wrong: Wrong) -> Self {
        Self { state: Mutex::default(), ended: Notify::new(), wrong }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Guard {
        let mut state = self.lock();
        state.next += 1;
        Guard { call: Call { calls: Arc::clone(self), id: state.next }, answered: false }
    }

    fn end(&self, id: u64, answered: bool) {
        if !answered && self.wrong.is(Mistake::BrokenCallsStay) {
            return;
        }
        let mut state = self.lock();
        let about = state.open.remove(&id);
        if let Some(about) = about.filter(|_| !answered && !self.wrong.is(Mistake::BrokenCallsUncounted)) {
            if state.broken.len() == BROKEN {
                state.broken.pop_front();
            }
            state.broken.push_back(about);
        }
        drop(state);
        self.ended.notify_waiters();
    }

    /// Open and broken calls about what begins with `prefix`, as soon as none is open, or after
    /// `within`.
    pub(super) async fn settled(&self, prefix: &str, within: Duration) -> (u32, u64) {
        let none_open = async {
            loop {
                // Listens before it looks, so that no end is missed.
                let mut ended = std::pin::pin!(self.ended.notified());
                ended.as_mut().enable();
                if self.count(prefix).0 == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = timeout(within, none_open).await;
        self.count(prefix)
    }

    fn count(&self, prefix: &str) -> (u32, u64) {
        let state = self.lock();
        let open = state.open.values().filter(|about| about.starts_with(prefix)).count();
        let broken = state.broken.iter().filter(|about| about.starts_with(prefix)).count();
        (u32::try_from(open).unwrap_or(u32::MAX), broken as u64)
    }
}

/// One call, for its handler.
#[derive(Debug, Clone)]
pub(super) struct Call {
    calls: Arc<Calls>,
    id: u64,
}

impl Call {
    /// That of a request; one that nobody counts when there is none.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        let nobody = || Self { calls: Arc::new(Calls::new(Wrong(None))), id: 0 };
        request.extensions().get().cloned().unwrap_or_else(nobody)
    }

    /// From here on it is counted, under this key or pattern; one that is too long is not kept whole.
    pub(super) fn is_about(&self, key: &str) {
        let end = (0..=key.len().min(KEY)).rev().find(|end| key.is_char_boundary(*end));
        let key = key.get(..end.unwrap_or(0)).unwrap_or_default();
        self.calls.lock().open.insert(self.id, key.to_owned());
    }
}

/// Ends a call when dropped.
#[derive(Debug)]
struct Guard {
    call: Call,
    answered: bool,
}

impl Guard {
    fn answer(mut self) {
        self.answered = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.call.calls.end(self.call.id, self.answered);
    }
}

/// A service with what holds for every call.
#[derive(Debug, Clone)]
pub(in super::super) struct Around<S> {
    inner: S,
    calls: Arc<Calls>,
}

impl<S> Around<S> {
    pub(super) const fn new(inner: S, calls: Arc<Calls>) -> Self {
        Self { inner, calls }
    }
}

impl<S> Service<http::Request<Incoming>> for Around<S>
where
    S: Service<http::Request<Incoming>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Incoming>) -> Self::Future {
        let wrong = self.calls.wrong;
        let guard = self.calls.begin();
        request.extensions_mut().insert(guard.call.clone());
        let left = deadline(request.headers());
        let echo = Echo { headers: echo(request.headers(), wrong), left, wrong };
        let deadline = left.filter(|_| !wrong.is(Mistake::WorkGoesOn)).map(|left| Instant::now() + left);
        let answer = self.inner.call(request);
        let work = async move {
            let answered = match deadline {
                Some(deadline) => timeout_at(deadline, answer).await,
                None => Ok(answer.await),
            };
            match answered {
                Ok(Ok(answer)) => completed(answer, echo, deadline, guard),
                Err(_) => expired().into_http(),
            }
        };
        if wrong.is(Mistake::WorkGoesOn) {
            // Until it is done, whoever has gone meanwhile.
            let work = tokio::spawn(work);
            return Box::pin(async { Ok(work.await.unwrap_or_else(|_| Status::internal("lost").into_http())) });
        }
        Box::pin(async { Ok(work.await) })
    }
}

/// An answer with what goes around it.
fn completed(
    answer: http::Response<Body>,
    echo: Echo,
    deadline: Option<Instant>,
    guard: Guard,
) -> http::Response<Body> {
    let (mut head, body) = answer.into_parts();
    if head.headers.contains_key("grpc-status") {
        // Nothing but trailers.
        guard.answer();
        echo.add_to_trailers(&mut head.headers, true);
        return http::Response::from_parts(head, body);
    }
    echo.add_to_headers(&mut head.headers);
    let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
    http::Response::from_parts(head, Body::new(Answer { inner: body, echo, deadline, guard: Some(guard) }))
}

fn expired() -> Status {
    Status::deadline_exceeded("the deadline has passed")
}

/// What comes back of a request's metadata. As it came, so that it needs no decoding.
#[derive(Debug)]
struct Echo {
    headers: Vec<(HeaderName, HeaderValue)>,
    left: Option<Duration>,
    wrong: Wrong,
}

impl Echo {
    fn append(&self, to: &mut HeaderMap) {
        for (name, value) in &self.headers {
            to.append(name, value.clone());
        }
    }

    fn add_to_headers(&self, headers: &mut HeaderMap) {
        if !self.wrong.is(Mistake::EchoOnlyInTrailers) {
            self.append(headers);
        }
    }

    fn add_to_trailers(&self, trailers: &mut HeaderMap, alone: bool) {
        let silent = self.wrong.is(Mistake::EchoOnlyInHeaders) || (alone && self.wrong.is(Mistake::EchoNotOnFailure));
        if !silent {
            self.append(trailers);
        }
        let left = self.left.filter(|_| !self.wrong.is(Mistake::DeadlineUnseen));
        let left = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        trailers.insert(DEADLINE, left.map_or(HeaderValue::from_static("none"), HeaderValue::from));
    }
}

fn echo(request: &HeaderMap, wrong: Wrong) -> Vec<(HeaderName, HeaderValue)> {
    let all = request.iter().filter(|(name, _)| {
        name.as_str().starts_with(ECHO) || (wrong.is(Mistake::EchoesAll) && name.as_str().starts_with("x-"))
    });
    let mut headers: Vec<_> = all.map(|(name, value)| (name.clone(), value.clone())).collect();
    match wrong.0 {
        Some(Mistake::EchoReversed) => headers.reverse(),
        Some(Mistake::EchoFirstOnly) => headers.dedup_by(|later, first| later.0 == first.0),
        Some(Mistake::EchoJoined) => headers.dedup_by(|later, first| {
            let same = later.0 == first.0;
            let joined = [first.1.as_bytes(), later.1.as_bytes()].join(&b", "[..]);
            if let (true, Ok(joined)) = (same, HeaderValue::from_bytes(&joined)) {
                first.1 = joined;
            }
            same
        }),
        Some(Mistake::EchoBinAsText) => {
            use base64::Engine as _;
            for (_, value) in headers.iter_mut().filter(|(name, _)| name.as_str().ends_with("-bin")) {
                let again = base64::engine::general_purpose::STANDARD_NO_PAD.encode(value.as_bytes());
                *value = HeaderValue::from_str(&again).unwrap_or(HeaderValue::from_static(""));
            }
        }
        Some(Mistake::EchoWithoutBin) => headers.retain(|(name, _)| !name.as_str().ends_with("-bin")),
        _ => {}
    }
    headers
}

/// `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2, "Requests").
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The body of an answer: what the handler gives, with more trailers, until the deadline.
struct Answer {
    /// Before `guard`: what a handler holds goes first.
    inner: Body,
    echo: Echo,
    deadline: Option<Pin<Box<Sleep>>>,
    /// `None` once the trailers are out.
    guard: Option<Guard>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.guard.is_none() {
            return Poll::Ready(None);
        }
        let mut answered = true;
        let mut frame = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(other) => return Poll::Ready(other),
            Poll::Pending => match this.deadline.as_mut().map(|deadline| deadline.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => {
                    answered = false;
                    let mut trailers = HeaderMap::new();
                    // A status without metadata always fits a header map.
                    let _ = expired().add_header(&mut trailers);
                    Frame::trailers(trailers)
                }
                _ => return Poll::Pending,
            },
        };
        if let Some(trailers) = frame.trailers_mut() {
            this.echo.add_to_trailers(trailers, false);
            if let Some(guard) = this.guard.take().filter(|_| answered) {
                guard.answer();
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.guard.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_the_protocol_writes_them() {
        let read = |text: &str| {
            deadline(&HeaderMap::from_iter([(
                HeaderName::from_static("grpc-timeout"),
                HeaderValue::from_str(text).unwrap(),
            )]))
        };
        assert_eq!(read("1H"), Some(Duration::from_hours(1)));
        assert_eq!(read("2M"), Some(Duration::from_mins(2)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for nonsense in ["", "S", "1", "1s", "-1S", "999999999S", "1 S", "ü"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
