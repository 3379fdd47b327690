//! The interface of the parts of a node. One list of parts defines how all are checked, remove a namespace, checkpoint and close.

use crate::blob::Blobs;
use crate::breaker::Breaker;
use crate::cache::Caches;
use crate::database::Databases;
use crate::database::read_cache::ReadCache;
use crate::egress::Egress;
use crate::pubsub::olric::OlricPubSub;
use orama_runtime::names::Namespace;
use std::sync::Arc;

/// Why a part does not work; only for the node's log.
pub type PartError = Box<dyn std::error::Error + Send + Sync>;

/// A part of a node. Methods have defaults for parts that they do not concern.
pub trait Part: Send + Sync {
    /// The part's name in readiness and logs.
    fn name(&self) -> &'static str;

    /// Whether readiness lists the part, because [`Self::check`] checks something.
    fn is_checked(&self) -> bool {
        true
    }

    /// Checks that the part works. Blocks.
    ///
    /// # Errors
    /// The reason if it does not.
    fn check(&self) -> Result<(), PartError> {
        Ok(())
    }

    /// The circuit breakers of the servers behind it.
    fn breakers(&self) -> Vec<Breaker> {
        Vec::new()
    }

    /// Removes all data of a namespace. Must be idempotent, because it is called again after a failure. Blocks.
    ///
    /// # Errors
    /// The reason if some data may remain.
    fn forget(&self, _namespace: &Namespace) -> Result<(), PartError> {
        Ok(())
    }

    /// Checkpoints its write-ahead log, which the next start then need not read. Blocks.
    ///
    /// # Errors
    /// The reason if the log remains.
    fn checkpoint(&self) -> Result<(), PartError> {
        Ok(())
    }

    /// Closes it. Called once, after all cores have ended. Blocks.
    fn close(&self) {}
}

impl Part for Databases {
    fn name(&self) -> &'static str {
        "databases"
    }

    fn check(&self) -> Result<(), PartError> {
        Ok(Self::check(self)?)
    }

    fn breakers(&self) -> Vec<Breaker> {
        Self::breakers(self)
    }

    fn forget(&self, namespace: &Namespace) -> Result<(), PartError> {
        Ok(self.remove(namespace)?)
    }

    fn close(&self) {
        Self::close(self);
    }
}

impl Part for ReadCache {
    fn name(&self) -> &'static str {
        "read cache"
    }

    fn is_checked(&self) -> bool {
        false
    }

    fn forget(&self, namespace: &Namespace) -> Result<(), PartError> {
        self.remove(namespace);
        Ok(())
    }
}

impl Part for Caches {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn is_checked(&self) -> bool {
        matches!(self, Self::Olric(_))
    }

    fn check(&self) -> Result<(), PartError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Olric(olric) => Ok(olric.check()?),
        }
    }

    fn breakers(&self) -> Vec<Breaker> {
        match self {
            Self::Memory(_) => Vec::new(),
            Self::Olric(olric) => vec![olric.breaker().clone()],
        }
    }

    fn forget(&self, namespace: &Namespace) -> Result<(), PartError> {
        Ok(self.remove(namespace)?)
    }
}

impl Part for OlricPubSub {
    fn name(&self) -> &'static str {
        "pubsub"
    }

    fn check(&self) -> Result<(), PartError> {
        Ok(Self::check(self)?)
    }

    fn breakers(&self) -> Vec<Breaker> {
        vec![self.breaker().clone()]
    }
}

impl Part for Egress {
    fn name(&self) -> &'static str {
        "egress"
    }

    fn is_checked(&self) -> bool {
        false
    }

    fn forget(&self, namespace: &Namespace) -> Result<(), PartError> {
        self.remove(namespace);
        Ok(())
    }
}

/// The stores of modules and objects as a part.
pub struct BlobPart {
    /// The store that is checked; both use the same server.
    pub blobs: Arc<dyn Blobs>,
    /// The circuit breaker of the server, if there is one.
    pub breaker: Option<Breaker>,
}

impl Part for BlobPart {
    fn name(&self) -> &'static str {
        "blobs"
    }

    fn check(&self) -> Result<(), PartError> {
        Ok(self.blobs.check()?)
    }

    fn breakers(&self) -> Vec<Breaker> {
        self.breaker.iter().cloned().collect()
    }
}

/// The platform database on rqlite. A node polls it twice a second, so its circuit breaker tells its state.
pub struct PlatformServers(
    /// The circuit breaker of the client.
    pub Breaker,
);

/// See [`PlatformServers`].
#[derive(Debug, thiserror::Error)]
#[error("circuit open: the platform's rqlite failed recently and will be retried shortly")]
struct CircuitOpen;

impl Part for PlatformServers {
    fn name(&self) -> &'static str {
        "platform"
    }

    fn check(&self) -> Result<(), PartError> {
        if self.0.is_open() { Err(CircuitOpen.into()) } else { Ok(()) }
    }

    fn breakers(&self) -> Vec<Breaker> {
        vec![self.0.clone()]
    }
}
