//! Finds and kills what is left below a subreaper. Async-signal-safe throughout: keepers, which are
//! forked from a program with threads, use it too. Reads `sys`; read by `guard`, `keeper`, `shim`.
//!
//! A subreaper (`PR_SET_CHILD_SUBREAPER`) becomes the parent of every orphan below it, whatever the
//! orphan did to its environment, session or process group. So killing direct children, again and
//! again until there are none, reaches everything, and never hits a reused pid: the pid of a child
//! that was not reaped cannot be given to another.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sys::stat::Mode;

use super::sys;

/// How long a sweep goes on for processes that do not die of SIGKILL (uninterruptible sleep).
pub(super) const SWEEP_BOUND: Duration = Duration::from_secs(10);

/// How long a sweep waits between two looks, when nothing tells it that a child died.
const LOOK_AGAIN_MS: u16 = 10;

/// Calls `each` with the pid of every direct child of this process that still runs (no zombies).
pub(super) fn for_each_child(mut each: impl FnMut(i32)) {
    let me = nix::unistd::getpid().as_raw();
    let Ok(proc) = open("/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) else {
        return;
    };
    let mut buffer = [0_u8; 8192];
    while let Ok(filled @ 1..) = sys::directory_entries(&proc, &mut buffer) {
        let mut rest = buffer.get(..filled).unwrap_or_default();
        while let Some((name, next)) = next_entry(rest) {
            rest = next;
            let Some(pid) = number(name) else { continue };
            if parent_of(&proc, name) == Some((me, true)) {
                each(pid);
            }
        }
    }
}

/// Splits the first `linux_dirent64` (inode 8, offset 8, length 2, type 1, name) off.
fn next_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes([*bytes.get(16)?, *bytes.get(17)?]));
    let entry = bytes.get(..length)?;
    let name = entry.get(19..)?;
    let end = name.iter().position(|b| *b == 0)?;
    Some((name.get(..end)?, bytes.get(length..)?))
}

fn number(digits: &[u8]) -> Option<i32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i32, |n, d| {
        if d.is_ascii_digit() { n.checked_mul(10)?.checked_add(i32::from(d - b'0')) } else { None }
    })
}

/// The parent of a process, and whether it still runs. `/proc/PID/stat` is `pid (name) state ppid …`,
/// where the name may hold anything, so the last `)` counts.
fn parent_of(proc: &impl std::os::fd::AsFd, pid: &[u8]) -> Option<(i32, bool)> {
    let mut path = [0_u8; 24];
    path.get_mut(..pid.len())?.copy_from_slice(pid);
    path.get_mut(pid.len()..pid.len() + 6)?.copy_from_slice(b"/stat\0");
    let path = std::ffi::CStr::from_bytes_until_nul(&path).ok()?;
    let file = openat(proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0_u8; 512];
    let length = nix::unistd::read(&file, &mut text).ok()?;
    let text = text.get(..length)?;
    let name_end = text.iter().rposition(|b| *b == b')')?;
    let mut fields = text.get(name_end + 1..)?.split(|b| *b == b' ').filter(|f| !f.is_empty());
    let state = fields.next()?;
    Some((number(fields.next()?)?, !matches!(state, b"Z" | b"X")))
}

/// Kills and reaps everything below this process, calling `reaped` with pid and raw wait status of
/// each. Returns whether nothing is left; `false` when [`SWEEP_BOUND`] passed first.
pub(super) fn sweep(mut reaped: impl FnMut(i32, i32)) -> bool {
    let until = Instant::now() + SWEEP_BOUND;
    loop {
        loop {
            match sys::reap_any() {
                Ok(Some((pid, status))) => reaped(pid, status),
                Ok(None) => break,
                Err(Errno::ECHILD) => return true,
                Err(_) => return false,
            }
        }
        for_each_child(|pid| {
            let _ = sys::send_signal(pid, libc::SIGKILL);
        });
        if Instant::now() > until {
            return false;
        }
        wait_for_a_death();
    }
}

/// Kills everything below this process without reaping, for a process whose other threads own its
/// children's statuses and that is about to end anyway. Returns whether nothing is left.
pub(super) fn kill_without_reaping() -> bool {
    let until = Instant::now() + SWEEP_BOUND;
    loop {
        let mut any = false;
        for_each_child(|pid| {
            any = true;
            let _ = sys::send_signal(pid, libc::SIGKILL);
        });
        if !any {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        wait_for_a_death();
    }
}

/// A short wait. Deaths come within microseconds of a SIGKILL, so the first looks follow quickly.
fn wait_for_a_death() {
    let _ = nix::poll::poll(&mut [], LOOK_AGAIN_MS / 5);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_hostile_name_is_read_from_its_last_parenthesis() {
        assert_eq!(number(b"123"), Some(123));
        assert_eq!(number(b"self"), None);
        assert_eq!(number(b"99999999999"), None);
        let proc = open("/proc", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let me = std::process::id().to_string();
        let (parent, alive) = parent_of(&proc, me.as_bytes()).unwrap();
        assert_eq!(parent, nix::unistd::getppid().as_raw());
        assert!(alive);
    }

    #[test]
    fn own_children_are_found() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let wanted = i32::try_from(child.id()).unwrap();
        let mut found = false;
        for_each_child(|pid| found |= pid == wanted);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
