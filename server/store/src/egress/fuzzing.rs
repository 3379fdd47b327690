//! What fuzz targets call of guests' HTTP: each decision on the way to a connection, without making one.

use super::guarded::{IsOwn, Servers};
use super::request::Hop;
use super::resolver::Guarded;
use super::rules::Rules;
use super::{Egress, EgressTarget, OnceLock};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use orama_runtime::services::{FetchRequest, ServiceError};
use reqwest::dns::Resolve;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use url::{Host, Url};

/// Where guests may connect to, with look-ups that the target answers.
pub struct Gate {
    egress: Egress,
    look_ups: Arc<Semaphore>,
}

impl Gate {
    /// As [`Egress::new`].
    #[must_use]
    pub fn new(
        (allow, deny): (Vec<EgressTarget>, Vec<EgressTarget>),
        servers: Vec<Host>,
        is_own: IsOwn,
        look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        backplane: Handle,
    ) -> Self {
        let rules = Rules { allow, deny, is_own, servers: Arc::new(Servers::new(servers)) };
        let egress = Egress::with(rules, Arc::new(look_up), OnceLock::new(), backplane);
        Self { egress, look_ups: Arc::new(Semaphore::new(1)) }
    }

    /// What is checked before a request is sent: the host and the port of its URL.
    ///
    /// # Errors
    /// The refusal that a guest is told.
    pub fn target(&self, url: &Url) -> Result<(String, u16), ServiceError> {
        self.egress.shared.rules.target(url).map(|(host, port)| (host.to_owned(), port))
    }

    /// What the HTTP client gets when it looks a name up for a port. Blocks.
    ///
    /// # Errors
    /// The refusal in words.
    pub fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let name = name.parse().map_err(|_| "no name".to_owned())?;
        let guarded = Guarded::new(Arc::downgrade(&self.egress.shared), Arc::clone(&self.look_ups), port);
        let found = self.egress.backplane.block_on(guarded.resolve(name));
        found.map(Iterator::collect).map_err(|error| error.to_string())
    }
}

/// A fetch that follows redirects.
pub struct Fetch(Hop);

impl Fetch {
    /// The first request.
    ///
    /// # Errors
    /// The refusal that a guest is told.
    pub fn first(request: FetchRequest) -> Result<Self, ServiceError> {
        Hop::first(request).map(Self)
    }

    /// Where the next request goes.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0.url
    }

    /// What the guest's headers have become.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Becomes the next request, if an answer is a redirect.
    ///
    /// # Errors
    /// The refusal that a guest is told.
    pub fn redirect(&mut self, status: StatusCode, location: HeaderValue) -> Result<bool, ServiceError> {
        self.0.redirect(status, &HeaderMap::from_iter([(LOCATION, location)]))
    }
}
