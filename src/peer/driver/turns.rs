//! How many requests a driver takes at once (`max_in_flight`): the others wait here.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

pub(super) struct Turns {
    all: Semaphore,
    /// A `receive` may wait for what only a `send` brings about: there is always room for that.
    receives: Semaphore,
    most: usize,
}

/// The right to have one request under way.
pub(super) struct Turn<'a> {
    _own: SemaphorePermit<'a>,
    _receive: Option<SemaphorePermit<'a>>,
}

impl Turns {
    /// As many as the driver says; all at once where it says nothing.
    pub(super) fn new(most: Option<u32>) -> Self {
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(Semaphore::MAX_PERMITS);
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { all: Semaphore::new(most), receives: Semaphore::new((most - 1).max(1)), most }
    }

    /// The right to one more request; an error when none was free in time.
    pub(super) async fn take(&self, what: &str, within: Duration) -> Result<Turn<'_>, String> {
        let turn = async {
            let receive = if what == "receive" { self.receives.acquire().await.ok() } else { None };
            self.all.acquire().await.ok().map(|own| Turn { _own: own, _receive: receive })
        };
        let Ok(Some(turn)) = tokio::time::timeout(within, turn).await else {
            let most = self.most;
            return Err(format!(
                "`{what}` was not sent within {within:?}: it takes {most} requests at once (`max_in_flight`), and \
                 {most} were under way all the time"
            ));
        };
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn receives_leave_room_for_what_ends_them() {
        let within = Duration::from_millis(50);
        let turns = Turns::new(Some(2));
        let receive = turns.take("receive", within).await.ok();
        assert!(receive.is_some() && turns.take("receive", within).await.is_err());
        let send = turns.take("send", within).await.ok();
        assert!(send.is_some() && turns.take("call", within).await.is_err_and(|why| why.contains("takes 2 requests")));
        drop(receive);
        assert!(turns.take("call", within).await.is_ok());
        let unbounded = Turns::new(None);
        let mut many = Vec::new();
        for _ in 0..1000 {
            many.push(unbounded.take("call", within).await.unwrap());
        }
    }
}
