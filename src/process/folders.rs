//! The folders of a run that somebody has to remove, however it ends: the engine registers them with
//! its guard and its cleaner. Reads `sys`; read by `guard` and `scratch`.
//!
//! The guard removes them when the engine is killed, the engine when the guard is. The cleaner is for
//! a SIGKILL to both at once, which is what a kill of their process group is: it is a process in a
//! session of its own that waits until both are gone. Programs need no such: their keepers end them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::ForkResult;

use super::sys;

/// Longest registration, so that a record is written in one piece (`PIPE_BUF` is 4096 on Linux).
const RECORD_BYTES: usize = 4096;
/// How many folders and files are remembered.
const MAX_PATHS: usize = 65_536;
/// Where the cleaner keeps its end of the pipe.
const CLEANER_PIPE: i32 = 3;
/// How often, and after what time, the cleaner tries again to remove what a dying process still
/// fills: keepers end these within milliseconds.
const TRIES: u32 = 250;
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// `u+rwx`.
const OWNER: u32 = 0o700;

/// The engine's ends of the pipes to its guard and its cleaner.
static TOLD: OnceLock<Vec<OwnedFd>> = OnceLock::new();
/// What is registered, for the case that the engine itself has to clean up.
static REGISTERED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// From now on these are told; called once, in the engine.
pub(super) fn tell_to(pipes: Vec<OwnedFd>) {
    let _ = TOLD.set(pipes);
}

/// Whether somebody is told.
pub(super) fn are_told() -> bool {
    TOLD.get().is_some()
}

/// Has a folder (with all that is in it) or a file removed when this run ends, however it ends.
/// Does nothing in a process without a guard, and for paths of more than 4,000 bytes.
pub(super) fn register(path: &Path) {
    if let Ok(mut set) = REGISTERED.lock()
        && set.len() < MAX_PATHS
    {
        set.insert(path.to_owned());
    }
    tell(b'+', path);
}

/// Takes a registration back, once the path is removed or is to stay.
pub(super) fn forget(path: &Path) {
    if let Ok(mut set) = REGISTERED.lock() {
        set.remove(path);
    }
    tell(b'-', path);
}

fn tell(kind: u8, path: &Path) {
    let mut record = vec![kind];
    record.extend_from_slice(path.as_os_str().as_bytes());
    record.push(0);
    if record.len() <= RECORD_BYTES {
        for pipe in TOLD.get().into_iter().flatten() {
            // One that is gone leaves the cleaning to the others.
            let _ = nix::unistd::write(pipe, &record);
        }
    }
}

/// Removes all that is registered, in the engine itself.
pub(super) fn remove_registered() {
    let paths = REGISTERED.lock().map(|set| set.clone()).unwrap_or_default();
    for path in paths {
        remove(&path);
    }
}

/// The other end of a pipe: what was registered and not taken back.
#[derive(Debug)]
pub(super) struct Registrations {
    pipe: Option<OwnedFd>,
    pending: Vec<u8>,
    paths: BTreeSet<PathBuf>,
}

impl Registrations {
    /// Reads from `pipe`.
    pub(super) const fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), pending: Vec::new(), paths: BTreeSet::new() }
    }

    /// The pipe, until its end.
    pub(super) const fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// Reads one chunk; `false` when there is nothing more now.
    pub(super) fn read(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut chunk = [0_u8; 2 * RECORD_BYTES];
        match nix::unistd::read(pipe, &mut chunk) {
            Ok(0) => self.pipe = None,
            Ok(n) => self.pending.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return false,
            Err(_) => self.pipe = None,
        }
        while let Some(end) = self.pending.iter().position(|b| *b == 0) {
            let record: Vec<u8> = self.pending.drain(..=end).collect();
            let Some((kind, path)) = record.get(..end).and_then(<[u8]>::split_first) else { continue };
            let path = PathBuf::from(OsStr::from_bytes(path));
            match kind {
                b'+' if self.paths.len() < MAX_PATHS => {
                    self.paths.insert(path);
                }
                b'-' => {
                    self.paths.remove(&path);
                }
                _ => {}
            }
        }
        self.pipe.is_some()
    }

    /// Removes all of them; called when nobody fills them any more.
    pub(super) fn remove_all(&mut self) {
        while self.read() {}
        for path in std::mem::take(&mut self.paths) {
            remove(&path);
        }
    }
}

