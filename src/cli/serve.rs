//! `soupscen serve kv`: the built-in server as a program. Flags and environment become
//! [`ServeSettings`](crate::peer::builtin::plugin::ServeSettings); the work is there.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::tls_args::TlsArgs;
use crate::axis::values::{KeyType, TlsMode, Transport};
use crate::handshake::{Cookie, PluginEnv};
use crate::peer::Target;
use crate::peer::builtin::broken::{self, Saboteur};
use crate::peer::builtin::log::{Level, Log};
use crate::peer::builtin::plugin::{Ended, PluginError, ServeSettings, run_direct, run_plugin};
use crate::pki::{Authority, Role};

/// Serve a service with the built-in peer, directly or as a go-plugin server.
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
}

/// Flags of `serve kv`.
#[derive(Debug, Args)]
pub struct KvArgs {
    /// Where to listen: HOST:PORT (port 0: any) or unix:PATH.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<Target>,
    /// Socket family of a plugin: unix (as Go's plugins) or tcp.
    #[arg(long, value_name = "FAMILY", value_parser = transport, conflicts_with = "address")]
    pub transport: Option<Transport>,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Make an authority and write its certificates and keys into this folder: ca.crt, and server
    /// and client certificates of --key-type.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["cert", "ca"], requires = "tls")]
    pub make_certs: Option<PathBuf>,
    /// Keep values in this folder instead of in memory.
    #[arg(long, value_name = "FOLDER", env = "KV_STORAGE_DIR")]
    pub storage: Option<PathBuf>,
    /// Lowest TCP port of a plugin.
    #[arg(long, value_name = "PORT", requires = "max_port")]
    pub min_port: Option<u16>,
    /// Highest TCP port of a plugin.
    #[arg(long, value_name = "PORT", requires = "min_port")]
    pub max_port: Option<u16>,
    /// Application protocol version of a plugin; may be given more than once.
    #[arg(long = "protocol-version", value_name = "N", default_values_t = [1])]
    pub protocol_versions: Vec<u32>,
    /// Be wrong on purpose.
    #[arg(long, value_name = "SWITCH", hide = true, value_parser = saboteur)]
    pub as_broken: Option<Saboteur>,
    /// How late the line of `--as-broken late-line` comes, in milliseconds.
    #[arg(long, value_name = "MS", hide = true)]
    pub late: Option<u64>,
}

fn transport(text: &str) -> Result<Transport, String> {
    Transport::from_name(text).ok_or_else(|| format!("`{text}` is not known; known are tcp, unix"))
}

fn saboteur(text: &str) -> Result<Saboteur, String> {
    Saboteur::from_name(text).ok_or_else(|| format!("`{text}` is not known; known are\n{}", broken::help()))
}

/// Serves until ended. Exit statuses: 0 ended in order, 1 it could not serve or its cookie is wrong,
/// 2 nothing says how to serve.
#[must_use]
pub fn main(args: ServeArgs) -> ExitCode {
    // One thread: a plugin process starts quickest so, and a matrix has many of them.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(main_async(args)),
        Err(error) => fail(1, &format!("the runtime cannot start: {error}")),
    }
}

/// The same within a runtime.
pub async fn main_async(args: ServeArgs) -> ExitCode {
    let Service::Kv(args) = args.service;
    let lookup = |name: &str| std::env::var(name).ok();
    let cookie = Cookie::basic();
    let level = lookup("LOG_LEVEL").filter(|name| !name.is_empty());
    let log = Log::new(level.as_deref().and_then(Level::from_name).unwrap_or(Level::Warn));
    let launched = lookup(&cookie.key).is_some() || PluginEnv::suggests_launch(&lookup);
    let result = match (launched, args.address.clone()) {
        (true, _) => match PluginEnv::read(&cookie, &lookup) {
            Ok(env) => as_plugin(&args, env, log, &lookup).await,
            Err(problem) => return fail(1, &problem.to_string()),
        },
        (false, Some(address)) => as_server(&args, address, log).await,
        (false, None) => {
            return fail(
                2,
                "nothing says how to serve: no --address is given and no go-plugin host has set its cookie\n\
                 for a server to dial: soupscen serve kv --address 127.0.0.1:0\n\
                 to see a plugin's line:  BASIC_PLUGIN=hello soupscen serve kv",
            );
        }
    };
    match result {
        Ok(Ended::InOrder) => ExitCode::SUCCESS,
        Ok(Ended::ByDefect(status)) => ExitCode::from(status),
        Err(error) => fail(1, &error.to_string()),
    }
}

async fn as_plugin(
    args: &KvArgs,
    env: PluginEnv,
    log: Log,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Ended, PluginError> {
    let mut settings = settings(args, log)?;
    settings.echo = lookup("KV_ECHO").as_deref() == Some("1");
    run_plugin(settings, env).await
}

async fn as_server(args: &KvArgs, address: Target, log: Log) -> Result<Ended, PluginError> {
    let mut settings = settings(args, log)?;
    if let Some(folder) = &args.make_certs {
        let authority = Authority::new(Some(folder))?;
        let key = args.tls.key_type.unwrap_or(KeyType::P256);
        settings.tls.identity = Some(authority.issue(Role::Server, key).await?);
        authority.issue(Role::Client, key).await?;
        settings.tls.ca = Some(authority.root());
    }
    run_direct(settings, address).await
}

fn settings(args: &KvArgs, log: Log) -> Result<ServeSettings, PluginError> {
    Ok(ServeSettings {
        transport: args.transport,
        address: args.address.clone(),
        mode: args.tls.tls,
        tls: args.tls.load(TlsMode::None)?,
        key: args.tls.key_type,
        storage: args.storage.clone(),
        ports: args.min_port.zip(args.max_port),
        versions: args.protocol_versions.clone(),
        echo: false,
        broken: args.as_broken,
        late: args.late.map(Duration::from_millis),
        log,
    })
}

/// stdout belongs to the handshake line: what goes wrong is told on stderr.
fn fail(status: u8, text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
    ExitCode::from(status)
}
