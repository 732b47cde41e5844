//! One case from admission to record: attempts, retries, what was seen, what that means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::answer::{Failure, Stop};
use super::context::RunContext;
use super::ground::{Ground, Spot};
use super::lane::{self, LAST_EXIT, Lane, LaneRequest, StartFailure};
use super::pool::Lease;
use super::progress::Progress;
use super::script::{self, Scene};
use super::tls::SideSpecs;
use super::transcript::Transcript;
use crate::axis::options::{ChannelOptions, Limits};
use crate::axis::values::{Launch, Request};
use crate::event::{Attempt, CaseRecord};
use crate::outcome::diagnose::{self, Diagnosis};
use crate::outcome::effective::effective;
use crate::outcome::evidence::{Evidence, RanOut, Reported, Side};
use crate::outcome::{Cause, Certainty, Effective, Ending, Expected, FactReading, Observation, Phase, verdict};
use crate::plan::Case;
use crate::scenario::model::{ConnectDef, Isolation, Script};

/// The cause of all that a driver had under way when it ended.
const DRIVER_GONE: &str = "driver.broken";
/// A start that takes longer gives its place to the next one.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Everything about a case that does not change between attempts.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) case: Case,
    pub(super) key: String,
    pub(super) id: String,
    pub(super) slug: String,
    pub(super) axes: BTreeMap<String, String>,
    pub(super) request: Request,
    pub(super) client: String,
    pub(super) server: String,
    pub(super) service: String,
    pub(super) isolation: Isolation,
    pub(super) script: Arc<Script>,
    pub(super) expected: Expected,
    /// Of the attempt that is under way.
    pub(super) progress: Progress,
}

/// Which connection a case can share: everything that affects it, by name.
pub(super) type LaneKey = Arc<[(String, String)]>;

