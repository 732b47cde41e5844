//! One row per fact and source, and every lie that a server can tell.

use super::*;
use crate::outcome::evidence::{HandshakeReport, Known, ServerHello};

fn tls13(client_records: &[u16], server_records: &[u16]) -> WireReport {
    let first = client_records.first().and_then(|n| records::first_record(0x1301, *n));
    WireReport {
        client_opening: Opening::Tls,
        server_opening: Opening::Tls,
        server_hello: Some(ServerHello { version: 0x0304, cipher: 0x1301, group: Some(0x1d) }),
        client_cert_shown: first.and_then(records::ClientFlight::shown),
        client_records: client_records.to_vec(),
        server_records: server_records.to_vec(),
        established: Some(true),
        ..WireReport::new(Transport::Unix)
    }
}

fn tls12(server: KeyType, client: Option<KeyType>) -> WireReport {
    WireReport {
        server_hello: Some(ServerHello { version: 0x0303, cipher: 0xc02b, group: Some(0x17) }),
        server_cert: Some(cert(server)),
        client_cert: client.map(cert),
        client_cert_shown: Some(client.is_some()),
        ..tls13(&[], &[])
    }
}

fn plaintext() -> WireReport {
    WireReport { client_opening: Opening::Http2, server_opening: Opening::Http2, ..WireReport::new(Transport::Tcp) }
}

fn cert(key: KeyType) -> CertFacts {
    CertFacts {
        key: Some(key),
        sha256: format!("digest of {key}"),
        subject: String::new(),
        ca: false,
        not_before: 0,
        not_after: 0,
        dns_names: Vec::new(),
    }
}

fn line(auto_mtls: bool, server: KeyType) -> HandshakeReport {
    HandshakeReport {
        line: Some("1|1|unix|…".into()),
        problem: None,
        protocol: Some(1),
        cookie: None,
        server_cert: Some(cert(server)),
        client_cert: auto_mtls.then(|| cert(KeyType::P384)),
        auto_mtls,
        after_us: 0,
    }
}

fn end(side: Side, certainty: Certainty) -> ConnectionFacts {
    ConnectionFacts {
        side,
        certainty,
        tls: None,
        version: None,
        group: None,
        cipher: None,
        peer_cert: None,
        peer_cert_sha256: None,
        peer_cert_shown: None,
        transport: None,
    }
}

fn wire(w: WireReport) -> Evidence {
    Evidence { wire: vec![w], ..Evidence::default() }
}

fn ask(tls: TlsMode) -> Request {
    Request { tls: Some(tls), ..Request::default() }
}

/// `value certainty`, or `not-observable`, of one fact; `-` when it is not listed.
fn fact(name: &str, request: &Request, evidence: &Evidence, ends: &[ConnectionFacts], passed: bool) -> String {
    let all = effective(request, evidence, ends, passed, &|_, _| None);
    all.into_iter().find(|f| f.fact == name).map_or_else(
        || "-".into(),
        |f| match (f.effective, f.certainty) {
            (Effective::Value(v), Some(c)) => format!("{v} {}", c.name()),
            (Effective::NotObservable, None) => "not-observable".into(),
            other => panic!("a value goes with a certainty: {other:?}"),
        },
    )
}

