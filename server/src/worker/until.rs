//! Runs something on a core until it is done or something else ends it. A panic ends it alone, not the core and all that it
//! serves.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// How it ended.
pub(super) enum Until<T> {
    Done(T),
    /// The other future was ready first.
    Ended,
    Panicked,
}

/// Polls `run` until it is done, panics, or `end` is ready. It is dropped then.
pub(super) async fn until<T>(run: impl Future<Output = T>, end: impl Future<Output = ()>) -> Until<T> {
    let (mut run, mut end) = (pin!(run), pin!(end));
    poll_fn(|cx| {
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Until::Ended);
        }
        match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Until::Done),
            Err(_) => Poll::Ready(Until::Panicked),
        }
    })
    .await
}
