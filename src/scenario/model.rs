//! The resolved scenario: what the layers above read. Every name in it is known to exist, every
//! expression is parsed and checked, every path is absolute or relative to the working directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;

use crate::axis::Needs;
use crate::axis::options::{CallOptions, ChannelOptions, Limits};
use crate::diag::{SourceMap, Span, Spanned};
use crate::filter::Expr;
use crate::outcome::{Match, Phase};

pub use super::exec::model::{
    Arg, ArgRule, EndWay, ExecClient, ExecCommand, ExecRun, ExecServer, Form, Meaning, Pattern, Ready, Rewrite,
};

/// A scenario with everything that it includes.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its `name`.
    pub name: String,
    /// Its `description`.
    pub description: Option<String>,
    /// Its `labels`.
    pub labels: BTreeMap<String, String>,
    /// The file as given on the command line, and its folder.
    pub file: PathBuf,
    /// All texts.
    pub sources: Arc<SourceMap>,
    /// `vars`, for templates.
    pub vars: serde_json::Map<String, Value>,
    /// Budgets.
    pub timeouts: Timeouts,
    /// Retries.
    pub retry: Retry,
    /// What to do with cases whose peer cannot be had.
    pub missing_peers: MissingPeers,
    /// Peers by name.
    pub peers: IndexMap<String, Peer>,
    /// Services by name.
    pub services: IndexMap<String, Service>,
    /// Blocks of the matrix, at least one. A plain `matrix:` map is one block without a name.
    pub blocks: Vec<Block>,
    /// Scripts by name.
    pub scripts: IndexMap<String, Arc<Script>>,
    /// Expectation rules, own ones first.
    pub rules: Vec<Rule>,
}

/// Budgets, all wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt at a case. Default 20 s.
    pub case: Duration,
    /// From spawn to ready. Default 10 s.
    pub start: Duration,
    /// One op. Default 3 s.
    pub op: Duration,
    /// From being asked to end to being killed. Default 2 s.
    pub grace: Duration,
    /// A case longer than this is called slow. Default 5 s.
    pub slow: Duration,
}

/// Retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, at least 1. Default 1.
    pub attempts: u32,
    /// Only these endings are tried again: `failed`, `timed-out`, `crashed`.
    pub only: Vec<crate::outcome::Ending>,
    /// `flaky: allow`: passing on a retry is not red.
    pub flaky_allowed: bool,
}

/// `missing_peers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingPeers {
    /// Their cases are `errored`. The default.
    Error,
    /// Their cases are `not-run`.
    LeaveOut,
}

/// An implementation under test.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name in this scenario.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// `lang`, `stack` and the user's own; `name` is always there.
    pub facts: BTreeMap<String, String>,
    /// Its client role.
    pub client: Option<ClientRole>,
    /// Its server role.
    pub server: Option<ServerRole>,
    /// How it is built.
    pub build: Option<Build>,
    /// How its versions are found: component → probe. `self` is the peer's own.
    pub versions: IndexMap<String, VersionProbe>,
    /// The folder that its relative paths and commands start from (that of `peer.yaml`).
    pub folder: PathBuf,
    /// The scenario's `vars`, for the templates of its build.
    pub vars: serde_json::Map<String, Value>,
    /// Which variant of its definition it is: names for its templates. Empty for most.
    pub variant: BTreeMap<String, String>,
}

impl Peer {
    /// The names of its variant, for templates.
    pub fn variant_names(&self) -> impl Iterator<Item = (String, Value)> + '_ {
        self.variant.iter().map(|(name, value)| (name.clone(), Value::String(value.clone())))
    }
}

/// A peer's client role.
#[derive(Debug, Clone)]
pub struct ClientRole {
    /// How it is run.
    pub way: ClientWay,
    /// What it can be asked to do.
    pub provides: Vec<Capability>,
}

/// Ways to run a client.
#[derive(Debug, Clone)]
pub enum ClientWay {
    /// This program's own.
    Builtin,
    /// A driver program.
    Driver(Command),
    /// Any program with a command line.
    Exec(Arc<ExecClient>),
}

