//! What the command line says about a run, resolved once.

use std::collections::HashSet;

use super::Debug;

/// Settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cases in flight. Default 4 × cores.
    pub jobs: usize,
    /// Connections and servers that are kept up although no case uses them, at most of each.
    pub idle: usize,
    /// Starts and builds at a time. Default one more than the cores: a start that waits for its disk
    /// or its peer leaves no core idle (`kv-matrix.yaml` took 51 s instead of 56 s).
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
    /// One side is started by hand.
    pub debug: Option<Debug>,
}

/// Descriptors of a run beside its connections: runtime, journal, reports, drivers.
const BASE_DESCRIPTORS: u64 = 40;
/// Descriptors of one connection with its server: pipes of the program, keeper, shim, relay and both
/// ends of what is relayed. Measured: 11.
const LANE_DESCRIPTORS: u64 = 12;
/// Fewer connections than this are no run: one in use, one being taken down.
const LEAST_LANES: u64 = 2;
/// Idle ones that are kept in any case.
const IDLE_KEPT: usize = 8;

fn idle(jobs: usize) -> usize {
    IDLE_KEPT.max(2 * jobs)
}

impl Settings {
    /// Sets how many cases are in flight, as far as so many open files allow it: a case that fails
    /// for want of them would say nothing of its peers. Gives a note where it had to be fewer.
    ///
    /// # Errors
    /// When not even one case has room: a sentence.
    pub fn fit(&mut self, jobs: usize, descriptors: u64) -> Result<Option<String>, String> {
        let lanes = descriptors.saturating_sub(BASE_DESCRIPTORS) / LANE_DESCRIPTORS;
        if lanes < LEAST_LANES {
            let least = BASE_DESCRIPTORS + LEAST_LANES * LANE_DESCRIPTORS;
            return Err(format!(
                "this process may have {descriptors} files open, and a run needs {least}; raise the limit with \
                 `ulimit -n`"
            ));
        }
        let lanes = usize::try_from(lanes).unwrap_or(usize::MAX);
        // One in use, two that are kept for the next case.
        self.jobs = jobs.min((lanes / 3).max(1));
        self.idle = idle(self.jobs).min(lanes - self.jobs);
        let fewer = self.jobs < jobs;
        Ok(fewer.then(|| {
            format!(
                "{} at once instead of {jobs}, since this process may have only {descriptors} files open; raise the \
                 limit with `ulimit -n`",
                self.jobs
            )
        }))
    }
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            jobs: 4 * cores,
            idle: idle(4 * cores),
            starts: cores + 1,
            probe_unsupported: false,
            require_peers: false,
            fail_fast: None,
            evidence_all: false,
            rebuild: false,
            finished: HashSet::new(),
            peer_log_level: None,
            debug: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_in_flight_fit_into_the_open_files() {
        let mut settings = Settings::default();
        assert_eq!(settings.fit(8, 65_536), Ok(None));
        assert_eq!((settings.jobs, settings.idle), (8, 16));
        assert!(settings.fit(8, 128).is_ok_and(|note| note.is_some_and(|note| note.contains("instead of 8"))));
        assert_eq!((settings.jobs, settings.idle), (2, 5));
        assert!(settings.fit(8, 64).is_ok());
        assert_eq!((settings.jobs, settings.idle), (1, 1));
        assert!(settings.fit(1, 63).is_err_and(|text| text.contains("ulimit -n")));
    }
}
