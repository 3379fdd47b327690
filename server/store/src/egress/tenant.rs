//! What one namespace has of guests' HTTP: its connections and its share.

use super::Shared;
use super::resolver::Guarded;
use super::reuse;
use super::tls;
use crate::limits::{
    DNS_LOOKUPS_PER_NAMESPACE, FETCH_CONNECT_TIMEOUT, FETCH_HOSTS_PER_NAMESPACE, FETCH_IDLE_PER_HOST,
    FETCH_IDLE_TIMEOUT, FETCHES_PER_NAMESPACE,
};
use orama_runtime::limits::{FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES};
use orama_runtime::services::{ErrorCode, ServiceError};
use parking_lot::Mutex;
use reqwest::Client;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::util::MapRequestLayer;

/// What a server is told where the guest says nothing of its own.
const USER_AGENT: &str = concat!("orama-functions/", env!("CARGO_PKG_VERSION"));

pub(super) struct Tenant {
    /// Fetches under way.
    running: Semaphore,
    /// Names being looked up.
    look_ups: Arc<Semaphore>,
    /// One for each host and port, so that the number of unused connections is bounded, and so that the look-up of a name
    /// knows the port.
    clients: Mutex<HashMap<(String, u16), Client>>,
    /// It keeps the tenants.
    shared: Weak<Shared>,
}

impl Tenant {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            running: Semaphore::new(FETCHES_PER_NAMESPACE),
            look_ups: Arc::new(Semaphore::new(DNS_LOOKUPS_PER_NAMESPACE)),
            clients: Mutex::default(),
            shared: Arc::downgrade(shared),
        }
    }

    /// A place for one more fetch, beside one of the node's. What one namespace has may not exceed what is left for the
    /// others, so that there is room for each of them.
    pub(super) fn place<'a>(&'a self, node: &'a Semaphore) -> Result<[SemaphorePermit<'a>; 2], ServiceError> {
        let own = self.running.try_acquire().map_err(|_| {
            ServiceError::unavailable(format!(
                "this namespace has {FETCHES_PER_NAMESPACE} fetches under way, which is the most; try again when some have ended"
            ))
        })?;
        let busy = || {
            ServiceError::unavailable(
                "too many fetches are under way on this node; try again when some have ended",
            )
        };
        let under_way = FETCHES_PER_NAMESPACE - self.running.available_permits();
        if under_way > node.available_permits() {
            return Err(busy());
        }
        Ok([own, node.try_acquire().map_err(|_| busy())?])
    }

    /// The client for a host and port, with the connections that are open to it.
    pub(super) fn client(&self, host: &str, port: u16) -> Result<Client, ServiceError> {
        let key = (host.to_owned(), port);
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        self.fresh_client(host, port)
    }

    /// A client for a host and port that has no connection yet; it replaces the one before.
    pub(super) fn fresh_client(&self, host: &str, port: u16) -> Result<Client, ServiceError> {
        let key = (host.to_owned(), port);
        let client = self.build(port)?;
        let mut clients = self.clients.lock();
        if clients.len() >= FETCH_HOSTS_PER_NAMESPACE {
            // Those in use live on until their fetches end.
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn build(&self, port: u16) -> Result<Client, ServiceError> {
        let stopping = || ServiceError::unavailable("the node is stopping");
        let shared = self.shared.upgrade().ok_or_else(stopping)?;
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a client for guests' HTTP could not be made");
            ServiceError::new(ErrorCode::Internal, "the node failed to fetch; its log tells why")
        };
        let tls = tls::own(shared.tls().map_err(|error| failed(&error))?);
        let resolver = Guarded::new(self.shared.clone(), Arc::clone(&self.look_ups), port);
        Client::builder()
            .dns_resolver(Arc::new(resolver))
            .tls_backend_preconfigured(tls)
            // A proxy would look names up and connect in our place; what the environment says is for the operator's tools.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .connector_layer(MapRequestLayer::new(reuse::connecting))
            .connect_timeout(FETCH_CONNECT_TIMEOUT)
            .pool_idle_timeout(FETCH_IDLE_TIMEOUT)
            .pool_max_idle_per_host(FETCH_IDLE_PER_HOST)
            .http1_max_headers(FETCH_HEADERS_MAX)
            .http2_max_header_list_size(FETCH_HEADERS_MAX_BYTES as u32)
            .build()
            .map_err(|error| failed(&error))
    }
}
