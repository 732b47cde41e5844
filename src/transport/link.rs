//! A connected byte stream, plaintext or TLS, that remembers how it ended.
//!
//! hyper wraps errors several layers deep and loses some on the way; so the stream itself notes the
//! first fault in its [`Watch`], where the user of the connection can read it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsStream;

use super::Fault;
use super::cause::{self, Own};
use crate::axis::values::Transport;
use crate::outcome::evidence::{ConnectionFacts, Side};
use crate::outcome::{Certainty, Phase};
use crate::pki;

/// A socket of either family.
#[derive(Debug)]
pub enum Socket {
    /// With `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// A unix stream.
    Unix(UnixStream),
}

impl Socket {
    /// Its family.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self {
            Self::Tcp(_) => Transport::Tcp,
            Self::Unix(_) => Transport::Unix,
        }
    }
}

#[derive(Debug)]
enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// What became of a connection.
#[derive(Debug, Default)]
pub struct Watch {
    fault: Mutex<Option<Fault>>,
    spoke: AtomicBool,
}

impl Watch {
    /// The first fault of the stream, or its end by the other side.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the other side has sent any application data.
    #[must_use]
    pub fn spoke(&self) -> bool {
        self.spoke.load(Ordering::Acquire)
    }

    fn note(&self, fault: impl FnOnce() -> Fault) {
        let mut slot = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(fault());
        }
    }
}

/// A connection that hyper can speak HTTP/2 on.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    own: Own,
    watch: Arc<Watch>,
    first: Option<oneshot::Sender<()>>,
    facts: ConnectionFacts,
}

impl Link {
    pub(super) fn plain(socket: Socket, side: Side) -> Self {
        let facts = facts(side, socket.transport());
        Self {
            stream: Stream::Plain(socket),
            own: Own { side, certificate: false },
            watch: Arc::default(),
            first: None,
            facts,
        }
    }

    pub(super) fn tls(stream: TlsStream<Socket>, own: Own) -> Self {
        let (socket, state) = stream.get_ref();
        let mut facts = facts(own.side, socket.transport());
        fill(&mut facts, state);
        Self { stream: Stream::Tls(Box::new(stream)), own, watch: Arc::default(), first: None, facts }
    }

    /// What our end knows of the connection.
    #[must_use]
    pub fn facts(&self) -> &ConnectionFacts {
        &self.facts
    }

    /// Its fate, readable while hyper owns the link.
    #[must_use]
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }

    /// Resolves with the other side's first application byte: until then a TLS 1.3 client does not
    /// know whether its certificate was accepted. An error means that the link ended without one.
    pub fn first_byte(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.first = Some(sender);
        receiver
    }

    /// Where a failure belongs: before the other side has spoken over TLS, it may still be refusing
    /// the handshake.
    fn phase(&self) -> Phase {
        if matches!(self.stream, Stream::Tls(_)) && !self.watch.spoke() { Phase::Tls } else { Phase::Rpc }
    }

    fn received(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            let (own, phase) = (self.own, self.phase());
            self.watch.note(|| cause::closed(own, phase));
            return;
        }
        if self.watch.spoke.swap(true, Ordering::AcqRel) {
            return;
        }
        // RFC 8446 section 5.1: 21 is an alert record, 22 a handshake record. No HTTP/2 peer starts
        // with either: a client's preface starts with `P`, a server's SETTINGS frame with a length
        // that would have to be over a megabyte.
        if matches!(self.stream, Stream::Plain(_)) && matches!(bytes.first(), Some(21 | 22)) {
            let plain = self.own.side;
            self.watch.note(|| cause::plaintext(plain, "a TLS record came where HTTP/2 was due"));
        }
        if let Some(first) = self.first.take() {
            let _ = first.send(());
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let (own, phase) = (self.own, self.phase());
        self.watch.note(|| cause::stream(error, own, phase));
    }

    /// A write failed because the other side is gone. Its parting alert may lie unread in the
    /// receive buffer and says more than `EPIPE`.
    fn write_failed(&mut self, error: &io::Error, cx: &mut Context<'_>) {
        let mut scratch = [0_u8; 1024];
        for _ in 0..64 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match self.stream.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Err(better)) => return self.failed(&better),
                _ => break,
            }
        }
        self.failed(error);
    }
}

fn facts(side: Side, transport: Transport) -> ConnectionFacts {
    ConnectionFacts {
        side,
        certainty: Certainty::Observed,
        tls: Some(false),
        version: None,
        group: None,
        cipher: None,
        peer_cert: None,
        peer_cert_sha256: None,
        peer_cert_shown: Some(false),
        transport: Some(transport),
    }
}

fn fill(facts: &mut ConnectionFacts, state: &CommonState) {
    let leaf = state.peer_certificates().and_then(<[_]>::first);
    let cert = leaf.and_then(|leaf| pki::cached_facts(leaf));
    facts.tls = Some(true);
    facts.version = state.protocol_version().map(u16::from);
    facts.cipher = state.negotiated_cipher_suite().map(|suite| u16::from(suite.suite()));
    facts.group = state.negotiated_key_exchange_group().map(|group| u16::from(group.name()));
    facts.peer_cert_shown = Some(leaf.is_some());
    facts.peer_cert_sha256 = cert.as_ref().map(|cert| cert.sha256.clone());
    facts.peer_cert = cert.map(|cert| cert.as_ref().clone());
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let result = ready!(this.stream.poll_read(cx, buffer));
        match &result {
            Ok(()) if room => this.received(buffer.filled().get(before..).unwrap_or(&[])),
            Ok(()) => {}
            Err(error) => this.failed(error),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(match &mut this.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        });
        if let Err(error) = &result {
            this.write_failed(error, cx);
        }
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(match &mut this.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        });
        if let Err(error) = &result {
            this.write_failed(error, cx);
        }
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(socket) => socket.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = ready!(match &mut this.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        });
        if let Err(error) = &result {
            this.write_failed(error, cx);
        }
        Poll::Ready(result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
