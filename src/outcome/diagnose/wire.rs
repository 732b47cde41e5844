//! What the wire says of a connection that did not come to be.
//!
//! Plaintext alerts are taken at their word. Everything after `ServerHello` of TLS 1.3 is
//! deduced: from the length of records, from who closed, and from what the client's offers allow.
//! Facts behind the rules, measured: Go and Java send an alert and close; grpcio and Node close
//! without one; a client without an acceptable certificate sends an empty one; a server that can
//! sign with nothing that the client offers sends `handshake_failure` instead of `ServerHello`.

use super::{Finding, hints, names};
use crate::axis::values::KeyType;
use crate::outcome::evidence::{Evidence, Opening, Side, WireReport};
use crate::outcome::records::{self, ClientFlight};
use crate::outcome::{Certainty, Exit, Phase};

/// The connection that the failure is about: the last one that is no mere probe; while a retry is
/// under way, the last one that came to an end.
pub(super) fn relevant(e: &Evidence) -> Option<&WireReport> {
    let probe = |w: &&WireReport| {
        w.refused.is_none() && w.client_opening == Opening::Nothing && w.closed_by == Some(Side::Client)
    };
    let mut newest = e.wire.iter().rev().filter(|w| !probe(w));
    let last = newest.next()?;
    let under_way = phase(last) != Phase::Rpc && last.closed_by.is_none() && last.refused.is_none();
    if under_way && last.alerts.is_empty() {
        return Some(newest.find(|w| w.closed_by.is_some() || w.refused.is_some()).unwrap_or(last));
    }
    Some(last)
}

/// How far a connection came.
pub(super) fn phase(w: &WireReport) -> Phase {
    let tls = w.client_opening == Opening::Tls || w.server_opening == Opening::Tls;
    if w.established == Some(true) {
        Phase::Rpc
    } else if tls {
        Phase::Tls
    } else if w.client_opening == Opening::Nothing {
        Phase::Connect
    } else {
        Phase::Rpc
    }
}

/// The connection in one clause, for failures that are no more than silence.
pub(super) fn state(e: &Evidence) -> String {
    let Some(w) = relevant(e) else { return "no connection was seen".into() };
    let end = match w.closed_by {
        Some(side) => format!("closed by the {}", side.name()),
        None => "still open".into(),
    };
    let how = match phase(w) {
        Phase::Connect if w.refused.is_some() => "refused".into(),
        Phase::Connect => format!("accepted, the client has sent nothing, {end}"),
        Phase::Tls if w.server_opening == Opening::Nothing => {
            format!("in the TLS handshake, the server has sent nothing, {end}")
        }
        Phase::Tls => format!("in the TLS handshake, {end}"),
        _ if w.server_bytes == 0 => format!("the server has sent nothing, {end}"),
        _ => format!(
            "{} with {} bytes of the client and {} of the server, {end}",
            kind(w),
            w.client_bytes,
            w.server_bytes
        ),
    };
    format!("the connection was {how}")
}

fn kind(w: &WireReport) -> &'static str {
    if w.established == Some(true) { "in use over TLS" } else { "in use in plaintext" }
}

/// What the system says when this process may open no more files (`EMFILE`).
const NO_DESCRIPTORS: &str = "(os error 24)";

/// The finding of the wire: `None` where the connection works, or is still under way.
pub(super) fn read(e: &Evidence) -> Option<Finding> {
    let found = one(e, relevant(e)?)?;
    if !found.code.starts_with("tls.closed") {
        return Some(found);
    }
    // A host that dials again may be cut off by the end of the plugin that it kills itself: what an
    // earlier connection was refused for says more.
    let earlier = e.wire.iter().rev().filter_map(|w| one(e, w));
    earlier.into_iter().find(|f| f.code.starts_with("tls.rejected")).or(Some(found))
}

