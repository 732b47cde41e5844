//! The builds on disk: locks, outputs, records, and what may be thrown away. The layout and its
//! reasons are in `build`'s own page.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::BuildError;
use crate::process::remove_tree;
use crate::process::scratch::random_name;

/// Version of the record.
const FORMAT: u32 = 1;
/// Largest record that is read.
const RECORD_BYTES: u64 = 1024 * 1024;
/// How many builds of a peer are kept: going back and forth between two branches stays cheap.
const KEPT: usize = 3;

/// A finished build, as written beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// Absolute: a folder that was moved is not trusted.
    output: PathBuf,
    #[serde(default)]
    versions: BTreeMap<String, KnownVersion>,
}

/// A version and the probe that found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownVersion {
    /// Digest of the probe, so that a changed one is run again.
    pub(super) probe: String,
    /// What was found.
    pub(super) version: String,
}

/// An output folder that this process uses, and that therefore nobody removes.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    lock: File,
}

impl Drop for Output {
    /// Closing alone would not do: a process that is being forked may still hold the same lock.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Output {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A build with what is known of it.
pub(super) struct Found {
    pub(super) output: Output,
    pub(super) versions: BTreeMap<String, KnownVersion>,
}

impl Found {
    pub(super) const fn new(output: Output) -> Self {
        Self { output, versions: BTreeMap::new() }
    }
}

/// The builds of one peer.
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// `cache` is absolute.
    pub(super) fn open(cache: &Path, peer: &str) -> Result<Self, BuildError> {
        let store = Self { folder: cache.join(file_name(peer)) };
        std::fs::create_dir_all(&store.folder).map_err(|error| store.failed(&error))?;
        Ok(store)
    }

    fn failed(&self, error: &std::io::Error) -> BuildError {
        BuildError::Cache { path: self.folder.display().to_string(), error: error.to_string() }
    }

    fn record_path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    fn read_record(&self, path: &Path) -> Option<Record> {
        if path.metadata().ok()?.len() > RECORD_BYTES {
            return None;
        }
        let record: Record = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let ours = record.output.parent() == Some(&self.folder);
        (record.format == FORMAT && ours && record.output.is_dir()).then_some(record)
    }

    /// A finished build with this key, in use from now on.
    pub(super) fn find(&self, key: &str) -> Option<Found> {
        let path = self.record_path(key);
        let record = self.read_record(&path)?;
        let output = use_output(record.output).ok()?;
        // Between reading and locking it may have been replaced and removed.
        let again = self.read_record(&path)?;
        if again.output != output.path {
            return None;
        }
        // The times of records say which were used last.
        let _ = File::open(&path).and_then(|file| file.set_modified(std::time::SystemTime::now()));
        Some(Found { output, versions: again.versions })
    }

    /// Waits until nobody else builds this peer. `waiting` is told if that takes time.
    pub(super) async fn lock_for_building(&self, waiting: impl FnOnce()) -> Result<File, BuildError> {
        let file = open_lock(&self.folder.join("lock")).map_err(|error| self.failed(&error))?;
        if file.try_lock().is_ok() {
            return Ok(file);
        }
        waiting();
        // A thread of its own rather than one of the runtime's, whose end a cancelled wait would hold up.
        let (done, locked) = tokio::sync::oneshot::channel();
        let wait = move || {
            let _ = done.send(file.lock().map(|()| file));
        };
        std::thread::Builder::new().name("build-lock".into()).spawn(wait).map_err(|error| self.failed(&error))?;
        let ended = || std::io::Error::other("the thread that waited for the lock has ended");
        locked.await.unwrap_or_else(|_| Err(ended())).map_err(|error| self.failed(&error))
    }

    /// A new, empty output folder, in use. Only under the build lock.
    pub(super) fn new_output(&self, key: &str) -> Result<Output, BuildError> {
        let make = || {
            let path = self.folder.join(format!("{key}-{}", random_name(4)?));
            let output = use_output(path)?;
            std::fs::create_dir(&output.path)?;
            Ok(output)
        };
        make().map_err(|error| self.failed(&error))
    }

    /// Removes an output that came to nothing.
    pub(super) fn discard(&self, output: Output) {
        let path = output.path.clone();
        drop(output);
        self.remove_unless_used(&path);
    }

    /// Makes a build known, in one step.
    pub(super) fn record(&self, key: &str, found: &Found) -> Result<(), BuildError> {
        let record = Record { format: FORMAT, output: found.output.path.clone(), versions: found.versions.clone() };
        let write = || {
            let aside = self.folder.join(format!("{key}.{}.new", random_name(4)?));
            std::fs::write(&aside, serde_json::to_vec_pretty(&record)?)?;
            std::fs::rename(&aside, self.record_path(key))
        };
        write().map_err(|error| self.failed(&error))
    }

