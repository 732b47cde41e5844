//! A run that was interrupted, torn, split or told again: the journal has everything.

#[path = "support/run.rs"]
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use nix::sys::signal::Signal::SIGINT;
use run::{Going, PUT_GET, Place, Results, eventually, observation, text};

/// Twelve cases on the built-in peers; those of the server `gated` wait until the file `go` is
/// there, and those of `broken` fail.
fn scenario(place: &Place) {
    let at = place.path().display();
    place.write("gate.sh", &format!("while [ ! -e {at}/go ]; do sleep 0.01; done\nexec {} serve kv\n", run::SOUPSCEN));
    place.write(
        "split.yaml",
        &format!(
            "soupscen: 1
name: split
timeouts: {{ case: 110s, start: 100s, op: 10s, grace: 2s }}
peers:
  rust: {{ builtin: {{}} }}
  broken: {{ server: {{ plugin: {{ builtin: {{ args: [--as-broken, three-fields] }} }} }} }}
  gated:
    server:
      plugin: {{ run: [/bin/sh, {at}/gate.sh] }}
      provides: [service.kv, launch.plugin, transport.unix, tls.none, tls.auto]
matrix:
  axes: {{ client: [rust], server: [rust, broken, gated], launch: [plugin], tls: [none, auto], round: [a, b] }}
{PUT_GET}"
        ),
    );
}

