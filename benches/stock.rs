//! What `scenarios/stock/standard.yaml` costs, peers built: `cargo bench --bench stock`. All five
//! languages are needed. The engine's own processor time is that of its process alone; in the second
//! row without the built-in peer, which lives in it.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../tests/support/soak.rs"]
#[allow(dead_code, reason = "this bench needs only some of what soaks do")]
mod soak;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

const SOUPSCEN: &str = env!("CARGO_BIN_EXE_soupscen");
const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/stock/standard.yaml");
/// Runs of each kind; the median counts.
const RUNS: usize = 5;
/// Of the clock of `/proc`, which Linux runs at 100 ticks a second for everyone (`USER_HZ`).
const MS_PER_TICK: f64 = 10.0;

struct Ran {
    /// From command to report, in seconds.
    wall: f64,
    /// Of the engine's process, in milliseconds.
    cpu: f64,
    cases: Vec<Value>,
}

fn main() {
    // `cargo test --benches` runs us too, to see that we compile.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    run(home.path(), "true"); // builds the peers
    println!("{:<64} {:>8} {:>8} {:>8}", "", "measured", "floor", "aim");
    let (mut all, mut drivers) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        all.push(run(home.path(), "true"));
        drivers.push(run(home.path(), "client != rust and server != rust"));
    }
    let wall = median(all.iter().map(|ran| ran.wall));
    println!("{:<64} {wall:>8.2} {:>8} {:>8}", "standard.yaml, from command to report, s", "20", "8");
    for (what, runs) in [("all cases", &all), ("between external peers", &drivers)] {
        let each = median(runs.iter().map(|ran| ran.cpu / ran.cases.len() as f64));
        let what = format!("engine, CPU per case, {what} ({}), ms", runs[0].cases.len());
        println!("{what:<64} {each:>8.2} {:>8} {:>8}", "1", "");
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(home: &Path, filter: &str) -> Ran {
    let json = home.join("results.json");
    let started = Instant::now();
    let child = Command::new(SOUPSCEN)
        .args(["run", SCENARIO, "--require-peers", "--filter", filter, "--json"])
        .arg(&json)
        .env("SOUPSCEN_HOME", home.join("home"))
        .stdout(Stdio::null())
        .spawn()
        .expect("soupscen runs");
    let watched = soak::watch(child);
    let wall = started.elapsed().as_secs_f64();
    assert!(watched.status.success(), "soupscen ended with {}", watched.status);
    let results: Value = serde_json::from_slice(&std::fs::read(&json).expect("results")).expect("JSON");
    let ticks = watched.peak(|sample| sample.ticks) as f64;
    Ran { wall, cpu: ticks * MS_PER_TICK, cases: results["cases"].as_array().expect("cases").clone() }
}
