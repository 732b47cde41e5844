//! The journal of a run: `events.jsonl` in the run's folder, one [`RunEvent`] per line. L3.
//!
//! Reads `event`; written by `exec` through [`Writer`], read by `report` and by `run --resume`.
//! Verdicts are not in it: they are derived from observations, so that a finished run can be judged
//! again. What is lost when: a case whose batch was committed survives the engine's death (the
//! bytes are the operating system's); only a power failure can take it.
//!
//! ```text
//! .soupscen/runs/2026-11-21T10-11-12-ab12/events.jsonl   first line: the head, then events
//! .soupscen/runs/2026-11-21T10-11-12-ab12/evidence/…     folders of red cases
//! .soupscen/runs/latest -> 2026-11-21T10-11-12-ab12
//! ```

pub mod evidence;
mod folder;
mod merged;
mod reader;
mod resume;
mod writer;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use folder::RunFolder;
pub use merged::Merged;
pub use reader::Reader;
pub use resume::{Resumed, finished_keys, is_resumed};
pub use writer::Writer;

use crate::event::RunEvent;

/// The longest line that is written or read, in bytes. A record beyond it loses its bulk first.
pub const MAX_LINE: usize = 32 << 20;

/// What can be wrong with a journal or its folder.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused something.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A run has no place.
    #[error(
        "cannot make the folder `{}`: {source}; set SOUPSCEN_HOME to a folder that can be written", path.display()
    )]
    Home {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Writing failed; told once, then the journal is silent.
    #[error(
        "cannot write the journal `{}`: {source}; the run goes on, but what ends from now on can neither be \
         reported again nor resumed", path.display()
    )]
    Write {
        /// The journal.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process holds the run's lock.
    #[error("the run in `{}` is in use by another soupscen: wait until it ends, or start a new run", path.display())]
    Locked {
        /// The run's folder.
        path: PathBuf,
    },
    /// A line cannot be read.
    #[error("`{}`, line {line}: {cause}", path.display())]
    Line {
        /// The journal.
        path: PathBuf,
        /// 1-based.
        line: u64,
        /// What is wrong.
        cause: String,
    },
    /// The first line is no head.
    #[error("`{}` is not the journal of a run: it does not begin with the head of one", path.display())]
    NoHead {
        /// The file.
        path: PathBuf,
    },
    /// Another format.
    #[error(
        "`{}` is written in format {found}, and this soupscen reads format {known}: use the soupscen that wrote it \
         (version {version})", path.display()
    )]
    Format {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
        /// Who wrote it.
        version: String,
    },
    /// No such run.
    #[error("there is no run `{name}` in `{}`; {known}", root.display())]
    NoSuchRun {
        /// As asked.
        name: String,
        /// Where it was searched.
        root: PathBuf,
        /// The runs that there are.
        known: String,
    },
    /// A file that is no journal.
    #[error("`{}` is no run: name its folder, or the `events.jsonl` in it", path.display())]
    NotARun {
        /// As asked.
        path: PathBuf,
    },
    /// Journals of different plans.
    #[error(
        "`{}` and `{}` are runs of different plans and cannot be merged or resumed: axes, values, constraints, \
         scripts, ops of services or `vars` (also by `--set`) changed between them", first.display(), second.display()
    )]
    OtherPlan {
        /// One journal.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The same plan and flags, and other cases.
    #[error(
        "the run in `{}` was begun with {was} cases, and its selection has {is} now: the results that `--failed-in` \
         names have changed, so start a new run", path.display()
    )]
    OtherCases {
        /// The journal.
        path: PathBuf,
        /// How many there were.
        was: u64,
        /// How many there are.
        is: u64,
    },
}

impl JournalError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// Whether an event belongs into the journal; the others are for live progress only.
#[must_use]
pub const fn is_kept(event: &RunEvent) -> bool {
    !matches!(event, RunEvent::BuildOutput { .. } | RunEvent::CaseStarted { .. })
}
