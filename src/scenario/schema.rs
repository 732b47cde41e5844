//! The shape of the files: every map with its keys, once. From here come the keys that the reader
//! knows ([`Shape::KEYS`]), its did-you-mean, and the JSON Schemas for editors in `schemas/`.
//! The structs hold no data: `decode` reads the tree by hand, to report every problem with its place.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// A map with a fixed set of keys.
pub(crate) trait Shape {
    /// What messages call it: `a peer`.
    const WHAT: &'static str;
    /// Its keys.
    const KEYS: &'static [&'static str];
}

/// Declares a map: `key: type` with a doc comment, `Option` where it may be left out. A key that
/// cannot be a Rust name is written `name as "key"`.
macro_rules! shape {
    ($(#[$meta:meta])* $name:ident is $what:literal { $($(#[$about:meta])* $field:ident $(as $key:literal)? : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        #[expect(dead_code, reason = "the shape of a map; never filled")]
        pub(crate) struct $name { $($(#[$about])* $(#[schemars(rename = $key)])? $field: $ty),* }
        impl $crate::scenario::schema::Shape for $name {
            const WHAT: &'static str = $what;
            const KEYS: &'static [&'static str] = &[$($crate::scenario::schema::shape!(@key $field $($key)?)),*];
        }
    };
    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };
}
pub(crate) use shape;

/// Declares a scalar with a pattern.
macro_rules! scalar {
    ($(#[$meta:meta])* $name:ident, $schema:tt) => {
        $(#[$meta])*
        pub(crate) struct $name;
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema { json_schema!($schema) }
        }
    };
}

scalar!(
    /// The version of the language.
    Version,
    { "const": 1, "description": "version of the scenario language" }
);
scalar!(
    /// Text; numbers and booleans are taken as written.
    Text,
    { "type": ["string", "number", "boolean"] }
);
scalar!(
    /// A duration with its unit.
    Span,
    { "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(us|ms|s|m|h)$", "description": "a duration with its unit: 500ms, 20s, 1.5m, 2h" }
);
scalar!(
    /// An expression.
    When,
    { "type": ["string", "boolean"], "minLength": 1, "description": "an expression: client == go and key in [p256, p384]" }
);
scalar!(
    /// A phase of a case.
    At,
    { "enum": ["build", "spawn", "handshake", "connect", "tls", "rpc", "check", "teardown", "driver"] }
);
scalar!(
    /// A date.
    Date,
    { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" }
);
/// A gRPC status code or a list of which any will do.
pub(crate) struct Codes;

impl JsonSchema for Codes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Codes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let code = json_schema!({ "enum": super::decode::CODES });
        json_schema!({ "anyOf": [code, { "type": "array", "minItems": 1, "items": code }] })
    }
}

scalar!(
    /// What cases may share.
    Sharing,
    { "enum": ["shared", "connection", "case"] }
);

/// Text or a list of texts.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum OneOrMore {
    /// One.
    One(Text),
    /// Several.
    More(Vec<Text>),
}

/// A message or a list of messages.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum OneMessage {
    /// One.
    One(BTreeMap<String, Value>),
    /// Several.
    More(Vec<BTreeMap<String, Value>>),
}

shape! {
    /// A scenario: who is tested against whom, with what, and what is known to fail.
    ScenarioFile is "a scenario" {
        /// Version of the language.
        soupscen: Version,
        /// Its name, the first part of every case's id.
        name: Option<Text>,
        /// What it is for.
        description: Option<Text>,
        /// Labels for reports.
        labels: Option<BTreeMap<String, Text>>,
        /// Files to include, relative to this one. They give vars, peers, services, scripts and expectations.
        include: Option<OneOrMore>,
        /// Values for templates, as `vars.NAME`.
        vars: Option<BTreeMap<String, Value>>,
        /// Budgets.
        timeouts: Option<Timeouts>,
        /// Retries.
        retry: Option<Retry>,
        /// What becomes of cases whose peer cannot be had: `error` (default) or `leave-out`.
        missing_peers: Option<MissingPeers>,
        /// Implementations under test, by name.
        peers: Option<BTreeMap<String, Peer>>,
        /// Proto services and their named ops, by name. `kv` (proto.KV) is always there.
        services: Option<BTreeMap<String, Service>>,
        /// The product of axes, or a list of such blocks.
        matrix: Option<Matrix>,
        /// Operation scripts, by name.
        scripts: Option<BTreeMap<String, Script>>,
        /// Known limitations.
        expectations: Option<Vec<Rule>>,
    }
}

