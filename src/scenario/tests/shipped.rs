//! The shipped scenarios and schemas.

use std::path::Path;

use jsonschema::validator_for;
use serde_json::Value;

use super::{GOOD, good};
use crate::scenario::disk::DiskFiles;
use crate::scenario::schema::{self, Shape};
use crate::scenario::{json, load, yaml};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tree(text: &str) -> Value {
    json::value(&yaml::parse(crate::diag::SourceId(0), text, &mut Vec::new()).unwrap())
}

#[test]
fn the_reader_and_the_schema_know_the_same_keys() {
    let schema: Value = serde_json::from_str(&schema::scenario_schema()).unwrap();
    let peer: Value = serde_json::from_str(&schema::peer_schema()).unwrap();
    let keys = |schema: &Value| -> Vec<String> { schema["properties"].as_object().unwrap().keys().cloned().collect() };
    let same = |name: &str, known: &[&str]| {
        let found = if name.is_empty() { keys(&schema) } else { keys(&schema["$defs"][name]) };
        let mut known: Vec<String> = known.iter().map(|k| (*k).to_owned()).collect();
        let mut found = found;
        known.sort();
        found.sort();
        assert_eq!(found, known, "{name}");
    };
    same("", schema::ScenarioFile::KEYS);
    same("Peer", schema::Peer::KEYS);
    same("Rule", schema::Rule::KEYS);
    same("Match", schema::Match::KEYS);
    same("Block", schema::Block::KEYS);
    same("Script", schema::Script::KEYS);
    same("Expect", schema::Expect::KEYS);
    let mut step = crate::op::SIBLINGS.to_vec();
    step.extend(crate::op::table().iter().map(|def| def.name));
    same("Step", &step);
    assert_eq!(keys(&peer).len(), schema::PeerFile::KEYS.len());
}

#[test]
fn good_and_bad_files_by_the_schema() {
    let schema = validator_for(&serde_json::from_str(&schema::scenario_schema()).unwrap()).unwrap();
    let errors = |text: &str| schema.iter_errors(&tree(text)).map(|e| e.to_string()).collect::<Vec<_>>();
    assert_eq!(errors(GOOD), [""; 0]);
    for bad in [
        GOOD.replace("name: t", "nmae: t"),
        GOOD.replace("soupscen: 1", "soupscen: 2"),
        GOOD.replace("    reason: because\n", ""),
        GOOD.replace("name: t", "name:"),
        GOOD.replace("name: t", "timeouts: { op: 3 }"),
        GOOD.replace("at: tls", "at: tsl"),
    ] {
        assert_ne!(errors(&bad), [""; 0], "{bad}");
    }
}

#[test]
fn the_shipped_files_are_good_and_fit_the_schema() {
    let scenario = good(load(&root().join("scenarios/quick.yaml"), &DiskFiles));
    assert_eq!(scenario.name, "quick");
    let block = &scenario.blocks[0];
    let rows: usize = block.axes.iter().map(|axis| axis.values.len()).product();
    assert_eq!(rows * block.scripts.len(), 18);
    let schema = validator_for(&serde_json::from_str(&schema::scenario_schema()).unwrap()).unwrap();
    let peers = validator_for(&serde_json::from_str(&schema::peer_schema()).unwrap()).unwrap();
    for (schema, file) in [
        (&schema, "scenarios/quick.yaml"),
        (&schema, "scenarios/peers/kv.yaml"),
        (&schema, "scenarios/limitations/kv.yaml"),
        (&peers, "fixtures/peers/go/peer.yaml"),
        (&peers, "fixtures/peers/python/peer.yaml"),
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let errors: Vec<String> = schema.iter_errors(&tree(&text)).map(|e| e.to_string()).collect();
        assert_eq!(errors, [""; 0], "{file}");
    }
}
