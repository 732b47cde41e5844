//! scenarios/stock/keys.yaml and calls.yaml: what they count, what the built-in peer makes of them,
//! and that a peer which says that it compresses and does not is found on the wire.

#[path = "support/run.rs"]
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;
use run::{Place, ROOT, text};

fn scenario(name: &str) -> String {
    format!("{ROOT}/scenarios/stock/{name}.yaml")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn scenarios_have_as_many_cases_as_they_say() {
    for (name, wanted) in [("keys", 300), ("calls", 700)] {
        let said = format!("{wanted} cases");
        assert!(read(&format!("scenarios/stock/{name}.yaml")).contains(&said), "{name} does not say {said}");
        let place = Place::new();
        let ran = place.run(["plan", "--count", &scenario(name)]);
        assert!(ran.out.contains(&format!(": {said}, ")), "{ran}");
    }
}

#[test]
fn the_built_in_peer_takes_every_key() {
    let place = Place::new();
    let (ran, results) = place.results(&scenario("keys"), &["--filter", "client == rust and server == rust"]);
    ran.exits(0);
    assert_eq!(results.counts(), BTreeMap::from([("passed".to_owned(), 12)]));
}

#[test]
fn the_built_in_peer_keeps_call_semantics() {
    let place = Place::new();
    let (ran, results) = place.results(&scenario("calls"), &["--filter", "client == rust and server == rust"]);
    ran.exits(0);
    // It has no connection to wait for, and tonic's own codes for the four limits.
    let wanted = [("known", 4), ("passed", 23), ("unsupported", 1)];
    assert_eq!(results.counts(), wanted.into_iter().map(|(name, n)| (name.to_owned(), n)).collect());
    assert!(place.tmp_is_empty());
}

#[test]
fn every_rule_of_calls_is_checked_and_every_check_has_its_rule() {
    let page = read("docs/stock.md");
    let row = Regex::new(r"(?m)^\| (C-[A-Z]+-[0-9]+) \|").unwrap();
    let defined: Vec<&str> = row.captures_iter(&page).map(|found| found.get(1).unwrap().as_str()).collect();
    let yaml = read("scenarios/stock/call-scripts.yaml");
    let used = Regex::new(r"(C-[A-Z]+-[0-9]+)[.:\s]").unwrap();
    let checked: BTreeSet<&str> = used.captures_iter(&yaml).map(|found| found.get(1).unwrap().as_str()).collect();
    assert_eq!(checked, defined.iter().copied().collect());
    assert_eq!(checked.len(), defined.len(), "an id is given twice");
}

/// One script of call-scripts.yaml between two peers of which one is described here.
fn one(place: &Place, script: &str, peers: &str, client: &str, server: &str, launch: &str) -> std::path::PathBuf {
    place.write(
        "one.yaml",
        &format!(
            "soupscen: 1\nname: one\ninclude: [{ROOT}/scenarios/stock/call-scripts.yaml]\npeers:\n  rust: {{ builtin: {{}} }}\n{peers}\n\
             matrix:\n  scripts: [{script}]\n  axes:\n    client: [{client}]\n    server: [{server}]\n    service: [stock]\n    \
             launch: [{launch}]\n    tls: [none]\n"
        ),
    )
}

/// Checks of the only case that did not hold.
fn broken(results: &run::Results) -> Vec<String> {
    let case = results.cases().first().expect("a case").clone();
    let attempt = case["attempts"].as_array().and_then(|all| all.last()).expect("an attempt").clone();
    let checks = attempt["observation"]["checks"].as_array().cloned().unwrap_or_default();
    checks.iter().filter(|check| check["held"] != true).map(|check| text(&check["id"]).to_owned()).collect()
}

#[test]
fn a_server_that_never_compresses_is_found() {
    let place = Place::new();
    let peers = "  liar:\n    server:\n      plugin: { builtin: { args: [--as-broken, never-compresses] } }";
    let file = one(&place, "compression-response", peers, "rust", "liar", "plugin");
    let (ran, results) = place.results(file.to_str().unwrap(), &[]);
    ran.exits(1);
    assert_eq!(broken(&results), ["S-META-7.wire"]);
}

/// The driver is told nothing of compression, and still claims it.
#[test]
fn a_client_that_says_gzip_and_sends_plain_is_found() {
    let has = |tool: &str, flag: &str| std::process::Command::new(tool).arg(flag).output().is_ok();
    if !(has("go", "version") && has("python3", "--version")) {
        let required = std::env::var_os("SOUPSCEN_REQUIRE_PEERS").is_some_and(|v| !v.is_empty() && v != "0");
        assert!(!required, "SOUPSCEN_REQUIRE_PEERS is set, and Go or Python is missing");
        return;
    }
    let place = Place::new();
    let built = std::process::Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(place.path())
        .arg("./cmd/soup-go-driver")
        .current_dir(Path::new(ROOT).join("fixtures/peers/go"))
        .status();
    assert!(built.expect("go runs").success());
    let driver = place.at("soup-go-driver");
    for (breach, wanted) in [("none", None), ("sends-plain", Some("C-GZIP-1.wire"))] {
        let peers = format!(
            "  liar:\n    client:\n      driver: {{ run: [python3, {ROOT}/tests/support/meddler.py, {breach}, --, {}] }}\n      \
             provides: [launch.direct, transport.tcp, service.stock, tls.none, stream.interleaved, compression.gzip]",
            driver.display()
        );
        let file = one(&place, "compression-request", &peers, "liar", "rust", "direct");
        let (ran, results) = place.results(file.to_str().unwrap(), &[]);
        let ran = ran.exits(i32::from(wanted.is_some()));
        assert_eq!(broken(&results), wanted.into_iter().map(str::to_owned).collect::<Vec<_>>(), "{breach}: {ran}");
    }
}
