//! Peers that are only programs: made anew for each case, from what the case asks. What they share
//! over a run is here: the proofs of who can refuse, and the turns of servers that exclude each other.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::{OnceCell, OwnedMutexGuard, Semaphore};

use super::case::LaneKey;
use super::compose::{self, Side};
use super::context::RunContext;
use super::lane::LaneRequest;
use super::peers::{COOKIE, Peers, Plugin};
use crate::axis::values::Launch;
use crate::peer::exec::{Exclusion, ExecClient, ExecServer, Overseer, Setting, refuses};
use crate::peer::{Act, Client, PeerError, Server, Target, TlsSpec};
use crate::process::hub::{Composer, StartOrder, Ticket};
use crate::scenario::model::{self, Arg, ClientWay, DirectWay, ExecCommand, ExecRun, Peer};

/// What programs share over a run.
#[derive(Default)]
pub(super) struct Outside {
    proofs: Mutex<HashMap<String, Proof>>,
    turns: Mutex<HashMap<String, Turn>>,
}

/// Whether a peer has shown that it can refuse.
type Proof = Arc<OnceCell<Result<(), PeerError>>>;

/// Servers that exclude each other: whose turn it is, and who is still up.
#[derive(Clone)]
struct Turn {
    /// The key of the server that was used last.
    last: Arc<tokio::sync::Mutex<Option<LaneKey>>>,
    up: Arc<Semaphore>,
}

impl Peers {
    /// The client role of a peer that is a program.
    pub(super) fn exec_client(&self, name: &str) -> Option<&Arc<model::ExecClient>> {
        match &self.peer(name).ok()?.client.as_ref()?.way {
            ClientWay::Exec(exec) => Some(exec),
            _ => None,
        }
    }

    fn exec_server(&self, name: &str) -> Option<&Arc<model::ExecServer>> {
        match self.peer(name).ok()?.server.as_ref()?.direct.as_ref()? {
            DirectWay::Exec(exec) => Some(exec),
            _ => None,
        }
    }

    /// A connection is the case's own where it is a run per op, and where its server has to go as
    /// soon as another one's turn comes.
    pub(super) fn needs_own_lane(&self, client: &str, server: &str) -> bool {
        self.exec_client(client).is_some() || self.exclusive(server).is_some()
    }

    fn exclusive(&self, server: &str) -> Option<&str> {
        self.exec_server(server)?.exclusive.as_deref()
    }

    /// Waits for the turn of a server that excludes others; holds the key of the last one that was up.
    pub(super) async fn turn(&self, server: &str, launch: Launch) -> Option<OwnedMutexGuard<Option<LaneKey>>> {
        let name = self.exclusive(server).filter(|_| launch == Launch::Direct)?;
        Some(self.outside.turn(name).last.lock_owned().await)
    }

    /// Has a program show, once, that it can refuse.
    pub(super) async fn prove(&self, exec: &Arc<model::ExecClient>, name: &str) -> Result<(), PeerError> {
        if exec.refuses.is_none() {
            return Ok(());
        }
        let proof = Arc::clone(lock(&self.outside.proofs).entry(name.to_owned()).or_default());
        let prove = async || {
            let mut context = self.base(name);
            let empty = |fields: &[&str]| fields.iter().map(|f| ((*f).to_owned(), "".into())).collect::<Map<_, _>>();
            let axes: Vec<&str> = crate::axis::table().iter().map(|def| def.name).collect();
            context.insert("axes".into(), empty(&axes).into());
            context.insert("tls".into(), tls(&TlsSpec::none()));
            context.insert("case".into(), empty(&["key", "id", "slug"]).into());
            context.insert("script".into(), empty(&["name"]).into());
            context.insert("storage".into(), "".into());
            context.insert("cookie".into(), cookie());
            let setting = self.setting(name, context, Path::new(""));
            refuses(&resolved_client(exec, &|_| false), &setting).await
        };
        proof.get_or_init(prove).await.clone()
    }

    /// What every command of a peer sees.
    fn base(&self, name: &str) -> Map<String, Value> {
        let (output, folder) = self.folders(name);
        let path = |path: &Path| Value::String(path.to_string_lossy().into_owned());
        let mut context = Map::new();
        context.insert("output".into(), output.as_deref().map_or_else(|| "".into(), path));
        context.insert("folder".into(), path(&folder));
        context.insert("vars".into(), self.vars().into());
        context.extend(self.peer(name).into_iter().flat_map(Peer::variant_names));
        context
    }

