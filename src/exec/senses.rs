//! What the engine sees of one connection between two peers: the relay, the shim's messages, the
//! handshake line, the server's own account. Collects, and tells when a failure is certain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::far::FarEnd;
use super::starts::Starts;
use crate::outcome::diagnose::{self, Diagnosis};
use crate::outcome::evidence::{
    ConnectionFacts, Evidence, HandshakeReport, Known, Opening, ProcessReport, RanOut, Reported, ServerStart, Spoken,
    WireReport,
};
use crate::wire::Relay;

/// Senses of one lane; shared by the cases on it.
pub(super) struct Senses {
    /// One lock for all of it: with several, who takes them in another order stops the whole run.
    seen: Mutex<Seen>,
    far: Option<Arc<FarEnd>>,
    known: Known,
    changed: watch::Sender<u64>,
    ending: AtomicBool,
    /// Starts by a client that starts a server for each op.
    pub(super) starts: Starts,
}

/// What was seen of the newest start.
#[derive(Clone, Default)]
struct Seen {
    relay: Option<Arc<Relay>>,
    handshake: Option<HandshakeReport>,
    processes: Vec<ProcessReport>,
    /// When the plugin was first started.
    started: Option<Instant>,
}

impl Seen {
    fn wire(&self) -> Vec<WireReport> {
        self.relay.as_ref().map(|relay| relay.reports()).unwrap_or_default()
    }
}

