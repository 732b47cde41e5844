//! The peers of a run: prepared on demand (built, probed), each external one with at most one
//! long-lived driver per role. Says at any moment whether a case's peers are ready.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::alone;
use super::lane::LaneRequest;
use super::outside::{self, Outside};
use super::programs::ServerProgram;
use crate::axis::values::Launch;
use crate::event::{PeerCommand, PeerOutput, RunEvent};
use crate::outcome::evidence::{Reported, Side};
use crate::outcome::{Cause, Certainty, Phase};
use crate::peer::build::{BuildLine, Builder, Built};
use crate::peer::builtin::{BuiltinClient, BuiltinServer, STOCK_SERVICE, versions};
use crate::peer::driver::Driver;
use crate::peer::exec::quote;
use crate::peer::{Client, PeerError, Server, Target};
use crate::plan::{Case, Plan};
use crate::process::{Program, Spawner};
use crate::scenario::exec::rewrite::is_client_args;
use crate::scenario::model::{ClientWay, Command, DirectWay, MissingPeers, Peer, PluginWay};
use crate::scenario::template::Renderer;

/// go-plugin's KV examples use this cookie.
pub const COOKIE: (&str, &str) = ("BASIC_PLUGIN", "hello");

/// Whether the peers of a case can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Both are there.
    Ready,
    /// At least one is being prepared.
    Pending,
    /// One cannot be had.
    Missing {
        /// Why, and how to get it.
        reason: String,
        /// `not-run` instead of `errored`.
        left_out: bool,
    },
}

#[derive(Clone)]
enum State {
    Preparing,
    /// Shared: it is asked for twice per case.
    Ready {
        output: Option<PathBuf>,
        versions: Arc<BTreeMap<String, String>>,
    },
    Missing(String),
}

/// A plugin server's command line, ready to be launched.
pub(super) struct Plugin {
    pub(super) argv: Vec<String>,
    /// Where in it the arguments of a client that composes its start are to stand.
    pub(super) slots: Vec<usize>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cookie: (String, String),
    /// For a shell, without the shim.
    pub(super) shown: String,
}

/// The registry.
pub(super) struct Peers {
    plan: Arc<Plan>,
    states: Arc<Mutex<HashMap<String, State>>>,
    changed: Arc<watch::Sender<u64>>,
    /// Builds and probes under way.
    preparing: Mutex<JoinSet<()>>,
    drivers: Mutex<HashMap<(String, Side), Driver>>,
    builder: Arc<Builder>,
    spawner: Spawner,
    events: mpsc::Sender<RunEvent>,
    builtin_client: Arc<BuiltinClient>,
    builtin_server: Arc<BuiltinServer>,
    require: bool,
    log_level: Option<String>,
    pub(super) outside: Outside,
    /// What the commands of servers depend on.
    reads: BTreeMap<String, BTreeSet<String>>,
}

/// What the registry is made from.
pub(super) struct PeersParts {
    pub(super) plan: Arc<Plan>,
    pub(super) builder: Arc<Builder>,
    pub(super) spawner: Spawner,
    pub(super) events: mpsc::Sender<RunEvent>,
    pub(super) builtin_client: Arc<BuiltinClient>,
    pub(super) builtin_server: Arc<BuiltinServer>,
    pub(super) require: bool,
    pub(super) log_level: Option<String>,
}

impl Peers {
    pub(super) fn new(parts: PeersParts) -> Self {
        let PeersParts { plan, builder, spawner, events, builtin_client, builtin_server, require, log_level } = parts;
        let reads = plan
            .scenario()
            .peers
            .iter()
            .map(|(name, peer)| (name.clone(), crate::scenario::reads::server(peer)))
            .collect();
        Self {
            reads,
            plan,
            states: Arc::default(),
            changed: Arc::new(watch::channel(0).0),
            preparing: Mutex::default(),
            drivers: Mutex::default(),
            builder,
            spawner,
            events,
            builtin_client,
            builtin_server,
            require,
            log_level,
            outside: Outside::default(),
        }
    }

