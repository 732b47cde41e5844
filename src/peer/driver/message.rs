//! The messages of the driver contract, version 1: one JSON object a line. `schemas/driver.schema.json`
//! is made from these types. See `docs/driver-contract.md` for the rules behind them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The contract version that this engine speaks.
pub const CONTRACT: u32 = 1;
/// Longest line either way, in bytes.
pub const MAX_LINE: usize = 16 << 20;

/// Engine → driver.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// First message.
    Hello {
        /// Contract versions that the engine speaks.
        contracts: Vec<u32>,
        /// Budget for the answer.
        deadline_ms: u64,
        /// A capability name that no driver may claim.
        probe: String,
    },
    /// Listen.
    Serve {
        /// Names this server from now on.
        id: String,
        /// Full protobuf service name.
        service: String,
        /// Where.
        listen: Listen,
        /// Protection.
        tls: Tls,
        /// Whether client certificates are demanded.
        client_auth: ClientAuth,
        /// Folder for state and sockets; exists, empty, owned by this server alone.
        storage: String,
        /// The largest messages that it sends and takes (capability `limits`).
        #[serde(skip_serializing_if = "Option::is_none")]
        limits: Option<Limits>,
        /// Budget.
        deadline_ms: u64,
    },
    /// End a server.
    Stop {
        /// Which.
        id: String,
        /// Budget to end by itself.
        grace_ms: u64,
    },
    /// Start a plugin with the client's own plugin library and connect.
    Launch {
        /// Names this connection from now on.
        id: String,
        /// Program and arguments.
        argv: Vec<String>,
        /// The plugin's environment beside `PATH`, `HOME` and `TMPDIR`, in order.
        env: Vec<(String, String)>,
        /// The magic cookie.
        cookie: Cookie,
        /// App protocol versions that the host speaks.
        protocol_versions: Vec<u32>,
        /// Use `AutoMTLS`.
        auto_mtls: bool,
        /// Protection with files, when not `AutoMTLS`.
        tls: Tls,
        /// Folder for unix sockets.
        folder: String,
        /// Report the plugin's stdio as `observed {what: stdio}`.
        stdio: bool,
        /// Budget to be connected.
        deadline_ms: u64,
    },
    /// End a launched plugin.
    Kill {
        /// Which.
        id: String,
        /// Budget to end by itself.
        grace_ms: u64,
    },
    /// Dial; one id is one fresh channel.
    Connect {
        /// Names this connection from now on.
        id: String,
        /// Where.
        target: Address,
        /// The `:authority` to send.
        authority: String,
        /// The name to verify in the server's certificate.
        server_name: String,
        /// Protection.
        tls: Tls,
        /// When to answer.
        wait: Wait,
        /// The largest messages that it sends and takes (capability `limits`).
        #[serde(skip_serializing_if = "Option::is_none")]
        limits: Option<Limits>,
        /// HTTP/2 PINGs, also without calls (capability `keepalive`).
        #[serde(skip_serializing_if = "Option::is_none")]
        keepalive: Option<Keepalive>,
        /// Budget.
        deadline_ms: u64,
    },
    /// A unary call, or a whole stream at once.
    Call {
        /// The connection.
        id: String,
        /// Unique on the connection.
        seq: u64,
        /// `package.Service/Method`.
        method: String,
        /// Encoded messages.
        send: Vec<Message>,
        /// In order, with duplicates.
        metadata: Vec<(String, MetadataValue)>,
        /// Relative deadline of the call.
        deadline_ms: u64,
        /// `gzip` (capability `compression.gzip`) or `identity`: how request messages are encoded; the
        /// library's default when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        compression: Option<String>,
        /// Wait for a connection, within the deadline, instead of failing with `UNAVAILABLE`
        /// (capability `wait-for-ready`).
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        wait_for_ready: bool,
    },
    /// Opens a stream.
    Open {
        /// The connection.
        id: String,
        /// Names the stream from now on.
        stream: String,
        /// `package.Service/Method`.
        method: String,
        /// In order, with duplicates.
        metadata: Vec<(String, MetadataValue)>,
        /// Relative deadline of the call.
        deadline_ms: u64,
        /// As for `call`.
        #[serde(skip_serializing_if = "Option::is_none")]
        compression: Option<String>,
        /// As for `call`.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        wait_for_ready: bool,
    },
    /// Sends one message.
    Send {
        /// The stream.
        stream: String,
        /// Unique on the stream.
        seq: u64,
        /// Encoded message, base64.
        m: String,
    },
    /// Receives up to `max` messages.
    Receive {
        /// The stream.
        stream: String,
        /// Unique on the stream.
        seq: u64,
        /// At most so many.
        max: u32,
        /// Budget for the first.
        within_ms: u64,
    },
    /// Ends the sending side.
    HalfClose {
        /// The stream.
        stream: String,
    },
    /// Gives up a stream, a call, a connect or a launch.
    Cancel {
        /// The stream.
        #[serde(skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
        /// The connection.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// The call on it.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// Closes a connection.
    Close {
        /// Which.
        id: String,
    },
    /// Stop all and exit 0 within 2 s.
    Bye {},
}

