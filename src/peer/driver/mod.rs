//! External peers that speak the driver contract: one long-lived process per peer and role, which
//! serves many cases. `message` is the contract, `link` the correlation, this file the roles. L4.

mod link;
pub mod message;
mod roles;
mod sending;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

#[doc(hidden)]
pub use self::link::heard;
use self::link::{Link, LinkError, Slot};
use self::message::{CONTRACT, Hello, MAX_LINE, Reply, Request};
use self::turns::Turns;
use super::PeerError;
use super::words::{KEPT, ends};
use crate::outcome::evidence::Reported;
use crate::outcome::{Cause, Certainty, Phase};

/// What the engine adds to every deadline before it gives a driver up.
pub const DRIVER_SLACK: Duration = Duration::from_millis(500);
/// What a driver may take to end after `bye`.
const BYE_WITHIN: Duration = Duration::from_secs(2);
/// Budget for the answer to `hello`, unless told otherwise.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// What a driver whose stdout ended may take to be gone, before it is told of.
const GONE_WITHIN: Duration = Duration::from_millis(300);
/// A driver that could not be started so often in a row is not started again in this run.
const START_ATTEMPTS: u64 = 2;

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
    /// Resolves when it has ended and what it said last is known.
    fn ended(&self) -> BoxFuture<'_, ()>;
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
    hello_within: Duration,
    running: Arc<Mutex<Option<Starting>>>,
    starts: Arc<AtomicU64>,
    failed_starts: Arc<AtomicU64>,
}

/// A start that everyone who needs the driver waits for; it goes on when one of them gives up.
type Starting = Shared<BoxFuture<'static, Result<Arc<Running>, PeerError>>>;

