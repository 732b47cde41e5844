//! One driver process as the engine sees it: requests out, answers matched by what they answer.
//! Knows JSON lines and correlation, nothing of roles. Used by `role`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::message::{ErrorKind, MAX_LINE, Reply, Request, bytes_in};
use crate::peer::words::{KEPT, ends};

/// What an answer belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// The answer to `hello`.
    Hello,
    /// `serving`, `stopped`, `launched`, `killed`, `connected`, `closed` or `failed` of an id.
    Id(String),
    /// `result` of a call.
    Call(String, u64),
    /// An answer on a stream, by the request's verb.
    Stream(String, &'static str),
    /// `ended` of a stream.
    Ended(String),
}

/// Why no answer came.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum LinkError {
    /// The process is gone; every request on it fails alike.
    #[error("{0}")]
    Broken(String),
    /// The process sent what is no message: likewise, and it is to blame.
    #[error("{0}")]
    Contract(String),
    /// The request was not sent: it is longer than the driver takes.
    #[error("the engine's request is longer than the driver takes: {0} bytes, and its `max_line` is {1}")]
    TooLong(usize, usize),
    /// The driver refused the request.
    #[error("the driver answered `{kind:?}`: {text}")]
    Refused {
        /// Its kind.
        kind: ErrorKind,
        /// Its words.
        text: String,
    },
}

/// Lines of `observed` kept per id: the newest.
const OBSERVED_LINES: usize = 64;
/// The longest line of `observed` that is kept, in bytes.
const OBSERVED_BYTES: usize = 256 << 10;

type Answer = Result<Reply, LinkError>;

#[derive(Default)]
struct Table {
    waiting: HashMap<Slot, oneshot::Sender<Answer>>,
    /// By id, for those that are in use: what is told of others is nobody's.
    observed: HashMap<String, VecDeque<serde_json::Value>>,
    broken: Option<LinkError>,
}

/// The link to a driver process; cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    lines: mpsc::Sender<String>,
    /// The longest line that the driver takes, in bytes.
    pub(super) max_line: usize,
    table: Arc<Mutex<Table>>,
    next: Arc<AtomicU64>,
    observed_changed: Arc<watch::Sender<u64>>,
    /// Turns true when the link broke.
    broken: watch::Receiver<bool>,
}

impl Link {
    /// Starts reading and writing; ends by itself when `output` ends or the last clone is dropped.
    pub(super) fn start(
        input: impl AsyncWrite + Send + Unpin + 'static,
        output: impl AsyncRead + Send + Unpin + 'static,
    ) -> Self {
        let table = Arc::new(Mutex::new(Table::default()));
        let (lines, queue) = mpsc::channel(256);
        let (broken_tx, broken) = watch::channel(false);
        let observed_changed = Arc::new(watch::channel(0).0);
        tokio::spawn(write_lines(input, queue));
        tokio::spawn(read_lines(output, Arc::clone(&table), Arc::clone(&observed_changed), broken_tx));
        Self { lines, max_line: MAX_LINE, table, next: Arc::new(AtomicU64::new(1)), observed_changed, broken }
    }

    /// A number that was never used on this link.
    pub(super) fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the process is gone or broke the contract.
    pub(super) fn is_broken(&self) -> bool {
        *self.broken.borrow()
    }

    /// Resolves when the process is gone or broke the contract.
    pub(super) async fn ended(&self) {
        let _ = self.broken.clone().wait_for(|broken| *broken).await;
    }

    /// Registers for an answer; dropping the receiver forgets it.
    pub(super) fn expect(&self, slot: Slot) -> oneshot::Receiver<Answer> {
        let (tx, rx) = oneshot::channel();
        let mut table = lock(&self.table);
        match &table.broken {
            Some(why) => drop(tx.send(Err(why.clone()))),
            None => drop(table.waiting.insert(slot, tx)),
        }
        rx
    }

    /// Forgets an answer that nobody waits for any more.
    pub(super) fn forget(&self, slot: &Slot) {
        lock(&self.table).waiting.remove(slot);
    }

