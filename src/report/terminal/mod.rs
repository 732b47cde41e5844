//! The report for people: progress while the run goes on, a failure the moment it happens with all
//! that is needed to understand it, and a summary. `live` draws the progress, `ending` writes the
//! summary.
//!
//! Results go to the printer (standard output), progress to standard error, so that the results can
//! be piped while the progress is watched.

mod ending;
mod live;
mod paint;
mod screen;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use self::live::Live;
use self::paint::{Paint, Tone};
use super::printer::Printer;
use super::story::{Limits, Part, Scene, story, word};
use super::summary::{Summary, reason};
use super::text::{count, head, indent, micros, one_line, plain, span};
use super::{ReportError, Reporter};
use crate::event::{CaseRecord, RunEvent, RunHeader};
use crate::outcome::Verdict;

/// The column that words and labels end at; the longest word is `UNEXPECTED PASS`.
const COLUMN: usize = 15;
/// Characters of a case's id in a line.
const ID: usize = 240;
/// Without live progress, so many lines tell how far a long run is.
const MILESTONES: u64 = 10;
/// A run of fewer cases needs no milestones.
const LONG_RUN: u64 = 50;

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// Lines only.
    #[default]
    Plain,
    /// Bars on standard error.
    Live,
    /// None: the run is over.
    Silent,
}

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    /// Red cases.
    #[default]
    Normal,
    /// A line for every case.
    Cases,
    /// The ops of cases too, as far as they were recorded.
    Ops,
}

/// How the terminal's report looks.
#[derive(Debug, Clone, Default)]
pub(super) struct TerminalSettings {
    /// Colours.
    pub(super) color: bool,
    /// Progress.
    pub(super) progress: Progress,
    /// How much is told.
    pub(super) verbosity: Verbosity,
    /// The run's folder, as people can name it; evidence is in it.
    pub(super) folder: Option<PathBuf>,
    /// Columns of the terminal that results go to.
    pub(super) width: Option<usize>,
}

impl TerminalSettings {
    /// What suits the surroundings: colours where standard output is a terminal, bars where standard
    /// error is one; neither with `NO_COLOR`, no bars with `CI`. `verbose`: how often `-v` was given.
    pub(in crate::report) fn detect(verbose: u8) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let (no_color, forced) = (set("NO_COLOR"), set("CLICOLOR_FORCE"));
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = !no_color && (forced || (!dumb && std::io::stdout().is_terminal()));
        // Through a pipe the results may well come to the same terminal, past the bars.
        let piped =
            !std::io::stdout().is_terminal() && !std::fs::metadata("/dev/stdout").is_ok_and(|out| out.is_file());
        let live = !no_color && !dumb && !set("CI") && !piped && std::io::stderr().is_terminal();
        Self {
            color,
            progress: if live { Progress::Live } else { Progress::Plain },
            verbosity: match verbose {
                0 => Verbosity::Normal,
                1 => Verbosity::Cases,
                _ => Verbosity::Ops,
            },
            folder: None,
            width: width(),
        }
    }
}

/// Columns of the terminal that standard output goes to; a window may be resized at any time.
fn width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// The terminal's reporter.
pub(super) struct Terminal {
    out: Printer,
    paint: Paint,
    verbosity: Verbosity,
    live: Option<Live>,
    progress: Progress,
    scene: Scene,
    counts: BTreeMap<Verdict, u64>,
    finished: u64,
    width: Option<usize>,
    /// Why peers are missing, as it was said.
    missing: BTreeSet<String>,
}

impl Terminal {
    pub(super) fn new(settings: TerminalSettings, out: Printer) -> Self {
        let live = (settings.progress == Progress::Live).then(Live::new);
        Self {
            out,
            paint: Paint { color: settings.color },
            verbosity: settings.verbosity,
            live,
            progress: settings.progress,
            scene: Scene { header: None, folder: settings.folder },
            counts: BTreeMap::new(),
            finished: 0,
            width: settings.width,
            missing: BTreeSet::new(),
        }
    }

