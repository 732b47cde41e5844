//! Events made by hand, for the tests of `journal` and `report`.

use std::collections::BTreeMap;

use crate::diag::Place;
use crate::event::{Attempt, CaseRecord, FORMAT, OpRecord, PeerCommand, PeerOutput, RuleInfo, RunEvent, RunHeader};
use crate::outcome::{
    Cause, Certainty, CheckResult, Effective, Ending, Expected, FactReading, GrpcStatus, Match, Observation, Phase,
};

pub(crate) fn header() -> RunHeader {
    RunHeader {
        format: FORMAT,
        version: "0.1.0".into(),
        run: "2026-11-21T10-11-12-ab12".into(),
        scenarios: vec!["quick".into()],
        files: vec!["scenarios/quick.yaml".into()],
        plan_digest: "d1".into(),
        cases: 3,
        started_unix_ms: 1_795_255_872_000,
        jobs: 8,
        selection: Vec::new(),
        changes: Box::default(),
        argv: ["soupscen", "run", "scenarios/quick.yaml"].map(String::from).into(),
        rules: BTreeMap::from([(
            "grpcio-p521".to_owned(),
            RuleInfo {
                reason: "grpcio's TLS library does not verify ECDSA P-521 certificates".into(),
                issue: Some("https://example.org/issues/1".into()),
                advise: Some("use a Python server with a Go client".into()),
                review_by: Some("2027-03-01".into()),
                place: place(4),
            },
        )]),
        labels: BTreeMap::from([("team".to_owned(), "rpc".to_owned())]),
        slow_ms: 5000,
    }
}

pub(crate) fn place(line: u32) -> Place {
    Place { file: "scenarios/quick.yaml".into(), line, column: 9 }
}

pub(crate) fn started() -> RunEvent {
    RunEvent::RunStarted(header())
}

pub(crate) fn finished() -> RunEvent {
    RunEvent::RunFinished { interrupted: false, elapsed_ms: 4200 }
}

pub(crate) fn known_rule() -> Expected {
    Expected::Failed {
        rule: "grpcio-p521".into(),
        at: Some(Phase::Tls),
        matches: Match { cause: Some("tls.rejected".into()), ..Match::default() },
        or_passed: false,
    }
}

pub(crate) fn fact(name: &str, asked: &str, got: &str) -> FactReading {
    FactReading {
        fact: name.into(),
        requested: Some(asked.into()),
        effective: Effective::Value(got.into()),
        certainty: Some(Certainty::Observed),
        source: "server hello".into(),
        report_only: None,
    }
}

/// A pass with one check.
pub(crate) fn pass() -> Observation {
    Observation {
        ending: Ending::Passed,
        phase: None,
        cause: None,
        status: None,
        exit: None,
        alert: None,
        texts: Vec::new(),
        facts: vec![fact("key", "p256", "p256"), fact("tls", "auto", "auto"), fact("transport", "unix", "unix")],
        checks: vec![CheckResult { id: "get.value".into(), held: true, diff: None, place: Some(place(22)) }],
        checked: 1,
        elapsed_us: 12_345,
    }
}

/// A rejected certificate.
pub(crate) fn rejected() -> Observation {
    Observation {
        ending: Ending::Failed,
        phase: Some(Phase::Tls),
        cause: Some(Cause {
            code: "tls.rejected.server-cert.by-client".into(),
            certainty: Certainty::Deduced,
            text: "the client closed the connection after the server's certificate, an ECDSA P-521 one".into(),
        }),
        status: Some(GrpcStatus { code: "UNAVAILABLE".into(), text: "failed to connect to all addresses".into() }),
        alert: None,
        exit: None,
        texts: vec!["Ssl handshake failed: SSL_ERROR_SSL: error:1000007d".into()],
        facts: Vec::new(),
        checks: Vec::new(),
        checked: 0,
        elapsed_us: 1_234_567,
    }
}

/// A value that was not what was expected.
pub(crate) fn wrong_value() -> Observation {
    Observation {
        ending: Ending::Failed,
        phase: Some(Phase::Check),
        cause: Some(Cause {
            code: "check.value".into(),
            certainty: Certainty::Observed,
            text: "1 of 2 checks did not hold: get.value".into(),
        }),
        checks: vec![
            CheckResult { id: "put.code".into(), held: true, diff: None, place: Some(place(20)) },
            CheckResult {
                id: "get.value".into(),
                held: false,
                diff: Some("- \"hello from go\"\n+ \"hello from g\u{fffd}\"".into()),
                place: Some(place(22)),
            },
        ],
        checked: 2,
        ..pass()
    }
}

pub(crate) fn attempt(observation: Observation) -> Attempt {
    Attempt {
        observation,
        on_shared: false,
        evidence: None,
        ops: Vec::new(),
        commands: Vec::new(),
        output: Vec::new(),
        folder: None,
    }
}