/// A peer's server role: by plugin launch, directly, or both.
#[derive(Debug, Clone)]
pub struct ServerRole {
    /// For `launch: plugin`: the plugin program (`Builtin` is `soupscen serve kv`).
    pub plugin: Option<PluginWay>,
    /// What is changed of its start where a client composed it.
    pub rewrite: Rewrite,
    /// For `launch: direct`.
    pub direct: Option<DirectWay>,
    /// What it can be asked to do.
    pub provides: Vec<Capability>,
}

/// Ways to run a plugin server.
#[derive(Debug, Clone)]
pub enum PluginWay {
    /// This program as a process, with extra arguments (`serve kv ARGS`).
    Builtin {
        /// Extra arguments, templates.
        args: Vec<String>,
    },
    /// A plugin program.
    Run(Command),
}

/// Ways to have a server to dial.
#[derive(Debug, Clone)]
pub enum DirectWay {
    /// In this process.
    Builtin,
    /// A driver program that serves.
    Driver(Command),
    /// Any server program.
    Exec(Arc<ExecServer>),
    /// Already running at this address (`HOST:PORT`, `unix:PATH`).
    Attach(String),
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; templates. A relative program with a `/` starts from the peer's folder.
    pub run: Vec<String>,
    /// Extra environment; templates.
    pub env: IndexMap<String, String>,
    /// Where it is declared.
    pub span: Span,
}

/// One capability of a role: a name like `key.p256`, `tls.auto`, `service.kv`, `stream.interleaved`,
/// or a glob like `key.*`, and the condition under which it holds.
#[derive(Debug, Clone)]
pub struct Capability {
    /// Name or glob.
    pub name: String,
    /// It holds only where this does; always when absent.
    pub when: Option<Arc<Expr>>,
    /// Where it is declared.
    pub span: Span,
}

/// How a peer is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Commands, run in order in the peer's folder; templates with `{{ output }}` (a folder).
    pub run: Vec<Vec<String>>,
    /// Globs of files that it depends on, relative to the folder. Lock files belong here.
    pub inputs: Vec<String>,
    /// Tools that it needs: program → how to get it.
    pub tools: IndexMap<String, Tool>,
    /// Where it is declared.
    pub span: Span,
}

/// A tool of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Arguments that print its version.
    pub version: Vec<String>,
    /// How to get it, a sentence or a command.
    pub install: String,
}

/// How a component's version is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionProbe {
    /// A fixed text.
    Fixed(String),
    /// The first match of `pattern` (group 1, or the whole) in the output of a command.
    Run {
        /// The command; templates with `{{ output }}`.
        run: Vec<String>,
        /// Regular expression.
        pattern: Option<String>,
    },
}

/// A proto service and the named ops on it.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in this scenario.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// Full protobuf name, e.g. `proto.KV`.
    pub service: String,
    /// `.proto` files; empty for one that soupscen ships (`proto.KV`).
    pub files: Vec<PathBuf>,
    /// Import folders.
    pub import: Vec<PathBuf>,
    /// Ops by name.
    pub ops: IndexMap<String, OpDef>,
}

/// A named op: a method with a message template.
#[derive(Debug, Clone)]
pub struct OpDef {
    /// Method name.
    pub method: String,
    /// Names of its arguments, all that the template uses; checked against a step's keys.
    pub args: Vec<String>,
    /// Message template: JSON whose strings are templates over the arguments. A string that is
    /// exactly one `{{ arg }}` is replaced by the argument itself, whatever its type.
    pub send: Value,
    /// Dotted path in the response that `expect: {value: …}` and captures of `value` mean.
    pub yields: Option<String>,
    /// Where it is declared.
    pub span: Span,
}

/// One product of axes with its constraints.
#[derive(Debug, Clone)]
pub struct Block {
    /// Its name, when it has one.
    pub name: Option<String>,
    /// Axes in the order of the axis table, then the user's in the order of the file. `script` is
    /// not among them. At least `client`, `server` and `service` are always there.
    pub axes: Vec<Axis>,
    /// Names of the scripts that it runs.
    pub scripts: Vec<String>,
    /// Rows left out.
    pub exclude: Vec<Exclude>,
    /// Rows added: axis → value name; axes not named are unset.
    pub include: Vec<IncludeRow>,
    /// What cases may share.
    pub isolation: Isolation,
}

/// What cases may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Servers and connections.
    Shared,
    /// Servers; every case makes its own connection.
    Connection,
    /// Nothing.
    Case,
}

