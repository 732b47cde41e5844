//! Executes plans: admission, shared instances, attempts, senses, teardown. L5: reads `plan`, `peer`,
//! `wire`, `process`; gives events, and knows nothing of who reads them.
//!
//! `dispatcher` admits cases and owns the counts, `waiting` are those that cannot be yet, `stall` ends a run that stands still · `case` is one case from admission to record ·
//! `lane` gets a connection between two peers, `shims` follows its plugin · `pool` shares lanes and servers · `senses` watch a
//! lane, `far` is what its server tells, `progress` is how far an attempt has come · `ground` is what a script stands on, `script` runs its operations there · `acts` are ops of
//! clients that know no messages · `alone` are roles without a plan, for the shell · `peers` prepares peers · `outside` are peers that are only programs ·
//! `tls` makes certificates · `context` is what the cases of a run have in common.

mod acts;
pub mod alone;
mod answer;
mod case;
mod compose;
mod context;
mod debug;
mod dispatcher;
mod far;
mod ground;
mod lane;
mod outside;
mod peers;
mod pool;
mod programs;
mod progress;
mod script;
mod senses;
mod settings;
mod shims;
mod stall;
mod starts;
mod tls;
mod transcript;
mod waiting;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

use self::context::{Codecs, RunContext};
pub use self::debug::Debug;
use self::dispatcher::Dispatcher;
pub use self::dispatcher::{Stop, Totals};
pub use self::peers::{COOKIE, driver_program};
use self::peers::{Peers, PeersParts};
use self::pool::Pool;
use self::programs::PluginSpawner;
pub use self::settings::Settings;
use self::stall::Pulse;
pub use self::stall::Stalled;
use crate::dynamic;
use crate::event::RunEvent;
use crate::peer::build::Builder;
use crate::peer::builtin::{BuiltinClient, BuiltinServer};
use crate::pki::Authority;
use crate::plan::{Plan, Selection};
use crate::process::Spawner;
use crate::process::hub::Hub;
use crate::process::scratch::Scratch;
use crate::scenario::model::Scenario;

/// How much longer than a peer's own grace the end of a run waits for teardowns.
const TEARDOWN_SLACK: Duration = Duration::from_secs(3);

/// What is to be run.
pub struct Engine {
    /// Plans with the selection of each, in order.
    pub plans: Vec<(Arc<Plan>, Selection)>,
    /// What all of them stand on.
    pub ground: Ground,
    /// Settings for all of them.
    pub settings: Settings,
    /// Where builds are kept.
    pub cache: PathBuf,
    /// Takes events, in order.
    pub events: mpsc::Sender<RunEvent>,
    /// When to stop.
    pub stop: watch::Receiver<Stop>,
    /// Becomes true before the last event of a run that stood still.
    pub stalled: Stalled,
}

/// Why a run cannot even begin.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No folder for keys and sockets.
    #[error("the run cannot begin: {0}")]
    Scratch(std::io::Error),
    /// No certificate authority.
    #[error("the run's certificate authority cannot be made: {0}")]
    Authority(crate::pki::PkiError),
    /// No control socket.
    #[error("the control socket of the shim cannot be made: {0}")]
    Hub(std::io::Error),
    /// No spawning thread.
    #[error("the thread that starts processes cannot be started: {0}")]
    Spawner(std::io::Error),
}

/// A temporary folder and the thread that starts processes: what can be missing before a run begins.
#[derive(Debug)]
pub struct Ground {
    scratch: Arc<Scratch>,
    spawner: Spawner,
}

impl Ground {
    /// Prepares it.
    ///
    /// # Errors
    /// When the folder cannot be made or the thread not be started.
    pub fn prepare() -> Result<Self, EngineError> {
        let scratch = Scratch::new().map_err(EngineError::Scratch)?;
        let marker = scratch.path().to_string_lossy().into_owned();
        let temporary = scratch.folder("tmp").map_err(EngineError::Scratch)?;
        let spawner = Spawner::start(&marker).map_err(EngineError::Spawner)?.with_temporary(&temporary);
        Ok(Self { scratch: Arc::new(scratch), spawner })
    }
}

