//! The one audited module: every `unsafe` block of the crate is here, each with its reason.
//! Wraps what neither std nor nix offers safely: fork with a body, exec from prepared arrays,
//! fixed descriptor numbers, raw directory reading. Read by the rest of `process`, by nobody else.
#![expect(unsafe_code, reason = "system calls without a safe wrapper; audited here and nowhere else")]

use std::ffi::{CString, NulError, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{ForkResult, Pid};

/// Forks a process that has exactly one thread; parent and child both go on as ordinary programs.
///
/// # Errors
/// `EDEADLK` when there is more than one thread (another thread's locks would stay locked in the
/// child), else what `fork` says.
pub(super) fn fork_single_threaded() -> nix::Result<ForkResult> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(Errno::EDEADLK);
    }
    // SAFETY: there is no other thread, so no lock can be held by one that the child lacks.
    unsafe { nix::unistd::fork() }
}

/// Forks; the child runs `body` and ends with what it returns, without destructors and exit hooks.
///
/// `body` must keep to what POSIX calls async-signal-safe (no allocation, no locks, no panics),
/// since the caller may have threads. There are two callers, both audited for this: the spawner
/// (`keeper::run`) and the keeper itself (`keeper::become_child`).
///
/// # Errors
/// What `fork` says: `EAGAIN` at a process limit, `ENOMEM`.
pub(super) fn fork_with<T>(context: &T, body: fn(&T) -> i32) -> nix::Result<Pid> {
    // SAFETY: the child only runs `body`, which keeps to async-signal-safe functions, then `_exit`.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => exit_now(body(context)),
    }
}

/// Ends this process at once: no destructors, no exit hooks, no flushing.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// A program image, ready for `execve`: nothing is allocated between fork and exec.
pub(super) struct Image {
    program: CString,
    folder: Option<CString>,
    _argv: Vec<CString>,
    _env: Vec<CString>,
    argv_pointers: Vec<*const libc::c_char>,
    env_pointers: Vec<*const libc::c_char>,
}

// SAFETY: the pointers lead into texts that the image itself owns and never changes.
unsafe impl Send for Image {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Image {}

impl Image {
    /// Prepares `program` (a path, already looked up) to be run with `argv` (its first entry is the
    /// name that the program sees) and exactly `env`, in `folder`.
    ///
    /// # Errors
    /// When a text holds a NUL byte.
    pub(super) fn new<A: AsRef<OsStr>, K: AsRef<OsStr>, V: AsRef<OsStr>>(
        program: &Path,
        argv: &[A],
        env: &[(K, V)],
        folder: Option<&Path>,
    ) -> Result<Self, NulError> {
        let argv: Vec<CString> = argv.iter().map(|a| CString::new(a.as_ref().as_bytes())).collect::<Result<_, _>>()?;
        let env: Vec<CString> = env
            .iter()
            .map(|(key, value)| {
                let mut entry = key.as_ref().as_bytes().to_vec();
                entry.push(b'=');
                entry.extend_from_slice(value.as_ref().as_bytes());
                CString::new(entry)
            })
            .collect::<Result<_, _>>()?;
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|t| t.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
        };
        Ok(Self {
            program: CString::new(program.as_os_str().as_bytes())?,
            folder: folder.map(|f| CString::new(f.as_os_str().as_bytes())).transpose()?,
            argv_pointers: pointers(&argv),
            env_pointers: pointers(&env),
            _argv: argv,
            _env: env,
        })
    }

    /// Goes to the folder, if one is given. Async-signal-safe.
    ///
    /// # Errors
    /// What `chdir` says.
    pub(super) fn enter_folder(&self) -> nix::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        // SAFETY: a NUL-terminated text that lives as long as `self`.
        Errno::result(unsafe { libc::chdir(folder.as_ptr()) }).map(drop)
    }

    /// Replaces this process. Returns only when that failed, with the reason. Async-signal-safe.
    pub(super) fn exec(&self) -> Errno {
        // SAFETY: the arrays end with a null pointer and point into texts owned by `self`.
        unsafe { libc::execve(self.program.as_ptr(), self.argv_pointers.as_ptr(), self.env_pointers.as_ptr()) };
        Errno::last()
    }
}

