//! The keeper: a small process between the engine and each program that it runs. It is the
//! subreaper of that program's tree, so the tree dies with the program, with the engine's wish, or
//! with the engine. Reads `sys` and `sweep`; made by `spawner`, spoken to by `spawned`.
//!
//! It is forked without exec: it needs nothing but a few system calls, works in any binary that
//! links this library, and costs no start-up. The price is that everything here must be
//! async-signal-safe, since the engine has threads: no allocation, no locks, no panics.
//!
//! Engine and keeper share one stream socket with records of eight bytes, [`Record`]. Its end means
//! that the other side is gone: for the keeper, that everything must die at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::{limits, sweep, sys};

/// Size of a record on the socket: its kind, then a number, both native 32-bit integers.
pub(super) const RECORD_BYTES: usize = 8;

/// What engine and keeper tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// Keeper: the program's pid. Always first.
    Started(i32),
    /// Keeper: the program ended, with this raw wait status.
    Ended(i32),
    /// Keeper: nothing of the tree is left (1), or something does not die (0). Always last.
    Swept(i32),
    /// Engine: SIGTERM to the program, and SIGKILL to the tree after so many milliseconds.
    Terminate(i32),
    /// Engine: this signal to the program.
    Signal(i32),
    /// Engine: SIGKILL to the tree.
    Kill,
}

impl Record {
    /// The bytes that stand for it.
    pub(super) fn encode(self) -> [u8; RECORD_BYTES] {
        let (kind, number) = match self {
            Self::Started(pid) => (1_i32, pid),
            Self::Ended(status) => (2, status),
            Self::Swept(complete) => (3, complete),
            Self::Terminate(grace) => (4, grace),
            Self::Signal(signal) => (5, signal),
            Self::Kill => (6, 0),
        };
        pack(kind, number)
    }

    /// The record that these bytes stand for.
    pub(super) fn decode(bytes: [u8; RECORD_BYTES]) -> Option<Self> {
        let (kind, number) = unpack(bytes);
        match kind {
            1 => Some(Self::Started(number)),
            2 => Some(Self::Ended(number)),
            3 => Some(Self::Swept(number)),
            4 => Some(Self::Terminate(number)),
            5 => Some(Self::Signal(number)),
            6 => Some(Self::Kill),
            _ => None,
        }
    }
}

/// Two numbers in their native order: both ends are this program.
fn pack(first: i32, second: i32) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let (front, back) = bytes.split_at_mut(4);
    front.copy_from_slice(&first.to_ne_bytes());
    back.copy_from_slice(&second.to_ne_bytes());
    bytes
}

fn unpack(bytes: [u8; RECORD_BYTES]) -> (i32, i32) {
    let half = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |four| i32::from_ne_bytes(*four));
    (half(bytes.first_chunk()), half(bytes.last_chunk()))
}

/// Everything that keeper and program need, made before the fork.
pub(super) struct Plan {
    /// The program.
    pub(super) launch: Launch,
    /// The keeper's end of the socket.
    pub(super) socket: OwnedFd,
}

/// Everything that a program needs between fork and exec.
pub(super) struct Launch {
    /// The program.
    pub(super) image: sys::Image,
    /// Its signal mask.
    pub(super) mask: SigSet,
    /// Nothing else passes from us to the program: no descriptor, no ignored signal.
    pub(super) isolated: bool,
    /// The program's standard descriptors.
    pub(super) stdio: [OwnedFd; 3],
    /// Where a failed exec is told: two integers, [`Stage`] and errno. Closed by a good exec.
    pub(super) failure: OwnedFd,
}

/// Reads what [`fail`] wrote.
pub(super) fn read_failure(bytes: [u8; 8]) -> (Stage, Errno) {
    let (stage, errno) = unpack(bytes);
    let stage = match stage {
        s if s == Stage::Fork as i32 => Stage::Fork,
        s if s == Stage::Folder as i32 => Stage::Folder,
        s if s == Stage::Exec as i32 => Stage::Exec,
        _ => Stage::Stdio,
    };
    (stage, Errno::from_raw(errno))
}

/// What failed before the program ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Stage {
    /// Forking the program's process.
    Fork = 1,
    /// Setting its standard descriptors.
    Stdio = 2,
    /// Going to its folder.
    Folder = 3,
    /// `execve`.
    Exec = 4,
}

const SOCKET: i32 = 3;

