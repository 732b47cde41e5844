//! What the commands print and with which status they end; and that shipped files are what the
//! program says they are.

#[path = "support/run.rs"]
mod run;

use std::fs;

use run::{PUT_GET, Place, ROOT};

/// Built-in peers only: nothing is built, nothing is looked up.
const SMALL: &str = r#"soupscen: 1
name: small
description: for the snapshots
peers:
  rust: { builtin: {} }
  narrow:
    server:
      plugin: { builtin: { args: [] } }
      provides: [service.kv, launch.plugin, transport.unix, tls.none, tls.auto, key.p256]
  broken: { server: { plugin: { builtin: { args: [--as-broken, three-fields] } } } }
matrix:
  axes:
    client: [rust]
    server: [rust, narrow, broken]
    launch: [plugin]
    tls: [none, auto]
    key: [p256, p384]
  exclude:
    - { when: server == broken and tls == none, reason: one broken pair is enough }
  include:
    - { client: rust, server: rust, launch: direct, tls: mutual, key: ed25519 }
scripts:
  put-get:
    ops:
      - put: { key: "{{ case.slug }}", value: v }
      - get: { key: "{{ case.slug }}" }
        expect: { value: v }
  absent:
    when: server != broken
    ops:
      - get: { key: absent }
        expect: { code: NOT_FOUND }
expectations:
  - id: says-too-little
    when: server == broken
    outcome: failed
    at: handshake
    match: { cause: handshake.line }
    reason: its line has three fields
"#;

fn small() -> Place {
    let place = Place::new();
    place.write("small.yaml", SMALL);
    place
}

/// Both streams of a command as one text.
fn shown(place: &Place, arguments: &[&str]) -> String {
    let ran = place.run(arguments);
    format!("$ soupscen {}\n{}{}status {}\n", arguments.join(" "), ran.out, ran.err, ran.code())
}

#[test]
fn check_and_plan() {
    let place = small();
    let texts = [
        &["check", "small.yaml"][..],
        &["plan", "small.yaml"],
        &["plan", "small.yaml", "--count"],
        &["plan", "small.yaml", "--filter", "tls == auto and server == broken"],
        &["plan", "small.yaml", "--case", "*/absent[*tls=auto*", "--count"],
        &["plan", "small.yaml", "--shard", "1/2", "--count"],
        &["plan", "small.yaml", "--shard", "2/2", "--count"],
    ]
    .map(|arguments| shown(&place, arguments));
    insta::assert_snapshot!("check_and_plan", texts.join("\n"));
}

#[test]
fn plan_says_why() {
    let place = small();
    let texts = [
        &["plan", "small.yaml", "--why", "small/put-get[*server=broken,*key=p384*"][..],
        &["plan", "small.yaml", "--why", "small/absent[*server=narrow,*key=p384*"],
        &["plan", "small.yaml", "--why", "small/put-get[*ed25519*"],
        &["plan", "small.yaml", "--why", "nonesuch"],
    ]
    .map(|arguments| shown(&place, arguments));
    insta::assert_snapshot!("plan_says_why", texts.join("\n"));
}

#[test]
fn plan_as_json_is_the_same_plan() {
    let place = small();
    let ran = place.run(["plan", "small.yaml", "--json"]).exits(0);
    insta::assert_snapshot!("plan_json", ran.out);
    let lines: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listed = place.run(["plan", "small.yaml"]).out;
    let cases: Vec<_> = lines.iter().filter(|line| line["type"] == "case").collect();
    assert_eq!(cases.len(), 16);
    for case in cases {
        // Every name of a case finds it, and only it.
        assert!(listed.contains(run::text(&case["id"])));
        for name in ["id", "key", "slug"] {
            let found = place.run(["plan", "small.yaml", "--json", "--case", run::text(&case[name])]);
            let found: Vec<_> =
                found.out.lines().filter(|line| line.contains("\"type\":\"case\"")).map(str::to_owned).collect();
            assert_eq!(found.len(), 1, "{name} of {case}");
            assert!(found[0].contains(run::text(&case["key"])));
        }
    }
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let place = Place::new();
    place.write(
        "wrong.yaml",
        r"soupscen: 1
name: wrong
peers: { rust: { builtin: {} } }
timeouts: { case: 20 parsecs }
matrix:
  axes: { client: [rsut], server: [rust], tsl: [auto], launch: [plugin] }
scripts:
  put:
    ops:
      - putt: { key: a, value: b }
expectations:
  - { id: x, when: client == go, outcome: failed }
",
    );
    for command in ["check", "plan", "run"] {
        let ran = place.run([command, "wrong.yaml"]).exits(2);
        for (place, word) in [
            ("wrong.yaml:4:", "parsecs"),
            ("wrong.yaml:6:", "rsut"),
            ("wrong.yaml:6:", "tsl"),
            ("wrong.yaml:10:", "putt"),
            ("wrong.yaml:12:", "reason"),
        ] {
            assert!(ran.err.contains(place) && ran.err.contains(word), "{place} {word}: {ran}");
        }
        assert!(ran.out.is_empty(), "{ran}");
        ran.says("did you mean `rust`?").says("did you mean `tls`?").says("did you mean `put`?");
    }
    assert!(!place.at("home").exists());
}

