//! What the fuzz targets check, one function per target. Ordinary tests replay the corpus through
//! the same functions (`tests/corpus.rs`), so everything here also holds without a fuzzer.
//!
//! A check ends by panicking; beside that, each states what its reader promises about any bytes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use soupscen::axis::values::Transport;
use soupscen::diag::{Diagnostic, SourceId, SourceMap, Span, render};
use soupscen::event::RunEvent;
use soupscen::filter;
use soupscen::handshake::{Reading, read_line, with_address};
use soupscen::journal::{Reader, Resumed, RunFolder, finished_keys, is_resumed};
use soupscen::outcome::evidence::Side;
use soupscen::peer::driver::heard;
use soupscen::peer::driver::message::{Answer, CallReply, Reply, metadata_in};
use soupscen::plan::{Plan, Selection};
use soupscen::scenario::{MemoryFiles, load};
use soupscen::transport::Target;
use soupscen::wire::{Conversation, News};

/// A target by its name: the folder of its corpus and the function.
pub type Check = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: &[Check] = &[
    ("driver", driver),
    ("expression", expression),
    ("handshake", handshake),
    ("journal", journal),
    ("scenario", scenario),
    ("shapes", shapes),
    ("wire", wire),
];

/// Rendered problems are text for a person: at most 50 of them, each with a few short lines.
const RENDERED: usize = 1 << 20;
/// Plans up to this size are compared row by row with what was counted.
const LISTED: u64 = 300;

/// Takes numbers and pieces off the front of an input; gives zeros and nothing at its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        head
    }
}

// ---------------------------------------------------------------------------------------------
// Scenarios

/// Where the text under test stands.
const FILE: &str = "scenarios/s.yaml";

/// The files that shipped scenarios include, so that the corpus gets past its includes.
fn files(text: &[u8]) -> MemoryFiles {
    MemoryFiles::new()
        .with(FILE, text)
        .with("scenarios/peers/kv.yaml", include_bytes!("../scenarios/peers/kv.yaml"))
        .with("scenarios/peers/few.yaml", include_bytes!("few.yaml"))
        .with("scenarios/limitations/kv.yaml", include_bytes!("../scenarios/limitations/kv.yaml"))
        .with("fixtures/peers/go/peer.yaml", include_bytes!("../fixtures/peers/go/peer.yaml"))
        .with("fixtures/peers/python/peer.yaml", include_bytes!("../fixtures/peers/python/peer.yaml"))
        .with("scenarios/kv.proto", include_bytes!("../proto/kv.proto"))
}

/// A scenario file: any text is read to its end or refused with places that are in it; what is
/// planned has as many cases as were counted, each with an id and a key of its own.
pub fn scenario(data: &[u8]) {
    let files = files(data);
    let read = || load(Path::new(FILE), &files);
    let (scenario, warnings) = match read() {
        Ok(read) => read,
        Err((sources, problems)) => {
            assert!(problems.iter().any(Diagnostic::is_error), "refused without an error");
            points_inside(&sources, &problems);
            assert_eq!(Err((problems.len(), problems)), read().map(drop).map_err(|(_, p)| (p.len(), p)), "twice");
            return;
        }
    };
    points_inside(&scenario.sources, &warnings);
    let scenario = Arc::new(scenario);
    let sources = Arc::clone(&scenario.sources);
    match Plan::new(scenario, false) {
        Err(problems) => {
            assert!(problems.iter().any(Diagnostic::is_error), "not planned, without an error");
            points_inside(&sources, &problems);
        }
        Ok((plan, notes)) => {
            points_inside(&sources, &notes);
            planned(&plan);
        }
    }
}

fn planned(plan: &Plan) {
    let all = Selection::default();
    let counted = plan.count(&all).selected;
    if counted > LISTED {
        // Too many to list: the first ones are cases nevertheless.
        assert_eq!(plan.cases(&all).take(100).count(), 100);
        return;
    }
    let cases: Vec<_> = plan.cases(&all).collect();
    assert_eq!(cases.len() as u64, counted, "counted and listed");
    let keys: HashSet<_> = cases.iter().map(|case| plan.key(case)).collect();
    assert_eq!(keys.len(), cases.len(), "keys are unique");
    let ids: HashSet<_> = cases.iter().map(|case| plan.id(case)).collect();
    assert_eq!(ids.len(), cases.len(), "ids are unique");
    for case in cases.iter().take(20) {
        assert!(plan.expected(case, &|_, _| None).is_ok(), "rules that contradict each other were let through");
    }
}

