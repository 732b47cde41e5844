//! Wishes of the outside that the run ends. Read by `exec`, which decides what a first and a second
//! one mean.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Two of these within this time are one: `timeout` and process supervisors signal a process and
/// then its group, and the guard passes on what its group has had as well.
const ONE_WISH: Duration = Duration::from_millis(250);

/// Ctrl-C, SIGTERM and SIGHUP, each wish once.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    last: Option<Instant>,
}

impl Interrupts {
    /// Takes these signals over: from now on they end nothing by themselves.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            last: None,
        })
    }

    /// Resolves with the signal's number at the next wish. Safe to drop and ask again.
    pub async fn next(&mut self) -> i32 {
        loop {
            let number = tokio::select! {
                _ = self.interrupt.recv() => nix::libc::SIGINT,
                _ = self.terminate.recv() => nix::libc::SIGTERM,
                _ = self.hangup.recv() => nix::libc::SIGHUP,
            };
            let now = Instant::now();
            let repeated = self.last.is_some_and(|last| now.duration_since(last) < ONE_WISH);
            if !repeated {
                self.last = Some(now);
                return number;
            }
        }
    }
}
