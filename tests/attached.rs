//! A server that runs already, with a service of the user's own and TLS by the user's files: a
//! scenario without a build and without code.

#[path = "support/run.rs"]
mod run;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use run::{Place, SOUPSCEN, observation, text};

/// `soupscen serve kv` as the server that somebody else has started.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = Command::new(SOUPSCEN)
            .args(["serve", "kv", "--address", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn own_protos_streams_and_captures_work_against_it() {
    let place = Place::new();
    let serving = Serving::start(&place, &[]);
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    place.write(
        "own.yaml",
        &format!(
            "soupscen: 1
name: own
services:
  health:
    proto: {{ files: [{proto}/grpc/health/v1/health.proto], import: [{proto}] }}
    service: grpc.health.v1.Health
peers:
  rust: {{ builtin: {{}} }}
  mine: {{ server: {{ attach: \"{}\", provides: [health, tls.none] }} }}
matrix:
  axes: {{ client: [rust], server: [mine], service: [health], tls: [none] }}
scripts:
  watch:
    ops:
      - call: {{ method: Check, send: {{ service: \"\" }}, metadata: {{ x-trace: \"{{{{ case.key }}}}\" }}, deadline: 2s }}
        expect: {{ message: {{ status: SERVING }} }}
        capture: {{ state: message.status }}
      - open: {{ stream: w, method: Watch, send: {{ service: proto.KV }} }}
      - receive: {{ stream: w }}
        expect: {{ message: {{ status: \"{{{{ state }}}}\" }} }}
      - cancel: {{ stream: w }}
      - end: {{ stream: w }}
        expect: {{ code: CANCELLED }}
  unknown:
    ops:
      - call: {{ method: Check, send: {{ service: nope }} }}
        expect: {{ code: NOT_FOUND }}
  wrong:
    ops:
      - call: {{ method: Check, send: {{ service: \"\" }} }}
        expect: {{ message: {{ status: NOT_SERVING }} }}
",
            serving.address
        ),
    );
    let (ran, results) = place.results("own.yaml", &[]);
    assert_eq!(text(&results.case(&["watch"])["verdict"]), "passed", "{ran}");
    assert_eq!(text(&results.case(&["unknown"])["verdict"]), "passed", "{ran}");
    let wrong = results.case(&["wrong"]);
    assert_eq!(text(&wrong["verdict"]), "failed", "{ran}");
    assert_eq!(text(&observation(wrong)["cause"]["code"]), "check.failed");
    ran.exits(1).says("NOT_SERVING");
}

#[test]
fn a_file_that_cannot_be_used_is_told_before_anything_starts() {
    let place = Place::new();
    drop(Serving::start(&place, &["--tls", "mutual", "--make-certs", "certs", "--key-type", "p256"]));
    place.write("garbage.pem", "no certificate\n");
    place.write("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    place.write(
        "files.yaml",
        "soupscen: 1
name: files
peers:
  rust: { builtin: {} }
matrix:
  axes:
    client: [rust]
    server: [rust]
    tls:
      missing: { mode: server, ca: nowhere/ca.crt }
      no-pem: { mode: server, ca: garbage.pem }
      of-another: { mode: mutual, ca: certs/ca.crt, cert: certs/client-p256.crt, key: garbage.pem }
      locked: { mode: mutual, ca: certs/ca.crt, cert: certs/client-p256.crt, key: locked.key }
      swapped: { mode: mutual, ca: certs/ca.crt, cert: certs/ca.crt, key: certs/client-p256.key }
scripts:
  put: { ops: [ { put: { key: a, value: b } } ] }
",
    );
    let ran = place.run(["run", "files.yaml"]).exits(2);
    ran.says("cannot read CA file")
        .says("files.yaml:10:")
        .says("is not PEM")
        .says("files.yaml:11:")
        .says("openssl pkey -in KEY -out PLAIN")
        .says("files.yaml:13:")
        .says("does not belong to the certificate in")
        .says("files.yaml:14:");
    assert!(!place.at(".soupscen/runs").exists(), "nothing was run");
}

#[test]
fn files_of_the_users_own_are_used_and_their_mistakes_are_named() {
    let place = Place::new();
    // Its certificates are what is wanted here; a server of them is started below.
    drop(Serving::start(&place, &["--tls", "mutual", "--make-certs", "certs", "--key-type", "p256"]));
    let files = ["--cert", "certs/server-p256.crt", "--key", "certs/server-p256.key", "--ca", "certs/ca.crt"];
    let serving = Serving::start(&place, &[["--tls", "mutual"].as_slice(), files.as_slice()].concat());
    place.write(
        "files.yaml",
        &format!(
            "soupscen: 1
name: files
peers:
  rust: {{ builtin: {{}} }}
  mine: {{ server: {{ attach: \"{}\", provides: [kv, tls.*] }} }}
matrix:
  axes:
    client: [rust]
    server: [mine]
    tls:
      right: {{ mode: mutual, ca: certs/ca.crt, cert: certs/client-p256.crt, key: certs/client-p256.key }}
      stranger: {{ mode: server, ca: certs/client-p256.crt }}
      anonymous: {{ mode: server, ca: certs/ca.crt }}
scripts:
  put: {{ ops: [ {{ put: {{ key: a, value: b }} }} ] }}
",
            serving.address
        ),
    );
    let (ran, results) = place.results("files.yaml", &[]);
    assert_eq!(text(&results.case(&["tls=right"])["verdict"]), "passed", "{ran}");
    let cause = |value: &str| text(&observation(results.case(&[value]))["cause"]["code"]).to_owned();
    assert_eq!(cause("tls=stranger"), "tls.rejected.server-cert.by-client.unknown-ca", "{ran}");
    assert!(cause("tls=anonymous").starts_with("tls.rejected.client-cert.by-server"), "{ran}");
    ran.exits(1);
}

#[test]
fn a_server_is_attached_from_the_command_line_instead_of_being_started() {
    let place = Place::new();
    let serving = Serving::start(&place, &[]);
    place.write(
        "late.yaml",
        "soupscen: 1
name: late
peers:
  rust: { builtin: {} }
  mine:
    build: { run: [no-such-builder], tools: { no-such-builder: { install: nowhere } } }
    server: { exec: { run: [no-such-server] }, provides: [kv, tls.none] }
matrix:
  axes: { client: [rust], server: [mine], tls: [none] }
scripts:
  put: { ops: [ { put: { key: a, value: b } } ] }
",
    );
    let (ran, results) = place.results("late.yaml", &["--attach", &format!("mine={}", serving.address)]);
    assert_eq!(text(&results.case(&["put"])["verdict"]), "passed", "{ran}");
    ran.exits(0);
    let run = |attach: &str| place.run(["run", "late.yaml", "--attach", attach]).exits(2);
    run("mien=127.0.0.1:1").says("no scenario has a server `mien`").says("did you mean `mine`?");
    run("mine=somewhere").says("`somewhere` is no address");
    run("mine").says("write PEER=ADDRESS");
}
