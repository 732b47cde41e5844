//! Bad scenarios: code, place and way out of every problem.

use std::path::Path;

use super::{GOOD, bent, check, problems, text};
use crate::diag::render;
use crate::scenario::{MemoryFiles, load};

#[test]
fn every_problem_of_a_file_is_reported_at_once() {
    let bad = GOOD
        .replace("name: t", "nmae: t\ntimeouts: { case: 20, op: 3s, op: 4s }")
        .replace("client: [rust, py]", "client: [rsut, py]\n    tsl: [auto]")
        .replace("key: [p256, p384]", "key: []")
        .replace("put: {", "putt: {")
        .replace("client == py and key", "client == pyy and kye")
        .replace("    reason: because\n", "    at2: tls\n");
    let (sources, problems) = text(&bad).unwrap_err();
    insta::assert_snapshot!(render(&sources, &problems, false));
}

#[test]
fn keys_and_types() {
    check("name: t", "name: t\nscript: {}", "unknown-key", "script", "did you mean `scripts`?");
    check("builtin: {}", "builtin: {}, bulid: {}", "unknown-key", "bulid", "did you mean `build`?");
    check("builtin: {}", "builtin: { x: 1 }", "unknown-key", "x", "no keys");
    check("name: t", "name: [t]", "wrong-type", "[t]", "-");
    check("[rust, py]", "rust", "wrong-type", "rust", "write `client: […]`");
    check("name: t", "name: t\nlabels:", "no-value", "labels", "give it a value or remove the key");
    check("name: t", "name: t\nname: u", "duplicate-key", "name", "keep one");
    check(
        "  rust: { builtin: {} }\n",
        "  rust: { builtin: {} }\n  rust: { builtin: {} }\n",
        "duplicate-key",
        "rust",
        "",
    );
    check("vars: { greeting: hi }", "vars: { greeting: hi, greeting: ho }", "duplicate-key", "greeting", "");
    check("name: t", "name: !x t", "unknown-tag", "!x", "remove it");
    check("name: t", "name: t\nmissing_peers: leave_out", "unknown-value", "leave_out", "did you mean `leave-out`?");
    check("name: t", "name: t\nretry: { attempts: 0 }", "out-of-range", "0", "-");
    check("name: t", "name: t\nretry: { attempts: two }", "wrong-type", "two", "-");
}

#[test]
fn durations() {
    check("name: t", "name: t\ntimeouts: { case: 20 }", "bad-duration", "20", "did you mean `20s`");
    check("name: t", "name: t\ntimeouts: { case: 20sec }", "bad-duration", "20sec", "500ms, 20s");
}

#[test]
fn peers() {
    check("client: [rust, py]", "client: [rust, pyy]", "unknown-peer", "pyy", "did you mean `py`?");
    check("server: [rust]", "server: [rust, py]", "no-role", "py", "give it `server");
    check("tls.*, ", "tls.mutal, ", "unknown-capability", "tls.mutal", "did you mean `tls.mutual`?");
    check("tls.*, ", "tsl.*, ", "unknown-capability", "tsl.*", "known capabilities");
    check("service.kv, ", "service.kw, ", "unknown-capability", "service.kw", "service.kv");
    check("driver: { run: [./driver] }", "driver: { run: [] }", "empty", "[]", "name the program first");
    check(
        ", provides: [service.kv, tls.*, launch.direct]",
        "",
        "missing-key",
        "{ driver: { run: [./driver] } ",
        "list what it can be asked to do",
    );
    check("run: [./driver]", "run: [\"{{ outptu }}\"]", "unknown-name", "outptu", "did you mean `output`?");
    check("builtin: {}", "server: { attach: here, provides: [kv] }, builtin: {}", "bad-address", "here", "HOST:PORT");
    check("  rust: { builtin: {} }", "  rust: { builtin: {} }\n  no: { lang: x }", "no-role", "no", "builtin: {}");
    check("  rust: {", "  ru st: { builtin: {} }\n  rust: {", "bad-name", "ru st", "letters");
}

