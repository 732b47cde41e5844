//! The maps of a scenario: the file itself, services, the matrix, scripts, rules. Peers are in `peers`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::peers::Peer;
use super::{At, Codes, Date, Nothing, Sharing, Span, Text, TextOrNull, Version, When, shape};

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
        /// Proto services and their named ops, by name. `kv` (proto.KV) and `stock`
        /// (soup.stock.v1.Stock) are always there.
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
    /// A proto service and the named ops on it.
    Service is "a service" {
        /// Where it is defined; not needed for proto.KV and soup.stock.v1.Stock.
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
    /// Names with facts.
    Map(BTreeMap<String, ValueFacts>),
}

/// One value of an axis.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum AxisItem {
    /// Its name.
    Name(Text),
    /// Its name with facts.
    Named(BTreeMap<String, ValueFacts>),
}

/// What is said of a value of an axis.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum ValueFacts {
    /// Of `tls`: a mode, and certificates.
    Tls(TlsValue),
    /// Of an axis of one's own: facts, and what it changes about the plugin host.
    Own(OwnFacts),
    /// None.
    None(Nothing),
}

/// Facts of a value, any names.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape of a map; never filled")]
pub(crate) struct OwnFacts {
    /// A map changes the plugin host; anything else is a fact like the others.
    host: Option<HostForm>,
    #[schemars(flatten)]
    facts: BTreeMap<String, Value>,
}

/// `host`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum HostForm {
    /// What it changes.
    Changes(HostChanges),
    /// A fact.
    Fact(Text),
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
        /// Only for cases where this expression holds.
        when: Option<Text>,
        /// Only for these effective values; any other difference stays red.
        only: Option<Vec<Text>>,
    }
}

shape! {
    /// What a value of an axis of one's own changes about the plugin host (`host:` beside its facts).
    HostChanges is "changes of a host" {
        /// Variables that its plugin gets in place of the host's; null takes one away.
        env: Option<BTreeMap<String, TextOrNull>>,
        /// Application protocol versions that it speaks.
        protocol_versions: Option<Vec<u32>>,
    }
}

shape! {
    /// How the certificate that is made for a side differs from a right one.
    Mistakes is "the mistakes of a certificate" {
        /// `other`: issued by an authority that the other side does not trust.
        issuer: Option<Text>,
        /// It has expired.
        expired: Option<bool>,
        /// The only names that it is for.
        names: Option<Vec<Text>>,
        /// The key file holds another key, of this type.
        key_file: Option<Text>,
    }
}

shape! {
    /// Certificates that are made wrong on purpose, by side.
    MakeTls is "certificates to make" {
        /// The server's.
        server: Option<Mistakes>,
        /// The client's.
        client: Option<Mistakes>,
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
        /// Certificates with mistakes in them, in place of files.
        make: Option<MakeTls>,
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
        /// Capabilities that its peers must have beside those that its steps ask for.
        needs: Option<ScriptNeeds>,
        /// Its steps.
        ops: Vec<crate::op::StepForm>,
    }
}

shape! {
    /// Capabilities by role.
    ScriptNeeds is "the needs" {
        /// Of the client.
        client: Option<OneOrMore>,
        /// Of the server.
        server: Option<OneOrMore>,
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
        /// What passed on the connection meanwhile, in plaintext.
        wire: Option<BTreeMap<String, Value>>,
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
        /// Beginning of the id of a check that does not hold, in whole segments.
        check: Option<Text>,
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
