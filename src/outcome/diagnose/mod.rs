//! From evidence to phase and cause: one pure function with a table of tests. L2.
//!
//! Every sense is asked for its finding: the launch (handshake line and process), the wire, the
//! peers' own ends, the processes, the status, the budget that ran out. Findings are ranked by how
//! much of a reason they are, not by who made them: "the client does not know the authority" beats
//! "the server closed", which beats "nothing came within 3 s". Between findings of the same rank
//! an end of our own beats deduction, unless the other one says the same more finely. Peers' texts
//! never decide as long as anything else is known.

mod flaws;
mod hints;
mod launch;
mod names;
mod rank;
#[cfg(test)]
mod tests;
mod wire;

use super::{
    Cause, Certainty, Ending, Exit, GrpcStatus, Phase,
    evidence::{Evidence, ProcessReport, Side, WireReport},
};

/// Texts kept of the peers.
const MAX_TEXTS: usize = 6;
/// Characters kept of each.
const MAX_TEXT: usize = 400;
/// Last lines of stderr that are quoted.
const STDERR_LINES: usize = 3;

/// What the evidence of a failure says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// `Failed`, `TimedOut`, `Crashed` or `CouldNotRun`.
    pub ending: Ending,
    /// Where it failed.
    pub phase: Phase,
    /// Why.
    pub cause: Cause,
    /// The deciding status.
    pub status: Option<GrpcStatus>,
    /// The deciding exit.
    pub exit: Option<Exit>,
    /// The deciding alert.
    pub alert: Option<u8>,
    /// Peers' words, most telling first.
    pub texts: Vec<String>,
}

/// What one sense makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    phase: Phase,
    code: String,
    certainty: Certainty,
    text: String,
    exit: Option<Exit>,
    alert: Option<u8>,
}

impl Finding {
    fn new(phase: Phase, code: impl Into<String>, certainty: Certainty, text: impl Into<String>) -> Self {
        Self { phase, code: code.into(), certainty, text: text.into(), exit: None, alert: None }
    }

    fn with_exit(self, exit: Option<Exit>) -> Self {
        Self { exit, ..self }
    }

    fn with_alert(self, alert: Option<u8>) -> Self {
        Self { alert, ..self }
    }
}

/// Names phase and cause of a failed attempt. Total: evidence that says nothing gives the code
/// `unknown`, and never a guess.
#[must_use]
pub fn diagnose(evidence: &Evidence) -> Diagnosis {
    let wire = wire::read(evidence).filter(|wire| !rank::is_refuted(evidence, wire));
    let mut findings = Vec::new();
    findings.extend(driver(evidence));
    findings.extend(rank::own(evidence, wire.as_ref()));
    findings.extend(launch::read(evidence));
    findings.extend(wire);
    findings.extend(process(evidence));
    findings.extend(closed(evidence));
    findings.extend(status(evidence));
    findings.extend(ran_out(evidence));
    let mut found =
        rank::best(launch::without_consequences(evidence, findings)).unwrap_or_else(|| hints::from_texts(evidence));
    launch::explain(evidence, &mut found);
    flaws::explain(evidence, &mut found);
    let status = evidence.client.as_ref().and_then(|c| c.status.clone());
    Diagnosis {
        ending: ending(&found.code),
        phase: found.phase,
        exit: found.exit,
        alert: found.alert,
        cause: Cause { code: found.code, certainty: found.certainty, text: found.text },
        status: status.or_else(|| evidence.server.as_ref().and_then(|s| s.status.clone())),
        texts: texts(evidence),
    }
}

/// The diagnosis, as soon as it is certain that the attempt cannot succeed any more, even if the
/// client still retries: the plugin has exited, its line is one that every host refuses, a
/// connection was refused, a TLS handshake came to a bad end. `None` means: wait on. The evidence
/// should hold only connections of this attempt.
#[must_use]
pub fn certain(evidence: &Evidence) -> Option<Diagnosis> {
    let gone = evidence.processes.iter().any(|p| p.side == Side::Server && p.exit.is_some() && !p.asked_to_end);
    let hopeless = gone || launch::is_certain(evidence) || wire::read(evidence).is_some();
    hopeless.then(|| diagnose(evidence))
}

fn ending(code: &str) -> Ending {
    match code.split('.').next().unwrap_or(code) {
        "driver" | "spawn" | "engine" => Ending::CouldNotRun,
        "process" => Ending::Crashed,
        "timeout" => Ending::TimedOut,
        _ if ["handshake.exit", "ready.exit"].iter().any(|c| rank::is_under(code, c)) => Ending::Crashed,
        _ if ["handshake.silence", "handshake.late", "ready.silence", "connect.timeout", "rpc.deadline"]
            .iter()
            .any(|c| rank::is_under(code, c)) =>
        {
            Ending::TimedOut
        }
        _ => Ending::Failed,
    }
}

