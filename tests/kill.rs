//! Runs that are killed at random moments: whichever of their processes it is, and however it is
//! told, nothing of the run stays, the journal can be read, and `--resume` runs what is missing.
//!
//! `SOUPSCEN_KILLS` says how many runs are killed, `SOUPSCEN_KILL_SEED` which choices are made; a
//! failure names the seed that repeats it alone.

#[path = "support/run.rs"]
mod run;
#[path = "support/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{self, SIGINT, SIGKILL, SIGTERM};
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use run::{Going, Place, Ran, Results, SOUPSCEN, eventually, text};
use tree::Part;

/// Runs that are killed in an ordinary test.
const KILLS: u64 = 20;
/// Runs at once: enough to overlap, few enough to stay apart.
const AT_ONCE: usize = 4;
/// Longest time that a run is let be before somebody is chosen in it.
const LATEST_MS: u64 = 700;
/// Cases in flight: what a driver takes with it that ends in order when it is told to.
const IN_FLIGHT: usize = 4;
/// Cases of the scenario without a Go peer.
const CASES: usize = 24;

#[test]
fn a_run_that_is_killed_leaves_nothing_and_goes_on_where_it_was() {
    // What escapes a run comes to this process, and is found at the end.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let kills = number("SOUPSCEN_KILLS").unwrap_or(KILLS);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("SOUPSCEN_KILL_SEED").unwrap_or(now.as_secs());
    let peers = Peers::here();
    let (next, seen) = (AtomicU64::new(0), Mutex::new(BTreeMap::<String, u64>::new()));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= kills {
                        return;
                    }
                    let seed = seed + round;
                    let ended = std::panic::catch_unwind(|| killed(seed, peers));
                    match ended {
                        Ok(what) => *seen.lock().unwrap().entry(what).or_default() += 1,
                        Err(_) => failed.lock().unwrap().push(seed),
                    }
                }
            });
        }
    });
    println!("{kills} killed runs from seed {seed}: {:#?}", seen.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "repeat each alone with SOUPSCEN_KILLS=1 SOUPSCEN_KILL_SEED=N: {failed:?}");
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|got| got.pid().is_some()) {}
    let me = i32::try_from(std::process::id()).unwrap();
    assert_eq!(tree::children_of_all().get(&me), None, "something escaped its run");
}

/// A run that is killed once or twice and then resumed; gives what was done to it.
fn killed(seed: u64, peers: Peers) -> String {
    let mut dice = Dice(seed);
    let place = Place::new();
    let cases = scenario(&place, peers);
    let mut told = Vec::new();
    let mut harmed = false;
    for _ in 0..=u64::from(dice.below(4) == 0) {
        let blow = Blow::chosen(&mut dice);
        let before = Journal::read(&place);
        let ran = struck(&place, &blow, before.is_some());
        harmed |= blow.harms();
        told.push(format!("{:?} {}", blow.whom, blow.signal));
        nothing_is_left(&place, &blow);
        blow.judge(&ran, before.as_ref(), &place);
        kept(before.as_ref(), Journal::read(&place).as_ref());
    }
    let Some(before) = Journal::read(&place) else {
        place.run(["run", "--resume", "latest"]).exits(2).says("there is no run `latest`");
        place.run(["run", "kill.yaml"]).exits(0);
        return told.join(", then ");
    };
    // Told before it is resumed, as far as it came.
    let (code, early) = report(&place, "early.json");
    assert_eq!(early.cases().len(), before.cases.len());
    assert!(code == 130 || before.ended, "{code}");
    let ran = place.run(["run", "--resume", "latest", "--json", "all.json"]);
    let all = Results::read(&place.at("all.json")).unwrap_or_else(|error| panic!("{error}\n{ran}"));
    assert_eq!(all.verdicts().len(), cases, "{ran}");
    assert_eq!(all.cases().len(), cases, "{ran}");
    let after = Journal::read(&place).unwrap();
    kept(Some(&before), Some(&after));
    for (key, times) in &after.cases {
        let missing = !before.done.contains_key(key);
        assert_eq!(*times, before.cases.get(key).copied().unwrap_or(0) + usize::from(missing), "{key}\n{ran}");
    }
    // Only a blow to a peer may cost a case its verdict; the engine's own death costs nothing.
    let red: Vec<_> = all.cases().iter().filter(|case| case["verdict"] != "passed").collect();
    assert!(harmed || red.is_empty(), "after {told:?}\n{ran}");
    assert!(red.len() <= told.len() * IN_FLIGHT, "{} cases were lost to {told:?}\n{ran}", red.len());
    for case in &red {
        let cause = &run::observation(case)["cause"];
        assert!(!text(&cause["code"]).is_empty() && !text(&cause["text"]).is_empty(), "{case:#}");
    }
    assert_eq!(ran.code(), status(&all), "{ran}");
    assert_eq!(report(&place, "late.json").0, ran.code());
    assert_eq!(place.read("late.json"), place.read("all.json"));
    told.join(", then ")
}

