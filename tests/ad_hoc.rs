//! `soupscen serve` and `soupscen call` by hand: the built-in peer, declared ones, streams as they
//! come, and what is left behind.

#[path = "support/run.rs"]
mod run;

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use run::{Place, ROOT, SOUPSCEN, toolchains};
use serde_json::Value;

/// A program whose output is read line by line; killed with its test.
struct Talking {
    child: Child,
    /// `None` once nobody reads any more.
    lines: Option<BufReader<ChildStdout>>,
    stdin: Option<ChildStdin>,
}

impl Talking {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = child.stdout.take().map(BufReader::new);
        let stdin = child.stdin.take();
        Self { child, lines, stdin }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a signal and gives the exit status.
    fn ended_by(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn talking(place: &Place, args: &[&str]) -> Talking {
    let mut command = place.soupscen();
    command.args(args);
    Talking::start(command)
}

/// A server, and the line with which it said that it is up.
fn serving(place: &Place, args: &[&str]) -> (Talking, String) {
    let mut server = talking(place, &[&["serve"], args].concat());
    let line = server.line();
    assert!(line.starts_with("serving "), "{line:?}");
    (server, line)
}

fn nothing_left(place: &Place) {
    assert!(place.tmp_is_empty(), "{:?}", place.files("tmp"));
    assert!(place.processes().is_empty(), "{:?}", place.processes());
    assert!(!place.at("home/serving").exists(), "{:?}", place.files("home/serving"));
}

#[test]
fn the_last_server_is_found_with_its_certificates_and_leaves_nothing() {
    let place = Place::new();
    place.run(["call", "stock.get", "key=a"]).exits(2).says("--server").says("soupscen serve");
    for mode in ["none", "server", "mutual"] {
        let (mut server, _) = serving(&place, &["stock", "--port", "0", "--tls", mode, "--key-type", "p384"]);
        place.run(["call", "stock.put", "key=a", "value=1"]).exits(0);
        let got = place.run(["call", "stock.get", "key=a", "-v"]).exits(0);
        assert_eq!(got.out, "1\n");
        let trailers = got.says("trailer x-soup-deadline-ms: ").says(" by rust at 127.0.0.1:");
        trailers.says(if mode == "none" { "without TLS" } else { "TLS 1.3" });
        for file in place.files("home/serving") {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
            assert_eq!(file.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert_eq!(server.ended_by(Signal::SIGINT), Some(0), "{mode}");
        nothing_left(&place);
    }
    // The newest counts, and the others are still found by their address.
    let (_first, line) = serving(&place, &["kv", "--port", "0", "--tls", "server"]);
    let (_second, _) = serving(&place, &["stock", "--port", "0"]);
    place.run(["call", "stock.inventory"]).exits(0).says("revision=0");
    let first = line.split(" at ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    place.run(["call", "kv.put", "key=a", "value=b", "--server", &first]).exits(0);
}

#[test]
fn a_server_that_was_killed_is_told_of_and_swept() {
    let place = Place::new();
    let (mut server, line) = serving(&place, &["stock", "--port", "0", "--tls", "mutual"]);
    assert_eq!(server.ended_by(Signal::SIGKILL), None);
    let address = line.split(" at ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    place.run(["call", "stock.get", "key=a"]).exits(2).says(&address).says("without having ended in order");
    let left = place.files("home/serving");
    assert!(!left.is_empty());
    let (mut server, _) = serving(&place, &["stock", "--port", "0"]);
    assert!(left.iter().all(|file| !file.exists()), "{left:?}");
    place.run(["call", "stock.inventory"]).exits(0);
    assert_eq!(server.ended_by(Signal::SIGTERM), Some(0));
}

fn with<'a>(peer: &[&'a str], args: &[&'a str]) -> Vec<&'a str> {
    [&["call"], args, peer].concat()
}

/// Fills come while the input is still open, and a monitor sees what another client does; both by
/// the peer's own client.
fn streams_as_they_come(place: &Place, peer: &[&str]) {
    let mut trade = talking(place, &with(peer, &["stock.trade"]));
    trade.say("symbol=a/x side=SELL quantity=3");
    assert_eq!(trade.line(), "order=0 symbol=a/x filled=3 unfilled=0 stock=3 revision=1");
    trade.say(r#"{"symbol":"a/x","side":"BUY","quantity":9}"#);
    assert_eq!(trade.line(), "order=1 symbol=a/x filled=3 unfilled=6 stock=0 revision=2");
    drop(trade.stdin.take());
    assert_eq!(trade.line(), "");
    assert_eq!(trade.child.wait().unwrap().code(), Some(0));

    let mut monitor = talking(place, &with(peer, &["stock.monitor", "prefix=a/*", "snapshot=true", "--json"]));
    let mut event = || -> Value { serde_json::from_str(&monitor.line()).unwrap() };
    assert_eq!(
        (event()["message"]["kind"].take(), event()["message"]["kind"].take()),
        ("SNAPSHOT".into(), "READY".into())
    );
    place
        .run([
            "call",
            "stock.batch",
            "--data",
            r#"{"key":"a/y","value":"z"}"#,
            "--data",
            r#"{"key":"no","delete":true}"#,
        ])
        .exits(0)
        .says("puts=1 deletes=0 refused=[1] revision=3");
    let put = event();
    assert_eq!((&put["message"]["key"], &put["message"]["value"]), (&"a/y".into(), &"z".into()));
    assert_eq!(monitor.ended_by(Signal::SIGINT), Some(130));
    // The server learns of it, and the status of a call that ends decides.
    place.run(["call", "stock.inventory", "ask.settle_ms=2000"]).exits(0).says("open=0 broken=1");
    let json = place.run(with(peer, &["stock.get", "key=b", "--json"])).exits(1);
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap()["status"]["code"], "NOT_FOUND");
    place
        .run(with(peer, &["stock.get", "key=a/y", "ask.delay_ms=5000", "--deadline", "100ms"]))
        .exits(1)
        .says("DEADLINE_EXCEEDED");
}

#[test]
fn streams_of_the_built_in_client_are_shown_as_they_come() {
    let place = Place::new();
    let (mut server, _) = serving(&place, &["stock", "--port", "0"]);
    streams_as_they_come(&place, &[]);
    assert_eq!(server.ended_by(Signal::SIGINT), Some(0));
    nothing_left(&place);
}

#[test]
fn a_stream_ends_with_its_reader() {
    let place = Place::new();
    let (_server, _) = serving(&place, &["stock", "--port", "0"]);
    let mut monitor = talking(&place, &["call", "stock.monitor", "prefix=a/*"]);
    assert_eq!(monitor.line(), "kind=READY revision=0");
    // Nothing is printed any more, so that no write tells it.
    monitor.lines = None;
    assert_eq!(monitor.child.wait().unwrap().code(), Some(0));
    place.run(["call", "stock.inventory", "ask.settle_ms=2000"]).exits(0).says("open=0 broken=1");
}

#[test]
fn a_wrong_line_ends_the_call_with_its_number() {
    let place = Place::new();
    let (_server, _) = serving(&place, &["stock", "--port", "0"]);
    let mut command = place.soupscen();
    command.args(["call", "stock.batch"]).stderr(Stdio::piped());
    let mut batch = Talking::start(command);
    batch.say("key=a value=1");
    batch.say("kye=a");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut batch.child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(batch.child.wait().unwrap().code(), Some(2));
    assert!(said.contains("line 2 of the input") && said.contains("known fields: key, value"), "{said}");
}

const PEERS: &str = r#"soupscen: 1
peers:
  tool:
    client:
      exec:
        ops:
          get:
            run: [SOUPSCEN, call, kv.get, "key={{ key }}", --server, "{{ server.address }}", { when: tls == server, args: [--tls, server, --ca, "{{ tls.ca }}"] }]
            patterns: [{ exit: 0, stdout: "(?s)^(.*)\n$", value: $1 }]
        patterns:
          - { exit: 1, stderr: '^(?<code>[A-Z_]{2,}): (?<text>.*)', code: $code, text: $text }
      provides: [service.kv, launch.direct, transport.tcp, tls.none, tls.server]
  program:
    server:
      exec:
        run: [SOUPSCEN, serve, kv, --address, "127.0.0.1:{{ port }}", { when: tls == server, args: [--tls, server, --cert, "{{ tls.cert }}", --key, "{{ tls.key }}"] }]
        ready: { stdout: "serving proto.KV at (\\S+)" }
      provides: [service.kv, transport.tcp, tls.none, tls.server, "key.*"]
  elsewhere: { server: { attach: "127.0.0.1:7443", provides: [service.kv, tls.none] } }
  unbuilt:
    build: { run: ["false"], inputs: [peers.yaml] }
    client: { driver: { run: [./none] }, provides: [service.kv, launch.direct, transport.tcp, tls.none] }
    server: { driver: { run: [./none] }, provides: [service.kv, transport.tcp, tls.none] }
  plugin: { server: { plugin: { run: [./plugin] }, provides: [service.kv, tls.none] } }
  rude:
    server: { driver: { run: [./rude.sh] }, provides: [service.kv, transport.tcp, tls.none] }
"#;

#[test]
fn programs_are_peers_and_what_a_peer_cannot_do_is_said() {
    let place = Place::new();
    place.write("peers.yaml", &PEERS.replace("SOUPSCEN", SOUPSCEN));
    let rude = place.write("rude.sh", "#!/bin/sh\necho I never heard of it >&2\nexit 7\n");
    std::fs::set_permissions(rude, Permissions::from_mode(0o755)).unwrap();
    let from = ["--from", "peers.yaml"];
    for mode in ["none", "server"] {
        let (mut server, line) = serving(&place, &[&["kv", "--peer", "program", "--tls", mode], &from[..]].concat());
        assert!(line.starts_with("serving proto.KV by program at 127.0.0.1:"), "{line}");
        place.run(["call", "kv.put", "key=a", "value=one"]).exits(0);
        let tool = |args: &[&str]| place.run([&["call"], args, &["--peer", "tool"], &from[..]].concat());
        assert_eq!(tool(&["kv.get", "key=a"]).exits(0).out, "one\n");
        tool(&["kv.get", "key=b"]).exits(1).says("NOT_FOUND: key not found: b");
        tool(&["kv.get", "key=a", "-v"]).says("ran ").says("kv.get");
        tool(&["stock.get", "key=a"]).exits(2).says("does not provide `service.stock`").says("service.kv");
        assert_eq!(server.ended_by(Signal::SIGTERM), Some(0), "{mode}");
        nothing_left(&place);
    }
    let serve = |peer: &str, more: &[&str]| place.run([&["serve", "kv", "--peer", peer], &from[..], more].concat());
    serve("program", &["--tls", "mutual"]).exits(2).says("does not provide `tls.mutual`");
    serve("tool", &[]).exits(2).says("no server role").says("soupscen call --peer tool");
    serve("elsewhere", &[]).exits(2).says("--server 127.0.0.1:7443");
    serve("plugin", &[]).exits(2).says("which its client starts").says("--plugin");
    serve("nobody", &[]).exits(2).says("no peer `nobody`").says("tool, program");
    // What is not to be asked for needs no build; what is, fails with it.
    serve("unbuilt", &["--tls", "server"]).exits(2).says("does not provide `tls.server`").never_says("building");
    serve("unbuilt", &[]).exits(2).says("building unbuilt: false").says("status 1");
    serve("rude", &[]).exits(3).says("ended with status 7").says("I never heard of it");
    place.run(["serve", "kv", "--peer", "nobody"]).exits(2).says("there are: rust").says("--from FILE");
    place.run([&["call", "kv.get", "key=a", "--peer", "plugin"], &from[..]].concat()).exits(2).says("--server");
    place
        .run([&["call", "kv.get", "key=a", "--server", "127.0.0.1:1", "--peer", "plugin"], &from[..]].concat())
        .exits(2)
        .says("no client role");
    nothing_left(&place);
}

#[test]
fn the_built_in_peer_can_be_named_and_a_port_that_is_taken_is_told() {
    let place = Place::new();
    place.run(["serve", "kv", "--port", "0", "--transport", "unix"]).exits(2).says("--transport is for plugins");
    let socket = format!("unix:{}", place.at("s.sock").display());
    let at_socket = ["kv", "--peer", "rust", "--address", &socket, "--transport", "tcp"];
    let (mut server, line) = serving(&place, &at_socket);
    assert!(line.contains(&format!(" at {socket} with tls none")), "{line}");
    place.run(["call", "kv.put", "key=a", "value=b", "--server", &socket]).exits(0);
    assert_eq!(server.ended_by(Signal::SIGTERM), Some(0));
    assert!(!place.at("s.sock").exists());

    let (mut server, line) = serving(&place, &["kv", "--peer", "rust", "--tls", "mutual"]);
    assert!(line.starts_with("serving proto.KV by rust at 127.0.0.1:"), "{line}");
    let address = line.split(" at ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    place.run(["call", "kv.put", "key=a", "value=b"]).exits(0);
    assert_eq!(place.run(["call", "kv.get", "key=a", "--peer", "rust"]).exits(0).out, "b\n");
    place.run(["serve", "kv", "--peer", "rust", "--address", &address]).exits(2).says("cannot listen at");
    assert_eq!(server.ended_by(Signal::SIGINT), Some(0));
    nothing_left(&place);
}

/// Every peer's server, with its own client, the built-in one, and TLS that nobody had to spell out.
fn by_driver(peer: &str) {
    let place = Place::new();
    let file = format!("{ROOT}/fixtures/peers/{peer}/peer.yaml");
    let by = ["--peer", peer, "--from", &file];
    let (mut server, line) = serving(&place, &[&["stock", "--tls", "mutual", "--port", "0"], &by[..]].concat());
    assert!(line.contains(&format!("soup.stock.v1.Stock by {peer} at 127.0.0.1:")), "{line}");
    streams_as_they_come(&place, &by);
    // The front passes bytes on for whoever dials it.
    let address = line.split(" at ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    place.run(["call", "stock.inventory", "--server", &address]).exits(0).says("keys=2");
    assert_eq!(server.ended_by(Signal::SIGINT), Some(0));
    nothing_left(&place);

    // A driver that dies takes its server with it, and that is told.
    let (mut server, _) = serving(&place, &[&["kv"], &by[..]].concat());
    let ours = server.child.id().cast_signed();
    let drivers = place.processes().into_iter().filter(|(pid, words)| *pid != ours && words.contains("driver"));
    for (pid, _) in drivers {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    assert_eq!(server.child.wait().unwrap().code(), Some(3));
    nothing_left(&place);
}

#[test]
fn go_serves_and_calls() {
    if toolchains(&["go"]) {
        by_driver("go");
    }
}

#[test]
fn python_serves_and_calls() {
    if toolchains(&["python3"]) {
        by_driver("python");
    }
}
