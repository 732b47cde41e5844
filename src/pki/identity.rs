//! A certificate chain with its key, from memory, PEM text or PEM files.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};

use super::{PkiError, cert_facts, keys, provider};
use crate::axis::values::KeyType;
use crate::outcome::evidence::CertFacts;

/// The most that is read of a PEM file, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// A certificate chain (leaf first), perhaps with its key, as DER and PEM, perhaps also as files.
/// One without a key is something to trust: an authority, or the certificate that a peer announced.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    chain_pem: String,
    key: Option<(PrivateKeyDer<'static>, String)>,
    facts: CertFacts,
    digest: [u8; 32],
    files: OnceLock<IdentityFiles>,
}

/// Where an identity was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain, PEM.
    pub cert: PathBuf,
    /// The private key, PEM (PKCS#8 when it was made here), readable by the owner only.
    pub key: Option<PathBuf>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.facts.subject)
            .field("key_type", &self.facts.key)
            .field("sha256", &self.facts.sha256)
            .field("has_key", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

impl Identity {
    pub(super) fn from_generated(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Result<Self, PkiError> {
        let der = super::keys::portable(key.serialize_der());
        let pem = pem_block("PRIVATE KEY", &der);
        let der = PrivateKeyDer::try_from(der).map_err(|problem| PkiError::Broken {
            what: "key",
            from: "memory".to_owned(),
            problem: problem.to_owned(),
        })?;
        Self::new(chain, Some((der, pem)))
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: Option<(PrivateKeyDer<'static>, String)>,
    ) -> Result<Self, PkiError> {
        let Some(leaf) = chain.first() else {
            return Err(PkiError::Empty { what: "certificate", from: "memory".to_owned() });
        };
        let facts = cert_facts(leaf)?;
        let mut hasher = Sha256::new();
        for cert in &chain {
            hasher.update(cert);
        }
        let digest = hasher.finalize().into();
        let chain_pem = chain.iter().map(|cert| pem_block("CERTIFICATE", cert)).collect();
        Ok(Self { chain, chain_pem, key, facts, digest, files: OnceLock::new() })
    }

    /// The self-signed identity that go-plugin's `AutoMTLS` makes, on a key of any type (its own is
    /// P-521). Curves take under a millisecond; RSA keys belong to
    /// [`Authority::auto_mtls`](super::Authority::auto_mtls), which makes them once per run.
    ///
    /// # Errors
    /// [`PkiError::Make`] when the library cannot.
    pub fn self_signed(key: KeyType) -> Result<Self, PkiError> {
        keys::auto_mtls(&keys::generate(key)?)
    }

    /// A certificate to trust or to pin, without a key.
    ///
    /// # Errors
    /// [`PkiError::NotCertificate`] when it is not exactly one X.509 certificate.
    pub fn from_der(der: Vec<u8>) -> Result<Self, PkiError> {
        Self::new(vec![CertificateDer::from(der)], None)
    }

    /// Certificates to trust from PEM text; `from` names it in errors.
    ///
    /// # Errors
    /// What is wrong with the text, naming `from`.
    pub fn trust_from_pem(text: &[u8], from: &str) -> Result<Self, PkiError> {
        Self::new(read_certs("CA", text, from)?, None)
    }

    /// A chain and its key from PEM text; `cert_from` and `key_from` name them in errors.
    ///
    /// # Errors
    /// What is wrong with either, or that they do not belong together.
    pub fn from_pem(cert: &[u8], cert_from: &str, key: &[u8], key_from: &str) -> Result<Self, PkiError> {
        let chain = read_certs("certificate", cert, cert_from)?;
        let der = read_key(key, key_from)?;
        CertifiedKey::from_der(chain.clone(), der.clone_key(), provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                PkiError::Mismatch { cert: cert_from.to_owned(), key: key_from.to_owned() }
            }
            error => PkiError::Broken { what: "key", from: key_from.to_owned(), problem: error.to_string() },
        })?;
        let pem = String::from_utf8_lossy(key).into_owned();
        Self::new(chain, Some((der, pem)))
    }

    /// Certificates to trust from a PEM file.
    ///
    /// # Errors
    /// What is wrong with the file, with its path.
    pub fn load_trust(path: &Path) -> Result<Self, PkiError> {
        let identity = Self::trust_from_pem(&read_file("CA", path)?, &quoted(path))?;
        let _ = identity.files.set(IdentityFiles { cert: path.to_owned(), key: None });
        Ok(identity)
    }

    /// A chain and its key from PEM files.
    ///
    /// # Errors
    /// What is wrong with the files, with their paths.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, PkiError> {
        let (cert_pem, key_pem) = (read_file("certificate", cert)?, read_file("key", key)?);
        let identity = Self::from_pem(&cert_pem, &quoted(cert), &key_pem, &quoted(key))?;
        let files = IdentityFiles { cert: cert.to_owned(), key: Some(key.to_owned()) };
        let _ = identity.files.set(files);
        Ok(identity)
    }

    /// The chain, leaf first; never empty.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The leaf's DER.
    #[must_use]
    pub fn leaf_der(&self) -> &[u8] {
        self.chain.first().map_or(&[], AsRef::as_ref)
    }

    /// The chain as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key as DER; `None` for something to trust.
    #[must_use]
    pub fn key_der(&self) -> Option<&PrivateKeyDer<'static>> {
        self.key.as_ref().map(|(der, _)| der)
    }

    /// The private key as PEM; `None` for something to trust.
    #[must_use]
    pub fn key_pem(&self) -> Option<&str> {
        self.key.as_ref().map(|(_, pem)| pem.as_str())
    }

    /// The leaf's key type; `None` when the axes know no name for it.
    #[must_use]
    pub fn key_type(&self) -> Option<KeyType> {
        self.facts.key
    }

    /// What the leaf says of itself.
    #[must_use]
    pub fn facts(&self) -> &CertFacts {
        &self.facts
    }

    /// SHA-256 over the chain's DER: equal identities share their rustls configs.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Where it is on disk, once written or when it was read from there.
    #[must_use]
    pub fn files(&self) -> Option<&IdentityFiles> {
        self.files.get()
    }

    /// Writes it as `NAME.crt` and `NAME.key` into a folder of the owner's, once: a second call
    /// gives the first one's files.
    ///
    /// # Errors
    /// [`PkiError::Write`] with the path.
    pub fn write_to(&self, folder: &Path, name: &str) -> Result<&IdentityFiles, PkiError> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let cert = folder.join(format!("{name}.crt"));
        write_private(&cert, self.chain_pem.as_bytes())?;
        let key = match self.key_pem() {
            Some(pem) => {
                let path = folder.join(format!("{name}.key"));
                write_private(&path, pem.as_bytes())?;
                Some(path)
            }
            None => None,
        };
        Ok(self.files.get_or_init(|| IdentityFiles { cert, key }))
    }
}