/// Starts the run, or goes on with it, and strikes.
fn struck(place: &Place, blow: &Blow, resume: bool) -> Ran {
    let mut command = place.soupscen();
    command.args(if resume { ["run", "--resume", "latest"] } else { ["run", "kill.yaml", "-v"] });
    command.arg(format!("--jobs={IN_FLIGHT}"));
    let mut going = Going::start(command);
    std::thread::sleep(blow.after);
    while going.is_running() {
        if blow.whom == Whom::Group {
            going.signal_group(blow.signal);
            break;
        }
        let there: Vec<i32> = tree::parts(going.pid())
            .into_iter()
            .filter(|(_, part)| blow.whom == Whom::One(*part))
            .map(|p| p.0)
            .collect();
        let chosen = usize::try_from(blow.which).unwrap() % there.len().max(1);
        if let Some(pid) = there.get(chosen)
            && kill(Pid::from_raw(*pid), blow.signal).is_ok()
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    going.end()
}

/// Whom a blow is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// One process of this part.
    One(Part),
    /// The foreground group, guard and engine.
    Group,
}

struct Blow {
    whom: Whom,
    signal: Signal,
    after: Duration,
    /// Which of several.
    which: u64,
}

impl Blow {
    fn chosen(dice: &mut Dice) -> Self {
        use Part::{Cleaner, Engine, Guard, Keeper, Program, ShimFront, ShimKeeper};
        let whom = match dice.below(15) {
            0..3 => Whom::One(Guard),
            3..6 => Whom::One(Engine),
            6..8 => Whom::Group,
            8..10 => Whom::One(Program),
            10 | 11 => Whom::One(Keeper),
            12 => Whom::One(ShimFront),
            13 => Whom::One(ShimKeeper),
            _ => Whom::One(Cleaner),
        };
        let signal = [SIGKILL, SIGTERM, SIGINT][usize::try_from(dice.below(3)).unwrap()];
        Self { whom, signal, after: Duration::from_millis(dice.below(LATEST_MS)), which: dice.below(1 << 20) }
    }

    fn ends_the_run(&self) -> bool {
        matches!(self.whom, Whom::Group | Whom::One(Part::Guard | Part::Engine))
    }

    /// Whether it may cost a case its verdict.
    fn harms(&self) -> bool {
        !self.ends_the_run() && self.whom != Whom::One(Part::Cleaner)
    }

