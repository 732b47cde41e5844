//! From what our own end met to a cause. The only place that reads rustls and socket errors.
//!
//! Everything here is `observed`: it is our end. A code is only as fine as what was seen, so an
//! alert that several reasons share (`bad_certificate`) gives no detail.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage, PeerIncompatible};

use crate::outcome::evidence::{Reported, Side};
use crate::outcome::{Cause, Certainty, Phase};
use crate::pki::verify::NotPinned;

/// Why a connection could not be had or ended, as our end saw it.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The account, always with phase and cause.
    pub reported: Reported,
    /// It cannot be asked for at all (a group that this TLS library lacks).
    pub refused: bool,
    /// A deadline passed.
    pub timed_out: bool,
}

impl Fault {
    /// A fault with an observed cause.
    #[must_use]
    pub fn new(phase: Phase, code: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            reported: Reported {
                phase: Some(phase),
                error: text.clone(),
                native: None,
                status: None,
                cause: Some(Cause { code: code.into(), certainty: Certainty::Observed, text }),
            },
            refused: false,
            timed_out: false,
        }
    }

    pub(crate) fn native(mut self, native: impl Into<String>) -> Self {
        self.reported.native = Some(native.into());
        self
    }

    pub(crate) fn refused(mut self) -> Self {
        self.refused = true;
        self
    }

    pub(crate) fn timed_out(mut self) -> Self {
        self.timed_out = true;
        self
    }

    /// The cause's code.
    #[must_use]
    pub fn code(&self) -> &str {
        self.reported.cause.as_ref().map_or("", |cause| cause.code.as_str())
    }
}

/// What our end is and did, as far as the meaning of an error depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    /// Our side.
    pub(super) side: Side,
    /// We had a certificate to show.
    pub(super) certificate: bool,
}

impl Own {
    const fn other(self) -> &'static str {
        match self.side {
            Side::Client => "server",
            Side::Server => "client",
        }
    }

    const fn name(self) -> &'static str {
        match self.side {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

/// A failed connect.
pub(super) fn connect(error: &io::Error, target: &super::Target) -> Fault {
    use io::ErrorKind;
    let (code, what) = match error.kind() {
        ErrorKind::ConnectionRefused => ("connect.refused", "nobody listens"),
        ErrorKind::NotFound => ("connect.refused.no-socket", "there is no socket"),
        ErrorKind::TimedOut => ("connect.timeout", "nobody answered"),
        _ => ("connect.failed", "the connection failed"),
    };
    Fault::new(Phase::Connect, code, format!("{what} at {target}: {error}")).native(format!("{:?}", error.kind()))
}

/// An error of reading, writing or the TLS handshake.
pub(super) fn stream(error: &io::Error, own: Own, phase: Phase) -> Fault {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return tls(error, own);
    }
    use io::ErrorKind;
    let layer = if phase == Phase::Tls { "tls" } else { "rpc" };
    let other = own.other();
    match error.kind() {
        ErrorKind::UnexpectedEof => closed(own, phase),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            let code = if phase == Phase::Tls { format!("tls.closed.by-{other}") } else { "rpc.closed".to_owned() };
            Fault::new(phase, code, format!("the {other} reset the connection: {error}"))
                .native(format!("{:?}", error.kind()))
        }
        kind => Fault::new(phase, format!("{layer}.io"), format!("the connection to the {other} failed: {error}"))
            .native(format!("{kind:?}")),
    }
}

/// The other side closed.
pub(super) fn closed(own: Own, phase: Phase) -> Fault {
    let other = own.other();
    if phase == Phase::Tls {
        Fault::new(
            phase,
            format!("tls.closed.by-{other}"),
            format!("the {other} closed the connection during the TLS handshake without an alert"),
        )
    } else {
        Fault::new(phase, "rpc.closed", format!("the {other} closed the connection"))
    }
}

/// The other side speaks plaintext where we speak TLS, or the reverse.
pub(super) fn plaintext(plain: Side, detail: &str) -> Fault {
    match plain {
        Side::Server => Fault::new(
            Phase::Tls,
            "tls.plaintext-server",
            format!("the client speaks TLS and the server does not: {detail}"),
        ),
        Side::Client => Fault::new(
            Phase::Tls,
            "tls.plaintext-client",
            format!("the server speaks TLS and the client does not: {detail}"),
        ),
    }
}

fn tls(error: &TlsError, own: Own) -> Fault {
    let (other, name) = (own.other(), own.name());
    let (code, text) = match error {
        TlsError::AlertReceived(alert) => return alert_received(*alert, own),
        TlsError::InvalidCertificate(problem) => {
            let detail = certificate(problem).map_or_else(String::new, |detail| format!(".{detail}"));
            // rustls shows foreign errors in their debug form only.
            let why = match problem {
                CertificateError::Other(inner) => inner.0.to_string(),
                problem => problem.to_string(),
            };
            (
                format!("tls.rejected.{other}-cert.by-{name}{detail}"),
                format!("the {name} refused the {other}'s certificate: {why}"),
            )
        }
        TlsError::NoCertificatesPresented => (
            format!("tls.rejected.{other}-cert.by-{name}.missing"),
            format!("the {name} requires a certificate and the {other} showed none"),
        ),
        TlsError::PeerIncompatible(problem) => {
            (incompatible(problem).to_owned(), format!("the {name} found nothing in common with the {other}: {error}"))
        }
        TlsError::NoApplicationProtocol => {
            ("tls.no-common.alpn".to_owned(), format!("the {other} offers no application protocol `h2`"))
        }
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            let side = if own.side == Side::Client { Side::Server } else { Side::Client };
            return plaintext(side, &format!("its first bytes are no TLS record ({error})")).native(native(error));
        }
        error => (format!("tls.broken.by-{other}"), format!("the {other} broke the TLS protocol: {error}")),
    };
    Fault::new(Phase::Tls, code, text).native(native(error))
}

