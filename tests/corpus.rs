//! Replays what the fuzzers found interesting, and what they once broke, through the functions that
//! the fuzz targets call: a parser that panics, loops or breaks its promise on one of these is red
//! here, without a fuzzer.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use checks::{ALL, Check};

/// What `fuzz/corpus` may hold in all: it is read by every clone and every test run.
const MOST_FILES: usize = 300;
/// See [`MOST_FILES`].
const MOST_BYTES: u64 = 1 << 20;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Inputs of a target, in the order of their names.
fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let folder = fuzz().join(kind).join(target);
    let Ok(files) = folder.read_dir() else { return Vec::new() };
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
}

/// Runs a target over its inputs; every one that breaks it is named.
fn replay(name: &str) {
    let &(_, check): &Check = ALL.iter().find(|(target, _)| *target == name).expect("a target");
    let corpus = inputs("corpus", name);
    assert!(!corpus.is_empty(), "`{name}` has no corpus");
    let broken: Vec<String> = corpus
        .into_iter()
        .chain(inputs("regressions", name))
        .filter(|file| {
            let data = std::fs::read(file).expect("an input is read");
            catch_unwind(|| check(&data)).is_err()
        })
        .map(|file| file.display().to_string())
        .collect();
    assert!(broken.is_empty(), "inputs that break `{name}`:\n{}", broken.join("\n"));
}

macro_rules! replays {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed_and_can_be_fuzzed() {
            let replayed = BTreeSet::from([$(stringify!($target)),*]);
            let known: BTreeSet<&str> = ALL.iter().map(|(name, _)| *name).collect();
            assert_eq!(replayed, known);
            let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).expect("a manifest");
            for name in known {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "`{name}` is no target in fuzz/Cargo.toml");
                let target = std::fs::read_to_string(fuzz().join(format!("targets/{name}.rs"))).expect("a target");
                assert!(target.contains(&format!("checks::{name}(")), "targets/{name}.rs calls something else");
            }
        }
    };
}
replays!(driver, expression, handshake, journal, scenario, shapes, wire);

#[test]
fn the_corpus_stays_small() {
    let files: Vec<PathBuf> = ALL.iter().flat_map(|(name, _)| inputs("corpus", name)).collect();
    let bytes: u64 = files.iter().map(|file| file.metadata().expect("a size").len()).sum();
    assert!(files.len() < MOST_FILES && bytes < MOST_BYTES, "{} files with {bytes} bytes", files.len());
}
