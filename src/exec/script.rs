//! Runs a script: renders messages, calls, checks what came back, step by step and branch by branch.
//! Reads `dynamic` for messages and `ground` for connections; knows nothing of verdicts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use serde_json::{Map, Value};

use super::acts;
use super::answer::{
    Outcome, Stop, connection, decode, document, encode, failed, first_of, miscounted, received, unreachable, watched,
    within,
};
use super::ground::{Ground, Now, Spot};
use super::transcript::{Transcript, bounded};
use super::wire;
use crate::diag::SourceMap;
use crate::dynamic::{self, expect};
use crate::event::OpRecord;
use crate::outcome::Phase;
use crate::outcome::evidence::{RanOut, Spoken};
use crate::peer::{CallRequest, Stream};
use crate::scenario::model::{Branches, CallDef, Expect, Op, Script, Service, Step};
use crate::scenario::template::Renderer;

/// Everything that a script's run needs and does not own.
pub(super) struct Scene<'a> {
    pub(super) script: &'a Script,
    pub(super) service: &'a Service,
    pub(super) codec: &'a dynamic::Service,
    pub(super) sources: &'a SourceMap,
    pub(super) ground: &'a Ground<'a>,
    /// Values that templates see.
    pub(super) context: &'a Map<String, Value>,
    /// Budget of an op.
    pub(super) op_timeout: Duration,
    /// Sent with every call, so that servers can tell cases apart.
    pub(super) case_key: &'a str,
}

/// Runs all steps; stops at the first that does not hold. The transcript is filled even then, and
/// when the future is dropped at a deadline.
pub(super) async fn run(scene: Scene<'_>, transcript: &mut Transcript) -> Result<(), Stop> {
    let mut runner = Runner {
        streams: HashMap::new(),
        spots: HashMap::new(),
        renderer: Renderer::new(scene.context),
        path: String::new(),
        scene: &scene,
    };
    runner.steps(&scene.script.steps, transcript).await
}

/// One thread of a script: the script itself, or a branch of it.
struct Runner<'a> {
    scene: &'a Scene<'a>,
    renderer: Renderer,
    streams: HashMap<String, OpenStream>,
    /// Connections that the script made, by name.
    spots: HashMap<String, Arc<Spot>>,
    /// What comes before the ids of its steps: `repeat-2[17].`.
    path: String,
}

struct OpenStream {
    stream: Box<dyn Stream>,
    method: Arc<dynamic::Method>,
    spot: Arc<Spot>,
    /// What was spoken on its connection before it was opened.
    before: Option<Spoken>,
}

