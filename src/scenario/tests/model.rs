//! Good files: what they become.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{GOOD, bent, good, text};
use crate::outcome::{Exit, Phase};
use crate::scenario::model::{
    Affects, ClientWay, DirectWay, EffectivePolicy, Isolation, Op, PluginWay, RuleOutcome, VersionProbe,
};
use crate::scenario::{MemoryFiles, load};

#[test]
fn defaults_and_names() {
    let scenario = good(text(GOOD));
    assert_eq!(scenario.name, "t");
    assert_eq!(scenario.timeouts.case, Duration::from_secs(20));
    assert_eq!(scenario.retry.attempts, 1);
    let block = &scenario.blocks[0];
    let axes: Vec<&str> = block.axes.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(axes, ["client", "server", "service", "launch", "tls", "key"], "the service is found by itself");
    assert_eq!(block.scripts, ["one"]);
    assert_eq!(block.isolation, Isolation::Shared);
    assert!(block.axes.iter().find(|a| a.name == "key").unwrap().applies.is_some());
    let py = &block.axes[0].values[1];
    assert_eq!((py.name.as_str(), &py.facts["lang"]), ("py", &json!("python")));
    assert_eq!(scenario.services["kv"].service, "proto.KV");
    assert_eq!(scenario.rules[0].at, Some(Phase::Tls));
    assert!(!scenario.rules[0].included);
    assert!(scenario.rules[0].versions["client.grpcio"].matches(&semver::Version::new(1, 85, 1)));
}

#[test]
fn steps() {
    let scenario = good(bent(
        "      - get: { key: \"{{ case.slug }}\" }\n        expect: { value: \"{{ vars.greeting }}\" }\n",
        r#"      - call: { method: Get, send: { key: a }, metadata: { x-a: [1, 2], x-b-bin: { $base64: AAE= } }, deadline: 2s }
        id: mine
        expect: { code: [NOT_FOUND, UNKNOWN], status_text: { $regex: "(?i)not" } }
        capture: { seen: trailers.x-seen }
        checks: { c1: { status_text: a, code: NOT_FOUND } }
      - open: { stream: w, method: other.Service/Watch }
      - send: { stream: w, message: { n: "{{ seen }}" } }
      - receive: { stream: w, within: 1s }
        expect: { message: { state: CREATED } }
      - half_close: { stream: w }
      - cancel: { stream: w }
      - end: { stream: w }
        expect: { code: CANCELLED }
      - stdio: { within: 500ms }
        expect: { stdout: { $regex: hello } }
"#,
    ));
    let steps = &scenario.scripts["one"].steps;
    let ids: Vec<&str> = steps.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["put-1", "mine", "open-3", "send-4", "receive-5", "half_close-6", "cancel-7", "end-8", "stdio-9"]);
    let Op::Named { name, args } = &steps[0].op else { panic!() };
    assert_eq!((name.as_str(), &args["value"]), ("put", &json!("{{ vars.greeting }}")));
    let Op::Call(call) = &steps[1].op else { panic!() };
    assert_eq!(call.send, [json!({ "key": "a" })]);
    assert_eq!(call.deadline, Some(Duration::from_secs(2)));
    let metadata: Vec<_> = call.metadata.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    assert_eq!(metadata, [("x-a", json!("1")), ("x-a", json!("2")), ("x-b-bin", json!({ "$base64": "AAE=" }))]);
    assert_eq!(steps[1].expect.code.as_ref().unwrap().value, ["NOT_FOUND", "UNKNOWN"]);
    assert_eq!(steps[1].capture["seen"], "trailers.x-seen");
    assert_eq!(steps[1].checks.len(), 2);
    assert!(matches!(&steps[2].op, Op::Open { stream, call } if stream == "w" && call.send.is_empty()));
    assert!(matches!(&steps[4].op, Op::Receive { within: Some(w), .. } if *w == Duration::from_secs(1)));
}

#[test]
fn aliases_numbers_and_own_values_become_canonical() {
    let scenario = good(bent(
        "    tls: [none, mutual]\n    key: [p256, p384]\n",
        r"    tls: [disabled, { mine: { mode: mtls, ca: certs/ca.pem, cert: c.pem, key: k.pem } }]
    key: { values: [secp256r1, ec_384], effective: { report: cannot be seen } }
    tls_version: [1.2, 1.3]
    compression: { values: { gzip: { level: 9 }, none-at-all: }, affects: call }
    size: [1, 10]
",
    ));
    let names: Vec<Vec<&str>> =
        scenario.blocks[0].axes.iter().map(|a| a.values.iter().map(|v| v.name.as_str()).collect()).collect();
    assert_eq!(
        names[4..],
        [vec!["none", "mine"], vec!["p256", "p384"], vec!["1.2", "1.3"], vec!["gzip", "none-at-all"], vec!["1", "10"]]
    );
    let tls = &scenario.blocks[0].axes[4].values[1];
    assert_eq!(tls.means, "mutual");
    assert_eq!(tls.files.as_ref().unwrap().ca.as_deref(), Some(Path::new("certs/ca.pem")));
    let key = &scenario.blocks[0].axes[5];
    let EffectivePolicy::Report { reason, when, only } = &key.effective else { panic!("{:?}", key.effective) };
    assert_eq!((reason.as_str(), when.is_none(), only.len()), ("cannot be seen", true, 0));
    assert_eq!(key.values[0].facts["bits"], json!(256));
    let compression = &scenario.blocks[0].axes[7];
    assert_eq!((compression.affects, &compression.values[0].facts["level"]), (Affects::Call, &json!(9)));
    assert_eq!(scenario.blocks[0].axes[8].affects, Affects::Server, "the safe side");
}

