//! The caches of namespaces: in this process, or in Olric.

pub mod memory;
pub mod olric;

use crate::backend::olric::OlricError;
use crate::backend::reach::Breaker;
use bytes::Bytes;
use memory::MemoryCache;
use olric::OlricCache;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, Cache, ServiceError};
use std::time::Duration;

/// The cache that the config chose. Clones share it.
#[derive(Clone)]
pub enum Caches {
    /// In this process.
    Memory(MemoryCache),
    /// In Olric.
    Olric(OlricCache),
}

impl Caches {
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

    /// Whether it can be used now.
    ///
    /// # Errors
    /// [`OlricError`].
    pub async fn check(&self) -> Result<(), OlricError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Olric(cache) => cache.check().await,
        }
    }

    /// The circuit of the servers behind it.
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        match self {
            Self::Memory(_) => None,
            Self::Olric(cache) => Some(cache.breaker()),
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
