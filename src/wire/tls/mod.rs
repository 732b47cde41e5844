//! TLS as a bystander can read it: records, and the handshake messages that are in plaintext.
//! Pure and incremental: bytes in whatever pieces, no I/O, no clock, never more than a bounded
//! amount held. Read by `conversation`, which puts the two sides together.
//!
//! Numbers and layouts are those of RFC 8446 (TLS 1.3) and RFC 5246 (TLS 1.2).

mod messages;
mod record;

pub(super) use messages::{
    CERTIFICATE, CERTIFICATE_REQUEST, CLIENT_HELLO, Hello, SERVER_HELLO, SERVER_KEY_EXCHANGE, client_hello,
    first_certificate, key_exchange_group, server_hello,
};
pub(super) use record::{Piece, Records};

/// Record content types (RFC 8446 section 5.1).
pub(super) mod content {
    pub(in crate::wire) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(in crate::wire) const ALERT: u8 = 21;
    pub(in crate::wire) const HANDSHAKE: u8 = 22;
    pub(in crate::wire) const APPLICATION_DATA: u8 = 23;
    pub(in crate::wire) const HEARTBEAT: u8 = 24;
}

/// TLS 1.3 on the wire.
pub(super) const TLS13: u16 = 0x0304;

/// The longest handshake message that is put together, in bytes. Go and OpenSSL draw their lines
/// at 64 KiB and 100 KiB for certificates; whoever sends more is not understood, only relayed.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// Handshake messages, put together from however many records they came in.
#[derive(Debug, Default)]
pub(super) struct Messages {
    buffer: Vec<u8>,
}

impl Messages {
    /// Adds bytes of a plaintext handshake record; `false` when a message would be longer than
    /// [`MAX_MESSAGE`], after which nothing more can be learnt.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        // One message of the greatest length and its header may be waiting, never more: complete
        // ones are taken out after each record.
        if self.buffer.len() + bytes.len() > MAX_MESSAGE + 4 + record::MAX_PAYLOAD {
            return false;
        }
        self.buffer.extend_from_slice(bytes);
        !matches!(self.head(), Some((_, length)) if length > MAX_MESSAGE)
    }

    /// Takes out the next complete message: its type and body.
    pub(super) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let (kind, length) = self.head()?;
        let body = self.buffer.get(4..4 + length)?.to_vec();
        self.buffer.drain(..4 + length);
        Some((kind, body))
    }

    /// Bytes of messages that are not complete.
    pub(super) fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self) {
        self.buffer = Vec::new();
    }

    fn head(&self) -> Option<(u8, usize)> {
        let head = self.buffer.first_chunk::<4>()?;
        Some((head[0], usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3])))
    }
}
