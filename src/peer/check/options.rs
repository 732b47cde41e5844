//! Rules on what a call, a connection and a server can be asked for beside themselves: compression,
//! waiting, limits, keepalive. A driver that does not provide one has to say so when it is asked.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use prost::Message as _;
use serde_json::{Value, json};

use super::client::{connect_request, get, plain_mirror, value_of};
use super::mirror;
use super::server::{dial, halt, plain, put, serve};
use super::talk::short;
use super::{Bench, Outcome, Rule, SLACK, WITHIN, broken, skipped};
use crate::outcome::evidence::Side;
use crate::peer::builtin::proto::kv::{GetRequest, PutRequest};
use crate::peer::{CallOptions, CallRequest, Target, TlsSpec};
use crate::wire::{Endpoint, Relay};

const CLIENT: Side = Side::Client;
const SERVER: Side = Side::Server;
/// Enough of one letter that compression makes it smaller.
const LONG: usize = 400;
/// A limit in bytes, and a value beyond it.
const LIMIT: u32 = 1000;
const BEYOND: usize = 2000;
/// What a call waits for a connection that never comes.
const PATIENCE: Duration = Duration::from_millis(300);

pub(super) const OF_SERVERS: &[Rule] = &[
    Rule {
        id: "serve.compression",
        about: "`x-soup-compress` of a request to Stock chooses how its response is sent",
        needs: Some((SERVER, "transport.tcp")),
        check: |bench| responses(bench).boxed(),
    },
    Rule {
        id: "serve.limits",
        about: "`limits` of a server refuse larger messages, or are refused as `unsupported`",
        needs: Some((SERVER, "transport.tcp")),
        check: |bench| server_limits(bench).boxed(),
    },
];

pub(super) const OF_CLIENTS: &[Rule] = &[
    Rule {
        id: "call.compression",
        about: "`compression` is how messages are sent, or is refused as `unsupported`",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| requests(bench).boxed(),
    },
    Rule {
        id: "call.wait-for-ready",
        about: "without a connection a call fails, or waits where it is told to; or that is `unsupported`",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| waiting(bench).boxed(),
    },
    Rule {
        id: "connect.limits",
        about: "`limits` of a connection refuse larger messages, or are refused as `unsupported`",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| limits(bench).boxed(),
    },
    Rule {
        id: "connect.keepalive",
        about: "a connection with `keepalive` carries calls (C-ALIVE-1 looks at its PINGs), or is refused as `unsupported`",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| keepalive(bench).boxed(),
    },
];

/// A request that asks for what the driver does not provide.
async fn unsupported(bench: &mut Bench, request: &Value) -> Outcome {
    let answer = bench.talk().await?.ask(request, WITHIN + SLACK).await?;
    if answer["type"] == "error" && answer["kind"] == "unsupported" {
        return Ok(());
    }
    broken(format!("expected `error` with `kind: unsupported`\ngot      {}", short(&answer.to_string())))
}

async fn connected(bench: &mut Bench, request: &Value) -> Result<String, super::Miss> {
    bench.talk().await?.expect("connected", request, WITHIN + SLACK).await?;
    Ok(request["id"].as_str().unwrap_or_default().to_owned())
}

async fn result(bench: &mut Bench, request: &Value) -> Result<Value, super::Miss> {
    bench.talk().await?.expect("result", request, WITHIN + SLACK).await
}

fn none() -> Value {
    json!({"mode": "none"})
}

async fn requests(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let request = connect_request(bench, &mirror.address(), &none(), WITHIN);
    let id = connected(bench, &request).await?;
    let key = "a".repeat(LONG);
    for (compression, flag) in [("identity", 0), ("gzip", 1)] {
        let mut call = get(bench, &id, &key, WITHIN)?;
        call["compression"] = json!(compression);
        if flag == 1 && !bench.provides(CLIENT, "compression.gzip") {
            return unsupported(bench, &call).await;
        }
        value_of(&result(bench, &call).await?)?;
        let seen = mirror.seen.borrow().flag;
        if seen != Some(flag) {
            let seen = seen.map_or("no message".to_owned(), |flag| format!("the flag {flag}"));
            return broken(format!(
                "expected the compressed flag {flag} on the wire for `compression: {compression}`\ngot      {seen}"
            ));
        }
    }
    Ok(())
}

async fn waiting(bench: &mut Bench) -> Outcome {
    // Bound, and not listening: it refuses connections, and nobody else gets it.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let bound = nobody.and_then(|socket| {
        socket.bind(&std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        Ok((socket, address))
    });
    let Ok((_socket, Some(address))) = bound else { return broken("the check has no port to give") };
    let mut request = connect_request(bench, &json!({"tcp": address.to_string()}), &none(), WITHIN);
    request["wait"] = json!("lazy");
    if !bench.provides(CLIENT, "wait-for-ready") {
        return unsupported(bench, &request).await;
    }
    let id = connected(bench, &request).await?;
    for (wait, within, code) in [(false, WITHIN, "UNAVAILABLE"), (true, PATIENCE, "DEADLINE_EXCEEDED")] {
        let mut call = get(bench, &id, "check", within)?;
        if wait {
            call["wait_for_ready"] = json!(true);
        }
        let status = result(bench, &call).await?["status"].clone();
        if status["code"] != code {
            let what = if wait { "a call that waits for a server that never comes" } else { "a call without a server" };
            return broken(format!("expected {code} for {what}\ngot      {}", short(&status.to_string())));
        }
    }
    Ok(())
}

