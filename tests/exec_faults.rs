//! What goes wrong with programs that nobody wrote for soupscen, each with its cause.

#[path = "support/run.rs"]
mod run;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use run::{Place, SOUPSCEN, observation, text, toolchains};
use serde_json::Value;

const PATTERNS: &str = "[{ exit: 0, stdout: \"(.*)\", value: $1 }]";
/// A server that works.
const GOOD: &str = "run: [SOUPSCEN, serve, kv, \"--address=127.0.0.1:{{ port }}\"]";

/// One get, by this client program against this server.
fn write(place: &Place, client: &str, server: &str) {
    let whole = format!(
        "soupscen: 1
name: faults
timeouts: {{ case: 60s, start: 20s, op: 20s, grace: 1s }}
peers:
  rust: {{ builtin: {{}} }}
  tool:
    client:
      exec:
        ops:
          get: {client}
      provides: [kv, launch.direct, tls.none]
  program:
    server:
      exec:
        {server}
      provides: [kv, tls.none]
matrix:
  axes: {{ client: [CLIENT], server: [program], tls: [none] }}
scripts:
  get: {{ ops: [ {{ get: {{ key: a }}, expect: {{ code: NOT_FOUND }} }} ] }}
"
    );
    let which = if client.is_empty() { "rust" } else { "tool" };
    let client = "{ run: [\"true\"], patterns: [{ exit: 0, ok: true }] }";
    let whole = whole.replace("get: \n", &format!("get: {client}\n"));
    place.write("faults.yaml", &whole.replace("CLIENT", which).replace("SOUPSCEN", SOUPSCEN));
}

/// Verdict, cause and its text of the only case.
#[track_caller]
fn judged(place: &Place, client: &str, server: &str) -> (String, String, String) {
    write(place, client, server);
    let (ran, results) = place.results("faults.yaml", &[]);
    let [case] = results.cases() else { panic!("{ran}") };
    assert!(place.tmp_is_empty(), "{ran}");
    assert!(place.processes().is_empty(), "{:?}", place.processes());
    let cause = &observation(case)["cause"];
    let of = |value: &Value| text(value).to_owned();
    (of(&case["verdict"]), of(&cause["code"]), of(&cause["text"]))
}

#[track_caller]
fn assert_cause(found: &(String, String, String), verdict: &str, code: &str, words: &str) {
    assert!(found.0 == verdict && found.1 == code && found.2.contains(words), "{found:?}");
}

#[test]
fn a_program_that_is_missing_or_no_program() {
    let place = Place::new();
    let plain = place.write("plain", "text");
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
    let folder = place.path().display().to_string();
    for (program, code, words) in [
        ("no-such-program-here", "spawn.missing", "not on PATH"),
        ("./nowhere", "spawn.missing", "there is no program at"),
        ("./plain", "spawn.not-executable", "chmod +x"),
        (folder.as_str(), "spawn.not-executable", "is a folder"),
    ] {
        let found = judged(&place, "", &format!("run: [{program}]"));
        assert_cause(&found, "errored", code, words);
        let found = judged(&place, &format!("{{ run: [{program}], patterns: {PATTERNS} }}"), GOOD);
        assert_cause(&found, "errored", code, words);
    }
}

#[test]
fn a_pattern_that_is_no_regex_is_shown_in_its_line() {
    let place = Place::new();
    write(&place, "{ run: [\"true\"], patterns: [{ stdout: \"a(b\", ok: true }] }", GOOD);
    place.run(["check", "faults.yaml"]).exits(2).says("bad-regex").says("faults.yaml:10").says("a(b");
    write(&place, "{ run: [\"true\"], patterns: [{ stdout: \"a(b)\", value: $2 }] }", GOOD);
    place.run(["check", "faults.yaml"]).exits(2).says("no-group").says("the pattern has no group `2`");
    write(&place, "{ run: [\"true\"], patterns: [{ exit: 2, refused: true }] }", GOOD);
    place.run(["check", "faults.yaml"]).exits(2).says("no-proof");
    write(&place, "{ run: [\"true\"], patterns: [{ exit: 2, ok: true, code: OK }] }", GOOD);
    place.run(["check", "faults.yaml"]).exits(2).says("no-meaning");
}

