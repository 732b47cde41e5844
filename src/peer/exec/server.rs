//! A server that is a program: started, waited for, watched, ended.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::command::{Rendered, Setting, parse_address};
use super::ready::{self, Sign};
use super::run::{cannot_start, ended};
use super::{Context, harness, ports, told};
use crate::axis::values::Transport;
use crate::outcome::evidence::{ProcessReport, Side};
use crate::outcome::{Cause, Certainty, Exit, Phase};
use crate::peer::{Account, PeerError, ServeRequest, Served, Server, ServerSaw, Target, TlsSpec};
use crate::process::Spawned;
use crate::process::capture::Capture;
use crate::scenario::model::{self, EndWay, Ready};
use crate::scenario::template::Renderer;

/// Ports that are tried when somebody else takes them.
const PORTS_TRIED: usize = 4;
/// Lines of output that a failure quotes, and their bytes.
const LAST_WORDS: (usize, usize) = (5, 1000);
/// How long the output of a server that has ended may take to come in.
const DRAIN: Duration = Duration::from_millis(500);

/// How long a program may stay that has its server listen in a child that is no longer its own.
const FORKED: Duration = Duration::from_millis(500);

/// What a connection to an address that should be free may take.
const STRANGER: Duration = Duration::from_millis(500);

/// The server role of a program, for one case.
pub struct ExecServer {
    server: Arc<model::ExecServer>,
    setting: Setting,
    /// How it is dialled by the engine itself, for its health and its end.
    dial: TlsSpec,
    exclusion: Option<Exclusion>,
}

/// What keeps servers of a group from being up at once.
pub struct Exclusion {
    /// The name of the group.
    pub group: String,
    /// One permit; a server has it until nothing of it is left.
    pub up: Arc<Semaphore>,
    /// How long it may be waited for.
    pub within: Duration,
}

impl Exclusion {
    async fn permit(&self, peer: &str) -> Result<OwnedSemaphorePermit, PeerError> {
        let Self { group, up, within } = self;
        if let Ok(Ok(permit)) = tokio::time::timeout(*within, Arc::clone(up).acquire_owned()).await {
            return Ok(permit);
        }
        let text = format!(
            "server `{peer}` waited {within:?} in vain for the end of another one with `exclusive: {group}`; a case can \
             have only one of them up, and where they take long to end, raise `timeouts: {{ start: … }}`"
        );
        Err(harness("spawn.exclusive", text))
    }
}

impl ExecServer {
    /// `server` with its conditions already decided for the case.
    #[must_use]
    pub fn new(server: Arc<model::ExecServer>, setting: Setting, dial: TlsSpec, exclusion: Option<Exclusion>) -> Self {
        Self { server, setting, dial, exclusion }
    }

    async fn start(&self, request: &ServeRequest) -> Result<Arc<dyn Served>, PeerError> {
        let permit = match &self.exclusion {
            Some(exclusion) => Some(exclusion.permit(&self.setting.peer).await?),
            None => None,
        };
        let deadline = Instant::now() + request.within;
        let mut ports = Vec::new();
        while ports.len() < PORTS_TRIED {
            let port = ports::free().map_err(|e| harness("spawn.port", format!("there is no free port: {e}")))?;
            ports.push(port.to_string());
            if let Some(mut up) = self.attempt(request, port, deadline).await? {
                up.permit = Mutex::new(permit);
                return Ok(Arc::new(up));
            }
        }
        let text = format!(
            "the ports that were free for server `{}` ({}) were taken by others before it had them; \
             something here takes ports as they come free",
            self.setting.peer,
            ports.join(", ")
        );
        Err(harness("spawn.port-taken", text))
    }

