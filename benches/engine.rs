//! How fast the engine is and what it costs, as figures and ratios of one run on one machine:
//! `cargo bench --bench engine`, or one part of it: `cargo bench --bench engine -- stand-in`. Each figure names the floor that it has to hold and the aim.
//! Go is needed for the comparison with a bare go-plugin host; without it that part is left out.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use soupscen::process::hub::{Composer, Hub, StartOrder, TicketSpec};
use soupscen::process::scratch::Scratch;

const SOUPSCEN: &str = env!("CARGO_BIN_EXE_soupscen");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Cases of the throughput parts.
const PLAIN_CASES: usize = 40_000;
const TLS_CASES: usize = 6_000;
/// Rounds and cycles of the comparison with a bare host.
const ROUNDS: usize = 5;
const CYCLES: usize = 50;
/// Pairs of starts with and without a stand-in.
const STARTS: usize = 200;

fn main() {
    // The shim is whatever program has the hub: this one.
    if let Some(status) = soupscen::process::dispatch(std::env::args_os()) {
        std::process::exit(i32::from(status != std::process::ExitCode::SUCCESS));
    }
    // `cargo test --benches` runs us too, to see that we compile.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let bench = Bench { home: home.path().to_owned() };
    println!("{:<58} {:>12} {:>10} {:>8}", "", "measured", "floor", "aim");
    let parts: [(&str, Part); 6] = [
        ("throughput", Bench::throughput),
        ("memory", Bench::memory),
        ("certain", Bench::certain_failure),
        ("quick", Bench::quick),
        ("stand-in", Bench::stand_in),
        ("bare-host", Bench::bare_host),
    ];
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (_, part) in parts.iter().filter(|(name, _)| name.contains(&wanted)) {
        part(&bench);
    }
}

fn row(what: &str, measured: &str, floor: &str, aim: &str) {
    println!("{what:<58} {measured:>12} {floor:>10} {aim:>8}");
}

type Part = fn(&Bench);

struct Bench {
    home: PathBuf,
}

impl Bench {
    fn scenario(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.join(format!("{name}.yaml"));
        std::fs::write(&path, text).expect("a scenario can be written");
        path
    }

    fn run(&self, scenario: &Path, args: &[&str]) -> Duration {
        let junit = self.home.join("junit.xml");
        let started = Instant::now();
        let status = Command::new(SOUPSCEN)
            .arg("run")
            .arg(scenario)
            .arg("--junit")
            .arg(&junit)
            .args(args)
            .env("SOUPSCEN_HOME", self.home.join("home"))
            .stdout(Stdio::null())
            .status()
            .expect("soupscen runs");
        let wall = started.elapsed();
        assert!(status.success(), "{} ended with {status}", scenario.display());
        wall
    }

    fn throughput(&self) {
        let plain = self.scenario("plain", &matrix("launch: [direct]\n    tls: [none]", "shared", PLAIN_CASES));
        let ran = self.run(&plain, &["--jobs", "8"]);
        let rate = PLAIN_CASES as f64 / ran.as_secs_f64();
        row("rust x rust, direct, plaintext, long-lived, --jobs 8", &format!("{rate:.0}/s"), "4000/s", "8000/s");
        let axes = "launch: [direct]\n    tls: [mutual]\n    key: [p256]\n    tls_version: [1.3]";
        let tls = self.scenario("mtls", &matrix(axes, "connection", TLS_CASES));
        let ran = self.run(&tls, &["--jobs", "8"]);
        let rate = TLS_CASES as f64 / ran.as_secs_f64();
        row("the same, mTLS P-256, TLS 1.3, a connection per case", &format!("{rate:.0}/s"), "800/s", "1200/s");
    }

    fn memory(&self) {
        // Two fresh processes each; the peak of all children so far only grows, so small comes first.
        let of = |cases: usize| {
            let path = self
                .scenario(&format!("memory-{cases}"), &matrix("launch: [direct]\n    tls: [none]", "shared", cases));
            let script =
                "exec 3>&1; \"$0\" run \"$1\" --jobs 8 >/dev/null & p=$!; m=0; while kill -0 $p 2>/dev/null; do \
                 for c in $p $(cat /proc/$p/task/$p/children 2>/dev/null); do \
                 k=$(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$c/status 2>/dev/null); \
                 [ \"${k:-0}\" -gt $m ] && m=$k; done; sleep 0.02; done; echo $m >&3"
                    .to_string();
            let out = Command::new("sh")
                .args(["-c", &script, SOUPSCEN])
                .arg(&path)
                .env("SOUPSCEN_HOME", self.home.join("home"))
                .output()
                .expect("sh runs");
            String::from_utf8_lossy(&out.stdout).trim().parse::<f64>().expect("a figure of VmHWM")
        };
        let (small, large) = (20_000, 120_000);
        let (a, b) = (of(small), of(large));
        let per_case = (b - a) * 1024.0 / (large - small) as f64;
        row("memory of run per finished case", &format!("{per_case:.0} B"), "200 B", "");
    }