    /// Changes when a peer became ready, or turned out to be missing.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether a case can be executed now; starts to prepare what is not there yet.
    pub(super) fn readiness(&self, case: &Case) -> Readiness {
        let mut answer = Readiness::Ready;
        for name in [self.plan.client(case), self.plan.server(case)] {
            match self.state(name) {
                State::Ready { .. } => {}
                State::Preparing => {
                    if answer == Readiness::Ready {
                        answer = Readiness::Pending;
                    }
                }
                State::Missing(reason) => {
                    let left_out = !self.require && self.plan.scenario().missing_peers == MissingPeers::LeaveOut;
                    answer = Readiness::Missing { reason, left_out };
                }
            }
        }
        answer
    }

    /// A probed version; `self` is the peer's own.
    pub(super) fn version(&self, peer: &str, component: &str) -> Option<String> {
        match lock(&self.states).get(peer) {
            Some(State::Ready { versions, .. }) => versions.get(component).cloned(),
            _ => None,
        }
    }

    fn state(&self, name: &str) -> State {
        let mut states = lock(&self.states);
        if let Some(state) = states.get(name) {
            return state.clone();
        }
        let Some(peer) = self.plan.scenario().peers.get(name) else {
            return State::Missing(format!("no peer `{name}`"));
        };
        if peer.build.is_none() && peer.versions.is_empty() {
            let versions = if is_own(peer) { versions() } else { BTreeMap::new() };
            let ready = State::Ready { output: None, versions: Arc::new(versions.clone()) };
            states.insert(name.to_owned(), ready.clone());
            drop(states);
            if !versions.is_empty() {
                self.tell(RunEvent::PeerVersions { peer: name.to_owned(), versions });
            }
            return ready;
        }
        states.insert(name.to_owned(), State::Preparing);
        drop(states);
        self.prepare(peer.clone());
        State::Preparing
    }

