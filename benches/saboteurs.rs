//! What a misbehaving peer costs beyond the deadline that ends it: `cargo bench --bench saboteurs` runs
//! the peers of `scenarios/negative/saboteurs.yaml`, two at a time. Python is needed for the drivers
//! among them. What a case waits for by right follows from its cause; all else is the excess, the
//! start of the peer included.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::process::{Command, Stdio};

use serde_json::Value;

const SOUPSCEN: &str = env!("CARGO_BIN_EXE_soupscen");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Budgets of the run, in seconds: shorter than those of the file, which is run with all at once.
const START: f64 = 2.0;
const OP: f64 = 1.0;
/// What a driver has on top of each (docs/driver-contract.md).
const SLACK: f64 = 0.5;
/// No saboteur may cost more than this beyond its own deadline.
const FLOOR: f64 = 1.0;
/// So many are named, the dearest first.
const NAMED: usize = 8;

/// One attempt at a case.
struct Cost {
    excess: f64,
    deadline: f64,
    name: String,
    cause: String,
}

fn main() {
    // `cargo test --benches` runs us too, to see that we compile.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let mut costs = costs(&run());
    costs.sort_by(|a, b| b.excess.total_cmp(&a.excess));
    println!("{:<58} {:>12} {:>10}", "", "measured", "floor");
    let row = |what: &str, seconds: f64, floor: &str| println!("{what:<58} {seconds:>10.3} s {floor:>10}");
    row(
        &format!("a saboteur beyond its own deadline, the median of {}", costs.len()),
        costs[costs.len() / 2].excess,
        "",
    );
    row(&format!("the most: {}", costs[0].name), costs[0].excess, &format!("{FLOOR} s"));
    for Cost { excess, deadline, name, cause } in costs.iter().take(NAMED) {
        println!("  {excess:>6.3} s beyond {deadline} s  {name:<20} {cause}");
    }
}

/// The results of a run of all saboteurs.
fn run() -> Value {
    let home = tempfile::tempdir().expect("a temporary folder");
    let shipped = std::fs::read_to_string(format!("{ROOT}/scenarios/negative/saboteurs.yaml")).expect("the scenario");
    let budgets = shipped.lines().find(|line| line.starts_with("timeouts: ")).expect("its budgets");
    let text = shipped
        .replace(budgets, &format!("timeouts: {{ start: {START}s, op: {OP}s, grace: 500ms, case: 90s }}"))
        .replace("../../fixtures", &format!("{ROOT}/fixtures"));
    let (file, json) = (home.path().join("saboteurs.yaml"), home.path().join("results.json"));
    std::fs::write(&file, text).expect("a scenario can be written");
    let status = Command::new(SOUPSCEN)
        .args(["run", "--jobs", "2", "--filter", "not (client == rust and server == rust)", "--json"])
        .args([&json, &file])
        .env("SOUPSCEN_HOME", home.path().join("home"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("soupscen runs");
    // Drivers that break the contract are errored by design; tests/saboteurs.rs holds every cause.
    assert!(matches!(status.code(), Some(0 | 1 | 3)), "soupscen ended with {status}");
    serde_json::from_slice(&std::fs::read(&json).expect("results")).expect("JSON")
}

fn costs(results: &Value) -> Vec<Cost> {
    let cases = results["cases"].as_array().expect("cases");
    let attempts = cases.iter().flat_map(|case| {
        let attempts = case["attempts"].as_array().expect("attempts");
        attempts.iter().map(move |attempt| (case, &attempt["observation"]))
    });
    attempts.map(|(case, observation)| cost(case, observation)).collect()
}

fn cost(case: &Value, observation: &Value) -> Cost {
    let axis = |name: &str| case["axes"][name].as_str().unwrap_or_default();
    let name =
        [axis("saboteur"), axis("client"), axis("server")].into_iter().find(|name| !matches!(*name, "" | "rust"));
    let cause = observation["cause"]["code"].as_str().unwrap_or("passed");
    let text = observation["cause"]["text"].as_str().unwrap_or_default();
    let deadline = match cause {
        "handshake.silence" | "timeout.connection" | "driver.silent" => START,
        "rpc.deadline" => OP,
        "driver.overdue" if text.contains("`call`") => OP + SLACK,
        "driver.overdue" => START + SLACK,
        _ => 0.0,
    };
    let elapsed = observation["elapsed_us"].as_f64().expect("a time") / 1e6;
    Cost { excess: elapsed - deadline, deadline, name: name.expect("a saboteur").to_owned(), cause: cause.to_owned() }
}