#[test]
fn blocks_excludes_and_rows() {
    let scenario = good(text(
        &GOOD
            .replace(
                &GOOD[GOOD.find("matrix:").unwrap()..GOOD.find("scripts:").unwrap()],
                r"matrix:
  - name: plain
    axes: { client: [rust], server: [rust], key: [p256, p384], tls: [none] }
    isolation: case
    scripts: [one]
    exclude:
      - { when: key == p384, reason: not needed }
  - axes: { client: [py, rust], server: [rust], service: kv2 }
    include:
      - { client: py, server: rust, key: prime256v1, tls: mutual }
",
            )
            .replace("service: kv2", "service: [kv]"),
    ));
    assert_eq!(scenario.blocks[0].name.as_deref(), Some("plain"));
    assert_eq!(scenario.blocks[0].isolation, Isolation::Case);
    assert_eq!(scenario.blocks[0].exclude[0].reason, "not needed");
    let row = &scenario.blocks[1].include[0];
    let values: Vec<(&str, &str)> = row.values.iter().map(|(k, v)| (k.as_str(), v.name.as_str())).collect();
    assert_eq!(values, [("client", "py"), ("server", "rust"), ("key", "p256"), ("tls", "mutual"), ("service", "kv")]);
}

#[test]
fn rules() {
    let rule = |body: &str| {
        let old = "    outcome: failed\n    at: tls\n";
        let mut scenario = good(bent(old, body));
        scenario.rules.remove(0)
    };
    let failed = rule(
        "    outcome: [failed, passed]\n    at: rpc\n    match: { cause: tls.rejected, code: UNAVAILABLE, text: 'a|b', alert: 40, exit: { signal: 9 } }\n    issue: https://x\n    review_by: 2027-03-01\n    advise: b\n",
    );
    assert_eq!(failed.outcome, RuleOutcome::FailedOrPassed);
    assert_eq!(failed.matches.code, ["UNAVAILABLE"]);
    assert_eq!((failed.matches.alert, failed.matches.exit), (Some(40), Some(Exit::Signal(9))));
    assert_eq!(failed.review_by.as_deref(), Some("2027-03-01"));
    assert_eq!(rule("    outcome: unsupported\n").outcome, RuleOutcome::Unsupported);
    assert_eq!(
        rule("    outcome: not-effective\n    fact: key\n").outcome,
        RuleOutcome::NotEffective { fact: "key".into() }
    );
}

#[test]
fn includes_and_peer_files_bring_their_own_folders() {
    let files = MemoryFiles::new()
        .with("s/a.yaml", "soupscen: 1\ninclude: [more/p.yaml, more/../more/p.yaml]\nvars: { x: 1 }\nmatrix: { axes: { client: [go], server: [go, other] } }\n")
        .with(
            "s/more/p.yaml",
            r#"soupscen: 1
include: ../limits.yaml
vars: { x: 2, y: 3 }
peers:
  go: { from: ../../fixtures/go/peer.yaml }
  other: { from: ../../fixtures/go/peer.yaml, pick: go-keys }
scripts:
  s: { ops: [{ get: { key: "{{ vars.y }}" } }] }
"#,
        )
        .with("s/limits.yaml", "soupscen: 1\nexpectations: [{ id: i, when: server == other, outcome: unsupported, reason: r }]\n")
        .with(
            "fixtures/go/peer.yaml",
            r#"soupscen: 1
peers:
  go: &go
    lang: go
    build: { run: [[go, build, -o, "{{ output }}/x"], [echo]], inputs: [go.sum], tools: { go: { version: [version], install: get it } } }
    versions: { self: { run: ["{{ output }}/x", --version], pattern: "v(.*)" }, grpc: "1.2" }
    client: { driver: { run: ["{{ output }}/x"] }, provides: [kv, tls.*] }
    server:
      plugin: { run: ["{{ output }}/x"], env: { DIR: "{{ storage }}" } }
      attach: "unix:/tmp/x"
      provides: [{ capability: key.secp256r1, when: tls != auto }]
  go-keys: *go
"#,
        );
    let scenario = good(load(Path::new("s/a.yaml"), &files));
    assert_eq!(scenario.name, "a");
    assert_eq!(serde_json::Value::Object(scenario.vars.clone()), json!({ "x": 1, "y": 3 }));
    let go = &scenario.peers["other"];
    assert_eq!((go.name.as_str(), go.folder.as_path()), ("other", Path::new("fixtures/go")));
    assert_eq!(go.build.as_ref().unwrap().run.len(), 2);
    assert_eq!(go.versions["grpc"], VersionProbe::Fixed("1.2".into()));
    let client = go.client.as_ref().unwrap();
    assert!(matches!(&client.way, ClientWay::Driver(c) if c.run == ["{{ output }}/x"]));
    assert_eq!(client.provides[0].name, "service.kv");
    let server = go.server.as_ref().unwrap();
    assert!(matches!(&server.plugin, Some(PluginWay::Run(c)) if c.env["DIR"] == "{{ storage }}"));
    assert!(matches!(&server.direct, Some(DirectWay::Attach(a)) if a == "unix:/tmp/x"));
    assert_eq!(server.provides[0].name, "key.p256");
    assert!(server.provides[0].when.is_some());
    assert!(scenario.rules[0].included);
    assert_eq!(scenario.sources.place(scenario.rules[0].span).file, "s/limits.yaml");
}