#[test]
fn peer_files() {
    let scenario = GOOD.replace("  rust: { builtin: {} }", "  rust: { from: p.yaml }");
    let with = |peer: &str| {
        problems(load(Path::new("a.yaml"), &MemoryFiles::new().with("a.yaml", &scenario).with("p.yaml", peer)))
    };
    assert_eq!(
        with("soupscen: 1\npeers: { rsut: { builtin: {} }, go: { builtin: {} } }\n"),
        [
            "unknown-peer a.yaml:5:3 \"rust\" | did you mean `rsut`? known peers of it: rsut, go; `pick: NAME` takes one of another name"
        ]
    );
    assert_eq!(with("soupscen: 1\npeers: { rsut: { builtin: {} } }\n"), [""; 0], "the only one is meant");
    assert_eq!(
        with("soupscen: 1\npeers: { rust: { builtin: {}, lnag: x } }\n"),
        [
            "unknown-key p.yaml:2:31 \"lnag\" | did you mean `lang`? known keys: from, pick, variants, description, lang, stack, facts, builtin, client, server, build, versions"
        ]
    );
    let missing = problems(load(Path::new("a.yaml"), &MemoryFiles::new().with("a.yaml", &scenario)));
    assert_eq!(missing, ["missing-file a.yaml:5:17 \"p.yaml\" | did you mean `a.yaml`?"]);
}

#[test]
fn axes() {
    check("    key: [p256, p384]", "    kye: [p256]", "unknown-axis", "kye", "did you mean `key`?");
    check("[p256, p384]", "[p256, p385]", "unknown-value", "p385", "did you mean `p384`?");
    check("[p256, p384]", "[p256, p384, secp384r1]", "duplicate-value", "secp384r1", "-");
    check("[p256, p384]", "[]", "empty-axis", "[]", "leave the axis out");
    check("    server: [rust]\n", "", "missing-axis", "client: [rust, py]\n    launch:", "write `server");
    check("[none, mutual]", "[{ mine: { mode: auto } }]", "unknown-value", "auto", "server, mutual");
    check("[none, mutual]", "[{ mine: { mode: mutual, cert: c } }]", "missing-key", "cert", "go together");
    check(
        "    tls: [none, mutual]",
        "    tls: [none, mutual]\n    service: [kw]",
        "unknown-service",
        "kw",
        "did you mean `kv`?",
    );
    check("[p256, p384]", "{ values: [p256, p384], affects: call }", "useless-key", "affects", "own");
    check("[p256, p384]", "{ values: [p256, p384], effective: { report: \"\" } }", "empty", "\"\"", "-");
}

#[test]
fn constraints() {
    let with = |more: &str| format!("    key: [p256, p384]\n  {more}");
    let old = "    key: [p256, p384]";
    check(old, &with("exclude: [{ when: key == p256 }]"), "missing-key", "{ when: key == p256 }", "say why");
    check(old, &with("exclude: [{ when: key == p257, reason: r }]"), "unknown-value", "p257", "p256");
    check(
        old,
        &with("include: [{ client: rust, server: rust, kye: p256 }]"),
        "unknown-axis",
        "kye",
        "did you mean `key`?",
    );
    check(old, &with("include: [{ client: rust }]"), "missing-axis", "{ client: rust }", "unset");
    check(old, &with("scripts: [too]"), "unknown-script", "too", "one");
}

#[test]
fn expressions_have_exact_places() {
    check("client == py and key", "client == py and kye", "unknown-axis", "kye", "did you mean `key`?");
    check("client == py and", "client == pyy and", "unknown-value", "pyy", "did you mean `py`?");
    check("client == py and", "client.lnag == python and", "unknown-fact", "client.lnag", "lang");
    check("when: client == py and key == p384", "when: \"client = py\"", "bad-expression", "=", "write `==`");
}

