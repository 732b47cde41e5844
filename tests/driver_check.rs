//! `soupscen driver check`: the drivers of this project meet the contract, and each breach of it is
//! found by the rule that speaks of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn check(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soupscen"));
    command.args(["--color", "never", "driver", "check"]).args(args).current_dir(ROOT);
    command.output().expect("soupscen runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether a tool can be had; required ones must.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg(if tool == "go" { "version" } else { "--version" }).output().is_ok();
    let required = std::env::var_os("SOUPSCEN_REQUIRE_PEERS").is_some_and(|v| !v.is_empty() && v != "0");
    assert!(found || !required, "SOUPSCEN_REQUIRE_PEERS is set, and `{tool}` cannot be run");
    if !found {
        eprintln!("left out: `{tool}` is not here");
    }
    found
}

/// The peers with drivers, the tool that builds each, and whether every rule applies to it: there
/// are no plugin libraries for JavaScript and Java.
const PEERS: &[(&str, &str, bool)] =
    &[("go", "go", true), ("python", "python3", true), ("javascript", "npm", false), ("java", "mvn", false)];

/// Those whose servers can be asked to compress.
const COMPRESSING: &[&str] = &["go", "python", "java"];

#[test]
fn our_drivers_meet_the_contract() {
    for (peer, tool, all) in PEERS {
        if has(tool) {
            let output = check(&["--peer", peer]);
            let said = text(&output);
            assert!(output.status.success() && said.contains("rules hold, 0 broken"), "{said}");
            let skipped = said.lines().filter(|line| line.contains("not checked"));
            let launch = |line: &str| line.contains("  launch") && !all;
            let compression = |line: &str| line.contains("  serve.compression") && !COMPRESSING.contains(peer);
            let left_out = |line: &str| launch(line) || compression(line);
            assert!(skipped.into_iter().all(left_out), "{peer} is not checked in full:\n{said}");
        }
    }
}

/// A driver that meets the contract, for the meddler to break.
fn honest_driver(folder: &Path) -> PathBuf {
    let go = Path::new(ROOT).join("fixtures/peers/go");
    let built = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(folder)
        .arg("./cmd/soup-go-driver")
        .current_dir(go)
        .status();
    assert!(built.expect("go runs").success());
    folder.join("soup-go-driver")
}

/// Each breach, and the rule that has to find it.
const BREACHES: &[(&str, &str)] = &[
    ("no-name", "hello"),
    ("no-versions", "hello"),
    ("claims-all", "hello.probe"),
    ("deaf-to-unknown", "unknown-type"),
    ("deaf-to-bye", "bye"),
    ("outlives-stdin", "end-of-stdin"),
    ("bad-exit", "end-of-stdin"),
    ("noise", "stdout"),
    ("serves-another", "serve.tcp"),
    ("socket-elsewhere", "serve.unix"),
    ("serves-plaintext", "serve.tls"),
    ("admits-all", "serve.mutual"),
    ("shares-servers", "serve.storage"),
    ("dies-of-a-file", "serve.bad-file"),
    ("files-are-contract", "serve.bad-file"),
    ("any-choice", "serve.tls-choices"),
    ("serves-anything", "serve.unknown-service"),
    ("keeps-listening", "stop"),
    ("plain-responses", "serve.compression"),
    ("other-bytes", "connect.tcp"),
    ("other-bytes", "connect.unix"),
    ("any-name", "connect.tls"),
    ("shows-nothing", "connect.mutual"),
    ("any-choice", "connect.tls-choices"),
    ("wrong-phase", "connect.nobody"),
    ("no-phase", "connect.stranger"),
    ("late-failure", "connect.silence"),
    ("never-dials", "connect.silence"),
    ("pools", "connect.fresh"),
    ("keeps-connections", "connect.fresh"),
    ("deaf-to-cancel", "connect.cancel"),
    ("late-cancel", "connect.cancel"),
    ("no-text", "call.status"),
    ("local-origin", "call.status"),
    ("sorts-metadata", "call.metadata"),
    ("drops-binary", "call.metadata"),
    ("no-trailers", "call.metadata"),
    ("merged-headers", "call.metadata"),
    ("lone-deadline", "call.deadline"),
    ("unknown-status", "call.deadline"),
    ("keeps-calls", "call.cancel"),
    ("small-messages", "call.big"),
    ("in-order", "call.many"),
    ("unnumbered-errors", "call.unknown-id"),
    ("knows-every-id", "call.unknown-id"),
    ("sends-plain", "call.compression"),
    ("claims-no-options", "call.compression"),
    ("never-waits", "call.wait-for-ready"),
    ("claims-no-options", "call.wait-for-ready"),
    ("ignores-limits", "connect.limits"),
    ("claims-no-options", "connect.limits"),
    ("claims-no-options", "connect.keepalive"),
    ("ignores-limits", "serve.limits"),
    ("claims-no-options", "serve.limits"),
    ("keeps-plugins", "launch"),
    ("leaks-environment", "launch.environment"),
    ("drops-environment", "launch.environment"),
    ("wrong-phase", "launch.exit"),
    ("late-failure", "launch.silence"),
    ("leaves-a-child", "launch.outlive"),
];

