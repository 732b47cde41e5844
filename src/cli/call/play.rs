//! Connects, calls, and ends everything again, however it goes.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Job;
use super::show::say;
use super::what::Call;
use super::{input, reader};
use crate::cli::printer::Printer;
use crate::cli::{exit, peer_files};
use crate::exec::COOKIE;
use crate::exec::alone::{Alone, Asked, Playing};
use crate::outcome::evidence::ConnectionFacts;
use crate::peer::builtin::BuiltinClient;
use crate::peer::{
    Act, CallOptions, CallRequest, CallResult, ChannelOptions, Client, ConnectRequest, Connection, LastWord,
    LaunchRequest, PeerError, StreamSender,
};
use crate::process::scratch::Scratch;
use crate::process::{Interrupts, Spawner};

/// Budget for a started plugin to end by itself, as go-plugin's host has.
const GRACE: Duration = Duration::from_secs(2);
/// What the end of a cancelled call is waited for.
const CANCEL: Duration = Duration::from_secs(1);

/// How it ended, when it did not come to the end of a call.
enum Stop {
    /// Somebody wants out.
    Interrupted,
    /// Nobody reads what is printed.
    Unread,
    /// A line of the input is no message.
    Input(String),
    /// The call cannot be made by this peer.
    Impossible(String),
    /// The peer, or the connection, failed.
    Failed(Box<PeerError>),
}

