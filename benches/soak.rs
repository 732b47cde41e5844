//! What a very long run costs from its beginning to its end, and what its reports cost:
//! `cargo bench --bench soak`. Early and late are parts of the same run, so that the ratio between
//! them means the same on every machine; a run that grows ends the program with an error.
//! `SOAK_CASES` and `SOAK_STARTS` change the sizes.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../tests/support/soak.rs"]
mod soak;

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::de::IgnoredAny;
use soak::{Watched, matrix, watch};

const SOUPSCEN: &str = env!("CARGO_BIN_EXE_soupscen");
/// What the late part of a run may hold of memory, as a multiple of the early part.
const MEMORY: f64 = 1.25;
/// How many more descriptors the late part may hold at its peak: what the cases in flight have.
const DESCRIPTORS: u64 = 64;
/// How many more threads.
const THREADS: u64 = 2;

fn main() {
    // `cargo test --benches` runs us too, to see that we compile.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let soak = Soak { home: home.path().to_owned() };
    let (cases, starts) = (size("SOAK_CASES", 100_000), size("SOAK_STARTS", 3_000));
    soak.run("built-in peers, shared", &matrix("launch: [direct]\n    tls: [none]", "shared", cases), cases);
    soak.reports(cases);
    let plugins = matrix("launch: [plugin]\n    tls: [auto]", "case", starts);
    soak.run("a plugin process per case", &plugins, starts);
}

fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

struct Soak {
    home: PathBuf,
}

impl Soak {
    /// A whole run; growth ends the program.
    fn run(&self, what: &str, scenario: &str, cases: usize) {
        let path = self.home.join("soak.yaml");
        std::fs::write(&path, scenario).expect("a scenario can be written");
        let (junit, json) = (self.home.join("junit.xml"), self.home.join("results.json"));
        let arguments = ["run", text(&path), "--jobs", "8", "--junit", text(&junit), "--json", text(&json)];
        let (watched, Cost { wall, cpu }) = self.soupscen(&arguments);
        assert!(watched.status.success(), "{what} ended with {}", watched.status);
        let each = cpu / cases as f64 * 1e3;
        println!("{what}: {cases} cases in {wall:.1} s, {:.0}/s, {each:.2} ms CPU each", cases as f64 / wall);
        let (early, late) = watched.early_and_late(|sample| sample.rss);
        let ratio = late as f64 / early as f64;
        let peak = watched.peak(|sample| sample.rss);
        println!("  memory      early {early:>6} KiB  late {late:>6} KiB  ratio {ratio:.3}  peak {peak} KiB");
        assert!(ratio <= MEMORY, "memory grows");
        for (name, of, more) in [
            ("descriptors", (|s| s.descriptors) as fn(&soak::Sample) -> u64, DESCRIPTORS),
            ("threads", |s| s.threads, THREADS),
        ] {
            let (early, late) = watched.early_and_late(of);
            println!("  {name:<11} early {early:>6}      late {late:>6}      peak {}", watched.peak(of));
            assert!(late <= early + more, "{name} grow");
        }
        let said = std::fs::read_to_string(&junit).expect("a JUnit report");
        let parsed = quick_junit::Report::deserialize_from_str(&said).expect("the JUnit report is read");
        assert_eq!(parsed.tests, cases);
        let results = std::fs::File::open(&json).expect("results");
        let _: IgnoredAny = serde_json::from_reader(BufReader::new(results)).expect("the results are JSON");
    }

    /// Every report of the last run again, from its journal.
    fn reports(&self, cases: usize) {
        let events = self.home.join("home/runs/latest/events.jsonl").metadata().expect("a journal").len();
        println!("reports of these {cases} cases, from a journal of {} MB", events / 1_000_000);
        let (junit, json) = (self.home.join("again.xml"), self.home.join("again.json"));
        for (name, option) in [("terminal", None), ("junit", Some(&junit)), ("json", Some(&json))] {
            let flag = format!("--{name}");
            let mut arguments = vec!["report", "latest"];
            arguments.extend(option.iter().flat_map(|path| [flag.as_str(), text(path)]));
            let (watched, Cost { wall, cpu }) = self.soupscen(&arguments);
            assert!(watched.status.success(), "{name}: {}", watched.status);
            let size = option.map_or(0, |path| path.metadata().expect("a report").len()) / 1_000_000;
            let peak = watched.peak(|sample| sample.rss);
            println!("  {name:<11} {wall:.1} s, {cpu:.1} s CPU  peak {peak} KiB  {size} MB");
        }
        let same = |a: &Path, b: &str| std::fs::read(a).ok() == std::fs::read(self.home.join(b)).ok();
        assert!(same(&junit, "junit.xml"), "the report of the journal is that of the run");
    }

    fn soupscen(&self, arguments: &[&str]) -> (Watched, Cost) {
        let (started, before) = (Instant::now(), cpu_of_children());
        let child = Command::new(SOUPSCEN)
            .args(arguments)
            .env("SOUPSCEN_HOME", self.home.join("home"))
            .stdout(Stdio::null())
            .spawn()
            .expect("soupscen runs");
        let watched = watch(child);
        (watched, Cost { wall: started.elapsed().as_secs_f64(), cpu: cpu_of_children() - before })
    }
}

/// What a command took, in seconds: its own processor time says more on a busy machine.
struct Cost {
    wall: f64,
    cpu: f64,
}

fn cpu_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage of children");
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
