//! `soupscen call`: an ad hoc client on the built-in one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::tls_args::TlsArgs;
use crate::axis::values::TlsMode;
use crate::dynamic::{DynamicError, Method, Service};
use crate::handshake::Cookie;
use crate::peer::builtin::proto::kv::{GetRequest, GetResponse, PutRequest};
use crate::peer::builtin::{BuiltinClient, KV_SERVICE};
use crate::peer::{
    CallOptions, CallRequest, CallResult, ChannelOptions, Client as _, ConnectRequest, Connection, LaunchRequest,
    Metadata, PeerError, Target,
};

/// Call a service with the built-in peer.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// What to call: kv.get, kv.put, or package.Service/Method with --proto or --hex.
    #[arg(value_name = "OP")]
    pub op: String,
    /// Arguments of the op, or fields of the message, like key=a qty=2; a value that is JSON counts
    /// as such, any other as text.
    #[arg(value_name = "NAME=VALUE", value_parser = pair)]
    pub arguments: Vec<(String, String)>,
    /// The server to dial: HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "plugin", conflicts_with = "plugin")]
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
    /// TLS; with --plugin the default is auto.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Deadline of the call, like 500ms or 3s.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    pub deadline: Duration,
    /// Budget to start and connect.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub start: Duration,
    /// Request metadata; keys that end with -bin take base64; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = metadata)]
    pub metadata: Vec<(String, Bytes)>,
    /// Print one JSON object instead of the value.
    #[arg(long)]
    pub json: bool,
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

/// Budget for a started plugin to end by itself, as go-plugin's host has.
const GRACE: Duration = Duration::from_secs(2);

/// Calls. Exit statuses: 0 the status was OK, 1 it was another or there was none, 2 the request
/// cannot be made.
#[must_use]
pub fn main(args: CallArgs) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(main_async(args)),
        Err(error) => fail(1, &format!("the runtime cannot start: {error}")),
    }
}

/// The same within a runtime.
pub async fn main_async(args: CallArgs) -> ExitCode {
    let call = match Call::of(&args) {
        Ok(call) => call,
        Err(problem) => return fail(2, &problem),
    };
    let mode = args.tls.tls.unwrap_or(if args.plugin.is_empty() { TlsMode::None } else { TlsMode::Auto });
    let tls = match args.tls.load(mode) {
        Ok(tls) => tls,
        Err(error) => return fail(2, &error.to_string()),
    };
    let started = Instant::now();
    let folder = match tempfile::Builder::new().prefix("soupscen-call-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return fail(1, &format!("cannot make a temporary folder: {error}")),
    };
    let client = BuiltinClient::default();
    let connection = if let Some(target) = args.server.clone() {
        client.connect(ConnectRequest { target, tls, options: ChannelOptions::default(), within: args.start }).await
    } else {
        let cookie = Cookie::basic();
        let request = LaunchRequest {
            argv: args.plugin.clone(),
            env: forwarded(),
            cookie: (cookie.key, cookie.value),
            protocol_versions: vec![1],
            tls,
            folder: folder.path().to_owned(),
            within: args.start,
            grace: GRACE,
            last_word: crate::peer::LastWord::default(),
        };
        client.launch(request).await
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => return failed(&args, &error),
    };
    let request = CallRequest {
        method: call.method.clone(),
        send: call.send.clone(),
        metadata: args.metadata.clone(),
        deadline: args.deadline,
        options: CallOptions::default(),
    };
    let result = connection.call(request).await;
    let status = match result {
        Ok(result) => answer(&args, &call, &result, connection.as_ref(), started.elapsed()),
        Err(error) => failed(&args, &error),
    };
    connection.close().await;
    status
}

