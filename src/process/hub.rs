//! The engine's end of every shim: hands out tickets and turns what shims tell into events.
//! Speaks `messages` with `shim`; read by `peer` and `exec`.

use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

pub use super::messages::StartOrder;
use super::messages::{
    ANSWER_WITHIN, Exited, FromShim, Hello, MESSAGE_BYTES, ToShim, VARIABLE, encode, from_base64, to_base64,
};
use super::spawned::without_forks;
use super::{SHIM_COMMAND, STAND_IN_COMMAND, scratch};
use crate::outcome::Exit;
use crate::outcome::evidence::{ProcessReport, Side};

/// Events of one ticket that wait for their reader; then that ticket's shims wait, and no others.
const QUEUE: usize = 64;
/// Arguments kept in a report, and the bytes of each.
const REPORT_ARGUMENTS: usize = 64;
const REPORT_ARGUMENT_BYTES: usize = 1024;

/// Longest first line of a script that Linux reads.
const FIRST_LINE: usize = 250;

/// What a shim tells. `start` counts the starts of a ticket from 0: a host may start its plugin again.
#[derive(Debug)]
pub enum ShimEvent {
    /// The plugin runs.
    Started {
        /// Which start.
        start: u32,
        /// What it was started with.
        started: Started,
    },
    /// The plugin could not be started at all.
    CannotStart {
        /// Which start.
        start: u32,
        /// Why, a sentence.
        error: String,
    },
    /// Its first line of standard output.
    Line {
        /// Which start.
        start: u32,
        /// The bytes, with their line end if there was one; at most 64 KiB.
        raw: Vec<u8>,
        /// Microseconds from its start.
        after_us: u64,
        /// Takes what the host is to read instead, line end included. Dropped: the line as it is.
        /// The shim waits for five seconds at most.
        reply: oneshot::Sender<Vec<u8>>,
    },
    /// It ended, and nothing of it is left.
    Exited {
        /// Which start.
        start: u32,
        /// How it ended, and what it had to say.
        exited: PluginExit,
    },
    /// The shim is gone without a word of the plugin's end: it was killed, or gave up on us.
    Lost {
        /// Which start.
        start: u32,
    },
}

/// What a host started a plugin with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// Its pid.
    pub pid: i32,
    /// Program and arguments as the host gave them, lossy, bounded.
    pub argv: Vec<String>,
    /// What was run in their place; the same where the ticket says nothing else.
    pub ran: Vec<String>,
    /// The `PLUGIN_*` variables of the host, lossy, bounded.
    pub env: Vec<(String, String)>,
    /// Whether the ticket's cookie variable was set, to whatever value; `None` without a cookie in
    /// the ticket.
    pub cookie_present: Option<bool>,
    /// Its working directory.
    pub folder: String,
}

/// How a plugin ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginExit {
    /// How.
    pub exit: Exit,
    /// The last signal that the host sent before; SIGKILL if the host killed the shim's front. Going
    /// by a call (`GRPCController/Shutdown`) is not seen here.
    pub asked: Option<i32>,
    /// Last lines of standard error: 64 of 16 KiB at most.
    pub stderr_tail: Vec<String>,
    /// Standard output beyond the first line: beginning and end, lossy.
    pub stdout_noise: String,
    /// Microseconds from start to end.
    pub lived_us: u64,
}

/// What a ticket is for.
#[derive(Debug, Clone, Default)]
pub struct TicketSpec {
    /// The key of the magic cookie, to learn whether the host sent it.
    pub cookie_key: Option<String>,
    /// How starts are changed on their way.
    pub order: StartOrder,
    /// The same, where it depends on what the host gave: takes the place of `order`.
    pub composer: Option<Composer>,
}

/// What a host composed for its plugin's start.
#[derive(Debug, Clone, Copy)]
pub struct Composed<'a> {
    /// Program and arguments, lossy, bounded.
    pub argv: &'a [String],
    /// Names of all variables, bounded.
    pub names: &'a [String],
    /// Not all of program and arguments is there as it was given.
    pub cut: bool,
}

/// Decides how a start is changed from what the host composed, or why there is to be none.
#[derive(Clone)]
pub struct Composer(Arc<Decide>);

