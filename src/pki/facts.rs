//! Reads from a certificate what verdicts and reports need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::PkiError;
use crate::axis::values::KeyType;
use crate::outcome::evidence::CertFacts;

const OID_P256: &str = "1.2.840.10045.3.1.7";
const OID_P384: &str = "1.3.132.0.34";
const OID_P521: &str = "1.3.132.0.35";
const OID_ED25519: &str = "1.3.101.112";

/// What a DER certificate says of itself. Nothing is verified.
///
/// # Errors
/// [`PkiError::NotCertificate`] when it is not exactly one X.509 certificate.
pub fn cert_facts(der: &[u8]) -> Result<CertFacts, PkiError> {
    let (rest, cert) =
        X509Certificate::from_der(der).map_err(|error| PkiError::NotCertificate { problem: error.to_string() })?;
    if !rest.is_empty() {
        return Err(PkiError::NotCertificate { problem: format!("{} bytes follow it", rest.len()) });
    }
    let dns_names = match cert.subject_alternative_name() {
        Ok(Some(names)) => names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    Ok(CertFacts {
        key: key_type(&cert),
        sha256: hex::encode(Sha256::digest(der)),
        subject: cert.subject().to_string(),
        ca: matches!(cert.basic_constraints(), Ok(Some(basic)) if basic.value.ca),
        not_before: cert.validity().not_before.timestamp(),
        not_after: cert.validity().not_after.timestamp(),
        dns_names,
    })
}

/// The facts of the first certificate in PEM text (`PLUGIN_CLIENT_CERT`); `None` when there is none.
#[must_use]
pub fn pem_facts(pem: &str) -> Option<CertFacts> {
    use rustls::pki_types::pem::PemObject as _;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    cert_facts(&der).ok()
}

fn key_type(cert: &X509Certificate<'_>) -> Option<KeyType> {
    let info = cert.public_key();
    match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => match rsa.key_size() {
            2048 => Some(KeyType::Rsa2048),
            3072 => Some(KeyType::Rsa3072),
            4096 => Some(KeyType::Rsa4096),
            _ => None,
        },
        Ok(PublicKey::EC(_)) => {
            let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
            match curve.to_id_string().as_str() {
                OID_P256 => Some(KeyType::P256),
                OID_P384 => Some(KeyType::P384),
                OID_P521 => Some(KeyType::P521),
                _ => None,
            }
        }
        _ if info.algorithm.algorithm.to_id_string() == OID_ED25519 => Some(KeyType::Ed25519),
        _ => None,
    }
}

/// Certificates seen by [`cached`]; a run shows a few dozen, and each `AutoMTLS` launch one more.
const CACHE: usize = 512;

/// The same as [`cert_facts`], remembered: connections of a run show the same few certificates, and
/// parsing is a visible share of a handshake's cost. `None` for what is no certificate.
pub(crate) fn cached(der: &[u8]) -> Option<Arc<CertFacts>> {
    static SEEN: OnceLock<Mutex<HashMap<[u8; 32], Arc<CertFacts>>>> = OnceLock::new();
    let digest: [u8; 32] = Sha256::digest(der).into();
    let seen = SEEN.get_or_init(Mutex::default);
    if let Some(facts) = seen.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
        return Some(Arc::clone(facts));
    }
    let facts = Arc::new(cert_facts(der).ok()?);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.len() >= CACHE {
        seen.clear();
    }
    seen.insert(digest, Arc::clone(&facts));
    Some(facts)
}
