//! The real disk as [`Files`]. The only part of this module with file access; given to `load` by
//! the command line.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::files::{FileProblem, Files, MAX_FILE, normal};

/// At most this many names of a folder are looked at for did-you-mean.
const MAX_NAMES: usize = 1_000;

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn read(&self, path: &Path) -> Result<Vec<u8>, FileProblem> {
        // Opened without blocking: a pipe without a writer would otherwise be waited for. What it is
        // is asked of the open file, so it cannot be exchanged in between.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
            .open(path)
            .map_err(|error| problem(&error))?;
        let kind = file.metadata().map_err(|error| problem(&error))?;
        if kind.is_dir() {
            return Err(FileProblem::Folder);
        }
        let file_type = kind.file_type();
        if file_type.is_fifo() {
            return Err(FileProblem::Special("a pipe"));
        }
        if file_type.is_char_device() || file_type.is_block_device() {
            return Err(FileProblem::Special("a device"));
        }
        if !kind.is_file() {
            return Err(FileProblem::Special("something special"));
        }
        if kind.len() > MAX_FILE {
            return Err(FileProblem::TooLarge);
        }
        bounded(file)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        path.canonicalize().unwrap_or_else(|_| normal(path))
    }

    fn names(&self, folder: &Path) -> Vec<String> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let Ok(entries) = folder.read_dir() else { return Vec::new() };
        entries.take(MAX_NAMES).filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
    }
}

/// Files of `/proc` and growing ones say nothing true about their size.
fn bounded(file: File) -> Result<Vec<u8>, FileProblem> {
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(|error| problem(&error))?;
    if content.len() as u64 > MAX_FILE {
        return Err(FileProblem::TooLarge);
    }
    Ok(content)
}

fn problem(error: &std::io::Error) -> FileProblem {
    match error.kind() {
        std::io::ErrorKind::NotFound => FileProblem::Missing,
        std::io::ErrorKind::IsADirectory => FileProblem::Folder,
        // Opening a unix socket.
        _ if error.raw_os_error() == Some(nix::libc::ENXIO) => FileProblem::Special("a socket"),
        _ => FileProblem::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_pipes_devices_and_missing_files_are_told_apart_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(DiskFiles.read(&pipe), Err(FileProblem::Special("a pipe")));
        assert_eq!(DiskFiles.read(&socket), Err(FileProblem::Special("a socket")));
        assert_eq!(DiskFiles.read(folder.path()), Err(FileProblem::Folder));
        assert_eq!(DiskFiles.read(&folder.path().join("no")), Err(FileProblem::Missing));
        assert_eq!(DiskFiles.read(Path::new("/dev/zero")), Err(FileProblem::Special("a device")));
    }

    #[test]
    fn a_huge_file_is_refused_by_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.yaml");
        File::create(&path).unwrap().set_len(100 * 1024 * 1024).unwrap();
        assert_eq!(DiskFiles.read(&path), Err(FileProblem::TooLarge));
        File::create(&path).unwrap().set_len(MAX_FILE).unwrap();
        assert_eq!(DiskFiles.read(&path).unwrap().len() as u64, MAX_FILE);
    }

    #[test]
    fn one_file_by_two_paths_has_one_identity() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "x").unwrap();
        std::os::unix::fs::symlink(folder.path().join("a.yaml"), folder.path().join("b.yaml")).unwrap();
        let identity = |name: &str| DiskFiles.identity(&folder.path().join(name));
        assert_eq!(identity("a.yaml"), identity("b.yaml"));
        assert_eq!(DiskFiles.names(folder.path()).len(), 2);
    }
}
