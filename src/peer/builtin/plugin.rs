//! The built-in server as a program: a go-plugin, or a server to dial.
//!
//! Nothing heavy may come before the line: a host waits for it. A curve's key takes under a
//! millisecond; an RSA key is made only when it is asked for.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::broken::habit::Habit;
use super::broken::handshake::identity_for;
use super::broken::{Defect, LATE, Saboteur};
use super::control::Stdio;
use super::log::Log;
use super::server::{App, Content, start};
use super::stock::mistake::Mistake;
use super::stock::{self, STOCK_SERVICE};
use super::store::Store;
use super::{DEFAULT_KEY, KV_SERVICE};
use crate::axis::values::{KeyType, TlsMode, Transport};
use crate::handshake::{Kind, Line, PluginEnv, choose_version};
use crate::pki::{Identity, PkiError};
use crate::transport::{Fault, Listener, Target, TlsSpec, server_config};

/// Calls in flight may finish within this once the plugin was told to end.
const END_GRACE: Duration = Duration::from_millis(250);

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// `proto.KV`.
    Kv,
    /// `soup.stock.v1.Stock`, with a mistake if there is one.
    Stock(Option<Mistake>),
}

impl Serves {
    /// The full protobuf name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kv => KV_SERVICE,
            Self::Stock(_) => STOCK_SERVICE,
        }
    }
}

/// What `serve` was told, beside the environment of a host.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// What is served.
    pub serves: Serves,
    /// Socket family; unix when not given, as Go's plugins.
    pub transport: Option<Transport>,
    /// Where to listen, for a server to dial.
    pub address: Option<Target>,
    /// `tls.mode` is `None` unless given; a plugin then does `AutoMTLS` if its host asks for it.
    pub mode: Option<TlsMode>,
    /// Version, group, certificate and CA; the mode in it is not looked at.
    pub tls: TlsSpec,
    /// Type of the key that it makes itself.
    pub key: Option<KeyType>,
    /// Where values are kept; in memory when not given.
    pub storage: Option<PathBuf>,
    /// TCP ports of a plugin; the host's when not given.
    pub ports: Option<(u16, u16)>,
    /// Application protocol versions.
    pub versions: Vec<u32>,
    /// A line on the plugin's stdout stream for each put.
    pub echo: bool,
    /// A defect.
    pub broken: Option<Saboteur>,
    /// How late `late-line` is.
    pub late: Option<Duration>,
    /// stderr.
    pub log: Log,
}

/// Why the program cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Keys and certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS settings.
    #[error("{}", .0.reported.error)]
    Tls(Box<Fault>),
    /// Settings that do not go together.
    #[error("{0}")]
    Settings(String),
    /// The address.
    #[error("cannot listen at {at}: {error}")]
    Listen {
        /// Where.
        at: String,
        /// Why.
        error: std::io::Error,
    },
    /// The storage folder.
    #[error("cannot use the storage folder `{}`: {error}", path.display())]
    Storage {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// stdout, or signals.
    #[error("cannot {what}: {error}")]
    Io {
        /// What.
        what: &'static str,
        /// Why.
        error: std::io::Error,
    },
}

impl From<Fault> for PluginError {
    fn from(fault: Fault) -> Self {
        Self::Tls(Box::new(fault))
    }
}

/// What is to be printed.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) line: Line,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// In order: by its controller or a signal.
    InOrder,
    /// By its defect: exit with this status.
    ByDefect(u8),
}

