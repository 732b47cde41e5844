//! What the cases of one run have in common: the plan, the peers, the authority, what is shared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::case::{Job, LaneKey, side_value};
use super::lane::{DirectServer, Lane, StartFailure};
use super::peers::Peers;
use super::pool::Pool;
use super::settings::Settings;
use super::stall::Pulse;
use super::tls::SideSpecs;
use crate::axis::values::TlsMode;
use crate::outcome::evidence::{Evidence, Reported, Side};
use crate::outcome::{Cause, Certainty, Phase};
use crate::peer::PeerError;
use crate::pki::Authority;
use crate::plan::Plan;
use crate::process::hub::Hub;
use crate::process::scratch::Scratch;
use crate::scenario::model::Affects;
use crate::scenario::reads::ALL;

/// What reads and writes the messages of each service, or why it cannot be had.
pub(super) type Codecs = HashMap<String, Result<Arc<crate::dynamic::Service>, String>>;

/// Everything that the cases of one run share.
pub(super) struct RunContext {
    pub(super) plan: Arc<Plan>,
    pub(super) settings: Settings,
    pub(super) authority: Authority,
    pub(super) peers: Peers,
    pub(super) hub: Hub,
    pub(super) lanes: Pool<LaneKey, Lane, Box<StartFailure>>,
    pub(super) servers: Pool<LaneKey, DirectServer, Box<StartFailure>>,
    pub(super) codecs: Codecs,
    /// Starts at a time.
    pub(super) starts: Semaphore,
    /// Tells when the run stands still.
    pub(super) pulse: Pulse,
    /// Endings that the run waits for.
    pub(super) teardown: TaskTracker,
    pub(super) scratch: Arc<Scratch>,
    pub(super) started: Instant,
    pub(super) folders: AtomicU64,
    /// Rules that were said to be void.
    pub(super) void_told: std::sync::Mutex<std::collections::HashSet<String>>,
}

impl RunContext {
    /// The codec of a service of the scenario.
    pub(super) fn codec(&self, service: &str) -> Result<Arc<crate::dynamic::Service>, String> {
        match self.codecs.get(service) {
            Some(codec) => codec.clone(),
            None => Err(format!("no service `{service}`")),
        }
    }

    /// The full protobuf name of a service.
    pub(super) fn service_name(&self, service: &str) -> String {
        self.plan.scenario().services.get(service).map_or_else(|| service.to_owned(), |s| s.service.clone())
    }

    /// An empty folder of its own.
    pub(super) fn fresh_folder(&self) -> std::io::Result<PathBuf> {
        let folder = self.scratch.path().join(self.folders.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// A failure of the harness itself.
    pub(super) fn harness_error(code: &str, text: &str) -> PeerError {
        PeerError {
            reported: Reported {
                phase: Some(Phase::Spawn),
                error: text.into(),
                native: None,
                status: None,
                cause: Some(Cause { code: code.into(), certainty: Certainty::Observed, text: text.into() }),
            },
            refused: false,
            harness: true,
            timed_out: false,
        }
    }

    /// A lane that cannot even be tried.
    pub(super) fn start_failure(&self, error: &std::io::Error) -> StartFailure {
        let text = format!("a folder for the peers cannot be made in {}: {error}", self.scratch.path().display());
        StartFailure {
            evidence: Box::new(Evidence::default()),
            certain: None,
            error: Some(Self::harness_error("spawn.folder", &text)),
            commands: Vec::new(),
            output: Vec::new(),
        }
    }

    /// A case whose driver is not to be had.
    pub(super) fn no_driver(&self, job: &Job, error: PeerError) -> StartFailure {
        StartFailure {
            evidence: Box::default(),
            certain: None,
            error: Some(error),
            commands: vec![
                self.peers.command(&job.client, Side::Client),
                self.peers.command(&job.server, Side::Server),
            ],
            output: self.peers.outputs(&job.client, &job.server),
        }
    }

    /// What a case's connection depends on.
    pub(super) fn lane_key(&self, job: &Job) -> LaneKey {
        self.key(job, Affects::Connection)
    }

    /// What a case's directly started server depends on.
    pub(super) fn server_key(&self, job: &Job) -> LaneKey {
        self.key(job, Affects::Server)
    }

    fn key(&self, job: &Job, from: Affects) -> LaneKey {
        let names = self.peers.reads(&job.server);
        let reads = |axis: &str| names.contains(axis) || names.contains(ALL);
        // Only the server's end sees the certificate of a client, so that it must know whose it is.
        let whose = job.request.client_key.is_some();
        let matters = |axis: &str| match axis {
            "client" => from <= Affects::Client || whose || reads(axis),
            "client_key" if whose => true,
            "server" | "service" => true,
            _ => self.plan.affects(&job.case, axis) >= from || reads(axis),
        };
        let axes = job.axes.iter().filter(|(axis, _)| matters(axis));
        let script = names.contains("script").then(|| ("script".to_owned(), job.script.name.clone()));
        axes.map(|(axis, value)| (axis.clone(), value.clone())).chain(script).collect()
    }

    /// The same key, never equal to another.
    pub(super) fn unique(&self, key: &LaneKey) -> LaneKey {
        let n = self.folders.fetch_add(1, Ordering::Relaxed).to_string();
        key.iter().cloned().chain([(String::new(), n)]).collect()
    }

    /// What templates in scripts see.
    pub(super) fn script_context(&self, job: &Job) -> Map<String, Value> {
        let mut context = Map::new();
        context.insert("axes".into(), axes(job));
        context.insert("client".into(), side_value(self, &job.client, Side::Client));
        context.insert("server".into(), side_value(self, &job.server, Side::Server));
        context.insert("vars".into(), self.plan.scenario().vars.clone().into());
        context.insert("case".into(), serde_json::json!({"id": job.id, "key": job.key, "slug": job.slug}));
        context.insert("service".into(), serde_json::json!({"name": job.service}));
        context.insert("script".into(), serde_json::json!({"name": job.script.name}));
        context
    }

    /// What templates in a peer's command see: the case's axes, what its side is to do about TLS
    /// (empty texts where nothing is asked), and its storage folder.
    pub(super) fn command_context(&self, job: &Job, specs: &SideSpecs, storage: &Path) -> Map<String, Value> {
        let path = |p: Option<&Path>| Value::String(p.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default());
        let own = specs.server.identity.as_ref().and_then(|i| i.files());
        let ca = specs.server.ca.as_ref().and_then(|i| i.files());
        let tls = serde_json::json!({
            "mode": specs.mode.name(),
            "cert": path(own.map(|f| f.cert.as_path())),
            "key": path(own.and_then(|f| f.key.as_deref())),
            "ca": path(ca.map(|f| f.cert.as_path())),
            "client_auth": if specs.mode == TlsMode::Mutual { "require" } else { "" },
            "version": specs.server.version.map_or("", |v| v.name()),
            "group": specs.server.group.map_or("", |g| g.name()),
        });
        let mut context = Map::new();
        let mut asked: Map<String, Value> =
            crate::axis::table().iter().map(|def| (def.name.to_owned(), "".into())).collect();
        asked.extend(job.axes.iter().map(|(axis, value)| (axis.clone(), value.clone().into())));
        context.insert("axes".into(), asked.into());
        context.insert("tls".into(), tls);
        context.insert("vars".into(), self.plan.scenario().vars.clone().into());
        context.insert("storage".into(), path(Some(storage)));
        context
    }
}

/// The case's axes by name; those that do not apply are missing.
fn axes(job: &Job) -> Value {
    Value::Object(job.axes.iter().map(|(axis, value)| (axis.clone(), value.clone().into())).collect())
}
