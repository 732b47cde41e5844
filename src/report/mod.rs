//! Reports of a run: one table of reporters, which see events and nothing else. L5.
//!
//! Reads `event`, `outcome` and `journal`; read by `cli`. `exec` does not know it. Because reporters
//! see only events, a run can be reported again from its journal, and several shards as one.
//!
//! A run feeds the live reporter (the terminal) while it goes on; files are written at its end,
//! from the journal ([`replay`]), so that a resumed run is told as a whole. To add a reporter, write
//! one file with `impl Reporter` and one line in [`REPORTERS`].

mod github;
mod json;
mod junit;
mod output;
mod printer;
mod story;
mod summary;
mod terminal;
mod text;

use std::path::PathBuf;

pub use json::{CaseResult, Note, PeerResult, Results, red_keys, results_schema};
pub use output::ReportError;
pub use printer::Printer;
pub use summary::{ExitStatus, Met, RedCase, SlowCase, Summary};
pub use terminal::{Progress, TerminalSettings, Verbosity};

use crate::event::RunEvent;
use crate::journal::{JournalError, Merged, RunFolder};

/// Sees the events of a run, in order, and tells them in its way.
pub trait Reporter: Send {
    /// Takes an event. Must not block for long: live reporters sit on the dispatcher's path.
    fn event(&mut self, event: &RunEvent);

    /// The run is over.
    ///
    /// # Errors
    /// When the report could not be written.
    fn finish(&mut self, summary: &Summary) -> Result<(), ReportError>;
}

/// Which reports are asked for, and where they go.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `--junit PATH`.
    pub junit: Option<PathBuf>,
    /// `--json PATH`.
    pub json: Option<PathBuf>,
    /// `--github`.
    pub github: Option<GithubSettings>,
    /// The run's folder, as people can name it; evidence is in it.
    pub folder: Option<PathBuf>,
    /// Where annotations are printed.
    pub out: Printer,
}

/// Where GitHub's parts go.
#[derive(Debug, Clone, Default)]
pub struct GithubSettings {
    /// `$GITHUB_STEP_SUMMARY`; without it there are only annotations.
    pub step_summary: Option<PathBuf>,
}

/// An entry of the table.
#[derive(Debug, Clone, Copy)]
pub struct ReporterEntry {
    /// Its name.
    pub name: &'static str,
    /// The option that asks for it; none for the one that is always there.
    pub option: Option<&'static str>,
    /// What it is for, for help and docs.
    pub help: &'static str,
    /// Makes it, if it is asked for. The terminal's is made by [`terminal`].
    make: fn(&Settings) -> Option<Box<dyn Reporter>>,
    /// The file that it writes, if it is asked for.
    path: fn(&Settings) -> Option<&PathBuf>,
}

/// Every reporter.
pub const REPORTERS: &[ReporterEntry] = &[
    ReporterEntry {
        name: "terminal",
        option: None,
        help: "progress, failures as they happen, and a summary, for people",
        make: |_| None,
        path: |_| None,
    },
    ReporterEntry {
        name: "junit",
        option: Some("--junit PATH"),
        help: "JUnit XML, for CI servers",
        make: |s| Some(Box::new(junit::Junit::new(s.junit.clone()?, s.folder.clone()))),
        path: |s| s.junit.as_ref(),
    },
    ReporterEntry {
        name: "json",
        option: Some("--json PATH"),
        help: "everything, for programs (schemas/results.schema.json)",
        make: |s| Some(Box::new(json::Json::new(s.json.clone()?))),
        path: |s| s.json.as_ref(),
    },
    ReporterEntry {
        name: "github",
        option: Some("--github"),
        help: "annotations and a step summary, for GitHub Actions",
        make: |s| Some(Box::new(github::Github::new(s.github.clone()?, s.out.clone(), s.folder.clone()))),
        path: |_| None,
    },
];

/// The live reporter, printing to `out`.
#[must_use]
pub fn terminal(settings: TerminalSettings, out: Printer) -> Box<dyn Reporter> {
    Box::new(terminal::Terminal::new(settings, out))
}

/// The reporters that write when the run is over, as far as they are asked for.
#[must_use]
pub fn at_end(settings: &Settings) -> Vec<Box<dyn Reporter>> {
    REPORTERS.iter().filter_map(|entry| (entry.make)(settings)).collect()
}

/// Finds out before a run whether its reports can be written.
///
/// # Errors
/// One per place that cannot be written.
pub fn check_places(settings: &Settings) -> Result<(), Vec<ReportError>> {
    let try_place = |entry: &ReporterEntry| {
        let path = (entry.path)(settings)?;
        output::Output::create(path).err().map(ReportError::of(entry.name, path))
    };
    let errors: Vec<ReportError> = REPORTERS.iter().filter_map(try_place).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// What came of telling a run from its journals.
#[derive(Debug)]
pub struct Told {
    /// The totals.
    pub summary: Summary,
    /// Reports that could not be written; the others are.
    pub errors: Vec<ReportError>,
}

/// Tells one run from its journal, or the shards of one from theirs, to these reporters.
///
/// # Errors
/// When a journal cannot be read, or they are of different plans. Then nothing is written.
pub fn replay(folders: &[RunFolder], reporters: &mut [Box<dyn Reporter>]) -> Result<Told, JournalError> {
    let mut summary = Summary::default();
    for event in Merged::open(folders)? {
        let event = event?;
        summary.event(&event);
        reporters.iter_mut().for_each(|reporter| reporter.event(&event));
    }
    let errors = reporters.iter_mut().filter_map(|reporter| reporter.finish(&summary).err()).collect();
    Ok(Told { summary, errors })
}
