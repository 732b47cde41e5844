//! Watches what a run holds while it goes on: memory, descriptors and threads of the engine, and
//! compares the early part of the run with the late one. Shared by `tests/soak.rs` and
//! `benches/soak.rs`.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(20);

/// What the engine held at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Resident memory in KiB.
    pub rss: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Processor time that it has used so far, in clock ticks.
    #[allow(dead_code, reason = "only `benches/stock.rs` looks at it")]
    pub ticks: u64,
}

/// A run as it was watched, moment after moment.
pub struct Watched {
    pub samples: Vec<Sample>,
    pub status: ExitStatus,
}

/// Watches a run to its end. The engine is a child of the process that was started (its parent guards
/// it), the one that has threads: the cleaner beside it has none. Where there is no child (`report`),
/// it is that process itself.
pub fn watch(mut child: Child) -> Watched {
    let mut samples = Vec::new();
    let parent = child.id();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        let watched: Vec<Sample> = children_of(parent).into_iter().filter_map(sample).collect();
        samples.extend(watched.into_iter().max_by_key(|sample| sample.threads).or_else(|| sample(parent)));
        std::thread::sleep(EVERY);
    };
    Watched { samples, status }
}

fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn sample(pid: u32) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Sample { rss: number("VmRSS:")?, descriptors, threads: number("Threads:")?, ticks: ticks(pid)? })
}

/// User and system time: fields 14 and 15 of `/proc/PID/stat`, proc(5). The second may have spaces.
fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

impl Watched {
    /// The most of something in the second fifth of the run, when everything that is kept is up, and
    /// in the fourth; the last fifth has the teardown.
    pub fn early_and_late(&self, of: impl Fn(&Sample) -> u64) -> (u64, u64) {
        let fifth = self.samples.len() / 5;
        assert!(fifth >= 4, "the run was over before it could be watched: {} samples", self.samples.len());
        let most = |part: usize| self.samples[part * fifth..(part + 1) * fifth].iter().map(&of).max().unwrap_or(0);
        (most(1), most(3))
    }

    /// The most of something in the whole run.
    pub fn peak(&self, of: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(of).max().unwrap_or(0)
    }
}

/// A scenario of so many cases of one script that differ in nothing that matters.
pub fn matrix(axes: &str, isolation: &str, cases: usize) -> String {
    let inner = 100;
    let list = |n: usize| (0..n).map(|i| format!("v{i}")).collect::<Vec<_>>().join(", ");
    format!(
        "soupscen: 1\nname: soak\npeers: {{ rust: {{ builtin: {{}} }} }}\nmatrix:\n  isolation: {isolation}\n  axes:\n    \
         client: [rust]\n    server: [rust]\n    {axes}\n    outer: {{ values: [{}], affects: call }}\n    inner: {{ \
         values: [{}], affects: call }}\nscripts:\n  put-get:\n    ops:\n      - put: {{ key: \"{{{{ case.slug }}}}\", \
         value: \"{{{{ case.key }}}}\" }}\n      - get: {{ key: \"{{{{ case.slug }}}}\" }}\n        expect: {{ value: \
         \"{{{{ case.key }}}}\" }}\n",
        list(cases / inner),
        list(inner),
    )
}
