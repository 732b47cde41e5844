//! One row per situation: what the senses saw, and what it must be called.

use super::*;
use crate::axis::values::{KeyType, Transport};
use crate::outcome::evidence::{
    Alert, CertFacts, ClientHello, CookieSeen, Flaw, HandshakeProblem, HandshakeReport, Known, Opening, RanOut,
    Reported, ServerHello, WireReport,
};
use crate::outcome::records::{self, ClientFlight};

/// `BoringSSL`'s offers, as grpcio 1.85.1 sends them: neither P-521 nor Ed25519.
const GRPCIO: &[u16] = &[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];
/// Go's.
const GO: &[u16] = &[0x0804, 0x0403, 0x0807, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0503, 0x0603];

fn cert(key: KeyType) -> CertFacts {
    CertFacts {
        key: Some(key),
        sha256: "00".into(),
        subject: "CN=localhost".into(),
        ca: true,
        not_before: 0,
        not_after: 0,
        dns_names: vec!["localhost".into()],
    }
}

fn line(key: Option<KeyType>) -> HandshakeReport {
    HandshakeReport {
        line: Some("1|1|unix|/tmp/p|grpc|…".into()),
        problem: None,
        protocol: Some(1),
        cookie: None,
        server_cert: key.map(cert),
        client_cert: Some(cert(KeyType::P521)),
        auto_mtls: true,
        after_us: 700,
    }
}

fn no_line() -> HandshakeReport {
    HandshakeReport { line: None, protocol: None, server_cert: None, client_cert: None, auto_mtls: false, ..line(None) }
}

fn bad_line(code: &str, certain: bool) -> HandshakeReport {
    let problem = HandshakeProblem { code: code.into(), text: "the line has 3 fields".into(), certain };
    HandshakeReport { problem: Some(problem), ..line(None) }
}

fn hello(schemes: &[u16]) -> ClientHello {
    ClientHello {
        versions: vec![0x0304, 0x0303],
        groups: vec![0x1d, 0x17, 0x18],
        signature_schemes: schemes.to_vec(),
        ..ClientHello::default()
    }
}

/// A TLS connection after the `ClientHello`.
fn offered(schemes: &[u16]) -> WireReport {
    WireReport {
        client_opening: Opening::Tls,
        client_hello: Some(hello(schemes)),
        client_bytes: 300,
        ..WireReport::new(Transport::Unix)
    }
}

/// The same after the server's flight.
fn answered(schemes: &[u16], version: u16, server_records: &[u16]) -> WireReport {
    let cipher = if version == 0x0304 { 0x1301 } else { 0xc02b };
    WireReport {
        server_opening: Opening::Tls,
        server_hello: Some(ServerHello { version, cipher, group: Some(0x1d) }),
        server_records: server_records.to_vec(),
        server_bytes: 900,
        ..offered(schemes)
    }
}

fn closed(by: Side, w: WireReport) -> WireReport {
    WireReport { closed_by: Some(by), established: Some(false), ..w }
}

fn client_sent(records: &[u16], w: WireReport) -> WireReport {
    let shown = records::first_record(0x1301, records[0]).and_then(ClientFlight::shown);
    WireReport { client_records: records.to_vec(), client_cert_shown: shown, ..w }
}

fn alert(from: Side, number: Option<u8>, w: WireReport) -> WireReport {
    WireReport { alerts: vec![Alert { from, number, encrypted: number.is_none() }], ..w }
}

fn established() -> WireReport {
    let w = client_sent(&[53, 74], answered(GO, 0x0304, &[32, 600]));
    WireReport { established: Some(true), ..w }
}

fn plaintext() -> WireReport {
    WireReport {
        client_opening: Opening::Http2,
        server_opening: Opening::Http2,
        client_bytes: 200,
        server_bytes: 200,
        ..WireReport::new(Transport::Tcp)
    }
}

fn says(phase: Phase, error: &str) -> Reported {
    Reported { phase: Some(phase), error: error.into(), native: None, status: None, cause: None }
}

fn status_of(code: &str, text: &str) -> Reported {
    let status = GrpcStatus { code: code.into(), text: text.into() };
    Reported { status: Some(status), ..says(Phase::Rpc, text) }
}

fn our_end(code: &str) -> Reported {
    let cause = Cause { code: code.into(), certainty: Certainty::Observed, text: format!("own end: {code}") };
    Reported { phase: None, cause: Some(cause), ..says(Phase::Tls, "") }
}

