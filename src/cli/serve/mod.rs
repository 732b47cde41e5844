//! `soupscen serve kv` and `serve stock`: the built-in server as a program, or any peer's by hand.
//! For the built-in one flags and environment become
//! [`ServeSettings`](crate::peer::builtin::plugin::ServeSettings), and the work is there; `peer` is
//! for the others, with a `front` at the address that was asked for.

mod certs;
mod front;
mod peer;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use self::certs::Certs;
use super::printer::Printer;
use super::tls_args::TlsArgs;
use crate::axis::values::{TlsMode, Transport};
use crate::handshake::{Cookie, PluginEnv};
use crate::peer::Target;
use crate::peer::builtin::broken::{self, Saboteur};
use crate::peer::builtin::log::{Level, Log};
use crate::peer::builtin::plugin::{Ended, PluginError, ServeSettings, Serves, run_direct, run_plugin};
use crate::peer::builtin::stock::mistake::{self, Mistake};
use crate::process::guard;

/// Serve a service: with the built-in peer, directly or as a go-plugin server, or with any peer.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// What to serve.
    #[command(subcommand)]
    pub service: Service,
}

/// Services of the built-in server.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// The key-value service `proto.KV`.
    ///
    /// With its magic cookie in the environment (`BASIC_PLUGIN=hello`) it is a go-plugin server: it
    /// prints the handshake line, does `AutoMTLS` when `PLUGIN_CLIENT_CERT` is set, and ends when its
    /// host asks. Otherwise it serves at --address.
    Kv(KvArgs),
    /// The service `soup.stock.v1.Stock` of docs/stock.md, with every kind of call.
    ///
    /// Launched and served as `serve kv` is; it keeps everything in memory.
    Stock(StockArgs),
}

/// Flags of `serve kv`.
#[derive(Debug, Args)]
pub struct KvArgs {
    /// How and where.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Keep values in this folder instead of in memory.
    #[arg(long, value_name = "FOLDER", env = "KV_STORAGE_DIR")]
    pub storage: Option<PathBuf>,
    /// Be wrong on purpose.
    #[arg(long, value_name = "SWITCH", hide = true, value_parser = saboteur, conflicts_with = "peer")]
    pub as_broken: Option<Saboteur>,
    /// How late the line of `--as-broken late-line` comes, in milliseconds.
    #[arg(long, value_name = "MS", hide = true)]
    pub late: Option<u64>,
}

/// Flags of `serve stock`.
#[derive(Debug, Args)]
pub struct StockArgs {
    /// How and where.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Make a mistake.
    #[arg(long, value_name = "SWITCH", hide = true, value_parser = mistake, conflicts_with = "peer")]
    pub as_broken: Option<Mistake>,
}

/// Flags that every service has.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// The peer that serves, built where it has to be [default: the built-in server].
    #[arg(long, value_name = "NAME")]
    pub peer: Option<String>,
    /// The file that declares it: a scenario or a file of peers [default: scenarios/peers/*.yaml and
    /// fixtures/peers/*/peer.yaml].
    #[arg(long, value_name = "FILE", requires = "peer")]
    pub from: Option<PathBuf>,
    /// `soupscen call` is not to find it by itself.
    #[arg(long, hide = true)]
    pub unlisted: bool,
    /// Where to listen: HOST:PORT (port 0: any) or unix:PATH [default with --peer: any port].
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<Target>,
    /// Short for --address 127.0.0.1:PORT.
    #[arg(long, value_name = "PORT", conflicts_with = "address")]
    pub port: Option<u16>,
    /// Socket family of a plugin or peer: unix (as Go's plugins) or tcp.
    #[arg(long, value_name = "FAMILY", value_parser = transport)]
    pub transport: Option<Transport>,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Make the certificates in this folder: ca.crt, and server and client certificates of
    /// --key-type. Without it, and without --cert, they are made below .soupscen and go with the
    /// server.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["cert", "ca"], requires = "tls")]
    pub make_certs: Option<PathBuf>,
    /// Lowest TCP port of a plugin.
    #[arg(long, value_name = "PORT", requires = "max_port")]
    pub min_port: Option<u16>,
    /// Highest TCP port of a plugin.
    #[arg(long, value_name = "PORT", requires = "min_port")]
    pub max_port: Option<u16>,
    /// Application protocol version of a plugin; may be given more than once.
    #[arg(long = "protocol-version", value_name = "N", default_values_t = [1])]
    pub protocol_versions: Vec<u32>,
}

fn transport(text: &str) -> Result<Transport, String> {
    Transport::from_name(text).ok_or_else(|| format!("`{text}` is not known; known are tcp, unix"))
}

fn saboteur(text: &str) -> Result<Saboteur, String> {
    Saboteur::from_name(text).ok_or_else(|| format!("`{text}` is not known; known are\n{}", broken::help()))
}

fn mistake(text: &str) -> Result<Mistake, String> {
    Mistake::from_name(text).ok_or_else(|| format!("`{text}` is not known; known are\n{}", mistake::help()))
}

