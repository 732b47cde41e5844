//! How cases are executed: what may be shared, what is tried again, when a run stops.

#[path = "support/run.rs"]
mod run;

use std::collections::BTreeSet;

use run::{PUT_GET, Place, ROOT, SOUPSCEN, observation, text, toolchains};

#[test]
fn a_case_that_checks_nothing_is_errored() {
    let place = Place::new();
    place.write(
        "nothing.yaml",
        "soupscen: 1
name: nothing
peers: { rust: { builtin: {} } }
matrix: { axes: { client: [rust], server: [rust], launch: [direct], tls: [none] } }
scripts:
  nothing:
    ops:
      - open: { stream: s, method: Get, send: { key: k } }
      - cancel: { stream: s }
",
    );
    let (ran, results) = place.results("nothing.yaml", &[]);
    let case = results.case(&["nothing"]);
    assert_eq!(
        (text(&case["verdict"]), observation(case)["checked"].as_u64()),
        ("errored", Some(0)),
        "{case:#}\n{ran}"
    );
    assert!(text(&case["why"]).contains("without executing a single check"), "{case:#}");
    ran.exits(3);
}

/// A plugin that writes a line per start; three scripts on one pair, with this isolation.
fn starts_with(isolation: &str) -> usize {
    let place = Place::new();
    let at = place.path().display();
    place.write("plugin.sh", &format!("echo $$ >> {at}/starts\nexec {SOUPSCEN} serve kv\n"));
    place.write(
        "shared.yaml",
        &format!(
            "soupscen: 1
name: shared
peers:
  rust: {{ builtin: {{}} }}
  counted:
    server:
      plugin: {{ run: [/bin/sh, {at}/plugin.sh] }}
      provides: [service.kv, launch.plugin, transport.unix, tls.none, tls.auto]
matrix:
  axes: {{ client: [rust], server: [counted], launch: [plugin], tls: [auto] }}
  isolation: {isolation}
scripts:
  one: {{ ops: [ {{ put: {{ key: k, value: one }} }}, {{ get: {{ key: k }} }} ] }}
  two: {{ ops: [ {{ put: {{ key: k, value: two }} }}, {{ get: {{ key: k }} }} ] }}
  three: {{ ops: [ {{ put: {{ key: k, value: three }} }}, {{ get: {{ key: k }} }} ] }}
"
        ),
    );
    let (ran, results) = place.results("shared.yaml", &[]);
    assert_eq!(results.counts().get("passed"), Some(&3), "{ran}");
    let pids: BTreeSet<_> = place.read("starts").lines().map(str::to_owned).collect();
    pids.len()
}

#[test]
fn a_launched_plugin_serves_all_scripts_of_its_pair_unless_told_otherwise() {
    assert_eq!(starts_with("shared"), 1);
    assert_eq!(starts_with("case"), 3);
}

