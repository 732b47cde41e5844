//! The handshake line: `core|protocol|network|address|kind|cert|multiplex`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::outcome::evidence::{CertFacts, HandshakeProblem, HandshakeReport};
use crate::pki::cert_facts;
use crate::transport::Target;

/// The most bytes that are read for a line (go-plugin reads 64 KiB at a time).
pub const LINE_LIMIT: usize = 64 << 10;

/// The only core version there is; field 1.
pub const CORE_VERSION: &str = "1";

/// Field 6 counts as a certificate only when longer than this: old plugins print other things there.
const CERT_MIN: usize = 50;

/// The most of a foreign line that is kept for people, in characters.
const KEPT: usize = 4096;

/// The protocol of field 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `grpc`.
    Grpc,
    /// `netrpc`, also what a missing field means.
    Netrpc,
}

/// A well-formed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Application protocol version, field 2.
    pub protocol: u32,
    /// Fields 3 and 4.
    pub target: Target,
    /// Field 5.
    pub kind: Kind,
    /// The DER of field 6, when it holds a certificate.
    pub cert: Option<Vec<u8>>,
    /// Field 7, when present.
    pub multiplex: Option<bool>,
}

impl fmt::Display for Line {
    /// The line without its newline. All of fields 1 to 6 are always there: pyvider-rpcplugin's host
    /// refuses fewer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (network, address) = address_fields(&self.target);
        let kind = match self.kind {
            Kind::Grpc => "grpc",
            Kind::Netrpc => "netrpc",
        };
        let cert = self.cert.as_deref().map(encode_cert).unwrap_or_default();
        write!(f, "{CORE_VERSION}|{}|{network}|{address}|{kind}|{cert}", self.protocol)?;
        if let Some(multiplex) = self.multiplex {
            write!(f, "|{multiplex}")?;
        }
        Ok(())
    }
}

/// A DER certificate as field 6 holds it: standard base64 without padding.
#[must_use]
pub fn encode_cert(der: &[u8]) -> String {
    STANDARD_NO_PAD.encode(der)
}

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The line, unless a host must refuse it. One with a problem that only some hosts refuse is here.
    pub line: Option<Line>,
    /// What is wrong with it by go-plugin's rules.
    pub problem: Option<HandshakeProblem>,
    /// The text, lossy and bounded.
    pub text: String,
    /// Field 6 as a certificate, even where a host must refuse its encoding.
    pub cert: Option<CertFacts>,
    /// Field 2, even where the rest is refused.
    pub protocol: Option<u32>,
    /// Fields 3 and 4, even where the rest is refused.
    pub target: Option<Target>,
}

impl Reading {
    /// As evidence. `auto_mtls` and the client's certificate are what the host sent; `after_us` is
    /// the time from spawn to line in microseconds.
    #[must_use]
    pub fn report(&self, auto_mtls: bool, client_cert: Option<CertFacts>, after_us: u64) -> HandshakeReport {
        HandshakeReport {
            line: Some(self.text.clone()),
            problem: self.problem.clone(),
            protocol: self.protocol,
            cookie: None,
            server_cert: self.cert.clone(),
            client_cert,
            auto_mtls,
            after_us,
        }
    }
}

/// Reads the first line of a plugin's stdout, with or without its newline. `versions`: what the host
/// speaks; none means that any will do. `auto_mtls`: the host sent `PLUGIN_CLIENT_CERT` and so
/// depends on field 6. Problems that some real host accepts are not `certain`.
#[must_use]
pub fn read_line(bytes: &[u8], versions: &[u32], auto_mtls: bool) -> Reading {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let mut reading = Reading {
        line: None,
        problem: None,
        text: text.chars().take(KEPT).collect(),
        cert: None,
        protocol: None,
        target: None,
    };
    let mut parser = Parser { reading: &mut reading, versions, auto_mtls };
    match parser.parse(text, bytes.len()) {
        Ok(line) => reading.line = Some(line),
        Err(problem) => reading.problem = Some(problem),
    }
    reading
}

struct Parser<'a> {
    reading: &'a mut Reading,
    versions: &'a [u32],
    auto_mtls: bool,
}

fn refuse(code: &str, text: impl Into<String>) -> HandshakeProblem {
    HandshakeProblem { code: code.to_owned(), text: text.into(), certain: true }
}

/// A refusal that go-plugin's host makes and another real host (pyvider-rpcplugin's) does not.
fn doubt(code: &str, text: impl Into<String>) -> HandshakeProblem {
    HandshakeProblem { certain: false, ..refuse(code, text) }
}

/// A field for a sentence: short, whatever was printed.
fn show(field: &str) -> String {
    if field.chars().count() > 60 {
        format!("`{}…`", field.chars().take(60).collect::<String>())
    } else {
        format!("`{field}`")
    }
}