    /// What a person types to start it, for a shell, and where it then listens: at `target`, unless
    /// it is declared to listen elsewhere.
    ///
    /// # Errors
    /// A template that cannot be filled in.
    pub fn by_hand(&self, target: &Target, folder: &Path) -> Result<(Target, String), PeerError> {
        let mut context = self.setting.context.clone();
        let port = if let Target::Tcp(address) = target { address.port() } else { 0 };
        context.insert("port".into(), port.to_string().into());
        context.insert("socket".into(), folder.join("s.sock").to_string_lossy().into_owned().into());
        let rendered = self.setting.render(&self.server.command, &context)?;
        let declared = match &self.server.address {
            Some(address) => {
                let text = self.setting.text(&Renderer::new(&context), address)?;
                Some(parse_address(&text, folder).map_err(|e| harness("ready.address", e))?)
            }
            None => None,
        };
        Ok((declared.unwrap_or_else(|| target.clone()), rendered.by_hand()))
    }

    /// One start; `None` when somebody else took the port meanwhile.
    async fn attempt(&self, request: &ServeRequest, port: u16, deadline: Instant) -> Result<Option<Up>, PeerError> {
        let mut context = self.setting.context.clone();
        let socket = request.folder.join("s.sock");
        context.insert("port".into(), port.to_string().into());
        context.insert("socket".into(), socket.to_string_lossy().into_owned().into());
        let mut rendered = self.setting.render(&self.server.command, &context)?;
        rendered.program.stdin = self.server.end == EndWay::Stdin;
        let folder = rendered.program.folder.clone().unwrap_or_default();
        self.refuse_strangers(&context, port, &folder).await?;
        let mut started = self.spawn(rendered).await?;
        let mut target = {
            let ready = self.ready(&started, &context, request.transport, port, &socket, &folder);
            tokio::select! {
                biased;
                exit = started.spawned.wait() => Err(Early::Exit(exit)),
                target = tokio::time::timeout_at(deadline, ready) => match target {
                    Ok(target) => target.map_err(Early::Unclear),
                    Err(_) => Err(Early::Silence),
                },
            }
        };
        // Somebody else on its port is no proof that it is up, and a reason why it is not.
        let uses_port = matches!(&target, Ok(Target::Tcp(address)) if address.port() == port);
        let pid = started.spawned.pid;
        if uses_port && !ports::is_own(port, pid) {
            // A child that serves outlives its parent for no longer than this: then it is ended too.
            if let Ok(exit) = tokio::time::timeout(FORKED, started.spawned.wait()).await {
                target = Err(Early::Exit(exit));
            }
        }
        if matches!(target, Err(Early::Exit(_))) {
            started.spawned.kill().await;
        }
        let robbed = match &target {
            Ok(_) => uses_port && ports::is_others(port, started.keeper.unwrap_or(pid)),
            Err(Early::Exit(_)) => ports::is_taken(port),
            Err(_) => ports::is_others(port, pid),
        };
        if robbed {
            started.spawned.kill().await;
            return Ok(None);
        }
        match target {
            Ok(target) => Ok(Some(Up {
                stdin: Mutex::new(started.spawned.stdin.take()),
                started,
                target,
                end: self.server.end.clone(),
                dial: self.dial.clone(),
                asked: AtomicBool::new(false),
                permit: Mutex::default(),
            })),
            Err(early) => {
                if !matches!(early, Early::Exit(_)) {
                    started.spawned.kill().await;
                }
                Err(self.failure(&early, &started, request.within).await)
            }
        }
    }

    /// An address that is declared must be free: whoever is there already would be tested in place of
    /// this server. Whose socket listens on `{{ port }}` is seen afterwards.
    async fn refuse_strangers(&self, context: &Context, port: u16, folder: &Path) -> Result<(), PeerError> {
        let Some(address) = &self.server.address else { return Ok(()) };
        let text = self.setting.text(&Renderer::new(context), address)?;
        // What is no address is told of when the server has had its say.
        let Ok(target) = parse_address(&text, folder) else { return Ok(()) };
        let own = matches!(&target, Target::Tcp(address) if address.port() == port);
        if own || !matches!(tokio::time::timeout(STRANGER, ready::is_open(&target)).await, Ok(true)) {
            return Ok(());
        }
        let exclusive = match self.server.exclusive {
            Some(_) => "",
            None => ", or, if that is a server of another case, give both the same `exclusive`",
        };
        let name = &self.setting.peer;
        let text =
            format!("something listens at {} already, where server `{name}` is to: end it{exclusive}", text.trim());
        Err(harness("spawn.port-taken", text))
    }