fn one(e: &Evidence, w: &WireReport) -> Option<Finding> {
    if let Some(error) = w.refused.as_ref().filter(|error| error.contains(NO_DESCRIPTORS)) {
        let text = format!("the relay could not dial the server: {error}; raise the limit with `ulimit -n`");
        return Some(Finding::new(Phase::Connect, "engine.descriptors", Certainty::Observed, text));
    }
    if let Some(error) = &w.refused {
        let text = format!("the server's address could not be dialled: {error}");
        return Some(Finding::new(Phase::Connect, "connect.refused", Certainty::Observed, text));
    }
    if phase(w) != Phase::Tls && !matches!(w.client_opening, Opening::Http2 | Opening::Other(_)) {
        return None;
    }
    match (&w.client_opening, &w.server_opening) {
        (Opening::Tls, Opening::Http2 | Opening::Other(_)) => {
            let text = match &w.server_opening {
                Opening::Other(hex) => {
                    format!("the client began a TLS handshake, the server answered with {hex} (hex)")
                }
                _ => "the client began a TLS handshake, the server speaks HTTP/2 in plaintext".into(),
            };
            Some(Finding::new(Phase::Tls, "tls.plaintext-server", Certainty::Observed, text))
        }
        (Opening::Http2 | Opening::Other(_), Opening::Tls) => {
            let text = "the client speaks in plaintext, the server expects TLS";
            Some(Finding::new(Phase::Tls, "tls.plaintext-client", Certainty::Observed, text))
        }
        (Opening::Http2, Opening::Nothing) if w.closed_by == Some(Side::Server) && expects_tls(e) => {
            let text = "the client speaks HTTP/2 in plaintext, and the server, which has a certificate, closed \
                        without an answer";
            Some(Finding::new(Phase::Tls, "tls.plaintext-client", Certainty::Deduced, text))
        }
        // What a side says first in plaintext must be HTTP/2 (RFC 9113 section 3.4).
        (Opening::Http2, Opening::Other(hex)) => Some(no_http2(Side::Server, hex)),
        (Opening::Other(hex), Opening::Nothing | Opening::Http2 | Opening::Other(_)) => {
            Some(no_http2(Side::Client, hex))
        }
        (Opening::Tls, _) if w.established != Some(true) => handshake(e, w),
        _ => None,
    }
}

/// Bytes that are readable are shown so.
fn no_http2(side: Side, bytes: &str) -> Finding {
    let readable = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace();
    let shown = match hex::decode(bytes) {
        Ok(text) if text.iter().all(readable) => format!("`{}`", String::from_utf8_lossy(&text).escape_default()),
        _ => format!("{bytes} (hex)"),
    };
    let name = side.name();
    let text = format!("the {name} does not speak HTTP/2: it began with {shown}");
    Finding::new(Phase::Rpc, format!("rpc.http2.by-{name}"), Certainty::Observed, text)
}

fn expects_tls(e: &Evidence) -> bool {
    e.known.server_key.is_some() || e.handshake.as_ref().is_some_and(|h| h.server_cert.is_some() || h.auto_mtls)
}

/// A TLS handshake that did not come to its end.
fn handshake(e: &Evidence, w: &WireReport) -> Option<Finding> {
    if let Some(alert) = w.alerts.iter().find(|a| a.number != Some(0) && !is_goodbye(w, a.from)) {
        return Some(match alert.number {
            Some(number) => plain_alert(e, w, alert.from, number),
            None => hidden_alert(e, w, alert.from),
        });
    }
    let by = w.closed_by?;
    let (who, how) = (by.name(), if w.reset { "reset the connection" } else { "closed" });
    let bare = format!("tls.closed.by-{who}");
    let closed = |text: String| Finding::new(Phase::Tls, bare.as_str(), Certainty::Observed, text);
    if w.server_hello.is_none() {
        if by == Side::Client {
            if let Some(group) = w.retry_group.filter(|g| !offered_group(w, *g)) {
                let text =
                    format!("the server asked for a key share of group {group:#06x}, which the client does not offer");
                return Some(Finding::new(Phase::Tls, "tls.no-common.group", Certainty::Deduced, text));
            }
        } else if let Some(text) = mismatch(e, w) {
            let text = format!("the server {how} instead of answering the ClientHello: {text}");
            return Some(rejected_by_client(".signature", Certainty::Deduced, text));
        }
        return Some(closed(format!("the {who} {how} without an alert before the server's hello")));
    }
    let version = version(w);
    let flight = flight(w);
    match (by, flight) {
        (Side::Client, None) => {
            if !crashed(e, Side::Client) && server_flight_seen(w) {
                let mut text =
                    format!("the client {how} without an alert right after the server's certificate flight ({version}");
                text.push_str(
                    &server_key(e, w).map_or_else(String::new, |(k, from)| format!(", {} key {from}", names::key(k))),
                );
                text.push(')');
                if let Some(found) = unable_to_sign(e, w, &text) {
                    return Some(found);
                }
                let (suffix, more) = match mismatch(e, w) {
                    Some(more) => (".signature", format!(": {more}")),
                    None => ("", String::new()),
                };
                return Some(rejected_by_client(suffix, Certainty::Deduced, text + &more));
            }
            Some(closed(format!("the client {how} without an alert after the server's hello ({version})")))
        }
        (Side::Client, Some(_)) => Some(closed(format!(
            "the client {how} after its part of the handshake ({version}), which the server had not answered"
        ))),
        (Side::Server, Some(flight)) if flight != ClientFlight::NotAsked && !crashed(e, Side::Server) => {
            if flight == ClientFlight::Empty
                && let Some(found) = withheld(e, &format!("the server {how} without an alert"))
            {
                return Some(found);
            }
            let text = format!("the server {how} without an alert right after {} ({version})", shown(e, w, flight));
            Some(rejected_by_server(flight, Certainty::Deduced, text))
        }
        (Side::Server, _) => {
            let when = if flight.is_some() { "the client's part of the handshake" } else { "its own hello" };
            Some(closed(format!("the server {how} without an alert after {when} ({version})")))
        }
    }
}

