//! A long run holds no more at its end than at its beginning: descriptors, threads and memory of
//! 5,000 cases, each with a connection of its own. `cargo bench --bench soak` does the same with 100,000
//! cases and with plugin processes, and opens their reports.

#[path = "support/soak.rs"]
mod soak;
#[path = "support/run.rs"]
mod support;

use std::process::Stdio;

use soak::{Sample, matrix, watch};
use support::{Place, Results};

const CASES: usize = 5_000;
/// Cases at once.
const JOBS: u64 = 8;
/// Descriptors that a case of its own connection has: both ends, those of the relay, and a listener.
const PER_CASE: u64 = 8;
/// Descriptors of the engine itself: runtime, journal, control socket, reports in the making.
const OWN: u64 = 48;

#[test]
fn descriptors_and_threads_stay_flat_over_five_thousand_cases() {
    let place = Place::new();
    place.write("soak.yaml", &matrix("launch: [direct]\n    tls: [none]", "connection", CASES));
    let mut run = place.soupscen();
    run.args(["run", "soak.yaml", "--json", "results.json", "--jobs", &JOBS.to_string()]);
    let watched = watch(run.stdout(Stdio::null()).spawn().unwrap());
    assert!(watched.status.success(), "{}", watched.status);

    let results = Results::read(&place.at("results.json")).unwrap();
    assert_eq!(results.counts(), [("passed".to_owned(), CASES)].into());

    let (early, late) = watched.early_and_late(|sample: &Sample| sample.descriptors);
    assert!(late <= early + JOBS * PER_CASE, "descriptors grow from {early} to {late}");
    let peak = watched.peak(|sample| sample.descriptors);
    assert!(peak <= OWN + JOBS * PER_CASE, "{peak} descriptors for {JOBS} cases at once");

    let (early, late) = watched.early_and_late(|sample| sample.threads);
    let cores = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    assert!(late <= early + 2 && late <= 2 * cores + 12, "threads grow from {early} to {late}");
    // Allocators keep what they had once; what grows with the cases would be several times as much.
    let (early, late) = watched.early_and_late(|sample| sample.rss);
    assert!(late * 2 <= early * 3, "memory grows from {early} to {late} KiB");
    assert!(place.tmp_is_empty(), "temporary files are left");
}
