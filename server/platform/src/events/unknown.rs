//! Decides whether a function that this node does not know was deleted, or whether the node's registry is behind.
//!
//! The registry and the events are replicated independently. A node whose registry replica is behind may hold the lease of
//! a trigger whose function it does not know yet. Jobs of that trigger must not be dropped before the registry has caught up.

use crate::registry::{Registry, RegistryError};
use orama_runtime::names::{FunctionName, Namespace};
use orama_store::blocking::{TaskFailed, blocking};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::Mutex;

/// The result of a lookup after the registry caught up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The function does not exist.
    Deleted,
    /// The function exists, and this node now knows it.
    Exists,
    /// The registry cannot catch up now.
    Undecided,
}

/// Why the lookup failed.
#[derive(Debug, thiserror::Error)]
enum LookUpError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

/// An attempt to catch up with the registry's log.
struct CatchUp {
    begun: Instant,
    succeeded: bool,
}

/// Looks functions up after the registry caught up.
pub(super) struct UnknownFunctions {
    registry: Registry,
    last: Mutex<Option<CatchUp>>,
    /// Whether the last attempt failed, so that the log reports it once.
    is_behind: AtomicBool,
}

impl UnknownFunctions {
    pub(super) fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), last: Mutex::default(), is_behind: AtomicBool::new(false) }
    }

    /// Whether a function exists, considering every change that any node acknowledged before this call.
    pub(super) async fn look_up(
        &self,
        namespace: &Namespace,
        function: &FunctionName,
        version: Option<u32>,
    ) -> Verdict {
        if !self.catch_up().await {
            return Verdict::Undecided;
        }
        let (registry, namespace, function) = (self.registry.clone(), namespace.clone(), function.clone());
        match blocking(move || Ok::<_, LookUpError>(registry.function(&namespace, &function, version)?)).await
        {
            Ok(Some(_)) => Verdict::Exists,
            Ok(None) => Verdict::Deleted,
            Err(error) => {
                tracing::error!(%error, "a function with a waiting event cannot be looked up");
                Verdict::Undecided
            }
        }
    }

    /// Catches up with the registry's log. Returns whether that succeeded. All callers that wait before an attempt begins share
    /// it.
    async fn catch_up(&self) -> bool {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(CatchUp { begun, succeeded }) = &*last
            && *begun >= asked
        {
            return *succeeded;
        }
        let begun = Instant::now();
        let registry = self.registry.clone();
        let caught_up = blocking(move || Ok::<_, LookUpError>(registry.catch_up()?)).await;
        let succeeded = caught_up.is_ok();
        let was_behind = self.is_behind.swap(!succeeded, Ordering::Relaxed);
        match caught_up {
            Ok(()) if was_behind => tracing::info!("this node's registry has caught up; its events continue"),
            Err(error) if !was_behind => tracing::warn!(
                %error,
                "events of functions that this node does not know wait until its registry catches up; other nodes may run them"
            ),
            _ => {}
        }
        *last = Some(CatchUp { begun, succeeded });
        succeeded
    }
}
