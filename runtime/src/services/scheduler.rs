//! How guests share the thread that runs them.

use super::Wait;
use crate::limits::EPOCH_TICK;
use crate::names::Namespace;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Lets guests yield their core and wait. Guests run as fibers on the event loop of the embedding program, so it implements both.
pub trait Scheduler: Send + Sync + 'static {
    /// Ready after everything else that can run on this core has had its turn: timers, sockets and other guests. An
    /// implementation can share the core's time fairly between namespaces.
    fn yield_now(&self, namespace: &Namespace) -> Wait;

    /// Ready after `duration`. A caller may wait for something else at the same time.
    fn sleep(&self, duration: Duration) -> Wait;

    /// Runs work that takes longer than a guest's slice where it delays no other guest. Ready when the work is done. By
    /// default the work runs in place.
    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> Wait {
        Box::pin(async move { work() })
    }
}

/// A [`Scheduler`] for programs that run one guest per thread: tools, benchmarks and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadScheduler;

impl ThreadScheduler {
    /// Runs a future on this thread until it is ready.
    pub fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            std::thread::park();
        }
    }
}

/// Wakes the thread that waits in [`ThreadScheduler::block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

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
            // In steps, because the caller may also wait for something that does not wake this thread.
            std::thread::park_timeout(left.min(EPOCH_TICK));
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    }
}