/// Every label is in the text that it names, on whole characters, and all of it can be shown.
fn points_inside(sources: &SourceMap, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        for label in &diagnostic.labels {
            let Span { source, start, end } = label.span;
            let text = &sources.get(source).expect("a label names a source").text;
            assert!(text.get(start as usize..end as usize).is_some(), "{diagnostic:?} is outside of its text");
        }
    }
    let shown = render(sources, diagnostics, false);
    assert!(shown.len() < RENDERED, "{} problems take {} bytes", diagnostics.len(), shown.len());
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "control characters are shown");
}

/// A scenario put together from the words of the language, as the bytes say: gets deeper than text
/// that is mostly refused for its YAML.
pub fn shapes(data: &[u8]) {
    let text = shaped(&mut Input(data));
    scenario(text.as_bytes());
}

const AXES: &[(&str, &[&str])] = &[
    ("client", &["rust", "go"]),
    ("server", &["rust", "go", "python"]),
    ("tls", &["none", "auto", "server", "mutual"]),
    ("key", &["p256", "p384", "rsa-2048", "secp256r1"]),
    ("transport", &["tcp", "unix"]),
    ("launch", &["direct", "plugin"]),
    ("tls_version", &["1.2", "1.3"]),
    ("client_key", &["p256", "p521"]),
    ("size", &["a", "b", "c"]),
];
const NAMES: &[&str] = &["client", "server.lang", "key.bits", "tls", "script", "id", "own", "transport", "block"];
const SIGNS: &[&str] = &["==", "!=", "~", "<", ">=", "in", "not in"];
const VALUES: &[&str] = &["go", "rust", "p256", "none", "\"*\"", "unset", "384", "1.3", "a", "tcp", "put"];
const OPS: &[&str] = &[
    "put: { key: \"{{ case.slug }}\", value: eA }",
    "get: { key: \"{{ case.key }}\" }\n        expect: { value: eA }",
    "get: { key: k }\n        capture: { seen: value }",
    "put: { key: k, value: \"{{ seen }}\" }",
    "call: { method: Get, send: { key: k }, deadline: 2s }\n        expect: { code: [NOT_FOUND, UNKNOWN] }",
    "open: { stream: s, method: Get, send: { key: k } }",
    "send: { stream: s, message: {} }",
    "receive: { stream: s, within: 1s }",
    "half_close: { stream: s }",
    "end: { stream: s, within: 1s }\n        id: last",
    "cancel: { stream: s }",
    "stdio: { within: 1s }\n        expect: { stdout: { $regex: x } }",
];

fn pick<'a>(input: &mut Input<'_>, from: &[&'a str]) -> &'a str {
    from[input.below(from.len())]
}

fn condition(input: &mut Input<'_>, depth: u8) -> String {
    match input.below(if depth > 3 { 1 } else { 5 }) {
        1 => format!("({} and {})", condition(input, depth + 1), condition(input, depth + 1)),
        2 => format!("({} or {})", condition(input, depth + 1), condition(input, depth + 1)),
        3 => format!("not ({})", condition(input, depth + 1)),
        _ => {
            let (name, sign, value) = (pick(input, NAMES), pick(input, SIGNS), pick(input, VALUES));
            if sign.ends_with("in") { format!("{name} {sign} [{value}]") } else { format!("{name} {sign} {value}") }
        }
    }
}

fn shaped(input: &mut Input<'_>) -> String {
    let mut text = String::from("soupscen: 1\nname: shaped\ninclude: [peers/few.yaml]\nscripts:\n");
    for script in 0..=input.below(3) {
        let _ = writeln!(text, "  s{script}:");
        if input.below(4) == 0 {
            let _ = writeln!(text, "    when: '{}'", condition(input, 0));
        }
        text.push_str("    ops:\n");
        for _ in 0..=input.below(4) {
            let _ = writeln!(text, "      - {}", pick(input, OPS));
        }
    }
    text.push_str("matrix:\n");
    for block in 0..=input.below(2) {
        shaped_block(&mut text, input, block);
    }
    let rules = input.below(4);
    text.push_str(if rules > 0 { "expectations:\n" } else { "" });
    for rule in 0..rules {
        let outcome = pick(input, &["failed", "'[failed, passed]'", "unsupported", "[failed, passed]"]);
        let when = condition(input, 0);
        let _ = writeln!(text, "  - {{ id: r{rule}, when: '{when}', outcome: {outcome}, reason: r }}");
    }
    text
}

fn shaped_block(text: &mut String, input: &mut Input<'_>, block: usize) {
    let _ = writeln!(text, "  - name: b{block}\n    axes:");
    for (name, values) in AXES {
        let needed = matches!(*name, "client" | "server");
        let some: Vec<&str> = values.iter().filter(|_| input.below(3) == 0).copied().collect();
        if !some.is_empty() || needed {
            let some = if some.is_empty() { vec!["rust"] } else { some };
            let _ = writeln!(text, "      {name}: [{}]", some.join(", "));
        }
    }
    if input.below(2) == 0 {
        let _ = writeln!(text, "    exclude:\n      - {{ when: '{}', reason: r }}", condition(input, 0));
    }
    if input.below(3) == 0 {
        let (name, values) = AXES[2 + input.below(AXES.len() - 2)];
        let value = pick(input, values);
        let _ = writeln!(text, "    include:\n      - {{ client: rust, server: rust, {name}: {value} }}");
    }
}

// ---------------------------------------------------------------------------------------------
// Expressions

/// Cases that expressions are asked about.
fn small() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let text = include_bytes!("small.yaml");
        let (scenario, _) = load(Path::new(FILE), &files(text)).expect("the small scenario is read");
        Plan::new(Arc::new(scenario), true).expect("the small scenario is planned").0
    })
}