impl Runner<'_> {
    fn steps<'s>(&'s mut self, steps: &'s [Step], transcript: &'s mut Transcript) -> BoxFuture<'s, Result<(), Stop>> {
        Box::pin(async move {
            for step in steps {
                self.step(step, transcript).await?;
            }
            Ok(())
        })
    }

    async fn step(&mut self, step: &Step, transcript: &mut Transcript) -> Result<(), Stop> {
        match &step.op {
            Op::Parallel(branches) => self.parallel(step, branches, transcript).await,
            Op::Repeat { times, steps } => {
                let path = std::mem::take(&mut self.path);
                for round in 0..*times {
                    self.path = format!("{path}{}[{round}].", step.id);
                    self.renderer.set("round", &round.into());
                    self.steps(steps, transcript).await?;
                }
                self.path = path;
                Ok(())
            }
            Op::Sleep { .. } | Op::Server(_) | Op::Connect(_) => self.arrange(step, transcript).await,
            _ => self.exchange(step, transcript).await,
        }
    }

    /// An op that changes what the script stands on, or waits.
    async fn arrange(&mut self, step: &Step, transcript: &mut Transcript) -> Result<(), Stop> {
        let id = self.id(step);
        transcript.current.clone_from(&id);
        let started = Instant::now();
        let done = match &step.op {
            Op::Server(act) => {
                let spot = self.spot(step)?;
                self.scene.ground.look_at(&spot);
                self.scene.ground.server(&spot, *act, &id).await
            }
            Op::Connect(connect) => {
                let made = self.scene.ground.connect(connect).await;
                made.map(|spot| drop(self.spots.insert(connect.name.clone(), spot)))
            }
            Op::Sleep { pause, .. } => {
                tokio::time::sleep(*pause).await;
                Ok(())
            }
            _ => Ok(()),
        };
        transcript.record(record(id, started));
        done
    }

    /// All branches at once; all come to their end.
    async fn parallel(&self, step: &Step, branches: &Branches, transcript: &mut Transcript) -> Result<(), Stop> {
        let lists: Vec<&[Step]> = match branches {
            Branches::Each(lists) => lists.iter().map(Vec::as_slice).collect(),
            Branches::Same { times, steps } => (0..*times).map(|_| steps.as_slice()).collect(),
        };
        transcript.branches = lists.iter().map(|_| Transcript::default()).collect();
        let running = lists.iter().zip(&mut transcript.branches).enumerate().map(|(number, (steps, transcript))| {
            let mut branch = Runner {
                scene: self.scene,
                renderer: self.renderer.clone(),
                streams: HashMap::new(),
                spots: self.spots.clone(),
                path: format!("{}[{number}].", self.id(step)),
            };
            branch.renderer.set("branch", &number.into());
            async move { branch.steps(steps, transcript).await }
        });
        let ends = join_all(running).await;
        transcript.fold();
        first_of(ends.into_iter().filter_map(Result::err).collect())
    }

    /// The id of a step, with what it is inside of.
    fn id(&self, step: &Step) -> String {
        format!("{}{}", self.path, step.id)
    }

    /// The connection that a step is about.
    fn spot(&self, step: &Step) -> Result<Arc<Spot>, Stop> {
        let stream = match &step.op {
            Op::Send { stream, .. }
            | Op::Receive { stream, .. }
            | Op::HalfClose { stream }
            | Op::Cancel { stream }
            | Op::End { stream, .. } => self.streams.get(stream),
            _ => None,
        };
        match (stream, &step.on) {
            (Some(open), _) => Ok(Arc::clone(&open.spot)),
            (None, None) => Ok(Arc::clone(self.scene.ground.main())),
            (None, Some(name)) => {
                let spot = self.spots.get(name).cloned();
                spot.ok_or_else(|| Stop::Script(format!("there is no connection `{name}`")))
            }
        }
    }

    /// An op over a connection.
    async fn exchange(&mut self, step: &Step, transcript: &mut Transcript) -> Result<(), Stop> {
        transcript.current = self.id(step);
        let spot = self.spot(step)?;
        self.scene.ground.look_at(&spot);
        let now = spot.now();
        let started = Instant::now();
        let mut record = record(self.id(step), started);
        let before = self.heard_before(step, &now)?;
        let mut outcome = watched(&now, self.execute(step, (&spot, &now), &mut record)).await;
        record.elapsed_us = micros(started);
        if let (Ok(outcome), Some(before)) = (&mut outcome, before) {
            outcome.wire = Some(wire::heard(&now, before));
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(stop) => {
                if let Stop::Check(text) = &stop {
                    self.failed(step, "message", text, transcript);
                    record.failed_checks = transcript.checks.last().cloned().into_iter().collect();
                }
                transcript.record(record);
                return Err(self.told(step, &now, stop));
            }
        };
        record.received = outcome.message.as_ref().map(bounded);
        record.status.clone_from(&outcome.status);
        let timed_out = outcome.failure.as_ref().is_some_and(|f| f.timed_out);
        let failed_from = transcript.checks.len();
        let result = self.judge(step, outcome, transcript);
        if let Err(Stop::Failed(failure)) = &result
            && failure.timed_out
        {
            // Time is an expectation like any other: what did not come in it has a name.
            self.failed(step, "in-time", &failure.reported.error, transcript);
        }
        record.failed_checks = transcript.checks[failed_from..].iter().filter(|c| !c.held).cloned().collect();
        if result.is_err() {
            transcript.status.clone_from(&record.status);
            transcript.ran_out = timed_out.then(|| self.ran_out(&step.op));
        }
        transcript.record(record);
        result.map_err(|stop| self.told(step, &now, stop))
    }

    /// What was spoken before a step that looks at the wire: since it begins, or since its stream was
    /// opened.
    fn heard_before(&self, step: &Step, now: &Now) -> Result<Option<Spoken>, Stop> {
        if !step.looks_at_wire() {
            return Ok(None);
        }
        let before = match &step.op {
            Op::End { stream, .. } => self.streams.get(stream).and_then(|open| open.before),
            _ => wire::spoken(now),
        };
        before.map(Some).ok_or_else(|| {
            let text = "looks at the wire, which can be read in plaintext only: give the script `when: tls == none`";
            Stop::Script(format!("`{}` {text}", self.id(step)))
        })
    }

    /// Notes that a check did not hold that no field of `expect` stands for.
    fn failed(&self, step: &Step, what: &str, why: &str, transcript: &mut Transcript) {
        let id = format!("{}.{what}", self.id(step));
        transcript.check(id, Err(why.to_owned()), || self.scene.sources.place(step.span));
    }

    /// Says what only the script knows of a failure: which step of which branch, and that it was
    /// the script that ended the server.
    fn told(&self, step: &Step, now: &Now, stop: Stop) -> Stop {
        match (stop, &now.down) {
            (Stop::Failed(failure), Some(by)) if !failure.harness && !failure.refused => Stop::Down(format!(
                "`{}` was called while the server was down: `{by}` ended it and nothing has started it since; \
                 start it before the call, or expect `code: UNAVAILABLE` ({})",
                self.id(step),
                failure.reported.error
            )),
            (Stop::Failed(mut failure), None) if !self.path.is_empty() => {
                failure.step = Some(self.id(step));
                Stop::Failed(failure)
            }
            (stop, _) => stop,
        }
    }

    /// The budget of an op, which ran out.
    fn ran_out(&self, op: &Op) -> RanOut {
        let (waiting_for, budget) = self.waited_for(op);
        let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        RanOut { phase: Phase::Rpc, waiting_for: waiting_for.into(), budget_ms }
    }

    /// What an op waits for, as the last segment of a cause, and how long.
    fn waited_for(&self, op: &Op) -> (&'static str, Duration) {
        let default = self.scene.op_timeout;
        match op {
            Op::Call(call) | Op::Open { call, .. } => ("reply", call.deadline.unwrap_or(default)),
            Op::Send { .. } | Op::HalfClose { .. } | Op::Cancel { .. } => ("transport", default),
            Op::Receive { within, .. } => ("message", within.unwrap_or(default)),
            Op::End { within, .. } => ("end-of-stream", within.unwrap_or(default)),
            Op::Stdio { within } => ("stdio", within.unwrap_or(default)),
            Op::Test { within, .. } => ("test", within.unwrap_or(default)),
            _ => ("reply", default),
        }
    }

    /// Holds an outcome against a step's expectations.
    fn judge(&mut self, step: &Step, outcome: Outcome, transcript: &mut Transcript) -> Result<(), Stop> {
        let expect = &step.expect;
        let place = |span| self.scene.sources.place(span);
        let id = |what: &str| format!("{}{}.{what}", self.path, step.id);
        let mut failed = Vec::new();
        let mut run = |transcript: &mut Transcript, id: String, held: Result<(), String>, span| {
            if let Err(diff) = &held {
                failed.push(format!("`{id}`: {diff}"));
            }
            transcript.check(id, held, || place(span));
        };
        if let Some(status) = &outcome.status {
            let wanted = expect.code.as_ref();
            let held = match wanted {
                Some(codes) => codes.value.iter().any(|c| c == &status.code),
                None => status.code == "OK",
            };
            // A failure of the connection is never an answer to the call, whatever code the
            // client's library dresses it in.
            let broken = outcome.failure.as_ref().is_some_and(|f| !f.remote && !held);
            if (broken || (!held && status.code != "OK" && wanted.is_none()))
                && let Some(failure) = outcome.failure
            {
                return Err(Stop::Failed(Box::new(failure)));
            }
            let held = if held {
                Ok(())
            } else {
                let wanted = wanted.map_or("OK".to_owned(), |codes| codes.value.join(" or "));
                Err(format!("expected {wanted}\n  actual {} ({})", status.code, status.text))
            };
            run(transcript, id("code"), held, wanted.map_or(step.span, |w| w.span));
        } else if let Some(failure) = outcome.failure {
            return Err(Stop::Failed(Box::new(failure)));
        }
        let renderer = &self.renderer;
        let compare = |expected: &Value, actual: Option<&Value>| -> Result<Result<(), String>, Stop> {
            let expected = renderer.value(expected).map_err(|e| Stop::Script(e.to_string()))?;
            Ok(match actual {
                Some(actual) => expect::compare(&expected, actual).map_err(|diff| diff.to_string()),
                None if expected.is_null() => Ok(()),
                None => Err(format!("expected {expected}\n  actual nothing")),
            })
        };
        let status_text = outcome.status.as_ref().map(|s| Value::String(s.text.clone()));
        let Expect { value, message, code: _, status_text: text, stdout, stderr, wire } = expect;
        for (name, expected, actual) in [
            ("value", value, outcome.value.as_ref()),
            ("message", message, outcome.message.as_ref()),
            ("status_text", text, status_text.as_ref()),
            ("stdout", stdout, outcome.stdout.as_ref()),
            ("stderr", stderr, outcome.stderr.as_ref()),
            ("wire", wire, outcome.wire.as_ref()),
        ] {
            if let Some(expected) = expected {
                run(transcript, id(name), compare(&expected.value, actual)?, expected.span);
            }
        }
        let document = (!step.checks.is_empty() || !step.capture.is_empty()).then(|| document(&outcome));
        for check in &step.checks {
            let actual = document.as_ref().and_then(|d| dynamic::path::find(d, &check.path));
            run(transcript, format!("{}{}", self.path, check.id), compare(&check.expected, actual)?, check.span);
        }
        if !failed.is_empty() {
            return Err(Stop::Check(failed.join("; ")));
        }
        for (name, path) in &step.capture {
            let Some(found) = document.as_ref().and_then(|d| dynamic::path::find(d, path)) else {
                return Err(Stop::Check(format!("`{}`: nothing to capture at `{path}`", self.id(step))));
            };
            self.renderer.set(name.clone(), found);
        }
        Ok(())
    }

    async fn execute(
        &mut self,
        step: &Step,
        (spot, now): (&Arc<Spot>, &Now),
        record: &mut OpRecord,
    ) -> Result<Outcome, Stop> {
        let op_timeout = self.scene.op_timeout;
        match &step.op {
            Op::Named { name, args } => {
                let def =
                    self.scene.service.ops.get(name).ok_or_else(|| {
                        Stop::Script(format!("service `{}` has no op `{name}`", self.scene.service.name))
                    })?;
                let args = self.render(&Value::Object(args.clone()))?;
                record.sent = Some(bounded(&args));
                let Value::Object(args) = args else { return Err(Stop::Script("op arguments are no map".into())) };
                let message = Renderer::new(&args).value(&def.send).map_err(|e| Stop::Script(e.to_string()))?;
                let call = CallDef { method: def.method.clone(), ..CallDef::default() };
                let mut outcome = self.call(now, &call, vec![message], Some((name, &args))).await?;
                if outcome.value.is_none()
                    && let Some(path) = &def.yields
                {
                    outcome.value = outcome.message.as_ref().and_then(|m| dynamic::path::find(m, path)).cloned();
                }
                Ok(outcome)
            }
            Op::Call(call) => {
                let messages = self.messages(call)?;
                record.sent = messages.first().map(bounded);
                self.call(now, call, messages, None).await
            }
            Op::Open { stream, call } => {
                let method = self.method(&call.method)?;
                let send = call
                    .send
                    .iter()
                    .map(|m| self.render(m).and_then(|m| encode(&method, &m)))
                    .collect::<Result<Vec<_>, _>>()?;
                let request = self.request(&method, call, send)?;
                let Some(connection) = connection(now) else { return Ok(failed(unreachable(now))) };
                let Some(open) = connection.open(request) else {
                    return Err(Stop::Script("this client has no interleaved streams".into()));
                };
                let before = wire::spoken(now);
                admit(call, now);
                match open.await {
                    Ok(mut open) => {
                        // A client of such a method has said everything with its one message.
                        if !method.client_streaming()
                            && let Err(error) = within(op_timeout, "half_close", open.half_close()).await
                        {
                            return Ok(failed(error));
                        }
                        let open = OpenStream { stream: open, method, spot: Arc::clone(spot), before };
                        self.streams.insert(stream.clone(), open);
                        Ok(Outcome::default())
                    }
                    Err(error) => Ok(failed(error)),
                }
            }
            Op::Send { stream, message } => {
                let message = self.render(message)?;
                record.sent = Some(bounded(&message));
                let open = self.open_stream(stream)?;
                let bytes = encode(&open.method, &message)?;
                Ok(match within(op_timeout, "send", open.stream.send(bytes)).await {
                    Ok(()) => Outcome::default(),
                    Err(error) => failed(error),
                })
            }
            Op::Receive { stream, within: budget } => {
                let open = self.open_stream(stream)?;
                Ok(match within(budget.unwrap_or(op_timeout), "receive", open.stream.receive()).await {
                    Ok(Some(bytes)) => Outcome { message: Some(decode(&open.method, &bytes)?), ..Outcome::default() },
                    Ok(None) => {
                        return Err(Stop::Check(format!("`{}`: the stream ended, a message was due", self.id(step))));
                    }
                    Err(error) => failed(error),
                })
            }
            Op::HalfClose { stream } => {
                let open = self.open_stream(stream)?;
                Ok(match within(op_timeout, "half_close", open.stream.half_close()).await {
                    Ok(()) => Outcome::default(),
                    Err(error) => failed(error),
                })
            }
            Op::Cancel { stream } => {
                self.open_stream(stream)?.stream.cancel().await;
                Ok(Outcome::default())
            }
            Op::End { stream, within: budget } => {
                let mut open =
                    self.streams.remove(stream).ok_or_else(|| Stop::Script(format!("no stream `{stream}` is open")))?;
                Ok(match within(budget.unwrap_or(op_timeout), "end", open.stream.end()).await {
                    Ok(result) => received(&open.method, result)?,
                    Err(error) => failed(error),
                })
            }
            Op::Test { name, within } => {
                let name = match name {
                    Some(name) => self.renderer.text(name).map_err(|e| Stop::Script(e.to_string()))?,
                    None => self.scene.script.name.clone(),
                };
                record.sent = Some(Value::String(name.clone()));
                match connection(now).and_then(|connection| connection.actor()) {
                    Some(actor) => acts::test(now, actor, name, within.unwrap_or(op_timeout)).await,
                    None => Err(Stop::Script("this client brings no tests of its own".into())),
                }
            }
            Op::Stdio { within: budget } => self.stdio(step, now, budget.unwrap_or(op_timeout)).await,
            Op::Parallel(_) | Op::Repeat { .. } | Op::Sleep { .. } | Op::Server(_) | Op::Connect(_) => {
                Err(Stop::Script(format!("`{}` goes over no connection", self.id(step))))
            }
        }
    }

    /// A call, of the named op where it is one.
    async fn call(
        &self,
        now: &Now,
        call: &CallDef,
        messages: Vec<Value>,
        named: Option<(&str, &Map<String, Value>)>,
    ) -> Result<Outcome, Stop> {
        let method = self.method(&call.method)?;
        let mut send = messages.iter().map(|m| encode(&method, m)).collect::<Result<Vec<_>, _>>()?;
        if let Some(times) = call.times.filter(|_| !counts(call)) {
            send = repeated(&send, times)?;
        }
        let request = self.request(&method, call, send)?;
        let Some(connection) = connection(now) else { return Ok(failed(unreachable(now))) };
        if let Some(actor) = connection.actor() {
            let nothing = Map::new();
            let (op, args) = named.unwrap_or(("call", &nothing));
            return acts::call(now, actor, (op, args), &method, request).await;
        }
        admit(call, now);
        match connection.call(request).await {
            Ok(result) => match miscounted(&method, &result) {
                Some(error) => Ok(failed(error)),
                None => received(&method, result),
            },
            Err(error) => Ok(failed(error)),
        }
    }

    /// Waits until stdout and stderr hold what is expected, or the budget is over.
    async fn stdio(&self, step: &Step, now: &Now, budget: Duration) -> Result<Outcome, Stop> {
        let Some(connection) = connection(now) else { return Ok(failed(unreachable(now))) };
        let deadline = tokio::time::Instant::now() + budget;
        loop {
            let changed = connection.stdio_changed();
            let Some((stdout, stderr)) = connection.stdio() else {
                return Err(Stop::Script("this client does not tell its plugin's stdio".into()));
            };
            let text = |b: &Bytes| Value::String(String::from_utf8_lossy(b).into_owned());
            let outcome = Outcome { stdout: Some(text(&stdout)), stderr: Some(text(&stderr)), ..Outcome::default() };
            let mut holds = true;
            for (expected, actual) in [(&step.expect.stdout, &outcome.stdout), (&step.expect.stderr, &outcome.stderr)] {
                if let (Some(expected), Some(actual)) = (expected, actual) {
                    let expected = self.render(&expected.value)?;
                    holds &= expect::compare(&expected, actual).is_ok();
                }
            }
            if holds || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(outcome);
            }
        }
    }

    /// The messages of a call; those that count are made for each round.
    fn messages(&self, call: &CallDef) -> Result<Vec<Value>, Stop> {
        let Some(times) = call.times.filter(|_| counts(call)) else {
            return call.send.iter().map(|message| self.render(message)).collect();
        };
        let mut renderer = self.renderer.clone();
        let mut messages = Vec::new();
        for round in 0..times {
            renderer.set("round", &round.into());
            for message in &call.send {
                messages.push(renderer.value(message).map_err(|e| Stop::Script(e.to_string()))?);
            }
        }
        Ok(messages)
    }

    fn render(&self, template: &Value) -> Result<Value, Stop> {
        self.renderer.value(template).map_err(|e| Stop::Script(e.to_string()))
    }

    fn method(&self, name: &str) -> Result<Arc<dynamic::Method>, Stop> {
        self.scene.codec.method(name).map_err(|e| Stop::Script(e.to_string()))
    }

    fn open_stream(&mut self, name: &str) -> Result<&mut OpenStream, Stop> {
        self.streams.get_mut(name).ok_or_else(|| Stop::Script(format!("no stream `{name}` is open")))
    }

    fn request(&self, method: &dynamic::Method, call: &CallDef, send: Vec<Bytes>) -> Result<CallRequest, Stop> {
        let mut metadata = Vec::with_capacity(call.metadata.len() + 1);
        for (key, value) in &call.metadata {
            let bytes = match self.render(value)? {
                Value::String(text) => Bytes::from(text),
                other => expect::bytes(&other)
                    .ok_or_else(|| Stop::Script(format!("metadata `{key}` is neither text nor `$base64`")))?,
            };
            metadata.push((key.clone(), bytes));
        }
        metadata.push(("x-soup-case".to_owned(), Bytes::copy_from_slice(self.scene.case_key.as_bytes())));
        Ok(CallRequest {
            method: method.path().to_owned(),
            send,
            metadata,
            deadline: call.deadline.unwrap_or(self.scene.op_timeout),
            options: call.options,
        })
    }
}

