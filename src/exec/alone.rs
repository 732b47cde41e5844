//! The roles of one peer without a scenario around it: what the shell commands `serve` and `call`
//! play with. Peers are run as a run does it, by the same drivers and programs; only the conditions
//! of exec peers are decided here, from the little that a shell asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::outside;
use super::peers::render;
use super::programs::{PluginSpawner, start_driver};
use crate::axis::values::Transport;
use crate::filter::{self, Expr, Lookup};
use crate::peer::builtin::{BuiltinClient, BuiltinServer};
use crate::peer::driver::Driver;
use crate::peer::exec::{ExecClient, ExecServer, Setting};
use crate::peer::{Client, Server, TlsSpec};
use crate::process::{Program, Spawner};
use crate::scenario::model::{Arg, Capability, ClientWay, Command, DirectWay, Peer};

/// A peer that is built, and what it stands on.
#[derive(Debug, Clone)]
pub struct Alone {
    /// The peer.
    pub peer: Peer,
    /// What its build made, if it has one.
    pub output: Option<PathBuf>,
    /// `vars` of the file that declares it.
    pub vars: Map<String, Value>,
    /// Starts programs.
    pub spawner: Spawner,
    /// A folder of its own, existing and empty.
    pub folder: PathBuf,
}

/// What is asked of the role, for conditions and capabilities.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Name of the service, `kv` or `stock`; `None` when it is any by its full name.
    pub service: Option<&'a str>,
    /// `launch.plugin` instead of `launch.direct`.
    pub plugin: bool,
    /// Socket family.
    pub transport: Transport,
    /// TLS of this role; of an exec server, what the engine itself dials it with is `dial`.
    pub tls: &'a TlsSpec,
    /// TLS of the other side, for exec servers.
    pub dial: &'a TlsSpec,
}

/// A role that is played, and the driver to end with it, if there is one.
pub struct Playing<R: ?Sized> {
    /// The role.
    pub role: Arc<R>,
    driver: Option<Driver>,
}

impl<R: ?Sized> Playing<R> {
    /// Asks the driver's process to end, and waits for it, 2 s at most.
    pub async fn end(&self) {
        if let Some(driver) = &self.driver {
            driver.end().await;
        }
    }

    /// Resolves when the driver's process has ended by itself, with how; never where there is none.
    pub async fn died(&self) -> String {
        match &self.driver {
            Some(driver) => driver.ended().await,
            None => std::future::pending().await,
        }
    }

    /// What the driver wrote to its standard error so far, bounded.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.driver.as_ref().map(Driver::stderr).unwrap_or_default()
    }
}

impl Alone {
    /// The client role.
    ///
    /// # Errors
    /// A sentence that says what the peer cannot do, and the way out.
    pub fn client(&self, asked: &Asked<'_>) -> Result<Playing<dyn Client>, String> {
        let name = &self.peer.name;
        let Some(role) = &self.peer.client else {
            return Err(format!("peer `{name}` has no client role: it can only be served (`soupscen serve`)"));
        };
        self.provides("client", &role.provides, asked)?;
        let (role, driver): (Arc<dyn Client>, _) = match &role.way {
            ClientWay::Builtin => (Arc::new(BuiltinClient::new(PluginSpawner(self.spawner.clone()))), None),
            ClientWay::Driver(command) => {
                let driver = self.driver("client", command);
                (Arc::new(driver.clone()), Some(driver))
            }
            ClientWay::Exec(_) if asked.plugin => {
                return Err(format!("peer `{name}` is a program that is run once per op: it launches no plugins"));
            }
            ClientWay::Exec(exec) => {
                let names = self.names(asked);
                let exec = outside::resolved_client(exec, &|when| when.eval(&names));
                (Arc::new(ExecClient::new(Arc::new(exec), self.setting(asked, &names, "client"), None)), None)
            }
        };
        Ok(Playing { role, driver })
    }

