//! Verifiers for exactly one certificate, as go-plugin's `AutoMTLS` needs them on both sides.
//!
//! webpki refuses these certificates, because a leaf that says CA:TRUE is no end entity for it. So
//! the end entity is compared byte for byte with the announced one, and the two things that webpki
//! would have looked at besides, name and validity, are checked here, one after the other. The
//! signature over the handshake is still verified by the provider: showing a certificate is not
//! owning its key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

use super::{Identity, facts, provider};

/// The end entity is not the announced one.
#[derive(Debug, thiserror::Error)]
#[error("the certificate shown (sha256 {shown}) is not the one announced (sha256 {pinned})")]
pub struct NotPinned {
    /// SHA-256 of what was shown, hex; empty when it was no certificate.
    pub shown: String,
    /// SHA-256 of what was announced, hex.
    pub pinned: String,
}

/// Accepts exactly one certificate, whichever side shows it.
#[derive(Debug)]
pub struct Pinned {
    certificate: CertificateDer<'static>,
    sha256: String,
    not_before: i64,
    not_after: i64,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    /// Pins the leaf of `announced`.
    #[must_use]
    pub fn new(announced: &Identity) -> Self {
        let facts = announced.facts();
        Self {
            certificate: CertificateDer::from(announced.leaf_der().to_vec()),
            sha256: facts.sha256.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            algorithms: provider().signature_verification_algorithms,
        }
    }

    fn check_exact(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        if shown.as_ref() == self.certificate.as_ref() {
            return Ok(());
        }
        let shown = facts::cached(shown).map(|facts| facts.sha256.clone()).unwrap_or_default();
        let problem = NotPinned { shown, pinned: self.sha256.clone() };
        Err(CertificateError::Other(OtherError(Arc::new(problem))).into())
    }

    fn check_validity(&self, now: UnixTime) -> Result<(), Error> {
        let at = |seconds: i64| {
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
        };
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds < self.not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before: at(self.not_before) }.into());
        }
        if seconds > self.not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after: at(self.not_after) }.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_exact(end_entity)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        self.check_validity(now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pinned {
    /// None: a hint would only make clients withhold what they have, and the certificate is pinned.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_exact(end_entity)?;
        self.check_validity(now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
