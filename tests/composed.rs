//! Clients that start their servers themselves and compose their arguments, one op per process:
//! what is started in the end is what the scenario says, and every start is looked at.

#[path = "support/run.rs"]
mod run;

use run::{Place, ROOT, Results, SOUPSCEN, fact, observation, text};
use serde_json::Value;

/// A client that gets `server.program` as the path of its server.
fn client(name: &str, env: &str, more: &str) -> String {
    format!(
        r#"
  {name}:
    client:
      exec:
        env: {{ PLUGIN_SERVER_PATH: "{{{{ server.program }}}}", TLS_MODE: "{{{{ tls.mode }}}}", TLS_CURVE: secp521r1, KV_STORAGE_DIR: "{{{{ storage }}}}", SOUPSCEN: {SOUPSCEN}{env} }}
        ops:
          put:
            run: [{ROOT}/tests/support/composer.sh, put, "{{{{ key }}}}", "{{{{ value }}}}"]
            patterns: [{{ exit: 0, stdout: '^Key .* put successfully[.]\n$', ok: true }}]
          get:
            run: [{ROOT}/tests/support/composer.sh, get, "{{{{ key }}}}"]
            patterns: [{{ exit: 0, stdout: '(?s)^(.*)\n$', value: $1 }}]
        patterns:
          - {{ exit: 1, stderr: 'code = (?<code>\w+) desc = (?<text>.*)', code: $code, text: $text }}
          - {{ exit: 1, stderr: '(?<text>.+)', error: connect, text: $text }}{more}
      provides: [kv, launch.plugin, transport.*, tls.none, tls.auto]"#
    )
}

/// A server that is soupscen's own program, by a script that notes what it is given.
const SERVER: &str = r#"
  noted:
    server:
      plugin:
        run: [sh, -c, 'echo "$KV_ECHO ${LOG_LEVEL-unset} $*" >> "$NOTES"; exec "$PROGRAM" serve kv', noted, --own, ARGS]
        env: { NOTES: "{{ folder }}/notes", PROGRAM: SOUPSCEN }REWRITE
      provides: [kv, launch.plugin, tls.none, tls.auto]"#;

const SCRIPTS: &str = r#"
scripts:
  across-processes:
    ops:
      - put: { key: "{{ case.slug }}", value: "a b" }
      - get: { key: "{{ case.slug }}" }
        expect: { value: "a b" }
      - get: { key: nothing-here }
        expect: { code: NOT_FOUND, status_text: { $regex: "^key not found: nothing-here" } }
"#;

fn write(place: &Place, peers: &str, axes: &str, scripts: &str) {
    let whole = format!(
        "soupscen: 1\nname: composed\ntimeouts: {{ case: 60s, start: 30s, op: 30s }}\npeers:\n  rust: {{ builtin: {{}} }}{peers}\nmatrix:\n  axes: {axes}\n{scripts}"
    );
    place.write("composed.yaml", &whole.replace("SOUPSCEN", SOUPSCEN).replace(&format!("{SOUPSCEN}:"), "SOUPSCEN:"));
}

fn noted(args: &str, rewrite: &str) -> String {
    SERVER.replace(", ARGS", args).replace("REWRITE", rewrite)
}

#[track_caller]
fn all_pass(place: &Place, count: usize, more: &[&str]) -> Results {
    let (ran, results) = place.results("composed.yaml", more);
    assert_eq!(results.counts().get("passed"), Some(&count), "{:?}\n{ran}", results.verdicts());
    ran.exits(0);
    assert!(place.tmp_is_empty(), "{:?}", place.files("tmp"));
    assert!(place.processes().is_empty(), "{:?}", place.processes());
    results
}

fn starts(case: &Value) -> Vec<Value> {
    case["attempts"][0]["evidence"]["starts"].as_array().cloned().unwrap_or_default()
}

#[test]
fn each_op_has_a_server_of_its_own_and_each_start_is_evidence() {
    let place = Place::new();
    write(
        &place,
        &client("tool", "", ""),
        "{ client: [tool], server: [rust], launch: [plugin], tls: [none, auto] }",
        SCRIPTS,
    );
    let results = all_pass(&place, 2, &["--evidence", "all"]);
    for mode in ["none", "auto"] {
        let case = results.case(&[&format!("tls={mode}")]);
        assert_eq!(fact(case, "tls"), (mode, mode));
        let starts = starts(case);
        assert_eq!(starts.len(), 3, "{case}");
        for start in starts {
            let composed = ["rpc", "kv", "server", "--tls-mode", mode, "--tls-curve", "secp521r1"];
            assert_eq!(start["composed"], serde_json::json!(composed));
            // What was run is the plugin's own command, and it ended before the op was over.
            assert_eq!(start["process"]["argv"][1], "serve", "{start}");
            assert_eq!(start["process"]["exit"], serde_json::json!({ "code": 0 }), "{start}");
            assert!(text(&start["handshake"]["line"]).starts_with("1|1|"), "{start}");
            assert_eq!(start["handshake"]["auto_mtls"], mode == "auto");
            assert_eq!(start["handshake"]["cookie"], "set");
            assert!(start["wire"][0]["client_bytes"].as_u64().unwrap() > 24, "{start}");
        }
    }
}

