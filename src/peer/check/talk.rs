//! A dialog with a driver, line by line: what is sent, what comes back, and what should not have.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::{FramedRead, LinesCodec};

use super::{Miss, Outcome, broken};
use crate::outcome::Exit;
use crate::peer::driver::message::{CONTRACT, MAX_LINE};
use crate::process::capture::Capture;
use crate::process::{Program, Spawned, Spawner};

/// What a driver may take for its first answer.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// A capability that nobody has: a driver that claims it claims everything.
pub(super) const PROBE: &str = "soupscen.probe.00000000";
/// Strays that are quoted, and characters of each.
const STRAYS: usize = 4;
const QUOTED: usize = 160;
/// Answers on their way to a rule.
const QUEUE: usize = 256;

/// What all processes of one check said that no rule asked for.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Lines on stdout that are no messages.
    pub(super) stray_lines: Mutex<Vec<String>>,
    /// Answers to nothing.
    pub(super) stray_answers: Mutex<Vec<String>>,
}

fn keep(list: &Mutex<Vec<String>>, text: &str) {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    if list.len() < STRAYS {
        list.push(short(text));
    }
}

/// At most so much of a text as is read.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A driver process and the lines to and from it.
pub(super) struct Talk {
    stdin: Option<pipe::Sender>,
    heard: mpsc::Receiver<Value>,
    /// Messages that came while something else was waited for.
    waiting: Vec<Value>,
    /// What was answered already, as type and what it belongs to.
    answered: HashSet<String>,
    process: Spawned,
    stderr: Capture,
    account: Arc<Account>,
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Talk {
    /// Starts the program.
    pub(super) async fn start(spawner: &Spawner, program: &Program, account: &Arc<Account>) -> Result<Self, String> {
        let mut process = spawner.spawn(program).await.map_err(|e| e.to_string())?;
        let (Some(stdout), Some(stderr)) = (process.stdout.take(), process.stderr.take()) else {
            return Err("a pipe of the driver is missing".into());
        };
        let (tell, heard) = mpsc::channel(QUEUE);
        tokio::spawn(read(stdout, tell, Arc::clone(account)));
        let stderr = Capture::start(stderr);
        Ok(Self {
            stdin: process.stdin.take(),
            heard,
            waiting: Vec::new(),
            answered: HashSet::new(),
            process,
            stderr,
            account: Arc::clone(account),
        })
    }

    /// Says `hello`, with a field that the contract does not know, and gives the answer.
    pub(super) async fn greet(&mut self) -> Result<Value, Miss> {
        let deadline_ms = u64::try_from(HELLO_WITHIN.as_millis()).unwrap_or(u64::MAX);
        self.say(&json!({
            "type": "hello", "contracts": [CONTRACT], "deadline_ms": deadline_ms, "probe": PROBE, "unknown_field": {"a": [1]},
        }))
        .await?;
        self.hear("`hello`", HELLO_WITHIN, |m| m["type"] == "hello").await
    }

    /// Sends a message.
    pub(super) async fn say(&mut self, message: &Value) -> Outcome {
        let line = format!("{message}\n");
        let sent = match &mut self.stdin {
            Some(stdin) => timeout(HELLO_WITHIN, stdin.write_all(line.as_bytes())).await,
            None => return broken("its stdin is closed already"),
        };
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => broken(format!("it no longer reads its stdin: {}", self.state().await)),
            Err(_) => broken(format!("it did not read its stdin for {HELLO_WITHIN:?}")),
        }
    }

