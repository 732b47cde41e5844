//! What the go-plugin launch says: the handshake line and the plugin's process.

use super::{Finding, ended, hints, quote};
use crate::outcome::evidence::{CookieSeen, Evidence, HandshakeReport, ProcessReport, Side};
use crate::outcome::{Certainty, Exit, Phase};

/// What plugin libraries print when they were not started by their host (go-plugin's `Serve`
/// prints the first, others name the cookie).
const COOKIE_WORDS: &[&str] = &["not meant to be executed directly", "cookie"];

/// The least that a host waits for a line, in microseconds; go-plugin's and pyvider's wait a minute
/// and ten seconds unless told otherwise.
const PATIENCE_US: u64 = 1_000_000;

/// The finding of a launch that failed before the client could dial.
pub(super) fn read(e: &Evidence) -> Option<Finding> {
    let handshake = e.handshake.as_ref()?;
    let plugin = e.processes.iter().rev().find(|p| p.side == Side::Server);
    if handshake.line.is_none() {
        return no_line(e, handshake, plugin);
    }
    let dialled = e.wire.iter().any(|w| w.refused.is_some() || w.client_bytes > 0 || w.server_bytes > 0);
    if let Some(problem) = &handshake.problem
        && (problem.certain || (!dialled && (e.client.is_some() || e.timeout.is_some())))
    {
        let certainty = if problem.certain { Certainty::Observed } else { Certainty::Deduced };
        let mut text = problem.text.clone();
        if !problem.certain {
            text.push_str("; the client did not dial after it");
        }
        return Some(Finding::new(Phase::Handshake, format!("handshake.{}", problem.code), certainty, text));
    }
    // A good line, and yet nobody dialled. Without a relay this cannot be seen, so the client must
    // have said that it did not get that far.
    let client = e.client.as_ref().filter(|c| !dialled && c.phase == Some(Phase::Handshake) && c.cause.is_none())?;
    let code = match hints::of(&client.error) {
        Some((Phase::Handshake, code)) => code,
        _ => "handshake.refused.by-client",
    };
    let text =
        format!("the plugin's line is in order, but the client did not dial; it says: {}", super::cut(&client.error));
    Some(Finding::new(Phase::Handshake, code, Certainty::Reported, text))
}

/// Whether no host can come further than this.
pub(super) fn is_certain(e: &Evidence) -> bool {
    e.handshake.as_ref().is_some_and(|h| h.problem.as_ref().is_some_and(|p| p.certain))
}

fn no_line(e: &Evidence, handshake: &HandshakeReport, plugin: Option<&ProcessReport>) -> Option<Finding> {
    if let Some(problem) = &handshake.problem {
        let code = format!("handshake.{}", problem.code);
        return Some(Finding::new(Phase::Handshake, code, Certainty::Observed, problem.text.clone()));
    }
    // The client may not even have come to start it.
    if plugin.is_none() && e.client.as_ref().is_some_and(|c| matches!(c.phase, Some(Phase::Spawn | Phase::Driver))) {
        return None;
    }
    let after = |us: Option<u64>| us.map_or_else(String::new, |us| format!(" after {} ms", us / 1000));
    let exit = plugin.and_then(|p| p.exit.map(|exit| (p, exit)));
    let Some((process, exit)) = exit else {
        let waited = after(e.timeout.as_ref().map(|t| t.budget_ms * 1000));
        let text = format!(
            "the plugin printed no handshake line{waited} and still runs{}",
            plugin.map_or_else(String::new, quote)
        );
        return Some(Finding::new(Phase::Handshake, "handshake.silence", Certainty::Observed, text));
    };
    let lived = after(process.lived_us);
    // A host that reads the end of stdout kills what has ended already: a status of its own tells.
    let obeyed = process.asked_to_end && matches!(exit, Exit::Code(0 | 130 | 137 | 143));
    // No host gives up so soon; what a signal ended before was not ended by one.
    let waited = process.asked_to_end || e.timeout.is_some() || process.lived_us.is_none_or(|us| us >= PATIENCE_US);
    if obeyed || (waited && matches!(exit, Exit::Signal(2 | 9 | 15))) {
        // Whoever waited for the line ended it.
        let text = format!("the plugin printed no handshake line and was ended{lived}{}", quote(process));
        let found = Finding::new(Phase::Handshake, "handshake.silence", Certainty::Deduced, text);
        return Some(found.with_exit(Some(exit)));
    }
    let (code, why) = reason(handshake, process, exit);
    let certainty = if why.is_empty() { Certainty::Observed } else { Certainty::Deduced };
    let text = format!("the plugin {}{lived} without a handshake line{why}{}", ended(exit), quote(process));
    Some(Finding::new(Phase::Handshake, code, certainty, text).with_exit(Some(exit)))
}

/// What a plugin that ended without a line was given, if that is reason enough to end.
fn reason(handshake: &HandshakeReport, process: &ProcessReport, exit: Exit) -> (&'static str, &'static str) {
    let words = process.stderr_tail.join("\n").to_lowercase();
    match handshake.cookie {
        Some(CookieSeen::Missing) => ("handshake.cookie.missing", "; its host did not send the magic cookie"),
        Some(CookieSeen::Other) => ("handshake.cookie.wrong", "; its host sent another magic cookie"),
        _ if exit == Exit::Code(1) && COOKIE_WORDS.iter().any(|w| words.contains(w)) => {
            ("handshake.cookie", "; it says that the magic cookie is not its own")
        }
        _ if handshake.auto_mtls && handshake.client_cert.is_none() => {
            ("handshake.client-cert", "; what its host sent in PLUGIN_CLIENT_CERT is no certificate")
        }
        _ => ("handshake.exit", ""),
    }
}

/// A plugin that ended by itself after its line is the reason why nobody listens, not the dial.
pub(super) fn without_consequences(e: &Evidence, mut findings: Vec<Finding>) -> Vec<Finding> {
    let announced = e.handshake.as_ref().is_some_and(|h| h.line.is_some());
    let gone = e.processes.iter().any(|p| p.side == Side::Server && p.exit.is_some() && !p.asked_to_end);
    if announced && gone && findings.iter().any(|f| f.code.starts_with("process.")) {
        findings.retain(|f| !f.code.starts_with("connect.refused"));
    }
    findings
}

/// Adds what the launch has to do with a failure that came later: a certificate that was never
/// announced cannot be trusted, and a host without one may not even try TLS.
pub(super) fn explain(e: &Evidence, found: &mut Finding) {
    let launched = |h: &&HandshakeReport| h.auto_mtls && h.line.is_some() && found.phase == Phase::Tls;
    let Some(handshake) = e.handshake.as_ref().filter(launched) else { return };
    let about = |prefix: &str| found.code.starts_with(prefix);
    if handshake.server_cert.is_none() && !about("tls.rejected.client-cert") {
        found.text.push_str("; the handshake line announces no certificate");
        if found.code == "tls.rejected.server-cert.by-client" {
            found.code.push_str(".unannounced");
        }
    } else if handshake.client_cert.is_none() && about("tls.rejected.client-cert") {
        found.text.push_str("; what the host sent in PLUGIN_CLIENT_CERT is no certificate");
    }
}