impl Job {
    /// A record without attempts.
    pub(super) fn record(&self, run: &RunContext, started: Instant) -> CaseRecord {
        CaseRecord {
            index: self.case.index,
            key: self.key.clone(),
            id: self.id.clone(),
            scenario: run.plan.scenario().name.clone(),
            script: self.script.name.clone(),
            axes: self.axes.clone(),
            expected: self.expected.clone(),
            flaky_allowed: run.plan.scenario().retry.flaky_allowed,
            attempts: Vec::new(),
            not_run: None,
            started_ms: u64::try_from(started.duration_since(run.started).as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Job {
    /// The same with what a further connection asks in place of what the case asks.
    pub(super) fn asking(&self, connect: &ConnectDef) -> Self {
        let mut job = self.clone();
        for (axis, value) in &connect.with {
            job.axes.insert(axis.clone(), (*value).to_owned());
            job.request.ask(axis, value);
        }
        job
    }
}

/// Executes a case with its retries.
pub(super) async fn execute(run: &RunContext, job: &Job) -> CaseRecord {
    let mut record = job.record(run, Instant::now());
    let retry = &run.plan.scenario().retry;
    let mut fresh = false;
    let mut counted = 0;
    loop {
        run.pulse.moved();
        let (mut attempt, shared) = attempt(run, job, fresh).await;
        // A driver serves many cases, and this one need not be the one that brought it down.
        let shared = shared || cause_code(&attempt) == DRIVER_GONE;
        let ending = attempt.observation.ending;
        let red = verdict(&job.expected, [&attempt.observation], false).is_red();
        // An expected failure says nothing either where the ground was gone before the case came.
        let suspect = ending != Ending::Passed && (red || is_undermined(&attempt));
        let again = if shared && !fresh && suspect {
            attempt.on_shared = true;
            true
        } else if !red || ending == Ending::Passed {
            false
        } else {
            counted += 1;
            counted < retry.attempts && retry.only.contains(&ending) && job.expected == Expected::Passed
        };
        record.attempts.push(attempt);
        if !again {
            break;
        }
        fresh = true;
    }
    if let [first, .., last] = record.attempts.as_slice()
        && first.on_shared
        && first.observation.ending != last.observation.ending
    {
        // What the others used is to blame: nobody is to meet it again.
        run.lanes.forget(&run.lane_key(job));
        run.servers.forget(&run.server_key(job));
    }
    record
}

/// Whether an attempt failed because nothing was there any more: a driver that another case brought
/// down, a server that has ended.
fn is_undermined(attempt: &Attempt) -> bool {
    let code = cause_code(attempt);
    code == DRIVER_GONE || code.starts_with("connect.refused")
}

/// Empty for one that passed.
fn cause_code(attempt: &Attempt) -> &str {
    attempt.observation.cause.as_ref().map_or("", |cause| &cause.code)
}

/// One attempt, and whether it was on something that other cases used too.
async fn attempt(run: &RunContext, job: &Job, fresh: bool) -> (Attempt, bool) {
    // Keys are made before the clock starts: they are the run's cost, not the case's.
    let specs = match SideSpecs::of(&run.authority, &job.request, |axis| run.plan.chosen_by(&job.case, axis)).await {
        Ok(specs) => specs,
        Err(e) => {
            let cause = Cause { code: "tls.material".into(), certainty: Certainty::Observed, text: e.to_string() };
            return (could_not_run(Phase::Build, cause), false);
        }
    };
    // So are drivers: one serves many cases.
    let launch = job.request.launch.unwrap_or(Launch::Direct);
    let by_hand = run.settings.debug.as_ref().map(|debug| debug.side);
    if let Err(error) = run.peers.warm(&job.client, &job.server, launch, by_hand).await {
        let end = End::NoLane(Box::new(run.no_driver(job, error)), false);
        return (conclude(run, job, &end, Transcript::default(), None, Duration::ZERO), false);
    }
    let mut turn = run.peers.turn(&job.server, launch).await;
    run.pulse.moved();
    job.progress.reset();
    let started = Instant::now();
    let budget = run.plan.scenario().timeouts.case;
    let mut transcript = Transcript::default();
    let mut ground = None;
    let outcome = {
        let work = work(run, job, specs, fresh, turn.as_deref_mut(), &mut transcript, &mut ground);
        job.progress.within(budget, Box::pin(work)).await
    };
    let end = outcome.unwrap_or_else(|| {
        let waiting = transcript.waiting();
        let waiting = if waiting.is_empty() { "the peers to be connected" } else { &waiting };
        End::Timeout(format!("the case did not end within {budget:?}; it was waiting for {waiting}"))
    });
    transcript.fold();
    let lease = ground.as_ref().and_then(Ground::lease);
    let shared = match (&end, lease) {
        (End::NoLane(_, shared), _) => *shared,
        (_, Some(lease)) => lease.is_shared() || lease.value().shares_its_server(),
        _ => false,
    };
    let poison = !matches!(end, End::Passed | End::Check(_) | End::Script(_));
    if poison && let Some(lease) = lease {
        lease.poison();
    }
    let elapsed = started.elapsed().saturating_sub(job.progress.queued());
    (conclude(run, job, &end, transcript, ground.as_ref(), elapsed), shared)
}

/// How an attempt came to its end.
enum End {
    Passed,
    /// The client answered as if, and never sent anything.
    Pretended,
    Check(String),
    Script(String),
    Failed(Box<Failure>),
    /// The script called a server that it had ended.
    Down(String),
    /// It was certain before the client said anything.
    Certain(Box<Diagnosis>),
    Timeout(String),
    NoLane(Box<StartFailure>, bool),
}

pub(super) type LaneLease = Lease<Lane, Box<StartFailure>>;

async fn work<'a>(
    run: &'a RunContext,
    job: &'a Job,
    specs: SideSpecs,
    fresh: bool,
    turn: Option<&mut Option<LaneKey>>,
    transcript: &mut Transcript,
    slot: &mut Option<Ground<'a>>,
) -> End {
    let ground = if job.script.needs_own_instance() {
        if let Some(last) = turn.and_then(Option::take) {
            run.servers.forget(&last);
        }
        Ground::own(run, job, specs).await.map_err(|failure| (failure, false))
    } else {
        lease(run, job, specs, fresh, turn).await.map(|lease| Ground::borrowed(run, job, lease))
    };
    let ground = match ground {
        Ok(ground) => &*slot.insert(ground),
        Err((failure, shared)) => return End::NoLane(failure, shared),
    };
    let scenario = run.plan.scenario();
    let Some(service) = scenario.services.get(&job.service) else {
        return End::Script(format!("no service `{}`", job.service));
    };
    let codec = match run.codec(&job.service) {
        Ok(codec) => codec,
        Err(e) => return End::Script(e),
    };
    let mut context = run.script_context(job);
    let work = match job.script.uses_work.then(|| WorkFolder::make(run, &mut context)).transpose() {
        Ok(work) => work,
        Err(e) => return End::NoLane(Box::new(run.start_failure(&e)), false),
    };
    let scene = Scene {
        script: &job.script,
        service,
        codec: &codec,
        sources: &scenario.sources,
        ground,
        context: &context,
        op_timeout: scenario.timeouts.op,
        case_key: &job.key,
    };
    let result = script::run(scene, transcript).await;
    drop(work);
    match result {
        Ok(()) if ground.main().now().lane.is_some_and(|lane| lane.senses.saw_no_client()) => End::Pretended,
        Ok(()) => End::Passed,
        Err(Stop::Check(text)) => End::Check(text),
        Err(Stop::Script(text)) => End::Script(text),
        Err(Stop::Failed(failure)) => {
            let lane = ground.focus().now().lane.filter(|lane| lane.senses.has_line());
            if let Some(lane) = lane.filter(|_| may_have_left(&failure)) {
                // The connection is gone; that its server has ended is told by another way.
                let _ = tokio::time::timeout(LAST_EXIT, lane.senses.server_ended()).await;
            }
            End::Failed(failure)
        }
        Err(Stop::Certain(diagnosis)) => End::Certain(diagnosis),
        Err(Stop::Down(text)) => End::Down(text),
        Err(Stop::NoLane(failure)) => End::NoLane(failure, false),
    }
}

/// Whether a failed call is what the end of the server's process looks like from its client.
fn may_have_left(failure: &Failure) -> bool {
    let lost = |code: &str| ["UNAVAILABLE", "UNKNOWN", "INTERNAL", "CANCELLED"].contains(&code);
    match (&failure.reported.cause, &failure.reported.status) {
        (Some(cause), _) => lane::is_left(&cause.code),
        (None, Some(status)) => !failure.remote && lost(&status.code),
        (None, None) => false,
    }
}

/// `{{ work }}`: a folder of the case, gone with it.
struct WorkFolder<'a> {
    run: &'a RunContext,
    path: PathBuf,
}

impl<'a> WorkFolder<'a> {
    /// Makes it, and that of the run, and tells templates of both.
    fn make(run: &'a RunContext, context: &mut Map<String, Value>) -> std::io::Result<Self> {
        let shared = run.scratch.path().join("work");
        std::fs::create_dir_all(&shared)?;
        let path = run.fresh_folder()?;
        let text = |path: &std::path::Path| Value::String(path.to_string_lossy().into_owned());
        context.insert("work".into(), text(&path));
        context.insert("run".into(), serde_json::json!({ "work": text(&shared) }));
        Ok(Self { run, path })
    }
}

impl Drop for WorkFolder<'_> {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        self.run.teardown.spawn_blocking(move || crate::process::remove_tree(&path));
    }
}