/// The driver program broke its contract: nothing can be said of the pair.
fn driver(e: &Evidence) -> Option<Finding> {
    let told = [&e.client, &e.server].into_iter().flatten().find(|r| r.phase == Some(Phase::Driver))?;
    if let Some(cause) = &told.cause {
        return Some(Finding::new(Phase::Driver, cause.code.clone(), cause.certainty, cause.text.clone()));
    }
    let kind =
        told.native.as_deref().filter(|n| n.len() <= 32 && n.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
    let text = format!("the driver failed, not the pair under test: {}", cut(&told.error));
    Some(Finding::new(Phase::Driver, format!("driver.{}", kind.unwrap_or("failed")), Certainty::Observed, text))
}

/// A process under test that ended by itself while it was in use.
fn process(e: &Evidence) -> Option<Finding> {
    let (process, exit) = e.processes.iter().filter(|p| !p.asked_to_end).find_map(|p| Some((p, p.exit?)))?;
    // A host that gives up kills its plugin, and nobody tells us: an end by one of the signals for
    // that is a crash only if nothing shows that the other side had left before.
    let last = wire::relevant(e);
    let ending_signal = matches!(exit, Exit::Signal(1 | 2 | 9 | 15)) || exit == Exit::Code(0);
    if ending_signal && last.is_some_and(|w| w.closed_by == Some(process.side.other())) {
        return None;
    }
    let code = match exit {
        Exit::Code(_) => "process.exited",
        Exit::Signal(_) => "process.signalled",
    };
    // A server that never said anything may have been reached or not: that is a race of its end.
    let mute = |w: &&WireReport| process.side == Side::Server && w.server_bytes == 0 && wire::phase(w) == Phase::Rpc;
    let phase = if last.as_ref().is_some_and(mute) { Phase::Connect } else { last.map_or(Phase::Rpc, wire::phase) };
    let text = format!("the {}'s process {} while it was in use{}", process.side.name(), ended(exit), quote(process));
    Some(Finding::new(phase, code, Certainty::Observed, text).with_exit(Some(exit)))
}

/// A connection that worked and was then closed under a call.
fn closed(e: &Evidence) -> Option<Finding> {
    let last = wire::relevant(e)?;
    let side = last.closed_by.filter(|_| wire::phase(last) == Phase::Rpc)?;
    let status = e.client.as_ref().and_then(|c| c.status.as_ref());
    // Any other status was a server's answer, and the close came after it.
    if status.is_some_and(|s| !["UNAVAILABLE", "UNKNOWN", "INTERNAL", "CANCELLED"].contains(&s.code.as_str())) {
        return None;
    }
    if status.is_none() && side == Side::Client {
        return None;
    }
    let how = if last.reset { "reset" } else { "closed" };
    let mut text = format!("the {} {how} a connection that had been established", side.name());
    if let Some(status) = status {
        text = format!("{text}; the client's status: {} {}", status.code, cut(&status.text));
    }
    Some(Finding::new(Phase::Rpc, format!("rpc.closed.by-{}", side.name()), Certainty::Observed, text))
}

/// The status that the client ended with.
fn status(e: &Evidence) -> Option<Finding> {
    let client = e.client.as_ref()?;
    let status = client.status.as_ref().filter(|s| s.code != "OK")?;
    // Before there was a connection a status is only the library's wrapping of something else.
    if matches!(client.phase, Some(Phase::Spawn | Phase::Handshake | Phase::Connect | Phase::Tls)) {
        return None;
    }
    let words = if status.text.is_empty() { String::new() } else { format!(": {}", cut(&status.text)) };
    if status.code == "DEADLINE_EXCEEDED" {
        let text = format!("the call's deadline passed{words}; {}", state(e));
        return Some(Finding::new(Phase::Rpc, "rpc.deadline", Certainty::Reported, text));
    }
    let hint = hints::of(&status.text).filter(|_| status.code == "UNAVAILABLE");
    if let Some((phase, code)) = hint {
        // The relay was not there, or saw nothing: then the text is all that there is.
        let text = format!("the client's library says {}{words}", status.code);
        return Some(Finding::new(phase, code, Certainty::Reported, text));
    }
    let text = format!("the call ended with status {}{words}", status.code);
    Some(Finding::new(Phase::Rpc, format!("rpc.status.{}", status.code), Certainty::Reported, text))
}

/// A budget of the engine's own ran out.
fn ran_out(e: &Evidence) -> Option<Finding> {
    let out = e.timeout.as_ref()?;
    let phase = match wire::relevant(e).map(wire::phase) {
        Some(phase) if out.phase != Phase::Check => phase,
        _ => out.phase,
    };
    let text = format!("waited {} ms for {} in vain; {}", out.budget_ms, out.waiting_for.replace('-', " "), state(e));
    Some(Finding::new(phase, format!("timeout.{}", out.waiting_for), Certainty::Observed, text))
}

/// How wire and processes looked, for failures that are no more than silence.
fn state(e: &Evidence) -> String {
    let mut parts = vec![wire::state(e)];
    for process in &e.processes {
        let how = process.exit.map_or_else(|| "still runs".to_owned(), ended);
        parts.push(format!("the {}'s process {how}", process.side.name()));
    }
    parts.join("; ")
}

fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with status {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
    }
}

/// The last words of a process, to follow a sentence.
fn quote(process: &ProcessReport) -> String {
    let lines: Vec<&str> = process.stderr_tail.iter().map(|l| l.trim()).filter(|l| !l.is_empty()).collect();
    let from = lines.len().saturating_sub(STDERR_LINES);
    if lines.is_empty() { String::new() } else { format!("; its last words: {}", cut(&lines[from..].join(" / "))) }
}

fn texts(e: &Evidence) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        let text = cut(text.trim());
        if !text.is_empty() && texts.len() < MAX_TEXTS && !texts.contains(&text) {
            texts.push(text);
        }
    };
    for told in [&e.client, &e.server].into_iter().flatten() {
        add(&told.error);
        told.native.iter().for_each(|n| add(n));
        told.status.iter().for_each(|s| add(&s.text));
    }
    for process in &e.processes {
        let from = process.stderr_tail.len().saturating_sub(STDERR_LINES);
        process.stderr_tail[from..].iter().for_each(|line| add(line));
    }
    texts
}

/// Foreign text on one line, bounded.
fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        out.push('…');
    }
    out
}
