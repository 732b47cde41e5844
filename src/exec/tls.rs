//! What each side of a case is to do about TLS, from what the case asks. Certificates come from
//! the run's authority (made once per key type, before a case's clock starts) or from files.

use std::sync::Arc;

use crate::axis::values::{KeyType, Launch, Request, TlsMode};
use crate::outcome::evidence::Known;
use crate::peer::TlsSpec;
use crate::pki::{Authority, Identity, PkiError, Role};
use crate::plan::ChosenBy;

/// The key of a certificate that the authority issues when no case asks for another.
pub(super) const DEFAULT_KEY: KeyType = KeyType::P256;
/// The name in every certificate of the authority, and the one that clients verify.
const SERVER_NAME: &str = "localhost";

/// Both sides' part in one lane.
#[derive(Debug, Clone)]
pub(super) struct SideSpecs {
    pub(super) mode: TlsMode,
    pub(super) client: TlsSpec,
    pub(super) server: TlsSpec,
}

impl SideSpecs {
    /// Makes or loads what the case asks for.
    ///
    /// `chosen_by`: which sides are asked for the TLS version and the group.
    pub(super) async fn of(
        authority: &Authority,
        request: &Request,
        chosen_by: impl Fn(&str) -> ChosenBy,
    ) -> Result<Self, PkiError> {
        let launch = request.launch.unwrap_or(Launch::Direct);
        let mode = request.tls.unwrap_or(TlsMode::None);
        let blank =
            TlsSpec { mode, ca: None, identity: None, version: None, group: None, server_name: SERVER_NAME.into() };
        let (mut client, mut server) = (blank.clone(), blank);
        if let Some(version) = request.tls_version {
            let by = chosen_by("tls_version");
            client.version = by.client.then_some(version);
            server.version = by.server.then_some(version);
        }
        if let Some(group) = request.group {
            let by = chosen_by("group");
            client.group = by.client.then_some(group);
            server.group = by.server.then_some(group);
        }
        match mode {
            TlsMode::None => {}
            TlsMode::Auto => {
                // Each side makes its own; only a key that was asked for is made here.
                if let Some(key) = request.client_key {
                    client.identity = Some(authority.auto_mtls(key).await?);
                }
            }
            TlsMode::Server | TlsMode::Mutual => {
                let files = request.files.as_ref();
                let ca = match files.and_then(|f| f.ca.as_ref()) {
                    Some(path) => Arc::new(Identity::load_trust(path)?),
                    None => authority.root(),
                };
                let own = match files {
                    Some(files) => match (&files.cert, &files.key) {
                        (Some(cert), Some(key)) => Some(Arc::new(Identity::load(cert, key)?)),
                        _ => None,
                    },
                    None => None,
                };
                client.ca = Some(Arc::clone(&ca));
                server.ca = (mode == TlsMode::Mutual).then_some(ca);
                server.identity = Some(match &own {
                    Some(own) if launch == Launch::Direct => Arc::clone(own),
                    _ => authority.issue(Role::Server, request.key.unwrap_or(DEFAULT_KEY)).await?,
                });
                if mode == TlsMode::Mutual {
                    client.identity = Some(match own {
                        Some(own) => own,
                        None => authority.issue(Role::Client, request.client_key.unwrap_or(DEFAULT_KEY)).await?,
                    });
                }
            }
        }
        Ok(Self { mode, client, server })
    }

    /// What is known of the certificates without looking at the wire.
    pub(super) fn known(&self) -> Known {
        let key = |spec: &TlsSpec| spec.identity.as_ref().and_then(|i| i.key_type());
        Known {
            server_key: key(&self.server),
            client_key: key(&self.client),
            client_auth: matches!(self.mode, TlsMode::Mutual | TlsMode::Auto),
        }
    }
}
