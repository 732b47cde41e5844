//! What planning costs: a million cases from five axes with capabilities, 20 excludes and 50
//! expectations. Run with `cargo bench --bench plan`; each figure is the median of several, the
//! memory is the peak of the whole process up to that line (Linux).
#![allow(clippy::print_stdout, reason = "a bench is a program whose figures are read")]

#[path = "../tests/plan_support/mod.rs"]
mod plan_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plan_support::Draft;
use soupscen::plan::{Plan, Selection, Shard};
use soupscen::scenario::model::{RuleOutcome, Scenario};

/// 10 clients × 10 servers × 10 keys × 100 sizes × 10 scripts-like levels, one script: 1,000,000.
fn million() -> Arc<Scenario> {
    let mut draft = Draft::new();
    let names = |prefix: &str, count: usize| (0..count).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>();
    let (clients, servers) = (names("c", 10), names("s", 10));
    for (at, name) in clients.iter().chain(&servers).enumerate() {
        // Every third peer lacks something, every fourth has it under a condition.
        let tls: &[&str] = match at % 4 {
            0 => &["*"],
            1 => &["service.*", "launch.*", "key.p256", "key.p384", "tls.*"],
            2 => &["service.*", "launch.*", "key.* when size in [z1, z2, z3]", "tls.mutual"],
            _ => &["service.*", "launch.*", "key.*", "tls.mutual", "tls.server"],
        };
        draft.peer(name, tls, tls);
    }
    fn texts(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }
    draft.axis("client", &texts(&clients)).axis("server", &texts(&servers));
    draft.axis("tls", &["server", "mutual"]);
    draft.axis("size", &texts(&names("z", 100)));
    draft.axis("level", &texts(&names("l", 50)));
    for at in 0..20 {
        draft.exclude(&match at % 4 {
            0 => format!("client == c{} and server == s{} and level == l{at}", at % 10, at / 2),
            1 => format!("size in [z{at}, z{}] and level == l{} and tls == mutual", at + 1, at % 5),
            2 => format!("not (client != c{}) and not (size != z{at}) and level in [l1, l2]", at % 10),
            _ => format!("server.name == s{} and tls == server and level == l{at} and size != z1", at % 10),
        });
    }
    for at in 0..50 {
        let when = match at % 5 {
            0 => format!("client == c{} and server == s{} and tls == mutual", at % 10, at / 5),
            1 => format!("size == z{at} and level in [l1, l2, l{}]", at % 50),
            2 => format!("client.name ~ \"c{}*\" and (level == l{at} or size == z{at})", at % 10),
            3 => format!("server == s{} and not (client in [c1, c2, c3]) and size == z{}", at % 10, at * 2),
            _ => format!("level == l{at} and tls == server and client != c1"),
        };
        draft.rule(&format!("r{at}"), &when, RuleOutcome::Failed);
    }
    draft.finish()
}

fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[runs / 2]
}

/// Peak resident memory of this process in MiB; 0 where the system does not tell.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn main() {
    let scenario = million();
    let before = peak_mib();
    let plan = Plan::new(Arc::clone(&scenario), false).expect("the scenario has no mistakes").0;
    let counts = plan.count(&Selection::default());
    println!("cases {} run {} unsupported {} known {}", counts.selected, counts.run, counts.unsupported, counts.known);
    let left_out: u64 = plan.exclusions().iter().map(|exclusion| exclusion.cases).sum();
    println!("rows {}", counts.selected + left_out);
    let show = |what: &str, time: Duration| {
        println!(
            "{what:<28} {:>9.1} ms   peak {:>6.1} MiB (+{:.1})",
            time.as_secs_f64() * 1e3,
            peak_mib(),
            peak_mib() - before
        );
        time
    };
    let planning = show("plan and count all", median(5, || drop(Plan::new(Arc::clone(&scenario), false))));
    let filter = soupscen::filter::parse(soupscen::diag::SourceId(9), 0, "client == c1 and key != p256 or level == l7")
        .expect("it is one");
    let filtered = Selection { filter: Some(filter.into()), ..Selection::default() };
    show("count a filter", median(5, || assert!(plan.count(&filtered).selected > 0)));
    let shard = Selection { shard: Shard::new(2, 5), ..Selection::default() };
    show("count a shard", median(3, || assert!(plan.count(&shard).selected > 0)));
    let walking = show(
        "go through all",
        median(3, || assert_eq!(plan.cases(&Selection::default()).count() as u64, counts.selected)),
    );
    show("go through a shard", median(3, || assert!(plan.cases(&shard).count() > 0)));
    let described = median(1, || {
        let bytes: usize =
            plan.cases(&Selection::default()).map(|case| plan.id(&case).len() + plan.slug(&case).len()).sum();
        assert!(bytes > 0);
    });
    show("id and slug of all", described);
    println!("going through / counting = {:.1}", walking.as_secs_f64() / planning.as_secs_f64());
}