/// Lines of the newest run's journal.
fn journal(place: &Place) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(place.at("home/runs/latest/events.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Case key → how often it was finished.
fn finished(place: &Place) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for event in journal(place).iter().filter(|event| event["type"] == "case-finished") {
        *keys.entry(text(&event["key"]).to_owned()).or_default() += 1;
    }
    keys
}

/// Case id → verdict and cause, what two ways to the same results must agree on.
fn told(results: &Results) -> BTreeMap<String, (String, String)> {
    let one = |case: &serde_json::Value| {
        let cause = text(&observation(case)["cause"]["code"]).to_owned();
        (text(&case["id"]).to_owned(), (text(&case["verdict"]).to_owned(), cause))
    };
    results.cases().iter().map(one).collect()
}

/// A run that was interrupted when all but the gated cases were done.
fn interrupted(place: &Place) -> BTreeMap<String, usize> {
    scenario(place);
    let mut command = place.soupscen();
    command.args(["run", "split.yaml", "--jobs", "12"]);
    let going = Going::start(command);
    eventually("eight cases are done", || finished(place).len() == 8);
    going.signal_group(SIGINT);
    going.end().exits(130);
    let done = finished(place);
    assert_eq!(done.len(), 8);
    done
}

#[test]
fn resumed_exactly_what_was_missing_is_run() {
    let place = Place::new();
    let before = interrupted(&place);
    place.write("go", "");
    let ran = place.run(["run", "--resume", "latest", "--json", "resumed.json", "--junit", "resumed.xml"]).exits(1);
    let after = finished(&place);
    assert_eq!(after.len(), 12, "{ran}");
    assert!(after.values().all(|times| *times == 1), "no case is run twice: {after:?}\n{ran}");
    assert!(before.keys().all(|key| after.contains_key(key)));
    // Its reports are of the whole, as those of a run in one go.
    let results = Results::read(&place.at("resumed.json")).unwrap();
    let counts = BTreeMap::from([("failed".to_owned(), 4), ("passed".to_owned(), 8)]);
    assert_eq!(results.counts(), counts, "{ran}");
    place.run(["report", "latest", "--junit", "again.xml", "--json", "again.json"]).exits(1);
    assert_eq!(place.read("again.xml"), place.read("resumed.xml"));
    assert_eq!(place.read("again.json"), place.read("resumed.json"));
    // Nothing is left to do: every case is kept, none is run.
    place.run(["run", "--resume", "latest"]).exits(1);
    assert_eq!(finished(&place), after);
    // Another scenario is refused.
    place.write("split.yaml", &place.read("split.yaml").replace("round: [a, b]", "round: [a, b, c]"));
    place.run(["run", "--resume", "latest"]).exits(2);
    assert_eq!(finished(&place), after);
}

#[test]
fn a_torn_last_line_is_no_loss() {
    let place = Place::new();
    let before = interrupted(&place);
    let path = place.at("home/runs/latest/events.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let last_case = whole.rfind("{\"type\":\"case-finished\"").unwrap();
    std::fs::write(&path, &whole[..last_case + 100]).unwrap();
    place.run(["report", "latest"]).exits(130).says("7");
    place.write("go", "");
    place.run(["run", "--resume", "latest"]).exits(1);
    let after = finished(&place);
    assert_eq!(after.len(), 12);
    assert!(after.values().all(|times| *times == 1), "{after:?}");
    assert!(before.keys().all(|key| after.contains_key(key)));
}

#[test]
fn told_again_a_run_is_the_same() {
    let place = Place::new();
    scenario(&place);
    place.write("go", "");
    let ran = place.run(["run", "split.yaml", "--junit", "run.xml", "--json", "run.json"]).exits(1);
    place.run(["report", "latest", "--junit", "again.xml", "--json", "again.json"]).exits(1);
    assert_eq!(place.read("again.xml"), place.read("run.xml"), "{ran}");
    assert_eq!(place.read("again.json"), place.read("run.json"), "{ran}");
    // What was red, and only that, runs again.
    let red: BTreeSet<_> = Results::read(&place.at("run.json"))
        .unwrap()
        .verdicts()
        .into_iter()
        .filter_map(|(id, verdict)| (verdict == "failed").then_some(id))
        .collect();
    assert_eq!(red.len(), 4);
    let (ran, again) = place.results("split.yaml", &["--failed-in", "run.json"]);
    assert_eq!(again.verdicts().into_keys().collect::<BTreeSet<_>>(), red, "{ran}");
    // Nothing was red: nothing to do, and that is fine.
    let green = place.run(["run", "split.yaml", "--filter", "server == rust", "--json", "green.json"]).exits(0);
    place.run(["run", "split.yaml", "--failed-in", "green.json"]).exits(0).says("nothing to run");
    drop(green);
    // A run that is not there is told with those that are.
    place.run(["report", "nonesuch"]).exits(2).says("nonesuch").says("newest");
    place.run(["run", "split.yaml", "--failed-in", "run.xml"]).exits(2).says("run.xml");
}

#[test]
fn shards_together_are_the_whole() {
    let place = Place::new();
    scenario(&place);
    place.write("go", "");
    let (_, whole) = place.results("split.yaml", &[]);
    let mut runs = Vec::new();
    let mut parts = Vec::new();
    for shard in ["1/2", "2/2"] {
        let (ran, part) = place.results("split.yaml", &["--shard", shard]);
        assert!(!part.cases().is_empty() && part.cases().len() < 12, "{ran}");
        parts.extend(part.verdicts().into_keys());
        runs.push(text(&part.0["run"]["run"]).to_owned());
    }
    let unique: BTreeSet<_> = parts.iter().collect();
    assert_eq!((parts.len(), unique.len()), (12, 12));
    let ran = place.run(["report", &runs[0], &runs[1], "--json", "merged.json", "--junit", "merged.xml"]).exits(1);
    let merged = Results::read(&place.at("merged.json")).unwrap();
    assert_eq!(told(&merged), told(&whole), "{ran}");
    assert_eq!(merged.0["summary"]["selected"], 12);
}

#[test]
fn a_reader_who_goes_away_is_no_crash() {
    let place = Place::new();
    scenario(&place);
    place.write("go", "");
    for arguments in
        [&["plan", "split.yaml"][..], &["run", "split.yaml"], &["report", "latest", "-v"], &["check", "split.yaml"]]
    {
        let mut command = place.soupscen();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!err.contains("panicked") && !err.contains("Broken pipe"), "{arguments:?}: {err}");
        let expected = i32::from(arguments[0] == "run" || arguments[0] == "report");
        assert_eq!(ended.status.code(), Some(expected), "{arguments:?}: {err}");
    }
    assert!(place.tmp_is_empty());
}

#[test]
fn reports_that_cannot_be_written_are_told_before_the_run() {
    let place = Place::new();
    scenario(&place);
    place.write("file", "");
    place.run(["run", "split.yaml", "--junit", "file/junit.xml"]).exits(2).says("file/junit.xml");
    place.run(["run", "split.yaml", "--json", "."]).exits(2);
    assert!(!place.at("home").exists(), "nothing was begun");
}

#[test]
fn a_home_that_cannot_be_written_is_a_clear_error() {
    let place = Place::new();
    scenario(&place);
    place.write("go", "");
    // Also for root, who may write anywhere: a file where the folder should be.
    place.write("home", "");
    let ran = place.run(["run", "split.yaml"]).exits(2);
    ran.says("home/runs").says("error: ").never_says("panicked");
    std::fs::remove_file(place.at("home")).unwrap();
    std::fs::create_dir(place.at("home")).unwrap();
    std::fs::set_permissions(place.at("home"), std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(place.at("home/probe"), "").is_err() {
        place.run(["run", "split.yaml"]).exits(2).says("home/runs").says("ermission");
    }
    std::fs::set_permissions(place.at("home"), std::fs::Permissions::from_mode(0o755)).unwrap();
}
