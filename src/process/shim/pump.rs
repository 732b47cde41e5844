//! Passes one output of the plugin on to the host, bytes untouched, and remembers its ends.
//! Knows the first line's special way on standard output: held back until the hub has answered.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::process::capture::Tail;
use crate::process::messages::{ANSWER_WITHIN, LINE_BYTES};
use crate::process::sys;

/// Bytes held for a host that does not read; then the plugin waits, as it would at a full pipe.
const HELD: usize = 64 * 1024;
/// The most that a write may be so that it cannot block once the host's pipe is writable: a pipe
/// that is not full has room for one page.
const WRITE: usize = 4096;

/// What becomes of the bytes.
enum Way {
    /// They go on.
    Through,
    /// The first line is being gathered.
    Gathering(Vec<u8>),
    /// The hub was asked about the line.
    Asked { line: Vec<u8>, rest: Vec<u8>, until: Instant },
}

/// One output.
pub(super) struct Pump {
    from: Option<OwnedFd>,
    to: i32,
    out: VecDeque<u8>,
    host_reads: bool,
    way: Way,
    /// What passed: for standard output, without the first line.
    pub(super) seen: Tail,
}

impl Pump {
    /// Passes `from` (not blocking) on to the standard descriptor `to`. With `first_line`, the
    /// first line waits for [`Pump::print`].
    pub(super) const fn new(from: OwnedFd, to: i32, first_line: bool, seen: Tail) -> Self {
        let way = if first_line { Way::Gathering(Vec::new()) } else { Way::Through };
        Self { from: Some(from), to, out: VecDeque::new(), host_reads: true, way, seen }
    }

    /// The plugin's side, while there is room for more.
    pub(super) fn wants_input(&self) -> Option<BorrowedFd<'_>> {
        let room = self.out.len() < HELD && !matches!(self.way, Way::Asked { .. });
        self.from.as_ref().filter(|_| room).map(|fd| fd.as_fd())
    }

    /// The host's side, while there is something for it.
    pub(super) fn wants_output(&self) -> Option<BorrowedFd<'static>> {
        (self.host_reads && !self.out.is_empty()).then(|| sys::fixed_fd(self.to))
    }

    /// Nothing is left to pass on.
    pub(super) fn is_done(&self) -> bool {
        self.from.is_none() && self.out.is_empty() && self.asked_until().is_none()
    }

    /// Until when the hub's answer is waited for.
    pub(super) const fn asked_until(&self) -> Option<Instant> {
        match self.way {
            Way::Asked { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Reads once. Gives the first line when it has just become whole: the hub is to be asked, and
    /// [`Pump::print`] to be called.
    pub(super) fn take_in(&mut self) -> Option<Vec<u8>> {
        let mut chunk = [0; 16 * 1024];
        let got = match nix::unistd::read(self.from.as_ref()?, &mut chunk) {
            Ok(n) => chunk.get(..n).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => return None,
            Err(_) => &[],
        };
        if got.is_empty() {
            self.from = None;
        }
        match &mut self.way {
            Way::Through => {
                self.seen.push(got);
                self.out.extend(got);
            }
            Way::Asked { rest, .. } => rest.extend_from_slice(got),
            Way::Gathering(line) => {
                let searched = line.len();
                line.extend_from_slice(got);
                let end = line.get(searched..).and_then(|new| new.iter().position(|b| *b == b'\n'));
                let length = match end {
                    Some(at) => searched + at + 1,
                    None if line.len() >= LINE_BYTES || (got.is_empty() && !line.is_empty()) => line.len(),
                    None => {
                        if got.is_empty() {
                            self.way = Way::Through;
                            self.finish();
                        }
                        return None;
                    }
                };
                let rest = line.split_off(length);
                let line = std::mem::take(line);
                self.way = Way::Asked { line: line.clone(), rest, until: Instant::now() + ANSWER_WITHIN };
                return Some(line);
            }
        }
        self.finish();
        None
    }

    /// Lets go of a line that waits: `instead` of it, or as it is.
    pub(super) fn print(&mut self, instead: Option<Vec<u8>>) {
        match std::mem::replace(&mut self.way, Way::Through) {
            Way::Through => {}
            Way::Gathering(line) => self.out.extend(line),
            Way::Asked { line, rest, .. } => {
                self.out.extend(instead.unwrap_or(line));
                self.seen.push(&rest);
                self.out.extend(rest);
            }
        }
        self.finish();
    }

    /// Writes once, if that cannot block. Gives whether anything moved.
    pub(super) fn give_out(&mut self) -> bool {
        let Some(host) = self.wants_output() else { return false };
        // Asked again at the last moment: both outputs may lead to the same pipe.
        let mut ready = [PollFd::new(host, PollFlags::POLLOUT)];
        if !matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1..)) {
            return false;
        }
        let (first, _) = self.out.as_slices();
        let moved = match nix::unistd::write(host, first.get(..WRITE).unwrap_or(first)) {
            Ok(written) => {
                self.out.drain(..written);
                true
            }
            Err(Errno::EINTR | Errno::EAGAIN) => false,
            Err(_) => {
                // The host closed its end: so the plugin must see on its own.
                self.host_reads = false;
                self.from = None;
                self.out.clear();
                false
            }
        };
        self.finish();
        moved
    }

    /// Takes in what is left once nobody can write any more, without asking or passing it on.
    pub(super) fn drain(&mut self) {
        while self.from.is_some() {
            let before = self.seen.total();
            self.print(None);
            self.take_in();
            self.out.clear();
            if self.seen.total() == before && self.from.is_some() {
                return;
            }
        }
    }

    /// Lets the host see the end of the output as soon as it has all of it.
    fn finish(&mut self) {
        if self.is_done() && self.host_reads {
            self.host_reads = false;
            if let Ok(null) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
                let _ = sys::place(&null, self.to);
            }
        }
    }
}
