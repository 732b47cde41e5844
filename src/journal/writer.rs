//! Appends events: buffered, and handed to the operating system once per batch.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::{JournalError, MAX_LINE, RunFolder, is_kept};
use crate::event::{CaseRecord, RunEvent, RunHeader};

/// The buffer goes out when it reaches this size, batch or not.
const BUFFER: usize = 256 << 10;
/// Characters of each text that a record keeps which is too long.
const WORDS: usize = 4096;

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
            self.put(start, &RunEvent::CaseFinished(Box::new(without_bulk(record))))?;
        } else if let Err(error) = written {
            self.buffer.truncate(start);
            return Err(self.fail(error.into()));
        }
        let length = self.buffer.len() - start;
        if length >= MAX_LINE {
            // A line that no reader takes would make all after it unreadable, too.
            let text = format!("an event of {length} bytes was left out: the journal has lines of up to {MAX_LINE}");
            self.put(start, &RunEvent::Note { text, place: None })?;
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.commit() } else { Ok(()) }
    }

    /// Puts an event in the place of what the buffer has from `start` on.
    fn put(&mut self, start: usize, event: &RunEvent) -> Result<(), JournalError> {
        self.buffer.truncate(start);
        serde_json::to_writer(&mut self.buffer, event).map_err(|error| self.fail(error.into()))
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
        attempt.commands.clear();
        let observation = &mut attempt.observation;
        observation.texts.truncate(8);
        observation.checks.truncate(64);
        let words = observation.cause.iter_mut().map(|cause| &mut cause.text);
        let words = words.chain(observation.status.iter_mut().map(|status| &mut status.text));
        let words = words.chain(&mut observation.texts);
        for text in words.chain(observation.checks.iter_mut().filter_map(|check| check.diff.as_mut())) {
            shorten(text);
        }
    }
    record
}

/// Cuts a text, and says how much of it is gone.
fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(WORDS) {
        let gone = text.len() - end;
        text.truncate(end);
        let _ = write!(text, " … ({gone} bytes left out)");
    }
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
