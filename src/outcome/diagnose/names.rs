//! Numbers of the TLS registries as people say them, and what a client that offers some numbers
//! can accept. Source: the IANA "TLS Parameters" registries.

use crate::axis::values::KeyType;
use crate::outcome::evidence::ClientHello;

const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
const SECP256R1: u16 = 0x0017;
const SECP384R1: u16 = 0x0018;
const SECP521R1: u16 = 0x0019;

/// An alert's name as a cause code has it (RFC 8446 section 6, with dashes).
pub(super) const fn alert(number: u8) -> Option<&'static str> {
    Some(match number {
        0 => "close-notify",
        10 => "unexpected-message",
        20 => "bad-record-mac",
        22 => "record-overflow",
        40 => "handshake-failure",
        42 => "bad-certificate",
        43 => "unsupported-certificate",
        44 => "certificate-revoked",
        45 => "certificate-expired",
        46 => "certificate-unknown",
        47 => "illegal-parameter",
        48 => "unknown-ca",
        49 => "access-denied",
        50 => "decode-error",
        51 => "decrypt-error",
        70 => "protocol-version",
        71 => "insufficient-security",
        80 => "internal-error",
        86 => "inappropriate-fallback",
        90 => "user-canceled",
        109 => "missing-extension",
        110 => "unsupported-extension",
        112 => "unrecognized-name",
        113 => "bad-certificate-status-response",
        115 => "unknown-psk-identity",
        116 => "certificate-required",
        120 => "no-application-protocol",
        _ => return None,
    })
}

/// The number of an alert's name.
pub(super) fn alert_number(name: &str) -> Option<u8> {
    (0..=u8::MAX).find(|n| alert(*n) == Some(name))
}

/// `TLS 1.3`.
pub(super) fn version(number: u16) -> String {
    match number {
        0x0300 => "SSL 3.0".into(),
        0x0301 => "TLS 1.0".into(),
        0x0302 => "TLS 1.1".into(),
        TLS12 => "TLS 1.2".into(),
        TLS13 => "TLS 1.3".into(),
        other => format!("version {other:#06x}"),
    }
}

/// A key as people say it.
pub(super) const fn key(key: KeyType) -> &'static str {
    match key {
        KeyType::Rsa2048 => "RSA-2048",
        KeyType::Rsa3072 => "RSA-3072",
        KeyType::Rsa4096 => "RSA-4096",
        KeyType::P256 => "P-256",
        KeyType::P384 => "P-384",
        KeyType::P521 => "P-521",
        KeyType::Ed25519 => "Ed25519",
    }
}

/// Whether a client with these offers can in no way verify a signature by this key. Under TLS 1.3
/// an ECDSA scheme names its curve (RFC 8446 section 4.2.3); under TLS 1.2 any ECDSA scheme does,
/// but the curve must be among the groups (RFC 8422 section 5.1.1). `version`: the one chosen, if
/// it is known. A client that sends no schemes at all leaves the question open.
pub(super) fn cannot_verify(hello: &ClientHello, version: Option<u16>, key: KeyType) -> bool {
    if hello.signature_schemes.is_empty() {
        return false;
    }
    let offers = |schemes: &[u16]| schemes.iter().any(|s| hello.signature_schemes.contains(s));
    let tls13 = match version {
        Some(version) => version == TLS13,
        None => hello.versions.contains(&TLS13),
    };
    let ecdsa = |scheme: u16, curve: u16| {
        if tls13 { !offers(&[scheme]) } else { !offers(&[0x0403, 0x0503, 0x0603]) || !hello.groups.contains(&curve) }
    };
    match key {
        KeyType::P256 => ecdsa(0x0403, SECP256R1),
        KeyType::P384 => ecdsa(0x0503, SECP384R1),
        KeyType::P521 => ecdsa(0x0603, SECP521R1),
        KeyType::Ed25519 => !offers(&[0x0807]),
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
            let pss = offers(&[0x0804, 0x0805, 0x0806]);
            !pss && (tls13 || !offers(&[0x0401, 0x0501, 0x0601, 0x0201]))
        }
    }
}