/// A dimension of a block.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// Its values, at least one.
    pub values: Vec<AxisValue>,
    /// Under what condition it applies; always when absent.
    pub applies: Option<Arc<Expr>>,
    /// What it affects: which cases can share an instance or a connection.
    pub affects: Affects,
    /// A difference of its effective value is red, or reported with a reason.
    pub effective: EffectivePolicy,
    /// Where it is declared.
    pub span: Span,
}

/// What an axis affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Affects {
    /// Only a call: everything can be shared.
    Call,
    /// The connection.
    Connection,
    /// The client program's start.
    Client,
    /// The server's start (and so everything).
    Server,
}

/// `effective:` of an axis.
#[derive(Debug, Clone)]
pub enum EffectivePolicy {
    /// A difference is `not-effective`.
    Require,
    /// A difference is only reported.
    Report {
        /// Why that is good enough.
        reason: String,
        /// Only for cases where this holds; for all when absent.
        when: Option<Arc<Expr>>,
        /// Only for these effective values; for any when empty.
        only: Vec<String>,
    },
}

/// One value of an axis.
#[derive(Debug, Clone)]
pub struct AxisValue {
    /// Canonical name (aliases are resolved).
    pub name: String,
    /// Facts, without the axis name: `algorithm`, `curve`, `bits`; the user's own for user axes;
    /// a peer's facts for `client` and `server`.
    pub facts: BTreeMap<String, Value>,
    /// Files, for a `tls` value given as a map.
    pub files: Option<crate::axis::values::TlsFiles>,
    /// What it changes about the plugin host, on an axis of the user's.
    pub host: Option<Arc<crate::axis::values::HostChanges>>,
    /// The built-in meaning of a user-named value (`tls: {mine: {mode: mutual, …}}` means `mutual`);
    /// the name itself otherwise.
    pub means: String,
    /// Where it is written.
    pub span: Span,
}

/// An `exclude` entry.
#[derive(Debug, Clone)]
pub struct Exclude {
    /// Which rows.
    pub when: Arc<Expr>,
    /// Why.
    pub reason: String,
    /// Where it is written.
    pub span: Span,
}

/// An `include` row.
#[derive(Debug, Clone)]
pub struct IncludeRow {
    /// Axis → value name (canonical); values may be ones that the axis does not list.
    pub values: IndexMap<String, AxisValue>,
    /// Where it is written.
    pub span: Span,
}

/// An operation script.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub span: Span,
    /// Its description.
    pub description: Option<String>,
    /// Only rows where this holds run it.
    pub when: Option<Arc<Expr>>,
    /// Steps, at least one.
    pub steps: Vec<Step>,
    /// Capabilities that its peers must have beside those that its steps ask for.
    pub needs: Vec<(Needs, String)>,
    /// Stricter isolation than the block's.
    pub isolation: Option<Isolation>,
    /// Its templates use `work`: a folder of the case.
    pub uses_work: bool,
}

/// One step: an op with what is expected of it.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its id, for checks: the user's, or op name and position.
    pub id: String,
    /// The op.
    pub op: Op,
    /// Expectations; without any, `code: OK` is expected.
    pub expect: Expect,
    /// Variable → dotted path (`value`, `message.order.id`, `metadata.x-y`, `trailers.x`).
    pub capture: IndexMap<String, String>,
    /// More checks, each with an id: path → expected.
    pub checks: Vec<CheckDef>,
    /// Which connection it is about: one that a `connect` made, or the case's own.
    pub on: Option<String>,
    /// Where it is written.
    pub span: Span,
}

impl Step {
    /// Whether it looks at what passes on its connection.
    #[must_use]
    pub fn looks_at_wire(&self) -> bool {
        let mut paths = self.checks.iter().map(|check| &check.path).chain(self.capture.values());
        self.expect.wire.is_some() || paths.any(|path| path == "wire" || path.starts_with("wire."))
    }
}

