//! Where KV values live: in memory for servers in this process, in a folder for plugin processes,
//! which must find each other's values.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// File names hold 255 bytes; longer encoded keys are named by their digest.
const NAME_MAX: usize = 200;

#[derive(Debug)]
pub(super) enum Store {
    Memory(Mutex<HashMap<Box<str>, Box<[u8]>>>),
    Folder(PathBuf),
}

impl Store {
    pub(super) fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// In a folder, which is created.
    pub(super) fn folder(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self::Folder(path.to_owned()))
    }

    /// The value of a key; `None` when it was never put.
    pub(super) async fn get(&self, key: &str) -> io::Result<Option<Bytes>> {
        match self {
            Self::Memory(map) => {
                let map = map.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(map.get(key).map(|value| Bytes::copy_from_slice(value)))
            }
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
            Self::Memory(map) => {
                map.lock().unwrap_or_else(PoisonError::into_inner).insert(key.into(), value.into());
                Ok(())
            }
            Self::Folder(folder) => {
                let aside = format!(".aside-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                let aside = folder.join(aside);
                tokio::fs::write(&aside, value).await?;
                tokio::fs::rename(&aside, folder.join(file_name(key))).await
            }
        }
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
