//! `peers`: implementations under test, inline or from a peer file.

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::decode::{Fields, Sink};
use super::expr::Pending;
use super::files::normal;
use super::model::{
    Build, Capability, ClientRole, ClientWay, Command, DirectWay, Peer, PluginWay, Rewrite, ServerRole, Service, Tool,
    VersionProbe,
};
use super::reader::{World, legal_name};
use super::schema;
use super::scope::Scope;
use super::template;
use super::yaml::{Entry, Kind, Node, Scalar, short};
use super::{builtin, exec, variants};
use crate::diag::Diagnostic;
use crate::{axis, filter};

/// What reading peers needs beside the world.
pub(super) struct Context<'a> {
    pub(super) pending: &'a mut Pending,
    pub(super) services: Vec<String>,
    pub(super) command: Scope,
    /// What commands of `exec` clients may name.
    pub(super) client: Scope,
    /// The named ops of all services with their arguments.
    pub(super) ops: BTreeMap<String, Vec<String>>,
    pub(super) build: Scope,
    /// The values behind them.
    pub(super) vars: Map<String, Value>,
    /// Roles that are there but cannot be read: nobody is to say that they are missing.
    pub(super) broken: Vec<(String, &'static str)>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        pending: &'a mut Pending,
        services: &IndexMap<String, Service>,
        vars: &Map<String, Value>,
    ) -> Self {
        let scope = |names: &[&str]| {
            let mut scope = Scope::default();
            for name in names {
                match *name {
                    "vars" => scope = scope.root("vars", vars.keys().map(String::as_str)),
                    "tls" => scope = scope.root("tls", template::TLS_FIELDS.iter().copied()),
                    "case" => scope = scope.root("case", template::CASE_FIELDS.iter().copied()),
                    "script" => scope = scope.root("script", ["name"]),
                    "server" => scope = scope.root("server", template::SERVER_FIELDS.iter().copied()),
                    "cookie" => scope = scope.root("cookie", template::COOKIE_FIELDS.iter().copied()),
                    // Which axes there are is not known before the matrix is read.
                    "axes" => scope.open("axes"),
                    name => scope = scope.root(name, []),
                }
            }
            scope
        };
        let mut ops: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, op) in services.values().flat_map(|service| &service.ops) {
            let args = ops.entry(name.clone()).or_default();
            args.extend(op.args.iter().cloned());
        }
        let tls = template::TLS_FIELDS.iter().copied().chain(["server_name"]);
        Self {
            pending,
            services: services.keys().cloned().collect(),
            command: scope(template::COMMAND_NAMES),
            client: scope(template::CLIENT_NAMES).root("tls", tls),
            ops,
            build: scope(template::BUILD_NAMES),
            vars: vars.clone(),
            broken: Vec::new(),
        }
    }
}

/// Reads all peers; `entries` come with the folder that their paths start from.
pub(super) fn read<'n>(
    world: &mut World<'_>,
    context: &mut Context<'_>,
    entries: &[(&'n Entry, &'n Path)],
) -> IndexMap<String, Peer> {
    let mut peers = IndexMap::new();
    for (entry, folder) in entries {
        legal_name(&mut world.sink, &entry.key, entry.span, "a peer");
        match peer(world, context, entry, folder) {
            Some(all) => all.into_iter().for_each(|peer| add(&mut world.sink, &mut peers, peer)),
            None => world.incomplete = true,
        }
    }
    peers
}

/// Variants are named by their values, and two that look alike would be one.
fn add(sink: &mut Sink, peers: &mut IndexMap<String, Peer>, peer: Peer) {
    let Some(first) = peers.get(&peer.name) else {
        peers.insert(peer.name.clone(), peer);
        return;
    };
    let problem = Diagnostic::error("duplicate-name", format!("two peers are named `{}`", short(&peer.name)))
        .at(peer.span, "one of them");
    let problem = if first.span == peer.span { problem } else { problem.at(first.span, "the other") };
    sink.push(problem.help("a variant is called `PEER@VALUE+VALUE`: change one of the values, or the peer's name"));
}

