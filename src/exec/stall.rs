//! The last resort: ends a run that stands still. Every wait of a case has an end, so a run in which
//! nothing moves for longer than all of them has met a bug of the engine, and would stand for ever:
//! with the runtime's workers blocked no timer fires any more. Hence a thread that needs nothing of
//! the runtime. It gives the cases that were under way a verdict, so that all reports are written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::case::could_not_run;
use crate::event::{CaseRecord, RunEvent};
use crate::outcome::{Cause, Certainty, Phase};
use crate::scenario::model::Timeouts;

/// Time between two looks. A look counts as one, however long ago the last one was: the time in
/// which the whole process was stopped (Ctrl-Z) is nobody's.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a machine may be slower than the budgets of a case foresee.
const SLACK: Duration = Duration::from_mins(1);

/// Whether a run was ended because it stood still. Its last event is its end then, and whoever
/// reports has to end the process, since the engine cannot.
#[derive(Debug, Clone, Default)]
pub struct Stalled(Arc<AtomicBool>);

impl Stalled {
    /// Whether it was.
    #[must_use]
    pub fn is(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Watches that a run moves. Its thread ends with it.
pub(super) struct Pulse(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    /// The cases under way, as they are recorded if they never end.
    running: BTreeMap<u64, CaseRecord>,
    winding_down: bool,
    moves: u64,
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// Begins to watch. Without a thread for it, nothing is watched.
    pub(super) fn watch(
        timeouts: &Timeouts,
        started: Instant,
        events: mpsc::Sender<RunEvent>,
        stalled: Stalled,
    ) -> Self {
        let pulse = Self(Arc::default());
        // What one attempt may take: both drivers' starts, the case, the end of its servers.
        let limit = timeouts.case + 2 * timeouts.start + timeouts.grace + SLACK;
        let shared = Arc::clone(&pulse.0);
        let watch = move || {
            if let Some(records) = stands_still(&shared, LOOK_EVERY, limit) {
                stalled.0.store(true, Ordering::SeqCst);
                tell(records, limit, started.elapsed(), &events);
            }
        };
        let _ = std::thread::Builder::new().name("stall-watch".into()).spawn(watch);
        pulse
    }

    /// A case is under way; `record` is its record without attempts.
    pub(super) fn begin(&self, record: CaseRecord) {
        let mut state = self.0.state();
        state.moves += 1;
        state.running.insert(record.index, record);
    }

    /// A case came one step further.
    pub(super) fn moved(&self) {
        self.0.state().moves += 1;
    }

    /// A case is over.
    pub(super) fn end(&self, index: u64) {
        let mut state = self.0.state();
        state.moves += 1;
        state.running.remove(&index);
    }

    /// No case is under way any more, and everything is being taken down.
    pub(super) fn wind_down(&self) {
        let mut state = self.0.state();
        state.moves += 1;
        state.running.clear();
        state.winding_down = true;
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.over.notify_all();
    }
}

/// Looks until it is over, or until nothing has moved for `limit` although something should have:
/// then the cases that were under way.
fn stands_still(shared: &Shared, every: Duration, limit: Duration) -> Option<Vec<CaseRecord>> {
    let mut state = shared.state();
    let mut still = Still::default();
    while !state.over {
        let looked;
        (state, looked) = shared.over.wait_timeout(state, every).unwrap_or_else(PoisonError::into_inner);
        if looked.timed_out() && still.after(every, &state) >= limit {
            return Some(std::mem::take(&mut state.running).into_values().collect());
        }
    }
    None
}

/// For how long nothing has moved.
#[derive(Default)]
struct Still {
    moves: u64,
    time: Duration,
}

impl Still {
    /// The same after one more look.
    fn after(&mut self, time: Duration, state: &State) -> Duration {
        let busy = state.winding_down || !state.running.is_empty();
        self.time = if busy && self.moves == state.moves { self.time + time } else { Duration::ZERO };
        self.moves = state.moves;
        self.time
    }
}

fn tell(records: Vec<CaseRecord>, limit: Duration, elapsed: Duration, events: &mpsc::Sender<RunEvent>) {
    let text = format!(
        "nothing has moved for {} s, and no budget allows that: the engine stands still, which is a bug of soupscen; \
         please report it, with the run's journal",
        limit.as_secs()
    );
    for mut record in records {
        let cause = Cause { code: "engine.stalled".into(), certainty: Certainty::Observed, text: text.clone() };
        record.attempts.push(could_not_run(Phase::Teardown, cause));
        let _ = events.blocking_send(RunEvent::CaseFinished(Box::new(record)));
    }
    let _ = events.blocking_send(RunEvent::Note { text, place: None });
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let _ = events.blocking_send(RunEvent::RunFinished { interrupted: true, elapsed_ms });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Ending, Expected};

    const LOOK: Duration = Duration::from_millis(1);

    fn record(index: u64) -> CaseRecord {
        CaseRecord {
            index,
            key: index.to_string(),
            id: format!("case {index}"),
            scenario: "s".into(),
            script: "t".into(),
            axes: BTreeMap::new(),
            expected: Expected::Passed,
            flaky_allowed: false,
            attempts: Vec::new(),
            not_run: None,
            started_ms: 0,
        }
    }

    fn pulse() -> (Pulse, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        (Pulse(Arc::clone(&shared)), shared)
    }

    #[test]
    fn what_is_under_way_and_never_moves_is_given_a_verdict() {
        let (pulse, shared) = pulse();
        (0..3).for_each(|index| pulse.begin(record(index)));
        pulse.end(1);
        let still = stands_still(&shared, LOOK, 5 * LOOK).expect("nothing moves");
        assert_eq!(still.iter().map(|record| record.index).collect::<Vec<_>>(), [0, 2]);

        let (events, mut told) = mpsc::channel(9);
        tell(still, Duration::from_secs(95), Duration::from_millis(7), &events);
        for index in [0, 2] {
            let Some(RunEvent::CaseFinished(record)) = told.blocking_recv() else { panic!("a case") };
            let observation = &record.attempts[0].observation;
            assert_eq!((record.index, observation.ending), (index, Ending::CouldNotRun));
            assert_eq!(observation.cause.as_ref().unwrap().code, "engine.stalled");
            assert!(record.verdict().is_red());
        }
        assert!(matches!(told.blocking_recv(), Some(RunEvent::Note { text, .. }) if text.contains("95 s")));
        assert_eq!(told.blocking_recv(), Some(RunEvent::RunFinished { interrupted: true, elapsed_ms: 7 }));
    }

    #[test]
    fn a_run_that_moves_or_waits_for_nothing_is_left_alone() {
        let (pulse, shared) = pulse();
        let mut still = Still::default();
        let mut look = || still.after(LOOK, &shared.state());
        assert_eq!([look(), look()], [Duration::ZERO; 2], "no case is under way");
        pulse.begin(record(0));
        pulse.begin(record(1));
        assert_eq!([look(), look(), look()], [Duration::ZERO, LOOK, 2 * LOOK]);
        pulse.moved();
        assert_eq!([look(), look()], [Duration::ZERO, LOOK]);
        pulse.end(0);
        assert_eq!([look(), look()], [Duration::ZERO, LOOK]);
        pulse.end(1);
        assert_eq!([look(), look()], [Duration::ZERO; 2]);
    }

    #[test]
    fn the_thread_ends_with_the_run() {
        let (pulse, shared) = pulse();
        pulse.begin(record(0));
        let watching = std::thread::spawn(move || stands_still(&shared, LOOK, Duration::MAX));
        drop(pulse);
        assert!(watching.join().unwrap().is_none());
    }

    #[test]
    fn the_end_of_a_run_is_watched_too() {
        let (pulse, shared) = pulse();
        pulse.begin(record(0));
        pulse.wind_down();
        assert_eq!(stands_still(&shared, LOOK, 5 * LOOK).map(|still| still.len()), Some(0));
    }
}