/// What a step does. Texts inside are templates.
#[derive(Debug, Clone)]
pub enum Op {
    /// A named op of the service under test.
    Named {
        /// Its name.
        name: String,
        /// Its arguments; strings are templates.
        args: serde_json::Map<String, Value>,
    },
    /// A unary call, or a whole stream at once.
    Call(CallDef),
    /// Opens a stream under a name; `send` may be absent.
    Open {
        /// The stream's name in this script.
        stream: String,
        /// The call.
        call: CallDef,
    },
    /// Sends one message.
    Send {
        /// Which stream.
        stream: String,
        /// The message.
        message: Value,
    },
    /// Receives one message.
    Receive {
        /// Which stream.
        stream: String,
        /// Budget; the op timeout when absent.
        within: Option<Duration>,
    },
    /// Ends the sending side.
    HalfClose {
        /// Which stream.
        stream: String,
    },
    /// Cancels.
    Cancel {
        /// Which stream.
        stream: String,
    },
    /// Waits for the end of a stream and its status.
    End {
        /// Which stream.
        stream: String,
        /// Budget; the op timeout when absent.
        within: Option<Duration>,
    },
    /// A test of the client program's own: its outcome is the verdict.
    Test {
        /// Its name; a template. That of the script when absent.
        name: Option<String>,
        /// Budget; the op timeout when absent.
        within: Option<Duration>,
    },
    /// What the plugin printed after its handshake line, as the host received it by `GRPCStdio`
    /// so far: `expect: {stdout: …, stderr: …}`, waited for up to `within`.
    Stdio {
        /// Budget; the op timeout when absent.
        within: Option<Duration>,
    },
    /// Branches that run at once; the step ends when all have.
    Parallel(Branches),
    /// Steps that are gone through again and again.
    Repeat {
        /// How often, at least once.
        times: u32,
        /// What.
        steps: Vec<Step>,
    },
    /// Nothing, for a while.
    Sleep {
        /// How long.
        pause: Duration,
        /// Why: there is nothing else to wait for.
        reason: String,
    },
    /// Ends the server's process, starts it, or both; on the same folder.
    Server(ServerAct),
    /// Another connection between the same two peers.
    Connect(ConnectDef),
}

/// The branches of a `parallel`.
#[derive(Debug, Clone)]
pub enum Branches {
    /// Each written out.
    Each(Vec<Vec<Step>>),
    /// The same steps as often as this.
    Same {
        /// How many branches.
        times: u32,
        /// What each does.
        steps: Vec<Step>,
    },
}

/// What `server` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAct {
    /// Ends it.
    Stop,
    /// Starts it again.
    Start,
    /// Both.
    Restart,
}

/// A further connection.
#[derive(Debug, Clone)]
pub struct ConnectDef {
    /// Its name, for `on` of later steps.
    pub name: String,
    /// Axis → canonical value, over what the case asks; only of axes in
    /// [`ConnectDef::AXES`].
    pub with: IndexMap<String, &'static str>,
    /// What is asked of the connection beside the axes.
    pub options: ChannelOptions,
    /// The largest messages of the server; it is another one then.
    pub server_limits: Limits,
    /// Its address refuses connections until a call has waited for one.
    pub refuse: bool,
}

impl ConnectDef {
    /// Axes that a further connection of the same peers can have other values on.
    pub const AXES: &'static [&'static str] = &["transport", "tls", "key", "client_key", "tls_version", "group"];

    /// Whether it asks for something that takes another server: everything but the client's own
    /// certificate does.
    #[must_use]
    pub fn needs_own_server(&self) -> bool {
        self.needs_own_process() || !self.server_limits.is_none()
    }

    /// Whether that server is one that is asked for something else, which a process of its own serves.
    #[must_use]
    pub fn needs_own_process(&self) -> bool {
        self.with.keys().any(|axis| axis != "client_key")
    }
}

impl Op {
    /// Steps inside of it, each once.
    pub fn inner(&self) -> impl Iterator<Item = &Step> {
        let lists: Vec<&[Step]> = match self {
            Self::Repeat { steps, .. } | Self::Parallel(Branches::Same { steps, .. }) => vec![steps],
            Self::Parallel(Branches::Each(lists)) => lists.iter().map(Vec::as_slice).collect(),
            _ => Vec::new(),
        };
        lists.into_iter().flatten()
    }
}

impl Script {
    /// All of its steps, those inside of others too.
    #[must_use]
    pub fn all_steps(&self) -> Vec<&Step> {
        let mut all: Vec<&Step> = self.steps.iter().collect();
        let mut at = 0;
        while let Some(step) = all.get(at) {
            let inner: Vec<&Step> = step.op.inner().collect();
            all.extend(inner);
            at += 1;
        }
        all
    }

