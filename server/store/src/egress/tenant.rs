//! One namespace's part of `http_fetch`: its connections and its share of the limits.

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

/// The `User-Agent` if the guest does not set one.
const USER_AGENT: &str = concat!("orama-functions/", env!("CARGO_PKG_VERSION"));

pub(super) struct Tenant {
    /// Bounds concurrent fetches.
    running: Semaphore,
    /// Bounds concurrent lookups of names.
    look_ups: Arc<Semaphore>,
    /// One client for each host and port, so that idle connections are bounded and the resolver knows the port.
    clients: Mutex<HashMap<(String, u16), Client>>,
    /// The owner of all tenants.
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

    /// Takes a permit for a fetch, in addition to one of the node. A namespace may not have more than is left for the others, so
    /// that there is always room for each of them.
    pub(super) fn place<'a>(&'a self, node: &'a Semaphore) -> Result<[SemaphorePermit<'a>; 2], ServiceError> {
        let own = self.running.try_acquire().map_err(|_| {
            ServiceError::unavailable(format!(
                "this namespace has {FETCHES_PER_NAMESPACE} concurrent fetches, which is the maximum; try again when some have ended"
            ))
        })?;
        let busy = || {
            ServiceError::unavailable(
                "this node has too many concurrent fetches; try again when some have ended",
            )
        };
        let under_way = FETCHES_PER_NAMESPACE - self.running.available_permits();
        if under_way > node.available_permits() {
            return Err(busy());
        }
        Ok([own, node.try_acquire().map_err(|_| busy())?])
    }

    /// The client of a host and port, with its open connections.
    pub(super) fn client(&self, host: &str, port: u16) -> Result<Client, ServiceError> {
        let key = (host.to_owned(), port);
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        self.fresh_client(host, port)
    }

    /// Replaces the client of a host and port by one without connections.
    pub(super) fn fresh_client(&self, host: &str, port: u16) -> Result<Client, ServiceError> {
        let key = (host.to_owned(), port);
        let client = self.build(port)?;
        let mut clients = self.clients.lock();
        if clients.len() >= FETCH_HOSTS_PER_NAMESPACE {
            // Connections in use stay open until their fetches end.
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn build(&self, port: u16) -> Result<Client, ServiceError> {
        let stopping = || ServiceError::unavailable("the node is stopping");
        let shared = self.shared.upgrade().ok_or_else(stopping)?;
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "the HTTP client of a namespace could not be created");
            ServiceError::new(ErrorCode::Internal, "the node failed to fetch; its log tells why")
        };
        let tls = tls::own(shared.tls().map_err(|error| failed(&error))?);
        let resolver = Guarded::new(self.shared.clone(), Arc::clone(&self.look_ups), port);
        Client::builder()
            .dns_resolver(Arc::new(resolver))
            .tls_backend_preconfigured(tls)
            // No proxy, because it would resolve and connect in place of the node. Proxy variables are for the operator's tools.
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
