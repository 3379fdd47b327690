//! Modules that are being fetched and compiled for invocations: each once, for all who wait for it.

use super::LoadError;
use orama_runtime::LoadedModule;
use orama_runtime::function::WasmHash;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

type Made = Result<Arc<LoadedModule>, LoadError>;
type UnderWay = HashMap<WasmHash, watch::Receiver<Option<Made>>>;

/// What is under way. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Makes(Arc<Mutex<UnderWay>>);

/// Ends one, also when it panics.
struct Ends(Makes, WasmHash);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Makes {
    /// What comes of the work, or of the work for the same module that is under way. It goes on as a task of its own.
    pub(super) async fn join(
        &self,
        hash: WasmHash,
        work: impl Future<Output = Made> + Send + 'static,
    ) -> Made {
        let mut making = match self.lock().entry(hash) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let (sender, receiver) = watch::channel(None);
                let ends = Ends(self.clone(), hash);
                tokio::spawn(async move {
                    let made = work.await;
                    drop(ends);
                    // Nobody may wait any more.
                    let _ = sender.send(Some(made));
                });
                entry.insert(receiver).clone()
            }
        };
        let failed = || Err(LoadError::Failed("a task failed".to_owned()));
        match making.wait_for(Option::is_some).await {
            Ok(made) => made.clone().unwrap_or_else(failed),
            Err(_) => failed(),
        }
    }

    // Nothing that can panic leaves the map half changed.
    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn many_who_want_the_same_have_it_made_once_and_it_goes_on_without_them() {
        let makes = Makes::default();
        let (hash, go, count) = (WasmHash::of(b"x"), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let join = || {
            let (go, count) = (Arc::clone(&go), Arc::clone(&count));
            makes.join(hash, async move {
                go.notified().await;
                count.fetch_add(1, Ordering::Relaxed);
                Err(LoadError::Later("made".to_owned()))
            })
        };
        let leaves = tokio::time::timeout(std::time::Duration::from_millis(1), join()).await;
        assert!(leaves.is_err());
        go.notify_one();
        let outcomes = tokio::join!(join(), join(), join());
        for outcome in [outcomes.0, outcomes.1, outcomes.2] {
            assert!(matches!(outcome, Err(LoadError::Later(_))));
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(makes.lock().is_empty());
        let panics = makes.join(hash, async { panic!("on purpose") }).await;
        assert!(matches!(panics, Err(LoadError::Failed(_))));
        assert!(makes.lock().is_empty(), "and the next one is tried");
    }
}
