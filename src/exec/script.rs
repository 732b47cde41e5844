//! Runs a script over a live connection: renders messages, calls, checks what came back.
//! Reads `dynamic` for messages and `peer` for the connection; knows nothing of instances or verdicts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::acts;
use crate::diag::SourceMap;
use crate::dynamic::{self, expect};
use crate::event::OpRecord;
use crate::outcome::evidence::{RanOut, Reported};
use crate::outcome::{CheckResult, GrpcStatus, Phase};
use crate::peer::{CallRequest, CallResult, Connection, PeerError, Stream};
use crate::scenario::model::{CallDef, Expect, Op, Script, Service, Step};
use crate::scenario::template::Renderer;

/// Checks that held, kept one by one in an observation; beyond it they are only counted.
const HELD_KEPT: usize = 32;
/// JSON of a message in an op record, in bytes; larger ones are replaced by their size.
const RECORD_LIMIT: usize = 4 << 10;

/// Everything that a script's run needs and does not own.
pub(super) struct Scene<'a> {
    pub(super) script: &'a Script,
    pub(super) service: &'a Service,
    pub(super) codec: &'a dynamic::Service,
    pub(super) sources: &'a SourceMap,
    pub(super) connection: &'a dyn Connection,
    /// Values that templates see.
    pub(super) context: &'a Map<String, Value>,
    /// Budget of an op.
    pub(super) op_timeout: Duration,
    /// Sent with every call, so that servers can tell cases apart.
    pub(super) case_key: &'a str,
}

/// Why a script stopped before its end.
pub(super) enum Stop {
    /// A check did not hold: the first one, as a sentence.
    Check(String),
    /// A call failed: what the client said.
    Failed(Box<Failure>),
    /// The script could not be executed as written (a template failed, a message does not fit).
    Script(String),
}

/// A failed call.
pub(super) struct Failure {
    pub(super) reported: Reported,
    /// A deadline passed.
    pub(super) timed_out: bool,
    /// The harness failed.
    pub(super) harness: bool,
    /// The peer says that it cannot.
    pub(super) refused: bool,
    /// The status came from the server, so the connection works.
    pub(super) remote: bool,
}

/// What a script's run left behind.
#[derive(Default)]
pub(super) struct Transcript {
    pub(super) checks: Vec<CheckResult>,
    pub(super) checked: u32,
    pub(super) ops: Vec<OpRecord>,
    /// The status of the last call that failed a check or ended the script.
    pub(super) status: Option<GrpcStatus>,
    /// What is being executed, for timeouts.
    pub(super) current: String,
    /// The budget that ran out, if one did.
    pub(super) ran_out: Option<RanOut>,
}

impl Transcript {
    fn check(&mut self, id: String, held: Result<(), String>, place: impl FnOnce() -> crate::diag::Place) -> bool {
        self.checked += 1;
        match held {
            Ok(()) => {
                if self.checks.len() < HELD_KEPT {
                    self.checks.push(CheckResult { id, held: true, diff: None, place: None });
                }
                true
            }
            Err(diff) => {
                self.checks.push(CheckResult { id, held: false, diff: Some(diff), place: Some(place()) });
                false
            }
        }
    }
}

/// What an op gave, for checks and captures.
#[derive(Default)]
pub(super) struct Outcome {
    /// `value`: what the op yields.
    pub(super) value: Option<Value>,
    /// The (only or last) message.
    pub(super) message: Option<Value>,
    pub(super) status: Option<GrpcStatus>,
    headers: Map<String, Value>,
    trailers: Map<String, Value>,
    stdout: Option<Value>,
    stderr: Option<Value>,
    failure: Option<Failure>,
}

/// Runs all steps; stops at the first that does not hold. The transcript is filled even then, and
/// when the future is dropped at a deadline.
pub(super) async fn run(scene: Scene<'_>, transcript: &mut Transcript) -> Result<(), Stop> {
    let script = scene.script;
    let mut runner = Runner { streams: HashMap::new(), renderer: Renderer::new(scene.context), scene };
    for step in &script.steps {
        runner.step(step, transcript).await?;
    }
    Ok(())
}

struct Runner<'a> {
    scene: Scene<'a>,
    renderer: Renderer,
    streams: HashMap<String, OpenStream>,
}

struct OpenStream {
    stream: Box<dyn Stream>,
    method: Arc<dynamic::Method>,
}

