//! What process tests share: a process that hides, and looking whether one lives.

use std::path::Path;
use std::time::{Duration, Instant};

/// A shell line that starts a process without environment, in a session of its own and forked
/// twice, which writes its pid to `file`; the line goes on once it has.
pub fn stray(file: &Path) -> String {
    let file = file.display();
    format!(
        "env -i setsid /bin/sh -c '/bin/sh -c \"echo \\$\\$ > {file}.part; mv {file}.part {file}; exec sleep 600\" \
         >/dev/null 2>&1 </dev/null &' >/dev/null 2>&1; while [ ! -e {file} ]; do sleep 0.01; done"
    )
}

/// Whether a process runs (a zombie does not).
pub fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

/// The pid that a stray wrote.
pub fn pid_in(file: &Path) -> i32 {
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// Waits, within reason, for something that no event tells of.
#[allow(dead_code, reason = "used by one of the two test programs")]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
