//! The typed values of the built-in axes, as the layers below `plan` use them. Names and aliases
//! are in the axis table; these are what a name resolves to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who starts the server. `Plugin`: the client does, by go-plugin launch. `Direct`: the engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Launch {
    /// go-plugin: the host starts the plugin and reads its handshake line.
    Plugin,
    /// The engine starts the server, the client dials its address.
    Direct,
}

/// The socket family between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP on loopback.
    Tcp,
    /// A unix stream socket.
    Unix,
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Plaintext HTTP/2.
    None,
    /// go-plugin `AutoMTLS`: both sides make a certificate and pin the other's exactly.
    Auto,
    /// The server shows a certificate of the run's authority, the client shows none.
    Server,
    /// Both sides show certificates of the run's authority.
    Mutual,
}

/// A certificate's key type and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// RSA, 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA, 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA, 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
    /// ECDSA on secp256r1.
    P256,
    /// ECDSA on secp384r1.
    P384,
    /// ECDSA on secp521r1.
    P521,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// A TLS protocol version. Nothing below 1.2 is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// A key-exchange group, by its name in the TLS Supported Groups registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// X25519 (RFC 7748), 0x001d.
    X25519,
    /// secp256r1, 0x0017.
    Secp256r1,
    /// secp384r1, 0x0018.
    Secp384r1,
    /// secp521r1, 0x0019.
    Secp521r1,
    /// X25519MLKEM768, 0x11ec.
    X25519Mlkem768,
}

macro_rules! names {
    ($ty:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $ty {
            /// Every value, in table order.
            pub const ALL: &'static [$ty] = &[$($ty::$variant),+];
            /// The canonical name, as in YAML and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($ty::$variant => $name),+ }
            }
            /// The value of a canonical name; aliases are the axis table's business.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some($ty::$variant),)+ _ => None }
            }
        }
        impl std::fmt::Display for $ty {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.name()) }
        }
    };
}
names!(Launch { Plugin => "plugin", Direct => "direct" });
names!(Transport { Tcp => "tcp", Unix => "unix" });
names!(TlsMode { None => "none", Auto => "auto", Server => "server", Mutual => "mutual" });
names!(KeyType { Rsa2048 => "rsa-2048", Rsa3072 => "rsa-3072", Rsa4096 => "rsa-4096", P256 => "p256", P384 => "p384", P521 => "p521", Ed25519 => "ed25519" });
names!(TlsVersion { V1_2 => "1.2", V1_3 => "1.3" });
names!(Group { X25519 => "x25519", Secp256r1 => "secp256r1", Secp384r1 => "secp384r1", Secp521r1 => "secp521r1", X25519Mlkem768 => "x25519mlkem768" });

impl Group {
    /// Its number in the TLS Supported Groups registry.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::X25519 => 0x001d,
            Self::Secp256r1 => 0x0017,
            Self::Secp384r1 => 0x0018,
            Self::Secp521r1 => 0x0019,
            Self::X25519Mlkem768 => 0x11ec,
        }
    }

    /// The group of a registry number.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|g| g.code() == code)
    }
}

impl TlsVersion {
    /// The version as on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::V1_2 => 0x0303,
            Self::V1_3 => 0x0304,
        }
    }
}

/// Everything a case asks of the connection. `None` means nothing was asked (the axis is absent
/// from the matrix, does not apply to the row, or its value is `auto`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// Who starts the server; absent means `direct`.
    pub launch: Option<Launch>,
    /// Socket family.
    pub transport: Option<Transport>,
    /// Protection; absent means `none` for `direct`, `auto` is never assumed.
    pub tls: Option<TlsMode>,
    /// Certificates given as files instead of issued by the run's authority.
    pub files: Option<TlsFiles>,
    /// The server certificate's key.
    pub key: Option<KeyType>,
    /// The client certificate's key.
    pub client_key: Option<KeyType>,
    /// The TLS version.
    pub tls_version: Option<TlsVersion>,
    /// The key-exchange group.
    pub group: Option<Group>,
}

impl Request {
    /// Asks for a built-in value of an axis in place of what was asked before; a value that leaves
    /// the choice to the peer asks for nothing.
    pub fn ask(&mut self, axis: &str, value: &str) {
        match axis {
            "transport" => self.transport = Transport::from_name(value),
            "tls" => {
                self.tls = TlsMode::from_name(value);
                self.files = None;
            }
            "key" => self.key = KeyType::from_name(value),
            "client_key" => self.client_key = KeyType::from_name(value),
            "tls_version" => self.tls_version = TlsVersion::from_name(value),
            "group" => self.group = Group::from_name(value),
            _ => {}
        }
    }
}

/// PEM files that a `tls` value names, already resolved against the scenario's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// Certificates that the client trusts (and the server, under `mutual`).
    pub ca: Option<std::path::PathBuf>,
    /// Certificate chain to present.
    pub cert: Option<std::path::PathBuf>,
    /// Its private key.
    pub key: Option<std::path::PathBuf>,
}

/// What a value of a user's axis changes about the plugin host of a case, whatever host that is:
/// how a sound host is made a broken one without a word in its code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostChanges {
    /// Variables on their way from the host to its plugin: set over the host's, or taken away.
    pub env: BTreeMap<String, Option<String>>,
    /// Application protocol versions that the host is told to speak, in place of 1.
    pub protocol_versions: Option<Vec<u32>>,
}

impl HostChanges {
    /// Adds those of another axis; where both say something the later one holds.
    pub fn extend(&mut self, other: &Self) {
        self.env.extend(other.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        if other.protocol_versions.is_some() {
            self.protocol_versions.clone_from(&other.protocol_versions);
        }
    }
}
