//! Where KV values live: near at hand for servers in this process, in a folder for plugin
//! processes, which must find each other's values.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_64;

/// File names hold 255 bytes; longer encoded keys are named by their digest.
const NAME_MAX: usize = 200;

#[derive(Debug)]
pub(super) enum Store {
    Near(Mutex<Near>),
    Folder(PathBuf),
}

impl Store {
    /// In memory, with older values in a temporary file.
    pub(super) fn near() -> Self {
        Self::Near(Mutex::default())
    }

    /// In a folder, which is created.
    pub(super) fn folder(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self::Folder(path.to_owned()))
    }

    /// The value of a key; `None` when it was never put.
    pub(super) async fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        match self {
            Self::Near(near) => near.lock().unwrap_or_else(PoisonError::into_inner).get(key),
            Self::Folder(folder) => match tokio::fs::read(folder.join(file_name(key))).await {
                Ok(value) => Ok(Some(Bytes::from(value))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Keeps a value. In a folder it appears whole or not at all: it is written aside and renamed.
    pub(super) async fn put(&self, key: &str, value: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self {
            Self::Near(near) => near.lock().unwrap_or_else(PoisonError::into_inner).put(key, value),
            Self::Folder(folder) => {
                let aside = format!(".aside-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                let aside = folder.join(aside);
                tokio::fs::write(&aside, value).await?;
                tokio::fs::rename(&aside, folder.join(file_name(key))).await
            }
        }
    }
}

/// What values may take in memory, in bytes. A run of a million cases puts a million values into one
/// server, in the process whose memory per case is promised to be small.
const NEAR_LIMIT: usize = 4 << 20;

/// What an entry takes beside its key (twice) and value: map, queue, allocations.
const ENTRY_COST: usize = 160;

/// The newest values in memory, older ones in an unnamed file; per value there, only its place is
/// kept in memory.
#[derive(Debug, Default)]
pub(super) struct Near {
    values: HashMap<Box<str>, Box<[u8]>>,
    /// Keys of `values`, oldest first.
    order: VecDeque<Box<str>>,
    bytes: usize,
    far: Option<Far>,
}

#[derive(Debug)]
struct Far {
    file: File,
    end: u64,
    /// Hash of a key → its newest record.
    places: HashMap<u64, u64>,
}

fn cost(key: &str, value: &[u8]) -> usize {
    2 * key.len() + value.len() + ENTRY_COST
}

impl Near {
    fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        match (self.values.get(key), &self.far) {
            (Some(value), _) => Ok(Some(Bytes::copy_from_slice(value))),
            (None, Some(far)) => far.get(key),
            (None, None) => Ok(None),
        }
    }

    fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        self.bytes += cost(key, value);
        match self.values.insert(key.into(), value.into()) {
            Some(old) => self.bytes -= cost(key, &old),
            None => self.order.push_back(key.into()),
        }
        while self.bytes > NEAR_LIMIT {
            let Some(oldest) = self.order.pop_front() else { break };
            let Some(value) = self.values.remove(&oldest) else { continue };
            self.bytes -= cost(&oldest, &value);
            let far = match &mut self.far {
                Some(far) => far,
                None => self.far.insert(Far { file: tempfile::tempfile()?, end: 0, places: HashMap::new() }),
            };
            far.put(&oldest, &value)?;
        }
        Ok(())
    }
}

/// A record: the place of the one before with the same hash plus 1 (or 0), lengths of key and value,
/// key, value. Numbers are little-endian.
const HEAD: usize = 16;

impl Far {
    fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        let hash = xxh3_64(key.as_bytes());
        let before = self.places.get(&hash).map_or(0, |place| place + 1);
        let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
        let mut record = Vec::with_capacity(HEAD + key.len() + value.len());
        record.extend_from_slice(&before.to_le_bytes());
        record.extend_from_slice(&length(key.len())?.to_le_bytes());
        record.extend_from_slice(&length(value.len())?.to_le_bytes());
        record.extend_from_slice(key.as_bytes());
        record.extend_from_slice(value);
        self.file.write_all_at(&record, self.end)?;
        self.places.insert(hash, self.end);
        self.end += record.len() as u64;
        Ok(())
    }

    fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        let mut next = self.places.get(&xxh3_64(key.as_bytes())).map_or(0, |place| place + 1);
        while let Some(place) = next.checked_sub(1) {
            let mut before = [0; 8];
            self.file.read_exact_at(&mut before, place)?;
            let (mut keys, mut values) = ([0; 4], [0; 4]);
            self.file.read_exact_at(&mut keys, place + 8)?;
            self.file.read_exact_at(&mut values, place + 12)?;
            let (keys, values) = (u32::from_le_bytes(keys) as usize, u32::from_le_bytes(values) as usize);
            let mut record = vec![0; keys + values];
            self.file.read_exact_at(&mut record, place + HEAD as u64)?;
            if record.get(..keys) == Some(key.as_bytes()) {
                return Ok(Some(Bytes::from(record.split_off(keys))));
            }
            next = u64::from_le_bytes(before);
        }
        Ok(None)
    }
}

/// A file name for any key, one for each: letters, digits, `-` and `_` stay, other bytes become
/// `%XX`, and what is too long is named by its SHA-256 behind a `#`, which no other name has.
fn file_name(key: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::from("kv-");
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.len() > NAME_MAX {
        name = format!("kv-#{}", hex::encode(Sha256::digest(key)));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_values_leave_memory_and_are_still_found() {
        let mut near = Near::default();
        let value = |number: usize| format!("value {number} {}", "x".repeat(number % 200)).into_bytes();
        let count = 3 * NEAR_LIMIT / cost("key 10000", &value(100));
        for number in 0..count {
            near.put(&format!("key {number}"), &value(number)).unwrap();
            near.put("always", &value(number)).unwrap();
        }
        assert!(near.bytes <= NEAR_LIMIT, "{}", near.bytes);
        assert!(near.values.len() < count / 2 && near.far.is_some());
        assert_eq!(near.values.len(), near.order.len());
        for number in 0..count {
            assert_eq!(near.get(&format!("key {number}")).unwrap().unwrap(), value(number));
        }
        assert_eq!(near.get("always").unwrap().unwrap(), value(count - 1));
        assert_eq!(near.get("never").unwrap(), None);
        near.put("key 0", b"new").unwrap();
        assert_eq!(near.get("key 0").unwrap().unwrap(), b"new"[..]);
        near.put("huge", &vec![7; NEAR_LIMIT + 1]).unwrap();
        assert_eq!(near.get("huge").unwrap().unwrap().len(), NEAR_LIMIT + 1);
        assert_eq!(near.get("key 0").unwrap().unwrap(), b"new"[..], "the newer record wins");
    }

    #[tokio::test]
    async fn any_key_is_safe_and_its_own_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(&folder.path().join("deep/er")).unwrap();
        let long = "k".repeat(5000);
        let keys = ["", "a", "A%2F", "a/b", "../../escape", "/etc/passwd", "nul\0", ".", "ü", &long];
        for key in keys {
            assert_eq!(store.get(key).await.unwrap(), None, "{key}");
            store.put(key, key.as_bytes()).await.unwrap();
        }
        for key in keys {
            assert_eq!(store.get(key).await.unwrap().unwrap(), key.as_bytes(), "{key}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(folder.path().join("deep/er")).unwrap().count(), keys.len());
    }
}
