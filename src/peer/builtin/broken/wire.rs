//! Servers that are wrong on the wire: a script of bytes and frames for each accepted connection, in
//! place of TLS and HTTP/2. RFC 9113 and RFC 8446 say what the other side may expect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::transport::Socket;

/// What a server does on a connection.
#[derive(Debug)]
pub struct Script {
    /// Its switch.
    pub name: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
    steps: &'static [Step],
}

/// One step. After the last one the connection stays open, and what comes is read and forgotten.
#[derive(Debug)]
enum Step {
    /// Waits for the first bytes of the client.
    Hear,
    /// Sends bytes.
    Say(&'static [u8]),
    /// Does a sound server's TLS handshake.
    Secure,
    /// The same, and lets so many bytes of it through.
    SecureFor(u64),
    /// Sends SETTINGS, and takes the client's.
    Greet,
    /// Sends a frame of this type, with flags, stream and payload.
    Frame(u8, u8, u32, &'static [u8]),
    /// Answers the first call, a host's look at the plugin's health.
    Health,
    /// Waits for a call.
    Call,
    /// Waits for calls, and sends these frames on the stream of each.
    Each(&'static [(u8, u8, &'static [u8])]),
    /// Sends this again and again.
    Flood(&'static [u8]),
    /// Reads nothing any more, and stays.
    Deaf,
    /// Closes in order.
    Close,
    /// Resets the connection.
    Reset,
}
use Step::{Call, Close, Deaf, Each, Flood, Frame, Greet, Health, Hear, Reset, Say, Secure, SecureFor};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200`, `content-type: application/grpc` in HPACK, without compression.
const RESPONSE: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// `grpc-status: 0`.
const TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";
const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
/// A client's preface.
const GREETING: usize = 24;
const FLOOD_PAUSE: Duration = Duration::from_millis(1);

const fn script(name: &'static str, what: &'static str, steps: &'static [Step]) -> Script {
    Script { name, what, steps }
}

/// All of them. The first ones are for clients that begin with TLS.
#[rustfmt::skip]
pub const TABLE: &[Script] = &[
    script("tls-garbage", "answers a ClientHello with garbage", &[Hear, Say(b"\xf0\x9f\x92\xa9garbage, not TLS"), Close]),
    script("tls-http1", "answers a ClientHello as a web server in plaintext does", &[Hear, Say(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"), Close]),
    script("tls-alert-failure", "answers a ClientHello with the alert handshake_failure", &[Hear, Say(b"\x15\x03\x03\0\x02\x02\x28"), Close]),
    script("tls-alert-version", "answers a ClientHello with the alert protocol_version", &[Hear, Say(b"\x15\x03\x03\0\x02\x02\x46"), Close]),
    script("tls-alert-internal", "answers a ClientHello with the alert internal_error", &[Hear, Say(b"\x15\x03\x03\0\x02\x02\x50"), Close]),
    script("tls-alert-name", "answers a ClientHello with the alert unrecognized_name", &[Hear, Say(b"\x15\x03\x03\0\x02\x02\x70"), Close]),
    script("tls-closes", "closes after the ClientHello", &[Hear, Close]),
    script("tls-closes-at-once", "closes before the ClientHello", &[Close]),
    script("tls-resets", "resets the connection after the ClientHello", &[Hear, Reset]),
    script("tls-cut-hello", "closes within its ServerHello", &[SecureFor(60), Close]),
    script("tls-cut-flight", "closes within its certificate", &[SecureFor(400), Close]),
    script("tls-stalls", "says nothing after the ClientHello", &[Hear]),
    script("tls-stalls-later", "stalls within its certificate", &[SecureFor(400)]),
    script("tls-old", "chooses TLS 1.0", &[Hear, Say(b"\x16\x03\x01\0\x2a\x02\0\0\x26\x03\x01"), Say(&[0x55; 32]), Say(b"\0\xc0\x14\0")]),
    script("tls-bad-record", "answers with a handshake record that holds no message", &[Hear, Say(b"\x16\x03\x03\0\x08\xff\xff\xff\xff\xff\xff\xff\xff"), Close]),
    script("tls-huge-record", "answers with a record of 65,535 bytes", &[Hear, Say(b"\x16\x03\x03\xff\xff"), Say(&[0; 65535]), Close]),
    script("tls-then-closes", "closes right after a good handshake", &[Secure, Close]),
    script("tls-then-resets", "resets the connection right after a good handshake", &[Secure, Reset]),
    script("tls-then-silent", "does its handshake and says nothing more", &[Secure]),
    script("tls-then-http1", "speaks HTTP/1.1 in TLS", &[Secure, Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close]),

    script("http1", "answers in HTTP/1.1", &[Hear, Say(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"), Close]),
    script("garbage", "answers with garbage", &[Hear, Say(b"\xf0\x9f\x92\xa9 this is no HTTP/2 at all, whatever one may think"), Close]),
    script("ssh", "is an SSH server", &[Say(b"SSH-2.0-OpenSSH_9.9\r\n"), Hear, Close]),
    script("closes", "closes at once", &[Hear, Close]),
    script("resets", "resets the connection at once", &[Hear, Reset]),
    script("no-settings", "accepts, reads, and never says anything", &[Hear]),
    script("deaf", "accepts and never reads", &[Deaf]),
    script("half-open", "sends SETTINGS and then nothing", &[Greet]),
    script("settings-then-deaf", "sends SETTINGS and reads nothing any more", &[Say(b"\0\0\0\x04\0\0\0\0\0"), Deaf]),
    script("half-open-later", "answers the first call and no other", &[Greet, Health]),
    script("goaway", "sends GOAWAY at once", &[Greet, Frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0benough"), Close]),
    script("goaway-in-call", "sends GOAWAY within a call", &[Greet, Health, Call, Frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\x02"), Close]),
    script("goaway-quiet", "sends GOAWAY within a call, without an error, and stays", &[Greet, Health, Call, Frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0")]),
    script("closes-in-call", "closes within a call", &[Greet, Health, Call, Close]),
    script("resets-in-call", "resets the connection within a call", &[Greet, Health, Call, Reset]),
    script("rst-internal", "answers calls with RST_STREAM, INTERNAL_ERROR", &[Greet, Health, Each(&[(RST_STREAM, 0, b"\0\0\0\x02")])]),
    script("rst-refused", "answers calls with RST_STREAM, REFUSED_STREAM", &[Greet, Health, Each(&[(RST_STREAM, 0, b"\0\0\0\x07")])]),
    script("rst-cancel", "answers calls with RST_STREAM, CANCEL", &[Greet, Health, Each(&[(RST_STREAM, 0, b"\0\0\0\x08")])]),
    script("rst-calm", "answers calls with RST_STREAM, ENHANCE_YOUR_CALM", &[Greet, Health, Each(&[(RST_STREAM, 0, b"\0\0\0\x0b")])]),
    script("rst-http1", "answers calls with RST_STREAM, HTTP_1_1_REQUIRED", &[Greet, Health, Each(&[(RST_STREAM, 0, b"\0\0\0\x0d")])]),
    script("data-on-zero", "sends DATA on stream 0", &[Greet, Frame(DATA, 0, 0, b"x")]),
    script("huge-frame", "sends a frame of 1 MiB, which nobody allowed", &[Greet, Say(b"\x10\0\0\0\0\0\0\0\x01"), Say(&[0; 1 << 20])]),
    script("zero-window", "opens a window by nothing", &[Greet, Frame(WINDOW_UPDATE, 0, 0, &[0; 4])]),
    script("window-overflow", "opens a window beyond its limit", &[Greet, Frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), Frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")]),
    script("no-window", "takes calls and opens no window for their messages", &[Say(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0")]),
    script("bad-settings", "asks for a window of 4 GiB", &[Say(b"\0\0\x06\x04\0\0\0\0\0\0\x04\xff\xff\xff\xff")]),
    script("ping-reply", "answers pings that nobody sent, for ever", &[Greet, Flood(b"\0\0\x08\x06\x01\0\0\0\0nobodyas")]),
    script("ping-flood", "sends pings for ever", &[Greet, Flood(b"\0\0\x08\x06\0\0\0\0\0flooding")]),
    script("settings-flood", "sends SETTINGS for ever", &[Greet, Flood(b"\0\0\0\x04\0\0\0\0\0")]),
    script("continuation-flood", "sends headers that never end", &[Greet, Call, Frame(HEADERS, 0, 1, RESPONSE), Flood(b"\0\0\x08\x09\0\0\0\0\x01\0\x02xy\x02xy\x40")]),
    script("stray-continuation", "continues headers that were never begun", &[Greet, Frame(CONTINUATION, END_HEADERS, 1, b"")]),
    script("push", "pushes what nobody allowed", &[Greet, Call, Frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x82")]),
    script("short-ping", "sends a ping of 3 bytes", &[Greet, Frame(PING, 0, 0, b"abc")]),
    script("bad-hpack", "answers with headers that cannot be decoded", &[Greet, Health, Each(&[(HEADERS, END_HEADERS, b"\xff\xff\xff\xff\xff")])]),
    script("upper-case", "answers with a header in capitals", &[Greet, Health, Each(&[(HEADERS, END_HEADERS, b"\x88\x00\x04Trap\x01x")])]),
    script("no-http-status", "answers with headers without a status", &[Greet, Health, Each(&[(HEADERS, END_HEADERS, b"\x0f\x10\x10application/grpc")])]),
    script("data-before-headers", "answers with a message before any header", &[Greet, Health, Each(&[(DATA, END_STREAM, SERVING)])]),
    script("stray-stream", "answers on a stream that nobody opened", &[Greet, Health, Call, Frame(HEADERS, END_HEADERS, 999, RESPONSE)]),
    script("answers-after-end", "answers a call again that has ended", &[Greet, Health, Each(&[(HEADERS, END_HEADERS, RESPONSE), (DATA, 0, b"\0\0\0\0\0"), (HEADERS, END_HEADERS | END_STREAM, TRAILERS), (HEADERS, END_HEADERS, RESPONSE)])]),
];

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Plays the script on a connection. The TLS of `config` is what a sound server would do.
pub(in super::super) async fn play(script: &Script, socket: Socket, config: Option<Arc<ServerConfig>>) {
    if script.steps.iter().any(|step| matches!(step, Reset)) {
        reset_on_close(&socket);
    }
    let mut played = Played { io: Box::new(socket), heard: BytesMut::new(), greeted: false };
    for step in script.steps {
        match played.step(step, config.as_ref()).await {
            Ok(true) => {}
            // The client is gone, or the connection is to be.
            Ok(false) | Err(_) => return,
        }
    }
    played.drain().await;
}

/// Closing then sends no FIN but a reset, and forgets what is unsent.
fn reset_on_close(socket: &Socket) {
    if let Socket::Tcp(socket) = socket {
        let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }
}

struct Played {
    io: Box<dyn Io>,
    heard: BytesMut,
    greeted: bool,
}

impl Played {
    /// Whether the script goes on.
    async fn step(&mut self, step: &Step, config: Option<&Arc<ServerConfig>>) -> io::Result<bool> {
        match step {
            Hear => {
                self.hear().await?;
            }
            Say(bytes) => self.io.write_all(bytes).await?,
            Secure => self.secure(config, None).await?,
            SecureFor(bytes) => self.secure(config, Some(*bytes)).await?,
            Greet => {
                self.frame(SETTINGS, 0, 0, b"").await?;
                self.frame(SETTINGS, ACK, 0, b"").await?;
            }
            Frame(kind, flags, stream, payload) => self.frame(*kind, *flags, *stream, payload).await?,
            Health => {
                let stream = self.call().await?;
                self.frame(HEADERS, END_HEADERS, stream, RESPONSE).await?;
                self.frame(DATA, 0, stream, SERVING).await?;
                self.frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS).await?;
            }
            Call => drop(self.call().await?),
            Each(frames) => loop {
                let stream = self.call().await?;
                for (kind, flags, payload) in *frames {
                    self.frame(*kind, *flags, stream, payload).await?;
                }
            },
            Flood(bytes) => loop {
                self.io.write_all(&bytes.repeat(64)).await?;
                // Tens of thousands a second: a flood, and yet the processor is not its alone.
                tokio::time::sleep(FLOOD_PAUSE).await;
            },
            Deaf => std::future::pending().await,
            Close => {
                self.io.flush().await?;
                self.io.shutdown().await?;
                // Closing with bytes unread would reset the connection.
                self.drain().await;
                return Ok(false);
            }
            Reset => return Ok(false),
        }
        Ok(true)
    }

    async fn secure(&mut self, config: Option<&Arc<ServerConfig>>, limit: Option<u64>) -> io::Result<()> {
        let config = config.ok_or_else(|| io::Error::other("no TLS was asked for"))?;
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        let io = std::mem::replace(&mut self.io, Box::new(tokio::io::empty()));
        let Some(limit) = limit else {
            self.io = Box::new(acceptor.accept(io).await?);
            return Ok(());
        };
        let (mut from_client, mut to_client) = tokio::io::split(io);
        let (ours, server) = tokio::io::duplex(64 << 10);
        let (answers, mut questions) = tokio::io::split(ours);
        let mut answers = answers.take(limit);
        tokio::select! {
            _ = acceptor.accept(server) => {}
            _ = tokio::io::copy(&mut from_client, &mut questions) => {}
            result = tokio::io::copy(&mut answers, &mut to_client) => drop(result?),
        }
        self.io = Box::new(from_client.unsplit(to_client));
        Ok(())
    }

    async fn hear(&mut self) -> io::Result<()> {
        if self.io.read_buf(&mut self.heard).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.io.write_all(&[&head, payload].concat()).await
    }

    /// The stream of the next call.
    async fn call(&mut self) -> io::Result<u32> {
        loop {
            let (kind, stream) = self.next_frame().await?;
            if kind == HEADERS {
                return Ok(stream);
            }
        }
    }

    async fn next_frame(&mut self) -> io::Result<(u8, u32)> {
        if !self.greeted {
            self.have(GREETING).await?;
            self.heard.advance(GREETING);
            self.greeted = true;
        }
        self.have(9).await?;
        let mut head = self.heard.split_to(9);
        let length = usize::try_from(head.get_uint(3)).map_err(io::Error::other)?;
        let (kind, _flags, stream) = (head.get_u8(), head.get_u8(), head.get_u32());
        self.have(length).await?;
        self.heard.advance(length);
        Ok((kind, stream))
    }

    async fn have(&mut self, bytes: usize) -> io::Result<()> {
        while self.heard.len() < bytes {
            self.hear().await?;
        }
        Ok(())
    }

    async fn drain(&mut self) {
        let mut scratch = [0_u8; 4096];
        while matches!(self.io.read(&mut scratch).await, Ok(read) if read > 0) {}
    }
}