#[test]
fn inputs_that_cannot_be_used_are_status_2() {
    let place = small();
    fs::write(place.at("bytes.yaml"), b"soupscen: 1\nname: \xff\xfe\n").unwrap();
    place.write("empty.yaml", "");
    place.write("tabs.yaml", "soupscen: 1\nname:\tx\n\tpeers: {}\n");
    place.write("again.yaml", "soupscen: 1\nname: a\nname: b\n");
    place.write("missing.yaml", "soupscen: 1\nname: a\ninclude: [nonesuch.yaml]\n");
    place.write("round.yaml", "soupscen: 1\nname: a\ninclude: [round.yaml]\n");
    for (file, word) in [
        ("bytes.yaml", "UTF-8"),
        ("empty.yaml", "empty"),
        ("tabs.yaml", "tab"),
        ("again.yaml", "name"),
        ("missing.yaml", "nonesuch.yaml"),
        ("round.yaml", "round.yaml"),
        (".", "folder"),
        ("not-there.yaml", "not-there.yaml"),
    ] {
        for command in ["check", "run"] {
            place.run([command, file]).exits(2).says(word).never_says("panicked");
        }
    }
    // One good file among them does not hide the others.
    place.run(["check", "empty.yaml", "small.yaml", "again.yaml"]).exits(2).says("empty.yaml").says("again.yaml");
    for arguments in [
        &["run", "small.yaml", "--filter", "tsl == auto"][..],
        &["run", "small.yaml", "--filter", "tls == atuo"],
        &["run", "small.yaml", "--filter", "tls =="],
        &["run", "small.yaml", "--shard", "3/2"],
        &["run", "small.yaml", "--shard", "0/2"],
        &["run", "small.yaml", "--failed-in", "nonesuch.json"],
        &["run", "small.yaml", "--jobs", "0"],
        &["run", "--resume", "nonesuch"],
        &["report", "nonesuch"],
        &["run"],
        &["nonesuch"],
    ] {
        let ran = place.run(arguments).exits(2);
        assert!(!ran.err.is_empty(), "{arguments:?}");
    }
    assert!(!place.at("home/runs/latest").exists(), "nothing was run");
}

#[test]
fn exit_statuses() {
    let place = small();
    let run = |arguments: &[&str]| {
        let all: Vec<_> = ["run", "small.yaml"].into_iter().chain(arguments.iter().copied()).collect();
        place.run(all)
    };
    // 0: as expected, limitations and all.
    run(&[]).exits(0).says("says-too-little").says("key.p384");
    run(&["--filter", "server == broken"]).exits(0);
    // 1: something is red.
    place.write("red.yaml", &SMALL.replace("at: handshake", "at: tls"));
    place.run(["run", "red.yaml"]).exits(1);
    // 3: only what could not be had or run is.
    let text = format!(
        "soupscen: 1
name: missing
peers:
  rust: {{ builtin: {{}} }}
  absent:
    build: {{ run: [no-such-tool, x], tools: {{ no-such-tool: {{ install: from the shop }} }} }}
    server: {{ plugin: {{ run: [x] }}, provides: [service.kv, launch.plugin, tls.none] }}
matrix: {{ axes: {{ client: [rust], server: [rust, absent], launch: [plugin], tls: [none] }} }}
{PUT_GET}"
    );
    place.write("missing.yaml", &text);
    place.run(["run", "missing.yaml"]).exits(3).says("no-such-tool").says("from the shop");
    place.write("left-out.yaml", &text.replace("name: missing", "name: missing\nmissing_peers: leave-out"));
    place.run(["run", "left-out.yaml"]).exits(0).says("from the shop");
    place.run(["run", "left-out.yaml", "--require-peers"]).exits(3);
    // 4: nothing was selected, or nothing executed.
    run(&["--filter", "tls == none and server == broken"]).exits(4);
    run(&["--case", "nonesuch"]).exits(4);
    run(&["--filter", "server == narrow and key == p384"]).exits(4);
    place.run(["run", "left-out.yaml", "--filter", "server == absent"]).exits(4);
    // 0 with a note: a shard that is empty.
    let shards: Vec<_> = (1..=200).map(|n| format!("{n}/200")).collect();
    let empty = shards.iter().find(|shard| {
        let ran = place.run(["plan", "small.yaml", "--count", "--shard", shard]).exits(0);
        ran.out.contains("small: 0 cases")
    });
    run(&["--shard", empty.unwrap()]).exits(0).says("nothing to run");
}

#[test]
fn a_failure_says_how_to_run_just_that_case() {
    let place = Place::new();
    place.write("red.yaml", &SMALL.replace("at: handshake", "at: tls"));
    let ran = place.run(["run", "red.yaml", "--filter", "script == put-get"]).exits(1);
    let again = ran.out.lines().find_map(|line| line.trim().strip_prefix("again soupscen ")).unwrap();
    let arguments: Vec<_> = again.split(' ').collect();
    let alone = place.run(arguments).exits(1);
    alone.says("1 case").says("wrong-failure");
}

#[test]
fn shipped_scenarios_are_good() {
    let place = Place::new();
    let mut folders = vec![std::path::PathBuf::from(ROOT).join("scenarios")];
    let mut checked = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                // A file without a matrix is for others to include.
                let text = fs::read_to_string(&path).unwrap();
                if text.lines().any(|line| line.starts_with("matrix:")) {
                    place.run([std::ffi::OsStr::new("check"), path.as_os_str()]).exits(0).never_says("warning");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 1);
}

#[test]
fn shipped_schemas_are_what_the_program_says() {
    let place = Place::new();
    for name in ["scenario", "peer", "results", "driver"] {
        let said = place.run(["schema", name]).exits(0).out;
        let path = format!("{ROOT}/schemas/{name}.schema.json");
        let shipped = fs::read_to_string(&path).unwrap_or_default();
        assert!(shipped == said, "schemas/{name}.schema.json has drifted: write it with `soupscen schema {name} > …`");
        serde_json::from_str::<serde_json::Value>(&said).unwrap();
    }
}
