//! The only door for output of commands: knows whether colours are wanted, and that a reader who
//! went away (`| head`) is no error.

use std::io::{IsTerminal, Write};

use super::args::Color;
use crate::diag::{self, Diagnostic, SourceMap};

/// Writes for people (stderr) and for programs (stdout).
pub(super) struct Printer {
    color: Color,
}

impl Printer {
    pub(super) const fn new(color: Color) -> Self {
        Self { color }
    }

    /// Whether to use colours on stderr.
    pub(super) fn colour(&self) -> bool {
        self.wants(std::io::stderr().is_terminal())
    }

    /// Whether to use colours on stdout.
    pub(super) fn colour_stdout(&self) -> bool {
        self.wants(std::io::stdout().is_terminal())
    }

    fn wants(&self, terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org: set and not empty.
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }

    /// A line on stdout.
    #[expect(clippy::unused_self, reason = "the only door for output")]
    pub(super) fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A line on stderr.
    #[expect(clippy::unused_self, reason = "the only door for output")]
    pub(super) fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// An error without a place in a source.
    pub(super) fn error(&self, text: &str) {
        let (on, off) = if self.colour() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        self.say(&format!("{on}error{off}: {text}"));
    }

    /// Problems of the input, with their places.
    pub(super) fn diagnostics(&self, sources: &SourceMap, diagnostics: &[Diagnostic]) {
        if !diagnostics.is_empty() {
            let _ = write!(std::io::stderr().lock(), "{}", diag::render(sources, diagnostics, self.colour()));
        }
    }
}
