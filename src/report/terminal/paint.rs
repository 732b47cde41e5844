//! Colours and columns. Without colour every function gives plain text.

use std::collections::BTreeMap;
use std::fmt::Display;

use anstyle::{AnsiColor, Style};

use crate::outcome::Verdict;

/// What a word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warn,
    Bad,
    Dim,
    Strong,
}

impl Tone {
    pub(super) const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::Good,
            Verdict::Known | Verdict::Unsupported | Verdict::NotRun => Self::Warn,
            _ => Self::Bad,
        }
    }

    const fn style(self) -> Style {
        let style = Style::new();
        match self {
            Self::Good => AnsiColor::Green.on_default().bold(),
            Self::Warn => AnsiColor::Yellow.on_default().bold(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Dim => style.dimmed(),
            Self::Strong => style.bold(),
        }
    }
}

/// Paints, or does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub color: bool,
}

impl Paint {
    pub(super) fn tone(self, tone: Tone, text: impl Display) -> String {
        if !self.color {
            return text.to_string();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }

    /// A word that ends at a column.
    pub(super) fn right(self, tone: Tone, word: &str, column: usize) -> String {
        let space = " ".repeat(column.saturating_sub(word.chars().count()));
        format!("{space}{}", self.tone(tone, word))
    }

    /// The lines of a difference: what was expected and what was there.
    pub(super) fn diff(self, text: &str) -> String {
        let line = |line: &str| match line.split_whitespace().next() {
            Some("-" | "expected") => self.tone(Tone::Good, line),
            Some("+" | "actual") => self.tone(Tone::Bad, line),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// `16 passed, 2 known`.
    pub(super) fn counts(self, counts: &BTreeMap<Verdict, u64>) -> String {
        if counts.is_empty() {
            return "none".to_owned();
        }
        let one = |(verdict, n): (&Verdict, &u64)| self.tone(Tone::of(*verdict), format!("{n} {verdict}"));
        counts.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}