    async fn spawn(&self, rendered: Rendered) -> Result<Started, PeerError> {
        let mut spawned = self.setting.spawner.spawn(&rendered.program).await.map_err(|e| cannot_start(&e))?;
        let (Some(stdout), Some(stderr)) = (spawned.stdout.take(), spawned.stderr.take()) else {
            return Err(harness("spawn.pipe", "a pipe of the program is missing"));
        };
        let (out_sign, err_sign) = match &self.server.ready {
            Ready::Line => (ready::line().cloned(), None),
            Ready::Output { stderr: false, pattern } => (Some(pattern.clone()), None),
            Ready::Output { stderr: true, pattern } => (None, Some(pattern.clone())),
            _ => (None, None),
        };
        let (stdout, out_sign) = ready::watch_for(stdout, out_sign);
        let (stderr, err_sign) = ready::watch_for(stderr, err_sign);
        let sign = if matches!(self.server.ready, Ready::Output { stderr: true, .. }) { err_sign } else { out_sign };
        let argv = rendered.program.argv;
        let keeper = ports::keeper(spawned.pid);
        Ok(Started { spawned, keeper, stdout, stderr, sign, argv, shown: rendered.shown, since: Instant::now() })
    }

    /// Where it can be dialled, once it can be.
    async fn ready(
        &self,
        started: &Started,
        context: &Context,
        transport: Transport,
        port: u16,
        socket: &Path,
        folder: &Path,
    ) -> Result<Target, String> {
        let renderer = Renderer::new(context);
        let text = |template: &str| renderer.text(template).map_err(|e| e.to_string());
        let given = match &self.server.address {
            Some(address) => Some(parse_address(&text(address)?, folder)?),
            None => None,
        };
        let default = || match transport {
            Transport::Tcp => Target::Tcp(([127, 0, 0, 1], port).into()),
            Transport::Unix => Target::Unix(socket.to_path_buf()),
        };
        match &self.server.ready {
            Ready::Connect => {
                let target = given.unwrap_or_else(default);
                ready::dialled(&target).await;
                Ok(target)
            }
            Ready::Health => {
                let target = given.unwrap_or_else(default);
                ready::healthy(&target, &self.dial).await;
                Ok(target)
            }
            Ready::Line | Ready::Output { .. } => match (started.sign.seen().await, given) {
                (_, Some(given)) => Ok(given),
                (Some(address), None) => parse_address(&address, folder),
                (None, None) => Ok(default()),
            },
            Ready::File(path) => {
                let written = ready::written(&folder.join(text(path)?)).await;
                Ok(given.or_else(|| ready::address_in(&written, folder)).unwrap_or_else(default))
            }
        }
    }

    async fn failure(&self, early: &Early, started: &Started, within: Duration) -> PeerError {
        if matches!(early, Early::Exit(_)) {
            let drained = async { tokio::join!(started.stdout.ended(), started.stderr.ended()) };
            let _ = tokio::time::timeout(DRAIN, drained).await;
        }
        let name = &self.setting.peer;
        let words = started.last_words();
        let (code, text) = match early {
            Early::Exit(exit) => {
                let hint = if *exit == Exit::Code(0) {
                    "; a server has to stay in the foreground: one that forks and leaves cannot be watched"
                } else {
                    ""
                };
                ("ready.exit", format!("server `{name}` {} before it could be dialled{hint}{words}", ended(*exit)))
            }
            Early::Silence => {
                let text =
                    format!("server `{name}` could not be dialled within {within:?}: {}{words}", self.waited_for());
                ("ready.silence", text)
            }
            Early::Unclear(why) => {
                ("ready.address", format!("server `{name}` does not say where it listens: {why}{words}"))
            }
        };
        let cause = Cause { code: code.into(), certainty: Certainty::Observed, text: text.clone() };
        PeerError { timed_out: matches!(early, Early::Silence), ..told(Some(Phase::Spawn), text, Some(cause)) }
    }

