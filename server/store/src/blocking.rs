//! The bridge from async code to code that blocks on disks, databases and servers.

use tokio::task::{JoinError, spawn_blocking};

/// Blocking work did not return: it panicked, or the runtime is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("a blocking task ended without a result")]
pub struct TaskFailed(#[from] JoinError);

/// Runs work that blocks on a thread of the runtime's blocking pool, and returns its result. Work that has begun goes on when
/// its caller does not wait any more.
///
/// # Errors
/// The work's own, or [`TaskFailed`] as one of them.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<TaskFailed> + Send + 'static,
{
    spawn_blocking(work).await.map_err(TaskFailed)?
}