/// What the plans of one run share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    started: Instant,
    scratch: &'a Arc<Scratch>,
    spawner: &'a Spawner,
    builder: &'a Arc<Builder>,
}

impl Engine {
    /// Runs everything to its end, or as far as it is let.
    ///
    /// # Errors
    /// When it cannot even begin.
    pub async fn run(self) -> Result<Totals, EngineError> {
        let started = Instant::now();
        let Ground { scratch, spawner } = &self.ground;
        let builder = Arc::new(Builder::new(self.cache.clone(), self.settings.rebuild, spawner.clone()));
        let mut totals = Totals::default();
        let mut folders = 0;
        for (number, (plan, selection)) in self.plans.iter().enumerate() {
            // Each plan has keys of its own, in a folder of their own.
            let keys = scratch.path().join(format!("pki-{number}"));
            let authority = Authority::new(Some(&keys)).map_err(EngineError::Authority)?;
            let hub = Hub::bind(scratch.path()).map_err(EngineError::Hub)?;
            let run =
                self.context(plan, Shared { started, scratch, spawner, builder: &builder }, authority, hub, folders);
            let dispatcher = Dispatcher { run: Arc::clone(&run), events: self.events.clone(), stop: self.stop.clone() };
            totals = dispatcher.run(plan.cases(selection), totals).await;
            self.take_down(&run).await;
            folders = run.folders.load(std::sync::atomic::Ordering::Relaxed);
            if totals.interrupted {
                break;
            }
        }
        Ok(totals)
    }

    fn context(
        &self,
        plan: &Arc<Plan>,
        shared: Shared<'_>,
        authority: Authority,
        hub: Hub,
        folders: u64,
    ) -> Arc<RunContext> {
        let Shared { started, scratch, spawner, builder } = shared;
        let settings = self.settings.clone();
        let scenario = plan.scenario();
        let idle = settings.idle;
        Arc::new(RunContext {
            peers: Peers::new(PeersParts {
                plan: Arc::clone(plan),
                builder: Arc::clone(builder),
                spawner: spawner.clone(),
                events: self.events.clone(),
                builtin_client: Arc::new(BuiltinClient::new(PluginSpawner(spawner.clone()))),
                builtin_server: Arc::new(BuiltinServer::default()),
                require: settings.require_peers,
                log_level: settings.peer_log_level.clone(),
            }),
            plan: Arc::clone(plan),
            starts: Semaphore::new(settings.starts),
            settings,
            authority,
            hub,
            pulse: Pulse::watch(&scenario.timeouts, started, self.events.clone(), self.stalled.clone()),
            lanes: Pool::new(idle),
            servers: Pool::new(idle),
            codecs: codecs(scenario),
            teardown: TaskTracker::new(),
            scratch: Arc::clone(scratch),
            started,
            folders: AtomicU64::new(folders),
            void_told: std::sync::Mutex::default(),
        })
    }

    /// Ends everything that is still up, in order, unless the user wants out at once.
    async fn take_down(&self, run: &RunContext) {
        run.pulse.wind_down();
        run.peers.give_up();
        run.lanes.clear();
        run.servers.clear();
        run.teardown.close();
        let mut stop = self.stop.clone();
        let in_order = async {
            run.teardown.wait().await;
            run.peers.end().await;
        };
        tokio::select! {
            () = in_order => {}
            () = tokio::time::sleep(run.plan.scenario().timeouts.grace + TEARDOWN_SLACK) => {}
            _ = stop.wait_for(|s| *s == Stop::AtOnce) => {}
        }
    }
}

/// The codec of each service. Each knows the methods of the others by their full names.
fn codecs(scenario: &Scenario) -> Codecs {
    let load = |(name, service): (&String, _)| (name.clone(), dynamic::Service::load(service));
    let loaded: Vec<_> = scenario.services.iter().map(load).collect();
    let codec = |(name, service): &(String, Result<dynamic::Service, dynamic::DynamicError>)| {
        let others = loaded.iter().filter(|(other, _)| other != name).filter_map(|(_, other)| other.as_ref().ok());
        let service = service.clone().map(|service| Arc::new(service.beside(others)));
        (name.clone(), service.map_err(|e| e.to_string()))
    };
    loaded.iter().map(codec).collect()
}
