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

const GREET: &str = r#"soupscen: 1
name: greet
peers: { rust: { builtin: {} } }
vars: { want: v }
matrix: { axes: { client: [rust], server: [rust], launch: [direct], round: [a, b, c, d] } }
scripts:
  put-get:
    ops:
      - put: { key: "{{ case.slug }}", value: v }
      - get: { key: "{{ case.slug }}" }
        expect: { value: "{{ vars.want }}" }
"#;

#[test]
fn two_files_are_one_run() {
    let place = Place::new();
    place.write("one.yaml", GREET);
    place.write("two.yaml", &GREET.replace("name: greet", "name: second"));
    let ran = place.run(["run", "one.yaml", "two.yaml", "--junit", "run.xml", "--json", "run.json"]).exits(0);
    assert_eq!(Results::read(&place.at("run.json")).unwrap().cases().len(), 8, "{ran}");
    let junit = place.read("run.xml");
    assert!(junit.contains("name=\"greet\"") && junit.contains("name=\"second\""), "{junit}");
    place.run(["run", "--resume", "latest"]).exits(0).says("8 cases");
    place.run(["report", "latest", "--junit", "again.xml"]).exits(0);
    assert_eq!(place.read("again.xml"), junit);
    // Two of one name could not be told apart.
    place.write("three.yaml", GREET);
    place.run(["run", "one.yaml", "three.yaml"]).exits(2).says("three.yaml").says("another `name:`");
}

#[test]
fn a_run_is_gone_on_with_as_it_was_begun() {
    let place = Place::new();
    place.write("greet.yaml", GREET);
    place.run(["run", "greet.yaml", "--set", "want=w", "--filter", "round != d"]).exits(1);
    let done = finished(&place);
    assert_eq!(done.len(), 3);
    let head = &journal(&place)[0];
    assert_eq!(text(&head["changes"][0]), "--set want=w");
    // Nothing given is as it was, and so is the same again; anything else is another run.
    place.run(["run", "--resume", "latest"]).exits(1).says("3 cases ended before");
    place.run(["run", "--resume", "latest", "--filter", "round != d", "--set", "want=w"]).exits(1);
    for other in [&["--set", "want=v"][..], &["--filter", "round == d"], &["--case", "*"], &["--probe-unsupported"]] {
        let arguments = ["run", "--resume", "latest"].iter().chain(other);
        place.run(arguments).exits(2).says("--set want=w").says(other[0]);
    }
    assert_eq!(finished(&place), done);
    // The same flags that mean other cases are found too.
    place.run(["run", "greet.yaml", "--set", "want=w", "--json", "red.json"]).exits(1);
    place.run(["run", "greet.yaml", "--set", "want=w", "--failed-in", "red.json"]).exits(1);
    place.run(["run", "greet.yaml", "--set", "want=w", "--case", "*round=a*", "--json", "red.json"]).exits(1);
    let runs: Vec<_> = std::fs::read_dir(place.at("home/runs")).unwrap().flatten().map(|e| e.path()).collect();
    let begun = |run: &&std::path::PathBuf| {
        let journal = std::fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
        journal.lines().next().is_some_and(|head| head.contains("--failed-in"))
    };
    let run = runs.iter().find(begun).unwrap().to_str().unwrap();
    place.run(["run", "--resume", run]).exits(2).says("begun with 4 cases, and its selection has 1 now");
}

#[test]
fn nothing_is_selected_by_mistake() {
    let place = Place::new();
    place.write("greet.yaml", GREET);
    place.run(["run", "greet.yaml", "--json", "green.json"]).exits(0);
    for command in ["run", "plan"] {
        place.run([command, "greet.yaml", "--case", "nope*", "--shard", "1/2"]).exits(4);
        place.run([command, "greet.yaml", "--case", "nope*", "--failed-in", "green.json"]).exits(4);
        place.run([command, "greet.yaml", "--failed-in", "green.json"]).exits(0);
    }
    place.run(["run", "greet.yaml", "--set", "want=w", "--json", "red.json"]).exits(1);
    let key = text(&Results::read(&place.at("red.json")).unwrap().case(&["round=a"])["key"]).to_owned();
    place.write("greet.yaml", &GREET.replace("round: [a, b, c, d]", "round: [b, c, d]"));
    let gone = |ran: run::Ran| ran.exits(4).says("red.json").says(&key);
    gone(place.run(["run", "greet.yaml", "--failed-in", "red.json"]));
    gone(place.run(["plan", "greet.yaml", "--failed-in", "red.json"]));
    // An empty part leaves no report of an earlier run in place.
    place.write("junit.xml", "of an earlier run");
    place.write("old.json", "of an earlier run");
    let reports = ["--junit", "junit.xml", "--json", "old.json"];
    let run = |shard: &str| place.run(["run", "greet.yaml", "--shard", shard].iter().chain(&reports));
    let count = |shard: &str| place.run(["plan", "greet.yaml", "--count", "--shard", shard]).out;
    let empty = (1..=99).map(|n| format!("{n}/99")).find(|shard| count(shard).contains("greet: 0 cases")).unwrap();
    run(&empty).exits(0).says("nothing to run");
    assert!(Results::read(&place.at("old.json")).unwrap().cases().is_empty());
    assert!(place.read("junit.xml").contains("tests=\"0\""));
}

#[test]
fn a_report_to_a_pipe_waits_for_nobody() {
    let place = Place::new();
    place.write("greet.yaml", GREET);
    let pipe = place.at("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    place.run(["run", "greet.yaml", "--junit", "pipe"]).says("4 passed").says("nobody reads it");
    let reader = std::thread::spawn(move || std::fs::read_to_string(pipe).unwrap());
    place.run(["run", "greet.yaml", "--junit", "pipe"]).exits(0);
    assert!(reader.join().unwrap().contains("tests=\"4\""));
}

#[test]
fn several_runs_are_none_to_go_on_with() {
    let place = Place::new();
    interrupted(&place);
    let first = text(&journal(&place)[0]["run"]).to_owned();
    place.run(["report", "latest"]).exits(130).says("go on with: soupscen run --resume");
    place.write("go", "");
    place.run(["run", "split.yaml", "--filter", "server == rust"]).exits(0);
    place.run(["report", &first, "latest"]).exits(130).says("INTERRUPTED").never_says("--resume");
}