#[test]
fn a_client_that_cannot_know_its_server_is_found_before_it_runs() {
    let place = Place::new();
    let launching = |client: &str| {
        write(&place, client, GOOD);
        let yaml = place.read("faults.yaml").replace("launch.direct", "launch.plugin");
        assert!(yaml.contains("launch.plugin"), "{yaml}");
        place.write("faults.yaml", &yaml);
        place.run(["check", "faults.yaml"])
    };
    let client = |words: &str| format!("{{ run: [\"true\", \"{words}\"], patterns: {PATTERNS} }}");
    launching(&client("{{ key }}")).exits(2).says("never-started").says("{{ server.program }}");
    launching(&client("--server={{ server.program }}")).exits(0);
}

#[test]
fn what_no_pattern_fits_is_errored_and_quoted_whatever_its_encoding() {
    let place = Place::new();
    let client = "{ run: [printf, 'caf\\351 au lait'], patterns: [{ exit: 3, ok: true }] }";
    let found = judged(&place, client, GOOD);
    assert_cause(&found, "errored", "exec.unmatched", "caf\u{fffd} au lait");
}

#[test]
fn bytes_that_are_no_text_are_a_value_of_bytes() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let file = place.write(
        "latin.py",
        r#"
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2]))).sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
sys.stdout.buffer.write(b"caf\xe9\n")
"#,
    );
    let dials = format!("python3, {}, \"{{{{ server.host }}}}\", \"{{{{ server.port }}}}\"", file.display());
    let client = format!("{{ run: [{dials}], patterns: [{{ stdout: '(?s-u)^(.*)\\n', value: $1 }}] }}");
    write(&place, &client, GOOD);
    let yaml = place.read("faults.yaml").replace("{ code: NOT_FOUND }", "{ value: { $base64: Y2Fm6Q== } }");
    place.write("faults.yaml", &yaml);
    let (ran, results) = place.results("faults.yaml", &[]);
    assert_eq!(text(&results.cases()[0]["verdict"]), "passed", "{ran}");
}

#[test]
fn a_client_that_never_dials_has_not_passed() {
    let place = Place::new();
    let client = "{ run: [\"true\"], patterns: [{ exit: 0, code: NOT_FOUND }] }";
    let found = judged(&place, client, GOOD);
    assert_cause(&found, "failed", "connect.never", "never dialled");
}

#[test]
fn a_client_that_does_not_end_is_ended() {
    let place = Place::new();
    write(&place, &format!("{{ run: [sh, -c, 'sleep 600 & sleep 600'], patterns: {PATTERNS} }}"), GOOD);
    let yaml = place.read("faults.yaml").replace("op: 20s", "op: 300ms");
    place.write("faults.yaml", &yaml);
    let (ran, results) = place.results("faults.yaml", &[]);
    let observed = observation(&results.cases()[0]);
    assert_eq!((text(&observed["ending"]), text(&observed["cause"]["code"])), ("timed-out", "timeout.reply"), "{ran}");
    assert!(place.processes().is_empty());
}

#[test]
fn a_megabyte_before_the_line_is_only_noise() {
    let place = Place::new();
    let noise = "head -c 1048576 /dev/zero | tr \"\\0\" x; echo; exec \"$0\" serve kv";
    let server =
        format!("run: [sh, -c, '{noise}', SOUPSCEN]\n        env: {{ BASIC_PLUGIN: hello }}\n        ready: line");
    assert_eq!(judged(&place, "", &server).0, "passed");
}

