//! Rules on the client role: how a driver dials, calls, gives up, and tells what came back.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt as _;
use prost::Message as _;
use serde_json::{Value, json};

use super::mirror::{self, Mirror};
use super::server::{files, refuses_choice, unclaimed_choices};
use super::talk::short;
use super::{Bench, Miss, Outcome, Rule, SLACK, WITHIN, broken};
use crate::axis::values::{KeyType, TlsMode};
use crate::outcome::evidence::Side;
use crate::peer::TlsSpec;
use crate::peer::builtin::proto::kv::{GetRequest, GetResponse, PutRequest};
use crate::pki::{Identity, Role};
use crate::transport::server_config;

const CLIENT: Side = Side::Client;
/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(300);
/// Connects that are cancelled at once.
const CROSSINGS: usize = 8;
/// Calls at once.
const MANY: u64 = 16;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "connect.tcp",
        about: "a connection over TCP carries calls, bytes unchanged",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| connected(bench, false).boxed(),
    },
    Rule {
        id: "connect.unix",
        about: "the same over a unix socket",
        needs: Some((CLIENT, "transport.unix")),
        check: |bench| connected(bench, true).boxed(),
    },
    Rule {
        id: "connect.tls",
        about: "`tls: server` verifies the server with the authority and `server_name` that it was given",
        needs: Some((CLIENT, "tls.server")),
        check: |bench| tls(bench, TlsMode::Server).boxed(),
    },
    Rule {
        id: "connect.mutual",
        about: "`tls: mutual` presents the certificate that it was given",
        needs: Some((CLIENT, "tls.mutual")),
        check: |bench| tls(bench, TlsMode::Mutual).boxed(),
    },
    Rule {
        id: "connect.stranger",
        about: "a server of another authority is `failed`",
        needs: Some((CLIENT, "tls.server")),
        check: |bench| stranger(bench).boxed(),
    },
    Rule {
        id: "connect.tls-choices",
        about: "a TLS version or group that it does not claim, or that is none, is `error`",
        needs: Some((CLIENT, "tls.server")),
        check: |bench| choices(bench).boxed(),
    },
    Rule {
        id: "connect.nobody",
        about: "an address where nothing listens is `failed`, within the deadline",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| nobody(bench).boxed(),
    },
    Rule {
        id: "connect.silence",
        about: "a server that accepts and says nothing is `failed` when the deadline has passed",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| silence(bench).boxed(),
    },
    Rule {
        id: "connect.fresh",
        about: "one id is one connection, never pooled; `close` ends it",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| fresh(bench).boxed(),
    },
    Rule {
        id: "connect.cancel",
        about: "`cancel` of a connect ends it, before its answer, after it, and when the two cross",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| cancel_connect(bench).boxed(),
    },
    Rule {
        id: "call.status",
        about: "a status keeps its code and its text, and `origin` does not call it local",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| status(bench).boxed(),
    },
    Rule {
        id: "call.metadata",
        about: "metadata goes out and comes back in order, duplicates and bytes kept",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| metadata(bench).boxed(),
    },
    Rule {
        id: "call.deadline",
        about: "a deadline is told to the server, and ends the call with DEADLINE_EXCEEDED",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| deadline(bench).boxed(),
    },
    Rule {
        id: "call.cancel",
        about: "a cancelled call gets its `result`, CANCELLED, and the server learns of it",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| cancel(bench).boxed(),
    },
    Rule {
        id: "call.big",
        about: "a message of 1 MiB comes through",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| big(bench).boxed(),
    },
    Rule {
        id: "call.many",
        about: "calls at once are answered each, one that is not answered holds up none",
        needs: Some((CLIENT, "transport.tcp")),
        check: |bench| many(bench).boxed(),
    },
    Rule {
        id: "call.unknown-id",
        about: "a call on a connection that is not there is `error`, with the call's `seq`",
        needs: Some((CLIENT, "")),
        check: |bench| unknown_id(bench).boxed(),
    },
];

pub(super) async fn plain_mirror() -> Result<Mirror, Miss> {
    mirror(None, None).await
}

async fn mirror(folder: Option<&std::path::Path>, tls: Option<&TlsSpec>) -> Result<Mirror, Miss> {
    let config = tls.map(server_config).transpose();
    let config =
        config.or_else(|fault| broken(format!("the check has no server: {}", fault.reported.error)))?.flatten();
    Mirror::start(folder, config).await.or_else(|e| broken(format!("the check has no server: {e}")))
}