/// Makes descriptor number `at` mean what `fd` means, inherited by programs. Async-signal-safe.
///
/// Only for the standard descriptors of a process whose std handles are not in use by then, and
/// for numbers in a freshly forked keeper.
///
/// # Errors
/// What `dup2` says.
pub(super) fn place(fd: impl AsFd, at: RawFd) -> nix::Result<()> {
    let from = fd.as_fd().as_raw_fd();
    if from == at {
        // SAFETY: clears close-on-exec of an open descriptor.
        return Errno::result(unsafe { libc::fcntl(at, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: `from` is open; that `at` changes its meaning is what the caller asks for.
    Errno::result(unsafe { libc::dup2(from, at) }).map(drop)
}

/// A descriptor at a number where the caller has just placed one, for the rest of this process.
pub(super) const fn fixed_fd(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: keepers place a descriptor there and never close it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Closes every descriptor from `first` on. Async-signal-safe; for freshly forked keepers, whose
/// copies of the engine's sockets and pipes would keep these open.
pub(super) fn close_from(first: u32) {
    // SAFETY: the caller (a forked keeper) uses none of these descriptors afterwards.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done == -1 {
        // Before Linux 5.9: a bounded loop. Higher numbers than this are rare enough to leave.
        for fd in first..4096 {
            // SAFETY: as above.
            unsafe { libc::close(libc::c_int::try_from(fd).unwrap_or(-1)) };
        }
    }
}

/// Has every descriptor from `first` on closed by the next exec. Async-signal-safe. Before Linux
/// 5.11 this does nothing; std's and our own descriptors close on exec anyway.
pub(super) fn close_on_exec_from(first: u32) {
    // SAFETY: sets a flag on whatever is open.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// A write beyond the limit of file sizes is an error (`EFBIG`) from now on, as on a full disk, and
/// does not end the process.
pub(super) fn survive_file_size_limit() {
    // SAFETY: an ignored signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Gives a program its signal mask, and a deadly SIGPIPE (the Rust runtime ignores it, and ignored
/// signals survive exec). With `all`, nothing is ignored. Async-signal-safe.
pub(super) fn fresh_signals(mask: &SigSet, all: bool) {
    if all {
        for number in 1..=31 {
            // SAFETY: the default disposition runs no code of ours; SIGKILL and SIGSTOP just refuse.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let _ = nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
}

/// Dies by `signal`, so that whoever waits sees the same end as that of the process stood in for.
/// Returns only for signals that do not kill.
pub(super) fn die_by(signal: i32) {
    // A second core file would only hide the first.
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    // SAFETY: default disposition, then a plain kill of ourselves; real-time signals have no name
    // in nix, hence libc.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
}

/// Sends any signal, real-time ones too. Async-signal-safe.
///
/// # Errors
/// What `kill` says.
pub(super) fn send_signal(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: `kill` has no memory preconditions.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Reads a chunk of raw directory entries (`struct linux_dirent64`). Async-signal-safe, unlike
/// `readdir`, which allocates.
///
/// # Errors
/// What `getdents64` says.
pub(super) fn directory_entries(folder: impl AsFd, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    let got =
        unsafe { libc::syscall(libc::SYS_getdents64, folder.as_fd().as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(got).map(|n| usize::try_from(n).unwrap_or(0))
}

/// The raw wait status of any child that has ended, without waiting: `None` when children live but
/// none has ended. Async-signal-safe, and knows real-time signals, which nix's does not.
///
/// # Errors
/// `ECHILD` when there is no child at all.
pub(super) fn reap_any() -> nix::Result<Option<(i32, i32)>> {
    reap(-1, libc::WNOHANG)
}

/// Waits for one child to end and gives its raw wait status.
///
/// # Errors
/// `ECHILD` when it is no child of ours.
pub(super) fn reap_one(pid: i32) -> nix::Result<i32> {
    reap(pid, 0).map(|found| found.map_or(0, |(_, status)| status))
}

/// The raw wait status of one child, if it has ended.
///
/// # Errors
/// `ECHILD` when it is no child of ours.
pub(super) fn reap_if_ended(pid: i32) -> nix::Result<Option<i32>> {
    reap(pid, libc::WNOHANG).map(|found| found.map(|(_, status)| status))
}

fn reap(pid: i32, flags: libc::c_int) -> nix::Result<Option<(i32, i32)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for an int.
        let got = unsafe { libc::waitpid(pid, &raw mut status, flags) };
        match Errno::result(got) {
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid, status))),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a raw wait status means.
pub(super) fn exit_of(status: i32) -> crate::outcome::Exit {
    if libc::WIFSIGNALED(status) {
        crate::outcome::Exit::Signal(libc::WTERMSIG(status))
    } else {
        crate::outcome::Exit::Code(libc::WEXITSTATUS(status))
    }
}
