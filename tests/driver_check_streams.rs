//! `soupscen driver check` on streams: each breach of the contract is found by the rule that speaks
//! of it. That the drivers of this project hold is in `driver_check.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Checks at once: most wait for what never comes.
const AT_ONCE: usize = 6;

fn check(rule: &str, breach: &str, driver: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soupscen"));
    command.args(["--color", "never", "driver", "check", "--rule", rule, "--", "python3"]);
    command.arg("tests/support/stream_meddler.py").args([breach, "--"]).arg(driver).current_dir(ROOT);
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

/// A driver that meets the contract, for the meddler to break.
fn honest_driver(folder: &Path) -> PathBuf {
    let mut go = Command::new("go");
    go.args(["build", "-buildvcs=false", "-o"]).arg(folder).arg("./cmd/soup-go-driver");
    let built = go.current_dir(Path::new(ROOT).join("fixtures/peers/go")).status();
    assert!(built.expect("go runs").success());
    folder.join("soup-go-driver")
}

/// Each breach, and the rule that has to find it.
const BREACHES: &[(&str, &str)] = &[
    ("opens-never", "stream.opened"),
    ("bare-streams", "stream.opened"),
    ("sends-at-the-end", "stream.turns"),
    ("sends-twice", "stream.turns"),
    ("other-messages", "stream.turns"),
    ("receives-first", "stream.at-once"),
    ("shuffles-sends", "stream.order"),
    ("shuffles-received", "stream.order"),
    ("over-max", "stream.order"),
    ("keeps-open", "stream.half-close"),
    ("never-at-the-end", "stream.end"),
    ("end-with-the-last", "stream.end"),
    ("ends-twice", "stream.end"),
    ("never-ends", "stream.end"),
    ("no-text", "stream.end"),
    ("local-origin", "stream.end"),
    ("no-headers", "stream.end"),
    ("no-trailers", "stream.end"),
    ("keeps-open", "stream.one-way"),
    ("begins-with-the-message", "stream.no-message"),
    ("lone-deadline", "stream.no-message"),
    ("remote-origin", "stream.no-message"),
    ("nothing-is-busy", "stream.nothing"),
    ("nothing-is-the-end", "stream.nothing"),
    ("loses-the-late", "stream.nothing"),
    ("keeps-streams", "stream.cancel"),
    ("half-closes-for-cancel", "stream.cancel"),
    ("unknown-status", "stream.cancel"),
    ("ends-twice", "stream.cancel"),
    ("lone-deadline", "stream.deadline"),
    ("unknown-status", "stream.deadline"),
    ("ends-twice", "stream.deadline"),
    ("remote-origin", "stream.deadline"),
    ("never-ends", "stream.lost"),
    ("remote-origin", "stream.lost"),
    ("always-ok", "stream.lost"),
    ("ends-twice", "stream.lost"),
    ("stays-connected", "stream.closed"),
    ("never-ends", "stream.closed"),
    ("ends-twice", "stream.closed"),
    ("deaf-after-the-end", "stream.late-send"),
    ("reads-ahead", "stream.read-ahead"),
    ("sent-at-once", "stream.back-pressure"),
    ("knows-every-stream", "stream.unknown"),
];

#[test]
fn every_breach_on_streams_is_found_by_its_rule() {
    if !(has("go") && has("python3")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let driver = honest_driver(folder.path());
    let honest = check("stream.", "none", &driver);
    assert!(honest.status.success(), "the meddler alone breaks something:\n{}", text(&honest));
    for line in text(&honest).lines().filter(|line| line.trim_start().starts_with("ok ")) {
        let rule = line.split_whitespace().nth(1).expect("its name");
        assert!(BREACHES.iter().any(|(_, found_by)| *found_by == rule), "no breach is found by `{rule}`");
    }
    let (left, missed) = (Mutex::new(BREACHES.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no panic").next();
                    let Some((breach, rule)) = next else { return };
                    let output = check(rule, breach, &driver);
                    let said = text(&output);
                    let told = said.lines().any(|line| line.split_whitespace().take(2).eq(["FAIL", rule]));
                    if output.status.code() != Some(1) || !told {
                        missed.lock().expect("no panic").push(format!("`{breach}` is not found by `{rule}`:\n{said}"));
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
