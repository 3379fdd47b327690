//! `http_fetch`: HTTP requests of guests to the outside.
//!
//! Guests reach public addresses and the targets that the operator allows. The decision is made for the address that is connected
//! to: the node resolves names itself (`resolver`), checks addresses in URLs, and checks each redirect like the first URL. Each
//! namespace has its own connections and TLS sessions.

use crate::limits::{
    DNS_THREADS_MAX, FETCH_IDLE_TIMEOUT, FETCH_NAMESPACES_MAX, FETCH_REDIRECTS_MAX, FETCHES_MAX,
};
use guarded::Servers;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use orama_runtime::limits::FETCH_TIMEOUT;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, ErrorCode, FetchRequest, FetchResponse, Http, ServiceError};
use request::Hop;
use reqwest::Response;
use resolver::{LookUp, system_look_up};
use rules::Rules;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tenant::Tenant;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use url::Host;

mod addresses;
mod errors;
mod guarded;
mod request;
mod resolver;
mod response;
mod reuse;
mod rules;
mod target;
mod tenant;
pub mod tls;

pub use target::EgressTarget;

/// After this time without a fetch, a namespace has no connections and no fetches left.
const TENANT_IDLE: Duration = FETCH_TIMEOUT.saturating_add(FETCH_IDLE_TIMEOUT).saturating_mul(2);

/// The HTTP client of all guests.
#[derive(Clone)]
pub struct Egress {
    shared: Arc<Shared>,
    backplane: Handle,
}

/// See [`Shared::tls`].
type Tls = OnceLock<Result<rustls::ClientConfig, rustls::Error>>;

struct Shared {
    rules: Rules,
    look_up: LookUp,
    /// Bounds lookups of names, each on a thread.
    look_ups: Arc<Semaphore>,
    tls: Tls,
    tenants: Cache<Namespace, Arc<Tenant>>,
    running: Semaphore,
}

impl Egress {
    /// Creates the client. Guests reach public addresses and targets in `allow`, but none in `deny`. On this machine and on the
    /// node's `servers` they reach only hosts and ports that `allow` names exactly.
    #[must_use]
    pub fn new(
        allow: Vec<EgressTarget>,
        deny: Vec<EgressTarget>,
        servers: Vec<Host>,
        backplane: Handle,
    ) -> Self {
        let rules = Rules { allow, deny, is_own: guarded::is_own, servers: Arc::new(Servers::new(servers)) };
        Self::with(rules, Arc::new(system_look_up), OnceLock::new(), backplane)
    }

    /// Reads the machine's trust store in advance, so that no fetch waits for it. Blocks for milliseconds.
    pub fn prepare(&self) {
        if let Err(error) = self.shared.tls() {
            tracing::error!(%error, "TLS for functions cannot be set up");
        }
    }

    fn with(rules: Rules, look_up: LookUp, tls: Tls, backplane: Handle) -> Self {
        let tenants = Cache::builder()
            .max_capacity(FETCH_NAMESPACES_MAX)
            .time_to_idle(TENANT_IDLE)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let running = Semaphore::new(FETCHES_MAX);
        let look_ups = Arc::new(Semaphore::new(DNS_THREADS_MAX));
        backplane.spawn(guarded::keep_resolved(Arc::downgrade(&rules.servers), Arc::clone(&look_up)));
        Self { shared: Arc::new(Shared { rules, look_up, look_ups, tls, tenants, running }), backplane }
    }

    /// Closes the idle connections of a namespace.
    pub fn remove(&self, namespace: &Namespace) {
        self.shared.tenants.invalidate(namespace);
    }
}

impl Http for Egress {
    fn fetch(
        &self,
        namespace: &Namespace,
        request: FetchRequest,
        deadline: Instant,
    ) -> Answer<Result<FetchResponse, ServiceError>> {
        let (shared, namespace) = (Arc::clone(&self.shared), namespace.clone());
        Box::pin(Fetching(
            self.backplane.spawn(async move { shared.fetch(&namespace, request, deadline).await }),
        ))
    }
}

/// A fetch on the backplane, which is cancelled when it is dropped.
struct Fetching(JoinHandle<Result<FetchResponse, ServiceError>>);

impl Future for Fetching {
    type Output = Result<FetchResponse, ServiceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).unwrap_or_else(|error| {
            if error.is_panic() {
                return Err(ServiceError::new(ErrorCode::Internal, "the node failed to fetch"));
            }
            Err(ServiceError::unavailable("the node is stopping"))
        }))
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    /// The common TLS configuration, read by its first user.
    fn tls(&self) -> Result<&rustls::ClientConfig, rustls::Error> {
        self.tls.get_or_init(tls::config).as_ref().map_err(Clone::clone)
    }

    async fn fetch(
        self: &Arc<Self>,
        namespace: &Namespace,
        request: FetchRequest,
        deadline: Instant,
    ) -> Result<FetchResponse, ServiceError> {
        let hop = Hop::first(request)?;
        let tenant = self.tenants.get_with_by_ref(namespace, || Arc::new(Tenant::new(self)));
        let _places = tenant.place(&self.running)?;
        let patience = deadline.saturating_duration_since(Instant::now()).min(FETCH_TIMEOUT);
        tokio::time::timeout(patience, self.follow(&tenant, hop)).await.unwrap_or_else(|_| {
            let message = format!("timed out after {:.1} s", patience.as_secs_f64());
            Err(ServiceError::new(ErrorCode::DeadlineExceeded, message))
        })
    }

    /// Sends a request and follows redirects.
    async fn follow(&self, tenant: &Tenant, mut hop: Hop) -> Result<FetchResponse, ServiceError> {
        self.rules.servers.known(&self.look_up).await;
        for _ in 0..=FETCH_REDIRECTS_MAX {
            let response = self.send(tenant, &hop).await?;
            if !hop.redirect(response.status(), response.headers())? {
                return response::read(response).await;
            }
        }
        Err(ServiceError::invalid(format!("the server redirected more than {FETCH_REDIRECTS_MAX} times")))
    }

    /// Sends one request. If the server closed the kept connection at that moment, an idempotent request is sent
    /// once more on a new connection.
    async fn send(&self, tenant: &Tenant, hop: &Hop) -> Result<Response, ServiceError> {
        let (host, port) = self.rules.target(&hop.url)?;
        let client = tenant.client(host, port)?;
        let (sent, connected) = reuse::watched(hop.send(&client)).await;
        let sent = match sent {
            Err(error) if !connected && hop.is_idempotent() && errors::is_dropped(&error) => {
                // The server may have closed the other kept connections too.
                hop.send(&tenant.fresh_client(host, port)?).await
            }
            sent => sent,
        };
        sent.map_err(|error| errors::explain(&error))
    }
}

#[cfg(test)]
mod tests;
