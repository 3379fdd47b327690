//! Use cases on namespaces: create one, and delete one with everything in it.
//!
//! A deletion first deletes keys and functions. It removes the data when nothing acts in the namespace any more. Only then is the
//! name free, so a new namespace of the same name finds nothing of the old one. This holds after a crash too: the next start
//! resumes the deletion.

use crate::Platform;
use crate::audit;
use crate::clean::clean;
use crate::limits::NAMESPACE_DELETION_PATIENCE;
use crate::registry::{NamespaceEntry, RegistryError};
use orama_runtime::names::Namespace;
use orama_store::blocking::{TaskFailed, blocking};
use orama_store::part::PartError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a deletion checks whether a request or an invocation still acts in the namespace.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Pause before a failed removal is retried.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// Counts requests of the control plane in progress, by the namespace of their credential.
#[derive(Default)]
pub struct Visitors(Mutex<HashMap<Namespace, usize>>);

/// A request in progress. It counts until it is dropped.
pub struct Visit(Arc<Visitors>, Namespace);

impl Visitors {
    /// Counts a request that acts with a credential of `namespace`.
    #[must_use]
    pub fn enter(self: &Arc<Self>, namespace: &Namespace) -> Visit {
        *self.0.lock().entry(namespace.clone()).or_default() += 1;
        Visit(Arc::clone(self), namespace.clone())
    }

    fn is_in(&self, namespace: &Namespace) -> bool {
        self.0.lock().contains_key(namespace)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut all = self.0.0.lock();
        if let Some(count) = all.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// Why a namespace was not created or deleted.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The namespace exists already.
    #[error("there is already a namespace {:?}; choose another name", .0.as_str())]
    Exists(Namespace),
    /// The namespace does not exist.
    #[error("there is no namespace {:?}", .0.as_str())]
    NotFound(Namespace),
    /// The registry failed, or a namespace of this name is still being deleted.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The deletion's task ended early.
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

/// How far a deletion has come when its caller gets an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Everything is gone.
    Done,
    /// Keys and functions are gone. The data follow when nothing acts in the namespace any more.
    UnderWay,
}

/// Creates a namespace. Blocks.
///
/// # Errors
/// [`NamespaceError`].
pub fn create(platform: &Platform, namespace: &Namespace) -> Result<NamespaceEntry, NamespaceError> {
    let made = platform.registry.create_namespace(namespace)?;
    made.ok_or_else(|| NamespaceError::Exists(namespace.clone()))
}

/// Deletes a namespace. Waits up to [`NAMESPACE_DELETION_PATIENCE`] for the end; the deletion continues after that.
///
/// # Errors
/// [`NamespaceError`].
pub async fn delete(platform: Arc<Platform>, namespace: Namespace) -> Result<Deletion, NamespaceError> {
    let (of, deleted) = (Arc::clone(&platform), namespace.clone());
    audit::blocking(move || begin(&of, deleted)).await?;
    let rest = tokio::spawn(finish(platform, namespace));
    match tokio::time::timeout(NAMESPACE_DELETION_PATIENCE, rest).await {
        Ok(ended) => Ok(ended.map(|()| Deletion::Done).map_err(TaskFailed::from)?),
        Err(_) => Ok(Deletion::UnderWay),
    }
}

fn begin(platform: &Platform, namespace: Namespace) -> Result<(), NamespaceError> {
    let Some(modules) = platform.registry.begin_namespace_deletion(&namespace)? else {
        return Err(NamespaceError::NotFound(namespace));
    };
    modules.iter().for_each(|module| clean(platform, module));
    Ok(())
}

/// Finishes a deletion that has begun. Logs each failure and retries until it succeeds.
async fn finish(platform: Arc<Platform>, namespace: Namespace) {
    while platform.visitors.is_in(&namespace) || (platform.runs_in)(namespace.clone()).await {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // The cores may still hold records of the last invocations. These must be written before the data are removed.
    (platform.flush_cores)().await;
    loop {
        let (of, name) = (Arc::clone(&platform), namespace.clone());
        match blocking(move || remove(&of, &name)).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%namespace, %error, "the data of a deleted namespace could not be removed; the node retries");
            }
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

fn remove(platform: &Platform, namespace: &Namespace) -> Result<(), PartError> {
    platform.forget(namespace)?;
    Ok(platform.registry.finish_namespace_deletion(namespace)?)
}

/// Resumes the deletions that the node's last run did not finish.
pub async fn resume_deletions(platform: Arc<Platform>) {
    let registry = platform.registry.clone();
    match blocking(move || Ok::<_, NamespaceError>(registry.namespaces_being_deleted()?)).await {
        Ok(namespaces) => {
            for namespace in namespaces {
                tracing::info!(%namespace, "resuming the deletion of a namespace");
                tokio::spawn(finish(Arc::clone(&platform), namespace));
            }
        }
        Err(error) => {
            tracing::error!(%error, "unfinished deletions could not be looked up; restart the node");
        }
    }
}
