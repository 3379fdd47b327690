//! What a node asks of each of its parts, so that one list of parts says how all are checked, forget a namespace, and close.

use crate::blob::Blobs;
use crate::breaker::Breaker;
use crate::cache::Caches;
use crate::database::Databases;
use crate::database::read_cache::ReadCache;
use crate::egress::Egress;
use crate::pubsub::olric::OlricPubSub;
use orama_runtime::names::Namespace;
use std::sync::Arc;

/// Why a part does not work; for the node's log alone.
pub type PartError = Box<dyn std::error::Error + Send + Sync>;

/// A part of a node. Each method has a default for parts that it does not concern.
pub trait Part: Send + Sync {
    /// The part's name in readiness and in the log.
    fn name(&self) -> &'static str;

    /// Whether [`Self::check`] says something, so that readiness lists the part.
    fn is_checked(&self) -> bool {
        true
    }

    /// Whether the part works now. Blocks.
    ///
    /// # Errors
    /// Why it does not.
    fn check(&self) -> Result<(), PartError> {
        Ok(())
    }

    /// The circuit breakers of the servers behind it.
    fn breakers(&self) -> Vec<Breaker> {
        Vec::new()
    }

    /// Removes what it holds of a namespace. It is called again after a failure, and may find nothing. Blocks.
    ///
    /// # Errors
    /// Why some of it may still be there.
    fn forget(&self, _namespace: &Namespace) -> Result<(), PartError> {
        Ok(())
    }

    /// Empties its write-ahead log into its file, which the next start then need not read. Blocks.
    ///
    /// # Errors
    /// Why the log stays.
    fn checkpoint(&self) -> Result<(), PartError> {
        Ok(())
    }

    /// Ends it. Called once, when no core runs any more. Blocks.
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

/// Modules' and objects' blobs.
pub struct BlobPart {
    /// The store that is asked; that of objects is behind the same server.
    pub blobs: Arc<dyn Blobs>,
    /// The circuit breaker of the server, where there is one.
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

/// The platform's rqlite, which a node asks twice a second anyway: its circuit breaker tells how it is.
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
