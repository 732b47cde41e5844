//! Follows the shims of one lane: what they tell becomes evidence, and lines are pointed at a relay.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::lane::relay;
use super::senses::Senses;
use crate::axis::values::HostChanges;
use crate::handshake;
use crate::outcome::Exit;
use crate::outcome::evidence::{CookieSeen, HandshakeProblem, Side};
use crate::process::hub::{ShimEvent, ShimEvents, Started, process_report};

/// What a shell's status would be where a program cannot be started.
const CANNOT_START: i32 = 127;

/// Follows a plugin's life through the shim: its environment, its line (which is pointed at a
/// relay), its end.
pub(super) struct Watch {
    pub(super) senses: Arc<Senses>,
    pub(super) folder: PathBuf,
    pub(super) versions: Vec<u32>,
    pub(super) host: HostChanges,
    pub(super) cookie: (String, String),
    /// For the line to come.
    pub(super) budget: Duration,
    /// The client starts a server for each op: each start is looked at by itself.
    pub(super) composes: bool,
}

impl Watch {
    pub(super) async fn follow(self, mut events: ShimEvents) {
        let senses = &self.senses;
        let mut launched = Started::default();
        // Answers that are never given: a line that came too late is kept from its host.
        let mut withheld = Vec::new();
        while let Some(event) = events.recv().await {
            match event {
                ShimEvent::Started { start, started } => {
                    self.begin(start, &started);
                    let sent = started.env.iter().find(|(k, v)| k == "PLUGIN_CLIENT_CERT" && !v.is_empty());
                    let arrived = self.arrives("PLUGIN_CLIENT_CERT", sent.map(|(_, pem)| pem.as_str()));
                    let client_cert = arrived.and_then(crate::pki::pem_facts);
                    senses.amend_handshake(|h| {
                        h.auto_mtls = sent.is_some();
                        h.client_cert = client_cert;
                        h.cookie = self.cookie_seen(started.cookie_present);
                    });
                    senses.process(process_report(Side::Server, &started, None, false));
                    senses.plugin_started();
                    launched = started;
                }
                ShimEvent::CannotStart { start, error } => {
                    self.begin(start, &launched);
                    let mut report = process_report(Side::Server, &launched, None, false);
                    report.stderr_tail = vec![error];
                    report.exit = Some(Exit::Code(CANNOT_START));
                    senses.amend_handshake(|_| ());
                    senses.process(report.clone());
                    senses.start_ended(start, Some(report));
                }
                ShimEvent::Line { start, raw, reply, after_us } => {
                    let answer = self.line(&raw, after_us).await;
                    senses.keep(start);
                    match answer {
                        Some(answer) => {
                            let _ = reply.send(answer);
                        }
                        None => withheld.push(reply),
                    }
                }
                ShimEvent::Exited { start, exited } => {
                    // A client that is done has its server go by a call, which nobody sees here.
                    let done = self.composes && exited.exit == Exit::Code(0) && senses.has_line();
                    let report = process_report(Side::Server, &launched, Some(&exited), senses.is_ending() || done);
                    if !self.composes || senses.starts.is_newest(start) {
                        senses.process(report.clone());
                    }
                    senses.start_ended(start, Some(report));
                }
                ShimEvent::Lost { start } => senses.start_ended(start, None),
            }
        }
    }

    fn begin(&self, start: u32, started: &Started) {
        if self.composes {
            self.senses.turn_over();
            self.senses.starts.add(start, started, process_report(Side::Server, started, None, false));
        }
    }

    /// Reads a line and gives what the host is to read: the same with the relay's address, however
    /// wrong it is otherwise. `None`: nothing, for it came too late.
    async fn line(&self, raw: &[u8], after_us: u64) -> Option<Vec<u8>> {
        let auto_mtls = self.senses.auto_mtls();
        let mut reading = handshake::read_line(raw, &self.versions, auto_mtls);
        let late = self.senses.is_older_than(self.budget);
        if late {
            let (came, budget) = (after_us / 1000, self.budget.as_millis());
            let text = format!(
                "the handshake line came {came} ms after the plugin's start, and it has {budget} ms; \
                 if it needs more, raise `timeouts: {{ start: … }}`"
            );
            reading.problem = Some(HandshakeProblem { code: "late".into(), text, certain: true });
        }
        let mut answer = raw.to_vec();
        if !late
            && let Some(target) = &reading.target
            && let Ok((relay, address)) = relay(target, &self.folder, false).await
            && let Some(line) = handshake::with_address(raw, &address)
        {
            answer = line;
            self.senses.look_through(relay);
        }
        self.senses.amend_handshake(|h| {
            let seen = h.cookie;
            *h = reading.report(auto_mtls, h.client_cert.take(), after_us);
            h.cookie = seen;
        });
        (!late).then_some(answer)
    }

    /// The value that a variable has when it reaches the plugin.
    fn arrives<'a>(&'a self, key: &str, sent: Option<&'a str>) -> Option<&'a str> {
        match self.host.env.get(key) {
            Some(changed) => changed.as_deref(),
            None => sent,
        }
    }

    fn cookie_seen(&self, sent: Option<bool>) -> Option<CookieSeen> {
        let (key, value) = &self.cookie;
        let set = match self.host.env.get(key) {
            Some(Some(changed)) if changed != value => return Some(CookieSeen::Other),
            Some(changed) => changed.is_some(),
            None => sent?,
        };
        Some(if set { CookieSeen::Set } else { CookieSeen::Missing })
    }
}
