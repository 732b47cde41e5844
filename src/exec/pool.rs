//! Shares what is dear to start: servers, connections, launched plugins. One start per key at a
//! time, everyone waits for it; a poisoned entry is never handed out again; what is idle longest
//! goes first. Knows nothing of what it holds.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// Entries by key, at most `idle_limit` of them unused at a time.
pub(super) struct Pool<K, V, E> {
    entries: Mutex<HashMap<K, Arc<Entry<V, E>>>>,
    idle_limit: usize,
    clock: AtomicU64,
}

struct Entry<V, E> {
    cell: OnceCell<Result<Arc<V>, E>>,
    users: AtomicUsize,
    leases: AtomicU64,
    poisoned: AtomicBool,
    last_used: AtomicU64,
}

/// A use of an entry; the entry is idle again when all its leases are dropped.
pub(super) struct Lease<V, E> {
    entry: Arc<Entry<V, E>>,
    value: Arc<V>,
    shared: bool,
}

impl<V, E> Lease<V, E> {
    pub(super) fn value(&self) -> &Arc<V> {
        &self.value
    }

    /// Somebody else used it before, or uses it now: a failure on it may not be this user's.
    pub(super) fn is_shared(&self) -> bool {
        self.shared || self.entry.leases.load(Ordering::Relaxed) > 1
    }

    /// Nobody will be given this entry again.
    pub(super) fn poison(&self) {
        self.entry.poisoned.store(true, Ordering::Relaxed);
    }
}

impl<V, E> Drop for Lease<V, E> {
    fn drop(&mut self) {
        self.entry.users.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<K: Eq + Hash + Clone, V, E: Clone> Pool<K, V, E> {
    pub(super) fn new(idle_limit: usize) -> Self {
        Self { entries: Mutex::default(), idle_limit, clock: AtomicU64::new(0) }
    }

    /// The entry of `key`, started by `start` if there is none. A failed start is told to everyone
    /// who asks for the key, until [`Pool::forget`]: it is evidence for all of them alike.
    pub(super) async fn lease(
        &self,
        key: &K,
        start: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<Lease<V, E>, (E, bool)> {
        let entry = self.entry(key);
        let users = UserGuard(&entry);
        let first = entry.leases.fetch_add(1, Ordering::Relaxed) == 0;
        let result = entry.cell.get_or_init(async || start().await.map(Arc::new)).await;
        match result {
            Ok(value) => {
                let value = Arc::clone(value);
                std::mem::forget(users);
                Ok(Lease { entry, value, shared: !first })
            }
            Err(error) => Err((error.clone(), !first)),
        }
    }

    /// The next lease of `key` starts anew.
    pub(super) fn forget(&self, key: &K) {
        let gone = self.lock().remove(key);
        drop(gone);
    }

    /// Gives up everything; what is in use ends with its last lease.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *self.lock());
        drop(gone);
    }

    fn entry(&self, key: &K) -> Arc<Entry<V, E>> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut gone = Vec::new();
        let mut entries = self.lock();
        let usable = entries.get(key).filter(|e| !e.poisoned.load(Ordering::Relaxed)).cloned();
        let entry = usable.unwrap_or_else(|| {
            let entry = Arc::new(Entry {
                cell: OnceCell::new(),
                users: AtomicUsize::new(0),
                leases: AtomicU64::new(0),
                poisoned: AtomicBool::new(false),
                last_used: AtomicU64::new(now),
            });
            gone.extend(entries.insert(key.clone(), Arc::clone(&entry)));
            entry
        });
        entry.users.fetch_add(1, Ordering::AcqRel);
        entry.last_used.store(now, Ordering::Relaxed);
        if entries.len() > self.idle_limit {
            let mut idle: Vec<_> = entries
                .iter()
                .filter(|(_, e)| e.users.load(Ordering::Acquire) == 0)
                .map(|(k, e)| (e.last_used.load(Ordering::Relaxed), k.clone()))
                .collect();
            if idle.len() > self.idle_limit {
                idle.sort_unstable_by_key(|(used, _)| *used);
                let excess = idle.len() - self.idle_limit;
                gone.extend(idle.into_iter().take(excess).filter_map(|(_, k)| entries.remove(&k)));
            }
        }
        drop(entries);
        drop(gone);
        entry
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<Entry<V, E>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Undoes the use of an entry when a start fails or its waiter is dropped.
struct UserGuard<'a, V, E>(&'a Entry<V, E>);

impl<V, E> Drop for UserGuard<'_, V, E> {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_start_serves_everyone_and_a_poisoned_entry_nobody() {
        let pool: Pool<u8, u32, String> = Pool::new(4);
        let starts = AtomicUsize::new(0);
        let start = async || {
            tokio::task::yield_now().await;
            Ok(u32::try_from(starts.fetch_add(1, Ordering::Relaxed)).unwrap())
        };
        let (a, b) = tokio::join!(pool.lease(&1, start), pool.lease(&1, start));
        let (a, b) = (a.ok().unwrap(), b.ok().unwrap());
        assert_eq!((**a.value(), **b.value()), (0, 0));
        assert!(a.is_shared() && b.is_shared());
        a.poison();
        let c = pool.lease(&1, start).await.ok().unwrap();
        assert_eq!(**c.value(), 1);
        assert!(!c.is_shared());
    }

    #[tokio::test]
    async fn a_failed_start_is_told_to_all_until_forgotten() {
        let pool: Pool<u8, u32, String> = Pool::new(4);
        let first = pool.lease(&1, async || Err("no".to_owned())).await;
        assert_eq!(first.err(), Some(("no".to_owned(), false)));
        let second = pool.lease(&1, async || Ok(7)).await;
        assert_eq!(second.err(), Some(("no".to_owned(), true)));
        pool.forget(&1);
        assert_eq!(**pool.lease(&1, async || Ok(7)).await.ok().unwrap().value(), 7);
    }

    #[tokio::test]
    async fn the_longest_idle_goes_first_and_nothing_in_use_goes() {
        let pool: Pool<u8, Arc<()>, String> = Pool::new(1);
        let held = Arc::new(());
        let lease_of = async |key: u8| pool.lease(&key, async || Ok(Arc::clone(&held))).await.ok().unwrap();
        let in_use = lease_of(1).await;
        drop(lease_of(2).await);
        drop(lease_of(3).await);
        drop(lease_of(4).await);
        // 1 is in use, one of the idle ones may stay beside the newest.
        assert!(Arc::strong_count(&held) <= 4, "{} are still held", Arc::strong_count(&held));
        assert!(Arc::strong_count(in_use.value()) >= 2, "the used entry stays in the pool");
        pool.clear();
        drop(in_use);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
