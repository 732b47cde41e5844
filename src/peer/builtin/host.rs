//! The go-plugin host: starts a plugin, reads its line, connects, and ends it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::DEFAULT_KEY;
use super::client::Wire;
use super::codec::Raw;
use super::proto::health::health_check_response::ServingStatus;
use super::proto::health::{HealthCheckRequest, HealthCheckResponse};
use super::proto::plugin::stdio_data::Channel;
use super::proto::plugin::{Empty, StdioData};
use super::spawn::{Output, Process, Program, Spawned, Spawner};
use crate::axis::values::TlsMode;

use crate::handshake::{Cookie, HostEnv, LINE_LIMIT, Line, read_line};
use crate::outcome::evidence::ConnectionFacts;
use crate::outcome::{Exit, Phase};
use crate::peer::{
    CallOptions, CallRequest, CallResult, ChannelOptions, Connection, LaunchRequest, PeerError, Stream, TlsSpec,
};
use crate::pki::Identity;
use crate::transport::Fault;

/// TCP ports that a plugin is offered, as go-plugin's host does by default.
const PORTS: (u16, u16) = (10_000, 25_000);

/// What a plugin inherits of this process's environment.
const INHERITED: &[&str] = &["PATH", "HOME", "TMPDIR"];

/// stdout and stderr that came by `GRPCStdio`: this much of each is kept, the oldest goes first.
const STDIO_KEPT: usize = 1 << 20;

/// Lines of stderr kept for error texts, and their length in bytes.
const STDERR_LINES: usize = 20;
const STDERR_LINE: usize = 500;

/// After a plugin has ended, its output may still be in the pipe; a grandchild that holds the pipe
/// open must not hold up the verdict.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Starts a plugin and connects to it.
pub(super) async fn launch(spawner: &dyn Spawner, request: LaunchRequest, lenient: bool) -> Result<Hosted, PeerError> {
    let deadline = Instant::now() + request.within;
    let own = own_identity(&request)?;
    let env = HostEnv {
        cookie: Cookie { key: request.cookie.0.clone(), value: request.cookie.1.clone() },
        protocol_versions: request.protocol_versions.clone(),
        ports: PORTS,
        client_cert: own.as_ref().map(|own| own.chain_pem().to_owned()),
        socket_dir: Some(request.folder.clone()),
    };
    let mut plugin = start(spawner, &request, env).await?;
    let result = connect(&mut plugin, &request, own, deadline, lenient).await;
    let wire = match result {
        Ok(wire) => wire,
        Err(error) => {
            plugin.kill().await;
            return Err(error);
        }
    };
    let stdio = Arc::new(Stdio::default());
    fetch_stdio(&wire, Arc::clone(&stdio));
    Ok(Hosted { wire, plugin, stdio, grace: request.grace })
}

/// Under `AutoMTLS` the host's own certificate: the given one, or a fresh one as go-plugin makes.
fn own_identity(request: &LaunchRequest) -> Result<Option<Arc<Identity>>, PeerError> {
    if request.tls.mode != TlsMode::Auto {
        return Ok(None);
    }
    if let Some(given) = &request.tls.identity {
        return Ok(Some(Arc::clone(given)));
    }
    let made = Identity::self_signed(DEFAULT_KEY).map_err(|error| PeerError {
        harness: true,
        ..Fault::new(Phase::Spawn, "spawn.certificate", error.to_string()).into()
    })?;
    Ok(Some(Arc::new(made)))
}

async fn start(spawner: &dyn Spawner, request: &LaunchRequest, env: HostEnv) -> Result<Plugin, PeerError> {
    let inherited = INHERITED.iter().filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let mut all: Vec<(String, String)> = inherited.collect();
    for (name, value) in env.vars().into_iter().chain(request.env.iter().cloned()) {
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    }
    let program = Program { argv: request.argv.clone(), env: all };
    let started = spawner.spawn(program).await.map_err(|error| {
        let command = request.argv.first().map_or("", String::as_str);
        let said = error.to_string();
        let text = if said.contains(command) { said } else { format!("cannot start `{command}`: {said}") };
        PeerError { harness: true, ..Fault::new(Phase::Spawn, "spawn.failed", text).into() }
    })?;
    Ok(Plugin::watch(started))
}

