//! What a case asks of its peers, and whether they can be asked: from this follows `unsupported`.
//!
//! The same rules are used twice: compiled into conditions over a space, to count; and for one
//! case, to say what is missing. Both ask [`Asker::support`].

use std::sync::Arc;

use serde::Serialize;

use crate::axis::options::{CallOptions, Compression};
use crate::axis::{self, Needs};
use crate::filter::{Expr, glob};
use crate::scenario::model::{Capability, ClientWay, ConnectDef, DirectWay, Op, Scenario, Script};

use super::condition::{Condition, Index, Node};
use super::space::{Dim, DimValue, SCRIPT, Space};

/// Why a case cannot be asked of its peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Missing {
    /// `client`, `server`, or `client or server` where either would do.
    pub role: &'static str,
    /// The peers in that role, joined by ` or `.
    pub peer: String,
    /// What is missing: `key.p521`, or the way of being run (`launch.plugin`), or `role.client`.
    pub capability: String,
    /// A sentence.
    pub reason: String,
    /// There is no way to run the pair like this, so that not even probing can tell.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub structural: bool,
}

/// A role of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// Whether a peer can be asked for something.
#[derive(Debug, Clone)]
pub(super) enum Support<'a> {
    Yes(Option<&'a Capability>),
    No,
    /// Under any of these conditions.
    When(Vec<(&'a Capability, &'a Arc<Expr>)>),
}

/// Reads the roles of a scenario's peers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) scenario: &'a Scenario,
}

/// Something that a row asks of a peer: the axis, and the name of the capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) axis: String,
    pub(super) needs: Needs,
    pub(super) capability: String,
}