/// Driver → engine. Unknown fields are ignored.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// Answer to `hello`.
    Hello(Hello),
    /// A server listens.
    Serving {
        /// Which.
        id: String,
        /// Where.
        target: Address,
    },
    /// A server ended.
    Stopped {
        /// Which.
        id: String,
    },
    /// A plugin is up and connected.
    Launched {
        /// Which.
        id: String,
        /// As announced.
        #[serde(default)]
        address: Option<String>,
        /// As announced.
        #[serde(default)]
        network: Option<String>,
        /// Negotiated app protocol version.
        #[serde(default)]
        protocol: Option<u32>,
        /// Field 6, when the host exposes it.
        #[serde(default)]
        server_cert_b64: Option<String>,
        /// The connection's TLS, where the library tells.
        #[serde(default)]
        tls: Option<TlsFacts>,
    },
    /// A plugin ended.
    Killed {
        /// Which.
        id: String,
        /// In the driver's words.
        #[serde(default)]
        how: Option<String>,
    },
    /// A connection is up.
    Connected {
        /// Which.
        id: String,
        /// Its TLS, where the library tells.
        #[serde(default)]
        tls: Option<TlsFacts>,
    },
    /// A call ended.
    Result(Box<CallReply>),
    /// A stream is open.
    Opened {
        /// Which.
        stream: String,
    },
    /// The transport took a message.
    Sent {
        /// Which stream.
        stream: String,
    },
    /// Messages arrived, or the end, or neither within the budget.
    Received {
        /// Which stream.
        stream: String,
        /// Encoded messages, at most as many as were asked for. None, and no `end`: nothing came
        /// within `within_ms`; what comes later is for the next `receive`.
        #[serde(default)]
        m: Vec<Answer>,
        /// No more will come, and `m` is empty.
        #[serde(default)]
        end: bool,
    },
    /// The sending side ended.
    HalfClosed {
        /// Which stream.
        stream: String,
    },
    /// A cancel took effect.
    Cancelled {
        /// What was cancelled.
        #[serde(default)]
        stream: Option<String>,
        /// What was cancelled.
        #[serde(default)]
        id: Option<String>,
    },
    /// A stream ended; exactly once.
    Ended {
        /// Which.
        stream: String,
        /// With what.
        status: Status,
        /// Who made the status.
        #[serde(default)]
        origin: Origin,
        /// Initial metadata.
        #[serde(default)]
        headers: Vec<(String, MetadataValue)>,
        /// Trailing metadata.
        #[serde(default)]
        trailers: Vec<(String, MetadataValue)>,
    },
    /// A connection is closed.
    Closed {
        /// Which.
        id: String,
    },
    /// `serve`, `launch` or `connect` failed.
    Failed(Failed),
    /// The request itself could not be served.
    Error {
        /// Which request.
        #[serde(default)]
        id: Option<String>,
        /// Which call on the connection, when it was one.
        #[serde(default)]
        seq: Option<u64>,
        /// Which stream.
        #[serde(default)]
        stream: Option<String>,
        /// Why.
        kind: ErrorKind,
        /// In words.
        #[serde(default)]
        error: Option<String>,
    },
    /// Something that the driver saw.
    Observed {
        /// Of which server or connection.
        #[serde(default)]
        id: Option<String>,
        /// `peer-cert`, `stdio`, …
        what: String,
        /// The rest.
        #[serde(flatten)]
        rest: BTreeMap<String, serde_json::Value>,
    },
    /// A type that this engine does not know.
    #[serde(other)]
    Unknown,
}