fn native(error: &TlsError) -> String {
    let mut text = format!("{error:?}");
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    text
}

/// The detail of a certificate that we refused.
fn certificate(problem: &CertificateError) -> Option<&'static str> {
    use CertificateError as E;
    Some(match problem {
        E::UnknownIssuer => "unknown-ca",
        E::Expired | E::ExpiredContext { .. } => "expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "not-yet-valid",
        E::NotValidForName | E::NotValidForNameContext { .. } => "name",
        E::BadSignature => "signature",
        E::BadEncoding => "encoding",
        E::Revoked => "revoked",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "purpose",
        E::UnsupportedSignatureAlgorithmContext { .. } | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "unsupported"
        }
        E::Other(other) if other.0.is::<NotPinned>() => "not-pinned",
        // webpki's own error type is no dependency of ours; its name is all that is needed.
        E::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => "ca-as-leaf",
        _ => return None,
    })
}

fn incompatible(problem: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as P;
    match problem {
        P::NoCipherSuitesInCommon => "tls.no-common.cipher",
        P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired | P::KeyShareExtensionRequired => "tls.no-common.group",
        P::NoSignatureSchemesInCommon
        | P::NoCertificateRequestSignatureSchemesInCommon
        | P::SignatureAlgorithmsExtensionRequired => "tls.no-common.signature",
        P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::SupportedVersionsExtensionRequired
        | P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled => "tls.no-common.version",
        _ => "tls.no-common",
    }
}

/// What an alert of the other side says (RFC 8446 section 6).
fn alert_received(alert: AlertDescription, own: Own) -> Fault {
    use AlertDescription as A;
    let (other, name) = (own.other(), own.name());
    let number = u8::from(alert);
    let rejected = |detail: &str| {
        // A server that says `bad_certificate` to a client without one (TLS 1.2 has no better
        // alert for it) misses it.
        let detail = if own.side == Side::Client && !own.certificate { ".missing" } else { detail };
        format!("tls.rejected.{name}-cert.by-{other}{detail}")
    };
    let code = match alert {
        A::UnknownCA => rejected(".unknown-ca"),
        A::CertificateExpired => rejected(".expired"),
        A::CertificateRevoked => rejected(".revoked"),
        A::UnsupportedCertificate => rejected(".unsupported"),
        A::CertificateRequired => rejected(".missing"),
        A::BadCertificate | A::CertificateUnknown | A::AccessDenied => rejected(""),
        A::ProtocolVersion => "tls.no-common.version".to_owned(),
        A::NoApplicationProtocol => "tls.no-common.alpn".to_owned(),
        alert => format!("tls.alert.{}", alert_name(alert)),
    };
    Fault::new(Phase::Tls, code, format!("the {other} sent the TLS alert {} ({number})", alert_name(alert)))
        .native(format!("alert {number}"))
}

/// `HandshakeFailure` → `handshake-failure`.
fn alert_name(alert: AlertDescription) -> String {
    if alert == AlertDescription::UnrecognisedName {
        // As RFC 6066 spells it.
        return "unrecognized-name".to_owned();
    }
    let AlertDescription::Unknown(number) = alert else {
        let mut name = String::new();
        let mut after_upper = true;
        for letter in format!("{alert:?}").chars() {
            if letter.is_ascii_uppercase() && !after_upper {
                name.push('-');
            }
            after_upper = letter.is_ascii_uppercase();
            name.push(letter.to_ascii_lowercase());
        }
        return name;
    };
    format!("unknown-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alert_names_are_kebab() {
        assert_eq!(alert_name(AlertDescription::HandshakeFailure), "handshake-failure");
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown-ca");
        assert_eq!(alert_name(AlertDescription::Unknown(200)), "unknown-200");
    }

    #[test]
    fn a_certificate_alert_means_ours() {
        let error = io::Error::other(TlsError::AlertReceived(AlertDescription::UnknownCA));
        let client = stream(&error, Own { side: Side::Client, certificate: true }, Phase::Tls);
        assert_eq!(client.code(), "tls.rejected.client-cert.by-server.unknown-ca");
        let bare = stream(&error, Own { side: Side::Client, certificate: false }, Phase::Tls);
        assert_eq!(bare.code(), "tls.rejected.client-cert.by-server.missing");
        let server = stream(&error, Own { side: Side::Server, certificate: true }, Phase::Tls);
        assert_eq!(server.code(), "tls.rejected.server-cert.by-client.unknown-ca");
    }
}
