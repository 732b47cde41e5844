//! The engine's own spawner under the roles that start programs: drivers and plugin hosts.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::axis::values::{TlsMode, Transport};
use crate::outcome::evidence::Reported;
use crate::outcome::{Cause, Certainty, Exit, Phase};
use crate::peer::builtin::{STOCK_SERVICE, spawn};
use crate::peer::driver::{DriverProcess, Started};
use crate::peer::{PeerError, ServeRequest, Served, Server, ServerSaw, Target};
use crate::process::capture::Capture;
use crate::process::{Inherit, Program, Spawned, Spawner};

/// Characters of a driver's last words in a message.
const LAST_WORDS: usize = 2000;

/// Starts plugins for the built-in host.
#[derive(Debug, Clone)]
pub(super) struct PluginSpawner(pub(super) Spawner);

impl spawn::Spawner for PluginSpawner {
    fn spawn(&self, program: spawn::Program) -> BoxFuture<'_, std::io::Result<spawn::Spawned>> {
        Box::pin(async move {
            let mut env = program.env;
            // The host hands its own on, which is the engine's; the run's is in its spawner.
            let own = std::env::var("TMPDIR").ok();
            env.retain(|(name, value)| name != "TMPDIR" || own.as_ref() != Some(value));
            let program = Program { env, inherit: Inherit::Clean, ..Program::new(program.argv) };
            let mut spawned = self.0.spawn(&program).await.map_err(std::io::Error::other)?;
            let (Some(stdout), Some(stderr)) = (spawned.stdout.take(), spawned.stderr.take()) else {
                return Err(std::io::Error::other("a pipe of the program is missing"));
            };
            Ok(spawn::Spawned {
                stdout: Box::new(stdout),
                stderr: Box::new(stderr),
                process: Box::new(Plugin(spawned)),
            })
        })
    }
}

struct Plugin(Spawned);

impl spawn::Process for Plugin {
    fn wait(&mut self) -> BoxFuture<'_, std::io::Result<Exit>> {
        Box::pin(async move { Ok(self.0.wait().await) })
    }

    fn kill(&mut self) {
        self.0.signal(nix::libc::SIGKILL);
    }
}

/// Starts a driver program.
pub(super) async fn start_driver(spawner: &Spawner, program: Program) -> Result<Started, String> {
    let program = Program { stdin: true, ..program };
    let mut spawned = spawner.spawn(&program).await.map_err(|e| e.to_string())?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (spawned.stdin.take(), spawned.stdout.take(), spawned.stderr.take())
    else {
        return Err("a pipe of the driver is missing".into());
    };
    let process = Arc::new(DriverProgram { stderr: Capture::start(stderr), spawned });
    Ok(Started { stdin: Box::new(stdin), stdout: Box::new(stdout), process })
}

struct DriverProgram {
    stderr: Capture,
    spawned: Spawned,
}

impl DriverProcess for DriverProgram {
    fn account(&self) -> String {
        let state = match self.spawned.exit() {
            None => "it still runs".to_owned(),
            Some(Exit::Code(code)) => format!("it ended with status {code}"),
            Some(Exit::Signal(signal)) => format!("signal {signal} ended it"),
        };
        let words = self.stderr.snapshot().last_lines(5, LAST_WORDS).join("\n");
        if words.is_empty() { state } else { format!("{state}; its last words: {words}") }
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.spawned.wait().await;
            self.stderr.ended().await;
        })
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.snapshot().bytes()).into_owned()
    }

    fn kill(&self) {
        self.spawned.signal(nix::libc::SIGKILL);
    }
}

/// The built-in server as a process of its own, with its values in a folder.
pub(super) struct ServerProgram(pub(super) Spawner);

impl Server for ServerProgram {
    fn serve(&self, request: ServeRequest) -> BoxFuture<'_, Result<Arc<dyn Served>, PeerError>> {
        Box::pin(async move {
            let program = Program::new(serve_command(&request).map_err(|e| unusable(e, false))?);
            let mut spawned = self.0.spawn(&program).await.map_err(|e| unusable(e.to_string(), false))?;
            let (Some(stdout), Some(stderr)) = (spawned.stdout.take(), spawned.stderr.take()) else {
                return Err(unusable("a pipe of the server is missing".into(), false));
            };
            let stderr = Capture::start(stderr);
            let mut lines = BufReader::new(stdout).lines();
            let line = tokio::time::timeout(request.within, lines.next_line()).await;
            let Ok(line) = line else {
                let text = format!("the built-in server did not say where it listens within {:?}", request.within);
                return Err(unusable(text, true));
            };
            let target = line.ok().flatten().as_deref().and_then(address_in);
            let Some(target) = target else {
                stderr.ended().await;
                let words = stderr.snapshot().last_lines(5, LAST_WORDS).join("\n");
                return Err(unusable(format!("the built-in server cannot serve: {words}"), false));
            };
            let stdout = Capture::start(lines.into_inner());
            Ok(Arc::new(ServedProgram { spawned, target, _output: [stdout, stderr] }) as Arc<dyn Served>)
        })
    }
}

struct ServedProgram {
    spawned: Spawned,
    target: Target,
    /// Read on, so that it is never full.
    _output: [Capture; 2],
}

impl Served for ServedProgram {
    fn target(&self) -> Target {
        self.target.clone()
    }

    fn seen(&self) -> Vec<ServerSaw> {
        Vec::new()
    }

    fn stop(self: Arc<Self>, grace: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.spawned.terminate(grace).await;
        })
    }
}

/// `serving proto.KV at ADDRESS with tls MODE`
fn address_in(line: &str) -> Option<Target> {
    line.split_once(" at ")?.1.rsplit_once(" with tls ")?.0.parse().ok()
}

fn serve_command(request: &ServeRequest) -> Result<Vec<String>, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program's path is not known: {e}"))?;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let address = match request.transport {
        Transport::Tcp => "127.0.0.1:0".to_owned(),
        Transport::Unix => format!("unix:{}", text(&request.folder.join("server.sock"))),
    };
    let keeps = request.service != STOCK_SERVICE;
    let service = if keeps { "kv" } else { "stock" };
    let mut argv =
        vec![text(&program), "serve".into(), service.into(), "--unlisted".into(), "--address".into(), address];
    let mut flag =
        |name: &str, value: Option<String>| argv.extend(value.into_iter().flat_map(|v| [name.to_owned(), v]));
    let tls = &request.tls;
    flag("--storage", keeps.then(|| text(&request.storage)));
    flag("--tls", Some(tls.mode.name().to_owned()));
    if tls.mode != TlsMode::None {
        let own = tls.identity.as_ref().and_then(|identity| identity.files());
        flag("--cert", own.map(|files| text(&files.cert)));
        flag("--key", own.and_then(|files| files.key.as_deref()).map(text));
        flag("--ca", tls.ca.as_ref().and_then(|ca| ca.files()).map(|files| text(&files.cert)));
        flag("--tls-version", tls.version.map(|version| version.name().to_owned()));
        flag("--group", tls.group.map(|group| group.name().to_owned()));
    }
    Ok(argv)
}

fn unusable(text: String, timed_out: bool) -> PeerError {
    let cause = Cause { code: "spawn.failed".into(), certainty: Certainty::Observed, text: text.clone() };
    PeerError {
        reported: Reported { phase: Some(Phase::Spawn), error: text, native: None, status: None, cause: Some(cause) },
        refused: false,
        harness: true,
        timed_out,
    }
}
