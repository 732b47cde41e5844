//! Rules on the server role: what a driver serves, over what, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use prost::Message as _;
use serde_json::{Value, json};

use super::talk::short;
use super::{Bench, Miss, Outcome, Rule, SLACK, WITHIN, broken, skipped};
use crate::axis::values::{Group, KeyType, TlsMode};
use crate::outcome::evidence::Side;
use crate::peer::builtin::BuiltinClient;
use crate::peer::builtin::proto::kv::{GetRequest, GetResponse, PutRequest};
use crate::peer::{
    CallOptions, CallRequest, CallResult, ChannelOptions, Client as _, ConnectRequest, Connection, Target, TlsSpec,
};
use crate::pki::{Identity, Role};

const SERVER: Side = Side::Server;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "serve.tcp",
        about: "a server listens on loopback: put, get, and another error than OK for an absent key",
        needs: Some((SERVER, "transport.tcp")),
        check: |bench| served(bench, "tcp").boxed(),
    },
    Rule {
        id: "serve.unix",
        about: "the same on a unix socket in the folder that it was given",
        needs: Some((SERVER, "transport.unix")),
        check: |bench| served(bench, "unix").boxed(),
    },
    Rule {
        id: "serve.tls",
        about: "`tls: server` presents the certificate that it was given",
        needs: Some((SERVER, "tls.server")),
        check: |bench| tls(bench, TlsMode::Server).boxed(),
    },
    Rule {
        id: "serve.mutual",
        about: "`client_auth: require` admits a client with a certificate of the authority, and no other",
        needs: Some((SERVER, "tls.mutual")),
        check: |bench| tls(bench, TlsMode::Mutual).boxed(),
    },
    Rule {
        id: "serve.storage",
        about: "two servers at once do not share what was put",
        needs: Some((SERVER, "transport.tcp")),
        check: |bench| storage(bench).boxed(),
    },
    Rule {
        id: "serve.bad-file",
        about: "a certificate that does not exist is `failed` with `phase: tls`, and the driver lives on",
        needs: Some((SERVER, "tls.server")),
        check: |bench| bad_file(bench).boxed(),
    },
    Rule {
        id: "serve.tls-choices",
        about: "a TLS version or group that it does not claim, or that is none, is `error`",
        needs: Some((SERVER, "tls.server")),
        check: |bench| choices(bench).boxed(),
    },
    Rule {
        id: "serve.unknown-service",
        about: "a service that it does not have is `failed` or `error`, and the driver lives on",
        needs: Some((SERVER, "")),
        check: |bench| unknown_service(bench).boxed(),
    },
    Rule {
        id: "stop",
        about: "after `stopped` nothing listens any more",
        needs: Some((SERVER, "transport.tcp")),
        check: |bench| stop(bench).boxed(),
    },
];

/// A transport that it serves over.
pub(super) fn transport(bench: &Bench) -> &'static str {
    if bench.provides(SERVER, "transport.tcp") { "tcp" } else { "unix" }
}

/// A request to serve without protection.
pub(super) fn plain(bench: &mut Bench, service: &str, transport: &str) -> Result<Value, Miss> {
    request(bench, service, transport, &json!({"mode": "none"}))
}

fn request(bench: &mut Bench, service: &str, transport: &str, tls: &Value) -> Result<Value, Miss> {
    let folder = bench.folder()?;
    Ok(json!({
        "type": "serve", "id": bench.fresh("v"), "service": service,
        "listen": {"transport": transport, "folder": folder}, "tls": tls,
        "client_auth": if tls["mode"] == "mutual" { "require" } else { "none" },
        "storage": folder, "deadline_ms": WITHIN.as_millis(),
    }))
}

/// The files of an identity, in the contract's form.
pub(super) fn files(identity: &Identity, mode: TlsMode, ca: Option<&Identity>) -> Result<Value, Miss> {
    let missing = || Miss::Broken("the check has no certificate files to give".into());
    let files = identity.files().ok_or_else(missing)?;
    let ca = ca.map(|ca| ca.files().map(|f| f.cert.clone()).ok_or_else(missing)).transpose()?;
    let mut tls = json!({"mode": mode.name(), "cert": files.cert, "key": files.key});
    if let Some(ca) = ca {
        tls["ca"] = json!(ca);
    }
    Ok(tls)
}

/// Starts a server; what it may take is counted from the request.
pub(super) async fn serve(bench: &mut Bench, request: &Value) -> Result<Target, Miss> {
    let answer = bench.talk().await?.expect("serving", request, WITHIN + SLACK).await?;
    let wrong = || {
        Miss::Broken(format!("expected `target` with `tcp: HOST:PORT` or `unix: PATH`\ngot      {}", answer["target"]))
    };
    let target = match (&answer["target"]["tcp"], &answer["target"]["unix"]) {
        (Value::String(tcp), _) => Target::Tcp(tcp.parse().map_err(|_| wrong())?),
        (_, Value::String(path)) => Target::Unix(path.into()),
        _ => return Err(wrong()),
    };
    Ok(target)
}