/// Whether a role takes a limit: by `limits`, which is both, or by itself.
fn limited(bench: &Bench, side: Side, limit: &str) -> bool {
    bench.provides(side, "limits") || bench.provides(side, &format!("limits.{limit}"))
}

async fn limits(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let mut request = connect_request(bench, &mirror.address(), &none(), WITHIN);
    for limit in ["send", "receive"] {
        request["limits"] = json!({limit: LIMIT});
        if !limited(bench, CLIENT, limit) {
            unsupported(bench, &request).await?;
        }
    }
    if !limited(bench, CLIENT, "receive") {
        return Ok(());
    }
    let id = connected(bench, &request).await?;
    let small = get(bench, &id, "check", WITHIN)?;
    value_of(&result(bench, &small).await?)?;
    let large = get(bench, &id, mirror::BIG, WITHIN)?;
    if result(bench, &large).await?["status"]["code"] == "OK" {
        return broken(format!("expected a status for a message over `limits: {{receive: {LIMIT}}}`\ngot      OK"));
    }
    let after = get(bench, &id, "check", WITHIN)?;
    value_of(&result(bench, &after).await?).map(drop)
}

async fn keepalive(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let mut request = connect_request(bench, &mirror.address(), &none(), WITHIN);
    request["keepalive"] = json!({"every_ms": 10_000, "timeout_ms": 5000});
    if !bench.provides(CLIENT, "keepalive") {
        return unsupported(bench, &request).await;
    }
    let id = connected(bench, &request).await?;
    let call = get(bench, &id, "check", WITHIN)?;
    value_of(&result(bench, &call).await?).map(drop)
}

async fn server_limits(bench: &mut Bench) -> Outcome {
    let service = bench.service(SERVER)?;
    let mut request = plain(bench, service, "tcp")?;
    for limit in ["send", "receive"] {
        request["limits"] = json!({limit: LIMIT});
        if !limited(bench, SERVER, limit) {
            unsupported(bench, &request).await?;
        }
    }
    if !limited(bench, SERVER, "receive") {
        return Ok(());
    }
    let target = serve(bench, &request).await?;
    let connection = dial(&target, TlsSpec::none()).await?;
    put(connection.as_ref(), service, "check-small", b"x").await?;
    if put(connection.as_ref(), service, "check-large", &[b'x'; BEYOND]).await.is_ok() {
        return broken(format!("expected a status for a message over `limits: {{receive: {LIMIT}}}`\ngot      OK"));
    }
    put(connection.as_ref(), service, "check-small", b"x").await?;
    connection.close().await;
    halt(bench, &request).await
}

async fn responses(bench: &mut Bench) -> Outcome {
    const STOCK: &str = "soup.stock.v1.Stock";
    if !bench.provides(SERVER, "compression.gzip") || !bench.provides(SERVER, "service.stock") {
        // A driver that promises nothing has nothing to keep: the request is metadata like any other.
        return skipped("its server does not provide compression.gzip and service.stock");
    }
    let request = plain(bench, STOCK, "tcp")?;
    let target = serve(bench, &request).await?;
    let folder = bench.folder()?;
    let Target::Tcp(address) = &target else { return broken("expected a TCP address for `tcp`\ngot      another") };
    let relay = Relay::start(Endpoint::Tcp(*address), target.transport(), &folder, |_| None).await;
    let relay = relay.or_else(|e| broken(format!("the check has no relay: {e}")))?;
    let Endpoint::Tcp(address) = relay.address() else { return broken("the check has no relay") };
    let connection = dial(&Target::Tcp(address), TlsSpec::none()).await?;
    let value = Bytes::from(vec![b'a'; BEYOND]);
    let fill = PutRequest { key: "check-long".into(), value };
    let filled = connection.call(call(format!("{STOCK}/Put"), fill.encode_to_vec(), Vec::new())).await;
    if !filled.is_ok_and(|result| result.status.code == "OK") {
        return broken("expected OK for a put\ngot      another answer");
    }
    for (choice, wanted) in [("gzip", 1), ("identity", 0)] {
        let spoken = |relay: &Relay| {
            let reports = relay.reports();
            reports.iter().filter_map(|report| report.spoken).map(|spoken| spoken.server.compressed).sum::<u64>()
        };
        let before = spoken(&relay);
        let metadata = vec![("x-soup-compress".to_owned(), Bytes::from(choice))];
        let message = GetRequest { key: "check-long".into() }.encode_to_vec();
        let answered = connection.call(call(format!("{STOCK}/Get"), message, metadata)).await;
        if !answered.is_ok_and(|result| result.status.code == "OK") {
            return broken(format!("expected OK for a get with `x-soup-compress: {choice}`\ngot      another answer"));
        }
        if spoken(&relay) - before != wanted {
            let got = if wanted == 0 { "one" } else { "none" };
            return broken(format!(
                "expected {wanted} compressed messages on the wire for `x-soup-compress: {choice}`\ngot      {got}"
            ));
        }
    }
    connection.close().await;
    halt(bench, &request).await
}

fn call(method: String, message: Vec<u8>, metadata: crate::peer::Metadata) -> CallRequest {
    let options = CallOptions::default();
    CallRequest { method, send: vec![Bytes::from(message)], metadata, deadline: WITHIN, options }
}