#[test]
fn what_protects_the_connection() {
    let auto = |w| Evidence { handshake: Some(line(true, KeyType::P521)), ..wire(w) };
    let server_saw = |shown| ConnectionFacts {
        tls: Some(true),
        peer_cert_shown: Some(shown),
        ..end(Side::Server, Certainty::Observed)
    };
    let client_saw = ConnectionFacts { tls: Some(true), ..end(Side::Client, Certainty::Observed) };
    let rows: Vec<(&str, Request, Evidence, Vec<ConnectionFacts>, &str)> = vec![
        ("plaintext on the wire", ask(TlsMode::Auto), wire(plaintext()), vec![], "none observed"),
        ("auto, certificate by length", ask(TlsMode::Auto), auto(tls13(&[700, 53], &[900])), vec![], "auto deduced"),
        (
            "auto, but the server asks for none",
            ask(TlsMode::Auto),
            auto(tls13(&[53], &[900])),
            vec![],
            "server deduced",
        ),
        (
            "mutual under TLS 1.2",
            ask(TlsMode::Mutual),
            wire(tls12(KeyType::P256, Some(KeyType::P256))),
            vec![],
            "mutual observed",
        ),
        (
            "mutual ignored under TLS 1.2",
            ask(TlsMode::Mutual),
            wire(tls12(KeyType::P256, None)),
            vec![],
            "server observed",
        ),
        ("none asked, encrypted", ask(TlsMode::None), wire(tls13(&[], &[900])), vec![], "encrypted observed"),
        ("our server's end", ask(TlsMode::Mutual), Evidence::default(), vec![server_saw(true)], "mutual observed"),
        (
            "our server's end, no certificate",
            ask(TlsMode::Mutual),
            Evidence::default(),
            vec![server_saw(false)],
            "server observed",
        ),
        (
            "a client's end alone cannot tell",
            ask(TlsMode::Mutual),
            Evidence::default(),
            vec![client_saw],
            "not-observable",
        ),
        ("nothing", ask(TlsMode::Auto), Evidence::default(), vec![], "not-observable"),
        ("nothing asked, nothing seen", Request::default(), Evidence::default(), vec![], "-"),
    ];
    for (what, request, evidence, ends, expected) in rows {
        assert_eq!(fact("tls", &request, &evidence, &ends, true), expected, "{what}");
    }
}

#[test]
fn keys_and_how_they_are_known() {
    let request = Request { key: Some(KeyType::P256), client_key: Some(KeyType::P256), ..ask(TlsMode::Auto) };
    let issued = Request { key: Some(KeyType::P256), ..ask(TlsMode::Mutual) };
    let known = Known {
        server_key: Some(KeyType::P256),
        client_key: Some(KeyType::P384),
        client_auth: true,
        ..Known::default()
    };
    let packed = || tls13(&[700, 53], &[900]);
    let single = || tls13(&[615, 164, 53], &[32, 63, 615, 97, 53]);
    let client =
        |cert_key| ConnectionFacts { peer_cert: Some(cert(cert_key)), ..end(Side::Client, Certainty::Observed) };
    let digest = |of: KeyType| ConnectionFacts {
        peer_cert_sha256: Some(format!("digest of {of}")),
        ..end(Side::Client, Certainty::Reported)
    };
    let line_auto = |w| Evidence { handshake: Some(line(true, KeyType::P521)), ..wire(w) };
    let line_own = |w| Evidence { handshake: Some(line(false, KeyType::P521)), ..wire(w) };
    let authority = |w| Evidence { known: known.clone(), ..wire(w) };
    type Row<'a> = (&'a str, &'a str, &'a Request, Evidence, Vec<ConnectionFacts>, bool, &'a str);
    let rows: Vec<Row<'_>> = vec![
        ("our client's end", "key", &request, line_auto(packed()), vec![client(KeyType::P384)], true, "p384 observed"),
        ("TLS 1.2 wire", "key", &request, wire(tls12(KeyType::Rsa2048, None)), vec![], true, "rsa-2048 observed"),
        ("pinned field 6", "key", &request, line_auto(packed()), vec![], true, "p521 deduced"),
        ("field 6, and the case failed", "key", &request, line_auto(packed()), vec![], false, "not-observable"),
        ("field 6 that nobody pins", "key", &request, line_own(packed()), vec![], true, "not-observable"),
        ("length of the signature", "key", &request, wire(single()), vec![], false, "p256 deduced"),
        ("issued", "key", &issued, authority(packed()), vec![], true, "p256 deduced"),
        ("issued, and the case failed", "key", &issued, authority(packed()), vec![], false, "not-observable"),
        (
            "issued, but the wire says otherwise",
            "key",
            &issued,
            authority(tls13(&[53], &[32, 615, 281, 53])),
            vec![],
            true,
            "rsa-2048 deduced",
        ),
        ("asked by auto is not issued", "key", &request, authority(packed()), vec![], true, "not-observable"),
        (
            "digest of field 6, not pinned",
            "key",
            &request,
            line_own(packed()),
            vec![digest(KeyType::P521)],
            true,
            "p521 reported",
        ),
        (
            "digest of who knows what",
            "key",
            &request,
            line_own(packed()),
            vec![digest(KeyType::P256)],
            true,
            "not-observable",
        ),
        ("plaintext", "key", &request, line_auto(plaintext()), vec![], true, "not-observable"),
        ("the client's signature", "client_key", &request, wire(single()), vec![], true, "p521 deduced"),
        ("the client's certificate, let in", "client_key", &request, line_auto(packed()), vec![], true, "p384 deduced"),
        (
            "the client showed none",
            "client_key",
            &request,
            line_auto(tls13(&[53], &[900])),
            vec![],
            true,
            "not-observable",
        ),
        (
            "TLS 1.2 wire",
            "client_key",
            &request,
            wire(tls12(KeyType::P256, Some(KeyType::Ed25519))),
            vec![],
            true,
            "ed25519 observed",
        ),
    ];
    for (what, name, request, evidence, ends, passed, expected) in rows {
        assert_eq!(fact(name, request, &evidence, &ends, passed), expected, "{name}: {what}");
    }
}

