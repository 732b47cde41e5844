//! How many files this process may have open. The soft limit is raised as far as it goes, as runtimes
//! with many sockets do; programs get the one that soupscen was started with. Read by `cli`, `keeper`.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than any run needs; some systems have a hard limit of a thousand million, for which some
/// programs make tables.
const ENOUGH: u64 = 65_536;

/// The soft limit as it was, 0 when it was not changed.
static BEFORE: AtomicU64 = AtomicU64::new(0);

/// Raises the soft limit and gives what holds now.
#[must_use]
pub fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return ENOUGH };
    let wanted = hard.min(ENOUGH);
    if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
        BEFORE.store(soft, Ordering::Relaxed);
        return wanted;
    }
    soft
}

/// Sets it as it was, for a program. Async-signal-safe.
pub(super) fn give_back() {
    let before = BEFORE.load(Ordering::Relaxed);
    if before > 0
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, before, hard);
    }
}