/// An attempt with everything that a failure brings.
pub(crate) fn full_attempt(observation: Observation) -> Attempt {
    Attempt {
        ops: vec![OpRecord {
            op: "get".into(),
            sent: Some(serde_json::json!({"key": "kv-put-get-1"})),
            received: None,
            status: observation.status.clone(),
            failed_checks: Vec::new(),
            elapsed_us: 900,
        }],
        commands: vec![
            PeerCommand { role: "client python".into(), command: "./venv/bin/python driver.py".into() },
            PeerCommand { role: "server go".into(), command: "PLUGIN_MIN_PORT=10000 ./kv-plugin".into() },
        ],
        output: vec![
            PeerOutput {
                role: "server go".into(),
                stream: "stderr".into(),
                text: "[INFO] plugin: listening\n[ERROR] remote error: tls: bad certificate\n".into(),
                shared: true,
            },
            PeerOutput { role: "client python".into(), stream: "stdout".into(), text: "hello\n".into(), shared: false },
        ],
        folder: Some("evidence/kv-put-get-1".into()),
        ..attempt(observation)
    }
}

/// A case of `quick`; its id and key follow from `name`.
pub(crate) fn case(name: &str, expected: Expected, attempts: Vec<Attempt>) -> CaseRecord {
    let axes = [("client", "python"), ("server", "go"), ("tls", "auto"), ("launch", "plugin")];
    CaseRecord {
        index: 0,
        key: format!("key-{name}"),
        id: format!("kv/{name}[client=python,server=go,tls=auto]"),
        scenario: "quick".into(),
        script: name.into(),
        axes: axes.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        expected,
        flaky_allowed: false,
        attempts,
        not_run: None,
        started_ms: 10,
    }
}

pub(crate) fn done(record: CaseRecord) -> RunEvent {
    RunEvent::CaseFinished(Box::new(record))
}

/// One case of every verdict, with what belongs to it, from head to end.
pub(crate) fn every_verdict() -> Vec<RunEvent> {
    let liar = Observation { facts: vec![fact("key", "p521", "p384")], ..pass() };
    let broken = Observation {
        ending: Ending::CouldNotRun,
        phase: Some(Phase::Build),
        cause: Some(Cause {
            code: "build.tool-missing".into(),
            certainty: Certainty::Observed,
            text: "`go` was not found; get it from https://go.dev/dl".into(),
        }),
        ..rejected()
    };
    let slow = Observation { elapsed_us: 7_200_000, ..pass() };
    let unsupported = Expected::Unsupported { rule: None, reason: "server go has no capability transport.tcp".into() };
    let mut left_out = case("left-out", Expected::Passed, Vec::new());
    left_out.not_run = Some("peer ruby is missing: `ruby` was not found; get it with `apt install ruby`".into());
    let mut events = vec![
        RunEvent::RunStarted(RunHeader { cases: 10, ..header() }),
        RunEvent::BuildStarted { peer: "go".into(), command: "go build -o kv ./kv".into() },
        RunEvent::BuildFinished { peer: "go".into(), cached: false, error: None, elapsed_ms: 3100 },
        RunEvent::PeerVersions {
            peer: "go".into(),
            versions: BTreeMap::from([
                ("self".to_owned(), "1.0".to_owned()),
                ("go-plugin".to_owned(), "1.7.0".to_owned()),
            ]),
        },
        RunEvent::PeerMissing {
            peer: "ruby".into(),
            reason: "`ruby` was not found; get it with `apt install ruby`".into(),
            left_out: true,
        },
        RunEvent::Note { text: "the rule `old` matches no case".into(), place: Some(place(40)) },
    ];
    events.extend(
        [
            case("passes", Expected::Passed, vec![attempt(slow)]),
            case("is-known", known_rule(), vec![full_attempt(rejected())]),
            case("cannot", unsupported, Vec::new()),
            left_out,
            case("fails", Expected::Passed, vec![full_attempt(wrong_value())]),
            case("works", known_rule(), vec![attempt(pass())]),
            case("differs", known_rule(), vec![full_attempt(wrong_value())]),
            case("lies", Expected::Passed, vec![attempt(liar)]),
            case("shakes", Expected::Passed, vec![full_attempt(rejected()), attempt(pass())]),
            case("breaks", Expected::Passed, vec![attempt(broken)]),
        ]
        .map(done),
    );
    events.push(finished());
    events
}

/// What a hostile peer prints.
pub(crate) const NASTY: &str = "a\u{0}b\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}]]> <x a=\"1\">&amp;\r\nC1:\u{9b}2J \
    \u{feff}\u{fffe}\u{ffff} \u{202e}drawkcab \u{d7ff}\u{e000} ::error::pwned %0A\u{8}\u{7f}";