#[test]
fn with_isolation_by_case_nothing_of_another_case_is_seen() {
    let place = Place::new();
    let text = |isolation: &str| {
        format!(
            "soupscen: 1
name: apart
peers: {{ rust: {{ builtin: {{}} }} }}
matrix:
  axes: {{ client: [rust], server: [rust], launch: [plugin, direct], tls: [none] }}
  isolation: {isolation}
scripts:
  a-puts: {{ ops: [ {{ put: {{ key: same, value: v }} }} ] }}
  b-looks: {{ ops: [ {{ get: {{ key: same }}, expect: {{ code: NOT_FOUND }} }} ] }}
"
        )
    };
    place.write("apart.yaml", &text("case"));
    let (ran, results) = place.results("apart.yaml", &["--jobs", "1"]);
    assert_eq!(results.counts().get("passed"), Some(&4), "{ran}");
    // Shared, the second sees what the first has put; alone, as it is run once more, it does not:
    // it passes, and that it was run again is kept.
    place.write("apart.yaml", &text("shared"));
    let (ran, results) = place.results("apart.yaml", &["--jobs", "1"]);
    let case = results.case(&["b-looks", "launch=direct"]);
    let attempts = case["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["on_shared"]), (2, &true.into()), "{case:#}\n{ran}");
    assert_eq!(case["verdict"], "passed", "{case:#}");
}

/// A plugin that fails on its first starts, as `fails` says, and is good from then on.
fn retried(fails: &str, retry: &str) -> (run::Ran, serde_json::Value) {
    let place = Place::new();
    let at = place.path().display();
    place.write(
        "plugin.sh",
        &format!("if [ ! -e {at}/failed ]; then touch {at}/failed; {fails}; fi\nexec {SOUPSCEN} serve kv\n"),
    );
    place.write(
        "retry.yaml",
        &format!(
            "soupscen: 1
name: retry
timeouts: {{ start: 20s }}
retry: {retry}
peers:
  rust: {{ builtin: {{}} }}
  odd:
    server:
      plugin: {{ run: [/bin/sh, {at}/plugin.sh] }}
      provides: [service.kv, launch.plugin, transport.unix, tls.none, tls.auto]
matrix:
  axes: {{ client: [rust], server: [odd], launch: [plugin], tls: [auto] }}
{PUT_GET}"
        ),
    );
    let (ran, results) = place.results("retry.yaml", &[]);
    let case = results.case(&["put-get"]).clone();
    (ran, case)
}

#[test]
fn only_named_endings_are_tried_again_and_every_attempt_is_kept() {
    let endings = |case: &serde_json::Value| -> Vec<String> {
        let attempts = case["attempts"].as_array().unwrap();
        attempts.iter().map(|a| text(&a["observation"]["ending"]).to_owned()).collect()
    };
    let malformed = "echo 'no|line'";
    let (ran, case) = retried(malformed, "{ attempts: 3, only: [failed] }");
    assert_eq!((text(&case["verdict"]), endings(&case)), ("flaky", vec!["failed".into(), "passed".into()]), "{ran}");
    ran.exits(1);
    let (ran, case) = retried(malformed, "{ attempts: 3, only: [failed], flaky: allow }");
    assert_eq!((text(&case["verdict"]), endings(&case).len()), ("passed", 2), "{ran}");
    ran.exits(0);
    let (ran, case) = retried(malformed, "{ attempts: 3, only: [timed-out] }");
    assert_eq!((text(&case["verdict"]), endings(&case)), ("failed", vec!["failed".into()]), "{ran}");
    ran.exits(1);
    let (ran, case) = retried("kill -9 $$", "{ attempts: 3, only: [crashed] }");
    assert_eq!((text(&case["verdict"]), endings(&case)), ("flaky", vec!["crashed".into(), "passed".into()]), "{ran}");
}

#[test]
fn an_expected_failure_is_not_tried_again() {
    let place = Place::new();
    place.write(
        "known.yaml",
        &format!(
            "soupscen: 1
name: known
retry: {{ attempts: 3, only: [failed, crashed, timed-out] }}
peers:
  rust: {{ builtin: {{}} }}
  broken: {{ server: {{ plugin: {{ builtin: {{ args: [--as-broken, three-fields] }} }} }} }}
matrix: {{ axes: {{ client: [rust], server: [broken], launch: [plugin], tls: [auto] }} }}
{PUT_GET}expectations:
  - {{ id: known, when: server == broken, outcome: failed, at: handshake, reason: it says too little }}
"
        ),
    );
    let (ran, results) = place.results("known.yaml", &[]);
    let case = results.case(&["put-get"]);
    assert_eq!((text(&case["verdict"]), case["attempts"].as_array().unwrap().len()), ("known", 1), "{ran}");
}

#[test]
fn fail_fast_leaves_the_rest_out_and_is_judged() {
    let place = Place::new();
    place.write(
        "fast.yaml",
        &format!(
            "soupscen: 1
name: fast
peers:
  rust: {{ builtin: {{}} }}
  broken: {{ server: {{ plugin: {{ builtin: {{ args: [--as-broken, three-fields] }} }} }} }}
matrix: {{ axes: {{ client: [rust], server: [broken, rust], launch: [plugin], tls: [auto], n: [a, b, c, d] }} }}
{PUT_GET}"
        ),
    );
    let (ran, results) = place.results("fast.yaml", &["--fail-fast", "--jobs", "1"]);
    let counts = results.counts();
    assert_eq!((counts.get("failed"), counts.get("not-run"), results.cases().len()), (Some(&1), Some(&7), 8), "{ran}");
    ran.exits(1).says("--fail-fast");
    let (ran, results) = place.results("fast.yaml", &["--fail-fast=3", "--jobs", "1"]);
    assert_eq!(results.counts().get("failed"), Some(&3), "{ran}");
    ran.exits(1);
    // What was left out can be made up for.
    let ran = place.run(["run", "--resume", "latest", "--json", "resumed.json"]).exits(1);
    let resumed = run::Results::read(&place.at("resumed.json")).unwrap();
    assert_eq!((resumed.counts().get("failed"), resumed.counts().get("passed")), (Some(&4), Some(&4)), "{ran}");
}

#[test]
fn a_plugin_that_cannot_be_started_is_told_whoever_its_host_is() {
    let place = Place::new();
    let mut hosts = vec!["rust"];
    if toolchains(&["go"]) {
        hosts.push("go");
    }
    if toolchains(&["python3"]) {
        hosts.push("python");
    }
    place.write(
        "missing.yaml",
        &format!(
            "soupscen: 1
name: missing
timeouts: {{ case: 60s, start: 30s }}
peers:
  rust: {{ builtin: {{}} }}
  go: {{ from: {ROOT}/fixtures/peers/go/peer.yaml }}
  python: {{ from: {ROOT}/fixtures/peers/python/peer.yaml }}
  nowhere:
    server: {{ plugin: {{ run: [/no/such/server] }}, provides: [kv, tls.none] }}
matrix:
  axes: {{ client: [{}], server: [nowhere], launch: [plugin], tls: [none] }}
{PUT_GET}",
            hosts.join(", ")
        ),
    );
    let (ran, results) = place.results("missing.yaml", &[]);
    for host in hosts {
        let case = results.case(&[&format!("client={host}")]);
        let seen = observation(case);
        assert_eq!(text(&seen["cause"]["code"]), "handshake.exit", "{host}: {seen:#}\n{ran}");
        assert!(text(&seen["cause"]["text"]).contains("there is no program at `/no/such/server`"), "{host}: {seen:#}");
        assert_eq!(seen["exit"]["code"], 127, "{host}: {seen:#}");
        let attempts = case["attempts"].as_array().unwrap();
        let processes = &attempts.last().unwrap()["evidence"]["processes"];
        assert_eq!(processes[0]["exit"]["code"], 127, "{host}: {processes:#}");
    }
}