fn peer(world: &mut World<'_>, context: &mut Context<'_>, entry: &Entry, folder: &Path) -> Option<Vec<Peer>> {
    let fields = world.sink.fields::<schema::Peer>(&entry.value)?;
    let Some(from) = fields.get(&mut world.sink, "from") else {
        if let Some(pick) = fields.entry("pick") {
            world.sink.error(
                "useless-key",
                pick.span,
                "`pick` without `from`",
                "picks from nothing",
                "add `from: PATH`",
            );
        }
        return Some(variants_of(&mut world.sink, context, &entry.key, entry, (&fields, None), folder));
    };
    let Kind::Map(given) = &entry.value.kind else { return None };
    for other in given.iter().filter(|e| !matches!(e.key.as_str(), "from" | "pick" | "description" | "variants")) {
        if schema_has(&other.key) {
            let message = format!("`{}` beside `from`", other.key);
            world.sink.error(
                "useless-key",
                other.span,
                message,
                "the peer file says this",
                "say it there, or give the peer inline",
            );
        }
    }
    let path = world.sink.text(from, "`from`")?;
    let pick = fields.get(&mut world.sink, "pick").and_then(|node| world.sink.text(node, "`pick`"));
    let document = world.peer_file(&normal(&folder.join(&path.value)), path.span)?;
    let Kind::Map(top) = &document.node.kind else { return None };
    let Some(list) = top.iter().find(|e| e.key == "peers") else {
        world.sink.error(
            "missing-key",
            document.node.span,
            "a peer file needs `peers`",
            "no `peers` in it",
            "write `peers: { NAME: … }`",
        );
        return None;
    };
    let peers = world.sink.entries(&list.value, "`peers`")?;
    let wanted = pick.as_ref().map_or(entry.key.as_str(), |pick| pick.value.as_str());
    let found = match peers {
        [only] if pick.is_none() => Some(only),
        _ => peers.iter().find(|peer| peer.key == wanted),
    };
    let Some(found) = found else {
        let span = pick.as_ref().map_or(entry.span, |pick| pick.span);
        let help = world.sink.suggest(wanted, "peers of it", peers.iter().map(|peer| peer.key.as_str()));
        let message = format!("the peer file has no peer `{}`", short(wanted));
        world.sink.error(
            "unknown-peer",
            span,
            message,
            "not in the file",
            &format!("{help}; `pick: NAME` takes one of another name"),
        );
        return None;
    };
    let given = fields.get(&mut world.sink, "variants");
    let fields = world.sink.fields::<schema::Peer>(&found.value)?;
    if let Some(from) = fields.entry("from") {
        world.sink.error(
            "useless-key",
            from.span,
            "a peer of a peer file cannot come from another one",
            "not here",
            "",
        );
        return None;
    }
    Some(variants_of(&mut world.sink, context, &entry.key, found, (&fields, given), &document.folder))
}

