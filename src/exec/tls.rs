//! What each side of a case is to do about TLS, from what the case asks. Certificates come from
//! the run's authority (made once per key type, before a case's clock starts) or from files.

use std::sync::Arc;

use crate::axis::values::{Launch, Mistakes, Request, TlsFiles, TlsMode};
use crate::outcome::evidence::{Flaw, Known};
use crate::peer::TlsSpec;
use crate::peer::builtin::DEFAULT_KEY;
use crate::pki::{Authority, Identity, PkiError, Role};
use crate::plan::ChosenBy;

/// The name in every certificate of the authority, and the one that clients verify.
const SERVER_NAME: &str = "localhost";

/// Both sides' part in one lane.
#[derive(Debug, Clone)]
pub(super) struct SideSpecs {
    pub(super) mode: TlsMode,
    pub(super) client: TlsSpec,
    pub(super) server: TlsSpec,
    /// What is wrong on purpose with either side's certificate.
    server_flaw: Option<Flaw>,
    client_flaw: Option<Flaw>,
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
        let (mut server_flaw, mut client_flaw) = (None, None);
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
                let made = |side: fn(&TlsFiles) -> &Option<Mistakes>| files.and_then(|files| side(files).as_ref());
                let (server_key, client_key) =
                    (request.key.unwrap_or(DEFAULT_KEY), request.client_key.unwrap_or(DEFAULT_KEY));
                server.identity = Some(match &own {
                    _ if let Some(mistakes) = made(|files| &files.server) => {
                        server_flaw = flaw(mistakes);
                        authority.flawed(Role::Server, server_key, mistakes).await?
                    }
                    Some(own) if launch == Launch::Direct => Arc::clone(own),
                    _ => authority.issue(Role::Server, server_key).await?,
                });
                if mode == TlsMode::Mutual {
                    client.identity = Some(match own {
                        _ if let Some(mistakes) = made(|files| &files.client) => {
                            client_flaw = flaw(mistakes);
                            authority.flawed(Role::Client, client_key, mistakes).await?
                        }
                        Some(own) => own,
                        None => authority.issue(Role::Client, client_key).await?,
                    });
                }
            }
        }
        Ok(Self { mode, client, server, server_flaw, client_flaw })
    }

    /// What is known of the certificates without looking at the wire.
    pub(super) fn known(&self) -> Known {
        let key = |spec: &TlsSpec| spec.identity.as_ref().and_then(|i| i.key_type());
        Known {
            server_key: key(&self.server),
            client_key: key(&self.client),
            client_auth: matches!(self.mode, TlsMode::Mutual | TlsMode::Auto),
            server_flaw: self.server_flaw,
            client_flaw: self.client_flaw,
        }
    }
}

/// The mistake that a side would meet first.
fn flaw(mistakes: &Mistakes) -> Option<Flaw> {
    match mistakes {
        Mistakes { key_file: Some(_), .. } => Some(Flaw::KeyMismatch),
        Mistakes { other_authority: true, .. } => Some(Flaw::UnknownCa),
        Mistakes { expired: true, .. } => Some(Flaw::Expired),
        Mistakes { names: Some(_), .. } => Some(Flaw::Name),
        _ => None,
    }
}
