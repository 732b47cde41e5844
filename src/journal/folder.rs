//! The folder of a run, and how people name one.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::JournalError;

/// The link to the newest run.
const LATEST: &str = "latest";
/// The journal in a run's folder.
const EVENTS: &str = "events.jsonl";
/// So many runs are named in an error.
const NAMED: usize = 5;

/// A run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes a new folder in `runs` (`.soupscen/runs`), named by the time and `salt`. Everything in it
    /// is readable by the owner only.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn create(runs: &Path, started_unix_ms: u64, salt: u32) -> Result<Self, JournalError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(runs)
            .map_err(|source| JournalError::Home { path: runs.to_owned(), source })?;
        let ignore = runs.join(".gitignore");
        if !ignore.exists() {
            // Only a convenience: runs are nothing to commit.
            let _ = fs::write(&ignore, "*\n");
        }
        let stamp = stamp(started_unix_ms);
        let mut salt = salt;
        loop {
            let name = format!("{stamp}-{:04x}", salt & 0xffff);
            let path = runs.join(&name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => salt = salt.wrapping_add(1),
                Err(source) => return Err(JournalError::Home { path, source }),
            }
        }
    }

    /// Finds the run that `name` means: a folder, its `events.jsonl`, or the name of a run in
    /// `runs` (`latest` is one).
    ///
    /// # Errors
    /// When there is none, naming the newest that there are; when it is some other file.
    pub fn find(runs: &Path, name: &str) -> Result<Self, JournalError> {
        let direct = Path::new(name);
        if direct.join(EVENTS).is_file() {
            return Ok(Self { path: direct.to_owned() });
        }
        if direct.is_file()
            && let Some(parent) = direct.parent()
        {
            if direct.file_name() != Some(EVENTS.as_ref()) {
                return Err(JournalError::NotARun { path: direct.to_owned() });
            }
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            return Ok(Self { path: parent.to_owned() });
        }
        let below = runs.join(name);
        if is_plain(name) && below.join(EVENTS).is_file() {
            // The name itself, not `latest`: messages should name what stays.
            let path = fs::read_link(&below).map_or(below, |target| runs.join(target));
            return Ok(Self { path });
        }
        Err(JournalError::NoSuchRun { name: name.to_owned(), known: known_runs(runs), root: runs.to_owned() })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.file_name().or_else(|| self.path.as_os_str().to_str().map(std::ffi::OsStr::new));
        name.map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    /// Its journal.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.path.join(EVENTS)
    }

    /// Where folders of evidence go; not made yet.
    #[must_use]
    pub fn evidence(&self) -> PathBuf {
        self.path.join("evidence")
    }

    /// Points `latest` at this run, once it has a journal. A convenience: failing to is no failure of
    /// the run.
    pub(super) fn point_latest(&self) {
        let (Some(runs), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        let aside = runs.join(format!(".{LATEST}-{}", std::process::id()));
        let _ = fs::remove_file(&aside);
        if symlink(name, &aside).is_ok() && fs::rename(&aside, runs.join(LATEST)).is_err() {
            let _ = fs::remove_file(&aside);
        }
    }
}

fn stamp(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (time.date(), time.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}-{:02}-{:02}", clock.hour(), clock.minute(), clock.second())
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn known_runs(runs: &Path) -> String {
    let Ok(entries) = fs::read_dir(runs) else { return "there are no runs yet".to_owned() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    if names.is_empty() {
        return "there are no runs yet".to_owned();
    }
    names.truncate(NAMED);
    format!("the newest are {}", names.join(", "))
}