    /// Tells an event from where nothing can wait.
    fn tell(&self, event: RunEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            let events = self.events.clone();
            lock(&self.preparing).spawn(async move {
                let _ = events.send(event).await;
            });
        }
    }

    /// Builds and probes in the background; cases of other peers run meanwhile.
    fn prepare(&self, peer: Peer) {
        let builder = Arc::clone(&self.builder);
        let events = self.events.clone();
        let states = Arc::clone(&self.states);
        let changed = Arc::clone(&self.changed);
        let missing_left_out = !self.require && self.plan.scenario().missing_peers == MissingPeers::LeaveOut;
        let drivers = self.drivers_of(&peer);
        lock(&self.preparing).spawn(async move {
            let state = match build(&builder, &peer, &events).await {
                Ok(built) => {
                    for text in built.notes {
                        let _ = events.send(RunEvent::Note { text, place: None }).await;
                    }
                    let versions = built.versions.clone();
                    let event = RunEvent::PeerVersions { peer: peer.name.clone(), versions: versions.clone() };
                    let _ = events.send(event).await;
                    State::Ready { output: built.output, versions: Arc::new(versions) }
                }
                Err(reason) => {
                    let event = RunEvent::PeerMissing {
                        peer: peer.name.clone(),
                        reason: reason.clone(),
                        left_out: missing_left_out,
                    };
                    let _ = events.send(event).await;
                    State::Missing(reason)
                }
            };
            let ready = matches!(state, State::Ready { .. });
            lock(&states).insert(peer.name.clone(), state);
            changed.send_modify(|n| *n += 1);
            if ready {
                // A slow starter begins now, not with its first case.
                for driver in drivers {
                    let _ = driver.warm().await;
                }
            }
        });
    }

    fn drivers_of(&self, peer: &Peer) -> Vec<Driver> {
        let mut drivers = Vec::new();
        if let Some(client) = &peer.client
            && let ClientWay::Driver(command) = &client.way
        {
            drivers.push(self.driver(peer, Side::Client, command));
        }
        drivers
    }

    fn driver(&self, peer: &Peer, side: Side, command: &Command) -> Driver {
        let mut drivers = lock(&self.drivers);
        drivers.entry((peer.name.clone(), side)).or_insert_with(|| self.new_driver(peer, side, command)).clone()
    }

    fn new_driver(&self, peer: &Peer, side: Side, command: &Command) -> Driver {
        let (states, name) = (Arc::clone(&self.states), peer.name.clone());
        let output = move || output_of(&states, &name);
        let driver = alone::driver(role(side), (peer, command), output, self.spawner.clone(), self.log_level.clone());
        driver.ready_within(self.plan.scenario().timeouts.start)
    }

    /// The server role of a peer as a process that serves nothing else, and the driver to end with
    /// it, if there is one.
    pub(super) fn own_server(&self, name: &str) -> Result<(Arc<dyn Server>, Option<Driver>), PeerError> {
        let peer = self.peer(name)?;
        match peer.server.as_ref().and_then(|role| role.direct.as_ref()) {
            Some(DirectWay::Builtin) => Ok((Arc::new(ServerProgram(self.spawner.clone())), None)),
            Some(DirectWay::Driver(command)) => {
                let driver = self.new_driver(peer, Side::Server, command);
                Ok((Arc::new(driver.clone()), Some(driver)))
            }
            _ => Err(cannot(&format!("peer `{name}` has no server that can be started and ended"))),
        }
    }

    /// Has the drivers of a case up: they serve many, so that no case pays for their start.
    /// The side that people start (`by_hand`) needs none.
    pub(super) async fn warm(
        &self,
        client: &str,
        server: &str,
        launch: Launch,
        by_hand: Option<Side>,
    ) -> Result<(), PeerError> {
        if by_hand != Some(Side::Client) {
            self.warm_client(client).await?;
        }
        if by_hand != Some(Side::Server) && launch == Launch::Direct {
            self.warm_server(server).await?;
        }
        Ok(())
    }

    async fn warm_client(&self, client: &str) -> Result<(), PeerError> {
        let peer = self.peer(client)?;
        if let Some(ClientWay::Driver(command)) = peer.client.as_ref().map(|role| &role.way) {
            self.driver(peer, Side::Client, command).warm().await?;
        }
        if let Some(exec) = self.exec_client(client) {
            self.prove(exec, client).await?;
        }
        Ok(())
    }

    async fn warm_server(&self, server: &str) -> Result<(), PeerError> {
        let peer = self.peer(server)?;
        if let Some(DirectWay::Driver(command)) = peer.server.as_ref().and_then(|role| role.direct.as_ref()) {
            self.driver(peer, Side::Server, command).warm().await?;
        }
        Ok(())
    }

    /// The axes that a server's commands read, whatever these say that they affect: cases that differ
    /// there have servers of their own.
    pub(super) fn reads(&self, server: &str) -> &BTreeSet<String> {
        static NOTHING: BTreeSet<String> = BTreeSet::new();
        self.reads.get(server).unwrap_or(&NOTHING)
    }

    /// The client role of a peer.
    pub(super) fn client(&self, name: &str) -> Result<Arc<dyn Client>, PeerError> {
        let peer = self.peer(name)?;
        match &peer.client {
            Some(role) => Ok(match &role.way {
                ClientWay::Builtin => Arc::clone(&self.builtin_client) as Arc<dyn Client>,
                ClientWay::Driver(command) => Arc::new(self.driver(peer, Side::Client, command)),
                ClientWay::Exec(_) => return Err(cannot(&format!("peer `{name}` is a program, it hosts nothing"))),
            }),
            None => Err(cannot(&format!("peer `{name}` has no client role"))),
        }
    }

    /// The server role of a peer, for direct launch.
    pub(super) fn server(&self, name: &str) -> Result<Arc<dyn Server>, PeerError> {
        let peer = self.peer(name)?;
        match peer.server.as_ref().and_then(|role| role.direct.as_ref()) {
            Some(DirectWay::Builtin) => Ok(Arc::clone(&self.builtin_server) as Arc<dyn Server>),
            Some(DirectWay::Driver(command)) => Ok(Arc::new(self.driver(peer, Side::Server, command))),
            Some(DirectWay::Exec(_)) => Err(cannot(&format!("peer `{name}` is started by what its case asks"))),
            Some(DirectWay::Attach(_)) => Err(cannot(&format!("peer `{name}` runs already, it is not started"))),
            None => Err(cannot(&format!("peer `{name}` has no server that can be started directly"))),
        }
    }

    /// The address of a server that runs already.
    pub(super) fn attached(&self, name: &str) -> Option<Result<Target, PeerError>> {
        let peer = self.peer(name).ok()?;
        let Some(DirectWay::Attach(address)) = peer.server.as_ref().and_then(|role| role.direct.as_ref()) else {
            return None;
        };
        Some(match address.strip_prefix("unix:") {
            Some(path) => Ok(Target::Unix(path.into())),
            None => std::net::ToSocketAddrs::to_socket_addrs(address)
                .ok()
                .and_then(|mut found| found.next())
                .map(Target::Tcp)
                .ok_or_else(|| cannot(&format!("`{address}` of peer `{name}` is no HOST:PORT that can be resolved"))),
        })
    }

    /// The plugin program of a peer with everything that the case asks of it.
    pub(super) fn plugin(&self, name: &str, request: &LaneRequest<'_>) -> Result<Plugin, PeerError> {
        let peer = self.peer(name)?;
        let way = peer
            .server
            .as_ref()
            .and_then(|role| role.plugin.as_ref())
            .ok_or_else(|| cannot(&format!("peer `{name}` has no plugin server")))?;
        let storage = &request.storage;
        std::fs::create_dir_all(storage)
            .map_err(|e| cannot(&format!("the storage folder of `{name}` cannot be made: {e}")))?;
        let output = output_of(&self.states, name);
        let (argv, mut env, slots) = match way {
            PluginWay::Run(command) => {
                let (run, slots) = without_client_args(&command.run);
                let command = Command { run, ..command.clone() };
                let (argv, env) = render(peer, &command, &request.context, output).map_err(|e| cannot(&e))?;
                (argv, env, slots)
            }
            PluginWay::Builtin { args } => {
                let (args, slots) = without_client_args(args);
                let mut context = request.context.clone();
                context.extend(peer.variant_names());
                let renderer = Renderer::new(&context);
                let args = args
                    .iter()
                    .map(|arg| renderer.text(arg).map_err(|e| cannot(&e.to_string())))
                    .collect::<Result<Vec<_>, _>>()?;
                let service = self.plan.scenario().services.get(request.service);
                let stock = service.is_some_and(|service| service.service == STOCK_SERVICE);
                let own = args.len();
                let argv = builtin_plugin(request, if stock { "stock" } else { "kv" }, args)?;
                let before = argv.len() - own;
                (argv, Vec::new(), slots.into_iter().map(|slot| before + slot).collect())
            }
        };
        if !env.iter().any(|(key, _)| key == "KV_STORAGE_DIR") {
            env.push(("KV_STORAGE_DIR".into(), storage.to_string_lossy().into_owned()));
        }
        if let Some(level) = &self.log_level {
            env.push(("LOG_LEVEL".into(), level.clone()));
        }
        let mut seen = vec![(COOKIE.0.to_owned(), COOKIE.1.to_owned())];
        seen.extend(env.iter().cloned());
        seen.retain(|(key, _)| !request.host.env.contains_key(key));
        seen.extend(request.host.env.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))));
        let words =
            seen.iter().map(|(key, value)| format!("{key}={}", quote(value))).chain(argv.iter().map(|a| quote(a)));
        let shown = words.collect::<Vec<_>>().join(" ");
        Ok(Plugin { argv, slots, env, cookie: (COOKIE.0.into(), COOKIE.1.into()), shown })
    }

    /// How a peer is run, for people.
    pub(super) fn command(&self, name: &str, side: Side) -> PeerCommand {
        let shown = self.peer(name).ok().and_then(|peer| {
            let command = match side {
                Side::Client => match &peer.client.as_ref()?.way {
                    ClientWay::Driver(command) => command,
                    ClientWay::Builtin => return None,
                    ClientWay::Exec(_) => return Some("a run of its program for each op".to_owned()),
                },
                Side::Server => match peer.server.as_ref()?.direct.as_ref()? {
                    DirectWay::Driver(command) => command,
                    DirectWay::Attach(address) => return Some(format!("running already at {address}")),
                    DirectWay::Builtin => return None,
                    DirectWay::Exec(server) => return Some(outside::shown(server)),
                },
            };
            let output = output_of(&self.states, name);
            let (argv, env) = render(peer, command, &Map::new(), output).ok()?;
            let env = env.iter().map(|(k, v)| format!("{k}={}", quote(v)));
            Some(env.chain(argv.iter().map(|a| quote(a))).collect::<Vec<_>>().join(" "))
        });
        PeerCommand { role: format!("{} {name}", role(side)), command: shown.unwrap_or_else(|| "built in".into()) }
    }

    /// Whether a role is played inside this process.
    pub(super) fn is_builtin(&self, name: &str, side: Side) -> bool {
        self.peer(name).is_ok_and(|peer| match side {
            Side::Client => peer.client.as_ref().is_some_and(|c| matches!(c.way, ClientWay::Builtin)),
            Side::Server => peer.server.as_ref().is_some_and(|s| matches!(s.direct, Some(DirectWay::Builtin))),
        })
    }

    /// What a role's driver wrote to stderr; it serves other cases too.
    pub(super) fn output(&self, name: &str, side: Side) -> Vec<PeerOutput> {
        let driver = lock(&self.drivers).get(&(name.to_owned(), side)).cloned();
        let Some(driver) = driver else { return Vec::new() };
        let text = driver.stderr();
        if text.is_empty() {
            return Vec::new();
        }
        vec![PeerOutput { role: format!("{} {name}", role(side)), stream: "stderr".into(), text, shared: true }]
    }

    /// Both sides' output.
    pub(super) fn outputs(&self, client: &str, server: &str) -> Vec<PeerOutput> {
        let mut output = self.output(client, Side::Client);
        output.extend(self.output(server, Side::Server));
        output
    }

    /// Gives up what is still being built or probed: no case will want it.
    pub(super) fn give_up(&self) {
        lock(&self.preparing).abort_all();
    }

    /// Ends all drivers.
    pub(super) async fn end(&self) {
        let drivers: Vec<_> = lock(&self.drivers).drain().map(|(_, driver)| driver).collect();
        futures::future::join_all(drivers.iter().map(Driver::end)).await;
    }

    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// The folder that a peer was built into, and its own.
    pub(super) fn folders(&self, name: &str) -> (Option<PathBuf>, PathBuf) {
        let folder = self.peer(name).map(own_folder).unwrap_or_default();
        (output_of(&self.states, name), folder)
    }

    pub(super) fn vars(&self) -> Map<String, Value> {
        self.plan.scenario().vars.clone()
    }

    pub(super) fn peer(&self, name: &str) -> Result<&Peer, PeerError> {
        self.plan.scenario().peers.get(name).ok_or_else(|| cannot(&format!("no peer `{name}`")))
    }
}

