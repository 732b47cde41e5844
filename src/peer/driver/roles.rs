//! The client and server roles over a driver's link: requests of the peer traits become messages
//! of the contract. Dropping a future cancels what it asked for.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::link::{Link, LinkError, Observed, Slot};
use super::message::{
    Address, Answer, CallReply, ClientAuth, Cookie, Failed, Keepalive, Limits, Listen, Message, Origin, Reply, Request,
    Tls, TlsFacts, Wait, bytes_in, encode, metadata_in, metadata_out,
};
use super::sending::Sending;
use super::{DRIVER_SLACK, Driver, Running, millis};
use crate::axis::values::{Group, TlsMode};
use crate::dynamic::DETAILS;
use crate::outcome::evidence::{CertFacts, ConnectionFacts, Reported, Side};
use crate::outcome::{Certainty, GrpcStatus, Phase};
use crate::peer::words::{KEPT, ends};
use crate::peer::{
    CallRequest, CallResult, Client, ConnectRequest, Connection, LastWord, LaunchRequest, PeerError, ServeRequest,
    Served, Server, ServerSaw, Stream, StreamSender, Target, TlsSpec,
};

/// An end that takes longer may be behind messages that were not taken.
const UNREAD_AFTER: Duration = Duration::from_millis(50);

/// Sends a cancel unless it was disarmed: for futures that are dropped halfway.
struct CancelOnDrop<'a> {
    running: &'a Running,
    cancel: Option<Request>,
    slot: Slot,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        // After a deadline, too, nobody waits for the answer any more.
        self.running.link.forget(&self.slot);
        if let Some(cancel) = self.cancel.take() {
            self.running.link.send_now(&cancel);
        }
    }
}

impl Driver {
    /// Asks with a deadline that the driver itself keeps; `what` names the request in errors.
    pub(super) async fn ask(
        &self,
        running: &Arc<Running>,
        slot: Slot,
        request: &Request,
        cancel: Option<Request>,
        (what, within): (&str, Duration),
    ) -> Result<Reply, PeerError> {
        match self.try_ask(running, slot, request, cancel, (what, within)).await? {
            Ok(reply) => Ok(reply),
            Err(e) => Err(self.link_error(running, &e).await),
        }
    }

    /// The same; what is no answer is left to be judged.
    pub(super) async fn try_ask(
        &self,
        running: &Arc<Running>,
        slot: Slot,
        request: &Request,
        cancel: Option<Request>,
        (what, within): (&str, Duration),
    ) -> Result<Result<Reply, LinkError>, PeerError> {
        // The request's own time begins when the driver is told of it.
        let turn = running.turns.take(what, within).await;
        let _turn = turn.map_err(|why| self.harness("driver.max-in-flight", &why))?;
        let mut guard = CancelOnDrop { running, cancel, slot: slot.clone() };
        let answer = tokio::time::timeout(within + DRIVER_SLACK, running.link.ask(slot, request)).await;
        guard.cancel = None;
        answer.map_err(|_| self.overdue(running, what, within))
    }

    fn fresh_id(&self, running: &Running, prefix: &str) -> String {
        format!("{prefix}{}-{}", self.starts.load(Ordering::Relaxed), running.link.fresh())
    }

    pub(super) fn unexpected(&self, what: &str, reply: &Reply) -> PeerError {
        let mut got = format!("{reply:?}");
        got.truncate(got.char_indices().nth(200).map_or(got.len(), |(i, _)| i));
        self.harness("driver.contract", &format!("the answer to `{what}` is of another kind: {got}"))
    }
}

fn tls_message(spec: &TlsSpec) -> Tls {
    let path = |p: &std::path::Path| p.to_string_lossy().into_owned();
    let version = spec.version.map(|v| v.name().to_owned());
    Tls {
        mode: spec.mode.name().into(),
        ca: spec.ca.as_ref().and_then(|i| i.files()).map(|f| path(&f.cert)),
        cert: spec.identity.as_ref().and_then(|i| i.files()).map(|f| path(&f.cert)),
        key: spec.identity.as_ref().and_then(|i| i.files()).and_then(|f| f.key.as_deref()).map(path),
        min_version: version.clone(),
        max_version: version,
        groups: spec.group.iter().map(|g| g.name().to_owned()).collect(),
    }
}