impl<'a> Asker<'a> {
    /// The capabilities of a peer's role; `None` when it has no such role.
    fn provides(self, role: Role, peer: &str) -> Option<&'a [Capability]> {
        let peer = self.scenario.peers.get(peer)?;
        match role {
            Role::Client => peer.client.as_ref().map(|role| role.provides.as_slice()),
            Role::Server => peer.server.as_ref().map(|role| role.provides.as_slice()),
        }
    }

    /// Whether a peer can be asked for a capability in a role that it has.
    pub(super) fn support(self, role: Role, peer: &str, capability: &str) -> Support<'a> {
        let Some(provides) = self.provides(role, peer) else { return Support::No };
        if let Some(op) = capability.strip_prefix("op.") {
            return if self.does(peer, op) { Support::Yes(None) } else { Support::No };
        }
        let mut conditions = Vec::new();
        for own in provides.iter().filter(|own| Self::matches(&own.name, capability)) {
            match &own.when {
                None => return Support::Yes(Some(own)),
                Some(when) => conditions.push((own, when)),
            }
        }
        // A client is often written against no service in particular: it calls methods by name.
        // One that names services can be asked for these only.
        let any_service = role == Role::Client
            && capability.starts_with("service.")
            && !provides.iter().any(|own| self.names_service(&own.name));
        match (conditions.is_empty(), any_service) {
            (_, true) => Support::Yes(None),
            (true, false) => Support::No,
            (false, false) => Support::When(conditions),
        }
    }

    fn names_service(self, capability: &str) -> bool {
        capability.starts_with("service.") || self.scenario.services.contains_key(capability)
    }

    /// Whether a declared capability covers an asked one. `orders` is short for `service.orders`,
    /// `limits` for both of its kind, and spellings of values do not matter.
    fn matches(declared: &str, asked: &str) -> bool {
        if glob(declared, asked) {
            return true;
        }
        match (declared.split_once('.'), asked.split_once('.')) {
            (None, Some(("service", service))) => glob(declared, service),
            (None, Some((group @ "limits", _))) => glob(declared, group),
            (Some((axis, value)), Some(_)) => axis::canonical(axis, value)
                .is_some_and(|value| asked.strip_prefix(axis).and_then(|rest| rest.strip_prefix('.')) == Some(value)),
            _ => false,
        }
    }

    /// Whether a client can be asked for an op: a program only for what it is run for, and others
    /// for all but a test of a program's own.
    fn does(self, peer: &str, op: &str) -> bool {
        match self.scenario.peers.get(peer).and_then(|peer| peer.client.as_ref()).map(|client| &client.way) {
            Some(ClientWay::Exec(exec)) if op == "test" => exec.test.is_some(),
            Some(ClientWay::Exec(exec)) => exec.has_op(op),
            _ => op != "test",
        }
    }

    /// Whether a server can be had by a launch (`true`: by plugin launch).
    fn has_way(self, peer: &str, plugin: bool) -> bool {
        let server = self.scenario.peers.get(peer).and_then(|peer| peer.server.as_ref());
        server.is_some_and(|server| if plugin { server.plugin.is_some() } else { server.direct.is_some() })
    }

    /// What a value of an axis asks.
    pub(super) fn ask(dim: &Dim, value: &DimValue) -> Option<Ask> {
        let def = axis::find(&dim.axis)?;
        let asks_nothing = axis::find_value(&dim.axis, &value.means).is_some_and(|def| def.asks_nothing);
        if def.needs == Needs::Nothing || asks_nothing {
            return None;
        }
        Some(Ask { axis: dim.axis.clone(), needs: def.needs, capability: format!("{}.{}", dim.axis, value.means) })
    }

    /// What a script asks of its peers.
    pub(super) fn script_asks(script: &Script) -> Vec<Ask> {
        let ask = |needs, capability: String| Ask { axis: SCRIPT.to_owned(), needs, capability };
        let mut asks: Vec<Ask> = script.needs.iter().map(|(needs, name)| ask(*needs, name.clone())).collect();
        for step in script.all_steps() {
            let wanted = match &step.op {
                Op::Named { name, .. } => vec![ask(Needs::Client, format!("op.{name}"))],
                Op::Call(call) => {
                    let op = ask(Needs::Client, "op.call".to_owned());
                    [op].into_iter().chain(call_asks(call.options)).collect()
                }
                Op::Test { .. } => vec![ask(Needs::Client, "op.test".to_owned())],
                Op::Open { call, .. } => {
                    let stream = ask(Needs::Client, "stream.interleaved".to_owned());
                    [stream].into_iter().chain(call_asks(call.options)).collect()
                }
                Op::Send { .. } | Op::Receive { .. } | Op::HalfClose { .. } | Op::Cancel { .. } | Op::End { .. } => {
                    vec![ask(Needs::Client, "stream.interleaved".to_owned())]
                }
                Op::Stdio { .. } => vec![ask(Needs::Client, "stdio".to_owned())],
                Op::Connect(connect) => {
                    let asked = connect.with.iter().filter_map(|(axis, value)| {
                        let asks_nothing = axis::find_value(axis, value).is_some_and(|def| def.asks_nothing);
                        (!asks_nothing).then_some(ask(axis::find(axis)?.needs, format!("{axis}.{value}")))
                    });
                    asked.chain(connect_asks(connect)).collect()
                }
                _ => Vec::new(),
            };
            for ask in wanted {
                if !asks.contains(&ask) {
                    asks.push(ask);
                }
            }
        }
        asks
    }

    /// Why a script cannot have of a directly started server what it does with servers: the
    /// capability, and a sentence.
    fn unruly(self, peer: &str, script: &str) -> Option<(&'static str, String)> {
        let server = self.scenario.peers.get(peer)?.server.as_ref()?;
        let script = self.scenario.scripts.get(script)?;
        match server.direct.as_ref()? {
            // It is not the engine's to end and to start.
            DirectWay::Attach(_) if script.starts_servers() => Some((
                "server.restart",
                format!("server `{peer}` runs already, and the script `{}` ends or starts servers of its own", script.name),
            )),
            DirectWay::Exec(exec) if script.needs_second_server() => exec.exclusive.as_ref().map(|group| {
                let reason = format!(
                    "server `{peer}` is never up beside another one (`exclusive: {group}`), and the script `{}` needs two",
                    script.name
                );
                ("server.second", reason)
            }),
            _ => None,
        }
    }

    fn asks_of(self, dim: &Dim, value: &DimValue) -> Vec<Ask> {
        if dim.axis == SCRIPT {
            self.scenario.scripts.get(&value.name).map(|script| Self::script_asks(script)).unwrap_or_default()
        } else {
            Self::ask(dim, value).into_iter().collect()
        }
    }

    /// The rows of a space that cannot be asked of their peers: a condition per axis.
    pub(super) fn unsupported(self, space: &Space) -> Vec<Node> {
        let mut nodes = Vec::new();
        for role in [Role::Client, Role::Server] {
            nodes.push(
                space.atom(role.name(), |peer| peer.is_none_or(|peer| self.provides(role, &peer.name).is_none())),
            );
        }
        for plugin in [true, false] {
            let without = space.atom("server", |peer| peer.is_none_or(|peer| !self.has_way(&peer.name, plugin)));
            let launched = space.atom("launch", |value| value.is_some_and(|value| value.means == "plugin") == plugin);
            nodes.push(Node::and([without, launched]));
        }
        let servers = space.dim("server").map(|at| space.dims[at].values.as_slice()).unwrap_or_default();
        for server in servers {
            nodes.push(Node::and([
                space.atom("server", |peer| peer.is_some_and(|peer| peer.name == server.name)),
                space.atom("launch", |value| value.is_none_or(|value| value.means != "plugin")),
                space.atom(SCRIPT, |script| {
                    script.is_some_and(|script| self.unruly(&server.name, &script.name).is_some())
                }),
            ]));
        }
        for dim in &space.dims {
            let mut either = Vec::new();
            for role in [Role::Client, Role::Server] {
                nodes.push(self.missing_node(space, dim, role, &|ask| {
                    ask.needs != Needs::Either && roles(ask.needs).contains(&role)
                }));
            }
            for ask in dim.values.iter().flat_map(|value| self.asks_of(dim, value)) {
                if ask.needs == Needs::Either && !either.contains(&ask) {
                    either.push(ask);
                }
            }
            for wanted in either {
                let of = |role| self.missing_node(space, dim, role, &|ask| *ask == wanted);
                nodes.push(Node::and([of(Role::Client), of(Role::Server)]));
            }
        }
        nodes.retain(|node| !matches!(node, Node::Constant(false)));
        nodes
    }

    /// Rows in which the peer of a role cannot be asked for what a value of a dimension asks.
    fn missing_node(self, space: &Space, dim: &Dim, role: Role, about: &dyn Fn(&Ask) -> bool) -> Node {
        let Some(peers) = space.dim(role.name()) else { return Node::Constant(false) };
        let asks: Vec<Vec<Ask>> =
            dim.values.iter().map(|value| self.asks_of(dim, value).into_iter().filter(about).collect()).collect();
        let mut alternatives: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        let mut conditional = Vec::new();
        for peer in &space.dims[peers].values {
            let mut never = Vec::new();
            for (value, asks) in dim.values.iter().zip(&asks) {
                for ask in asks {
                    match self.support(role, &peer.name, &ask.capability) {
                        Support::Yes(_) => {}
                        Support::No => never.push(value.name.clone()),
                        Support::When(conditions) => {
                            let any = conditions.iter().map(|(_, when)| Condition::Expr(Arc::clone(when))).collect();
                            conditional.push(Condition::All(vec![
                                Condition::OneOf(role.name().to_owned(), vec![peer.name.clone()]),
                                Condition::OneOf(dim.axis.clone(), vec![value.name.clone()]),
                                Condition::Not(Box::new(Condition::Any(any))),
                            ]));
                        }
                    }
                }
            }
            // Peers that lack the same share a condition.
            match alternatives.iter_mut().find(|(_, values)| *values == never) {
                Some((peers, _)) => peers.push(peer.name.clone()),
                None if never.is_empty() => {}
                None => alternatives.push((vec![peer.name.clone()], never)),
            }
        }
        let plain = alternatives.into_iter().map(|(peers, values)| {
            Condition::All(vec![
                Condition::OneOf(role.name().to_owned(), peers),
                Condition::OneOf(dim.axis.clone(), values),
            ])
        });
        Condition::Any(plain.chain(conditional).collect()).compile(space)
    }

    /// Everything that one row asks and its peers cannot be asked for.
    pub(super) fn missing(self, space: &Space, row: &[Index]) -> Vec<Missing> {
        let mut out = Vec::new();
        let mut absent = Vec::new();
        for role in [Role::Client, Role::Server] {
            let peer = space.value_of(row, role.name()).map_or("unset", |value| &value.name);
            if self.provides(role, peer).is_none() {
                absent.push(role);
                out.push(Missing {
                    role: role.name(),
                    peer: peer.to_owned(),
                    capability: format!("role.{}", role.name()),
                    reason: format!("peer `{peer}` has no {} role", role.name()),
                    structural: true,
                });
            }
        }
        let plugin = space.value_of(row, "launch").is_some_and(|value| value.means == "plugin");
        if let Some(server) = space.value_of(row, "server")
            && !absent.contains(&Role::Server)
            && !self.has_way(&server.name, plugin)
        {
            let peer = &server.name;
            let (capability, reason) = if plugin {
                (
                    "launch.plugin",
                    format!(
                        "server `{peer}` cannot be launched as a plugin: its server role names no `plugin` command"
                    ),
                )
            } else {
                (
                    "launch.direct",
                    format!("server `{peer}` cannot be started directly: its server role has only a `plugin` way"),
                )
            };
            out.push(Missing {
                role: "server",
                peer: peer.clone(),
                capability: capability.to_owned(),
                reason,
                structural: true,
            });
        }
        if let (Some(server), Some(script)) = (space.value_of(row, "server"), space.value_of(row, SCRIPT))
            && !plugin
            && let Some((capability, reason)) = self.unruly(&server.name, &script.name)
        {
            out.push(Missing {
                role: "server",
                peer: server.name.clone(),
                capability: capability.to_owned(),
                reason,
                structural: true,
            });
        }
        for (ask, missing) in self.asks(space, row) {
            let lacking: Vec<Role> = missing.into_iter().filter(|role| !absent.contains(role)).collect();
            if ask.needs == Needs::Either && lacking.len() == 2 {
                out.push(either_missing(space, row, &ask));
            } else if ask.needs != Needs::Either {
                out.extend(lacking.into_iter().map(|role| one_missing(space, row, &ask, role)));
            }
        }
        out
    }

    /// Everything that a row asks, each with the roles that need it and do not have it.
    pub(super) fn asks(self, space: &Space, row: &[Index]) -> Vec<(Ask, Vec<Role>)> {
        let mut out = Vec::new();
        for (position, dim) in space.dims.iter().enumerate() {
            let Some(value) = space.value(row, position) else { continue };
            for ask in self.asks_of(dim, value) {
                let lacking = roles(ask.needs)
                    .iter()
                    .copied()
                    .filter(|role| {
                        let Some(peer) = space.value_of(row, role.name()) else { return true };
                        match self.support(*role, &peer.name, &ask.capability) {
                            Support::Yes(_) => false,
                            Support::No => true,
                            Support::When(conditions) => !conditions
                                .iter()
                                .any(|(_, when)| Condition::Expr(Arc::clone(when)).compile(space).holds(space, row)),
                        }
                    })
                    .collect();
                out.push((ask, lacking));
            }
        }
        out
    }
}