/// Serves until ended. Exit statuses: 0 ended in order, 1 it could not serve or its cookie is wrong,
/// 2 nothing says how to serve, or the peer cannot, 3 the peer's driver failed, 130 interrupted
/// before it served.
pub(super) fn main(args: ServeArgs, printer: &Printer) -> ExitCode {
    if let Some(name) = args.service.listen().peer.clone() {
        return guard::run_guarded(|| peer::main(&args.service, &name, printer));
    }
    // One thread: a plugin process starts quickest so, and a matrix has many of them.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(main_async(args, printer)),
        Err(error) => fail(1, &format!("the runtime cannot start: {error}")),
    }
}

/// The same within a runtime, for the built-in server.
async fn main_async(args: ServeArgs, printer: &Printer) -> ExitCode {
    let lookup = |name: &str| std::env::var(name).ok();
    let cookie = Cookie::basic();
    let level = lookup("LOG_LEVEL").filter(|name| !name.is_empty());
    let log = Log::new(level.as_deref().and_then(Level::from_name).unwrap_or(Level::Warn));
    let service = args.service;
    if service.listen().transport.is_some() && service.listen().at().is_some() {
        return fail(2, "--transport is for plugins, and for peers: --address says where the built-in server listens");
    }
    let launched = lookup(&cookie.key).is_some() || PluginEnv::suggests_launch(&lookup);
    let result = match (launched, service.listen().at()) {
        (true, _) => match PluginEnv::read(&cookie, &lookup) {
            Ok(env) => as_plugin(&service, env, log, &lookup).await,
            Err(problem) => return fail(1, &problem.to_string()),
        },
        (false, Some(address)) => as_server(&service, address, log, printer).await,
        (false, None) => {
            let name = service.name();
            let text = format!(
                "nothing says how to serve: no --address is given and no go-plugin host has set its cookie\n\
                 for a server to dial: soupscen serve {name} --address 127.0.0.1:0\n\
                 for another peer's:      soupscen serve {name} --peer go\n\
                 to see a plugin's line:  BASIC_PLUGIN=hello soupscen serve {name}"
            );
            return fail(2, &text);
        }
    };
    match result {
        Ok(Ended::InOrder) => ExitCode::SUCCESS,
        Ok(Ended::ByDefect(status)) => ExitCode::from(status),
        Err(error) => fail(1, &error.to_string()),
    }
}

impl Service {
    const fn name(&self) -> &'static str {
        match self {
            Self::Kv(_) => "kv",
            Self::Stock(_) => "stock",
        }
    }

    const fn storage(&self) -> Option<&PathBuf> {
        match self {
            Self::Kv(args) => args.storage.as_ref(),
            Self::Stock(_) => None,
        }
    }

    const fn listen(&self) -> &ListenArgs {
        match self {
            Self::Kv(args) => &args.listen,
            Self::Stock(args) => &args.listen,
        }
    }
}

impl ListenArgs {
    fn at(&self) -> Option<Target> {
        let port = self.port.map(|port| Target::Tcp((std::net::Ipv4Addr::LOCALHOST, port).into()));
        self.address.clone().or(port)
    }
}

async fn as_plugin(
    service: &Service,
    env: PluginEnv,
    log: Log,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Ended, PluginError> {
    let mut settings = settings(service, log)?;
    settings.echo = lookup("KV_ECHO").as_deref() == Some("1");
    run_plugin(settings, env).await
}

async fn as_server(service: &Service, address: Target, log: Log, printer: &Printer) -> Result<Ended, PluginError> {
    let mut settings = settings(service, log)?;
    let args = service.listen();
    let mut listing = peer::listing(args, printer);
    let folder = listing.as_ref().map(|listing| listing.folder().to_owned());
    let certs = Certs::of(args, settings.mode.unwrap_or(TlsMode::None), folder.as_deref()).await?;
    settings.tls = certs.server.clone();
    let full = settings.serves.name();
    let ready = |at: &Target| {
        let entry = certs.entry(full, "rust", at.to_string());
        if let Some(Err(error)) = listing.as_mut().map(|listing| listing.publish(entry)) {
            printer.say(&format!("`soupscen call` will not find this server by itself: {error}"));
        }
        if certs.made && args.make_certs.is_none() {
            certs.advice(service.name(), &at.to_string()).iter().for_each(|line| printer.say(line));
        }
    };
    run_direct(settings, address, ready).await
}

fn settings(service: &Service, log: Log) -> Result<ServeSettings, PluginError> {
    let args = service.listen();
    let settings = ServeSettings {
        serves: Serves::Kv,
        transport: args.transport,
        address: args.at(),
        mode: args.tls.tls,
        tls: args.tls.load(TlsMode::None)?,
        key: args.tls.key_type,
        storage: None,
        ports: args.min_port.zip(args.max_port),
        versions: args.protocol_versions.clone(),
        echo: false,
        broken: None,
        late: None,
        log,
    };
    Ok(match service {
        Service::Kv(own) => ServeSettings {
            storage: own.storage.clone(),
            broken: own.as_broken,
            late: own.late.map(Duration::from_millis),
            ..settings
        },
        Service::Stock(own) => ServeSettings { serves: Serves::Stock(own.as_broken), ..settings },
    })
}

/// stdout belongs to the handshake line: what goes wrong is told on stderr.
fn fail(status: u8, text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
    ExitCode::from(status)
}
