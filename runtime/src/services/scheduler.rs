//! How guests share the thread they run on.

use super::Wait;
use crate::limits::EPOCH_TICK;
use crate::names::Namespace;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How a guest gives its core to others. Guests run as fibers on the embedder's event loop, so waiting is its business.
pub trait Scheduler: Send + Sync + 'static {
    /// Ready after others that can run on this core had their turn: timers, sockets and guests. The time of a core is
    /// divided between namespaces, so it is told for whom.
    fn yield_now(&self, namespace: &Namespace) -> Wait;

    /// Ready after `duration`. Whoever waits for it may wait for something else beside it.
    fn sleep(&self, duration: Duration) -> Wait;

    /// Does work that takes longer than a guest's slice where it holds up no other guest; ready when it is done. Without
    /// such a place it is done at once.
    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> Wait {
        Box::pin(async move { work() })
    }
}

/// A [`Scheduler`] for programs that give each guest a thread of its own: tools, benches and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadScheduler;

impl Scheduler for ThreadScheduler {
    fn yield_now(&self, _namespace: &Namespace) -> Wait {
        let mut yielded = false;
        Box::pin(std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    fn sleep(&self, duration: Duration) -> Wait {
        let until = Instant::now() + duration;
        Box::pin(std::future::poll_fn(move |cx| {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Ready(());
            }
            // In steps, as something else may be waited for that does not wake this thread.
            std::thread::park_timeout(left.min(EPOCH_TICK));
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    }
}
