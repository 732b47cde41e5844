//! A lane: one live connection between the two peers of a case, with the engine's senses on it.
//! Two ways to get one: the client launches a plugin through the shim, or the engine starts the
//! server and has the client dial it. The relay is between them whenever a side is not ours.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::axis::options::{ChannelOptions, Limits};
use crate::axis::values::{HostChanges, Transport};
use crate::event::{PeerCommand, PeerOutput};
use crate::outcome::Phase;
use crate::outcome::diagnose::{self, Diagnosis};
use crate::outcome::evidence::{Evidence, RanOut, Side};
use crate::peer::driver::Driver;
use crate::peer::{ConnectRequest, Connection, LastWord, LaunchRequest, PeerError, ServeRequest, Served, Target};
use crate::process::hub::{StartOrder, Ticket, TicketSpec};
use crate::wire::{Endpoint, Relay};

use super::case::Job;
use super::context::RunContext;
use super::far::FarEnd;
use super::outside;
use super::senses::Senses;
use super::shims::Watch;
use super::starts::Watcher;
use super::tls::SideSpecs;

/// How long a host may still say its own word on a failure that is certain already. It decides
/// nothing any more, and most say it within 5 ms.
pub(super) const LAST_WORD: Duration = Duration::from_millis(60);
/// How long the end of a plugin that its host has given up is waited for: it tells a crash from a
/// refusal. On a busy machine the end is known some hundred milliseconds after the broken connection.
pub(super) const LAST_EXIT: Duration = Duration::from_millis(600);
/// The same where there was no line: then the end, or what made the host kill it, is all there is.
const LAST_EXIT_WITHOUT_LINE: Duration = Duration::from_secs(1);
/// How long after its budget a line is still looked for, so that late and never are told apart.
const LATE_WATCH: Duration = Duration::from_millis(800);
/// What a host gets on top of the engine's budget and [`LATE_WATCH`], which therefore decide.
const HOST_SLACK: Duration = Duration::from_secs(2);
/// App protocol versions that hosts of this engine speak, unless the case changes them.
const PROTOCOL_VERSIONS: [u32; 1] = [1];

/// A live connection.
pub(super) struct Lane {
    /// Taken when it ends.
    connection: Option<Box<dyn Connection>>,
    pub(super) senses: Arc<Senses>,
    /// Listens to the plugin's shim as long as the lane lives.
    watcher: Option<AbortOnDropHandle<()>>,
    /// Keeps the server of a direct lane up.
    server: Option<Arc<DirectServer>>,
    pub(super) commands: Vec<PeerCommand>,
    teardown: tokio_util::task::TaskTracker,
    /// It is being given up: nobody waits for it any longer.
    leaving: CancellationToken,
    /// It is closed, and its plugin has ended.
    gone: CancellationToken,
}

impl Lane {
    /// Whether its server has, or had, other connections than this one.
    pub(super) fn shares_its_server(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.is_shared())
    }

    /// Has everyone let go of it; once nobody holds it, it is closed. Gives what tells when it is.
    pub(super) fn leave(&self) -> CancellationToken {
        self.senses.end();
        self.leaving.cancel();
        self.gone.clone()
    }

    /// A call waits for the connection: soon it can be made, if it was refused until now.
    pub(super) fn admit(&self) {
        self.senses.admit();
    }

    /// Resolves when it is being given up.
    pub(super) async fn leaving(&self) {
        self.leaving.cancelled().await;
    }

    /// What the plugin printed after its line, as its host received it.
    pub(super) fn stdio_output(&self, server: &str, shared: bool) -> Vec<PeerOutput> {
        let Some((stdout, stderr)) = self.connection().and_then(Connection::stdio) else { return Vec::new() };
        let streams = [("stdout", stdout), ("stderr", stderr)].into_iter().filter(|(_, bytes)| !bytes.is_empty());
        streams
            .map(|(stream, bytes)| PeerOutput {
                role: format!("server {server}"),
                stream: stream.into(),
                text: String::from_utf8_lossy(&bytes).into_owned(),
                shared,
            })
            .collect()
    }

    /// What was run of peers that are only programs, and what they printed.
    pub(super) fn accounts(&self, client: &str, server: &str, shared: bool) -> (Vec<PeerCommand>, Vec<PeerOutput>) {
        let of_client = self.connection().map(Connection::account);
        let of_server = self.senses.server_account();
        let mut commands = Vec::new();
        let mut output = Vec::new();
        let started = self.senses.starts.commands();
        commands.extend(started.into_iter().map(|command| PeerCommand { role: format!("server {server}"), command }));
        for (role, account, shared) in
            [(format!("client {client}"), of_client, false), (format!("server {server}"), of_server, shared)]
        {
            let Some(account) = account else { continue };
            commands.extend(account.commands.into_iter().map(|command| PeerCommand { role: role.clone(), command }));
            output.extend(account.output.into_iter().map(|(stream, text)| PeerOutput {
                role: role.clone(),
                stream: stream.into(),
                text,
                shared,
            }));
        }
        (commands, output)
    }

    pub(super) fn connection(&self) -> Option<&dyn Connection> {
        self.connection.as_deref()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.senses.end();
        if let Some(connection) = self.connection.take() {
            let watcher = self.watcher.take();
            let gone = self.gone.clone();
            self.teardown.spawn(async move {
                connection.close().await;
                drop(watcher);
                gone.cancel();
            });
        }
    }
}

