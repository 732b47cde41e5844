//! hclog's JSON lines on stderr, as go-plugin hosts read them.

use std::io::Write as _;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Severity, as `LOG_LEVEL` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `trace` and `debug`.
    Debug,
    /// `info`.
    Info,
    /// `warn`.
    Warn,
    /// `error`.
    Error,
    /// Nothing.
    Off,
}

impl Level {
    /// The level of a `LOG_LEVEL` value, whatever its case; `None` for an unknown one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" => Self::Error,
            "off" | "none" => Self::Off,
            _ => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error | Self::Off => "error",
        }
    }
}

/// Writes lines of a level and above to stderr.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    from: Level,
}

impl Log {
    /// From this level on.
    #[must_use]
    pub const fn new(from: Level) -> Self {
        Self { from }
    }

    /// Nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self { from: Level::Off }
    }

    /// One line.
    pub fn line(self, level: Level, message: &str) {
        if level < self.from || self.from == Level::Off {
            return;
        }
        let line = serde_json::json!({
            "@level": level.name(),
            "@message": message,
            "@module": "soupscen.kv",
            "@timestamp": OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
        });
        // Nobody to tell when stderr is gone.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    pub(super) fn debug(self, message: &str) {
        self.line(Level::Debug, message);
    }

    pub(super) fn info(self, message: &str) {
        self.line(Level::Info, message);
    }

    pub(super) fn warn(self, message: &str) {
        self.line(Level::Warn, message);
    }
}
