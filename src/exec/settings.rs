//! What the command line says about a run, resolved once.

use std::collections::HashSet;

/// Settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cases in flight. Default 4 × cores.
    pub jobs: usize,
    /// Starts and builds at a time. Default the number of cores.
    pub starts: usize,
    /// Execute what a capability or rule calls unsupported, as far as it can be.
    pub probe_unsupported: bool,
    /// A missing peer's cases are `errored`, whatever the scenario says.
    pub require_peers: bool,
    /// Stop admitting after so many red cases.
    pub fail_fast: Option<u64>,
    /// Keep evidence and transcripts of green cases too.
    pub evidence_all: bool,
    /// Build peers even if their cache is good.
    pub rebuild: bool,
    /// Keys of cases that a resumed run has finished already.
    pub finished: HashSet<String>,
    /// Log level handed to peers that take one (`LOG_LEVEL`).
    pub peer_log_level: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            jobs: 4 * cores,
            starts: cores,
            probe_unsupported: false,
            require_peers: false,
            fail_fast: None,
            evidence_all: false,
            rebuild: false,
            finished: HashSet::new(),
            peer_log_level: None,
        }
    }
}
