//! What is being served from a shell: an entry per server below `.soupscen/serving`, so that
//! `soupscen call` finds the last one, with the certificates that it needs. An entry goes with its
//! server; while that lives it holds a lock on it, which tells an entry that was left behind.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::process::scratch::Scratch;

/// The file of an entry; the server holds a lock on it.
const FILE: &str = "server.json";
/// The most that is read of an entry, in bytes.
const LIMIT: u64 = 64 << 10;
/// Entries that are looked at.
const ENTRIES: usize = 1000;

/// A server, as its clients need to know it. Paths are absolute.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Full name of the service.
    pub(super) service: String,
    /// The peer that serves.
    pub(super) peer: String,
    /// `HOST:PORT` or `unix:PATH`.
    pub(super) address: String,
    /// Name of the TLS mode.
    pub(super) tls: String,
    /// What a client is to trust, if that is known.
    pub(super) ca: Option<PathBuf>,
    /// The certificate that a client can show.
    pub(super) cert: Option<PathBuf>,
    /// Its key.
    pub(super) key: Option<PathBuf>,
    /// Milliseconds since 1970.
    pub(super) since_ms: u64,
}

/// The entry of this process: a folder for its owner only, removed with it.
pub(super) struct Listing {
    /// `None` once it is removed.
    folder: Option<Scratch>,
    lock: Option<File>,
    home: PathBuf,
}

impl Listing {
    /// Makes the folder, and removes what servers that were killed have left behind.
    pub(super) fn new(home: &Path) -> std::io::Result<Self> {
        let all = home.join("serving");
        for (folder, found) in entries(&all) {
            if matches!(found, Found::Left(_)) {
                let _ = std::fs::remove_dir_all(folder);
            }
        }
        let make = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&all)?;
            Scratch::below(&all)
        };
        // Another server that ends may have removed the folder in between.
        let folder = make().or_else(|_| make())?;
        Ok(Self { folder: Some(folder), lock: None, home: home.to_owned() })
    }

    /// Where certificates can be put.
    pub(super) fn folder(&self) -> &Path {
        self.folder.as_ref().map_or(&self.home, Scratch::path)
    }

    /// From now on the server is found.
    pub(super) fn publish(&mut self, mut entry: Entry) -> std::io::Result<()> {
        entry.since_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            .unwrap_or_default();
        // Under another name until it is whole and locked.
        let path = self.folder().join("new");
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.lock()?;
        file.write_all(serde_json::to_string_pretty(&entry)?.as_bytes())?;
        std::fs::rename(&path, self.folder().join(FILE))?;
        self.lock = Some(file);
        Ok(())
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.folder = None;
        // Where nothing else is kept, nothing stays.
        let _ = std::fs::remove_dir(self.home.join("serving"));
        let _ = std::fs::remove_dir(&self.home);
    }
}

enum Found {
    Running(Entry),
    /// Its server did not end in order.
    Left(Entry),
}

fn entries(all: &Path) -> Vec<(PathBuf, Found)> {
    let folders = std::fs::read_dir(all).into_iter().flatten().flatten().take(ENTRIES);
    folders.filter_map(|folder| Some((folder.path(), read(&folder.path())?))).collect()
}

fn read(folder: &Path) -> Option<Found> {
    let file = File::open(folder.join(FILE)).ok()?;
    let left = file.try_lock_shared().is_ok();
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    let entry = serde_json::from_str(&text).ok()?;
    Some(if left { Found::Left(entry) } else { Found::Running(entry) })
}

/// The server that was started last; `None` when there is none.
///
/// # Errors
/// A sentence, when that server is gone without having said so.
pub(super) fn last(home: &Path) -> Result<Option<Entry>, String> {
    let mut all: Vec<Found> = entries(&home.join("serving")).into_iter().map(|(_, found)| found).collect();
    let since = |found: &Found| match found {
        Found::Running(entry) | Found::Left(entry) => entry.since_ms,
    };
    all.sort_by_key(since);
    match all.pop() {
        None => Ok(None),
        Some(Found::Running(entry)) => Ok(Some(entry)),
        Some(Found::Left(gone)) => {
            let mut text = format!(
                "the last server, {} by {} at {}, is gone without having ended in order",
                gone.service, gone.peer, gone.address
            );
            for found in all.iter().rev() {
                if let Found::Running(Entry { service, peer, address, .. }) = found {
                    let _ = write!(text, "; {service} by {peer} still runs: --server {address}");
                }
            }
            text.push_str("; start one with `soupscen serve`, or say --server ADDRESS");
            Err(text)
        }
    }
}

/// The running server at an address, if it was started here.
pub(super) fn at(home: &Path, address: &str) -> Option<Entry> {
    let all = entries(&home.join("serving"));
    all.into_iter().find_map(|(_, found)| match found {
        Found::Running(entry) if entry.address == address => Some(entry),
        _ => None,
    })
}