fn plugin(exit: Option<Exit>, stderr: &str) -> ProcessReport {
    ProcessReport {
        side: Side::Server,
        argv: vec!["plugin".into()],
        exit,
        asked_to_end: false,
        stderr_tail: stderr.lines().map(Into::into).collect(),
        lived_us: Some(12_000),
    }
}

fn wire(w: WireReport) -> Evidence {
    Evidence { wire: vec![w], ..Evidence::default() }
}

const UNAVAILABLE: &str = "Socket closed";
const OBSERVED: Certainty = Certainty::Observed;
const DEDUCED: Certainty = Certainty::Deduced;
const REPORTED: Certainty = Certainty::Reported;

type Row = (&'static str, Evidence, (Phase, &'static str, Certainty, Ending));

fn tls_rows() -> Vec<Row> {
    use Ending::Failed;
    use Phase::Tls;
    let p521 = || Some(line(Some(KeyType::P521)));
    let unavailable = || Some(status_of("UNAVAILABLE", UNAVAILABLE));
    let signature = "tls.rejected.server-cert.by-client.signature";
    let flight: &[u16] = &[32, 63, 615, 164, 53];
    vec![
        (
            "grpcio meets a stock go server: handshake_failure before the server's hello",
            Evidence {
                handshake: p521(),
                client: unavailable(),
                ..wire(closed(Side::Server, alert(Side::Server, Some(40), offered(GRPCIO))))
            },
            (Tls, signature, DEDUCED, Failed),
        ),
        (
            "grpcio meets a stock go server: it leaves without a word",
            Evidence {
                handshake: p521(),
                client: unavailable(),
                ..wire(closed(Side::Client, answered(GRPCIO, 0x0304, flight)))
            },
            (Tls, signature, DEDUCED, Failed),
        ),
        (
            "the same, and the key is known from record lengths alone",
            wire(closed(Side::Client, answered(GRPCIO, 0x0304, flight))),
            (Tls, signature, DEDUCED, Failed),
        ),
        (
            "nothing is known of the key: a refusal all the same, but not its reason",
            wire(closed(Side::Client, answered(GRPCIO, 0x0304, &[900]))),
            (Tls, "tls.rejected.server-cert.by-client", DEDUCED, Failed),
        ),
        (
            "handshake_failure with a key that the client can verify",
            Evidence { handshake: p521(), ..wire(closed(Side::Server, alert(Side::Server, Some(40), offered(GO)))) },
            (Tls, "tls.alert.handshake-failure.from-server", OBSERVED, Failed),
        ),
        (
            "our own server has no scheme in common: the same cause as with any other server",
            Evidence {
                known: Known { server_key: Some(KeyType::P521), ..Known::default() },
                server: Some(our_end("tls.no-common.signature")),
                ..wire(closed(Side::Server, alert(Side::Server, Some(40), offered(GRPCIO))))
            },
            (Tls, signature, OBSERVED, Failed),
        ),
        (
            "go refuses the server's certificate: a record of 19 bytes",
            wire(closed(Side::Client, client_sent(&[19], alert(Side::Client, None, answered(GO, 0x0304, flight))))),
            (Tls, "tls.rejected.server-cert.by-client", DEDUCED, Failed),
        ),
        (
            "go trusts no certificate, for none was announced",
            Evidence {
                handshake: Some(bad_line("line.cert.empty", false)),
                ..wire(closed(
                    Side::Client,
                    client_sent(&[19], alert(Side::Client, None, answered(GO, 0x0304, flight))),
                ))
            },
            (Tls, "tls.rejected.server-cert.by-client.unannounced", DEDUCED, Failed),
        ),
        (
            "go refuses, dials again, and kills the plugin meanwhile: the refusal is the reason",
            Evidence {
                wire: vec![
                    closed(Side::Client, client_sent(&[19], alert(Side::Client, None, answered(GO, 0x0304, flight)))),
                    closed(Side::Server, answered(GO, 0x0304, flight)),
                ],
                ..Evidence::default()
            },
            (Tls, "tls.rejected.server-cert.by-client", DEDUCED, Failed),
        ),
        (
            "under TLS 1.2 the alert is readable",
            wire(closed(Side::Client, alert(Side::Client, Some(48), answered(GO, 0x0303, &[])))),
            (Tls, "tls.rejected.server-cert.by-client.unknown-ca", OBSERVED, Failed),
        ),
        (
            "our own client knows more than the wire",
            Evidence {
                client: Some(our_end("tls.rejected.server-cert.by-client.name")),
                ..wire(closed(
                    Side::Client,
                    client_sent(&[19], alert(Side::Client, None, answered(GO, 0x0304, flight))),
                ))
            },
            (Tls, "tls.rejected.server-cert.by-client.name", OBSERVED, Failed),
        ),
        (
            "our own client reads the alert that the wire cannot",
            Evidence {
                client: Some(our_end("tls.alert.certificate-required.from-server")),
                ..wire(closed(
                    Side::Server,
                    client_sent(&[25, 53], alert(Side::Server, None, answered(GO, 0x0304, flight))),
                ))
            },
            (Tls, "tls.rejected.client-cert.by-server.missing", OBSERVED, Failed),
        ),
        (
            "our own client only sees the end, the wire sees that its certificate was the matter",
            Evidence {
                client: Some(our_end("tls.closed.by-server")),
                ..wire(closed(Side::Server, client_sent(&[700, 53], answered(GO, 0x0304, flight))))
            },
            (Tls, "tls.rejected.client-cert.by-server", DEDUCED, Failed),
        ),
        (
            "both ends are ours: the one that rejects knows why",
            Evidence {
                client: Some(our_end("tls.alert.bad-certificate.from-server")),
                server: Some(our_end("tls.rejected.client-cert.by-server.not-pinned")),
                ..wire(closed(
                    Side::Server,
                    client_sent(&[700, 53], alert(Side::Server, None, answered(GO, 0x0304, flight))),
                ))
            },
            (Tls, "tls.rejected.client-cert.by-server.not-pinned", OBSERVED, Failed),
        ),
        (
            "a stock go host has no certificate that a grpcio server can verify: it shows none",
            Evidence {
                handshake: Some(line(Some(KeyType::P384))),
                client: Some(status_of("UNAVAILABLE", "error reading server preface: EOF")),
                ..wire(closed(Side::Server, client_sent(&[61], answered(GO, 0x0304, &[900]))))
            },
            (Tls, "tls.rejected.client-cert.by-server.missing", DEDUCED, Failed),
        ),
        (
            "or it shows it, and the server closes without a word",
            Evidence {
                handshake: Some(line(Some(KeyType::P384))),
                client: Some(status_of("UNAVAILABLE", "write: broken pipe")),
                ..wire(closed(Side::Server, client_sent(&[615, 164, 53, 74], answered(GO, 0x0304, &[900]))))
            },
            (Tls, "tls.rejected.client-cert.by-server", DEDUCED, Failed),
        ),
        (
            "TLS 1.2, no certificate shown, handshake_failure",
            wire(closed(
                Side::Server,
                alert(
                    Side::Server,
                    Some(40),
                    WireReport {
                        certificate_request: true,
                        client_cert_shown: Some(false),
                        ..answered(GO, 0x0303, &[])
                    },
                ),
            )),
            (Tls, "tls.rejected.client-cert.by-server.missing", OBSERVED, Failed),
        ),
        (
            "the server asked for nothing and closed: the certificate cannot be the matter",
            wire(closed(Side::Server, client_sent(&[53, 74], answered(GO, 0x0304, flight)))),
            (Tls, "tls.closed.by-server", OBSERVED, Failed),
        ),
        (
            "no version in common",
            wire(closed(Side::Server, alert(Side::Server, Some(70), offered(GO)))),
            (Tls, "tls.no-common.version", OBSERVED, Failed),
        ),
        (
            "a group that the client does not have",
            wire(closed(Side::Client, WireReport { retry_group: Some(0x19), ..offered(GO) })),
            (Tls, "tls.no-common.group", DEDUCED, Failed),
        ),
        (
            "no application protocol in common",
            wire(closed(Side::Server, alert(Side::Server, Some(120), offered(GO)))),
            (Tls, "tls.alert.no-application-protocol.from-server", OBSERVED, Failed),
        ),
        (
            "a plaintext server",
            wire(WireReport { server_opening: Opening::Http2, ..offered(GO) }),
            (Tls, "tls.plaintext-server", OBSERVED, Failed),
        ),
        (
            "a plaintext client, the server says so",
            wire(alert(Side::Server, Some(10), WireReport { server_opening: Opening::Tls, ..plaintext() })),
            (Tls, "tls.plaintext-client", OBSERVED, Failed),
        ),
        (
            "a plaintext client, the server with a certificate only closes",
            Evidence {
                handshake: p521(),
                ..wire(WireReport {
                    server_opening: Opening::Nothing,
                    closed_by: Some(Side::Server),
                    server_bytes: 0,
                    ..plaintext()
                })
            },
            (Tls, "tls.plaintext-client", DEDUCED, Failed),
        ),
        (
            "a retry is under way: the connection before it counts",
            Evidence {
                wire: vec![closed(Side::Client, alert(Side::Client, Some(45), answered(GO, 0x0303, &[]))), offered(GO)],
                ..Evidence::default()
            },
            (Tls, "tls.rejected.server-cert.by-client.expired", OBSERVED, Failed),
        ),
        (
            "the host kills its plugin after the failure: no crash",
            Evidence {
                handshake: p521(),
                processes: vec![plugin(Some(Exit::Signal(9)), "")],
                ..wire(closed(Side::Client, answered(GRPCIO, 0x0304, flight)))
            },
            (Tls, signature, DEDUCED, Failed),
        ),
        (
            "the server crashes in the handshake: that is the reason, not its close",
            Evidence {
                processes: vec![plugin(Some(Exit::Signal(11)), "")],
                ..wire(closed(Side::Server, client_sent(&[700, 53], answered(GO, 0x0304, flight))))
            },
            (Tls, "process.signalled", OBSERVED, Ending::Crashed),
        ),
    ]
}

