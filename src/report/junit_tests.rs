//! `JUnit` is parsed back by quick-junit, an independent reader.

use quick_junit::{NonSuccessKind, Report as Parsed, TestCaseStatus};

use super::*;
use crate::journal::samples::{
    self, NASTY, attempt, case, done, every_verdict, finished, full_attempt, pass, rejected, started,
};
use crate::outcome::{Expected, Observation};

fn written(events: &[RunEvent]) -> String {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("junit.xml");
    let mut reporter = Junit::new(path.clone(), Some("runs/x".into()));
    let mut summary = Summary::default();
    for event in events {
        summary.event(event);
        reporter.event(event);
    }
    reporter.finish(&summary).unwrap();
    std::fs::read_to_string(path).unwrap()
}

fn parsed(events: &[RunEvent]) -> Parsed {
    let text = written(events);
    Parsed::deserialize_from_str(&text).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

/// Kind, type and message of a case's element.
fn element(status: &TestCaseStatus) -> (&'static str, String, String) {
    let text = |s: &Option<quick_junit::XmlString>| s.as_ref().map(|s| s.as_str().to_owned()).unwrap_or_default();
    match status {
        TestCaseStatus::Success { .. } => ("success", String::new(), String::new()),
        TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, message, ty, .. } => {
            ("failure", text(ty), text(message))
        }
        TestCaseStatus::NonSuccess { kind: NonSuccessKind::Error, message, ty, .. } => {
            ("error", text(ty), text(message))
        }
        TestCaseStatus::Skipped { message, ty, .. } => ("skipped", text(ty), text(message)),
    }
}

#[test]
fn every_verdict_has_its_element_with_type_and_reason() {
    let report = parsed(&every_verdict());
    assert_eq!((report.tests, report.failures, report.errors), (10, 5, 1));
    let suite = &report.test_suites[0];
    assert_eq!((suite.name.as_str(), suite.tests, suite.failures, suite.errors), ("quick", 10, 5, 1));
    assert_eq!(written(&every_verdict()).matches(" skipped=\"3\"").count(), 2, "on the suite and on the whole");
    let of = |name: &str| {
        let id = format!("kv/{name}[client=python,server=go,tls=auto]");
        element(&suite.test_cases.iter().find(|case| case.name.as_str() == id).unwrap().status)
    };
    let is = |name: &str, kind: &str, type_: &str, message: &str| {
        let (k, t, m) = of(name);
        assert_eq!((k, t.as_str()), (kind, type_), "{name}");
        assert!(m.contains(message), "{name}: {m}");
    };
    is("passes", "success", "", "");
    is("is-known", "skipped", "known", "grpcio-p521: grpcio's TLS library does not verify ECDSA P-521");
    is("cannot", "skipped", "unsupported", "server go has no capability transport.tcp");
    is("left-out", "skipped", "not-run", "peer ruby is missing");
    is("fails", "failure", "failed", "in check: 1 of 2 checks did not hold");
    is("works", "failure", "unexpected-pass", "the rule `grpcio-p521` expects a failure, and it passed");
    is("differs", "failure", "wrong-failure", "expected phase tls, failed in check");
    is("lies", "failure", "not-effective", "asked for key p521, got p384");
    is("shakes", "failure", "flaky", "it held on attempt 2 only");
    is("breaks", "error", "errored", "`go` was not found");
}

#[test]
fn the_whole_document() {
    insta::assert_snapshot!("junit", written(&every_verdict()));
}

#[test]
fn labels_versions_and_the_run_are_properties() {
    let report = parsed(&every_verdict());
    let properties = &report.test_suites[0].properties;
    let has = |name: &str, value: &str| properties.iter().any(|p| p.name.as_str() == name && p.value.as_str() == value);
    assert!(has("label.team", "rpc") && has("peer.go.go-plugin", "1.7.0") && has("soupscen.plan", "d1"));
}

