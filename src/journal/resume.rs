//! What `run --resume` needs to know of an earlier run.

use std::collections::HashSet;
use std::path::Path;

use super::reader::Lines;
use super::{JournalError, Reader, RunFolder, Writer};
use crate::event::{CaseRecord, RunEvent, RunHeader};
use crate::outcome::Verdict;

/// An earlier run, ready to be continued.
#[derive(Debug)]
pub struct Resumed {
    /// Appends to its journal; holds its lock.
    pub writer: Writer,
    /// Its head.
    pub header: RunHeader,
    /// Keys of the cases that need not run again.
    pub finished: HashSet<Box<str>>,
}

impl Resumed {
    /// Opens an earlier run: takes its lock, repairs its end, reads which cases it finished, and
    /// refuses another plan. The caller goes on with the head of the continued run
    /// (`writer.append(&RunEvent::RunStarted(…))`), which marks where it was resumed.
    ///
    /// # Errors
    /// When the run is in use, cannot be read, or was of another plan.
    pub fn open(folder: &RunFolder, plan_digest: &str) -> Result<Self, JournalError> {
        let path = folder.events();
        // Opening to append would make the file.
        let reader = Reader::open(&path)?;
        if reader.header().plan_digest != plan_digest {
            return Err(JournalError::OtherPlan { first: path, second: "the scenario as it is now".into() });
        }
        let header = reader.header().clone();
        drop(reader);
        let writer = Writer::open(folder)?;
        let finished = finished_keys(folder)?;
        Ok(Self { writer, header, finished })
    }
}

/// Whether a journal has been continued by `--resume`: otherwise no case is in it twice.
///
/// # Errors
/// When it cannot be read.
pub fn is_resumed(events: &Path) -> Result<bool, JournalError> {
    let mut lines = Lines::open(events)?;
    let mut heads = 0;
    while heads < 2 && lines.advance()? {
        heads += u32::from(lines.is_head());
    }
    Ok(heads > 1)
}

/// Keys of the cases of a run that have come to a verdict on the pair: executed and not errored, or
/// unsupported. A case that was left out, cancelled or could not run has not.
///
/// # Errors
/// When the journal cannot be read.
pub fn finished_keys(folder: &RunFolder) -> Result<HashSet<Box<str>>, JournalError> {
    let mut keys = HashSet::new();
    for event in Reader::open(&folder.events())? {
        if let RunEvent::CaseFinished(record) = event?
            && is_finished(&record)
        {
            keys.insert(record.key.into_boxed_str());
        }
    }
    Ok(keys)
}

fn is_finished(record: &CaseRecord) -> bool {
    record.not_run.is_none() && !matches!(record.verdict(), Verdict::NotRun | Verdict::Errored)
}
