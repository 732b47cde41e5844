//! Peers that are only programs: soupscen's own command line plays them, as any tool would.

#[path = "support/run.rs"]
mod run;

use run::{Place, Results, SOUPSCEN, fact, observation, text, toolchains};

/// A client of `soupscen call`, one run per op.
const CLIENT: &str = r#"
  tool:
    client:
      exec:
        ops:
          put:
            run: [SOUPSCEN, call, --server, "{{ server.address }}", { when: tls != none, args: [--tls, "{{ tls.mode }}", --ca, "{{ tls.ca }}"] }, { when: tls == mutual, args: [--cert, "{{ tls.cert }}", --key, "{{ tls.key }}"] }, kv.put, "key={{ key }}", "value={{ value }}"]
            patterns: [{ exit: 0, ok: true }]
          get:
            run: [SOUPSCEN, call, --server, "{{ server.address }}", { when: tls != none, args: [--tls, "{{ tls.mode }}", --ca, "{{ tls.ca }}"] }, { when: tls == mutual, args: [--cert, "{{ tls.cert }}", --key, "{{ tls.key }}"] }, kv.get, "key={{ key }}"]
            patterns: [{ exit: 0, stdout: "(?s)^(.*)\n$", value: $1 }]
        patterns:
          - { exit: 1, stderr: '^(?<code>[A-Z_]{2,}): (?<text>.*)', code: $code, text: $text }
          - { exit: 1, stderr: '\(tls[.]', error: tls }
      provides: [kv, launch.direct, transport.*, tls.none, tls.server, tls.mutual]
"#;

/// Puts, gets, and misses.
const SCRIPTS: &str = r#"
scripts:
  put-get:
    ops:
      - put: { key: "{{ case.slug }}", value: "a b" }
      - get: { key: "{{ case.slug }}" }
        expect: { value: "a b" }
  missing:
    ops:
      - get: { key: nothing-here }
        expect: { code: NOT_FOUND, status_text: { $regex: "^key not found" } }
"#;

fn write(place: &Place, server: &str, axes: &str, scripts: &str) {
    let whole = format!(
        "soupscen: 1\nname: tools\ntimeouts: {{ case: 60s, start: 30s, op: 30s }}\npeers:\n  rust: {{ builtin: {{}} }}{CLIENT}{server}\nmatrix:\n  axes: {axes}\n{scripts}"
    );
    place.write("tools.yaml", &whole.replace("SOUPSCEN", SOUPSCEN));
}

fn all_pass(place: &Place, count: usize) -> Results {
    let (ran, results) = place.results("tools.yaml", &[]);
    assert_eq!(results.counts().get("passed"), Some(&count), "{:?}\n{ran}", results.verdicts());
    ran.exits(0);
    assert!(place.tmp_is_empty());
    assert!(place.processes().is_empty(), "{:?}", place.processes());
    results
}

#[test]
fn a_tool_against_a_program_with_and_without_tls() {
    let place = Place::new();
    let server = r#"
  program:
    server:
      exec:
        run:
          - SOUPSCEN
          - serve
          - kv
          - --address=127.0.0.1:{{ port }}
          - { when: tls != none, args: [--tls, "{{ tls.mode }}", --cert, "{{ tls.cert }}", --key, "{{ tls.key }}"] }
          - { when: tls == mutual, args: [--ca, "{{ tls.ca }}"] }
      provides: [kv, transport.tcp, tls.none, tls.server, tls.mutual, "key.*"]
"#;
    write(&place, server, "{ client: [tool, rust], server: [program], tls: [none, server, mutual] }", SCRIPTS);
    let results = all_pass(&place, 12);
    // What was asked is seen on the wire, as for other peers.
    for mode in ["none", "server", "mutual"] {
        let case = results.case(&["put-get", "client=tool", &format!("tls={mode}")]);
        assert_eq!(fact(case, "tls"), (mode, mode));
    }
}

