//! Reports of a run: one table of reporters, which see events and nothing else. L5.
//!
//! Reads `event`, `outcome` and `journal`; read by `cli`. `exec` does not know it. Because reporters
//! see only events, a run can be reported again from its journal, and several shards as one.
//!
//! [`Live`] tells a run that goes on, [`tell_again`] one from its journal. To add a reporter, write
//! one file with `impl Reporter` and one line in [`REPORTERS`].

mod github;
mod json;
mod junit;
mod live;
mod output;
mod printer;
mod story;
mod summary;
mod terminal;
mod text;

use std::path::PathBuf;

pub use json::{CaseResult, Note, PeerResult, Results, red_keys, results_schema};
pub use live::{Live, ReportOptions, tell_again, tell_nothing};
pub use output::ReportError;
pub use summary::{ExitStatus, Met, RedCase, SlowCase, Summary};

use self::printer::Printer;
use crate::event::RunEvent;

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
struct Settings {
    /// `--junit PATH`.
    junit: Option<PathBuf>,
    /// `--json PATH`.
    json: Option<PathBuf>,
    /// `--github`.
    github: Option<GithubSettings>,
    /// The run's folder, as people can name it; evidence is in it.
    folder: Option<PathBuf>,
    /// Where annotations are printed.
    out: Printer,
}

/// Where GitHub's parts go.
#[derive(Debug, Clone, Default)]
struct GithubSettings {
    /// `$GITHUB_STEP_SUMMARY`; without it there are only annotations.
    step_summary: Option<PathBuf>,
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
    /// Makes it, if it is asked for. The terminal's is made by [`Live`].
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

/// The reporters that write files, as far as they are asked for.
fn at_end(settings: &Settings) -> Vec<Box<dyn Reporter>> {
    REPORTERS.iter().filter_map(|entry| (entry.make)(settings)).collect()
}

/// Finds out before a run whether its reports can be written; a run may be long.
///
/// # Errors
/// One per place that cannot be written.
pub fn check_places(options: &ReportOptions) -> Result<(), Vec<ReportError>> {
    let settings = &options.settings(None, &Printer::stdout());
    let try_place = |entry: &ReporterEntry| {
        let path = (entry.path)(settings)?;
        output::Output::check(path).err().map(ReportError::of(entry.name, path))
    };
    let errors: Vec<ReportError> = REPORTERS.iter().filter_map(try_place).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