pub(super) fn connect_request(bench: &mut Bench, target: &Value, tls: &Value, within: Duration) -> Value {
    json!({
        "type": "connect", "id": bench.fresh("c"), "target": target, "authority": "localhost",
        "server_name": "localhost", "tls": tls, "wait": "ready", "deadline_ms": within.as_millis(),
    })
}

/// A connection, by its id.
async fn connect(bench: &mut Bench, mirror: &Mirror, tls: &Value) -> Result<String, Miss> {
    let request = connect_request(bench, &mirror.address(), tls, WITHIN);
    bench.talk().await?.expect("connected", &request, WITHIN + SLACK).await?;
    Ok(request["id"].as_str().unwrap_or_default().to_owned())
}

async fn close(bench: &mut Bench, id: &str) -> Outcome {
    bench.talk().await?.expect("closed", &json!({"type": "close", "id": id}), WITHIN).await.map(drop)
}

/// A get, as a request.
pub(super) fn get(bench: &mut Bench, id: &str, key: &str, within: Duration) -> Result<Value, Miss> {
    let service = bench.service(CLIENT)?;
    bench.next += 1;
    let message = STANDARD.encode(GetRequest { key: key.into() }.encode_to_vec());
    Ok(json!({
        "type": "call", "id": id, "seq": bench.next, "method": format!("{service}/Get"),
        "send": [{"m": message}], "metadata": [], "deadline_ms": within.as_millis(),
    }))
}

fn put(bench: &mut Bench, id: &str, key: &str, value: &[u8]) -> Result<Value, Miss> {
    let mut request = get(bench, id, key, WITHIN)?;
    let service = bench.service(CLIENT)?;
    request["method"] = json!(format!("{service}/Put"));
    request["send"][0]["m"] =
        json!(STANDARD.encode(PutRequest { key: key.into(), value: Bytes::copy_from_slice(value) }.encode_to_vec()));
    Ok(request)
}

async fn ask(bench: &mut Bench, request: &Value) -> Result<Value, Miss> {
    bench.talk().await?.expect("result", request, WITHIN + SLACK).await
}

/// The value in a result that has to be OK.
pub(super) fn value_of(result: &Value) -> Result<Bytes, Miss> {
    if result["status"]["code"] != "OK" {
        return broken(format!("expected `status: {{code: OK}}`\ngot      {}", short(&result["status"].to_string())));
    }
    let first = &result["receive"][0];
    let text = first["m"].as_str().or_else(|| first.as_str()).unwrap_or_default();
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| GetResponse::decode(bytes.as_slice()).ok());
    bytes.map(|m| m.value).ok_or_else(|| {
        Miss::Broken(format!("expected a GetResponse in `receive`\ngot      {}", short(&first.to_string())))
    })
}

/// Puts and gets over a connection.
async fn works(bench: &mut Bench, id: &str) -> Outcome {
    let every_byte: Vec<u8> = (0..=255).collect();
    let request = put(bench, id, "check-put", &every_byte)?;
    let result = ask(bench, &request).await?;
    if result["status"]["code"] != "OK" {
        return broken(format!("expected OK for a put\ngot      {}", short(&result["status"].to_string())));
    }
    let key = "check-\u{e4}\u{1f980}";
    let request = get(bench, id, key, WITHIN)?;
    let result = ask(bench, &request).await?;
    let value = value_of(&result)?;
    if value == key.as_bytes() {
        return Ok(());
    }
    broken(format!("expected the {} bytes that the server sent\ngot      {} others", key.len(), value.len()))
}

async fn connected(bench: &mut Bench, unix: bool) -> Outcome {
    bench.service(CLIENT)?;
    let folder = if unix { Some(bench.folder()?) } else { None };
    let mirror = mirror(folder.as_deref(), None).await?;
    let id = connect(bench, &mirror, &json!({"mode": "none"})).await?;
    works(bench, &id).await?;
    close(bench, &id).await
}

async fn issued(bench: &Bench, role: Role) -> Result<Arc<Identity>, Miss> {
    bench.authority.issue(role, KeyType::P256).await.map_err(|e| Miss::Broken(e.to_string()))
}

async fn tls_mirror(bench: &mut Bench, mode: TlsMode) -> Result<Mirror, Miss> {
    let identity = Some(issued(bench, Role::Server).await?);
    let ca = (mode == TlsMode::Mutual).then(|| bench.authority.root());
    let folder = if bench.provides(CLIENT, "transport.tcp") { None } else { Some(bench.folder()?) };
    mirror(folder.as_deref(), Some(&TlsSpec { mode, ca, identity, ..TlsSpec::none() })).await
}

