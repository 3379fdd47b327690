//! The services of a node, as every core's guests reach them.

use crate::shares::Shares;
use crate::worker::CoreEvents;
use orama_platform::events::NodeEvents;
use orama_platform::outbox::Outboxes;
use orama_platform::secrets::{CoreSecrets, SecretStore};
use orama_platform::storage::ObjectStorage;
use orama_runtime::services::{Calls, GuestMemory, Host, Scheduler};
use orama_store::cache::Caches;
use orama_store::database::Databases;
use orama_store::database::read_cache::ReadCache;
use orama_store::egress::Egress;
use std::sync::Arc;

/// What all cores share of a [`Host`].
pub(crate) struct Services {
    pub(crate) database: Databases,
    /// In front of it.
    pub(crate) reads: ReadCache,
    pub(crate) cache: Caches,
    pub(crate) storage: ObjectStorage,
    pub(crate) secrets: Arc<SecretStore>,
    pub(crate) http: Egress,
    pub(crate) events: Arc<NodeEvents>,
    pub(crate) outboxes: Outboxes,
    /// Where they wait for the disk and for others.
    pub(crate) backplane: tokio::runtime::Handle,
}

impl Services {
    /// The host of one core.
    pub(crate) fn host(
        &self,
        scheduler: Arc<dyn Scheduler>,
        calls: Arc<dyn Calls>,
        memory: Arc<dyn GuestMemory>,
        shares: &Arc<Shares>,
    ) -> Host {
        let (events, outboxes) = (Arc::clone(&self.events), self.outboxes.clone());
        let events = Arc::new(CoreEvents::new(events, outboxes, Arc::clone(shares)));
        Host {
            database: Arc::new(self.reads.clone()),
            cache: Arc::new(self.cache.clone()),
            storage: Arc::new(self.storage.clone()),
            secrets: Arc::new(CoreSecrets::new(Arc::clone(&self.secrets), self.backplane.clone())),
            events: Arc::<CoreEvents>::clone(&events),
            http: Arc::new(self.http.clone()),
            outbox: events,
            scheduler,
            calls,
            memory,
        }
    }
}
