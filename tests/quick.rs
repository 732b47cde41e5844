//! `scenarios/quick.yaml` against a model of what it must give, with every peer and with none.

#[path = "support/run.rs"]
mod run;

use std::collections::BTreeMap;
use std::path::Path;

use quick_junit::{NonSuccessKind, Report, TestCaseStatus, XmlString};
use run::{Place, ROOT, Results, fact, observation, text, toolchains};

const PEERS: [&str; 3] = ["rust", "go", "python"];
const SCRIPTS: [&str; 2] = ["put-get", "absent-key"];

/// The key that each peer's plugin shows under `AutoMTLS`, as its library makes it.
fn own_key(server: &str) -> &'static str {
    match server {
        "rust" => "p256",
        "go" => "p521",
        _ => "p384",
    }
}

/// The one pair that is known not to work.
fn is_known(client: &str, server: &str) -> bool {
    (client, server) == ("python", "go")
}

fn scenario() -> String {
    format!("{ROOT}/scenarios/quick.yaml")
}

/// The result as the schema has it.
fn is_valid(results: &Results) {
    let schema = std::fs::read_to_string(format!("{ROOT}/schemas/results.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let problems: Vec<_> = validator.iter_errors(&results.0).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

fn junit(path: &Path) -> Report {
    Report::deserialize_from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Case id → kind and type of its `JUnit` result.
fn junit_results(report: &Report) -> BTreeMap<String, (&'static str, String)> {
    let mut found = BTreeMap::new();
    for case in report.test_suites.iter().flat_map(|suite| &suite.test_cases) {
        let ty = |ty: &Option<XmlString>| ty.as_ref().map(|t| t.as_str().to_owned()).unwrap_or_default();
        let result = match &case.status {
            TestCaseStatus::Success { .. } => ("success", String::new()),
            TestCaseStatus::Skipped { ty: kind, .. } => ("skipped", ty(kind)),
            TestCaseStatus::NonSuccess { kind: NonSuccessKind::Error, ty: kind, .. } => ("error", ty(kind)),
            TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, ty: kind, .. } => ("failure", ty(kind)),
        };
        assert!(found.insert(case.name.as_str().to_owned(), result).is_none(), "{} is there twice", case.name.as_str());
    }
    found
}

/// `JUnit` says of each case what the results say.
fn junit_agrees(place: &Place, results: &Results) {
    let expected: BTreeMap<_, _> = results
        .verdicts()
        .into_iter()
        .map(|(id, verdict)| {
            let kind = match verdict.as_str() {
                "passed" => "success",
                "known" | "unsupported" | "not-run" => "skipped",
                "errored" => "error",
                _ => "failure",
            };
            let ty = if kind == "success" { String::new() } else { verdict };
            (id, (kind, ty))
        })
        .collect();
    assert_eq!(junit_results(&junit(&place.at("junit.xml"))), expected);
}

#[test]
fn every_case_is_as_the_model_says() {
    if !toolchains(&["go", "python3"]) {
        return;
    }
    let place = Place::new();
    let (ran, results) = place.results(&scenario(), &["--junit", "junit.xml", "--require-peers"]);
    let ran = ran.exits(0);
    assert_eq!(results.cases().len(), 18, "{ran}");
    for client in PEERS {
        for server in PEERS {
            for script in SCRIPTS {
                let case = results.case(&[script, &format!("client={client},server={server}")]);
                let expected = if is_known(client, server) { "known" } else { "passed" };
                assert_eq!(case["verdict"], expected, "{case:#}\n{ran}");
                assert_eq!(case["attempts"].as_array().unwrap().len(), 1, "{case:#}");
                let seen = observation(case);
                if is_known(client, server) {
                    assert_eq!(seen["phase"], "tls", "{case:#}");
                    assert!(text(&seen["cause"]["code"]).starts_with("tls.rejected.server-cert"), "{case:#}");
                } else {
                    // pyvider's server asks its host for no certificate; the scenario has it reported.
                    let tls = if server == "python" { "server" } else { "auto" };
                    assert_eq!(fact(case, "tls"), ("auto", tls), "{case:#}");
                    assert_eq!(fact(case, "key"), ("", own_key(server)), "{case:#}");
                    assert_eq!(fact(case, "transport"), ("", "unix"), "{case:#}");
                    assert_eq!(fact(case, "protocol"), ("", "1"), "{case:#}");
                    assert!(matches!(fact(case, "tls_version").1, "1.3" | "1.2"), "{case:#}");
                }
            }
        }
    }
    is_valid(&results);
    junit_agrees(&place, &results);
    for (peer, component) in
        [("go", "go-plugin"), ("go", "grpc-go"), ("python", "grpcio"), ("python", "pyvider-rpcplugin")]
    {
        let version = text(&results.0["peers"][peer]["versions"][component]);
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{peer} {component}: {version}");
    }
    let limitation = &results.0["summary"]["limitations"]["grpcio-cannot-verify-p521"];
    assert_eq!(limitation["known"], 2, "{limitation:#}");
    let ran = ran.says("grpcio-cannot-verify-p521").says("does not verify ECDSA P-521");

    // Told again from the journal alone, it is the same; and a second run builds nothing.
    let first = place.read("junit.xml");
    place.run(["report", "latest", "--junit", "again.xml"]).exits(0);
    assert_eq!(place.read("again.xml"), first, "{ran}");
    let (_, second) = place.results(&scenario(), &["--filter", "script == put-get and client == go"]);
    for peer in PEERS.iter().filter(|peer| **peer != "rust") {
        assert_eq!(second.0["peers"][*peer]["cached"], true, "{:#}", second.0["peers"]);
    }
    assert!(place.tmp_is_empty(), "{:?}", place.files("tmp"));
}

/// A home without builds and a `PATH` without tools.
fn with_nothing(place: &Place) -> std::process::Command {
    let mut command = place.soupscen();
    std::fs::create_dir(place.at("no-tools")).unwrap_or_default();
    command.env("PATH", place.at("no-tools")).env("SOUPSCEN_CACHE", place.at("no-builds"));
    command
}

#[test]
fn with_nothing_but_this_program_the_rest_is_left_out_loudly() {
    let place = Place::new();
    let mut command = with_nothing(&place);
    command.args(["run", &scenario(), "--json", "results.json", "--junit", "junit.xml"]);
    let ran = run::ran(command).exits(0).says("https://go.dev/dl/").says("https://www.python.org/downloads/");
    let results = Results::read(&place.at("results.json")).unwrap();
    assert_eq!(results.counts(), BTreeMap::from([("not-run".into(), 16), ("passed".into(), 2)]), "{ran}");
    for script in SCRIPTS {
        assert_eq!(results.case(&[script, "client=rust,server=rust"])["verdict"], "passed");
        let left_out = results.case(&[script, "client=go,server=rust"]);
        let reason = text(&left_out["not_run"]);
        assert!(reason.contains("`go`") && reason.contains("https://go.dev/dl/"), "{reason}");
        let left_out = results.case(&[script, "client=rust,server=python"]);
        let reason = text(&left_out["not_run"]);
        assert!(reason.contains("`python3`") && reason.contains("https://www.python.org/"), "{reason}");
    }
    assert!(text(&results.0["peers"]["go"]["missing"]).contains("go.dev"));
    is_valid(&results);
    junit_agrees(&place, &results);
}

#[test]
fn where_peers_are_required_a_missing_one_is_an_error() {
    let place = Place::new();
    let mut command = with_nothing(&place);
    command.args(["run", &scenario(), "--json", "results.json", "--junit", "junit.xml", "--require-peers"]);
    let ran = run::ran(command).exits(3).says("https://go.dev/dl/");
    let results = Results::read(&place.at("results.json")).unwrap();
    assert_eq!(results.counts(), BTreeMap::from([("errored".into(), 16), ("passed".into(), 2)]), "{ran}");
    let seen = observation(results.case(&["put-get", "client=go,server=rust"]));
    assert_eq!((text(&seen["phase"]), text(&seen["cause"]["code"])), ("build", "build.missing"));
    is_valid(&results);
    junit_agrees(&place, &results);

    // By the environment, too: that is how a whole CI pipeline says it.
    let mut command = with_nothing(&place);
    command.args(["run", &scenario(), "--filter", "client == go and server == rust"]);
    command.env("SOUPSCEN_REQUIRE_PEERS", "1");
    run::ran(command).exits(3);
}
