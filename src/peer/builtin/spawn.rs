//! How the built-in host starts a plugin. The engine gives its own [`Spawner`] (guarded, from a
//! dedicated thread); [`TokioSpawner`] does for a program that ends with its plugin.

use std::io;
use std::process::Stdio;

use futures::future::BoxFuture;
use tokio::io::AsyncRead;

use crate::outcome::Exit;

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
}

/// The reading end of a pipe.
pub type Output = Box<dyn AsyncRead + Send + Unpin>;

/// A program that runs, in a process group of its own.
pub struct Spawned {
    /// Its stdout.
    pub stdout: Output,
    /// Its stderr.
    pub stderr: Output,
    /// Itself.
    pub process: Box<dyn Process>,
}

/// A process that was started. Dropping it kills its group.
pub trait Process: Send + Sync {
    /// Resolves when it has ended. Safe to drop and ask again.
    fn wait(&mut self) -> BoxFuture<'_, io::Result<Exit>>;
    /// Kills its group at once.
    fn kill(&mut self);
}

/// Starts programs.
pub trait Spawner: Send + Sync + std::fmt::Debug {
    /// Starts one with stdin at end of file, and stdout and stderr piped.
    fn spawn(&self, program: Program) -> BoxFuture<'_, io::Result<Spawned>>;
}

impl<S: Spawner + ?Sized> Spawner for std::sync::Arc<S> {
    fn spawn(&self, program: Program) -> BoxFuture<'_, io::Result<Spawned>> {
        self.as_ref().spawn(program)
    }
}

/// Starts programs with tokio, from whatever thread this is.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioSpawner;

impl Spawner for TokioSpawner {
    fn spawn(&self, program: Program) -> BoxFuture<'_, io::Result<Spawned>> {
        Box::pin(async move {
            let Some((command, arguments)) = program.argv.split_first() else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
            };
            let mut child = tokio::process::Command::new(command)
                .args(arguments)
                .env_clear()
                .envs(program.env)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .kill_on_drop(true)
                .spawn()?;
            let missing = || io::Error::other("a pipe of the child is missing");
            Ok(Spawned {
                stdout: Box::new(child.stdout.take().ok_or_else(missing)?),
                stderr: Box::new(child.stderr.take().ok_or_else(missing)?),
                process: Box::new(Child(child)),
            })
        })
    }
}

struct Child(tokio::process::Child);

impl Process for Child {
    fn wait(&mut self) -> BoxFuture<'_, io::Result<Exit>> {
        Box::pin(async move {
            use std::os::unix::process::ExitStatusExt as _;
            let status = self.0.wait().await?;
            Ok(status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or(0)), Exit::Code))
        })
    }

    fn kill(&mut self) {
        // `None` once it was waited for: its number may be another's by then.
        let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) else { return };
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