/// Runs as a plugin until its host or a signal ends it.
///
/// # Errors
/// When it cannot come as far as its line.
pub async fn run_plugin(settings: ServeSettings, env: PluginEnv) -> Result<Ended, PluginError> {
    let signals = Signals::listen(false)?;
    let defect = defect(&settings);
    let habit = settings.broken.and_then(Saboteur::habit);
    if let Some(status) = habit.and_then(Habit::first) {
        return Ok(Ended::ByDefect(status));
    }
    match defect {
        Some(Defect::ExitAtOnce) => return Ok(Ended::ByDefect(3)),
        Some(Defect::Silence) => {
            signals.ended().await;
            return Ok(Ended::InOrder);
        }
        _ => {}
    }
    let (mode, tls) = plugin_tls(&settings, &env)?;
    let announced = (mode == TlsMode::Auto && tls.mode != TlsMode::None).then(|| tls.identity.clone()).flatten();
    let config = server_config(&tls)?;
    let listener = plugin_listener(&settings, &env).await?;
    let line = Line {
        protocol: choose_version(&env.protocol_versions, &settings.versions).unwrap_or(1),
        target: listener.target().clone(),
        kind: Kind::Grpc,
        cert: announced.map(|identity| identity.leaf_der().to_vec()),
        multiplex: env.multiplex_asked.then_some(false),
    };
    let printed = |result: io::Result<()>| result.map_err(|error| PluginError::Io { what: "print to stdout", error });
    if let Some(habit) = habit.filter(|habit| habit.leaves()) {
        // It listens until it ends, and takes no connection.
        printed(habit.print(&line.to_string()))?;
        return Ok(Ended::ByDefect(habit.leave()));
    }
    let (stdio, end) = (Stdio::new(), CancellationToken::new());
    let content = content(&settings, settings.echo.then(|| Arc::clone(&stdio)))?;
    let app = App::plugin(content, Arc::clone(&stdio), end.clone());
    let running = start(listener, config, app.broken(settings.broken), settings.log);
    let announcement = Announcement { line };
    let text = match defect {
        Some(defect) => defect.print(&announcement)?,
        None => Some(announcement.line.to_string()),
    };
    if defect == Some(Defect::LateLine) {
        tokio::time::sleep(settings.late.unwrap_or(LATE)).await;
    }
    match (habit, text) {
        (Some(habit), Some(text)) => {
            printed(habit.print(&text))?;
            habit.after_line();
        }
        (None, Some(text)) => say(&text)?,
        (_, None) => {}
    }
    settings.log.info(&format!("serving {} at {} with tls {mode}", settings.serves.name(), announcement.line.target));
    if habit.is_some_and(Habit::stays) {
        std::future::pending::<()>().await;
    }
    tokio::select! {
        () = end.cancelled() => settings.log.debug("ending, as the host asked"),
        () = signals.ended() => settings.log.debug("ending, by signal"),
    }
    // Streams that only the plugin ends must end, whoever asked.
    end.cancel();
    running.end(END_GRACE).await;
    Ok(Ended::InOrder)
}

/// Serves at an address until a signal ends it.
///
/// # Errors
/// When it cannot listen.
pub async fn run_direct(
    settings: ServeSettings,
    address: Target,
    ready: impl FnOnce(&Target),
) -> Result<Ended, PluginError> {
    let signals = Signals::listen(true)?;
    let mode = settings.mode.unwrap_or(TlsMode::None);
    if mode == TlsMode::Auto {
        let text = "AutoMTLS needs a go-plugin host; without one use --tls none, server or mutual";
        return Err(PluginError::Settings(text.to_owned()));
    }
    let tls = TlsSpec { mode, ..settings.tls.clone() };
    let config = server_config(&defect(&settings).map_or(tls.clone(), |defect| defect.tls(tls)))?;
    let listener = listen(&address).await?;
    let target = listener.target().clone();
    let text = format!("serving {} at {target} with tls {mode}", settings.serves.name());
    let running = start(listener, config, App::direct(content(&settings, None)?).broken(settings.broken), settings.log);
    ready(&target);
    say(&text)?;
    signals.ended().await;
    running.end(END_GRACE).await;
    Ok(Ended::InOrder)
}

fn defect(settings: &ServeSettings) -> Option<Defect> {
    settings.broken.and_then(Saboteur::defect)
}

