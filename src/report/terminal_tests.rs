//! What people read, as snapshots.

use super::super::printer::testing::Shown;
use super::*;
use crate::journal::samples::{
    self, NASTY, attempt, case, done, every_verdict, finished, full_attempt, pass, rejected, started,
};
use crate::outcome::{Expected, Observation};

fn told(events: &[RunEvent], settings: TerminalSettings) -> String {
    let shown = Shown::default();
    let folder = Some(".soupscen/runs/2026-11-21T10-11-12-ab12".into());
    let mut terminal = Terminal::new(TerminalSettings { folder, ..settings }, shown.printer());
    let mut summary = Summary::default();
    for event in events {
        summary.event(event);
        terminal.event(event);
    }
    terminal.finish(&summary).unwrap();
    shown.text()
}

fn plainly(events: &[RunEvent]) -> String {
    told(events, TerminalSettings::default())
}

#[test]
fn every_verdict_as_it_is_told() {
    insta::assert_snapshot!("terminal_every_verdict", plainly(&every_verdict()));
}

#[test]
fn every_case_has_a_line_with_verbose() {
    let settings = TerminalSettings { verbosity: Verbosity::Ops, ..TerminalSettings::default() };
    insta::assert_snapshot!("terminal_verbose", told(&every_verdict(), settings));
}

#[test]
fn colours_are_the_only_escapes() {
    let settings = TerminalSettings { color: true, ..TerminalSettings::default() };
    let mut record = case("a", Expected::Passed, vec![full_attempt(rejected())]);
    record.attempts[0].output[0].text = NASTY.into();
    record.attempts[0].observation.texts = vec![NASTY.into()];
    record.attempts[0].commands[0].command = NASTY.into();
    record.attempts[0].folder = Some("evidence/a\u{1b}[2J".into());
    record.attempts[0].observation.cause.as_mut().unwrap().text = NASTY.into();
    record.id = NASTY.into();
    record.key = NASTY.into();
    let note = RunEvent::Note { text: NASTY.into(), place: None };
    let missing = RunEvent::PeerMissing { peer: NASTY.into(), reason: NASTY.into(), left_out: true };
    let built = RunEvent::BuildFinished { peer: NASTY.into(), cached: false, error: Some(NASTY.into()), elapsed_ms: 1 };
    let text = told(&[started(), note, missing, built, done(record), finished()], settings);
    for escape in text.split('\u{1b}').skip(1) {
        let end = escape.find('m').unwrap_or_else(|| panic!("{escape:?}"));
        assert!(escape[1..end].bytes().all(|b| b.is_ascii_digit() || b == b';'), "{escape:?}");
    }
    assert!(!text.contains("[2J") || !text.contains("\u{1b}[2J"));
    assert!(text.contains("\u{1b}[1m\u{1b}[31mFAILED"), "{text}");
    assert!(!text.contains('\u{7}') && !text.contains('\r') && !text.contains('\u{202e}'));
}

#[test]
fn without_colour_there_is_no_escape() {
    assert!(!plainly(&every_verdict()).contains('\u{1b}'));
}

#[test]
fn a_failure_stays_readable_whatever_its_size() {
    let texts = vec![format!("{}\n", "line of a peer".repeat(10)).repeat(100_000)];
    let mut record = case(&"x".repeat(100_000), Expected::Passed, vec![attempt(Observation { texts, ..rejected() })]);
    record.key = "0123abcd".into();
    let text = plainly(&[started(), done(record), finished()]);
    assert!(text.len() < 16 << 10, "{} bytes", text.len());
    assert!(text.contains("bytes more"));
    assert!(text.contains("again soupscen run scenarios/quick.yaml --case 0123abcd"));
}

#[test]
fn a_long_run_without_bars_tells_how_far_it_is() {
    let mut events = vec![RunEvent::RunStarted(RunHeader { cases: 100, ..samples::header() })];
    events.extend((0..100).map(|i| done(case(&i.to_string(), Expected::Passed, vec![attempt(pass())]))));
    events.push(finished());
    let text = plainly(&events);
    assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("Done ")).count(), 9, "{text}");
    assert!(text.contains("Done 50 of 100: 50 passed"));
}

#[test]
fn a_run_that_was_stopped_or_ran_nothing_says_so() {
    let stopped = plainly(&[started(), done(case("a", Expected::Passed, vec![attempt(pass())]))]);
    assert!(stopped.contains("INTERRUPTED stopped before its end: 2 cases did not come to a verdict"), "{stopped}");
    let nothing = plainly(&[started(), done(case("a", Expected::Passed, Vec::new())), finished()]);
    assert!(nothing.contains("NOTHING RAN 1 case in 4.200 s: 1 not-run"), "{nothing}");
}

#[test]
fn many_red_cases_are_counted_in_the_end() {
    let mut events = vec![started()];
    events.extend((0..30).map(|i| done(case(&i.to_string(), Expected::Passed, vec![attempt(rejected())]))));
    events.push(finished());
    let text = plainly(&events);
    assert!(text.contains("and 10 failed cases"), "{text}");
}