/// Why there is no lane.
#[derive(Clone)]
pub(super) struct StartFailure {
    pub(super) evidence: Box<Evidence>,
    /// What was certain before the client had its say.
    pub(super) certain: Option<Box<Diagnosis>>,
    pub(super) error: Option<PeerError>,
    pub(super) commands: Vec<PeerCommand>,
    pub(super) output: Vec<PeerOutput>,
}

impl StartFailure {
    /// It was not even tried.
    fn of(error: PeerError, commands: Vec<PeerCommand>) -> Self {
        Self { evidence: Box::default(), certain: None, error: Some(error), commands, output: Vec::new() }
    }
}

/// What a lane is made for.
pub(super) struct LaneRequest<'a> {
    pub(super) job: &'a Job,
    pub(super) client: &'a str,
    pub(super) server: &'a str,
    pub(super) service: &'a str,
    pub(super) transport: Option<Transport>,
    pub(super) tls: SideSpecs,
    /// What templates of commands see.
    pub(super) context: serde_json::Map<String, serde_json::Value>,
    /// For its sockets; none for a lane that only dials.
    pub(super) folder: PathBuf,
    /// For what its server keeps.
    pub(super) storage: PathBuf,
    /// What the case changes about the host of a plugin.
    pub(super) host: HostChanges,
    /// What else is asked of the connection.
    pub(super) options: ChannelOptions,
    /// The largest messages of the server.
    pub(super) limits: Limits,
    /// Nobody is let in until [`Lane::admit`].
    pub(super) refuse: bool,
    pub(super) start: Duration,
    pub(super) grace: Duration,
}

/// A server that the engine started.
pub(super) struct DirectServer {
    /// Connections that were made to it: with more than one, what its end saw may be another case's.
    connections: AtomicU64,
    served: Option<Arc<dyn Served>>,
    far: Option<Arc<FarEnd>>,
    /// The process that serves nothing else, as far as that is known.
    process: Option<Driver>,
    in_process: bool,
    ended: AtomicBool,
    target: Target,
    command: PeerCommand,
    grace: Duration,
    teardown: tokio_util::task::TaskTracker,
}

impl DirectServer {
    /// Whether more than one connection was made to it.
    pub(super) fn is_shared(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 1
    }

    /// Ends it, and the process that serves nothing else.
    pub(super) async fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(served) = self.served.clone() {
            served.stop(self.grace).await;
        }
        if let Some(process) = &self.process {
            process.end().await;
        }
    }
}

impl Drop for DirectServer {
    fn drop(&mut self) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        if let Some(served) = self.served.take() {
            let (grace, process) = (self.grace, self.process.take());
            self.teardown.spawn(async move {
                served.stop(grace).await;
                if let Some(process) = process {
                    process.end().await;
                }
            });
        }
    }
}