#[test]
fn a_server_that_is_never_ready_and_one_that_ends() {
    let place = Place::new();
    let found = judged(&place, "", "run: [sh, -c, 'echo bad config >&2; exit 3']");
    assert_cause(
        &found,
        "failed",
        "ready.exit",
        "exited with status 3 before it could be dialled; its last words: bad config",
    );
    // It leaves a child behind that serves: nobody could watch or end that one.
    let forks = "run: [sh, -c, '\"$0\" serve kv --address=127.0.0.1:$1 & exit 0', SOUPSCEN, \"{{ port }}\"]\n        ready: { stdout: never }";
    assert_cause(&judged(&place, "", forks), "failed", "ready.exit", "one that forks and leaves cannot be watched");
    write(&place, "", "run: [sh, -c, 'echo almost; sleep 600']\n        ready: { stdout: really }");
    let yaml = place.read("faults.yaml").replace("start: 20s", "start: 400ms");
    place.write("faults.yaml", &yaml);
    let (ran, results) = place.results("faults.yaml", &[]);
    let observed = observation(&results.cases()[0]);
    assert_eq!(text(&observed["ending"]), "timed-out", "{ran}");
    assert_eq!(text(&observed["cause"]["code"]), "ready.silence");
    assert!(
        text(&observed["cause"]["text"]).contains("no complete line on stdout had `really`; its last words: almost")
    );
    let unclear = "run: [sh, -c, 'echo at somewhere; sleep 600']\n        ready: { stdout: 'at (\\S+)' }";
    assert_cause(&judged(&place, "", unclear), "failed", "ready.address", "`somewhere` is no address");
}

#[test]
fn a_daemon_is_told_to_stay_in_the_foreground_and_leaves_nothing_behind() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    // As daemons do: a session of its own, and the parent leaves once the port is open.
    let script = r#"
import os, socket, sys, time
program, port = sys.argv[1:]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(program, [program, "serve", "kv", "--address=127.0.0.1:" + port])
    os._exit(0)
while True:
    try:
        socket.create_connection(("127.0.0.1", int(port))).close()
        os._exit(0)
    except OSError:
        time.sleep(0.005)
"#;
    let file = place.write("daemon.py", script);
    for ready in ["connect", "health", "{ stdout: never }"] {
        let server =
            format!("run: [python3, {}, SOUPSCEN, \"{{{{ port }}}}\"]\n        ready: {ready}", file.display());
        let found = judged(&place, "", &server);
        assert_cause(&found, "failed", "ready.exit", "one that forks and leaves cannot be watched");
    }
}

#[test]
fn a_server_that_ignores_sigterm_is_killed_after_its_grace() {
    let place = Place::new();
    let server =
        "run: [sh, -c, 'trap \"\" TERM; \"$0\" serve kv --address=127.0.0.1:$1; sleep 600', SOUPSCEN, \"{{ port }}\"]";
    assert_eq!(judged(&place, "", server).0, "passed");
}

/// Takes the ports that are sent to it before the server can, as many times as it is told.
fn thief(times: usize) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let mut stolen = Vec::new();
        for at in 0.. {
            let Ok((mut asking, _)) = listener.accept() else { return };
            let mut wanted = String::new();
            asking.read_to_string(&mut wanted).unwrap();
            if wanted == "end" {
                return;
            }
            if at < times {
                stolen.push(TcpListener::bind(format!("127.0.0.1:{wanted}")).unwrap());
            }
            asking.write_all(b"go").unwrap();
        }
    });
    (port, thread)
}

