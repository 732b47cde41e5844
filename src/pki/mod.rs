//! Keys, certificates, the run's authority, and the verifiers for pinned certificates. L3.
//!
//! `transport` turns identities and verifiers into rustls configs; `peer` asks the [`Authority`] for
//! identities; `wire` and `handshake` read certificates with [`cert_facts`]. The only crypto
//! provider is aws-lc-rs: it alone signs and verifies P-521 and generates RSA keys.

mod authority;
mod error;
mod facts;
mod identity;
mod keys;
pub mod verify;

use std::sync::{Arc, OnceLock};

pub use authority::{Authority, Role};
pub use error::PkiError;
pub(crate) use facts::cached as cached_facts;
pub use facts::{cert_facts, pem_facts};
pub use identity::{Identity, IdentityFiles};

use rustls::crypto::CryptoProvider;

/// The crypto provider of every config, made once. Never installed as the process default: nothing
/// may depend on who came first.
#[must_use]
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(test)]
mod tests;