/// Starts the server of a direct lane; `alone`: as a process that serves nothing else.
pub(super) async fn serve(
    run: &RunContext,
    request: &LaneRequest<'_>,
    alone: bool,
) -> Result<DirectServer, StartFailure> {
    let mut process = None;
    let by_hand = run.settings.debug.as_ref().is_some_and(|debug| debug.side == Side::Server);
    let in_process = !alone && !by_hand && run.peers.is_builtin(request.server, Side::Server);
    let command = run.peers.command(request.server, Side::Server);
    let start = async {
        if let Some(debug) = run.settings.debug.as_ref().filter(|debug| debug.side == Side::Server) {
            return Ok((None, debug.server(run, request).await?));
        }
        if let Some(target) = run.peers.attached(request.server) {
            return Ok((None, target?));
        }
        let server = if let Some(server) = outside::server(run, request) {
            server
        } else if alone {
            let (server, driver) = run.peers.own_server(request.server)?;
            process = driver;
            server
        } else {
            run.peers.server(request.server)?
        };
        let served = server
            .serve(ServeRequest {
                service: run.service_name(request.service),
                transport: request.transport.unwrap_or(Transport::Tcp),
                tls: request.tls.server.clone(),
                folder: request.folder.clone(),
                storage: request.storage.clone(),
                limits: request.limits,
                within: request.start,
            })
            .await?;
        let target = served.target();
        Ok((Some(served), target))
    };
    match start.await {
        Ok((served, target)) => Ok(DirectServer {
            connections: AtomicU64::new(0),
            far: served.clone().map(FarEnd::new),
            served,
            process,
            in_process,
            ended: AtomicBool::new(false),
            target,
            command,
            grace: request.grace,
            teardown: run.teardown.clone(),
        }),
        Err(error) => {
            let error: PeerError = error;
            let evidence =
                Evidence { server: Some(error.reported.clone()), known: request.tls.known(), ..Evidence::default() };
            Err(StartFailure {
                evidence: Box::new(evidence),
                certain: None,
                error: Some(error),
                commands: vec![command],
                output: run.peers.output(request.server, Side::Server),
            })
        }
    }
}

/// Dials a server that the engine started.
pub(super) async fn connect(
    run: &RunContext,
    request: LaneRequest<'_>,
    server: Arc<DirectServer>,
) -> Result<Lane, StartFailure> {
    server.connections.fetch_add(1, Ordering::Relaxed);
    if let Some(far) = &server.far {
        far.dial(request.client, &request.tls.client);
    }
    let commands = vec![run.peers.command(request.client, Side::Client), server.command.clone()];
    let senses = Senses::new(request.tls.known(), server.far.clone());
    request.job.progress.begin(&senses, &commands);
    let fail = |evidence, certain, error, output| StartFailure {
        evidence: Box::new(evidence),
        certain,
        error,
        commands: commands.clone(),
        output,
    };
    let within = request.start;
    let mut target = server.target.clone();
    let watched = request.refuse || request.job.script.reads_wire();
    let both_ours = run.peers.is_builtin(request.client, Side::Client) && server.in_process && !watched;
    if !both_ours {
        let relayed = match run.fresh_folder() {
            Ok(folder) => relay(&target, &folder, request.refuse).await,
            Err(e) => Err(e),
        };
        match relayed {
            Ok((relay, address)) => {
                target = address;
                senses.look_through(relay);
            }
            Err(e) => {
                let error = RunContext::harness_error("relay.listen", &format!("the relay cannot listen: {e}"));
                return Err(fail(senses.evidence(None, None), None, Some(error), Vec::new()));
            }
        }
    }
    if let Some(debug) = run.settings.debug.as_ref().filter(|debug| debug.side == Side::Client) {
        let error = debug.client(run, &request, &target).await;
        return Err(fail(Evidence::default(), None, Some(error), Vec::new()));
    }
    let client = match outside::client(run, &request, None) {
        Some(client) => client.map_err(|e| run.start_failure(&e))?,
        None => match run.peers.client(request.client) {
            Ok(client) => client,
            Err(error) => return Err(fail(Evidence::default(), None, Some(error), Vec::new())),
        },
    };
    let dial = client.connect(ConnectRequest {
        target,
        tls: request.tls.client.clone(),
        options: request.options,
        within: request.start,
    });
    match settle(&senses, dial, std::future::pending()).await {
        Ok(connection) => Ok(Lane {
            connection: Some(connection),
            senses,
            watcher: None,
            server: Some(server),
            commands,
            teardown: run.teardown.clone(),
            leaving: CancellationToken::new(),
            gone: CancellationToken::new(),
        }),
        Err((certain, error)) => {
            let evidence = senses.evidence(
                error.as_ref().map(|e| e.reported.clone()),
                ran_out(error.as_ref(), Phase::Connect, "connection", within),
            );
            let output = run.peers.outputs(request.client, request.server);
            Err(fail(evidence, certain, error, output))
        }
    }
}

