//! What the engine's own senses saw of one case: on the wire, of the handshake line, of the
//! processes, and what the peers themselves reported. Plain data, serialisable; produced by
//! `wire`, `handshake`, `process` and `peer`, read by `diagnose`. L2.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Certainty, Exit, GrpcStatus, Phase};
use crate::axis::values::{KeyType, Transport};

/// One of the two sides of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The one that dialled.
    Client,
    /// The one that accepted.
    Server,
}

/// All evidence of one attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Connections seen by the relay, oldest first (bounded; the last is kept).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wire: Vec<WireReport>,
    /// The plugin's handshake, if one was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<HandshakeReport>,
    /// Processes under test that ended, or are the subject of the failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessReport>,
    /// Every start of a server by a client that starts one for each op, oldest first (bounded; the
    /// last is kept). What is above is then of the newest op.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<ServerStart>,
    /// What the client said of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Reported>,
    /// What the server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Reported>,
    /// Facts that the engine knows because it issued the certificates or owns an end.
    #[serde(default)]
    pub known: Known,
    /// The budget that ran out, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<RanOut>,
}

/// A start of a server by a client that composes it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStart {
    /// The arguments that the client composed, bounded; what was run is in `process`.
    pub composed: Vec<String>,
    /// The `PLUGIN_*` variables that it set; of keys and long values only the length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// The process.
    pub process: ProcessReport,
    /// Its handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<HandshakeReport>,
    /// Connections to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wire: Vec<WireReport>,
}

/// A budget that ran out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RanOut {
    /// The phase in which the engine was waiting, as far as it knows.
    pub phase: Phase,
    /// What was being waited for, as the last segment of a cause code: `handshake-line`, `ready`,
    /// `connection`, `reply`, `message`, `case`.
    pub waiting_for: String,
    /// The budget in milliseconds.
    pub budget_ms: u64,
}

/// A peer's own account of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reported {
    /// The phase that the peer names, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Its text.
    pub error: String,
    /// Its library's own class or number (`SSL_ERROR_SSL`, `x509.UnknownAuthorityError`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<String>,
    /// The gRPC status, if the failure was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<GrpcStatus>,
    /// A cause that the reporting end knows by itself: only the built-in peers, whose end is ours,
    /// give one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<super::Cause>,
}

/// What the engine knows without looking at the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Known {
    /// Key type of the certificate that the server was given or announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_key: Option<KeyType>,
    /// Key type of the certificate that the client was given or announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<KeyType>,
    /// The server is to demand a client certificate.
    #[serde(default)]
    pub client_auth: bool,
    /// What is wrong with the certificate that the server was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_flaw: Option<Flaw>,
    /// What is wrong with the certificate that the client was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_flaw: Option<Flaw>,
}

/// A mistake in a certificate or its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// The key file holds the key of another certificate.
    KeyMismatch,
    /// Its authority is not trusted by the other side.
    UnknownCa,
    /// It has expired.
    Expired,
    /// It is for other names.
    Name,
}

/// How a certificate looks, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertFacts {
    /// Its key; `None` when it is of no type the axes know.
    pub key: Option<KeyType>,
    /// SHA-256 of the DER, lower-case hex.
    pub sha256: String,
    /// Subject, RFC 4514.
    pub subject: String,
    /// Basic constraints say CA.
    pub ca: bool,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
    /// DNS names in the subject alternative names.
    pub dns_names: Vec<String>,
}

/// The first bytes that a side sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Opening {
    /// Nothing was sent.
    Nothing,
    /// A TLS handshake record.
    Tls,
    /// The HTTP/2 connection preface (client) or a SETTINGS frame (server), in plaintext.
    Http2,
    /// Something else; up to 16 bytes as hex.
    Other(String),
}

/// A TLS alert record (RFC 8446 section 6), plaintext or encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// Who sent it.
    pub from: Side,
    /// Its number, where it was readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u8>,
    /// It came after encryption began: that it is an alert is deduced from type or length.
    #[serde(default)]
    pub encrypted: bool,
}

/// What a `ClientHello` offers (RFC 8446 section 4.1.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientHello {
    /// Offered versions (`supported_versions`, or the legacy version), as on the wire (0x0304).
    pub versions: Vec<u16>,
    /// Offered groups.
    pub groups: Vec<u16>,
    /// Groups for which a key share was sent along (TLS 1.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_shares: Vec<u16>,
    /// Offered signature schemes.
    pub signature_schemes: Vec<u16>,
    /// Offered cipher suites.
    pub ciphers: Vec<u16>,
    /// Server name indication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// ALPN protocol names (lossy text).
    pub alpn: Vec<String>,
}

/// What a `ServerHello` chose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerHello {
    /// The chosen version, as on the wire.
    pub version: u16,
    /// The chosen cipher suite.
    pub cipher: u16,
    /// The chosen group (TLS 1.3 key share; TLS 1.2 `ServerKeyExchange`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u16>,
}

