//! The server: accepts, does its half of TLS, and serves KV and its companions per connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tower::Service;

use super::account::{find, http2};
use super::broken::answer::Answer;
use super::broken::wire::{self, Script};
use super::broken::{Defect, Saboteur};
use super::client::MESSAGE_LIMIT;
use super::control::{Broker, Controller, HealthService, Stdio, StdioService};
use super::kv::KvService;
use super::log::Log;
use super::proto;
use super::proto::health::health_server::HealthServer;
use super::proto::kv::kv_server::KvServer;
use super::proto::plugin::grpc_broker_server::GrpcBrokerServer;
use super::proto::plugin::grpc_controller_server::GrpcControllerServer;
use super::proto::plugin::grpc_stdio_server::GrpcStdioServer;
use super::stock::{self, STOCK_SERVICE};
use super::store::Store;
use crate::axis::values::{TlsMode, Transport};
use crate::outcome::Phase;
use crate::outcome::evidence::Side;
use crate::peer::{PeerError, ServeRequest, Served, Server, ServerSaw};
use crate::pki::Authority;
use crate::transport::{Fault, Link, Listener, Socket, Target, secure, server_config};

/// The service that every peer of go-plugin's example speaks.
pub const KV_SERVICE: &str = "proto.KV";

/// A client that stalls in its TLS handshake is given up after this.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What is remembered of accepted connections, newest last.
const SEEN: usize = 256;

/// The built-in server role, in this process.
#[derive(Debug, Default)]
pub struct BuiltinServer {
    lie: Option<(Defect, Arc<Authority>)>,
}

impl BuiltinServer {
    /// The honest one.
    #[must_use]
    pub const fn new() -> Self {
        Self { lie: None }
    }

    /// One that ignores what it is asked, with certificates of the run's authority; only the liars
    /// of [`super::broken`] mean anything here.
    #[must_use]
    pub const fn lying(defect: Defect, authority: Arc<Authority>) -> Self {
        Self { lie: Some((defect, authority)) }
    }
}

impl Server for BuiltinServer {
    fn serve(&self, request: ServeRequest) -> BoxFuture<'_, Result<Arc<dyn Served>, PeerError>> {
        Box::pin(async move {
            let request = match &self.lie {
                Some((defect, authority)) => defect.twist(request, authority).await?,
                None => request,
            };
            let content = match request.service.as_str() {
                KV_SERVICE if !request.limits.is_none() => {
                    let text = "the built-in server takes limits for its service stock only";
                    return Err(Fault::new(Phase::Spawn, "limits.unsupported", text).refused().into());
                }
                KV_SERVICE => Content::Kv { store: Arc::new(Store::near()), echo: None },
                STOCK_SERVICE => Content::Stock(stock::app(None, request.limits)),
                other => {
                    let text = format!("the built-in server serves {KV_SERVICE} and {STOCK_SERVICE}, not {other}");
                    return Err(Fault::new(Phase::Spawn, "service.unknown", text).refused().into());
                }
            };
            if request.tls.mode == TlsMode::Auto {
                let text = "AutoMTLS is for plugin launches; a server to dial takes none, server or mutual";
                return Err(Fault::new(Phase::Spawn, "tls.unsupported.auto", text).refused().into());
            }
            let config = server_config(&request.tls)?;
            let bound = match request.transport {
                Transport::Tcp => Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await,
                Transport::Unix => Listener::unix(&request.folder.join("server.sock")),
            };
            let listener = bound.map_err(|error| PeerError {
                harness: true,
                ..Fault::new(Phase::Spawn, "spawn.listen", format!("cannot listen: {error}")).into()
            })?;
            Ok(Arc::new(start(listener, config, App::direct(content), Log::off())) as Arc<dyn Served>)
        })
    }
}

/// What a server is for.
#[derive(Debug)]
pub(super) enum Content {
    /// `proto.KV`, echoing puts where it is told where.
    Kv { store: Arc<Store>, echo: Option<Arc<Stdio>> },
    /// `soup.stock.v1.Stock`.
    Stock(stock::App),
}

