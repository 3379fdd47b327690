//! Looks host names up and lets only those addresses through that guests may connect to. What is let through is what is
//! connected to, so a name that changes its mind wins nothing.

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

/// As every program of the machine does it: hosts file, name servers, and whatever else it is set up for.
pub(super) fn system_look_up(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (name, port).to_socket_addrs().map(Iterator::collect)
}

/// Looks up for one namespace and one port.
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
            let found = found.map_err(|problem| {
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
                    let message = format!("cannot resolve host {name}: it has no address");
                    Err(Denied(ServiceError::new(ErrorCode::Unavailable, message)).into())
                }
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// A thread of its own: a look-up cannot be ended early, and waits as long as the slowest name server lets it. Its
/// places are taken until it has ended, whoever still waits for it.
pub(super) async fn on_a_thread(
    look_up: LookUp,
    name: String,
    port: u16,
    places: impl Send + 'static,
) -> Result<Vec<SocketAddr>, String> {
    let (answer, answered) = oneshot::channel();
    let looking = move || {
        let found = look_up(&name, port);
        drop(places);
        // Nobody waits any more when the fetch has ended.
        let _ = answer.send(found);
    };
    std::thread::Builder::new().name("look-up".to_owned()).spawn(looking).map_err(|e| e.to_string())?;
    match answered.await {
        Ok(Ok(found)) => Ok(found),
        // "failed to lookup address information: Name or service not known": the end says it all.
        Ok(Err(error)) => {
            let text = error.to_string();
            Err(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned())
        }
        Err(_) => Err("the look-up failed".to_owned()),
    }
}
