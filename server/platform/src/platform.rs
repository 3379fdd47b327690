//! The parts that the use cases work on.

use crate::auth::Authority;
use crate::disk::DiskReserve;
use crate::events::NodeEvents;
#[cfg(doc)]
use crate::limits::DEPLOYS_STORING_MAX;
use crate::modules::Modules;
use crate::namespaces::Visitors;
use crate::peers::Peers;
use crate::quotas::{Quota, Usage};
use crate::records::Records;
use crate::registry::{Registry, RegistryError};
use crate::secrets::SecretStore;
use crate::start_notes::StartNotes;
use crate::storage::ObjectStorage;
use orama_runtime::names::Namespace;
use orama_store::blob::Blobs;
use orama_store::database::{Databases, DatabasesError};
use orama_store::part::{Part, PartError};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Makes every core hand over the records that it has gathered; resolves when they have been submitted.
pub type FlushCores = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Whether any core runs something of a namespace, or is about to.
pub type RunsIn = Arc<dyn Fn(Namespace) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What is deployed on a node, and what the use cases need to change it.
pub struct Platform {
    /// What is deployed and who may use it.
    pub registry: Registry,
    /// Whose credentials are known.
    pub authority: Authority,
    /// What became of invocations.
    pub records: Records,
    /// The modules' bytes.
    pub blobs: Arc<dyn Blobs>,
    /// What functions stored.
    pub storage: ObjectStorage,
    /// The namespaces' SQL databases.
    pub databases: Databases,
    /// What only functions of a namespace may know.
    pub secrets: Arc<SecretStore>,
    /// What is published, and what it triggers.
    pub events: Arc<NodeEvents>,
    /// Turns to store a deployed module; [`DEPLOYS_STORING_MAX`] at once.
    pub storing: Arc<Semaphore>,
    /// The modules' code.
    pub modules: Modules,
    /// Why functions are not parked.
    pub start_notes: Arc<StartNotes>,
    /// The other nodes, where there may be some.
    pub peers: Option<Peers>,
    /// See [`FlushCores`].
    pub flush_cores: FlushCores,
    /// See [`RunsIn`].
    pub runs_in: RunsIn,
    /// Requests of the control plane under way; a deletion waits for those of its namespace.
    pub visitors: Arc<Visitors>,
    /// What must stay free on the disk.
    pub disk: DiskReserve,
    /// Every part of the node, in the order in which they are closed.
    pub parts: Vec<Arc<dyn Part>>,
}

/// Why it is not known how much a namespace uses.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The registry cannot tell.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The size of the database cannot be found out.
    #[error(transparent)]
    Database(#[from] DatabasesError),
}

impl Platform {
    /// How much of each quota a namespace uses. What is on servers of its own is left out. Blocks.
    ///
    /// # Errors
    /// [`UsageError`]
    pub fn usage(&self, namespace: &Namespace) -> Result<Vec<Usage>, UsageError> {
        let mut usage = self.registry.usage(namespace)?;
        let database = self.databases.used_bytes(namespace)?;
        usage.retain_mut(|of| {
            let Quota::DatabaseBytes = of.quota else { return true };
            of.used = database.unwrap_or_default();
            database.is_some()
        });
        Ok(usage)
    }

    /// Takes over which sizes operators allow databases now. Blocks.
    ///
    /// # Errors
    /// [`RegistryError`]; then everything stays as it was.
    pub fn bound_databases(&self) -> Result<(), RegistryError> {
        self.databases.read_limits(|| self.registry.quota_of_all(Quota::DatabaseBytes))
    }

    /// Removes a namespace's data from every part. It is called again after a failure. Blocks.
    pub(crate) fn forget(&self, namespace: &Namespace) -> Result<(), PartError> {
        self.parts.iter().try_for_each(|part| part.forget(namespace))
    }

    /// Empties the write-ahead logs of all parts. A failure is logged: the next start takes longer. Blocks.
    pub fn checkpoint(&self) {
        for part in &self.parts {
            if let Err(error) = part.checkpoint() {
                tracing::warn!(%error, part = part.name(), "the write-ahead log was not emptied; the next start takes longer");
            }
        }
    }

    /// Ends all parts. Called when no core runs any more. Blocks.
    pub fn close(&self) {
        self.parts.iter().for_each(|part| part.close());
        self.checkpoint();
    }
}

impl Part for Registry {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn close(&self) {
        self.write_audit(true);
    }

    fn check(&self) -> Result<(), PartError> {
        Ok(Self::check(self)?)
    }

    fn checkpoint(&self) -> Result<(), PartError> {
        Ok(Self::checkpoint(self)?)
    }
}

impl Part for Records {
    fn name(&self) -> &'static str {
        "records"
    }

    fn check(&self) -> Result<(), PartError> {
        Ok(Self::check(self)?)
    }

    fn forget(&self, namespace: &Namespace) -> Result<(), PartError> {
        // Those on their way would come back.
        self.flush();
        Ok(self.remove(namespace)?)
    }

    fn checkpoint(&self) -> Result<(), PartError> {
        Ok(Self::checkpoint(self)?)
    }

    fn close(&self) {
        Self::close(self);
    }
}

impl Part for NodeEvents {
    fn name(&self) -> &'static str {
        "events"
    }

    fn check(&self) -> Result<(), PartError> {
        Ok(Self::check(self)?)
    }

    fn forget(&self, namespace: &Namespace) -> Result<(), PartError> {
        Ok(self.remove(namespace)?)
    }

    fn checkpoint(&self) -> Result<(), PartError> {
        Ok(Self::checkpoint(self)?)
    }
}

impl Part for ObjectStorage {
    fn name(&self) -> &'static str {
        "objects"
    }

    fn check(&self) -> Result<(), PartError> {
        Ok(Self::check(self)?)
    }

    fn forget(&self, namespace: &Namespace) -> Result<(), PartError> {
        Ok(self.remove(namespace)?)
    }
}
