//! A lane: one live connection between the two peers of a case, with the engine's senses on it.
//! Two ways to get one: the client launches a plugin through the shim, or the engine starts the
//! server and has the client dial it. The relay is between them whenever a side is not ours.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::axis::values::Transport;
use crate::event::{PeerCommand, PeerOutput};
use crate::handshake;
use crate::outcome::diagnose::Diagnosis;
use crate::outcome::evidence::{Evidence, Side};
use crate::peer::{ConnectRequest, Connection, LaunchRequest, PeerError, ServeRequest, Served, Target};
use crate::process::shim::{ShimEvent, Ticket};
use crate::wire::{Endpoint, Relay};

use super::context::RunContext;
use super::senses::Senses;
use super::tls::SideSpecs;

/// How long a host may still say its own word on a failure that is certain already.
pub(super) const LAST_WORD: Duration = Duration::from_millis(150);
/// App protocol versions that hosts of this engine speak.
const PROTOCOL_VERSIONS: [u32; 1] = [1];

/// A live connection.
pub(super) struct Lane {
    /// Taken when it ends.
    connection: Option<Box<dyn Connection>>,
    pub(super) senses: Arc<Senses>,
    /// Keeps the server of a direct lane up.
    _server: Option<Arc<DirectServer>>,
    pub(super) commands: Vec<PeerCommand>,
    teardown: tokio_util::task::TaskTracker,
}

