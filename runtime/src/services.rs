//! What the runtime asks of the program that embeds it.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// A future that owns what it needs and may move between threads, as guests' host calls require.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a guest gives its core to others. Guests run as fibers on the embedder's event loop, so waiting is its business.
pub trait Scheduler: Send + Sync + 'static {
    /// Ready after everything else that can run on this core had its turn: timers, sockets and other guests.
    fn yield_now(&self) -> Wait;

    /// Ready after `duration`.
    fn sleep(&self, duration: Duration) -> Wait;
}

/// A [`Scheduler`] for programs that give each guest a thread of its own: tools, benches and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadScheduler;

impl Scheduler for ThreadScheduler {
    fn yield_now(&self) -> Wait {
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
        Box::pin(async move { std::thread::sleep(duration) })
    }
}
