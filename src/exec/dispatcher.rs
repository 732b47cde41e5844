//! Admits cases, owns the counts and the cancellation. Cases whose peers are still being built wait
//! aside while others run. Everything that reporters learn goes out as events from here.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::case::{self, Job};
use super::context::RunContext;
use super::peers::Readiness;
use super::progress::Progress;
use super::waiting::Waiting;
use crate::event::{CaseRecord, RunEvent};
use crate::outcome::{Cause, Certainty, Expected, Phase};
use crate::plan::Case;

/// Cases that wait for their peers, at most; beyond it admission itself waits.
const WAITING_LIMIT: usize = 100_000;

/// How far a run is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It goes on.
    No,
    /// Nothing new is admitted, what runs is cancelled and taken down in order.
    InOrder,
    /// Everything ends at once.
    AtOnce,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Cases with a record.
    pub finished: u64,
    /// Of which red.
    pub red: u64,
    /// It was stopped before its end.
    pub interrupted: bool,
}

pub(super) struct Dispatcher {
    pub(super) run: Arc<RunContext>,
    pub(super) events: mpsc::Sender<RunEvent>,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Dispatcher {
    /// Runs all cases to their end, or as far as it is let; `totals` are those of the plans before.
    pub(super) async fn run(mut self, mut cases: impl Iterator<Item = Case>, mut totals: Totals) -> Totals {
        let mut running: Running = JoinSet::new();
        let mut ready = self.run.peers.changed();
        let mut waiting = Waiting::new(*ready.borrow_and_update());
        let mut exhausted = false;
        loop {
            if *self.stop.borrow() > Stop::No {
                totals.interrupted = true;
                break;
            }
            if self.run.settings.fail_fast.is_some_and(|limit| totals.red >= limit) {
                self.leave_out(waiting, cases, &mut running, &mut totals).await;
                return totals;
            }
            // Admit as long as there is room: first those whose peers have become ready.
            let changes = *ready.borrow_and_update();
            waiting.look(changes, |case| self.run.peers.readiness(case) == Readiness::Pending);
            while running.len() < self.run.settings.jobs {
                if let Some(case) = waiting.next() {
                    self.admit(case, &mut running, &mut totals).await;
                    continue;
                }
                if exhausted || waiting.len() >= WAITING_LIMIT {
                    break;
                }
                match cases.next() {
                    None => exhausted = true,
                    Some(case) if self.is_finished(&case) => {}
                    Some(case) if self.run.peers.readiness(&case) == Readiness::Pending => waiting.push(case),
                    Some(case) => self.admit(case, &mut running, &mut totals).await,
                }
            }
            if running.is_empty() && exhausted && waiting.len() == 0 {
                break;
            }
            tokio::select! {
                Some(done) = running.join_next(), if !running.is_empty() => self.finish(done, &mut totals).await,
                _ = ready.changed(), if waiting.len() > 0 => {}
                _ = self.stop.changed() => {}
            }
            while let Some(done) = running.try_join_next() {
                self.finish(done, &mut totals).await;
            }
        }
        running.shutdown().await;
        totals
    }

    fn is_finished(&self, case: &Case) -> bool {
        let finished = &self.run.settings.finished;
        !finished.is_empty() && finished.contains(&self.run.plan.key(case))
    }

    async fn admit(&self, case: Case, running: &mut Running, totals: &mut Totals) {
        let run = &self.run;
        let job = match Job::new(run, case) {
            Ok(job) => job,
            Err((job, text)) => {
                let mut record = job.record(run, Instant::now());
                let cause = Cause { code: "rules.conflict".into(), certainty: Certainty::Observed, text };
                record.attempts.push(case::could_not_run(Phase::Build, cause));
                return self.record(record, totals).await;
            }
        };
        if let Expected::Unsupported { .. } = job.expected
            && !(run.settings.probe_unsupported && run.plan.can_be_tried(&job.case))
        {
            let record = job.record(run, Instant::now());
            return self.record(record, totals).await;
        }
        if let Readiness::Missing { reason, left_out } = run.peers.readiness(&job.case) {
            let mut record = job.record(run, Instant::now());
            if left_out {
                record.not_run = Some(reason);
            } else {
                let cause = Cause { code: "build.missing".into(), certainty: Certainty::Observed, text: reason };
                record.attempts.push(case::could_not_run(Phase::Build, cause));
            }
            return self.record(record, totals).await;
        }
        self.tell_void_rules(&job).await;
        let started = RunEvent::CaseStarted { index: job.case.index, id: job.id.clone() };
        let _ = self.events.send(started).await;
        let run = Arc::clone(run);
        let began = Instant::now();
        run.pulse.begin(job.record(&run, began));
        running.spawn(async move {
            // A bug of the engine in one case is that case's error and nobody else's.
            let case = AssertUnwindSafe(case::execute(&run, &job)).catch_unwind();
            let record = case.await.unwrap_or_else(|panic| crashed(job.record(&run, began), &panic));
            run.pulse.end(record.index);
            record
        });
    }

    /// A rule that is void because of a version is said once: what it describes must pass now.
    async fn tell_void_rules(&self, job: &Job) {
        let run = &self.run;
        if run.plan.scenario().rules.iter().all(|rule| rule.versions.is_empty()) {
            return;
        }
        for void in run.plan.void_rules(&job.case, &|peer, component| run.peers.version(peer, component)) {
            let new = run.void_told.lock().unwrap_or_else(PoisonError::into_inner).insert(void.rule.clone());
            if new {
                let text = format!("rule `{}` is void here: {}", void.rule, void.reason);
                let _ = self.events.send(RunEvent::Note { text, place: None }).await;
            }
        }
    }

    async fn finish(&self, done: Result<CaseRecord, tokio::task::JoinError>, totals: &mut Totals) {
        // Only a cancelled case has no record.
        if let Ok(record) = done {
            self.record(record, totals).await;
        }
    }

    /// After enough red cases: what runs may end, the rest is said to be left out.
    async fn leave_out(
        &mut self,
        waiting: Waiting<Case>,
        cases: impl Iterator<Item = Case>,
        running: &mut Running,
        totals: &mut Totals,
    ) {
        while !running.is_empty() && *self.stop.borrow() == Stop::No {
            tokio::select! {
                Some(done) = running.join_next() => self.finish(done, totals).await,
                _ = self.stop.changed() => {}
            }
        }
        running.shutdown().await;
        totals.interrupted = *self.stop.borrow() > Stop::No;
        for case in waiting.into_all().chain(cases) {
            if *self.stop.borrow() > Stop::No {
                totals.interrupted = true;
                return;
            }
            if self.is_finished(&case) {
                continue;
            }
            let (Ok(job) | Err((job, _))) = Job::new(&self.run, case).map(Box::new);
            let mut record = job.record(&self.run, Instant::now());
            record.not_run = Some(format!("left out by --fail-fast after {} red cases", totals.red));
            self.record(record, totals).await;
        }
    }

    async fn record(&self, record: CaseRecord, totals: &mut Totals) {
        totals.finished += 1;
        if record.verdict().is_red() {
            totals.red += 1;
        }
        let _ = self.events.send(RunEvent::CaseFinished(Box::new(record))).await;
    }
}

type Running = JoinSet<CaseRecord>;

/// The record of a case in which the engine itself failed.
fn crashed(mut record: CaseRecord, panic: &Box<dyn Any + Send>) -> CaseRecord {
    let said =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    let text = format!("the engine failed in this case: {}; please report it", said.unwrap_or_default());
    let cause = Cause { code: "engine.failed".into(), certainty: Certainty::Observed, text };
    record.attempts.push(case::could_not_run(Phase::Teardown, cause));
    record
}

impl Job {
    /// What is fixed about a case; its expectation as the probed versions have it.
    ///
    /// # Errors
    /// Two rules that disagree, now that versions are known: a sentence.
    pub(super) fn new(run: &RunContext, case: Case) -> Result<Self, (Box<Self>, String)> {
        let plan = &run.plan;
        let expected = plan.expected(&case, &|peer, component| run.peers.version(peer, component));
        let (expected, conflict) = match expected {
            Ok(expected) => (expected, None),
            Err(conflict) => (Expected::Passed, Some(conflict.to_string())),
        };
        let job = Self {
            id: plan.id(&case),
            slug: plan.slug(&case),
            key: plan.key(&case),
            axes: plan.axes(&case),
            request: plan.request(&case),
            client: plan.client(&case).to_owned(),
            server: plan.server(&case).to_owned(),
            service: plan.service(&case).to_owned(),
            isolation: plan.isolation(&case),
            script: Arc::clone(plan.script(&case)),
            expected,
            progress: Progress::default(),
            case,
        };
        match conflict {
            None => Ok(job),
            Some(conflict) => Err((Box::new(job), conflict)),
        }
    }
}