impl Runner<'_> {
    async fn step(&mut self, step: &Step, transcript: &mut Transcript) -> Result<(), Stop> {
        transcript.current.clone_from(&step.id);
        let started = Instant::now();
        let mut record = OpRecord {
            op: step.id.clone(),
            sent: None,
            received: None,
            status: None,
            failed_checks: Vec::new(),
            elapsed_us: 0,
        };
        let outcome = self.execute(step, &mut record).await;
        record.elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if outcome.as_ref().is_ok_and(|o| o.failure.as_ref().is_some_and(|f| f.timed_out)) {
            let (waiting_for, budget) = self.waited_for(&step.op);
            let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
            transcript.ran_out = Some(RanOut { phase: Phase::Rpc, waiting_for: waiting_for.into(), budget_ms });
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(stop) => {
                transcript.ops.push(record);
                return Err(stop);
            }
        };
        record.received = outcome.message.as_ref().map(bounded);
        record.status.clone_from(&outcome.status);
        let failed_from = transcript.checks.len();
        let result = self.judge(step, outcome, transcript);
        record.failed_checks = transcript.checks[failed_from..].iter().filter(|c| !c.held).cloned().collect();
        if result.is_err() {
            transcript.status.clone_from(&record.status);
        }
        transcript.ops.push(record);
        result
    }

    /// What an op waits for, as the last segment of a cause, and how long.
    fn waited_for(&self, op: &Op) -> (&'static str, Duration) {
        let default = self.scene.op_timeout;
        match op {
            Op::Named { .. } => ("reply", default),
            Op::Call(call) | Op::Open { call, .. } => ("reply", call.deadline.unwrap_or(default)),
            Op::Send { .. } | Op::HalfClose { .. } | Op::Cancel { .. } => ("transport", default),
            Op::Receive { within, .. } => ("message", within.unwrap_or(default)),
            Op::End { within, .. } => ("end-of-stream", within.unwrap_or(default)),
            Op::Stdio { within } => ("stdio", within.unwrap_or(default)),
            Op::Test { within, .. } => ("test", within.unwrap_or(default)),
        }
    }

    /// Holds an outcome against a step's expectations.
    fn judge(&mut self, step: &Step, outcome: Outcome, transcript: &mut Transcript) -> Result<(), Stop> {
        let expect = &step.expect;
        let place = |span| self.scene.sources.place(span);
        let id = |what: &str| format!("{}.{what}", step.id);
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
                None => Err(format!("expected {expected}\n  actual nothing")),
            })
        };
        let status_text = outcome.status.as_ref().map(|s| Value::String(s.text.clone()));
        let Expect { value, message, code: _, status_text: text, stdout, stderr } = expect;
        for (name, expected, actual) in [
            ("value", value, outcome.value.as_ref()),
            ("message", message, outcome.message.as_ref()),
            ("status_text", text, status_text.as_ref()),
            ("stdout", stdout, outcome.stdout.as_ref()),
            ("stderr", stderr, outcome.stderr.as_ref()),
        ] {
            if let Some(expected) = expected {
                run(transcript, id(name), compare(&expected.value, actual)?, expected.span);
            }
        }
        let document = (!step.checks.is_empty() || !step.capture.is_empty()).then(|| document(&outcome));
        for check in &step.checks {
            let actual = document.as_ref().and_then(|d| dynamic::path::find(d, &check.path));
            run(transcript, check.id.clone(), compare(&check.expected, actual)?, check.span);
        }
        if !failed.is_empty() {
            return Err(Stop::Check(failed.join("; ")));
        }
        for (name, path) in &step.capture {
            let Some(found) = document.as_ref().and_then(|d| dynamic::path::find(d, path)) else {
                return Err(Stop::Check(format!("`{}`: nothing to capture at `{path}`", step.id)));
            };
            self.renderer.set(name.clone(), found);
        }
        Ok(())
    }

    async fn execute(&mut self, step: &Step, record: &mut OpRecord) -> Result<Outcome, Stop> {
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
                let mut outcome = self.call(&call, vec![message], Some((name, &args))).await?;
                if outcome.value.is_none()
                    && let Some(path) = &def.yields
                {
                    outcome.value = outcome.message.as_ref().and_then(|m| dynamic::path::find(m, path)).cloned();
                }
                Ok(outcome)
            }
            Op::Call(call) => {
                let messages = call.send.iter().map(|m| self.render(m)).collect::<Result<Vec<_>, _>>()?;
                record.sent = messages.first().map(bounded);
                self.call(call, messages, None).await
            }
            Op::Open { stream, call } => {
                let method = self.method(&call.method)?;
                let send = call
                    .send
                    .iter()
                    .map(|m| self.render(m).and_then(|m| encode(&method, &m)))
                    .collect::<Result<Vec<_>, _>>()?;
                let request = self.request(&method, call, send)?;
                let Some(open) = self.scene.connection.open(request) else {
                    return Err(Stop::Script("this client has no interleaved streams".into()));
                };
                match open.await {
                    Ok(mut open) => {
                        // A client of such a method has said everything with its one message.
                        if !method.client_streaming()
                            && let Err(error) = within(op_timeout, "half_close", open.half_close()).await
                        {
                            return Ok(failed(error));
                        }
                        self.streams.insert(stream.clone(), OpenStream { stream: open, method });
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
                    Ok(None) => return Err(Stop::Check(format!("`{}`: the stream ended, a message was due", step.id))),
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
                match self.scene.connection.actor() {
                    Some(actor) => acts::test(actor, name, within.unwrap_or(op_timeout)).await,
                    None => Err(Stop::Script("this client brings no tests of its own".into())),
                }
            }
            Op::Stdio { within: budget } => self.stdio(step, budget.unwrap_or(op_timeout)).await,
        }
    }

    /// A call, of the named op where it is one.
    async fn call(
        &self,
        call: &CallDef,
        messages: Vec<Value>,
        named: Option<(&str, &Map<String, Value>)>,
    ) -> Result<Outcome, Stop> {
        let method = self.method(&call.method)?;
        let send = messages.iter().map(|m| encode(&method, m)).collect::<Result<Vec<_>, _>>()?;
        let request = self.request(&method, call, send)?;
        if let Some(actor) = self.scene.connection.actor() {
            let nothing = Map::new();
            let (op, args) = named.unwrap_or(("call", &nothing));
            return acts::call(actor, op, args, &method, request).await;
        }
        match self.scene.connection.call(request).await {
            Ok(result) => received(&method, result),
            Err(error) => Ok(failed(error)),
        }
    }

    /// Waits until stdout and stderr hold what is expected, or the budget is over.
    async fn stdio(&self, step: &Step, budget: Duration) -> Result<Outcome, Stop> {
        let deadline = tokio::time::Instant::now() + budget;
        loop {
            let changed = self.scene.connection.stdio_changed();
            let Some((stdout, stderr)) = self.scene.connection.stdio() else {
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
        })
    }
}