/// Whether whatever is played of this peer is soupscen's own.
fn is_own(peer: &Peer) -> bool {
    let client = peer.client.as_ref().is_none_or(|role| matches!(role.way, ClientWay::Builtin));
    client
        && peer.server.as_ref().is_none_or(|role| {
            role.plugin.as_ref().is_none_or(|way| matches!(way, PluginWay::Builtin { .. }))
                && role.direct.as_ref().is_none_or(|way| matches!(way, DirectWay::Builtin))
        })
}

async fn build(builder: &Builder, peer: &Peer, events: &mpsc::Sender<RunEvent>) -> Result<Built, String> {
    let started = std::time::Instant::now();
    let line_events = events.clone();
    let name = peer.name.clone();
    let on_line = move |line: BuildLine| {
        let event = match line {
            BuildLine::Started { command } => RunEvent::BuildStarted { peer: name.clone(), command },
            BuildLine::Output { line } => RunEvent::BuildOutput { peer: name.clone(), line },
            BuildLine::Waiting { text } => RunEvent::Note { text, place: None },
        };
        let _ = line_events.try_send(event);
    };
    let built = builder.build(peer, on_line).await;
    let error = built.as_ref().err().map(ToString::to_string);
    let finished = RunEvent::BuildFinished {
        peer: peer.name.clone(),
        cached: built.as_ref().is_ok_and(|b| b.cached),
        error: error.clone(),
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    if peer.build.is_some() {
        let _ = events.send(finished).await;
    }
    built.map_err(|e| e.to_string())
}

fn output_of(states: &Mutex<HashMap<String, State>>, name: &str) -> Option<PathBuf> {
    match lock(states).get(name) {
        Some(State::Ready { output, .. }) => output.clone(),
        _ => None,
    }
}

/// Program and arguments, and the variables set for them.
type CommandLine = (Vec<String>, Vec<(String, String)>);

/// The driver program of a peer, of whichever role has one; `None` when it is not run by a driver.
/// `output` is that of its build.
///
/// # Errors
/// A template that cannot be filled in, as a sentence.
#[must_use]
pub fn driver_program(peer: &Peer, output: Option<PathBuf>) -> Option<Result<Program, String>> {
    let client = peer.client.as_ref().and_then(|role| match &role.way {
        ClientWay::Driver(command) => Some(command),
        _ => None,
    });
    let server = peer.server.as_ref().and_then(|role| match &role.direct {
        Some(DirectWay::Driver(command)) => Some(command),
        _ => None,
    });
    let rendered = render(peer, client.or(server)?, &Map::new(), output);
    Some(rendered.map(|(argv, env)| Program { env, folder: Some(peer.folder.clone()), ..Program::new(argv) }))
}

/// A command without the entries that stand for a client's arguments, and the places where they were.
fn without_client_args(run: &[String]) -> (Vec<String>, Vec<usize>) {
    let mut rest = Vec::with_capacity(run.len());
    let mut slots = Vec::new();
    for text in run {
        if is_client_args(text) { slots.push(rest.len()) } else { rest.push(text.clone()) }
    }
    (rest, slots)
}

/// Renders a command. A variable that comes out empty is not set at all, so that one line of YAML
/// serves cases with and without it.
pub(super) fn render(
    peer: &Peer,
    command: &Command,
    context: &Map<String, Value>,
    output: Option<PathBuf>,
) -> Result<CommandLine, String> {
    let mut context = context.clone();
    context.extend(peer.variant_names());
    context.insert("output".into(), output.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default().into());
    let folder = own_folder(peer);
    context.insert("folder".into(), folder.to_string_lossy().into_owned().into());
    let renderer = Renderer::new(&context);
    let text =
        |template: &String| renderer.text(template).map_err(|e| format!("a command of peer `{}`: {e}", peer.name));
    let mut argv = command.run.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    if let Some(program) = argv.first_mut()
        && program.contains('/')
        && !program.starts_with('/')
    {
        *program = folder.join(&*program).to_string_lossy().into_owned();
    }
    let mut env = Vec::new();
    for (key, value) in &command.env {
        let value = text(value)?;
        if !value.is_empty() {
            env.push((key.clone(), value));
        }
    }
    Ok((argv, env))
}

/// A peer's folder. Commands run there, so that a relative path to it would miss.
fn own_folder(peer: &Peer) -> PathBuf {
    std::path::absolute(&peer.folder).unwrap_or_else(|_| peer.folder.clone())
}

/// This program as a server that is dialled.
pub(super) fn own_server_argv(
    context: &Map<String, Value>,
    service: &str,
    target: &Target,
) -> Result<Vec<String>, PeerError> {
    let name = if service == STOCK_SERVICE { "stock" } else { "kv" };
    let mut argv = own_argv(context, name)?;
    // The address says it.
    if let Some(at) = argv.iter().position(|word| word == "--transport") {
        argv.drain(at..at + 2);
    }
    argv.push(format!("--address={target}"));
    Ok(argv)
}

/// This program as a plugin server.
fn builtin_plugin(request: &LaneRequest<'_>, service: &str, args: Vec<String>) -> Result<Vec<String>, PeerError> {
    let mut argv = own_argv(&request.context, service)?;
    argv.extend(args);
    Ok(argv)
}

fn own_argv(context: &Map<String, Value>, service: &str) -> Result<Vec<String>, PeerError> {
    let program = std::env::current_exe().map_err(|e| cannot(&format!("this program's path is not known: {e}")))?;
    let mut argv = vec![program.to_string_lossy().into_owned(), "serve".into(), service.into()];
    let value = |path: &str| {
        let (group, name) = path.split_once('.')?;
        let found = context.get(group).and_then(|v| v.get(name)).and_then(Value::as_str);
        // `auto` asks for no key.
        found.filter(|v| !v.is_empty() && (path != "axes.key" || *v != "auto"))
    };
    for (flag, path) in [
        ("--transport", "axes.transport"),
        ("--tls", "tls.mode"),
        ("--key-type", "axes.key"),
        ("--cert", "tls.cert"),
        ("--key", "tls.key"),
        ("--ca", "tls.ca"),
        ("--tls-version", "tls.version"),
        ("--group", "tls.group"),
    ] {
        if let Some(value) = value(path) {
            argv.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    Ok(argv)
}

const fn role(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}

/// The harness cannot do what the plan says it could.
pub(super) fn cannot(text: &str) -> PeerError {
    PeerError {
        reported: Reported {
            phase: Some(Phase::Spawn),
            error: text.into(),
            native: None,
            status: None,
            cause: Some(Cause { code: "spawn.impossible".into(), certainty: Certainty::Observed, text: text.into() }),
        },
        refused: false,
        harness: true,
        timed_out: false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