shape! {
    /// Peers that scenarios take by `from`.
    PeerFile is "a peer file" {
        /// Version of the language.
        soupscen: Version,
        /// What they are.
        description: Option<Text>,
        /// Peers by name.
        peers: BTreeMap<String, Peer>,
    }
}

shape! {
    /// Budgets, all wall time.
    Timeouts is "the timeouts" {
        /// One attempt at a case. Default 20s.
        case: Option<Span>,
        /// From spawn to ready. Default 10s.
        start: Option<Span>,
        /// One op. Default 3s.
        op: Option<Span>,
        /// From being asked to end to being killed. Default 2s.
        grace: Option<Span>,
        /// A case longer than this is called slow. Default 5s.
        slow: Option<Span>,
    }
}

shape! {
    /// Retries.
    Retry is "the retries" {
        /// Attempts in all. Default 1.
        attempts: Option<u32>,
        /// Only these endings are tried again. Default: all of them.
        only: Option<Vec<Again>>,
        /// Whether a case that passes only on a retry is red (`fail`, the default) or not (`allow`).
        flaky: Option<Flaky>,
    }
}

/// An ending that is tried again.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum Again {
    Failed,
    TimedOut,
    Crashed,
}

/// `flaky`.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum Flaky {
    Allow,
    Fail,
}

/// `missing_peers`.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum MissingPeers {
    Error,
    LeaveOut,
}

shape! {
    /// An implementation under test.
    Peer is "a peer" {
        /// Take it from this peer file, relative to this one.
        from: Option<Text>,
        /// Its name there, when it is another one than here.
        pick: Option<Text>,
        /// What it is.
        description: Option<Text>,
        /// Its language, a fact for expressions.
        lang: Option<Text>,
        /// Its RPC library, a fact for expressions.
        stack: Option<Text>,
        /// More facts for expressions.
        facts: Option<BTreeMap<String, Text>>,
        /// Both roles are soupscen's own.
        builtin: Option<Empty>,
        /// Its client role.
        client: Option<ClientRole>,
        /// Its server role.
        server: Option<ServerRole>,
        /// How it is built.
        build: Option<Build>,
        /// How its versions are found: component → version or probe. `self` is its own.
        versions: Option<BTreeMap<String, Probe>>,
    }
}

/// Nothing to say: `{}`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Empty {}

impl Shape for Empty {
    const WHAT: &'static str = "`builtin`";
    const KEYS: &'static [&'static str] = &[];
}

shape! {
    /// A client role.
    ClientRole is "a client role" {
        /// soupscen's own client.
        builtin: Option<Empty>,
        /// A driver program.
        driver: Option<Program>,
        /// What it can be asked to do.
        provides: Option<Vec<Provides>>,
    }
}

shape! {
    /// A server role, by plugin launch, directly, or both.
    ServerRole is "a server role" {
        /// soupscen's own server, both ways.
        builtin: Option<Empty>,
        /// For `launch: plugin`: the plugin program.
        plugin: Option<Plugin>,
        /// For `launch: direct`: a driver program that serves.
        driver: Option<Program>,
        /// For `launch: direct`: the address of a running server, HOST:PORT or unix:PATH.
        attach: Option<Text>,
        /// What it can be asked to do.
        provides: Option<Vec<Provides>>,
    }
}

shape! {
    /// A program to run.
    Program is "a program" {
        /// Program and arguments; templates. A relative program with a `/` starts from the peer's folder.
        run: Vec<Text>,
        /// Extra environment; templates.
        env: Option<BTreeMap<String, Text>>,
    }
}

shape! {
    /// A plugin program.
    Plugin is "a plugin" {
        /// Program and arguments; templates.
        run: Option<Vec<Text>>,
        /// Extra environment; templates.
        env: Option<BTreeMap<String, Text>>,
        /// soupscen's own plugin, with extra arguments.
        builtin: Option<BuiltinPlugin>,
    }
}

shape! {
    /// soupscen's own plugin.
    BuiltinPlugin is "the built-in plugin" {
        /// Extra arguments to `soupscen serve kv`; templates.
        args: Option<Vec<Text>>,
    }
}

/// A capability.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum Provides {
    /// A name (`key.p256`), a glob (`key.*`) or a service's name.
    Always(String),
    /// One that holds under a condition.
    Sometimes(ProvidesWhen),
}

