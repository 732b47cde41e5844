//! What shim and hub tell each other: one JSON object per line over a unix socket. Both ends are
//! this program; unknown fields are ignored and absent ones take their defaults, so that an older
//! shim that still runs does not break. Read by `shim` and `hub`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::outcome::Exit;

/// The variable that takes a shim to its hub: `TOKEN@SOCKET`. Never seen by the plugin.
pub(super) const VARIABLE: &str = "SOUPSCEN_SHIM";
/// Longest message, either way.
pub(super) const MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// Longest first line of a plugin; what is longer counts as the line as far as it goes.
pub(super) const LINE_BYTES: usize = 64 * 1024;
/// How long a shim waits for its hub's answer before it goes on as if there were none.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Shim to hub.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum FromShim {
    /// First: who is asking. Answered by [`ToShim::Start`].
    Hello(Hello),
    /// The plugin runs.
    Started {
        /// Its pid.
        pid: i32,
    },
    /// The plugin could not be started.
    CannotStart {
        /// Why, a sentence.
        error: String,
    },
    /// Its first line of standard output came. Answered by [`ToShim::Print`].
    Line {
        /// The bytes with their line end, in base64.
        raw: String,
        /// Microseconds from its start.
        after_us: u64,
    },
    /// It ended.
    Exited(Exited),
}

/// What a shim was started with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Hello {
    /// The ticket.
    pub(super) token: String,
    /// Program and arguments as the host gave them, lossy, bounded.
    pub(super) argv: Vec<String>,
    /// The `PLUGIN_*` variables, lossy, bounded.
    pub(super) env: Vec<(String, String)>,
    /// Names of all variables, bounded: tells whether the cookie is there without telling secrets.
    pub(super) names: Vec<String>,
    /// The working directory.
    pub(super) folder: String,
    /// Not all of program and arguments is in it as it was given.
    pub(super) cut: bool,
}

/// How a plugin ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exited {
    /// How.
    pub(super) exit: Exit,
    /// The last signal that the host sent before that, or SIGKILL if it killed the shim.
    #[serde(default)]
    pub(super) asked: Option<i32>,
    /// Last lines of standard error.
    #[serde(default)]
    pub(super) stderr_tail: Vec<String>,
    /// Standard output beyond the first line, bounded, lossy.
    #[serde(default)]
    pub(super) stdout_noise: String,
    /// Microseconds from start to end.
    #[serde(default)]
    pub(super) lived_us: u64,
}

/// Hub to shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ToShim {
    /// Start the plugin like this.
    Start(StartOrder),
    /// Start nothing.
    Refuse {
        /// Why, a sentence.
        error: String,
    },
    /// Print this in place of the line.
    Print {
        /// In base64.
        raw: String,
    },
}

/// How a plugin's start is changed on its way. Empty: not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartOrder {
    /// Variables to set, over those of the host.
    pub add_env: Vec<(String, String)>,
    /// Variables to take away.
    pub drop_env: Vec<String>,
    /// Program and arguments in place of those of the host.
    pub argv: Option<Vec<String>>,
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A message as a line.
pub(super) fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