/// What a driver says of itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Hello {
    /// Must be [`CONTRACT`].
    pub contract: u32,
    /// Its name.
    #[serde(default)]
    pub peer: String,
    /// Component versions.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// What it can play.
    #[serde(default)]
    pub roles: Roles,
    /// `generated` or `raw`.
    #[serde(default)]
    pub codec: Option<String>,
    /// Longest line it takes.
    #[serde(default)]
    pub max_line: Option<u64>,
    /// Most requests it takes at once.
    #[serde(default)]
    pub max_in_flight: Option<u32>,
}

/// Roles of a driver.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct Roles {
    /// As a client.
    #[serde(default)]
    pub client: Option<Provides>,
    /// As a server.
    #[serde(default)]
    pub server: Option<Provides>,
}

/// Capabilities of a role.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct Provides {
    /// Their names.
    #[serde(default)]
    pub provides: Vec<String>,
}

/// Where to listen.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Listen {
    /// `tcp` (loopback, port of the driver's choice) or `unix` (in `folder`).
    pub transport: String,
    /// Folder for the socket.
    pub folder: String,
}

/// TLS of one side. PEM files; private keys are readable by their owner only.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Tls {
    /// `none`, `server`, `mutual` or `auto`.
    pub mode: String,
    /// Certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Certificate to present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `1.2` or `1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<String>,
    /// `1.2` or `1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<String>,
    /// Key-exchange groups, by axis value name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// Whether client certificates are demanded.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Not asked for.
    None,
    /// Demanded and verified.
    Require,
}

/// The magic cookie.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Cookie {
    /// Variable name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// When `connect` answers.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// When the channel is ready, or has failed.
    Ready,
    /// At once; the first call dials (capability `wait-for-ready`).
    Lazy,
}

/// The largest messages of a side, in bytes; the side's own limit where absent.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Limits {
    /// That it sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<u32>,
    /// That it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<u32>,
}

/// PINGs of a client.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Keepalive {
    /// The time between two.
    pub every_ms: u64,
    /// How long an answer may take.
    pub timeout_ms: u64,
}

/// An address.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// `HOST:PORT`.
    Tcp(String),
    /// Path of a socket.
    Unix(String),
}

/// A message to send.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Message {
    /// Base64 of the encoded message.
    pub m: String,
}

/// A received message.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Answer {
    /// The base64 itself. First, since that a text is no object is said with all of the text.
    Plain(String),
    /// `{"m": "<base64>"}`.
    Wrapped {
        /// Base64 of the encoded message.
        m: String,
    },
}

impl Answer {
    /// The bytes; `None` when it is no base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Bytes> {
        let (Self::Wrapped { m } | Self::Plain(m)) = self;
        STANDARD.decode(m).ok().map(Bytes::from)
    }
}

/// A metadata value.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MetadataValue {
    /// ASCII.
    Text(String),
    /// Of a `-bin` key.
    Binary {
        /// Base64.
        b64: String,
    },
}

/// A gRPC status.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Status {
    /// Canonical name.
    pub code: String,
    /// Text.
    #[serde(default)]
    pub text: String,
    /// Rich details: the bytes of `grpc-status-details-bin`, in base64, where the library gives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details_b64: Option<String>,
}