/// Has the client launch a plugin through the shim.
pub(super) async fn launch(run: &RunContext, request: LaneRequest<'_>) -> Result<Lane, StartFailure> {
    let mut commands = vec![run.peers.command(request.client, Side::Client)];
    let plugin = match run.peers.plugin(request.server, &request) {
        Ok(plugin) => plugin,
        Err(error) => return Err(StartFailure::of(error, commands)),
    };
    commands.push(PeerCommand { role: format!("server {}", request.server), command: plugin.shown.clone() });
    let senses = Senses::new(request.tls.known(), None);
    request.job.progress.begin(&senses, &commands);
    let order = order(&request.host);
    let composer = match outside::composer(run, &request, &plugin, order.clone()) {
        Ok(composer) => composer,
        Err(error) => return Err(StartFailure::of(error, commands)),
    };
    let composes = composer.is_some();
    let spec = TicketSpec { cookie_key: Some(plugin.cookie.0.clone()), order, composer };
    let ticket = match run.hub.ticket(spec) {
        Ok(ticket) => ticket,
        Err(e) => return Err(run.start_failure(&e)),
    };
    let client = if composes {
        let stand_in = outside::stand_in(run, &request, &ticket).map_err(|e| run.start_failure(&e))?;
        let client = outside::client(run, &request, Some(Arc::new(Watcher(Arc::clone(&senses)))));
        Some((client.transpose().map_err(|e| run.start_failure(&e))?, stand_in))
    } else {
        None
    };
    let Ticket { argv_prefix, env: shim_env, events } = ticket;
    let versions = request.host.protocol_versions.clone().unwrap_or_else(|| PROTOCOL_VERSIONS.to_vec());
    let watch = Watch {
        senses: Arc::clone(&senses),
        folder: request.folder.clone(),
        versions: versions.clone(),
        host: request.host.clone(),
        cookie: plugin.cookie.clone(),
        budget: request.start,
        composes,
    };
    let watcher = AbortOnDropHandle::new(tokio::spawn(watch.follow(events)));
    if let (Some(debug), Some((_, stand_in))) = (&run.settings.debug, &client) {
        let error = debug.launch(run, &request, &plugin, &stand_in.to_string_lossy()).await;
        return Err(StartFailure::of(error, commands));
    }
    let mut argv = argv_prefix;
    argv.extend(plugin.argv);
    let client = match client {
        Some((Some(client), stand_in)) => {
            argv = vec![stand_in.to_string_lossy().into_owned()];
            Ok(client)
        }
        _ => run.peers.client(request.client),
    };
    let mut env = plugin.env;
    env.extend(shim_env);
    let last_word = LastWord::default();
    let result = match client {
        Err(error) => Err((None, Some(error))),
        Ok(client) => {
            let launch = client.launch(LaunchRequest {
                argv,
                env,
                cookie: plugin.cookie,
                protocol_versions: versions,
                tls: request.tls.client.clone(),
                folder: request.folder.clone(),
                within: request.start + LATE_WATCH + HOST_SLACK,
                grace: request.grace,
                last_word: last_word.clone(),
            });
            settle(&senses, launch, patience(&senses, request.start)).await
        }
    };
    match result {
        Ok(connection) => Ok(Lane {
            connection: Some(connection),
            senses,
            watcher: Some(watcher),
            server: None,
            commands,
            teardown: run.teardown.clone(),
            leaving: CancellationToken::new(),
            gone: CancellationToken::new(),
        }),
        Err((mut certain, error)) => {
            // What the shim tells may still be on its way, so that nothing seen yet decides here.
            let unexplained = |e: &PeerError| {
                !(e.harness || e.refused || e.reported.cause.as_ref().is_some_and(|c| is_own_word(c, &senses)))
            };
            if certain.is_none() && error.as_ref().is_some_and(unexplained) {
                // The exit of a plugin that the host has just given up is part of the evidence.
                let within = if senses.has_line() { LAST_EXIT } else { LAST_EXIT_WITHOUT_LINE };
                // A host that did not even start it has no end to wait for.
                let ended = async {
                    if tokio::time::timeout(LAST_EXIT, senses.first_start()).await.is_ok() {
                        senses.server_ended().await;
                    }
                };
                let _ = tokio::time::timeout(within, ended).await;
            }
            // Nobody listens, or the plugin closed: its end would be the reason.
            let code = |cause: Option<&crate::outcome::Cause>| cause.is_some_and(|c| is_left(&c.code));
            let own = error.as_ref().is_some_and(|e| code(e.reported.cause.as_ref()));
            if senses.has_line() && (own || code(certain.as_ref().map(|c| &c.cause))) {
                let _ = tokio::time::timeout(LAST_EXIT, senses.server_ended()).await;
                certain = certain.map(|c| diagnose::certain(&senses.evidence(None, None)).map_or(c, Box::new));
            }
            drop(watcher);
            let (phase, waiting_for) = waiting(&senses);
            let ran_out = ran_out(error.as_ref(), phase, waiting_for, request.start);
            let told = error.as_ref().map(|e| e.reported.clone()).or_else(|| last_word.last());
            let evidence = senses.evidence(told, ran_out);
            // A host that was cut off while it retried has said something since it became certain.
            let certain = certain.map(|early| match last_word.last() {
                Some(_) if error.is_none() => Box::new(diagnose::diagnose(&evidence)),
                _ => early,
            });
            let output = run.peers.output(request.client, Side::Client);
            Err(StartFailure { evidence: Box::new(evidence), certain, error, commands, output })
        }
    }
}