impl From<PeerError> for Stop {
    fn from(error: PeerError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Does the job; gives the exit status.
pub(super) async fn play(job: Job, printer: &Printer) -> u8 {
    let folder = match Scratch::new() {
        Ok(folder) => folder,
        Err(error) => {
            printer.error(&error.to_string());
            return exit::INVALID;
        }
    };
    let mut interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => {
            printer.error(&format!("signals cannot be listened to: {error}"));
            return exit::INVALID;
        }
    };
    let client = tokio::select! {
        client = client(&job, &folder, printer) => client,
        _ = interrupts.next() => return exit::INTERRUPTED,
    };
    let client = match client {
        Ok(client) => client,
        Err(status) => return status,
    };
    let ended = with_client(&job, client.role(), &folder, &mut interrupts).await;
    let status = told(&job, ended, printer);
    if let Who::Peer(playing, _) = &client {
        playing.end().await;
    }
    status
}

fn told(job: &Job, ended: Result<u8, Stop>, printer: &Printer) -> u8 {
    match ended {
        Ok(status) => status,
        Err(Stop::Interrupted) => exit::INTERRUPTED,
        Err(Stop::Unread) => exit::OK,
        Err(Stop::Input(text) | Stop::Impossible(text)) => {
            printer.error(&text);
            exit::INVALID
        }
        Err(Stop::Failed(error)) => {
            job.show.failure(&error);
            if error.harness && !error.refused { exit::ERRORED } else { exit::RED }
        }
    }
}

enum Who {
    Own(BuiltinClient),
    /// And whether it has streams that are not done as a whole.
    Peer(Playing<dyn Client>, bool),
}

impl Who {
    fn role(&self) -> (&dyn Client, bool) {
        match self {
            Self::Own(client) => (client, true),
            Self::Peer(playing, interleaves) => (playing.role.as_ref(), *interleaves),
        }
    }
}

/// The client, built where it has to be.
async fn client(job: &Job, folder: &Scratch, printer: &Printer) -> Result<Who, u8> {
    let Some(found) = &job.peer else { return Ok(Who::Own(BuiltinClient::default())) };
    let unusable = |text: &str| {
        printer.error(text);
        exit::INVALID
    };
    let made = |name: &str| folder.folder(name).map_err(|error| unusable(&error.to_string()));
    let (own, temporary) = (made("peer")?, made("tmp")?);
    let spawner = Spawner::start(&folder.path().to_string_lossy())
        .map_err(|error| unusable(&format!("the thread that starts processes cannot be started: {error}")))?
        .with_temporary(&temporary);
    let mut alone = Alone { peer: found.peer.clone(), output: None, vars: found.vars.clone(), spawner, folder: own };
    let asked = Asked {
        service: job.call.service.as_deref(),
        plugin: job.target.is_none(),
        transport: job
            .target
            .as_ref()
            .map_or(crate::axis::values::Transport::Unix, crate::transport::Target::transport),
        tls: &job.tls,
        dial: &job.tls,
    };
    // What it cannot do is said before it is built.
    alone.client(&asked).map_err(|text| unusable(&text))?;
    let built = peer_files::build(&found.peer, &alone.spawner, printer).await.map_err(|_| exit::INVALID)?;
    alone.output = built.output;
    let interleaves = alone.interleaves();
    alone.client(&asked).map(|playing| Who::Peer(playing, interleaves)).map_err(|text| unusable(&text))
}

async fn with_client(
    job: &Job,
    (client, interleaves): (&dyn Client, bool),
    folder: &Scratch,
    interrupts: &mut Interrupts,
) -> Result<u8, Stop> {
    let started = Instant::now();
    let connection = tokio::select! {
        connection = connect(job, client, folder) => connection?,
        _ = interrupts.next() => return Err(Stop::Interrupted),
    };
    let called = call(job, connection.as_ref(), interleaves, interrupts).await;
    let facts = connection.facts();
    let status = called.map(|(result, streamed)| finish(job, &result, facts.as_ref(), (started.elapsed(), streamed)));
    if job.show.verbose {
        connection.account().commands.iter().for_each(|command| say(&format!("ran {command}")));
    }
    connection.close().await;
    status
}

fn finish(job: &Job, result: &CallResult, facts: Option<&ConnectionFacts>, how: (Duration, Option<usize>)) -> u8 {
    job.show.end(&job.call, result, facts, how);
    if result.status.code == "OK" { exit::OK } else { exit::RED }
}

async fn connect(job: &Job, client: &dyn Client, folder: &Scratch) -> Result<Box<dyn Connection>, PeerError> {
    if let Some(target) = job.target.clone() {
        return client
            .connect(ConnectRequest {
                target,
                tls: job.tls.clone(),
                options: ChannelOptions::default(),
                within: job.args.start,
            })
            .await;
    }
    let request = LaunchRequest {
        argv: job.args.plugin.clone(),
        env: forwarded(),
        cookie: (COOKIE.0.to_owned(), COOKIE.1.to_owned()),
        protocol_versions: vec![1],
        tls: job.tls.clone(),
        folder: folder.path().to_owned(),
        within: job.args.start,
        grace: GRACE,
        last_word: LastWord::default(),
    };
    client.launch(request).await
}

/// What a plugin started by hand may need of this environment.
fn forwarded() -> Vec<(String, String)> {
    ["KV_STORAGE_DIR", "KV_ECHO", "LOG_LEVEL"]
        .iter()
        .filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// The call; with the number of messages that were shown already, where they were streamed.
async fn call(
    job: &Job,
    connection: &dyn Connection,
    interleaves: bool,
    interrupts: &mut Interrupts,
) -> Result<(CallResult, Option<usize>), Stop> {
    let request = CallRequest {
        method: job.call.path.clone(),
        send: job.call.messages.clone().unwrap_or_default(),
        metadata: job.args.metadata.clone(),
        deadline: job.deadline,
        options: CallOptions::default(),
    };
    if connection.actor().is_none() && job.call.streams() && interleaves {
        return streamed(job, connection, request, interrupts).await;
    }
    let whole = async {
        if connection.actor().is_some() {
            return acted(&job.call, connection, request).await;
        }
        let mut request = request;
        if let Some(mut typed) = typed(&job.call)? {
            while let Some(message) = typed.recv().await {
                request.send.push(message.map_err(Stop::Input)?);
            }
        }
        Ok(connection.call(request).await?)
    };
    tokio::select! {
        result = whole => Ok((result?, None)),
        _ = interrupts.next() => Err(Stop::Interrupted),
    }
}

/// A call by a program that knows no messages.
async fn acted(call: &Call, connection: &dyn Connection, request: CallRequest) -> Result<CallResult, Stop> {
    let impossible = |text: &str| Stop::Impossible(format!("a peer that is a program run once per op {text}"));
    let (Some(actor), Some(method)) = (connection.actor(), &call.codec) else {
        return Err(impossible("is given no messages in hex"));
    };
    if method.client_streaming() {
        return Err(impossible("is given one message, not a stream of them"));
    }
    let json = |bytes: &Bytes| method.request_to_json(bytes).map_err(|error| Stop::Impossible(error.to_string()));
    let act = Act {
        op: call.op.0.clone(),
        args: call.op.1.clone(),
        method: request.method,
        messages: request.send.iter().map(json).collect::<Result<_, _>>()?,
        metadata: request.metadata,
        deadline: request.deadline,
    };
    let acted = actor.act(act).await?;
    let unclear = |error: crate::dynamic::DynamicError| Stop::Impossible(format!("its answer is unclear: {error}"));
    let mut receive: Vec<Bytes> =
        acted.messages.iter().map(|m| method.response_from_json(m)).collect::<Result<_, _>>().map_err(unclear)?;
    if let (Some(value), Some(yields), true) = (acted.value, &call.yields, receive.is_empty()) {
        let mut message = value;
        for name in yields.rsplit('.') {
            message = serde_json::json!({ name: message });
        }
        receive.push(method.encode_response(&message).map_err(unclear)?);
    }
    Ok(CallResult {
        status: acted.status,
        local: None,
        receive,
        headers: Vec::new(),
        trailers: Vec::new(),
        reported: acted.reported,
    })
}

/// A call whose messages are sent and shown as they come.
async fn streamed(
    job: &Job,
    connection: &dyn Connection,
    mut request: CallRequest,
    interrupts: &mut Interrupts,
) -> Result<(CallResult, Option<usize>), Stop> {
    let given = std::mem::take(&mut request.send);
    let typed = typed(&job.call)?;
    let Some(open) = connection.open(request) else {
        return Err(Stop::Impossible("this peer has no streams that can be opened".to_owned()));
    };
    let mut stream = tokio::select! {
        stream = open => stream?,
        _ = interrupts.next() => return Err(Stop::Interrupted),
    };
    let mut feeding = AbortOnDropHandle::new(tokio::spawn(feed(stream.take_sender(), given, typed)));
    // Kept until the end: dropped, it would end the sending side.
    let mut sender = None;
    let mut count = 0;
    let mut unread = std::pin::pin!(reader::gone());
    let stop = loop {
        let mut next = stream.receive();
        let got = loop {
            tokio::select! {
                biased;
                _ = interrupts.next() => break Err(Stop::Interrupted),
                () = &mut unread => break Err(Stop::Unread),
                got = &mut next => break got.map_err(Stop::from),
                fed = &mut feeding, if sender.is_none() => match fed {
                    Ok((kept, Ok(()))) => sender = Some(kept),
                    Ok((kept, Err(problem))) => {
                        sender = Some(kept);
                        break Err(Stop::Input(problem));
                    }
                    Err(error) => break Err(Stop::Impossible(format!("messages cannot be sent: {error}"))),
                },
            }
        };
        match got {
            Ok(Some(message)) => {
                count += 1;
                if !job.show.message(&job.call, &message) {
                    break Some(Stop::Unread);
                }
            }
            Ok(None) => break None,
            Err(stop) => break Some(stop),
        }
    };
    if let Some(stop) = stop {
        stream.cancel().await;
        let _ = tokio::time::timeout(CANCEL, stream.end()).await;
        return Err(stop);
    }
    Ok((stream.end().await?, Some(count)))
}

/// Messages that are typed, or come from another program.
type Lines = mpsc::Receiver<Result<Bytes, String>>;

fn typed(call: &Call) -> Result<Option<Lines>, Stop> {
    let Some(method) = call.codec.clone().filter(|_| call.messages.is_none()) else { return Ok(None) };
    if std::io::stdin().is_terminal() {
        let fields = method.fields().join(", ");
        say(&format!("one message a line, as JSON or NAME=VALUE … of {fields}; Ctrl-D ends the sending side"));
    }
    let lines = input::messages(method);
    lines.map(Some).map_err(|error| Stop::Impossible(format!("standard input cannot be read: {error}")))
}

/// Sends all messages and ends the sending side. A call that ends before is no mistake here: its
/// status tells why.
async fn feed(
    mut sender: Box<dyn StreamSender>,
    given: Vec<Bytes>,
    typed: Option<Lines>,
) -> (Box<dyn StreamSender>, Result<(), String>) {
    for message in given {
        if sender.send(message).await.is_err() {
            return (sender, Ok(()));
        }
    }
    if let Some(mut typed) = typed {
        while let Some(message) = typed.recv().await {
            match message {
                Ok(message) => {
                    if sender.send(message).await.is_err() {
                        return (sender, Ok(()));
                    }
                }
                Err(problem) => return (sender, Err(problem)),
            }
        }
    }
    let _ = sender.half_close().await;
    (sender, Ok(()))
}
