//! The near cache and the fetches in progress.
//!
//! If an invalidation arrives during a fetch, the fetched value goes to the callers that wait but is not cached, and later
//! callers fetch again. Cached values and fetches in progress therefore change under one lock for each shard of the keys.

use super::entry::Entry;
use super::source::Found;
use crate::cache::memory::MemoryCache;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Shared;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, ServiceError};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Shards, each with a lock.
const SHARDS: usize = 16;

/// A fetch in progress, which all its callers share.
type Fetch = Shared<Answer<Result<Option<Bytes>, ServiceError>>>;

/// Identifies a fetch of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchId(u64);

pub(super) struct Near {
    /// Entries as Olric stores them; an empty one means that the key has no value.
    kept: MemoryCache,
    ttl: Duration,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    fetches: HashMap<Namespace, HashMap<Box<str>, (FetchId, Fetch)>>,
    last: u64,
}

impl Near {
    /// How long a value is cached at most; zero disables caching.
    pub(super) fn new(max_bytes: usize, ttl: Duration) -> Self {
        Self {
            kept: MemoryCache::new(max_bytes),
            ttl,
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The cached value, or its cached absence.
    pub(super) fn look(&self, namespace: &Namespace, key: &str) -> Option<Option<Bytes>> {
        let bytes = self.kept.look(namespace, key)?;
        Some(Entry::parse(bytes).map(|entry| entry.payload()))
    }

    /// Joins the fetch in progress, or starts one.
    pub(super) fn join(
        &self,
        namespace: &Namespace,
        key: &str,
        begin: impl FnOnce(FetchId) -> Answer<Result<Option<Bytes>, ServiceError>>,
    ) -> Fetch {
        let mut shard = self.shard(key);
        if let Some((_, fetch)) = shard.fetches.get(namespace).and_then(|fetches| fetches.get(key)) {
            return fetch.clone();
        }
        shard.last += 1;
        let id = FetchId(shard.last);
        let fetch = begin(id).shared();
        shard.fetches.entry(namespace.clone()).or_default().insert(key.into(), (id, fetch.clone()));
        fetch
    }

    /// Ends a fetch. Its result is cached unless an invalidation arrived meanwhile.
    pub(super) fn fetched(&self, namespace: &Namespace, key: &str, id: FetchId, found: Option<&Found>) {
        let mut shard = self.shard(key);
        if !shard.remove(namespace, key, Some(id)) {
            return;
        }
        let (bytes, ttl) = match found {
            Some(Found::Missing) => (Bytes::new(), self.ttl),
            Some(Found::Kept(entry)) => (
                entry.bytes().clone(),
                entry.remaining().map_or(self.ttl, |remaining| remaining.min(self.ttl)),
            ),
            Some(Found::Counted(_)) | None => return,
        };
        if !ttl.is_zero() {
            self.kept.keep(namespace, key, bytes, Some(ttl));
        }
    }

    pub(super) fn forget(&self, namespace: &Namespace, key: &str) {
        let mut shard = self.shard(key);
        shard.remove(namespace, key, None);
        self.kept.forget(namespace, key);
    }

    pub(super) fn forget_namespace(&self, namespace: &Namespace) {
        for shard in &self.shards {
            shard.lock().fetches.remove(namespace);
        }
        self.kept.remove(namespace);
    }

    pub(super) fn forget_all(&self) {
        for shard in &self.shards {
            shard.lock().fetches.clear();
        }
        self.kept.clear();
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        // The index is below the length, and the array is never empty.
        self.shards.get(index).unwrap_or(&self.shards[0]).lock()
    }
}

impl Shard {
    /// Removes a fetch if it is still the current one. Returns `false` if it is not.
    fn remove(&mut self, namespace: &Namespace, key: &str, id: Option<FetchId>) -> bool {
        let Some(fetches) = self.fetches.get_mut(namespace) else { return false };
        let is_there = fetches.get(key).is_some_and(|(there, _)| id.is_none_or(|id| id == *there));
        if is_there {
            fetches.remove(key);
        }
        if fetches.is_empty() {
            self.fetches.remove(namespace);
        }
        is_there
    }
}