/// What an option of a script asks of a role.
fn option(needs: Needs, capability: &str) -> Ask {
    Ask { axis: SCRIPT.to_owned(), needs, capability: capability.to_owned() }
}

fn call_asks(options: CallOptions) -> impl Iterator<Item = Ask> {
    let gzip = options.compression == Some(Compression::Gzip);
    let gzip = gzip.then(|| option(Needs::Client, "compression.gzip"));
    gzip.into_iter().chain(options.wait_for_ready.then(|| option(Needs::Client, "wait-for-ready")))
}

fn connect_asks(connect: &ConnectDef) -> impl Iterator<Item = Ask> {
    let ConnectDef { options, server_limits, .. } = connect;
    let asks = [
        (options.lazy, Needs::Client, "wait-for-ready"),
        (options.limits.send.is_some(), Needs::Client, "limits.send"),
        (options.limits.receive.is_some(), Needs::Client, "limits.receive"),
        (options.keepalive.is_some(), Needs::Client, "keepalive"),
        (server_limits.send.is_some(), Needs::Server, "limits.send"),
        (server_limits.receive.is_some(), Needs::Server, "limits.receive"),
    ];
    asks.into_iter().filter(|(asked, ..)| *asked).map(|(_, needs, capability)| option(needs, capability))
}