    /// The server role, started directly.
    ///
    /// # Errors
    /// As [`Alone::client`].
    pub fn server(&self, asked: &Asked<'_>) -> Result<Playing<dyn Server>, String> {
        let name = &self.peer.name;
        let Some(role) = &self.peer.server else {
            return Err(format!("peer `{name}` has no server role: it can only call (`soupscen call --peer {name}`)"));
        };
        let (role, driver): (Arc<dyn Server>, _) = match &role.direct {
            None => {
                return Err(format!(
                    "the server of peer `{name}` is a go-plugin server alone, which its client starts: \
                     `soupscen call … --plugin COMMAND` does that, and so do scenarios with `launch: plugin`"
                ));
            }
            Some(DirectWay::Attach(address)) => {
                return Err(format!("peer `{name}` runs already at {address}: `soupscen call … --server {address}`"));
            }
            Some(way) => {
                self.provides("server", &role.provides, asked)?;
                match way {
                    DirectWay::Driver(command) => {
                        let driver = self.driver("server", command);
                        (Arc::new(driver.clone()), Some(driver))
                    }
                    DirectWay::Exec(exec) => {
                        let names = self.names(asked);
                        let keeps = |arg: &Arg| outside::decided(arg, &|when| when.eval(&names));
                        let command = outside::command(&exec.command, &keeps);
                        let server = crate::scenario::model::ExecServer { command, ..(**exec).clone() };
                        let setting = self.setting(asked, &names, "server");
                        (Arc::new(ExecServer::new(Arc::new(server), setting, asked.dial.clone(), None)), None)
                    }
                    DirectWay::Builtin | DirectWay::Attach(_) => (Arc::new(BuiltinServer::default()), None),
                }
            }
        };
        Ok(Playing { role, driver })
    }

    /// The socket family to start the server with: tcp where it can be asked for it.
    #[must_use]
    pub fn transport(&self) -> Transport {
        let provides = self.peer.server.as_ref().map(|role| role.provides.as_slice()).unwrap_or_default();
        let tcp = provides.iter().any(|c| filter::glob(&c.name, "transport.tcp"));
        if tcp || !provides.iter().any(|c| filter::glob(&c.name, "transport.unix")) {
            Transport::Tcp
        } else {
            Transport::Unix
        }
    }

    /// Whether its client has streams that are not done as a whole.
    #[must_use]
    pub fn interleaves(&self) -> bool {
        let provides = self.peer.client.as_ref().map(|role| role.provides.as_slice()).unwrap_or_default();
        provides.iter().any(|c| filter::glob(&c.name, "stream.interleaved"))
    }

    fn driver(&self, role: &str, command: &Command) -> Driver {
        let output = self.output.clone();
        let level = std::env::var("LOG_LEVEL").ok().filter(|level| !level.is_empty());
        driver(role, (&self.peer, command), move || output.clone(), self.spawner.clone(), level)
    }

    /// Whether the role can be asked for all that is asked.
    fn provides(&self, role: &str, provides: &[Capability], asked: &Asked<'_>) -> Result<(), String> {
        let names = self.names(asked);
        let has = |wanted: &str| {
            let holds = |when: &Option<Arc<Expr>>| when.as_ref().is_none_or(|when| when.eval(&names));
            provides.iter().any(|c| filter::glob(&c.name, wanted) && holds(&c.when))
        };
        let mut wanted = vec![format!("tls.{}", asked.tls.mode), format!("transport.{}", asked.transport)];
        if role == "client" {
            wanted.push(if asked.plugin { "launch.plugin".into() } else { "launch.direct".into() });
        }
        // A client that names no service can be asked for any.
        let names_any = provides.iter().any(|c| c.name.starts_with("service."));
        if let Some(service) = asked.service.filter(|_| role == "server" || names_any) {
            wanted.push(format!("service.{service}"));
        }
        let Some(missing) = wanted.into_iter().find(|wanted| !has(wanted)) else { return Ok(()) };
        let group = missing.split('.').next().unwrap_or_default();
        let same = |c: &&Capability| c.name.split('.').next() == Some(group);
        let known: Vec<_> = provides.iter().filter(same).map(|c| c.name.as_str()).collect();
        let known = if known.is_empty() { format!("no `{group}` at all") } else { known.join(", ") };
        let name = &self.peer.name;
        Err(format!("peer `{name}` as a {role} does not provide `{missing}` here; it provides {known}"))
    }