/// Creates the file readable by the owner only from its first moment, never following what may
/// already be there.
fn write_private(path: &Path, text: &[u8]) -> Result<(), PkiError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text)
    };
    match write() {
        Ok(()) => Ok(()),
        Err(error) => Err(PkiError::Write { path: path.to_owned(), error }),
    }
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, PkiError> {
    let failed = |error| PkiError::Read { what, path: path.to_owned(), error };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_LIMIT {
        return Err(PkiError::TooLarge { what, path: path.to_owned(), bytes, limit: FILE_LIMIT });
    }
    std::fs::read(path).map_err(failed)
}

fn labels(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let labels: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .take(5)
        .collect();
    labels.join(", ")
}

fn check_pem(what: &'static str, text: &[u8], from: &str) -> Result<(), PkiError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(PkiError::Empty { what, from: from.to_owned() });
    }
    if !text.windows(11).any(|window| window == b"-----BEGIN ") {
        return Err(PkiError::NotPem { what, from: from.to_owned() });
    }
    Ok(())
}

fn read_certs(what: &'static str, text: &[u8], from: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    check_pem(what, text, from)?;
    let broken = |problem: String| PkiError::Broken { what, from: from.to_owned(), problem };
    let mut chain = Vec::new();
    for cert in CertificateDer::pem_slice_iter(text) {
        let cert = cert.map_err(|error| broken(error.to_string()))?;
        cert_facts(&cert).map_err(|error| broken(error.to_string()))?;
        chain.push(cert);
    }
    if chain.is_empty() {
        return Err(PkiError::WrongKind { what, from: from.to_owned(), found: labels(text) });
    }
    Ok(chain)
}

fn read_key(text: &[u8], from: &str) -> Result<PrivateKeyDer<'static>, PkiError> {
    check_pem("key", text, from)?;
    let lossy = String::from_utf8_lossy(text);
    if lossy.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || lossy.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(PkiError::Encrypted { from: from.to_owned() });
    }
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            Err(PkiError::WrongKind { what: "key", from: from.to_owned(), found: labels(text) })
        }
        Err(error) => Err(PkiError::Broken { what: "key", from: from.to_owned(), problem: error.to_string() }),
    }
}

/// One PEM block (RFC 7468): 64 characters a line.
fn pem_block(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut block = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        block.push_str(line);
        block.push('\n');
        rest = tail;
    }
    block.push_str("-----END ");
    block.push_str(label);
    block.push_str("-----\n");
    block
}
