//! The engine's side of a running program: its pipes, its end, and the wish that it ends.
//! Speaks [`Record`] with the program's keeper. Made by `spawner`, held by `peer`.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::libc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc as async_mpsc, oneshot, watch};

use super::keeper::{RECORD_BYTES, Record};
use super::spawner::Job;
use super::{guard, sweep, sys};
use crate::outcome::Exit;

/// Between two looks at processes that were killed.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Keepers that are children of this process and were not reaped yet.
static KEEPERS: Mutex<Option<HashSet<i32>>> = Mutex::new(None);

/// Forks a keeper and notes it in one step, or [`adopt_and_kill`] could take it for an orphan.
pub(super) fn fork_known(fork: impl FnOnce() -> nix::Result<i32>) -> nix::Result<i32> {
    let mut known = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
    let keeper = fork()?;
    known.get_or_insert_default().insert(keeper);
    Ok(keeper)
}

/// Does what a child must not be forked in the middle of: a file that is open for writing would stay
/// open in the child, and could not be executed as long as it is (`ETXTBSY`).
pub(super) fn without_forks<T>(act: impl FnOnce() -> T) -> T {
    let _known = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
    act()
}

pub(super) fn forget(keeper: i32) {
    if let Ok(mut known) = KEEPERS.lock() {
        known.get_or_insert_default().remove(&keeper);
    }
}

/// What is known of a program.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    pid: Option<i32>,
    exit: Option<Exit>,
    /// Nothing of its tree is left.
    gone: bool,
}

/// A running program with everything below it. Dropping it kills them all.
#[derive(Debug)]
pub struct Spawned {
    /// The program's pid.
    pub pid: i32,
    /// Its standard input, if it was asked for; dropping it closes it.
    pub stdin: Option<pipe::Sender>,
    /// Its standard output. Must be read for ever, or the program blocks; see `capture`.
    pub stdout: Option<pipe::Receiver>,
    /// Its standard error, likewise; absent when merged.
    pub stderr: Option<pipe::Receiver>,
    watcher: Watcher,
    wishes: async_mpsc::UnboundedSender<Record>,
}

/// Tells how a program ended, to any number of askers.
#[derive(Debug, Clone)]
pub struct Watcher {
    state: watch::Receiver<State>,
}

impl Watcher {
    /// Resolves when the program itself has ended.
    pub async fn wait(&self) -> Exit {
        self.wait_for(|state| state.exit.is_some()).await.exit.unwrap_or(Exit::Signal(libc::SIGKILL))
    }

    /// Resolves when nothing of its tree is left either.
    pub async fn gone(&self) -> Exit {
        self.wait_for(|state| state.gone).await.exit.unwrap_or(Exit::Signal(libc::SIGKILL))
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.state.borrow().exit
    }

    async fn wait_for(&self, done: impl FnMut(&State) -> bool) -> State {
        let mut state = self.state.clone();
        let found = state.wait_for(done).await.map(|found| *found);
        // The supervising task was dropped with its runtime: the keeper then kills the tree.
        found.unwrap_or_else(|_| *self.state.borrow())
    }
}

impl Spawned {
    pub(super) fn supervise(
        keeper: i32,
        socket: UnixStream,
        jobs: mpsc::Sender<Job>,
        stdin: Option<pipe::Sender>,
        stdout: pipe::Receiver,
        stderr: Option<pipe::Receiver>,
    ) -> Self {
        let (publish, published) = watch::channel(State::default());
        let (wishes, heard) = async_mpsc::unbounded_channel();
        tokio::spawn(supervise(keeper, socket, jobs, publish, heard));
        Self { pid: 0, stdin, stdout: Some(stdout), stderr, watcher: Watcher { state: published }, wishes }
    }

    /// Resolves once the pid is known; `None` when there never was a program.
    pub(super) async fn started(mut self) -> Option<Self> {
        self.pid = self.watcher.wait_for(|state| state.pid.is_some() || state.gone).await.pid?;
        Some(self)
    }

    /// Resolves when the program itself has ended.
    pub async fn wait(&self) -> Exit {
        self.watcher.wait().await
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.watcher.exit()
    }

    /// A handle that only waits.
    #[must_use]
    pub fn watcher(&self) -> Watcher {
        self.watcher.clone()
    }

