//! The bridge from async code to code that blocks on disks, databases and servers.

use orama_runtime::services::{ErrorCode, ServiceError};
use tokio::runtime::Handle;
use tokio::task::JoinError;

/// Blocking work did not return: it panicked, or the runtime is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("a blocking task ended without a result")]
pub struct TaskFailed(#[from] JoinError);

impl From<TaskFailed> for ServiceError {
    /// What a guest is told. A panic's message stays in the log.
    fn from(error: TaskFailed) -> Self {
        if error.0.is_cancelled() {
            return Self::unavailable("the node is stopping");
        }
        tracing::error!(error = %error.0, "a blocking task panicked");
        Self::new(ErrorCode::Internal, "the call failed inside the node; its log tells why")
    }
}

/// Runs blocking work on a thread of the current runtime's blocking pool and returns its result. Work that has begun continues
/// when its caller stops waiting.
///
/// # Errors
/// The work's own, or [`TaskFailed`] as one of them.
///
/// # Panics
/// Outside of a runtime; see [`blocking_on`].
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<TaskFailed> + Send + 'static,
{
    blocking_on(&Handle::current(), work).await
}

/// [`blocking`] for a caller that runs outside of the runtime, such as a core. The work is queued at once, before the future is
/// polled.
///
/// # Errors
/// As [`blocking`].
pub fn blocking_on<T, E, W>(
    backplane: &Handle,
    work: W,
) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
where
    T: Send + 'static,
    E: From<TaskFailed> + Send + 'static,
    W: FnOnce() -> Result<T, E> + Send + 'static,
{
    let task = backplane.spawn_blocking(work);
    async move { task.await.map_err(TaskFailed)? }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_waits_without_a_runtime_of_its_own() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let work = blocking_on(runtime.handle(), || Ok::<_, TaskFailed>(1));
        assert_eq!(poll_until_ready(work).unwrap(), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_call() {
        let error =
            blocking(|| -> Result<(), ServiceError> { panic!("the disk's secret name") }).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Internal);
        assert!(!error.message.contains("secret"), "{}", error.message);
    }

    /// Polls on this thread, which no runtime knows.
    fn poll_until_ready<T>(work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if let std::task::Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return done;
            }
            std::thread::yield_now();
        }
    }
}
