//! Servers that a client program starts by itself: one record per start, and the watch over one op.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;

use super::lane::LAST_EXIT;
use super::senses::Senses;
use crate::outcome::evidence::{HandshakeReport, ProcessReport, ServerStart, WireReport};
use crate::peer::exec::{Begun, Overseer};
use crate::process::hub::Started;
use crate::wire::Relay;

/// Starts that are kept of one connection.
const STARTS_KEPT: usize = 64;
/// How long the ends of an op's servers are waited for, once its program has ended.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of a variable's value that are kept.
const VALUE_KEPT: usize = 256;

/// The starts of one connection.
#[derive(Default)]
pub(super) struct Starts(Mutex<Vec<Start>>);

struct Start {
    number: u32,
    composed: Vec<String>,
    env: Vec<(String, String)>,
    process: ProcessReport,
    /// Nothing more comes of its process.
    over: bool,
    handshake: Option<HandshakeReport>,
    /// Until its op is over.
    relay: Option<Arc<Relay>>,
    wire: Vec<WireReport>,
    /// Of the op that is under way.
    current: bool,
}

impl Starts {
    /// A server was started.
    pub(super) fn add(&self, number: u32, started: &Started, process: ProcessReport) {
        let mut starts = self.lock();
        let surplus = (starts.len() + 1).saturating_sub(STARTS_KEPT);
        starts.drain(..surplus);
        starts.push(Start {
            number,
            composed: started.argv.iter().skip(1).cloned().collect(),
            env: started.env.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect(),
            process,
            over: false,
            handshake: None,
            relay: None,
            wire: Vec::new(),
            current: true,
        });
    }

    /// Whether this is the newest one.
    pub(super) fn is_newest(&self, number: u32) -> bool {
        self.lock().last().is_some_and(|start| start.number == number)
    }

    /// What was seen of the newest one.
    pub(super) fn keep(&self, number: u32, handshake: Option<HandshakeReport>, relay: Option<Arc<Relay>>) {
        if let Some(start) = self.lock().last_mut().filter(|start| start.number == number) {
            start.handshake = handshake;
            start.relay = relay;
        }
    }

    /// A server has ended, or nothing more is heard of it (`None`).
    pub(super) fn ended(&self, number: u32, process: Option<ProcessReport>) {
        if let Some(start) = self.lock().iter_mut().find(|start| start.number == number) {
            start.over = true;
            start.process = process.unwrap_or_else(|| start.process.clone());
        }
    }

    /// What was run, as command lines; the newest last.
    pub(super) fn commands(&self) -> Vec<String> {
        let quoted = |start: &Start| {
            let words: Vec<_> = start.process.argv.iter().map(|word| crate::peer::exec::quote(word)).collect();
            words.join(" ")
        };
        self.lock().iter().map(quoted).collect()
    }

    /// All of them.
    pub(super) fn evidence(&self) -> Vec<ServerStart> {
        let report = |start: &Start| ServerStart {
            composed: start.composed.clone(),
            env: start.env.clone(),
            process: start.process.clone(),
            handshake: start.handshake.clone(),
            wire: start.seen(),
        };
        self.lock().iter().map(report).collect()
    }

    /// A new op: what came before is no longer looked at.
    fn begin(&self) {
        for start in self.lock().iter_mut() {
            start.wire = start.seen();
            start.relay = None;
            start.current = false;
        }
    }

    fn any(&self, holds: impl Fn(&Start) -> bool) -> bool {
        self.lock().iter().any(|start| start.current && holds(start))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Start>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Start {
    fn seen(&self) -> Vec<WireReport> {
        self.relay.as_ref().map_or_else(|| self.wire.clone(), |relay| relay.reports())
    }
}

/// A value as it is kept: no keys, nothing long.
fn shown(key: &str, value: &str) -> String {
    let private = key.ends_with("_KEY") && !key.contains("COOKIE");
    if private || value.len() > VALUE_KEPT { format!("({} bytes)", value.len()) } else { value.to_owned() }
}

/// Watches over the ops of one connection.
pub(super) struct Watcher(pub(super) Arc<Senses>);

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

impl Overseer for Watcher {
    fn begin(&self) {
        self.0.starts.begin();
        self.0.turn_over();
    }

    fn over(&self) -> BoxFuture<'_, Begun> {
        Box::pin(async move {
            let started = |senses: &Senses| senses.starts.any(|_| true);
            // A program that ends right after its start is ahead of what the shim tells.
            let _ = tokio::time::timeout(LAST_EXIT, self.0.until(started)).await;
            let over = |senses: &Senses| !senses.starts.any(|start| !start.over);
            let _ = tokio::time::timeout(ENDS_WITHIN, self.0.until(over)).await;
            let dialled = self.0.starts.any(|start| !start.seen().is_empty());
            Begun { started: started(&self.0), dialled }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::super::shims::Watch;
    use super::*;
    use crate::outcome::evidence::Known;
    use crate::process::hub::{Hub, TicketSpec};

    /// What a shim says as the hub hears it.
    fn shim(value: &str, says: &[&str]) -> UnixStream {
        let (token, socket) = value.split_once('@').unwrap();
        let mut stream = UnixStream::connect(socket).unwrap();
        writeln!(stream, r#"{{"type":"hello","token":"{token}","argv":["server"]}}"#).unwrap();
        for line in says {
            writeln!(stream, "{line}").unwrap();
        }
        stream
    }

    #[tokio::test]
    async fn an_op_is_over_as_soon_as_nothing_more_comes_of_its_starts() {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::bind(folder.path()).unwrap();
        let ticket = hub.ticket(TicketSpec::default()).unwrap();
        let senses = Senses::new(Known::default(), None);
        let watch = Watch {
            senses: Arc::clone(&senses),
            folder: folder.path().to_owned(),
            versions: vec![1],
            host: crate::axis::values::HostChanges::default(),
            cookie: ("K".into(), "v".into()),
            budget: Duration::from_secs(20),
            composes: true,
        };
        let watch = tokio::spawn(watch.follow(ticket.events));
        let started = r#"{"type":"started","pid":1}"#;
        let exited = r#"{"type":"exited","exit":{"code":0}}"#;
        let ends: [fn(UnixStream); 2] = [
            |mut older| writeln!(older, r#"{{"type":"exited","exit":{{"code":0}}}}"#).unwrap(),
            // Its shim is killed.
            drop,
        ];
        for end in ends {
            senses.starts.begin();
            let older = shim(&ticket.env[0].1, &[started]);
            let bound = |what: &'static str, over: fn(&Senses) -> bool| {
                let senses = Arc::clone(&senses);
                async move { tokio::time::timeout(Duration::from_secs(20), senses.until(over)).await.expect(what) }
            };
            bound("the older one runs", |s| s.starts.any(|_| true)).await;
            let newer = shim(&ticket.env[0].1, &[started, exited]);
            bound("the newer one has ended", |s| s.starts.any(|start| start.over)).await;
            let over = bound("somebody is told", |s| !s.starts.any(|start| !start.over));
            let over = tokio::spawn(over);
            tokio::task::yield_now().await;
            end(older);
            over.await.unwrap();
            drop(newer);
        }
        watch.abort();
    }
}
