//! `--debug`: everything of a case but one side is up, and people start that side by hand. Says how,
//! as lines for a shell.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::context::RunContext;
use super::lane::LaneRequest;
use super::outside;
use super::peers::{Plugin, cannot, own_server_argv};
use crate::axis::values::{TlsMode, Transport};
use crate::dynamic;
use crate::outcome::evidence::Side;
use crate::peer::exec::quote;
use crate::peer::{Act, PeerError, Target, TlsSpec};
use crate::scenario::model::{DirectWay, Op};
use crate::scenario::template::Renderer;

/// Which side people start, and who tells them how.
#[derive(Clone)]
pub struct Debug {
    /// The side that is not started.
    pub side: Side,
    /// Takes what is to be said.
    pub tell: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for Debug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Debug").field("side", &self.side).finish_non_exhaustive()
    }
}

/// What of an op can be told before it is run.
struct Line {
    name: String,
    act: Act,
    encoded: Option<Bytes>,
}

impl Debug {
    /// A directly launched server by hand: says how, and waits until it can be dialled.
    pub(super) async fn server(&self, run: &RunContext, request: &LaneRequest<'_>) -> Result<Target, PeerError> {
        let name = request.server;
        let peer = run.peers.peer(name)?;
        let target = match request.transport {
            Some(Transport::Unix) => Target::Unix(request.folder.join("s.sock")),
            _ => Target::Tcp(free_port()?),
        };
        let (target, command) = match peer.server.as_ref().and_then(|role| role.direct.as_ref()) {
            Some(DirectWay::Exec(_)) => outside::server_by_hand(run, request, &target)?,
            Some(DirectWay::Builtin) => {
                let context = run.command_context(request.job, &request.tls, &request.storage);
                let argv = own_server_argv(&context, &run.service_name(request.service), &target)?;
                (target, shell(&[("KV_STORAGE_DIR".to_owned(), request.storage.display().to_string())], &argv))
            }
            Some(DirectWay::Attach(_)) => {
                return Err(cannot(&format!("server `{name}` runs already; give `--debug-side client`")));
            }
            _ => {
                let text = format!(
                    "server `{name}` is a driver, which is told by messages where to listen; start a server of your \
                     own and name it with `--attach {name}=HOST:PORT`, or give `--debug-side client`"
                );
                return Err(cannot(&text));
            }
        };
        self.say(&format!(
            "start server `{name}`; it is to listen at {target}:\n\n  {command}\n\nwaiting for it; Ctrl-C ends"
        ));
        crate::peer::exec::dialled(&target).await;
        self.say(&format!("server `{name}` is up; client `{}` goes on", request.client));
        Ok(target)
    }

    /// A client by hand, against a server that is up: says how, for ever.
    pub(super) async fn client(&self, run: &RunContext, request: &LaneRequest<'_>, target: &Target) -> PeerError {
        let mut text = format!("server `{}` is up; dial it at {target} (a relay watches)\n", request.server);
        let lines = match client_lines(run, request, &Reach::Dial(target.clone())) {
            Ok(lines) => lines,
            Err(error) => return error,
        };
        let _ = write!(text, "start client `{}`:\n\n{lines}\nCtrl-C ends", request.client);
        self.say(&text);
        std::future::pending().await
    }

    /// A plugin and its client by hand: says how, for ever.
    pub(super) async fn launch(
        &self,
        run: &RunContext,
        request: &LaneRequest<'_>,
        plugin: &Plugin,
        program: &str,
    ) -> PeerError {
        let lines = match client_lines(run, request, &Reach::Start(program.to_owned())) {
            Ok(lines) => lines,
            Err(error) => return error,
        };
        let (client, server) = (request.client, request.server);
        self.say(&format!(
            "client `{client}` starts server `{server}` as its plugin; by this path it is watched:\n\n  {program}\n\n\
             client `{client}`:\n\n{lines}\nserver `{server}`, as the path starts it; without a host it has no AutoMTLS:\n\n  \
             {}\n\nCtrl-C ends",
            plugin.shown
        ));
        std::future::pending().await
    }

    fn say(&self, text: &str) {
        (self.tell)(text);
    }
}

/// How a client comes to its server.
enum Reach {
    Dial(Target),
    Start(String),
}

/// The client's commands, one per op of the script.
fn client_lines(run: &RunContext, request: &LaneRequest<'_>, reach: &Reach) -> Result<String, PeerError> {
    let mut text = String::new();
    for line in ops(run, request)? {
        let command = match run.peers.exec_client(request.client) {
            Some(_) => match reach {
                Reach::Dial(target) => outside::client_by_hand(run, request, &line.act, Some(target), "")?,
                Reach::Start(program) => outside::client_by_hand(run, request, &line.act, None, program)?,
            },
            None => call(request, &line, reach),
        };
        let _ = writeln!(text, "  # {}\n  {command}", line.name);
    }
    Ok(text)
}