#[test]
fn every_way_to_be_ready_and_to_end() {
    let servers = [
        ("prints", "run: [SOUPSCEN, serve, kv, --address=127.0.0.1:0]\n        ready: { stdout: 'at (\\S+) with' }"),
        (
            "complains",
            "run: [sh, -c, 'exec \"$0\" serve kv --address=127.0.0.1:0 >&2', SOUPSCEN]\n        ready: { stderr: 'at (?<address>\\S+)' }",
        ),
        ("healthy", "run: [SOUPSCEN, serve, kv, \"--address=127.0.0.1:{{ port }}\"]\n        ready: health"),
        (
            "writes",
            "run: [sh, -c, 'echo 127.0.0.1:$2 > \"$1\"; exec \"$0\" serve kv --address=127.0.0.1:$2', SOUPSCEN, '{{ storage }}-ready', '{{ port }}']\n        ready: { file: '{{ storage }}-ready' }\n        address: \"127.0.0.1:{{ port }}\"",
        ),
        ("plugged", "run: [SOUPSCEN, serve, kv]\n        env: { BASIC_PLUGIN: hello }\n        ready: line"),
        (
            "hung-up",
            "run: [sh, -c, '\"$0\" serve kv --address=127.0.0.1:$1 & cat; kill $!; wait; echo ended > \"$2\"', SOUPSCEN, '{{ port }}', '{{ folder }}/stdin-ended']\n        end: stdin",
        ),
        (
            "shut-down",
            "run: [sh, -c, '\"$0\" serve kv; echo ended > \"$1\"', SOUPSCEN, '{{ folder }}/call-ended']\n        env: { BASIC_PLUGIN: hello }\n        ready: line\n        end: { call: plugin.GRPCController/Shutdown }",
        ),
    ];
    let declare = |(name, exec): &(&str, &str)| {
        format!("\n  {name}:\n    server:\n      exec:\n        {exec}\n      provides: [kv, transport.*, tls.none]")
    };
    let declared: Vec<_> = servers.iter().map(declare).collect();
    let names: Vec<_> = servers.iter().map(|(name, _)| *name).collect();
    let place = Place::new();
    let axes = format!("{{ client: [tool], server: [{}], tls: [none] }}", names.join(", "));
    write(&place, &declared.concat(), &axes, SCRIPTS);
    all_pass(&place, 2 * names.len());
    // These two ended in their own way, and were not killed.
    assert_eq!(place.read("stdin-ended"), "ended\n");
    assert_eq!(place.read("call-ended"), "ended\n");
}

#[test]
fn a_unix_socket_is_given_like_a_port() {
    let place = Place::new();
    let server = r#"
  program:
    server:
      exec: { run: [SOUPSCEN, serve, kv, "--address=unix:{{ socket }}"] }
      provides: [kv, transport.unix, tls.none]
"#;
    write(&place, server, "{ client: [tool], server: [program], transport: [unix], tls: [none] }", SCRIPTS);
    let results = all_pass(&place, 2);
    assert_eq!(fact(results.case(&["put-get"]), "transport"), ("unix", "unix"));
}

#[test]
fn values_go_in_and_out_as_text_base64_and_files() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    // It copies what it is given to what it gives, in the form that it is asked for, and dials.
    let script = r#"#!/usr/bin/env python3
import base64, socket, sys
form, value, host, port = sys.argv[1:]
socket.create_connection((host, int(port))).sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
if form == "file":
    data = open(value, "rb").read()
    open("out.bin", "wb").write(data)
    print("in out.bin")
elif form == "base64":
    print("b64 " + base64.b64encode(base64.b64decode(value)).decode())
else:
    sys.stdout.buffer.write(b"raw " + value.encode() + sys.stdin.buffer.read() + b"\n")
"#;
    let tool = place.write("tool.py", script);
    let run = |form: &str| {
        format!(
            "[python3, {}, {form}, \"{{{{ body }}}}\", \"{{{{ server.host }}}}\", \"{{{{ server.port }}}}\"]",
            tool.display()
        )
    };
    place.write("t.proto", "syntax = \"proto3\"; package t; service T { rpc A(M) returns (M); rpc B(M) returns (M); rpc C(M) returns (M); } message M { bytes body = 1; }");
    place.write(
        "forms.yaml",
        &format!(
            r#"soupscen: 1
name: forms
timeouts: {{ op: 30s, start: 30s, case: 60s }}
services:
  t:
    proto: {{ files: [t.proto] }}
    service: t.T
    ops:
      as-text: {{ method: A, send: {{ body: "{{{{ body }}}}" }} , yields: body }}
      as-base64: {{ method: B, send: {{ body: "{{{{ body }}}}" }}, yields: body }}
      as-file: {{ method: C, send: {{ body: "{{{{ body }}}}" }}, yields: body }}
peers:
  copier:
    client:
      exec:
        ops:
          as-text: {{ run: {text}, stdin: "!", patterns: [{{ stdout: "(?s)^raw (.*)\n$", value: $1 }}] }}
          as-base64: {{ run: {base64}, values: {{ body: base64 }}, patterns: [{{ stdout: "b64 (.*)", value: $1, as: base64 }}] }}
          as-file: {{ run: {file}, values: {{ body: file }}, patterns: [{{ stdout: "in (.*)", value: $1, as: file }}] }}
      provides: [t, launch.direct, tls.none]
  program:
    server: {{ exec: {{ run: [{SOUPSCEN}, serve, kv, "--address=127.0.0.1:{{{{ port }}}}"] }}, provides: [t, tls.none] }}
matrix: {{ axes: {{ client: [copier], server: [program], service: [t], tls: [none] }} }}
scripts:
  text: {{ ops: [ {{ as-text: {{ body: "a 'b' $c é" }}, expect: {{ value: "a 'b' $c é!" }} }} ] }}
  empty: {{ ops: [ {{ as-text: {{ body: "" }}, expect: {{ value: "!" }} }} ] }}
  base64: {{ ops: [ {{ as-base64: {{ body: {{ $base64: "/wD+" }} }}, expect: {{ value: {{ $base64: "/wD+" }} }} }} ] }}
  file: {{ ops: [ {{ as-file: {{ body: {{ $base64: "/wD+" }} }}, expect: {{ value: {{ $base64: "/wD+" }} }} }} ] }}
  no-text: {{ ops: [ {{ as-text: {{ body: {{ $base64: "/wD+" }} }} }} ] }}
"#,
            text = run("text"),
            base64 = run("base64"),
            file = run("file"),
        ),
    );
    let (ran, results) = place.results("forms.yaml", &[]);
    assert_eq!(results.counts().get("passed"), Some(&4), "{:?}\n{ran}", results.verdicts());
    let refused = observation(results.case(&["no-text"]));
    assert_eq!(text(&refused["cause"]["code"]), "exec.argument");
    ran.exits(3).says("values: { body: base64 }");
}

