//! Which files a build depends on, and their digests. Patterns: `*`, `?`, `[a-z]`, `{a,b}` within
//! a name, `**` for any folders; a folder's name means everything in it. Read by `build`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use regex::Regex;
use sha2::{Digest as _, Sha256};

use super::BuildError;
use crate::scenario::model;

/// Most files that a build may depend on.
const MAX_FILES: usize = 20_000;
/// Most bytes of them.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Most names looked at while searching.
const MAX_LOOKED_AT: usize = 500_000;
/// Most alternatives that the braces of one pattern may mean.
const MAX_ALTERNATIVES: usize = 64;
/// Never inputs, whatever a pattern says: they change by being used.
const NEVER: [&str; 4] = [".git", "__pycache__", ".soupscen", ".DS_Store"];

/// One file.
pub(super) struct InputFile {
    /// Its path as found from the peer's folder.
    pub(super) name: String,
    /// SHA-256 of its content.
    pub(super) digest: [u8; 32],
}

/// Finds and reads all inputs, in order of their names, on a thread of its own.
pub(super) async fn collect(
    peer: &model::Peer,
    build: &model::Build,
    cache: &Path,
) -> Result<Vec<InputFile>, BuildError> {
    let (name, folder, patterns) = (peer.name.clone(), peer.folder.clone(), build.inputs.clone());
    let cache = cache.to_owned();
    let collected = tokio::task::spawn_blocking(move || collect_now(&name, &folder, &patterns, &cache)).await;
    collected.unwrap_or_else(|error| {
        let path = peer.folder.display().to_string();
        Err(BuildError::Input { peer: peer.name.clone(), path, error: error.to_string() })
    })
}

fn collect_now(peer: &str, folder: &Path, patterns: &[String], cache: &Path) -> Result<Vec<InputFile>, BuildError> {
    let mut search = Search { peer, cache: cache.canonicalize().ok(), found: BTreeMap::new(), looked_at: 0 };
    for pattern in patterns {
        let mut any = false;
        for alternative in alternatives(pattern) {
            let parts = parse(&alternative).map_err(|error| BuildError::BadPattern {
                peer: peer.to_owned(),
                pattern: pattern.clone(),
                error,
            })?;
            any |= search.walk(folder, "", &parts)?;
        }
        if !any {
            return Err(BuildError::NoInput {
                peer: peer.to_owned(),
                pattern: pattern.clone(),
                folder: folder.display().to_string(),
            });
        }
    }
    let mut left = MAX_BYTES;
    search.found.into_iter().map(|(name, path)| read(peer, name, &path, &mut left)).collect()
}

fn read(peer: &str, name: String, path: &Path, left: &mut u64) -> Result<InputFile, BuildError> {
    let failed = |error: std::io::Error| BuildError::Input {
        peer: peer.to_owned(),
        path: path.display().to_string(),
        error: error.to_string(),
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let got = file.read(&mut chunk).map_err(failed)?;
        if got == 0 {
            return Ok(InputFile { name, digest: hash.finalize().into() });
        }
        let Some(rest) = left.checked_sub(got as u64) else {
            let limit = format!("{} MiB", MAX_BYTES / 1024 / 1024);
            return Err(BuildError::TooMuchInput { peer: peer.to_owned(), limit });
        };
        *left = rest;
        hash.update(chunk.get(..got).unwrap_or_default());
    }
}

/// One part of a pattern, between slashes.
enum Part {
    /// A name as it is, also `..`.
    Literal(String),
    /// Any name that this matches.
    Matching(Regex),
    /// `**`.
    AnyFolders,
}

fn parse(pattern: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for component in Path::new(pattern).components() {
        match component {
            Component::ParentDir => parts.push(Part::Literal("..".into())),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err("inputs start from the peer's folder".into()),
            Component::Normal(text) => parts.push(match text.to_string_lossy().as_ref() {
                "**" => Part::AnyFolders,
                text if text.contains(['*', '?', '[']) => Part::Matching(name_pattern(text)?),
                text => Part::Literal(text.to_owned()),
            }),
        }
    }
    if parts.is_empty() { Err("it names nothing".into()) } else { Ok(parts) }
}

fn name_pattern(text: &str) -> Result<Regex, String> {
    let mut pattern = String::from("^(?s:");
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => pattern.push_str(".*"),
            '?' => pattern.push('.'),
            '[' => {
                let class: String = rest.by_ref().take_while(|c| *c != ']').collect();
                let (not, class) = class.strip_prefix('!').map_or(("", class.as_str()), |class| ("^", class));
                // What has a meaning in the regular expression's class, and none in a pattern's.
                let class = class.replace(['\\', '[', '&', '~', '^'], "");
                pattern.push('[');
                pattern.push_str(not);
                pattern.push_str(&class);
                pattern.push(']');
            }
            c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    pattern.push_str(")$");
    Regex::new(&pattern).map_err(|_| format!("`{text}` is no pattern"))
}

/// `a{b,c}` → `ab`, `ac`; without nesting, bounded.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut todo = vec![pattern.to_owned()];
    while let Some(next) = todo.pop() {
        let braces = next.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
        match braces {
            Some((before, (inner, after))) if done.len() + todo.len() < MAX_ALTERNATIVES => {
                todo.extend(inner.split(',').map(|choice| format!("{before}{choice}{after}")));
            }
            _ => done.push(next),
        }
    }
    done
}

struct Search<'a> {
    peer: &'a str,
    cache: Option<PathBuf>,
    found: BTreeMap<String, PathBuf>,
    looked_at: usize,
}

