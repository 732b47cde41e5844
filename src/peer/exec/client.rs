//! A client that is a program: each op is a run of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::command::{Setting, address, bytes_of};
use super::run::{self, Finished};
use super::verdict::Run;
use super::{Context, harness, told};
use crate::outcome::evidence::ConnectionFacts;
use crate::outcome::{Cause, Certainty, Phase};
use crate::peer::{
    Account, Act, Acted, Actor, CallRequest, CallResult, Client, ConnectRequest, Connection, LaunchRequest, PeerError,
    Stream, Target,
};
use crate::scenario::model::{self, ExecRun, Form};

/// Runs of one connection that are kept as evidence.
const RUNS_KEPT: usize = 8;
/// Characters of each output that are kept.
const OUTPUT_KEPT: usize = 16 << 10;
/// Budget of the proof that a program can refuse.
const PROOF: Duration = Duration::from_secs(20);
/// A name that no program knows.
const UNKNOWN: &str = "soupscen-no-such-name";

/// The client role of a program, for one case.
#[derive(Debug, Clone)]
pub struct ExecClient {
    exec: Arc<model::ExecClient>,
    setting: Arc<Setting>,
    overseer: Option<Arc<dyn Overseer>>,
}

/// Watches over the servers that a program starts by itself, one op at a time.
pub trait Overseer: Send + Sync + std::fmt::Debug {
    /// An op begins.
    fn begin(&self);
    /// Its program has ended: waits for a moment for the ends of its servers.
    fn over(&self) -> BoxFuture<'_, Begun>;
}

/// What a program did for an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// It started a server.
    pub started: bool,
    /// It dialled one that it had started.
    pub dialled: bool,
}

impl ExecClient {
    /// `exec` with its conditions already decided for the case. With an overseer it is launched: the
    /// program starts its servers.
    #[must_use]
    pub fn new(exec: Arc<model::ExecClient>, setting: Setting, overseer: Option<Arc<dyn Overseer>>) -> Self {
        Self { exec, setting: Arc::new(setting), overseer }
    }

    /// What a person types for an op, for a shell: against a server that is dialled, or started by
    /// this program.
    ///
    /// # Errors
    /// When nothing is declared for it, or a template cannot be filled in.
    pub fn by_hand(&self, act: &Act, target: Option<&Target>, program: &str) -> Result<String, PeerError> {
        let connection = self.exec_connection(address(target, program));
        let Some(run) = connection.run_of(&act.op) else {
            return Err(cannot(&format!("peer `{}` has nothing to run for `{}`", self.setting.peer, act.op)));
        };
        let number = connection.runs.fetch_add(1, Ordering::Relaxed);
        Ok(self.setting.render(&run.command, &connection.names(run, act, number)?)?.by_hand())
    }

    fn connection(&self, server: Value) -> Box<dyn Connection> {
        Box::new(self.exec_connection(server))
    }

    fn exec_connection(&self, server: Value) -> ExecConnection {
        let mut context = self.setting.context.clone();
        context.insert("server".into(), server);
        ExecConnection {
            exec: Arc::clone(&self.exec),
            setting: Arc::clone(&self.setting),
            context,
            overseer: self.overseer.clone(),
            turn: tokio::sync::Mutex::default(),
            runs: AtomicU64::new(0),
            account: Mutex::default(),
        }
    }
}

impl Client for ExecClient {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, PeerError>> {
        let connection = self.connection(address(Some(&request.target), ""));
        Box::pin(async move { Ok(connection) })
    }

    /// Nothing is started yet: each op starts a server of its own, by the program that stands first
    /// in `argv`.
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, PeerError>> {
        let connection = self.connection(address(None, request.argv.first().map_or("", String::as_str)));
        Box::pin(async move { Ok(connection) })
    }
}

