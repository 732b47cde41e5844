//! One run of a program to its end, with bounded time and output.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::command::Rendered;
use super::{harness, told};
use crate::outcome::{Exit, Phase};
use crate::peer::PeerError;
use crate::peer::words::ends;
use crate::process::capture::{Capture, Tail};
use crate::process::{SpawnError, Spawner};

/// Output of one run that is looked at, in bytes of each stream.
const OUTPUT_BYTES: usize = 16 << 20;
/// What output that was written already may take to come in, once the program and all below it are gone.
const DRAIN: Duration = Duration::from_secs(5);
/// Characters of an output that are quoted.
const QUOTED: usize = 800;

/// A program that came to its end.
pub(super) struct Finished {
    pub(super) exit: Exit,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Runs it. What it started and left behind is ended with it.
pub(super) async fn run(spawner: &Spawner, rendered: Rendered, within: Duration) -> Result<Finished, PeerError> {
    let Rendered { mut program, stdin, shown } = rendered;
    program.stdin = stdin.is_some();
    let mut spawned = spawner.spawn(&program).await.map_err(|e| cannot_start(&e))?;
    let (Some(stdout), Some(stderr)) = (spawned.stdout.take(), spawned.stderr.take()) else {
        return Err(harness("spawn.pipe", "a pipe of the program is missing"));
    };
    let capture = |from| Capture::with(from, Tail::new(OUTPUT_BYTES, 0), |_| ());
    let (stdout, stderr) = (capture(stdout), capture(stderr));
    let input = spawned.stdin.take();
    let feed = async {
        if let (Some(mut pipe), Some(bytes)) = (input, stdin) {
            // A program need not read what it is given.
            let _ = pipe.write_all(&bytes).await;
        }
    };
    let ended = tokio::time::timeout(within, async {
        let (exit, ()) = tokio::join!(spawned.wait(), feed);
        exit
    });
    let exit = ended.await;
    // What it started holds its pipes open. One that it handed to somebody else may stay open for ever.
    spawned.kill().await;
    let _ = tokio::time::timeout(DRAIN, async { tokio::join!(stdout.ended(), stderr.ended()) }).await;
    let (stdout, stderr) = (stdout.snapshot(), stderr.snapshot());
    let bytes = |tail: &Tail| tail.bytes();
    let Ok(exit) = exit else {
        let text =
            format!("`{}` did not end within {within:?}; {}", cut(&shown), outputs(&bytes(&stdout), &bytes(&stderr)));
        return Err(PeerError { timed_out: true, ..told(Some(Phase::Rpc), text, None) });
    };
    for (name, tail) in [("stdout", &stdout), ("stderr", &stderr)] {
        if tail.dropped() > 0 {
            let text = format!(
                "`{}` printed {} bytes on {name}, and {OUTPUT_BYTES} are looked at; have it print less",
                cut(&shown),
                tail.total()
            );
            return Err(harness("exec.output", text));
        }
    }
    Ok(Finished { exit, stdout: bytes(&stdout), stderr: bytes(&stderr) })
}

/// A program that is not there, or no program.
pub(super) fn cannot_start(error: &SpawnError) -> PeerError {
    let code = match error {
        SpawnError::NotOnPath { .. } | SpawnError::NotFound { .. } | SpawnError::Empty => "spawn.missing",
        SpawnError::Folder { .. } | SpawnError::NotExecutable { .. } | SpawnError::Format { .. } => {
            "spawn.not-executable"
        }
        SpawnError::Interpreter { .. } => "spawn.interpreter",
        SpawnError::TooLarge { .. } => "spawn.too-large",
        _ => "spawn.failed",
    };
    harness(code, error.to_string())
}

/// How it ended, for people.
pub(super) fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with status {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
    }
}

/// Both outputs, for people.
pub(super) fn outputs(stdout: &[u8], stderr: &[u8]) -> String {
    let quote = |name: &str, bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim();
        if text.is_empty() { format!("{name} is empty") } else { format!("{name}: {}", ends(text, QUOTED)) }
    };
    format!("{}; {}", quote("stdout", stdout), quote("stderr", stderr))
}

/// A foreign text of bearable length.
pub(super) fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(200).collect();
    if text.chars().nth(200).is_some() {
        out.push('…');
    }
    out
}