async fn connect(
    plugin: &mut Plugin,
    request: &LaunchRequest,
    own: Option<Arc<Identity>>,
    deadline: Instant,
    lenient: bool,
) -> Result<Wire, PeerError> {
    let bytes = plugin.line(deadline, request.within).await?;
    let auto = own.is_some();
    let reading = read_line(&bytes, &request.protocol_versions, auto);
    let refuse =
        |code: &str, text: &str| PeerError::from(Fault::new(Phase::Handshake, format!("handshake.{code}"), text));
    let line = match (reading.line, &reading.problem) {
        (Some(line), None) => line,
        (Some(line), Some(problem)) if !problem.certain && (lenient || !auto || line.cert.is_some()) => line,
        (_, Some(problem)) => return Err(refuse(&problem.code, &problem.text)),
        (None, None) => return Err(refuse("line.noise", "the handshake line could not be read")),
    };
    let tls = tls_of(&request.tls, own, &line);
    let wire = match Wire::open(
        &line.target,
        &tls,
        ChannelOptions::default(),
        deadline.saturating_duration_since(Instant::now()),
    )
    .await
    {
        Ok(wire) => wire,
        Err(fault) => return Err(plugin.explain(fault).await.into()),
    };
    health(&wire, deadline).await?;
    Ok(wire)
}

/// The TLS of the connection: under `auto` with what the line announced, plaintext when it announced
/// nothing (only a lenient host gets here then).
fn tls_of(asked: &TlsSpec, own: Option<Arc<Identity>>, line: &Line) -> TlsSpec {
    if asked.mode != TlsMode::Auto {
        return asked.clone();
    }
    match line.cert.clone().and_then(|der| Identity::from_der(der).ok()) {
        Some(announced) => TlsSpec { ca: Some(Arc::new(announced)), identity: own, ..asked.clone() },
        None => TlsSpec { server_name: asked.server_name.clone(), ..TlsSpec::none() },
    }
}

/// go-plugin serves health for `plugin`; a host's first call, and the first proof of the connection.
async fn health(wire: &Wire, deadline: Instant) -> Result<(), PeerError> {
    let request = HealthCheckRequest { service: "plugin".to_owned() };
    let call = CallRequest {
        method: "grpc.health.v1.Health/Check".to_owned(),
        send: vec![Bytes::from(request.encode_to_vec())],
        metadata: Vec::new(),
        deadline: deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
        options: CallOptions::default(),
    };
    let result = wire.run(call).await?;
    if let Some(reported) = result.reported {
        let timed_out = result.status.code == "DEADLINE_EXCEEDED";
        return Err(PeerError { reported, refused: false, harness: false, timed_out });
    }
    let serving = result.receive.first().and_then(|message| HealthCheckResponse::decode(message.as_ref()).ok());
    match serving.map(|response| response.status()) {
        Some(ServingStatus::Serving) => Ok(()),
        other => {
            let text = match other {
                Some(status) => format!("the plugin's health is {}", status.as_str_name()),
                None => format!("the plugin's health check failed: {} {}", result.status.code, result.status.text),
            };
            let mut fault = Fault::new(Phase::Rpc, "rpc.health", text);
            fault.reported.status = Some(result.status);
            Err(fault.into())
        }
    }
}

/// What is known of the process: fed by the task that owns it.
struct Plugin {
    line: Option<oneshot::Receiver<Option<Vec<u8>>>>,
    exit: watch::Receiver<Option<Exit>>,
    kill: CancellationToken,
    stderr: Arc<Mutex<VecDeque<String>>>,
    /// Cancelled when standard error has ended.
    silent: CancellationToken,
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

impl Plugin {
    fn watch(spawned: Spawned) -> Self {
        let (line_to, line) = oneshot::channel();
        let (exit_to, exit) = watch::channel(None);
        let kill = CancellationToken::new();
        let stderr = Arc::default();
        tokio::spawn(read_stdout(spawned.stdout, line_to));
        let silent = CancellationToken::new();
        let reading = read_stderr(spawned.stderr, Arc::clone(&stderr));
        let ended = silent.clone().drop_guard();
        tokio::spawn(async move {
            reading.await;
            drop(ended);
        });
        tokio::spawn(supervise(spawned.process, exit_to, kill.clone()));
        Self { line: Some(line), exit, kill, stderr, silent }
    }