/// Makes the cleaner and gives the pipe that it lives by: it cleans when every copy is closed. Must
/// be called before any thread exists, with signals blocked.
///
/// # Errors
/// When there is no descriptor or process left. A run can do without.
pub(super) fn start_cleaner() -> nix::Result<OwnedFd> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let (apart, tell_apart) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    if let ForkResult::Child = sys::fork_single_threaded()? {
        drop((writer, apart));
        // Out of reach of the terminal and of a kill of the group.
        let _ = nix::unistd::setsid();
        drop(tell_apart);
        sys::exit_now(clean(reader));
    }
    drop(tell_apart);
    // Until then a kill of the group would end it together with those that it cleans up after: on a
    // busy machine the engine can be far ahead of it.
    while nix::unistd::read(&apart, &mut [0]) == Err(Errno::EINTR) {}
    Ok(writer)
}

/// The cleaner's whole life. Normally it ends with the guard, which sweeps it like all else.
fn clean(pipe: OwnedFd) -> i32 {
    let _ = prctl::set_name(c"soupscen-clean");
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    let Ok(pipe) = isolate(pipe) else { return 1 };
    let mut registered = Registrations::new(pipe);
    while let Some(pipe) = registered.pipe() {
        let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => while registered.read() {},
            Err(_) => return 1,
        }
    }
    for path in std::mem::take(&mut registered.paths) {
        for _ in 0..TRIES {
            remove(&path);
            if path.symlink_metadata().is_err() {
                break;
            }
            std::thread::sleep(TRY_AGAIN);
        }
    }
    0
}

/// Lets go of everything but the pipe: whoever reads the run's output must see its end.
fn isolate(pipe: OwnedFd) -> nix::Result<OwnedFd> {
    {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        for standard in 0..3 {
            sys::place(&null, standard)?;
        }
    }
    sys::place(&pipe, CLEANER_PIPE)?;
    // Closed with all the others, not by its owner.
    std::mem::forget(pipe);
    sys::close_from(CLEANER_PIPE.unsigned_abs() + 1);
    sys::fixed_fd(CLEANER_PIPE).try_clone_to_owned().map_err(|_| Errno::EMFILE)
}

/// Removes a file, or a folder with all that is in it, if it is ours. Links are removed, not followed.
pub(super) fn remove(path: &Path) {
    let Ok(what) = path.symlink_metadata() else { return };
    if what.uid() != nix::unistd::geteuid().as_raw() {
        return;
    }
    let _ = if what.is_dir() { remove_tree(path) } else { std::fs::remove_file(path) };
}

/// Removes a folder with all that is in it, also what its maker protected from that (Go does so with
/// its module cache). Links are removed, not followed.
///
/// # Errors
/// When something of it stays.
pub(crate) fn remove_tree(path: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(path).or_else(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            return Err(error);
        }
        // Or a process that was just killed left a file while we were at it.
        unprotect(path);
        std::fs::remove_dir_all(path)
    })
}

/// Lets the owner do everything in a folder and in all below it.
fn unprotect(root: &Path) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(what) = folder.symlink_metadata() else { continue };
        if !what.is_dir() {
            continue;
        }
        let mode = what.permissions().mode();
        if mode & OWNER != OWNER {
            let _ = std::fs::set_permissions(&folder, Permissions::from_mode(mode | OWNER));
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(below.map(|entry| entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_protected_from_writing_is_removed_and_no_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let (root, other) = (place.path().join("root"), place.path().join("other"));
        let deep = root.join("pkg/mod");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(deep.join("go.mod"), "").unwrap();
        std::os::unix::fs::symlink(&other, root.join("link")).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let protect = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let protect_all = || {
            for (path, mode) in [(&deep, 0o555), (&root.join("pkg"), 0o500), (&other, 0o555)] {
                protect(path, mode);
            }
        };
        protect_all();
        unprotect(&root);
        assert_eq!([mode(&deep), mode(&root.join("pkg")), mode(&other)], [0o755, 0o700, 0o555]);
        protect_all();
        remove_tree(&root).unwrap();
        assert!(!root.exists() && other.exists());
        assert_eq!(remove_tree(&root).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
}