#[test]
fn every_breach_is_found_by_its_rule() {
    if !(has("go") && has("python3")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let driver = honest_driver(folder.path());
    let meddler = Path::new(ROOT).join("tests/support/meddler.py");
    let found = |breach: &str, rule: &str| {
        let soupscen = env!("CARGO_BIN_EXE_soupscen");
        let meddler = meddler.to_str().expect("a path");
        let words = ["python3", meddler, breach, soupscen, "--", driver.to_str().expect("a path")];
        let output = check(&[&["--rule", rule, "--"], &words[..]].concat());
        let said = text(&output);
        let told = said.lines().any(|line| line.split_whitespace().take(2).eq(["FAIL", rule]));
        (output.status.code() == Some(1) && told)
            .then_some(())
            .ok_or(format!("`{breach}` is not found by `{rule}`:\n{said}"))
    };
    let honest =
        check(&["--", "python3", meddler.to_str().expect("a path"), "none", "--", driver.to_str().expect("a path")]);
    assert!(honest.status.success(), "the meddler alone breaks something:\n{}", text(&honest));
    // Rules on streams have breaches of their own (driver_check_streams.rs), and so have answers.
    let elsewhere = |rule: &str| rule.starts_with("stream.") || rule == "one-answer";
    for line in text(&honest).lines().filter(|line| line.trim_start().starts_with("ok ")) {
        let rule = line.split_whitespace().nth(1).expect("its name");
        let found = BREACHES.iter().any(|(_, found_by)| *found_by == rule);
        assert!(found || elsewhere(rule), "no breach is found by `{rule}`");
    }
    let missed: Vec<_> = std::thread::scope(|scope| {
        let (first, second) = BREACHES.split_at(BREACHES.len() / 2);
        let halves = [first, second].map(|half| {
            scope.spawn(move || half.iter().filter_map(|(breach, rule)| found(breach, rule).err()).collect::<Vec<_>>())
        });
        halves.into_iter().flat_map(|half| half.join().expect("no panic")).collect()
    });
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn answers_that_come_twice_are_found() {
    if !(has("go") && has("python3")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let driver = honest_driver(folder.path());
    let meddler = Path::new(ROOT).join("tests/support/meddler.py");
    let words = ["python3", meddler.to_str().expect("a path"), "twice", "--", driver.to_str().expect("a path")];
    let output = check(&[&["--rule", "connect.tcp", "--rule", "one-answer", "--"], &words[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("FAIL  one-answer"), "{}", text(&output));
}

#[test]
fn a_program_that_is_no_driver_is_told_so() {
    for (command, said) in [
        (&["sh", "-c", "echo hallo; exit 3"][..], "it ended with status 3"),
        (&["no-such-program-anywhere"], "no-such-program-anywhere"),
    ] {
        let output = check(&[&["--"], command].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(said), "{}", text(&output));
    }
    let output = check(&["--rule", "cal.status", "--", "true"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("no rule begins with `cal.status`"), "{}", text(&output));
}