#[test]
fn rules() {
    check("    reason: because\n", "", "missing-key", "id: r1\n    when: client == py ", "with its reason");
    check("    reason: because\n", "    reason: \"\"\n", "empty", "\"\"", "-");
    check("outcome: failed", "outcome: fails", "unknown-value", "fails", "did you mean `failed`?");
    check("outcome: failed", "outcome: [failed]", "unknown-value", "[failed]", "without brackets");
    check("at: tls", "at: tsl", "unknown-value", "tsl", "did you mean `tls`?");
    check("at: tls", "match: { code: NOTFOUND }", "unknown-code", "NOTFOUND", "did you mean `NOT_FOUND`?");
    check("at: tls", "match: { text: \"(\" }", "bad-regex", "\"(\"", "-");
    check("at: tls", "match: { cause: TLS.x }", "bad-cause", "TLS.x", "dotted words");
    check("at: tls", "match: { cause: rpc.status.NOTFOUND }", "bad-cause", "rpc.status.NOTFOUND", "dotted words");
    check("at: tls", "match: { alert: 300 }", "out-of-range", "300", "-");
    check("at: tls", "review_by: 2027-02-30", "bad-date", "2027-02-30", "YYYY-MM-DD");
    check(
        "    outcome: failed\n    at: tls",
        "    outcome: not-effective",
        "missing-key",
        "id: r1\n    when: client == py ",
        "fact: key",
    );
    check(
        "    outcome: failed\n    at: tls",
        "    outcome: not-effective\n    fact: kee",
        "unknown-fact",
        "kee",
        "did you mean `key`?",
    );
    check("outcome: failed", "outcome: unsupported", "useless-key", "at", "remove it");
    check("\"<=1.85.1\"", "\"=<1.85.1\"", "bad-version", "\"=<1.85.1\"", "<=1.85.1");
    check("client.grpcio", "grpcio", "bad-version", "grpcio", "client.COMPONENT");
    check("client.grpcio", "client.grpico", "unknown-component", "client.grpico", "did you mean `grpcio`?");
    let twice = format!("{GOOD}  - {{ id: r1, when: client == py, outcome: failed, reason: x }}\n");
    assert!(problems(text(&twice))[0].starts_with("duplicate-name a.yaml:30:11 \"r1\""));
}

#[test]
fn steps() {
    check("- put: {", "- putt: {", "unknown-op", "putt", "did you mean `put`?");
    let found = problems(bent("- put: { key", "- put: { kee"));
    assert_eq!(
        found,
        [
            "missing-argument a.yaml:20:9 \"put\" | arguments of `put`: key, value",
            "unknown-argument a.yaml:20:16 \"kee\" | did you mean `key`? known arguments: key, value",
        ]
    );
    check("        expect: { value:", "        expcet: { value:", "unknown-key", "expcet", "did you mean `expect`?");
    check("expect: { value:", "expect: { vlaue:", "unknown-key", "vlaue", "did you mean `value`?");
    check(
        "expect: { value: \"{{ vars.greeting }}\" }",
        "expect: { stdout: x }",
        "no-such-result",
        "stdout",
        "message, code",
    );
    check(
        "expect: { value: \"{{ vars.greeting }}\" }",
        "expect: { code: UNKOWN }",
        "unknown-code",
        "UNKOWN",
        "did you mean `UNKNOWN`?",
    );
    check(
        "value: \"{{ vars.greeting }}\" }\n      - get",
        "value: { $regx: a } }\n        expect: { message: { $regx: a } }\n      - get",
        "unknown-operator",
        "$regx",
        "did you mean `$regex`?",
    );
    check(
        "\n        expect: { value",
        "\n        put: {}\n        expect: { value",
        "two-ops",
        "put",
        "a step of its own",
    );
    check(
        "        expect: {",
        "        capture: { case: value }\n        expect: {",
        "bad-name",
        "case",
        "these names have a meaning",
    );
    check(
        "        expect: {",
        "        capture: { x: vlaue }\n        expect: {",
        "bad-path",
        "vlaue",
        "did you mean `value`?",
    );
    check(
        "      - put: {",
        "      - send: { stream: w, message: {} }\n      - put: {",
        "unknown-stream",
        "w",
        "open it first",
    );
    check("- put: {", "- call: { method: Gte }\n      - put: {", "unknown-method", "Gte", "did you mean `Get`?");
    check(
        "- put: {",
        "- call: { method: proto.KV/Gte }\n      - put: {",
        "unknown-method",
        "proto.KV/Gte",
        "did you mean `Get`?",
    );
    check(
        "- put: {",
        "- call: { method: Get, metadata: { X-A: b } }\n      - put: {",
        "bad-metadata",
        "X-A",
        "lower-case",
    );
}

#[test]
fn templates() {
    check("{{ case.slug }}", "{{ case.slgu }}", "unknown-name", "case.slgu", "did you mean `slug`?");
    check("{{ case.slug }}", "{{ caes.slug }}", "unknown-name", "caes.slug", "did you mean `case`?");
    check("{{ vars.greeting }}", "{{ vars.greting }}", "unknown-name", "vars.greting", "did you mean `greeting`?");
    let problem = super::only("\"{{ case.slug }}\", value", "\"a {{ case. }}\", value");
    assert!(problem.starts_with("bad-template a.yaml:20:"), "{problem}");
    assert!(
        super::only("\"{{ case.slug }}\", value", "\"{{ case.slug | uper }}\", value").starts_with("bad-template ")
    );
}

