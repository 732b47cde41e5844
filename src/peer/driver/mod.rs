//! External peers that speak the driver contract: one long-lived process per peer and role, which
//! serves many cases. `message` is the contract, `link` the correlation, this file the roles. L4.

mod link;
pub mod message;
mod roles;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use self::link::{Link, LinkError, Slot};
use self::message::{CONTRACT, Reply, Request};
use super::PeerError;
use crate::outcome::evidence::Reported;
use crate::outcome::{Cause, Certainty, Phase};

/// What the engine adds to every deadline before it gives a driver up.
pub const DRIVER_SLACK: Duration = Duration::from_millis(500);
/// What a driver may take to end after `bye`.
const BYE_WITHIN: Duration = Duration::from_secs(2);
/// Budget for the answer to `hello`, beside the peer's own start budget.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// A started driver program.
pub struct Started {
    /// Its stdin.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its stdout.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Keeps the process; dropping it ends its tree.
    pub process: Arc<dyn DriverProcess>,
}

/// What the driver layer needs of a process.
pub trait DriverProcess: Send + Sync {
    /// One line on its state for error messages: running or how it ended, and its last words.
    fn account(&self) -> String;
    /// Its output so far on stderr, bounded.
    fn stderr(&self) -> String;
    /// Ends it and its tree.
    fn kill(&self);
}

/// Starts the driver program; called again after one broke.
pub type Start = Arc<dyn Fn() -> BoxFuture<'static, Result<Started, String>> + Send + Sync>;

/// A driver program as a peer: implements both roles, of which a scenario may use one.
#[derive(Clone)]
pub struct Driver {
    name: Arc<str>,
    start: Start,
    running: Arc<Mutex<Option<Arc<Running>>>>,
    starts: Arc<AtomicU64>,
}

struct Running {
    link: Link,
    process: Arc<dyn DriverProcess>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill();
    }
}

impl Driver {
    /// A driver that is started on first use. `name` is used in messages (`client go`).
    #[must_use]
    pub fn new(name: &str, start: Start) -> Self {
        Self { name: name.into(), start, running: Arc::default(), starts: Arc::default() }
    }

    /// What the running process wrote to stderr, if there is one.
    pub async fn stderr(&self) -> String {
        self.running.lock().await.as_ref().map(|r| r.process.stderr()).unwrap_or_default()
    }

    /// Starts the process if it is not up, and waits for its `hello`.
    ///
    /// # Errors
    /// When it cannot be started or does not meet the contract.
    pub async fn warm(&self) -> Result<(), PeerError> {
        self.running().await.map(drop)
    }

    /// Asks the process to end, and ends it if it has not within the contract's 2 s.
    pub async fn end(&self) {
        let Some(running) = self.running.lock().await.take() else { return };
        if running.link.send(&Request::Bye {}).await.is_ok() {
            let _ = tokio::time::timeout(BYE_WITHIN, running.link.ended()).await;
        }
    }

    async fn running(&self) -> Result<Arc<Running>, PeerError> {
        let mut slot = self.running.lock().await;
        if let Some(running) = slot.as_ref().filter(|r| !r.link.is_broken()) {
            return Ok(Arc::clone(running));
        }
        *slot = None;
        let started = (self.start)().await.map_err(|e| self.harness("driver.start", &e))?;
        let running =
            Arc::new(Running { link: Link::start(started.stdin, started.stdout), process: started.process });
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.greet(&running).await?;
        *slot = Some(Arc::clone(&running));
        Ok(running)
    }

    async fn greet(&self, running: &Running) -> Result<(), PeerError> {
        let probe = format!("soupscen.probe.{:08x}", rand_u32());
        let hello = Request::Hello {
            contracts: vec![CONTRACT],
            deadline_ms: millis(HELLO_WITHIN),
            probe: probe.clone(),
        };
        let answer = tokio::time::timeout(HELLO_WITHIN + DRIVER_SLACK, running.link.ask(Slot::Hello, &hello)).await;
        let reply = match answer {
            Err(_) => {
                return Err(self.harness(
                    "driver.silent",
                    &format!("no answer to `hello` within {HELLO_WITHIN:?}; {}", running.process.account()),
                ));
            }
            Ok(Err(e)) => {
                return Err(self.harness("driver.broken", &format!("{e}; {}", running.process.account())));
            }
            Ok(Ok(reply)) => reply,
        };
        let Reply::Hello(hello) = reply else {
            return Err(self.harness("driver.contract", "the first answer is not `hello`"));
        };
        if hello.contract != CONTRACT {
            return Err(self.harness(
                "driver.contract",
                &format!("it speaks contract {}, this engine speaks {CONTRACT}", hello.contract),
            ));
        }
        let claims = [&hello.roles.client, &hello.roles.server];
        if claims.into_iter().flatten().any(|role| role.provides.contains(&probe)) {
            return Err(self.harness("driver.contract", "it claims a capability that does not exist"));
        }
        Ok(())
    }

    /// A failure that says nothing about the pair under test.
    fn harness(&self, code: &str, text: &str) -> PeerError {
        let text = format!("the driver of {} failed: {text}", self.name);
        PeerError {
            reported: Reported {
                phase: Some(Phase::Driver),
                error: text.clone(),
                native: None,
                status: None,
                cause: Some(Cause { code: code.into(), certainty: Certainty::Observed, text }),
            },
            refused: false,
            harness: true,
            timed_out: false,
        }
    }

    /// A request that got no proper answer.
    fn link_error(&self, running: &Running, error: &LinkError) -> PeerError {
        match error {
            LinkError::Refused { kind: message::ErrorKind::Unsupported, text } => PeerError {
                refused: true,
                harness: false,
                ..self.harness("driver.unsupported", &format!("it does not support the request: {text}"))
            },
            LinkError::Refused { .. } => self.harness("driver.refused", &error.to_string()),
            LinkError::Broken(_) => {
                self.harness("driver.broken", &format!("{error}; {}", running.process.account()))
            }
        }
    }

    /// The driver let a deadline pass by more than its slack: it is ended, so that the next request
    /// gets a fresh one.
    async fn overdue(&self, running: &Arc<Running>, what: &str, within: Duration) -> PeerError {
        let mut slot = self.running.lock().await;
        if slot.as_ref().is_some_and(|r| Arc::ptr_eq(r, running)) {
            *slot = None;
        }
        running.process.kill();
        self.harness(
            "driver.overdue",
            &format!("no answer to `{what}` within {within:?} and {DRIVER_SLACK:?} of slack; it was ended"),
        )
    }
}

/// Whole milliseconds, saturating.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Unpredictable enough for a probe name: address space layout and time.
fn rand_u32() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let n = std::collections::hash_map::RandomState::new().build_hasher().finish();
    u32::try_from(n & 0xffff_ffff).unwrap_or_default()
}