impl Search<'_> {
    /// Takes in what `parts` mean below `folder`; whether anything matched, new or not.
    fn walk(&mut self, folder: &Path, shown: &str, parts: &[Part]) -> Result<bool, BuildError> {
        let Some((first, rest)) = parts.split_first() else { return self.take(folder, shown) };
        let below = |name: &str| if shown.is_empty() { name.to_owned() } else { format!("{shown}/{name}") };
        let mut any = false;
        match first {
            Part::Literal(name) => {
                let path = folder.join(name);
                any = path.exists() && self.walk(&path, &below(name), rest)?;
            }
            Part::Matching(pattern) => {
                for (name, path, _) in self.list(folder)? {
                    any |= pattern.is_match(&name) && self.walk(&path, &below(&name), rest)?;
                }
            }
            Part::AnyFolders => {
                any = !rest.is_empty() && self.walk(folder, shown, rest)?;
                for (name, path, is_folder) in self.list(folder)? {
                    if is_folder {
                        any |= self.walk(&path, &below(&name), parts)?;
                    } else if rest.is_empty() && !path.is_dir() {
                        any |= self.take(&path, &below(&name))?;
                    }
                }
            }
        }
        Ok(any)
    }

    /// Takes a file, or everything in a folder.
    fn take(&mut self, path: &Path, shown: &str) -> Result<bool, BuildError> {
        if path.is_dir() {
            return self.walk(path, shown, &[Part::AnyFolders]);
        }
        if !path.is_file() {
            return Ok(false);
        }
        if self.found.len() >= MAX_FILES {
            return Err(BuildError::TooMuchInput { peer: self.peer.to_owned(), limit: format!("{MAX_FILES} files") });
        }
        self.found.insert(shown.to_owned(), path.to_owned());
        Ok(true)
    }

    /// Names, paths, and whether each is a folder (a link to one is not, or loops would not end).
    fn list(&mut self, folder: &Path) -> Result<Vec<(String, PathBuf, bool)>, BuildError> {
        let is_cache = self.cache.is_some() && folder.canonicalize().ok() == self.cache;
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for entry in entries.flatten().filter(|_| !is_cache) {
            self.looked_at += 1;
            if self.looked_at > MAX_LOOKED_AT {
                let limit = format!("{MAX_LOOKED_AT} names to look at");
                return Err(BuildError::TooMuchInput { peer: self.peer.to_owned(), limit });
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if NEVER.contains(&name.as_str()) {
                continue;
            }
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            all.push((name, entry.path(), is_folder));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    fn tree() -> Scratch {
        let scratch = Scratch::new().unwrap();
        let files = [
            "peer/go.mod",
            "peer/main.go",
            "peer/main_test.txt",
            "peer/in/a.go",
            "peer/in/deep/b.go",
            "peer/in/__pycache__/x.go",
            "peer/cache/c.go",
            "proto/kv.proto",
        ];
        for name in files {
            let path = scratch.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        scratch
    }

    fn names(scratch: &Scratch, patterns: &[&str]) -> Result<String, BuildError> {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let (folder, cache) = (scratch.path().join("peer"), scratch.path().join("peer/cache"));
        let found = collect_now("p", &folder, &patterns, &cache)?;
        Ok(found.into_iter().map(|f| f.name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn patterns_find_what_they_say() {
        let scratch = tree();
        let of = |patterns: &[&str]| names(&scratch, patterns).unwrap();
        assert_eq!(of(&["*.go", "go.mod"]), "go.mod main.go");
        assert_eq!(of(&["**/*.go"]), "in/a.go in/deep/b.go main.go");
        assert_eq!(of(&["in"]), "in/a.go in/deep/b.go");
        assert_eq!(of(&["./in/**", "in/a.go"]), "in/a.go in/deep/b.go");
        assert_eq!(of(&["../proto/*.proto"]), "../proto/kv.proto");
        assert_eq!(of(&["{go.mod,in/a.go}", "main.g[no]"]), "go.mod in/a.go main.go");
        assert_eq!(of(&["main?test.[!g]*"]), "main_test.txt");
    }

    #[test]
    fn a_pattern_that_finds_nothing_is_an_error_that_names_it() {
        let scratch = tree();
        let error = names(&scratch, &["*.go", "go.sum"]).unwrap_err();
        assert!(matches!(&error, BuildError::NoInput { pattern, .. } if pattern == "go.sum"), "{error}");
        assert!(matches!(names(&scratch, &["/etc/*"]), Err(BuildError::BadPattern { .. })));
        assert!(matches!(names(&scratch, &["[]"]), Err(BuildError::BadPattern { .. })));
    }

    #[test]
    fn the_digest_follows_the_content() {
        let scratch = tree();
        let digest = || {
            let found = collect_now("p", &scratch.path().join("peer"), &["go.mod".to_owned()], Path::new("x"));
            found.unwrap().remove(0).digest
        };
        let before = digest();
        assert_eq!(before, digest());
        std::fs::write(scratch.path().join("peer/go.mod"), "changed").unwrap();
        assert_ne!(before, digest());
    }

    #[test]
    fn links_to_folders_do_not_loop() {
        let scratch = tree();
        std::os::unix::fs::symlink("..", scratch.path().join("peer/in/up")).unwrap();
        assert_eq!(names(&scratch, &["**/*.go"]).unwrap(), "in/a.go in/deep/b.go main.go");
        assert_eq!(names(&scratch, &["in"]).unwrap(), "in/a.go in/deep/b.go");
        assert_eq!(names(&scratch, &["in/**"]).unwrap(), "in/a.go in/deep/b.go");
        assert_eq!(names(&scratch, &["in/up/in"]).unwrap(), "in/up/in/a.go in/up/in/deep/b.go");
    }
}