/// The code of an alert with this number, where it has a meaning of its own: used for alerts that
/// an end of our own could decrypt.
pub(super) fn alert(e: &Evidence, from: Side, number: u8) -> Option<String> {
    let nothing = WireReport::new(crate::axis::values::Transport::Tcp);
    let w = relevant(e).unwrap_or(&nothing);
    let code = plain_alert(e, w, from, number).code;
    (!code.starts_with("tls.alert")).then_some(code)
}

fn plain_alert(e: &Evidence, w: &WireReport, from: Side, number: u8) -> Finding {
    let name = names::alert(number).map_or_else(|| number.to_string(), Into::into);
    let when = if w.server_hello.is_some() { version(w) } else { "before the server's hello".into() };
    let said = format!("the {} sent the alert {name} ({number}; {when})", from.name());
    let found = match (from, number) {
        (Side::Client, 42..=46 | 48 | 113) => rejected_by_client(of_certificate(number), Certainty::Observed, said),
        (Side::Server, 116) => rejected_by_server(ClientFlight::Empty, Certainty::Observed, said),
        // Before TLS 1.3 there is no alert for a missing certificate: servers send one of these.
        (Side::Server, 40 | 42) if w.certificate_request && w.client_cert_shown == Some(false) => {
            let text = format!("{said} after the client had shown no certificate");
            rejected_by_server(ClientFlight::Empty, Certainty::Observed, text)
        }
        (Side::Server, 42..=46 | 48) => {
            let mut found = rejected_by_server(ClientFlight::Shown, Certainty::Observed, said);
            found.code.push_str(of_certificate(number));
            found
        }
        (_, 70) => {
            let offers = w.client_hello.as_ref().map_or_else(String::new, |h| {
                let list: Vec<String> =
                    h.versions.iter().copied().filter(|v| v & 0xff00 == 0x0300).map(names::version).collect();
                format!("; the client offers {}", list.join(", "))
            });
            Finding::new(Phase::Tls, "tls.no-common.version", Certainty::Observed, said + &offers)
        }
        (Side::Server, 40) if w.server_hello.is_none() => match mismatch(e, w) {
            Some(why) => rejected_by_client(".signature", Certainty::Deduced, format!("{said}: {why}")),
            None => Finding::new(Phase::Tls, "tls.alert.handshake-failure.from-server", Certainty::Observed, said),
        },
        (_, 0 | 90) => Finding::new(Phase::Tls, format!("tls.closed.by-{}", from.name()), Certainty::Observed, said),
        _ => Finding::new(Phase::Tls, format!("tls.alert.{name}.from-{}", from.name()), Certainty::Observed, said),
    };
    found.with_alert(Some(number))
}