pub(super) async fn halt(bench: &mut Bench, request: &Value) -> Outcome {
    let stop = json!({"type": "stop", "id": request["id"], "grace_ms": 500});
    bench.talk().await?.expect("stopped", &stop, Duration::from_millis(500) + SLACK).await.map(drop)
}

pub(super) async fn dial(target: &Target, tls: TlsSpec) -> Result<Box<dyn Connection>, Miss> {
    let request = ConnectRequest { target: target.clone(), tls, options: ChannelOptions::default(), within: WITHIN };
    let connected = BuiltinClient::default().connect(request).await;
    connected.or_else(|e| broken(format!("expected that a client can connect\ngot      {}", e.reported.error)))
}

async fn call(connection: &dyn Connection, service: &str, method: &str, message: Vec<u8>) -> Result<CallResult, Miss> {
    let request = CallRequest {
        method: format!("{service}/{method}"),
        send: vec![Bytes::from(message)],
        metadata: Vec::new(),
        deadline: WITHIN,
        options: CallOptions::default(),
    };
    connection
        .call(request)
        .await
        .or_else(|e| broken(format!("expected an answer to {method}\ngot      {}", e.reported.error)))
}

pub(super) async fn put(connection: &dyn Connection, service: &str, key: &str, value: &[u8]) -> Outcome {
    let put = PutRequest { key: key.into(), value: Bytes::copy_from_slice(value) };
    let result = call(connection, service, "Put", put.encode_to_vec()).await?;
    if result.status.code == "OK" {
        return Ok(());
    }
    broken(format!("expected OK for a put\ngot      {}: {}", result.status.code, result.status.text))
}

async fn get(connection: &dyn Connection, service: &str, key: &str) -> Result<Option<Bytes>, Miss> {
    let result = call(connection, service, "Get", GetRequest { key: key.into() }.encode_to_vec()).await?;
    if result.status.code != "OK" {
        return Ok(None);
    }
    let message = result.receive.first().cloned().unwrap_or_default();
    GetResponse::decode(message)
        .map(|m| Some(m.value))
        .or_else(|e| broken(format!("expected a GetResponse\ngot      {e}")))
}

/// Puts, gets it back, and gets what was never put.
async fn works(connection: &dyn Connection, service: &str) -> Outcome {
    let value: Vec<u8> = (0..=255).collect();
    put(connection, service, "check-key", &value).await?;
    match get(connection, service, "check-key").await? {
        Some(got) if got == value => {}
        Some(got) => return broken(format!("expected the 256 bytes that were put\ngot      {} others", got.len())),
        None => return broken("expected the value that was put\ngot      an error"),
    }
    match get(connection, service, "check-absent").await? {
        None => Ok(()),
        Some(_) => broken("expected an error for a key that was never put\ngot      OK"),
    }
}

async fn served(bench: &mut Bench, transport: &str) -> Outcome {
    let service = bench.service(SERVER)?;
    let request = plain(bench, service, transport)?;
    let target = serve(bench, &request).await?;
    if let Target::Unix(path) = &target
        && request["listen"]["folder"].as_str().is_none_or(|folder| !path.starts_with(folder))
    {
        return broken(format!("expected a socket in {}\ngot      {}", request["listen"]["folder"], path.display()));
    }
    let connection = dial(&target, TlsSpec::none()).await?;
    works(connection.as_ref(), service).await?;
    connection.close().await;
    halt(bench, &request).await
}

async fn tls(bench: &mut Bench, mode: TlsMode) -> Outcome {
    let service = bench.service(SERVER)?;
    let root = bench.authority.root();
    let issue = async |role| bench.authority.issue(role, KeyType::P256).await.map_err(|e| Miss::Broken(e.to_string()));
    let (own, theirs) = (issue(Role::Server).await?, issue(Role::Client).await?);
    let mutual = mode == TlsMode::Mutual;
    let given = files(&own, mode, mutual.then_some(&*root))?;
    let request = request(bench, service, transport(bench), &given)?;
    let target = serve(bench, &request).await?;
    let spec = |identity: Option<Arc<Identity>>| TlsSpec {
        mode: if identity.is_some() { TlsMode::Mutual } else { TlsMode::Server },
        ca: Some(Arc::clone(&root)),
        identity,
        server_name: "localhost".into(),
        ..TlsSpec::none()
    };
    let connection = dial(&target, spec(mutual.then_some(theirs))).await?;
    let shown = connection.facts().and_then(|facts| facts.peer_cert).map(|cert| cert.sha256);
    let wanted = own.facts().sha256.clone();
    if shown.as_deref() != Some(wanted.as_str()) {
        return broken(format!(
            "expected the certificate with SHA-256 {wanted}\ngot      {}",
            shown.unwrap_or_else(|| "none".into())
        ));
    }
    works(connection.as_ref(), service).await?;
    connection.close().await;
    if mutual && let Ok(connection) = dial(&target, spec(None)).await {
        // A TLS 1.3 client is connected before the server has looked at its certificate.
        if put(connection.as_ref(), service, "check-uninvited", b"x").await.is_ok() {
            return broken("expected that a client without a certificate is refused\ngot      its put, answered OK");
        }
    }
    halt(bench, &request).await
}

