//! The guard: the process that the user started becomes a single-threaded watcher, and the engine
//! its child. Whichever of the two is killed, the other ends every process below and removes the
//! run's folders. Reads `folders`, `sweep` and `sys`; called first thing in `main`.
//!
//! Guard and engine are both subreapers. The guard waits for the engine with a signalfd; the engine
//! watches the guard through the pipe over which it registers folders: a pipe whose reader is gone
//! says so at once, also when the reader died before anybody looked. (A parent-death signal would
//! need a handler, a free signal number, and a look at the race before it was asked for.)

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid};

use super::folders::{self, Registrations};
use super::{sweep, sys};
use crate::outcome::Exit;

/// Exit status when no guard could be made: nothing could be judged.
const CANNOT_GUARD: u8 = 3;
/// Exit status of an engine whose guard was killed, as of a process ended by SIGKILL.
const GUARD_KILLED: i32 = 137;

/// The guard is gone: nothing may be started any more.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether this process runs under a guard.
#[must_use]
pub fn is_guarded() -> bool {
    folders::are_told()
}

/// Whether the guard has died, so that everything is being ended: what fails from now on fails
/// because of it, and is nobody's fault.
pub(crate) fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
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
    registered: Registrations,
    /// While this is open, the cleaner waits.
    _cleaner: Option<OwnedFd>,
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
    let cleaner = folders::start_cleaner().ok();
    match sys::fork_single_threaded() {
        Ok(ForkResult::Child) => {
            drop(reader);
            prctl::set_child_subreaper(true)?;
            sys::survive_file_size_limit();
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
            let watch = writer.try_clone().map_err(|_| Errno::EMFILE)?;
            folders::tell_to(std::iter::once(writer).chain(cleaner).collect());
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
            let registered = Registrations::new(reader);
            Ok(Role::Guard(Guard { engine: child, signals, registered, _cleaner: cleaner }))
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
        self.registered.remove_all();
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
            PollFd::new(self.registered.pipe().map_or(self.signals.as_fd(), AsFd::as_fd), PollFlags::POLLIN),
        ];
        if poll(&mut ready, PollTimeout::NONE).is_err() {
            return;
        }
        let readable = ready[1].revents().is_some_and(|r| !r.is_empty());
        if readable {
            self.registered.read();
        }
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

/// Ends the engine at once with this status, whatever its threads are doing; the guard then ends
/// everything below it and removes its folders.
pub(crate) fn end_engine(status: u8) -> ! {
    sys::exit_now(i32::from(status));
}

fn on_guard_death() {
    ENDING.store(true, Ordering::SeqCst);
    let _ = writeln!(std::io::stderr(), "error: the process that guards this run was killed; ending the run");
    sweep::kill_without_reaping();
    folders::remove_registered();
    // Once more, for what was started before the flag was seen.
    sweep::kill_without_reaping();
    sys::exit_now(GUARD_KILLED);
}