/// A client with a certificate of its own whose key the server has no signature scheme for.
fn client_key_rows() -> Vec<Row> {
    use Ending::Failed;
    use Phase::Tls;
    let known = Known { client_key: Some(KeyType::P521), client_auth: true, ..Known::default() };
    let flight = &[679][..];
    let unsignable = "tls.no-common.signature";
    let no_scheme = "tls: peer doesn't support any of the certificate's signature algorithms";
    vec![
        (
            "go shows its certificate and finds that it cannot sign",
            Evidence {
                known: known.clone(),
                ..wire(closed(
                    Side::Client,
                    client_sent(&[588, 19], alert(Side::Client, None, answered(GO, 0x0304, flight))),
                ))
            },
            (Tls, unsignable, DEDUCED, Failed),
        ),
        (
            "go says so before the wire has told",
            Evidence { known: known.clone(), client: Some(says(Tls, no_scheme)), ..wire(answered(GO, 0x0304, flight)) },
            (Tls, unsignable, REPORTED, Failed),
        ),
        (
            "grpcio cannot sign: on the wire as if it had refused the server's certificate",
            Evidence {
                known: known.clone(),
                client: Some(says(Tls, "SSL_ERROR_SSL: NO_COMMON_SIGNATURE_ALGORITHMS: OK")),
                ..wire(closed(Side::Client, answered(GRPCIO, 0x0304, flight)))
            },
            (Tls, unsignable, REPORTED, Failed),
        ),
        (
            "the same words of a client that has no certificate are about the server's",
            Evidence {
                client: Some(says(Tls, "SSL_ERROR_SSL: NO_COMMON_SIGNATURE_ALGORITHMS: OK")),
                ..wire(closed(Side::Client, answered(GRPCIO, 0x0304, flight)))
            },
            (Tls, "tls.rejected.server-cert.by-client", DEDUCED, Failed),
        ),
        (
            "the built-in client shows none, although it has one",
            Evidence {
                known: known.clone(),
                client: Some(our_end("tls.closed.by-server")),
                ..wire(closed(Side::Server, client_sent(&[25, 53], answered(GO, 0x0304, flight))))
            },
            (Tls, unsignable, DEDUCED, Failed),
        ),
        (
            "another client may have withheld it for other reasons",
            Evidence { known, ..wire(closed(Side::Server, client_sent(&[25, 53], answered(GO, 0x0304, flight)))) },
            (Tls, "tls.rejected.client-cert.by-server.missing", DEDUCED, Failed),
        ),
        (
            "go takes its leave of a server that has closed: the server refused",
            wire(closed(
                Side::Server,
                client_sent(&[520, 95, 53, 41, 26, 19], alert(Side::Client, None, answered(GO, 0x0304, flight))),
            )),
            (Tls, "tls.rejected.client-cert.by-server", DEDUCED, Failed),
        ),
    ]
}

