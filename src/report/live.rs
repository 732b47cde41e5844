//! The reporters of a run that is going on, and of one that is told again: what `cli` calls.

use std::path::{Path, PathBuf};
use std::slice;

use super::printer::Printer;
use super::summary::{ExitStatus, Summary};
use super::terminal::{Progress, Terminal, TerminalSettings};
use super::{GithubSettings, ReportError, Reporter, Settings, at_end};
use crate::event::{RunEvent, RunHeader};
use crate::journal::{JournalError, Merged, RunFolder, finished_keys, is_resumed};

/// Which reports are asked for on the command line.
#[derive(Debug, Clone, Default)]
pub struct ReportOptions {
    /// `--junit PATH`.
    pub junit: Option<PathBuf>,
    /// `--json PATH`.
    pub json: Option<PathBuf>,
    /// `--github`; the step summary goes to `$GITHUB_STEP_SUMMARY`.
    pub github: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// Colours on standard output.
    pub colour: bool,
}

impl ReportOptions {
    pub(super) fn settings(&self, folder: Option<&Path>, out: &Printer) -> Settings {
        let step_summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
        Settings {
            junit: self.junit.clone(),
            json: self.json.clone(),
            github: self.github.then(|| GithubSettings { step_summary: step_summary.map(Into::into) }),
            folder: folder.map(Into::into),
            out: out.clone(),
        }
    }

    fn terminal(&self, folder: Option<&Path>) -> TerminalSettings {
        let detected = TerminalSettings::detect(self.verbose);
        TerminalSettings { color: self.colour, folder: folder.map(Into::into), ..detected }
    }
}

/// The reporters of a run that is going on.
///
/// Those that write files see the events of a new run as they come. A resumed run is told to them
/// as a whole at its end, from the journal.
pub struct Live {
    terminal: Terminal,
    files: Vec<Box<dyn Reporter>>,
    summary: Summary,
    resumed: bool,
    folder: RunFolder,
    trouble: bool,
    to: Printers,
}

impl Live {
    /// Begins. The journal of `folder` must have its head already; the head is no event after this.
    #[must_use]
    pub fn start(options: &ReportOptions, header: &RunHeader, folder: &RunFolder) -> Self {
        Self::start_on(options, header, folder, Printers::default())
    }

    fn start_on(options: &ReportOptions, header: &RunHeader, folder: &RunFolder, to: Printers) -> Self {
        let resumed = is_resumed(&folder.events()).unwrap_or(false);
        let mut live = Self {
            terminal: Terminal::new(options.terminal(Some(folder.path())), to.out.clone()),
            files: at_end(&options.settings(Some(folder.path()), &to.out)),
            summary: Summary::default(),
            resumed,
            folder: folder.clone(),
            trouble: false,
            to,
        };
        let mut header = header.clone();
        let before = if resumed { finished_keys(folder).map_or(0, |keys| keys.len() as u64) } else { 0 };
        header.cases = header.cases.saturating_sub(before);
        live.event(&RunEvent::RunStarted(header));
        if before > 0 {
            let text = format!("{} ended before and are not run again", super::text::count(before, "case"));
            live.event(&RunEvent::Note { text, place: None });
        }
        live
    }

    /// Takes an event of the run, in order.
    pub fn event(&mut self, event: &RunEvent) {
        self.summary.event(event);
        self.terminal.event(event);
        if !self.resumed {
            self.files.iter_mut().for_each(|file| file.event(event));
        }
    }

    /// Something beside the cases went wrong, a journal that cannot be written say: it is told, and
    /// a green run is no longer green.
    pub fn trouble(&mut self, text: &str) {
        self.trouble = true;
        self.event(&RunEvent::Note { text: text.to_owned(), place: None });
    }

