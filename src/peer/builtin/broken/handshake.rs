//! Plugins with a wrong handshake, and liars that do something else than they are asked: what
//! `scenarios/negative/handshake.yaml` runs against every host.

use std::sync::Arc;
use std::time::Duration;

use super::super::plugin::{Announcement, PluginError};
use crate::axis::values::{KeyType, TlsMode, Transport};
use crate::outcome::Phase;
use crate::peer::{PeerError, ServeRequest};
use crate::pki::{Authority, Identity, Role};
use crate::transport::{Fault, Target, TlsSpec};

/// How long `late-line` waits unless told otherwise.
pub const LATE: Duration = Duration::from_millis(1500);

super::switches! {
    /// One defect.
    Defect {
        ExitAtOnce "exit-at-once" "exits with status 3 before anything else";
        Silence "silence" "stays alive and prints no line";
        NoiseBeforeLine "noise-before-line" "prints a line of text before the handshake line";
        ThreeFields "three-fields" "prints a line of three fields";
        FiveFields "five-fields" "prints a line without field 6";
        KindNetrpc "kind-netrpc" "says `netrpc` in field 5";
        CoreVersion "core-version" "says core version 2";
        AppVersion "app-version" "announces protocol version 99, which no host speaks";
        UnknownNetwork "unknown-network" "says `udp` in field 3";
        CertPadded "cert-padded" "pads the base64 of field 6";
        CertBroken "cert-broken" "cuts field 6 in half";
        CertEmpty "cert-empty" "leaves field 6 empty under `AutoMTLS`";
        OtherCert "other-cert" "announces another certificate than it shows";
        DeadAddress "dead-address" "announces an address where nobody listens";
        LateLine "late-line" "prints its line late";
        IgnoresKey "ignores-key" "shows a P-384 certificate, or P-256 where P-384 was asked for";
        IgnoresTls "ignores-tls" "serves plaintext whatever is asked";
        IgnoresMutual "ignores-mutual" "asks for no client certificate";
        IgnoresTransport "ignores-transport" "listens on the other socket family";
    }
}

impl Defect {
    /// The key type that a server shows, asked for `asked`.
    pub(in super::super) fn key(self, asked: KeyType) -> KeyType {
        match (self, asked) {
            (Self::IgnoresKey, KeyType::P384) => KeyType::P256,
            (Self::IgnoresKey, _) => KeyType::P384,
            _ => asked,
        }
    }

    pub(in super::super) fn transport(self, asked: Transport) -> Transport {
        match (self, asked) {
            (Self::IgnoresTransport, Transport::Tcp) => Transport::Unix,
            (Self::IgnoresTransport, Transport::Unix) => Transport::Tcp,
            _ => asked,
        }
    }

    /// The TLS that a server really does.
    pub(in super::super) fn tls(self, asked: TlsSpec) -> TlsSpec {
        match self {
            Self::IgnoresTls => TlsSpec::none(),
            Self::IgnoresMutual if asked.mode != TlsMode::None => TlsSpec { mode: TlsMode::Server, ca: None, ..asked },
            _ => asked,
        }
    }

    /// The lie of a server in this process.
    pub(in super::super) async fn twist(
        self,
        mut request: ServeRequest,
        authority: &Authority,
    ) -> Result<ServeRequest, PeerError> {
        request.transport = self.transport(request.transport);
        if let (Self::IgnoresKey, Some(asked)) = (self, request.tls.identity.as_ref().and_then(|own| own.key_type())) {
            let other = authority.issue(Role::Server, self.key(asked)).await;
            request.tls.identity = Some(other.map_err(|error| PeerError {
                harness: true,
                ..Fault::new(Phase::Spawn, "spawn.certificate", error.to_string()).into()
            })?);
        }
        request.tls = self.tls(request.tls);
        Ok(request)
    }

    /// A certificate whose DER has a length that base64 pads: P-521 signatures vary by a byte or two.
    pub(in super::super) fn fits(self, identity: &Identity) -> bool {
        self != Self::CertPadded || !identity.leaf_der().len().is_multiple_of(3)
    }

    /// What is printed for a line, or nothing.
    pub(in super::super) fn print(self, announcement: &Announcement) -> Result<Option<String>, PluginError> {
        let good = announcement.line.to_string();
        let mut fields: Vec<String> = good.split('|').map(str::to_owned).collect();
        let mut set = |at: usize, text: &str| {
            if let Some(field) = fields.get_mut(at) {
                text.clone_into(field);
            }
        };
        let cert = announcement.line.cert.as_deref();
        match self {
            Self::ExitAtOnce | Self::Silence => return Ok(None),
            Self::NoiseBeforeLine => return Ok(Some(format!("soupscen: loading the plugin\n{good}"))),
            Self::ThreeFields => fields.truncate(3),
            Self::FiveFields => fields.truncate(5),
            Self::KindNetrpc => set(4, "netrpc"),
            Self::CoreVersion => set(0, "2"),
            Self::AppVersion => set(1, "99"),
            Self::UnknownNetwork => set(2, "udp"),
            Self::CertPadded => {
                use base64::Engine as _;
                set(5, &cert.map(|der| base64::engine::general_purpose::STANDARD.encode(der)).unwrap_or_default());
            }
            Self::CertBroken => {
                let whole = fields.get(5).cloned().unwrap_or_default();
                // A multiple of 4, so that it is still base64 and only the certificate is broken.
                fields.get_mut(5).into_iter().for_each(|field| field.truncate(whole.len() / 8 * 4));
            }
            Self::CertEmpty => set(5, ""),
            Self::OtherCert => {
                let other = Identity::self_signed(KeyType::P256)?;
                set(5, &crate::handshake::encode_cert(other.leaf_der()));
            }
            Self::DeadAddress => match &announcement.line.target {
                // Port 1 of loopback: nobody but root could listen there.
                Target::Tcp(_) => set(3, "127.0.0.1:1"),
                Target::Unix(path) => set(3, &format!("{}.gone", path.display())),
            },
            Self::LateLine | Self::IgnoresKey | Self::IgnoresTls | Self::IgnoresMutual | Self::IgnoresTransport => {}
        }
        Ok(Some(fields.join("|")))
    }
}

/// What a liar shows instead of `identity`, when it does.
pub(in super::super) fn identity_for(defect: Option<Defect>, asked: KeyType) -> Result<Arc<Identity>, PluginError> {
    let key = defect.map_or(asked, |defect| defect.key(asked));
    loop {
        let made = Identity::self_signed(key)?;
        if defect.is_none_or(|defect| defect.fits(&made)) {
            return Ok(Arc::new(made));
        }
    }
}
