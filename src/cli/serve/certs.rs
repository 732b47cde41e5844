//! Certificates of a server by hand: given as files, or made with a client's beside them.

use std::path::{Path, PathBuf};

use super::ListenArgs;
use crate::axis::values::{KeyType, TlsMode};
use crate::cli::serving::Entry;
use crate::peer::builtin::DEFAULT_KEY;
use crate::pki::{Authority, PkiError, Role};
use crate::transport::TlsSpec;

/// Both sides' part in TLS, and what a client needs to know.
pub(super) struct Certs {
    pub(super) server: TlsSpec,
    /// What the server can be dialled with.
    pub(super) dial: TlsSpec,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    /// They were made here.
    pub(super) made: bool,
}

impl Certs {
    /// Reads the files that are given; where there are none and `make_in` is, makes an authority and
    /// a certificate of each side there.
    pub(super) async fn of(args: &ListenArgs, mode: TlsMode, make_in: Option<&Path>) -> Result<Self, PkiError> {
        let server = args.tls.load(mode)?;
        let dial = TlsSpec { ca: server.ca.clone(), identity: None, ..server.clone() };
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let mut certs = Self { server, dial, ca: args.tls.ca.as_ref().map(whole), cert: None, key: None, made: false };
        let wanted = matches!(mode, TlsMode::Server | TlsMode::Mutual);
        let given = args.tls.cert.is_some() || args.tls.ca.is_some();
        let Some(folder) = args.make_certs.as_deref().or(make_in).filter(|_| wanted && !given) else {
            return Ok(certs);
        };
        let folder = whole(&folder.to_owned());
        let authority = Authority::new(Some(&folder))?;
        let key: KeyType = args.tls.key_type.unwrap_or(DEFAULT_KEY);
        let client = authority.issue(Role::Client, key).await?;
        certs.server.identity = Some(authority.issue(Role::Server, key).await?);
        certs.server.ca = (mode == TlsMode::Mutual).then(|| authority.root());
        certs.dial.ca = Some(authority.root());
        certs.ca = authority.root().files().map(|files| files.cert.clone());
        if mode == TlsMode::Mutual {
            certs.cert = client.files().map(|files| files.cert.clone());
            certs.key = client.files().and_then(|files| files.key.clone());
            certs.dial.identity = Some(client);
        }
        certs.made = true;
        Ok(certs)
    }

    /// The entry of a server with these certificates.
    pub(super) fn entry(&self, service: &str, peer: &str, address: String) -> Entry {
        Entry {
            service: service.to_owned(),
            peer: peer.to_owned(),
            address,
            tls: self.server.mode.name().to_owned(),
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            since_ms: 0,
        }
    }

    /// How a client gets to it, for people: one line each.
    pub(super) fn advice(&self, service: &str, address: &str) -> Vec<String> {
        let mut lines = vec![format!("call it: soupscen call {service}.get key=a")];
        if self.made {
            let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            lines.push(format!("other clients dial {address}, as localhost, and trust {}", path(&self.ca)));
            if self.cert.is_some() {
                lines.push(format!("they show {}", path(&self.cert)));
                lines.push(format!("whose key is {}", path(&self.key)));
            }
        }
        lines
    }
}