impl Lane {
    pub(super) fn connection(&self) -> Option<&dyn Connection> {
        self.connection.as_deref()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.teardown.spawn(connection.close());
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

/// What a lane is made for.
pub(super) struct LaneRequest<'a> {
    pub(super) client: &'a str,
    pub(super) server: &'a str,
    pub(super) service: &'a str,
    pub(super) transport: Option<Transport>,
    pub(super) tls: SideSpecs,
    /// Templates of commands see these: `transport`, `tls`, `key`, …
    pub(super) context: serde_json::Map<String, serde_json::Value>,
    pub(super) folder: PathBuf,
    pub(super) start: Duration,
    pub(super) grace: Duration,
}

/// A server that the engine started.
pub(super) struct DirectServer {
    served: Option<Arc<dyn Served>>,
    target: Target,
    command: PeerCommand,
    grace: Duration,
    teardown: tokio_util::task::TaskTracker,
}

impl Drop for DirectServer {
    fn drop(&mut self) {
        if let Some(served) = self.served.take() {
            let grace = self.grace;
            self.teardown.spawn(async move { served.stop(grace).await });
        }
    }
}

/// Starts the server of a direct lane.
pub(super) async fn serve(run: &RunContext, request: &LaneRequest<'_>) -> Result<DirectServer, StartFailure> {
    let command = run.peers.command(request.server, Side::Server);
    let start = async {
        if let Some(target) = run.peers.attached(request.server) {
            return Ok((None, target?));
        }
        let server = run.peers.server(request.server)?;
        let served = server
            .serve(ServeRequest {
                service: run.service_name(request.service),
                transport: request.transport.unwrap_or(Transport::Tcp),
                tls: request.tls.server.clone(),
                folder: request.folder.clone(),
                within: request.start,
            })
            .await?;
        let served: Arc<dyn Served> = served.into();
        let target = served.target();
        Ok((Some(served), target))
    };
    match start.await {
        Ok((served, target)) => Ok(DirectServer {
            served,
            target,
            command,
            grace: request.grace,
            teardown: run.teardown.clone(),
        }),
        Err(error) => {
            let error: PeerError = error;
            let evidence = Evidence { server: Some(error.reported.clone()), ..Evidence::default() };
            Err(StartFailure {
                evidence: Box::new(evidence),
                certain: None,
                error: Some(error),
                commands: vec![command],
                output: run.peers.output(request.server, Side::Server).await,
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
    let commands = vec![run.peers.command(request.client, Side::Client), server.command.clone()];
    let senses = Senses::new(request.tls.known(), server.served.clone());
    let fail = |evidence, certain, error, output| StartFailure {
        evidence: Box::new(evidence),
        certain,
        error,
        commands: commands.clone(),
        output,
    };
    let mut target = server.target.clone();
    let both_ours = run.peers.is_builtin(request.client, Side::Client) && run.peers.is_builtin(request.server, Side::Server);
    if !both_ours {
        match relay(&target, &request.folder).await {
            Ok((relay, address)) => {
                target = address;
                senses.look_through(relay);
            }
            Err(e) => {
                let error = run.harness_error("relay.listen", &format!("the relay cannot listen: {e}"));
                return Err(fail(senses.evidence(None), None, Some(error), Vec::new()));
            }
        }
    }
    let client = match run.peers.client(request.client) {
        Ok(client) => client,
        Err(error) => return Err(fail(Evidence::default(), None, Some(error), Vec::new())),
    };
    let dial = client.connect(ConnectRequest {
        target,
        tls: request.tls.client.clone(),
        within: request.start,
    });
    match settle(&senses, dial).await {
        Ok(connection) => Ok(Lane {
            connection: Some(connection),
            senses,
            _server: Some(server),
            commands,
            teardown: run.teardown.clone(),
        }),
        Err((certain, error)) => {
            let evidence = senses.evidence(error.as_ref().map(|e| e.reported.clone()));
            let output = run.peers.outputs(request.client, request.server).await;
            Err(fail(evidence, certain, error, output))
        }
    }
}

/// Has the client launch a plugin through the shim.
pub(super) async fn launch(run: &RunContext, request: LaneRequest<'_>) -> Result<Lane, StartFailure> {
    let mut commands = vec![run.peers.command(request.client, Side::Client)];
    let plugin = match run.peers.plugin(request.server, &request) {
        Ok(plugin) => plugin,
        Err(error) => {
            return Err(StartFailure {
                evidence: Box::default(),
                certain: None,
                error: Some(error),
                commands,
                output: Vec::new(),
            });
        }
    };
    commands.push(PeerCommand { role: format!("server {}", request.server), command: plugin.shown.clone() });
    let senses = Senses::new(request.tls.known(), None);
    let ticket = run.hub.ticket();
    let Ticket { argv_prefix, env: shim_env, events, .. } = ticket;
    let watcher = tokio::spawn(watch_shim(
        events,
        Arc::clone(&senses),
        request.folder.clone(),
        plugin.argv.clone(),
    ));
    let mut argv = argv_prefix;
    argv.extend(plugin.argv);
    let mut env = plugin.env;
    env.extend(shim_env);
    let result = match run.peers.client(request.client) {
        Err(error) => Err((None, Some(error))),
        Ok(client) => {
            let launch = client.launch(LaunchRequest {
                argv,
                env,
                cookie: plugin.cookie,
                protocol_versions: PROTOCOL_VERSIONS.to_vec(),
                tls: request.tls.client.clone(),
                folder: request.folder.clone(),
                within: request.start,
                grace: request.grace,
            });
            settle(&senses, launch).await
        }
    };
    match result {
        Ok(connection) => Ok(Lane {
            connection: Some(connection),
            senses,
            _server: None,
            commands,
            teardown: run.teardown.clone(),
        }),
        Err((certain, error)) => {
            // The exit of a plugin that the host has just given up is part of the evidence.
            let _ = tokio::time::timeout(LAST_WORD, watcher).await;
            let evidence = senses.evidence(error.as_ref().map(|e| e.reported.clone()));
            let output = run.peers.output(request.client, Side::Client).await;
            Err(StartFailure { evidence: Box::new(evidence), certain, error, commands, output })
        }
    }
}

/// Waits for a client, but no longer than [`LAST_WORD`] after its failure is certain.
async fn settle(
    senses: &Senses,
    client: impl Future<Output = Result<Box<dyn Connection>, PeerError>>,
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
    }
}

async fn relay(target: &Target, folder: &std::path::Path) -> std::io::Result<(Arc<Relay>, Target)> {
    let endpoint = match target {
        Target::Tcp(address) => Endpoint::Tcp(*address),
        Target::Unix(path) => Endpoint::Unix(path.clone()),
    };
    let relay = Relay::start(endpoint, target.transport(), folder, crate::pki::cert_facts).await?;
    let address = match relay.address() {
        Endpoint::Tcp(address) => Target::Tcp(address),
        Endpoint::Unix(path) => Target::Unix(path),
    };
    Ok((Arc::new(relay), address))
}

/// Follows a plugin's life through the shim: its environment, its line (which is pointed at a
/// relay), its end.
async fn watch_shim(
    mut events: tokio::sync::mpsc::Receiver<ShimEvent>,
    senses: Arc<Senses>,
    folder: PathBuf,
    argv: Vec<String>,
) {
    while let Some(event) = events.recv().await {
        match event {
            ShimEvent::Started(started) => {
                let client_cert = started.env.iter().find(|(k, _)| k == "PLUGIN_CLIENT_CERT");
                senses.amend_handshake(|h| {
                    h.auto_mtls = client_cert.is_some_and(|(_, v)| !v.is_empty());
                    h.client_cert = client_cert.and_then(|(_, pem)| crate::pki::pem_facts(pem));
                });
            }
            ShimEvent::Line { raw, reply, after_us } => {
                let (mut report, target) = handshake::read_line(&raw, &PROTOCOL_VERSIONS);
                let mut answer = raw.clone();
                if let Some(target) = target
                    && let Ok((relay, address)) = relay(&target, &folder).await
                {
                    if let Some(line) = handshake::with_address(&raw, &address) {
                        answer = line;
                    }
                    senses.look_through(relay);
                }
                senses.amend_handshake(|h| {
                    report.auto_mtls = h.auto_mtls;
                    report.client_cert = h.client_cert.take();
                    report.after_us = after_us;
                    *h = report;
                });
                let _ = reply.send(answer);
            }
            ShimEvent::Exited(exited) => {
                senses.process(exited.report(Side::Server, argv.clone()));
            }
            ShimEvent::Lost => {}
        }
    }
}
