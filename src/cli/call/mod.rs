//! `soupscen call`: a client by hand, the built-in one or any peer. `what` finds the method and its
//! messages, `input` reads messages from standard input, `play` calls, `show` tells what came back
//! for as long as there is a `reader`.

mod input;
mod play;
mod reader;
mod show;
mod what;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::Value;

use self::show::{Show, say};
use self::what::{Call, Typed};
use super::printer::Printer;
use super::run::home;
use super::tls_args::TlsArgs;
use super::{exit, peer_files, serving};
use crate::axis::values::TlsMode;
use crate::process::guard;
use crate::transport::{Target, TlsSpec};

/// Call a service: with the built-in client, or with any peer.
///
/// Exit statuses: 0 the status was OK, 1 it was another or there was none, 2 the request cannot be
/// made, 3 the peer's driver failed, 130 interrupted.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// What to call: kv.get, stock.monitor and so on (a wrong one lists them), or
    /// package.Service/Method.
    #[arg(value_name = "OP")]
    pub op: String,
    /// Fields of the message, like key=a quantity=2 `ask.delay_ms=50`. A stream of requests that is
    /// given none, and no --data, reads them from standard input, one a line.
    #[arg(value_name = "NAME=VALUE", value_parser = pair)]
    pub arguments: Vec<(String, String)>,
    /// The peer that calls [default: the built-in client].
    #[arg(long, value_name = "NAME")]
    pub peer: Option<String>,
    /// The file that declares the peer, and perhaps services: a scenario or a file of peers
    /// [default: scenarios/peers/*.yaml and fixtures/peers/*/peer.yaml].
    #[arg(long, value_name = "FILE", requires = "peer")]
    pub from: Option<PathBuf>,
    /// The server to dial: HOST:PORT or unix:PATH [default: the last that `soupscen serve` started].
    #[arg(long, value_name = "ADDRESS", conflicts_with = "plugin")]
    pub server: Option<Target>,
    /// The go-plugin server to start, with its arguments; to be the last flag.
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    pub plugin: Vec<String>,
    /// A .proto file that declares package.Service; may be given more than once.
    #[arg(long, value_name = "FILE")]
    pub proto: Vec<PathBuf>,
    /// A folder in which imports are looked for; may be given more than once.
    #[arg(long, value_name = "FOLDER", requires = "proto")]
    pub import: Vec<PathBuf>,
    /// A whole request message as JSON; may be given more than once, for a stream.
    #[arg(long, value_name = "JSON", value_parser = json_value, conflicts_with = "hex")]
    pub data: Vec<Value>,
    /// An encoded request message in hex; may be given more than once. Answers are printed as hex.
    #[arg(long, value_name = "HEX", value_parser = bytes_of_hex, conflicts_with = "proto")]
    pub hex: Vec<Bytes>,
    /// TLS; with --plugin the default is auto, at a server of `soupscen serve` what that has.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Deadline of the call, like 500ms or 3s [default: 3s; a day where messages are streamed back
    /// or read from standard input].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// Budget to start and connect.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub start: Duration,
    /// Request metadata; keys that end with -bin take base64; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = metadata)]
    pub metadata: Vec<(String, Bytes)>,
    /// Print JSON: one object; for a stream one a message, and one at the end.
    #[arg(long)]
    pub json: bool,
    /// Tell headers, status and trailers too, on standard error.
    #[arg(short, long)]
    pub verbose: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn metadata(text: &str) -> Result<(String, Bytes), String> {
    use base64::Engine as _;
    let (name, value) = pair(text)?;
    let value = if name.ends_with("-bin") {
        base64::engine::general_purpose::STANDARD
            .decode(&value)
            .map_err(|error| format!("the value of `{name}` is no base64: {error}"))?
    } else {
        value.into_bytes()
    };
    Ok((name, Bytes::from(value)))
}

fn bytes_of_hex(text: &str) -> Result<Bytes, String> {
    hex::decode(text).map(Bytes::from).map_err(|error| format!("`{text}` is no hex: {error}"))
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("`{text}` is no JSON: {error}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 500ms, 3s or 1m");
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(u64::from(number) * 60)),
        _ => Err(wrong()),
    }
}

