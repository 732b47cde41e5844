//! Which of several findings is the reason.

use super::{Finding, names, wire};
use crate::outcome::evidence::{Evidence, Opening, Reported, Side};
use crate::outcome::{Certainty, Phase};

/// Whether `code` is `prefix` or below it, in whole segments.
pub(super) fn is_under(code: &str, prefix: &str) -> bool {
    code.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// How much of a reason a code is, from a mere silence to who did what.
fn weight(code: &str) -> u8 {
    const TABLE: &[(&str, u8)] = &[
        ("driver", 9),
        ("engine", 9),
        ("spawn", 8),
        ("ready", 8),
        ("handshake.refused", 5),
        // That it ended is less than why.
        ("handshake.exit", 6),
        ("handshake", 7),
        ("connect.refused", 7),
        ("tls.rejected", 7),
        ("tls.no-common", 7),
        ("tls.plaintext-server", 7),
        ("tls.plaintext-client", 7),
        ("check", 7),
        ("process", 6),
        ("tls.alert", 5),
        ("tls.broken", 5),
        ("rpc.http2", 5),
        ("rpc.grpc", 5),
        ("rpc.goaway", 5),
        ("rpc.reset", 5),
        ("tls.closed", 4),
        ("rpc.closed", 3),
        ("connect", 2),
        ("tls", 2),
        ("rpc", 2),
        // All that a tester says is that it failed.
        ("test", 2),
        ("timeout", 1),
    ];
    TABLE.iter().find(|(prefix, _)| is_under(code, prefix)).map_or(0, |(_, weight)| *weight)
}

/// The best finding; earlier ones win ties, unless a later one says the same more finely.
pub(super) fn best(findings: Vec<Finding>) -> Option<Finding> {
    findings.into_iter().reduce(|best, next| {
        let finer = next.code != best.code && is_under(&next.code, &best.code);
        if weight(&next.code) > weight(&best.code) || (finer && weight(&next.code) == weight(&best.code)) {
            next
        } else {
            best
        }
    })
}

/// What the ends that are our own say. They decrypt, so an alert's number is known to them: it
/// means what it would mean on the wire.
pub(super) fn own(e: &Evidence, wire: Option<&Finding>) -> Vec<Finding> {
    let sides = [(Side::Client, &e.client), (Side::Server, &e.server)];
    let mut found: Vec<Finding> =
        sides.into_iter().filter_map(|(side, told)| one(e, side, told.as_ref()?, wire)).collect();
    // Who rejects knows why; the other one only feels it.
    found.sort_by_key(|f| !f.code.contains(&format!(".by-{}", side_of(f, e).name())));
    found
}

fn side_of(finding: &Finding, e: &Evidence) -> Side {
    let server = e.server.as_ref().and_then(|s| s.cause.as_ref());
    if server.is_some_and(|c| c.text == finding.text) { Side::Server } else { Side::Client }
}

fn one(e: &Evidence, side: Side, told: &Reported, wire: Option<&Finding>) -> Option<Finding> {
    let cause = told.cause.as_ref()?;
    let phase = told.phase.unwrap_or_else(|| phase_of(&cause.code));
    let mut own = Finding::new(phase, cause.code.clone(), cause.certainty, cause.text.clone());
    own.exit = e
        .processes
        .iter()
        .find(|p| p.side != side)
        .and_then(|p| p.exit)
        .filter(|_| is_under(&own.code, "handshake") || is_under(&own.code, "process"));
    // A record that is none of a handshake's is TLS all the same.
    let spoke_tls = |side: Side| wire::relevant(e).is_some_and(|w| w.opening(side) == &Opening::Tls);
    for plain in [Side::Client, Side::Server] {
        if own.code == format!("tls.plaintext-{}", plain.name()) && spoke_tls(plain) {
            own.code = format!("tls.broken.by-{}", plain.name());
            // What the wire read of it is more.
            if wire.is_some() {
                return None;
            }
        }
    }
    if let Some((name, from)) = alert_of(&cause.code) {
        let number = names::alert_number(name);
        own.alert = number;
        if let Some(read) = number.and_then(|n| wire::alert(e, from, n)) {
            own.code = read;
        }
    }
    // What was waited for in vain is no more than a symptom: say what could be seen meanwhile.
    if is_under(&own.code, "timeout") || is_under(&own.code, "rpc.deadline") {
        own.text = format!("{}; {}", own.text, super::state(e));
    }
    // The wire has the bytes, the end what it made of them.
    if let Some(wire) = wire.filter(|w| w.code == own.code && is_under(&w.code, "rpc.http2")) {
        own.text = format!("{}; {}", wire.text, own.text);
    }
    // An end that finds no common signature scheme says what the wire shows from the other side:
    // that the client cannot accept this key. One cause, one code.
    if is_under(&own.code, "tls.no-common.signature")
        && let Some(wire) = wire.filter(|w| is_under(&w.code, "tls.rejected"))
    {
        own.code.clone_from(&wire.code);
        own.text = format!("{}; {}", own.text, wire.text);
    }
    Some(own)
}

/// Whether an end of our own knows better than the wire: an encrypted alert that our client could
/// read was an orderly close if the client speaks of no other, and nobody's certificate was refused.
pub(super) fn is_refuted(e: &Evidence, wire: &Finding) -> bool {
    let closed = e.client.as_ref().filter(|c| c.native.is_none()).and_then(|c| c.cause.as_ref());
    let alert = wire::relevant(e).is_some_and(|w| w.alerts.iter().any(|a| a.from == Side::Server && a.encrypted));
    alert
        && closed.is_some_and(|c| c.code == "tls.closed.by-server")
        && wire.certainty == Certainty::Deduced
        && is_under(&wire.code, "tls.rejected.client-cert.by-server")
}

/// `tls.alert.NAME.from-SIDE`.
fn alert_of(code: &str) -> Option<(&str, Side)> {
    let (name, from) = code.strip_prefix("tls.alert.")?.split_once(".from-")?;
    Some((name, if from == "client" { Side::Client } else { Side::Server }))
}

fn phase_of(code: &str) -> Phase {
    match code.split('.').next().unwrap_or(code) {
        "spawn" | "ready" => Phase::Spawn,
        "handshake" => Phase::Handshake,
        "connect" => Phase::Connect,
        "tls" => Phase::Tls,
        "check" | "test" => Phase::Check,
        "driver" => Phase::Driver,
        _ => Phase::Rpc,
    }
}