#[test]
fn what_is_only_for_the_own_file_is_refused_in_included_ones() {
    let files = MemoryFiles::new()
        .with("a.yaml", format!("{GOOD}include: b.yaml\n"))
        .with("b.yaml", "soupscen: 1\nname: fine\ntimeouts: { op: 1s }\npeers: { rust: { builtin: {} } }\n");
    assert_eq!(
        problems(load(Path::new("a.yaml"), &files)),
        [
            "not-when-included b.yaml:3:1 \"timeouts\" | included files give vars, peers, services, scripts and expectations",
            "duplicate-name b.yaml:4:10 \"rust\" | rename one of them",
        ]
    );
}

#[test]
fn a_broken_include_does_not_drown_its_own_problem_in_consequences() {
    let files = MemoryFiles::new()
        .with("a.yaml", GOOD.replace("  rust: { builtin: {} }\n", "").replace("name: t", "name: t\ninclude: b.yaml"))
        .with("b.yaml", "soupscen: 1\npeers: { rust: { builtin: {} }\n");
    let found = problems(load(Path::new("a.yaml"), &files));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("unclosed-bracket b.yaml:"), "{found:#?}");
}

#[test]
fn services() {
    let proto = r#"syntax = "proto3"; package p; message M { string a = 1; } service S { rpc Do(M) returns (M); }"#;
    let with = |service: &str| {
        let text = GOOD.replace("peers:\n", &format!("services: {{ s: {service} }}\npeers:\n"));
        let text = text.replace("    server: [rust]\n", "    server: [rust]\n    service: [kv]\n");
        problems(load(Path::new("a.yaml"), &MemoryFiles::new().with("a.yaml", text).with("s.proto", proto)))
    };
    let none: [&str; 0] = [];
    assert_eq!(
        with("{ proto: { files: [s.proto] }, service: p.S, ops: { do: { method: Do, send: { a: '{{ x }}' } } } }"),
        none
    );
    let found = with("{ proto: { files: [s.proto] }, service: p.S, ops: { do: { method: Dont } } }");
    assert_eq!(found, ["unknown-method a.yaml:4:82 \"Dont\" | known methods: Do"]);
    let found = with("{ proto: { files: [s.proto] }, service: p.T }");
    assert!(found[0].starts_with("unknown-service a.yaml:4:56 \"p.T\""), "{found:?}");
    let found = with("{ proto: { files: [t.proto] }, service: p.S }");
    assert!(found.len() == 1 && found[0].starts_with("bad-proto a.yaml:4:25"), "{found:?}");
    let found = with("{ service: p.S }");
    assert!(found[0].starts_with("missing-key a.yaml:4:16"), "{found:?}");
    let found = with("{ proto: { files: [s.proto] }, service: p.S, ops: { expect: { method: Do } } }");
    assert!(found[0].starts_with("bad-name a.yaml:4:68 \"expect\""), "{found:?}");
    // The op belongs to another service than the one under test.
    let text = GOOD
        .replace("peers:\n", "services: { s: { proto: { files: [s.proto] }, service: p.S } }\npeers:\n")
        .replace("    server: [rust]\n", "    server: [rust]\n    service: [kv, s]\n");
    let found = problems(load(Path::new("a.yaml"), &MemoryFiles::new().with("a.yaml", text).with("s.proto", proto)));
    assert!(found[0].starts_with("op-not-in-service a.yaml:") && found[0].contains("when: service != s"), "{found:?}");
}

#[test]
fn nothing_to_run() {
    assert!(problems(text("soupscen: 1\n")).iter().all(|p| p.starts_with("missing-key a.yaml:1:1")));
    let found = problems(text(&format!("{}matrix: []\n", GOOD.replace("matrix:\n", "labels: {}\nvars:\n"))));
    assert!(found.iter().any(|p| p.starts_with("empty a.yaml:") && p.contains("\"[]\"")), "{found:?}");
    let found = problems(bent("    ops:\n      - put", "    ops: []\n    opsi:\n      - put"));
    assert!(found.iter().any(|p| p.starts_with("empty a.yaml:19:10")), "{found:?}");
}

