//! How far an attempt has come: the time that it stood in the engine's own queue, which is not the
//! case's, and the senses of the connection that is being made, should it never come to be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::senses::Senses;
use crate::event::PeerCommand;

/// Of one attempt, shared by its connections.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    queued: Duration,
    /// How many of its starts are in the queue, and since when there is one.
    waiting: u32,
    since: Option<Instant>,
    begun: Option<Begun>,
}

/// A connection that is being made.
#[derive(Clone)]
pub(super) struct Begun {
    pub(super) senses: Arc<Senses>,
    pub(super) commands: Vec<PeerCommand>,
}

impl Progress {
    /// A new attempt.
    pub(super) fn reset(&self) {
        *self.state() = State::default();
    }

    /// It stands in the queue as long as the answer lives.
    pub(super) fn queue(&self) -> Queued<'_> {
        let mut state = self.state();
        state.waiting += 1;
        state.since.get_or_insert_with(Instant::now);
        Queued(self)
    }

    /// What `work` gives within `budget`, to which the time in the queue is added.
    pub(super) async fn within<T>(&self, budget: Duration, work: impl Future<Output = T>) -> Option<T> {
        let started = Instant::now();
        let mut work = std::pin::pin!(work);
        loop {
            let end = started + budget + self.queued();
            if let Ok(done) = tokio::time::timeout_at(end, &mut work).await {
                return Some(done);
            }
            // It stood in the queue meanwhile.
            if started + budget + self.queued() <= end {
                return None;
            }
        }
    }

    /// How long at least one of its starts stood in the queue.
    pub(super) fn queued(&self) -> Duration {
        let state = self.state();
        state.queued + state.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// A connection is being made.
    pub(super) fn begin(&self, senses: &Arc<Senses>, commands: &[PeerCommand]) {
        self.state().begun = Some(Begun { senses: Arc::clone(senses), commands: commands.to_vec() });
    }

    /// The newest connection that was begun.
    pub(super) fn begun(&self) -> Option<Begun> {
        self.state().begun.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue.
pub(super) struct Queued<'a>(&'a Progress);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0
            && let Some(since) = state.since.take()
        {
            state.queued += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn time_in_the_queue_counts_once_however_many_wait() {
        let progress = Progress::default();
        assert_eq!(progress.queued(), Duration::ZERO);
        let begun = Instant::now();
        let (first, other) = (progress.queue(), progress.queue());
        tokio::time::sleep(SHORT).await;
        drop(first);
        tokio::time::sleep(SHORT).await;
        assert!(progress.queued() >= 2 * SHORT, "one still waits");
        drop(other);
        let total = progress.queued();
        assert!(total <= begun.elapsed(), "no wait is counted twice");
        tokio::time::sleep(SHORT).await;
        assert_eq!(progress.queued(), total, "nobody waits");
        progress.reset();
        assert_eq!(progress.queued(), Duration::ZERO);
    }

    #[tokio::test]
    async fn the_queue_is_not_at_the_cost_of_the_work() {
        let budget = Duration::from_secs(2);
        let work = async |progress: &Progress, queue: Duration, own: Duration| {
            for _ in 0..2 {
                let queued = progress.queue();
                tokio::time::sleep(queue).await;
                drop(queued);
                tokio::time::sleep(own).await;
            }
        };
        let progress = Progress::default();
        let (queued, own) = (budget * 3 / 5, budget / 20);
        assert_eq!(progress.within(budget, work(&progress, queued, own)).await, Some(()), "nearly all of it was queue");
        let progress = Progress::default();
        let (queued, own) = (budget / 20, budget * 3 / 5);
        assert_eq!(progress.within(budget, work(&progress, queued, own)).await, None, "nearly all of it was work");
    }
}
