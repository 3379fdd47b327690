//! The caches of namespaces: in this process, or in Olric.

pub mod memory;
pub mod olric;

use crate::backend::olric::{Olric, OlricError};
use crate::backend::pubsub::PubSub;
use crate::config::Config;
use bytes::Bytes;
use memory::MemoryCache;
use olric::OlricCache;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, Cache, ServiceError};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The cache that the config chose. Clones share it.
#[derive(Clone)]
pub enum Caches {
    /// In this process.
    Memory(MemoryCache),
    /// In Olric.
    Olric(OlricCache),
}

impl Caches {
    /// The cache of a config. Changes are told over the pubsub.
    #[must_use]
    pub fn new(config: &Config, pubsub: &Arc<dyn PubSub>, backplane: &Handle) -> Self {
        let max_bytes = (config.cache_memory_mb as usize) << 20;
        let Some(at) = &config.backends.cache else {
            return Self::Memory(MemoryCache::new(max_bytes));
        };
        let (olric, pubsub) = (Olric::new(at, "cache", backplane.clone()), Arc::clone(pubsub));
        Self::Olric(OlricCache::new(olric, &config.backends.cluster, pubsub, max_bytes, config.cache_near))
    }

    /// Removes all of a namespace. Blocks.
    ///
    /// # Errors
    /// [`OlricError`]; then a part may still be there.
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

    fn delete(&self, namespace: &Namespace, key: &str) -> Answer<Result<bool, ServiceError>> {
        self.inner().delete(namespace, key)
    }

    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Answer<Result<i64, ServiceError>> {
        self.inner().increment(namespace, key, delta)
    }
}
