//! Runs told while they go on, resumed, again from journals, and as shards.

use super::super::printer::testing::Shown;
use super::*;
use crate::journal::Writer;
use crate::journal::samples::{attempt, case, done, every_verdict, finished, header, pass, rejected};
use crate::outcome::Expected;

fn printers() -> (Shown, Shown, Printers) {
    let (out, err) = (Shown::default(), Shown::default());
    let to = Printers { out: out.printer(), err: err.printer() };
    (out, err, to)
}

fn passing(name: &str) -> RunEvent {
    done(case(name, Expected::Passed, vec![attempt(pass())]))
}

/// A run on disk; the head is written here.
fn run(runs: &Path, events: &[RunEvent]) -> RunFolder {
    run_of(header().cases, runs, events)
}

fn run_of(cases: u64, runs: &Path, events: &[RunEvent]) -> RunFolder {
    let folder = RunFolder::create(runs, 1_795_255_872_000, 1).unwrap();
    let mut writer = Writer::create(&folder, &RunHeader { cases, ..header() }).unwrap();
    for event in events {
        writer.append(event).unwrap();
    }
    folder
}

fn both(root: &Path) -> ReportOptions {
    let place = |name: &str| Some(root.join(name));
    ReportOptions { junit: place("junit.xml"), json: place("results.json"), ..ReportOptions::default() }
}

fn read(root: &Path) -> [String; 2] {
    ["junit.xml", "results.json"].map(|name| std::fs::read_to_string(root.join(name)).unwrap())
}

/// Paths of this test's folder are not the same in the next.
fn without(text: &str, folder: &RunFolder) -> String {
    text.replace(&*folder.path().to_string_lossy(), "RUN")
}

#[test]
fn a_run_told_again_gives_the_same_reports() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    let events = &every_verdict()[1..];
    let folder = run(&runs, events);
    let (out, _, to) = printers();
    let mut live = Live::start_on(&both(root.path()), &header(), &folder, to);
    for event in events {
        live.event(event);
    }
    assert!(!root.path().join("junit.xml").exists(), "only when it is whole");
    assert_eq!(live.finish(), 1);
    assert!(out.text().contains("UNEXPECTED PASS") && out.text().contains("Summary 10 cases"));
    let first = read(root.path());
    let (again, err, to) = printers();
    let name = ["latest".to_owned()];
    let status = tell_again_on(&runs, &name, &both(root.path()), &to).unwrap();
    assert_eq!((status, err.text().as_str()), (ExitStatus::Red, ""));
    assert_eq!(first.map(|text| without(&text, &folder)), read(root.path()).map(|text| without(&text, &folder)));
    assert!(again.text().contains("again soupscen run scenarios/quick.yaml --case key-fails"));
    assert_eq!(super::super::red_keys(&root.path().join("results.json")).unwrap().len(), 6);
}

#[test]
fn a_resumed_run_is_told_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let interrupted = RunEvent::RunFinished { interrupted: true, elapsed_ms: 1 };
    let failing = done(case("a", Expected::Passed, vec![attempt(rejected())]));
    let before = [failing, passing("b"), interrupted, RunEvent::RunStarted(header())];
    let folder = run(&root.path().join("runs"), &before);
    let (out, _, to) = printers();
    let mut live = Live::start_on(&both(root.path()), &header(), &folder, to);
    let mut writer = crate::journal::Resumed::open(&folder, "d1").unwrap().writer;
    for event in [passing("c"), finished()] {
        writer.append(&event).unwrap();
        writer.commit().unwrap();
        live.event(&event);
    }
    assert_eq!(live.finish(), 1, "what failed before is still red");
    let text = out.text();
    assert!(text.contains("Running 1 case of quick") && text.contains("2 cases ended before"), "{text}");
    assert!(text.contains("Summary 3 cases") && text.contains("1 red: 2 passed, 1 failed"), "{text}");
    assert!(read(root.path())[0].contains("<testsuites name=\"soupscen\" tests=\"3\" failures=\"1\""));
}

#[test]
fn shards_are_told_as_one() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    let names = ["a", "b"].map(|name| run_of(1, &runs, &[passing(name), finished()]).name());
    let (out, _, to) = printers();
    let status = tell_again_on(&runs, &names, &both(root.path()), &to).unwrap();
    assert_eq!(status, ExitStatus::Green);
    assert!(read(root.path())[0].contains("<testsuites name=\"soupscen\" tests=\"2\""));
    assert!(out.text().contains("Summary 2 cases"));
}

#[test]
fn trouble_is_told_and_no_run_with_it_is_green() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path().join("runs");
    let folder = run_of(1, &runs, &[passing("a"), finished()]);
    let unwritable = ReportOptions { junit: Some("/proc/nothing/x.xml".into()), ..ReportOptions::default() };
    let (_, err, to) = printers();
    let status = tell_again_on(&runs, &[folder.name()], &unwritable, &to).unwrap();
    assert_eq!(status, ExitStatus::Errored);
    assert!(err.text().starts_with("error: cannot write the junit report to `/proc/nothing/x.xml`"), "{}", err.text());
    assert!(super::super::check_places(&unwritable).is_err());
    assert!(super::super::check_places(&both(root.path())).is_ok());
    assert!(!root.path().join("junit.xml").exists(), "a look leaves nothing behind");
    let (out, _, to) = printers();
    let mut live = Live::start_on(&ReportOptions::default(), &header(), &folder, to);
    live.event(&passing("a"));
    live.trouble("cannot write the journal `x`: no space left on device");
    live.event(&finished());
    assert_eq!(live.finish(), 3);
    assert!(out.text().contains("note cannot write the journal"));
}

#[test]
fn a_run_that_is_not_there_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let error = tell_again(root.path(), &["latest".to_owned()], &ReportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("there is no run `latest`") && error.contains("there are no runs yet"), "{error}");
}