async fn within<T>(
    budget: Duration,
    what: &str,
    future: impl Future<Output = Result<T, PeerError>>,
) -> Result<T, PeerError> {
    tokio::time::timeout(budget, future).await.unwrap_or_else(|_| {
        Err(PeerError {
            reported: Reported {
                phase: Some(Phase::Rpc),
                error: format!("no answer to `{what}` within {budget:?}"),
                native: None,
                status: None,
                cause: None,
            },
            refused: false,
            harness: false,
            timed_out: true,
        })
    })
}

fn encode(method: &dynamic::Method, message: &Value) -> Result<Bytes, Stop> {
    method.encode(message).map_err(|e| Stop::Script(e.to_string()))
}

fn decode(method: &dynamic::Method, bytes: &[u8]) -> Result<Value, Stop> {
    method.decode(bytes).map_err(|e| Stop::Check(format!("the response is no message of {}: {e}", method.path())))
}

pub(super) fn failed(error: PeerError) -> Outcome {
    let status = error.reported.status.clone();
    Outcome {
        status,
        failure: Some(Failure {
            reported: error.reported,
            timed_out: error.timed_out,
            harness: error.harness,
            refused: error.refused,
            remote: false,
        }),
        ..Outcome::default()
    }
}

fn received(method: &dynamic::Method, result: CallResult) -> Result<Outcome, Stop> {
    let failure = (result.status.code != "OK").then(|| Failure {
        timed_out: result.status.code == "DEADLINE_EXCEEDED",
        harness: false,
        refused: false,
        remote: result.local == Some(false),
        reported: result.reported.unwrap_or_else(|| Reported {
            phase: None,
            error: result.status.text.clone(),
            native: None,
            status: Some(result.status.clone()),
            cause: None,
        }),
    });
    let message = match result.receive.last() {
        Some(bytes) => Some(decode(method, bytes)?),
        None => None,
    };
    Ok(Outcome {
        message,
        status: Some(result.status),
        headers: metadata(&result.headers),
        trailers: metadata(&result.trailers),
        failure,
        ..Outcome::default()
    })
}

/// Metadata as JSON: a key with several values is a list.
fn metadata(pairs: &[(String, Bytes)]) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in pairs {
        let value = expect::value(value);
        match map.get_mut(key) {
            None => drop(map.insert(key.clone(), value)),
            Some(Value::Array(list)) => list.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    map
}

/// What `checks` and `capture` paths start from.
fn document(outcome: &Outcome) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.into(), value);
        }
    };
    put("value", outcome.value.clone());
    put("message", outcome.message.clone());
    put("code", outcome.status.as_ref().map(|s| s.code.clone().into()));
    put("status_text", outcome.status.as_ref().map(|s| s.text.clone().into()));
    put("metadata", Some(outcome.headers.clone().into()));
    put("trailers", Some(outcome.trailers.clone().into()));
    put("stdout", outcome.stdout.clone());
    put("stderr", outcome.stderr.clone());
    Value::Object(map)
}

fn bounded(value: &Value) -> Value {
    let size = value.to_string().len();
    if size <= RECORD_LIMIT { value.clone() } else { Value::String(format!("({size} bytes of JSON, left out)")) }
}