    /// Ends its stdin.
    pub(super) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits for a message; others are kept for later. `what` names it in the text of a breach.
    pub(super) async fn hear(
        &mut self,
        what: &str,
        within: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Result<Value, Miss> {
        if let Some(at) = self.waiting.iter().position(&is) {
            return Ok(self.waiting.remove(at));
        }
        let deadline = Instant::now() + within;
        loop {
            match timeout_at(deadline, self.heard.recv()).await {
                Ok(Some(message)) if self.is_repeated(&message) => {}
                Ok(Some(message)) if is(&message) => return Ok(message),
                Ok(Some(message)) => self.waiting.push(message),
                Ok(None) => {
                    return broken(format!("expected {what}\ngot      the end of its stdout: {}", self.state().await));
                }
                Err(_) => return broken(format!("expected {what} within {within:?}\ngot      {}", self.instead())),
            }
        }
    }

    /// A message that has come already.
    pub(super) fn came(&mut self, is: impl Fn(&Value) -> bool) -> Option<Value> {
        while let Ok(message) = self.heard.try_recv() {
            if !self.is_repeated(&message) {
                self.waiting.push(message);
            }
        }
        self.waiting.iter().position(is).map(|at| self.waiting.remove(at))
    }

    /// Sends a request and waits for its one answer, whatever its type; told by `id`, `stream`, `seq`.
    pub(super) async fn ask(&mut self, request: &Value, within: Duration) -> Result<Value, Miss> {
        self.say(request).await?;
        let (id, stream, seq) = (request["id"].clone(), request["stream"].clone(), request["seq"].clone());
        let what = format!("an answer to `{}`", request["type"].as_str().unwrap_or_default());
        let answers = move |m: &Value| {
            let of = m["type"].as_str().unwrap_or_default();
            let own = !matches!(of, "observed" | "ended" | "cancelled");
            own && m["id"] == id && m["stream"] == stream && (of != "result" || m["seq"] == seq)
        };
        self.hear(&what, within, answers).await
    }

    /// The same, where only one type of answer will do.
    pub(super) async fn expect(&mut self, kind: &str, request: &Value, within: Duration) -> Result<Value, Miss> {
        let answer = self.ask(request, within).await?;
        if answer["type"] == kind {
            return Ok(answer);
        }
        broken(format!("expected `{kind}`\ngot      {}", short(&answer.to_string())))
    }

    /// Notes a second answer to one request.
    fn is_repeated(&mut self, message: &Value) -> bool {
        const ONCE: &[&str] =
            &["hello", "serving", "stopped", "launched", "killed", "connected", "closed", "result", "failed"];
        let kind = message["type"].as_str().unwrap_or_default();
        let belongs = format!("{kind} {} {}", message["id"], message["seq"]);
        if !ONCE.contains(&kind) || self.answered.insert(belongs) {
            return false;
        }
        keep(&self.account.stray_answers, &message.to_string());
        true
    }

    /// What came instead of what was waited for.
    fn instead(&self) -> String {
        match self.waiting.as_slice() {
            [] => "nothing".to_owned(),
            some => some.iter().rev().take(2).map(|m| short(&m.to_string())).collect::<Vec<_>>().join(", "),
        }
    }

    /// How its process stands, with its last words.
    async fn state(&self) -> String {
        let _ = timeout(Duration::from_millis(300), self.process.wait()).await;
        let mut text = match self.process.exit() {
            None => "it still runs".to_owned(),
            Some(Exit::Code(code)) => format!("it ended with status {code}"),
            Some(Exit::Signal(signal)) => format!("signal {signal} ended it"),
        };
        let words = self.stderr.snapshot().last_lines(5, 2000);
        if !words.is_empty() {
            let _ = write!(text, "; its last words:\n{}", words.join("\n"));
        }
        text
    }

    /// Waits for the process to end by itself.
    pub(super) async fn end(&mut self, within: Duration) -> Outcome {
        match timeout(within, self.process.wait()).await {
            Ok(Exit::Code(0)) => Ok(()),
            Ok(_) => broken(format!("expected exit status 0\ngot      {}", self.state().await)),
            Err(_) => broken(format!("expected its end within {within:?}\ngot      it still runs")),
        }
    }

    /// Whether the process is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.process.exit().is_some()
    }

    /// Notes what came and nobody asked for.
    pub(super) fn settle(&mut self) {
        while let Ok(message) = self.heard.try_recv() {
            if !self.is_repeated(&message) {
                self.waiting.push(message);
            }
        }
        // What comes by itself or may cross with a cancel is no answer to nothing.
        let free =
            |m: &Value| matches!(m["type"].as_str(), Some("observed" | "ended" | "cancelled" | "result" | "failed"));
        for message in self.waiting.drain(..).filter(|m| !free(m)) {
            keep(&self.account.stray_answers, &message.to_string());
        }
    }
}

async fn read(stdout: pipe::Receiver, tell: mpsc::Sender<Value>, account: Arc<Account>) {
    let mut lines = FramedRead::new(stdout, LinesCodec::new_with_max_length(MAX_LINE));
    while let Some(line) = lines.next().await {
        let message = match &line {
            Ok(line) => serde_json::from_str::<Value>(line).ok().filter(|m| m["type"].is_string()),
            Err(error) => {
                keep(&account.stray_lines, &error.to_string());
                return;
            }
        };
        match (message, line) {
            (Some(message), _) => {
                if tell.send(message).await.is_err() {
                    return;
                }
            }
            (None, Ok(line)) => keep(&account.stray_lines, &line),
            (None, Err(_)) => {}
        }
    }
}
