//! The layers of the crate, read from its `use` paths: a module may use what is below it and on its
//! own level, never what is above. The map itself is in `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Module → level. A module that is missing here fails the test.
const LEVELS: &[(&str, u8)] = &[
    ("diag", 0),
    ("scenario", 1),
    ("filter", 1),
    ("axis", 1),
    ("op", 1),
    ("outcome", 1),
    ("plan", 2),
    ("event", 2),
    ("journal", 3),
    ("pki", 3),
    ("transport", 3),
    ("wire", 3),
    ("handshake", 3),
    ("process", 3),
    ("dynamic", 3),
    ("peer", 4),
    ("exec", 5),
    ("report", 5),
    ("cli", 6),
];

/// Modules of one level that must not know each other.
const STRANGERS: &[(&str, &str)] = &[("exec", "report"), ("report", "exec")];

/// What modules up to level 2 must not touch: they are pure.
const IMPURE: &[&str] = &["tokio", "tonic", "rustls", "std::process", "std::net", "std::fs"];
/// The one file below level 3 that reads the disk, on behalf of everyone else there.
const DOOR: &str = "scenario/disk.rs";

#[test]
fn modules_use_only_what_is_below_them() {
    let levels: BTreeMap<_, _> = LEVELS.iter().copied().collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for file in rust_files(&src) {
        let relative = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        let module = relative.split(['/', '.']).next().unwrap().to_owned();
        let is_test = relative.contains("/tests/") || relative.ends_with("tests.rs");
        if is_test || ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let Some(level) = levels.get(module.as_str()) else {
            problems.push(format!("{relative}: module `{module}` has no level"));
            continue;
        };
        seen.insert(module.clone());
        let text = code_of(&std::fs::read_to_string(&file).unwrap());
        for used in crate_paths(&text) {
            match levels.get(used.as_str()) {
                Some(of_used) if of_used > level => {
                    problems.push(format!("{relative} (level {level}) uses `{used}` (level {of_used})"));
                }
                _ if STRANGERS.contains(&(module.as_str(), used.as_str())) => {
                    problems.push(format!("{relative} uses `{used}`: they must not know each other"));
                }
                _ => {}
            }
        }
        if *level <= 2 && relative != DOOR {
            for impure in IMPURE {
                if text.contains(&format!("{impure}::")) {
                    problems.push(format!("{relative} (level {level}) uses `{impure}`"));
                }
            }
        }
    }
    for (module, _) in LEVELS {
        assert!(seen.contains(*module), "the table has a module `{module}` that does not exist");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Code without comments and without what follows `#[cfg(test)]`, which ends our files.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// First segments of `crate::…` paths, also inside braces: `crate::{a::B, c}`.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut start = true;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => start = true,
                    c if depth == 1 && start && c.is_alphabetic() => {
                        found.insert(identifier(&group[i..]));
                        start = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            found.insert(identifier(rest));
        }
    }
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_reader_of_paths_sees_groups_and_nested_paths() {
    let found = crate_paths("use crate::{a::{B, c}, d, e::F}; fn g() { crate::h::i(); xcrate::j() }");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "d", "e", "h"]);
}