#[test]
fn whatever_peers_print_it_is_well_formed() {
    let mut record =
        case("a", Expected::Passed, vec![full_attempt(Observation { texts: vec![NASTY.into()], ..rejected() })]);
    record.id = format!("kv/{NASTY}<\"'&");
    record.scenario = format!("quick {NASTY} & <\"");
    record.axes.insert("evil".into(), format!("1.3]]>{NASTY}\""));
    let seen = &mut record.attempts[0];
    seen.observation.cause.as_mut().unwrap().text = format!("]]>]]>{NASTY}]]");
    for (i, output) in seen.output.iter_mut().enumerate() {
        let bytes = [b"]]>\xff\xfe\xed\xa0\x80\xed\xb0\x80 \xc3(".as_slice(), NASTY.as_bytes()].concat();
        output.text = format!("{i}{}", String::from_utf8_lossy(&bytes));
    }
    let header = crate::event::RunHeader {
        labels: [(format!("a{NASTY}"), format!("<>&\"{NASTY}"))].into_iter().collect(),
        files: vec![NASTY.into()],
        ..samples::header()
    };
    let report = parsed(&[RunEvent::RunStarted(header), done(record), finished()]);
    let case = &report.test_suites[0].test_cases[0];
    let out = case.system_out.as_ref().unwrap().as_str();
    assert!(out.contains("--- client python stdout ---\n1]]>"), "{out}");
    assert!(out.contains("]]> <x a=\"1\">&amp;"), "the text itself is kept: {out}");
    assert!(case.name.as_str().ends_with("<\"'&"));
    let classname = case.classname.as_ref().unwrap().as_str();
    assert!(classname.contains("client=python,evil=1_3]]>"), "{classname}");
}

#[test]
fn both_sides_output_is_there_and_bounded() {
    let mut record = case("a", Expected::Passed, vec![full_attempt(rejected())]);
    record.attempts[0].output[0].text = "é".repeat(5 << 20);
    let text = written(&[started(), done(record), finished()]);
    assert!(text.len() < 600 << 10, "{} bytes", text.len());
    let report = Parsed::deserialize_from_str(&text).unwrap();
    let case = &report.test_suites[0].test_cases[0];
    assert!(case.system_err.as_ref().unwrap().as_str().contains("bytes before"));
    assert!(case.system_out.as_ref().unwrap().as_str().contains("hello"));
}

#[test]
fn a_suite_per_scenario_and_none_without_cases() {
    let mut other = case("b", Expected::Passed, vec![attempt(pass())]);
    other.scenario = "orders".into();
    let mine = case("a", Expected::Passed, vec![attempt(pass())]);
    let report = parsed(&[started(), done(mine.clone()), done(other), done(mine), finished()]);
    let names: Vec<_> = report.test_suites.iter().map(|s| (s.name.as_str().to_owned(), s.test_cases.len())).collect();
    assert_eq!(names, [("quick".to_owned(), 2), ("orders".to_owned(), 1)]);
    let time = report.test_suites[1].test_cases[0].time.unwrap();
    assert_eq!(time.as_micros(), 12_345);
    assert_eq!(parsed(&[started(), finished()]).test_suites.len(), 0);
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    let mut reporter = Junit::new("/proc/nothing/junit.xml".into(), None);
    reporter.event(&started());
    let error = reporter.finish(&Summary::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot write the junit report to `/proc/nothing/junit.xml`: "), "{error}");
}

/// Not a test of time: prints what reports cost. `cargo test --lib report_cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn report_cost() {
    let root = tempfile::tempdir().unwrap();
    let events: Vec<RunEvent> =
        (0..100_000).map(|i| done(case(&format!("put-get-{i}"), Expected::Passed, vec![attempt(pass())]))).collect();
    let reporters: Vec<(&str, Box<dyn Reporter>)> = vec![
        ("junit", Box::new(Junit::new(root.path().join("junit.xml"), None))),
        ("json", Box::new(super::super::json::Json::new(root.path().join("results.json")))),
    ];
    let mut summary = Summary::default();
    let begin = std::time::Instant::now();
    for event in &events {
        summary.event(event);
    }
    let us = |time: std::time::Duration| (time / 100_000).as_secs_f64() * 1e6;
    println!("summary: {:.2} us a case", us(begin.elapsed()));
    for (name, mut reporter) in reporters {
        let begin = std::time::Instant::now();
        reporter.event(&started());
        for event in &events {
            reporter.event(event);
        }
        let live = begin.elapsed();
        reporter.finish(&summary).unwrap();
        println!("{name}: {:.2} us a case, {:?} to finish", us(live), begin.elapsed().saturating_sub(live));
    }
}

#[test]
fn a_run_that_was_stopped_says_so() {
    let property = "<property name=\"soupscen.interrupted\" value=\"true\"/>";
    let mut events = every_verdict();
    assert!(!written(&events).contains(property));
    events.pop();
    events.push(RunEvent::RunFinished { interrupted: true, elapsed_ms: 1 });
    assert!(written(&events).contains(property));
    parsed(&events);
}
