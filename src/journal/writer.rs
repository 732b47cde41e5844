//! Appends events: buffered, and handed to the operating system once per batch.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::{JournalError, MAX_LINE, RunFolder, is_kept};
use crate::event::{CaseRecord, RunEvent, RunHeader};

/// The buffer goes out when it reaches this size, batch or not.
const BUFFER: usize = 256 << 10;

/// The only writer of a run's journal. Holds the run's lock while it lives.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    broken: bool,
}

impl Writer {
    /// Begins the journal of a new run with its head, and points `latest` at it.
    ///
    /// # Errors
    /// When the file cannot be made, locked or written.
    pub fn create(folder: &RunFolder, header: &RunHeader) -> Result<Self, JournalError> {
        let mut writer = Self::open(folder)?;
        writer.append(&RunEvent::RunStarted(header.clone()))?;
        writer.commit()?;
        folder.point_latest();
        Ok(writer)
    }

    /// Opens a journal to append to it: takes the lock, and cuts off a torn last line.
    ///
    /// # Errors
    /// When it cannot be opened, or another process has it.
    pub(super) fn open(folder: &RunFolder) -> Result<Self, JournalError> {
        let path = folder.events();
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(JournalError::io("open the journal", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked { path: folder.path().to_owned() }),
            Err(TryLockError::Error(source)) => return Err(JournalError::io("lock the journal", &path)(source)),
        }
        cut_torn_line(&mut file).map_err(JournalError::io("repair the journal", &path))?;
        Ok(Self { file, path, buffer: Vec::with_capacity(BUFFER + (BUFFER >> 2)), broken: false })
    }

    /// Takes an event into the batch. Events for live progress only are passed over.
    ///
    /// # Errors
    /// As [`Writer::commit`], when the buffer had to go out.
    pub fn append(&mut self, event: &RunEvent) -> Result<(), JournalError> {
        if self.broken || !is_kept(event) {
            return Ok(());
        }
        let start = self.buffer.len();
        let written = serde_json::to_writer(&mut self.buffer, event);
        if self.buffer.len() - start >= MAX_LINE
            && let RunEvent::CaseFinished(record) = event
        {
            self.buffer.truncate(start);
            let small = RunEvent::CaseFinished(Box::new(without_bulk(record)));
            serde_json::to_writer(&mut self.buffer, &small).map_err(|error| self.fail(error.into()))?;
        } else if let Err(error) = written {
            self.buffer.truncate(start);
            return Err(self.fail(error.into()));
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.commit() } else { Ok(()) }
    }

    /// Hands the batch to the operating system: from here on it survives this process.
    ///
    /// # Errors
    /// Once, when writing fails (a full disk); from then on the journal takes nothing more and
    /// gives no error, [`Writer::is_broken`] tells.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if self.broken || self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|source| self.fail(source))
    }

    /// Whether writing failed, so that the journal is not complete.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    fn fail(&mut self, source: std::io::Error) -> JournalError {
        self.broken = true;
        self.buffer = Vec::new();
        JournalError::Write { path: self.path.clone(), source }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to be told; a reader sees the torn line and the missing end.
        let _ = self.commit();
    }
}

/// The record without what makes it long; what decides the verdict stays.
fn without_bulk(record: &CaseRecord) -> CaseRecord {
    let mut record = record.clone();
    for attempt in &mut record.attempts {
        attempt.evidence = None;
        attempt.ops.clear();
        attempt.output.clear();
        attempt.observation.texts.truncate(8);
        for text in &mut attempt.observation.texts {
            *text = text.chars().take(4096).collect();
        }
        attempt.observation.checks.truncate(64);
        for check in &mut attempt.observation.checks {
            check.diff = check.diff.take().map(|diff| diff.chars().take(4096).collect());
        }
    }
    record
}

/// Ends the file after its last line feed.
fn cut_torn_line(file: &mut File) -> std::io::Result<()> {
    const STEP: u64 = 64 << 10;
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length { file.set_len(end) } else { Ok(()) }
}
