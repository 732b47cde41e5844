//! Keys, values and revisions. Every change is one step under one lock, and is put before every
//! reader that it concerns in the same step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tonic::Status;

use super::super::proto::stock::WatchEvent;
use super::super::proto::stock::watch_event::Kind;
use super::limits::{ENTRY, STORE};
use super::mistake::{Mistake, Wrong};
use super::monitor::{Pattern, Waiting};

/// The state of one server.
#[derive(Debug)]
pub(super) struct Store {
    state: Mutex<State>,
    wrong: Wrong,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    /// Of keys and values, and [`ENTRY`] for each.
    bytes: usize,
    revision: u64,
    readers: Vec<(Pattern, Weak<Waiting>)>,
}

#[derive(Debug)]
struct Entry {
    value: Bytes,
    revision: u64,
}

impl Store {
    pub(super) fn new(wrong: Wrong) -> Self {
        Self { state: Mutex::default(), wrong }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, key: &str) -> String {
        if self.wrong.is(Mistake::KeysTrimmed) { key.trim().to_owned() } else { key.to_owned() }
    }

    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        self.lock().entries.get(&self.name(key)).map(|entry| entry.value.clone())
    }

    /// Gives the revision of the change.
    pub(super) fn put(&self, key: &str, value: Bytes) -> Result<u64, Status> {
        self.lock().put(&self.name(key), value, self.wrong)
    }

    /// Gives the revision of the change; `None` for an absent key.
    pub(super) fn delete(&self, key: &str) -> Option<u64> {
        self.lock().delete(key, self.wrong)
    }

    /// Reads a value and, where `change` makes another of it, puts that, in one step. Gives what
    /// `change` gave, and the revision.
    pub(super) fn change<T>(
        &self,
        key: &str,
        change: impl FnOnce(Option<&Bytes>) -> Result<(T, Option<Bytes>), Status>,
    ) -> Result<(T, Option<u64>), Status> {
        let mut state = self.lock();
        let (given, value) = change(state.entries.get(key).map(|entry| &entry.value))?;
        let revision = value.map(|value| state.put(key, value, self.wrong)).transpose()?;
        Ok((given, revision))
    }

    /// Notes that something was refused, which changes nothing.
    pub(super) fn refused(&self) {
        if self.wrong.is(Mistake::RefusalsRaiseRevision) {
            self.lock().revision += 1;
        }
    }

    /// Begins to fill `waiting` with the changes of a pattern. Gives what there is, in the order of
    /// keys, and the newest revision.
    pub(super) fn watch(&self, pattern: &Pattern, waiting: &Arc<Waiting>) -> (Vec<WatchEvent>, u64) {
        let mut state = self.lock();
        let event = |(key, entry): (&String, &Entry)| WatchEvent {
            kind: Kind::Snapshot.into(),
            key: key.clone(),
            value: entry.value.clone(),
            revision: entry.revision,
            padding: Bytes::new(),
        };
        let mut snapshot: Vec<_> =
            state.entries.iter().filter(|(key, _)| pattern.matches(key, self.wrong)).map(event).collect();
        match self.wrong.0 {
            Some(Mistake::SnapshotInOrderOfChange) => snapshot.sort_by_key(|event| event.revision),
            Some(Mistake::SnapshotInUtf16) => {
                snapshot.sort_by_key(|event| event.key.encode_utf16().collect::<Vec<_>>());
            }
            _ => {}
        }
        let revision = state.revision;
        state.readers.push((pattern.clone(), Arc::downgrade(waiting)));
        (snapshot, revision)
    }

    /// Keys that begin with `prefix`, bytes of their values, and the newest revision.
    pub(super) fn count(&self, prefix: &str) -> (u64, u64, u64) {
        let state = self.lock();
        let (mut keys, mut bytes) = (0, 0);
        let from = state.entries.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        for (_, entry) in from.take_while(|(key, _)| key.starts_with(prefix)) {
            keys += 1;
            bytes += entry.value.len() as u64;
        }
        (keys, bytes, state.revision)
    }
}

fn cost(key: &str, value: &Bytes) -> usize {
    key.len() + value.len() + ENTRY
}

impl State {
    fn put(&mut self, key: &str, value: Bytes, wrong: Wrong) -> Result<u64, Status> {
        let value = match wrong.0 {
            Some(Mistake::ValuesAreText) => Bytes::from(String::from_utf8_lossy(&value).into_owned()),
            _ => value,
        };
        let old = self.entries.get(key);
        if wrong.is(Mistake::SameValueSilent)
            && let Some(old) = old.filter(|old| old.value == value)
        {
            return Ok(old.revision);
        }
        let before = old.map_or(0, |old| cost(key, &old.value));
        let bytes = self.bytes - before + cost(key, &value);
        if bytes > STORE {
            return Err(Status::resource_exhausted(format!(
                "the store would have {bytes} bytes, its limit is {STORE}"
            )));
        }
        self.bytes = bytes;
        let revision = match wrong.0 {
            Some(Mistake::RevisionPerKey) => old.map_or(0, |old| old.revision) + 1,
            Some(Mistake::RevisionSkips) => self.revision + 2,
            _ => self.revision + 1,
        };
        self.revision = self.revision.max(revision);
        self.entries.insert(key.to_owned(), Entry { value: value.clone(), revision });
        self.tell(Kind::Put, key, &value, revision, wrong);
        Ok(revision)
    }

    fn delete(&mut self, key: &str, wrong: Wrong) -> Option<u64> {
        let entry = self.entries.remove(key)?;
        self.bytes -= cost(key, &entry.value);
        if wrong.is(Mistake::DeletesHaveNoRevision) {
            self.tell(Kind::Delete, key, &Bytes::new(), self.revision, wrong);
            return Some(self.revision);
        }
        self.revision += 1;
        match wrong.0 {
            Some(Mistake::DeletesSilent) => {}
            Some(Mistake::DeleteIsEmptyPut) => self.tell(Kind::Put, key, &Bytes::new(), self.revision, wrong),
            Some(Mistake::DeleteKeepsValue) => self.tell(Kind::Delete, key, &entry.value, self.revision, wrong),
            _ => self.tell(Kind::Delete, key, &Bytes::new(), self.revision, wrong),
        }
        Some(self.revision)
    }

    fn tell(&mut self, kind: Kind, key: &str, value: &Bytes, revision: u64, wrong: Wrong) {
        let revision = revision - u64::from(wrong.is(Mistake::EventsOneBehind));
        self.readers.retain(|(pattern, waiting)| {
            let Some(waiting) = waiting.upgrade() else { return false };
            if pattern.matches(key, wrong) {
                let (key, value) = (key.to_owned(), value.clone());
                waiting.push(WatchEvent { kind: kind.into(), key, value, revision, padding: Bytes::new() });
            }
            true
        });
    }
}