/// A lane for the case: shared as far as its isolation allows.
async fn lease(
    run: &RunContext,
    job: &Job,
    specs: SideSpecs,
    fresh: bool,
    turn: Option<&mut Option<LaneKey>>,
) -> Result<LaneLease, (Box<StartFailure>, bool)> {
    let launch = job.request.launch.unwrap_or(Launch::Direct);
    let alone = fresh || job.isolation == Isolation::Case;
    let own_lane =
        alone || job.isolation == Isolation::Connection || run.peers.needs_own_lane(&job.client, &job.server);
    let timeouts = run.plan.scenario().timeouts;
    let request = |folder: PathBuf| {
        let plugin = launch == Launch::Plugin;
        let storage = if plugin { folder.join("storage") } else { folder.clone() };
        LaneRequest {
            job,
            client: &job.client,
            server: &job.server,
            service: &job.service,
            transport: job.request.transport,
            tls: specs.clone(),
            context: if plugin { run.command_context(job, &specs, &storage) } else { Map::new() },
            folder,
            storage,
            host: run.plan.host_changes(&job.case),
            options: ChannelOptions::default(),
            limits: Limits::default(),
            refuse: false,
            start: timeouts.start,
            grace: timeouts.grace,
        }
    };
    let mut lane_key = run.lane_key(job);
    if own_lane {
        lane_key = run.unique(&lane_key);
    }
    // What another case did to the server may be what this one failed at.
    let server_shared = AtomicBool::new(false);
    let start = async || -> Result<Lane, Box<StartFailure>> {
        match launch {
            Launch::Plugin => {
                let folder = run.fresh_folder().map_err(|e| Box::new(run.start_failure(&e)))?;
                in_turn(run, job, lane::launch(run, request(folder))).await.map_err(Box::new)
            }
            Launch::Direct => {
                let mut server_key = run.server_key(job);
                if alone {
                    server_key = run.unique(&server_key);
                }
                if let Some(turn) = turn
                    && let Some(last) = turn.replace(server_key.clone()).filter(|last| *last != server_key)
                {
                    // It may be up no longer, and is not wanted by anybody who runs now.
                    run.servers.forget(&last);
                }
                let server = run
                    .servers
                    .lease(&server_key, async || {
                        let folder = run.fresh_folder().map_err(|e| Box::new(run.start_failure(&e)))?;
                        in_turn(run, job, lane::serve(run, &request(folder), false)).await.map_err(Box::new)
                    })
                    .await;
                let server = match server {
                    Ok(server) => server,
                    Err((failure, _)) => {
                        run.servers.forget(&server_key);
                        return Err(failure);
                    }
                };
                let lane = lane::connect(run, request(PathBuf::new()), Arc::clone(server.value())).await;
                if alone {
                    run.servers.forget(&server_key);
                }
                server_shared.store(server.value().is_shared(), Ordering::Relaxed);
                lane.map_err(Box::new)
            }
        }
    };
    let leased = run.lanes.lease(&lane_key, start).await;
    if own_lane {
        run.lanes.forget(&lane_key);
    }
    leased.map_err(|(failure, shared)| (failure, shared || server_shared.load(Ordering::Relaxed)))
}

