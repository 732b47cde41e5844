//! What a case between `TofuSoup`'s client and server costs, side by side: bare, as its own pytest
//! matrix does it, and by soupscen. `cargo bench --bench tofusoup`; Python is needed.
//!
//! `TofuSoup`'s package does not bring its pytest matrix (it is in its repository only), so the bare
//! side is what a cell of it does, in one process and without pytest's own share. Both sides start a
//! fresh server for each case. The floor is what those servers cost by themselves: the processor time
//! of `soup rpc kv server` from its start to its line, and to its end, by the number of cores.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;
use serde_json::Value;

const SOUPSCEN: &str = env!("CARGO_BIN_EXE_soupscen");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Rounds of both sides in turn, and how often each of the 12 configurations is in one.
const ROUNDS: usize = 3;
const TIMES: usize = 2;
const CONFIGURATIONS: usize = 12;
/// Bare starts of the server.
const STARTS: u32 = 8;

fn main() {
    // `cargo test --benches` runs us too, to see that we compile.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let scenario = home.path().join("cells.yaml");
    let write = |isolation: &str, times: usize| {
        std::fs::write(&scenario, cells(isolation, times)).expect("a file");
    };
    write("case", 1);
    // Builds the peer, and tells where.
    let soup = soup_of(&run(home.path(), &scenario, true).2);
    let python = soup.with_file_name("python");

    let (mut bare, mut fresh, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (before, seconds) = (children(), bare_cells(&python));
        bare.push((seconds, (children() - before) / (TIMES * CONFIGURATIONS) as f64));
        write("case", TIMES);
        let (wall, used, _) = run(home.path(), &scenario, false);
        fresh.push(wall / (TIMES * CONFIGURATIONS) as f64);
        cpu.push(used / (TIMES * CONFIGURATIONS) as f64);
    }
    write("shared", 10 * TIMES);
    let shared = run(home.path(), &scenario, false).0 / (10 * TIMES * CONFIGURATIONS) as f64;
    let (to_line, to_end) = starts(&soup, home.path());
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;

    let bare_cpu = median(bare.iter().map(|(_, cpu)| *cpu).collect());
    let bare = median(bare.iter().map(|(wall, _)| *wall).collect());
    let (fresh, cpu) = (median(fresh), median(cpu));
    let ms = |seconds: f64| seconds * 1e3;
    println!("soup with soup, a fresh server for each case, {cores} cores, median of {ROUNDS} rounds");
    println!("{:<52} {:>8} {:>11} {:>7}", "", "ms/case", "ms of CPU", "times");
    println!(
        "{:<52} {:>8.0} {:>11.0} {:>7}",
        "bare, one after the other in one process",
        ms(bare),
        ms(bare_cpu),
        "1.0"
    );
    println!("{:<52} {:>8.0} {:>11.0} {:>7.1}", "soupscen", ms(fresh), ms(cpu), bare / fresh);
    for (what, each) in
        [("floor: the servers until their lines", to_line), ("floor: the servers until their ends", to_end)]
    {
        println!("{what:<52} {:>8.0} {:>11.0} {:>7.1}", ms(each / cores), ms(each), bare * cores / each);
    }
    println!(
        "{:<52} {:>8.0} {:>11} {:>7.1}",
        "soupscen, cases of one configuration share a server",
        ms(shared),
        "",
        bare / shared
    );
}

/// The same cells as `tofusoup_bare.py`.
fn cells(isolation: &str, times: usize) -> String {
    let rounds: Vec<_> = (0..times).map(|n| format!("r{n}")).collect();
    format!(
        r#"soupscen: 1
name: cells
include: [{ROOT}/scenarios/peers/tofusoup.yaml, {ROOT}/scenarios/limitations/tofusoup.yaml]
timeouts: {{ case: 60s, start: 30s, op: 10s, grace: 2s, slow: 60s }}
matrix:
  axes:
    client: [soup]
    server: [soup]
    launch: [plugin]
    transport: [tcp, unix]
    tls:
      values: [auto, none]
      effective: {{ report: one-way, only: [server] }}
    key: [rsa-2048, rsa-4096, p256, p384, p521]
    round: {{ values: [{}], affects: call }}
  isolation: {isolation}
scripts:
  cell:
    ops:
      - put: {{ key: "{{{{ case.slug }}}}", value: value }}
      - get: {{ key: "{{{{ case.slug }}}}" }}
        expect: {{ value: value }}
      - {{ id: absent, get: {{ key: "{{{{ case.slug }}}}-absent" }}, expect: {{ code: NOT_FOUND }} }}
"#,
        rounds.join(", ")
    )
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// User and system time of all children that have ended.
fn children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

/// Wall clock, processor time and results.
fn run(home: &Path, scenario: &Path, evidence: bool) -> (f64, f64, Value) {
    let json = home.join("results.json");
    let (before, started) = (children(), Instant::now());
    let out = Command::new(SOUPSCEN)
        .args(["run", "--require-peers", "--json"])
        .arg(&json)
        .arg(scenario)
        .args(if evidence { ["--evidence", "all"].as_slice() } else { &[] })
        .env("SOUPSCEN_HOME", home.join("home"))
        .output()
        .expect("soupscen runs");
    let wall = started.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{} ended with {}:\n{told}", scenario.display(), out.status);
    let results = serde_json::from_slice(&std::fs::read(&json).expect("results")).expect("JSON");
    (wall, children() - before, results)
}

/// The program `soup` of the build.
fn soup_of(results: &Value) -> PathBuf {
    let commands = results["cases"][0]["attempts"][0]["commands"].as_array().expect("commands");
    let all = commands.iter().filter_map(|command| command["command"].as_str()).flat_map(|text| text.split(' '));
    all.map(PathBuf::from).find(|word| word.ends_with("bin/soup")).expect("soup in a command")
}

/// Seconds per case of the bare side.
fn bare_cells(python: &Path) -> f64 {
    let script = Path::new(ROOT).join("benches/tofusoup_bare.py");
    let out = Command::new(python).arg(script).arg(TIMES.to_string()).stderr(Stdio::null()).output().expect("Python");
    let told = String::from_utf8_lossy(&out.stdout);
    told.trim().parse().unwrap_or_else(|_| panic!("the bare side ended with {}: {told}", out.status))
}

/// Processor time of a bare server until its line, and until its end by SIGTERM, on average.
fn starts(soup: &Path, home: &Path) -> (f64, f64) {
    let (before, mut to_line) = (children(), 0.0);
    for _ in 0..STARTS {
        let mut server = Command::new(soup)
            .args(["rpc", "kv", "server"])
            .envs([("PLUGIN_MAGIC_COOKIE_KEY", "BASIC_PLUGIN"), ("BASIC_PLUGIN", "hello")])
            .env("KV_STORAGE_DIR", home)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("soup starts");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut line).expect("text");
        assert!(line.starts_with("1|"), "{line}");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).expect("its times");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u32 = fields[11..13].iter().map(|field| field.parse::<u32>().expect("a number")).sum();
        to_line += f64::from(ticks) / 100.0;
        let _ = kill(Pid::from_raw(i32::try_from(server.id()).expect("a pid")), Signal::SIGTERM);
        server.wait().expect("an end");
    }
    (to_line / f64::from(STARTS), (children() - before) / f64::from(STARTS))
}
