//! The built-in client against the built-in server in process: every key type, TLS version and
//! socket family, and every refusal with its cause on both ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use soupscen::axis::values::{Group, KeyType, TlsMode, TlsVersion, Transport};
use soupscen::outcome::Phase;
use soupscen::peer::builtin::broken::Defect;
use soupscen::peer::builtin::proto::kv::{GetRequest, GetResponse, PutRequest};
use soupscen::peer::builtin::{BuiltinClient, BuiltinServer, KV_SERVICE};
use soupscen::peer::{
    CallOptions, CallRequest, CallResult, ChannelOptions, Client as _, ConnectRequest, Connection, Limits, PeerError,
    ServeRequest, Served, Server as _, Target, TlsSpec,
};
use soupscen::pki::{Authority, Identity, Role};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(20);

/// A server that runs, and the folder that it may use.
struct Up {
    served: Arc<dyn Served>,
    _folder: TempDir,
}

impl Up {
    async fn start(server: &BuiltinServer, transport: Transport, tls: TlsSpec) -> Result<Self, PeerError> {
        let folder = tempfile::tempdir().unwrap();
        let request = ServeRequest {
            service: KV_SERVICE.into(),
            transport,
            tls,
            folder: folder.path().into(),
            storage: folder.path().into(),
            limits: Limits::default(),
            within: WITHIN,
        };
        Ok(Self { served: server.serve(request).await?, _folder: folder })
    }

    async fn connect(&self, tls: TlsSpec) -> Result<Box<dyn Connection>, PeerError> {
        let request =
            ConnectRequest { target: self.served.target(), tls, options: ChannelOptions::default(), within: WITHIN };
        BuiltinClient::default().connect(request).await
    }