/// Takes a start's place for work on a processor. A start that waits rather than works gives it up.
pub(super) async fn in_turn<T>(run: &RunContext, job: &Job, start: impl Future<Output = T>) -> T {
    let queued = job.progress.queue();
    let permit = run.starts.acquire().await;
    drop(queued);
    let mut start = std::pin::pin!(start);
    if let Ok(started) = tokio::time::timeout(START_PATIENCE, &mut start).await {
        started
    } else {
        drop(permit);
        start.await
    }
}

/// From how it ended to what is recorded.
fn conclude(
    run: &RunContext,
    job: &Job,
    end: &End,
    transcript: Transcript,
    ground: Option<&Ground<'_>>,
    elapsed: Duration,
) -> Attempt {
    let focus = ground.map(Ground::focus);
    let lane = focus.as_ref().and_then(|spot| spot.now().lane);
    let lane = lane.as_ref();
    let reported = match end {
        End::Failed(failure) => Some(failure.reported.clone()),
        _ => None,
    };
    let passed = matches!(end, End::Passed);
    // A case that ran out of time while it was connecting has its evidence in what was begun.
    let begun = job.progress.begun().filter(|_| lane.is_none() && matches!(end, End::Timeout(_)));
    let ran_out = match end {
        End::Timeout(_) => Some(RanOut {
            phase: if lane.is_some() { Phase::Rpc } else { Phase::Connect },
            waiting_for: "case".into(),
            budget_ms: u64::try_from(run.plan.scenario().timeouts.case.as_millis()).unwrap_or(u64::MAX),
        }),
        _ => transcript.ran_out.clone(),
    };
    let evidence = match (end, lane) {
        (End::NoLane(failure, _), _) => (*failure.evidence).clone(),
        (_, Some(lane)) => lane.senses.evidence(reported, ran_out),
        _ if let Some(begun) = &begun => begun.senses.evidence(None, ran_out),
        _ => Evidence { timeout: ran_out, ..Evidence::default() },
    };
    let facts = match end {
        End::NoLane(..) => Vec::new(),
        _ => ground.map(|ground| facts(run, job, ground, passed, &evidence)).unwrap_or_default(),
    };
    let mut observation = Observation {
        ending: Ending::Passed,
        phase: None,
        cause: None,
        status: None,
        exit: None,
        alert: None,
        texts: Vec::new(),
        facts,
        checks: transcript.checks,
        checked: transcript.checked,
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
    };
    let observed = |code: &str, text: String| Cause { code: code.into(), certainty: Certainty::Observed, text };
    match end {
        End::Passed => {}
        End::Check(text) => {
            observation.ending = Ending::Failed;
            observation.phase = Some(Phase::Check);
            observation.status = transcript.status;
            observation.cause = Some(observed("check.failed", text.clone()));
        }
        End::Pretended => {
            let text = "every call was answered as it should be, and yet the client never sent anything to the server";
            observation.ending = Ending::CouldNotRun;
            observation.phase = Some(Phase::Driver);
            observation.cause = Some(observed("driver.pretends", text.into()));
        }
        End::Script(text) => {
            observation.ending = Ending::CouldNotRun;
            observation.phase = Some(Phase::Check);
            observation.cause = Some(observed("script.unusable", text.clone()));
        }
        End::Down(text) => {
            observation.ending = Ending::Failed;
            observation.phase = Some(Phase::Rpc);
            observation.cause = Some(observed("server.down", text.clone()));
        }
        End::Failed(failure) if failure.harness || failure.refused => {
            refuse(&mut observation, &failure.reported, failure.refused);
        }
        End::Failed(failure) => apply(&mut observation, diagnose::diagnose(&evidence), failure.timed_out),
        End::Certain(diagnosis) => apply(&mut observation, (**diagnosis).clone(), false),
        End::Timeout(text) => {
            // Our own words are no evidence, so they are only added to what is said.
            apply(&mut observation, diagnose::diagnose(&evidence), true);
            observation.texts.push(text.clone());
        }
        End::NoLane(failure, _) => match (&failure.error, &failure.certain) {
            (Some(error), _) if error.harness || error.refused => {
                refuse(&mut observation, &error.reported, error.refused);
            }
            (Some(error), _) => apply(&mut observation, diagnose::diagnose(&evidence), error.timed_out),
            (None, Some(certain)) => apply(&mut observation, (**certain).clone(), false),
            (None, None) => apply(&mut observation, diagnose::diagnose(&evidence), false),
        },
    }
    if let End::Failed(failure) = end {
        observation.texts.extend(failure.step.iter().map(|step| format!("in the step `{step}`")));
    }
    let differs = observation.facts.iter().any(crate::outcome::FactReading::differs);
    let telling = !passed || differs || run.settings.evidence_all;
    let (commands, output) = match (end, lane) {
        (End::NoLane(failure, _), _) => (failure.commands.clone(), failure.output.clone()),
        (_, Some(lane)) if telling => {
            let mut output = run.peers.outputs(&job.client, &job.server);
            let shared = ground.and_then(Ground::lease).is_some_and(Lease::is_shared);
            output.extend(lane.stdio_output(&job.server, shared));
            let (commands, printed) = lane.accounts(&job.client, &job.server, shared);
            output.extend(printed);
            // What was run in fact stands for how it was declared.
            let declared = lane.commands.iter().filter(|c| commands.iter().all(|run| run.role != c.role)).cloned();
            (declared.chain(commands.clone()).collect(), output)
        }
        _ => match begun {
            Some(begun) => (begun.commands, run.peers.outputs(&job.client, &job.server)),
            None => (Vec::new(), Vec::new()),
        },
    };
    Attempt {
        observation,
        on_shared: false,
        evidence: telling.then(|| Box::new(evidence)),
        ops: if telling { transcript.ops } else { Vec::new() },
        commands,
        output,
        folder: None,
    }
}