/// An expression: what is read is printed so that it reads the same, and it selects the same cases
/// whether they are counted or listed, as written or as printed.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut sources = SourceMap::default();
    let source = sources.add("e", format!("ab{text}"));
    let read = match filter::parse(source, 2, text) {
        Ok(read) => read,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a problem");
            return points_inside(&sources, &problems);
        }
    };
    let printed = read.ast().to_string();
    let span = Span { source: SourceId(0), start: 0, end: 0 };
    match filter::parse_at(span, &printed) {
        Ok(again) => {
            assert_eq!(again.ast().to_string(), printed, "printed twice");
            assert_eq!(again.names(), read.names());
            selects_alike(&sources, &read, &again);
        }
        // Parentheses and spaces that printing adds may be what is too much.
        Err(_) => assert!(printed.len() > filter::MAX_TEXT || printed.matches('(').count() >= filter::MAX_DEPTH),
    }
}

fn selects_alike(sources: &SourceMap, read: &filter::Expr, again: &filter::Expr) {
    let plan = small();
    let found = read.check(plan.domain());
    points_inside(sources, &found);
    if found.iter().any(Diagnostic::is_error) {
        return;
    }
    let keys = |expr: &filter::Expr| {
        let selection = Selection { filter: Some(Arc::new(expr.clone())), ..Selection::default() };
        let keys: Vec<String> = plan.cases(&selection).map(|case| plan.key(&case)).collect();
        assert_eq!(plan.count(&selection).selected, keys.len() as u64, "counted and listed");
        keys
    };
    assert_eq!(keys(read), keys(again), "as written and as printed");
}

// ---------------------------------------------------------------------------------------------
// The handshake line

/// The first line of a plugin: read, printed and read again it is the same; with another address
/// it is the same but for that; what is kept of it for people is bounded.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.byte();
    let (auto, versions): (bool, &[u32]) = (flags & 1 != 0, if flags & 2 != 0 { &[1, 5] } else { &[] });
    let line = input.0;
    let reading = read_line(line, versions, auto);
    assert!(reading.text.chars().count() <= 4096, "the text is bounded");
    assert!(reading.line.is_some() || reading.problem.is_some(), "refused without a problem");
    if let Some(problem) = &reading.problem {
        assert!(problem.text.chars().count() < 400, "{}", problem.text);
    }
    let _ = reading.report(auto, None, 0);
    let Some(read) = &reading.line else { return };
    let again = read_line(read.to_string().as_bytes(), versions, auto);
    assert_eq!(again.line.as_ref(), Some(read), "printed and read again");
    for target in [Target::Tcp(([127, 0, 0, 1], 7).into()), Target::Unix(PathBuf::from("/r/s.sock"))] {
        let moved = with_address(line, &target).expect("a line that was read has an address");
        let Reading { line: Some(mut moved), .. } = read_line(&moved, versions, auto) else {
            panic!("the line with another address is refused")
        };
        assert_eq!(moved.target, target);
        moved.target = read.target.clone();
        assert_eq!(&moved, read, "all but the address");
    }
}

// ---------------------------------------------------------------------------------------------
// Driver messages

/// The output of a driver: in whatever pieces it comes, the engine hears the same.
pub fn driver(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(reply) = serde_json::from_slice::<Reply>(line) {
            message(reply);
        }
    }
    let whole = hear(data, data.len().max(1));
    assert!(whole.len() < 64 * 1024 + 16 * data.len(), "{} bytes are kept of {}", whole.len(), data.len());
    let step = usize::from(data.first().copied().unwrap_or_default() % 7) + 1;
    assert_eq!(hear(data, step), whole, "in pieces of {step}");
}