    /// The cause codes of both ends of a connection that must fail; the server's is waited for.
    async fn refusal(&self, tls: TlsSpec) -> (String, String) {
        let error = self.connect(tls).await.err().expect("the connection must fail");
        assert!(error.reported.phase.is_some(), "{error:?}");
        let client = error.reported.cause.expect("our own end always knows").code;
        for _ in 0..2000 {
            if let Some(failure) = self.served.seen().into_iter().find_map(|saw| saw.failure) {
                return (client, failure.cause.unwrap().code);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the server saw no failure; the client says {client}");
    }
}

fn spec(mode: TlsMode, ca: Option<&Arc<Identity>>, identity: Option<&Arc<Identity>>) -> TlsSpec {
    TlsSpec { mode, ca: ca.cloned(), identity: identity.cloned(), ..TlsSpec::none() }
}

async fn call(connection: &dyn Connection, method: &str, message: Vec<u8>) -> CallResult {
    let request = CallRequest {
        method: format!("{KV_SERVICE}/{method}"),
        send: vec![message.into()],
        metadata: vec![],
        deadline: WITHIN,
        options: CallOptions::default(),
    };
    connection.call(request).await.unwrap()
}

async fn put_get(connection: &dyn Connection) {
    let put = PutRequest { key: "k".into(), value: Bytes::from_static(b"v\0\xff") };
    assert_eq!(call(connection, "Put", put.encode_to_vec()).await.status.code, "OK");
    let got = call(connection, "Get", GetRequest { key: "k".into() }.encode_to_vec()).await;
    assert_eq!(got.status.code, "OK");
    assert_eq!(GetResponse::decode(got.receive[0].clone()).unwrap().value, b"v\0\xff"[..]);
    let absent = call(connection, "Get", GetRequest { key: "absent".into() }.encode_to_vec()).await;
    assert_eq!((absent.status.code.as_str(), absent.local), ("NOT_FOUND", Some(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_version_and_family_works_and_is_seen_on_both_ends() {
    let authority = Authority::new(None).unwrap();
    let all = KeyType::ALL.iter().flat_map(|&key| [(Role::Server, key), (Role::Client, key)]);
    authority.prepare(all).await.unwrap();
    for &key in KeyType::ALL {
        let server_id = authority.issue(Role::Server, key).await.unwrap();
        let client_id = authority.issue(Role::Client, key).await.unwrap();
        for mode in [TlsMode::Server, TlsMode::Mutual] {
            for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
                for transport in [Transport::Tcp, Transport::Unix] {
                    let tls =
                        TlsSpec { version: Some(version), ..spec(mode, Some(&authority.root()), Some(&server_id)) };
                    let up = Up::start(&BuiltinServer::new(), transport, tls).await.unwrap();
                    let client = spec(mode, Some(&authority.root()), Some(&client_id));
                    let connection =
                        up.connect(client).await.unwrap_or_else(|error| panic!("{key} {mode} {version}: {error:?}"));
                    put_get(connection.as_ref()).await;

                    let wire = if version == TlsVersion::V1_2 { 0x0303 } else { 0x0304 };
                    let facts = connection.facts().unwrap();
                    assert_eq!(facts.tls, Some(true));
                    assert_eq!(facts.version, Some(wire));
                    assert_eq!(facts.transport, Some(transport));
                    assert_eq!(facts.peer_cert.unwrap().key, Some(key));
                    let seen = up.served.seen().pop().unwrap().facts.unwrap();
                    assert_eq!(seen.version, Some(wire));
                    assert_eq!(seen.group, facts.group);
                    assert_eq!(seen.peer_cert_shown, Some(mode == TlsMode::Mutual));
                    assert_eq!(seen.peer_cert.and_then(|cert| cert.key), (mode == TlsMode::Mutual).then_some(key));
                    connection.close().await;
                    up.served.stop(WITHIN).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn plaintext_works_on_both_families_and_is_said_to_be_plaintext() {
    for transport in [Transport::Tcp, Transport::Unix] {
        let up = Up::start(&BuiltinServer::new(), transport, TlsSpec::none()).await.unwrap();
        let connection = up.connect(TlsSpec::none()).await.unwrap();
        put_get(connection.as_ref()).await;
        assert_eq!(connection.facts().unwrap().tls, Some(false));
        connection.close().await;
        let target = up.served.target();
        up.served.stop(WITHIN).await;
        if let Target::Unix(path) = target {
            assert!(!path.exists(), "a stopped server leaves no socket");
        }
    }
}

#[tokio::test]
async fn each_group_is_used_when_asked_for_and_the_missing_one_is_refused() {
    let authority = Authority::new(None).unwrap();
    let own = authority.issue(Role::Server, KeyType::P256).await.unwrap();
    let tls = spec(TlsMode::Server, None, Some(&own));
    let up = Up::start(&BuiltinServer::new(), Transport::Tcp, tls).await.unwrap();
    for (group, wire) in
        [(Group::X25519, 0x1d), (Group::Secp256r1, 0x17), (Group::Secp384r1, 0x18), (Group::X25519Mlkem768, 0x11ec)]
    {
        let client = TlsSpec { group: Some(group), ..spec(TlsMode::Server, Some(&authority.root()), None) };
        let connection = up.connect(client).await.unwrap();
        assert_eq!(connection.facts().unwrap().group, Some(wire), "{group}");
        connection.close().await;
    }
    let client = TlsSpec { group: Some(Group::Secp521r1), ..spec(TlsMode::Server, Some(&authority.root()), None) };
    let error = up.connect(client).await.err().unwrap();
    assert!(error.refused);
    assert_eq!(error.reported.cause.unwrap().code, "tls.unsupported.group");
}

/// What the two ends of a refused connection must say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_cause_on_both_ends() {
    use TlsMode::{Auto, Mutual, Server};
    let (ours, theirs) = (Authority::new(None).unwrap(), Authority::new(None).unwrap());
    let server = ours.issue(Role::Server, KeyType::P256).await.unwrap();
    let client = ours.issue(Role::Client, KeyType::P256).await.unwrap();
    let stranger = theirs.issue(Role::Client, KeyType::P256).await.unwrap();
    let (root, other_root) = (ours.root(), theirs.root());
    let mutual = spec(Mutual, Some(&root), Some(&server));
    let named = |name: &str, spec: TlsSpec| TlsSpec { server_name: name.into(), ..spec };
    let versioned = |version, spec: TlsSpec| TlsSpec { version: Some(version), ..spec };
    let grouped = |group, spec: TlsSpec| TlsSpec { group: Some(group), ..spec };
    let own_server = spec(Server, None, Some(&server));
    let trusting = spec(Server, Some(&root), None);
    // A server that shows a CA as its leaf, as go-plugin's self-signed ones are.
    let selfish = ours.auto_mtls(KeyType::P256).await.unwrap();
    let auto_like = |pinned: &Arc<Identity>| spec(Auto, Some(pinned), Some(&client));

    let cases = [
        (
            "wrong CA",
            own_server.clone(),
            spec(Server, Some(&other_root), None),
            "tls.rejected.server-cert.by-client.unknown-ca",
            "tls.rejected.server-cert.by-client.unknown-ca",
        ),
        (
            "wrong name",
            own_server.clone(),
            named("example.org", trusting.clone()),
            "tls.rejected.server-cert.by-client.name",
            "tls.rejected.server-cert.by-client",
        ),
        (
            "CA shown as a leaf",
            spec(Server, None, Some(&selfish)),
            spec(Server, Some(&selfish), None),
            "tls.rejected.server-cert.by-client.ca-as-leaf",
            "tls.rejected.server-cert.by-client",
        ),
        (
            "no client certificate, TLS 1.3",
            versioned(TlsVersion::V1_3, mutual.clone()),
            spec(Mutual, Some(&root), None),
            "tls.rejected.client-cert.by-server.missing",
            "tls.rejected.client-cert.by-server.missing",
        ),
        (
            "no client certificate, TLS 1.2",
            versioned(TlsVersion::V1_2, mutual.clone()),
            spec(Mutual, Some(&root), None),
            "tls.rejected.client-cert.by-server.missing",
            "tls.rejected.client-cert.by-server.missing",
        ),
        (
            "a stranger's client certificate, TLS 1.3",
            versioned(TlsVersion::V1_3, mutual.clone()),
            spec(Mutual, Some(&root), Some(&stranger)),
            "tls.rejected.client-cert.by-server.unknown-ca",
            "tls.rejected.client-cert.by-server.unknown-ca",
        ),
        (
            "a stranger's client certificate, TLS 1.2",
            versioned(TlsVersion::V1_2, mutual.clone()),
            spec(Mutual, Some(&root), Some(&stranger)),
            "tls.rejected.client-cert.by-server.unknown-ca",
            "tls.rejected.client-cert.by-server.unknown-ca",
        ),
        (
            "another server certificate than the pinned one",
            own_server.clone(),
            auto_like(&selfish),
            "tls.rejected.server-cert.by-client.not-pinned",
            "tls.rejected.server-cert.by-client",
        ),
        (
            "no version in common",
            versioned(TlsVersion::V1_3, own_server.clone()),
            versioned(TlsVersion::V1_2, trusting.clone()),
            "tls.no-common.version",
            "tls.no-common.version",
        ),
        (
            "no group in common",
            grouped(Group::Secp384r1, own_server.clone()),
            grouped(Group::X25519, trusting.clone()),
            "tls.alert.handshake-failure",
            "tls.no-common.group",
        ),
        ("TLS to a plaintext server", TlsSpec::none(), trusting, "tls.plaintext-server", "tls.plaintext-server"),
        ("plaintext to a TLS server", own_server, TlsSpec::none(), "tls.plaintext-client", "tls.plaintext-client"),
        ("plaintext to a mutual server", mutual, TlsSpec::none(), "tls.plaintext-client", "tls.plaintext-client"),
    ];
    for (what, server, client, at_client, at_server) in cases {
        for transport in [Transport::Tcp, Transport::Unix] {
            let up = Up::start(&BuiltinServer::new(), transport, server.clone()).await.unwrap();
            let refusal = up.refusal(client.clone()).await;
            assert_eq!(refusal, (at_client.to_owned(), at_server.to_owned()), "{what} on {transport}");
        }
    }
}

#[tokio::test]
async fn a_dead_address_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stale = folder.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for (target, code) in [
        (Target::Tcp(port), "connect.refused"),
        (Target::Unix(stale), "connect.refused"),
        (Target::Unix(folder.path().join("never")), "connect.refused.no-socket"),
    ] {
        let request =
            ConnectRequest { target, tls: TlsSpec::none(), options: ChannelOptions::default(), within: WITHIN };
        let error = BuiltinClient::default().connect(request).await.err().unwrap();
        assert_eq!(error.reported.phase, Some(Phase::Connect));
        assert_eq!(error.reported.cause.unwrap().code, code);
        assert!(!error.timed_out && !error.harness);
    }
}

#[tokio::test]
async fn a_silent_server_runs_into_the_budget() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = Authority::new(None).unwrap();
    for (tls, code) in
        [(TlsSpec::none(), "rpc.timeout"), (spec(TlsMode::Server, Some(&authority.root()), None), "tls.timeout")]
    {
        let request = ConnectRequest {
            target: Target::Tcp(listener.local_addr().unwrap()),
            tls,
            options: ChannelOptions::default(),
            within: Duration::from_millis(50),
        };
        let error = BuiltinClient::default().connect(request).await.err().unwrap();
        assert!(error.timed_out);
        assert_eq!(error.reported.cause.unwrap().code, code);
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_from_a_status() {
    let up = Up::start(&BuiltinServer::new(), Transport::Tcp, TlsSpec::none()).await.unwrap();
    let connection = up.connect(TlsSpec::none()).await.unwrap();
    up.served.stop(Duration::from_millis(0)).await;
    let result = call(connection.as_ref(), "Get", GetRequest { key: "k".into() }.encode_to_vec()).await;
    assert_eq!((result.status.code.as_str(), result.local), ("UNAVAILABLE", Some(true)), "{result:?}");
    // It said so first: hyper's graceful shutdown sends GOAWAY.
    assert_eq!(result.reported.unwrap().cause.unwrap().code, "rpc.goaway.no-error");
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_words() {
    let auto = spec(TlsMode::Auto, None, None);
    let error = Up::start(&BuiltinServer::new(), Transport::Tcp, auto).await.err().unwrap();
    assert!(error.refused, "{error:?}");
    let folder = tempfile::tempdir().unwrap();
    let request = ServeRequest {
        service: "shop.Orders".into(),
        transport: Transport::Tcp,
        tls: TlsSpec::none(),
        folder: folder.path().into(),
        storage: folder.path().into(),
        limits: Limits::default(),
        within: WITHIN,
    };
    let error = BuiltinServer::new().serve(request).await.err().unwrap();
    assert!(error.refused && error.reported.error.contains("shop.Orders"));
}

#[tokio::test]
async fn liars_are_seen_in_the_facts() {
    let authority = Arc::new(Authority::new(None).unwrap());
    let server = authority.issue(Role::Server, KeyType::P256).await.unwrap();
    let client = authority.issue(Role::Client, KeyType::P256).await.unwrap();
    let ask = spec(TlsMode::Mutual, Some(&authority.root()), Some(&server));
    let lie = |defect| BuiltinServer::lying(defect, Arc::clone(&authority));
    let dial = spec(TlsMode::Mutual, Some(&authority.root()), Some(&client));

    let up = Up::start(&lie(Defect::IgnoresKey), Transport::Tcp, ask.clone()).await.unwrap();
    let facts = up.connect(dial.clone()).await.unwrap().facts().unwrap();
    assert_eq!(facts.peer_cert.unwrap().key, Some(KeyType::P384));

    let up = Up::start(&lie(Defect::IgnoresMutual), Transport::Tcp, ask.clone()).await.unwrap();
    up.connect(dial).await.unwrap();
    assert_eq!(up.served.seen().pop().unwrap().facts.unwrap().peer_cert_shown, Some(false));

    let up = Up::start(&lie(Defect::IgnoresTransport), Transport::Tcp, ask.clone()).await.unwrap();
    assert_eq!(up.served.target().transport(), Transport::Unix);

    let up = Up::start(&lie(Defect::IgnoresTls), Transport::Tcp, ask).await.unwrap();
    assert_eq!(up.connect(TlsSpec::none()).await.unwrap().facts().unwrap().tls, Some(false));
}
