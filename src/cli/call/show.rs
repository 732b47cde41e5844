//! What comes back, for people or as JSON; each message as it comes.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::what::Call;
use crate::dynamic::{path, to_words};
use crate::outcome::evidence::ConnectionFacts;
use crate::peer::{CallResult, Metadata, PeerError};

/// How it is shown.
pub(super) struct Show {
    pub(super) json: bool,
    pub(super) verbose: bool,
}

impl Show {
    /// A message of a stream; `false` when nobody reads any more (`| head`).
    pub(super) fn message(&self, call: &Call, message: &Bytes) -> bool {
        if self.json { line(&json!({ "message": read(call, message) }).to_string()) } else { text(call, message) }
    }

    /// The end of a call; `streamed` messages were shown already.
    pub(super) fn end(
        &self,
        call: &Call,
        result: &CallResult,
        facts: Option<&ConnectionFacts>,
        (elapsed, streamed): (Duration, Option<usize>),
    ) {
        let ok = result.status.code == "OK";
        if self.json {
            line(&report(call, result, facts, elapsed, streamed).to_string());
            return;
        }
        if ok && streamed.is_none() {
            for message in &result.receive {
                text(call, message);
            }
        }
        if self.verbose {
            say_metadata("header", &result.headers);
        }
        if !ok || self.verbose {
            let origin = if result.local == Some(true) { " (said by this client itself)" } else { "" };
            // The text of a success is nobody's business.
            let text = if ok { String::new() } else { format!(": {}{origin}", result.status.text) };
            say(&format!("{}{text}", result.status.code));
        }
        if self.verbose {
            say_metadata("trailer", &result.trailers);
            let count = streamed.unwrap_or(result.receive.len());
            let word = if count == 1 { "message" } else { "messages" };
            say(&format!("{count} {word} in {} ms{}", elapsed.as_millis(), facts.map(protection).unwrap_or_default()));
        }
    }

    /// No call came about, or its end is not known.
    pub(super) fn failure(&self, error: &PeerError) {
        let cause = error.reported.cause.as_ref();
        if self.json {
            let report = json!({
                "error": error.reported.error,
                "phase": error.reported.phase,
                "cause": cause,
                "timed_out": error.timed_out,
            });
            line(&report.to_string());
        } else {
            let code = cause.map(|cause| format!(" ({})", cause.code)).unwrap_or_default();
            // A library's own words may be as short as `EOF`.
            let phase = error.reported.phase.filter(|_| cause.is_none());
            let phase = phase.map(|phase| format!("failed in {}: ", phase.name())).unwrap_or_default();
            say(&format!("{phase}{}{code}", error.reported.error));
        }
    }
}

fn protection(facts: &ConnectionFacts) -> String {
    match (facts.tls, facts.version) {
        (Some(false), _) => ", without TLS".to_owned(),
        (_, Some(0x0303)) => ", TLS 1.2".to_owned(),
        (_, Some(0x0304)) => ", TLS 1.3".to_owned(),
        (Some(true), _) => ", TLS".to_owned(),
        _ => String::new(),
    }
}

/// A message as a value: what the op yields, or all of it.
fn read(call: &Call, message: &Bytes) -> Value {
    let Some(method) = &call.codec else { return json!(hex::encode(message)) };
    match method.decode(message) {
        Ok(value) => match &call.yields {
            Some(yields) => path::find(&value, yields).cloned().unwrap_or_default(),
            None => value,
        },
        Err(error) => json!(error.to_string()),
    }
}

fn text(call: &Call, message: &Bytes) -> bool {
    match read(call, message) {
        Value::String(text) => line(&text),
        value => match value.get("$base64").and_then(Value::as_str) {
            // As it is: it is no text.
            Some(encoded) if call.yields.is_some() => {
                let mut bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
                bytes.push(b'\n');
                write(&bytes)
            }
            _ if call.service.is_some() => {
                let words = to_words(&value);
                words.is_empty() || line(&words)
            }
            _ => line(&value.to_string()),
        },
    }
}

fn report(
    call: &Call,
    result: &CallResult,
    facts: Option<&ConnectionFacts>,
    elapsed: Duration,
    streamed: Option<usize>,
) -> Value {
    let mut report = Map::new();
    let mut put = |name: &str, value: Value| report.insert(name.to_owned(), value);
    put("method", json!(call.path));
    put("status", json!(result.status));
    put("local", json!(result.local));
    let mut messages = result.receive.iter().map(|message| read(call, message));
    match streamed {
        Some(count) => put("received", json!(count)),
        None if call.yields.is_some() => put("value", messages.next().unwrap_or_default()),
        None => put("messages", messages.collect()),
    };
    put("headers", metadata_json(&result.headers));
    put("trailers", metadata_json(&result.trailers));
    put("cause", json!(result.reported.as_ref().and_then(|reported| reported.cause.as_ref())));
    put("connection", json!(facts));
    put("elapsed_ms", json!(elapsed.as_millis()));
    Value::Object(report)
}

fn metadata_json(metadata: &Metadata) -> Value {
    metadata.iter().map(|(name, value)| json!([name, crate::dynamic::expect::value(value)])).collect()
}

fn say_metadata(what: &str, metadata: &Metadata) {
    for (name, value) in metadata {
        let shown = match std::str::from_utf8(value) {
            Ok(text) if !name.ends_with("-bin") => text.to_owned(),
            _ => base64::engine::general_purpose::STANDARD.encode(value),
        };
        say(&format!("{what} {name}: {}", shown.escape_debug()));
    }
}

fn line(text: &str) -> bool {
    write(format!("{text}\n").as_bytes())
}

fn write(bytes: &[u8]) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