fn limits(limits: crate::peer::Limits) -> Option<Limits> {
    (!limits.is_none()).then_some(Limits { send: limits.send, receive: limits.receive })
}

fn compression(options: crate::peer::CallOptions) -> Option<String> {
    options.compression.map(|compression| compression.name().to_owned())
}

fn address(target: &Target) -> Address {
    match target {
        Target::Tcp(addr) => Address::Tcp(addr.to_string()),
        Target::Unix(path) => Address::Unix(path.to_string_lossy().into_owned()),
    }
}

fn failed(failed: Failed) -> PeerError {
    let phase = match failed.phase.as_deref() {
        Some("launch") => Some(Phase::Handshake),
        Some("connect") => Some(Phase::Connect),
        Some("tls") => Some(Phase::Tls),
        Some("rpc") => Some(Phase::Rpc),
        Some("driver") => Some(Phase::Driver),
        _ => None,
    };
    let bounded = |text: &str| ends(text, KEPT);
    let status = failed.status.map(|s| GrpcStatus { code: bounded(&s.code), text: bounded(&s.text) });
    let timed_out = status.as_ref().is_some_and(|s| s.code == "DEADLINE_EXCEEDED");
    PeerError {
        reported: Reported {
            phase,
            error: bounded(&failed.error),
            native: failed.native.map(|n| match n {
                serde_json::Value::String(text) => bounded(&text),
                other => bounded(&other.to_string()),
            }),
            status,
            cause: None,
        },
        refused: false,
        harness: phase == Some(Phase::Driver),
        timed_out,
    }
}

/// Facts in a driver's words to facts in ours. What is not understood is left out, never guessed.
fn facts(tls: Option<TlsFacts>, encrypted: Option<bool>, target: Option<&Target>) -> ConnectionFacts {
    let told = tls.is_some();
    let tls = tls.unwrap_or_default();
    let version = tls.version.as_deref().and_then(|v| {
        let v = v.trim_start_matches("TLS").trim_start_matches('v').trim();
        match v {
            "1.2" => Some(0x0303),
            "1.3" => Some(0x0304),
            _ => None,
        }
    });
    let group = tls.group.and_then(|g| match g {
        serde_json::Value::Number(n) => n.as_u64().and_then(|n| u16::try_from(n).ok()),
        serde_json::Value::String(name) => crate::axis::canonical("group", &name).and_then(Group::from_name).map(code),
        _ => None,
    });
    ConnectionFacts {
        side: Side::Client,
        certainty: Certainty::Reported,
        tls: if told && version.is_some() { Some(true) } else { encrypted },
        version,
        group,
        cipher: None,
        peer_cert: None,
        peer_cert_sha256: tls.peer_cert_sha256.map(|s| s.to_ascii_lowercase()),
        peer_cert_shown: None,
        transport: target.map(Target::transport),
    }
}

const fn code(group: Group) -> u16 {
    group.code()
}

