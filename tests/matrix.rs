//! `scenarios/kv-matrix.yaml`: its numbers of cases are those that it states, its rules all have
//! cases, and what needs no other peer holds. The whole of it, with every peer, is a stage of CI.

#[path = "support/run.rs"]
mod run;

use std::collections::BTreeMap;

use run::{Place, ROOT, fact, observation};

fn scenario() -> String {
    format!("{ROOT}/scenarios/kv-matrix.yaml")
}

/// What the file says of each block, by lines `BLOCK: N cases` of its description.
fn stated() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(scenario()).unwrap();
    let lines = text.lines().filter_map(|line| line.trim().strip_suffix(" cases")?.split_once(": "));
    lines.filter_map(|(block, number)| Some((block.to_owned(), number.parse().ok()?))).collect()
}

/// The blocks that the file has.
fn blocks() -> Vec<String> {
    let text = std::fs::read_to_string(scenario()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("  - name: ").map(str::to_owned)).collect()
}

#[test]
fn every_block_has_the_number_of_cases_that_the_file_states() {
    let place = Place::new();
    let stated = stated();
    assert_eq!(stated.keys().cloned().collect::<Vec<_>>(), {
        let mut blocks = blocks();
        blocks.sort();
        blocks
    });
    for (block, number) in &stated {
        let ran = place.run(&["plan", "--count", &scenario(), "--filter", &format!("block == {block}")]);
        ran.exits(0).says(&format!("kv-matrix: {number} cases"));
    }
    let all: usize = stated.values().sum();
    place.run(&["plan", "--count", &scenario()]).exits(0).says(&format!("kv-matrix: {all} cases"));
}

#[test]
fn every_rule_is_about_some_case() {
    Place::new().run(&["check", "--strict-rules", &scenario()]).exits(0);
}

#[test]
fn the_built_in_peers_have_everything_that_is_asked_in_force() {
    let place = Place::new();
    let (ran, results) = place.results(&scenario(), &["--filter", "client == rust and server == rust"]);
    let ran = ran.exits(0);
    let (plugin, direct) = (2 * (1 + 5 + 5 + 5), 2 * (1 + 5 + 5));
    let (client_keys, versions) = (3 * 3, 3 * 2);
    assert_eq!(
        results.counts(),
        BTreeMap::from([("passed".into(), plugin + direct + client_keys + versions)]),
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