type Decide = dyn Fn(Composed<'_>) -> Result<StartOrder, String> + Send + Sync;

impl Composer {
    /// By this function.
    pub fn new(decide: impl Fn(Composed<'_>) -> Result<StartOrder, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }
}

impl std::fmt::Debug for Composer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Composer")
    }
}

/// The right to report as one plugin, once or several times.
#[derive(Debug)]
pub struct Ticket {
    /// Goes before the plugin's own program and arguments.
    pub argv_prefix: Vec<String>,
    /// Goes into the environment of the host, or of the plugin's command.
    pub env: Vec<(String, String)>,
    /// What its shims tell. Dropping this ends the ticket.
    pub events: ShimEvents,
}

/// What the shims of one ticket tell. The ticket holds as long as this: afterwards shims pass
/// everything on unchanged.
#[derive(Debug)]
pub struct ShimEvents {
    receiver: mpsc::Receiver<ShimEvent>,
    token: String,
    tickets: Tickets,
}

impl ShimEvents {
    /// The next event; `None` never comes while the hub lives. Safe to drop and ask again.
    pub async fn recv(&mut self) -> Option<ShimEvent> {
        self.receiver.recv().await
    }

    /// The next event, if one is waiting.
    pub fn try_recv(&mut self) -> Option<ShimEvent> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for ShimEvents {
    fn drop(&mut self) {
        lock(&self.tickets).remove(&self.token);
    }
}

type Tickets = Arc<Mutex<HashMap<String, Entry>>>;

#[derive(Debug, Clone)]
struct Entry {
    spec: Arc<TicketSpec>,
    events: mpsc::Sender<ShimEvent>,
    starts: Arc<AtomicU32>,
}

fn lock(tickets: &Tickets) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
    tickets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The meeting place of a run's shims.
#[derive(Debug)]
pub struct Hub {
    socket: PathBuf,
    program: String,
    tickets: Tickets,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Hub {
    /// Listens in `folder`, which must be private and short (see `scratch`). Needs a runtime.
    ///
    /// # Errors
    /// When the socket cannot be made or this program's own path cannot be told.
    pub fn bind(folder: &Path) -> std::io::Result<Self> {
        let socket = folder.join(format!("hub-{}", scratch::random_name(4)?));
        let listener = UnixListener::bind(&socket).map_err(|error| {
            let text = format!("cannot listen on `{}` for plugin shims: {error}", socket.display());
            std::io::Error::new(error.kind(), text)
        })?;
        let tickets = Tickets::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&tickets)));
        Ok(Self { socket, program: own_program()?, tickets, accepting })
    }

    /// Makes a file that a client can start as its server: whatever the ticket says is run in its
    /// place. `folder` must exist; the file is called `server` there.
    ///
    /// # Errors
    /// When the file cannot be written, or its place has a path that no first line of a script can
    /// name.
    pub fn stand_in(&self, ticket: &Ticket, folder: &Path) -> std::io::Result<PathBuf> {
        let link = self.socket.with_file_name("self");
        match std::os::unix::fs::symlink(&self.program, &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let first = format!("#!{} {STAND_IN_COMMAND}", link.display());
        if first.len() > FIRST_LINE || link.to_string_lossy().contains(char::is_whitespace) {
            let text = format!("`{}` has white space or is too long; set TMPDIR to another folder", link.display());
            return Err(std::io::Error::other(text));
        }
        let path = folder.join("server");
        let value = ticket.env.first().map(|(_, value)| value.as_str()).unwrap_or_default();
        without_forks(|| {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
            std::io::Write::write_all(&mut file, format!("{first}\n{value}\n").as_bytes())
        })?;
        Ok(path)
    }

    /// Hands out a ticket.
    ///
    /// # Errors
    /// When the system's random generator cannot be read.
    pub fn ticket(&self, spec: TicketSpec) -> std::io::Result<Ticket> {
        let token = scratch::random_name(16)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let entry = Entry { spec: Arc::new(spec), events: sender, starts: Arc::default() };
        lock(&self.tickets).insert(token.clone(), entry);
        Ok(Ticket {
            argv_prefix: vec![self.program.clone(), SHIM_COMMAND.to_owned()],
            env: vec![(VARIABLE.to_owned(), format!("{token}@{}", self.socket.display()))],
            events: ShimEvents { receiver, token, tickets: Arc::clone(&self.tickets) },
        })
    }
}

/// A path by which any process can start this very program, also after the file was replaced (a
/// rebuild during a run).
fn own_program() -> std::io::Result<String> {
    let path = std::env::current_exe()?.to_string_lossy().into_owned();
    if path.ends_with(" (deleted)") { Ok(format!("/proc/{}/exe", std::process::id())) } else { Ok(path) }
}

async fn accept(listener: UnixListener, tickets: Tickets) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&tickets)));
            }
            // Out of descriptors: shims wait in the queue meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// One shim's connection. Ends when either side does; the shim then goes on unchanged.
