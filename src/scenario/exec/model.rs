//! What a scenario says of a peer that is only a program with a command line. Patterns are
//! compiled; texts are templates, see [`super::super::template`].

use std::sync::Arc;

use indexmap::IndexMap;
use regex::bytes::Regex;

use super::super::template;
use crate::diag::Span;
use crate::filter::Expr;
use crate::outcome::{Exit, Phase};

/// A client that is run once per op, or once per test.
#[derive(Debug, Clone)]
pub struct ExecClient {
    /// What is run for a named op.
    pub ops: IndexMap<String, ExecRun>,
    /// What is run for any other call.
    pub call: Option<ExecRun>,
    /// What is run for a test of the program's own.
    pub test: Option<ExecRun>,
    /// What must be refused: the proof that a refusal can be recognised.
    pub refuses: Option<ExecRun>,
    /// What is changed of the start of a server that it composes.
    pub rewrite: Rewrite,
    /// Where it is declared.
    pub span: Span,
}

impl ExecClient {
    /// Whether any text of a command that does work names this (`server.program`) in a template.
    pub(in crate::scenario) fn names(&self, dotted: &str) -> bool {
        let runs = self.ops.values().chain(&self.call).chain(&self.test);
        let mut texts = runs.flat_map(|run| run.command.texts());
        texts.any(|text| template::names(text).is_ok_and(|names| names.iter().any(|name| name == dotted)))
    }
}

impl ExecCommand {
    /// All of its templates.
    pub(in crate::scenario) fn texts(&self) -> impl Iterator<Item = &String> {
        let args = self.run.iter().flat_map(|arg| match arg {
            Arg::Text(text) => std::slice::from_ref(text),
            Arg::Group { args, .. } => args,
        });
        args.chain(self.env.values()).chain(&self.folder).chain(&self.stdin)
    }
}

/// What is changed of a server's start that a client composed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Applied one after another to the arguments behind the program.
    pub args: Vec<ArgRule>,
    /// Variables that are set over those of the client; templates.
    pub env: IndexMap<String, String>,
    /// Globs of names of variables that are taken away.
    pub drop_env: Vec<String>,
}

/// A change of arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgRule {
    /// Wherever these follow one another, others stand in their place, or none.
    Replace {
        /// Globs, one per argument.
        these: Vec<String>,
        /// Templates.
        by: Vec<String>,
    },
    /// These stand behind; templates.
    Add(Vec<String>),
}

/// A server program that the engine starts and a client dials.
#[derive(Debug, Clone)]
pub struct ExecServer {
    /// What is run.
    pub command: ExecCommand,
    /// Where it listens: `HOST:PORT` or `unix:PATH`, a template. When absent, readiness tells, or
    /// it is what the engine gave: the port on the loopback, or the socket.
    pub address: Option<String>,
    /// When it can be dialled.
    pub ready: Ready,
    /// How it is asked to end.
    pub end: EndWay,
    /// Servers that name the same thing are never up at once.
    pub exclusive: Option<String>,
}

/// When a server can be dialled.
#[derive(Debug, Clone)]
pub enum Ready {
    /// Its address takes connections.
    Connect,
    /// `grpc.health.v1.Health/Check` says `SERVING`.
    Health,
    /// A line of go-plugin's on standard output, with its address.
    Line,
    /// A pattern is found on an output; its group `address`, or its first, is the address.
    Output {
        /// Standard error, not standard output.
        stderr: bool,
        /// What is looked for.
        pattern: Regex,
    },
    /// A file is there and not empty; a template.
    File(String),
}

/// How a server is asked to end. Whatever is left after the grace is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndWay {
    /// SIGTERM.
    Signal,
    /// Its standard input comes to its end.
    Stdin,
    /// A call of this method (`package.Service/Method`) with an empty message.
    Call(String),
}

/// A program to run, with what its outcome means.
#[derive(Debug, Clone)]
pub struct ExecRun {
    /// The program.
    pub command: ExecCommand,
    /// How arguments of the op that are not text in `run` are handed over.
    pub forms: IndexMap<String, Form>,
    /// The first that holds decides.
    pub patterns: Vec<Pattern>,
}

/// Program, arguments and surroundings; all texts are templates.
#[derive(Debug, Clone)]
pub struct ExecCommand {
    /// Program and arguments.
    pub run: Vec<Arg>,
    /// Extra environment.
    pub env: IndexMap<String, String>,
    /// Working directory; the peer's folder when absent.
    pub folder: Option<String>,
    /// What it reads from standard input.
    pub stdin: Option<String>,
    /// Where it is declared.
    pub span: Span,
}

/// An entry of `run`.
#[derive(Debug, Clone)]
pub enum Arg {
    /// One argument.
    Text(String),
    /// Arguments that are there under a condition, or once for each entry of a list.
    Group {
        /// Only where this holds.
        when: Option<Arc<Expr>>,
        /// The name of a list; `item` is its entry.
        each: Option<String>,
        /// The arguments.
        args: Vec<String>,
    },
}

/// How a value is handed to a program, or taken from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Text,
    /// Base64, RFC 4648 section 4.
    Base64,
    /// The path of a file that holds it.
    File,
}

/// What an outcome of a program means.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// Any of these ends; any end at all when empty.
    pub exit: Vec<Exit>,
    /// Found on standard output.
    pub stdout: Option<Regex>,
    /// Found on standard error.
    pub stderr: Option<Regex>,
    /// What it means.
    pub meaning: Meaning,
    /// Where it is declared.
    pub span: Span,
}

/// The meaning of a pattern. Texts refer to groups: `$1`, `$name`, `${name}`.
#[derive(Debug, Clone)]
pub enum Meaning {
    /// The op succeeded.
    Ok {
        /// Its value.
        value: Option<(String, Form)>,
        /// Its response messages: protobuf's JSON, one or several documents.
        message: Option<String>,
    },
    /// The call ended with this status.
    Status {
        /// Its code, by name or number.
        code: String,
        /// Its text.
        text: String,
    },
    /// It failed in this phase.
    Error {
        /// Where.
        phase: Phase,
        /// Its words; the output when empty.
        text: String,
    },
    /// The program's own test did not hold.
    Failed {
        /// Its words; the output when empty.
        text: String,
    },
    /// The program says that it cannot.
    Refused,
}

impl ExecClient {
    /// Whether it can be asked for an op of this name.
    #[must_use]
    pub fn has_op(&self, name: &str) -> bool {
        self.ops.contains_key(name) || self.call.is_some()
    }
}
