//! What one namespace has of guests' HTTP: its connections and its share.

use super::Shared;
use super::resolver::Guarded;
use super::tls;
use crate::limits::{
    DNS_LOOKUPS_PER_NAMESPACE, FETCH_CONNECT_TIMEOUT, FETCH_HOSTS_PER_NAMESPACE, FETCH_IDLE_PER_HOST,
    FETCH_IDLE_TIMEOUT, FETCHES_PER_NAMESPACE,
};
use orama_runtime::limits::{FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES};
use orama_runtime::services::{ErrorCode, ServiceError};
use reqwest::Client;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Semaphore;

/// What a server is told where the guest says nothing of its own.
const USER_AGENT: &str = concat!("orama-functions/", env!("CARGO_PKG_VERSION"));

pub(super) struct Tenant {
    /// Fetches under way.
    pub(super) running: Semaphore,
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

    /// The client for a host and port, with the connections that are open to it.
    pub(super) fn client(&self, host: &str, port: u16) -> Result<Client, ServiceError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), port);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(port)?;
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
            .connect_timeout(FETCH_CONNECT_TIMEOUT)
            .pool_idle_timeout(FETCH_IDLE_TIMEOUT)
            .pool_max_idle_per_host(FETCH_IDLE_PER_HOST)
            .http1_max_headers(FETCH_HEADERS_MAX)
            .http2_max_header_list_size(FETCH_HEADERS_MAX_BYTES as u32)
            .build()
            .map_err(|error| failed(&error))
    }
}