struct Running {
    link: Link,
    turns: Turns,
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
        Self {
            name: name.into(),
            start,
            hello_within: HELLO_WITHIN,
            running: Arc::default(),
            starts: Arc::default(),
            failed_starts: Arc::default(),
        }
    }

    /// The same with another budget for the answer to `hello`.
    #[must_use]
    pub fn ready_within(self, hello_within: Duration) -> Self {
        Self { hello_within, ..self }
    }

    /// What the running process wrote to stderr, if there is one.
    #[must_use]
    pub fn stderr(&self) -> String {
        let running = self.slot().as_ref().and_then(|starting| starting.peek().and_then(|r| r.as_ref().ok().cloned()));
        running.map(|running| running.process.stderr()).unwrap_or_default()
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
        let Some(starting) = self.slot().take() else { return };
        // One that is not up yet is given up.
        let Some(Ok(running)) = starting.peek() else { return };
        if running.link.send(&Request::Bye {}).await.is_ok() {
            let _ = tokio::time::timeout(BYE_WITHIN, running.link.ended()).await;
        }
    }

    /// Resolves when the process has ended, with how, and its last words; never if none runs.
    pub async fn ended(&self) -> String {
        let running = self.slot().as_ref().and_then(|starting| starting.peek().and_then(|r| r.as_ref().ok().cloned()));
        match running {
            Some(running) => {
                running.process.ended().await;
                running.process.account()
            }
            None => std::future::pending().await,
        }
    }

    async fn running(&self) -> Result<Arc<Running>, PeerError> {
        let starting = {
            let mut slot = self.slot();
            match slot.as_ref().filter(|starting| self.is_good(starting)) {
                Some(starting) => starting.clone(),
                None => slot.insert(self.begin()).clone(),
            }
        };
        starting.await
    }

    /// Whether a start is to be waited for, or used, rather than begun anew.
    fn is_good(&self, starting: &Starting) -> bool {
        match starting.peek() {
            None => true,
            Some(Ok(running)) => !running.link.is_broken(),
            Some(Err(_)) => self.failed_starts.load(Ordering::Relaxed) >= START_ATTEMPTS,
        }
    }

    /// Starts the program in the background: a case that gives up waiting ends no start that others
    /// wait for too.
    fn begin(&self) -> Starting {
        let driver = self.clone();
        // The slot keeps the start, so the start must not keep the slot.
        let driver = Self { running: Arc::default(), ..driver };
        let task = AbortOnDropHandle::new(tokio::spawn({
            let driver = driver.clone();
            async move { driver.start_once().await }
        }));
        async move {
            let started = task.await.unwrap_or_else(|e| Err(driver.harness("driver.start", &e.to_string())));
            match &started {
                Ok(_) => driver.failed_starts.store(0, Ordering::Relaxed),
                Err(_) => drop(driver.failed_starts.fetch_add(1, Ordering::Relaxed)),
            }
            started
        }
        .boxed()
        .shared()
    }

    async fn start_once(&self) -> Result<Arc<Running>, PeerError> {
        let started = (self.start)().await.map_err(|e| self.harness("driver.start", &e))?;
        let link = Link::start(started.stdin, started.stdout);
        let mut running = Running { link, turns: Turns::new(None), process: started.process };
        self.starts.fetch_add(1, Ordering::Relaxed);
        let hello = self.greet(&running).await?;
        running.turns = Turns::new(hello.max_in_flight);
        let max_line = hello.max_line.and_then(|most| usize::try_from(most).ok()).unwrap_or(MAX_LINE);
        running.link.max_line = max_line.min(MAX_LINE);
        Ok(Arc::new(running))
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Starting>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn greet(&self, running: &Running) -> Result<Hello, PeerError> {
        let probe = format!("soupscen.probe.{:08x}", rand_u32());
        let hello =
            Request::Hello { contracts: vec![CONTRACT], deadline_ms: millis(self.hello_within), probe: probe.clone() };
        let answer =
            tokio::time::timeout(self.hello_within + DRIVER_SLACK, running.link.ask(Slot::Hello, &hello)).await;
        let reply = match answer {
            Err(_) => {
                return Err(self.harness(
                    "driver.silent",
                    &format!("no answer to `hello` within {:?}; {}", self.hello_within, running.process.account()),
                ));
            }
            Ok(Err(e)) => {
                return Err(self.broken(running, &e).await);
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
        Ok(hello)
    }

    /// A failure that says nothing about the pair under test.
    fn harness(&self, code: &str, text: &str) -> PeerError {
        let text = ends(&format!("the driver of {} failed: {text}", self.name), KEPT);
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
    async fn link_error(&self, running: &Running, error: &LinkError) -> PeerError {
        match error {
            LinkError::Refused { kind: message::ErrorKind::Unsupported, text } => PeerError {
                refused: true,
                harness: false,
                ..self.harness("driver.unsupported", &format!("it does not support the request: {text}"))
            },
            LinkError::TooLong(..) => self.harness("driver.max-line", &error.to_string()),
            LinkError::Refused { .. } => self.harness("driver.refused", &error.to_string()),
            LinkError::Broken(_) | LinkError::Contract(_) => self.broken(running, error).await,
        }
    }

    /// The driver broke the contract, or off: how it ended and its last words say why, and come a moment later.
    async fn broken(&self, running: &Running, error: &LinkError) -> PeerError {
        if let LinkError::Contract(text) = error {
            return self.harness("driver.contract", text);
        }
        let _ = tokio::time::timeout(GONE_WITHIN, running.process.ended()).await;
        self.harness("driver.broken", &format!("{error}; {}", running.process.account()))
    }

    /// The driver let a deadline pass by more than its slack: it is ended, so that the next request
    /// gets a fresh one.
    fn overdue(&self, running: &Arc<Running>, what: &str, within: Duration) -> PeerError {
        {
            let mut slot = self.slot();
            let current = slot.as_ref().and_then(Shared::peek);
            if matches!(current, Some(Ok(current)) if Arc::ptr_eq(current, running)) {
                *slot = None;
            }
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