#[test]
fn own_services() {
    let files = MemoryFiles::new()
        .with(
            "a.yaml",
            r#"soupscen: 1
services:
  orders:
    proto: { files: [proto/orders.proto], import: [proto] }
    service: shop.v1.Orders
    ops:
      create: { method: Create, send: { sku: "{{ sku }}", lines: [{ n: "{{ n }}" }] }, yields: order.id }
peers:
  shop: { server: { attach: "127.0.0.1:7443", provides: [orders, tls.mutual] } }
  rust: { builtin: {} }
matrix: { axes: { client: [rust], server: [shop], compression: [identity, gzip] } }
scripts:
  s:
    ops:
      - create: { sku: A1, n: 2 }
        expect: { value: o1 }
        capture: { id: message.order.id }
      - open: { stream: w, method: Watch, send: { id: "{{ id }}" } }
      - end: { stream: w }
"#,
        )
        .with(
            "proto/orders.proto",
            r#"syntax = "proto3"; package shop.v1; import "common/id.proto"; import "google/protobuf/empty.proto";
service Orders { rpc Create(Id) returns (Id); rpc Watch(Id) returns (stream google.protobuf.Empty); }"#,
        )
        .with("proto/common/id.proto", r#"syntax = "proto3"; package shop.v1; message Id { string id = 1; }"#);
    let scenario = good(load(Path::new("a.yaml"), &files));
    let service = &scenario.services["orders"];
    assert_eq!(service.files, [Path::new("proto/orders.proto")]);
    assert_eq!(service.ops["create"].args, ["sku", "n"]);
    assert_eq!(service.ops["create"].yields.as_deref(), Some("order.id"));
    assert_eq!(scenario.blocks[0].axes[2].values[0].name, "orders");
}

#[test]
fn anchors_and_merge_keys() {
    let scenario = good(bent(
        "  rust: { builtin: {} }\n",
        "  rust: &base { builtin: {}, facts: { tier: one } }\n  rust2: { <<: *base, facts: { tier: two } }\n",
    ));
    assert_eq!(scenario.peers["rust2"].facts["tier"], "two");
    assert_eq!(scenario.peers["rust2"].facts["lang"], "rust");
}

#[test]
fn a_value_can_change_the_plugin_host() {
    let scenario = good(bent(
        "key: [p256, p384]",
        "key: [p256, p384]\n    host: { sound: , odd: { host: { env: { A: null, B: 1 }, protocol_versions: [7] }, weight: 2 } }",
    ));
    let axis = scenario.blocks[0].axes.iter().find(|axis| axis.name == "host").unwrap();
    assert_eq!(axis.values[0].host, None);
    let changes = axis.values[1].host.as_deref().unwrap();
    assert_eq!(
        changes.env.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect::<Vec<_>>(),
        [("A", None), ("B", Some("1"))]
    );
    assert_eq!(changes.protocol_versions.as_deref(), Some(&[7][..]));
    assert_eq!(axis.values[1].facts.keys().collect::<Vec<_>>(), ["weight"]);
}

#[test]
fn what_a_servers_commands_depend_on() {
    let reads = |exec: &str, plugin: &str| {
        let scenario = good(text(&format!(
            "soupscen: 1
peers:
  rust: {{ builtin: {{}} }}
  p:
    server:
      plugin: {{ run: [{plugin}] }}
      exec: {{ run: [{exec}] }}
      provides: [kv, tls.none, launch.plugin]
matrix: {{ axes: {{ client: [rust], server: [p], size: [small, large] }} }}
scripts: {{ one: {{ ops: [ {{ get: {{ key: a }} }} ] }} }}
"
        )));
        crate::scenario::reads::server(&scenario.peers["p"]).into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(reads("program, '{{ port }}'", "program"), "");
    assert_eq!(reads("program, '{{ axes.size }}'", "program, '{{ axes.key }}'"), "key size");
    assert_eq!(reads("program, { when: 'client == rust and script == one', args: [-x] }", "program"), "client script");
    assert_eq!(reads("program, '{{ axes }}'", "program"), "*");
}
