//! Ops that are made of steps, and those that end servers and make connections, on real peers: the
//! built-in ones, as processes where processes matter.

#[path = "support/run.rs"]
mod run;

use run::{Place, Results};
use serde_json::Value;

/// A scenario of the built-in peer with these axes and scripts.
fn scenario(axes: &str, scripts: &str) -> String {
    let service = if axes.contains("service:") { "" } else { "service: [kv], " };
    format!(
        "soupscen: 1\nname: t\npeers: {{ rust: {{ builtin: {{}} }} }}\n\
         timeouts: {{ case: 60s, start: 30s, op: 20s, grace: 5s }}\n\
         matrix: {{ axes: {{ client: [rust], server: [rust], {service}{axes} }} }}\n{scripts}"
    )
}

fn play(axes: &str, scripts: &str) -> (Place, Results) {
    let place = Place::new();
    place.write("t.yaml", &scenario(axes, scripts));
    let (_, results) = place.results("t.yaml", &["--evidence", "all"]);
    assert!(place.tmp_is_empty(), "temporary folders are left");
    assert!(place.processes().is_empty(), "{:?}", place.processes());
    (place, results)
}

fn cases(results: &Results) -> Vec<Value> {
    results.0["cases"].as_array().unwrap().clone()
}

fn last(case: &Value) -> &Value {
    &case["attempts"].as_array().unwrap().last().unwrap()["observation"]
}

#[track_caller]
fn all_pass(results: &Results, count: usize) {
    let cases = cases(results);
    assert_eq!(cases.len(), count);
    for case in &cases {
        assert_eq!(last(case)["ending"], "passed", "{case:#}");
    }
}

#[test]
fn what_is_kept_outlives_the_process_and_a_call_meanwhile_is_unavailable() {
    let (_place, results) = play(
        "launch: [direct, plugin], tls: [none, mutual], transport: [tcp, unix]",
        r"scripts:
  kept:
    ops:
      - put: { key: a, value: before }
      - server: stop
      - { id: down, get: { key: a }, expect: { code: UNAVAILABLE } }
      - server: start
      - get: { key: a }
        expect: { value: before }
      - server: restart
      - { id: again, get: { key: a }, expect: { value: before } }
",
    );
    all_pass(&results, 8);
}

#[test]
fn a_server_of_stock_starts_again_empty() {
    let (_place, results) = play(
        "service: [stock], launch: [direct], transport: [tcp, unix]",
        r"scripts:
  empty:
    ops:
      - put: { key: a, value: before }
      - server: restart
      - { id: gone, get: { key: a }, expect: { code: NOT_FOUND } }
",
    );
    all_pass(&results, 2);
}

#[test]
fn a_call_to_a_server_that_the_script_ended_says_so() {
    let (_place, results) = play(
        "launch: [direct, plugin]",
        "scripts:\n  down:\n    ops:\n      - server: stop\n      - get: { key: a }\n",
    );
    for case in cases(&results) {
        let cause = &last(&case)["cause"];
        assert_eq!(cause["code"], "server.down", "{case:#}");
        let text = cause["text"].as_str().unwrap();
        assert!(text.contains("`get-2`") && text.contains("`server-1`"), "{text}");
    }
}

#[test]
fn stopping_twice_and_starting_what_runs_are_mistakes_of_the_script() {
    let (_place, results) = play(
        "launch: [direct]",
        "scripts:\n  twice: { ops: [{ server: stop }, { server: stop }] }\n  runs: { ops: [{ server: start }] }\n",
    );
    for case in cases(&results) {
        assert_eq!(last(&case)["cause"]["code"], "script.unusable", "{case:#}");
    }
}

