//! The caches of namespaces: embedded or in Olric.

pub mod memory;
pub mod olric;

use crate::olric::{Olric, OlricError};
use crate::pubsub::PubSub;
use crate::settings::CacheSettings;
use bytes::Bytes;
use memory::MemoryCache;
use olric::OlricCache;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, Cache, ServiceError};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The configured cache. Clones share it.
#[derive(Clone)]
pub enum Caches {
    /// In this process.
    Memory(MemoryCache),
    /// In Olric.
    Olric(OlricCache),
}

impl Caches {
    /// Creates the configured cache. Invalidations of a cache in Olric are published over the pubsub.
    #[must_use]
    pub fn new(settings: &CacheSettings<'_>, pubsub: &Arc<dyn PubSub>, backplane: &Handle) -> Self {
        let Some(at) = settings.olric else {
            return Self::Memory(MemoryCache::new(settings.max_bytes));
        };
        let (olric, pubsub) = (Olric::new(at, "cache", backplane.clone()), Arc::clone(pubsub));
        Self::Olric(OlricCache::new(olric, settings.cluster, pubsub, settings.max_bytes, settings.near))
    }

    /// Removes all entries of a namespace. Blocks.
    ///
    /// # Errors
    /// [`OlricError`]; some entries may remain.
    pub fn remove(&self, namespace: &Namespace) -> Result<(), OlricError> {
        match self {
            Self::Memory(cache) => {
                cache.remove(namespace);
                Ok(())
            }
            Self::Olric(cache) => cache.remove(namespace),
        }
    }

    fn inner(&self) -> &dyn Cache {
        match self {
            Self::Memory(cache) => cache,
            Self::Olric(cache) => cache,
        }
    }
}

impl Cache for Caches {
    fn get(&self, namespace: &Namespace, key: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        self.inner().get(namespace, key)
    }

    fn set(
        &self,
        namespace: &Namespace,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<Result<(), ServiceError>> {
        self.inner().set(namespace, key, value, ttl)
    }

    fn delete(&self, namespace: &Namespace, key: &str) -> Answer<Result<(), ServiceError>> {
        self.inner().delete(namespace, key)
    }

    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Answer<Result<i64, ServiceError>> {
        self.inner().increment(namespace, key, delta)
    }
}