/// Who made a status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The client's own library.
    Local,
    /// It came over the wire.
    Remote,
    /// The library does not tell.
    #[default]
    Unknown,
}

/// Result of a call.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CallReply {
    /// The connection.
    pub id: String,
    /// The call.
    pub seq: u64,
    /// Its status.
    pub status: Status,
    /// Who made it.
    #[serde(default)]
    pub origin: Origin,
    /// Messages.
    #[serde(default)]
    pub receive: Vec<Answer>,
    /// Initial metadata.
    #[serde(default)]
    pub headers: Vec<(String, MetadataValue)>,
    /// Trailing metadata.
    #[serde(default)]
    pub trailers: Vec<(String, MetadataValue)>,
    /// The library's own class, where it tells.
    #[serde(default)]
    pub native: Option<String>,
}

/// TLS facts as a driver's library tells them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct TlsFacts {
    /// `1.2`, `TLSv1.3`, …
    #[serde(default)]
    pub version: Option<String>,
    /// A registry name or number.
    #[serde(default)]
    pub group: Option<serde_json::Value>,
    /// A registry name.
    #[serde(default)]
    pub cipher: Option<String>,
    /// Lower-case hex.
    #[serde(default)]
    pub peer_cert_sha256: Option<String>,
}

/// A failure of `serve`, `launch` or `connect`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Failed {
    /// Of what.
    pub id: String,
    /// `launch`, `connect`, `tls`, `rpc` or `driver`.
    #[serde(default)]
    pub phase: Option<String>,
    /// When it was a status.
    #[serde(default)]
    pub status: Option<Status>,
    /// The library's text.
    #[serde(default)]
    pub error: String,
    /// The library's own class or number.
    #[serde(default)]
    pub native: Option<serde_json::Value>,
}

/// Why a request could not be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The driver does not know how.
    Unsupported,
    /// The engine broke the contract.
    Contract,
    /// A line or message is too large for it.
    TooLarge,
    /// Over `max_in_flight`.
    Busy,
    /// A bug of the driver.
    Internal,
}

/// gRPC writes binary metadata without padding; both forms are taken.
const UNPADDED_TOO: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Base64 of a message.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of base64, with its padding or without; `None` when it is none.
#[must_use]
pub fn bytes_in(text: &str) -> Option<Bytes> {
    UNPADDED_TOO.decode(text).ok().map(Bytes::from)
}

/// Metadata to the contract's form: `-bin` keys carry base64.
#[must_use]
pub fn metadata_out(metadata: &[(String, Bytes)]) -> Vec<(String, MetadataValue)> {
    metadata
        .iter()
        .map(|(key, value)| {
            let value = if key.ends_with("-bin") {
                MetadataValue::Binary { b64: STANDARD.encode(value) }
            } else {
                MetadataValue::Text(String::from_utf8_lossy(value).into_owned())
            };
            (key.clone(), value)
        })
        .collect()
}

/// Metadata from the contract's form.
///
/// # Errors
/// The key whose value is no base64.
pub fn metadata_in(metadata: Vec<(String, MetadataValue)>) -> Result<Vec<(String, Bytes)>, String> {
    metadata
        .into_iter()
        .map(|(key, value)| {
            let bytes = match value {
                MetadataValue::Text(text) => Bytes::from(text),
                MetadataValue::Binary { b64 } => match bytes_in(&b64) {
                    Some(bytes) => bytes,
                    None => return Err(key),
                },
            };
            Ok((key, bytes))
        })
        .collect()
}

/// The JSON Schema of every message, as shipped in `schemas/driver.schema.json`.
#[must_use]
pub fn schema() -> String {
    /// Messages of the driver contract, version 1.
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Messages {
        /// A line on the driver's stdin.
        engine_to_driver: Request,
        /// A line on the driver's stdout.
        driver_to_engine: Reply,
    }
    let schema = schemars::schema_for!(Messages);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
