//! Real rustls ends, and hostile or odd bytes, through real relays.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::axis::values::{KeyType, Transport};
use crate::outcome::evidence::{Alert, Opening, Side, WireReport};

/// Only a bound against hanging; nothing is measured with it.
const BOUND: Duration = Duration::from_secs(20);

fn cert_facts(der: &[u8]) -> Option<CertFacts> {
    Some(CertFacts {
        key: Some(KeyType::P256),
        sha256: format!("{} bytes", der.len()),
        subject: String::new(),
        ca: false,
        not_before: 0,
        not_after: 0,
        dns_names: Vec::new(),
    })
}

struct Identity {
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// A self-signed leaf that is its own root, with a name of its own.
fn identity() -> Identity {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, hex::encode(key.public_key_raw()));
    let cert = params.self_signed(&key).unwrap();
    Identity { cert: cert.der().clone(), key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
}

fn roots(of: &Identity) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(of.cert.clone()).unwrap();
    roots
}

fn server_config(
    me: &Identity,
    clients: Option<&Identity>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)), provider).build().unwrap(),
        ),
    };
    Arc::new(builder.with_single_cert(vec![me.cert.clone()], me.key.clone_key()).unwrap())
}

fn client_config(trust: &Identity, me: Option<&Identity>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(trust));
    Arc::new(match me {
        None => builder.with_no_client_auth(),
        Some(me) => builder.with_client_auth_cert(vec![me.cert.clone()], me.key.clone_key()).unwrap(),
    })
}

/// One connection through a relay; both ends speak until they are done. What the relay saw.
async fn meet(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> WireReport {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Endpoint::Tcp(listener.local_addr().unwrap());
    let relay = Relay::start(target, Transport::Tcp, folder.path(), cert_facts).await.unwrap();
    let Endpoint::Tcp(address) = relay.address() else { panic!("tcp was asked for") };
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(mut tls) = TlsAcceptor::from(server).accept(stream).await {
            let mut buffer = [0; 64];
            let n = tls.read(&mut buffer).await.unwrap_or(0);
            let _ = tls.write_all(&buffer[..n]).await;
            let _ = tls.shutdown().await;
        }
    };
    let dial = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        if let Ok(mut tls) = TlsConnector::from(client).connect(name, stream).await {
            let _ = tls.write_all(b"hello through the relay").await;
            let mut buffer = Vec::new();
            let _ = tls.read_to_end(&mut buffer).await;
            buffer
        } else {
            Vec::new()
        }
    };
    let ((), echoed) = tokio::time::timeout(BOUND, async { tokio::join!(serve, dial) }).await.unwrap();
    let report = closed(&relay).await;
    assert_eq!(report.established == Some(true), echoed == b"hello through the relay", "{report:?}");
    report
}