/// Certificates that were given with a mistake in them.
fn flaw_rows() -> Vec<Row> {
    use Ending::Failed;
    use Phase::{Rpc, Tls};
    let server = |flaw| Known { server_flaw: Some(flaw), ..Known::default() };
    let client = |flaw| Known { client_flaw: Some(flaw), ..Known::default() };
    let flight = &[32, 900, 97, 53][..];
    let refused = || closed(Side::Client, answered(GO, 0x0304, flight));
    let preface = || WireReport { closed_by: Some(Side::Client), ..established() };
    vec![
        (
            "a refused certificate that has expired",
            Evidence { known: server(Flaw::Expired), ..wire(refused()) },
            (Tls, "tls.rejected.server-cert.by-client.expired", DEDUCED, Failed),
        ),
        (
            "a client's certificate of another authority",
            Evidence {
                known: client(Flaw::UnknownCa),
                ..wire(closed(Side::Server, client_sent(&[520, 95, 53], answered(GO, 0x0304, flight))))
            },
            (Tls, "tls.rejected.client-cert.by-server.unknown-ca", DEDUCED, Failed),
        ),
        (
            "grpcio looks at the name when the handshake is over",
            Evidence {
                known: server(Flaw::Name),
                client: Some(Reported { phase: Some(Tls), ..status_of("UNAVAILABLE", "Hostname Verification Check") }),
                ..wire(preface())
            },
            (Tls, "tls.rejected.server-cert.by-client.name", DEDUCED, Failed),
        ),
        (
            "a mistake in a certificate is no reason for a call that fails later",
            Evidence { known: server(Flaw::Name), client: Some(status_of("UNAVAILABLE", "EOF")), ..wire(preface()) },
            (Rpc, "rpc.closed.by-client", OBSERVED, Failed),
        ),
        (
            "a plugin with another key in its file ends before its line",
            Evidence {
                known: server(Flaw::KeyMismatch),
                processes: vec![plugin(Some(Exit::Code(1)), "private key does not match")],
                handshake: Some(no_line()),
                ..Evidence::default()
            },
            (Tls, "tls.key-mismatch.of-server", DEDUCED, Failed),
        ),
        (
            "a client with another key cannot begin",
            Evidence { known: client(Flaw::KeyMismatch), client: Some(our_end("tls.setup")), ..Evidence::default() },
            (Tls, "tls.key-mismatch.of-client", DEDUCED, Failed),
        ),
    ]
}