/// Lets a connection be made that was refused until now, for a call that waits for it.
fn admit(call: &CallDef, now: &Now) {
    if call.options.wait_for_ready
        && let Some(lane) = &now.lane
    {
        lane.admit();
    }
}

/// Whether the messages of a call differ from round to round.
fn counts(call: &CallDef) -> bool {
    call.times.is_some() && call.send.iter().any(|message| message.to_string().contains("round"))
}

/// Bytes of all messages of one call together, at most.
const MAX_SENT: usize = 256 << 20;

/// Messages, as often as this, one after the other.
fn repeated(messages: &[Bytes], times: u32) -> Result<Vec<Bytes>, Stop> {
    let times = usize::try_from(times).unwrap_or(usize::MAX);
    let bytes = messages.iter().map(Bytes::len).sum::<usize>().saturating_mul(times);
    if bytes > MAX_SENT {
        let text = format!("`times: {times}` makes {bytes} bytes of one call, and {MAX_SENT} is the limit");
        return Err(Stop::Script(text));
    }
    Ok((0..times).flat_map(|_| messages.iter().cloned()).collect())
}

fn record(op: String, started: Instant) -> OpRecord {
    OpRecord { op, sent: None, received: None, status: None, failed_checks: Vec::new(), elapsed_us: micros(started) }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