/// The last report, once its connection is closed.
async fn closed(relay: &Relay) -> WireReport {
    let mut changes = relay.changed();
    tokio::time::timeout(BOUND, async {
        loop {
            if let Some(last) = relay.reports().pop()
                && (last.closed_by.is_some() || last.refused.is_some())
            {
                return last;
            }
            changes.changed().await.unwrap();
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn an_address_that_refuses_opens_when_it_is_asked_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start_closed(Endpoint::Tcp(listener.local_addr().unwrap()), cert_facts).unwrap();
    let Endpoint::Tcp(address) = relay.address() else { panic!("it is tcp") };
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(relay.reports().is_empty());
    relay.open();
    let dial = async {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let mut client = tokio::time::timeout(BOUND, dial).await.unwrap();
    let (mut server, _) = tokio::time::timeout(BOUND, listener.accept()).await.unwrap().unwrap();
    client.write_all(b"x").await.unwrap();
    let mut byte = [0];
    tokio::time::timeout(BOUND, server.read_exact(&mut byte)).await.unwrap().unwrap();
    assert_eq!(byte, *b"x");
}

#[tokio::test]
async fn tls13_is_read_up_to_its_end() {
    let (a, b) = (identity(), identity());
    let report = meet(server_config(&a, Some(&b), &rustls::version::TLS13), client_config(&a, Some(&b))).await;
    let hello = report.client_hello.unwrap();
    assert!(hello.versions.contains(&0x0304) && hello.groups.contains(&0x001d), "{hello:?}");
    assert!(hello.signature_schemes.contains(&0x0403) && !hello.key_shares.is_empty(), "{hello:?}");
    assert_eq!(hello.server_name.as_deref(), Some("localhost"));
    let chosen = report.server_hello.unwrap();
    assert_eq!(chosen.version, 0x0304);
    assert!(chosen.group.is_some_and(|g| hello.groups.contains(&g)));
    assert_eq!(report.client_cert_shown, Some(true));
    assert_eq!((report.client_opening, report.server_opening), (Opening::Tls, Opening::Tls));
    assert!(report.alerts.is_empty(), "{:?}", report.alerts);
    assert!(report.client_bytes > 500 && report.server_bytes > 500);
}

#[tokio::test]
async fn tls12_shows_certificates_and_curve() {
    let (a, b) = (identity(), identity());
    let report = meet(server_config(&a, Some(&b), &rustls::version::TLS12), client_config(&a, Some(&b))).await;
    let chosen = report.server_hello.unwrap();
    assert_eq!(chosen.version, 0x0303);
    assert!(chosen.group.is_some());
    assert!(report.certificate_request);
    assert_eq!(report.server_cert.unwrap().sha256, format!("{} bytes", a.cert.len()));
    assert_eq!(report.client_cert.unwrap().sha256, format!("{} bytes", b.cert.len()));
    assert_eq!(report.client_cert_shown, Some(true));
}

#[tokio::test]
async fn no_client_certificate_wanted_is_told_from_none_shown() {
    let (a, b) = (identity(), identity());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let free = meet(server_config(&a, None, version), client_config(&a, None)).await;
        assert_eq!((free.established, free.client_cert_shown), (Some(true), Some(false)));
        let missing = meet(server_config(&a, Some(&b), version), client_config(&a, None)).await;
        assert_eq!((missing.established, missing.client_cert_shown), (Some(false), Some(false)));
        assert_eq!(missing.alerts.first().map(|a| a.from), Some(Side::Server), "{missing:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_know_the_authority() {
    let (a, b) = (identity(), identity());
    let report = meet(server_config(&a, None, &rustls::version::TLS12), client_config(&b, None)).await;
    assert_eq!(report.alerts, [Alert { from: Side::Client, number: Some(48), encrypted: false }]);
    assert_eq!((report.established, report.closed_by), (Some(false), Some(Side::Client)));
    let report = meet(server_config(&a, None, &rustls::version::TLS13), client_config(&b, None)).await;
    assert_eq!(report.alerts, [Alert { from: Side::Client, number: None, encrypted: true }]);
    assert_eq!((report.established, report.client_records.first()), (Some(false), Some(&19)));
}

#[tokio::test]
async fn a_server_that_does_not_know_the_clients_authority() {
    let (a, b, c) = (identity(), identity(), identity());
    let report = meet(server_config(&a, Some(&b), &rustls::version::TLS13), client_config(&a, Some(&c))).await;
    assert_eq!((report.established, report.client_cert_shown), (Some(false), Some(true)));
    let alert = Alert { from: Side::Server, number: None, encrypted: true };
    assert_eq!(report.alerts.first(), Some(&alert), "{report:?}");
}

#[tokio::test]
async fn plaintext_http2_is_recognised_and_copied_over_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let relay = Relay::start(Endpoint::Unix(path), Transport::Unix, folder.path(), cert_facts).await.unwrap();
    let Endpoint::Unix(address) = relay.address() else { panic!("unix was asked for") };
    let mut client = UnixStream::connect(&address).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0x40, 0]).await.unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and more").await.unwrap();
    // More than any buffer on the way: it arrives whole, and the half-close after it too.
    let big = vec![7_u8; 3 << 20];
    let send = async {
        client.write_all(&big).await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let receive = async {
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        server.write_all(b"after the half-close").await.unwrap();
        drop(server);
        all.len()
    };
    let (rest, received) = tokio::time::timeout(BOUND, async { tokio::join!(send, receive) }).await.unwrap();
    assert_eq!(received, 24 + 9 + big.len());
    assert!(rest.ends_with(b"after the half-close"));
    let report = closed(&relay).await;
    assert_eq!((report.client_opening, report.server_opening), (Opening::Http2, Opening::Http2));
    assert_eq!((report.closed_by, report.established, report.reset), (Some(Side::Client), None, false));
    assert_eq!(report.client_bytes, 24 + 9 + big.len() as u64);
    drop(relay);
    tokio::time::timeout(BOUND, async {
        while address.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the relay's socket goes with it");
}

#[tokio::test]
async fn a_dead_target_is_a_refusal_and_the_client_is_reset() {
    let folder = tempfile::tempdir().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let relay = Relay::start(Endpoint::Tcp(gone), Transport::Tcp, folder.path(), cert_facts).await.unwrap();
    let Endpoint::Tcp(address) = relay.address() else { panic!("tcp was asked for") };
    let mut client = TcpStream::connect(address).await.unwrap();
    let read = tokio::time::timeout(BOUND, client.read(&mut [0; 8])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let report = closed(&relay).await;
    assert!(report.refused.as_deref().is_some_and(|t| t.contains("refused")), "{report:?}");
}

#[tokio::test]
async fn a_reset_is_passed_on_and_reported_with_what_came_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Endpoint::Tcp(listener.local_addr().unwrap());
    let relay = Relay::start(target, Transport::Tcp, folder.path(), cert_facts).await.unwrap();
    let Endpoint::Tcp(address) = relay.address() else { panic!("tcp was asked for") };
    let mut client = TcpStream::connect(address).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    // A fatal handshake_failure in plaintext.
    server.write_all(&[21, 3, 3, 0, 2, 2, 40]).await.unwrap();
    let mut alert = [0; 7];
    client.read_exact(&mut alert).await.unwrap();
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    let read = tokio::time::timeout(BOUND, client.read(&mut [0; 8])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let report = closed(&relay).await;
    assert_eq!(report.alerts, [Alert { from: Side::Server, number: Some(40), encrypted: false }]);
    assert_eq!((report.closed_by, report.reset), (Some(Side::Server), true));
}

#[tokio::test]
async fn many_connections_keep_the_first_and_the_last_reports() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Endpoint::Tcp(listener.local_addr().unwrap());
    let relay = Relay::start(target, Transport::Tcp, folder.path(), cert_facts).await.unwrap();
    let Endpoint::Tcp(address) = relay.address() else { panic!("tcp was asked for") };
    // Each is known by the number of its bytes.
    for n in 1..=40 {
        let mut changes = relay.changed();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&vec![7; n]).await.unwrap();
        drop(client);
        let (mut server, _) = listener.accept().await.unwrap();
        server.read_to_end(&mut Vec::new()).await.unwrap();
        drop(server);
        let bytes = u64::try_from(n).unwrap();
        let over = |last: &WireReport| last.client_bytes == bytes && last.closed_by.is_some();
        while !relay.reports().last().is_some_and(over) {
            tokio::time::timeout(BOUND, changes.changed()).await.unwrap().unwrap();
        }
    }
    let kept: Vec<u64> = relay.reports().iter().map(|report| report.client_bytes).collect();
    assert_eq!(kept, (1..=4).chain(13..=40).collect::<Vec<_>>());
}

mod bytes {
    //! The reader alone, on byte sequences.
    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 3, 3];
        record.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        record.extend(body);
        record
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
        message.extend(body);
        message
    }

    fn server_hello13() -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend([0, 0x13, 0x01, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
        record(22, &message(2, &body))
    }

    /// What grpcio does when it meets a certificate that it cannot verify: nothing, and closes.
    #[test]
    fn a_client_that_leaves_without_a_word() {
        let mut c = Conversation::new(Transport::Unix, cert_facts);
        c.bytes(Side::Client, &record(22, &message(1, &[0; 40])));
        c.bytes(Side::Server, &server_hello13());
        c.bytes(Side::Server, &record(20, &[1]));
        c.bytes(Side::Server, &record(23, &[0; 700]));
        assert_eq!(c.report().established, None);
        c.ended(Side::Client, false);
        c.ended(Side::Server, true);
        let report = c.report();
        assert_eq!((report.closed_by, report.established), (Some(Side::Client), Some(false)));
        assert_eq!((report.server_records.as_slice(), report.client_records.len()), (&[700][..], 0));
        assert!(report.alerts.is_empty() && !report.reset);
    }

    #[test]
    fn a_close_notify_before_the_end_is_no_establishment() {
        let mut c = Conversation::new(Transport::Tcp, cert_facts);
        c.bytes(Side::Server, &server_hello13());
        c.bytes(Side::Server, &record(23, &[0; 700]));
        c.bytes(Side::Client, &record(23, &[0; 53]));
        assert_eq!(c.report().client_cert_shown, Some(false));
        c.bytes(Side::Server, &record(23, &[0; 19]));
        assert_eq!(c.report().established, None);
        c.bytes(Side::Server, &record(23, &[0; 50]));
        assert_eq!(c.report().established, Some(true));
    }

    #[test]
    fn only_trouble_is_news_to_those_who_wait() {
        let mut c = Conversation::new(Transport::Tcp, cert_facts);
        assert_eq!(c.bytes(Side::Client, &record(22, &message(1, &[0; 40]))), News::Progress);
        assert_eq!(c.bytes(Side::Server, &server_hello13()), News::Progress);
        assert_eq!(c.bytes(Side::Server, &record(23, &[0; 700])), News::None);
        assert_eq!(c.bytes(Side::Client, &record(23, &[0; 19])), News::Trouble);
        let mut c = Conversation::new(Transport::Tcp, cert_facts);
        c.bytes(Side::Client, &record(22, &[0]));
        assert_eq!(c.bytes(Side::Server, &[0, 0, 0, 4, 0, 0, 0, 0, 0]), News::Trouble);
    }

    #[test]
    fn messages_may_be_spread_over_records_and_calls() {
        let hello = message(2, &server_hello13()[9..]);
        let mut stream = record(22, &hello[..10]);
        stream.extend(record(22, &hello[10..]));
        let mut c = Conversation::new(Transport::Tcp, cert_facts);
        for byte in stream {
            c.bytes(Side::Server, &[byte]);
        }
        assert_eq!(c.report().server_hello.as_ref().map(|h| h.version), Some(0x0304));
    }

    #[test]
    fn other_protocols_are_kept_as_hex() {
        let mut c = Conversation::new(Transport::Tcp, cert_facts);
        c.bytes(Side::Client, b"GET / HTTP/1.1\r\n\r\n");
        c.bytes(Side::Server, &[0, 0]);
        c.ended(Side::Server, false);
        assert_eq!(c.report().client_opening, Opening::Other(hex::encode(b"GET / HTTP/1.1\r\n")));
        assert_eq!(c.report().server_opening, Opening::Other("0000".into()));
        assert!(c.is_read());
    }

    proptest::proptest! {
        /// Whatever comes, in whatever pieces: no panic, and bounded reports.
        #[test]
        fn hostile_bytes_are_survived(
            turns in proptest::collection::vec((proptest::bool::ANY, 0..8_usize, proptest::collection::vec(proptest::num::u8::ANY, 0..80)), 0..60)
        ) {
            let mut c = Conversation::new(Transport::Tcp, cert_facts);
            for (from_client, shape, bytes) in turns {
                let side = if from_client { Side::Client } else { Side::Server };
                let input = match shape {
                    0 => bytes,
                    1 => server_hello13(),
                    2 => record(22, &message(1, &bytes)),
                    3 => record(22, &message(11, &bytes)),
                    4 => record(20, &[1]),
                    5 => record(21, &bytes),
                    6 => record(22, &bytes),
                    _ => record(23, &bytes),
                };
                c.bytes(side, &input);
            }
            c.ended(Side::Client, true);
            let report = c.report();
            proptest::prop_assert!(report.client_records.len() <= 16 && report.server_records.len() <= 16);
            proptest::prop_assert!(report.alerts.len() <= 8);
            proptest::prop_assert!(c.held() <= 2 * (64 * 1024 + 4 + (1 << 14) + 2048 + 32 + 32 * 1024));
        }

        /// However the stream is cut, the report is the same.
        #[test]
        fn the_cut_does_not_matter(cuts in proptest::collection::vec(1..90_usize, 1..12)) {
            let mut stream = record(22, &message(1, &[3; 60]));
            stream.extend(record(20, &[1]));
            stream.extend(record(23, &[0; 74]));
            let whole = {
                let mut c = Conversation::new(Transport::Tcp, cert_facts);
                c.bytes(Side::Client, &stream);
                c.report().clone()
            };
            let mut c = Conversation::new(Transport::Tcp, cert_facts);
            let (mut rest, mut cuts) = (stream.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                c.bytes(Side::Client, piece);
                rest = tail;
            }
            proptest::prop_assert_eq!(c.report(), &whole);
        }
    }
}