fn launch_rows() -> Vec<Row> {
    use Phase::Handshake;
    let with = |handshake: HandshakeReport, processes: Vec<ProcessReport>| Evidence {
        handshake: Some(handshake),
        processes,
        client: Some(says(Handshake, "plugin exited before we could connect")),
        ..Evidence::default()
    };
    let go_words = "This binary is a plugin. These are not meant to be executed directly.";
    vec![
        (
            "no cookie",
            with(no_line(), vec![plugin(Some(Exit::Code(1)), go_words)]),
            (Handshake, "handshake.cookie", DEDUCED, Ending::Failed),
        ),
        (
            "a cookie that never arrived, whatever the plugin says of it",
            with(
                HandshakeReport { cookie: Some(CookieSeen::Missing), ..no_line() },
                vec![plugin(Some(Exit::Code(1)), "Traceback")],
            ),
            (Handshake, "handshake.cookie.missing", DEDUCED, Ending::Failed),
        ),
        (
            "another cookie, and our own host, which only sees the end",
            Evidence {
                client: Some(our_end("handshake.exit")),
                ..with(
                    HandshakeReport { cookie: Some(CookieSeen::Other), ..no_line() },
                    vec![plugin(Some(Exit::Code(1)), "")],
                )
            },
            (Handshake, "handshake.cookie.wrong", DEDUCED, Ending::Failed),
        ),
        (
            "a client certificate that is none",
            with(
                HandshakeReport { auto_mtls: true, cookie: Some(CookieSeen::Set), ..no_line() },
                vec![plugin(Some(Exit::Code(1)), "no PEM")],
            ),
            (Handshake, "handshake.client-cert", DEDUCED, Ending::Failed),
        ),
        (
            "it ended by itself, and its host killed it in the same moment",
            with(no_line(), vec![ProcessReport { asked_to_end: true, ..plugin(Some(Exit::Code(3)), "") }]),
            (Handshake, "handshake.exit", OBSERVED, Ending::Crashed),
        ),
        (
            "a line that came too late",
            with(bad_line("late", true), vec![plugin(None, "")]),
            (Handshake, "handshake.late", OBSERVED, Ending::TimedOut),
        ),
        (
            "a line that this host waits on after",
            Evidence {
                client: None,
                timeout: Some(RanOut { phase: Phase::Connect, waiting_for: "connection".into(), budget_ms: 1500 }),
                ..with(bad_line("line.five-fields", false), vec![plugin(None, "")])
            },
            (Handshake, "handshake.line.five-fields", DEDUCED, Ending::Failed),
        ),
        (
            "exit at once",
            with(no_line(), vec![plugin(Some(Exit::Code(3)), "no storage folder")]),
            (Handshake, "handshake.exit", OBSERVED, Ending::Crashed),
        ),
        (
            "silence",
            with(no_line(), vec![plugin(None, "")]),
            (Handshake, "handshake.silence", OBSERVED, Ending::TimedOut),
        ),
        (
            "silence, and the host has killed it already",
            with(no_line(), vec![ProcessReport { lived_us: Some(10_000_000), ..plugin(Some(Exit::Signal(9)), "") }]),
            (Handshake, "handshake.silence", DEDUCED, Ending::TimedOut),
        ),
        (
            "killed before any host would have given up",
            with(no_line(), vec![plugin(Some(Exit::Signal(9)), "")]),
            (Handshake, "handshake.exit", OBSERVED, Ending::Crashed),
        ),
        (
            "a line that no host takes",
            with(bad_line("line.too-few-fields", true), vec![plugin(None, "")]),
            (Handshake, "handshake.line.too-few-fields", OBSERVED, Ending::Failed),
        ),
        (
            "a line that some hosts take, and this one did not",
            with(bad_line("line.padded-cert", false), vec![plugin(None, "")]),
            (Handshake, "handshake.line.padded-cert", DEDUCED, Ending::Failed),
        ),
        (
            "a line that this host takes, and what came of it",
            Evidence {
                wire: vec![WireReport {
                    refused: Some("No such file or directory".into()),
                    ..WireReport::new(Transport::Unix)
                }],
                ..with(bad_line("line.padded-cert", false), vec![])
            },
            (Phase::Connect, "connect.refused", OBSERVED, Ending::Failed),
        ),
        (
            "no common version, by the host's words alone",
            Evidence {
                client: Some(says(
                    Handshake,
                    "Incompatible API version with plugin. Plugin version: 1, Client versions: [2]",
                )),
                ..with(line(None), vec![])
            },
            (Handshake, "handshake.version.none-common", REPORTED, Ending::Failed),
        ),
        (
            "the host refuses a line that is in order",
            Evidence { client: Some(says(Handshake, "ValueError: odd")), ..with(line(None), vec![]) },
            (Handshake, "handshake.refused.by-client", REPORTED, Ending::Failed),
        ),
        (
            "our own client could not start it",
            Evidence { client: Some(our_end("spawn.not-found")), ..Evidence::default() },
            (Phase::Tls, "spawn.not-found", OBSERVED, Ending::CouldNotRun),
        ),
    ]
}

