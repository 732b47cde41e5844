//! The scenarios of handshakes that must fail, run by the real binary: each case has the cause that
//! this table names. A rule matches by prefix and a rule can be widened; a cause that changes fails here.
//! Without Go and Python only the built-in host is tried.

#[path = "support/run.rs"]
mod run;

use run::{Place, ROOT, Results, text, toolchains};
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
    let everyone = toolchains(&["go", "python3"]);
    let results = results(scenario, everyone);
    let mut wrong = Vec::new();
    for case in results.cases() {
        let axis = |name: &str| text(&case["axes"][name]);
        let defect = if axis("defect").is_empty() { axis("host") } else { axis("defect") };
        let row = table.iter().find(|(known, server, _)| *known == defect && *server == axis("server"));
        let client = CLIENTS.iter().position(|known| *known == axis("client")).expect("a known client");
        let expected = row.map_or("no row", |(_, _, expected)| expected[client]);
        let ours = axis("client") == "rust" && ["rust", "broken"].contains(&axis("server"));
        let expected = if everyone || ours { expected } else { "not-run" };
        let got = outcome(case);
        if got != expected {
            let cause = &last(case)["cause"];
            wrong.push(format!("{}\n  expected {expected}\n  got      {got}: {cause}", text(&case["id"])));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rows = table.iter().flat_map(|(_, _, expected)| expected).filter(|expected| **expected != "excluded").count();
    assert_eq!(results.cases().len(), rows, "every row of the table is a case of {scenario}.yaml");
}

fn results(scenario: &str, everyone: bool) -> Results {
    let place = Place::new();
    let file = format!("{ROOT}/scenarios/negative/{scenario}.yaml");
    let require: &[&str] = if everyone { &["--require-peers"] } else { &[] };
    let (_, results) = place.results(&file, require);
    assert!(place.processes().is_empty(), "no plugin is left: {:?}", place.processes());
    results
}

/// What was seen in the last attempt, if there was one.
fn last(case: &Value) -> &Value {
    case["attempts"].as_array().and_then(|attempts| attempts.last()).map_or(&Value::Null, |last| &last["observation"])
}

/// What a case came to, in the words of the tables. A verdict that is red is its own word.
fn outcome(case: &Value) -> String {
    match (text(&case["verdict"]), last(case)["cause"]["code"].as_str()) {
        ("known", Some(cause)) => cause.to_owned(),
        ("known", None) => {
            let differs =
                |fact: &&Value| !text(&fact["requested"]).is_empty() && fact["effective"]["value"] != fact["requested"];
            let facts = last(case)["facts"].as_array().map(Vec::as_slice).unwrap_or_default();
            let names: Vec<_> = facts.iter().filter(differs).map(|fact| text(&fact["fact"])).collect();
            format!("not-effective {}", names.join(" "))
        }
        (verdict, _) => verdict.to_owned(),
    }
}