    fn certain_failure(&self) {
        // `sh` is the plugin: its own start is next to nothing.
        let text = "soupscen: 1\nname: certain\npeers:\n  rust: { builtin: {} }\n  bad:\n    server: { plugin: { run: [sh, -c, 'exit 3'] }, provides: [launch.plugin, tls.auto, kv] }\nmatrix:\n  axes:\n    client: [rust]\n    server: [bad]\n    launch: [plugin]\n    tls: [auto]\n  isolation: case\nscripts:\n  put: { ops: [ { put: { key: a, value: b } } ] }\nexpectations:\n  - { id: exits, when: server == bad, outcome: failed, match: { cause: handshake.exit }, reason: it exits }\n";
        let path = self.scenario("certain", text);
        let json = self.home.join("certain.json");
        let mut best: Vec<f64> = (0..5)
            .map(|_| {
                self.run(&path, &["--json", json.to_str().expect("a path")]);
                let results: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(&json).expect("results")).expect("JSON");
                results["cases"][0]["attempts"][0]["observation"]["elapsed_us"].as_f64().expect("a time") / 1e6
            })
            .collect();
        best.sort_by(f64::total_cmp);
        row("a case that fails in its handshake (median)", &format!("{:.3} s", best[2]), "0.3 s", "0.1 s");
    }

    fn quick(&self) {
        let quick = Path::new(ROOT).join("scenarios/quick.yaml");
        self.run(&quick, &[]);
        let mut walls: Vec<f64> = (0..3).map(|_| self.run(&quick, &[]).as_secs_f64()).collect();
        walls.sort_by(f64::total_cmp);
        row("quick.yaml, peers built (median of 3)", &format!("{:.2} s", walls[1]), "6 s", "3 s");
    }

    #[expect(clippy::unused_self, reason = "a part like the others")]
    /// From the start of a server program to its first line, by itself and through a stand-in with
    /// everything that a run does there but the relay: pairs, one after the other.
    fn stand_in(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let mut added: Vec<f64> = runtime.block_on(async {
            let scratch = Scratch::new().expect("a folder");
            let hub = Hub::bind(scratch.path()).expect("a hub");
            let server = ["/bin/sh", "-c", "echo line"].map(str::to_owned);
            let own = server.to_vec();
            let composer = Composer::new(move |_| Ok(StartOrder { argv: Some(own.clone()), ..StartOrder::default() }));
            let mut ticket =
                hub.ticket(TicketSpec { composer: Some(composer), ..TicketSpec::default() }).expect("a ticket");
            let path = hub.stand_in(&ticket, scratch.path()).expect("a stand-in");
            // Lines are passed on as they are.
            tokio::spawn(async move { while ticket.events.recv().await.is_some() {} });
            tokio::task::spawn_blocking(move || {
                let bare = || to_first_line(Command::new(&server[0]).args(&server[1..]));
                (0..STARTS).map(|_| (bare(), to_first_line(&mut Command::new(&path)))).map(|(a, b)| b - a).collect()
            })
            .await
            .expect("starts")
        });
        added.sort_by(f64::total_cmp);
        let spread = format!("{:.1} ({:.1}-{:.1}) ms", added[STARTS / 2], added[STARTS / 10], added[STARTS * 9 / 10]);
        row("a server's start through a stand-in, added (200; 10-90 %)", &spread, "5 ms", "3 ms");
    }

    fn bare_host(&self) {
        let go = Path::new(ROOT).join("fixtures/peers/go");
        let built = self.home.join("bare");
        let ok = Command::new("go")
            .args(["build", "-trimpath", "-o"])
            .arg(built.join(""))
            .args(["./cmd/barecycle", "./cmd/soup-go-plugin"])
            .current_dir(&go)
            .status()
            .is_ok_and(|s| s.success());
        if !ok {
            return row("stock go x go against a bare go-plugin host", "no Go", "1.25", "1.1");
        }
        let mut text = String::from("soupscen: 1\nname: cycles\npeers:\n");
        let _ = writeln!(text, "  go: {{ from: {} }}", go.join("peer.yaml").display());
        let _ = write!(
            text,
            "matrix:\n  isolation: case\n  axes:\n    client: [go]\n    server: [go]\n    launch: [plugin]\n    tls: [auto]\n    n: {{ values: [{}], affects: call }}\n{PUT_GET}",
            (0..CYCLES).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
        );
        let scenario = self.scenario("cycles", &text);
        self.run(&scenario, &["--jobs", "1"]);
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let out = Command::new(built.join("barecycle"))
                .args(["-n", &CYCLES.to_string()])
                .arg(built.join("soup-go-plugin"))
                .output()
                .expect("barecycle runs");
            assert!(out.status.success(), "barecycle: {}", String::from_utf8_lossy(&out.stderr));
            let bare = started.elapsed();
            let ours = self.run(&scenario, &["--jobs", "1"]);
            ratios.push(ours.as_secs_f64() / bare.as_secs_f64());
        }
        ratios.sort_by(f64::total_cmp);
        let spread = format!("{:.2} ({:.2}-{:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
        row("stock go x go, fresh plugin per case, over a bare Go host", &spread, "1.25", "1.1");
    }
}

/// Milliseconds from the start of a program to its first line.
fn to_first_line(command: &mut Command) -> f64 {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let came = started.elapsed();
    assert_eq!(line, "line\n");
    child.wait().expect("its end");
    came.as_secs_f64() * 1e3
}

const PUT_GET: &str = "scripts:\n  put-get:\n    ops:\n      - put: { key: \"{{ case.slug }}\", value: \"hello from {{ client.name }}\" }\n      - get: { key: \"{{ case.slug }}\" }\n        expect: { value: \"hello from {{ client.name }}\" }\n";

/// A scenario of so many cases that differ in nothing that matters.
fn matrix(axes: &str, isolation: &str, cases: usize) -> String {
    let inner = 100;
    let list = |n: usize| (0..n).map(|i| format!("v{i}")).collect::<Vec<_>>().join(", ");
    format!(
        "soupscen: 1\nname: bench\npeers: {{ rust: {{ builtin: {{}} }} }}\nmatrix:\n  isolation: {isolation}\n  axes:\n    client: [rust]\n    server: [rust]\n    {axes}\n    outer: {{ values: [{}], affects: call }}\n    inner: {{ values: [{}], affects: call }}\n{PUT_GET}",
        list(cases / inner),
        list(inner),
    )
}