fn rpc_rows() -> Vec<Row> {
    use Phase::Rpc;
    let ran_out = |phase, what: &str| Some(RanOut { phase, waiting_for: what.into(), budget_ms: 3000 });
    vec![
        (
            "a status of the server",
            Evidence { client: Some(status_of("NOT_FOUND", "no such key")), ..wire(established()) },
            (Rpc, "rpc.status.NOT_FOUND", REPORTED, Ending::Failed),
        ),
        (
            "the deadline",
            Evidence { client: Some(status_of("DEADLINE_EXCEEDED", "")), ..wire(plaintext()) },
            (Rpc, "rpc.deadline", REPORTED, Ending::TimedOut),
        ),
        (
            "the connection breaks under a call",
            Evidence {
                client: Some(status_of("UNAVAILABLE", UNAVAILABLE)),
                ..wire(WireReport { closed_by: Some(Side::Server), ..established() })
            },
            (Rpc, "rpc.closed.by-server", OBSERVED, Ending::Failed),
        ),
        (
            "because the process is gone",
            Evidence {
                client: Some(status_of("UNAVAILABLE", UNAVAILABLE)),
                processes: vec![plugin(Some(Exit::Code(2)), "panic: oh")],
                ..wire(WireReport { closed_by: Some(Side::Server), ..established() })
            },
            (Rpc, "process.exited", OBSERVED, Ending::Crashed),
        ),
        (
            "a kill from outside, in use",
            Evidence {
                processes: vec![plugin(Some(Exit::Signal(9)), "")],
                ..wire(WireReport { closed_by: Some(Side::Server), ..established() })
            },
            (Rpc, "process.signalled", OBSERVED, Ending::Crashed),
        ),
        (
            "asked to end: no crash",
            Evidence {
                client: Some(status_of("NOT_FOUND", "")),
                processes: vec![ProcessReport { asked_to_end: true, ..plugin(Some(Exit::Code(2)), "") }],
                ..wire(established())
            },
            (Rpc, "rpc.status.NOT_FOUND", REPORTED, Ending::Failed),
        ),
        (
            "no answer, and the wire says that it was in use",
            Evidence { timeout: ran_out(Rpc, "reply"), ..wire(established()) },
            (Rpc, "timeout.reply", OBSERVED, Ending::TimedOut),
        ),
        (
            "no connection, because the server says nothing to a ClientHello",
            Evidence { timeout: ran_out(Phase::Connect, "connection"), ..wire(offered(GO)) },
            (Phase::Tls, "timeout.connection", OBSERVED, Ending::TimedOut),
        ),
        (
            "a deadline that hid a definite failure",
            Evidence {
                timeout: ran_out(Phase::Connect, "connection"),
                ..wire(closed(Side::Client, alert(Side::Client, Some(48), answered(GO, 0x0303, &[]))))
            },
            (Phase::Tls, "tls.rejected.server-cert.by-client.unknown-ca", OBSERVED, Ending::Failed),
        ),
        (
            "the driver broke its contract",
            Evidence {
                client: Some(Reported { native: Some("contract".into()), ..says(Phase::Driver, "not JSON") }),
                ..wire(plaintext())
            },
            (Phase::Driver, "driver.contract", OBSERVED, Ending::CouldNotRun),
        ),
        (
            "only words, that hint at something",
            Evidence {
                client: Some(says(Phase::Tls, "x509: certificate signed by unknown authority")),
                ..Evidence::default()
            },
            (Phase::Tls, "tls.rejected.server-cert.by-client.unknown-ca", REPORTED, Ending::Failed),
        ),
        (
            "only words",
            Evidence { client: Some(says(Phase::Connect, "hm")), ..Evidence::default() },
            (Phase::Connect, "connect.failed", REPORTED, Ending::Failed),
        ),
        ("nothing at all", Evidence::default(), (Rpc, "unknown", DEDUCED, Ending::Failed)),
    ]
}

