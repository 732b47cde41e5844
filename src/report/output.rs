//! Files of reports: written aside and renamed, so that nobody reads half a report.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
    /// Begins a file; missing folders are made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Ok(Self::Straight(BufWriter::new(fs::OpenOptions::new().write(true).open(path)?)));
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
}