async fn tls(bench: &mut Bench, mode: TlsMode) -> Outcome {
    bench.service(CLIENT)?;
    let mirror = tls_mirror(bench, mode).await?;
    let root = bench.authority.root();
    let mut given = files(&*issued(bench, Role::Client).await?, mode, Some(&root))?;
    if mode == TlsMode::Server {
        given = json!({"mode": "server", "ca": given["ca"]});
    }
    let id = connect(bench, &mirror, &given).await?;
    works(bench, &id).await?;
    close(bench, &id).await?;
    if mode == TlsMode::Server {
        let mut other = connect_request(bench, &mirror.address(), &given, WITHIN);
        other["server_name"] = json!("elsewhere.test");
        not_connected(bench, &other, WITHIN).await?;
    }
    Ok(())
}

async fn choices(bench: &mut Bench) -> Outcome {
    let mirror = tls_mirror(bench, TlsMode::Server).await?;
    let ca = bench.authority.root().files().map(|f| f.cert.clone());
    for (choice, kinds) in unclaimed_choices(bench, CLIENT) {
        let mut tls = json!({"mode": "server", "ca": ca});
        for (name, value) in choice.as_object().into_iter().flatten() {
            tls[name] = value.clone();
        }
        let request = connect_request(bench, &mirror.address(), &tls, WITHIN);
        refuses_choice(bench, &request, kinds).await?;
    }
    Ok(())
}

async fn stranger(bench: &mut Bench) -> Outcome {
    let mirror = tls_mirror(bench, TlsMode::Server).await?;
    let ca = bench.stranger.files().map(|f| f.cert.clone());
    let request = connect_request(bench, &mirror.address(), &json!({"mode": "server", "ca": ca}), WITHIN);
    not_connected(bench, &request, WITHIN).await
}

/// A connect that has to fail, in time.
async fn not_connected(bench: &mut Bench, request: &Value, within: Duration) -> Outcome {
    let answer = bench.talk().await?.expect("failed", request, within + SLACK).await?;
    if answer["error"].as_str().is_none_or(str::is_empty) {
        return broken(format!("expected the library's text in `error`\ngot      {}", short(&answer.to_string())));
    }
    match answer["phase"].as_str() {
        Some("connect" | "tls") => Ok(()),
        _ => broken(format!("expected `phase: connect` or `tls`\ngot      {}", answer["phase"])),
    }
}

async fn nobody(bench: &mut Bench) -> Outcome {
    // Bound, so that nobody else gets the port, and not listening.
    let bound = tokio::net::TcpSocket::new_v4().and_then(|socket| {
        socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into())?;
        Ok((socket.local_addr()?, socket))
    });
    let (address, _held) = bound.or_else(|e| broken(format!("the check has no port: {e}")))?;
    let within = Duration::from_secs(1);
    let target = json!({"tcp": address.to_string()});
    let request = connect_request(bench, &target, &json!({"mode": "none"}), within);
    not_connected(bench, &request, within).await
}

async fn silence(bench: &mut Bench) -> Outcome {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
    let silent = silent.or_else(|e| broken(format!("the check has no server: {e}")))?;
    let address = silent.local_addr().map(|a| a.to_string()).unwrap_or_default();
    let request = connect_request(bench, &json!({"tcp": address}), &json!({"mode": "none"}), SHORT);
    let talk = bench.talk().await?;
    // The backlog takes the connection; nobody reads it.
    let answer = talk.ask(&request, SHORT + SLACK).await?;
    match answer["type"].as_str() {
        Some("failed") => match tokio::time::timeout(SHORT, silent.accept()).await {
            Ok(_dialled) => Ok(()),
            Err(_) => broken("expected a connection, then `failed`\ngot      `failed`, and no connection"),
        },
        other => broken(format!("expected `failed`\ngot      {}", other.unwrap_or_default())),
    }
}

async fn fresh(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let none = json!({"mode": "none"});
    let (one, other) = (connect(bench, &mirror, &none).await?, connect(bench, &mirror, &none).await?);
    let accepted = mirror.seen.borrow().accepted;
    if accepted != 2 {
        return broken(format!("expected 2 connections for 2 ids\ngot      {accepted}"));
    }
    close(bench, &one).await?;
    if !mirror.until(WITHIN, |seen| seen.ended >= 1).await {
        return broken("expected that the server sees the end of the closed connection\ngot      nothing");
    }
    close(bench, &other).await
}