    /// It ends or starts servers, or needs more than one: they are its own, and the engine's to end.
    #[must_use]
    pub fn rules_servers(&self) -> bool {
        self.all_steps().iter().any(|step| match &step.op {
            Op::Server(_) => true,
            Op::Connect(connect) => connect.needs_own_process(),
            _ => false,
        })
    }

    /// It ends or starts the server as a process of its own.
    #[must_use]
    pub fn restarts(&self) -> bool {
        self.all_steps().iter().any(|step| matches!(step.op, Op::Server(_)))
    }

    /// It has a server beside the case's own.
    #[must_use]
    pub fn needs_second_server(&self) -> bool {
        let needs = |op: &Op| matches!(op, Op::Connect(connect) if connect.needs_own_server());
        self.all_steps().iter().any(|step| needs(&step.op))
    }

    /// It ends servers, or starts some beside the case's own.
    #[must_use]
    pub fn starts_servers(&self) -> bool {
        self.restarts() || self.needs_second_server()
    }

    /// It looks at what passes on its connections, which nobody else may then use.
    #[must_use]
    pub fn reads_wire(&self) -> bool {
        self.all_steps().into_iter().any(Step::looks_at_wire)
    }

    /// It has instances that no other case may use.
    #[must_use]
    pub fn needs_own_instance(&self) -> bool {
        self.all_steps().iter().any(|step| matches!(step.op, Op::Server(_) | Op::Connect(_)))
    }
}

/// The general call.
#[derive(Debug, Clone, Default)]
pub struct CallDef {
    /// `Method` of the service under test, or `package.Service/Method`.
    pub method: String,
    /// Messages; one for unary. Strings are templates.
    pub send: Vec<Value>,
    /// Metadata in order; values are templates, or `{$base64: …}` for `-bin` keys.
    pub metadata: Vec<(String, Value)>,
    /// Deadline; the op timeout when absent.
    pub deadline: Option<Duration>,
    /// How often `send` is sent in a whole stream, one after the other; once when absent.
    pub times: Option<u32>,
    /// What else is asked of it.
    pub options: CallOptions,
}

/// Built-in expectations of a step. Values may hold `$any`, `$regex`, `$subset`, `$base64`.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// What the op yields.
    pub value: Option<Spanned<Value>>,
    /// The message: the fields that are named must be so, others are ignored.
    pub message: Option<Spanned<Value>>,
    /// Any of these codes.
    pub code: Option<Spanned<Vec<String>>>,
    /// The status text.
    pub status_text: Option<Spanned<Value>>,
    /// For `stdio`.
    pub stdout: Option<Spanned<Value>>,
    /// For `stdio`.
    pub stderr: Option<Spanned<Value>>,
    /// What passed on the connection meanwhile.
    pub wire: Option<Spanned<Value>>,
}

/// A check beside `expect`.
#[derive(Debug, Clone)]
pub struct CheckDef {
    /// Its id.
    pub id: String,
    /// Dotted path: `message.…`, `value`, `code`, `status_text`, `metadata.…`, `trailers.…`.
    pub path: String,
    /// What must be there.
    pub expected: Value,
    /// Where it is written.
    pub span: Span,
}

/// A rule of `expectations`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its id, unique in the scenario.
    pub id: String,
    /// Where it is written.
    pub span: Span,
    /// It is written in an included file.
    pub included: bool,
    /// On which cases.
    pub when: Arc<Expr>,
    /// Within which versions: `client.grpcio` → requirement. Outside, the rule is void.
    pub versions: IndexMap<String, semver::VersionReq>,
    /// What is expected.
    pub outcome: RuleOutcome,
    /// At which phase.
    pub at: Option<Phase>,
    /// What else must match.
    pub matches: Match,
    /// Why.
    pub reason: String,
    /// Link.
    pub issue: Option<String>,
    /// `YYYY-MM-DD`.
    pub review_by: Option<String>,
    /// What users can do.
    pub advise: Option<String>,
}

/// `outcome:` of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleOutcome {
    /// It fails (failed, timed-out or crashed).
    Failed,
    /// `[failed, passed]`.
    FailedOrPassed,
    /// It passes, without the fact.
    NotEffective {
        /// The axis.
        fact: String,
    },
    /// It is not executed, except by `--probe-unsupported`.
    Unsupported,
}
