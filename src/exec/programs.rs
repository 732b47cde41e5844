//! The engine's own spawner under the roles that start programs: drivers and plugin hosts.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::outcome::Exit;
use crate::peer::builtin::spawn;
use crate::peer::driver::{DriverProcess, Started};
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