#[test]
fn changes_of_a_plugin_host() {
    let with = |value: &str| format!("key: [p256, p384]\n    own: {{ odd: {{ host: {value} }} }}");
    let key = "key: [p256, p384]";
    check(key, &with("{ enf: {} }"), "unknown-key", "enf", "did you mean `env`?");
    check(key, &with("{ env: { A=B: c } }"), "bad-name", "A=B", "");
    check(key, &with("{ env: { A: [b] } }"), "wrong-type", "[b]", "");
    check(key, &with("{ protocol_versions: [-1] }"), "out-of-range", "-1", "");
    let calls = "key: [p256, p384]\n    own: { affects: call, values: { odd: { host: { env: {} } } } }";
    check(key, calls, "wrong-affects", "odd", "affects: server");
}

#[test]
fn a_name_of_a_value_means_one_thing_in_the_whole_matrix() {
    let blocks = |second: &str| {
        let first = "{ mode: mutual, make: { client: { expired: true } } }";
        let axes = |tls: &str| format!("axes: {{ client: [rust], server: [rust], launch: [direct], tls: {tls} }}");
        let text = format!(
            "soupscen: 1\nname: t\npeers: {{ rust: {{ builtin: {{}} }} }}\nmatrix:\n  - {{ name: a, {} }}\n  - {{ name: b, {} }}\n\
             scripts: {{ s: {{ ops: [{{ get: {{ key: a }} }}] }} }}\n",
            axes(&format!("{{ bad: {first} }}")),
            axes(second),
        );
        problems(super::text(&text))
    };
    assert_eq!(blocks("{ bad: { mode: mutual, make: { client: { expired: true } } } }"), Vec::<String>::new());
    let found = blocks("{ bad: { mode: mutual, make: { server: { issuer: other } } } }");
    assert!(
        found.len() == 1 && found[0].starts_with("two-meanings a.yaml:6:") && found[0].contains("another name"),
        "{found:?}"
    );
    let facts = "key: [p256, p384]\n    size: { small: { bytes: 1 } }\n  include:\n    - { client: rust, server: rust, size: small }";
    assert_eq!(problems(bent("key: [p256, p384]", facts)), Vec::<String>::new(), "a row means what its axis lists");
}

#[test]
fn variants_are_told_apart() {
    let q = |variants: &str| {
        let peer = format!(
            "  rust: {{ builtin: {{}} }}\n  q:\n    variants: {variants}\n    client: {{ driver: {{ run: [d, \"{{{{ a }}}}{{{{ b }}}}\"] }}, provides: [service.kv] }}\n"
        );
        problems(bent("  rust: { builtin: {} }\n", &peer))
    };
    assert_eq!(q("{ a: [x, y], b: [x, y] }"), Vec::<String>::new());
    let found = q("{ a: [x, x+y], b: [y+z, z] }");
    assert!(found.len() == 1 && found[0].starts_with("duplicate-name a.yaml:6:3"), "{found:?}");
    let many: Vec<String> = (0..64).map(|n| format!("v{n}: [a, b]")).collect();
    let uses: String = (0..64).map(|n| format!("{{{{ v{n} }}}}")).collect();
    let peer = format!(
        "  rust: {{ builtin: {{}} }}\n  q:\n    variants: {{ {} }}\n    client: {{ driver: {{ run: [d, \"{uses}\"] }}, provides: [service.kv] }}\n",
        many.join(", ")
    );
    let found = problems(bent("  rust: { builtin: {} }\n", &peer));
    assert!(found.len() == 1 && found[0].starts_with("too-many "), "{found:?}");
}

#[test]
fn variants_beside_a_peer_file_name_all_of_its_own() {
    let file = "soupscen: 1\npeers:\n  p:\n    variants: { version: [\"1\"], flavour: [x] }\n    \
                client: { driver: { run: [d, \"{{ version }}{{ flavour }}\"] }, provides: [service.kv] }\n";
    let with = |variants: &str| {
        let scenario = GOOD.replacen(
            "  rust: { builtin: {} }\n",
            &format!("  rust: {{ builtin: {{}} }}\n  p: {{ from: p.yaml, variants: {variants} }}\n"),
            1,
        );
        problems(load(Path::new("a.yaml"), &MemoryFiles::new().with("a.yaml", &scenario).with("p.yaml", file)))
    };
    assert_eq!(with("{ version: [\"3\"], flavour: [y] }"), Vec::<String>::new());
    let found = with("{ version: [\"3\"] }");
    assert!(found.len() == 1 && found[0].starts_with("missing-key a.yaml:6:"), "{found:?}");
}