/// The services of one server. Its own is found without a router: it is nearly all of the traffic.
#[derive(Clone)]
pub(super) struct App {
    own: Own,
    rest: Routes,
    answer: Option<&'static Answer>,
    script: Option<&'static Script>,
}

#[derive(Clone)]
enum Own {
    Kv(KvServer<KvService>),
    Stock(stock::App),
}

impl Own {
    fn new(content: Content) -> Self {
        match content {
            Content::Kv { store, echo } => Self::Kv(kv(KvService { store, echo })),
            Content::Stock(app) => Self::Stock(app),
        }
    }

    const fn service(&self) -> &'static str {
        match self {
            Self::Kv(_) => KV_SERVICE,
            Self::Stock(_) => STOCK_SERVICE,
        }
    }

    /// Whether a path is one of its methods.
    fn has(&self, path: &str) -> bool {
        path.strip_prefix('/')
            .and_then(|path| path.strip_prefix(self.service()))
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl App {
    /// Its service, health and reflection.
    pub(super) fn direct(content: Content) -> Self {
        let own = Own::new(content);
        let rest = common(vec!["", own.service()]).prepare();
        Self { own, rest, answer: None, script: None }
    }

    /// The same and what go-plugin hosts expect. `end` is cancelled by the controller.
    pub(super) fn plugin(content: Content, stdio: Arc<Stdio>, end: CancellationToken) -> Self {
        let own = Own::new(content);
        let rest = common(vec!["", "plugin", own.service()])
            .add_service(GrpcBrokerServer::new(Broker { end: end.clone() }))
            .add_service(GrpcControllerServer::new(Controller { end: end.clone() }))
            .add_service(GrpcStdioServer::new(StdioService { stdio, end }));
        Self { own, rest: rest.prepare(), answer: None, script: None }
    }

    /// Wrong on purpose, if that is asked for.
    pub(super) fn broken(self, how: Option<Saboteur>) -> Self {
        Self { answer: how.and_then(Saboteur::answer), script: how.and_then(Saboteur::script), ..self }
    }
}

/// tonic takes messages up to 4 MiB unless told otherwise; that is a limit of its users, and not what
/// other peers are held against.
fn kv(service: KvService) -> KvServer<KvService> {
    KvServer::new(service).max_decoding_message_size(MESSAGE_LIMIT).accept_compressed(CompressionEncoding::Gzip)
}

fn common(serving: Vec<&'static str>) -> Routes {
    Routes::new(HealthServer::new(HealthService { serving }))
}

/// Reflection, made when it is first asked for: indexing the descriptors takes longer than all else
/// that a plugin does before its handshake line.
fn reflection() -> Routes {
    static REFLECTION: OnceLock<Routes> = OnceLock::new();
    let made = REFLECTION.get_or_init(|| {
        let builder =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(proto::DESCRIPTORS);
        let mut routes = Routes::default();
        // Our own descriptors always decode; were they not to, the method would be unimplemented.
        if let Ok(v1) = builder().build_v1() {
            routes = routes.add_service(v1);
        }
        if let Ok(v1alpha) = builder().build_v1alpha() {
            routes = routes.add_service(v1alpha);
        }
        routes.prepare()
    });
    made.clone()
}

impl Service<http::Request<Incoming>> for App {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        let path = request.uri().path();
        if let Some(answer) = self.answer.filter(|answer| answer.is_to(path)) {
            return Box::pin(std::future::ready(Ok(answer.response())));
        }
        if self.own.has(path) {
            match &mut self.own {
                Own::Kv(kv) => kv.call(request),
                Own::Stock(stock) => stock.call(request),
            }
        } else if path.starts_with("/grpc.reflection.") {
            Box::pin(reflection().call(request))
        } else {
            Box::pin(self.rest.call(request))
        }
    }
}

/// Connections that were accepted, as this end saw them.
#[derive(Debug, Default)]
struct Seen(Mutex<VecDeque<ServerSaw>>);

