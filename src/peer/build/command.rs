//! The commands of a build, run one after the other. Read by `build`.

use std::collections::VecDeque;

use tokio::io::AsyncReadExt as _;

use super::{BuildError, BuildLine, Task, tools};
use crate::outcome::Exit;
use crate::process::{Inherit, Program, SpawnError, Spawner};
use crate::scenario::model;

/// How many of a failed tool's last lines are shown.
const LAST_LINES: usize = 20;
/// Longest line that is handed on; longer ones are cut.
const LINE_BYTES: usize = 2 * 1024;

/// Runs a build's commands in order in the peer's folder.
pub(super) async fn run_all(
    task: Task<'_>,
    build: &model::Build,
    on_line: &mut (dyn FnMut(BuildLine) + Send),
) -> Result<(), BuildError> {
    let peer = &task.peer.name;
    for command in &build.run {
        let argv = task.argv(command)?;
        let command = quoted(&argv);
        on_line(BuildLine::Started { command: command.clone() });
        let program =
            Program { folder: Some(task.folder()), inherit: Inherit::All, merge_output: true, ..Program::new(argv) };
        let (exit, lines) = run(&program, task.spawner, on_line).await.map_err(|error| match error {
            SpawnError::NotOnPath { program: tool } => BuildError::MissingTool {
                peer: peer.clone(),
                tool,
                command: command.clone(),
                install: tools::UNDECLARED.to_owned(),
            },
            error => BuildError::Start { peer: peer.clone(), command: command.clone(), error },
        })?;
        if exit != Exit::Code(0) {
            return Err(BuildError::Failed { peer: peer.clone(), command, exit, lines });
        }
    }
    Ok(())
}

async fn run(
    program: &Program,
    spawner: &Spawner,
    on_line: &mut (dyn FnMut(BuildLine) + Send),
) -> Result<(Exit, Vec<String>), SpawnError> {
    let mut running = spawner.spawn(program).await?;
    let mut lines = Lines::default();
    if let Some(mut out) = running.stdout.take() {
        let mut chunk = vec![0; 16 * 1024];
        // Ends with the tool: its keeper kills whatever else could hold the pipe.
        while let Ok(got @ 1..) = out.read(&mut chunk).await {
            lines.take_in(chunk.get(..got).unwrap_or_default(), on_line);
        }
    }
    lines.end(on_line);
    let exit = running.watcher().gone().await;
    Ok((exit, lines.last.into()))
}

/// Splits output into lines, also at the carriage returns of progress bars.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    fn take_in(&mut self, bytes: &[u8], on_line: &mut (dyn FnMut(BuildLine) + Send)) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end(on_line),
                _ if self.begun.len() < LINE_BYTES => self.begun.push(*byte),
                _ => {}
            }
        }
    }

    fn end(&mut self, on_line: &mut (dyn FnMut(BuildLine) + Send)) {
        if self.begun.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned();
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        on_line(BuildLine::Output { line });
    }
}

/// A command line as a POSIX shell would be given it.
pub(super) fn quoted(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,~".contains(c);
    let words = argv.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_bounded_and_the_last_are_kept() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        let mut on_line = |line: BuildLine| seen.push(line);
        for n in 0..30 {
            lines.take_in(format!("line {n}\r\n").as_bytes(), &mut on_line);
        }
        lines.take_in(&vec![b'x'; 1 << 20], &mut on_line);
        lines.end(&mut on_line);
        assert_eq!(seen.len(), 31);
        assert_eq!(lines.last.len(), LAST_LINES);
        assert_eq!(lines.last.front().unwrap(), "line 11");
        assert_eq!(lines.last.back().unwrap().len(), LINE_BYTES);
    }

    #[test]
    fn a_shell_understands_quoted_lines() {
        let argv = ["go", "build", "-o", "a b", "it's", ""].map(String::from);
        assert_eq!(quoted(&argv), r"go build -o 'a b' 'it'\''s' ''");
    }
}