    /// Prints above the progress.
    fn print(&self, text: &str) {
        match &self.live {
            Some(live) => live.above(|| self.out.print(text)),
            None => self.out.print(text),
        }
    }

    fn line(&self, tone: Tone, word: &str, text: &str) {
        self.print(&format!("{} {text}\n", self.paint.right(tone, word, COLUMN)));
    }

    fn started(&self, header: &RunHeader) {
        let jobs = format!("up to {} at once", header.jobs);
        let names = one_line(&header.scenarios.join(", "), 200);
        let selection = one_line(&header.selection.join(" "), 200);
        let selected = if selection.is_empty() { String::new() } else { format!(", selected by {selection}") };
        let run = one_line(&header.run, 100);
        self.line(
            Tone::Good,
            "Running",
            &format!("{} of {names}, {jobs}{selected} (run {run})", count(header.cases, "case")),
        );
    }

    fn build_finished(&mut self, peer: &str, cached: bool, error: Option<&str>, elapsed_ms: u64) {
        let peer = one_line(peer, 80);
        let time = span(Duration::from_millis(elapsed_ms));
        match error {
            Some(error) => {
                self.missing.insert(error.to_owned());
                let error = plain(error);
                let text = indent(&head(&error, 40, 8 << 10), COLUMN + 1);
                self.line(Tone::Bad, "BUILD FAILED", &format!("{peer} after {time}\n{text}"));
            }
            None if cached => {
                if self.verbosity >= Verbosity::Cases {
                    self.line(Tone::Dim, "Built", &format!("{peer} before"));
                }
            }
            None => self.line(Tone::Good, "Built", &format!("{peer} in {time}")),
        }
    }

    fn case(&mut self, record: &CaseRecord) {
        let verdict = record.verdict();
        *self.counts.entry(verdict).or_default() += 1;
        self.finished += 1;
        if let Some(live) = &self.live {
            live.case_finished(record.index, verdict);
        }
        if verdict.is_red() {
            let text = if self.is_told(record) { self.case_line(record, verdict) } else { self.block(record) };
            self.print(&text);
        } else if self.verbosity >= Verbosity::Cases {
            let text = self.case_line(record, verdict);
            self.print(&text);
        }
        self.milestone();
    }

    /// Whether the case only lacks a peer of which it was said that and why it is missing.
    fn is_told(&self, record: &CaseRecord) -> bool {
        let cause = record.last().and_then(|attempt| attempt.observation.cause.as_ref());
        cause.is_some_and(|cause| cause.code == "build.missing" && self.missing.contains(&cause.text))
    }

    /// `FAILED [ 1.234 s] kv/put-get[…]`, with the reason where there is more to say than a pass.
    fn case_line(&self, record: &CaseRecord, verdict: Verdict) -> String {
        let word = self.paint.right(Tone::of(verdict), word(verdict), COLUMN);
        let time = if record.attempts.is_empty() { "-".to_owned() } else { micros(record.elapsed_us()) };
        let mut line = format!("{word} [{time:>10}] {}\n", one_line(&record.id, ID));
        if !verdict.is_red() && verdict != Verdict::Passed {
            let reason = one_line(&reason(record), 300);
            line.push_str(&indent(&reason, COLUMN + 1));
            line.push('\n');
        }
        if self.verbosity >= Verbosity::Ops
            && !verdict.is_red()
            && let Some(attempt) = record.last()
        {
            for op in &attempt.ops {
                line.push_str(&indent(&super::story::op_line(op), COLUMN + 1));
                line.push('\n');
            }
        }
        line
    }