impl Client for Driver {
    fn connect(&self, request: ConnectRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, PeerError>> {
        Box::pin(async move {
            let running = self.running().await?;
            let id = self.fresh_id(&running, "c");
            let observed = running.link.observe(&id);
            let message = Request::Connect {
                id: id.clone(),
                target: address(&request.target),
                authority: "localhost".into(),
                server_name: request.tls.server_name.clone(),
                tls: tls_message(&request.tls),
                wait: if request.options.lazy { Wait::Lazy } else { Wait::Ready },
                limits: limits(request.options.limits),
                keepalive: request
                    .options
                    .keepalive
                    .map(|k| Keepalive { every_ms: millis(k.every), timeout_ms: millis(k.timeout) }),
                deadline_ms: millis(request.within),
            };
            let cancel = Request::Cancel { stream: None, id: Some(id.clone()), seq: None };
            let reply =
                self.ask(&running, Slot::Id(id.clone()), &message, Some(cancel), ("connect", request.within)).await?;
            match reply {
                Reply::Connected { tls, .. } => {
                    let plain = (request.tls.mode == TlsMode::None).then_some(false);
                    let facts = facts(tls, plain, Some(&request.target));
                    Ok(Box::new(DriverConnection {
                        driver: self.clone(),
                        running,
                        id,
                        observed,
                        facts,
                        launched: None,
                        closed: false,
                    }) as Box<dyn Connection>)
                }
                Reply::Failed(f) => Err(failed(f)),
                other => Err(self.unexpected("connect", &other)),
            }
        })
    }

    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<Box<dyn Connection>, PeerError>> {
        Box::pin(async move {
            let running = self.running().await?;
            let id = self.fresh_id(&running, "l");
            let observed = running.link.observe(&id);
            let auto_mtls = request.tls.mode == TlsMode::Auto;
            let message = Request::Launch {
                id: id.clone(),
                argv: request.argv,
                env: request.env,
                cookie: Cookie { key: request.cookie.0, value: request.cookie.1 },
                protocol_versions: request.protocol_versions,
                auto_mtls,
                tls: tls_message(&request.tls),
                folder: request.folder.to_string_lossy().into_owned(),
                stdio: true,
                deadline_ms: millis(request.within),
            };
            let cancel = Request::Cancel { stream: None, id: Some(id.clone()), seq: None };
            let reply = tokio::select! {
                reply = self.ask(&running, Slot::Id(id.clone()), &message, Some(cancel), ("launch", request.within)) => reply?,
                never = pass_on(&running.link, &observed, &request.last_word) => match never {},
            };
            match reply {
                Reply::Launched { tls, .. } => Ok(Box::new(DriverConnection {
                    driver: self.clone(),
                    running,
                    id,
                    observed,
                    facts: facts(tls, None, None),
                    launched: Some(request.grace),
                    closed: false,
                }) as Box<dyn Connection>),
                Reply::Failed(f) => Err(failed(f)),
                other => Err(self.unexpected("launch", &other)),
            }
        })
    }
}

/// Tells every new reason for which a host's channel is not ready.
async fn pass_on(link: &Link, observed: &Observed, word: &LastWord) -> Infallible {
    let mut changed = link.observed_changed();
    loop {
        changed.borrow_and_update();
        let seen = observed.lines();
        let newest = seen.iter().rev().find(|line| line["what"] == "channel-failure");
        if let Some(error) = newest.and_then(|line| line["error"].as_str()) {
            let error = ends(error, KEPT);
            word.tell(Reported { phase: None, error, native: None, status: None, cause: None });
        }
        if changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct DriverConnection {
    driver: Driver,
    running: Arc<Running>,
    id: String,
    observed: Observed,
    facts: ConnectionFacts,
    /// The grace for ending, when this is a launched plugin.
    launched: Option<Duration>,
    closed: bool,
}

impl Drop for DriverConnection {
    fn drop(&mut self) {
        if !self.closed {
            let id = self.id.clone();
            let request = match self.launched {
                Some(_) => Request::Kill { id, grace_ms: 0 },
                None => Request::Close { id },
            };
            self.running.link.send_now(&request);
        }
    }
}

/// What a call came to; an error names what is no base64.
fn result(reply: CallReply) -> Result<CallResult, String> {
    let local = match reply.origin {
        Origin::Local => Some(true),
        Origin::Remote => Some(false),
        Origin::Unknown => None,
    };
    let no_base64 = |what: &str| format!("`{}` is no base64", ends(what, KEPT));
    let metadata = |pairs| metadata_in(pairs).map_err(|key| no_base64(&key));
    let mut trailers = metadata(reply.trailers)?;
    if let Some(details) = &reply.status.details_b64 {
        let details = bytes_in(details).ok_or_else(|| no_base64("details_b64"))?;
        if !trailers.iter().any(|(name, _)| name == DETAILS) {
            trailers.push((DETAILS.to_owned(), details));
        }
    }
    let receive: Option<_> = reply.receive.iter().map(Answer::bytes).collect();
    let status = GrpcStatus { code: ends(&reply.status.code, KEPT), text: ends(&reply.status.text, KEPT) };
    // A status that may have been made on the client's side is its account of a failure.
    let reported = (status.code != "OK" && local != Some(false)).then(|| Reported {
        phase: None,
        error: status.text.clone(),
        native: reply.native.map(|native| ends(&native, KEPT)),
        status: Some(status.clone()),
        cause: None,
    });
    Ok(CallResult {
        status,
        local,
        receive: receive.ok_or("a received message is no base64")?,
        headers: metadata(reply.headers)?,
        trailers,
        reported,
    })
}

impl Connection for DriverConnection {
    fn facts(&self) -> Option<ConnectionFacts> {
        Some(self.facts.clone())
    }

    fn call(&self, request: CallRequest) -> BoxFuture<'_, Result<CallResult, PeerError>> {
        Box::pin(async move {
            let seq = self.running.link.fresh();
            let message = Request::Call {
                id: self.id.clone(),
                seq,
                method: request.method,
                send: request.send.iter().map(|m| Message { m: encode(m) }).collect(),
                metadata: metadata_out(&request.metadata),
                deadline_ms: millis(request.deadline),
                compression: compression(request.options),
                wait_for_ready: request.options.wait_for_ready,
            };
            let cancel = Request::Cancel { stream: None, id: Some(self.id.clone()), seq: Some(seq) };
            let reply = self
                .driver
                .ask(
                    &self.running,
                    Slot::Call(self.id.clone(), seq),
                    &message,
                    Some(cancel),
                    ("call", request.deadline),
                )
                .await?;
            match reply {
                Reply::Result(reply) => result(*reply).map_err(|why| self.driver.harness("driver.contract", &why)),
                other => Err(self.driver.unexpected("call", &other)),
            }
        })
    }

    fn open(&self, request: CallRequest) -> Option<BoxFuture<'_, Result<Box<dyn Stream>, PeerError>>> {
        Some(Box::pin(async move {
            let stream = self.driver.fresh_id(&self.running, "s");
            let ended = self.running.link.expect(Slot::Ended(stream.clone()));
            let message = Request::Open {
                id: self.id.clone(),
                stream: stream.clone(),
                method: request.method,
                metadata: metadata_out(&request.metadata),
                deadline_ms: millis(request.deadline),
                compression: compression(request.options),
                wait_for_ready: request.options.wait_for_ready,
            };
            let sending = Sending {
                driver: self.driver.clone(),
                running: Arc::clone(&self.running),
                stream,
                deadline: request.deadline,
            };
            // From here on it is cancelled unless it ends, also when nobody waits for `opened` any more.
            let mut open = DriverStream { sending, ended: Some(ended) };
            let reply = open.sending.ask("open", message).await?;
            if !matches!(reply, Reply::Opened { .. }) {
                return Err(self.driver.unexpected("open", &reply));
            }
            for message in request.send {
                open.send(message).await?;
            }
            Ok(Box::new(open) as Box<dyn Stream>)
        }))
    }

    fn stdio(&self) -> Option<(Bytes, Bytes)> {
        let seen = self.observed.lines();
        let gather = |key: &str| {
            let mut bytes = Vec::new();
            for line in seen.iter().filter(|line| line["what"] == "stdio") {
                // The link has looked that it is base64.
                let told = line.get(key).and_then(serde_json::Value::as_str).and_then(bytes_in);
                bytes.extend_from_slice(&told.unwrap_or_default());
            }
            Bytes::from(bytes)
        };
        Some((gather("stdout_b64"), gather("stderr_b64")))
    }

    fn stdio_changed(&self) -> BoxFuture<'_, ()> {
        let mut changed = self.running.link.observed_changed();
        Box::pin(async move {
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let slot = Slot::Id(self.id.clone());
            let id = self.id.clone();
            if let Some(grace) = self.launched {
                let request = Request::Kill { id, grace_ms: millis(grace) };
                self.closed = self.driver.ask(&self.running, slot, &request, None, ("kill", grace)).await.is_ok();
            } else {
                let request = Request::Close { id };
                let within = Duration::from_secs(1);
                self.closed = self.driver.ask(&self.running, slot, &request, None, ("close", within)).await.is_ok();
            }
        })
    }
}

