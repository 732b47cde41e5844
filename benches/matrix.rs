//! What the whole KV matrix costs over the peers' own starts, in one run on one machine:
//! `cargo bench --bench matrix`. Go and Python are needed.
//!
//! The floor is what the peers' starts take by themselves: how many the run made of each kind, times
//! the processor time of a bare start of that kind (a plugin until its handshake line, a driver
//! until its `hello`), by the number of cores.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeValLike as _;
use serde_json::Value;
use soupscen::axis::values::KeyType;
use soupscen::pki::Identity;

const SOUPSCEN: &str = env!("CARGO_BIN_EXE_soupscen");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Bare starts of each kind; of those that make an RSA key more, for their time varies by itself.
const STARTS: u32 = 5;
const RSA_STARTS: u32 = 12;

/// What is started, as far as its cost differs: `plugin go-keys rsa-4096`, `driver python`.
type Kind = String;

struct Started {
    count: u64,
    command: String,
}

fn main() {
    // `cargo test --benches` runs us too, to see that we compile.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let scenario = Path::new(ROOT).join("scenarios/kv-matrix.yaml");
    // Builds the peers, and tells what is started.
    let (_, _, results) = run(home.path(), &scenario, &["--evidence", "all"]);
    let kinds = kinds(&results);
    let (wall, all, _) = run(home.path(), &scenario, &[]);

    println!("{:<28} {:>7} {:>12} {:>10}", "start", "times", "ms of CPU", "s in all");
    let mut starts = 0.0;
    for (kind, started) in &kinds {
        let each = bare(home.path(), kind, &started.command);
        let sum = each * started.count as f64;
        starts += sum;
        println!("{kind:<28} {:>7} {:>12.1} {sum:>10.2}", started.count, each * 1e3);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let floor = starts / cores;
    println!("\nfloor: {starts:.2} s of CPU on {cores} cores = {floor:.2} s");
    println!("run: {wall:.2} s, with {all:.2} s of CPU: {:.2} times that of the starts", all / starts);
    println!("the whole matrix, peers built, over its floor {:>22.2} {:>8} {:>8}", wall / floor, "1.5", "1.2");
}

/// User and system time of all children that have ended.
fn children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

/// Wall clock, processor time and results.
fn run(home: &Path, scenario: &Path, args: &[&str]) -> (f64, f64, Value) {
    let json = home.join("results.json");
    let (before, started) = (children(), Instant::now());
    let out = Command::new(SOUPSCEN)
        .args(["run", "--require-peers", "--json"])
        .arg(&json)
        .arg(scenario)
        .args(args)
        .env("SOUPSCEN_HOME", home.join("home"))
        .output()
        .expect("soupscen runs");
    let wall = started.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{} ended with {}:\n{told}", scenario.display(), out.status);
    let results = serde_json::from_slice(&std::fs::read(&json).expect("results")).expect("JSON");
    (wall, children() - before, results)
}

/// Every kind of start that a run made, with an example of each.
fn kinds(results: &Value) -> BTreeMap<Kind, Started> {
    let mut plugins: BTreeMap<Kind, Started> = BTreeMap::new();
    let mut drivers: BTreeMap<(String, String), u64> = BTreeMap::new();
    for case in results["cases"].as_array().expect("cases") {
        let of = |axis: &str| case["axes"][axis].as_str().unwrap_or_default();
        let starts = starts_of(case["script"].as_str().unwrap_or_default(), of("launch"));
        for attempt in case["attempts"].as_array().into_iter().flatten() {
            for command in attempt["commands"].as_array().into_iter().flatten() {
                let (role, text) = (command["role"].as_str().unwrap_or_default(), command["command"].as_str());
                let Some(text) = text.filter(|text| *text != "built in") else { continue };
                if role.starts_with("server") && of("launch") == "plugin" {
                    let own_key = of("tls") == "auto";
                    let kind = match of("tls") {
                        "auto" => format!("plugin {} auto {}", of("server"), of("key")),
                        _ => format!("plugin {}", of("server")),
                    };
                    let files = own_key || of("tls") == "none";
                    let new = || Started { count: 0, command: String::new() };
                    let started = plugins.entry(kind.trim_end().to_owned()).or_insert_with(new);
                    started.count += starts;
                    // The files of a run are gone when it is over: an example does without.
                    if files {
                        text.clone_into(&mut started.command);
                    }
                } else {
                    // One that serves everybody, and those of cases that end their servers.
                    let own = if role.starts_with("server") && starts > 1 { starts } else { 0 };
                    *drivers.entry((role.to_owned(), text.to_owned())).or_insert(1) += own;
                }
            }
        }
    }
    for ((role, command), count) in drivers.into_iter().filter(|((role, _), _)| !role.ends_with(" rust")) {
        let kind = format!("driver {}", role.rsplit(' ').next().unwrap_or_default());
        plugins.entry(kind).or_insert(Started { count: 0, command }).count += count;
    }
    plugins
}

/// How often a case's server is started: scripts stop it, start another one, or have two.
fn starts_of(script: &str, launch: &str) -> u64 {
    match (script, launch) {
        ("persistence" | "crypto-isolation", _) => 3,
        ("two-clients", "plugin") => 2,
        _ => 1,
    }
}

/// Processor time of one start, on average.
fn bare(home: &Path, kind: &str, command: &str) -> f64 {
    let certificate = Identity::self_signed(KeyType::P256).expect("a certificate").chain_pem().to_owned();
    let command = in_folder(command, &home.join("storage"));
    let times = if kind.contains("rsa") { RSA_STARTS } else { STARTS };
    let before = children();
    for _ in 0..times {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec env {command}")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        shell.stderr(Stdio::null()).process_group(0).env("PLUGIN_PROTOCOL_VERSIONS", "1");
        if kind.contains(" auto") {
            shell.env("PLUGIN_CLIENT_CERT", &certificate);
        }
        let mut child = shell.spawn().expect("a peer starts");
        let mut input = child.stdin.take().expect("a pipe");
        if kind.starts_with("driver") {
            writeln!(input, r#"{{"type":"hello","contracts":[1],"deadline_ms":10000}}"#).expect("a driver reads");
        }
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("text");
        assert!(line.starts_with("1|") || line.contains("hello"), "{kind}: {line:?} from {command}");
        drop(input);
        if kind.starts_with("plugin") {
            let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
            let _ = killpg(group, Signal::SIGTERM);
        }
        child.wait().expect("an end");
    }
    (children() - before) / f64::from(times)
}

/// The command with folders that are still there.
fn in_folder(command: &str, folder: &PathBuf) -> String {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut out = Vec::new();
    for word in command.split(' ') {
        match word.split_once('=') {
            Some((name @ ("KV_STORAGE_DIR" | "TEMP_DIR"), _)) => out.push(format!("{name}={}", folder.display())),
            _ => out.push(word.to_owned()),
        }
    }
    out.join(" ")
}
