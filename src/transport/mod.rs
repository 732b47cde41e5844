//! TCP and unix sockets with our own TLS layer under tonic, on both ends. L3.
//!
//! tonic can do TLS neither on unix sockets nor with a verifier or version of our choice, so the
//! layer is here: [`dial`] and [`Listener`] give a [`Link`] that hyper speaks HTTP/2 on, with what
//! our end knows of it ([`ConnectionFacts`](crate::outcome::evidence::ConnectionFacts)) and, when
//! it fails, why ([`Fault`]). `pki` gives identities and verifiers; `peer::builtin` is the user.

mod cause;
mod dial;
mod link;
mod listen;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;

pub use cause::Fault;
pub use dial::dial;
pub use link::{Link, Socket, Watch};
pub use listen::{Listener, secure};
pub use tls::{client_config, server_config};

use crate::axis::values::{Group, TlsMode, TlsVersion, Transport};
use crate::pki::Identity;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// `HOST:PORT`.
    Tcp(std::net::SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Its family.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self {
            Self::Tcp(_) => Transport::Tcp,
            Self::Unix(_) => Transport::Unix,
        }
    }
}

impl std::fmt::Display for Target {
    /// `HOST:PORT` or `unix:PATH`, as `--server` and `--address` take it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    /// Reads `HOST:PORT` (`localhost` is 127.0.0.1; other names are not looked up) or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("`unix:` needs a path behind it, like `unix:/run/kv.sock`".to_owned());
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        match numeric.as_deref().unwrap_or(text).parse() {
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) => Err(format!("`{text}` is no address; write `HOST:PORT` with a numeric host, or `unix:PATH`")),
        }
    }
}

/// What one side is to do about TLS. Cheap to clone; equal requests share their rustls configs.
#[derive(Debug, Clone)]
pub struct TlsSpec {
    /// `none`, `server`, `mutual` or `auto`.
    pub mode: TlsMode,
    /// Certificates to trust, under `server` and `mutual`; under `auto` the other side's announced
    /// certificate, once it is known.
    pub ca: Option<Arc<Identity>>,
    /// The certificate to present: the server's, or the client's under `mutual`. Under `auto` a
    /// side that is asked for a key type is given one here, otherwise it makes its own.
    pub identity: Option<Arc<Identity>>,
    /// Exactly this version, when given.
    pub version: Option<TlsVersion>,
    /// Exactly this group, when given.
    pub group: Option<Group>,
    /// The name to verify, normally `localhost`.
    pub server_name: String,
}

impl TlsSpec {
    /// Plaintext.
    #[must_use]
    pub fn none() -> Self {
        Self {
            mode: TlsMode::None,
            ca: None,
            identity: None,
            version: None,
            group: None,
            server_name: "localhost".to_owned(),
        }
    }
}
