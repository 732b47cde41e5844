//! The maps of peers that are only programs.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{OneOrMore, Text, When, scalar, shape};

shape! {
    /// A client program that is run once per op, or once per test.
    ExecClient is "an exec client" {
        /// Extra environment of every run; templates.
        env: Option<BTreeMap<String, Text>>,
        /// Named op → what is run for it.
        ops: Option<BTreeMap<String, ExecRun>>,
        /// What is run for any other call.
        call: Option<ExecRun>,
        /// What is run for `test`: exit status and output are the verdict.
        test: Option<ExecRun>,
        /// Patterns that stand behind those of each run.
        patterns: Option<Vec<ExecPattern>>,
        /// A run with the made-up name `{{ unknown }}` that must be refused.
        refuses: Option<ExecRun>,
        /// What is changed of the start of a server that it composes.
        rewrite: Option<Rewrite>,
    }
}

shape! {
    /// Changes of a server's start that a client composed.
    Rewrite is "`rewrite`" {
        /// Changes of the arguments, one after another.
        args: Option<Vec<RewriteArg>>,
        /// Variables that are set over those of the client; templates.
        env: Option<BTreeMap<String, Text>>,
        /// Names of variables that are taken away; globs.
        drop_env: Option<OneOrMore>,
    }
}

shape! {
    /// A change of arguments: one of `drop`, `replace`, `add`.
    RewriteArg is "a rule" {
        /// Arguments that follow one another, as globs: gone.
        drop: Option<OneOrMore>,
        /// Arguments that follow one another, as globs: `by` stands in their place.
        replace: Option<OneOrMore>,
        /// What stands in their place; templates.
        by: Option<OneOrMore>,
        /// What stands behind all others; templates.
        add: Option<OneOrMore>,
    }
}

shape! {
    /// A program with the meaning of its outcome.
    ExecRun is "a run" {
        /// Program and arguments; templates.
        run: Vec<ExecArg>,
        /// Extra environment; templates.
        env: Option<BTreeMap<String, Text>>,
        /// Working directory, from the peer's folder; a template.
        folder: Option<Text>,
        /// What it reads; a template.
        stdin: Option<Text>,
        /// Argument of the op → how it is handed over.
        values: Option<BTreeMap<String, ExecForm>>,
        /// The first that holds decides.
        patterns: Option<Vec<ExecPattern>>,
    }
}

/// An entry of `run`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum ExecArg {
    /// One argument.
    One(Text),
    /// Several, under a condition or for each entry of a list.
    Some(ExecArgs),
}

shape! {
    /// Arguments under a condition, or for each entry of a list.
    ExecArgs is "arguments" {
        /// Only where this holds.
        when: Option<When>,
        /// For each entry of `metadata` (`item.key`, `item.value`) or `messages` (`item`).
        each: Option<ExecList>,
        /// The arguments; templates.
        args: Vec<Text>,
    }
}

scalar!(
    /// A list.
    ExecList,
    { "enum": ["metadata", "messages"] }
);
scalar!(
    /// How a value is handed over.
    ExecForm,
    { "enum": ["text", "base64", "file"] }
);
scalar!(
    /// True.
    ExecYes,
    { "const": true }
);
scalar!(
    /// A phase that a program can name.
    ExecPhase,
    { "enum": ["spawn", "connect", "tls", "rpc"] }
);

shape! {
    /// What an outcome means: all that is given must hold, and it means exactly one thing.
    ExecPattern is "a pattern" {
        /// Exit status, `{ signal: N }`, or a list of these.
        exit: Option<ExecExits>,
        /// Found on standard output.
        stdout: Option<Text>,
        /// Found on standard error.
        stderr: Option<Text>,
        /// It succeeded.
        ok: Option<ExecYes>,
        /// It succeeded with this value: `$1`, `$name`.
        value: Option<Text>,
        /// The form of the value.
        r#as as "as": Option<ExecForm>,
        /// It succeeded with these messages, protobuf's JSON.
        message: Option<Text>,
        /// It ended with this gRPC status: a name, or a group that gives a name or number.
        code: Option<Text>,
        /// The text of the status or error.
        text: Option<Text>,
        /// It failed in this phase.
        error: Option<ExecPhase>,
        /// The program's test did not hold, for this reason.
        failed: Option<Text>,
        /// The program says that it cannot.
        refused: Option<ExecYes>,
    }
}

shape! {
    /// An end by a signal.
    ExecSignal is "an end" {
        /// Its number.
        signal: u8,
    }
}

/// Ends of a program.
pub(crate) struct ExecExits {
    _never: u8,
}

impl JsonSchema for ExecExits {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ExecExits".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let code = json_schema!({ "type": "integer", "minimum": 0, "maximum": 255 });
        let signal = generator.subschema_for::<ExecSignal>();
        json_schema!({ "anyOf": [code, signal, { "type": "array", "items": { "anyOf": [code, signal] } }] })
    }
}

shape! {
    /// A server program that a client dials.
    ExecServer is "an exec server" {
        /// Program and arguments; templates.
        run: Vec<ExecArg>,
        /// Extra environment; templates.
        env: Option<BTreeMap<String, Text>>,
        /// Working directory, from the peer's folder; a template.
        folder: Option<Text>,
        /// Where it listens, HOST:PORT or unix:PATH; a template.
        address: Option<Text>,
        /// When it can be dialled.
        ready: Option<ExecReadiness>,
        /// How it is asked to end.
        end: Option<ExecEnding>,
        /// Servers that name the same thing are never up at once.
        exclusive: Option<Text>,
    }
}

/// When a server can be dialled.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum ExecReadiness {
    /// By dialling it, by its health service, or by go-plugin's line.
    Word(ExecReadyWord),
    /// By what it prints or writes.
    Sign(ExecReady),
}

scalar!(
    /// Ways to be ready.
    ExecReadyWord,
    { "enum": ["connect", "health", "line"] }
);

shape! {
    /// A sign of readiness, one of these.
    ExecReady is "`ready`" {
        /// Found on standard output; the group `address`, or the first, is the address.
        stdout: Option<Text>,
        /// Found on standard error, likewise.
        stderr: Option<Text>,
        /// A file that is there and not empty; a template.
        file: Option<Text>,
    }
}

/// How a server is asked to end.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of a value; never filled")]
pub(crate) enum ExecEnding {
    /// SIGTERM, or the end of its standard input.
    Word(ExecEndWord),
    /// A call.
    Call(ExecEnd),
}

scalar!(
    /// Ways to end.
    ExecEndWord,
    { "enum": ["signal", "stdin"] }
);

shape! {
    /// An end by a call.
    ExecEnd is "`end`" {
        /// The method, `package.Service/Method`; it is sent an empty message.
        call: Text,
    }
}
