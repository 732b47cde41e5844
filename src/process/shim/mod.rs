//! The shim: stands between a host and its plugin, records what passes, and sees to it that nothing
//! of the plugin survives. Reads `keeper`, `sweep`, `sys`; reports to `hub` by `messages`; started
//! by whatever host, ours or another library's, as `soupscen __shim PROGRAM ARGS`.
//!
//! Two processes. The front is what the host sees, signals and kills; it has nothing to do but to
//! pass signals on and to end as the plugin ended. The keeper, in a session of its own where no kill
//! of the host's group reaches it, and no child of the front's, so that no kill of its tree does
//! either, is the plugin's parent and subreaper, and passes the bytes. No
//! runtime and no threads: one `poll` loop each, since every plugin start waits for this.

mod keep;
mod link;
mod pump;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::ForkResult;

use super::keeper::{RECORD_BYTES, Record};
use super::sys;
use crate::outcome::Exit;

/// Exit status when the plugin could not be started, as of a shell.
const CANNOT_START: u8 = 127;

/// Signals that are passed on to the plugin.
const PASSED_ON: [Signal; 9] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// Longest stand-in that is read: its first line, and a ticket.
const STAND_IN_BYTES: u64 = 1024;

/// What a shim is asked to run.
struct Task {
    /// Program and arguments, as the host gave them.
    argv: Vec<OsString>,
    /// The ticket of the stand-in that was started; there is no program to run then without the hub.
    ticket: Option<String>,
}

/// Runs `argv` as a plugin. Must be called before any thread exists.
pub(super) fn run(argv: Vec<OsString>) -> ExitCode {
    begin(Task { argv, ticket: None })
}

/// Runs what the hub says in place of a stand-in: a file whose first line has brought it here and
/// whose second is a ticket. It says so itself, since hosts may clean the environment. Must be
/// called before any thread exists.
pub(super) fn stand_in(argv: Vec<OsString>) -> ExitCode {
    let mut text = String::new();
    let read = argv.first().and_then(|path| std::fs::File::open(path).ok());
    let read =
        read.map(|file| std::io::Read::read_to_string(&mut std::io::Read::take(file, STAND_IN_BYTES), &mut text));
    match text.lines().nth(1) {
        Some(ticket) if matches!(read, Some(Ok(_))) => begin(Task { ticket: Some(ticket.to_owned()), argv }),
        _ => {
            let _ = writeln!(std::io::stderr(), "soupscen shim: this is no server path of a run");
            ExitCode::from(CANNOT_START)
        }
    }
}

fn begin(task: Task) -> ExitCode {
    match split(task) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "soupscen shim: cannot make its process: {error}");
            ExitCode::from(CANNOT_START)
        }
    }
}

fn split(task: Task) -> nix::Result<ExitCode> {
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    watched.extend(PASSED_ON);
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched), Some(&mut before))?;
    let (front, keeper) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    match sys::fork_single_threaded()? {
        ForkResult::Child => {
            drop(front);
            // The keeper is nobody's child: a host that ends a process with its descendants would
            // otherwise end the one that has to tell how the plugin ended.
            match sys::fork_single_threaded() {
                Ok(ForkResult::Child) => sys::exit_now(keep::run(task, keeper, before)),
                Ok(ForkResult::Parent { .. }) => sys::exit_now(0),
                Err(_) => sys::exit_now(1),
            }
        }
        ForkResult::Parent { child } => {
            drop(keeper);
            let _ = sys::reap_one(child.as_raw());
            watch(&front, &watched)
        }
    }
}

/// The front's life.
fn watch(life: &OwnedFd, watched: &SigSet) -> nix::Result<ExitCode> {
    // The host must see the plugin close its output, and that is the keeper's to close now.
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    for standard in 0..3 {
        sys::place(&null, standard)?;
    }
    let signals = SignalFd::with_flags(watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let status = loop {
        let mut ready = [PollFd::new(life.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut ready, PollTimeout::NONE);
        let spoken_to = ready[0].revents().is_some_and(|r| !r.is_empty());
        while let Ok(Some(info)) = signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            if signal != libc::SIGCHLD {
                let _ = nix::unistd::write(life, &Record::Signal(signal).encode());
            }
        }
        if spoken_to {
            match hear(life) {
                Some(Record::Ended(status)) => break status,
                Some(_) => {}
                // The keeper was killed, and the plugin with it.
                None => break libc::SIGKILL,
            }
        }
    };
    Ok(match sys::exit_of(status) {
        Exit::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Exit::Signal(signal) => {
            sys::die_by(signal);
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
        }
    })
}

/// Reads one record; `None` at the end of the socket.
fn hear(life: &OwnedFd) -> Option<Record> {
    let mut bytes = [0; RECORD_BYTES];
    loop {
        match nix::unistd::read(life, &mut bytes) {
            Ok(RECORD_BYTES) => return Record::decode(bytes),
            Err(Errno::EINTR) => {}
            _ => return None,
        }
    }
}