/// The peer that a definition describes, or its variants: those that were given, or its own.
fn variants_of(
    sink: &mut Sink,
    context: &mut Context<'_>,
    name: &str,
    entry: &Entry,
    (fields, given): (&Fields<'_>, Option<&Node>),
    folder: &Path,
) -> Vec<Peer> {
    let own = fields.get(sink, "variants");
    let Some(node) = given.or(own) else { return vec![inline(sink, context, name, entry, fields, folder)] };
    if let (Some(Kind::Map(given)), Some(Kind::Map(own))) = (given.map(|node| &node.kind), own.map(|node| &node.kind)) {
        for left_out in own.iter().filter(|own| !given.iter().any(|entry| entry.key == own.key)) {
            let message = format!("`variants` leaves out `{}`, which the peer file has", short(&left_out.key));
            let help = "they take the place of the file's own: name each of these, with at least one value";
            sink.error("missing-key", node.span, message, "not in it", help);
        }
    }
    let variants = variants::read(sink, node, entry, &context.client);
    let before = [&context.command, &context.client, &context.build].map(Scope::clone);
    // All names are known to the templates of the one definition, also those that it gives itself.
    let names = [Some(node), own].into_iter().flatten().filter_map(|node| match &node.kind {
        Kind::Map(entries) => Some(entries.iter().map(|entry| entry.key.as_str())),
        _ => None,
    });
    for name in names.flatten() {
        for scope in [&mut context.command, &mut context.client, &mut context.build] {
            *scope = scope.clone().root(name, []);
        }
    }
    let broken = context.broken.len();
    let peer = inline(sink, context, name, entry, fields, folder);
    [context.command, context.client, context.build] = before;
    let all = variants::expand(&peer, &variants);
    let roles: Vec<_> = context.broken.drain(broken..).map(|(_, role)| role).collect();
    for role in roles {
        context.broken.extend(all.iter().map(|peer| (peer.name.clone(), role)));
    }
    if variants.is_empty() { vec![peer] } else { all }
}

fn schema_has(key: &str) -> bool {
    <schema::Peer as schema::Shape>::KEYS.contains(&key)
}

fn inline(
    sink: &mut Sink,
    context: &mut Context<'_>,
    name: &str,
    entry: &Entry,
    fields: &Fields<'_>,
    folder: &Path,
) -> Peer {
    let own = fields.get(sink, "builtin").map(|node| sink.fields::<schema::Empty>(node));
    let mut facts = BTreeMap::from([("name".to_owned(), name.to_owned())]);
    if own.is_some() {
        facts.insert("lang".to_owned(), "rust".to_owned());
        facts.insert("stack".to_owned(), "tonic".to_owned());
    }
    if let Some(node) = fields.get(sink, "facts") {
        for fact in sink.entries(node, "`facts`").unwrap_or_default() {
            if matches!(fact.key.as_str(), "name" | "lang" | "stack" | variants::VARIANT_OF) {
                let message = format!("`{}` is not among the free facts", fact.key);
                sink.error(
                    "bad-name",
                    fact.span,
                    message,
                    "not here",
                    "`lang` and `stack` stand beside `facts`, the name is the peer's",
                );
            } else if legal_name(sink, &fact.key, fact.span, "a fact") {
                facts.extend(sink.text(&fact.value, "a fact").map(|text| (fact.key.clone(), text.value)));
            }
        }
    }
    for key in ["lang", "stack"] {
        facts.extend(fields.text(sink, key).map(|text| (key.to_owned(), text)));
    }
    let builtin = fields.entry("builtin").map(|e| e.span);
    let mut client = builtin.map(|span| ClientRole { way: ClientWay::Builtin, provides: builtin::client(span) });
    let mut server = builtin.map(|span| ServerRole {
        plugin: Some(PluginWay::Builtin { args: Vec::new() }),
        direct: Some(DirectWay::Builtin),
        rewrite: Rewrite::default(),
        provides: builtin::server(span),
    });
    if let Some(entry) = fields.entry("client") {
        client = fields.get(sink, "client").and_then(|_| client_role(sink, context, &entry.value));
        context.broken.extend(client.is_none().then(|| (name.to_owned(), "client")));
    }
    if let Some(entry) = fields.entry("server") {
        server = fields.get(sink, "server").and_then(|_| server_role(sink, context, &entry.value));
        context.broken.extend(server.is_none().then(|| (name.to_owned(), "server")));
    }
    if builtin.is_none() && fields.entry("client").is_none() && fields.entry("server").is_none() {
        let message = format!("the peer `{}` has no role", short(name));
        sink.error(
            "no-role",
            entry.span,
            message,
            "neither client nor server",
            "give it `client`, `server`, `builtin: {}` or `from: PATH`",
        );
    }
    Peer {
        name: name.to_owned(),
        span: entry.span,
        facts,
        client,
        server,
        build: fields.get(sink, "build").and_then(|node| build(sink, context, node)),
        versions: fields.get(sink, "versions").map(|node| versions(sink, context, node)).unwrap_or_default(),
        // A file named without a folder is in the working directory; programs cannot be started in ``.
        folder: if folder.as_os_str().is_empty() { Path::new(".").into() } else { folder.to_path_buf() },
        vars: context.vars.clone(),
        variant: BTreeMap::new(),
    }
}

fn client_role(sink: &mut Sink, context: &mut Context<'_>, node: &Node) -> Option<ClientRole> {
    let fields = sink.fields::<schema::ClientRole>(node)?;
    let own = fields.get(sink, "builtin").map(|node| sink.fields::<schema::Empty>(node)).is_some();
    let driver = fields.get(sink, "driver").and_then(|node| program(sink, context, node));
    let program = fields.get(sink, "exec").and_then(|node| {
        let Context { pending, client, ops, .. } = context;
        exec::client(sink, pending, client, ops, node)
    });
    let ways = [own, fields.entry("driver").is_some(), fields.entry("exec").is_some()];
    if ways.iter().filter(|way| **way).count() != 1 {
        sink.error(
            "no-way",
            fields.span,
            "a client role is run in one way",
            "which one?",
            "give it `driver: { run: [PROGRAM, …] }`, `exec: { ops: { NAME: { run: […] } } }` or `builtin: {}`",
        );
    }
    let way = match (own, driver) {
        (true, _) => ClientWay::Builtin,
        (_, Some(driver)) => ClientWay::Driver(driver),
        _ => ClientWay::Exec(program?.into()),
    };
    let provides = provides(sink, context, &fields, own.then(|| builtin::client(fields.span)));
    if let ClientWay::Exec(client) = &way
        && let Some(launches) = provides.iter().find(|c| filter::glob(&c.name, "launch.plugin"))
        && !client.names("server.program")
    {
        sink.error(
            "never-started",
            launches.span,
            "a client that starts its server itself has to be told which",
            "no command of it names the server's program",
            "give it `{{ server.program }}` as an argument or a variable, or leave out `launch.plugin`",
        );
    }
    Some(ClientRole { way, provides })
}

fn server_role(sink: &mut Sink, context: &mut Context<'_>, node: &Node) -> Option<ServerRole> {
    let fields = sink.fields::<schema::ServerRole>(node)?;
    let own = fields.get(sink, "builtin").map(|node| sink.fields::<schema::Empty>(node)).is_some();
    let mut plugin = own.then(|| PluginWay::Builtin { args: Vec::new() });
    let mut direct = own.then_some(DirectWay::Builtin);
    let mut rewrite = Rewrite::default();
    let mut all_own = true;
    if let Some(node) = fields.get(sink, "plugin") {
        (plugin, rewrite) = plugin_way(sink, context, node);
        all_own &= matches!(plugin, Some(PluginWay::Builtin { .. }));
    }
    if let Some(node) = fields.get(sink, "driver") {
        direct = program(sink, context, node).map(DirectWay::Driver);
        all_own = false;
    }
    if let Some(node) = fields.get(sink, "exec") {
        let Context { pending, command, .. } = context;
        direct = exec::server(sink, pending, command, node).map(|server| DirectWay::Exec(server.into()));
        all_own = false;
    }
    if let Some(node) = fields.get(sink, "attach") {
        direct = sink.text(node, "`attach`").and_then(|text| address(sink, &text)).map(DirectWay::Attach);
        all_own = false;
    }
    let dialled: Vec<_> = ["driver", "exec", "attach"].iter().filter_map(|key| fields.entry(key)).collect();
    if let [first, second, ..] = dialled.as_slice() {
        sink.push(
            crate::diag::Diagnostic::error("two-ways", "a server is dialled in one way, this one has two")
                .at(second.span, "second")
                .at(first.span, "first")
                .help("make two peers of it"),
        );
    }
    let ways = ["builtin", "plugin", "driver", "exec", "attach"];
    if ways.iter().all(|key| fields.entry(key).is_none()) {
        sink.error(
            "no-way",
            fields.span,
            "a server role needs a way to be run",
            "which one?",
            "give it `plugin: { run: […] }`, `driver: { run: […] }`, `exec: { run: […] }`, `attach: ADDRESS` or `builtin: {}`",
        );
    }
    let own_provides = (all_own && (plugin.is_some() || direct.is_some())).then(|| builtin::server(fields.span));
    let provides = provides(sink, context, &fields, own_provides);
    Some(ServerRole { plugin, rewrite, direct, provides })
}

fn plugin_way(sink: &mut Sink, context: &Context<'_>, node: &Node) -> (Option<PluginWay>, Rewrite) {
    let Some(fields) = sink.fields::<schema::Plugin>(node) else { return (None, Rewrite::default()) };
    let rewrite = exec::rewrite::read(sink, &context.command, &fields);
    let way = plugin_program(sink, context, &fields);
    let keeps = match &way {
        Some(PluginWay::Run(command)) => &command.run,
        Some(PluginWay::Builtin { args }) => args,
        None => return (None, rewrite),
    };
    if !rewrite.args.is_empty() && !keeps.iter().any(|text| exec::rewrite::is_client_args(text)) {
        let help = "add `\"{{ client.args }}\"` to the command, or leave `args` out: the plugin's own command is run";
        let message = "`rewrite: { args: … }` changes arguments that are not used";
        sink.error("useless-key", fields.span, message, "the client's arguments are not in this command", help);
    }
    (way, rewrite)
}

fn plugin_program(sink: &mut Sink, context: &Context<'_>, fields: &Fields<'_>) -> Option<PluginWay> {
    let scope = context.command.clone().root("client", ["args"]);
    let Some(own) = fields.get(sink, "builtin") else {
        let env = exec::environment(sink, &context.command, fields);
        let run = fields.require(sink, "run", "the program and its arguments, as a list")?;
        scope.list(sink, run);
        let command = Command { run: sink.command(run, "`run`")?, env, span: fields.span };
        exec::rewrite::check_client_args(sink, run, &command.run);
        return Some(PluginWay::Run(command));
    };
    for key in ["run", "env"] {
        if let Some(entry) = fields.entry(key) {
            sink.error(
                "two-ways",
                entry.span,
                format!("`{key}` beside `builtin`"),
                "the built-in plugin is a program already",
                "",
            );
        }
    }
    let own = sink.fields::<schema::BuiltinPlugin>(own)?;
    let args = own.get(sink, "args").and_then(|node| {
        scope.list(sink, node);
        let items = sink.list(node, "`args`")?;
        let args: Vec<_> = items.iter().filter_map(|item| sink.any_text(item, "an argument")).collect();
        exec::rewrite::check_client_args(sink, node, &args);
        Some(args)
    });
    Some(PluginWay::Builtin { args: args.unwrap_or_default() })
}

fn program(sink: &mut Sink, context: &Context<'_>, node: &Node) -> Option<Command> {
    let fields = sink.fields::<schema::Program>(node)?;
    command(sink, &context.command, &fields)
}

/// `run` and `env`.
fn command(sink: &mut Sink, scope: &Scope, fields: &Fields<'_>) -> Option<Command> {
    let run = fields.require(sink, "run", "the program and its arguments, as a list");
    let env = exec::environment(sink, scope, fields);
    let run = run?;
    scope.list(sink, run);
    Some(Command { run: sink.command(run, "`run`")?, env, span: fields.span })
}

/// `HOST:PORT` or `unix:PATH`.
fn address(sink: &mut Sink, text: &crate::diag::Spanned<String>) -> Option<String> {
    let good = match text.value.strip_prefix("unix:") {
        Some(path) => !path.is_empty(),
        None => text.value.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
    };
    if !good {
        let message = format!("`{}` is no address", short(&text.value));
        sink.error("bad-address", text.span, message, "not an address", "write HOST:PORT or unix:PATH");
    }
    good.then(|| text.value.clone())
}

/// `provides`; what soupscen's own roles provide is known.
fn provides(
    sink: &mut Sink,
    context: &mut Context<'_>,
    fields: &Fields<'_>,
    own: Option<Vec<Capability>>,
) -> Vec<Capability> {
    if let (None, Some(own)) = (fields.entry("provides"), own) {
        return own;
    }
    let help = "list what it can be asked to do, such as `[service.kv, launch.plugin, transport.unix, tls.auto]`";
    let Some(node) = fields.require(sink, "provides", help) else { return Vec::new() };
    let mut all = Vec::new();
    for item in sink.list(node, "`provides`").unwrap_or_default() {
        let (name, when) = if matches!(item.kind, Kind::Map(_)) {
            let Some(entry) = sink.fields::<schema::ProvidesWhen>(item) else { continue };
            let name = entry.require(sink, "capability", "name the capability");
            let when = entry.get(sink, "when").and_then(|node| context.pending.read(sink, node, "`when`", false));
            (name.and_then(|node| sink.text(node, "`capability`")), when)
        } else {
            (sink.text(item, "a capability"), None)
        };
        if let Some(name) = name.and_then(|name| capability(sink, &context.services, name)) {
            all.push(Capability { name, when, span: item.span });
        }
    }
    all
}

/// The canonical name of a capability or glob that at least one known capability matches.
fn capability(sink: &mut Sink, services: &[String], name: crate::diag::Spanned<String>) -> Option<String> {
    let text = name.value;
    if services.contains(&text) {
        return Some(format!("service.{text}"));
    }
    let canonical =
        text.split_once('.').and_then(|(axis, value)| Some(format!("{axis}.{}", axis::canonical(axis, value)?)));
    let text = canonical.unwrap_or(text);
    let known = builtin::known_capabilities(services.iter().map(String::as_str));
    if known.iter().any(|known| filter::glob(&text, known)) {
        return Some(text);
    }
    // The group says most: name its members first.
    let group = text.split('.').next().unwrap_or_default();
    let of_group: Vec<&str> = known.iter().map(String::as_str).filter(|k| k.split('.').next() == Some(group)).collect();
    let help = if of_group.is_empty() {
        sink.suggest(&text, "capabilities", known.iter().map(String::as_str).chain(services.iter().map(String::as_str)))
    } else {
        sink.suggest(&text, &format!("capabilities `{group}.…`"), of_group)
    };
    sink.error("unknown-capability", name.span, format!("unknown capability `{}`", short(&text)), "not known", &help);
    None
}

fn build(sink: &mut Sink, context: &Context<'_>, node: &Node) -> Option<Build> {
    let fields = sink.fields::<schema::Build>(node)?;
    // What is there already and only has to be found is not built.
    let found = fields.entry("run").is_none() && fields.entry("tools").is_some();
    let run = if found {
        None
    } else {
        Some(fields.require(sink, "run", "the command that builds, as a list, or a list of commands"))
    };
    let inputs = fields.get(sink, "inputs").and_then(|node| sink.texts(node, "`inputs`", true)).unwrap_or_default();
    for input in &inputs {
        if Path::new(&input.value).is_absolute() {
            let message = format!("the input `{}` is not in the peer's folder", short(&input.value));
            sink.error(
                "bad-path",
                input.span,
                message,
                "an absolute path",
                "write it relative to the folder of the peer file",
            );
        }
    }
    let mut tools = IndexMap::new();
    if let Some(node) = fields.get(sink, "tools") {
        for entry in sink.entries(node, "`tools`").unwrap_or_default() {
            let name = Scalar { text: entry.key.clone(), plain: false, offset: None };
            context.build.scalar(sink, &name, entry.span);
            tools.extend(tool(sink, &entry.value).map(|tool| (entry.key.clone(), tool)));
        }
    }
    let inputs = inputs.into_iter().map(|i| i.value).collect();
    let Some(run) = run else {
        return Some(Build { run: Vec::new(), inputs, tools, span: fields.span });
    };
    let run = run?;
    context.build.list(sink, run);
    let several = matches!(&run.kind, Kind::List(items) if items.iter().any(|item| matches!(item.kind, Kind::List(_))));
    let commands = if several {
        let items = sink.list(run, "`run`")?;
        items.iter().filter_map(|item| sink.command(item, "a command of `run`")).collect()
    } else {
        vec![sink.command(run, "`run`")?]
    };
    Some(Build { run: commands, inputs, tools, span: fields.span })
}

fn tool(sink: &mut Sink, node: &Node) -> Option<Tool> {
    let fields = sink.fields::<schema::Tool>(node)?;
    let version = fields.get(sink, "version").and_then(|node| sink.texts(node, "`version`", true));
    let install = fields.require(sink, "install", "say how to get the tool, as a sentence or a command")?;
    let install = sink.text(install, "`install`")?.value;
    let version = version.map_or_else(|| vec!["--version".to_owned()], |v| v.into_iter().map(|t| t.value).collect());
    Some(Tool { version, install })
}

fn versions(sink: &mut Sink, context: &Context<'_>, node: &Node) -> IndexMap<String, VersionProbe> {
    let mut versions = IndexMap::new();
    for entry in sink.entries(node, "`versions`").unwrap_or_default() {
        legal_name(sink, &entry.key, entry.span, "a component");
        if !matches!(entry.value.kind, Kind::Map(_)) {
            let fixed = sink.text(&entry.value, "a version");
            versions.extend(fixed.map(|text| (entry.key.clone(), VersionProbe::Fixed(text.value))));
            continue;
        }
        let Some(fields) = sink.fields::<schema::ProbeRun>(&entry.value) else { continue };
        let pattern = fields.get(sink, "pattern").and_then(|node| sink.text(node, "`pattern`"));
        if let Some(pattern) = &pattern {
            sink.regex(&pattern.value, pattern.span);
        }
        let Some(run) = fields.require(sink, "run", "the command that tells the version, as a list") else { continue };
        context.build.list(sink, run);
        if let Some(run) = sink.command(run, "`run`") {
            versions.insert(entry.key.clone(), VersionProbe::Run { run, pattern: pattern.map(|p| p.value) });
        }
    }
    versions
}