/// Runs what must be refused, and says if it is not.
///
/// # Errors
/// When the program cannot be run, or does not refuse.
pub async fn refuses(exec: &model::ExecClient, setting: &Setting) -> Result<(), PeerError> {
    let Some(run) = &exec.refuses else { return Ok(()) };
    let mut context = setting.context.clone();
    context.insert("unknown".into(), UNKNOWN.into());
    // Nobody is dialled: a name comes first.
    let nowhere = Target::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    context.insert("server".into(), address(Some(&nowhere), ""));
    let what = format!("the proof of refusal of peer `{}`", setting.peer);
    let rendered = setting.render(&run.command, &context)?;
    let finished = run::run(&setting.spawner, rendered, PROOF).await?;
    let judged = Run { what: &what, patterns: &run.patterns, finished: &finished, folder: &setting.folder }.judge();
    match judged {
        Err(error) if error.refused => Ok(()),
        _ => {
            let text = format!(
                "{what} was not refused: it was run with the made-up name `{UNKNOWN}` and {}; {}; so a refusal by \
                 this program cannot be told from anything else: correct its `refused` pattern or `refuses`",
                run::ended(finished.exit),
                run::outputs(&finished.stdout, &finished.stderr)
            );
            Err(harness("exec.no-refusal", text))
        }
    }
}

/// A server's address, or its program, that the program is told on each run.
struct ExecConnection {
    exec: Arc<model::ExecClient>,
    setting: Arc<Setting>,
    context: Context,
    overseer: Option<Arc<dyn Overseer>>,
    /// Servers that are started by the client are told apart by who started them: one at a time.
    turn: tokio::sync::Mutex<()>,
    runs: AtomicU64,
    account: Mutex<Account>,
}

impl ExecConnection {
    fn run_of(&self, op: &str) -> Option<&ExecRun> {
        match op {
            "test" => self.exec.test.as_ref(),
            op => self.exec.ops.get(op).or(self.exec.call.as_ref()),
        }
    }

    async fn run(&self, act: Act) -> Result<Acted, PeerError> {
        let Some(run) = self.run_of(&act.op) else {
            return Err(cannot(&format!("peer `{}` has nothing to run for `{}`", self.setting.peer, act.op)));
        };
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let context = self.names(run, &act, number)?;
        let rendered = self.setting.render(&run.command, &context)?;
        let folder = rendered.program.folder.clone().unwrap_or_default();
        self.note(|account| account.commands.push(rendered.shown.clone()));
        let what = format!("`{}` of peer `{}`", act.op, self.setting.peer);
        let Some(overseer) = &self.overseer else {
            let finished = run::run(&self.setting.spawner, rendered, act.deadline).await?;
            self.keep(&finished);
            return Run { what: &what, patterns: &run.patterns, finished: &finished, folder: &folder }.judge();
        };
        let _turn = self.turn.lock().await;
        overseer.begin();
        let finished = run::run(&self.setting.spawner, rendered, act.deadline).await;
        let begun = overseer.over().await;
        let finished = match finished {
            Ok(finished) => finished,
            Err(error) if error.timed_out && !begun.started => return Err(unstarted(&what, &error.reported.error)),
            Err(error) => return Err(error),
        };
        self.keep(&finished);
        let judge = Run { what: &what, patterns: &run.patterns, finished: &finished, folder: &folder };
        match judge.judge() {
            Err(error) if error.refused => Err(error),
            _ if !begun.started => Err(unstarted(&what, &judge.words())),
            Ok(acted) if acted.reported.is_none() && !begun.dialled => Err(undialled(&what)),
            judged => judged,
        }
    }

    /// Everything that the templates of a run see.
    fn names(&self, run: &ExecRun, act: &Act, number: u64) -> Result<Context, PeerError> {
        let mut context = self.context.clone();
        // A general call is told messages, and has no use for what they were made of.
        let own = act.op == "test" || self.exec.ops.contains_key(&act.op);
        for (name, value) in act.args.iter().filter(|_| own) {
            let bytes = bytes_of(value);
            context.insert(name.clone(), self.hand_over(run, name, &bytes, number)?);
        }
        if act.op != "test" {
            let message = act.messages.first().map_or("{}", String::as_str).as_bytes();
            let pairs = act.metadata.iter().map(|(key, value)| json!({ "key": key, "value": metadata(key, value) }));
            context.insert("method".into(), act.method.clone().into());
            context.insert("message".into(), self.hand_over(run, "message", message, number)?);
            context.insert("messages".into(), act.messages.clone().into());
            context.insert("metadata".into(), pairs.collect::<Vec<_>>().into());
        }
        let millis = u64::try_from(act.deadline.as_millis()).unwrap_or(u64::MAX);
        context.insert("deadline".into(), json!({ "ms": millis, "s": millis.div_ceil(1000) }));
        Ok(context)
    }

