//! The embedded cache: in the memory of the process, bounded for each namespace and in total.
//!
//! Each namespace has a part of its own, which evicts its least recently used entries. If the total is exceeded, the namespace
//! with the most memory loses entries, so a namespace below its even share loses nothing to others. In one common cache, the
//! namespace that writes most would evict all others.

use crate::limits::CACHE_NAMESPACE_PART;
use bytes::Bytes;
use hashlink::LruCache;
use orama_runtime::limits::{CACHE_KEY_MAX_BYTES, CACHE_VALUE_MAX_BYTES};
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, Cache, ErrorCode, ServiceError};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::collections::HashMap;
use std::future::ready;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Shards of a namespace, each with a lock. A lock is held for some 100 ns, so contention is rare.
const SHARDS: usize = 16;

/// Overhead of an entry besides key and value, in bytes: the map's slot, times, lengths, and the allocator.
const ENTRY_BYTES: usize = 160;

/// The cache of all namespaces. Clones share it.
#[derive(Clone)]
pub struct MemoryCache(Arc<Shared>);

struct Shared {
    max_bytes: usize,
    /// Size of all entries, in bytes.
    used: Arc<AtomicUsize>,
    tenants: RwLock<HashMap<Namespace, Arc<Tenant>>>,
}

/// One namespace's entries.
struct Tenant {
    used: AtomicUsize,
    used_by_all: Arc<AtomicUsize>,
    hasher: RandomState,
    shards: [Mutex<LruCache<Box<str>, Entry>>; SHARDS],
}

struct Entry {
    value: Value,
    ends: Option<Instant>,
}

enum Value {
    Bytes(Bytes),
    /// A counter. Every value that is a number is stored in this form.
    Number(i64),
}

impl Value {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Number(number) => Bytes::from(number.to_string()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Number(_) => 0,
        }
    }
}

impl Entry {
    fn is_over(&self) -> bool {
        self.ends.is_some_and(|end| Instant::now() >= end)
    }
}

/// Parses a number in the exact form that [`Cache::get`] returns; another form would not be returned unchanged.
pub(super) fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= 20)?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

impl MemoryCache {
    /// A cache of at most `max_bytes`, of which one namespace has at most one in [`CACHE_NAMESPACE_PART`].
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Shared { max_bytes, used: Arc::default(), tenants: RwLock::default() }))
    }

    /// Removes all entries of a namespace.
    pub fn remove(&self, namespace: &Namespace) {
        let removed = self.0.tenants.write().remove(namespace);
        // Outside the lock, because freeing many entries takes time.
        drop(removed);
    }

    /// Removes all entries.
    pub(super) fn clear(&self) {
        let removed = std::mem::take(&mut *self.0.tenants.write());
        drop(removed);
    }

    /// [`Cache::get`] of a key that was checked.
    pub(super) fn look(&self, namespace: &Namespace, key: &str) -> Option<Bytes> {
        self.0.get(namespace, key)
    }

    /// [`Cache::set`] of a key and a value that were checked.
    pub(super) fn keep(&self, namespace: &Namespace, key: &str, value: Bytes, ttl: Option<Duration>) {
        self.0.set(namespace, key, value, ttl);
    }

    /// [`Cache::delete`] of a key that was checked.
    pub(super) fn forget(&self, namespace: &Namespace, key: &str) {
        self.0.delete(namespace, key);
    }

    #[cfg(test)]
    fn used_bytes(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

fn weight(key: &str, value: &Value) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.used_by_all.fetch_sub(*self.used.get_mut(), Ordering::Relaxed);
    }
}

impl Tenant {
    fn new(used_by_all: &Arc<AtomicUsize>) -> Self {
        Self {
            used: AtomicUsize::new(0),
            used_by_all: Arc::clone(used_by_all),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(LruCache::new_unbounded())),
        }
    }

    fn grown(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.used_by_all.fetch_add(bytes, Ordering::Relaxed);
    }

    fn freed(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.used_by_all.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Evicts the least recently used entry of the fullest shard. Returns `false` if there is none. Shards in rotation would lose
    /// recently used entries where they have few.
    fn drop_one(&self) -> bool {
        loop {
            let lengths = self.shards.iter().map(|shard| (shard.lock().len(), shard));
            let Some((1.., fullest)) = lengths.max_by_key(|(length, _)| *length) else { return false };
            // Another thread may have emptied it.
            if let Some((key, entry)) = fullest.lock().remove_lru() {
                self.freed(weight(&key, &entry.value));
                return true;
            }
        }
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, LruCache<Box<str>, Entry>> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        // The index is below the length, and the array is never empty.
        self.shards.get(index).unwrap_or(&self.shards[0]).lock()
    }
}

