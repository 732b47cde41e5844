//! Requested facts held against what the evidence says was in force. Pure. L2.
//!
//! Every source of a fact gives a reading with its certainty; the most certain one is the effective
//! value, and readings that disagree with it are named beside it. Where there is no reading the
//! answer is `not-observable`, never "as requested".
//!
//! | fact | observed | deduced | reported |
//! |---|---|---|---|
//! | `tls` | our own end, handshake or plaintext on the wire | client's certificate under TLS 1.3, by record length | a driver |
//! | `key`, `client_key` | our own end, certificate on a TLS 1.2 wire | pinned or issued certificate of a connection that worked, length of a signature | a driver's digest of a known certificate |
//! | `tls_version`, `group` | `ServerHello`, our own end | | a driver |
//! | `transport` | relay, our own end | | a driver |
//! | `protocol` | handshake line | | |

use super::evidence::{CertFacts, ConnectionFacts, Evidence, Opening, Side, WireReport};
use super::{Certainty, Effective, FactReading, records};
use crate::axis::values::{Group, KeyType, Request, TlsMode, TlsVersion, Transport};

/// What one source says of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading<T> {
    value: T,
    certainty: Certainty,
    source: String,
}

fn reading<T>(value: T, certainty: Certainty, source: impl Into<String>) -> Reading<T> {
    Reading { value, certainty, source: source.into() }
}

/// Readings of all facts that were requested or can be seen.
///
/// `ends`: what the two ends know of the connection that was used, newest last. `passed`: the
/// case's calls succeeded over it, which is what deductions from pinned and issued certificates
/// need. `report_only`: the reason that an axis gives for only reporting this effective value of a
/// fact (`effective: report`).
#[must_use]
pub fn effective(
    request: &Request,
    evidence: &Evidence,
    ends: &[ConnectionFacts],
    passed: bool,
    report_only: &dyn Fn(&str, &Effective) -> Option<String>,
) -> Vec<FactReading> {
    let seen = Seen { request, evidence, ends, passed, wire: working(&evidence.wire) };
    let encrypted = best(seen.encrypted());
    let plain = encrypted.as_ref().is_some_and(|e| !e.value);
    // A plaintext connection has no certificates, version and groups; that it is one is said by `tls`.
    let inside = |readings: Vec<Reading<String>>| {
        if plain { Err("the connection is in plaintext".into()) } else { pick(readings) }
    };
    let facts = [
        ("tls", request.tls.map(TlsMode::name), seen.tls(encrypted.as_ref())),
        ("key", request.key.map(KeyType::name), inside(names(seen.server_key()))),
        ("client_key", request.client_key.map(KeyType::name), inside(names(seen.client_key()))),
        ("tls_version", request.tls_version.map(TlsVersion::name), inside(seen.version())),
        ("group", request.group.map(Group::name), inside(seen.group())),
        ("transport", request.transport.map(Transport::name), pick(seen.transport())),
        ("protocol", None, pick(seen.protocol())),
    ];
    let mut out = Vec::new();
    for (fact, requested, result) in facts {
        let (effective, certainty, source) = match result {
            Ok(r) => (Effective::Value(r.value), Some(r.certainty), r.source),
            // What nobody asked for and nobody can see is no news.
            Err(_) if requested.is_none() => continue,
            Err(why) => (Effective::NotObservable, None, why),
        };
        let requested = requested.map(str::to_owned);
        let report_only = report_only(fact, &effective);
        out.push(FactReading { fact: fact.to_owned(), requested, effective, certainty, source, report_only });
    }
    out
}

/// The connection that was in use: the last one that came to carry HTTP/2.
fn working(wire: &[WireReport]) -> Option<&WireReport> {
    let plaintext = |w: &WireReport| w.client_opening == Opening::Http2 && w.server_opening == Opening::Http2;
    wire.iter().rev().find(|w| w.established == Some(true) || plaintext(w))
}

/// The most certain reading; the first of equals. Others that say something else are named in its
/// source.
fn best<T: PartialEq + std::fmt::Display>(readings: Vec<Reading<T>>) -> Option<Reading<T>> {
    let top = readings.iter().map(|r| r.certainty).max()?;
    let at = readings.iter().position(|r| r.certainty == top)?;
    let mut readings = readings;
    let mut winner = readings.remove(at);
    for other in readings {
        if other.value != winner.value {
            let more = format!("; but {} says {} ({})", other.source, other.value, other.certainty.name());
            winner.source.push_str(&more);
        }
    }
    Some(winner)
}

fn pick(readings: Vec<Reading<String>>) -> Result<Reading<String>, String> {
    best(readings).ok_or_else(|| "nothing in the evidence tells".into())
}