/// The keeper's whole life. All signals are blocked when it starts.
pub(super) fn run(plan: &Plan) -> i32 {
    let _ = nix::unistd::setsid();
    let _ = prctl::set_name(c"soupscen-keep");
    if let Err(error) = prctl::set_child_subreaper(true) {
        return fail(&plan.launch, Stage::Fork, error);
    }
    let child = match sys::fork_with(&plan.launch, become_child) {
        Ok(child) => child,
        Err(error) => return fail(&plan.launch, Stage::Fork, error),
    };
    // Keep one descriptor of the engine's many: copies here would hold its pipes open.
    if sys::place(&plan.socket, SOCKET).is_err() {
        sweep::sweep(|_, _| ());
        return 1;
    }
    sys::close_from(4);
    if let Ok(null) = open("/dev/null", OFlag::O_RDWR, Mode::empty()) {
        for standard in 0..3 {
            let _ = sys::place(&null, standard);
        }
    }
    keep(sys::fixed_fd(SOCKET), child)
}

fn fail(launch: &Launch, stage: Stage, error: Errno) -> i32 {
    let _ = nix::unistd::write(&launch.failure, &pack(stage as i32, error as i32));
    127
}

/// The program's process, between fork and exec.
pub(super) fn become_child(launch: &Launch) -> i32 {
    let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
    // If the keeper itself is killed, the program at least dies, and the engine adopts the rest.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    for (fd, number) in launch.stdio.iter().zip(0..) {
        if let Err(error) = sys::place(fd, number) {
            return fail(launch, Stage::Stdio, error);
        }
    }
    if let Err(error) = launch.image.enter_folder() {
        return fail(launch, Stage::Folder, error);
    }
    if launch.isolated {
        sys::close_on_exec_from(3);
    }
    limits::give_back();
    sys::fresh_signals(&launch.mask, launch.isolated);
    fail(launch, Stage::Exec, launch.image.exec())
}

fn keep(socket: BorrowedFd<'_>, child: Pid) -> i32 {
    let child = child.as_raw();
    tell(socket, Record::Started(child));
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    watched.add(Signal::SIGTERM);
    let Ok(signals) = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else {
        sweep::sweep(|_, _| ());
        return 1;
    };
    let mut ended = false;
    let mut kill_at: Option<Instant> = None;
    loop {
        // Reap first: the program may have ended before the signalfd existed.
        while let Ok(Some((pid, status))) = sys::reap_any() {
            if pid == child {
                tell(socket, Record::Ended(status));
                ended = true;
            }
        }
        if ended || kill_at.is_some_and(|at| Instant::now() >= at) {
            break;
        }
        let mut ready = [PollFd::new(socket, PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut ready, time_left(kill_at));
        let spoken_to = ready[0].revents().is_some_and(|r| !r.is_empty());
        while let Ok(Some(info)) = signals.read_signal() {
            if info.ssi_signo == libc::SIGTERM.unsigned_abs() {
                let _ = sys::send_signal(child, libc::SIGTERM);
            }
        }
        if spoken_to {
            match hear(socket) {
                Some(Record::Terminate(grace)) => {
                    let _ = sys::send_signal(child, libc::SIGTERM);
                    // A program that was stopped takes its SIGTERM only when it goes on.
                    let _ = sys::send_signal(child, libc::SIGCONT);
                    let grace = Duration::from_millis(u64::try_from(grace).unwrap_or(0));
                    kill_at = Some(Instant::now() + grace);
                }
                Some(Record::Signal(signal)) => {
                    let _ = sys::send_signal(child, signal);
                }
                // The engine's wish, its death, or nonsense.
                _ => break,
            }
        }
    }
    let complete = sweep::sweep(|pid, status| {
        if pid == child {
            tell(socket, Record::Ended(status));
        }
    });
    tell(socket, Record::Swept(i32::from(complete)));
    0
}

fn time_left(until: Option<Instant>) -> PollTimeout {
    until.map_or(PollTimeout::NONE, |at| {
        // Rounded up, or the last millisecond would be spent spinning.
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    })
}

fn tell(socket: BorrowedFd<'_>, record: Record) {
    // No SIGPIPE: it is blocked. A socket buffer holds far more than the three records of a life.
    let _ = nix::unistd::write(socket, &record.encode());
}

/// The engine writes records whole, and eight bytes are never split on a local socket that is empty.
fn hear(socket: BorrowedFd<'_>) -> Option<Record> {
    let mut bytes = [0; RECORD_BYTES];
    loop {
        match nix::unistd::read(socket, &mut bytes) {
            Ok(RECORD_BYTES) => return Record::decode(bytes),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn records_survive_the_socket() {
        for record in [
            Record::Started(42),
            Record::Ended(-1),
            Record::Swept(1),
            Record::Terminate(2000),
            Record::Signal(15),
            Record::Kill,
        ] {
            assert_eq!(Record::decode(record.encode()), Some(record));
        }
        assert_eq!(Record::decode([9; 8]), None);
    }
}
