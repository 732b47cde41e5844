//! rustls configs, built once per distinct [`TlsSpec`] and shared by all its connections.
//!
//! Building one parses keys and roots, which costs more than a P-256 handshake; a connection per
//! case must not pay that. Sessions are never resumed: every handshake of a case is a whole one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, NamedGroup, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::{Fault, TlsSpec};
use crate::axis::values::{Group, TlsMode, TlsVersion};
use crate::outcome::Phase;
use crate::pki::verify::Pinned;
use crate::pki::{Identity, provider};

/// HTTP/2 over TLS (RFC 9113 section 3.2); Go's and other gRPC stacks insist on it.
const ALPN: &[u8] = b"h2";

/// Configs kept per side. Every `AutoMTLS` launch pins a certificate of its own, so there is no end
/// to them; when full, all go, and the few that are still in use come back.
const CACHE: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    mode: TlsMode,
    ca: Option<[u8; 32]>,
    identity: Option<[u8; 32]>,
    version: Option<TlsVersion>,
    group: Option<Group>,
}

impl Key {
    fn of(spec: &TlsSpec) -> Self {
        Self {
            mode: spec.mode,
            ca: spec.ca.as_deref().map(Identity::digest),
            identity: spec.identity.as_deref().map(Identity::digest),
            version: spec.version,
            group: spec.group,
        }
    }
}

type Cache<T> = OnceLock<Mutex<HashMap<Key, Arc<T>>>>;

fn cached<T>(
    cache: &'static Cache<T>,
    spec: &TlsSpec,
    build: fn(&TlsSpec) -> Result<T, Fault>,
) -> Result<Option<Arc<T>>, Fault> {
    if spec.mode == TlsMode::None {
        return Ok(None);
    }
    let cache = cache.get_or_init(Mutex::default);
    let key = Key::of(spec);
    if let Some(config) = cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(Some(Arc::clone(config)));
    }
    let config = Arc::new(build(spec)?);
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= CACHE {
        cache.clear();
    }
    cache.insert(key, Arc::clone(&config));
    Ok(Some(config))
}

/// The client's config; `None` for plaintext.
///
/// # Errors
/// A [`Fault`] with the code `tls.setup` when the spec lacks or holds what cannot be used, with
/// `refused` set and `tls.unsupported…` when this TLS library cannot do what is asked.
pub fn client_config(spec: &TlsSpec) -> Result<Option<Arc<ClientConfig>>, Fault> {
    static CLIENTS: Cache<ClientConfig> = OnceLock::new();
    cached(&CLIENTS, spec, build_client)
}

/// The server's config; `None` for plaintext.
///
/// # Errors
/// As [`client_config`].
pub fn server_config(spec: &TlsSpec) -> Result<Option<Arc<ServerConfig>>, Fault> {
    static SERVERS: Cache<ServerConfig> = OnceLock::new();
    cached(&SERVERS, spec, build_server)
}

fn setup(text: impl Into<String>) -> Fault {
    Fault::new(Phase::Tls, "tls.setup", text)
}

fn build_client(spec: &TlsSpec) -> Result<ClientConfig, Fault> {
    let provider = restricted(spec)?;
    let ca = spec.ca.as_deref().ok_or_else(|| setup("the client has no certificate to trust; give it a CA"))?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(spec))
        .map_err(|error| setup(format!("the client cannot offer what is asked: {error}")))?;
    let builder = if spec.mode == TlsMode::Auto {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned::new(ca)))
    } else {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)?), provider)
            .build()
            .map_err(|error| setup(format!("the client cannot use its CA: {error}")))?;
        builder.with_webpki_verifier(verifier)
    };
    let mut config = match spec.identity.as_deref() {
        Some(identity) if spec.mode != TlsMode::Server => {
            let key = identity.key_der().ok_or_else(|| setup("the client's certificate has no key with it"))?;
            builder
                .with_client_auth_cert(identity.chain().to_vec(), key.clone_key())
                .map_err(|error| setup(format!("the client cannot use its certificate: {error}")))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn build_server(spec: &TlsSpec) -> Result<ServerConfig, Fault> {
    let provider = restricted(spec)?;
    let identity = spec.identity.as_deref().ok_or_else(|| setup("the server has no certificate to show"))?;
    let key = identity.key_der().ok_or_else(|| setup("the server's certificate has no key with it"))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(spec))
        .map_err(|error| setup(format!("the server cannot accept what is asked: {error}")))?;
    let ca = || spec.ca.as_deref().ok_or_else(|| setup("the server has no certificate to verify clients by"));
    let builder = match spec.mode {
        TlsMode::Auto => builder.with_client_cert_verifier(Arc::new(Pinned::new(ca()?))),
        TlsMode::Mutual => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca()?)?), provider)
                .build()
                .map_err(|error| setup(format!("the server cannot use its CA: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        }
        TlsMode::Server | TlsMode::None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(identity.chain().to_vec(), key.clone_key())
        .map_err(|error| setup(format!("the server cannot use its certificate: {error}")))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn roots(ca: &Identity) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for cert in ca.chain() {
        roots.add(cert.clone()).map_err(|error| setup(format!("the CA certificate cannot be used: {error}")))?;
    }
    Ok(roots)
}

fn versions(spec: &TlsSpec) -> Vec<&'static SupportedProtocolVersion> {
    match spec.version {
        Some(TlsVersion::V1_2) => vec![&rustls::version::TLS12],
        Some(TlsVersion::V1_3) => vec![&rustls::version::TLS13],
        None => rustls::ALL_VERSIONS.to_vec(),
    }
}

/// The provider, with exactly the asked group.
fn restricted(spec: &TlsSpec) -> Result<Arc<CryptoProvider>, Fault> {
    let Some(group) = spec.group else { return Ok(Arc::clone(provider())) };
    let name = match group {
        Group::X25519 => NamedGroup::X25519,
        Group::Secp256r1 => NamedGroup::secp256r1,
        Group::Secp384r1 => NamedGroup::secp384r1,
        Group::Secp521r1 => NamedGroup::secp521r1,
        Group::X25519Mlkem768 => NamedGroup::X25519MLKEM768,
    };
    let Some(found) = rustls::crypto::aws_lc_rs::ALL_KX_GROUPS.iter().find(|known| known.name() == name) else {
        let text = format!("the built-in peer's TLS library has no key exchange on {group}");
        return Err(Fault::new(Phase::Tls, "tls.unsupported.group", text).refused());
    };
    if let Some(version) = spec.version {
        let wire = match version {
            TlsVersion::V1_2 => rustls::ProtocolVersion::TLSv1_2,
            TlsVersion::V1_3 => rustls::ProtocolVersion::TLSv1_3,
        };
        if !found.usable_for_version(wire) {
            let text = format!("TLS {version} has no key exchange on {group}");
            return Err(Fault::new(Phase::Tls, "tls.unsupported.group", text).refused());
        }
    }
    Ok(Arc::new(CryptoProvider { kx_groups: vec![*found], ..provider().as_ref().clone() }))
}