/// A `receive` whose time has passed: the stream goes on, and its next message is for the next one.
fn nothing_came(within: Duration) -> PeerError {
    PeerError {
        reported: Reported {
            phase: Some(Phase::Rpc),
            error: format!("the driver received no message within {within:?}, and no end"),
            native: None,
            status: None,
            cause: None,
        },
        refused: false,
        harness: false,
        timed_out: true,
    }
}

struct DriverStream {
    sending: Sending,
    ended: Option<tokio::sync::oneshot::Receiver<Result<Reply, LinkError>>>,
}

impl DriverStream {
    /// Its end, if it comes in time. The stream counts as ended once that is here, and not before.
    async fn ended_within(&mut self, within: Duration) -> Result<Option<Result<Reply, LinkError>>, PeerError> {
        let Some(ended) = &mut self.ended else {
            return Err(self.sending.driver.harness("driver.contract", "the stream's end was taken already"));
        };
        let Ok(reply) = tokio::time::timeout(within, ended).await else { return Ok(None) };
        self.ended = None;
        Ok(reply.ok())
    }
}

impl Drop for DriverStream {
    fn drop(&mut self) {
        if self.ended.is_some() {
            let cancel = Request::Cancel { stream: Some(self.sending.stream.clone()), id: None, seq: None };
            self.sending.running.link.send_now(&cancel);
            self.sending.running.link.forget(&Slot::Ended(self.sending.stream.clone()));
        }
    }
}