    /// Asks the program to end by SIGTERM; after `grace`, or when it has ended, its whole tree is
    /// killed. Resolves when nothing of it is left.
    pub async fn terminate(&self, grace: Duration) -> Exit {
        let millis = i32::try_from(grace.as_millis()).unwrap_or(i32::MAX);
        let _ = self.wishes.send(Record::Terminate(millis));
        self.watcher.gone().await
    }

    /// Kills the whole tree. Resolves when nothing of it is left.
    pub async fn kill(&self) -> Exit {
        let _ = self.wishes.send(Record::Kill);
        self.watcher.gone().await
    }

    /// Sends the program, and only it, a signal by number. Ignored once it has ended.
    pub fn signal(&self, signal: i32) {
        let _ = self.wishes.send(Record::Signal(signal));
    }
}

/// Lives as long as the keeper: passes wishes on and publishes what it tells.
async fn supervise(
    keeper: i32,
    socket: UnixStream,
    jobs: mpsc::Sender<Job>,
    publish: watch::Sender<State>,
    mut wished: async_mpsc::UnboundedReceiver<Record>,
) {
    let (mut from_keeper, mut to_keeper) = socket.into_split();
    let speak = async {
        while let Some(record) = wished.recv().await {
            if to_keeper.write_all(&record.encode()).await.is_err() {
                break;
            }
        }
        // The program's handle is gone (or the keeper, and then this is heard by nobody).
        let _ = to_keeper.write_all(&Record::Kill.encode()).await;
        std::future::pending::<()>().await;
    };
    let listen = async {
        let mut swept = false;
        let mut bytes = [0; RECORD_BYTES];
        while from_keeper.read_exact(&mut bytes).await.is_ok() {
            match Record::decode(bytes) {
                Some(Record::Started(pid)) => publish.send_modify(|state| state.pid = Some(pid)),
                Some(Record::Ended(status)) => publish.send_modify(|state| state.exit = Some(sys::exit_of(status))),
                Some(Record::Swept(complete)) => swept = complete == 1,
                _ => break,
            }
        }
        swept
    };
    let swept = tokio::select! {
        () = speak => false,
        swept = listen => swept,
    };
    // End of the socket: the keeper is about to end, so this reaping does not wait for long.
    let (reply, reaped) = oneshot::channel();
    let _ = jobs.send(Job::Reap(keeper, reply));
    if !swept {
        // Somebody killed the keeper, and its program died with it; or something did not die in time.
        // What is left is ours once the keeper is reaped, and not before.
        let _ = reaped.await;
        adopt_and_kill().await;
    }
    publish.send_modify(|state| {
        // Only a killed keeper leaves this open, and its program gets the same SIGKILL.
        if state.pid.is_some() {
            state.exit.get_or_insert(Exit::Signal(libc::SIGKILL));
        }
        state.gone = true;
    });
}

/// Kills children of this process that are no keepers: orphans that came to it as their subreaper.
/// Only under a guard, where the engine starts nothing but keepers.
async fn adopt_and_kill() {
    if !guard::is_guarded() {
        return;
    }
    let _ = tokio::task::spawn_blocking(|| {
        // Nobody else may reap them meanwhile: their pids could be given to others.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        // One in uninterruptible sleep is not waited for longer than its keeper would have.
        let until = Instant::now() + sweep::SWEEP_BOUND;
        let mut strays = HashSet::new();
        loop {
            if let Ok(known) = KEEPERS.lock() {
                let known = known.as_ref();
                sweep::for_each_child(|pid| {
                    if !known.is_some_and(|known| known.contains(&pid)) {
                        strays.insert(pid);
                    }
                });
            }
            strays.retain(|pid| sys::send_signal(*pid, libc::SIGKILL).is_ok());
            strays.retain(|pid| matches!(sys::reap_if_ended(*pid), Ok(None)));
            if strays.is_empty() || Instant::now() > until {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forked_while_a_program_is_written() {
        let (tell, forked) = mpsc::channel();
        let fork = without_forks(|| {
            let fork =
                std::thread::spawn(move || fork_known(|| tell.send(()).map_or(Ok(0), |()| Err(nix::Error::EAGAIN))));
            assert!(forked.recv_timeout(Duration::from_millis(100)).is_err());
            fork
        });
        assert_eq!(fork.join().unwrap(), Err(nix::Error::EAGAIN));
        assert!(forked.recv().is_ok());
    }
}
