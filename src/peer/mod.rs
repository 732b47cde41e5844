//! Peers: one trait per role, whatever the way of running it. L4. Read by `exec`.

pub mod build;
pub mod builtin;
pub mod check;
pub mod driver;
pub mod exec;
mod words;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use crate::axis::options::{CallOptions, ChannelOptions, Compression, Keepalive, Limits};
use crate::axis::values::Transport;
use crate::outcome::GrpcStatus;
use crate::outcome::evidence::{ConnectionFacts, ProcessReport, Reported};
pub use crate::transport::{Target, TlsSpec};

/// Why a peer could not do what it was asked, in its own words. What it means is `diagnose`'s business.
#[derive(Debug, Clone)]
pub struct PeerError {
    /// The account.
    pub reported: Reported,
    /// It says that it cannot do this at all.
    pub refused: bool,
    /// It is the harness that failed (driver broke its contract, program missing), not the pair.
    pub harness: bool,
    /// A deadline passed while waiting for this.
    pub timed_out: bool,
}

/// Asks a server role to listen (launch `direct`).
#[derive(Debug, Clone)]
pub struct ServeRequest {
    /// Service name of the scenario's service, as its full protobuf name.
    pub service: String,
    /// Socket family.
    pub transport: Transport,
    /// TLS of the server side.
    pub tls: TlsSpec,
    /// A folder of its own, existing and empty, for sockets.
    pub folder: PathBuf,
    /// A folder for what it keeps; another server may have kept something there before.
    pub storage: PathBuf,
    /// The largest messages that it sends and takes.
    pub limits: Limits,
    /// Budget to be ready.
    pub within: Duration,
}

/// A server role.
pub trait Server: Send + Sync {
    /// Starts listening; resolves when connections are accepted.
    fn serve(&self, request: ServeRequest) -> BoxFuture<'_, Result<Arc<dyn Served>, PeerError>>;
}

/// A listening server.
pub trait Served: Send + Sync {
    /// Where.
    fn target(&self) -> Target;
    /// What its end knows of the connections it accepted, newest last; bounded. Empty for peers
    /// that cannot tell.
    fn seen(&self) -> Vec<ServerSaw>;
    /// Its process, where it is one of its own.
    fn process(&self) -> Option<ProcessReport> {
        None
    }
    /// What was run, and what it printed.
    fn account(&self) -> Account {
        Account::default()
    }
    /// Ends it within `grace`, then by force.
    fn stop(self: Arc<Self>, grace: Duration) -> BoxFuture<'static, ()>;
}

/// What was run of a peer that is only a program, for people; bounded.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Command lines, for a shell.
    pub commands: Vec<String>,
    /// Name of the stream → what was printed on it.
    pub output: Vec<(&'static str, String)>,
}

/// What a server's end saw of one accepted connection.
#[derive(Debug, Clone)]
pub struct ServerSaw {
    /// Facts, if the handshake came to its end.
    pub facts: Option<ConnectionFacts>,
    /// The failure, if it did not.
    pub failure: Option<Reported>,
}

/// Asks a client role to dial.
#[derive(Debug, Clone)]
pub struct ConnectRequest {
    /// Where.
    pub target: Target,
    /// TLS of the client side.
    pub tls: TlsSpec,
    /// What else is asked of it.
    pub options: ChannelOptions,
    /// Budget to be ready.
    pub within: Duration,
}

/// Asks a client role to start a plugin server and connect, with its own plugin library.
#[derive(Debug, Clone)]
pub struct LaunchRequest {
    /// Program and arguments; already through the shim.
    pub argv: Vec<String>,
    /// Environment on top of the engine's cleaned one.
    pub env: Vec<(String, String)>,
    /// Key and value of the magic cookie.
    pub cookie: (String, String),
    /// Application protocol versions that the host speaks.
    pub protocol_versions: Vec<u32>,
    /// TLS of the client side; `auto` is `AutoMTLS`.
    pub tls: TlsSpec,
    /// A folder of its own for sockets.
    pub folder: PathBuf,
    /// Budget to be ready.
    pub within: Duration,
    /// Budget for the plugin to end by itself when the connection is closed.
    pub grace: Duration,
    /// Where a host that retries leaves why it is not connected yet.
    pub last_word: LastWord,
}

/// What a peer that is still at it has told so far: its word if it is not waited for any longer.
#[derive(Debug, Clone, Default)]
pub struct LastWord(Arc<Mutex<Option<Reported>>>);

impl LastWord {
    /// Replaces what was told before.
    pub fn tell(&self, reported: Reported) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reported);
    }

    /// The last word.
    #[must_use]
    pub fn last(&self) -> Option<Reported> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client role. Dropping a returned future cancels what it was doing.
