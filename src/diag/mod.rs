//! Source text, spans, diagnostics and how they are shown. L0: reads nothing else of the crate.

mod render;
mod suggest;

pub use render::render;
pub use suggest::{did_you_mean, suggestion};

use std::sync::Arc;

/// Which file of a [`SourceMap`] a span points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A byte range in one source file; `start <= end <= text.len()`, both on character boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

/// How bad a diagnostic is. Only `Error` stops a command (exit status 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Told once, never red.
    Note,
    /// Probably a mistake.
    Warning,
    /// The input cannot be used.
    Error,
}

/// Text beside an underlined place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// What is underlined.
    pub span: Span,
    /// What is said beside it.
    pub text: String,
}

/// One problem of the input: place, cause, way out. Messages are lower case without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code for tests and searches, e.g. `unknown-key`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The cause.
    pub message: String,
    /// The places, the primary one first; empty when the whole file is meant.
    pub labels: Vec<Label>,
    /// The way out.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place yet.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), labels: Vec::new(), help: None }
    }

    /// A warning without a place yet.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// A note without a place yet.
    #[must_use]
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(code, message) }
    }

    /// Adds a place; the first one added is the primary one. The text may be empty.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Says the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The primary place.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        self.labels.first().map(|label| label.span)
    }

    /// Whether it stops a command.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self.severity, Severity::Error)
    }
}

/// One source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user names it (relative to the working directory where possible).
    pub name: String,
    /// Its text.
    pub text: Arc<str>,
}

/// All files that a scenario was read from.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    sources: Vec<Source>,
}

/// A place as people read it; 1-based line and column (in characters).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Place {
    /// File as named by the user.
    pub file: String,
    /// 1-based line.
    pub line: u32,
    /// 1-based column in characters.
    pub column: u32,
}

impl SourceMap {
    /// Adds a file and says which id it got.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> SourceId {
        let id = SourceId(u32::try_from(self.sources.len()).unwrap_or(u32::MAX));
        self.sources.push(Source { name: name.into(), text: text.into() });
        id
    }

    /// The file behind an id.
    #[must_use]
    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.sources.get(id.0 as usize)
    }

    /// Line and column of a span's start.
    #[must_use]
    pub fn place(&self, span: Span) -> Place {
        let Some(source) = self.get(span.source) else {
            return Place { file: "?".into(), line: 0, column: 0 };
        };
        let start = (span.start as usize).min(source.text.len());
        let before = source.text.get(..start).unwrap_or("");
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Place {
            file: source.name.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}