fn names(readings: Vec<Reading<KeyType>>) -> Vec<Reading<String>> {
    readings.into_iter().map(|r| reading(r.value.name().to_owned(), r.certainty, r.source)).collect()
}

struct Seen<'a> {
    request: &'a Request,
    evidence: &'a Evidence,
    ends: &'a [ConnectionFacts],
    passed: bool,
    wire: Option<&'a WireReport>,
}

impl Seen<'_> {
    /// What the ends say, newest first.
    fn ends<T>(&self, of: impl Fn(&ConnectionFacts) -> Option<T>) -> Vec<Reading<T>> {
        let newest = self.ends.iter().rev();
        newest
            .filter_map(|end| Some(reading(of(end)?, end.certainty, format!("the {}'s end", end.side.name()))))
            .collect()
    }

    fn encrypted(&self) -> Vec<Reading<bool>> {
        let mut found = self.ends(|end| end.tls);
        if let Some(w) = self.wire {
            let tls = w.established == Some(true);
            let source = if tls { "TLS handshake on the wire" } else { "HTTP/2 in plaintext on the wire" };
            found.push(reading(tls, Certainty::Observed, source));
        }
        found
    }

    /// Whether the client showed a certificate.
    fn shown(&self) -> Vec<Reading<bool>> {
        let mut found = self.ends(|end| {
            (end.side == Side::Server).then(|| {
                let has = end.peer_cert.is_some() || end.peer_cert_sha256.is_some();
                end.peer_cert_shown.or(has.then_some(true))
            })?
        });
        if let Some(w) = self.wire
            && let Some(shown) = w.client_cert_shown
        {
            found.push(if tls13(w) {
                reading(shown, Certainty::Deduced, "length of the client's first encrypted record")
            } else {
                reading(shown, Certainty::Observed, "client's Certificate message on the wire")
            });
        }
        found
    }

    fn tls(&self, encrypted: Option<&Reading<bool>>) -> Result<Reading<String>, String> {
        let encrypted = encrypted.ok_or("nothing in the evidence tells")?;
        let said = |value: &str, certainty, source: String| Ok(reading(value.to_owned(), certainty, source));
        if !encrypted.value {
            return said("none", encrypted.certainty, encrypted.source.clone());
        }
        let Some(shown) = best(self.shown()) else {
            let unknown = "whether the client showed a certificate cannot be seen";
            // That it is encrypted at all is news to a case that asked for plaintext.
            if matches!(self.request.tls, None | Some(TlsMode::None)) {
                return said("encrypted", encrypted.certainty, format!("{}; {unknown}", encrypted.source));
            }
            return Err(format!("encrypted ({}), but {unknown}", encrypted.source));
        };
        let certainty = encrypted.certainty.min(shown.certainty);
        let source = format!("{}; {}", encrypted.source, shown.source);
        // `auto` and `mutual` look the same on the wire; the switch is PLUGIN_CLIENT_CERT.
        let auto = self.evidence.handshake.as_ref().map_or(self.request.tls == Some(TlsMode::Auto), |h| h.auto_mtls);
        said(
            if !shown.value {
                "server"
            } else if auto {
                "auto"
            } else {
                "mutual"
            },
            certainty,
            source,
        )
    }

    fn server_key(&self) -> Vec<Reading<KeyType>> {
        let announced = self.evidence.handshake.as_ref().and_then(|h| h.server_cert.as_ref());
        let on_wire = self.wire.and_then(|w| w.server_cert.as_ref());
        let mut found = self.certificate(Side::Client, on_wire, announced);
        if let Some(w) = self.wire
            && let Some(hello) = &w.server_hello
            && let Some(key) = records::signing_key(Side::Server, hello.cipher, &w.server_records)
        {
            found.push(reading(key, Certainty::Deduced, "length of the server's signature"));
        }
        let pins = self.evidence.handshake.as_ref().is_some_and(|h| h.auto_mtls);
        if let Some(key) = announced.and_then(|c| c.key).filter(|_| pins && self.used_tls()) {
            found.push(reading(key, Certainty::Deduced, "field 6, which the client pins"));
        }
        if found.is_empty() && self.issued() {
            let known = self.evidence.known.server_key.filter(|_| self.used_tls());
            found.extend(known.map(|key| {
                reading(key, Certainty::Deduced, "issued by the run's authority, which the client verifies")
            }));
        }
        found
    }

    fn client_key(&self) -> Vec<Reading<KeyType>> {
        let shown = best(self.shown());
        if shown.as_ref().is_some_and(|s| !s.value) {
            return Vec::new();
        }
        let sent = self.evidence.handshake.as_ref().and_then(|h| h.client_cert.as_ref());
        let on_wire = self.wire.and_then(|w| w.client_cert.as_ref());
        let mut found = self.certificate(Side::Server, on_wire, sent);
        if let Some(w) = self.wire
            && let Some(hello) = &w.server_hello
            && let Some(key) = records::signing_key(Side::Client, hello.cipher, &w.client_records)
        {
            found.push(reading(key, Certainty::Deduced, "length of the client's signature"));
        }
        // A certificate that was shown to a server which is to verify it, and it was let in.
        let admitted = shown.is_some() && self.used_tls();
        if let Some(key) = sent.and_then(|c| c.key).filter(|_| admitted) {
            found.push(reading(key, Certainty::Deduced, "PLUGIN_CLIENT_CERT, with which the client was let in"));
        }
        if found.is_empty() && admitted && self.issued() && self.request.tls == Some(TlsMode::Mutual) {
            let known = self.evidence.known.client_key;
            found.extend(known.map(|key| {
                reading(key, Certainty::Deduced, "issued by the run's authority, which the server verifies")
            }));
        }
        found
    }

    /// A certificate as the end `verifier` knows it, as it stands on the wire, and by the digest
    /// that a driver told if it is that of a certificate known otherwise.
    fn certificate(
        &self,
        verifier: Side,
        on_wire: Option<&CertFacts>,
        known: Option<&CertFacts>,
    ) -> Vec<Reading<KeyType>> {
        let mut found = self.ends(|end| end.peer_cert.as_ref().filter(|_| end.side == verifier)?.key);
        found.extend(
            on_wire.and_then(|c| c.key).map(|key| reading(key, Certainty::Observed, "certificate on the wire")),
        );
        for end in self.ends.iter().rev().filter(|end| end.side == verifier) {
            let Some(digest) = &end.peer_cert_sha256 else { continue };
            let same = [on_wire, known].into_iter().flatten().find(|c| c.sha256.eq_ignore_ascii_case(digest));
            let source = format!("digest told by the {}, of a known certificate", end.side.name());
            found.extend(same.and_then(|c| c.key).map(|key| reading(key, Certainty::Reported, source)));
        }
        found
    }

    /// The certificates are the run's own, not the user's files.
    fn issued(&self) -> bool {
        matches!(self.request.tls, Some(TlsMode::Server | TlsMode::Mutual)) && self.request.files.is_none()
    }

    /// The case's calls went through, over TLS.
    fn used_tls(&self) -> bool {
        self.passed && best(self.encrypted()).is_some_and(|e| e.value)
    }

    fn version(&self) -> Vec<Reading<String>> {
        let mut found = self.ends(|end| end.version.map(version));
        if let Some(hello) = self.wire.and_then(|w| w.server_hello.as_ref()) {
            found.push(reading(version(hello.version), Certainty::Observed, "server hello"));
        }
        found
    }

    fn group(&self) -> Vec<Reading<String>> {
        let mut found = self.ends(|end| end.group.map(group));
        if let Some(hello) = self.wire.and_then(|w| w.server_hello.as_ref()) {
            let source = if hello.version == 0x0304 { "server hello" } else { "server key exchange" };
            found.extend(hello.group.map(|g| reading(group(g), Certainty::Observed, source)));
        }
        found
    }

    fn transport(&self) -> Vec<Reading<String>> {
        let mut found = self.ends(|end| end.transport.map(|t| t.name().to_owned()));
        if let Some(w) = self.wire {
            found.push(reading(w.transport.name().to_owned(), Certainty::Observed, "relay"));
        }
        found
    }

    fn protocol(&self) -> Vec<Reading<String>> {
        let line = self.evidence.handshake.as_ref().and_then(|h| h.protocol);
        line.map(|p| reading(p.to_string(), Certainty::Observed, "handshake line")).into_iter().collect()
    }
}

fn tls13(w: &WireReport) -> bool {
    w.server_hello.as_ref().is_some_and(|h| h.version == 0x0304)
}

/// An axis value's name, or the number.
fn version(number: u16) -> String {
    match number {
        0x0303 => TlsVersion::V1_2.name().to_owned(),
        0x0304 => TlsVersion::V1_3.name().to_owned(),
        other => format!("{other:#06x}"),
    }
}

/// An axis value's name, or the number (IANA TLS Supported Groups).
fn group(number: u16) -> String {
    match number {
        0x001d => Group::X25519.name().to_owned(),
        0x0017 => Group::Secp256r1.name().to_owned(),
        0x0018 => Group::Secp384r1.name().to_owned(),
        0x0019 => Group::Secp521r1.name().to_owned(),
        0x11ec => Group::X25519Mlkem768.name().to_owned(),
        other => format!("{other:#06x}"),
    }
}

#[cfg(test)]
#[path = "effective_tests.rs"]
mod tests;