shape! {
    /// A capability that holds under a condition.
    ProvidesWhen is "a capability" {
        /// A name, a glob or a service's name.
        capability: Text,
        /// It holds only where this does.
        when: Option<When>,
    }
}

shape! {
    /// How a peer is built.
    Build is "a build" {
        /// A command, or a list of commands, run in the peer's folder; templates with `{{ output }}`, the folder to build into.
        run: Commands,
        /// Globs of files that it depends on; lock files belong here.
        inputs: Option<Vec<Text>>,
        /// Tools that it needs, by program.
        tools: Option<BTreeMap<String, Tool>>,
    }
}

/// One command, or several in order.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum Commands {
    /// One.
    One(Vec<Text>),
    /// Several.
    Several(Vec<Vec<Text>>),
}

shape! {
    /// A tool of a build.
    Tool is "a tool" {
        /// Arguments that print its version.
        version: Option<Vec<Text>>,
        /// How to get it, a sentence or a command.
        install: Text,
    }
}

/// How a version is found.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum Probe {
    /// It is this.
    Fixed(Text),
    /// A command tells.
    Run(ProbeRun),
}

shape! {
    /// A command that tells a version.
    ProbeRun is "a version probe" {
        /// The command; templates with `{{ output }}`.
        run: Vec<Text>,
        /// Regular expression; its first group, or the whole match, is the version.
        pattern: Option<Text>,
    }
}

shape! {
    /// A proto service and the named ops on it.
    Service is "a service" {
        /// Where it is defined; not needed for proto.KV.
        proto: Option<Proto>,
        /// Full protobuf name.
        service: Text,
        /// Ops by name.
        ops: Option<BTreeMap<String, OpDef>>,
    }
}

shape! {
    /// Where a service is defined.
    Proto is "a proto source" {
        /// `.proto` files.
        files: Vec<Text>,
        /// Import folders; the scenario's own folder when left out.
        import: Option<Vec<Text>>,
    }
}

shape! {
    /// A named op.
    OpDef is "an op" {
        /// Method name.
        method: Text,
        /// Message template over the op's arguments.
        send: Option<BTreeMap<String, Value>>,
        /// Dotted path in the response that `value` means.
        yields: Option<Text>,
    }
}

/// One product of axes, or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum Matrix {
    /// One.
    One(Box<Block>),
    /// Several.
    Several(Vec<Block>),
}

shape! {
    /// One product of axes with its constraints.
    Block is "a matrix block" {
        /// Its name.
        name: Option<Text>,
        /// Axes by name: a list of values, a map of values, or `{values: …, effective: …}`.
        axes: Option<BTreeMap<String, AxisForm>>,
        /// The scripts that it runs. Default: all.
        scripts: Option<Vec<Text>>,
        /// What cases may share. Default: shared.
        isolation: Option<Sharing>,
        /// Rows left out.
        exclude: Option<Vec<Exclude>>,
        /// Rows added: axis → value.
        include: Option<Vec<BTreeMap<String, Text>>>,
    }
}

/// An axis.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum AxisForm {
    /// Its values.
    Values(AxisValues),
    /// Its values and more.
    Long(AxisLong),
}

/// Values of an axis.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum AxisValues {
    /// Names, or maps from a name to its facts.
    List(Vec<AxisItem>),
    /// Names with facts; for `tls` a mode and certificate files.
    Map(BTreeMap<String, Value>),
}

/// One value of an axis.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum AxisItem {
    /// Its name.
    Name(Text),
    /// Its name with facts.
    Named(BTreeMap<String, Value>),
}

shape! {
    /// An axis with more than its values.
    AxisLong is "an axis" {
        /// Its values.
        values: AxisValues,
        /// What it affects (own axes only): `server` (default), `client`, `connection` or `call`.
        affects: Option<Affects>,
        /// Under what condition it applies (own axes only).
        applies: Option<When>,
        /// What a difference of its effective value means.
        effective: Option<EffectiveForm>,
    }
}

/// `affects`.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum Affects {
    Server,
    Client,
    Connection,
    Call,
}

/// `effective`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum EffectiveForm {
    /// A difference is not-effective, which is red. The default.
    Require(Require),
    /// A difference is only reported.
    Report(EffectiveReport),
}

/// `require`.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum Require {
    Require,
}

shape! {
    /// A difference that is only reported.
    EffectiveReport is "an effective policy" {
        /// Why that is good enough.
        report: Text,
    }
}

