//! The scenarios of handshakes that must fail, run by the real binary: each case has the cause that
//! this table names. A rule matches by prefix and a rule can be widened; a cause that changes fails here.
//!
//! Go and Python hosts and plugins are met where their tools are there; with SOUPSCEN_REQUIRE_PEERS
//! set they have to be.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a case comes to: `passed`, or the code of its cause, or the fact that is not effective.
type Expected = &'static str;

/// The broken plugins: defect, and what Rust, Go and Python hosts make of it.
const PLUGINS: &[(&str, [Expected; 3])] = &[
    ("exit-at-once", ["handshake.exit"; 3]),
    ("noise-before-line", ["handshake.line.noise", "handshake.line.noise", "passed"]),
    ("three-fields", ["handshake.line.too-few-fields"; 3]),
    ("kind-netrpc", ["handshake.line.kind", "handshake.line.kind", "passed"]),
    ("core-version", ["handshake.line.core-version"; 3]),
    ("app-version", ["handshake.version.none-common", "handshake.version.none-common", "passed"]),
    ("unknown-network", ["handshake.line.network"; 3]),
    ("cert-padded", ["handshake.line.cert.padded", "handshake.line.cert.padded", "passed"]),
    ("cert-broken", ["handshake.line.cert.broken"; 3]),
    (
        "cert-empty",
        ["handshake.line.cert.empty", "tls.rejected.server-cert.by-client.unannounced", "tls.plaintext-client"],
    ),
    (
        "other-cert",
        [
            "tls.rejected.server-cert.by-client.not-pinned",
            "tls.rejected.server-cert.by-client",
            "tls.rejected.server-cert.by-client",
        ],
    ),
    ("dead-address", ["connect.refused"; 3]),
];

/// The broken hosts: defect, plugin, and what comes of it with Rust, Go and Python hosts.
const HOSTS: &[(&str, &str, [Expected; 3])] = &[
    ("no-cookie", "rust", ["handshake.cookie.missing"; 3]),
    ("no-cookie", "go", ["handshake.cookie.missing"; 3]),
    ("no-cookie", "go-keys", ["handshake.cookie.missing"; 3]),
    ("no-cookie", "python", ["handshake.cookie.missing"; 3]),
    ("wrong-cookie", "rust", ["handshake.cookie.wrong"; 3]),
    ("wrong-cookie", "go", ["handshake.cookie.wrong"; 3]),
    ("wrong-cookie", "go-keys", ["handshake.cookie.wrong"; 3]),
    ("wrong-cookie", "python", ["handshake.cookie.wrong"; 3]),
    ("garbage-client-cert", "rust", ["handshake.client-cert"; 3]),
    (
        "garbage-client-cert",
        "go",
        ["tls.rejected.client-cert.by-server.unknown-ca", "tls.rejected.client-cert.by-server", "excluded"],
    ),
    ("garbage-client-cert", "go-keys", ["handshake.client-cert"; 3]),
    ("garbage-client-cert", "python", ["not-effective tls"; 3]),
    ("no-common-version", "rust", ["handshake.version.none-common", "handshake.version.none-common", "passed"]),
    ("no-common-version", "go", ["handshake.version.none-common", "handshake.version.none-common", "excluded"]),
    ("no-common-version", "go-keys", ["handshake.version.none-common", "handshake.version.none-common", "passed"]),
    (
        "no-common-version",
        "python",
        ["handshake.version.none-common", "handshake.version.none-common", "not-effective tls"],
    ),
];

/// Those that only a budget ends.
const PATIENCE: &[(&str, [Expected; 3])] = &[
    ("silence", ["handshake.silence"; 3]),
    ("late-line", ["handshake.late"; 3]),
    ("five-fields", ["passed", "passed", "handshake.line.five-fields"]),
];

const CLIENTS: [&str; 3] = ["rust", "go", "python"];

#[test]
fn every_handshake_fails_for_its_own_reason() {
    let plugins = PLUGINS.iter().map(|(defect, expected)| (*defect, "broken", *expected));
    compare("handshake", &plugins.chain(HOSTS.iter().copied()).collect::<Vec<_>>());
}

#[test]
fn what_only_a_budget_ends_says_what_was_waited_for() {
    compare("patience", &PATIENCE.iter().map(|(defect, expected)| (*defect, "broken", *expected)).collect::<Vec<_>>());
}

/// Runs a scenario and holds every case against the table, and the table against the cases.
fn compare(scenario: &str, table: &[(&str, &str, [Expected; 3])]) {
    let results = run(scenario);
    let cases = results["cases"].as_array().expect("cases");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for case in cases {
        let axis = |name: &str| case["axes"][name].as_str().unwrap_or_default();
        let defect = if axis("defect").is_empty() { axis("host") } else { axis("defect") };
        let row = table.iter().find(|(known, server, _)| *known == defect && *server == axis("server"));
        let client = CLIENTS.iter().position(|known| *known == axis("client")).expect("a known client");
        let expected = row.map_or("no row", |(_, _, expected)| expected[client]);
        let got = outcome(case);
        if got == "not-run" && !required() && (axis("client") != "rust" || !["rust", "broken"].contains(&axis("server"))) {
            seen += 1;
            continue;
        }
        if got == expected {
            seen += 1;
        } else {
            wrong.push(format!("{}\n  expected {expected}\n  got      {got}: {}", case["id"], observation(case)["cause"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rows = table.iter().flat_map(|(_, _, expected)| expected).filter(|expected| **expected != "excluded").count();
    assert_eq!(seen, rows, "every row of the table is a case of {scenario}.yaml");
}

fn observation(case: &Value) -> &Value {
    case["attempts"].as_array().and_then(|attempts| attempts.last()).map_or(&Value::Null, |last| &last["observation"])
}

/// What a case came to, in the words of the tables. A verdict that is red is its own word.
fn outcome(case: &Value) -> String {
    let cause = observation(case)["cause"]["code"].as_str();
    match (case["verdict"].as_str().unwrap_or("no verdict"), cause) {
        ("known", Some(cause)) => cause.to_owned(),
        ("known", None) => {
            let facts = observation(case)["facts"].as_array().cloned().unwrap_or_default();
            let differs = |fact: &&Value| {
                fact["requested"].is_string() && fact["effective"]["value"] != fact["requested"]
            };
            let names = facts.iter().filter(differs).filter_map(|fact| fact["fact"].as_str());
            format!("not-effective {}", names.collect::<Vec<_>>().join(" "))
        }
        (verdict, _) => verdict.to_owned(),
    }
}

fn required() -> bool {
    std::env::var_os("SOUPSCEN_REQUIRE_PEERS").is_some_and(|value| !value.is_empty())
}

fn run(scenario: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("negative-{scenario}.json"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_soupscen"));
    command.arg("run").arg(root.join(format!("scenarios/negative/{scenario}.yaml")));
    // In the project's folder, where other runs have built the peers already.
    command.arg("--json").arg(&results).current_dir(root).env("NO_COLOR", "1");
    if required() {
        command.arg("--require-peers");
    }
    let output = command.output().expect("soupscen runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    let text = std::fs::read(&results).unwrap_or_else(|error| panic!("no results: {error}\n{said}\n{complained}"));
    serde_json::from_slice(&text).expect("results are JSON")
}
