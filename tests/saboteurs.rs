//! `scenarios/negative/saboteurs.yaml`, run by the real binary with every case in flight at once: the
//! good cases stay green, each saboteur has the cause that the table names, and nothing is left behind.
//! A rule matches by prefix and a rule can be widened; a cause that changes fails here.
//! Without Python the drivers are left out.

#[path = "support/run.rs"]
mod run;

use std::collections::BTreeMap;

use run::{Place, ROOT, Results, eventually, observation, text, toolchains};
use serde_json::Value;

/// Cases without a saboteur.
const GOOD: usize = 200;

/// What each plugin comes to: the code of its cause, or `passed`.
const PLUGINS: &[(&str, &[&str])] = &[
    ("handshake.exit", &["exit-at-once", "crashes", "aborts", "killed", "forks-and-exits"]),
    ("handshake.line.noise", &["noise-before-line", "nul-bytes", "utf16-line", "latin1-noise", "empty-line"]),
    ("handshake.line.too-long", &["megabyte-line"]),
    ("handshake.silence", &["silence", "no-newline"]),
    ("handshake.stdout-closed", &["closes-stdout-first"]),
    ("process.exited", &["line-then-exit", "exits-in-call", "exits-clean-in-call"]),
    ("process.signalled", &["line-then-crash", "crashes-in-call", "killed-in-call"]),
    ("connect.refused", &["dead-address"]),
    ("tls.alert.handshake-failure.from-server", &["tls-alert-failure"]),
    ("tls.alert.internal-error.from-server", &["tls-alert-internal"]),
    ("tls.alert.unrecognized-name.from-server", &["tls-alert-name"]),
    ("tls.broken.by-server", &["tls-huge-record", "tls-bad-record"]),
    (
        "tls.closed.by-server",
        &["tls-closes", "tls-closes-at-once", "tls-cut-flight", "tls-resets", "tls-then-closes", "tls-cut-hello"],
    ),
    ("tls.no-common.version", &["tls-alert-version", "tls-old"]),
    ("tls.plaintext-server", &["tls-garbage", "tls-http1"]),
    ("tls.rejected.client-cert.by-server", &["tls-then-resets"]),
    ("tls.rejected.server-cert.by-client.not-pinned", &["other-cert"]),
    ("rpc.closed.by-server", &["closes", "resets", "closes-in-call", "resets-in-call"]),
    ("rpc.deadline", &["stalls-in-message", "never-ends", "half-open-later", "never-answers"]),
    ("rpc.goaway.enhance-your-calm", &["goaway"]),
    ("rpc.goaway.internal-error", &["goaway-in-call"]),
    ("rpc.goaway.no-error", &["goaway-quiet"]),
    ("rpc.grpc.bad-status", &["unknown-status", "status-no-number"]),
    ("rpc.grpc.content-type", &["html", "wrong-content-type"]),
    ("rpc.grpc.http-status", &["http-503", "http-401", "http-404"]),
    ("rpc.grpc.message", &["compressed-flag", "bad-flag", "unknown-encoding"]),
    ("rpc.grpc.more-messages", &["answers-twice"]),
    ("rpc.grpc.no-message", &["truncated", "truncated-prefix", "no-message"]),
    ("rpc.grpc.no-status", &["no-trailers", "no-grpc-status"]),
    ("rpc.health", &["not-serving", "no-health"]),
    (
        "rpc.http2.by-server",
        &[
            "http1",
            "garbage",
            "ssh",
            "huge-header",
            "huge-trailer",
            "data-on-zero",
            "huge-frame",
            "zero-window",
            "window-overflow",
            "bad-settings",
            "stray-continuation",
            "short-ping",
            "continuation-flood",
            "bad-hpack",
            "upper-case",
            "data-before-headers",
            "no-http-status",
            "push",
            "stray-stream",
            "tls-then-http1",
        ],
    ),
    ("rpc.reset.cancel", &["rst-cancel"]),
    ("rpc.reset.enhance-your-calm", &["rst-calm"]),
    ("rpc.reset.http-1-1-required", &["rst-http1"]),
    ("rpc.reset.internal-error", &["rst-internal"]),
    ("rpc.reset.refused-stream", &["rst-refused"]),
    ("rpc.too-large", &["64-mib", "wrong-length"]),
    (
        "timeout.connection",
        &[
            "no-settings",
            "deaf",
            "settings-then-deaf",
            "half-open",
            "ping-reply",
            "no-window",
            "settings-flood",
            "ping-flood",
            "tls-stalls",
            "tls-stalls-later",
            "tls-then-silent",
        ],
    ),
    ("check.failed", &["no-protobuf", "short-length", "other-type", "other-value", "answers-after-end"]),
    (
        "passed",
        &[
            "two-lines",
            "slow-line",
            "floods-stdout",
            "closes-output",
            "ignores-sigterm",
            "leaves-child",
            "ok-with-text",
            "floods-stderr",
        ],
    ),
];

