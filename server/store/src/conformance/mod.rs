//! What every implementation of a store's trait must do: one suite for each trait, run by the tests of each implementation.
//!
//! A suite is a list of cases. Each takes the store and namespaces that nothing else uses, and panics where the store
//! does not keep its trait's promise.

use orama_runtime::names::Namespace;
use orama_runtime::services::Answer;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

pub(crate) mod blobs;
pub(crate) mod cache;
pub(crate) mod database;
pub(crate) mod pubsub;

/// A namespace that no other case uses.
pub(crate) fn namespace() -> Namespace {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    Namespace::new(&format!("case-{}", NEXT.fetch_add(1, Ordering::Relaxed))).unwrap()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer on a thread without any event loop, as no answer may need a certain one.
pub(crate) fn wait<T>(answer: Answer<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut answer = pin!(answer);
    loop {
        if let Poll::Ready(value) = answer.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}