    fn waited_for(&self) -> String {
        match &self.server.ready {
            Ready::Connect => "nothing took connections at its address".into(),
            Ready::Health => "its health service did not say SERVING".into(),
            Ready::Line => "it printed no go-plugin line on stdout".into(),
            Ready::Output { stderr, pattern } => {
                let stream = if *stderr { "stderr" } else { "stdout" };
                format!("no complete line on {stream} had `{pattern}`")
            }
            Ready::File(path) => format!("the file `{path}` was not written"),
        }
    }
}

impl Server for ExecServer {
    fn serve(&self, request: ServeRequest) -> BoxFuture<'_, Result<Arc<dyn Served>, PeerError>> {
        Box::pin(async move { self.start(&request).await })
    }
}

/// Why it did not come to be dialled.
enum Early {
    Exit(Exit),
    Silence,
    Unclear(String),
}

/// A program that runs.
struct Started {
    spawned: Spawned,
    /// What its orphans come to.
    keeper: Option<i32>,
    stdout: Capture,
    stderr: Capture,
    sign: Sign,
    argv: Vec<String>,
    shown: String,
    since: Instant,
}

impl Started {
    fn lines(&self) -> Vec<String> {
        let mut lines = self.stderr.snapshot().last_lines(LAST_WORDS.0, LAST_WORDS.1);
        if lines.is_empty() {
            lines = self.stdout.snapshot().last_lines(LAST_WORDS.0, LAST_WORDS.1);
        }
        lines
    }

    fn last_words(&self) -> String {
        let lines = self.lines();
        if lines.is_empty() {
            "; it printed nothing".into()
        } else {
            format!("; its last words: {}", lines.join(" / "))
        }
    }
}

/// A server that can be dialled.
struct Up {
    started: Started,
    stdin: Mutex<Option<pipe::Sender>>,
    target: Target,
    end: EndWay,
    dial: TlsSpec,
    asked: AtomicBool,
    /// Given back at its end, not with the last handle: a lane may still look at what it was.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Served for Up {
    fn target(&self) -> Target {
        self.target.clone()
    }

    fn seen(&self) -> Vec<ServerSaw> {
        Vec::new()
    }

    fn process(&self) -> Option<ProcessReport> {
        let exit = self.started.spawned.exit()?;
        Some(ProcessReport {
            side: Side::Server,
            argv: self.started.argv.clone(),
            exit: Some(exit),
            asked_to_end: self.asked.load(Ordering::Relaxed),
            stderr_tail: self.started.lines(),
            lived_us: u64::try_from(self.started.since.elapsed().as_micros()).ok(),
        })
    }

    fn account(&self) -> Account {
        let text = |capture: &Capture| String::from_utf8_lossy(&capture.snapshot().bytes()).into_owned();
        let output = [("stdout", text(&self.started.stdout)), ("stderr", text(&self.started.stderr))];
        Account {
            commands: vec![self.started.shown.clone()],
            output: output.into_iter().filter(|(_, text)| !text.is_empty()).collect(),
        }
    }

    fn stop(self: Arc<Self>, grace: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.asked.store(true, Ordering::Relaxed);
            let spawned = &self.started.spawned;
            match &self.end {
                EndWay::Signal => {
                    spawned.terminate(grace).await;
                }
                EndWay::Stdin => drop(take(&self.stdin)),
                EndWay::Call(method) => {
                    let _ = ready::call(&self.target, &self.dial, method, grace).await;
                }
            }
            let _ = tokio::time::timeout(grace, spawned.wait()).await;
            spawned.kill().await;
            drop(take(&self.permit));
        })
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_that_never_comes_is_an_error_that_says_what_to_do() {
        let up = Arc::new(Semaphore::new(0));
        let exclusion = Exclusion { group: "the-port".into(), up: Arc::clone(&up), within: Duration::from_millis(10) };
        let error = exclusion.permit("one").await.unwrap_err();
        assert!(error.harness, "{error:?}");
        let cause = error.reported.cause.unwrap();
        assert_eq!(cause.code, "spawn.exclusive");
        assert!(cause.text.contains("`exclusive: the-port`") && cause.text.contains("timeouts"), "{}", cause.text);
        up.add_permits(1);
        assert!(exclusion.permit("one").await.is_ok());
    }
}
