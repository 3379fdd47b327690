//! Single-flight: callers that need the same result at the same time share one call.
//!
//! [`SingleFlight`] blocks and runs the work on the first caller's thread. [`SharedTasks`] runs it as a task that goes on when
//! no caller waits any more. Caches whose invalidations must also end the reads under way (the near cache, the read cache) keep
//! their reads beside their entries instead, under the same lock.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Blocking calls in progress, by their key.
pub struct SingleFlight<K, V>(Mutex<HashMap<K, Arc<OnceLock<V>>>>);

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Removes a call when it ends, also when it panics.
struct Landing<'a, K: Hash + Eq, V>(&'a SingleFlight<K, V>, &'a K);

impl<K: Hash + Eq, V> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        self.0.0.lock().remove(self.1);
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SingleFlight<K, V> {
    /// Runs `work`, or waits for a call in progress with the same key and returns its result. If that call panics, `work` runs.
    /// Blocks.
    pub fn run(&self, key: &K, work: impl FnOnce() -> V) -> V {
        let flight = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        flight
            .get_or_init(|| {
                let _landing = Landing(self, key);
                work()
            })
            .clone()
    }

    /// Whether no call is in progress.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.lock().is_empty()
    }
}

type Tasks<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>;

/// Tasks in progress, by their key. Clones share them.
pub struct SharedTasks<K, V>(Tasks<K, V>);

impl<K, V> Default for SharedTasks<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> Clone for SharedTasks<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Removes a task when it ends, also when it panics.
struct Ends<K: Hash + Eq, V>(Tasks<K, V>, K);

impl<K: Hash + Eq, V> Drop for Ends<K, V> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl<K, V> SharedTasks<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts `work`, or waits for the task in progress with the same key. `None` if the task panicked. Must be called in a tokio
    /// runtime.
    pub async fn join(&self, key: K, work: impl Future<Output = V> + Send + 'static) -> Option<V> {
        let mut result = match self.0.lock().entry(key.clone()) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let (sender, receiver) = watch::channel(None);
                let ends = Ends(Arc::clone(&self.0), key);
                tokio::spawn(async move {
                    let value = work.await;
                    drop(ends);
                    // All callers may have stopped waiting.
                    let _gone = sender.send(Some(value));
                });
                entry.insert(receiver).clone()
            }
        };
        result.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }

    /// Whether no task is in progress.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::sync::Notify;

    #[test]
    fn callers_of_the_same_key_share_one_call_and_others_do_not_wait() {
        let (flights, count, together) =
            (SingleFlight::<u8, usize>::default(), AtomicUsize::new(0), Barrier::new(4));
        let work = || {
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(flights.run(&2, || 7), 7, "another key is free");
            count.fetch_add(1, Ordering::SeqCst)
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    let value = flights.run(&1, work);
                    assert_eq!(value, 0);
                });
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(flights.is_idle());
        assert_eq!(flights.run(&1, || 9), 9, "a later call is another one");
    }

    #[test]
    fn a_call_that_panics_is_forgotten() {
        let flights = SingleFlight::<u8, u8>::default();
        let run = || flights.run(&1, || panic!("on purpose"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        assert!(flights.is_idle());
        assert_eq!(flights.run(&1, || 3), 3);
    }

    #[tokio::test]
    async fn a_task_runs_once_for_all_who_join_and_goes_on_without_them() {
        let tasks = SharedTasks::<u8, u8>::default();
        let (go, count) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let join = || {
            let (go, count) = (Arc::clone(&go), Arc::clone(&count));
            tasks.join(1, async move {
                go.notified().await;
                count.fetch_add(1, Ordering::Relaxed);
                5
            })
        };
        let leaves = tokio::time::timeout(Duration::from_millis(1), join()).await;
        assert!(leaves.is_err());
        go.notify_one();
        assert_eq!(tokio::join!(join(), join(), join()), (Some(5), Some(5), Some(5)));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(tasks.is_idle());
        assert_eq!(tasks.join(1, async { panic!("on purpose") }).await, None);
        assert!(tasks.is_idle(), "and the next one is tried");
    }
}