    /// The first line of stdout, or why there is none.
    async fn line(&mut self, deadline: Instant, within: Duration) -> Result<Vec<u8>, PeerError> {
        let Some(mut line) = self.line.take() else { return Err(self.no_line().into()) };
        let mut exit = self.exit.clone();
        let first = tokio::select! {
            biased;
            first = &mut line => first.ok().flatten(),
            _ = ended(&mut exit) => {
                timeout(LAST_WORDS, line).await.ok().and_then(Result::ok).flatten()
            }
            () = tokio::time::sleep_until(deadline) => {
                let text = format!("the plugin printed no handshake line within {within:?}{}", self.last_words());
                return Err(Fault::new(Phase::Handshake, "handshake.silence", text).timed_out().into());
            }
        };
        if let Some(bytes) = first {
            return Ok(bytes);
        }
        // stdout has ended; the exit is on its way, unless the plugin only closed it.
        if let Ok(Some(_)) = timeout_at(deadline.min(Instant::now() + LAST_WORDS), ended(&mut self.exit)).await {
            // Why it ended is on its way, too, unless something that it left behind keeps the pipe.
            let _ = timeout(LAST_WORDS, self.silent.cancelled()).await;
        }
        Err(self.no_line().into())
    }

    fn no_line(&self) -> Fault {
        let exit = *self.exit.borrow();
        let Some(exit) = exit else {
            let text = format!("the plugin closed its stdout without a handshake line{}", self.last_words());
            return Fault::new(Phase::Handshake, "handshake.stdout-closed", text);
        };
        let text = format!("the plugin {} before it printed a handshake line{}", describe(exit), self.last_words());
        Fault::new(Phase::Handshake, "handshake.exit", text).native(native(exit))
    }

    /// A failed connection to a plugin that has ended is that plugin's end, not the connection's.
    async fn explain(&mut self, mut fault: Fault) -> Fault {
        if !fault.code().starts_with("connect.refused") && !fault.code().ends_with("closed") {
            return fault;
        }
        if let Ok(Some(exit)) = timeout(LAST_WORDS, ended(&mut self.exit)).await {
            let text = format!(
                "{}; the plugin {} after its handshake line{}",
                fault.reported.error,
                describe(exit),
                self.last_words()
            );
            fault.reported.native = Some(native(exit));
            fault.reported.error.clone_from(&text);
            if let Some(cause) = &mut fault.reported.cause {
                cause.text = text;
            }
        }
        fault
    }

    fn last_words(&self) -> String {
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        format!("; its stderr says: {}", lines.join(" / "))
    }

    async fn kill(mut self) {
        self.kill.cancel();
        let _ = ended(&mut self.exit).await;
    }
}

/// Waits for the process to end; `None` when nobody will tell.
async fn ended(exit: &mut watch::Receiver<Option<Exit>>) -> Option<Exit> {
    exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit)
}

fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with status {code}"),
        Exit::Signal(signal) => format!("was killed by signal {signal}"),
    }
}

fn native(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}

async fn supervise(mut process: Box<dyn Process>, exit_to: watch::Sender<Option<Exit>>, kill: CancellationToken) {
    let exit = tokio::select! {
        exit = process.wait() => exit,
        () = kill.cancelled() => {
            process.kill();
            process.wait().await
        }
    };
    let _ = exit_to.send(Some(exit.unwrap_or(Exit::Signal(0))));
}

/// Reads the first line, then drains for ever: a full pipe would block the plugin.
async fn read_stdout(mut stdout: Output, line_to: oneshot::Sender<Option<Vec<u8>>>) {
    let mut line_to = Some(line_to);
    let mut line = Vec::new();
    let mut chunk = vec![0_u8; 8 << 10];
    loop {
        let read = stdout.read(&mut chunk).await.unwrap_or(0);
        let bytes = chunk.get(..read).unwrap_or(&[]);
        if line_to.is_some() {
            line.extend_from_slice(bytes);
            let newline = line.iter().position(|&byte| byte == b'\n');
            if newline.is_some() || line.len() > LINE_LIMIT || (read == 0 && !line.is_empty()) {
                line.truncate(newline.unwrap_or(line.len()));
                if let Some(to) = line_to.take() {
                    let _ = to.send(Some(std::mem::take(&mut line)));
                }
            }
        }
        if read == 0 {
            break;
        }
    }
    if let Some(to) = line_to {
        let _ = to.send(None);
    }
}