/// The mode that was decided and the TLS that is done, which differ for liars.
fn plugin_tls(settings: &ServeSettings, env: &PluginEnv) -> Result<(TlsMode, TlsSpec), PluginError> {
    let default = if env.client_cert.is_some() { TlsMode::Auto } else { TlsMode::None };
    let mode = settings.mode.unwrap_or(default);
    let mut tls = TlsSpec { mode, ..settings.tls.clone() };
    if mode == TlsMode::Auto {
        let Some(pem) = &env.client_cert else {
            let text = "AutoMTLS was asked for by --tls auto, and the host sent no PLUGIN_CLIENT_CERT";
            return Err(PluginError::Settings(text.to_owned()));
        };
        tls.ca = Some(Arc::new(Identity::trust_from_pem(pem.as_bytes(), "PLUGIN_CLIENT_CERT")?));
        if tls.identity.is_none() {
            tls.identity = Some(identity_for(defect(settings), settings.key.unwrap_or(DEFAULT_KEY))?);
        }
    }
    Ok((mode, defect(settings).map_or(tls.clone(), |defect| defect.tls(tls))))
}

async fn plugin_listener(settings: &ServeSettings, env: &PluginEnv) -> Result<Listener, PluginError> {
    if let Some(address) = &settings.address {
        return listen(address).await;
    }
    let asked = settings.transport.unwrap_or(Transport::Unix);
    match defect(settings).map_or(asked, |defect| defect.transport(asked)) {
        Transport::Tcp => {
            let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let (min, max) = settings.ports.or(env.ports).unwrap_or((0, 0));
            let bound = if min == 0 {
                Listener::tcp((host, 0).into()).await
            } else {
                Listener::tcp_in_range(host, min, max).await
            };
            bound.map_err(|error| PluginError::Listen { at: host.to_string(), error })
        }
        Transport::Unix => {
            let folder = env.socket_dir.clone().unwrap_or_else(std::env::temp_dir);
            let path = folder.join(format!("plugin-{}", random_name()));
            Listener::unix(&path).map_err(|error| PluginError::Listen { at: format!("`{}`", path.display()), error })
        }
    }
}

/// A name that no other plugin has. From std's own randomness: the crypto library's first random
/// byte costs tens of milliseconds where it gathers CPU jitter, and a plaintext plugin needs none.
fn random_name() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(std::time::SystemTime::now()))
}

async fn listen(address: &Target) -> Result<Listener, PluginError> {
    let bound = match address {
        Target::Tcp(address) => Listener::tcp(*address).await,
        Target::Unix(path) => Listener::unix(path),
    };
    bound.map_err(|error| PluginError::Listen { at: address.to_string(), error })
}

fn content(settings: &ServeSettings, echo: Option<Arc<Stdio>>) -> Result<Content, PluginError> {
    Ok(match settings.serves {
        Serves::Kv => Content::Kv { store: store(settings.storage.as_deref())?, echo },
        Serves::Stock(mistake) => Content::Stock(stock::app(mistake, crate::peer::Limits::default())),
    })
}

fn store(folder: Option<&Path>) -> Result<Arc<Store>, PluginError> {
    Ok(Arc::new(match folder {
        Some(folder) => {
            Store::folder(folder).map_err(|error| PluginError::Storage { path: folder.to_owned(), error })?
        }
        None => Store::near(),
    }))
}

/// stdout carries this one line and nothing else.
fn say(text: &str) -> Result<(), PluginError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| PluginError::Io { what: "print to stdout", error })
}

/// SIGTERM ends; SIGINT only a server that people started: a plugin leaves Ctrl-C to its host.
struct Signals {
    end: CancellationToken,
}

impl Signals {
    fn listen(interrupt_ends: bool) -> Result<Self, PluginError> {
        let failed = |error| PluginError::Io { what: "listen for signals", error };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let end = CancellationToken::new();
        let seen = end.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => if interrupt_ends { break },
                }
            }
            seen.cancel();
        });
        Ok(Self { end })
    }

    async fn ended(&self) {
        self.end.cancelled().await;
    }
}
