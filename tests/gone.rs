//! Cases whose ground another case has taken away: they are run again on a fresh one before anything
//! is said of them, also where the rules would excuse what came.

#[path = "support/run.rs"]
mod run;

use run::{Place, SOUPSCEN, observation, text, toolchains};
use serde_json::Value;

/// A driver that ends at once when two calls are under way, the first time.
const DRIVER: &str = r#"
import json, os, socket, sys
marker = sys.argv[1]
calls, sockets = [], []
def say(**message):
    print(json.dumps(message), flush=True)
def answer(call):
    say(type="result", id=call["id"], seq=call["seq"], status={"code": "OK"}, origin="remote", receive=[{"m": ""}])
for line in sys.stdin:
    message = json.loads(line)
    kind, name = message["type"], message.get("id")
    if kind == "hello":
        provides = ["service.kv", "launch.direct", "transport.tcp", "tls.none"]
        say(type="hello", contract=1, peer="odd", versions={"self": "1"}, codec="raw", roles={"client": {"provides": provides}})
    elif kind == "connect":
        host, port = message["target"]["tcp"].rsplit(":", 1)
        sockets.append(socket.create_connection((host, int(port))))
        sockets[-1].sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        heard = b""
        while bytes([0, 0, 0, 4, 1]) not in heard: # its SETTINGS are acknowledged: the relay has seen them
            heard += sockets[-1].recv(4096)
        say(type="connected", id=name)
    elif kind == "call" and os.path.exists(marker):
        answer(message)
    elif kind == "call":
        calls.append(message)
        if len(calls) == 2:
            open(marker, "w").close()
            os._exit(7)
    elif kind == "close":
        say(type="closed", id=name)
    elif kind == "bye":
        break
"#;

#[test]
fn a_driver_that_ends_takes_no_other_case_with_it() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let driver = place.write("driver.py", DRIVER);
    let (driver, marker) = (driver.display(), place.at("marker"));
    place.write(
        "gone.yaml",
        &format!(
            "soupscen: 1
name: gone
peers:
  rust: {{ builtin: {{}} }}
  odd:
    client:
      driver: {{ run: [python3, {driver}, {marker}] }}
      provides: [kv, launch.direct, transport.tcp, tls.none]
matrix:
  axes: {{ client: [odd], server: [rust], transport: [tcp], tls: [none] }}
  isolation: case
scripts:
  one: {{ ops: [ {{ put: {{ key: a, value: b }} }} ] }}
  two: {{ ops: [ {{ put: {{ key: a, value: b }} }} ] }}
",
            marker = marker.display()
        ),
    );
    let (ran, results) = place.results("gone.yaml", &["--jobs", "2"]);
    assert_eq!(results.counts().get("passed"), Some(&2), "{ran}");
    for case in results.cases() {
        let first = &case["attempts"][0];
        assert_eq!(first["on_shared"], true, "{case:#}");
        assert_eq!(first["observation"]["cause"]["code"], "driver.broken", "{case:#}");
        assert!(text(&first["observation"]["cause"]["text"]).contains("status 7"), "{case:#}");
    }
}

#[test]
fn a_server_that_is_gone_is_no_failure_that_a_rule_expects() {
    let place = Place::new();
    let server = place.write(
        "server.sh",
        &format!(
            "rm -f die
{SOUPSCEN} serve kv --unlisted --address \"$1\" --tls none & server=$!
while kill -0 $server 2>/dev/null; do if [ -e die ]; then kill -9 $server; fi; sleep 0.02; done
rm -f die
"
        ),
    );
    let client = place.write(
        "client.sh",
        &format!(
            "{SOUPSCEN} call --server \"$1\" kv.put key=a value=b || exit 1
touch die; while [ -e die ]; do sleep 0.02; done
"
        ),
    );
    place.write(
        "down.yaml",
        &format!(
            "soupscen: 1
name: down
timeouts: {{ case: 60s, start: 20s, op: 20s }}
peers:
  rust: {{ builtin: {{}} }}
  last:
    client:
      exec:
        ops:
          put: {{ run: [sh, {client}, \"{{{{ server.address }}}}\"], folder: {here}, patterns: [ {{ exit: 0, ok: true }} ] }}
      provides: [kv, launch.direct, transport.tcp, tls.none]
  program:
    server:
      exec: {{ run: [sh, {server}, \"127.0.0.1:{{{{ port }}}}\"], folder: {here} }}
      provides: [kv, transport.tcp, tls.none]
matrix:
  axes: {{ client: [last, rust], server: [program], transport: [tcp], tls: [none] }}
expectations:
  - {{ id: always, when: client == rust, outcome: failed, reason: it is said so }}
scripts:
  put: {{ ops: [ {{ put: {{ key: a, value: b }} }} ] }}
",
            client = client.display(),
            server = server.display(),
            here = place.path().display(),
        ),
    );
    let (ran, results) = place.results("down.yaml", &["--jobs", "1"]);
    let case = results.case(&["client=rust"]);
    assert_eq!(case["verdict"], "unexpected-pass", "{case:#}\n{ran}");
    assert_eq!(case["attempts"][0]["on_shared"], true, "{case:#}");
    let cause = text(&case["attempts"][0]["observation"]["cause"]["code"]);
    assert!(cause.starts_with("connect.refused"), "{case:#}");
    assert_eq!(text(&results.case(&["client=last"])["verdict"]), "passed", "{ran}");
}

#[test]
fn a_case_that_runs_out_of_time_while_it_connects_has_its_evidence() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let mute = place.write(
        "mute.py",
        "import socket, sys\nhost, port = sys.argv[1].rsplit(':', 1)\nserver = socket.create_server((host, int(port)))\n\
         kept = []\nwhile True: kept.append(server.accept()[0])\n",
    );
    place.write(
        "mute.yaml",
        &format!(
            "soupscen: 1
name: mute
timeouts: {{ case: 3s, start: 60s }}
peers:
  rust: {{ builtin: {{}} }}
  mute:
    server:
      exec: {{ run: [python3, {mute}, \"127.0.0.1:{{{{ port }}}}\"] }}
      provides: [kv, transport.tcp, tls.server]
matrix:
  axes: {{ client: [rust], server: [mute], transport: [tcp], tls: [server] }}
scripts:
  put: {{ ops: [ {{ put: {{ key: a, value: b }} }} ] }}
",
            mute = mute.display(),
        ),
    );
    let (ran, results) = place.results("mute.yaml", &[]);
    let case = results.case(&["client=rust"]);
    let attempt: &Value = case["attempts"].as_array().unwrap().last().unwrap();
    let wire = attempt["evidence"]["wire"].as_array().expect("what the relay saw");
    assert!(
        wire.iter().any(|seen| seen["client_opening"] == "tls" && seen["client_bytes"].as_u64() > Some(0)),
        "{ran}"
    );
    assert_eq!(attempt["commands"].as_array().map(Vec::len), Some(2), "{case:#}");
    let cause = text(&observation(case)["cause"]["text"]);
    assert!(!cause.contains("no connection was seen"), "{cause}\n{ran}");
}
