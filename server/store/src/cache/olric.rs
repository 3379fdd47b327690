//! The cache that nodes share: stored in Olric, with a near cache in the memory of each node.
//!
//! A value in the near cache is returned without a call to Olric. It is dropped when this node changes it, when
//! another node's invalidation arrives, and when it reaches its configured age, so a lost invalidation is bounded in
//! time. Counters are never in the near cache.

mod entry;
mod invalidations;
mod members;
mod near;
mod source;

use super::memory::{check_key, check_value};
use crate::breaker::Breaker;
use crate::limits::OLRIC_CALLS_MAX;
use crate::olric::{Olric, OlricError};
use crate::pubsub::PubSub;
use bytes::Bytes;
use invalidations::Invalidations;
use near::{FetchId, Near};
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, Cache, ErrorCode, ServiceError};
use source::{Failed, Found, Source};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The cache of all namespaces. Clones share it.
#[derive(Clone)]
pub struct OlricCache(Arc<Inner>);

struct Inner {
    source: Source,
    near: Arc<Near>,
    invalidations: Invalidations,
    /// Bounds calls in progress, including those whose guests gave up.
    calls: Arc<Semaphore>,
}

impl OlricCache {
    /// A cache in DMaps whose names begin with the cluster's name. The near cache holds at most `max_bytes`, each value for at
    /// most `near`; zero disables it. Invalidations are published over the pubsub.
    #[must_use]
    pub fn new(
        olric: Olric,
        cluster: &str,
        pubsub: Arc<dyn PubSub>,
        near_bytes: usize,
        near_ttl: Duration,
    ) -> Self {
        let near = Arc::new(Near::new(near_bytes, near_ttl));
        let invalidations = Invalidations::new(pubsub, &near, olric.backplane());
        let calls = Arc::new(Semaphore::new(OLRIC_CALLS_MAX));
        Self(Arc::new(Inner { source: Source::new(olric, cluster), near, invalidations, calls }))
    }

    /// Removes all entries of a namespace. Blocks.
    ///
    /// # Errors
    /// [`OlricError`]; some entries may remain.
    pub fn remove(&self, namespace: &Namespace) -> Result<(), OlricError> {
        let removed = self.0.source.olric().backplane().block_on(self.0.source.destroy(namespace));
        self.0.near.forget_namespace(namespace);
        self.0.invalidations.send(namespace, None);
        removed
    }

    /// Checks that Olric answers. Blocks.
    ///
    /// # Errors
    /// [`OlricError`].
    pub fn check(&self) -> Result<(), OlricError> {
        let olric = self.0.source.olric();
        olric.backplane().block_on(olric.check())
    }

    /// The circuit breaker of the cluster.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.0.source.olric().breaker()
    }

    /// Runs a call on the backplane. It continues when its caller stops waiting.
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
    ) -> Answer<Result<T, ServiceError>> {
        let Ok(turn) = Arc::clone(&self.0.calls).try_acquire_owned() else {
            return refused(ServiceError::unavailable("too many cache calls are in progress; try again"));
        };
        let working = self.0.source.olric().backplane().spawn(async move {
            let done = work.await;
            drop(turn);
            done
        });
        Box::pin(async move {
            working
                .await
                .unwrap_or_else(|error| Err(ServiceError::new(ErrorCode::Internal, error.to_string())))
        })
    }
}

impl Inner {
    /// Drops a changed key from the near cache, and announces the change to other nodes.
    fn changed<T>(
        &self,
        namespace: &Namespace,
        key: &str,
        done: Result<T, Failed>,
        invalidates: impl FnOnce(&T) -> bool,
    ) -> Result<T, ServiceError> {
        self.near.forget(namespace, key);
        let invalidates = match &done {
            Ok(value) => invalidates(value),
            Err(failed) => failed.may_be_done,
        };
        if invalidates {
            self.invalidations.send(namespace, Some(key));
        }
        done.map_err(|failed| failed.error)
    }
}

/// A fetch in progress. It is removed from the list however it ends.
struct Fetching {
    near: Arc<Near>,
    namespace: Namespace,
    key: String,
    id: FetchId,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.near.fetched(&self.namespace, &self.key, self.id, None);
    }
}

impl Fetching {
    async fn from(self, inner: Arc<Inner>) -> Result<Option<Bytes>, ServiceError> {
        let found = inner.source.get(&self.namespace, &self.key).await.map_err(|failed| failed.error)?;
        self.near.fetched(&self.namespace, &self.key, self.id, Some(&found));
        Ok(match found {
            Found::Missing => None,
            Found::Kept(entry) => Some(entry.payload()),
            Found::Counted(text) => Some(text),
        })
    }
}

fn refused<T: Send + 'static>(error: ServiceError) -> Answer<Result<T, ServiceError>> {
    Box::pin(ready(Err(error)))
}

impl Cache for OlricCache {
    fn get(&self, namespace: &Namespace, key: &str) -> Answer<Result<Option<Bytes>, ServiceError>> {
        if let Err(error) = check_key(key) {
            return refused(error);
        }
        if let Some(remembered) = self.0.near.look(namespace, key) {
            return Box::pin(ready(Ok(remembered)));
        }
        let fetch = self.0.near.join(namespace, key, |id| {
            let (cache, namespace, key) = (self.clone(), namespace.clone(), key.to_owned());
            let fetching = Fetching { near: Arc::clone(&self.0.near), namespace, key, id };
            // It takes the lock when it is polled, so it must not be polled while this lock is held.
            Box::pin(async move {
                let inner = Arc::clone(&cache.0);
                cache.run(fetching.from(inner)).await
            })
        });
        Box::pin(fetch)
    }

    fn set(
        &self,
        namespace: &Namespace,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<Result<(), ServiceError>> {
        if let Err(error) = check_key(key).and_then(|()| check_value(&value)) {
            return refused(error);
        }
        let (inner, namespace, key) = (Arc::clone(&self.0), namespace.clone(), key.to_owned());
        self.run(async move {
            let done = inner.source.set(&namespace, &key, &value, ttl).await;
            inner.changed(&namespace, &key, done, |()| true)
        })
    }

    fn delete(&self, namespace: &Namespace, key: &str) -> Answer<Result<(), ServiceError>> {
        if let Err(error) = check_key(key) {
            return refused(error);
        }
        let (inner, namespace, key) = (Arc::clone(&self.0), namespace.clone(), key.to_owned());
        self.run(async move {
            let done = inner.source.delete(&namespace, &key).await;
            inner.changed(&namespace, &key, done, |was_there| *was_there).map(drop)
        })
    }

    fn increment(&self, namespace: &Namespace, key: &str, delta: i64) -> Answer<Result<i64, ServiceError>> {
        if let Err(error) = check_key(key) {
            return refused(error);
        }
        let (inner, namespace, key) = (Arc::clone(&self.0), namespace.clone(), key.to_owned());
        self.run(async move {
            let done = inner.source.increment(&namespace, &key, delta).await;
            inner.changed(&namespace, &key, done, |sum| sum.invalidates).map(|sum| sum.sum)
        })
    }
}

#[cfg(test)]
mod tests;