/// Whether our own host has said all that there is: it waited for the plugin's end itself where that
/// would explain a stdout that was closed.
fn is_own_word(cause: &crate::outcome::Cause, senses: &Senses) -> bool {
    senses.has_line() || cause.code == "handshake.stdout-closed"
}

/// Whether a cause is what the end of the server's process looks like from its client.
pub(super) fn is_left(code: &str) -> bool {
    code.starts_with("connect.refused")
        || code.starts_with("rpc.closed")
        || code.starts_with("rpc.io")
        || code == "tls.closed.by-server"
}

/// What a launch waits for, given what came so far.
fn waiting(senses: &Senses) -> (Phase, &'static str) {
    if senses.has_line() { (Phase::Connect, "connection") } else { (Phase::Handshake, "handshake-line") }
}

/// Resolves when a launch has had its budget, counted from the plugin's start, and no line comes
/// late either. One that does makes the failure certain, which ends the launch sooner.
async fn patience(senses: &Senses, budget: Duration) -> Diagnosis {
    let started = senses.first_start().await;
    tokio::time::sleep_until(started + budget).await;
    if !senses.has_line() {
        tokio::time::sleep_until(started + budget + LATE_WATCH).await;
    }
    let (phase, waiting_for) = waiting(senses);
    let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
    let ran_out = RanOut { phase, waiting_for: waiting_for.into(), budget_ms };
    diagnose::diagnose(&senses.evidence(None, Some(ran_out)))
}

/// Waits for a client, but no longer than [`LAST_WORD`] after its failure is certain, and not
/// beyond the engine's own patience.
async fn settle(
    senses: &Senses,
    client: impl Future<Output = Result<Box<dyn Connection>, PeerError>>,
    patience: impl Future<Output = Diagnosis>,
) -> Result<Box<dyn Connection>, (Option<Box<Diagnosis>>, Option<PeerError>)> {
    let mut client = std::pin::pin!(client);
    tokio::select! {
        biased;
        result = &mut client => result.map_err(|e| (None, Some(e))),
        diagnosis = senses.certain() => {
            match tokio::time::timeout(LAST_WORD, client).await {
                // It came up all the same (a host that says "connected" before its first byte):
                // the first call will tell.
                Ok(Ok(connection)) => Ok(connection),
                Ok(Err(error)) => Err((Some(Box::new(diagnosis)), Some(error))),
                Err(_) => Err((Some(Box::new(diagnosis)), None)),
            }
        }
        diagnosis = patience => Err((Some(Box::new(diagnosis)), None)),
    }
}

pub(super) async fn relay(
    target: &Target,
    folder: &std::path::Path,
    closed: bool,
) -> std::io::Result<(Arc<Relay>, Target)> {
    let endpoint = match target {
        Target::Tcp(address) => Endpoint::Tcp(*address),
        Target::Unix(path) => Endpoint::Unix(path.clone()),
    };
    let relay = if closed {
        Relay::start_closed(endpoint, certificate)?
    } else {
        Relay::start(endpoint, target.transport(), folder, certificate).await?
    };
    let address = match relay.address() {
        Endpoint::Tcp(address) => Target::Tcp(address),
        Endpoint::Unix(path) => Target::Unix(path),
    };
    Ok((Arc::new(relay), address))
}

/// The budget that a client's failure says has run out.
fn ran_out(error: Option<&PeerError>, phase: Phase, waiting_for: &str, within: Duration) -> Option<RanOut> {
    let budget_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    error.filter(|e| e.timed_out).map(|_| RanOut { phase, waiting_for: waiting_for.into(), budget_ms })
}

/// What the relay reads of a certificate.
fn certificate(der: &[u8]) -> Option<crate::outcome::evidence::CertFacts> {
    crate::pki::cert_facts(der).ok()
}

/// What the shim changes between a host and its plugin.
fn order(host: &HostChanges) -> StartOrder {
    let set = |(key, value): (&String, &Option<String>)| value.as_ref().map(|value| (key.clone(), value.clone()));
    let gone = |(key, value): (&String, &Option<String>)| value.is_none().then(|| key.clone());
    StartOrder {
        add_env: host.env.iter().filter_map(set).collect(),
        drop_env: host.env.iter().filter_map(gone).collect(),
        argv: None,
    }
}
