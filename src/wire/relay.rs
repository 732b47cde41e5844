//! The relay: a listener of its own in front of a server, passing bytes both ways unchanged while
//! `conversation` reads along. One task per connection, two buffers, no queue: a side that does not
//! read stops the other one. When a TLS handshake is over, reading along ends and what remains
//! is a plain copy; of plain HTTP/2 the frames are read to the end.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::socket::{Listener, Reserved, Socket};
use super::{CertReader, Conversation, Endpoint, News};
use crate::axis::values::Transport;
use crate::outcome::evidence::{Side, WireReport};

/// Reports kept of the oldest connections of a relay.
const KEEP_FIRST: usize = 4;
/// Reports kept of the newest ones.
const KEEP_LAST: usize = 28;
/// Bytes of the buffer of one direction.
const BUFFER: usize = 16 * 1024;
/// How long the server has to accept. Loopback answers at once, a full backlog does not.
const DIAL_BUDGET: Duration = Duration::from_secs(5);
/// Pause after a failed accept (out of file descriptors): there is no event for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How long after it was asked to an address that refuses everybody opens: long enough for a client
/// to be refused once more.
const OPENS_AFTER: Duration = Duration::from_millis(50);

/// A running relay. Dropping it ends every connection and removes its socket.
#[derive(Debug)]
pub struct Relay {
    address: Endpoint,
    shared: Arc<Shared>,
    task: AbortHandle,
    /// Opens an address that refuses everybody.
    gate: Option<Arc<Notify>>,
}

#[derive(Debug)]
struct Shared {
    target: Endpoint,
    certs: CertReader,
    ledger: Mutex<Ledger>,
    changes: watch::Sender<u64>,
}

/// The connections that are remembered: the first few and the last few.
#[derive(Debug, Default)]
struct Ledger {
    first: Vec<Arc<Slot>>,
    last: VecDeque<Arc<Slot>>,
}

/// One connection.
#[derive(Debug)]
struct Slot {
    accepted: Instant,
    conversation: Mutex<Conversation>,
    /// The conversation still wants bytes.
    reading: AtomicBool,
    client_bytes: AtomicU64,
    server_bytes: AtomicU64,
    last_event_us: AtomicU64,
}

impl Relay {
    /// Listens on `transport` (loopback TCP, or a socket in `folder`, which must exist) and passes
    /// every connection on to `target`. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When it cannot listen: no port, no folder, or a folder whose name is too long for a unix
    /// socket.
    pub async fn start(target: Endpoint, transport: Transport, folder: &Path, certs: CertReader) -> io::Result<Self> {
        let listener = Listener::bind(transport, folder).await?;
        let address = listener.endpoint()?;
        let shared = Arc::new(Shared { target, certs, ledger: Mutex::default(), changes: watch::Sender::new(0) });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, task, gate: None })
    }

    /// The same on loopback TCP with an address that refuses everybody until [`Relay::open`].
    ///
    /// # Errors
    /// When there is no port.
    pub fn start_closed(target: Endpoint, certs: CertReader) -> io::Result<Self> {
        let reserved = Reserved::tcp()?;
        let address = reserved.endpoint()?;
        let shared = Arc::new(Shared { target, certs, ledger: Mutex::default(), changes: watch::Sender::new(0) });
        let gate = Arc::new(Notify::new());
        let (opened, relayed) = (Arc::clone(&gate), Arc::clone(&shared));
        let task = tokio::spawn(async move {
            opened.notified().await;
            tokio::time::sleep(OPENS_AFTER).await;
            // A port that was reserved can be listened on, unless the system has run out of memory;
            // then it stays closed, and whoever waits for it says so.
            if let Ok(listener) = reserved.listen() {
                accept(listener, relayed).await;
            }
        });
        Ok(Self { address, shared, task: task.abort_handle(), gate: Some(gate) })
    }

    /// Opens an address that refuses everybody, a moment from now; nothing where it is open.
    pub fn open(&self) {
        if let Some(gate) = &self.gate {
            gate.notify_one();
        }
    }

    /// Where clients are to dial.
    #[must_use]
    pub fn address(&self) -> Endpoint {
        self.address.clone()
    }

    /// What is known of the connections, oldest first: the first four and the last 28.
    #[must_use]
    pub fn reports(&self) -> Vec<WireReport> {
        let slots: Vec<Arc<Slot>> = {
            let ledger = self.shared.ledger();
            ledger.first.iter().chain(&ledger.last).cloned().collect()
        };
        slots.iter().map(|slot| slot.report()).collect()
    }

    /// Tells of what may decide a case: an alert, two sides that speak different things, an end, a
    /// refusal. Never of mere progress, so that a connection that works costs its watcher nothing.
    /// Take it before looking at the reports, then wait with `changed()`; it fails when the relay
    /// is gone.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Arc<Slot> {
        let mut ledger = self.ledger();
        let slot = Arc::new(Slot {
            accepted: Instant::now(),
            conversation: Mutex::new(Conversation::new(self.target.transport(), self.certs)),
            reading: AtomicBool::new(true),
            client_bytes: AtomicU64::new(0),
            server_bytes: AtomicU64::new(0),
            last_event_us: AtomicU64::new(0),
        });
        if ledger.first.len() < KEEP_FIRST {
            ledger.first.push(Arc::clone(&slot));
        } else {
            if ledger.last.len() >= KEEP_LAST {
                ledger.last.pop_front();
            }
            ledger.last.push_back(Arc::clone(&slot));
        }
        slot
    }

    fn tell(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }
}