impl Stream for DriverStream {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), PeerError>> {
        self.sending.send(message)
    }

    fn take_sender(&mut self) -> Box<dyn StreamSender> {
        Box::new(self.sending.clone())
    }

    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async move {
            let seq = self.sending.running.link.fresh();
            let request = Request::Receive {
                stream: self.sending.stream.clone(),
                seq,
                max: 1,
                within_ms: millis(self.sending.deadline),
            };
            match self.sending.ask("receive", request).await? {
                Reply::Received { m, end, .. } => {
                    let breach = match (m.as_slice(), end) {
                        ([], true) => return Ok(None),
                        ([], false) => return Err(nothing_came(self.sending.deadline)),
                        ([one], false) => match one.bytes() {
                            Some(message) => return Ok(Some(message)),
                            None => "a received message is no base64",
                        },
                        (_, true) => "`received` has messages and `end: true`",
                        (_, false) => "`received` has more messages than `max`, which was 1",
                    };
                    Err(self.sending.driver.harness("driver.contract", breach))
                }
                other => Err(self.sending.driver.unexpected("receive", &other)),
            }
        })
    }

    fn half_close(&mut self) -> BoxFuture<'_, Result<(), PeerError>> {
        self.sending.half_close()
    }

    fn cancel(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let cancel = Request::Cancel { stream: Some(self.sending.stream.clone()), id: None, seq: None };
            let _ = self.sending.running.link.send(&cancel).await;
        })
    }

    fn end(&mut self) -> BoxFuture<'_, Result<CallResult, PeerError>> {
        Box::pin(async move {
            let mut reply = self.ended_within(UNREAD_AFTER).await?;
            if reply.is_none() {
                // A driver reads one message ahead: it meets the end behind those that nobody took.
                while let Ok(Some(_)) = self.receive().await {}
                reply = self.ended_within(self.sending.deadline + DRIVER_SLACK).await?;
            }
            let done = match reply {
                Some(Ok(Reply::Ended { status, origin, headers, trailers, .. })) => result(CallReply {
                    id: String::new(),
                    seq: 0,
                    status,
                    origin,
                    receive: Vec::new(),
                    headers,
                    trailers,
                    native: None,
                }),
                Some(Ok(other)) => return Err(self.sending.driver.unexpected("open", &other)),
                Some(Err(e)) => return Err(self.sending.driver.link_error(&self.sending.running, &e).await),
                None => {
                    let Sending { driver, running, deadline, .. } = &self.sending;
                    return Err(driver.overdue(running, "end of stream", *deadline));
                }
            };
            done.map_err(|why| self.sending.driver.harness("driver.contract", &why))
        })
    }
}

