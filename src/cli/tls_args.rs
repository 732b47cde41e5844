//! TLS flags that `serve` and `call` share, and what they come to.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::axis::values::{Group, KeyType, TlsMode, TlsVersion};
use crate::pki::{Identity, PkiError};
use crate::transport::TlsSpec;

/// How connections are protected.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Protection: none, server, mutual, or auto (go-plugin's `AutoMTLS`).
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub tls: Option<TlsMode>,
    /// Certificate chain to show, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM, not encrypted.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Certificates to trust, PEM.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Type of the key to make where no file is given: rsa-2048, rsa-3072, rsa-4096, p256, p384,
    /// p521 or ed25519.
    #[arg(long, value_name = "TYPE", value_parser = key_type)]
    pub key_type: Option<KeyType>,
    /// Only this TLS version: 1.2 or 1.3.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub tls_version: Option<TlsVersion>,
    /// Only this key-exchange group: x25519, secp256r1, secp384r1, secp521r1 (not the
    /// built-in peer) or x25519mlkem768.
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub group: Option<Group>,
    /// The name to verify in the server's certificate.
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub server_name: String,
}

impl TlsArgs {
    /// Reads the files. The mode is left to the command: its default depends on how it is run.
    pub(super) fn load(&self, mode: TlsMode) -> Result<TlsSpec, PkiError> {
        // Peers that are other programs read the files from folders of their own.
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(Arc::new(Identity::load(&whole(cert), &whole(key))?)),
            _ => None,
        };
        let ca = self.ca.as_ref().map(|path| Identity::load_trust(&whole(path))).transpose()?.map(Arc::new);
        Ok(TlsSpec {
            mode,
            ca,
            identity,
            version: self.tls_version,
            group: self.group,
            server_name: self.server_name.clone(),
        })
    }
}

/// The canonical names of a value, or what is known.
fn parse<T: Copy>(text: &str, found: Option<T>, known: impl Iterator<Item = &'static str>) -> Result<T, String> {
    found.ok_or_else(|| format!("`{text}` is not known; known are {}", known.collect::<Vec<_>>().join(", ")))
}

fn mode(text: &str) -> Result<TlsMode, String> {
    parse(text, TlsMode::from_name(text), TlsMode::ALL.iter().map(|value| value.name()))
}

fn key_type(text: &str) -> Result<KeyType, String> {
    parse(text, KeyType::from_name(text), KeyType::ALL.iter().map(|value| value.name()))
}

fn version(text: &str) -> Result<TlsVersion, String> {
    parse(text, TlsVersion::from_name(text), TlsVersion::ALL.iter().map(|value| value.name()))
}

fn group(text: &str) -> Result<Group, String> {
    parse(text, Group::from_name(text), Group::ALL.iter().map(|value| value.name()))
}