impl Senses {
    pub(super) fn new(known: Known, far: Option<Arc<FarEnd>>) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            far,
            known,
            changed: watch::channel(0).0,
            ending: AtomicBool::new(false),
            starts: Starts::default(),
        })
    }

    /// Looks through this relay from now on, and wakes whoever waits when it sees something.
    pub(super) fn look_through(self: &Arc<Self>, relay: Arc<Relay>) {
        let mut seen = relay.changed();
        let before = self.seen().relay.replace(relay);
        drop(before);
        let senses = Arc::downgrade(self);
        tokio::spawn(async move {
            while seen.changed().await.is_ok() {
                let Some(senses) = senses.upgrade() else { return };
                senses.changed.send_modify(|n| *n += 1);
            }
        });
    }

    /// Adds to the handshake report, whether or not a line came yet.
    pub(super) fn amend_handshake(&self, amend: impl FnOnce(&mut HandshakeReport)) {
        amend(self.seen().handshake.get_or_insert_default());
        self.changed.send_modify(|n| *n += 1);
    }

    pub(super) fn process(&self, report: ProcessReport) {
        {
            let processes = &mut self.seen().processes;
            processes.retain(|p| p.argv != report.argv || p.side != report.side || p.exit.is_some());
            processes.push(report);
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// What is seen from now on is of another start.
    pub(super) fn turn_over(&self) {
        let before = std::mem::take(&mut *self.seen());
        drop(before);
    }

    /// Keeps what was seen of the newest start with it.
    pub(super) fn keep(&self, start: u32) {
        let Seen { handshake, relay, .. } = self.look();
        self.starts.keep(start, handshake, relay);
        self.changed.send_modify(|n| *n += 1);
    }

    /// A start has come to its end, or nothing more is heard of it (`None`).
    pub(super) fn start_ended(&self, start: u32, process: Option<ProcessReport>) {
        self.starts.ended(start, process);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Resolves when `holds` does, which is asked again whenever something is seen.
    pub(super) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if holds(self) || changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// One [`Evidence`] per start by a client that starts a server for each op.
    pub(super) fn evidence_of_starts(&self) -> Vec<Evidence> {
        let of = |start: ServerStart| Evidence {
            wire: start.wire,
            handshake: start.handshake,
            processes: vec![start.process],
            known: self.known.clone(),
            ..Evidence::default()
        };
        self.starts.evidence().into_iter().map(of).collect()
    }

    /// Resolves when the plugin's end is known.
    pub(super) async fn server_ended(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let ended = self.seen().processes.iter().any(|p| p.exit.is_some());
            if ended || changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The plugin runs. Only its first start counts: a host that starts it again has waited since then.
    pub(super) fn plugin_started(&self) {
        self.seen().started.get_or_insert_with(Instant::now);
        self.changed.send_modify(|n| *n += 1);
    }

    /// When the plugin was first started; waits for that.
    pub(super) async fn first_start(&self) -> Instant {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let started = self.seen().started;
            if let Some(started) = started {
                return started;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the plugin has been running for longer than `budget`.
    pub(super) fn is_older_than(&self, budget: Duration) -> bool {
        self.seen().started.is_some_and(|started| started.elapsed() > budget)
    }

    /// Whether the plugin's handshake line came.
    pub(super) fn has_line(&self) -> bool {
        self.seen().handshake.as_ref().is_some_and(|h| h.line.is_some())
    }

    /// Whether the host switched `AutoMTLS` on.
    pub(super) fn auto_mtls(&self) -> bool {
        self.seen().handshake.as_ref().is_some_and(|h| h.auto_mtls)
    }

    /// The lane is being taken down: what ends from now on was asked to.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Whether the relay was dialled.
    pub(super) fn was_dialled(&self) -> bool {
        !self.look().wire().is_empty()
    }

    /// Whether anything can be sensed at all: two built-in peers in this process tell everything
    /// themselves.
    pub(super) fn is_blind(&self) -> bool {
        let seen = self.seen();
        seen.relay.is_none() && seen.processes.is_empty() && seen.handshake.is_none()
    }

    /// Lets connections in that were refused until now, soon.
    pub(super) fn admit(&self) {
        if let Some(relay) = self.relay() {
            relay.open();
        }
    }

    /// What was spoken so far on all connections; `None` where that cannot be read: under TLS, or
    /// without a relay.
    pub(super) fn spoken(&self) -> Option<Spoken> {
        let relay = self.relay()?;
        let mut all = Spoken::default();
        for report in relay.reports() {
            if [&report.client_opening, &report.server_opening].contains(&&Opening::Tls) {
                return None;
            }
            all = all.and(report.spoken.unwrap_or_default());
        }
        Some(all)
    }

    /// Whether there is a relay between the peers, and nothing ever came through it.
    pub(super) fn saw_no_client(&self) -> bool {
        self.relay().is_some_and(|relay| relay.reports().iter().all(|seen| seen.client_bytes == 0))
    }

    /// Everything seen so far, with the client's account of a failure.
    pub(super) fn evidence(&self, client: Option<Reported>, timeout: Option<RanOut>) -> Evidence {
        let seen = self.look();
        let wire = seen.wire();
        let far = self.far.as_ref();
        Evidence {
            wire,
            handshake: seen.handshake,
            processes: seen.processes.into_iter().chain(far.and_then(|far| far.process())).collect(),
            starts: self.starts.evidence(),
            client,
            server: far.and_then(|far| far.failure()),
            known: self.known.clone(),
            timeout,
        }
    }

    /// What was run of a server that is only a program.
    pub(super) fn server_account(&self) -> Option<crate::peer::Account> {
        self.far.as_ref().map(|far| far.account())
    }

    /// What the server's end knows of its connections.
    pub(super) fn server_facts(&self) -> Option<ConnectionFacts> {
        self.far.as_ref().and_then(|far| far.facts())
    }

    /// Resolves when a failure is certain, whatever the client still hopes for.
    pub(super) async fn certain(&self) -> Diagnosis {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(diagnosis) = diagnose::certain(&self.evidence(None, None)) {
                return diagnosis;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The lock is held for a look or a change, and nothing is called meanwhile that takes another.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy, to ask more of.
    fn look(&self) -> Seen {
        self.seen().clone()
    }

    fn relay(&self) -> Option<Arc<Relay>> {
        self.seen().relay.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Everybody looks and changes at once, in whatever order each of them asks for.
    #[test]
    fn nobody_who_looks_waits_for_another_for_ever() {
        const ROUNDS: usize = 20_000;
        let senses = Senses::new(Known::default(), None);
        let asks: [fn(&Senses); 5] = [
            |senses| drop(senses.evidence(None, None)),
            |senses| senses.keep(0),
            |senses| assert!(senses.relay().is_none() || !senses.is_blind()),
            |senses| senses.amend_handshake(|h| h.auto_mtls = true),
            Senses::turn_over,
        ];
        let (done, all) = mpsc::channel();
        for ask in asks {
            let (senses, done) = (Arc::clone(&senses), done.clone());
            std::thread::spawn(move || {
                (0..ROUNDS).for_each(|_| ask(&senses));
                let _ = done.send(());
            });
        }
        for _ in asks {
            all.recv_timeout(Duration::from_mins(1)).expect("every thread comes to its end");
        }
    }
}