/// Requested against effective, for every connection of the case. Facts of connections that the
/// script made have its name before theirs: `other.key`.
fn facts(run: &RunContext, job: &Job, ground: &Ground<'_>, passed: bool, evidence: &Evidence) -> Vec<FactReading> {
    let focus = ground.focus();
    let mut all = Vec::new();
    for spot in [Arc::clone(ground.main())].into_iter().chain(ground.others()) {
        let Some(lane) = spot.now().lane else { continue };
        let of_starts = lane.senses.evidence_of_starts();
        if !of_starts.is_empty() {
            let readings = of_starts.iter().map(|own| facts_of(run, job, &spot, &lane, passed, own));
            all.extend(readings.reduce(joined).unwrap_or_default());
            continue;
        }
        let own = if Arc::ptr_eq(&spot, &focus) { evidence.clone() } else { lane.senses.evidence(None, None) };
        all.extend(facts_of(run, job, &spot, &lane, passed, &own));
    }
    all
}

/// The facts of two starts: of each the one that differs from what was asked, or the later one.
fn joined(earlier: Vec<FactReading>, later: Vec<FactReading>) -> Vec<FactReading> {
    let mut all = later;
    for reading in earlier {
        match all.iter_mut().find(|own| own.fact == reading.fact) {
            Some(own) if reading.differs() || own.effective == Effective::NotObservable => *own = reading,
            Some(_) => {}
            None => all.push(reading),
        }
    }
    all
}