/// What saboteurs do.
fn broken_rows() -> Vec<Row> {
    let garbage = |side| {
        let (client_opening, server_opening) = match side {
            Side::Client => (Opening::Other("474554202f".into()), Opening::Http2),
            Side::Server => (Opening::Http2, Opening::Other("485454502f312e31".into())),
        };
        wire(WireReport { client_opening, server_opening, ..plaintext() })
    };
    let refused = WireReport { refused: Some("Connection refused".into()), ..WireReport::new(Transport::Tcp) };
    let no_files = WireReport { refused: Some("Too many open files (os error 24)".into()), ..refused.clone() };
    let certificate_shown = client_sent(&[621, 41], answered(GO, 0x0304, &[32, 600]));
    vec![
        (
            "a client that is no HTTP/2 client",
            garbage(Side::Client),
            (Phase::Rpc, "rpc.http2.by-client", OBSERVED, Ending::Failed),
        ),
        (
            "a server that is no HTTP/2 server",
            garbage(Side::Server),
            (Phase::Rpc, "rpc.http2.by-server", OBSERVED, Ending::Failed),
        ),
        (
            "what broke HTTP/2 says more than who then closed",
            Evidence {
                client: Some(our_end("rpc.http2.by-server")),
                ..wire(WireReport { closed_by: Some(Side::Client), ..plaintext() })
            },
            (Phase::Rpc, "rpc.http2.by-server", OBSERVED, Ending::Failed),
        ),
        (
            "nobody listens, because the plugin has ended after its line",
            Evidence { handshake: Some(line(None)), processes: vec![plugin(Some(Exit::Code(4)), "")], ..wire(refused) },
            (Phase::Connect, "process.exited", OBSERVED, Ending::Crashed),
        ),
        (
            "we are out of open files, which the client cannot know",
            Evidence { client: Some(our_end("tls.closed.by-server")), ..wire(no_files) },
            (Phase::Connect, "engine.descriptors", OBSERVED, Ending::CouldNotRun),
        ),
        (
            "an encrypted alert that our own client read as an orderly close",
            Evidence {
                client: Some(our_end("tls.closed.by-server")),
                ..wire(closed(Side::Server, alert(Side::Server, None, certificate_shown)))
            },
            (Phase::Tls, "tls.closed.by-server", OBSERVED, Ending::Failed),
        ),
        (
            "an alert in place of a ClientHello, which rustls takes for plaintext",
            Evidence {
                server: Some(our_end("tls.plaintext-client")),
                ..wire(alert(Side::Client, Some(40), offered(GO)))
            },
            (Phase::Tls, "tls.alert.handshake-failure.from-client", OBSERVED, Ending::Failed),
        ),
    ]
}