#[test]
fn the_clients_arguments_are_kept_where_they_are_asked_for_and_rewritten() {
    let place = Place::new();
    let of_client = r#"
        rewrite:
          args:
            - drop: [--tls-curve, "*"]
            - { add: [--more, "{{ case.slug }}"] }
          env: { KV_ECHO: from-client }"#;
    let of_server = r#"
        rewrite:
          args:
            - { replace: [--tls-mode, "*"], by: "--mode={{ axes.tls }}" }
          drop_env: LOG_*"#;
    let tool = client("tool", ", LOG_LEVEL: debug", of_client);
    let axes = "{ client: [tool], server: [noted], launch: [plugin], tls: [none] }";
    let scripts = "scripts:\n  put: { ops: [ { put: { key: a, value: b } } ] }\n";
    write(&place, &format!("{tool}{}", noted(", \"{{ client.args }}\", --last", of_server)), axes, scripts);
    all_pass(&place, 1, &[]);
    let notes = place.read("notes");
    let expected = "from-client unset --own rpc kv server --mode=none --more put-tool-noted-";
    assert!(notes.starts_with(expected) && notes.ends_with(" --last\n"), "{notes}");
    // By default they are not, and neither are the client's variables taken away.
    std::fs::remove_file(place.at("notes")).unwrap();
    write(&place, &format!("{}{}", client("tool", ", LOG_LEVEL: debug", ""), noted("", "")), axes, scripts);
    all_pass(&place, 1, &[]);
    assert_eq!(place.read("notes"), " debug --own\n");
    // A host that composes nothing has nothing to keep.
    std::fs::remove_file(place.at("notes")).unwrap();
    write(&place, &noted(", \"{{ client.args }}\"", ""), &axes.replace("[tool]", "[rust]"), scripts);
    all_pass(&place, 1, &[]);
    assert!(place.read("notes").ends_with(" --own\n"), "{}", place.read("notes"));
}

/// The cause of the only case.
#[track_caller]
fn cause(place: &Place) -> (String, String, String) {
    let (ran, results) = place.results("composed.yaml", &[]);
    let [case] = results.cases() else { panic!("{ran}") };
    assert!(place.tmp_is_empty(), "{ran}");
    assert!(place.processes().is_empty(), "{:?}", place.processes());
    let cause = &observation(case)["cause"];
    (text(&case["verdict"]).to_owned(), text(&cause["code"]).to_owned(), text(&cause["text"]).to_owned())
}

#[test]
fn a_client_that_never_starts_its_server_has_not_passed_nor_failed_for_its_own_reasons() {
    let place = Place::new();
    let axes = "{ client: [tool], server: [SERVER], launch: [plugin], tls: [none] }";
    let scripts = "scripts:\n  put: { ops: [ { put: { key: a, value: b } } ] }\n";
    let with = |mode: &str, server: &str, peers: &str| {
        let tool = client("tool", &format!(", COMPOSER: {mode}"), "");
        write(&place, &format!("{tool}{peers}"), &axes.replace("SERVER", server), scripts);
        cause(&place)
    };
    let found = with("idle", "rust", "");
    assert!(found.0 == "failed" && found.1 == "handshake.never-started", "{found:?}");
    assert!(found.2.contains("never started the server") && found.2.contains("put successfully"), "{found:?}");
    let found = with("broken", "rust", "");
    assert!(found.0 == "failed" && found.1 == "handshake.never-started", "{found:?}");
    assert!(found.2.contains("cannot read its configuration"), "{found:?}");
    let found = with("mute", "rust", "");
    assert!(found.0 == "failed" && found.1 == "connect.never", "{found:?}");
    // What goes wrong with the server is told of the server, whatever the client makes of it.
    let bad = "\n  bad: { server: { plugin: { run: [sh, -c, 'echo no such table >&2; exit 3'] }, provides: [kv, tls.none] } }";
    let found = with("\"\"", "bad", bad);
    assert!(found.0 == "failed" && found.1.starts_with("handshake.exit"), "{found:?}");
    assert!(found.2.contains("no such table"), "{found:?}");
    let missing = "\n  bad: { server: { plugin: { run: [/no/such/server] }, provides: [kv, tls.none] } }";
    let found = with("\"\"", "bad", missing);
    assert!(found.1.starts_with("handshake.exit") && found.2.contains("/no/such/server"), "{found:?}");
}

#[test]
fn mistakes_in_rewriting_are_told_with_their_place() {
    let place = Place::new();
    let axes = "{ client: [tool], server: [noted], launch: [plugin], tls: [none] }";
    let check = |client_more: &str, args: &str, server_more: &str| {
        write(&place, &format!("{}{}", client("tool", "", client_more), noted(args, server_more)), axes, SCRIPTS);
        place.run(["check", "composed.yaml"])
    };
    let rewrite = |rule: &str| format!("\n        rewrite: {{ args: [{rule}] }}");
    check(&rewrite("{ drop: a, add: b }"), "", "").exits(2).says("a rule does one thing");
    check(&rewrite("{ replace: a }"), "", "").exits(2).says("`by`");
    check(&rewrite("{ add: \"{{ nope }}\" }"), "", "").exits(2).says("unknown name `nope`");
    check("", ", \"--all={{ client.args }}\"", "").exits(2).says("mixes the client's arguments");
    check("", "", &rewrite("{ drop: a }")).exits(2).says("are not used");
    check("", ", \"{{ client.argv }}\"", "").exits(2).says("`client` has no `argv`");
}