    /// Removes what no record speaks of (killed builds, replaced ones) and the builds used longest
    /// ago, but nothing that a process uses. Only under the build lock.
    pub(super) fn remove_garbage(&self, newest: &str) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        let newest = self.record_path(newest);
        let records = || entries.iter().filter(|path| has_extension(path, "json"));
        let mut by_use: Vec<_> = records()
            .filter(|path| **path != newest)
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .collect();
        by_use.sort();
        for (_, path) in by_use.iter().rev().skip(KEPT - 1) {
            let _ = std::fs::remove_file(path);
        }
        let spoken_of: Vec<PathBuf> =
            records().filter_map(|path| self.read_record(path)).map(|record| record.output).collect();
        for path in &entries {
            if path.is_dir() && !spoken_of.contains(path) {
                self.remove_unless_used(path);
            } else if has_extension(path, "new") {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn remove_unless_used(&self, output: &Path) {
        if output.parent() != Some(&self.folder) {
            return;
        }
        let path = lock_path(output);
        let Ok(lock) = open_lock(&path) else { return };
        if lock.try_lock().is_ok() && remove_tree(output).is_ok() {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|found| found == wanted)
}

fn lock_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    File::options().create(true).write(true).truncate(false).open(path)
}

fn use_output(path: PathBuf) -> std::io::Result<Output> {
    let lock = open_lock(&lock_path(&path))?;
    lock.try_lock_shared()?;
    Ok(Output { path, lock })
}

/// A peer's name as a file name: itself if it is one, else recognisable and still unique.
fn file_name(peer: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !peer.is_empty() && peer.len() <= 64 && peer.chars().all(plain) {
        return peer.to_owned();
    }
    let shown: String = peer.chars().take(32).map(|c| if plain(c) { c } else { '_' }).collect();
    let digest = hex::encode(Sha256::digest(peer));
    format!("{shown}.{}", digest.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    #[test]
    fn peers_with_odd_names_get_folders_of_their_own() {
        assert_eq!(file_name("go-tls"), "go-tls");
        assert!(file_name("../up").starts_with("___up."));
        assert_ne!(file_name("a/b"), file_name("a b"));
    }

    #[test]
    fn only_a_recorded_build_is_found_and_unused_ones_go() {
        let scratch = Scratch::new().unwrap();
        let store = Store::open(scratch.path(), "p").unwrap();
        assert!(store.find("k1").is_none());
        let half = store.new_output("k1").unwrap();
        assert!(store.find("k1").is_none(), "an output without a record is no build");
        store.record("k1", &Found::new(half)).unwrap();
        let used = store.find("k1").unwrap();

        let replacement = store.new_output("k1").unwrap();
        store.record("k1", &Found::new(replacement)).unwrap();
        let old = used.output.path().to_owned();
        store.remove_garbage("k1");
        assert!(old.is_dir(), "it is in use");
        drop(used);
        store.remove_garbage("k1");
        assert!(!old.exists() && !lock_path(&old).exists());
        assert!(store.find("k1").is_some());
    }

    #[test]
    fn the_builds_used_longest_ago_go_first() {
        let scratch = Scratch::new().unwrap();
        let store = Store::open(scratch.path(), "p").unwrap();
        let keys = ["k0", "k1", "k2", "k3", "k4"];
        for (age, key) in keys.iter().enumerate() {
            let output = store.new_output(key).unwrap();
            store.record(key, &Found::new(output)).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            File::open(store.record_path(key)).unwrap().set_modified(time).unwrap();
        }
        store.remove_garbage("k0");
        assert_eq!(keys.map(|key| store.find(key).is_some()), [true, false, false, true, true]);
        let folders = std::fs::read_dir(scratch.path().join("p")).unwrap().flatten().filter(|e| e.path().is_dir());
        assert_eq!(folders.count(), 3);
    }

    #[test]
    fn a_moved_cache_is_not_trusted() {
        let scratch = Scratch::new().unwrap();
        let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
        let store = Store::open(&one, "p").unwrap();
        let output = store.new_output("k").unwrap();
        store.record("k", &Found::new(output)).unwrap();
        assert!(store.find("k").is_some());
        std::fs::rename(one, &two).unwrap();
        assert!(Store::open(&two, "p").unwrap().find("k").is_none());
    }
}