impl Seen {
    fn note(&self, saw: ServerSaw) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() == SEEN {
            seen.pop_front();
        }
        seen.push_back(saw);
    }

    fn note_failure(&self, fault: Fault) {
        self.note(ServerSaw { facts: None, failure: Some(fault.reported) });
    }
}

/// A server that runs. Dropping it ends it at once.
pub(super) struct Running {
    target: Target,
    seen: Arc<Seen>,
    end: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

impl Running {
    /// Ends it: no new connections, calls may finish within `grace`, then all is cut.
    pub(super) async fn end(&self, grace: Duration) {
        self.end.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.kill.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Served for Running {
    fn target(&self) -> Target {
        self.target.clone()
    }

    fn seen(&self) -> Vec<ServerSaw> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn stop(self: Arc<Self>, grace: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.end(grace).await })
    }
}

/// Serves `app` on every connection of the listener until told to end.
pub(super) fn start(listener: Listener, config: Option<Arc<ServerConfig>>, app: App, log: Log) -> Running {
    let running = Running {
        target: listener.target().clone(),
        seen: Arc::default(),
        end: CancellationToken::new(),
        kill: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let shared = Shared {
        config,
        app,
        log,
        seen: Arc::clone(&running.seen),
        end: running.end.clone(),
        kill: running.kill.clone(),
        tasks: running.tasks.clone(),
    };
    running.tasks.spawn(accept(listener, Arc::new(shared)));
    running
}

struct Shared {
    config: Option<Arc<ServerConfig>>,
    app: App,
    log: Log,
    seen: Arc<Seen>,
    end: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

/// Out of file descriptors, accepting fails at once again and again, and nothing tells when it
/// would not; this is the pause between tries.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

async fn accept(listener: Listener, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            () = shared.end.cancelled() => return,
            () = shared.kill.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) => {
                let connection = connection(socket, Arc::clone(&shared));
                shared.tasks.spawn(connection);
            }
            Err(error) => {
                shared.log.warn(&format!("a connection could not be accepted: {error}"));
                shared.seen.note_failure(Fault::new(
                    Phase::Connect,
                    "connect.accept",
                    format!("accept failed: {error}"),
                ));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(socket: Socket, shared: Arc<Shared>) {
    if let Some(script) = shared.app.script {
        tokio::select! {
            () = shared.end.cancelled() => {}
            () = shared.kill.cancelled() => {}
            () = wire::play(script, socket, shared.config.clone()) => {}
        }
        return;
    }
    let secured = tokio::select! {
        () = shared.kill.cancelled() => return,
        secured = secure(socket, shared.config.clone(), HANDSHAKE_LIMIT) => secured,
    };
    match secured {
        Ok(link) => tokio::select! {
            () = shared.kill.cancelled() => {}
            () = serve(link, &shared) => {}
        },
        Err(fault) => {
            shared.log.warn(&format!("a connection failed: {} ({})", fault.reported.error, fault.code()));
            shared.seen.note_failure(fault);
        }
    }
}

async fn serve(link: Link, shared: &Shared) {
    let watch = link.watch();
    let facts = link.facts().clone();
    shared.seen.note(ServerSaw { facts: Some(facts), failure: None });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.auto_date_header(false);
    let connection = builder.serve_connection(TokioIo::new(link), TowerToHyperService::new(shared.app.clone()));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shared.end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A connection that ends after HTTP/2 began is an ordinary end, whatever hyper calls it: what
    // the calls were answered says more. Before that it is a client that never spoke HTTP/2.
    if let Err(error) = result {
        let broken = || {
            let error = find::<h2::Error>(&error).filter(|error| error.is_library());
            error.and_then(|error| http2(error, Side::Client))
        };
        let fault = watch.fault().filter(|fault| fault.reported.phase == Some(Phase::Tls)).or_else(broken);
        shared.log.debug(&format!("a connection ended: {error}"));
        if let Some(fault) = fault {
            shared.log.warn(&format!("a connection failed: {} ({})", fault.reported.error, fault.code()));
            shared.seen.note_failure(fault);
        }
    }
}
