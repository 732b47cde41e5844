//! Marking a limitation in YAML: right, it is known; wrong in any way, the run is red or the file an
//! error, each in its own way.

#[path = "support/run.rs"]
mod run;

use run::{PUT_GET, Place, ROOT, Ran, Results, observation, text, toolchains};

const GOOD: &str = "
  - id: ends-at-once
    when: server == broken
    outcome: failed
    at: handshake
    match: { cause: handshake.exit, exit: 3 }
    reason: it ends before it is asked anything
    advise: take the other one";

/// Two servers, one of which ends at once; `rules` are the limitations.
fn scenario(rules: &str) -> String {
    let rules = if rules.is_empty() { String::new() } else { format!("expectations:{rules}") };
    format!(
        "soupscen: 1
name: limits
peers:
  rust: {{ builtin: {{}} }}
  broken:
    server: {{ plugin: {{ builtin: {{ args: [--as-broken, exit-at-once] }} }} }}
    versions: {{ self: 1.2.3 }}
matrix:
  axes: {{ client: [rust], server: [rust, broken], launch: [plugin], tls: [auto] }}
{PUT_GET}{rules}
"
    )
}

/// The verdict of the server that works and of the broken one.
fn verdicts(rules: &str, arguments: &[&str]) -> (Ran, String, String, Results) {
    let place = Place::new();
    place.write("limits.yaml", &scenario(rules));
    let (ran, results) = place.results("limits.yaml", arguments);
    let verdict = |server: &str| text(&results.case(&[&format!("server={server}")])["verdict"]).to_owned();
    let (good, broken) = (verdict("rust"), verdict("broken"));
    (ran, good, broken, results)
}

/// Fails unless the verdicts of both servers and the exit status are these.
#[track_caller]
fn gives(rules: &str, works: &str, broken: &str, code: i32) -> (Ran, Results) {
    let (ran, seen_works, seen_broken, results) = verdicts(rules, &[]);
    assert_eq!((seen_works.as_str(), seen_broken.as_str()), (works, broken), "{ran}");
    (ran.exits(code), results)
}

/// Fails unless the scenario is refused with these words.
#[track_caller]
fn is_refused(rules: &str, words: &[&str]) {
    let place = Place::new();
    place.write("limits.yaml", &scenario(rules));
    for command in ["check", "run"] {
        let ran = place.run([command, "limits.yaml"]).exits(2);
        words.iter().fold(ran, |ran, word| ran.says(word));
    }
    assert!(!place.at("home").exists(), "nothing is run");
}

#[test]
fn a_right_one_is_known() {
    let (ran, results) = gives(GOOD, "passed", "known", 0);
    ran.says("ends-at-once").says("it ends before it is asked anything");
    assert_eq!(results.0["summary"]["limitations"]["ends-at-once"]["known"], 1);
}

#[test]
fn deleted_the_failure_is_one() {
    let (ran, results) = gives("", "passed", "failed", 1);
    ran.says("handshake.exit").says("--case");
    let seen = observation(results.case(&["server=broken"]));
    assert_eq!(seen["exit"]["code"], 3, "{seen:#}");
}

#[test]
fn widened_it_meets_what_works() {
    let wide = GOOD.replace("server == broken", "client == rust");
    let (ran, _) = gives(&wide, "unexpected-pass", "known", 1);
    ran.says("ends-at-once");
}

#[test]
fn with_the_wrong_phase_it_is_another_failure() {
    let (ran, _) = gives(&GOOD.replace("at: handshake", "at: tls"), "passed", "wrong-failure", 1);
    ran.says("tls").says("handshake");
}

#[test]
fn with_the_wrong_cause_it_is_another_failure() {
    let (ran, _) = gives(&GOOD.replace("handshake.exit", "handshake.line"), "passed", "wrong-failure", 1);
    ran.says("handshake.line").says("handshake.exit");
}

#[test]
fn with_the_wrong_exit_status_it_is_another_failure() {
    gives(&GOOD.replace("exit: 3", "exit: 4"), "passed", "wrong-failure", 1);
}

#[test]
fn outside_its_versions_it_is_void() {
    let of = |requirement: &str| format!("{GOOD}\n    versions: {{ server.self: \"{requirement}\" }}");
    gives(&of("<1.0"), "passed", "failed", 1);
    gives(&of("<=1.2.3"), "passed", "known", 0);
}

#[test]
fn one_that_fails_from_time_to_time_may_pass() {
    let wide =
        GOOD.replace("server == broken", "client == rust").replace("outcome: failed", "outcome: [failed, passed]");
    gives(&wide, "passed", "known", 0);
}

#[test]
fn one_that_matches_nothing_is_an_error_in_its_own_file() {
    let nothing = GOOD.replace("server == broken", "server == broken and tls == none");
    is_refused(&nothing, &["ends-at-once", "limits.yaml"]);
}

#[test]
fn one_that_matches_nothing_is_a_note_where_it_was_included() {
    let place = Place::new();
    let rule = GOOD.replace("server == broken", "server == broken and launch == direct");
    place.write("known.yaml", &format!("soupscen: 1\nexpectations:{rule}\n"));
    let own = scenario("").replace("name: limits", "name: limits\ninclude: [known.yaml]");
    place.write("limits.yaml", &own);
    place.run(["check", "limits.yaml"]).exits(0).says("ends-at-once");
    place.run(["check", "limits.yaml", "--strict-rules"]).exits(2).says("ends-at-once");
    place.run(["run", "limits.yaml", "--strict-rules"]).exits(2).says("ends-at-once");
}