#[test]
fn every_situation_has_its_name() {
    let rows = [tls_rows(), client_key_rows(), flaw_rows(), launch_rows(), rpc_rows(), broken_rows()].concat();
    let mut wrong = Vec::new();
    for (what, evidence, expected) in &rows {
        let d = diagnose(evidence);
        let got = (d.phase, d.cause.code.as_str(), d.cause.certainty, d.ending);
        // The phase of an own end's account is the one it gives; the table names none.
        let own = evidence.client.as_ref().is_some_and(|c| c.cause.is_some());
        if (got.1, got.2, got.3) != (expected.1, expected.2, expected.3) || (got.0 != expected.0 && !own) {
            wrong.push(format!("{what}\n  expected {expected:?}\n  got      {got:?}: {}", d.cause.text));
        }
        assert!(!d.cause.text.is_empty(), "{what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_certain_ends_a_case_and_what_is_not_does_not() {
    let rows = [tls_rows(), launch_rows(), rpc_rows(), broken_rows()].concat();
    let uncertain = [
        "silence",
        "a line that some hosts take, and this one did not",
        "a line that this host waits on after",
        "it ended by itself, and its host killed it in the same moment",
        "no common version, by the host's words alone",
        "the host refuses a line that is in order",
        "our own client could not start it",
        "a status of the server",
        "the deadline",
        "the connection breaks under a call",
        "what broke HTTP/2 says more than who then closed",
        "asked to end: no crash",
        "no answer, and the wire says that it was in use",
        "no connection, because the server says nothing to a ClientHello",
        "the driver broke its contract",
        "only words, that hint at something",
        "only words",
        "nothing at all",
    ];
    for (what, evidence, _) in &rows {
        assert_eq!(certain(evidence).is_none(), uncertain.contains(what), "{what}");
    }
}

#[test]
fn sentences_name_who_did_what_and_the_evidence() {
    let evidence = Evidence {
        handshake: Some(line(Some(KeyType::P521))),
        client: Some(status_of("UNAVAILABLE", UNAVAILABLE)),
        ..wire(closed(Side::Client, answered(GRPCIO, 0x0304, &[900])))
    };
    let d = diagnose(&evidence);
    assert_eq!(
        d.cause.text,
        "the client closed without an alert right after the server's certificate flight (TLS 1.3, P-521 key announced \
         in field 6): none of the client's 8 signature schemes fits a P-521 key (announced in field 6)"
    );
    assert_eq!(d.texts, ["Socket closed"]);
    assert_eq!(d.status.unwrap().code, "UNAVAILABLE");

    let evidence = Evidence {
        timeout: Some(RanOut { phase: Phase::Connect, waiting_for: "connection".into(), budget_ms: 10_000 }),
        processes: vec![plugin(None, "")],
        ..wire(offered(GO))
    };
    assert_eq!(
        diagnose(&evidence).cause.text,
        "waited 10000 ms for connection in vain; the connection was in the TLS handshake, the server has sent nothing, \
         still open; the server's process still runs"
    );
}

#[test]
fn foreign_text_is_bounded_and_on_one_line() {
    let noise = "x\u{1b}[31m\n".repeat(5000);
    let evidence = Evidence { client: Some(says(Phase::Connect, &noise)), ..Evidence::default() };
    let d = diagnose(&evidence);
    assert!(d.cause.text.chars().count() < 450 && !d.cause.text.contains(char::is_control));
    assert!(d.texts.iter().all(|t| t.chars().count() <= 401 && !t.contains(char::is_control)));
}