    /// Whether the run ended as it should, so struck.
    fn judge(&self, ran: &Ran, before: Option<&Journal>, place: &Place) {
        let journal = Journal::read(place);
        let own = || Results::of_latest(place).map(|results| status(&results));
        let (code, signal) = (ran.status.code(), ran.status.signal());
        if journal.as_ref().is_some_and(|journal| journal.ended && !journal.interrupted) {
            // It was at its end already, or the blow was for a peer.
            assert!(code == own() || (self.ends_the_run() && signal == Some(self.signal as i32)), "{code:?} {ran}");
            return;
        }
        assert!(self.ends_the_run(), "a peer's process ended the run: {ran}");
        // Until a run has begun, a signal ends it as it would any program.
        let begun = journal.map_or(0, |journal| journal.heads) > before.map_or(0, |journal| journal.heads);
        let plain = signal == Some(self.signal as i32) && (self.signal == SIGKILL || !begun);
        assert!(plain || (code == Some(130) && self.signal != SIGKILL), "{} {ran}", self.signal);
    }
}

/// Nothing of the run is left: no process, no socket, no folder.
fn nothing_is_left(place: &Place, blow: &Blow) {
    // A guard that was killed cannot wait for its engine; all else is gone when the run is.
    let orphaned = blow.signal == SIGKILL && matches!(blow.whom, Whom::Group | Whom::One(Part::Guard));
    let asked = Instant::now();
    if orphaned {
        eventually("all processes are gone", || place.processes().is_empty());
        assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    }
    assert!(place.processes().is_empty(), "{:#?}", place.processes());
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let mark = place.path().to_str().unwrap();
    assert!(!sockets.contains(mark), "{sockets}");
    let left: Vec<_> = std::fs::read_dir(place.at("tmp")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{:?} {} left {left:?} with {:#?}", blow.whom, blow.signal, place.files("tmp"));
}

/// What the newest run's journal says.
struct Journal {
    /// Case key → records.
    cases: BTreeMap<String, usize>,
    /// Of those that need not run again, the last record.
    done: BTreeMap<String, String>,
    /// How often it was begun.
    heads: usize,
    /// Its last line ends the run.
    ended: bool,
    interrupted: bool,
}

impl Journal {
    /// `None` when no run has begun.
    fn read(place: &Place) -> Option<Self> {
        let text = std::fs::read_to_string(place.at("home/runs/latest/events.jsonl")).ok()?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut journal =
            Self { cases: BTreeMap::new(), done: BTreeMap::new(), heads: 0, ended: false, interrupted: false };
        for line in whole.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let kind = run::text(&event["type"]);
            journal.heads += usize::from(kind == "run-started");
            journal.ended = kind == "run-finished";
            journal.interrupted = event["interrupted"] == true;
            if kind == "case-finished" {
                let key = run::text(&event["key"]).to_owned();
                *journal.cases.entry(key.clone()).or_default() += 1;
                let could_not_run = event["attempts"]
                    .as_array()
                    .and_then(|a| a.last())
                    .is_none_or(|attempt| attempt["observation"]["ending"] == "could-not-run");
                if could_not_run {
                    journal.done.remove(&key);
                } else {
                    journal.done.insert(key, line.to_owned());
                }
            }
        }
        Some(journal)
    }
}

/// What was done stays as it was.
fn kept(before: Option<&Journal>, after: Option<&Journal>) {
    let Some(before) = before else { return };
    let after = after.expect("a journal that was there is gone");
    for (key, record) in &before.done {
        assert_eq!(after.done.get(key), Some(record), "{key} was done, and was lost or done again");
    }
}

impl Results {
    /// The newest run, told again.
    fn of_latest(place: &Place) -> Option<Self> {
        place.run(["report", "latest", "--json", "told.json"]);
        Self::read(&place.at("told.json")).ok()
    }
}

fn report(place: &Place, file: &str) -> (i32, Results) {
    let ran = place.run(["report", "latest", "--json", file]);
    let results = Results::read(&place.at(file)).unwrap_or_else(|error| panic!("{error}\n{ran}"));
    (ran.code(), results)
}

/// The exit status that a whole run's verdicts give (`docs/verdicts.md`).
fn status(results: &Results) -> i32 {
    let counts = results.counts();
    let of = |verdict: &str| counts.get(verdict).copied().unwrap_or(0);
    let red = counts.values().sum::<usize>() - of("passed") - of("errored");
    match (red, of("errored")) {
        (0, 0) => 0,
        (0, _) => 3,
        _ => 1,
    }
}

/// Which real peers take part.
#[derive(Debug, Clone, Copy)]
struct Peers {
    go: bool,
}

impl Peers {
    fn here() -> Self {
        Self { go: run::toolchains(&["go"]) }
    }
}

/// A plugin that takes its time.
const PLUGIN: &str = r#"sleep 0.05; exec SOUPSCEN serve kv --storage "$KV_STORAGE_DIR""#;

/// The smallest client that looks like one: it greets the server in HTTP/2, and makes no call.
const DRIVER: &str = r#"
say() { printf '%s\n' "$1"; }
while read -r line; do
  id=${line#*'"id":"'} id=${id%%'"'*}
  case $line in
    *'"type":"hello"'*) say '{"type":"hello","contract":1,"roles":{"client":{"provides":["launch.direct","service.kv"]}}}' ;;
    *'"type":"connect"'*)
      port=${line#*'"tcp":"127.0.0.1:'} port=${port%%'"'*}
      exec {connection}<> "/dev/tcp/127.0.0.1/$port"
      printf 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0' >&"$connection"
      say "{\"type\":\"connected\",\"id\":\"$id\"}" ;;
    *'"type":"call"'*)
      seq=${line#*'"seq":'} seq=${seq%%[,\}]*}
      sleep 0.03
      say "{\"type\":\"result\",\"id\":\"$id\",\"seq\":$seq,\"status\":{\"code\":\"OK\"},\"receive\":[{\"m\":\"\"}]}" ;;
    *'"type":"close"'*) say "{\"type\":\"closed\",\"id\":\"$id\"}" ;;
    *'"type":"bye"'*) exit 0 ;;
  esac