    fn setting(&self, name: &str, context: Map<String, Value>, scratch: &Path) -> Setting {
        Setting {
            peer: name.to_owned(),
            folder: self.folders(name).1,
            scratch: scratch.to_path_buf(),
            context,
            spawner: self.spawner().clone(),
        }
    }
}

impl Outside {
    fn turn(&self, name: &str) -> Turn {
        let new = || Turn { last: Arc::default(), up: Arc::new(Semaphore::new(1)) };
        lock(&self.turns).entry(name.to_owned()).or_insert_with(new).clone()
    }
}

/// The server of a case, where it is a program.
pub(super) fn server(run: &RunContext, request: &LaneRequest<'_>) -> Option<Arc<dyn Server>> {
    exec_server(run, request).map(|server| Arc::new(server) as Arc<dyn Server>)
}

fn exec_server(run: &RunContext, request: &LaneRequest<'_>) -> Option<ExecServer> {
    let exec = run.peers.exec_server(request.server)?;
    let job = request.job;
    let mut context = run.command_context(job, &request.tls, &request.storage);
    context.extend(run.peers.base(request.server));
    let holds = |arg: &Arg| decided(arg, &|when| run.plan.holds(&job.case, when));
    let server = model::ExecServer { command: command(&exec.command, &holds), ..(**exec).clone() };
    let exclusion = exec.exclusive.as_ref().map(|name| Exclusion {
        group: name.clone(),
        up: run.peers.outside.turn(name).up,
        // The one before may take its grace to end.
        within: request.start + request.grace,
    });
    let setting = run.peers.setting(request.server, context, &request.folder);
    Some(ExecServer::new(Arc::new(server), setting, request.tls.client.clone(), exclusion))
}

/// The client of a case, where it is a program. With an overseer it starts its servers itself, and
/// shares their storage.
pub(super) fn client(
    run: &RunContext,
    request: &LaneRequest<'_>,
    overseer: Option<Arc<dyn Overseer>>,
) -> Option<io::Result<Arc<dyn Client>>> {
    let client = exec_client(run, request, overseer)?;
    Some(client.map(|client| Arc::new(client) as Arc<dyn Client>))
}

fn exec_client(
    run: &RunContext,
    request: &LaneRequest<'_>,
    overseer: Option<Arc<dyn Overseer>>,
) -> Option<io::Result<ExecClient>> {
    let exec = run.peers.exec_client(request.client)?;
    let make = || {
        let folder = run.fresh_folder()?;
        let plugin = request.job.request.launch == Some(Launch::Plugin);
        let storage = if plugin { request.storage.clone() } else { folder.join("storage") };
        std::fs::create_dir_all(&storage)?;
        let context = client_context(run, request, &storage);
        let exec = resolved_client(exec, &|when| run.plan.holds(&request.job.case, when));
        let setting = run.peers.setting(request.client, context, &folder);
        Ok(ExecClient::new(Arc::new(exec), setting, overseer))
    };
    Some(make())
}

/// What the commands of a client that is a program see, beside its server.
pub(super) fn client_context(run: &RunContext, request: &LaneRequest<'_>, storage: &Path) -> Map<String, Value> {
    let job = request.job;
    let mut context = run.command_context(job, &request.tls, storage);
    context.extend(run.peers.base(request.client));
    context.insert("tls".into(), tls(&request.tls.client));
    context.insert("case".into(), json!({ "id": job.id, "key": job.key, "slug": job.slug }));
    context.insert("script".into(), json!({ "name": job.script.name }));
    context.insert("cookie".into(), cookie());
    context
}

/// The variable by which a plugin knows its host.
fn cookie() -> Value {
    json!({ "key": COOKIE.0, "value": COOKIE.1 })
}

/// A file that the program of a case can start as its server, and the watch over what it starts.
pub(super) fn stand_in(run: &RunContext, request: &LaneRequest<'_>, ticket: &Ticket) -> io::Result<std::path::PathBuf> {
    std::fs::create_dir_all(&request.folder)?;
    run.hub.stand_in(ticket, &request.folder)
}