#[test]
fn a_port_that_another_takes_meanwhile_is_seen_and_another_is_tried() {
    if !toolchains(&["python3"]) {
        return;
    }
    let script = r#"
import os, socket, sys
own, thief, program = sys.argv[1:]
asking = socket.create_connection(("127.0.0.1", int(thief)))
asking.sendall(own.encode())
asking.shutdown(socket.SHUT_WR)
asking.recv(2)
# Half of them end at once, as most servers do; the others go on without their port.
if os.environ.get("STUBBORN"):
    import subprocess, time
    subprocess.run([program, "serve", "kv", "--address=127.0.0.1:" + own])
    time.sleep(600)
os.execv(program, [program, "serve", "kv", "--address=127.0.0.1:" + own])
"#;
    for stubborn in ["", "1"] {
        for (times, verdict, code) in [(2, "passed", ""), (usize::MAX, "errored", "spawn.port-taken")] {
            let place = Place::new();
            let file = place.write("server.py", script);
            let (port, thread) = thief(times);
            let server = format!(
                "run: [python3, {}, \"{{{{ port }}}}\", \"{port}\", SOUPSCEN]\n        env: {{ STUBBORN: \"{stubborn}\" }}",
                file.display()
            );
            let found = judged(&place, "", &server);
            std::net::TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(b"end").unwrap();
            thread.join().unwrap();
            assert_eq!((found.0.as_str(), found.1.as_str()), (verdict, code), "{found:?}");
        }
    }
}

#[test]
fn an_output_that_somebody_else_holds_open_is_not_waited_for() {
    if !toolchains(&["python3"]) {
        return;
    }
    // Out of the reach of the run: it takes what is handed to it, and keeps it.
    let keeps = r#"
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind("\0soupscen-" + sys.argv[1])
server.listen()
print("ready", flush=True)
kept = []
while True:
    peer, _ = server.accept()
    kept += socket.recv_fds(peer, 16, 2)[1]
    peer.sendall(b"x")
"#;
    let name = std::process::id().to_string();
    let mut keeper = std::process::Command::new("python3");
    let mut keeper = keeper.args(["-c", keeps, &name]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    keeper.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    let place = Place::new();
    let file = place.write(
        "hands_over.py",
        r#"
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2]))).sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
other = socket.socket(socket.AF_UNIX)
other.connect("\0soupscen-" + sys.argv[3])
socket.send_fds(other, [b"x"], [1, 2])
other.recv(1)
print("it is said all the same")
"#,
    );
    let dials =
        format!("python3, {}, \"{{{{ server.host }}}}\", \"{{{{ server.port }}}}\", \"{name}\"", file.display());
    let client = format!("{{ run: [{dials}], patterns: [{{ stdout: 'all the same', code: NOT_FOUND }}] }}");
    let found = judged(&place, &client, GOOD);
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    assert_eq!(found.0, "passed", "{found:?}");
}

#[test]
fn whoever_is_at_a_declared_address_already_is_not_taken_for_the_server() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut stranger = std::process::Command::new(SOUPSCEN);
    stranger.args(["serve", "kv", &format!("--address=127.0.0.1:{port}")]);
    let stranger = run::Going::start(stranger);
    run::eventually("the stranger listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let place = Place::new();
    let found = judged(&place, "", &format!("run: [sleep, 600]\n        address: 127.0.0.1:{port}"));
    assert_cause(&found, "errored", "spawn.port-taken", &format!("something listens at 127.0.0.1:{port} already"));
    drop(stranger);
}

#[test]
fn servers_with_a_port_of_their_own_take_turns() {
    let place = Place::new();
    // Nothing else here listens on it: it was free a moment ago, and both ask for it again and again.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = |name: &str| {
        format!(
            "
  {name}:
    server:
      exec: {{ run: [{SOUPSCEN}, serve, kv, --address=127.0.0.1:{port}], address: 127.0.0.1:{port}, exclusive: the-port }}
      provides: [kv, tls.none]"
        )
    };
    place.write(
        "turns.yaml",
        &format!(
            "soupscen: 1
name: turns
peers:
  rust: {{ builtin: {{}} }}{}{}
matrix:
  axes:
    client: [rust]
    server: [one, two]
    tls: [none]
    n: {{ values: {{ a: {{}}, b: {{}}, c: {{}} }}, affects: call }}
scripts:
  get: {{ ops: [ {{ get: {{ key: a }}, expect: {{ code: NOT_FOUND }} }} ] }}
  put: {{ isolation: case, ops: [ {{ put: {{ key: a, value: b }} }} ] }}
",
            server("one"),
            server("two")
        ),
    );
    let (ran, results) = place.results("turns.yaml", &["--jobs", "8"]);
    assert_eq!(results.counts().get("passed"), Some(&12), "{:?}\n{ran}", results.verdicts());
    assert!(place.processes().is_empty());
}

