//! The rest of a namespace's deletion: when nothing acts in it any more, its data go, and then its name is free.
//!
//! The registry keeps the name until the end, so that whoever makes a namespace of the same name finds nothing of
//! the old one, also when a crash came in between: the next start goes on.

use super::App;
use orama_runtime::names::Namespace;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it is looked whether an invocation of a deleted namespace is still under way.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Pause before another try to remove data that could not be removed.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// Whether any core runs something of a namespace, or is about to.
pub type RunsIn = Arc<dyn Fn(Namespace) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Removes what one store holds of a namespace. It is called again after a failure, and may find nothing. Blocks.
pub type Forget = Box<dyn Fn(&Namespace) -> Result<(), String> + Send + Sync>;

/// Requests of the control plane under way, by the namespace of their credential.
#[derive(Default)]
pub struct Visitors(Mutex<HashMap<Namespace, usize>>);

/// A request under way; it counts until it is dropped.
pub(super) struct Visit(Arc<Visitors>, Namespace);

impl Visitors {
    pub(super) fn enter(self: &Arc<Self>, namespace: &Namespace) -> Visit {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(namespace.clone()).or_default() += 1;
        Visit(Arc::clone(self), namespace.clone())
    }

    fn is_in(&self, namespace: &Namespace) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(namespace)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// Ends a deletion that has begun. Goes on until it has succeeded; a failure is logged.
pub(super) async fn finish(app: Arc<App>, namespace: Namespace) {
    while app.visitors.is_in(&namespace) || (app.runs_in)(namespace.clone()).await {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // Records of what has just ended, which the cores still hold.
    (app.flush_cores)().await;
    loop {
        let (store, name) = (Arc::clone(&app), namespace.clone());
        match tokio::task::spawn_blocking(move || remove(&store, &name)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(%namespace, error, "data of a deleted namespace could not be removed; it is tried again");
            }
            Err(error) => {
                tracing::error!(%namespace, %error, "removing a deleted namespace's data failed; it is tried again");
            }
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

fn remove(app: &App, namespace: &Namespace) -> Result<(), String> {
    for forget in &app.forget_namespace {
        forget(namespace)?;
    }
    app.records.flush();
    app.records.remove(namespace).map_err(|error| error.to_string())?;
    app.registry.finish_namespace_deletion(namespace).map_err(|error| error.to_string())
}

/// Goes on with deletions that the node's last run did not end.
pub async fn finish_deletions(app: Arc<App>) {
    let registry = app.registry.clone();
    match tokio::task::spawn_blocking(move || registry.namespaces_being_deleted()).await {
        Ok(Ok(namespaces)) => {
            for namespace in namespaces {
                tracing::info!(%namespace, "the deletion of a namespace is continued");
                tokio::spawn(finish(Arc::clone(&app), namespace));
            }
        }
        Ok(Err(error)) => tracing::error!(%error, "deleted namespaces could not be looked up"),
        Err(error) => tracing::error!(%error, "deleted namespaces could not be looked up"),
    }
}