fn message(reply: Reply) {
    let bytes = |answers: &[Answer]| answers.iter().filter_map(Answer::bytes).map(|b| b.len()).sum::<usize>();
    match reply {
        Reply::Received { m, .. } => drop(bytes(&m)),
        Reply::Result(result) => {
            let CallReply { receive, headers, trailers, .. } = *result;
            let (known, _) = (headers.len(), bytes(&receive));
            if let Ok(read) = metadata_in(headers) {
                assert_eq!(read.len(), known);
            }
            drop(metadata_in(trailers));
        }
        _ => {}
    }
}

fn hear(data: &[u8], step: usize) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(heard(data.to_vec(), step))
}

// ---------------------------------------------------------------------------------------------
// TLS records

/// Both directions of a connection: a bystander learns the same from bytes at once and in pieces,
/// holds a bounded amount of them, and says nothing more once it has read enough.
pub fn wire(data: &[u8]) {
    let certs = |der: &[u8]| soupscen::pki::cert_facts(der).ok();
    let mut whole = Conversation::new(Transport::Tcp, certs);
    let mut pieces = Conversation::new(Transport::Tcp, certs);
    let mut input = Input(data);
    while !input.0.is_empty() {
        let control = input.byte();
        let side = if control & 1 == 0 { Side::Client } else { Side::Server };
        match control >> 6 {
            0 if control & 2 != 0 => {
                assert_eq!(whole.ended(side, control & 4 != 0), pieces.ended(side, control & 4 != 0));
            }
            _ => {
                let length = usize::from(input.byte()) << 8 | usize::from(input.byte());
                let bytes = input.take(length);
                let step = usize::from(control >> 1 & 0x1f) + 1;
                let (read, at_once) = (whole.is_read(), whole.bytes(side, bytes));
                let split = bytes.chunks(step).map(|piece| pieces.bytes(side, piece)).max().unwrap_or(News::None);
                assert_eq!(at_once, split, "the news of {side:?}");
                assert!(!read || whole.is_read(), "it was read and is no longer");
            }
        }
        assert!(whole.held() < 96 * 1024 * 2, "{} bytes are held", whole.held());
        assert_eq!(whole.held(), pieces.held());
    }
    assert_eq!(whole.report(), pieces.report());
}

// ---------------------------------------------------------------------------------------------
// The journal

/// A journal: its events are the same when they are written and read again, what a killed writer
/// left is repaired without losing one, and errors name a line that exists.
pub fn journal(data: &[u8]) {
    let (folder, path) = run_folder();
    std::fs::write(&path, data).expect("a journal is written");
    let lines = data.split(|byte| *byte == b'\n').count() as u64 - 1;
    let (events, failed) = events(&path, lines);
    let _ = is_resumed(&path);
    let run = RunFolder::find(folder.path(), &folder.path().display().to_string()).expect("a run");
    let keys = finished_keys(&run).map(|keys| keys.len()).map_err(|_| ());
    let Some(RunEvent::RunStarted(header)) = events.first() else {
        assert!(failed && keys.is_err(), "a journal without a head is refused");
        return;
    };
    assert_eq!(keys.is_err(), failed, "both readers agree");
    for event in &events {
        let text = serde_json::to_string(event).expect("an event has a JSON form");
        let again: RunEvent = serde_json::from_str(&text).expect("what was written is read");
        assert_eq!(serde_json::to_string(&again).expect("an event has a JSON form"), text, "written twice");
    }
    match Resumed::open(&run, &header.plan_digest) {
        Err(_) => assert!(failed, "a journal that reads cannot be resumed"),
        Ok(mut resumed) => {
            assert!(!failed && Ok(resumed.finished.len()) == keys);
            resumed.writer.append(&events[0]).expect("an event is written");
            drop(resumed);
            let (longer, failed) = self::events(&path, lines + 1);
            assert!(!failed && longer.len() == events.len() + 1, "one more event after the repair");
            assert_eq!(is_resumed(&path).ok(), Some(true));
        }
    }
}

/// The events before the first error, and whether there is one.
fn events(path: &Path, lines: u64) -> (Vec<RunEvent>, bool) {
    let Ok(mut reader) = Reader::open(path) else { return (Vec::new(), true) };
    let mut events = Vec::new();
    while let Some(event) = reader.next() {
        assert!(reader.line() <= lines, "line {} of {lines}", reader.line());
        match event {
            Ok(event) => events.push(event),
            Err(error) => {
                assert!(error.to_string().len() < 4096, "the error is bounded");
                assert!(reader.next().is_none(), "nothing follows an error");
                return (events, true);
            }
        }
    }
    (events, false)
}

/// A folder in memory where there is one: a file per input is much for a disk.
fn run_folder() -> (tempfile::TempDir, PathBuf) {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { Cow::Borrowed(memory) } else { Cow::Owned(std::env::temp_dir()) };
    let folder = tempfile::tempdir_in(root).expect("a folder");
    let path = folder.path().join("events.jsonl");
    (folder, path)
}