impl Parser<'_> {
    fn parse(&mut self, text: &str, length: usize) -> Result<Line, HandshakeProblem> {
        if length > LINE_LIMIT {
            let text = format!("the first line on stdout is longer than {LINE_LIMIT} bytes; is it a handshake line?");
            return Err(refuse("line.too-long", text));
        }
        let fields: Vec<&str> = text.split('|').collect();
        let &[core, protocol, network, address, ref rest @ ..] = fields.as_slice() else {
            return Err(if fields.len() == 1 {
                doubt(
                    "line.noise",
                    format!(
                        "the first line on stdout is {}, no handshake line; a plugin may print nothing before its line",
                        show(text)
                    ),
                )
            } else {
                let text = format!("the handshake line has {} of at least 4 fields: {}", fields.len(), show(text));
                refuse("line.too-few-fields", text)
            });
        };
        match core.parse::<i64>() {
            Ok(1) => {}
            Ok(_) => {
                let text = format!("the plugin speaks core version {}, hosts speak {CORE_VERSION}", show(core));
                return Err(refuse("line.core-version", text));
            }
            Err(_) => {
                let text =
                    format!("the first field is {}, not the core version; was the line printed whole?", show(core));
                return Err(doubt("line.noise", text));
            }
        }
        let protocol: u32 = protocol.parse().map_err(|_| {
            refuse("line.protocol", format!("the protocol version {} is no number from 0", show(protocol)))
        })?;
        self.reading.protocol = Some(protocol);
        // Looked at first, so that a report shows them whatever else is wrong.
        let cert = self.cert(rest.get(1).copied());
        let target = target(network, address);
        self.reading.target = target.as_ref().ok().cloned();
        if !self.versions.is_empty() && !self.versions.contains(&protocol) {
            let known: Vec<String> = self.versions.iter().map(u32::to_string).collect();
            let text = format!("the plugin speaks protocol version {protocol}, and the host {}", known.join(", "));
            return Err(doubt("version.none-common", text));
        }
        let target = target?;
        let kind = match rest.first().copied() {
            Some("grpc") => Kind::Grpc,
            Some("netrpc") | None => Kind::Netrpc,
            Some(other) => {
                return Err(refuse("line.kind", format!("the kind {} is neither `grpc` nor `netrpc`", show(other))));
            }
        };
        if kind == Kind::Netrpc {
            return Err(doubt("line.kind", "the plugin speaks `netrpc`, and the host speaks `grpc`"));
        }
        if rest.len() == 1 {
            self.reading.problem = Some(HandshakeProblem {
                code: "line.five-fields".to_owned(),
                text: "the handshake line has 5 fields; some hosts insist on a sixth, even if empty".to_owned(),
                certain: false,
            });
        }
        let cert = cert?;
        let multiplex = rest.get(2).and_then(|field| field.parse().ok());
        Ok(Line { protocol, target, kind, cert, multiplex })
    }

    fn cert(&mut self, field: Option<&str>) -> Result<Option<Vec<u8>>, HandshakeProblem> {
        let field = field.unwrap_or("");
        if field.len() <= CERT_MIN {
            if self.auto_mtls {
                self.reading.problem = Some(HandshakeProblem {
                    code: "line.cert.empty".to_owned(),
                    text: "the host asked for AutoMTLS and field 6 announces no certificate".to_owned(),
                    certain: false,
                });
            }
            return Ok(None);
        }
        let facts = |der: Vec<u8>| cert_facts(&der).map(|facts| (der, facts));
        let der = match STANDARD_NO_PAD.decode(field) {
            Ok(der) => der,
            Err(error) => {
                if let Ok(Ok((_, facts))) = STANDARD.decode(field).map(facts) {
                    self.reading.cert = Some(facts);
                    return Err(doubt("line.cert.padded", "field 6 is base64 with padding; go-plugin's has none"));
                }
                return Err(refuse("line.cert.broken", format!("field 6 is no base64: {error}")));
            }
        };
        let (der, facts) = facts(der)
            .map_err(|problem| refuse("line.cert.broken", format!("field 6 is no certificate: {problem}")))?;
        self.reading.cert = Some(facts);
        Ok(Some(der))
    }
}

fn target(network: &str, address: &str) -> Result<Target, HandshakeProblem> {
    match network {
        "tcp" => match address.parse::<SocketAddr>().or_else(|_| localhost(address).ok_or(())) {
            Ok(address) => Ok(Target::Tcp(address)),
            Err(()) => Err(refuse("line.address", format!("{} is no `HOST:PORT`", show(address)))),
        },
        "unix" if address.is_empty() => Err(refuse("line.address", "the path of the unix socket is empty")),
        "unix" => Ok(Target::Unix(PathBuf::from(address))),
        other => Err(refuse("line.network", format!("the network {} is neither `tcp` nor `unix`", show(other)))),
    }
}

/// The same line with another address, everything else left as it was, newline included: how the
/// relay is put between a plugin and its host. `None` for what has no address.
#[must_use]
pub fn with_address(line: &[u8], target: &Target) -> Option<Vec<u8>> {
    let mut fields: Vec<&[u8]> = line.split(|&byte| byte == b'|').collect();
    if fields.len() < 4 {
        return None;
    }
    let (network, address) = address_fields(target);
    *fields.get_mut(2)? = network.as_bytes();
    // Where the fourth field is the last one it carries the newline; elsewhere space belongs to it.
    let old = *fields.get(3)?;
    let text = old.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let end = if fields.len() == 4 { text } else { old.len() };
    let new = [address.as_bytes(), old.get(end..)?].concat();
    *fields.get_mut(3)? = &new;
    Some(fields.join(&b'|'))
}

fn address_fields(target: &Target) -> (&'static str, String) {
    match target {
        Target::Tcp(address) => ("tcp", address.to_string()),
        Target::Unix(path) => ("unix", path.display().to_string()),
    }
}

/// `localhost:PORT` and `:PORT`, which Go resolves; other names are not looked up.
fn localhost(address: &str) -> Option<SocketAddr> {
    let port = address.strip_prefix("localhost:").or_else(|| address.strip_prefix(':'))?;
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}
