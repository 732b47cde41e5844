//! The guard: the process that the user started becomes a single-threaded watcher, and the engine
//! its child. Whichever of the two is killed, the other ends every process below and removes the
//! run's folders. Reads `sys` and `sweep`; called first thing in `main`, and by `scratch`.
//!
//! Guard and engine are both subreapers. The guard waits for the engine with a signalfd; the engine
//! watches the guard through the pipe over which it registers folders: a pipe whose reader is gone
//! says so at once, also when the reader died before anybody looked. (A parent-death signal would
//! need a handler, a free signal number, and a look at the race before it was asked for.)

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid};

use super::{sweep, sys};
use crate::outcome::Exit;

/// Longest registration, so that a record is written in one piece (`PIPE_BUF` is 4096 on Linux).
const RECORD_BYTES: usize = 4096;
/// How many folders and files the guard remembers.
const MAX_PATHS: usize = 65_536;
/// Exit status when no guard could be made: nothing could be judged.
const CANNOT_GUARD: u8 = 3;
/// Exit status of an engine whose guard was killed, as of a process ended by SIGKILL.
const GUARD_KILLED: i32 = 137;

/// The engine's end of the pipe to its guard.
static TO_GUARD: OnceLock<OwnedFd> = OnceLock::new();
/// What is registered, for the case that the engine itself has to clean up.
static REGISTERED: std::sync::Mutex<BTreeSet<PathBuf>> = std::sync::Mutex::new(BTreeSet::new());
/// The guard is gone: nothing may be started any more.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether this process runs under a guard.
#[must_use]
pub fn is_guarded() -> bool {
    TO_GUARD.get().is_some()
}

/// Whether the guard has died, so that everything is being ended.
pub(super) fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Has a folder (with all that is in it) or a file removed when this run ends, however it ends.
/// Does nothing in a process without a guard, and for paths of more than 4,000 bytes.
pub fn register(path: &Path) {
    if let Ok(mut set) = REGISTERED.lock()
        && set.len() < MAX_PATHS
    {
        set.insert(path.to_owned());
    }
    tell(b'+', path);
}

/// Takes a registration back, once the path is removed or is to stay.
pub fn forget(path: &Path) {
    if let Ok(mut set) = REGISTERED.lock() {
        set.remove(path);
    }
    tell(b'-', path);
}

fn tell(kind: u8, path: &Path) {
    let Some(pipe) = TO_GUARD.get() else { return };
    let mut record = vec![kind];
    record.extend_from_slice(path.as_os_str().as_bytes());
    record.push(0);
    if record.len() <= RECORD_BYTES {
        // A guard that is gone leaves the cleaning to us, see `on_guard_death`.
        let _ = nix::unistd::write(pipe, &record);
    }
}

/// Runs `engine` in a child process under the guard of this one, and gives the child's exit status.
///
/// Must be called before any thread exists. In the child, `engine` runs and its status is returned
/// to `main` as usual; in the guard, this returns once the engine is gone, nothing of it is left,
/// and the folders that it registered are removed. If the engine died by a signal, so does the guard.
///
/// SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on to the engine when a process sent them; those of
/// a terminal reach the engine by themselves, as both are in the foreground group.
#[must_use]
pub fn run_guarded(engine: impl FnOnce() -> ExitCode) -> ExitCode {
    match split() {
        Ok(Role::Engine) => engine(),
        Ok(Role::Guard(guard)) => guard.watch(),
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "error: cannot start the process that guards this run: {error}; \
                 free process slots or memory and try again"
            );
            ExitCode::from(CANNOT_GUARD)
        }
    }
}

enum Role {
    Guard(Guard),
    Engine,
}

struct Guard {
    engine: Pid,
    signals: SignalFd,
    pipe: Option<OwnedFd>,
    pending: Vec<u8>,
    paths: BTreeSet<PathBuf>,
}

