//! Temporary folders of a run: short, private, and removed however the run ends. Reads `folders`;
//! read by `hub`, `peer` and `exec`.

use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::folders;

/// Longest folder below which sockets still fit: `sun_path` holds 108 bytes with its end mark, and
/// `/instance-123/plugin-1234567890.sock` and the like must fit below.
const LONGEST_BASE: usize = 48;
/// Where folders go when `TMPDIR` is too long for sockets.
const FALLBACK: &str = "/tmp";

/// A folder that only its owner can enter. Removed with all that is in it when dropped, and by the
/// guard (or the engine) if this process does not get that far.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one below `TMPDIR`, or below `/tmp` where that would be too long for unix sockets.
    ///
    /// # Errors
    /// When no folder can be made there.
    pub fn new() -> std::io::Result<Self> {
        let wanted = std::env::temp_dir();
        let base = if wanted.as_os_str().len() <= LONGEST_BASE { wanted } else { PathBuf::from(FALLBACK) };
        Self::below(&base)
    }

    /// Makes one below `base`.
    ///
    /// # Errors
    /// When no folder can be made there; the message names the place.
    pub fn below(base: &Path) -> std::io::Result<Self> {
        // Programs start from folders of their own.
        let base = &std::path::absolute(base)?;
        let path = base.join(format!("soup-{}", random_name(5)?));
        // Registered first: a kill in between leaves nothing behind, and a name that was never made
        // is nobody else's.
        folders::register(&path);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        if let Err(error) = made {
            folders::forget(&path);
            let text =
                format!("cannot make a temporary folder in `{}`: {error}; point TMPDIR elsewhere", base.display());
            return Err(std::io::Error::new(error.kind(), text));
        }
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it, private as well.
    ///
    /// # Errors
    /// When it exists or cannot be made.
    pub fn folder(&self, name: &str) -> std::io::Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        folders::remove(&self.path);
        // Something may still be filling it: then it is for the guard, once that is ended.
        if self.path.symlink_metadata().is_err() {
            folders::forget(&self.path);
        }
    }
}

/// A name of `2 * bytes` hexadecimal digits from the system's generator.
pub(crate) fn random_name(bytes: usize) -> std::io::Result<String> {
    let mut random = vec![0; bytes];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(hex::encode(random))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_scratch_folder_is_private_and_goes_with_its_owner() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(scratch.folder("instance").unwrap().join("file"), "x").unwrap();
        assert!(path.as_os_str().len() < LONGEST_BASE + 20);
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_link_is_removed_but_not_followed() {
        let scratch = Scratch::new().unwrap();
        let kept = Scratch::new().unwrap();
        std::fs::write(kept.path().join("file"), "x").unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(kept.path(), &link).unwrap();
        folders::remove(&link);
        assert!(!link.exists() && kept.path().join("file").exists());
    }

    #[test]
    fn a_place_that_cannot_hold_folders_is_named() {
        let error = Scratch::below(Path::new("/proc/no-such")).unwrap_err().to_string();
        assert!(error.contains("`/proc/no-such`") && error.contains("TMPDIR"), "{error}");
    }
}
