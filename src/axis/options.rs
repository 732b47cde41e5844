//! What scripts ask of single calls and connections, beside what the axes ask of a case. L0: read by
//! `scenario`, `peer` and `exec`.

use std::time::Duration;

/// How messages are encoded (gRPC over HTTP/2, `grpc-encoding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    Identity,
    /// By gzip.
    Gzip,
}

impl Compression {
    /// All of them, as scenarios and the driver contract write them.
    pub const NAMES: &'static [&'static str] = &["identity", "gzip"];

    /// That of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "identity" => Some(Self::Identity),
            "gzip" => Some(Self::Gzip),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
        }
    }
}

/// What is asked of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// How its request messages are sent; the library's default when absent.
    pub compression: Option<Compression>,
    /// It waits for a connection, within its deadline, instead of failing without one.
    pub wait_for_ready: bool,
}

/// The largest messages that a side sends and takes, in bytes; as the peer has it where absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Sends.
    pub send: Option<u32>,
    /// Takes.
    pub receive: Option<u32>,
}

impl Limits {
    /// Whether nothing is asked for.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.send.is_none() && self.receive.is_none()
    }
}

/// HTTP/2 PINGs of a client that show whether its server still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// The time between two.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// What is asked of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelOptions {
    /// It is made by its first call, and until then nobody dials.
    pub lazy: bool,
    /// Of the client.
    pub limits: Limits,
    /// PINGs, also without calls.
    pub keepalive: Option<Keepalive>,
}