/// What a plugin started by hand may need of this environment.
fn forwarded() -> Vec<(String, String)> {
    ["KV_STORAGE_DIR", "KV_ECHO", "LOG_LEVEL"]
        .iter()
        .filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// A call as it goes on the wire.
struct Call {
    method: String,
    send: Vec<Bytes>,
    answer: Answer,
}

/// How answers are read.
enum Answer {
    /// The value of a `GetResponse`.
    Value,
    /// Nothing in it.
    Empty,
    /// JSON, by its descriptor.
    Message(Arc<Method>),
    /// Hex.
    Bytes,
}

impl Call {
    fn of(args: &CallArgs) -> Result<Self, String> {
        let argument = |name: &str| {
            let found = args.arguments.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            found.ok_or_else(|| format!("{} needs {name}=…", args.op))
        };
        let allow = |known: &[&str]| match args.arguments.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(format!("{} takes no `{name}`; it takes {}", args.op, known.join(", "))),
            None => Ok(()),
        };
        let kv = |method: &str| format!("{KV_SERVICE}/{method}");
        match args.op.as_str() {
            "kv.get" => {
                allow(&["key"])?;
                let message = GetRequest { key: argument("key")? };
                Ok(Self { method: kv("Get"), send: vec![message.encode_to_vec().into()], answer: Answer::Value })
            }
            "kv.put" => {
                allow(&["key", "value"])?;
                let message = PutRequest { key: argument("key")?, value: argument("value")?.into_bytes().into() };
                Ok(Self { method: kv("Put"), send: vec![message.encode_to_vec().into()], answer: Answer::Empty })
            }
            method if method.contains('/') && !args.hex.is_empty() => {
                allow(&[])?;
                Ok(Self { method: method.to_owned(), send: args.hex.clone(), answer: Answer::Bytes })
            }
            op => match op.split_once('/') {
                Some((service, method)) => Self::dynamic(args, service, method),
                None => Err(format!(
                    "`{op}` is not known; known are kv.get, kv.put and package.Service/Method with --proto or --hex"
                )),
            },
        }
    }

    /// A method by its descriptor.
    fn dynamic(args: &CallArgs, service: &str, method: &str) -> Result<Self, String> {
        let text = |error: DynamicError| error.to_string();
        let method =
            Service::compile(service, &args.proto, &args.import).map_err(text)?.method(method).map_err(text)?;
        let mut messages = args.data.clone();
        if messages.is_empty() || !args.arguments.is_empty() {
            if !messages.is_empty() {
                return Err("give the message by NAME=VALUE or by --data, not by both".to_owned());
            }
            let fields = args.arguments.iter().map(|(name, value)| {
                let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
                (name.clone(), value)
            });
            messages.push(Value::Object(fields.collect()));
        }
        let send = messages.iter().map(|message| method.encode(message)).collect::<Result<_, _>>().map_err(text)?;
        Ok(Self { method: method.path().to_owned(), send, answer: Answer::Message(method) })
    }

    /// A message for people: `None` when there is nothing to show.
    fn read(&self, message: &Bytes) -> Option<Value> {
        match &self.answer {
            Answer::Value => GetResponse::decode(message.as_ref()).ok().map(|response| text_or_base64(&response.value)),
            Answer::Empty => None,
            Answer::Message(method) => Some(method.decode(message).unwrap_or_else(|error| json!(error.to_string()))),
            Answer::Bytes => Some(json!(hex::encode(message))),
        }
    }
}

fn answer(
    args: &CallArgs,
    call: &Call,
    result: &CallResult,
    connection: &dyn Connection,
    elapsed: Duration,
) -> ExitCode {
    let ok = result.status.code == "OK";
    if args.json {
        print(&report(call, result, connection, elapsed).to_string());
    } else if ok {
        for message in &result.receive {
            show(call, message);
        }
    } else {
        let origin = if result.local == Some(true) { " (said by this client itself)" } else { "" };
        return fail(1, &format!("{}: {}{origin}", result.status.code, result.status.text));
    }
    ExitCode::from(u8::from(!ok))
}

fn show(call: &Call, message: &Bytes) {
    if let Answer::Value = call.answer {
        // As it is: it may be no text.
        let mut out = std::io::stdout().lock();
        let value = GetResponse::decode(message.as_ref()).map(|response| response.value).unwrap_or_default();
        let _ = out.write_all(&value).and_then(|()| out.write_all(b"\n"));
        return;
    }
    match call.read(message) {
        Some(Value::String(text)) => print(&text),
        Some(value) => print(&value.to_string()),
        None => {}
    }
}

/// Bytes as JSON: text where they are text.
fn text_or_base64(bytes: &[u8]) -> Value {
    use base64::Engine as _;
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "$base64": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    }
}

fn metadata_json(metadata: &Metadata) -> Value {
    metadata.iter().map(|(name, value)| json!([name, text_or_base64(value)])).collect()
}

fn report(call: &Call, result: &CallResult, connection: &dyn Connection, elapsed: Duration) -> Value {
    let mut report = Map::new();
    report.insert("method".to_owned(), json!(call.method));
    report.insert("status".to_owned(), json!(result.status));
    report.insert("local".to_owned(), json!(result.local));
    let messages: Vec<Value> = result.receive.iter().filter_map(|message| call.read(message)).collect();
    if let Answer::Value = call.answer {
        report.insert("value".to_owned(), messages.into_iter().next().unwrap_or_default());
    } else {
        report.insert("messages".to_owned(), Value::Array(messages));
    }
    report.insert("headers".to_owned(), metadata_json(&result.headers));
    report.insert("trailers".to_owned(), metadata_json(&result.trailers));
    report.insert("cause".to_owned(), json!(result.reported.as_ref().and_then(|reported| reported.cause.as_ref())));
    report.insert("connection".to_owned(), json!(connection.facts()));
    report.insert("elapsed_ms".to_owned(), json!(elapsed.as_millis()));
    Value::Object(report)
}

fn failed(args: &CallArgs, error: &PeerError) -> ExitCode {
    let cause = error.reported.cause.as_ref();
    if args.json {
        let report = json!({
            "error": error.reported.error,
            "phase": error.reported.phase,
            "cause": cause,
            "timed_out": error.timed_out,
        });
        print(&report.to_string());
        return ExitCode::from(1);
    }
    let code = cause.map(|cause| format!(" ({})", cause.code)).unwrap_or_default();
    fail(1, &format!("{}{code}", error.reported.error))
}

fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn fail(status: u8, text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
    ExitCode::from(status)
}