async fn storage(bench: &mut Bench) -> Outcome {
    let service = bench.service(SERVER)?;
    let (one, other) = (plain(bench, service, "tcp")?, plain(bench, service, "tcp")?);
    let (first, second) = (serve(bench, &one).await?, serve(bench, &other).await?);
    let (first, second) = (dial(&first, TlsSpec::none()).await?, dial(&second, TlsSpec::none()).await?);
    put(first.as_ref(), service, "check-shared", b"of the first").await?;
    if get(second.as_ref(), service, "check-shared").await?.is_some() {
        return broken("expected that the second server knows nothing of the first one's keys\ngot      its value");
    }
    halt(bench, &one).await?;
    halt(bench, &other).await
}

/// A request that must not be served, and a driver that goes on.
async fn refused(bench: &mut Bench, request: &Value, expected: &str, is: fn(&Value) -> bool) -> Outcome {
    let answer = bench.talk().await?.ask(request, WITHIN + SLACK).await?;
    if !is(&answer) {
        return broken(format!("expected {expected}\ngot      {}", short(&answer.to_string())));
    }
    let id = bench.fresh("u");
    bench.talk().await?.ask(&json!({"type": "no-such-type", "id": id}), WITHIN).await.map(drop)
}

async fn bad_file(bench: &mut Bench) -> Outcome {
    let service = bench.service(SERVER)?;
    let nowhere = bench.folder()?.join("absent.pem");
    let tls = json!({"mode": "server", "cert": nowhere, "key": nowhere});
    let request = request(bench, service, transport(bench), &tls)?;
    let is = |m: &Value| m["type"] == "failed" && m["phase"] == "tls";
    refused(bench, &request, "`failed` with `phase: tls`", is).await
}

/// Choices of TLS that a role must refuse, each as fields of `tls` and the kinds of `error` that will
/// do: what it does not claim is `unsupported`, and what is no version or group is an error anyway.
pub(super) fn unclaimed_choices(bench: &Bench, side: Side) -> Vec<(Value, &'static [&'static str])> {
    const NONE: &[&str] = &["unsupported", "contract"];
    const UNCLAIMED: &[&str] = &["unsupported"];
    let claims = |name: &str, value: &str| {
        bench.provides(side, &format!("{name}.*")) || bench.provides(side, &format!("{name}.{value}"))
    };
    let version = |version: &str| json!({"min_version": version, "max_version": version});
    let group = |group: &str| json!({"groups": [group]});
    let versions = ["1.3", "1.2"].into_iter().filter(|v| !claims("tls_version", v)).map(|v| (version(v), UNCLAIMED));
    let groups = [Group::X25519Mlkem768, Group::Secp521r1, Group::X25519].map(Group::name);
    let groups = groups.into_iter().filter(|g| !claims("group", g)).map(|g| (group(g), UNCLAIMED));
    let none = [(version("1.1"), NONE), (group("no-such-group"), NONE)];
    versions.take(1).chain(groups.take(1)).chain(none).collect()
}

/// Refuses a choice of TLS, by `error`.
pub(super) async fn refuses_choice(bench: &mut Bench, request: &Value, kinds: &[&str]) -> Outcome {
    let answer = bench.talk().await?.ask(request, WITHIN + SLACK).await?;
    if answer["type"] == "error" && kinds.iter().any(|kind| answer["kind"] == *kind) {
        return Ok(());
    }
    broken(format!(
        "expected `error` with `kind: {}` for `tls: {}`\ngot      {}",
        kinds.join("` or `"),
        request["tls"],
        short(&answer.to_string())
    ))
}

async fn choices(bench: &mut Bench) -> Outcome {
    let service = bench.service(SERVER)?;
    let own = bench.authority.issue(Role::Server, KeyType::P256).await.map_err(|e| Miss::Broken(e.to_string()))?;
    for (choice, kinds) in unclaimed_choices(bench, SERVER) {
        let mut tls = files(&own, TlsMode::Server, None)?;
        for (name, value) in choice.as_object().into_iter().flatten() {
            tls[name] = value.clone();
        }
        let request = request(bench, service, transport(bench), &tls)?;
        refuses_choice(bench, &request, kinds).await?;
    }
    Ok(())
}

async fn unknown_service(bench: &mut Bench) -> Outcome {
    let request = plain(bench, "soupscen.check.NoSuchService", transport(bench))?;
    let is = |m: &Value| matches!(m["type"].as_str(), Some("failed" | "error"));
    refused(bench, &request, "`failed` or `error`", is).await
}

async fn stop(bench: &mut Bench) -> Outcome {
    let service = bench.service(SERVER)?;
    let request = plain(bench, service, "tcp")?;
    let Target::Tcp(address) = serve(bench, &request).await? else {
        return skipped("it listens elsewhere");
    };
    halt(bench, &request).await?;
    match tokio::net::TcpStream::connect(address).await {
        Err(_) => Ok(()),
        Ok(_) => broken(format!("expected that nothing listens at {address}\ngot      a connection")),
    }
}