/// The roles that a need is about.
pub(super) const fn roles(needs: Needs) -> &'static [Role] {
    match needs {
        Needs::Nothing => &[],
        Needs::Client => &[Role::Client],
        Needs::Server => &[Role::Server],
        Needs::Both | Needs::Either => &[Role::Client, Role::Server],
    }
}

fn one_missing(space: &Space, row: &[Index], ask: &Ask, role: Role) -> Missing {
    let peer = space.value_of(row, role.name()).map_or("unset", |value| &value.name);
    let Ask { capability, .. } = ask;
    Missing {
        role: role.name(),
        peer: peer.to_owned(),
        capability: capability.clone(),
        reason: match capability.strip_prefix("op.") {
            Some("test") => format!("client `{peer}` brings no tests of its own"),
            Some(op) => format!("client `{peer}` is a program, and nothing is declared to be run for `{op}`"),
            None => format!("{} `{peer}` has no capability `{capability}`", role.name()),
        },
        structural: false,
    }
}

fn either_missing(space: &Space, row: &[Index], ask: &Ask) -> Missing {
    let name = |axis: &str| space.value_of(row, axis).map_or("unset", |value| value.name.as_str()).to_owned();
    let (client, server) = (name("client"), name("server"));
    let Ask { capability, .. } = ask;
    Missing {
        role: "client or server",
        peer: format!("{client} or {server}"),
        capability: capability.clone(),
        reason: format!("neither client `{client}` nor server `{server}` has the capability `{capability}`"),
        structural: false,
    }
}