fn split() -> nix::Result<Role> {
    // Non-blocking: neither a stopped guard nor a process that does not die may hold the other up.
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let mut watched = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        watched.add(signal);
    }
    // Blocked before the fork, so that no signal falls between; the engine gets the old mask back.
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched), Some(&mut before))?;
    match sys::fork_single_threaded() {
        Ok(ForkResult::Child) => {
            drop(reader);
            prctl::set_child_subreaper(true)?;
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
            let watch = writer.try_clone().map_err(|_| Errno::EMFILE)?;
            let _ = TO_GUARD.set(writer);
            std::thread::Builder::new()
                .name("guard-watch".into())
                .spawn(move || engine_watches_guard(&watch))
                .map_err(|_| Errno::EAGAIN)?;
            Ok(Role::Engine)
        }
        Ok(ForkResult::Parent { child }) => {
            drop(writer);
            prctl::set_child_subreaper(true)?;
            let _ = prctl::set_name(c"soupscen-guard");
            let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
            let (pipe, pending, paths) = (Some(reader), Vec::new(), BTreeSet::new());
            Ok(Role::Guard(Guard { engine: child, signals, pipe, pending, paths }))
        }
        Err(error) => {
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
            Err(error)
        }
    }
}

impl Guard {
    fn watch(mut self) -> ExitCode {
        let status = loop {
            if let Some(status) = self.reap() {
                break status;
            }
            self.wait();
            self.pass_signals_on();
        };
        // Whatever is below us now was the engine's.
        let complete = sweep::sweep(|_, _| ());
        while self.pipe.is_some() && self.read_registrations() {}
        for path in std::mem::take(&mut self.paths) {
            remove(&path);
        }
        if !complete {
            let _ = writeln!(std::io::stderr(), "warning: some processes of this run did not die of SIGKILL");
        }
        match sys::exit_of(status) {
            Exit::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
            Exit::Signal(signal) => {
                sys::die_by(signal);
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
            }
        }
    }

    /// Reaps all that ended; gives the engine's wait status if it is among them.
    fn reap(&self) -> Option<i32> {
        while let Ok(Some((pid, status))) = sys::reap_any() {
            if pid == self.engine.as_raw() {
                return Some(status);
            }
        }
        None
    }

    fn wait(&mut self) {
        let mut ready = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.pipe.as_ref().map_or(self.signals.as_fd(), AsFd::as_fd), PollFlags::POLLIN),
        ];
        if poll(&mut ready, PollTimeout::NONE).is_err() {
            return;
        }
        let readable = ready[1].revents().is_some_and(|r| !r.is_empty());
        if readable && self.pipe.is_some() {
            self.read_registrations();
        }
    }

    /// Reads one chunk; `false` at the end.
    fn read_registrations(&mut self) -> bool {
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

    fn pass_signals_on(&self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            // Codes above zero are the kernel's: a terminal's Ctrl-C, which the engine got as well.
            if signal != libc::SIGCHLD && info.ssi_code <= 0 {
                let _ = sys::send_signal(self.engine.as_raw(), signal);
            }
        }
    }
}

/// Runs in the engine for as long as its guard lives.
fn engine_watches_guard(pipe: &OwnedFd) {
    loop {
        // No events asked for: only "the reader is gone" (POLLERR) wakes this.
        let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) if ready[0].revents().is_some_and(|r| r.contains(PollFlags::POLLERR)) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
    on_guard_death();
}

fn on_guard_death() {
    ENDING.store(true, Ordering::SeqCst);
    let _ = writeln!(std::io::stderr(), "error: the process that guards this run was killed; ending the run");
    sweep::kill_without_reaping();
    let paths = REGISTERED.lock().map(|set| set.clone()).unwrap_or_default();
    for path in paths {
        remove(&path);
    }
    // Once more, for what was started before the flag was seen.
    sweep::kill_without_reaping();
    sys::exit_now(GUARD_KILLED);
}

/// Removes a file, or a folder with all that is in it, if it is ours. Links are removed, not followed.
pub(super) fn remove(path: &Path) {
    let Ok(what) = path.symlink_metadata() else { return };
    if what.uid() != nix::unistd::geteuid().as_raw() {
        return;
    }
    let removed = if what.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    if removed.is_err() && what.is_dir() {
        // A process that was just killed may have left a file while we were at it.
        let _ = std::fs::remove_dir_all(path);
    }
}
