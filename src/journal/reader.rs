//! Reads a journal line by line, in bounded memory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{JournalError, MAX_LINE};
use crate::event::{CaseRecord, FORMAT, RunEvent, RunHeader};

/// How almost every line begins.
const CASE: &[u8] = br#"{"type":"case-finished","#;
/// How a head begins.
const HEAD: &[u8] = br#"{"type":"run-started","#;

/// A journal, as an iterator over its events. The head comes first.
///
/// A last line without its line feed is what a killed writer leaves: it is passed over. After an
/// error there are no more events.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    header: RunHeader,
    head_given: bool,
    ended: bool,
}

impl Reader {
    /// Opens a journal and reads its head.
    ///
    /// # Errors
    /// When it cannot be read, has no head, or another format.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let mut lines = Lines::open(path)?;
        let no_head = || JournalError::NoHead { path: path.to_owned() };
        if !lines.advance()? {
            return Err(no_head());
        }
        let head: serde_json::Value = serde_json::from_slice(&lines.line).map_err(|_| no_head())?;
        if head.get("type").and_then(serde_json::Value::as_str) != Some("run-started") {
            return Err(no_head());
        }
        let found = head.get("format").and_then(serde_json::Value::as_u64);
        let found = found.and_then(|n| u32::try_from(n).ok()).ok_or_else(no_head)?;
        if found != FORMAT {
            let version = head.get("version").and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned();
            return Err(JournalError::Format { path: path.to_owned(), found, known: FORMAT, version });
        }
        let header = serde_json::from_value(head).map_err(|error| lines.bad(&error))?;
        Ok(Self { lines, header, head_given: false, ended: false })
    }

    /// The head.
    #[must_use]
    pub const fn header(&self) -> &RunHeader {
        &self.header
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.lines.path
    }

    /// The number of the line that the last event came from, 1-based.
    #[must_use]
    pub const fn line(&self) -> u64 {
        self.lines.number
    }
}

impl Iterator for Reader {
    type Item = Result<RunEvent, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if !self.head_given {
            self.head_given = true;
            return Some(Ok(RunEvent::RunStarted(self.header.clone())));
        }
        let item = match self.lines.advance() {
            Ok(true) => Some(self.lines.event()),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

/// The lines of a journal, for those who need less than events.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let file = File::open(path).map_err(JournalError::io("open the journal", path))?;
        let file = BufReader::with_capacity(256 << 10, file);
        Ok(Self { path: path.to_owned(), file, line: Vec::new(), number: 0 })
    }

    /// The number of the line at hand, 1-based.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether the line at hand is a head.
    pub(super) fn is_head(&self) -> bool {
        self.line.starts_with(HEAD)
    }

    /// Reads the next whole line; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, JournalError> {
        self.line.clear();
        loop {
            let chunk = self.file.fill_buf().map_err(JournalError::io("read the journal", &self.path))?;
            if chunk.is_empty() {
                return Ok(false);
            }
            let feed = chunk.iter().position(|byte| *byte == b'\n');
            let used = feed.map_or(chunk.len(), |at| at + 1);
            self.line.extend_from_slice(&chunk[..feed.unwrap_or(used)]);
            self.file.consume(used);
            if self.line.len() > MAX_LINE {
                let cause = format!("longer than the {MAX_LINE} bytes that a line of a journal may have");
                return Err(JournalError::Line { path: self.path.clone(), line: self.number + 1, cause });
            }
            if feed.is_some() {
                self.number += 1;
                return Ok(true);
            }
        }
    }

    /// A part of the case at hand; `None` when the line at hand is no case.
    pub(super) fn case<'a, T: serde::Deserialize<'a>>(&'a mut self) -> Option<Result<T, JournalError>> {
        let text = case_object(&mut self.line)?;
        let (path, line) = (&self.path, self.number);
        Some(serde_json::from_slice(text).map_err(|error| JournalError::Line {
            path: path.clone(),
            line,
            cause: error.to_string(),
        }))
    }

    /// The line at hand as an event.
    fn event(&mut self) -> Result<RunEvent, JournalError> {
        // serde buffers tagged enums before it reads them; cases are almost all of the lines, so
        // they are worth a way around it.
        match case_object(&mut self.line) {
            Some(text) => serde_json::from_slice::<CaseRecord>(text).map(|r| RunEvent::CaseFinished(Box::new(r))),
            None => serde_json::from_slice(&self.line),
        }
        .map_err(|error| self.bad(&error))
    }

    fn bad(&self, error: &serde_json::Error) -> JournalError {
        JournalError::Line { path: self.path.clone(), line: self.number, cause: error.to_string() }
    }
}

/// The object of a `case-finished` line, its tag cut off; `None` for other lines.
fn case_object(line: &mut [u8]) -> Option<&[u8]> {
    if !line.starts_with(CASE) {
        return None;
    }
    let start = CASE.len() - 1;
    line[start] = b'{';
    Some(&line[start..])
}
