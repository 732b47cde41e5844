//! What a script stands on: the case's connection, and those that the script makes itself. A script
//! that ends servers or has several of them has its own, all on one storage folder; any other
//! borrows a lane that it may share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Map;

use super::answer::Stop;
use super::case::{Job, LaneLease, in_turn};
use super::context::RunContext;
use super::lane::{self, DirectServer, Lane, LaneRequest, StartFailure};
use super::tls::SideSpecs;
use crate::axis::options::{ChannelOptions, Limits};
use crate::axis::values::Launch;
use crate::scenario::model::{ConnectDef, ServerAct};

/// Connections that one script may make.
const MAX_CONNECTIONS: usize = 64;
/// What the end of a server may take beyond its grace.
const END_SLACK: Duration = Duration::from_secs(3);

/// The instances of one attempt.
pub(super) struct Ground<'a> {
    run: &'a RunContext,
    job: &'a Job,
    lease: Option<LaneLease>,
    main: Arc<Spot>,
    others: Mutex<Vec<Arc<Spot>>>,
    /// Connections that were asked for, also while they are being made.
    asked: AtomicUsize,
    /// The connection that the newest step is about.
    focus: Mutex<Arc<Spot>>,
    /// Servers end and start one after another.
    turn: tokio::sync::Mutex<()>,
    storage: PathBuf,
}

/// A place for a connection, whether or not there is one at the moment.
pub(super) struct Spot {
    pub(super) name: Option<String>,
    /// What it asks for, where that is not what the case asks.
    wish: Option<Job>,
    specs: Option<SideSpecs>,
    now: Mutex<Now>,
    /// The server that the engine started for it.
    server: Option<Arc<ServerSpot>>,
    wishes: Wishes,
}

/// What a connection asks for beside the axes.
#[derive(Debug, Clone, Copy, Default)]
struct Wishes {
    options: ChannelOptions,
    /// Of its server.
    limits: Limits,
    refuse: bool,
}

/// What a step finds at a spot.
#[derive(Clone, Default)]
pub(super) struct Now {
    /// The connection; under a plugin launch there is none while the plugin is down.
    pub(super) lane: Option<Arc<Lane>>,
    /// The step that ended the server.
    pub(super) down: Option<String>,
}

/// A place for a directly started server.
struct ServerSpot {
    specs: SideSpecs,
    wish: Option<Job>,
    limits: Limits,
    server: Mutex<Option<Arc<DirectServer>>>,
}

impl Spot {
    pub(super) fn now(&self) -> Now {
        lock(&self.now).clone()
    }

    fn put(&self, lane: Lane) {
        let before = std::mem::replace(&mut *lock(&self.now), Now { lane: Some(Arc::new(lane)), down: None });
        drop(before);
    }

    /// What the case asks, or what this connection asks in its place.
    pub(super) fn job<'a>(&'a self, case: &'a Job) -> &'a Job {
        self.wish.as_ref().unwrap_or(case)
    }
}

impl<'a> Ground<'a> {
    /// Stands on a lane that others may use too.
    pub(super) fn borrowed(run: &'a RunContext, job: &'a Job, lease: LaneLease) -> Self {
        let now = Now { lane: Some(Arc::clone(lease.value())), down: None };
        let wishes = Wishes::default();
        let main = Spot { name: None, wish: None, specs: None, now: Mutex::new(now), server: None, wishes };
        Self::of(run, job, main, Some(lease), PathBuf::new())
    }

    /// Starts a server and a connection of its own.
    pub(super) async fn own(run: &'a RunContext, job: &'a Job, specs: SideSpecs) -> Result<Self, Box<StartFailure>> {
        let storage = run.fresh_folder().map_err(|e| Box::new(run.start_failure(&e)))?;
        let server = match job.request.launch {
            Some(Launch::Plugin) => None,
            _ => Some(Arc::new(ServerSpot {
                specs: specs.clone(),
                wish: None,
                limits: Limits::default(),
                server: Mutex::default(),
            })),
        };
        let wishes = Wishes::default();
        let main = Spot { name: None, wish: None, specs: Some(specs), now: Mutex::default(), server, wishes };
        let ground = Self::of(run, job, main, None, storage);
        if let Some(server) = &ground.main.server {
            ground.serve(server).await?;
        }
        ground.reach(&ground.main).await?;
        Ok(ground)
    }