/// Cancels a connect, which is answered `cancelled`.
async fn give_up(bench: &mut Bench, id: &Value) -> Outcome {
    let is = |m: &Value| m["type"] == "cancelled" && m["id"] == *id;
    bench.talk().await?.say(&json!({"type": "cancel", "id": id})).await?;
    bench.talk().await?.hear("`cancelled`", WITHIN, is).await.map(drop)
}

async fn cancel_connect(bench: &mut Bench) -> Outcome {
    let none = json!({"mode": "none"});
    // Before: the server says nothing, and the deadline is far.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
    let silent = silent.or_else(|e| broken(format!("the check has no server: {e}")))?;
    let address = silent.local_addr().map(|a| a.to_string()).unwrap_or_default();
    let before = connect_request(bench, &json!({"tcp": address}), &none, 4 * WITHIN);
    bench.talk().await?.say(&before).await?;
    // Not looked at is when its socket closes: grpc-js lets go of it once the server speaks.
    let Ok(Ok(_dialled)) = tokio::time::timeout(WITHIN, silent.accept()).await else {
        return broken("expected a connection\ngot      none");
    };
    give_up(bench, &before["id"]).await?;
    let failed = |m: &Value| m["type"] == "failed" && m["id"] == before["id"];
    bench.talk().await?.hear("`failed` of the cancelled connect", WITHIN, failed).await?;
    // After, and at once: then one of the two comes first.
    let mirror = plain_mirror().await?;
    let mut cancelled = vec![json!(connect(bench, &mirror, &none).await?)];
    give_up(bench, &cancelled[0]).await?;
    for _ in 0..CROSSINGS {
        let request = connect_request(bench, &mirror.address(), &none, WITHIN);
        bench.talk().await?.say(&request).await?;
        give_up(bench, &request["id"]).await?;
        let answer = |m: &Value| matches!(m["type"].as_str(), Some("connected" | "failed")) && m["id"] == request["id"];
        bench.talk().await?.hear("`connected` or `failed`", WITHIN, answer).await?;
        cancelled.push(request["id"].clone());
    }
    for id in &cancelled {
        let request = get(bench, id.as_str().unwrap_or_default(), "check", WITHIN)?;
        let answer = bench.talk().await?.ask(&request, WITHIN + SLACK).await?;
        if answer["type"] != "error" {
            let got = short(&answer.to_string());
            return broken(format!("expected `error` for a call on a connection that was cancelled\ngot      {got}"));
        }
    }
    if !mirror.until(WITHIN, |seen| seen.ended == seen.accepted).await {
        return broken("expected that the server sees the end of each cancelled connection\ngot      some still open");
    }
    Ok(())
}

async fn status(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let id = connect(bench, &mirror, &json!({"mode": "none"})).await?;
    let request = get(bench, &id, mirror::REFUSED, WITHIN)?;
    let result = ask(bench, &request).await?;
    if result["status"]["code"] != "PERMISSION_DENIED" || result["status"]["text"] != mirror::REFUSAL {
        return broken(format!(
            "expected PERMISSION_DENIED: {}\ngot      {}",
            mirror::REFUSAL,
            short(&result["status"].to_string())
        ));
    }
    if result["origin"] == "local" {
        return broken("expected `origin: remote` or `unknown`\ngot      local");
    }
    close(bench, &id).await
}

async fn metadata(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let id = connect(bench, &mirror, &json!({"mode": "none"})).await?;
    let key = "check-metadata";
    let mut request = get(bench, &id, key, WITHIN)?;
    request["metadata"] = json!([["x-check", "b"], ["x-check", "a"], ["x-check-bin", {"b64": "AP8="}]]);
    let result = ask(bench, &request).await?;
    let headers = mirror.seen.borrow().headers.get(key).cloned().unwrap_or_default();
    let sent = |name: &str| {
        headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect::<Vec<_>>()
    };
    if sent("x-check") != ["b", "a"] {
        return broken(format!("expected at the server `x-check` as b, a\ngot      {:?}", sent("x-check")));
    }
    // gRPC over HTTP/2, "Custom-Metadata": base64, padded or not.
    if sent("x-check-bin").first().is_none_or(|v| v.trim_end_matches('=') != "AP8") {
        return broken(format!("expected at the server `x-check-bin` as AP8\ngot      {:?}", sent("x-check-bin")));
    }
    // gRPC over HTTP/2, "Custom-Metadata": values of one name may be joined by commas; Node does.
    let pairs = |list: &Value, name: &str| -> Vec<Value> {
        let all = list.as_array().into_iter().flatten().filter(|pair| pair[0] == name);
        all.flat_map(|pair| match pair[1].as_str() {
            Some(text) => text.split(',').map(|part| json!(part.trim())).collect(),
            None => vec![pair[1].clone()],
        })
        .collect()
    };
    for (list, name, wanted) in [
        ("headers", "x-check", vec![json!("one"), json!("two")]),
        ("headers", "x-check-bin", vec![json!({"b64": "AP8="})]),
        ("trailers", "x-check-end", vec![json!("done")]),
    ] {
        let got = pairs(&result[list], name);
        if got != wanted {
            return broken(format!("expected in `{list}` {name}: {}\ngot      {}", json!(wanted), json!(got)));
        }
    }
    close(bench, &id).await
}

