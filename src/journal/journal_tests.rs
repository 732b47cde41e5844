//! Writing, reading, resuming and merging on real files.

use std::fs;
use std::io::Write as _;

use super::samples::{attempt, case, done, every_verdict, finished, header, known_rule, pass, rejected, started};
use super::*;
use crate::event::{CaseRecord, RunHeader};
use crate::outcome::{Cause, Ending, Expected, GrpcStatus, Observation};

fn folder() -> (tempfile::TempDir, RunFolder) {
    let root = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(root.path(), header().started_unix_ms, 0xab12).unwrap();
    (root, folder)
}

/// Writes events as a run of its own in a new folder below `root`.
fn journal(root: &Path, events: &[RunEvent]) -> RunFolder {
    let folder = RunFolder::create(root, header().started_unix_ms, 1).unwrap();
    let mut writer = Writer::open(&folder).unwrap();
    for event in events {
        writer.append(event).unwrap();
    }
    folder
}

fn read(folder: &RunFolder) -> Vec<RunEvent> {
    Reader::open(&folder.events()).unwrap().map(Result::unwrap).collect()
}

fn merged(folders: &[RunFolder]) -> Vec<RunEvent> {
    Merged::open(folders).unwrap().map(Result::unwrap).collect()
}

fn cases(events: &[RunEvent]) -> Vec<(String, usize)> {
    let of = |event: &RunEvent| match event {
        RunEvent::CaseFinished(record) => Some((record.script.clone(), record.attempts.len())),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn passing(name: &str) -> RunEvent {
    done(case(name, Expected::Passed, vec![attempt(pass())]))
}

#[test]
fn what_is_written_is_read_again_without_the_progress() {
    let (_root, folder) = folder();
    let mut events = every_verdict();
    let mut writer = Writer::create(&folder, &header()).unwrap();
    events[0] = started();
    for event in &events[1..] {
        writer.append(event).unwrap();
        writer.append(&RunEvent::CaseStarted { index: 1, id: "kv/x".into() }).unwrap();
        writer.append(&RunEvent::BuildOutput { peer: "go".into(), line: "…".into() }).unwrap();
    }
    writer.commit().unwrap();
    assert_eq!(read(&folder), events);
}

#[test]
fn a_committed_batch_is_there_while_the_writer_lives() {
    let (_root, folder) = folder();
    let mut writer = Writer::create(&folder, &header()).unwrap();
    writer.append(&passing("a")).unwrap();
    assert_eq!(read(&folder).len(), 1);
    writer.commit().unwrap();
    assert_eq!(read(&folder).len(), 2);
    drop(writer);
}

#[test]
fn latest_points_at_the_newest_run_and_names_are_found() {
    let root = tempfile::tempdir().unwrap();
    let first = journal(root.path(), &[started()]);
    let second = journal(root.path(), &[started()]);
    assert_ne!(first, second, "two runs of one second have folders of their own");
    assert_eq!(first.name(), "2026-11-21T10-11-12-0001");
    assert!(RunFolder::find(root.path(), "latest").is_err(), "neither has a journal that was begun");
    drop(Writer::create(&second, &header()).unwrap());
    let found = |name: &str| RunFolder::find(root.path(), name).unwrap();
    assert_eq!(found("latest"), second);
    assert_eq!(found(&first.name()), first);
    assert_eq!(found(first.path().to_str().unwrap()), first);
    assert_eq!(found(first.events().to_str().unwrap()), first);
    let error = RunFolder::find(root.path(), "nothing").unwrap_err().to_string();
    assert!(error.contains("there is no run `nothing`") && error.contains(&second.name()), "{error}");
    assert!(RunFolder::find(root.path(), "../runs").is_err());
    let other = second.path().join("results.json");
    fs::write(&other, "{}").unwrap();
    let error = RunFolder::find(root.path(), other.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("results.json` is no run"), "{error}");
}

#[test]
fn a_clock_that_goes_back_takes_nothing_from_earlier_runs() {
    let root = tempfile::tempdir().unwrap();
    for started_ms in [1_795_255_872_000, 1_795_255_872_000, 1_000, 0, u64::MAX] {
        let folder = RunFolder::create(root.path(), started_ms, 1).unwrap();
        drop(Writer::create(&folder, &header()).unwrap());
        assert_eq!(RunFolder::find(root.path(), "latest").unwrap(), folder, "the newest by order, not by time");
    }
    assert_eq!(
        fs::read_dir(root.path()).unwrap().flatten().filter(|e| e.path().join("events.jsonl").exists()).count(),
        6
    );
}

#[test]
fn a_torn_last_line_is_passed_over_and_cut_off_on_resume() {
    let (_root, folder) = folder();
    let mut writer = Writer::create(&folder, &header()).unwrap();
    writer.append(&passing("a")).unwrap();
    drop(writer);
    let mut file = fs::OpenOptions::new().append(true).open(folder.events()).unwrap();
    file.write_all(br#"{"type":"case-finished","index":0,"key":"k"#).unwrap();
    assert_eq!(cases(&read(&folder)), [("a".to_owned(), 1)]);
    let mut resumed = Resumed::open(&folder, "d1").unwrap();
    resumed.writer.append(&passing("b")).unwrap();
    drop(resumed);
    assert_eq!(cases(&read(&folder)), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn one_process_at_a_time_may_write_a_run() {
    let (_root, folder) = folder();
    let writer = Writer::create(&folder, &header()).unwrap();
    let error = Resumed::open(&folder, "d1").unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    drop(writer);
    Resumed::open(&folder, "d1").unwrap();
}

#[test]
fn broken_journals_say_where_and_why() {
    let (root, folder) = folder();
    let put = |text: &str| fs::write(folder.events(), text).unwrap();
    let open = || Reader::open(&folder.events()).unwrap_err().to_string();
    put("");
    assert!(open().contains("is not the journal of a run"));
    put("{\"hello\":1}\n");
    assert!(open().contains("is not the journal of a run"));
    put("{\"type\":\"run-started\",\"format\":99,\"version\":\"7.0\"}\n");
    assert!(open().contains("format 99") && open().contains("version 7.0"));
    let head = serde_json::to_string(&started()).unwrap();
    put(&format!("{head}\nnonsense\n{head}\n"));
    let events: Vec<_> = Reader::open(&folder.events()).unwrap().collect();
    assert_eq!(events.len(), 2, "nothing comes after an error");
    let error = events[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("events.jsonl`, line 2: "), "{error}");
    let gone = Reader::open(&root.path().join("gone")).unwrap_err().to_string();
    assert!(gone.starts_with("cannot open the journal"), "{gone}");
}

#[test]
fn an_endless_line_is_refused_in_bounded_memory() {
    let (_root, folder) = folder();
    let head = serde_json::to_string(&started()).unwrap();
    fs::write(folder.events(), format!("{head}\n{}", "x".repeat(MAX_LINE + 2))).unwrap();
    let error = Reader::open(&folder.events()).unwrap().last().unwrap().unwrap_err().to_string();
    assert!(error.contains("line 2: longer than"), "{error}");
}

#[test]
fn a_record_too_long_for_a_line_loses_its_bulk_and_keeps_its_verdict() {
    let (_root, folder) = folder();
    let mut huge = attempt(Observation { texts: vec!["x".repeat(MAX_LINE)], ..rejected() });
    huge.ops = samples::full_attempt(rejected()).ops;
    let record = case("huge", Expected::Passed, vec![huge]);
    let mut writer = Writer::create(&folder, &header()).unwrap();
    writer.append(&done(record.clone())).unwrap();
    drop(writer);
    let RunEvent::CaseFinished(back) = read(&folder).remove(1) else { panic!("a case") };
    assert_eq!((back.verdict(), back.key.clone()), (record.verdict(), record.key));
    assert!(back.attempts[0].ops.is_empty());
}

#[test]
fn no_line_is_longer_than_a_reader_takes() {
    let (_root, folder) = folder();
    let endless = || "x".repeat(MAX_LINE);
    let cause = rejected().cause.map(|cause| Cause { text: endless(), ..cause });
    let status = Some(GrpcStatus { code: "UNKNOWN".into(), text: endless() });
    let wordy = case("wordy", Expected::Passed, vec![attempt(Observation { cause, status, ..rejected() })]);
    let endless = CaseRecord { id: endless(), ..wordy.clone() };
    let mut writer = Writer::create(&folder, &header()).unwrap();
    for event in [done(wordy.clone()), done(endless), done(case("next", Expected::Passed, vec![attempt(rejected())]))] {
        writer.append(&event).unwrap();
    }
    drop(writer);
    let events = read(&folder);
    let RunEvent::CaseFinished(back) = &events[1] else { panic!("a case") };
    assert_eq!(back.verdict(), wordy.verdict());
    let observation = &back.attempts[0].observation;
    for text in [&observation.cause.as_ref().unwrap().text, &observation.status.as_ref().unwrap().text] {
        assert!(text.len() < 5000 && text.ends_with(&format!("({} bytes left out)", MAX_LINE - 4096)), "{text}");
    }
    assert!(matches!(&events[2], RunEvent::Note { text, .. } if text.contains("was left out")), "{:?}", events[2]);
    assert!(matches!(&events[3], RunEvent::CaseFinished(next) if next.key == "key-next"), "{:?}", events[3]);
}

#[test]
fn a_full_disk_is_told_once() {
    let (_root, folder) = folder();
    std::os::unix::fs::symlink("/dev/full", folder.events()).unwrap();
    let error = Writer::create(&folder, &header()).unwrap_err().to_string();
    assert!(error.contains("cannot write the journal") && error.contains("the run goes on"), "{error}");
    let mut writer = Writer::open(&folder).unwrap();
    writer.append(&started()).unwrap();
    assert!(!writer.is_broken());
    assert!(writer.commit().is_err());
    assert!(writer.is_broken());
    writer.append(&started()).unwrap();
    writer.commit().unwrap();
}

#[test]
fn resume_skips_what_came_to_a_verdict_on_the_pair() {
    let root = tempfile::tempdir().unwrap();
    let folder = journal(root.path(), &every_verdict());
    let keys = Resumed::open(&folder, "d1").unwrap().finished;
    for name in ["passes", "is-known", "cannot", "fails", "works", "differs", "lies", "shakes"] {
        assert!(keys.contains(format!("key-{name}").as_str()), "{name}");
    }
    assert_eq!(keys.len(), 8, "neither the one left out nor the one that could not run");
    let error = Resumed::open(&folder, "d2").unwrap_err().to_string();
    assert!(error.contains("different plans"), "{error}");
}

#[test]
fn of_two_records_in_a_resumed_journal_the_later_counts() {
    let root = tempfile::tempdir().unwrap();
    let broken = Observation { ending: Ending::CouldNotRun, ..rejected() };
    let interrupted = RunEvent::RunFinished { interrupted: true, elapsed_ms: 100 };
    let mut cancelled = case("a", Expected::Passed, Vec::new());
    cancelled.not_run = Some("cancelled".into());
    let two = || RunEvent::RunStarted(RunHeader { cases: 2, ..header() });
    let events = [
        two(),
        done(case("a", Expected::Passed, vec![attempt(broken)])),
        passing("b"),
        interrupted.clone(),
        two(),
        done(case("a", Expected::Passed, vec![attempt(rejected()), attempt(pass())])),
        done(cancelled),
        finished(),
    ];
    let whole = merged(&[journal(root.path(), &events)]);
    assert_eq!(cases(&whole), [("b".to_owned(), 1), ("a".to_owned(), 2)]);
    assert_eq!(whole.iter().filter(|e| matches!(e, RunEvent::RunStarted(_))).count(), 1);
    assert_eq!(*whole.last().unwrap(), RunEvent::RunFinished { interrupted: false, elapsed_ms: 4300 });
    // Resumed and killed: it did not come to an end.
    let killed = merged(&[journal(root.path(), &events[..6])]);
    assert_eq!(*killed.last().unwrap(), RunEvent::RunFinished { interrupted: true, elapsed_ms: 100 });
}

#[test]
fn shards_are_merged_by_key_and_only_of_one_plan() {
    let root = tempfile::tempdir().unwrap();
    let shard = |run: &str, digest: &str, names: &[&str]| {
        let head = RunHeader { run: run.into(), plan_digest: digest.into(), cases: 2, ..header() };
        let mut events = vec![RunEvent::RunStarted(head)];
        events.extend(names.iter().map(|name| passing(name)));
        events.push(finished());
        journal(root.path(), &events)
    };
    let (first, second, other) =
        (shard("s1", "d1", &["a", "b"]), shard("s2", "d1", &["c", "b"]), shard("s3", "d2", &[]));
    let whole = merged(&[first.clone(), second]);
    assert_eq!(cases(&whole).iter().map(|c| c.0.as_str()).collect::<Vec<_>>(), ["a", "c", "b"]);
    let RunEvent::RunStarted(head) = &whole[0] else { panic!("a head") };
    assert_eq!((head.run.as_str(), head.cases), ("s1+s2", 3));
    let error = Merged::open(&[first, other]).unwrap_err().to_string();
    assert!(error.contains("different plans"), "{error}");
    assert!(Merged::open(&[]).is_err());
}

#[test]
fn a_run_without_all_of_its_cases_did_not_come_to_its_end() {
    let root = tempfile::tempdir().unwrap();
    let run = |cases: u64, selection: &[&str], names: &[&str]| {
        let selection = selection.iter().map(|flag| (*flag).to_owned()).collect();
        let mut events = vec![RunEvent::RunStarted(RunHeader { cases, selection, ..header() })];
        events.extend(names.iter().map(|name| passing(name)));
        events.push(finished());
        journal(root.path(), &events)
    };
    let told = |folders: &[RunFolder]| {
        let whole = merged(folders);
        let RunEvent::RunStarted(head) = &whole[0] else { panic!("a head") };
        let Some(RunEvent::RunFinished { interrupted, .. }) = whole.last() else { panic!("an end") };
        (head.cases, *interrupted)
    };
    assert_eq!(told(&[run(2, &[], &["a", "b"])]), (2, false));
    assert_eq!(told(&[run(3, &[], &["a", "b"])]), (3, true));
    // The same case again is not another one.
    let again = [started(), passing("a"), started(), passing("a"), passing("b"), finished()];
    assert_eq!(told(&[journal(root.path(), &again)]), (3, true));
    // Shards add up, and one that lacks a case is found among them.
    let shard = |n: u32, names: &[&str]| run(2, &["--filter x", &format!("--shard {n}/2")], names);
    assert_eq!(told(&[shard(1, &["a", "b"]), shard(2, &["c", "d"])]), (4, false));
    assert_eq!(told(&[shard(1, &["a", "b"]), shard(2, &["c"])]), (4, true));
    assert_eq!(told(&[run(3, &[], &["a", "b", "c"]), run(1, &["--failed-in x"], &["c"])]), (3, false));
}

/// Not a test of time: prints what the journal costs. `cargo test --lib journal_cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn journal_cost() {
    let (_root, folder) = folder();
    let records: Vec<RunEvent> = (0..100_000).map(|i| passing(&format!("put-get-{i}"))).collect();
    let begin = std::time::Instant::now();
    let mut writer = Writer::create(&folder, &header()).unwrap();
    for batch in records.chunks(8) {
        for event in batch {
            writer.append(event).unwrap();
        }
        writer.commit().unwrap();
    }
    drop(writer);
    let wrote = begin.elapsed();
    let begin = std::time::Instant::now();
    let count = Reader::open(&folder.events()).unwrap().count();
    let bytes = fs::metadata(folder.events()).unwrap().len() / records.len() as u64;
    println!("{} a case written, {} read, {bytes} bytes", per(wrote, count), per(begin.elapsed(), count));
    let _ = known_rule();
}

fn per(time: std::time::Duration, count: usize) -> String {
    format!("{:.2} us", (time / u32::try_from(count).unwrap()).as_secs_f64() * 1e6)
}