async fn serve(stream: UnixStream, tickets: Tickets) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let Ok(Some(FromShim::Hello(hello))) = tokio::time::timeout(ANSWER_WITHIN, read_message(&mut reader)).await else {
        return;
    };
    let Some(entry) = lock(&tickets).get(&hello.token).cloned() else { return };
    let start = entry.starts.fetch_add(1, Ordering::Relaxed);
    let composed = Composed { argv: &hello.argv, names: &hello.names, cut: hello.cut };
    let order = match &entry.spec.composer {
        Some(composer) => (composer.0)(composed),
        None => Ok(entry.spec.order.clone()),
    };
    let ran = order.as_ref().ok().and_then(|order| order.argv.clone());
    let answer = match order {
        Ok(order) => ToShim::Start(order),
        Err(error) => {
            let _ = writer.write_all(&encode(&ToShim::Refuse { error: error.clone() })).await;
            let _ = entry.events.send(ShimEvent::CannotStart { start, error }).await;
            return;
        }
    };
    if writer.write_all(&encode(&answer)).await.is_err() {
        let _ = entry.events.send(ShimEvent::Lost { start }).await;
        return;
    }
    let cookie_key = entry.spec.cookie_key.clone();
    let conversation = Conversation { start, hello, ran, cookie_key, writer: Some(writer), open: None };
    conversation.listen(reader, &entry.events).await;
}

struct Conversation {
    start: u32,
    hello: Hello,
    ran: Option<Vec<String>>,
    cookie_key: Option<String>,
    writer: Option<OwnedWriteHalf>,
    /// Dropped with the conversation, which lets the answering task go.
    open: Option<oneshot::Sender<()>>,
}

impl Conversation {
    async fn listen(mut self, mut reader: BufReader<OwnedReadHalf>, events: &mpsc::Sender<ShimEvent>) {
        let start = self.start;
        loop {
            let (event, last) = match read_message(&mut reader).await {
                Some(FromShim::Started { pid }) => (ShimEvent::Started { start, started: self.started(pid) }, false),
                Some(FromShim::CannotStart { error }) => (ShimEvent::CannotStart { start, error }, true),
                Some(FromShim::Line { raw, after_us }) => {
                    let raw = from_base64(&raw).unwrap_or_default();
                    let reply = self.answer(raw.clone());
                    (ShimEvent::Line { start, raw, after_us, reply }, false)
                }
                Some(FromShim::Exited(exited)) => (ShimEvent::Exited { start, exited: exited.into() }, true),
                Some(FromShim::Hello(_)) | None => (ShimEvent::Lost { start }, true),
            };
            if events.send(event).await.is_err() || last {
                return;
            }
        }
    }

    fn started(&mut self, pid: i32) -> Started {
        let hello = std::mem::take(&mut self.hello);
        let cookie_present = self.cookie_key.as_ref().map(|key| hello.names.contains(key));
        let ran = self.ran.take().unwrap_or_else(|| hello.argv.clone());
        Started { pid, argv: hello.argv, ran, env: hello.env, cookie_present, folder: hello.folder }
    }

    /// Sends what the engine decides; in a task of its own, so that the plugin's end is heard meanwhile.
    fn answer(&mut self, raw: Vec<u8>) -> oneshot::Sender<Vec<u8>> {
        let (reply, decided) = oneshot::channel();
        if let Some(mut writer) = self.writer.take() {
            let (open, mut closed) = oneshot::channel::<()>();
            self.open = Some(open);
            tokio::spawn(async move {
                let instead = tokio::select! {
                    decided = decided => decided.unwrap_or(raw),
                    _ = &mut closed => return,
                };
                let _ = writer.write_all(&encode(&ToShim::Print { raw: to_base64(&instead) })).await;
                // Held open until then: its end would tell the shim that the engine is gone.
                let _ = closed.await;
            });
        }
        reply
    }
}

impl From<Exited> for PluginExit {
    fn from(told: Exited) -> Self {
        let Exited { exit, asked, stderr_tail, stdout_noise, lived_us } = told;
        Self { exit, asked, stderr_tail, stdout_noise, lived_us }
    }
}

async fn read_message(reader: &mut BufReader<OwnedReadHalf>) -> Option<FromShim> {
    let mut line = Vec::new();
    let limit = MESSAGE_BYTES as u64;
    reader.take(limit).read_until(b'\n', &mut line).await.ok()?;
    if line.last() != Some(&b'\n') {
        return None;
    }
    serde_json::from_slice(&line).ok()
}

/// A plugin's process as evidence. `asked_to_end`: the engine or the host asked it by a call; a
/// signal of the host is added here.
#[must_use]
pub fn process_report(side: Side, started: &Started, exited: Option<&PluginExit>, asked_to_end: bool) -> ProcessReport {
    let argv = started.ran.iter().take(REPORT_ARGUMENTS);
    ProcessReport {
        side,
        argv: argv.map(|a| a.chars().take(REPORT_ARGUMENT_BYTES).collect()).collect(),
        exit: exited.map(|e| e.exit),
        asked_to_end: asked_to_end || exited.is_some_and(|e| e.asked.is_some()),
        stderr_tail: exited.map(|e| e.stderr_tail.clone()).unwrap_or_default(),
        lived_us: exited.map(|e| e.lived_us),
    }
}