    /// Sends without waiting for an answer.
    pub(super) async fn send(&self, request: &Request) -> Result<(), LinkError> {
        let line = serde_json::to_string(request)
            .map_err(|e| LinkError::Broken(format!("a request has no JSON form: {e}")))?;
        if line.len() > self.max_line {
            return Err(LinkError::TooLong(line.len(), self.max_line));
        }
        self.lines.send(line).await.map_err(|_| self.why())
    }

    /// Sends at once if there is room; for cancels from `Drop`.
    pub(super) fn send_now(&self, request: &Request) {
        if let Ok(line) = serde_json::to_string(request) {
            let lines = self.lines.clone();
            if let Err(mpsc::error::TrySendError::Full(line)) = lines.clone().try_send(line)
                && let Ok(handle) = tokio::runtime::Handle::try_current()
            {
                handle.spawn(async move { lines.send(line).await });
            }
        }
    }

    /// Sends and waits for the answer in `slot`.
    pub(super) async fn ask(&self, slot: Slot, request: &Request) -> Answer {
        let answer = self.expect(slot);
        self.send(request).await?;
        answer.await.unwrap_or_else(|_| Err(self.why()))
    }

    /// Keeps what is observed of an id from now on, as long as the answer lives.
    pub(super) fn observe(&self, id: &str) -> Observed {
        lock(&self.table).observed.insert(id.to_owned(), VecDeque::new());
        Observed { table: Arc::clone(&self.table), id: id.to_owned() }
    }

    /// Changes when anything was observed.
    pub(super) fn observed_changed(&self) -> watch::Receiver<u64> {
        self.observed_changed.subscribe()
    }

    fn why(&self) -> LinkError {
        lock(&self.table).broken.clone().unwrap_or_else(|| LinkError::Broken("the driver is gone".into()))
    }
}

/// What a driver tells of one id.
pub(super) struct Observed {
    table: Arc<Mutex<Table>>,
    id: String,
}

impl Observed {
    /// What it told so far.
    pub(super) fn lines(&self) -> Vec<serde_json::Value> {
        lock(&self.table).observed.get(&self.id).into_iter().flatten().cloned().collect()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        lock(&self.table).observed.remove(&self.id);
    }
}

fn lock(table: &Mutex<Table>) -> std::sync::MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_lines(input: impl AsyncWrite + Send + Unpin, mut queue: mpsc::Receiver<String>) {
    let mut input = BufWriter::with_capacity(64 << 10, input);
    while let Some(line) = queue.recv().await {
        if write_one(&mut input, &line).await.is_err() {
            return;
        }
        // Whatever is queued already goes out in the same write.
        while let Ok(line) = queue.try_recv() {
            if write_one(&mut input, &line).await.is_err() {
                return;
            }
        }
        if input.flush().await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
}

async fn write_one(input: &mut (impl AsyncWrite + Unpin), line: &str) -> std::io::Result<()> {
    input.write_all(line.as_bytes()).await?;
    input.write_all(b"\n").await
}

async fn read_lines(
    output: impl AsyncRead + Send + Unpin,
    table: Arc<Mutex<Table>>,
    observed_changed: Arc<watch::Sender<u64>>,
    broken: watch::Sender<bool>,
) {
    let mut lines = FramedRead::new(output, LinesCodec::new_with_max_length(MAX_LINE));
    let why = loop {
        let line = match lines.next().await {
            None => break LinkError::Broken("the driver ended its output".to_owned()),
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                break LinkError::Contract(format!("the driver sent a line of more than {MAX_LINE} bytes"));
            }
            Some(Err(LinesCodecError::Io(e))) if e.kind() == std::io::ErrorKind::InvalidData => {
                break LinkError::Contract("the driver sent a line that is no UTF-8".to_owned());
            }
            Some(Err(LinesCodecError::Io(e))) => {
                break LinkError::Broken(format!("the driver's output cannot be read: {e}"));
            }
            Some(Ok(line)) => line,
        };
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Reply>(&line) {
            Ok(Reply::Observed { what, rest, .. }) if what == "stdio" && !is_stdio(&rest) => {
                break LinkError::Contract("the driver sent `stdio` that is no base64".to_owned());
            }
            Ok(reply) => deliver(&table, &observed_changed, reply, line.len()),
            Err(e) => {
                let start: String = line.chars().take(200).collect();
                let text = format!("the driver sent a line that is no message of the contract ({e}): {start}");
                break LinkError::Contract(text);
            }
        }
    };
    let waiting = {
        let mut table = lock(&table);
        table.broken = Some(why.clone());
        std::mem::take(&mut table.waiting)
    };
    for (_, tx) in waiting {
        let _ = tx.send(Err(why.clone()));
    }
    let _ = broken.send(true);
}