    fn names(&self, asked: &Asked<'_>) -> Names {
        let text = |text: &str| Value::String(text.to_owned());
        let mut names = BTreeMap::from([
            ("launch".to_owned(), text(if asked.plugin { "plugin" } else { "direct" })),
            ("transport".to_owned(), text(asked.transport.name())),
            ("tls".to_owned(), text(asked.tls.mode.name())),
        ]);
        names.extend(asked.service.map(|service| ("service".to_owned(), text(service))));
        names.extend(asked.tls.version.map(|version| ("tls_version".to_owned(), text(version.name()))));
        names.extend(asked.tls.group.map(|group| ("group".to_owned(), text(group.name()))));
        for side in ["client", "server"] {
            names.insert(side.to_owned(), text(&self.peer.name));
            names.extend(self.peer.facts.iter().map(|(fact, value)| (format!("{side}.{fact}"), text(value))));
        }
        Names(names)
    }

    /// What the templates of a program see, as in a run.
    fn setting(&self, asked: &Asked<'_>, names: &Names, side: &str) -> Setting {
        let path = |path: &Path| Value::String(path.to_string_lossy().into_owned());
        let folder = std::path::absolute(&self.peer.folder).unwrap_or_else(|_| self.peer.folder.clone());
        let mut axes: Map<String, Value> =
            crate::axis::table().iter().map(|def| (def.name.to_owned(), "".into())).collect();
        for (name, value) in &mut axes {
            if let Some(asked) = names.0.get(name) {
                *value = asked.clone();
            }
        }
        let mut tls = outside::tls(asked.tls);
        if side == "server" && asked.tls.mode == crate::axis::values::TlsMode::Mutual {
            tls["client_auth"] = "require".into();
        }
        let context = Map::from_iter([
            ("output".to_owned(), self.output.as_deref().map_or_else(|| "".into(), path)),
            ("folder".to_owned(), path(&folder)),
            ("storage".to_owned(), path(&self.folder)),
            ("vars".to_owned(), self.vars.clone().into()),
            ("axes".to_owned(), axes.into()),
            ("tls".to_owned(), tls),
            ("case".to_owned(), json!({ "id": "shell", "key": "shell", "slug": "shell" })),
            ("script".to_owned(), json!({ "name": "shell" })),
        ]);
        Setting {
            peer: self.peer.name.clone(),
            folder,
            scratch: self.folder.clone(),
            context,
            spawner: self.spawner.clone(),
        }
    }
}

/// What conditions see.
struct Names(BTreeMap<String, Value>);

impl Lookup for Names {
    fn get(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned()
    }
}

/// A driver of a peer, in one of its roles (`client`, `server`), that is started on first use.
/// `output` is looked up then: the peer's build may not have come to its end yet.
pub(super) fn driver(
    role: &str,
    (peer, command): (&Peer, &Command),
    output: impl Fn() -> Option<PathBuf> + Send + Sync + 'static,
    spawner: Spawner,
    log_level: Option<String>,
) -> Driver {
    let name = format!("{role} {}", peer.name);
    let (peer, command) = (peer.clone(), command.clone());
    let start = move || {
        let rendered = render(&peer, &command, &Map::new(), output());
        let spawner = spawner.clone();
        let log_level = log_level.clone();
        let folder = peer.folder.clone();
        let start = async move {
            let (argv, mut env) = rendered?;
            env.extend(log_level.map(|level| ("LOG_LEVEL".to_owned(), level)));
            let program = Program { env, folder: Some(folder), ..Program::new(argv) };
            start_driver(&spawner, program).await
        };
        let start: BoxFuture<'static, _> = Box::pin(start);
        start
    };
    Driver::new(&name, Arc::new(start))
}
