//! `soupscen serve kv` and `soupscen call` as programs, and the built-in host launching plugins.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message as _;
use soupscen::axis::values::{KeyType, TlsMode, TlsVersion, Transport};
use soupscen::handshake::read_line;
use soupscen::outcome::Phase;
use soupscen::peer::builtin::BuiltinClient;
use soupscen::peer::builtin::broken::Defect;
use soupscen::peer::builtin::proto::health::HealthCheckRequest;
use soupscen::peer::builtin::proto::kv::{GetRequest, GetResponse, PutRequest};
use soupscen::peer::{CallOptions, CallRequest, Client as _, Connection, LaunchRequest, PeerError, Target, TlsSpec};
use soupscen::pki::{Authority, Role};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_soupscen");
const WITHIN: Duration = Duration::from_secs(20);

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    // No place for notes of what is served: these tests name their servers.
    command
        .env_clear()
        .env("SOUPSCEN_HOME", "/dev/null/none")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Starts it and reads its first line.
fn start(command: &mut Command) -> (Running, String) {
    let mut running = Running(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(running.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (running, line)
}

fn terminate(running: &mut Running) -> Option<i32> {
    kill(Pid::from_raw(running.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    running.0.wait().unwrap().code()
}

#[test]
fn a_wrong_or_missing_cookie_is_explained_in_three_lines() {
    for (name, value, shown) in [("BASIC_PLUGIN", "goodbye", "`goodbye`"), ("PLUGIN_PROTOCOL_VERSIONS", "1", "missing")]
    {
        let (status, stdout, stderr) = run(program(&["serve", "kv"]).env(name, value));
        assert_eq!(status, Some(1));
        assert_eq!(stdout, "");
        assert_eq!(stderr.lines().count(), 3, "{stderr}");
        assert!(stderr.contains("BASIC_PLUGIN") && stderr.contains(shown), "{stderr}");
    }
    let (status, stdout, stderr) = run(&mut program(&["serve", "kv"]));
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("--address"), "{stderr}");
}

#[test]
fn a_plugin_prints_its_line_and_leaves_no_socket_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&["serve", "kv"]);
    command.env("BASIC_PLUGIN", "hello").env("PLUGIN_UNIX_SOCKET_DIR", folder.path());
    command.env("PLUGIN_PROTOCOL_VERSIONS", "7,1").env("PLUGIN_MULTIPLEX_GRPC", "false");
    let (mut running, line) = start(&mut command);
    let reading = read_line(line.as_bytes(), &[1], false);
    assert_eq!(reading.problem, None, "{line}");
    let line = reading.line.unwrap();
    assert_eq!((line.protocol, line.cert, line.multiplex), (1, None, Some(false)));
    let Target::Unix(path) = line.target else { panic!("plugins listen on unix sockets") };
    assert!(path.exists() && path.starts_with(folder.path()));
    // Ctrl-C of a terminal reaches plugins too; ending is their host's business.
    kill(Pid::from_raw(running.0.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(terminate(&mut running), Some(0));
    assert!(!path.exists());
    let mut rest = String::new();
    running.0.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "stdout carries the line and nothing else");
}

#[test]
fn a_tcp_plugin_takes_a_port_of_the_range() {
    let mut command = program(&["serve", "kv", "--transport", "tcp"]);
    command.env("BASIC_PLUGIN", "hello").env("PLUGIN_MIN_PORT", "20000").env("PLUGIN_MAX_PORT", "29999");
    let (_first, line) = start(&mut command);
    let (_second, other) = start(&mut command);
    let port = |line: &str| match read_line(line.as_bytes(), &[1], false).line.unwrap().target {
        Target::Tcp(address) => address.port(),
        Target::Unix(_) => panic!("{line}"),
    };
    assert!((20000..30000).contains(&port(&line)) && (20000..30000).contains(&port(&other)));
    assert_ne!(port(&line), port(&other));
}

#[test]
fn call_reaches_a_direct_server_with_every_tls_mode() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let (certs_text, socket) = (certs.to_str().unwrap(), format!("unix:{}/kv", folder.path().display()));
    let file = |name: &str| certs.join(name).to_str().unwrap().to_owned();
    for (address, mode) in [("127.0.0.1:0", "none"), (&socket, "server"), ("127.0.0.1:0", "mutual")] {
        let mut command = program(&["serve", "kv", "--address", address, "--tls", mode]);
        if mode != "none" {
            let _ = std::fs::remove_dir_all(&certs);
            command.args(["--make-certs", certs_text, "--key-type", "p384"]);
        }
        let (mut running, line) = start(&mut command);
        let at = line.split(" at ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let (ca, cert, key) = (file("ca.crt"), file("client-p384.crt"), file("client-p384.key"));
        let mut tls = vec!["--server", at, "--tls", mode];
        if mode != "none" {
            tls.extend(["--ca", &ca]);
        }
        if mode == "mutual" {
            tls.extend(["--cert", &cert, "--key", &key]);
        }
        let call = |args: &[&str]| run(program(&["call"]).args(args).args(&tls));
        assert_eq!(call(&["kv.put", "key=a", "value=one"]), (Some(0), String::new(), String::new()), "{mode}");
        assert_eq!(call(&["kv.get", "key=a"]), (Some(0), "one\n".into(), String::new()), "{mode}");
        let (status, _, stderr) = call(&["kv.get", "key=b"]);
        assert_eq!((status, stderr.as_str()), (Some(1), "NOT_FOUND: key not found: b\n"));
        let (status, stdout, _) = call(&["kv.get", "key=a", "--json", "--metadata", "x-a=1", "--deadline", "10s"]);
        let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((status, json["value"].as_str()), (Some(0), Some("one")));
        assert_eq!(json["connection"]["tls"].as_bool(), Some(mode != "none"));
        let get = |how: &[&str]| call(&[&["proto.KV/Get"], how].concat());
        assert_eq!(get(&["key=a"]), (Some(0), "{\"value\":\"one\"}\n".into(), String::new()));
        assert_eq!(get(&["--data", "{\"key\":\"a\"}"]).1, "{\"value\":\"one\"}\n");
        assert_eq!(get(&["--hex", "0a0161"]).1, "0a036f6e65\n");
        assert_eq!(terminate(&mut running), Some(0));
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file("client-p384.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn call_says_what_is_wrong_with_its_input() {
    for (args, says) in [
        (&["call", "kv.get", "--server", "127.0.0.1:1"][..], "key="),
        (&["call", "kv.get", "key=a", "x=b", "--server", "127.0.0.1:1"], "takes no `x`"),
        (&["call", "kv.drop", "--server", "127.0.0.1:1"], "known are kv.get"),
        (&["call", "kv.get", "key=a", "--server", "nowhere"], "unix:PATH"),
        (&["call", "proto.KV/Got", "--server", "127.0.0.1:1"], "Get"),
        (&["call", "proto.KV/Get", "kee=a", "--server", "127.0.0.1:1"], "key"),
        (&["call", "shop.Orders/Get", "--server", "127.0.0.1:1"], "shop.Orders"),
        (&["call", "kv.get", "key=a"], "--server"),
        (&["call", "kv.get", "key=a", "--server", "127.0.0.1:1", "--deadline", "soon"], "500ms"),
        (&["call", "kv.get", "key=a", "--server", "127.0.0.1:1", "--tls", "server", "--ca", "/absent"], "/absent"),
    ] {
        let (status, stdout, stderr) = run(&mut program(args));
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
    let (status, _, stderr) = run(&mut program(&["call", "kv.get", "key=a", "--server", "127.0.0.1:1"]));
    assert_eq!(status, Some(1));
    assert!(stderr.contains("connect.refused"), "{stderr}");
}

/// A launch and the folder that it uses.
struct Launch {
    args: Vec<String>,
    env: Vec<(String, String)>,
    tls: TlsSpec,
    within: Duration,
    folder: TempDir,
}

impl Launch {
    fn new(mode: TlsMode, args: &[&str]) -> Self {
        Self {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: vec![],
            tls: TlsSpec { mode, ..TlsSpec::none() },
            within: WITHIN,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn go(&self, client: &BuiltinClient) -> Result<Box<dyn Connection>, PeerError> {
        let argv = [PROGRAM, "serve", "kv"].into_iter().map(str::to_owned).chain(self.args.iter().cloned());
        let request = LaunchRequest {
            argv: argv.collect(),
            env: self.env.clone(),
            cookie: ("BASIC_PLUGIN".into(), "hello".into()),
            protocol_versions: vec![1],
            tls: self.tls.clone(),
            folder: self.folder.path().into(),
            within: self.within,
            grace: WITHIN,
            last_word: soupscen::peer::LastWord::default(),
        };
        client.launch(request).await
    }

    async fn code(&self) -> (Option<Phase>, String) {
        match self.go(&BuiltinClient::default()).await {
            Ok(_) => panic!("{:?} must fail", self.args),
            Err(error) => (error.reported.phase, error.reported.cause.unwrap().code),
        }
    }
}

async fn put_get(connection: &dyn Connection, key: &str) {
    let call = |method: &str, message: Vec<u8>| CallRequest {
        method: format!("proto.KV/{method}"),
        send: vec![message.into()],
        metadata: vec![],
        deadline: WITHIN,
        options: CallOptions::default(),
    };
    let put = PutRequest { key: key.into(), value: Bytes::from_static(b"value") };
    let result = connection.call(call("Put", put.encode_to_vec())).await.unwrap();
    assert_eq!(result.status.code, "OK", "{result:?}");
    let result = connection.call(call("Get", GetRequest { key: key.into() }.encode_to_vec())).await.unwrap();
    assert_eq!(GetResponse::decode(result.receive[0].clone()).unwrap().value, b"value"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_mtls_works_with_every_key_type_on_both_sides() {
    let authority = Authority::new(None).unwrap();
    let keys = tempfile::tempdir().unwrap();
    for &key in KeyType::ALL {
        let own = authority.auto_mtls(key).await.unwrap();
        // RSA keys are made once here and handed over; a plugin makes curves itself.
        let files = own.write_to(keys.path(), key.name()).unwrap();
        let (cert, key_file) = (files.cert.to_str().unwrap(), files.key.as_ref().unwrap().to_str().unwrap());
        let rsa = matches!(key, KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096);
        let args = if rsa { vec!["--cert", cert, "--key", key_file] } else { vec!["--key-type", key.name()] };
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let mut launch = Launch::new(TlsMode::Auto, &args);
            launch.tls.identity = Some(own.clone());
            launch.tls.version = Some(version);
            let connection =
                launch.go(&BuiltinClient::default()).await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
            put_get(connection.as_ref(), key.name()).await;
            let facts = connection.facts().unwrap();
            assert_eq!(facts.peer_cert.unwrap().key, Some(key));
            assert_eq!(facts.transport, Some(Transport::Unix));
            connection.close().await;
            assert_eq!(std::fs::read_dir(launch.folder.path()).unwrap().count(), 0, "no socket is left");
        }
    }
}

#[tokio::test]
async fn stock_launches_work_and_a_stranger_is_refused() {
    let launch = Launch::new(TlsMode::Auto, &["--transport", "tcp"]);
    let connection = launch.go(&BuiltinClient::default()).await.unwrap();
    put_get(connection.as_ref(), "k").await;
    assert_eq!(connection.facts().unwrap().peer_cert.unwrap().key, Some(KeyType::P256));
    connection.close().await;

    let launch = Launch::new(TlsMode::None, &[]);
    let connection = launch.go(&BuiltinClient::default()).await.unwrap();
    put_get(connection.as_ref(), "k").await;
    assert_eq!(connection.facts().unwrap().tls, Some(false));
    connection.close().await;

    // A plugin that pins another client than the one that comes: its own files, another's PEM.
    let other = Authority::new(None).unwrap().auto_mtls(KeyType::P256).await.unwrap();
    let mut launch = Launch::new(TlsMode::Auto, &[]);
    launch.env = vec![("PLUGIN_CLIENT_CERT".into(), other.chain_pem().into())];
    assert_eq!(launch.code().await, (Some(Phase::Tls), "tls.rejected.client-cert.by-server".into()));
}

#[tokio::test]
async fn a_launch_with_certificates_of_the_authority_works() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(Some(folder.path())).unwrap();
    let server = authority.issue(Role::Server, KeyType::P384).await.unwrap();
    let files = server.files().unwrap();
    let ca = folder.path().join("ca.crt");
    let (cert, key) = (files.cert.to_str().unwrap(), files.key.as_ref().unwrap().to_str().unwrap());
    for mode in [TlsMode::Server, TlsMode::Mutual] {
        let args = ["--tls", mode.name(), "--cert", cert, "--key", key, "--ca", ca.to_str().unwrap()];
        let mut launch = Launch::new(mode, &args);
        launch.tls.ca = Some(authority.root());
        launch.tls.identity = Some(authority.issue(Role::Client, KeyType::P256).await.unwrap());
        let connection = launch.go(&BuiltinClient::default()).await.unwrap();
        put_get(connection.as_ref(), "k").await;
        assert_eq!(connection.facts().unwrap().peer_cert.unwrap().key, Some(KeyType::P384));
        connection.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_plugin_has_its_cause() {
    let cases = [
        ("exit-at-once", Phase::Handshake, "handshake.exit"),
        ("noise-before-line", Phase::Handshake, "handshake.line.noise"),
        ("three-fields", Phase::Handshake, "handshake.line.too-few-fields"),
        ("five-fields", Phase::Handshake, "handshake.line.five-fields"),
        ("kind-netrpc", Phase::Handshake, "handshake.line.kind"),
        ("core-version", Phase::Handshake, "handshake.line.core-version"),
        ("app-version", Phase::Handshake, "handshake.version.none-common"),
        ("unknown-network", Phase::Handshake, "handshake.line.network"),
        ("cert-padded", Phase::Handshake, "handshake.line.cert.padded"),
        ("cert-broken", Phase::Handshake, "handshake.line.cert.broken"),
        ("cert-empty", Phase::Handshake, "handshake.line.cert.empty"),
        ("other-cert", Phase::Tls, "tls.rejected.server-cert.by-client.not-pinned"),
        ("dead-address", Phase::Connect, "connect.refused.no-socket"),
        ("ignores-tls", Phase::Handshake, "handshake.line.cert.empty"),
        ("silence", Phase::Handshake, "handshake.silence"),
    ];
    for (switch, phase, code) in cases {
        let mut launch = Launch::new(TlsMode::Auto, &["--as-broken", switch]);
        if switch == "silence" {
            launch.within = Duration::from_millis(200);
        }
        assert_eq!(launch.code().await, (Some(phase), code.to_owned()), "{switch}");
    }
    // The rest do something else than what is asked, or late, but work.
    for (_, switch, _) in Defect::TABLE.iter().filter(|(_, switch, _)| cases.iter().all(|case| case.0 != *switch)) {
        let launch = Launch::new(TlsMode::Auto, &["--as-broken", switch, "--late", "50"]);
        let connection =
            launch.go(&BuiltinClient::default()).await.unwrap_or_else(|error| panic!("{switch}: {error:?}"));
        put_get(connection.as_ref(), "k").await;
        let facts = connection.facts().unwrap();
        assert_eq!(facts.peer_cert.unwrap().key == Some(KeyType::P384), *switch == "ignores-key");
        assert_eq!(facts.transport == Some(Transport::Tcp), *switch == "ignores-transport");
        connection.close().await;
    }
    // Five fields do no harm without AutoMTLS; a lenient host takes plaintext for an answer.
    let launch = Launch::new(TlsMode::None, &["--as-broken", "five-fields"]);
    launch.go(&BuiltinClient::default()).await.unwrap().close().await;
    let launch = Launch::new(TlsMode::Auto, &["--as-broken", "ignores-tls"]);
    let connection = launch.go(&BuiltinClient::default().lenient()).await.unwrap();
    assert_eq!(connection.facts().unwrap().tls, Some(false));
    connection.close().await;
}

#[tokio::test]
async fn a_host_without_cookie_or_version_is_told_why() {
    let mut launch = Launch::new(TlsMode::Auto, &[]);
    launch.env = vec![("BASIC_PLUGIN".into(), "wrong".into())];
    let error = launch.go(&BuiltinClient::default()).await.err().unwrap();
    assert_eq!(error.reported.native.as_deref(), Some("exit 1"));
    assert!(error.reported.error.contains("cookie"), "{}", error.reported.error);
    launch.env = vec![("PLUGIN_CLIENT_CERT".into(), "garbage".into())];
    let error = launch.go(&BuiltinClient::default()).await.err().unwrap();
    assert_eq!(error.reported.cause.unwrap().code, "handshake.exit");
    assert!(error.reported.error.contains("PLUGIN_CLIENT_CERT"), "{}", error.reported.error);
    launch.env = vec![];
    launch.args = vec!["--protocol-version".into(), "4".into(), "--protocol-version".into(), "3".into()];
    let error = launch.go(&BuiltinClient::default()).await.err().unwrap();
    assert_eq!(error.reported.cause.unwrap().code, "handshake.version.none-common");
    assert!(error.reported.error.contains("version 3"), "a plugin without a common version prints its lowest");

    let missing = LaunchRequest {
        argv: vec!["/nowhere/at/all".into()],
        env: vec![],
        cookie: ("A".into(), "b".into()),
        protocol_versions: vec![1],
        tls: TlsSpec::none(),
        folder: launch.folder.path().into(),
        within: WITHIN,
        grace: WITHIN,
        last_word: soupscen::peer::LastWord::default(),
    };
    let error = BuiltinClient::default().launch(missing).await.err().unwrap();
    assert!(error.harness, "{error:?}");
    assert_eq!(error.reported.cause.unwrap().code, "spawn.failed");
}

#[tokio::test]
async fn stdio_arrives_at_the_host() {
    let mut launch = Launch::new(TlsMode::Auto, &[]);
    launch.env = vec![("KV_ECHO".into(), "1".into())];
    let connection = launch.go(&BuiltinClient::default()).await.unwrap();
    assert_eq!(connection.stdio().unwrap(), (Bytes::new(), Bytes::new()));
    put_get(connection.as_ref(), "first").await;
    put_get(connection.as_ref(), "second").await;
    let expected = Bytes::from_static(b"put first\nput second\n");
    while connection.stdio().unwrap().0 != expected {
        tokio::time::timeout(WITHIN, connection.stdio_changed()).await.expect("stdio must arrive");
    }
    connection.close().await;
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let launch = Launch::new(TlsMode::None, &[]);
    let connection = launch.go(&BuiltinClient::default()).await.unwrap();
    for version in ["v1", "v1alpha"] {
        // ServerReflectionRequest { list_services: "" }: field 7, and the names in the answer as text.
        let result = connection
            .call(CallRequest {
                method: format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"),
                send: vec![Bytes::from_static(&[0x3a, 0])],
                metadata: vec![],
                deadline: WITHIN,
                options: CallOptions::default(),
            })
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&result.receive[0]).into_owned();
        for name in ["proto.KV", "plugin.GRPCStdio", "grpc.health.v1.Health"] {
            assert!(answer.contains(name), "{version}: {answer}");
        }
    }
    connection.close().await;
}

#[tokio::test]
async fn health_watch_answers_at_once_and_cancels() {
    let launch = Launch::new(TlsMode::Auto, &[]);
    let connection = launch.go(&BuiltinClient::default()).await.unwrap();
    let request = |send| CallRequest {
        method: "grpc.health.v1.Health/Watch".into(),
        send,
        metadata: vec![],
        deadline: WITHIN,
        options: CallOptions::default(),
    };
    let mut stream = connection.open(request(vec![])).unwrap().await.unwrap();
    stream.send(HealthCheckRequest { service: "plugin".into() }.encode_to_vec().into()).await.unwrap();
    stream.half_close().await.unwrap();
    assert_eq!(stream.receive().await.unwrap().unwrap(), [8, 1][..], "SERVING");
    stream.cancel().await;
    let end = stream.end().await.unwrap();
    assert_eq!((end.status.code.as_str(), end.local), ("CANCELLED", Some(true)));
    assert!(stream.send(Bytes::new()).await.is_err());
    let mut short = request(vec![HealthCheckRequest { service: "other".into() }.encode_to_vec().into()]);
    short.deadline = Duration::from_millis(100);
    let result = connection.call(short).await.unwrap();
    assert_eq!(result.status.code, "DEADLINE_EXCEEDED");
    assert_eq!(result.receive, [Bytes::from_static(&[8, 3])], "SERVICE_UNKNOWN came before the deadline");
    connection.close().await;
}
