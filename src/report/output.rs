//! Files of reports: written aside and renamed, so that nobody reads half a report.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tempfile::NamedTempFile;

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the {what} report to `{}`: {source}", path.display())]
pub struct ReportError {
    /// Which report.
    pub what: &'static str,
    /// Where to.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl ReportError {
    pub(super) fn of(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self { what, path: path.to_owned(), source }
    }
}

/// A file in the making.
#[derive(Debug)]
pub(super) enum Output {
    /// A regular file: made beside its place and renamed to it.
    Aside(BufWriter<NamedTempFile>, PathBuf),
    /// A pipe or device (`/dev/stdout`), which cannot be renamed to.
    Straight(BufWriter<fs::File>),
}

impl Output {
    /// Finds out whether a file can be begun.
    pub(super) fn check(path: &Path) -> io::Result<()> {
        if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
            // Its reader would see an end, and may not be there yet.
            return Ok(nix::unistd::access(path, nix::unistd::AccessFlags::W_OK)?);
        }
        Self::create(path).map(drop)
    }

    /// Begins a file; missing folders are made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Ok(Self::Straight(BufWriter::new(open_special(path)?)));
        }
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory: name a file in it"));
        }
        // A link stays a link: the file that it points at is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder)?;
        let file = tempfile::Builder::new()
            .prefix(".soupscen-report-")
            .permissions(fs::Permissions::from_mode(0o666)) // less the umask, as any report
            .tempfile_in(folder)?;
        Ok(Self::Aside(BufWriter::with_capacity(256 << 10, file), path))
    }

    /// Puts the file into its place.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Aside(file, path) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.persist(path).map(drop).map_err(|error| error.error)
            }
            Self::Straight(mut file) => file.flush(),
        }
    }
}

/// Opens a pipe or device. A pipe that nobody reads is an error: waiting for a reader might never end.
fn open_special(path: &Path) -> io::Result<fs::File> {
    let flags = OFlag::O_NONBLOCK.bits();
    let file = fs::OpenOptions::new().write(true).custom_flags(flags).open(path).map_err(|error| {
        if error.raw_os_error() == Some(Errno::ENXIO as i32) {
            io::Error::new(error.kind(), "nobody reads it")
        } else {
            error
        }
    })?;
    let set = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(set.difference(OFlag::O_NONBLOCK)))?;
    Ok(file)
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Aside(file, _) => file.write(bytes),
            Self::Straight(file) => file.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Aside(file, _) => file.flush(),
            Self::Straight(file) => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_there_only_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/er/junit.xml");
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"half").unwrap();
        assert!(!path.exists());
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half");
        drop(Output::create(&path).unwrap());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
        let readable = fs::metadata(&path).unwrap().permissions().mode() & 0o600;
        assert_eq!(readable, 0o600);
    }

    #[test]
    fn places_that_cannot_be_written_are_errors() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert!(Output::create(&root.path().join("file/junit.xml")).is_err());
        let error = ReportError::of("junit", root.path())(Output::create(root.path()).unwrap_err());
        assert!(error.to_string().contains("it is a directory"), "{error}");
        let mut device = Output::create(Path::new("/dev/null")).unwrap();
        device.write_all(b"x").unwrap();
        device.finish().unwrap();
    }

    #[test]
    fn a_pipe_is_written_once_it_is_read_and_never_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Opened as any file is, either would wait for a reader for ever.
        Output::check(&path).unwrap();
        let error = Output::create(&path).unwrap_err().to_string();
        assert_eq!(error, "nobody reads it");
        let reader = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"whole").unwrap();
        output.finish().unwrap();
        assert_eq!(io::read_to_string(reader).unwrap(), "whole");
    }
}
