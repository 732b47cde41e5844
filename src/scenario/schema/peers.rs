//! The maps of a peer and of peer files.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::{ExecClient, ExecServer, OneOrMore, Rewrite, Shape, Text, Version, When, shape};

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
    /// An implementation under test.
    Peer is "a peer" {
        /// Take it from this peer file, relative to this one.
        from: Option<Text>,
        /// Its name there, when it is another one than here.
        pick: Option<Text>,
        /// Name → values: one peer per combination, `NAME@VALUE`. The names are known to its
        /// templates, and are facts for expressions.
        variants: Option<BTreeMap<String, OneOrMore>>,
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
        /// Any program with a command line.
        exec: Option<ExecClient>,
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
        /// For `launch: direct`: any server program.
        exec: Option<ExecServer>,
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
        /// What is changed of the start that a client composed.
        rewrite: Option<Rewrite>,
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
        /// A command, or a list of commands, run in the peer's folder; templates with `{{ output }}`, the folder to build into. Not needed for what is there already and only has to be found: `tools` alone.
        run: Option<Commands>,
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
