//! `scenarios/kv-matrix.yaml` and `scenarios/files.yaml`: their numbers of cases are those that they
//! state, their rules all have cases, and what needs no other peer holds. The whole of both, with
//! every peer, is a stage of CI.

#[path = "support/run.rs"]
mod run;

use std::collections::BTreeMap;

use run::{Place, ROOT, fact, observation};

const SCENARIOS: [&str; 2] = ["kv-matrix", "files"];

fn path(scenario: &str) -> String {
    format!("{ROOT}/scenarios/{scenario}.yaml")
}

/// What the file says of each block, by lines `BLOCK: N cases` of its description.
fn stated(scenario: &str) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(path(scenario)).unwrap();
    let lines = text.lines().filter_map(|line| line.trim().strip_suffix(" cases")?.split_once(": "));
    lines.filter_map(|(block, number)| Some((block.to_owned(), number.parse().ok()?))).collect()
}

/// The blocks that the file has.
fn blocks(scenario: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path(scenario)).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("  - name: ")?.split(" #").next());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn every_block_has_the_number_of_cases_that_the_file_states() {
    let place = Place::new();
    for scenario in SCENARIOS {
        let stated = stated(scenario);
        assert_eq!(stated.keys().cloned().collect::<Vec<_>>(), blocks(scenario));
        for (block, number) in &stated {
            let ran = place.run(["plan", "--count", &path(scenario), "--filter", &format!("block == {block}")]);
            ran.exits(0).says(&format!("{scenario}: {number} cases"));
        }
        let all: usize = stated.values().sum();
        place.run(["plan", "--count", &path(scenario)]).exits(0).says(&format!("{scenario}: {all} cases"));
    }
}

#[test]
fn every_rule_is_about_some_case() {
    for scenario in SCENARIOS {
        Place::new().run(["check", "--strict-rules", &path(scenario)]).exits(0);
    }
}

#[test]
fn mistakes_in_certificates_have_their_causes_between_the_built_in_peers() {
    let place = Place::new();
    let (ran, results) = place.results(&path("files"), &["--filter", "client == rust and server == rust"]);
    let ran = ran.exits(0);
    assert_eq!(results.counts(), BTreeMap::from([("passed".into(), 4), ("known".into(), 16)]), "{ran}");
    for (value, code) in [
        ("server-other-ca", "tls.rejected.server-cert.by-client.unknown-ca"),
        ("server-expired", "tls.rejected.server-cert.by-client.expired"),
        ("server-other-name", "tls.rejected.server-cert.by-client.name"),
        ("server-key-of-another", "tls.key-mismatch.of-server"),
        ("server-p384-key-file", "tls.key-mismatch.of-server"),
        ("client-other-ca", "tls.rejected.client-cert.by-server.unknown-ca"),
        ("client-expired", "tls.rejected.client-cert.by-server.expired"),
        ("client-p384-key-file", "tls.key-mismatch.of-client"),
    ] {
        for launch in ["direct", "plugin"] {
            let case = results.case(&[&format!("launch={launch}"), &format!("tls={value}")]);
            assert_eq!(observation(case)["cause"]["code"], code, "{case:#}");
        }
    }
}

#[test]
fn the_built_in_peers_have_everything_that_is_asked_in_force() {
    let place = Place::new();
    let (ran, results) = place.results(&path("kv-matrix"), &["--filter", "client == rust and server == rust"]);
    let ran = ran.exits(0);
    let (plugin, direct) = (2 * (1 + 5 + 5 + 5), 2 * (1 + 5 + 5));
    let (client_keys, versions) = (3 * 3, 3 * 2);
    let behaviour = 3 * 14 + 1; // one script is only for certificates that the run issues
    assert_eq!(
        results.counts(),
        BTreeMap::from([("passed".into(), plugin + direct + client_keys + versions + behaviour)]),
        "{ran}"
    );
    for case in results.cases() {
        for of in observation(case)["facts"].as_array().unwrap() {
            let name = of["fact"].as_str().unwrap();
            let (asked, effective) = fact(case, name);
            assert!(asked.is_empty() || asked == effective, "{case:#}\n{ran}");
        }
    }
}