/// What the record reader saw of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireReport {
    /// The family on which the client reached the relay and the relay reached the server.
    pub transport: Transport,
    /// The relay could not reach the server: the operating system's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// First bytes of the client.
    pub client_opening: Opening,
    /// First bytes of the server.
    pub server_opening: Opening,
    /// The client's offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_hello: Option<ClientHello>,
    /// The group that a `HelloRetryRequest` asked for (TLS 1.3), if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_group: Option<u16>,
    /// The server's choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_hello: Option<ServerHello>,
    /// A plaintext `CertificateRequest` was seen (TLS 1.2 only).
    #[serde(default)]
    pub certificate_request: bool,
    /// The server's leaf, where visible (TLS 1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cert: Option<CertFacts>,
    /// The client's leaf, where visible (TLS 1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<CertFacts>,
    /// Whether the client sent a certificate: seen under TLS 1.2, deduced from the length of its
    /// first encrypted record under TLS 1.3; `None` while it has sent neither that nor a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_shown: Option<bool>,
    /// Alerts, in order, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alert>,
    /// Lengths of the first encrypted records of the client (TLS 1.3: record payload incl. tag).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_records: Vec<u16>,
    /// The same of the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_records: Vec<u16>,
    /// Whether the TLS handshake came to its end on both sides, as far as records tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established: Option<bool>,
    /// What was spoken in HTTP/2, where it was plaintext on both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoken: Option<Spoken>,
    /// Who ended the connection first; `None` while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<Side>,
    /// It ended with a reset instead of a close.
    #[serde(default)]
    pub reset: bool,
    /// Bytes from the client.
    pub client_bytes: u64,
    /// Bytes from the server.
    pub server_bytes: u64,
    /// Microseconds from accept to the last event.
    pub elapsed_us: u64,
}

/// What passed on a plaintext HTTP/2 connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spoken {
    /// By the client.
    pub client: SideSpoke,
    /// By the server.
    pub server: SideSpoke,
}

/// What one side sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SideSpoke {
    /// gRPC messages.
    pub messages: u64,
    /// Those of them whose compressed flag is set.
    pub compressed: u64,
    /// HTTP/2 PINGs, without the answers to those of the other side.
    pub pings: u64,
    /// Those of them before which no DATA had come since the last one: not a measurement of
    /// bandwidth, which some libraries make by PINGs, but a sign of life.
    pub unprompted_pings: u64,
}

impl Spoken {
    /// What a side sent.
    pub const fn of(&mut self, side: Side) -> &mut SideSpoke {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// What was added since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self { client: self.client.since(before.client), server: self.server.since(before.server) }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { client: self.client.and(other.client), server: self.server.and(other.server) }
    }
}

impl SideSpoke {
    const fn since(self, before: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(before.messages),
            compressed: self.compressed.saturating_sub(before.compressed),
            pings: self.pings.saturating_sub(before.pings),
            unprompted_pings: self.unprompted_pings.saturating_sub(before.unprompted_pings),
        }
    }

    const fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            compressed: self.compressed.saturating_add(other.compressed),
            pings: self.pings.saturating_add(other.pings),
            unprompted_pings: self.unprompted_pings.saturating_add(other.unprompted_pings),
        }
    }
}

impl WireReport {
    /// What a side said first.
    #[must_use]
    pub const fn opening(&self, side: Side) -> &Opening {
        match side {
            Side::Client => &self.client_opening,
            Side::Server => &self.server_opening,
        }
    }

    /// A connection of which nothing has been seen yet.
    #[must_use]
    pub const fn new(transport: Transport) -> Self {
        Self {
            transport,
            refused: None,
            client_opening: Opening::Nothing,
            server_opening: Opening::Nothing,
            client_hello: None,
            retry_group: None,
            server_hello: None,
            certificate_request: false,
            server_cert: None,
            client_cert: None,
            client_cert_shown: None,
            alerts: Vec::new(),
            client_records: Vec::new(),
            server_records: Vec::new(),
            established: None,
            spoken: None,
            closed_by: None,
            reset: false,
            client_bytes: 0,
            server_bytes: 0,
            elapsed_us: 0,
        }
    }
}

impl Side {
    /// The one across.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// `client` or `server`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What became of the magic cookie on its way from the host to the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CookieSeen {
    /// Its variable was set.
    Set,
    /// Its variable was set to something else.
    Other,
    /// Its variable was not set.
    Missing,
}

/// What became of the go-plugin handshake line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandshakeReport {
    /// The line as printed, lossy, bounded; `None` when none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// What is wrong with it by go-plugin's rules; `None` when it is fine or did not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<HandshakeProblem>,
    /// The app protocol version it announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// The certificate in field 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cert: Option<CertFacts>,
    /// The certificate in `PLUGIN_CLIENT_CERT` that the host sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<CertFacts>,
    /// Whether the plugin was given its magic cookie; `None` where that was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<CookieSeen>,
    /// Whether the host sent `PLUGIN_CLIENT_CERT`: the real switch of `AutoMTLS`.
    #[serde(default)]
    pub auto_mtls: bool,
    /// Microseconds from spawn to line.
    #[serde(default)]
    pub after_us: u64,
}

/// A defect of a handshake line, with a stable code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandshakeProblem {
    /// The end of a cause code below `handshake.`, e.g. `line.too-few-fields`.
    pub code: String,
    /// A sentence.
    pub text: String,
    /// Every host refuses it (`false`: some hosts accept it, so it is no certain failure).
    pub certain: bool,
}

/// A process under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessReport {
    /// Which side it plays.
    pub side: Side,
    /// What was run, bounded.
    pub argv: Vec<String>,
    /// How it ended; `None` while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// The engine or the host asked it to end before it did.
    #[serde(default)]
    pub asked_to_end: bool,
    /// Its last lines of stderr, lossy, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr_tail: Vec<String>,
    /// Microseconds from spawn to exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lived_us: Option<u64>,
}

/// A fact about a live connection, known at one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionFacts {
    /// Whose end told it.
    pub side: Side,
    /// `Observed` for a built-in peer, `Reported` for others.
    pub certainty: Certainty,
    /// Encrypted or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// Version as on the wire (0x0304).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u16>,
    /// Group as on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u16>,
    /// Cipher suite as on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<u16>,
    /// The leaf that the other side presented; `None` when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_cert: Option<CertFacts>,
    /// SHA-256 of that leaf, when only the digest was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_cert_sha256: Option<String>,
    /// Whether the other side presented a certificate at all, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_cert_shown: Option<bool>,
    /// The socket family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
}