#[test]
fn two_that_disagree_are_an_error() {
    let other = "
  - { id: other, when: client == rust and server == broken, outcome: unsupported, reason: says something else }";
    is_refused(&format!("{GOOD}{other}"), &["ends-at-once", "other"]);
}

#[test]
fn what_is_called_unsupported_is_not_executed_until_probed() {
    let rule = "
  - { id: cannot, when: client == rust, outcome: unsupported, reason: it cannot be asked }";
    let place = Place::new();
    place.write("limits.yaml", &scenario(rule));
    // Nothing but what is unsupported: nothing was executed.
    let (ran, results) = place.results("limits.yaml", &[]);
    assert_eq!(results.counts().get("unsupported"), Some(&2), "{ran}");
    ran.exits(4);
    // Probed, what fails stays unsupported and what works is red.
    let (ran, works, broken, _) = verdicts(rule, &["--probe-unsupported"]);
    assert_eq!((works.as_str(), broken.as_str()), ("unexpected-pass", "unsupported"), "{ran}");
    ran.exits(1).says("cannot");
}

#[test]
fn a_missing_capability_is_unsupported_and_is_probed_as_far_as_it_can_be() {
    let place = Place::new();
    let text = scenario("").replace("launch: [plugin], tls: [auto]", "launch: [plugin], tls: [auto], key: [p256, p384]").replace(
        "{ plugin: { builtin: { args: [--as-broken, exit-at-once] } } }",
        "{ plugin: { builtin: { args: [] } }, provides: [service.kv, launch.plugin, transport.unix, tls.auto, key.p384] }",
    );
    place.write("limits.yaml", &text);
    let (ran, results) = place.results("limits.yaml", &[]);
    let ran = ran.exits(0);
    assert_eq!(results.case(&["server=broken", "key=p256"])["verdict"], "unsupported", "{ran}");
    assert_eq!(results.case(&["server=broken", "key=p384"])["verdict"], "passed", "{ran}");
    ran.says("key.p256");
    let (ran, results) = place.results("limits.yaml", &["--probe-unsupported"]);
    assert_eq!(results.case(&["server=broken", "key=p256"])["verdict"], "unexpected-pass", "{ran}");
    ran.exits(1);
}

#[test]
fn the_shipped_one_of_python_and_go() {
    if !toolchains(&["go", "python3"]) {
        return;
    }
    let place = Place::new();
    let rule = std::fs::read_to_string(format!("{ROOT}/scenarios/limitations/kv.yaml")).unwrap();
    let only = rule.find("  - id: grpcio-cannot-verify-p521").unwrap();
    let rule = rule[only..].split("\n  - id:").next().unwrap();
    let run = |rule: &str, servers: &str| {
        place.write(
            "pair.yaml",
            &format!(
                "soupscen: 1
name: pair
include: [{ROOT}/scenarios/peers/kv.yaml]
matrix:
  axes: {{ client: [python], server: [{servers}], launch: [plugin], tls: [auto] }}
{PUT_GET}{}{rule}
",
                if rule.is_empty() { "" } else { "expectations:\n" }
            ),
        );
        let (ran, results) = place.results("pair.yaml", &[]);
        (ran.code(), results.verdicts().into_values().collect::<Vec<_>>())
    };
    let verdicts = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(run(rule, "go"), (0, verdicts(&["known"])));
    assert_eq!(run("", "go"), (1, verdicts(&["failed"])));
    let (from, to) = (rule.find("    when:").unwrap(), rule.find("    versions:").unwrap());
    let wide = rule.replace(&rule[from..to], "    when: client == python\n");
    assert_ne!(wide, rule);
    assert_eq!(run(&wide, "go, rust"), (1, verdicts(&["known", "unexpected-pass"])));
    assert_eq!(run(&rule.replace("at: tls", "at: handshake"), "go"), (1, verdicts(&["wrong-failure"])));
    let other_cause = rule.replace("tls.rejected.server-cert", "tls.rejected.client-cert");
    assert_eq!(run(&other_cause, "go"), (1, verdicts(&["wrong-failure"])));
    let outdated = rule.replace("<=1.85.1", "<1.0");
    assert_ne!(outdated, rule);
    assert_eq!(run(&outdated, "go"), (1, verdicts(&["failed"])));
}

#[test]
fn the_rule_beside_the_evidence_makes_the_failure_a_known_one() {
    let place = Place::new();
    let scenario = |more: &str| {
        format!(
            "soupscen: 1
name: once
{more}peers:
  rust: {{ builtin: {{}} }}
  bad:
    server: {{ plugin: {{ run: [sh, -c, 'exit 3'] }}, provides: [launch.plugin, tls.auto, service.kv] }}
matrix:
  axes: {{ client: [rust], server: [bad], launch: [plugin], tls: [auto] }}
{PUT_GET}"
        )
    };
    place.write("once.yaml", &scenario(""));
    let (ran, results) = place.results("once.yaml", &[]);
    ran.exits(1);
    let folder = text(&results.cases()[0]["attempts"][0]["folder"]).to_owned();
    let rule = std::fs::read_to_string(place.at("home/runs/latest").join(folder).join("rule.yaml")).unwrap();
    place.write("rule.yaml", &rule);
    place.write("once.yaml", &scenario("include: [rule.yaml]\n"));
    let (ran, results) = place.results("once.yaml", &[]);
    ran.exits(0);
    assert_eq!(results.verdicts().into_values().collect::<Vec<_>>(), ["known"], "{rule}");
}