async fn deadline(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let id = connect(bench, &mirror, &json!({"mode": "none"})).await?;
    let request = get(bench, &id, mirror::SLOW, SHORT)?;
    let result = bench.talk().await?.expect("result", &request, SHORT + SLACK).await?;
    if result["status"]["code"] != "DEADLINE_EXCEEDED" {
        return broken(format!("expected DEADLINE_EXCEEDED\ngot      {}", short(&result["status"].to_string())));
    }
    if !mirror.seen.borrow().headers.get(mirror::SLOW).is_some_and(|h| h.contains_key("grpc-timeout")) {
        return broken("expected `grpc-timeout` at the server\ngot      none");
    }
    close(bench, &id).await
}

async fn cancel(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let id = connect(bench, &mirror, &json!({"mode": "none"})).await?;
    let request = get(bench, &id, mirror::SLOW, WITHIN)?;
    bench.talk().await?.say(&request).await?;
    if !mirror.until(WITHIN, |seen| seen.headers.contains_key(mirror::SLOW)).await {
        return broken("expected the call at the server\ngot      nothing");
    }
    let seq = &request["seq"];
    let talk = bench.talk().await?;
    talk.say(&json!({"type": "cancel", "id": id, "seq": seq})).await?;
    let result =
        talk.hear("`result` of the cancelled call", WITHIN, |m| m["type"] == "result" && m["seq"] == *seq).await?;
    talk.hear("`cancelled`", WITHIN, |m| m["type"] == "cancelled" && m["id"] == id.as_str()).await?;
    if result["status"]["code"] != "CANCELLED" {
        return broken(format!("expected CANCELLED\ngot      {}", short(&result["status"].to_string())));
    }
    if !mirror.until(WITHIN, |seen| seen.given_up >= 1).await {
        return broken("expected that the server learns of the cancel\ngot      nothing");
    }
    close(bench, &id).await
}

async fn big(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let id = connect(bench, &mirror, &json!({"mode": "none"})).await?;
    let request = get(bench, &id, mirror::BIG, WITHIN)?;
    let result = ask(bench, &request).await?;
    let value = value_of(&result)?;
    if value.len() != mirror::BIG_BYTES {
        return broken(format!("expected {} bytes\ngot      {}", mirror::BIG_BYTES, value.len()));
    }
    close(bench, &id).await
}

async fn many(bench: &mut Bench) -> Outcome {
    let mirror = plain_mirror().await?;
    let id = connect(bench, &mirror, &json!({"mode": "none"})).await?;
    let slow = get(bench, &id, mirror::SLOW, WITHIN)?;
    bench.talk().await?.say(&slow).await?;
    let at_once = bench.hello["max_in_flight"].as_u64().unwrap_or(MANY).min(MANY).saturating_sub(1);
    let mut seqs = Vec::new();
    for n in 0..at_once {
        let request = get(bench, &id, &format!("check-{n}"), WITHIN)?;
        bench.talk().await?.say(&request).await?;
        seqs.push(request["seq"].clone());
    }
    for (n, seq) in seqs.iter().enumerate() {
        let answered = |m: &Value| m["type"] == "result" && m["id"] == id.as_str() && m["seq"] == *seq;
        let result = bench.talk().await?.hear("each call's `result`", WITHIN, answered).await?;
        if value_of(&result)? != format!("check-{n}").as_bytes() {
            return broken("expected each call's own value\ngot      that of another");
        }
    }
    close(bench, &id).await
}

async fn unknown_id(bench: &mut Bench) -> Outcome {
    let request = get(bench, "no-such-connection", "check", WITHIN)?;
    let answer = bench.talk().await?.ask(&request, WITHIN + SLACK).await?;
    if answer["type"] == "error" && answer["seq"] == request["seq"] {
        return Ok(());
    }
    broken(format!("expected `error` with the `seq` of the call\ngot      {}", short(&answer.to_string())))
}
