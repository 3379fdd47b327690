//! Resolves host names and returns only addresses that guests may connect to. The connection uses the returned addresses without
//! a second lookup, so a name that changes meanwhile (DNS rebinding) gains nothing.

use super::Shared;
use super::errors::Denied;
use orama_runtime::services::{ErrorCode, ServiceError};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, oneshot};

/// The addresses of a name, with a port. Blocks.
pub(super) type LookUp = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The system's resolver: hosts file, name servers, and whatever else is configured.
pub(super) fn system_look_up(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (name, port).to_socket_addrs().map(Iterator::collect)
}

/// The resolver of one namespace and one port.
pub(super) struct Guarded {
    shared: Weak<Shared>,
    of_namespace: Arc<Semaphore>,
    port: u16,
}

impl Guarded {
    pub(super) fn new(shared: Weak<Shared>, of_namespace: Arc<Semaphore>, port: u16) -> Self {
        Self { shared, of_namespace, port }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (shared, of_namespace, port) =
            (Weak::clone(&self.shared), Arc::clone(&self.of_namespace), self.port);
        Box::pin(async move {
            let stopping = || Denied(ServiceError::unavailable("the node is stopping"));
            let shared = shared.upgrade().ok_or_else(stopping)?;
            let name = name.as_str();
            let places = (
                of_namespace.acquire_owned().await.map_err(|_| stopping())?,
                Arc::clone(&shared.look_ups).acquire_owned().await.map_err(|_| stopping())?,
            );
            let found = on_a_thread(Arc::clone(&shared.look_up), name.to_owned(), port, places).await;
            let found = found.map_err(|error| {
                // "failed to lookup address information: Name or service not known": the end is enough.
                let text = error.to_string();
                let problem = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
                Denied(ServiceError::unavailable(format!("cannot resolve host {name}: {problem}")))
            })?;
            let mut denied = None;
            let mut allowed = Vec::with_capacity(found.len());
            for address in found {
                match shared.rules.check(Some(name), address.ip(), port) {
                    Ok(()) => allowed.push(address),
                    Err(error) => denied = denied.or(Some(error)),
                }
            }
            match denied {
                Some(error) if allowed.is_empty() => Err(Denied(error).into()),
                _ if allowed.is_empty() => {
                    let message = format!("cannot resolve host {name}: the name has no address");
                    Err(Denied(ServiceError::new(ErrorCode::Unavailable, message)).into())
                }
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Resolves on a thread of its own, because a lookup cannot be cancelled and may wait for a slow name server. Its permits are
/// held until it has ended, even if its caller stopped waiting.
pub(super) async fn on_a_thread(
    look_up: LookUp,
    name: String,
    port: u16,
    places: impl Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    let (answer, answered) = oneshot::channel();
    let looking = move || {
        let found = look_up(&name, port);
        drop(places);
        // There is no receiver if the fetch has ended.
        let _ = answer.send(found);
    };
    std::thread::Builder::new().name("look-up".to_owned()).spawn(looking)?;
    answered.await.unwrap_or_else(|_| Err(io::Error::other("the lookup failed")))
}