/// Whether what a plugin printed can be read.
fn is_stdio(fields: &BTreeMap<String, serde_json::Value>) -> bool {
    let told = ["stdout_b64", "stderr_b64"].into_iter().filter_map(|name| fields.get(name));
    told.filter(|value| !value.is_null()).all(|value| value.as_str().and_then(bytes_in).is_some())
}

/// Gives an answer to who waits for it; `length` is that of its line in bytes.
fn deliver(table: &Mutex<Table>, observed_changed: &watch::Sender<u64>, reply: Reply, length: usize) {
    let mut table = lock(table);
    let slot = match &reply {
        Reply::Hello(_) => Slot::Hello,
        Reply::Serving { id, .. }
        | Reply::Stopped { id }
        | Reply::Launched { id, .. }
        | Reply::Killed { id, .. }
        | Reply::Connected { id, .. }
        | Reply::Closed { id } => Slot::Id(id.clone()),
        Reply::Failed(failed) => Slot::Id(failed.id.clone()),
        Reply::Result(result) => Slot::Call(result.id.clone(), result.seq),
        Reply::Opened { stream } => Slot::Stream(stream.clone(), "open"),
        Reply::Sent { stream } => Slot::Stream(stream.clone(), "send"),
        Reply::Received { stream, .. } => Slot::Stream(stream.clone(), "receive"),
        Reply::HalfClosed { stream } => Slot::Stream(stream.clone(), "half_close"),
        Reply::Ended { stream, .. } => Slot::Ended(stream.clone()),
        Reply::Error { id, seq, stream, kind, error } => {
            let refused = LinkError::Refused { kind: *kind, text: ends(error.as_deref().unwrap_or_default(), KEPT) };
            let hit: Vec<Slot> = table
                .waiting
                .keys()
                .filter(|slot| match (slot, stream) {
                    // It may name the connection of its stream, too.
                    (Slot::Stream(s, _), Some(stream)) => s == stream,
                    (Slot::Stream(..), None) | (_, Some(_)) | (Slot::Ended(_), _) => false,
                    (Slot::Hello, None) => id.is_none(),
                    (Slot::Id(i), None) => Some(i) == id.as_ref() && seq.is_none(),
                    // One without `seq` does not tell which call it means.
                    (Slot::Call(i, s), None) => Some(i) == id.as_ref() && seq.is_none_or(|seq| seq == *s),
                })
                .cloned()
                .collect();
            for slot in hit {
                if let Some(tx) = table.waiting.remove(&slot) {
                    let _ = tx.send(Err(refused.clone()));
                }
            }
            return;
        }
        Reply::Observed { id, what, rest } => {
            let kept = id.as_ref().and_then(|id| table.observed.get_mut(id));
            if let Some(kept) = kept.filter(|_| length <= OBSERVED_BYTES) {
                if kept.len() >= OBSERVED_LINES {
                    kept.pop_front();
                }
                let mut value = serde_json::Map::new();
                value.insert("what".into(), what.clone().into());
                value.extend(rest.clone());
                kept.push_back(value.into());
                observed_changed.send_modify(|n| *n += 1);
            }
            return;
        }
        Reply::Cancelled { .. } | Reply::Unknown => return,
    };
    if let Some(tx) = table.waiting.remove(&slot) {
        let _ = tx.send(Ok(reply));
    }
}