shape! {
    /// A `tls` value with its own certificates.
    TlsValue is "a tls value" {
        /// `server` or `mutual`.
        mode: Text,
        /// PEM file: certificates to trust.
        ca: Option<Text>,
        /// PEM file: the certificate chain to present.
        cert: Option<Text>,
        /// PEM file: its private key.
        key: Option<Text>,
    }
}

shape! {
    /// Rows left out.
    Exclude is "an exclude" {
        /// Which.
        when: When,
        /// Why.
        reason: Text,
    }
}

shape! {
    /// An operation script.
    Script is "a script" {
        /// What it shows.
        description: Option<Text>,
        /// Only rows where this holds run it.
        when: Option<When>,
        /// Stricter isolation than the block's.
        isolation: Option<Sharing>,
        /// Its steps.
        ops: Vec<crate::op::StepForm>,
    }
}

shape! {
    /// What is expected of a step. Without it, `code: OK`.
    Expect is "an expect" {
        /// What the op yields.
        value: Option<Value>,
        /// Fields of the response; those not named are not looked at.
        message: Option<Value>,
        /// The gRPC status code, or a list of which any will do.
        code: Option<Codes>,
        /// The gRPC status text.
        status_text: Option<Value>,
        /// What the plugin printed on stdout.
        stdout: Option<Value>,
        /// What the plugin printed on stderr.
        stderr: Option<Value>,
    }
}

shape! {
    /// A known limitation.
    Rule is "a rule" {
        /// Its id, unique in the scenario.
        id: Text,
        /// On which cases.
        when: When,
        /// Within which versions: `client.COMPONENT` → requirement. Outside, the rule is void.
        versions: Option<BTreeMap<String, Text>>,
        /// What is expected.
        outcome: RuleOutcome,
        /// The axis that is not honoured, for `not-effective`.
        fact: Option<Text>,
        /// The phase at which it fails.
        at: Option<At>,
        /// What else must match.
        matches as "match": Option<Match>,
        /// Why.
        reason: Text,
        /// Link.
        issue: Option<Text>,
        /// When to look again, YYYY-MM-DD.
        review_by: Option<Date>,
        /// What users can do.
        advise: Option<Text>,
    }
}

/// What a rule expects.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum RuleOutcome {
    /// One outcome.
    One(OutcomeName),
    /// `[failed, passed]`: either is fine.
    Either([OutcomeEither; 2]),
}

/// An outcome.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum OutcomeName {
    Failed,
    NotEffective,
    Unsupported,
}

/// An outcome of `[failed, passed]`.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum OutcomeEither {
    Failed,
    Passed,
}

shape! {
    /// What a failure must look like. Everything given must hold.
    Match is "a match" {
        /// Prefix of the cause's code, in whole segments.
        cause: Option<Text>,
        /// Any of these gRPC codes.
        code: Option<Codes>,
        /// A regular expression found in the cause's or the peers' text.
        text: Option<Text>,
        /// TLS alert number.
        alert: Option<u8>,
        /// Exit of the process.
        exit: Option<ExitForm>,
    }
}

/// An exit.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum ExitForm {
    /// Exit status.
    Code(i32),
    /// Killed by a signal.
    Signal(SignalExit),
}

shape! {
    /// Killed by a signal.
    SignalExit is "an exit" {
        /// The signal's number.
        signal: i32,
    }
}

/// The JSON Schema of a scenario file, pretty-printed, with a final newline.
#[must_use]
pub fn scenario_schema() -> String {
    text::<ScenarioFile>("soupscen scenario")
}

/// The JSON Schema of a peer file, pretty-printed, with a final newline.
#[must_use]
pub fn peer_schema() -> String {
    text::<PeerFile>("soupscen peers")
}

fn text<T: JsonSchema>(title: &str) -> String {
    let mut schema = SchemaSettings::draft2020_12().with_transform(Strict).into_generator().into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    let mut text = serde_json::to_string_pretty(schema.as_value()).unwrap_or_default();
    text.push('\n');
    text
}

/// A key that may be left out may not be null: takes the `null` out that `Option` puts in.
#[derive(Debug, Clone)]
struct Strict;

impl Transform for Strict {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(object) = schema.as_object_mut() {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|s| s.get("type").is_none_or(|t| t != "null"));
                if let [Value::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
        }
        transform_subschemas(self, schema);
    }
}