/// A server with a port of its own, on a folder of the case.
fn own_port(name: &str, port: u16, end: &str) -> String {
    format!(
        "
  {name}:
    server:
      exec:
        run: [{SOUPSCEN}, serve, kv, --address=127.0.0.1:{port}]
        env: {{ KV_STORAGE_DIR: \"{{{{ storage }}}}\" }}
        address: 127.0.0.1:{port}
        end: {end}
        exclusive: the-port
      provides: [kv, tls.none, tls.server]"
    )
}

#[test]
fn a_server_with_a_port_of_its_own_is_ended_and_started() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The last two are killed after their grace: they do not know how they are asked.
    let [by_signal, by_stdin, by_call] = [("one", "signal"), ("two", "stdin"), ("three", "{ call: proto.KV/End }")]
        .map(|(name, end)| own_port(name, port, end));
    place.write(
        "restart.yaml",
        &format!(
            "soupscen: 1
name: restart
timeouts: {{ case: 60s, start: 20s, op: 20s, grace: 300ms }}
peers:
  rust: {{ builtin: {{}} }}{by_signal}{by_stdin}{by_call}
matrix:
  axes: {{ client: [rust], server: [one, two, three], tls: [none] }}
scripts:
  restarts:
    ops:
      - put: {{ key: a, value: kept }}
      - server: restart
      - get: {{ key: a }}
        expect: {{ value: kept }}
      - server: stop
      - server: start
      - get: {{ key: a }}
        expect: {{ value: kept }}
  two:
    ops:
      - connect: {{ as: other, with: {{ tls: server }} }}
      - get: {{ key: a }}
        on: other
"
        ),
    );
    place.run(["plan", "restart.yaml"]).exits(0).says("6 cases, 3 to run, 3 unsupported");
    let (ran, results) = place.results("restart.yaml", &[]);
    for server in ["one", "two", "three"] {
        let of = |script: &str| results.case(&[script, &format!("server={server}")]);
        assert_eq!(text(&of("restarts")["verdict"]), "passed", "{ran}");
        let two = of("/two[");
        assert_eq!(text(&two["verdict"]), "unsupported", "{ran}");
        assert!(text(&two["why"]).contains("never up beside another one (`exclusive: the-port`)"), "{two:#}");
    }
    assert!(place.processes().is_empty());
}

#[test]
fn a_timeout_that_was_expected_is_not_the_reason_of_what_fails_later() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let file = place.write(
        "slow.py",
        r#"
import socket, sys
key, host, port = sys.argv[1:]
socket.create_connection((host, int(port))).sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
sys.exit(1 if key == "slow" else 2)
"#,
    );
    let client = format!(
        "{{ run: [python3, {}, \"{{{{ key }}}}\", \"{{{{ server.host }}}}\", \"{{{{ server.port }}}}\"], \
         patterns: [{{ exit: 1, code: DEADLINE_EXCEEDED }}, {{ exit: 2, error: rpc, text: out of luck }}] }}",
        file.display()
    );
    write(&place, &client, GOOD);
    let ops = "{ get: { key: slow }, expect: { code: DEADLINE_EXCEEDED } }, { get: { key: b } }";
    let yaml = place.read("faults.yaml").replace("{ get: { key: a }, expect: { code: NOT_FOUND } }", ops);
    assert!(yaml.contains("key: slow"), "{yaml}");
    place.write("faults.yaml", &yaml);
    let (ran, results) = place.results("faults.yaml", &[]);
    let seen = observation(&results.cases()[0]);
    assert_eq!((text(&seen["ending"]), text(&seen["cause"]["code"])), ("failed", "rpc.failed"), "{seen:#}\n{ran}");
    assert!(text(&seen["cause"]["text"]).contains("out of luck"), "{seen:#}");
}
