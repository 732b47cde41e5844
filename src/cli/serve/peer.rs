//! `serve … --peer NAME`: any declared peer as a server.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::certs::Certs;
use super::front::{self, Front};
use super::{ListenArgs, Service};
use crate::axis::values::TlsMode;
use crate::cli::printer::Printer;
use crate::cli::run::home;
use crate::cli::serving::Listing;
use crate::cli::{exit, peer_files};
use crate::exec::alone::{Alone, Asked, Playing};
use crate::peer::{Limits, ServeRequest, Server};
use crate::process::scratch::Scratch;
use crate::process::{Interrupts, Spawner};

/// Budget to be ready.
const START: Duration = Duration::from_secs(20);
/// What calls in flight get, once the server is to end.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until ended.
pub(super) fn main(service: &Service, name: &str, printer: &Printer) -> ExitCode {
    let args = service.listen();
    let found = match peer_files::find(name, args.from.as_deref(), printer) {
        Ok(found) => found,
        Err(status) => return status,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return ExitCode::from(unusable(printer, &format!("the async runtime cannot be started: {error}")));
        }
    };
    let status = runtime.block_on(async {
        let mut interrupts = match Interrupts::listen() {
            Ok(interrupts) => interrupts,
            Err(error) => return unusable(printer, &format!("signals cannot be listened to: {error}")),
        };
        let folder = match Scratch::new() {
            Ok(folder) => folder,
            Err(error) => return unusable(printer, &error.to_string()),
        };
        let ready = tokio::select! {
            ready = prepare(service, &found, &folder, printer) => ready,
            _ = interrupts.next() => return exit::INTERRUPTED,
        };
        match ready {
            Ok(ready) => ready.serve(&mut interrupts, printer).await,
            Err(status) => status,
        }
    });
    runtime.shutdown_background();
    ExitCode::from(status)
}

fn unusable(printer: &Printer, text: &str) -> u8 {
    printer.error(text);
    exit::INVALID
}

/// Everything that is needed to start the server.
struct Ready<'a> {
    service: &'a Service,
    full: String,
    peer: &'a str,
    playing: Playing<dyn Server>,
    request: ServeRequest,
    certs: Certs,
    listener: Option<crate::transport::Listener>,
    listing: Option<Listing>,
}

async fn prepare<'a>(
    service: &'a Service,
    found: &'a peer_files::Found,
    folder: &Scratch,
    printer: &Printer,
) -> Result<Ready<'a>, u8> {
    let args = service.listen();
    let mode = args.tls.tls.unwrap_or(TlsMode::None);
    if mode == TlsMode::Auto {
        return Err(unusable(printer, "AutoMTLS needs a go-plugin host; without one use --tls none, server or mutual"));
    }
    let wrong = |error: &dyn std::fmt::Display| unusable(printer, &error.to_string());
    let made = |name: &str| folder.folder(name).map_err(|error| wrong(&error));
    let (own, sockets, kept, temporary) = (made("peer")?, made("s")?, made("storage")?, made("tmp")?);
    let listing = listing(args, printer);
    // Private to this server either way.
    let in_listing = listing.as_ref().map(|listing| listing.folder().to_owned());
    let certs_folder = in_listing.unwrap_or_else(|| folder.path().join("certs"));
    let certs = Certs::of(args, mode, Some(&certs_folder)).await.map_err(|error| wrong(&error))?;
    let listener = match args.at() {
        Some(address) => Some(front::listen(&address).await.map_err(|e| wrong(&cannot_listen(&address, &e)))?),
        None => None,
    };
    let spawner = Spawner::start(&folder.path().to_string_lossy())
        .map_err(|error| wrong(&format!("the thread that starts processes cannot be started: {error}")))?
        .with_temporary(&temporary);
    let mut alone = Alone { peer: found.peer.clone(), output: None, vars: found.vars.clone(), spawner, folder: own };
    let transport = args.transport.unwrap_or_else(|| alone.transport());
    let asked =
        Asked { service: Some(service.name()), plugin: false, transport, tls: &certs.server, dial: &certs.dial };
    // What it cannot do is said before it is built.
    alone.server(&asked).map_err(|text| wrong(&text))?;
    let built = peer_files::build(&found.peer, &alone.spawner, printer).await.map_err(|_| exit::INVALID)?;
    alone.output = built.output;
    let playing = alone.server(&asked).map_err(|text| wrong(&text))?;
    let storage = match service.storage() {
        Some(folder) => {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            std::fs::create_dir_all(&folder).map_err(|e| wrong(&format!("`{}`: {e}", folder.display())))?;
            folder
        }
        None => kept,
    };
    let full = found.services.get(service.name()).map_or_else(|| service.name().to_owned(), |s| s.service.clone());
    let request = ServeRequest {
        service: full.clone(),
        transport,
        tls: certs.server.clone(),
        folder: sockets,
        storage,
        limits: Limits::default(),
        within: START,
    };
    Ok(Ready { service, full, peer: &found.peer.name, playing, request, certs, listener, listing })
}

fn cannot_listen(address: &crate::transport::Target, error: &io::Error) -> String {
    format!("cannot listen at {address}: {error}")
}

/// The entry for `soupscen call`; a server does without where there is no place for it.
pub(super) fn listing(args: &ListenArgs, printer: &Printer) -> Option<Listing> {
    if args.unlisted {
        return None;
    }
    let home: PathBuf = home();
    Listing::new(&home)
        .map_err(|error| {
            let text = format!("`soupscen call` will not find this server by itself: `{}`: {error}", home.display());
            printer.say(&text);
        })
        .ok()
}

impl Ready<'_> {
    async fn serve(mut self, interrupts: &mut Interrupts, printer: &Printer) -> u8 {
        let served = tokio::select! {
            served = self.playing.role.serve(self.request.clone()) => served,
            _ = interrupts.next() => {
                self.playing.end().await;
                return exit::INTERRUPTED;
            }
        };
        let served = match served {
            Ok(served) => served,
            Err(error) => {
                let code = error.reported.cause.as_ref().map(|cause| format!(" ({})", cause.code)).unwrap_or_default();
                printer.error(&format!("{} cannot serve: {}{code}", self.peer, error.reported.error));
                self.playing.end().await;
                return if error.harness && !error.refused { exit::ERRORED } else { exit::RED };
            }
        };
        let (at, front) = match self.listener.take() {
            Some(listener) => (listener.target().clone(), Some(Front::start(listener, served.target()))),
            None => (served.target(), None),
        };
        let address = at.to_string();
        let entry = self.certs.entry(&self.full, self.peer, address.clone());
        if let Some(listing) = &mut self.listing
            && let Err(error) = listing.publish(entry)
        {
            printer.say(&format!("`soupscen call` will not find this server by itself: {error}"));
        }
        printer
            .line(&format!("serving {} by {} at {address} with tls {}", self.full, self.peer, self.request.tls.mode));
        for line in self.certs.advice(self.service.name(), &address) {
            printer.say(&line);
        }
        let status = tokio::select! {
            _ = interrupts.next() => exit::OK,
            how = self.playing.died() => {
                printer.error(&format!("the server of {} is gone: {how}", self.peer));
                exit::ERRORED
            }
        };
        // Nobody finds it any more, then it goes.
        self.listing = None;
        drop(front);
        served.stop(GRACE).await;
        self.playing.end().await;
        status
    }
}