impl Server for Driver {
    fn serve(&self, request: ServeRequest) -> BoxFuture<'_, Result<Arc<dyn Served>, PeerError>> {
        Box::pin(async move {
            let running = self.running().await?;
            let id = self.fresh_id(&running, "v");
            let observed = running.link.observe(&id);
            let folder = request.folder.to_string_lossy().into_owned();
            let message = Request::Serve {
                id: id.clone(),
                service: request.service,
                listen: Listen { transport: request.transport.name().into(), folder },
                tls: tls_message(&request.tls),
                client_auth: if request.tls.mode == TlsMode::Mutual { ClientAuth::Require } else { ClientAuth::None },
                storage: request.storage.to_string_lossy().into_owned(),
                limits: limits(request.limits),
                deadline_ms: millis(request.within),
            };
            let cancel = Request::Cancel { stream: None, id: Some(id.clone()), seq: None };
            let reply =
                self.ask(&running, Slot::Id(id.clone()), &message, Some(cancel), ("serve", request.within)).await?;
            match reply {
                Reply::Serving { target, .. } => {
                    let target =
                        match target {
                            Address::Unix(path) => Target::Unix(path.into()),
                            Address::Tcp(text) => Target::Tcp(text.parse().map_err(|e| {
                                self.harness("driver.contract", &format!("`{text}` is no HOST:PORT: {e}"))
                            })?),
                        };
                    let stopped = AtomicBool::new(false);
                    Ok(Arc::new(DriverServed { driver: self.clone(), running, id, observed, target, stopped })
                        as Arc<dyn Served>)
                }
                Reply::Failed(f) => Err(failed(f)),
                other => Err(self.unexpected("serve", &other)),
            }
        })
    }
}

struct DriverServed {
    driver: Driver,
    running: Arc<Running>,
    id: String,
    observed: Observed,
    target: Target,
    stopped: AtomicBool,
}

impl Drop for DriverServed {
    fn drop(&mut self) {
        if !self.stopped.load(Ordering::Relaxed) {
            self.running.link.send_now(&Request::Stop { id: self.id.clone(), grace_ms: 0 });
        }
    }
}

impl Served for DriverServed {
    fn target(&self) -> Target {
        self.target.clone()
    }

    fn seen(&self) -> Vec<ServerSaw> {
        let seen = self.observed.lines();
        seen.iter()
            .filter(|line| line["what"] == "peer-cert")
            .map(|line| {
                let sha256 = line["peer_cert_sha256"].as_str();
                ServerSaw {
                    facts: Some(ConnectionFacts {
                        side: Side::Server,
                        certainty: Certainty::Reported,
                        tls: None,
                        version: None,
                        group: None,
                        cipher: None,
                        peer_cert: None::<CertFacts>,
                        peer_cert_sha256: sha256.map(str::to_ascii_lowercase),
                        peer_cert_shown: Some(sha256.is_some()),
                        transport: None,
                    }),
                    failure: None,
                }
            })
            .collect()
    }

    fn stop(self: Arc<Self>, grace: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let request = Request::Stop { id: self.id.clone(), grace_ms: millis(grace) };
            let slot = Slot::Id(self.id.clone());
            let stopped = self.driver.ask(&self.running, slot, &request, None, ("stop", grace)).await;
            self.stopped.store(stopped.is_ok(), Ordering::Relaxed);
        })
    }
}
