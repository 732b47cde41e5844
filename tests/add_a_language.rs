//! docs/add-a-language.md: the driver that it shows in whole meets the contract.

#[path = "support/run.rs"]
mod run;

use std::path::PathBuf;

use run::{Place, ROOT, builds, toolchains};

/// A Python that has grpcio: the one that the Python peer was built with.
fn python(place: &Place) -> PathBuf {
    let file = format!("{ROOT}/fixtures/peers/python/peer.yaml");
    place.run(["peers", &file, "--build"]).exits(0);
    let built = std::fs::read_dir(builds().join("python")).unwrap().flatten();
    let mut found: Vec<_> =
        built.map(|entry| entry.path().join("venv/bin/python")).filter(|path| path.exists()).collect();
    found.sort_by_key(|path| path.symlink_metadata().and_then(|m| m.modified()).ok());
    found.pop().expect("the peer is built")
}

#[test]
fn the_small_driver_passes_every_rule_that_applies() {
    if !toolchains(&["python3"]) {
        return;
    }
    let place = Place::new();
    let page = std::fs::read_to_string(format!("{ROOT}/docs/add-a-language.md")).unwrap();
    let code = page.split("\n```python\n").nth(1).and_then(|rest| rest.split("\n```").next()).expect("a driver");
    place.write("driver.py", code);
    let generated = format!("{ROOT}/fixtures/peers/python/soup_py/kv_pb2.py");
    std::fs::copy(generated, place.at("kv_pb2.py")).unwrap();
    let python = python(&place);
    let checked = place.run(["driver", "check", "--", python.to_str().unwrap(), "driver.py"]);
    checked.exits(0).says("client and server").says("28 rules hold, 0 broken");
    assert!(place.tmp_is_empty() && place.processes().is_empty());
}