impl Shared {
    fn find(&self, namespace: &Namespace) -> Option<Arc<Tenant>> {
        self.read().get(namespace).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Namespace, Arc<Tenant>>> {
        self.tenants.read()
    }

    fn tenant(&self, namespace: &Namespace) -> Arc<Tenant> {
        self.find(namespace).unwrap_or_else(|| {
            let mut tenants = self.tenants.write();
            Arc::clone(tenants.entry(namespace.clone()).or_insert_with(|| Arc::new(Tenant::new(&self.used))))
        })
    }

    /// Takes entries away until both bounds hold.
    fn shrink(&self, tenant: &Tenant) {
        while tenant.used.load(Ordering::Relaxed) > self.max_bytes / CACHE_NAMESPACE_PART {
            if !tenant.drop_one() {
                break;
            }
        }
        while self.used.load(Ordering::Relaxed) > self.max_bytes {
            let largest = {
                let tenants = self.read();
                tenants.values().max_by_key(|tenant| tenant.used.load(Ordering::Relaxed)).cloned()
            };
            if !largest.is_some_and(|tenant| tenant.drop_one()) {
                break;
            }
        }
    }

    fn get(&self, namespace: &Namespace, key: &str) -> Option<Bytes> {
        let tenant = self.find(namespace)?;
        let mut shard = tenant.shard(key);
        let entry = shard.get(key)?;
        if !entry.is_over() {
            return Some(entry.value.bytes());
        }
        let over = shard.remove(key);
        drop(shard);
        if let Some(entry) = over {
            tenant.freed(weight(key, &entry.value));
        }
        None
    }

    fn set(&self, namespace: &Namespace, key: &str, value: Bytes, ttl: Option<Duration>) {
        let value = number(&value).map_or(Value::Bytes(value), Value::Number);
        // An end beyond what the clock can tell is none.
        let ends = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let tenant = self.tenant(namespace);
        let bytes = weight(key, &value);
        let old = {
            let mut shard = tenant.shard(key);
            let old = shard.insert(key.into(), Entry { value, ends });
            tenant.grown(bytes);
            old
        };
        if let Some(old) = old {
            tenant.freed(weight(key, &old.value));
        }
        self.shrink(&tenant);
    }

    fn delete(&self, namespace: &Namespace, key: &str) {
        let Some(tenant) = self.find(namespace) else { return };
        if let Some(old) = tenant.shard(key).remove(key) {
            tenant.freed(weight(key, &old.value));
        }
    }

    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Result<i64, ServiceError> {
        let tenant = self.tenant(namespace);
        let mut shard = tenant.shard(key);
        if let Some(entry) = shard.get_mut(key).filter(|entry| !entry.is_over()) {
            let Value::Number(number) = &mut entry.value else {
                return Err(ServiceError::invalid(
                    "the value of this key is not a number; delete it or use another key",
                ));
            };
            let sum = number
                .checked_add(delta)
                .ok_or_else(|| ServiceError::invalid("the sum exceeds 64 bits; the counter is unchanged"))?;
            *number = sum;
            return Ok(sum);
        }
        let value = Value::Number(delta);
        tenant.grown(weight(key, &value));
        let over = shard.insert(key.into(), Entry { value, ends: None });
        drop(shard);
        if let Some(over) = over {
            tenant.freed(weight(key, &over.value));
        }
        self.shrink(&tenant);
        Ok(delta)
    }
}

pub(super) fn check_key(key: &str) -> Result<(), ServiceError> {
    if key.len() <= CACHE_KEY_MAX_BYTES {
        return Ok(());
    }
    let message = format!("the cache key has {} bytes; at most {CACHE_KEY_MAX_BYTES} are allowed", key.len());
    Err(ServiceError::new(ErrorCode::PayloadTooLarge, message))
}

pub(super) fn check_value(value: &Bytes) -> Result<(), ServiceError> {
    if value.len() <= CACHE_VALUE_MAX_BYTES {
        return Ok(());
    }
    let message =
        format!("the cache value has {} bytes; at most {CACHE_VALUE_MAX_BYTES} are allowed", value.len());
    Err(ServiceError::new(ErrorCode::PayloadTooLarge, message))
}

impl Cache for MemoryCache {
    fn get(&self, namespace: &Namespace, key: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        Box::pin(ready(check_key(key).map(|()| self.0.get(namespace, key))))
    }

    fn set(
        &self,
        namespace: &Namespace,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<Result<(), ServiceError>> {
        let checked = check_key(key).and_then(|()| check_value(&value));
        Box::pin(ready(checked.map(|()| self.0.set(namespace, key, value, ttl))))
    }

    fn delete(&self, namespace: &Namespace, key: &str) -> Answer<Result<(), ServiceError>> {
        Box::pin(ready(check_key(key).map(|()| self.0.delete(namespace, key))))
    }

    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Answer<Result<i64, ServiceError>> {
        Box::pin(ready(check_key(key).and_then(|()| self.0.increment(namespace, key, delta))))
    }
}

#[cfg(test)]
mod tests;