/// What each driver comes to; `c-` plays the client and `s-` the server.
const DRIVERS: &[(&str, &[&str])] = &[
    ("connect.refused", &["c-false-refusal", "s-serves-and-exits", "s-serves-nowhere"]),
    ("tls.alert.handshake-failure.from-client", &["c-client-alert"]),
    ("tls.plaintext-client", &["c-client-plaintext"]),
    ("tls.plaintext-server", &["c-client-tls"]),
    ("rpc.failed", &["c-says-nothing-why"]),
    ("rpc.http2.by-client", &["c-client-http1", "c-client-garbage", "c-client-bad-frame"]),
    (
        "driver.broken",
        &[
            "c-closes-stdout",
            "c-exits",
            "c-crashes",
            "c-exits-in-connect",
            "c-killed-in-call",
            "c-crashes-in-call",
            "c-exits-in-call",
            "s-exits-in-serve",
            "c-floods-stderr",
        ],
    ),
    (
        "driver.contract",
        &[
            "c-noise",
            "c-other-version",
            "c-nul",
            "c-claims-all",
            "c-array",
            "c-latin1",
            "c-wrong-field",
            "c-garbage",
            "c-no-type",
            "c-deep",
            "c-huge-line",
            "c-other-kind",
            "s-serves-no-address",
            "c-no-status",
            "c-no-base64",
            "c-huge-line-in-call",
        ],
    ),
    ("driver.failed", &["c-driver-failed"]),
    (
        "driver.overdue",
        &[
            "c-other-seq",
            "c-never-answers",
            "c-half-an-answer",
            "c-observes",
            "c-never-connects",
            "c-other-id",
            "c-deaf",
            "s-never-serves",
        ],
    ),
    ("driver.pretends", &["c-pretends"]),
    ("driver.refused", &["c-internal-error", "c-busy"]),
    ("driver.silent", &["c-half-a-line", "c-silent", "c-another-answer", "c-unknown-type"]),
];

#[test]
fn every_saboteur_has_its_cause_and_nobody_else_notices() {
    let place = Place::new();
    let file = format!("{ROOT}/scenarios/negative/saboteurs.yaml");
    let python = toolchains(&["python3"]);
    let filter: &[&str] =
        if python { &[] } else { &["--filter", "server == plugin or (client == rust and server == rust)"] };
    let (ran, results) = place.results(&file, &[&["--jobs", "400"], filter].concat());

    let good: Vec<_> = results.cases().iter().filter(|case| saboteur(case).is_none()).collect();
    assert_eq!(good.len(), GOOD, "{ran}");
    let bad: Vec<_> = good.iter().filter(|case| case["verdict"] != "passed").map(|case| text(&case["id"])).collect();
    assert!(bad.is_empty(), "good cases that are not green: {bad:#?}\n{ran}");

    let mut expected = table(PLUGINS);
    if python {
        expected.append(&mut table(DRIVERS));
    }
    let got: BTreeMap<_, _> =
        results.cases().iter().filter_map(|case| Some((saboteur(case)?, outcome(case)))).collect();
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(name, cause)| got.get(*name).is_none_or(|got| got != *cause))
        .map(|(name, cause)| format!("{name}: expected {cause}, got {:?}\n  {}", got.get(name), why(&results, name)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(got.len(), expected.len(), "every saboteur of the file is in the table");
    assert!(expected.len() >= 60);
    ran.exits(if python { 3 } else { 0 });

    // The supervisor sweeps what drivers and plugins leave when the run is over.
    eventually("all processes are gone", || place.processes().is_empty());
    assert!(place.tmp_is_empty(), "left in TMPDIR: {:?}", place.files("tmp"));
}

/// The numbers that the file states are those of its cases.
#[test]
fn the_file_says_how_many_there_are() {
    let place = Place::new();
    let file = format!("{ROOT}/scenarios/negative/saboteurs.yaml");
    let plan = place.run(["plan", &file]).exits(0);
    let (plugins, drivers) = (table(PLUGINS).len(), table(DRIVERS).len());
    let harmless = table(PLUGINS).values().filter(|cause| **cause == "passed").count();
    plan.says(&format!("{} cases", GOOD + plugins + drivers));
    let yaml = std::fs::read_to_string(file).unwrap();
    for number in [
        format!("# {} peers that misbehave", plugins + drivers),
        format!("#   {plugins} plugins: "),
        format!("#      {} must fail as a rule says; {harmless} do what no host minds", plugins - harmless),
        format!("#   {drivers} drivers: "),
        format!("description: {} peers that misbehave in every phase, among {GOOD} good cases", plugins + drivers),
    ] {
        assert!(yaml.contains(&number), "`{number}` is not in the file");
    }
}

fn table(rows: &[(&'static str, &[&'static str])]) -> BTreeMap<String, &'static str> {
    rows.iter().flat_map(|(cause, names)| names.iter().map(|name| ((*name).to_owned(), *cause))).collect()
}

/// The saboteur of a case.
fn saboteur(case: &Value) -> Option<String> {
    let axis = |name: &str| text(&case["axes"][name]);
    match (axis("client"), axis("server")) {
        ("rust", "rust") => None,
        ("rust", "plugin") => Some(axis("saboteur").to_owned()),
        ("rust", server) => Some(server.to_owned()),
        (client, _) => Some(client.to_owned()),
    }
}

/// The code of the cause, where the verdict is what the file means it to be.
fn outcome(case: &Value) -> String {
    match text(&case["verdict"]) {
        verdict @ ("known" | "errored") => {
            let code = text(&observation(case)["cause"]["code"]);
            let driver = code.starts_with("driver.");
            if driver == (verdict == "errored") { code.to_owned() } else { format!("{verdict} {code}") }
        }
        verdict => verdict.to_owned(),
    }
}

fn why(results: &Results, name: &str) -> String {
    let case = results.cases().iter().find(|case| saboteur(case).as_deref() == Some(name));
    case.map_or("no such case".to_owned(), |case| format!("{} {}", case["verdict"], observation(case)["cause"]))
}