impl Slot {
    fn conversation(&self) -> MutexGuard<'_, Conversation> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self) {
        let us = u64::try_from(self.accepted.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_event_us.store(us, Ordering::Relaxed);
    }

    fn report(&self) -> WireReport {
        let mut report = self.conversation().report().clone();
        report.client_bytes = self.client_bytes.load(Ordering::Relaxed);
        report.server_bytes = self.server_bytes.load(Ordering::Relaxed);
        report.elapsed_us = self.last_event_us.load(Ordering::Relaxed);
        report
    }

    fn bytes(&self, side: Side, bytes: &[u8], shared: &Shared) {
        let counter = match side {
            Side::Client => &self.client_bytes,
            Side::Server => &self.server_bytes,
        };
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if !self.reading.load(Ordering::Relaxed) {
            return;
        }
        let news = {
            let mut conversation = self.conversation();
            let news = conversation.bytes(side, bytes);
            self.reading.store(!conversation.is_read(), Ordering::Relaxed);
            news
        };
        if news != News::None {
            self.event();
        }
        if news == News::Trouble {
            shared.tell();
        }
    }

    fn ended(&self, side: Side, reset: bool, shared: &Shared) {
        if self.conversation().ended(side, reset) {
            self.event();
            shared.tell();
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(client) => {
                    connections.spawn(connection(client, Arc::clone(&shared)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(client: Socket, shared: Arc<Shared>) {
    let slot = shared.open();
    match tokio::time::timeout(DIAL_BUDGET, Socket::dial(&shared.target)).await {
        Ok(Ok(server)) => {
            pass(&client, &server, &slot, &shared).await;
            drop(server);
        }
        failed => {
            let why = match failed {
                Ok(Err(error)) => error.to_string(),
                _ => format!("not accepted within {} s", DIAL_BUDGET.as_secs()),
            };
            slot.conversation().refused(format!("{}: {why}", shared.target));
            slot.event();
            client.close_with_reset();
        }
    }
    // The sockets are closed before anybody is told that the connection is over.
    drop(client);
    shared.tell();
}

/// How one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// The sender ended it in order, and that was passed on.
    Ended,
    /// The sender reset it.
    Reset,
    /// The receiver takes no more.
    Refused,
}

async fn pass(client: &Socket, server: &Socket, slot: &Slot, shared: &Shared) {
    let up = flow(client, server, Side::Client, slot, shared);
    let down = flow(server, client, Side::Server, slot, shared);
    tokio::pin!(up, down);
    let (mut up_end, mut down_end) = (None, None);
    // After a refusal the other direction is read to its end: what the receiver said before it
    // went (an alert) must still arrive. A reset ends both at once.
    while up_end.is_none() || down_end.is_none() {
        tokio::select! {
            end = &mut up, if up_end.is_none() => up_end = Some(end),
            end = &mut down, if down_end.is_none() => down_end = Some(end),
        }
        if up_end == Some(Flow::Reset) || down_end == Some(Flow::Reset) {
            break;
        }
    }
    if matches!(down_end, Some(Flow::Reset)) || up_end == Some(Flow::Refused) {
        client.close_with_reset();
    }
    if matches!(up_end, Some(Flow::Reset)) || down_end == Some(Flow::Refused) {
        server.close_with_reset();
    }
}

async fn flow(from: &Socket, to: &Socket, side: Side, slot: &Slot, shared: &Shared) -> Flow {
    let mut buffer = vec![0; BUFFER];
    loop {
        tokio::task::coop::consume_budget().await;
        match from.read(&mut buffer).await {
            Ok(0) => {
                let_the_other_speak().await;
                slot.ended(side, false, shared);
                to.end_writing();
                return Flow::Ended;
            }
            Ok(n) => {
                slot.bytes(side, &buffer[..n], shared);
                if to.write_all(&buffer[..n]).await.is_err() {
                    return Flow::Refused;
                }
            }
            Err(_) => {
                let_the_other_speak().await;
                slot.ended(side, true, shared);
                return Flow::Reset;
            }
        }
    }
}

/// Before an end is written down, what the other side has sent already is read: under load both are
/// there at once, and an alert that came first must not seem to come after the end that it caused.
/// Two turns, for in the first one this direction may be asked before the other.
async fn let_the_other_speak() {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}
