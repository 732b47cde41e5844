//! Bounded memory of an endless output: its first and its last bytes, and how much lies between.
//! Everything is drained for ever, so that a program that floods is never stalled by us, and never
//! fills us. Read by `shim`, `peer` and `exec`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

/// Bytes kept of the beginning, unless said otherwise: versions, configuration, the first error.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Bytes kept of the end, unless said otherwise: what happened last.
pub const TAIL_BYTES: usize = 48 * 1024;
/// Longest line that [`Tail::last_lines`] gives; longer ones are cut with a mark.
pub const LINE_BYTES: usize = 4 * 1024;

/// The first and the last bytes of a stream. Bytes are kept raw, with whatever colours they hold.
#[derive(Debug, Clone)]
pub struct Tail {
    head: Vec<u8>,
    last: VecDeque<u8>,
    head_bytes: usize,
    last_bytes: usize,
    total: u64,
}

impl Default for Tail {
    fn default() -> Self {
        Self::new(HEAD_BYTES, TAIL_BYTES)
    }
}

impl Tail {
    /// Keeps up to `head_bytes` of the beginning and `last_bytes` of the end. Memory is taken as
    /// bytes come, not at once.
    #[must_use]
    pub const fn new(head_bytes: usize, last_bytes: usize) -> Self {
        Self { head: Vec::new(), last: VecDeque::new(), head_bytes, last_bytes, total: 0 }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.head_bytes - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let rest = rest.get(rest.len().saturating_sub(self.last_bytes)..).unwrap_or_default();
        let surplus = (self.last.len() + rest.len()).saturating_sub(self.last_bytes);
        self.last.drain(..surplus);
        self.last.extend(rest);
    }

    /// How many bytes came in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// How many bytes between beginning and end were let go.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.total - (self.head.len() + self.last.len()) as u64
    }

    /// What is kept of everything from byte `from` on (see [`Tail::total`]), with a line that says
    /// how much is missing where something is.
    #[must_use]
    pub fn since(&self, from: u64) -> Vec<u8> {
        let head_end = self.head.len() as u64;
        let last_start = self.total - self.last.len() as u64;
        let skip = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let mut out = self.head.get(skip(from)..).unwrap_or_default().to_vec();
        let gap_from = from.clamp(head_end, last_start.max(head_end));
        if gap_from < last_start {
            out.extend_from_slice(format!("\n… {} bytes left out …\n", last_start - gap_from).as_bytes());
        }
        out.extend(self.last.iter().skip(skip(from.saturating_sub(last_start))));
        out
    }

    /// What is kept of everything, as [`Tail::since`] the beginning.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.since(0)
    }

    /// The last complete or begun lines, oldest first: at most `lines`, of at most `bytes` together;
    /// lossy UTF-8, without line ends, each at most [`LINE_BYTES`] long.
    #[must_use]
    pub fn last_lines(&self, lines: usize, bytes: usize) -> Vec<String> {
        let kept = self.bytes();
        let mut left = bytes;
        let mut found: Vec<String> = Vec::new();
        let body = kept.strip_suffix(b"\n").unwrap_or(&kept);
        if body.is_empty() {
            return found;
        }
        for line in body.rsplit(|b| *b == b'\n').take(lines) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let shown = line.get(..LINE_BYTES.min(left)).unwrap_or(line);
            let mut text = String::from_utf8_lossy(shown).into_owned();
            if shown.len() < line.len() {
                text.push('…');
            }
            found.push(text);
            left = left.saturating_sub(shown.len() + 1);
            if left == 0 {
                break;
            }
        }
        found.reverse();
        found
    }
}

/// A running capture, shared: one task fills it, anybody looks.
#[derive(Debug, Clone)]
pub struct Capture {
    tail: Arc<Mutex<Tail>>,
    progress: watch::Receiver<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    total: u64,
    ended: bool,
}

impl Capture {
    /// Drains `from` to its end in a task of its own, with the usual bounds.
    pub fn start(from: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self::with(from, Tail::default(), |_| ())
    }

