//! The handshake messages that travel in plaintext. Every reader here takes a complete message
//! body and gives `None` where it is malformed: a bystander has nobody to complain to.

use crate::outcome::evidence::{ClientHello, ServerHello};

/// Handshake types (RFC 8446 section 4, RFC 5246 section 7.4).
pub(in crate::wire) const CLIENT_HELLO: u8 = 1;
pub(in crate::wire) const SERVER_HELLO: u8 = 2;
pub(in crate::wire) const CERTIFICATE: u8 = 11;
pub(in crate::wire) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(in crate::wire) const CERTIFICATE_REQUEST: u8 = 13;

/// Extension types (RFC 8446 section 4.2).
const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

/// The random of a `ServerHello` that is a `HelloRetryRequest` (RFC 8446 section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// At most so many entries of an offered list are kept; real clients offer below 40.
const MAX_LIST: usize = 64;
/// At most so many bytes of a name are kept (RFC 6066: a host name has at most 255).
const MAX_NAME: usize = 255;

/// A `ServerHello`, or the retry request that looks like one.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::wire) enum Hello {
    /// The choices.
    Chosen(ServerHello),
    /// Another key share is wanted, for this group.
    Retry(Option<u16>),
}

/// A cursor over bytes; every read is checked.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn u24(&mut self) -> Option<usize> {
        self.take(3).map(|b| usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2]))
    }

    /// A vector with a length of one byte.
    fn vec8(&mut self) -> Option<Cursor<'a>> {
        let n = self.u8()?;
        self.take(n.into()).map(Cursor)
    }

    /// A vector with a length of two bytes.
    fn vec16(&mut self) -> Option<Cursor<'a>> {
        let n = self.u16()?;
        self.take(n.into()).map(Cursor)
    }

    /// Everything as numbers of two bytes, up to [`MAX_LIST`]; an odd last byte is dropped.
    fn numbers(self) -> Vec<u16> {
        self.0.chunks_exact(2).take(MAX_LIST).map(|b| u16::from_be_bytes([b[0], b[1]])).collect()
    }
}

/// Calls `each` for every extension.
fn extensions<'a>(mut list: Cursor<'a>, mut each: impl FnMut(u16, Cursor<'a>)) -> Option<()> {
    while !list.0.is_empty() {
        let kind = list.u16()?;
        each(kind, list.vec16()?);
    }
    Some(())
}

/// Reads a `ClientHello` (RFC 8446 section 4.1.2). What is malformed after the cipher suites is
/// left out; the offers before it still count.
pub(in crate::wire) fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut c = Cursor(body);
    let legacy = c.u16()?;
    c.take(32)?;
    c.vec8()?;
    let mut hello = ClientHello { ciphers: c.vec16()?.numbers(), ..ClientHello::default() };
    c.vec8()?;
    if let Some(list) = c.vec16() {
        extensions(list, |kind, e| {
            offer(&mut hello, kind, e);
        });
    }
    if hello.versions.is_empty() {
        hello.versions.push(legacy);
    }
    Some(hello)
}

fn offer(hello: &mut ClientHello, kind: u16, mut e: Cursor<'_>) -> Option<()> {
    match kind {
        SUPPORTED_VERSIONS => hello.versions = e.vec8()?.numbers(),
        SUPPORTED_GROUPS => hello.groups = e.vec16()?.numbers(),
        SIGNATURE_ALGORITHMS => hello.signature_schemes = e.vec16()?.numbers(),
        KEY_SHARE => {
            let mut shares = e.vec16()?;
            while let (Some(group), Some(_)) = (shares.u16(), shares.vec16()) {
                if hello.key_shares.len() < MAX_LIST {
                    hello.key_shares.push(group);
                }
            }
        }
        SERVER_NAME => {
            let mut names = e.vec16()?;
            if names.u8()? == 0 {
                hello.server_name = Some(text(names.vec16()?.0));
            }
        }
        ALPN => {
            let mut names = e.vec16()?;
            while let Some(name) = names.vec8() {
                if hello.alpn.len() < MAX_LIST {
                    hello.alpn.push(text(name.0));
                }
            }
        }
        _ => {}
    }
    Some(())
}

/// Reads a `ServerHello` (RFC 8446 section 4.1.3).
pub(in crate::wire) fn server_hello(body: &[u8]) -> Option<Hello> {
    let mut c = Cursor(body);
    let mut chosen = ServerHello { version: c.u16()?, ..ServerHello::default() };
    let retry = c.take(32)? == RETRY_RANDOM;
    c.vec8()?;
    chosen.cipher = c.u16()?;
    c.u8()?;
    if let Some(list) = c.vec16() {
        extensions(list, |kind, mut e| match kind {
            SUPPORTED_VERSIONS => chosen.version = e.u16().unwrap_or(chosen.version),
            KEY_SHARE => chosen.group = e.u16(),
            _ => {}
        });
    }
    Some(if retry { Hello::Retry(chosen.group) } else { Hello::Chosen(chosen) })
}

/// The DER of the leaf in a TLS 1.2 `Certificate` (RFC 5246 section 7.4.2): `None` when malformed,
/// `Some(None)` when the list is empty.
#[expect(clippy::option_option, reason = "malformed and empty are two findings")]
pub(in crate::wire) fn first_certificate(body: &[u8]) -> Option<Option<&[u8]>> {
    let mut c = Cursor(body);
    let length = c.u24()?;
    let mut list = Cursor(c.take(length)?);
    if list.0.is_empty() {
        return Some(None);
    }
    let length = list.u24()?;
    list.take(length).map(Some)
}

/// The curve of a TLS 1.2 `ServerKeyExchange` with ECDHE (RFC 8422 section 5.4).
pub(in crate::wire) fn key_exchange_group(body: &[u8]) -> Option<u16> {
    let mut c = Cursor(body);
    (c.u8()? == 3).then(|| c.u16()).flatten()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_NAME)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_requests_are_told_from_choices() {
        let mut body = vec![3, 3];
        body.extend(RETRY_RANDOM);
        body.extend([0, 0x13, 0x01, 0, 0, 12, 0, 43, 0, 2, 3, 4, 0, 51, 0, 2, 0, 0x18]);
        assert_eq!(server_hello(&body), Some(Hello::Retry(Some(0x18))));
        body[2] ^= 1;
        let chosen = ServerHello { version: 0x0304, cipher: 0x1301, group: Some(0x18) };
        assert_eq!(server_hello(&body), Some(Hello::Chosen(chosen)));
    }

    #[test]
    fn certificates_are_found_empty_or_malformed() {
        assert_eq!(first_certificate(&[0, 0, 0]), Some(None));
        assert_eq!(first_certificate(&[0, 0, 5, 0, 0, 2, 7, 8]), Some(Some(&[7, 8][..])));
        assert_eq!(first_certificate(&[0, 0, 9, 0, 0, 2, 7, 8]), None);
        assert_eq!(first_certificate(&[0, 0, 5, 0, 0, 3, 7, 8]), None);
    }

    #[test]
    fn only_named_curves_are_groups() {
        assert_eq!(key_exchange_group(&[3, 0, 0x1d, 32]), Some(0x1d));
        assert_eq!(key_exchange_group(&[0, 128, 1]), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_the_readers_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = (client_hello(&body), server_hello(&body), first_certificate(&body), key_exchange_group(&body));
        }
    }
}