/// What the engine makes of a driver's whole output when it comes in pieces of at most `step`
/// bytes: every answer that could be waited for, what was observed, and why it ended.
#[doc(hidden)]
pub async fn heard(output: Vec<u8>, step: usize) -> String {
    let (mut input, pieces) = tokio::io::duplex(step);
    let link = Link::start(tokio::io::sink(), pieces);
    let observed = link.observe("a");
    let streams = ["open", "send", "receive", "half_close"].map(|verb| Slot::Stream("s".into(), verb));
    let slots = [Slot::Hello, Slot::Id("a".into()), Slot::Call("a".into(), 1), Slot::Ended("s".into())];
    let mut answers: Vec<_> = slots.into_iter().chain(streams).map(|slot| link.expect(slot)).collect();
    // A link that is broken reads no further.
    let _ = input.write_all(&output).await;
    drop(input);
    link.ended().await;
    let answers: Vec<_> = answers.iter_mut().map(oneshot::Receiver::try_recv).collect();
    format!("{}\n{answers:?}\n{:?}", link.why(), observed.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of a driver until all of it was read.
    async fn told(link: &Link, mut input: tokio::io::DuplexStream, output: &str) {
        input.write_all(output.as_bytes()).await.unwrap();
        drop(input);
        link.ended().await;
    }

    #[tokio::test]
    async fn an_error_ends_what_it_is_about_and_nothing_else() {
        let slots = || {
            let call = |seq| Slot::Call("c".into(), seq);
            [call(1), call(2), Slot::Id("c".into()), Slot::Stream("s".into(), "open"), Slot::Hello]
        };
        for (about, refused) in [
            (r#""id":"c","seq":1"#, &[0][..]),
            (r#""id":"c","seq":3"#, &[]),
            (r#""id":"c""#, &[0, 1, 2]),
            (r#""id":"c","stream":"s","seq":1"#, &[3]),
            (r#""id":null"#, &[4]),
        ] {
            let (input, output) = tokio::io::duplex(1 << 16);
            let link = Link::start(tokio::io::sink(), output);
            let mut answers = slots().map(|slot| link.expect(slot));
            told(&link, input, &format!("{{\"type\":\"error\",{about},\"kind\":\"unsupported\"}}\n")).await;
            let is_refused = |at: &usize| matches!(answers[*at].try_recv(), Ok(Err(LinkError::Refused { .. })));
            assert_eq!((0..5).filter(is_refused).collect::<Vec<_>>(), refused, "{about}");
        }
    }

    #[tokio::test]
    async fn what_a_plugin_printed_has_to_be_base64() {
        for (stdio, reads) in [(r#""stdout_b64":"YQ==","stderr_b64":null"#, true), (r#""stderr_b64":"?""#, false)] {
            let (input, output) = tokio::io::duplex(1 << 16);
            let link = Link::start(tokio::io::sink(), output);
            told(&link, input, &format!("{{\"type\":\"observed\",\"id\":\"a\",\"what\":\"stdio\",{stdio}}}\n")).await;
            assert_eq!(matches!(link.why(), LinkError::Broken(_)), reads, "{}", link.why());
        }
    }

    #[tokio::test]
    async fn only_what_is_told_of_ids_in_use_is_kept() {
        let (input, output) = tokio::io::duplex(1 << 16);
        let link = Link::start(tokio::io::sink(), output);
        let (kept, gone) = (link.observe("a"), link.observe("b"));
        drop(gone);
        let line = |id: &str, more: &str| format!("{{\"type\":\"observed\",\"id\":\"{id}\",\"what\":\"x{more}\"}}\n");
        let long = line("a", &"y".repeat(OBSERVED_BYTES));
        let all: String = (0..100).flat_map(|n| [line("a", &n.to_string()), line("b", ""), line("c", "")]).collect();
        told(&link, input, &format!("{all}{long}")).await;
        let newest: Vec<_> =
            (100 - OBSERVED_LINES..100).map(|n| serde_json::json!({ "what": format!("x{n}") })).collect();
        assert_eq!(kept.lines(), newest, "and a line that is too long is passed over");
        assert_eq!(lock(&link.table).observed.len(), 1, "nothing of those that are gone or were never there");
        drop(kept);
        assert!(lock(&link.table).observed.is_empty());
    }
}
