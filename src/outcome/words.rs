//! How outcome types are written for people. L2. Read by `verdict` and `report`.

use std::fmt;

use super::{Certainty, Ending, Exit, Phase};

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 9] = [
        Self::Build,
        Self::Spawn,
        Self::Handshake,
        Self::Connect,
        Self::Tls,
        Self::Rpc,
        Self::Check,
        Self::Teardown,
        Self::Driver,
    ];

    /// Its name, as in YAML and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Spawn => "spawn",
            Self::Handshake => "handshake",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Rpc => "rpc",
            Self::Check => "check",
            Self::Teardown => "teardown",
            Self::Driver => "driver",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Certainty {
    /// Its name, as in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Deduced => "deduced",
            Self::Observed => "observed",
        }
    }
}

impl fmt::Display for Certainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Ending {
    /// Failed, timed out or crashed: a definite word against the pair.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Crashed)
    }

    /// What it did, after `it`.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Crashed => "crashed",
            Self::RefusedByPeer => "was refused by the peer",
            Self::CouldNotRun => "could not run",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "end by signal {signal}"),
        }
    }
}