fn facts_of(
    run: &RunContext,
    job: &Job,
    spot: &Spot,
    lane: &Lane,
    passed: bool,
    evidence: &Evidence,
) -> Vec<FactReading> {
    let ends = [lane.connection().and_then(super::super::peer::Connection::facts), lane.senses.server_facts()];
    let ends: Vec<_> = ends.into_iter().flatten().collect();
    let report_only = |fact: &str, effective: &Effective| match effective {
        Effective::Value(value) => run.plan.softened(&job.case, fact, value),
        Effective::NotObservable => None,
    };
    let mut facts = effective(&spot.job(job).request, evidence, &ends, passed, &report_only);
    if let Some(name) = &spot.name {
        for reading in &mut facts {
            reading.fact = format!("{name}.{}", reading.fact);
        }
    }
    facts
}

fn apply(observation: &mut Observation, diagnosis: Diagnosis, timed_out: bool) {
    observation.ending = match diagnosis.ending {
        Ending::Failed if timed_out && !is_definite(&diagnosis) => Ending::TimedOut,
        other => other,
    };
    observation.phase = Some(diagnosis.phase);
    observation.cause = Some(diagnosis.cause);
    observation.status = diagnosis.status.or(observation.status.take());
    observation.exit = diagnosis.exit;
    observation.alert = diagnosis.alert;
    observation.texts = diagnosis.texts;
}

/// Whether a diagnosis says more than that a deadline passed.
fn is_definite(diagnosis: &Diagnosis) -> bool {
    !diagnosis.cause.code.starts_with("timeout") && diagnosis.cause.code != "rpc.deadline"
}

fn refuse(observation: &mut Observation, reported: &Reported, refused: bool) {
    observation.ending = if refused { Ending::RefusedByPeer } else { Ending::CouldNotRun };
    observation.phase = Some(reported.phase.unwrap_or(Phase::Driver));
    observation.cause = Some(reported.cause.clone().unwrap_or_else(|| Cause {
        code: "driver.failed".into(),
        certainty: Certainty::Reported,
        text: reported.error.clone(),
    }));
    observation.texts = vec![reported.error.clone()];
}

/// An attempt that did not get as far as the peers.
pub(super) fn could_not_run(phase: Phase, cause: Cause) -> Attempt {
    Attempt {
        observation: Observation {
            ending: Ending::CouldNotRun,
            phase: Some(phase),
            texts: vec![cause.text.clone()],
            cause: Some(cause),
            status: None,
            exit: None,
            alert: None,
            facts: Vec::new(),
            checks: Vec::new(),
            checked: 0,
            elapsed_us: 0,
        },
        on_shared: false,
        evidence: None,
        ops: Vec::new(),
        commands: Vec::new(),
        output: Vec::new(),
        folder: None,
    }
}

/// Both sides of a case as templates see them.
pub(super) fn side_value(run: &RunContext, peer: &str, side: Side) -> Value {
    let mut map = Map::new();
    if let Some(peer) = run.plan.scenario().peers.get(peer) {
        for (key, value) in &peer.facts {
            map.insert(key.clone(), value.clone().into());
        }
    }
    map.insert("name".into(), peer.into());
    map.insert("role".into(), (if side == Side::Client { "client" } else { "server" }).into());
    Value::Object(map)
}
