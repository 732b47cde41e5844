//! Why a peer cannot be had.

use crate::outcome::Exit;
use crate::process::SpawnError;

/// Why a peer cannot be built. Every text names the peer, the cause and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A tool is not there.
    #[error("peer `{peer}` needs `{tool}` for `{command}`, and it is not on PATH; to get it: {install}")]
    MissingTool {
        /// Which peer.
        peer: String,
        /// Which tool.
        tool: String,
        /// What would be run.
        command: String,
        /// How to get it.
        install: String,
    },
    /// A command failed.
    #[error("the build of peer `{peer}` failed: `{command}` {}; its last lines:\n{}", ended(*exit), indented(lines))]
    Failed {
        /// Which peer.
        peer: String,
        /// The command, as a shell would be given it.
        command: String,
        /// How it ended.
        exit: Exit,
        /// The tool's last lines.
        lines: Vec<String>,
    },
    /// A command could not be started.
    #[error("the build of peer `{peer}` cannot run `{command}`: {error}")]
    Start {
        /// Which peer.
        peer: String,
        /// The command.
        command: String,
        /// Why.
        error: SpawnError,
    },
    /// An input pattern without any file.
    #[error("no file matches the input `{pattern}` of peer `{peer}` in `{folder}`; correct the pattern or remove it")]
    NoInput {
        /// Which peer.
        peer: String,
        /// The pattern.
        pattern: String,
        /// Where it was looked for.
        folder: String,
    },
    /// Too many or too large inputs.
    #[error("the inputs of peer `{peer}` come to more than {limit}; name only what the build reads")]
    TooMuchInput {
        /// Which peer.
        peer: String,
        /// Which bound.
        limit: String,
    },
    /// An input pattern that is none.
    #[error("the input `{pattern}` of peer `{peer}` cannot be used: {error}")]
    BadPattern {
        /// Which peer.
        peer: String,
        /// The pattern.
        pattern: String,
        /// Why.
        error: String,
    },
    /// An input that cannot be read.
    #[error("cannot read the input `{path}` of peer `{peer}`: {error}")]
    Input {
        /// Which peer.
        peer: String,
        /// Which file.
        path: String,
        /// The system's words.
        error: String,
    },
    /// A template of a command.
    #[error("cannot fill in `{text}` of peer `{peer}`: {error}")]
    Template {
        /// Which peer.
        peer: String,
        /// The text.
        text: String,
        /// Why.
        error: String,
    },
    /// The cache folder.
    #[error("cannot use the build cache at `{path}`: {error}; make it writable, or keep builds elsewhere")]
    Cache {
        /// Where.
        path: String,
        /// The system's words.
        error: String,
    },
}

fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with status {code}"),
        Exit::Signal(signal) => format!("was killed by signal {signal}"),
    }
}

fn indented(lines: &[String]) -> String {
    if lines.is_empty() {
        return "  (it printed nothing)".to_owned();
    }
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