    /// Writes the reports and the summary; gives the exit status of the process.
    #[must_use]
    pub fn finish(mut self) -> u8 {
        let mut trouble = self.trouble;
        if self.resumed {
            let files = &mut self.files;
            let told = feed(slice::from_ref(&self.folder), |event| files.iter_mut().for_each(|file| file.event(event)));
            match told {
                Ok(summary) => self.summary = summary,
                Err(error) => {
                    trouble = true;
                    self.to.tell_errors(&[error]);
                }
            }
        }
        let mut errors = finish_all(&mut self.files, &self.summary);
        let _ = self.terminal.finish(&self.summary);
        errors.extend(self.to.failure());
        self.to.tell_errors(&errors);
        self.summary.exit_status(false).with_trouble(trouble || !errors.is_empty()).code()
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("folder", &self.folder).field("resumed", &self.resumed).finish_non_exhaustive()
    }
}

/// Tells runs again, several as the shards of one. `names`: folders, `events.jsonl` files, names of
/// runs in `runs` (`.soupscen/runs`), `latest`. Gives the exit status that the verdicts give, as
/// this soupscen judges them.
///
/// # Errors
/// When a run is not there, cannot be read, or is of another plan (exit status 2). Then no report
/// is written.
pub fn tell_again(runs: &Path, names: &[String], options: &ReportOptions) -> Result<ExitStatus, JournalError> {
    tell_again_on(runs, names, options, &Printers::default())
}

fn tell_again_on(
    runs: &Path,
    names: &[String],
    options: &ReportOptions,
    to: &Printers,
) -> Result<ExitStatus, JournalError> {
    let mut folders: Vec<RunFolder> = Vec::new();
    for name in names {
        let folder = RunFolder::find(runs, name)?;
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let folder = match folders.as_slice() {
        [one] => Some(one.path()),
        _ => None,
    };
    let settings = TerminalSettings { progress: Progress::Silent, ..options.terminal(folder) };
    let mut all: Vec<Box<dyn Reporter>> = vec![Box::new(Terminal::new(settings, to.out.clone()))];
    all.extend(at_end(&options.settings(folder, &to.out)));
    let summary = feed(&folders, |event| all.iter_mut().for_each(|reporter| reporter.event(event)))?;
    let mut errors = finish_all(&mut all, &summary);
    errors.extend(to.failure());
    to.tell_errors(&errors);
    Ok(summary.exit_status(false).with_trouble(!errors.is_empty()))
}

/// Writes the reports of a selection without cases, so that none of an earlier run stays in their
/// places; gives those that cannot be written.
#[must_use]
pub fn tell_nothing(options: &ReportOptions, header: &RunHeader) -> Vec<ReportError> {
    let mut all = at_end(&options.settings(None, &Printer::stdout()));
    let mut summary = Summary::default();
    let end = RunEvent::RunFinished { interrupted: false, elapsed_ms: 0 };
    for event in [RunEvent::RunStarted(header.clone()), end] {
        summary.event(&event);
        for reporter in &mut all {
            reporter.event(&event);
        }
    }
    finish_all(&mut all, &summary)
}

/// Reads runs as one, event by event, and counts them.
fn feed(folders: &[RunFolder], mut take: impl FnMut(&RunEvent)) -> Result<Summary, JournalError> {
    let mut summary = Summary::default();
    for event in Merged::open(folders)? {
        let event = event?;
        summary.event(&event);
        take(&event);
    }
    Ok(summary)
}

/// Finishes every reporter, also after one that cannot be written.
fn finish_all(reporters: &mut [Box<dyn Reporter>], summary: &Summary) -> Vec<ReportError> {
    reporters.iter_mut().filter_map(|reporter| reporter.finish(summary).err()).collect()
}

/// Where people read: results, and what went wrong with the reports themselves.
#[derive(Debug, Clone)]
struct Printers {
    out: Printer,
    err: Printer,
}

impl Default for Printers {
    fn default() -> Self {
        Self { out: Printer::stdout(), err: Printer::stderr() }
    }
}

impl Printers {
    /// Results that did not get to standard output, though its reader is there.
    fn failure(&self) -> Option<ReportError> {
        self.out.failure().map(ReportError::of("terminal", Path::new("standard output")))
    }

    fn tell_errors(&self, errors: &[impl std::fmt::Display]) {
        for error in errors {
            self.err.print(&format!("error: {error}\n"));
        }
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