done
"#;

/// Writes a scenario of about a second; gives how many cases it has.
fn scenario(place: &Place, peers: Peers) -> usize {
    let at = place.path().display();
    place.write("plugin.sh", &PLUGIN.replace("SOUPSCEN", SOUPSCEN));
    place.write("driver.sh", DRIVER);
    let go = format!("  go: {{ from: {}/fixtures/peers/go/peer.yaml }}\n", run::ROOT);
    let (go, more, others) = if peers.go { (go.as_str(), "go, ", 8) } else { ("", "", 0) };
    place.write(
        "kill.yaml",
        &format!(
            "soupscen: 1
name: kill
timeouts: {{ case: 60s, start: 50s, op: 50s, grace: 1s }}
peers:
  rust: {{ builtin: {{}} }}
{go}  slow:
    server:
      plugin: {{ run: [/bin/sh, {at}/plugin.sh], env: {{ KV_STORAGE_DIR: '{{{{ storage }}}}' }} }}
      provides: [service.kv, launch.plugin, tls.none, tls.auto]
  stub:
    client:
      driver: {{ run: [bash, {at}/driver.sh] }}
      provides: [service.kv, launch.direct, transport.tcp, tls.none]
matrix:
  axes: {{ client: [{more}rust, stub], server: [rust, slow], launch: [plugin, direct], tls: [none, auto], round: [a, b] }}
  exclude:
    - {{ when: launch == direct and (server == slow or tls == auto), reason: there is no such }}
    - {{ when: client == stub and launch == plugin, reason: it hosts nothing }}
{exclude_go}scripts:
  alone: {{ isolation: case, ops: [ {{ put: {{ key: k, value: v }} }}, {{ put: {{ key: k, value: w }} }} ] }}
  shared: {{ ops: [ {{ put: {{ key: '{{{{ case.slug }}}}', value: v }} }}, {{ put: {{ key: k, value: v }} }} ] }}
",
            exclude_go = if peers.go {
                "    - { when: client == go and (tls == auto or launch == direct), reason: enough without }\n"
            } else {
                ""
            }
        ),
    );
    CASES + others
}

/// Numbers that a seed decides (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