/// An alert whose number nobody outside can read.
fn hidden_alert(e: &Evidence, w: &WireReport, from: Side) -> Finding {
    let version = version(w);
    let flight = flight(w);
    match (from, flight) {
        (Side::Client, None) => {
            let mut text =
                format!("the client sent an encrypted alert instead of its part of the handshake ({version}");
            text.push_str(
                &server_key(e, w).map_or_else(String::new, |(k, from)| format!("; {} key {from}", names::key(k))),
            );
            text.push(')');
            match mismatch(e, w) {
                Some(why) => rejected_by_client(".signature", Certainty::Deduced, format!("{text}: {why}")),
                None => rejected_by_client("", Certainty::Deduced, text),
            }
        }
        (Side::Server, Some(ClientFlight::Empty)) if let Some(found) = withheld(e, "the server sent an alert") => found,
        (Side::Server, Some(flight)) if flight != ClientFlight::NotAsked => {
            let text = format!("the server sent an encrypted alert right after {} ({version})", shown(e, w, flight));
            rejected_by_server(flight, Certainty::Deduced, text)
        }
        // Its certificate, and then an alert in the place of the signature that belongs to it.
        (Side::Client, Some(ClientFlight::Shown)) if w.client_records.len() == 2 => no_signature(
            e,
            w,
            &format!("the client sent its certificate, and an encrypted alert instead of its signature ({version})"),
        ),
        (Side::Client, Some(_)) => {
            let text = format!(
                "the client left after its part of the handshake ({version}), which the server had not answered"
            );
            Finding::new(Phase::Tls, "tls.closed.by-client", Certainty::Deduced, text)
        }
        // rustls finds out that no scheme fits only when it has to sign, after its hello.
        (Side::Server, None) if let Some(why) = mismatch(e, w) => {
            let text = format!("the server sent an encrypted alert instead of its certificate ({version}): {why}");
            rejected_by_client(".signature", Certainty::Deduced, text)
        }
        (Side::Server, flight) => {
            let asked = if flight.is_some() { "; it had asked for no certificate" } else { "" };
            let text = format!("the server sent an encrypted alert ({version}){asked}");
            Finding::new(Phase::Tls, "tls.alert.unread.from-server", Certainty::Deduced, text)
        }
    }
}

/// A client that left right after the server's certificate did not accept it, or could not sign for
/// its own: from outside both look the same, so here its words decide.
fn unable_to_sign(e: &Evidence, w: &WireReport, seen: &str) -> Option<Finding> {
    client_key(e, w)?;
    (mismatch(e, w).is_none() && hints::of_client(e) == Some("tls.no-common.signature")).then(|| {
        let found = no_signature(e, w, seen);
        Finding { certainty: Certainty::Reported, text: format!("{}, it says", found.text), ..found }
    })
}

/// The built-in client shows its certificate to every server that accepts its kind of signature.
fn withheld(e: &Evidence, what: &str) -> Option<Finding> {
    let key = e.known.client_key.filter(|_| e.client.as_ref().is_some_and(|c| c.cause.is_some()))?;
    let text = format!(
        "{what} right after the client had shown no certificate: none of the server's signature schemes fits its {} key",
        names::key(key)
    );
    Some(Finding::new(Phase::Tls, "tls.no-common.signature", Certainty::Deduced, text))
}

fn no_signature(e: &Evidence, w: &WireReport, seen: &str) -> Finding {
    let key = client_key(e, w).map_or_else(|| "the client's".to_owned(), |k| format!("the client's {}", names::key(k)));
    let text = format!("{seen}: none of the server's signature schemes fits {key} key");
    Finding::new(Phase::Tls, "tls.no-common.signature", Certainty::Deduced, text)
}

fn rejected_by_client(suffix: &str, certainty: Certainty, text: impl Into<String>) -> Finding {
    Finding::new(Phase::Tls, format!("tls.rejected.server-cert.by-client{suffix}"), certainty, text)
}

fn rejected_by_server(flight: ClientFlight, certainty: Certainty, text: impl Into<String>) -> Finding {
    let suffix = if flight == ClientFlight::Empty { ".missing" } else { "" };
    Finding::new(Phase::Tls, format!("tls.rejected.client-cert.by-server{suffix}"), certainty, text)
}

/// A client that has done its part, and more, takes its leave of a server that has closed already:
/// Go sends its `close_notify` then, which nobody outside can read.
fn is_goodbye(w: &WireReport, from: Side) -> bool {
    let gone = from == Side::Client && w.closed_by == Some(Side::Server);
    gone && w.client_records.len() > 2 && matches!(flight(w), Some(ClientFlight::Shown | ClientFlight::Empty))
}

