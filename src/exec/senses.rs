//! What the engine sees of one connection between two peers: the relay, the shim's messages, the
//! handshake line, the server's own account. Collects, and tells when a failure is certain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::starts::Starts;
use crate::outcome::diagnose::{self, Diagnosis};
use crate::outcome::evidence::{
    ConnectionFacts, Evidence, HandshakeReport, Known, Opening, ProcessReport, RanOut, Reported, ServerStart, Spoken,
};
use crate::peer::Served;
use crate::wire::Relay;

/// Senses of one lane; shared by the cases on it.
pub(super) struct Senses {
    relay: Mutex<Option<Arc<Relay>>>,
    handshake: Mutex<Option<HandshakeReport>>,
    processes: Mutex<Vec<ProcessReport>>,
    served: Option<Arc<dyn Served>>,
    known: Known,
    changed: watch::Sender<u64>,
    ending: AtomicBool,
    /// When the plugin was first started.
    started: Mutex<Option<Instant>>,
    /// Starts by a client that starts a server for each op.
    pub(super) starts: Starts,
}

impl Senses {
    pub(super) fn new(known: Known, served: Option<Arc<dyn Served>>) -> Arc<Self> {
        Arc::new(Self {
            relay: Mutex::default(),
            handshake: Mutex::default(),
            processes: Mutex::default(),
            served,
            known,
            changed: watch::channel(0).0,
            ending: AtomicBool::new(false),
            started: Mutex::default(),
            starts: Starts::default(),
        })
    }

    /// Looks through this relay from now on, and wakes whoever waits when it sees something.
    pub(super) fn look_through(self: &Arc<Self>, relay: Arc<Relay>) {
        let mut seen = relay.changed();
        *lock(&self.relay) = Some(relay);
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
        amend(lock(&self.handshake).get_or_insert_with(HandshakeReport::default));
        self.changed.send_modify(|n| *n += 1);
    }

    pub(super) fn process(&self, report: ProcessReport) {
        let mut processes = lock(&self.processes);
        processes.retain(|p| p.argv != report.argv || p.side != report.side || p.exit.is_some());
        processes.push(report);
        drop(processes);
        self.changed.send_modify(|n| *n += 1);
    }

    /// What is seen from now on is of another start.
    pub(super) fn turn_over(&self) {
        *lock(&self.relay) = None;
        *lock(&self.handshake) = None;
        lock(&self.processes).clear();
        *lock(&self.started) = None;
    }

    /// Keeps what was seen of the newest start with it.
    pub(super) fn keep(&self, start: u32) {
        self.starts.keep(start, lock(&self.handshake).clone(), lock(&self.relay).clone());
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
            if lock(&self.processes).iter().any(|p| p.exit.is_some()) || changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The plugin runs. Only its first start counts: a host that starts it again has waited since then.
    pub(super) fn plugin_started(&self) {
        lock(&self.started).get_or_insert_with(Instant::now);
        self.changed.send_modify(|n| *n += 1);
    }

    /// When the plugin was first started; waits for that.
    pub(super) async fn first_start(&self) -> Instant {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let started = *lock(&self.started);
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
        lock(&self.started).is_some_and(|started| started.elapsed() > budget)
    }

    /// Whether the plugin's handshake line came.
    pub(super) fn has_line(&self) -> bool {
        lock(&self.handshake).as_ref().is_some_and(|h| h.line.is_some())
    }

    /// Whether the host switched `AutoMTLS` on.
    pub(super) fn auto_mtls(&self) -> bool {
        lock(&self.handshake).as_ref().is_some_and(|h| h.auto_mtls)
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
        lock(&self.relay).as_ref().is_some_and(|relay| !relay.reports().is_empty())
    }

    /// Whether anything can be sensed at all: two built-in peers in this process tell everything
    /// themselves.
    pub(super) fn is_blind(&self) -> bool {
        lock(&self.relay).is_none() && lock(&self.processes).is_empty() && lock(&self.handshake).is_none()
    }

    /// Lets connections in that were refused until now, soon.
    pub(super) fn admit(&self) {
        if let Some(relay) = lock(&self.relay).as_ref() {
            relay.open();
        }
    }

    /// What was spoken so far on all connections; `None` where that cannot be read: under TLS, or
    /// without a relay.
    pub(super) fn spoken(&self) -> Option<Spoken> {
        let relay = lock(&self.relay).clone()?;
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
        let relay = lock(&self.relay);
        relay.as_ref().is_some_and(|relay| relay.reports().iter().all(|seen| seen.client_bytes == 0))
    }

    /// Everything seen so far, with the client's account of a failure.
    pub(super) fn evidence(&self, client: Option<Reported>, timeout: Option<RanOut>) -> Evidence {
        let server =
            self.served.as_ref().and_then(|served| served.seen().into_iter().rev().find_map(|saw| saw.failure));
        Evidence {
            wire: lock(&self.relay).as_ref().map(|r| r.reports()).unwrap_or_default(),
            handshake: lock(&self.handshake).clone(),
            processes: lock(&self.processes)
                .iter()
                .cloned()
                .chain(self.served.as_ref().and_then(|served| served.process()))
                .collect(),
            starts: self.starts.evidence(),
            client,
            server,
            known: self.known.clone(),
            timeout,
        }
    }

    /// What was run of a server that is only a program.
    pub(super) fn server_account(&self) -> Option<crate::peer::Account> {
        self.served.as_ref().map(|served| served.account())
    }

    /// What the server's end knows of its connections.
    pub(super) fn server_facts(&self) -> Option<ConnectionFacts> {
        self.served.as_ref().and_then(|served| served.seen().into_iter().rev().find_map(|saw| saw.facts))
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
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