#[test]
fn a_tester_passes_fails_and_refuses_and_has_to_prove_that_it_can() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let script = r#"
import socket, sys
name, host, port = sys.argv[1:]
if name not in ("good", "bad"):
    sys.exit(f"unknown test {name}")
socket.create_connection((host, int(port))).sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
sys.exit(0 if name == "good" else "expected 1, got 2")
"#;
    let tool = place.write("tester.py", script);
    let peer = |name: &str, refuses: &str| {
        format!(
            r#"
  {name}:
    client:
      exec:
        test: {{ run: [python3, {}, "{{{{ test }}}}", "{{{{ server.host }}}}", "{{{{ server.port }}}}"] }}
        refuses: {{ run: {refuses} }}
        patterns:
          - {{ exit: 1, stderr: "unknown test", refused: true }}
          - {{ exit: 0, ok: true }}
          - {{ exit: 1, stderr: "(.+)", failed: $1 }}
      provides: [kv, launch.direct, tls.none]"#,
            tool.display()
        )
    };
    let honest = peer("honest", &format!("[python3, {}, \"{{{{ unknown }}}}\", a, b]", tool.display()));
    let boaster = peer("boaster", "[\"true\"]");
    let server = format!(
        r#"{honest}{boaster}
  program:
    server: {{ exec: {{ run: [SOUPSCEN, serve, kv, "--address=127.0.0.1:{{{{ port }}}}"] }}, provides: [kv, tls.none] }}
"#
    );
    let scripts = "scripts:\n  good: { ops: [ { test: {} } ] }\n  bad: { ops: [ { test: { within: 20s } } ] }\n  other: { ops: [ { test: { name: nothing } } ] }\n";
    write(&place, &server, "{ client: [honest, boaster, tool], server: [program], tls: [none] }", scripts);
    let (ran, results) = place.results("tools.yaml", &[]);
    let verdict = |script: &str, client: &str| text(&results.case(&[script, client])["verdict"]).to_owned();
    assert_eq!(verdict("/good[", "client=honest"), "passed", "{ran}");
    assert_eq!(verdict("/bad[", "client=honest"), "failed", "{ran}");
    let cause = &observation(results.case(&["/bad[", "client=honest"]))["cause"];
    assert_eq!(text(&cause["code"]), "test.failed");
    assert!(text(&cause["text"]).contains("expected 1, got 2"), "{cause}");
    assert_eq!(verdict("/other[", "client=honest"), "unsupported", "{ran}");
    // Who is not refused a made-up name cannot be believed about any.
    for script in ["/good[", "/bad[", "/other["] {
        assert_eq!(verdict(script, "client=boaster"), "errored", "{ran}");
        // And who brings no tests is not asked for one.
        assert_eq!(verdict(script, "client=tool"), "unsupported", "{ran}");
    }
    let cause = &observation(results.case(&["/good[", "client=boaster"]))["cause"];
    assert_eq!(text(&cause["code"]), "exec.no-refusal");
}

#[test]
fn a_script_ends_and_starts_a_program_on_its_storage() {
    let place = Place::new();
    let server = r#"
  program:
    server:
      exec:
        run: [SOUPSCEN, serve, kv, "--address=127.0.0.1:{{ port }}"]
        env: { KV_STORAGE_DIR: "{{ storage }}" }
      provides: [kv, tls.none]
"#;
    let scripts = r"
scripts:
  survives:
    ops:
      - put: { key: a, value: kept }
      - server: restart
      - get: { key: a }
        expect: { value: kept }
      - server: stop
      - get: { key: a }
        expect: { code: UNAVAILABLE }
";
    write(&place, server, "{ client: [tool], server: [program], tls: [none] }", scripts);
    let text = place.read("tools.yaml").replace(
        "patterns:\n          - { exit: 1, stderr: '^(",
        "patterns:\n          - { exit: 1, stderr: 'connection failed|nobody listens|reset the connection', code: UNAVAILABLE }\n          - { exit: 1, stderr: '^(",
    );
    place.write("tools.yaml", &text);
    all_pass(&place, 1);
}