/// The ops of the case's script as far as they can be told without running it.
fn ops(run: &RunContext, request: &LaneRequest<'_>) -> Result<Vec<Line>, PeerError> {
    let job = request.job;
    let renderer = Renderer::new(&run.script_context(job));
    let codec = run.codec(&job.service).map_err(|e| cannot(&e))?;
    let service = run.plan.scenario().services.get(&job.service);
    let mut lines = Vec::new();
    for step in job.script.all_steps() {
        // What an earlier step is to capture stays as it is written.
        let filled = |value: &Value| renderer.value(value).unwrap_or_else(|_| value.clone());
        let (op, args, method, message) = match &step.op {
            Op::Named { name, args } => {
                let Value::Object(args) = filled(&Value::Object(args.clone())) else { continue };
                let Some(def) = service.and_then(|service| service.ops.get(name)) else { continue };
                let message = Renderer::new(&args).value(&def.send).ok();
                (name.clone(), args, def.method.clone(), message)
            }
            Op::Call(call) => ("call".to_owned(), Map::new(), call.method.clone(), call.send.first().map(filled)),
            Op::Test { name, .. } => {
                let name = name.clone().unwrap_or_else(|| job.script.name.clone());
                ("test".to_owned(), Map::from_iter([("test".to_owned(), Value::String(name))]), String::new(), None)
            }
            _ => continue,
        };
        let method = codec.method(&method).ok();
        let encoded = method.as_ref().and_then(|method| method.encode(message.as_ref()?).ok());
        let json = |bytes: &Bytes| {
            method.as_ref().and_then(|method: &Arc<dynamic::Method>| method.request_to_json(bytes).ok())
        };
        let act = Act {
            op,
            args,
            method: method.as_ref().map(|method| method.path().to_owned()).unwrap_or_default(),
            messages: encoded.iter().filter_map(json).collect(),
            metadata: Vec::new(),
            deadline: run.plan.scenario().timeouts.op,
        };
        lines.push(Line { name: step.id.clone(), act, encoded });
    }
    Ok(lines)
}

/// The same call by `soupscen call`.
fn call(request: &LaneRequest<'_>, line: &Line, reach: &Reach) -> String {
    let mut argv = vec![own_program(), "call".to_owned()];
    if let Reach::Dial(target) = reach {
        argv.extend(["--server".to_owned(), target.to_string()]);
    }
    argv.extend(tls_flags(&request.tls.client));
    argv.extend(["--deadline".to_owned(), "60m".to_owned()]);
    let text = |name: &str| line.act.args.get(name).and_then(Value::as_str).map(|value| format!("{name}={value}"));
    let own: Option<Vec<String>> = match line.act.op.as_str() {
        "put" => text("key").zip(text("value")).map(|(key, value)| vec!["kv.put".to_owned(), key, value]),
        "get" => text("key").map(|key| vec!["kv.get".to_owned(), key]),
        _ => None,
    };
    if let Some(words) = own.filter(|_| line.act.method.starts_with("proto.KV/")) {
        argv.extend(words);
    } else {
        let hex = hex::encode(line.encoded.as_deref().unwrap_or_default());
        argv.extend([line.act.method.clone(), "--hex".to_owned(), hex]);
    }
    if let Reach::Start(program) = reach {
        argv.extend(["--plugin".to_owned(), program.clone()]);
    }
    shell(&[], &argv)
}

fn tls_flags(tls: &TlsSpec) -> Vec<String> {
    let mut flags = vec!["--tls".to_owned(), tls.mode.name().to_owned()];
    if tls.mode == TlsMode::None {
        return flags;
    }
    let spec = outside::tls(tls);
    for (flag, field) in [
        ("--ca", "ca"),
        ("--cert", "cert"),
        ("--key", "key"),
        ("--tls-version", "version"),
        ("--group", "group"),
        ("--server-name", "server_name"),
    ] {
        if let Some(value) = spec.get(field).and_then(Value::as_str).filter(|value| !value.is_empty()) {
            flags.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    flags
}

pub(super) fn own_program() -> String {
    std::env::current_exe().map_or_else(|_| "soupscen".to_owned(), |path| path.to_string_lossy().into_owned())
}

fn shell(env: &[(String, String)], argv: &[String]) -> String {
    let env = env.iter().map(|(key, value)| format!("{key}={}", quote(value)));
    env.chain(argv.iter().map(|word| quote(word))).collect::<Vec<_>>().join(" ")
}

fn free_port() -> Result<std::net::SocketAddr, PeerError> {
    let bound = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|e| cannot(&format!("no port is free: {e}")))
}
