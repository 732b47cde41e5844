//! `results.json` read back, held against its schema.

use super::*;
use crate::journal::samples::{
    self, NASTY, attempt, case, done, every_verdict, finished, full_attempt, rejected, started,
};
use crate::outcome::Expected;

fn written(events: &[RunEvent]) -> String {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("results.json");
    let mut reporter = Json::new(path.clone());
    let mut summary = Summary::default();
    for event in events {
        summary.event(event);
        reporter.event(event);
    }
    reporter.finish(&summary).unwrap();
    std::fs::read_to_string(path).unwrap()
}

fn schema() -> String {
    results_schema()
}

#[test]
fn everything_is_in_it() {
    let events = every_verdict();
    let results: Results = serde_json::from_str(&written(&events)).unwrap();
    let records: Vec<_> = events
        .iter()
        .filter_map(
            |event| if let RunEvent::CaseFinished(record) = event { Some(record.as_ref().clone()) } else { None },
        )
        .collect();
    assert_eq!(results.cases.iter().map(|c| c.record.clone()).collect::<Vec<_>>(), records);
    assert!(results.cases.iter().zip(&records).all(|(case, record)| case.verdict == record.verdict()));
    assert_eq!(results.cases[5].why.as_deref(), Some("the rule `grpcio-p521` expects a failure, and it passed"));
    assert_eq!(results.run.cases, 10);
    assert_eq!(results.peers["go"].versions["go-plugin"], "1.7.0");
    assert_eq!((results.peers["go"].build_ms, results.peers["go"].cached), (Some(3100), Some(false)));
    assert!(results.peers["ruby"].missing.is_some());
    assert_eq!(results.notes.len(), 1);
    assert_eq!((results.summary.finished, results.exit_status), (10, 1));
}

#[test]
fn the_schema_describes_what_is_written() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut nasty = case("n", Expected::Passed, vec![full_attempt(rejected())]);
    nasty.id = NASTY.into();
    nasty.attempts[0].evidence = Some(Box::default());
    for events in [every_verdict(), vec![started(), done(nasty), finished()], vec![started()]] {
        let document: serde_json::Value = serde_json::from_str(&written(&events)).unwrap();
        let errors: Vec<_> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
        let mut broken = document;
        broken["run"]["cases"] = "many".into();
        assert!(!validator.is_valid(&broken));
    }
}

#[test]
fn red_keys_are_what_failed_in_asks_for() {
    let read = |text: &str| read_red_keys(text.as_bytes()).map_err(|error| error.to_string());
    let keys = read(&written(&every_verdict())).unwrap();
    assert_eq!(keys, ["fails", "works", "differs", "lies", "shakes", "breaks"].map(|name| format!("key-{name}")));
    let green = [started(), done(case("a", Expected::Passed, vec![attempt(samples::pass())])), finished()];
    assert_eq!(read(&written(&green)).unwrap(), Vec::<String>::new());
    assert!(read("[]").unwrap_err().contains("an object with `format` and `cases`"));
    assert!(read("{\"format\":1}").unwrap_err().contains("`cases` is missing"));
    assert!(read("{\"format\":7,\"cases\":[]}").unwrap_err().contains("format 7"));
    assert!(red_keys(Path::new("/nowhere.json")).unwrap_err().contains("cannot open `/nowhere.json`"));
}