    fn of(run: &'a RunContext, job: &'a Job, main: Spot, lease: Option<LaneLease>, storage: PathBuf) -> Self {
        let main = Arc::new(main);
        Self {
            run,
            job,
            lease,
            focus: Mutex::new(Arc::clone(&main)),
            main,
            others: Mutex::default(),
            asked: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::default(),
            storage,
        }
    }

    /// The case's own connection.
    pub(super) const fn main(&self) -> &Arc<Spot> {
        &self.main
    }

    /// The connections that the script made.
    pub(super) fn others(&self) -> Vec<Arc<Spot>> {
        lock(&self.others).clone()
    }

    /// A step is about this connection.
    pub(super) fn look_at(&self, spot: &Arc<Spot>) {
        if self.lease.is_none() {
            *lock(&self.focus) = Arc::clone(spot);
        }
    }

    /// The connection that the newest step is about.
    pub(super) fn focus(&self) -> Arc<Spot> {
        Arc::clone(&lock(&self.focus))
    }

    /// The lease of a lane that others may use.
    pub(super) const fn lease(&self) -> Option<&LaneLease> {
        self.lease.as_ref()
    }

    /// Another connection.
    pub(super) async fn connect(&self, connect: &ConnectDef) -> Result<Arc<Spot>, Stop> {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            let text = format!(
                "the script makes more than {MAX_CONNECTIONS} connections; make them outside of `repeat` and `parallel`"
            );
            return Err(Stop::Script(text));
        }
        let wish = self.job.asking(connect);
        let chosen_by = |axis: &str| self.run.plan.chosen_by(&wish.case, axis);
        let specs = SideSpecs::of(&self.run.authority, &wish.request, chosen_by)
            .await
            .map_err(|e| Stop::Script(format!("the keys of the connection `{}` cannot be made: {e}", connect.name)))?;
        let own = |specs: &SideSpecs| ServerSpot {
            specs: specs.clone(),
            wish: Some(wish.clone()),
            limits: connect.server_limits,
            server: Mutex::default(),
        };
        let server = match &self.main.server {
            None => None,
            Some(_) if connect.needs_own_server() => Some(Arc::new(own(&specs))),
            Some(main) => Some(Arc::clone(main)),
        };
        if let Some(server) = &server
            && connect.needs_own_server()
        {
            self.serve(server).await.map_err(Stop::NoLane)?;
        }
        let name = Some(connect.name.clone());
        let wishes = Wishes { options: connect.options, limits: connect.server_limits, refuse: connect.refuse };
        let spot = Spot { name, wish: Some(wish), specs: Some(specs), now: Mutex::default(), server, wishes };
        let spot = Arc::new(spot);
        self.reach(&spot).await.map_err(Stop::NoLane)?;
        lock(&self.others).push(Arc::clone(&spot));
        Ok(spot)
    }

    /// Ends and starts the server behind a connection; the step is named in what fails meanwhile.
    pub(super) async fn server(&self, spot: &Arc<Spot>, act: ServerAct, step: &str) -> Result<(), Stop> {
        let _turn = self.turn.lock().await;
        let down = spot.now().down;
        match (act, down) {
            (ServerAct::Start, None) => {
                let text =
                    format!("`{step}`: the server runs, so that it cannot be started; stop it first, or `restart`");
                return Err(Stop::Script(text));
            }
            (ServerAct::Stop, Some(by)) => {
                return Err(Stop::Script(format!("`{step}`: the server is down already, `{by}` ended it")));
            }
            (_, down) if act != ServerAct::Start && down.is_none() => self.end(spot, step).await?,
            _ => {}
        }
        if act == ServerAct::Stop { Ok(()) } else { self.begin(spot).await.map_err(Stop::NoLane) }
    }

    async fn end(&self, spot: &Arc<Spot>, step: &str) -> Result<(), Stop> {
        let within = self.run.plan.scenario().timeouts.grace + END_SLACK;
        let too_long = |_| Stop::Script(format!("`{step}`: the server did not end within {within:?}"));
        let Some(server) = &spot.server else {
            let lane = std::mem::replace(&mut *lock(&spot.now), Now { lane: None, down: Some(step.to_owned()) }).lane;
            let Some(lane) = lane else { return Ok(()) };
            let gone = lane.leave();
            drop(lane);
            return tokio::time::timeout(within, gone.cancelled()).await.map_err(too_long);
        };
        for user in self.users(server) {
            let mut now = lock(&user.now);
            now.down = Some(step.to_owned());
            if let Some(lane) = &now.lane {
                lane.senses.end();
            }
        }
        let running = lock(&server.server).take();
        match running {
            Some(running) => tokio::time::timeout(within, running.end()).await.map_err(too_long),
            None => Ok(()),
        }
    }

    async fn begin(&self, spot: &Arc<Spot>) -> Result<(), Box<StartFailure>> {
        let Some(server) = &spot.server else { return self.reach(spot).await };
        self.serve(server).await?;
        for user in self.users(server) {
            self.reach(&user).await?;
        }
        Ok(())
    }

    /// The connections to a server.
    fn users(&self, server: &Arc<ServerSpot>) -> Vec<Arc<Spot>> {
        let all = [Arc::clone(&self.main)].into_iter().chain(self.others());
        all.filter(|spot| spot.server.as_ref().is_some_and(|own| Arc::ptr_eq(own, server))).collect()
    }

    async fn serve(&self, spot: &ServerSpot) -> Result<(), Box<StartFailure>> {
        let job = spot.wish.as_ref().unwrap_or(self.job);
        let folder = self.run.fresh_folder().map_err(|e| Box::new(self.run.start_failure(&e)))?;
        let wishes = Wishes { limits: spot.limits, ..Wishes::default() };
        let request = self.request(job, &spot.specs, folder, wishes);
        let alone = self.job.script.rules_servers();
        let server = in_turn(self.run, self.job, lane::serve(self.run, &request, alone)).await.map_err(Box::new)?;
        *lock(&spot.server) = Some(Arc::new(server));
        Ok(())
    }

    /// Makes the connection of a spot, in place of one that was there.
    async fn reach(&self, spot: &Spot) -> Result<(), Box<StartFailure>> {
        let job = spot.job(self.job);
        let Some(specs) = &spot.specs else { return Ok(()) };
        let lane = match &spot.server {
            None => {
                let folder = self.run.fresh_folder().map_err(|e| Box::new(self.run.start_failure(&e)))?;
                in_turn(self.run, self.job, lane::launch(self.run, self.request(job, specs, folder, spot.wishes))).await
            }
            Some(server) => {
                let running = lock(&server.server).clone();
                let Some(running) = running else {
                    let e = std::io::Error::other("the server is down");
                    return Err(Box::new(self.run.start_failure(&e)));
                };
                lane::connect(self.run, self.request(job, specs, PathBuf::new(), spot.wishes), running).await
            }
        };
        spot.put(lane.map_err(Box::new)?);
        Ok(())
    }

    fn request<'r>(&'r self, job: &'r Job, specs: &SideSpecs, folder: PathBuf, wishes: Wishes) -> LaneRequest<'r> {
        let plugin = job.request.launch == Some(Launch::Plugin);
        let storage: &Path = &self.storage;
        LaneRequest {
            job,
            client: &job.client,
            server: &job.server,
            service: &job.service,
            transport: job.request.transport,
            tls: specs.clone(),
            context: if plugin { self.run.command_context(job, specs, storage) } else { Map::new() },
            folder,
            storage: storage.to_owned(),
            host: self.run.plan.host_changes(&job.case),
            options: wishes.options,
            limits: wishes.limits,
            refuse: wishes.refuse,
            start: self.run.plan.scenario().timeouts.start,
            grace: self.run.plan.scenario().timeouts.grace,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