/// What decides the starts of a plugin by a client that composes them.
pub(super) fn composer(
    run: &RunContext,
    request: &LaneRequest<'_>,
    plugin: &Plugin,
    host: StartOrder,
) -> Result<Option<Composer>, PeerError> {
    let nothing = model::Rewrite::default();
    let client = match run.peers.exec_client(request.client) {
        Some(exec) => &exec.rewrite,
        // People may start any client by hand.
        None if run.settings.debug.is_some() => &nothing,
        None => return Ok(None),
    };
    let server = run.peers.peer(request.server)?.server.as_ref().map_or(&nothing, |role| &role.rewrite);
    let of_client = client_context(run, request, &request.storage);
    let mut of_server = request.context.clone();
    of_server.extend(run.peers.base(request.server));
    let client = Side { peer: request.client, rewrite: client, context: &of_client };
    let server = Side { peer: request.server, rewrite: server, context: &of_server };
    compose::composer(plugin, client, server, host).map(Some)
}

/// A server of a case that people start, and where it then listens.
pub(super) fn server_by_hand(
    run: &RunContext,
    request: &LaneRequest<'_>,
    target: &Target,
) -> Result<(Target, String), PeerError> {
    match exec_server(run, request) {
        Some(server) => server.by_hand(target, &request.folder),
        None => Err(super::peers::cannot(&format!("server `{}` is no program", request.server))),
    }
}

/// What people type for an op of a client that is a program.
pub(super) fn client_by_hand(
    run: &RunContext,
    request: &LaneRequest<'_>,
    act: &Act,
    target: Option<&Target>,
    program: &str,
) -> Result<String, PeerError> {
    match exec_client(run, request, None).transpose() {
        Ok(Some(client)) => client.by_hand(act, target, program),
        Ok(None) => Err(super::peers::cannot(&format!("client `{}` is no program", request.client))),
        Err(e) => Err(super::peers::cannot(&format!("no folder can be made: {e}"))),
    }
}

/// How a server is run, before its templates are filled in.
pub(super) fn shown(server: &model::ExecServer) -> String {
    let words = server.command.run.iter().flat_map(|arg| match arg {
        Arg::Text(text) => std::slice::from_ref(text),
        Arg::Group { args, .. } => args.as_slice(),
    });
    words.map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// The client's part in TLS as templates see it; empty texts where nothing is asked.
pub(super) fn tls(spec: &TlsSpec) -> Value {
    let path = |p: Option<&Path>| p.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let own = spec.identity.as_ref().and_then(|i| i.files());
    let ca = spec.ca.as_ref().and_then(|i| i.files());
    json!({
        "mode": spec.mode.name(),
        "cert": path(own.map(|f| f.cert.as_path())),
        "key": path(own.and_then(|f| f.key.as_deref())),
        "ca": path(ca.map(|f| f.cert.as_path())),
        "client_auth": "",
        "version": spec.version.map_or("", |v| v.name()),
        "group": spec.group.map_or("", |g| g.name()),
        "server_name": spec.server_name,
    })
}

pub(super) type Holds<'a> = &'a dyn Fn(&Arc<crate::filter::Expr>) -> bool;

/// A client with its conditions decided.
pub(super) fn resolved_client(exec: &model::ExecClient, holds: Holds<'_>) -> model::ExecClient {
    let keeps = |arg: &Arg| decided(arg, holds);
    let run = |run: &ExecRun| ExecRun { command: command(&run.command, &keeps), ..run.clone() };
    model::ExecClient {
        ops: exec.ops.iter().map(|(name, of)| (name.clone(), run(of))).collect(),
        call: exec.call.as_ref().map(run),
        test: exec.test.as_ref().map(run),
        refuses: exec.refuses.as_ref().map(run),
        rewrite: exec.rewrite.clone(),
        span: exec.span,
    }
}

pub(super) fn command(command: &ExecCommand, keeps: &dyn Fn(&Arg) -> bool) -> ExecCommand {
    let run = command.run.iter().filter(|arg| keeps(arg)).cloned().collect();
    ExecCommand { run, ..command.clone() }
}

pub(super) fn decided(arg: &Arg, holds: Holds<'_>) -> bool {
    match arg {
        Arg::Group { when: Some(when), .. } => holds(when),
        _ => true,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
