//! What the lengths of encrypted TLS 1.3 records say. Pure arithmetic, shared by the reader that
//! sees them pass (`wire`) and by those who judge what they mean (`diagnose`, `effective`).
//!
//! A record's length is that of the content, one byte of inner type and a tag of 16 bytes
//! (RFC 8446 section 5.2). Handshake messages have a header of four bytes. `Finished` is as long
//! as the hash of the cipher suite; an empty client `Certificate` has an empty context and an
//! empty list. Measured: record lengths 53 and 69 for `Finished` alone, 25 for an empty
//! `Certificate` alone, 61 and 77 for both in one record.

use crate::axis::values::KeyType;
use crate::outcome::evidence::Side;

/// Inner type and tag.
const OVERHEAD: u16 = 1 + 16;
/// Type and length of a handshake message.
const HEADER: u16 = 4;
/// An alert: level and number.
pub const TLS13_ALERT: u16 = 2 + OVERHEAD;
/// An empty `Certificate`: context length, list length.
const EMPTY_CERTIFICATE: u16 = HEADER + 1 + 3;

/// What the client's first encrypted record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFlight {
    /// An alert instead of a flight.
    Alert,
    /// `Finished` at once: the server asked for no certificate.
    NotAsked,
    /// An empty `Certificate`: the server asked, the client had none to show.
    Empty,
    /// Something longer: a certificate.
    Shown,
}

impl ClientFlight {
    /// Whether a certificate was shown; `None` for an alert.
    #[must_use]
    pub const fn shown(self) -> Option<bool> {
        match self {
            Self::Alert => None,
            Self::NotAsked | Self::Empty => Some(false),
            Self::Shown => Some(true),
        }
    }
}

/// Length of a record that holds `Finished` alone; `None` for a cipher suite that TLS 1.3 has not
/// (RFC 8446 appendix B.4).
#[must_use]
pub const fn finished_record(cipher: u16) -> Option<u16> {
    match cipher {
        0x1301 | 0x1303 | 0x1304 => Some(HEADER + 32 + OVERHEAD),
        0x1302 => Some(HEADER + 48 + OVERHEAD),
        _ => None,
    }
}

/// What the client's first encrypted record of this length is, under a TLS 1.3 cipher suite.
#[must_use]
pub fn first_record(cipher: u16, length: u16) -> Option<ClientFlight> {
    let finished = finished_record(cipher)?;
    Some(match length {
        TLS13_ALERT => ClientFlight::Alert,
        n if n == finished => ClientFlight::NotAsked,
        n if n == EMPTY_CERTIFICATE + OVERHEAD || n == EMPTY_CERTIFICATE + finished => ClientFlight::Empty,
        _ => ClientFlight::Shown,
    })
}

/// The key that made a `CertificateVerify`, where a flight's messages came in a record each (Go,
/// Java): the record right before `Finished`. `None` where they are packed together (rustls,
/// `BoringSSL`) or the length fits no key.
#[must_use]
pub fn signing_key(side: Side, cipher: u16, lengths: &[u16]) -> Option<KeyType> {
    let finished = finished_record(cipher)?;
    let end = lengths.iter().position(|n| *n == finished)?;
    // A client sends Certificate, CertificateVerify, Finished; a server EncryptedExtensions and
    // perhaps CertificateRequest before them. Anywhere else the length is a coincidence.
    let places = if side == Side::Client { 2..=2 } else { 3..=4 };
    let record = *lengths.get(end.checked_sub(1).filter(|_| places.contains(&end))?)?;
    // Scheme and length of the signature: four bytes. ECDSA signatures are DER of two numbers
    // whose length varies by a few bytes.
    match record.checked_sub(HEADER + OVERHEAD + 4)? {
        64 => Some(KeyType::Ed25519),
        66..=72 => Some(KeyType::P256),
        98..=104 => Some(KeyType::P384),
        133..=139 => Some(KeyType::P521),
        256 => Some(KeyType::Rsa2048),
        384 => Some(KeyType::Rsa3072),
        512 => Some(KeyType::Rsa4096),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_lengths_are_recognised() {
        let table = [
            (0x1301, 19, ClientFlight::Alert),
            (0x1301, 53, ClientFlight::NotAsked),
            (0x1302, 69, ClientFlight::NotAsked),
            (0x1301, 25, ClientFlight::Empty),
            (0x1301, 61, ClientFlight::Empty),
            (0x1302, 77, ClientFlight::Empty),
            (0x1302, 61, ClientFlight::Shown),
            (0x1303, 700, ClientFlight::Shown),
        ];
        for (cipher, length, flight) in table {
            assert_eq!(first_record(cipher, length), Some(flight), "{cipher:#x} {length}");
        }
        assert_eq!(first_record(0xc02b, 53), None, "TLS 1.2 suites say nothing");
    }

    #[test]
    fn a_flight_of_single_records_tells_the_key() {
        // Go: EncryptedExtensions, CertificateRequest, Certificate, CertificateVerify, Finished.
        assert_eq!(signing_key(Side::Server, 0x1301, &[32, 63, 615, 164, 53]), Some(KeyType::P521));
        assert_eq!(signing_key(Side::Server, 0x1301, &[32, 500, 97, 53]), Some(KeyType::P256));
        assert_eq!(signing_key(Side::Client, 0x1301, &[615, 281, 53, 90]), Some(KeyType::Rsa2048));
        // Packed: nothing to be told.
        assert_eq!(signing_key(Side::Server, 0x1301, &[900]), None);
        assert_eq!(signing_key(Side::Client, 0x1301, &[53]), None);
        assert_eq!(signing_key(Side::Client, 0x1301, &[700, 90, 97, 53]), None, "data, by its place");
    }
}