#[test]
fn version_group_transport_and_protocol() {
    let request = Request {
        tls_version: Some(TlsVersion::V1_2),
        group: Some(Group::Secp384r1),
        transport: Some(Transport::Tcp),
        ..ask(TlsMode::Auto)
    };
    let evidence = Evidence { handshake: Some(line(true, KeyType::P521)), ..wire(tls13(&[700], &[900])) };
    let get = |name| fact(name, &request, &evidence, &[], true);
    assert_eq!(get("tls_version"), "1.3 observed");
    assert_eq!(get("group"), "x25519 observed");
    assert_eq!(get("transport"), "unix observed");
    assert_eq!(get("protocol"), "1 observed");
    let told = ConnectionFacts { version: Some(0x0303), group: Some(0x18), ..end(Side::Client, Certainty::Reported) };
    let alone = |name| fact(name, &request, &Evidence::default(), std::slice::from_ref(&told), true);
    assert_eq!((alone("tls_version").as_str(), alone("group").as_str()), ("1.2 reported", "secp384r1 reported"));
    assert_eq!(alone("transport"), "not-observable");
}

#[test]
fn the_more_certain_source_wins_and_the_other_is_named() {
    let told = ConnectionFacts { version: Some(0x0303), ..end(Side::Client, Certainty::Reported) };
    let request = Request { tls_version: Some(TlsVersion::V1_3), ..ask(TlsMode::Server) };
    let all = effective(&request, &wire(tls13(&[53], &[900])), &[told], true, &|f, _| {
        (f == "tls_version").then(|| "cannot be chosen".into())
    });
    let version = all.iter().find(|f| f.fact == "tls_version").unwrap();
    assert_eq!(version.effective, Effective::Value("1.3".into()));
    assert_eq!(version.source, "server hello; but the client's end says 1.2 (reported)");
    assert!(version.report_only.is_some() && !version.differs());
    assert!(!all.iter().any(|f| f.fact == "tls" && f.report_only.is_some()));
}

#[test]
fn a_failed_connection_says_nothing_of_what_was_in_force() {
    let failed = WireReport { established: Some(false), closed_by: Some(Side::Client), ..tls13(&[], &[900]) };
    let request = Request { tls_version: Some(TlsVersion::V1_3), ..ask(TlsMode::Auto) };
    let all = effective(&request, &wire(failed), &[], false, &|_, _| None);
    assert!(all.iter().all(|f| f.effective == Effective::NotObservable), "{all:?}");
}