/// What an alert about a certificate says of it. `bad_certificate` and `certificate_unknown` are
/// what stacks send for everything from a wrong name to a failed pin.
const fn of_certificate(number: u8) -> &'static str {
    match number {
        45 => ".expired",
        48 => ".unknown-ca",
        _ => "",
    }
}

/// The client's part of the handshake; `None` while it has not come.
fn flight(w: &WireReport) -> Option<ClientFlight> {
    let hello = w.server_hello.as_ref()?;
    if let Some(first) = w.client_records.first() {
        match records::first_record(hello.cipher, *first) {
            Some(ClientFlight::Alert) => return None,
            Some(flight) => return Some(flight),
            None => {}
        }
    }
    // TLS 1.2: in plaintext.
    match (w.certificate_request, w.client_cert_shown?) {
        (_, true) => Some(ClientFlight::Shown),
        (true, false) => Some(ClientFlight::Empty),
        (false, false) => Some(ClientFlight::NotAsked),
    }
}

/// The key of the client's certificate, as it was shown, announced or given to the client.
fn client_key(e: &Evidence, w: &WireReport) -> Option<KeyType> {
    let shown = w.client_cert.as_ref().and_then(|c| c.key);
    shown.or_else(|| e.handshake.as_ref().and_then(|h| h.client_cert.as_ref()?.key)).or(e.known.client_key)
}

fn shown(e: &Evidence, w: &WireReport, flight: ClientFlight) -> String {
    match (flight, client_key(e, w)) {
        (ClientFlight::Shown, Some(key)) => format!("the client had shown its certificate ({} key)", names::key(key)),
        (ClientFlight::Shown, None) => "the client had shown its certificate".into(),
        (_, Some(key)) => {
            format!("the client had shown no certificate, although it has one with a {} key", names::key(key))
        }
        _ => "the client had shown no certificate".into(),
    }
}

fn version(w: &WireReport) -> String {
    w.server_hello.as_ref().map_or_else(|| "no version chosen".into(), |h| names::version(h.version))
}

fn offered_group(w: &WireReport, group: u16) -> bool {
    w.client_hello.as_ref().is_none_or(|h| h.groups.is_empty() || h.groups.contains(&group))
}

/// Under TLS 1.3 any encrypted record of the server, under TLS 1.2 its certificate.
fn server_flight_seen(w: &WireReport) -> bool {
    !w.server_records.is_empty() || w.server_cert.is_some()
}

/// The server certificate's key, and how it is known.
fn server_key(e: &Evidence, w: &WireReport) -> Option<(KeyType, &'static str)> {
    let on_wire = || w.server_cert.as_ref()?.key.map(|k| (k, "shown on the wire"));
    let announced = || e.handshake.as_ref()?.server_cert.as_ref()?.key.map(|k| (k, "announced in field 6"));
    let signed = || {
        let hello = w.server_hello.as_ref()?;
        records::signing_key(Side::Server, hello.cipher, &w.server_records)
            .map(|k| (k, "by the length of its signature"))
    };
    on_wire().or_else(announced).or_else(signed).or_else(|| e.known.server_key.map(|k| (k, "given to the server")))
}

/// Says that the client's offers exclude the server's key, if they do.
fn mismatch(e: &Evidence, w: &WireReport) -> Option<String> {
    let hello = w.client_hello.as_ref()?;
    let (key, from) = server_key(e, w)?;
    let version = w.server_hello.as_ref().map(|h| h.version);
    names::cannot_verify(hello, version, key).then(|| {
        let key = names::key(key);
        let article = if key.starts_with(['E', 'R']) { "an" } else { "a" };
        let schemes = hello.signature_schemes.len();
        format!("none of the client's {schemes} signature schemes fits {article} {key} key ({from})")
    })
}

/// The process of this side is gone by its own doing, so that its closing says nothing.
fn crashed(e: &Evidence, side: Side) -> bool {
    e.processes.iter().any(|p| {
        p.side == side && !p.asked_to_end && !matches!(p.exit, None | Some(Exit::Code(0) | Exit::Signal(2 | 9 | 15)))
    })
}
