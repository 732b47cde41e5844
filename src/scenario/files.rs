//! How scenario text is reached: the trait that keeps this layer free of file access, what can go
//! wrong with a file, and an in-memory folder for tests. The real disk is in `disk`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// No scenario file may be larger, in bytes.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Where scenario files are read from.
pub trait Files {
    /// The whole content of a file.
    ///
    /// # Errors
    /// Whatever keeps the file from being read, without having read more than [`MAX_FILE`] bytes
    /// and without waiting for another program (pipes, devices).
    fn read(&self, path: &Path) -> Result<Vec<u8>, FileProblem>;

    /// A name that is the same for every path to the same file, to see include cycles.
    fn identity(&self, path: &Path) -> PathBuf {
        normal(path)
    }

    /// Names in a folder, for did-you-mean; empty when unknown.
    fn names(&self, folder: &Path) -> Vec<String> {
        let _ = folder;
        Vec::new()
    }
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileProblem {
    /// There is none.
    #[error("there is no such file")]
    Missing,
    /// It is a folder.
    #[error("this is a folder, not a file")]
    Folder,
    /// It is a pipe, socket or device.
    #[error("this is {0}, not a file")]
    Special(&'static str),
    /// It has more than [`MAX_FILE`] bytes.
    #[error("the file is larger than {} MiB", MAX_FILE / (1024 * 1024))]
    TooLarge,
    /// Anything else, in the system's words.
    #[error("the file cannot be read: {0}")]
    Other(String),
}

impl FileProblem {
    /// Stable code for diagnostics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing-file",
            Self::Folder => "is-a-folder",
            Self::Special(_) => "not-a-file",
            Self::TooLarge => "too-large",
            Self::Other(_) => "unreadable",
        }
    }
}

/// Files in memory, for tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl MemoryFiles {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    #[must_use]
    pub fn with(mut self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Self {
        self.files.insert(normal(path.as_ref()), content.as_ref().to_vec());
        self
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> Result<Vec<u8>, FileProblem> {
        let path = normal(path);
        match self.files.get(&path) {
            Some(content) if content.len() as u64 > MAX_FILE => Err(FileProblem::TooLarge),
            Some(content) => Ok(content.clone()),
            None if self.files.keys().any(|f| f.starts_with(&path)) => Err(FileProblem::Folder),
            None => Err(FileProblem::Missing),
        }
    }

    fn names(&self, folder: &Path) -> Vec<String> {
        let folder = normal(folder);
        let names = self.files.keys().filter(|f| f.parent() == Some(&folder));
        names.filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned())).collect()
    }
}

/// A path without `.` and, where that needs no look at the disk, without `..`.
#[must_use]
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => match out.components().next_back() {
                Some(Component::Normal(_)) => {
                    out.pop();
                }
                Some(Component::RootDir | Component::Prefix(_)) => {}
                _ => out.push(".."),
            },
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_paths() {
        for (given, expected) in [
            ("a/./b/../c.yaml", "a/c.yaml"),
            ("scenarios/peers/../../fixtures/peer.yaml", "fixtures/peer.yaml"),
            ("../x/../../y", "../../y"),
            ("/a/../../b", "/b"),
            ("./a", "a"),
        ] {
            assert_eq!(normal(Path::new(given)), Path::new(expected), "{given}");
        }
    }
}