pub trait Client: Send + Sync {
    /// Dials a server.
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, PeerError>>;
    /// Starts a plugin and connects to it.
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, PeerError>>;
}

/// Metadata in order, with duplicates. `-bin` values are raw bytes, others ASCII.
pub type Metadata = Vec<(String, Bytes)>;

/// A call: unary, or a whole stream at once.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// `package.Service/Method`.
    pub method: String,
    /// Encoded request messages; exactly one for unary.
    pub send: Vec<Bytes>,
    /// Request metadata.
    pub metadata: Metadata,
    /// The gRPC deadline.
    pub deadline: Duration,
    /// What else is asked of it.
    pub options: CallOptions,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub struct CallResult {
    /// Status; `OK` too.
    pub status: GrpcStatus,
    /// The status was made by the client's own library, not received (`None`: unknown).
    pub local: Option<bool>,
    /// Encoded response messages.
    pub receive: Vec<Bytes>,
    /// Initial metadata.
    pub headers: Metadata,
    /// Trailing metadata.
    pub trailers: Metadata,
    /// The failure in the peer's words, where the status is local.
    pub reported: Option<Reported>,
}

/// A live connection, shared by the cases of an instance.
pub trait Connection: Send + Sync {
    /// What the client's end knows.
    fn facts(&self) -> Option<ConnectionFacts>;
    /// Calls.
    fn call(&self, request: CallRequest) -> BoxFuture<'_, Result<CallResult, PeerError>>;
    /// Opens a stream; `None` when this peer has no interleaved streams.
    fn open(&self, request: CallRequest) -> Option<BoxFuture<'_, Result<Box<dyn Stream>, PeerError>>>;
    /// Output of the plugin received by `GRPCStdio` so far (stdout, stderr), bounded; `None` when
    /// this peer does not tell.
    fn stdio(&self) -> Option<(Bytes, Bytes)>;
    /// Resolves when stdio has grown since the last look, or never.
    fn stdio_changed(&self) -> BoxFuture<'_, ()>;
    /// The peer does ops in its own way and knows no messages: it is told what to do.
    fn actor(&self) -> Option<&dyn Actor> {
        None
    }
    /// What was run, and what it printed.
    fn account(&self) -> Account {
        Account::default()
    }
    /// Closes it; a launched plugin is ended too.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// An op for a client that is a program of its own.
#[derive(Debug, Clone)]
pub struct Act {
    /// The named op, `call` for any other call, `test` for a test of the program's own.
    pub op: String,
    /// The op's arguments, or those of a test.
    pub args: serde_json::Map<String, serde_json::Value>,
    /// `package.Service/Method`; empty for a test.
    pub method: String,
    /// Request messages in protobuf's JSON.
    pub messages: Vec<String>,
    /// Request metadata.
    pub metadata: Metadata,
    /// Budget.
    pub deadline: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Acted {
    /// The status, as far as the program tells.
    pub status: GrpcStatus,
    /// What the op yields.
    pub value: Option<serde_json::Value>,
    /// Response messages in protobuf's JSON.
    pub messages: Vec<serde_json::Value>,
    /// The program's words, where it is not `OK`.
    pub reported: Option<Reported>,
}

/// A client that is told ops instead of messages.
pub trait Actor: Send + Sync {
    /// Does it. Dropping the future ends what was begun.
    fn act(&self, act: Act) -> BoxFuture<'_, Result<Acted, PeerError>>;
}

/// The sending side of a stream alone. Dropping it ends nothing but what was waited for.
pub trait StreamSender: Send {
    /// Sends one message; resolves when the transport took it.
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), PeerError>>;
    /// Ends the sending side.
    fn half_close(&mut self) -> BoxFuture<'_, Result<(), PeerError>>;
}

/// An open stream of a call.
pub trait Stream: Send + Sync {
    /// Sends one message; resolves when the transport took it.
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), PeerError>>;
    /// Receives one message; `None` at the end.
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>>;
    /// Ends the sending side.
    fn half_close(&mut self) -> BoxFuture<'_, Result<(), PeerError>>;
    /// Takes the sending side away, for whoever sends while another receives. From then on `send`
    /// and `half_close` of the stream itself mean nothing.
    fn take_sender(&mut self) -> Box<dyn StreamSender>;
    /// Cancels.
    fn cancel(&mut self) -> BoxFuture<'_, ()>;
    /// Status and trailers, once the receiving side ended or was cancelled.
    fn end(&mut self) -> BoxFuture<'_, Result<CallResult, PeerError>>;
}