    /// Drains `from` to its end in a task of its own, into `tail`, and shows `each` every chunk. A
    /// slow `each` slows the program down: hand chunks on without waiting.
    pub fn with(
        mut from: impl AsyncRead + Send + Unpin + 'static,
        tail: Tail,
        mut each: impl FnMut(&[u8]) + Send + 'static,
    ) -> Self {
        let tail = Arc::new(Mutex::new(tail));
        let (publish, progress) = watch::channel(Progress::default());
        let filled = Arc::clone(&tail);
        tokio::spawn(async move {
            let mut chunk = vec![0; 16 * 1024];
            // A failed read is an end as well: there is nobody else who could drain this.
            while let Ok(n @ 1..) = from.read(&mut chunk).await {
                let bytes = chunk.get(..n).unwrap_or_default();
                filled.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
                each(bytes);
                publish.send_modify(|progress| progress.total += n as u64);
            }
            publish.send_modify(|progress| progress.ended = true);
        });
        Self { tail, progress }
    }

    /// A copy of what is kept so far.
    #[must_use]
    pub fn snapshot(&self) -> Tail {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many bytes came so far: a mark for [`Capture::since`].
    #[must_use]
    pub fn total(&self) -> u64 {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).total()
    }

    /// What is kept of everything since a mark.
    #[must_use]
    pub fn since(&self, mark: u64) -> Vec<u8> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).since(mark)
    }

    /// Resolves when more than `mark` bytes have come, or the output has ended.
    pub async fn beyond(&self, mark: u64) {
        let mut progress = self.progress.clone();
        let _ = progress.wait_for(|progress| progress.ended || progress.total > mark).await;
    }

    /// Resolves when the output has ended and all of it was taken in.
    pub async fn ended(&self) {
        let mut progress = self.progress.clone();
        let _ = progress.wait_for(|progress| progress.ended).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_bytes_are_kept_and_the_rest_is_counted() {
        let mut tail = Tail::new(4, 4);
        for byte in b"abcdefghijkl" {
            tail.push(&[*byte]);
        }
        assert_eq!(tail.total(), 12);
        assert_eq!(tail.dropped(), 4);
        assert_eq!(String::from_utf8(tail.bytes()).unwrap(), "abcd\n… 4 bytes left out …\nijkl");
        assert_eq!(tail.since(10), b"kl");
        assert_eq!(String::from_utf8(tail.since(6)).unwrap(), "\n… 2 bytes left out …\nijkl");
        assert_eq!(tail.since(12), b"");
        assert_eq!(tail.since(99), b"");
    }

    #[test]
    fn one_push_larger_than_everything_gives_the_same_as_many() {
        let mut at_once = Tail::new(4, 4);
        at_once.push(b"abcdefghijkl");
        assert_eq!(at_once.since(8), b"ijkl");
        assert_eq!(at_once.dropped(), 4);
        let mut little = Tail::new(4, 4);
        little.push(b"abcdef");
        assert_eq!(little.bytes(), b"abcdef");
        assert_eq!(little.dropped(), 0);
    }

    #[test]
    fn memory_stays_bounded_under_a_flood() {
        let mut tail = Tail::default();
        let chunk = vec![b'x'; 100_000];
        for _ in 0..1_000 {
            tail.push(&chunk);
        }
        assert!(tail.bytes().len() < HEAD_BYTES + TAIL_BYTES + 64);
        assert_eq!(tail.total(), 100_000_000);
    }

    #[test]
    fn last_lines_are_bounded_in_number_and_size() {
        let mut tail = Tail::new(100, 100);
        tail.push(b"one\ntwo\r\n\xff three\nfo\x1b[31mur");
        assert_eq!(tail.last_lines(2, 1000), ["\u{fffd} three", "fo\u{1b}[31mur"]);
        assert_eq!(tail.last_lines(9, 1000).len(), 4);
        assert_eq!(tail.last_lines(9, 5), ["fo\u{1b}[3…"]);
        assert!(Tail::default().last_lines(9, 9).is_empty());
        let mut long = Tail::default();
        long.push(&vec![b'x'; 10_000]);
        let cut = long.last_lines(1, 100_000).pop().unwrap();
        assert_eq!(cut.chars().count(), LINE_BYTES + 1);
    }

    #[tokio::test]
    async fn a_capture_tells_of_growth_and_end() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let capture = Capture::start(theirs);
        tokio::io::AsyncWriteExt::write_all(&mut ours, b"hello").await.unwrap();
        capture.beyond(4).await;
        let mark = capture.total();
        tokio::io::AsyncWriteExt::write_all(&mut ours, b" world").await.unwrap();
        drop(ours);
        capture.ended().await;
        assert_eq!(capture.since(mark), b" world");
    }
}