    fn hand_over(&self, run: &ExecRun, name: &str, bytes: &[u8], number: u64) -> Result<Value, PeerError> {
        Ok(match run.forms.get(name).copied().unwrap_or(Form::Text) {
            Form::Base64 => STANDARD.encode(bytes).into(),
            Form::File => {
                let path = self.setting.file(&format!("{number}-{name}"), bytes)?;
                path.to_string_lossy().into_owned().into()
            }
            Form::Text => match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => text.into(),
                _ => {
                    let text = format!(
                        "`{name}` is no text that an argument can hold; hand it over otherwise: \
                         `values: {{ {name}: base64 }}` or `{{ {name}: file }}`"
                    );
                    return Err(harness("exec.argument", text));
                }
            },
        })
    }

    fn keep(&self, finished: &Finished) {
        self.note(|account| {
            for (stream, bytes) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
                if !bytes.is_empty() {
                    let kept = bytes.get(bytes.len().saturating_sub(OUTPUT_KEPT)..).unwrap_or_default();
                    account.output.push((stream, String::from_utf8_lossy(kept).into_owned()));
                }
            }
        });
    }

    fn note(&self, add: impl FnOnce(&mut Account)) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut account);
        let surplus = account.commands.len().saturating_sub(RUNS_KEPT);
        account.commands.drain(..surplus);
        let surplus = account.output.len().saturating_sub(2 * RUNS_KEPT);
        account.output.drain(..surplus);
    }
}

impl Actor for ExecConnection {
    fn act(&self, act: Act) -> BoxFuture<'_, Result<Acted, PeerError>> {
        Box::pin(self.run(act))
    }
}

impl Connection for ExecConnection {
    fn facts(&self) -> Option<ConnectionFacts> {
        None
    }

    fn call(&self, _: CallRequest) -> BoxFuture<'_, Result<CallResult, PeerError>> {
        Box::pin(async { Err(cannot("a program that is run once per op takes no messages")) })
    }

    fn open(&self, _: CallRequest) -> Option<BoxFuture<'_, Result<Box<dyn Stream>, PeerError>>> {
        None
    }

    fn stdio(&self) -> Option<(Bytes, Bytes)> {
        None
    }

    fn stdio_changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn actor(&self) -> Option<&dyn Actor> {
        Some(self)
    }

    fn account(&self) -> Account {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// A metadata value as people write it; bytes are base64, as on the wire.
fn metadata(key: &str, value: &Bytes) -> String {
    if key.ends_with("-bin") { STANDARD.encode(value) } else { String::from_utf8_lossy(value).into_owned() }
}

/// The program is to start a server, and has started none.
fn unstarted(what: &str, words: &str) -> PeerError {
    let text = format!(
        "{what} never started the server by the path that it was given; {words}; it has to be told \
         `{{{{ server.program }}}}`, by an argument or a variable"
    );
    let cause = Cause { code: "handshake.never-started".into(), certainty: Certainty::Observed, text: text.clone() };
    told(Some(Phase::Handshake), text, Some(cause))
}

/// The program has started a server, and tells of an answer without having asked it.
fn undialled(what: &str) -> PeerError {
    let text = format!("{what} tells of an answer, and never dialled the server that it had started");
    let cause = Cause { code: "connect.never".into(), certainty: Certainty::Observed, text: text.clone() };
    told(Some(Phase::Connect), text, Some(cause))
}

/// Nothing is declared for this.
fn cannot(text: &str) -> PeerError {
    let cause = Cause { code: "exec.undeclared".into(), certainty: Certainty::Observed, text: text.into() };
    PeerError { refused: true, ..told(Some(Phase::Spawn), text, Some(cause)) }
}