#[test]
fn two_keys_on_one_folder_share_values_and_each_is_held_to_what_it_asked() {
    let (_place, results) = play(
        "launch: [direct, plugin], tls: [mutual], key: [p256]",
        r#"scripts:
  two:
    ops:
      - put: { key: a, value: first }
      - connect: { as: other, with: { key: rsa-2048, tls_version: "1.2" } }
      - { get: { key: a }, on: other, expect: { value: first } }
      - { put: { key: a, value: second }, on: other }
      - { server: restart, on: other }
      - { id: own, get: { key: a }, expect: { value: second } }
      - { id: again, get: { key: a }, on: other, expect: { value: second } }
"#,
    );
    all_pass(&results, 2);
    for case in cases(&results) {
        let facts = last(&case)["facts"].as_array().unwrap().clone();
        let of =
            |name: &str| facts.iter().find(|fact| fact["fact"] == name).unwrap_or_else(|| panic!("{name}: {case:#}"));
        assert_eq!(of("key")["requested"], "p256");
        assert_eq!(of("other.key")["requested"], "rsa-2048");
        assert!(of("other.key")["effective"].to_string().contains("rsa-2048"), "{case:#}");
        assert!(of("other.tls_version")["effective"].to_string().contains("1.2"), "{case:#}");
    }
}

#[test]
fn branches_all_run_and_the_failing_one_is_named() {
    let (_place, results) = play(
        "launch: [direct]",
        r"scripts:
  fails:
    ops:
      - parallel:
          - - put: { key: a, value: a }
            - get: { key: a }
              expect: { value: other }
          - - put: { key: b, value: b }
            - repeat: { times: 40, ops: [{ get: { key: b }, expect: { value: b } }] }
",
    );
    let cases = cases(&results);
    let seen = last(&cases[0]);
    let text = seen["cause"]["text"].as_str().unwrap();
    assert!(text.contains("`parallel-1[0].get-2.value`"), "{text}");
    assert_eq!(seen["checked"], 1 + 2 + 1 + 80, "the other branch went to its end: {seen:#}");
    let kept = seen["checks"].as_array().unwrap();
    assert!(kept.len() <= 34, "{} checks are kept", kept.len());
    assert!(kept.iter().any(|check| check["id"] == "parallel-1[1].repeat-2[3].get-1.value"), "{kept:#?}");
}

#[test]
fn connections_are_bounded_also_where_they_are_made_at_once() {
    let connects = |times: u32| {
        format!(
            "{{ ops: [{{ parallel: {{ times: {times}, ops: [{{ connect: {{ as: x }} }}] }} }}, {{ put: {{ key: a, value: b }} }}] }}"
        )
    };
    let scripts = format!("scripts:\n  fits: {}\n  many: {}\n", connects(64), connects(65));
    let (_place, results) = play("launch: [direct]", &scripts);
    assert_eq!(last(results.case(&["/fits["]))["ending"], "passed");
    let many = last(results.case(&["/many["]));
    assert_eq!(many["cause"]["code"], "script.unusable", "{many:#}");
}

#[test]
fn a_timeout_names_what_the_branches_wait_for() {
    let place = Place::new();
    let text = scenario(
        "launch: [direct]",
        "scripts:\n  long:\n    ops:\n      - parallel: { times: 2, ops: [{ sleep: { for: 50s, reason: outlives the case } }] }\n",
    );
    place.write("t.yaml", &text.replace("case: 60s", "case: 1s"));
    let (_, results) = place.results("t.yaml", &[]);
    let cases = cases(&results);
    let texts = last(&cases[0])["texts"].to_string();
    assert!(texts.contains("parallel-1[0].sleep-1, parallel-1[1].sleep-1"), "{texts}");
}

#[test]
fn work_folders_are_of_the_case_and_big_values_stay_out_of_records() {
    let (place, results) = play(
        "launch: [direct]",
        r#"scripts:
  one:
    ops:
      - put: { key: "{{ work }}", value: { $bytes: { size: 5MiB, seed: 9 } } }
      - get: { key: "{{ work }}" }
        expect: { value: { $bytes: { size: 5MiB, seed: 9 } } }
      - put: { key: "{{ run.work }}", value: x }
"#,
    );
    all_pass(&results, 1);
    let size: u64 = place.files(".").iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(size < 1 << 20, "{size} bytes are kept of a value of 5 MiB");
}
