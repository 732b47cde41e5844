//! When a server program can be dialled: a sign in its output, a file, or that it takes connections.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prost::Message as _;
use regex::bytes::Regex;
use tokio::io::AsyncRead;
use tokio::sync::watch;

use super::command::parse_address;
use crate::peer::builtin::BuiltinClient;
use crate::peer::{CallOptions, CallRequest, ChannelOptions, Client as _, ConnectRequest, Target, TlsSpec};
use crate::process::capture::{Capture, Tail};

/// Complete lines that a pattern may span, in bytes.
const WINDOW: usize = 64 << 10;
/// Between two tries at what tells by no event, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(40));
/// Budget of one try at a health service.
const TRY: Duration = Duration::from_secs(2);
/// `grpc.health.v1.HealthCheckResponse.SERVING`.
const SERVING: i32 = 1;

/// go-plugin's handshake line: core version, app version, network, address, protocol.
pub(super) fn line() -> Option<&'static Regex> {
    static LINE: OnceLock<Option<Regex>> = OnceLock::new();
    let text = r"(?m)^\d+\|\d+\|(?<network>tcp|unix)\|(?<address>[^|\r\n]+)\|grpc(?:\||\r?$)";
    LINE.get_or_init(|| Regex::new(text).ok()).as_ref()
}

/// Drains an output, and looks for a sign in its complete lines.
pub(super) fn watch_for(from: impl AsyncRead + Send + Unpin + 'static, sign: Option<Regex>) -> (Capture, Sign) {
    let (publish, found) = watch::channel(None);
    let Some(regex) = sign else { return (Capture::start(from), Sign { found }) };
    let scanner = Mutex::new(Scanner { regex, pending: Vec::new(), done: false });
    let capture = Capture::with(from, Tail::default(), move |bytes| {
        let mut scanner = scanner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sign) = scanner.push(bytes) {
            publish.send_replace(Some(sign));
        }
    });
    (capture, Sign { found })
}

/// A sign in an output, once it is there: with the address that it tells, if it does.
pub(super) struct Sign {
    found: watch::Receiver<Option<Announced>>,
}

impl Sign {
    /// Resolves when it is there; never when the output ended without it.
    pub(super) async fn seen(&self) -> Option<Arc<str>> {
        let mut found = self.found.clone();
        let sign =
            found.wait_for(Option::is_some).await.map(|sign| sign.as_ref().and_then(|sign| sign.address.clone()));
        match sign {
            Ok(address) => address,
            Err(_) => std::future::pending().await,
        }
    }
}

/// A sign, with the address that it tells, if it does.
#[derive(Debug, Clone)]
struct Announced {
    address: Option<Arc<str>>,
}

struct Scanner {
    regex: Regex,
    pending: Vec<u8>,
    done: bool,
}

impl Scanner {
    /// Takes bytes; the sign's address when it has come.
    fn push(&mut self, bytes: &[u8]) -> Option<Announced> {
        if self.done {
            return None;
        }
        self.pending.extend_from_slice(bytes);
        // Only complete lines: half an address would be a wrong one.
        let end = self.pending.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        if bytes.contains(&b'\n')
            && let Some(found) = self.regex.captures(self.pending.get(..end).unwrap_or_default())
        {
            let group = found.name("address").or_else(|| found.get(1));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let unix = found.name("network").is_some_and(|network| network.as_bytes() == b"unix");
            let address = group.map(|m| if unix { format!("unix:{}", text(m.as_bytes())) } else { text(m.as_bytes()) });
            self.done = true;
            self.pending = Vec::new();
            return Some(Announced { address: address.map(Arc::from) });
        }
        let surplus = self.pending.len().saturating_sub(WINDOW);
        self.pending.drain(..surplus);
        None
    }
}

/// Resolves when something takes connections there.
pub(crate) async fn dialled(target: &Target) {
    let mut pause = PAUSE.0;
    while !is_open(target).await {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Whether something takes connections there now.
pub(super) async fn is_open(target: &Target) -> bool {
    match target {
        Target::Tcp(address) => tokio::net::TcpStream::connect(address).await.is_ok(),
        Target::Unix(path) => tokio::net::UnixStream::connect(path).await.is_ok(),
    }
}

/// Resolves when its health service says that it serves.
pub(super) async fn healthy(target: &Target, tls: &TlsSpec) {
    let mut pause = PAUSE.0;
    loop {
        if is_serving(target, tls).await {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn is_serving(target: &Target, tls: &TlsSpec) -> bool {
    let Some(reply) = call(target, tls, "grpc.health.v1.Health/Check", TRY).await else { return false };
    // HealthCheckResponse has one field: `status = 1`, an enum.
    let status = reply.first().map(|bytes| Health::decode(bytes.clone()));
    matches!(status, Some(Ok(Health { status: SERVING })))
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Health {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Calls a method with an empty message; its responses where the status is `OK`.
pub(super) async fn call(target: &Target, tls: &TlsSpec, method: &str, within: Duration) -> Option<Vec<bytes::Bytes>> {
    let request =
        ConnectRequest { target: target.clone(), tls: tls.clone(), options: ChannelOptions::default(), within };
    let connection = BuiltinClient::default().connect(request).await.ok()?;
    let request = CallRequest {
        method: method.to_owned(),
        send: vec![bytes::Bytes::new()],
        metadata: Vec::new(),
        deadline: within,
        options: CallOptions::default(),
    };
    let result = connection.call(request).await;
    connection.close().await;
    result.ok().filter(|result| result.status.code == "OK").map(|result| result.receive)
}

/// Resolves when a file is there and not empty, with what it holds.
pub(super) async fn written(path: &Path) -> String {
    let mut pause = PAUSE.0;
    loop {
        if let Ok(text) = tokio::fs::read(path).await
            && !text.is_empty()
        {
            return String::from_utf8_lossy(text.get(..1024).unwrap_or(&text)).trim().to_owned();
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// The address that a file holds, if it is one.
pub(super) fn address_in(text: &str, folder: &Path) -> Option<Target> {
    parse_address(text.lines().next().unwrap_or_default(), folder).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_seen_in_complete_lines_behind_any_amount_of_noise() {
        let regex = Regex::new(r"listening on (\S+)").unwrap();
        let mut scanner = Scanner { regex, pending: Vec::new(), done: false };
        for _ in 0..1000 {
            assert!(scanner.push(&[b'x'; 1024]).is_none());
        }
        assert!(scanner.pending.len() <= WINDOW);
        assert!(scanner.push(b"\nlistening on 127.0.0.1:50").is_none(), "half a line");
        assert_eq!(scanner.push(b"051\nmore").unwrap().address.as_deref(), Some("127.0.0.1:50051"));
        assert!(scanner.push(b"listening on 9\n").is_none(), "the first counts");
    }

    #[test]
    fn the_line_of_go_plugin_gives_its_address() {
        let sign = |text: &str| {
            let mut scanner = Scanner { regex: line().unwrap().clone(), pending: Vec::new(), done: false };
            scanner.push(text.as_bytes())?.address.map(|a| a.to_string())
        };
        assert_eq!(sign("noise\n1|1|tcp|127.0.0.1:1234|grpc|\n").as_deref(), Some("127.0.0.1:1234"));
        assert_eq!(sign("1|1|unix|/a/s|grpc\n").as_deref(), Some("unix:/a/s"));
        assert_eq!(sign("1|1|tcp|127.0.0.1:1234|netrpc\n"), None);
    }
}
