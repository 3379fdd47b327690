//! A cache of the triggers of topics, so that a publish does not read the registry.

use crate::limits::TRIGGER_CACHE_MAX;
use crate::registry::{Registry, RegistryError, Trigger};
use moka::sync::Cache;
use orama_runtime::names::Namespace;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A topic of a namespace.
pub(super) type Key = (Namespace, String);

/// The triggers of a topic.
pub(super) type Triggers = Arc<[Trigger]>;

/// Cached triggers, each entry with the registry's generation from before its lookup. An entry of an older generation is stale
/// and counts as missing, so publishers see every acknowledged change.
pub(super) struct TriggerCache {
    known: Cache<Key, (u64, Triggers)>,
    generation: Arc<AtomicU64>,
    registry: Registry,
}

impl TriggerCache {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            known: Cache::new(TRIGGER_CACHE_MAX),
            generation: registry.generation(),
            registry: registry.clone(),
        }
    }

    /// Returns a cached entry that is not stale.
    pub(super) fn known(&self, key: &Key) -> Option<Triggers> {
        let now = self.generation.load(Ordering::Acquire);
        self.known.get(key).filter(|(generation, _)| *generation == now).map(|(_, triggers)| triggers)
    }

    /// Reads the registry and caches the result. Blocks.
    ///
    /// # Errors
    /// The registry's error.
    pub(super) fn find(&self, key: Key) -> Result<Triggers, RegistryError> {
        let generation = self.generation.load(Ordering::Acquire);
        let triggers: Triggers = self.registry.triggers_on(&key.0, &key.1)?.into();
        self.known.insert(key, (generation, Arc::clone(&triggers)));
        Ok(triggers)
    }
}