#[test]
fn an_op_is_read_as_the_service_has_it_that_is_called() {
    let o = r#"syntax = "proto3"; package x; service One { rpc A(M) returns (M); } service Two { rpc A(M) returns (M); } message M { string key = 1; string id = 2; }"#;
    let with = |two: &str, blocks: &str| {
        let text = format!(
            "soupscen: 1\nname: t\nservices:\n  one: {{ proto: {{ files: [o.proto] }}, service: x.One, ops: {{ get: {{ method: A, send: {{ key: '{{{{ key }}}}' }} }} }} }}\n  \
             two: {two}\npeers: {{ rust: {{ builtin: {{}} }}, s: {{ server: {{ attach: \"127.0.0.1:1\", provides: [service.*] }} }} }}\n\
             matrix: {blocks}\nscripts:\n  s1: {{ ops: [{{ get: {{ key: a }} }}] }}\n  s2: {{ ops: [{{ get: {{ id: a }} }}] }}\n"
        );
        let p = r#"syntax = "proto3"; package y; message M {}"#;
        let files = MemoryFiles::new().with("a.yaml", text).with("o.proto", o).with("p.proto", p);
        problems(load(Path::new("a.yaml"), &files))
    };
    let block = |service: &str, script: &str| {
        format!("{{ axes: {{ client: [rust], server: [s], service: [{service}] }}, scripts: [{script}] }}")
    };
    let two = "{ proto: { files: [o.proto] }, service: x.Two, ops: { get: { method: A, send: { id: '{{ id }}' } } } }";
    let apart = format!("[{}, {}]", block("one", "s1"), block("two", "s2"));
    assert_eq!(with(two, &apart), Vec::<String>::new());
    let swapped = with(two, &format!("[{}, {}]", block("one", "s2"), block("two", "s1")));
    let codes: Vec<_> = swapped.iter().map(|problem| problem.split(' ').next().unwrap()).collect();
    assert_eq!(codes, ["missing-argument", "unknown-argument", "missing-argument", "unknown-argument"], "{swapped:?}");
    let both = with(two, &format!("[{}, {}]", block("one, two", "s1"), block("two", "s2")));
    assert!(both.len() == 1 && both[0].starts_with("op-differs "), "{both:?}");
    // A service of another one's files is not in its own.
    let lent = with(&two.replace("o.proto", "p.proto").replace("x.Two", "x.One"), &apart);
    assert!(lent[0].starts_with("unknown-service a.yaml:5:"), "{lent:?}");
}

#[test]
fn a_list_of_no_ends_is_not_any_end() {
    let client = |pattern: &str| {
        format!(
            "lang: python\n    client: {{ exec: {{ ops: {{ get: {{ run: [p, '{{{{ key }}}}'], patterns: [{pattern}] }} }} }}, provides: [service.kv, tls.*, launch.direct] }}"
        )
    };
    let old = "lang: python\n    client: { driver: { run: [./driver] }, provides: [service.kv, tls.*, launch.direct] }";
    let found = problems(bent(old, &client("{ exit: [], value: x }")));
    assert!(found.iter().any(|problem| problem.starts_with("empty ") && problem.contains("\"[]\"")), "{found:?}");
    let found = problems(bent(old, &client("{ exit: [0], value: x }")));
    assert!(!found.iter().any(|problem| problem.starts_with("empty ")), "{found:?}");
}

#[test]
fn no_certificate_is_made_that_is_never_shown() {
    let values = |mode: &str| {
        format!("{{ none: , mutual: , odd: {{ mode: {mode}, make: {{ client: {{ expired: true }} }} }} }}")
    };
    check("tls: [none, mutual]", &format!("tls: {}", values("server")), "useless-key", "make", "`mode: mutual`");
    assert_eq!(problems(bent("tls: [none, mutual]", &format!("tls: {}", values("mutual")))), Vec::<String>::new());
}