/// Drains for ever and keeps the last lines.
async fn read_stderr(mut stderr: Output, kept: Arc<Mutex<VecDeque<String>>>) {
    let mut chunk = vec![0_u8; 8 << 10];
    let mut line = Vec::new();
    loop {
        let read = stderr.read(&mut chunk).await.unwrap_or(0);
        for &byte in chunk.get(..read).unwrap_or(&[]) {
            if byte == b'\n' {
                keep(&kept, &mut line);
            } else if line.len() < STDERR_LINE {
                line.push(byte);
            }
        }
        if read == 0 {
            keep(&kept, &mut line);
            return;
        }
    }
}

fn keep(kept: &Mutex<VecDeque<String>>, line: &mut Vec<u8>) {
    if line.is_empty() {
        return;
    }
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() == STDERR_LINES {
        kept.pop_front();
    }
    kept.push_back(String::from_utf8_lossy(line).into_owned());
    line.clear();
}

/// What came by `GRPCStdio`, and how often it grew.
#[derive(Debug, Default)]
struct Stdio {
    kept: Mutex<(BytesMut, BytesMut)>,
    grown: watch::Sender<u64>,
    looked: AtomicU64,
}

impl Stdio {
    fn add(&self, message: &StdioData) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = match message.channel() {
            Channel::Stdout => &mut kept.0,
            Channel::Stderr => &mut kept.1,
            Channel::Invalid => return,
        };
        buffer.extend_from_slice(&message.data);
        if buffer.len() > STDIO_KEPT {
            let excess = buffer.len() - STDIO_KEPT;
            let _ = buffer.split_to(excess);
        }
        drop(kept);
        self.grown.send_modify(|times| *times += 1);
    }
}

/// Fetches stdio for as long as the connection lives; a plugin without it is tolerated, as
/// go-plugin's host does.
fn fetch_stdio(wire: &Wire, stdio: Arc<Stdio>) {
    let Ok((mut grpc, _)) = wire.grpc(CallOptions::default()) else { return };
    tokio::spawn(async move {
        let path = http::uri::PathAndQuery::from_static("/plugin.GRPCStdio/StreamStdio");
        let request = tonic::Request::new(tokio_stream::once(Bytes::new()));
        let Ok(response) = grpc.streaming(request, path, Raw).await else { return };
        let mut body = response.into_inner();
        while let Ok(Some(message)) = body.message().await {
            if let Ok(message) = StdioData::decode(message) {
                stdio.add(&message);
            }
        }
    });
}

/// A connection to a plugin that this host started.
pub(super) struct Hosted {
    wire: Wire,
    plugin: Plugin,
    stdio: Arc<Stdio>,
    grace: Duration,
}

impl Hosted {
    /// Asks the plugin to end, waits, and kills what is left, as go-plugin's host does. An
    /// `Unavailable` answer is the plugin's end, not a failure: a Go server stops before it answers.
    async fn end(self) {
        let Self { wire, mut plugin, stdio: _, grace } = self;
        let deadline = Instant::now() + grace;
        let call = CallRequest {
            method: "plugin.GRPCController/Shutdown".to_owned(),
            send: vec![Bytes::from(Empty {}.encode_to_vec())],
            metadata: Vec::new(),
            deadline: grace,
            options: CallOptions::default(),
        };
        let asked = wire.run(call).await.is_ok_and(|result| result.status.code != "UNIMPLEMENTED");
        wire.end().await;
        if asked {
            let _ = timeout_at(deadline, ended(&mut plugin.exit)).await;
        }
        plugin.kill().await;
    }
}

impl Connection for Hosted {
    fn facts(&self) -> Option<ConnectionFacts> {
        self.wire.facts()
    }

    fn call(&self, request: CallRequest) -> BoxFuture<'_, Result<CallResult, PeerError>> {
        self.wire.call(request)
    }

    fn open(&self, request: CallRequest) -> Option<BoxFuture<'_, Result<Box<dyn Stream>, PeerError>>> {
        self.wire.open(request)
    }

    fn stdio(&self) -> Option<(Bytes, Bytes)> {
        self.stdio.looked.store(*self.stdio.grown.borrow(), Ordering::Release);
        let kept = self.stdio.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Some((Bytes::copy_from_slice(&kept.0), Bytes::copy_from_slice(&kept.1)))
    }

    fn stdio_changed(&self) -> BoxFuture<'_, ()> {
        let mut grown = self.stdio.grown.subscribe();
        Box::pin(async move {
            let looked = self.stdio.looked.load(Ordering::Acquire);
            let _ = grown.wait_for(|times| *times > looked).await;
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.end())
    }
}