    /// A red case with all that is needed to understand it.
    fn block(&self, record: &CaseRecord) -> String {
        let judged = record.judge();
        let ops = self.verbosity >= Verbosity::Ops;
        let limits = Limits { lines: 14, bytes: 3 << 10, items: 6, output: true, ops };
        let mut text = format!("\n{}", self.case_line(record, judged.verdict));
        for Part { label, text: said } in story(&self.scene, record, &judged, limits) {
            let said = if label == "check" { self.paint.diff(&said) } else { said };
            let body = indent(&said, COLUMN + 1);
            if label.chars().count() > COLUMN {
                let label = self.paint.tone(Tone::Dim, &label);
                let body = indent(&body, 2);
                let _ = writeln!(text, "{}{label}\n{body}", " ".repeat(COLUMN + 1));
            } else {
                let label = self.paint.right(Tone::Dim, &label, COLUMN);
                let _ = writeln!(text, "{label} {}", body.trim_start_matches(' '));
            }
        }
        text
    }

    /// Without bars, a long run tells every tenth how far it is.
    fn milestone(&self) {
        let all = self.scene.header.as_ref().map_or(0, |header| header.cases);
        if self.progress != Progress::Plain || all < LONG_RUN || self.finished >= all {
            return;
        }
        let tenth = |n: u64| n * MILESTONES / all;
        if tenth(self.finished) > tenth(self.finished - 1) {
            let counts = self.paint.counts(&self.counts);
            self.line(Tone::Dim, "Done", &format!("{} of {all}: {counts}", self.finished));
        }
    }
}

impl Reporter for Terminal {
    fn event(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RunStarted(header) => {
                self.started(header);
                if let Some(live) = &self.live {
                    live.started(header.cases);
                }
                self.scene.header = Some(header.clone());
            }
            RunEvent::BuildStarted { peer, command } => match &self.live {
                Some(live) => live.build_started(peer, command),
                None => {
                    self.line(Tone::Good, "Building", &format!("{}: {}", one_line(peer, 80), one_line(command, 200)));
                }
            },
            RunEvent::BuildOutput { peer, line } => {
                if let Some(live) = &self.live {
                    live.build_output(peer, line);
                }
            }
            RunEvent::BuildFinished { peer, cached, error, elapsed_ms } => {
                if let Some(live) = &self.live {
                    live.build_finished(peer);
                }
                self.build_finished(peer, *cached, error.as_deref(), *elapsed_ms);
            }
            RunEvent::PeerVersions { peer, versions } => {
                if self.verbosity >= Verbosity::Cases {
                    let versions: Vec<String> =
                        versions.iter().map(|(what, version)| format!("{what} {version}")).collect();
                    self.line(Tone::Dim, "Peer", &one_line(&format!("{peer}: {}", versions.join(", ")), 400));
                }
            }
            RunEvent::PeerMissing { peer, reason, left_out } => {
                let tone = if *left_out { Tone::Warn } else { Tone::Bad };
                let then = if *left_out { "its cases are not run" } else { "its cases are errored" };
                let mut text = format!("{}, {then}", one_line(peer, 80));
                // What a failed build said stands right above.
                if self.missing.insert(reason.clone()) {
                    let _ = write!(text, ": {}", head(&plain(reason), 20, 4 << 10));
                }
                let text = indent(&text, COLUMN + 1);
                self.line(tone, "MISSING PEER", text.trim_start());
            }
            RunEvent::CaseStarted { index, id } => {
                if let Some(live) = &self.live {
                    live.case_started(*index, id);
                }
            }
            RunEvent::CaseFinished(record) => self.case(record),
            RunEvent::Note { text, place } => {
                let at = place.as_ref().map(|p| format!(" ({}:{}:{})", p.file, p.line, p.column)).unwrap_or_default();
                self.line(Tone::Warn, "note", &format!("{}{at}", one_line(text, 1000)));
            }
            RunEvent::RunFinished { .. } => {}
        }
    }

    fn finish(&mut self, summary: &Summary) -> Result<(), ReportError> {
        // Dropped first: the bars must be gone before the last words.
        self.live = None;
        let text = ending::text(self.paint, summary, self.verbosity, self.width.and_then(|_| width()));
        self.out.print(&text);
        Ok(())
    }
}

#[cfg(test)]
#[path = "../terminal_tests.rs"]
mod tests;
