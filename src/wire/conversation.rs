//! Both sides of one connection put together into a [`WireReport`]. Pure: fed by `relay` with
//! bytes and ends as they come, has no clock and does no I/O.
//!
//! How sure it is. Under TLS 1.2 everything up to the `Finished` messages is plaintext and so
//! observed. Under TLS 1.3 everything after `ServerHello` is encrypted, and two things are deduced
//! from lengths (nobody in this field pads records):
//!
//! - A record of 19 bytes before the handshake is over is an alert: two bytes, the inner type and
//!   the tag. No handshake message is that short, and no application protocol here opens with
//!   two bytes.
//! - The handshake came to its end when the server sends anything but an alert after the client's
//!   first encrypted record that is none. A client can send that record only after the server's
//!   whole flight, so what follows is a ticket or data. The exception would be a server that sends
//!   half-RTT data (RFC 8446 section 4.6.1): none of the stacks that are tested here does by default.

use std::mem::discriminant;

use super::CertReader;
use super::http2::Frames;
use super::tls::{self, Hello, Messages, Piece, Records, content};
use crate::axis::values::Transport;
use crate::outcome::evidence::{Alert, Opening, Side, Spoken, WireReport};
use crate::outcome::records::{self, TLS13_ALERT};

/// The client's part of the HTTP/2 connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of an HTTP/2 frame header.
const FRAME_HEADER: usize = 9;
/// Bytes of an opening that nobody knows, kept as hex.
const MAX_OTHER: usize = 16;
/// Encrypted record lengths kept per side: a handshake has up to seven.
const MAX_LENGTHS: usize = 16;
/// Alerts kept per connection.
const MAX_ALERTS: usize = 8;
/// Bytes of one side after which reading stops: no handshake is that long.
const MAX_READ: u64 = 1 << 20;

/// What is known of one side.
#[derive(Debug, Default)]
struct Half {
    stage: Stage,
    head: Vec<u8>,
    records: Records,
    messages: Messages,
    /// The first two bytes of the alert record being read.
    alert: Vec<u8>,
    read: u64,
    /// TLS 1.2: its `ChangeCipherSpec` has passed, what follows is encrypted.
    ciphered: bool,
    /// It has sent an encrypted record that is no alert.
    spoke_encrypted: bool,
    ended: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What it speaks is not yet known.
    #[default]
    Opening,
    /// It speaks TLS and is being read.
    Tls,
    /// It speaks HTTP/2 in plaintext, whose frames are read to the end.
    Http2,
    /// Nothing more is to be learnt from it.
    Done,
}

/// What a look at some bytes has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Nothing that the report would show.
    None,
    /// The report says more than before.
    Progress,
    /// It shows something that may end a case: an alert, or a side that speaks something else than
    /// the other one.
    Trouble,
}

/// One connection, as far as it has been seen.
#[derive(Debug)]
pub struct Conversation {
    report: WireReport,
    certs: CertReader,
    client: Half,
    server: Half,
    frames: Frames,
    news: News,
}

impl Conversation {
    /// A connection of which nothing has been seen. `certs` reads a certificate's DER.
    #[must_use]
    pub fn new(transport: Transport, certs: CertReader) -> Self {
        Self {
            report: WireReport::new(transport),
            certs,
            client: Half::default(),
            server: Half::default(),
            frames: Frames::default(),
            news: News::None,
        }
    }

    /// What is known so far.
    #[must_use]
    pub const fn report(&self) -> &WireReport {
        &self.report
    }

    /// Nothing more can be learnt from bytes: the handshake is over, or it is neither TLS nor plain
    /// HTTP/2 and enough of it has been seen.
    #[must_use]
    pub fn is_read(&self) -> bool {
        let read = |half: &Half, opening: &Opening| {
            let more = matches!(opening, Opening::Other(text) if text.len() < 2 * MAX_OTHER) && !half.ended;
            half.stage == Stage::Done && !more
        };
        read(&self.client, &self.report.client_opening) && read(&self.server, &self.report.server_opening)
    }

    /// Takes bytes that `side` sent; says what they brought.
    pub fn bytes(&mut self, side: Side, mut input: &[u8]) -> News {
        self.news = News::None;
        let half = self.half(side);
        half.read = half.read.saturating_add(input.len() as u64);
        if half.stage == Stage::Opening {
            let room = PREFACE.len() - half.head.len();
            let (head, rest) = input.split_at(room.min(input.len()));
            half.head.extend_from_slice(head);
            input = rest;
            let head = std::mem::take(&mut half.head);
            match classify(side, &head) {
                Some(opening) => {
                    self.opened(side, opening);
                    self.records(side, &head);
                    // A server opens with a frame, a client with its preface.
                    self.frames(side, if side == Side::Client { &[] } else { &head });
                }
                None => self.half(side).head = head,
            }
        }
        self.records(side, input);
        self.frames(side, input);
        self.more_of_other(side, input);
        let half = self.half(side);
        if half.read > MAX_READ && half.stage == Stage::Tls {
            self.give_up(side);
        }
        self.news
    }