/// Deadline of a call that is answered by one message.
const SHORT: Duration = Duration::from_secs(3);
/// Deadline of a call that goes on until somebody ends it.
const LONG: Duration = Duration::from_hours(24);

/// What is to be done, once everything that was typed is understood.
struct Job {
    call: Call,
    /// `None`: the built-in client.
    peer: Option<peer_files::Found>,
    target: Option<Target>,
    tls: TlsSpec,
    deadline: Duration,
    show: Show,
    args: CallArgs,
}

/// Calls; a peer's processes are under a guard.
pub(super) fn main(args: CallArgs, printer: &Printer) -> ExitCode {
    if args.peer.is_some() { guard::run_guarded(|| run(args, printer)) } else { run(args, printer) }
}

fn run(args: CallArgs, printer: &Printer) -> ExitCode {
    let job = match understood(args, printer) {
        Ok(job) => job,
        Err(status) => return status,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return invalid(printer, &format!("the async runtime cannot be started: {error}")),
    };
    let status = runtime.block_on(play::play(job, printer));
    // Somebody may still be asked for a line.
    runtime.shutdown_background();
    ExitCode::from(status)
}

fn invalid(printer: &Printer, text: &str) -> ExitCode {
    printer.error(text);
    ExitCode::from(exit::INVALID)
}

fn understood(args: CallArgs, printer: &Printer) -> Result<Job, ExitCode> {
    let found = match &args.peer {
        Some(peer) => Some(peer_files::find(peer, args.from.as_deref(), printer)?),
        None => None,
    };
    let services = match &found {
        Some(found) => found.services.clone(),
        None => peer_files::own(printer)?.services,
    };
    let typed = Typed {
        op: &args.op,
        words: &args.arguments,
        data: &args.data,
        hex: &args.hex,
        proto: &args.proto,
        import: &args.import,
    };
    let call = Call::of(&typed, &services).map_err(|problem| invalid(printer, &problem))?;
    let (target, entry) = if args.plugin.is_empty() {
        server(&args).map_err(|problem| invalid(printer, &problem))?
    } else {
        (None, None)
    };
    let mut tls = args.tls.clone();
    let default = entry.as_ref().and_then(|entry| TlsMode::from_name(&entry.tls));
    let default = default.unwrap_or(if args.plugin.is_empty() { TlsMode::None } else { TlsMode::Auto });
    let mode = tls.tls.unwrap_or(default);
    if let Some(entry) = entry.filter(|entry| mode != TlsMode::None && entry.tls != "none") {
        tls.ca = tls.ca.or(entry.ca);
        if mode == TlsMode::Mutual && tls.cert.is_none() {
            (tls.cert, tls.key) = (entry.cert, entry.key);
        }
    }
    if args.plugin.is_empty() && matches!(mode, TlsMode::Server | TlsMode::Mutual) {
        let missing = [
            ("--ca FILE", tls.ca.is_none()),
            ("--cert FILE --key FILE", mode == TlsMode::Mutual && tls.cert.is_none()),
        ];
        if let Some((flag, _)) = missing.into_iter().find(|(_, missing)| *missing) {
            let text = format!(
                "with tls {mode} a client needs {flag}; `soupscen serve` knows them for servers whose certificates it made"
            );
            return Err(invalid(printer, &text));
        }
    }
    let tls = tls.load(mode).map_err(|error| invalid(printer, &error.to_string()))?;
    let deadline = args.deadline.unwrap_or(if call.is_open_ended() { LONG } else { SHORT });
    let show = Show { json: args.json, verbose: args.verbose };
    Ok(Job { call, peer: found, target, tls, deadline, show, args })
}

/// The server that is dialled, and what is known of it where it was started here.
fn server(args: &CallArgs) -> Result<(Option<Target>, Option<serving::Entry>), String> {
    if let Some(target) = &args.server {
        return Ok((Some(target.clone()), serving::at(&home(), &target.to_string())));
    }
    let Some(entry) = serving::last(&home())? else {
        return Err("no server is running here: say --server ADDRESS, or start one with `soupscen serve`".to_owned());
    };
    let target =
        entry.address.parse().map_err(|error| format!("the last server's address `{}` is {error}", entry.address))?;
    if args.verbose {
        say(&format!("{} by {} at {}", entry.service, entry.peer, entry.address));
    }
    Ok((Some(target), Some(entry)))
}