    /// `side` has ended its direction, in order or by a reset. The first to do so closed the
    /// connection. Says whether that was news.
    pub fn ended(&mut self, side: Side, reset: bool) -> bool {
        let half = self.half(side);
        let news = !half.ended;
        half.ended = true;
        if half.stage == Stage::Opening && !half.head.is_empty() {
            let head = std::mem::take(&mut half.head);
            self.opened(side, other(&head));
        }
        if news {
            self.report.reset |= reset && self.report.closed_by.is_none();
            self.report.closed_by.get_or_insert(side);
        }
        let tls = self.report.client_opening == Opening::Tls || self.report.server_opening == Opening::Tls;
        if tls && self.report.established.is_none() {
            self.report.established = Some(false);
        }
        news
    }

    /// The relay could not reach the server.
    pub fn refused(&mut self, error: String) {
        self.report.refused = Some(error);
        self.give_up(Side::Client);
        self.give_up(Side::Server);
    }

    /// Bytes held of what passed; bounded whatever comes.
    #[doc(hidden)]
    #[must_use]
    pub fn held(&self) -> usize {
        let of = |half: &Half| half.head.len() + half.alert.len() + half.messages.held();
        of(&self.client) + of(&self.server) + self.frames.held()
    }

    fn tell(&mut self, news: News) {
        self.news = self.news.max(news);
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn opened(&mut self, side: Side, opening: Opening) {
        let half = self.half(side);
        half.stage = match opening {
            Opening::Tls => Stage::Tls,
            Opening::Http2 => Stage::Http2,
            _ => Stage::Done,
        };
        half.head = Vec::new();
        match side {
            Side::Client => self.report.client_opening = opening,
            Side::Server => self.report.server_opening = opening,
        }
        let (client, server) = (&self.report.client_opening, &self.report.server_opening);
        let both = *client != Opening::Nothing && *server != Opening::Nothing;
        // Two sides that speak something unknown may well speak the same.
        let alike = discriminant(client) == discriminant(server);
        self.tell(if both && !alike { News::Trouble } else { News::Progress });
    }

    /// What a side says that speaks nothing known is kept however it is cut into pieces.
    fn more_of_other(&mut self, side: Side, input: &[u8]) {
        let opening = match side {
            Side::Client => &mut self.report.client_opening,
            Side::Server => &mut self.report.server_opening,
        };
        if let Opening::Other(text) = opening
            && text.len() < 2 * MAX_OTHER
            && !input.is_empty()
        {
            let room = MAX_OTHER - text.len() / 2;
            text.push_str(&hex::encode(&input[..room.min(input.len())]));
            self.tell(News::Progress);
        }
    }

    fn frames(&mut self, side: Side, input: &[u8]) {
        if self.half(side).stage == Stage::Http2 {
            self.frames.bytes(side, input, self.report.spoken.get_or_insert_with(Spoken::default));
        }
    }

    fn give_up(&mut self, side: Side) {
        let half = self.half(side);
        half.stage = Stage::Done;
        half.messages.clear();
        half.head = Vec::new();
    }

    fn records(&mut self, side: Side, mut input: &[u8]) {
        while self.half(side).stage == Stage::Tls {
            let Some(piece) = self.half(side).records.next(&mut input) else { return };
            match piece {
                Piece::Start { .. } => self.half(side).alert.clear(),
                Piece::Body { kind, bytes } => self.body(side, kind, bytes),
                Piece::End { kind, length } => self.record(side, kind, length),
                Piece::NotTls => self.give_up(side),
            }
        }
    }

    fn body(&mut self, side: Side, kind: u8, bytes: &[u8]) {
        let half = self.half(side);
        match kind {
            content::HANDSHAKE if !half.ciphered => {
                let understood = half.messages.push(bytes);
                if !understood {
                    self.give_up(side);
                }
            }
            content::ALERT => {
                let room = 2 - half.alert.len().min(2);
                half.alert.extend_from_slice(&bytes[..room.min(bytes.len())]);
            }
            _ => {}
        }
    }

    fn record(&mut self, side: Side, kind: u8, length: u16) {
        let version = self.report.server_hello.as_ref().map(|h| h.version);
        match kind {
            content::HANDSHAKE if self.half(side).ciphered => self.encrypted(side, length, false),
            content::HANDSHAKE => {
                while let Some((kind, body)) = self.half(side).messages.next() {
                    self.message(side, kind, &body);
                }
            }
            content::CHANGE_CIPHER_SPEC if version.is_some_and(|v| v != tls::TLS13) => {
                self.half(side).ciphered = true;
                self.half(side).messages.clear();
                if side == Side::Client {
                    self.report.client_cert_shown.get_or_insert(false);
                }
            }
            content::ALERT => {
                let half = self.half(side);
                let number = half.alert.get(1).copied().filter(|_| length == 2);
                self.alert(side, number, number.is_none());
            }
            content::APPLICATION_DATA => self.encrypted(side, length, version == Some(tls::TLS13)),
            _ => {}
        }
    }

    /// An encrypted record that is no alert by its type. `short_alerts`: under TLS 1.3 the type is
    /// hidden, and the length tells.
    fn encrypted(&mut self, side: Side, length: u16, short_alerts: bool) {
        if side == Side::Client && !self.client.spoke_encrypted {
            let hello = self.report.server_hello.as_ref();
            let flight = hello.filter(|_| short_alerts).and_then(|h| records::first_record(h.cipher, length));
            if let Some(shown) = flight.and_then(records::ClientFlight::shown) {
                self.report.client_cert_shown = Some(shown);
            }
        }
        let lengths = match side {
            Side::Client => &mut self.report.client_records,
            Side::Server => &mut self.report.server_records,
        };
        if lengths.len() < MAX_LENGTHS {
            lengths.push(length);
        }
        if short_alerts && length == TLS13_ALERT {
            self.alert(side, None, true);
            return;
        }
        self.half(side).spoke_encrypted = true;
        let over = if short_alerts {
            side == Side::Server && self.client.spoke_encrypted
        } else {
            // TLS 1.2: both `Finished` have passed, whoever is last.
            self.client.spoke_encrypted && self.server.spoke_encrypted
        };
        if over && self.report.server_hello.is_some() {
            self.report.established = Some(true);
            self.give_up(Side::Client);
            self.give_up(Side::Server);
            self.tell(News::Progress);
        }
    }

    fn alert(&mut self, from: Side, number: Option<u8>, encrypted: bool) {
        if self.report.alerts.len() < MAX_ALERTS {
            self.report.alerts.push(Alert { from, number, encrypted });
        }
        self.tell(News::Trouble);
    }

    fn message(&mut self, side: Side, kind: u8, body: &[u8]) {
        self.tell(News::Progress);
        match (side, kind) {
            (Side::Client, tls::CLIENT_HELLO) => {
                // After a retry request the second one differs in its key shares only.
                if let Some(hello) = tls::client_hello(body) {
                    self.report.client_hello.get_or_insert(hello);
                }
            }
            (Side::Server, tls::SERVER_HELLO) => match tls::server_hello(body) {
                Some(Hello::Chosen(hello)) => self.report.server_hello = Some(hello),
                Some(Hello::Retry(group)) => self.report.retry_group = group,
                None => self.give_up(side),
            },
            (Side::Server, tls::SERVER_KEY_EXCHANGE) => {
                if let Some(hello) = &mut self.report.server_hello {
                    hello.group = tls::key_exchange_group(body);
                }
            }
            (Side::Server, tls::CERTIFICATE_REQUEST) => self.report.certificate_request = true,
            (_, tls::CERTIFICATE) => {
                let Some(leaf) = tls::first_certificate(body) else { return };
                let facts = leaf.and_then(self.certs);
                match side {
                    Side::Client => {
                        self.report.client_cert_shown = Some(leaf.is_some());
                        self.report.client_cert = facts;
                    }
                    Side::Server => self.report.server_cert = facts,
                }
            }
            _ => {}
        }
    }
}

/// What a side speaks, from its first bytes; `None` while it could still be two things.
fn classify(side: Side, head: &[u8]) -> Option<Opening> {
    let (&first, rest) = head.split_first()?;
    if (content::CHANGE_CIPHER_SPEC..=content::HEARTBEAT).contains(&first) {
        return rest.first().map(|major| if *major == 3 { Opening::Tls } else { other(head) });
    }
    if side == Side::Client && PREFACE.starts_with(head) {
        return (head.len() == PREFACE.len()).then_some(Opening::Http2);
    }
    if side == Side::Server && first == 0 {
        let header = head.first_chunk::<FRAME_HEADER>()?;
        let settings = header[3] == 4 && header[5..] == [0, 0, 0, 0];
        return Some(if settings { Opening::Http2 } else { other(head) });
    }
    Some(other(head))
}

fn other(head: &[u8]) -> Opening {
    Opening::Other(hex::encode(&head[..head.len().min(MAX_OTHER)]))
}
