//! A namespace's database on its own rqlite cluster.
//!
//! A batch is at most two requests: its execs as one transaction, then its queries as a second one, which sees the
//! result of the first. Each statement is first parsed and checked (`guard.rs`), then rewritten so that every server
//! stores the same (`rewrite.rs`) and values return unchanged (`shape.rs`).

use super::DatabasesError;
use super::batch_check::answered;
use crate::breaker::Breaker;
use crate::limits::DB_REMOTE_WRITES_MAX;
use crate::limits::{DB_REMOTE_READS_MAX, DB_REMOTE_REMOVE_MAX, DB_REMOTE_SHAPES_MAX};
use crate::rqlite::RqliteClient;
use crate::settings::RqliteAt;
use batch::Batch;
use moka::sync::Cache;
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    Answer, BatchFailure, BatchMode, BatchOutcome, ErrorCode, ServiceError, Statement,
};
use std::future::ready;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

mod batch;
mod errors;
#[doc(hidden)]
pub mod fuzzing;
pub(super) mod guard;
mod removal;
pub(super) mod rewrite;
mod shape;
mod tokens;

pub(super) use tokens::unreadable;

/// One namespace's database. Clones share it.
#[derive(Clone)]
pub struct RqliteDatabase(Arc<Shared>);

struct Shared {
    namespace: Namespace,
    client: RqliteClient,
    backplane: Handle,
    write_turns: Semaphore,
    read_turns: Semaphore,
    /// A turn to parse long statements, so that one namespace has at most one of all turns.
    reading: Semaphore,
    /// Numbers of columns of queries for which only the schema tells it.
    shapes: Cache<String, usize>,
}

/// Cancels a call when it is dropped.
struct Waiting(AbortHandle);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RqliteDatabase {
    /// A database on these servers. Does not connect yet.
    ///
    /// # Errors
    /// [`DatabasesError::Remote`] if an address is not valid.
    pub fn new(namespace: &Namespace, at: &RqliteAt, backplane: Handle) -> Result<Self, DatabasesError> {
        let client = RqliteClient::new(&format!("databases/{namespace}"), at)
            .map_err(|error| DatabasesError::remote(namespace, &error))?;
        Ok(Self(Arc::new(Shared {
            namespace: namespace.clone(),
            client,
            backplane,
            write_turns: Semaphore::new(DB_REMOTE_WRITES_MAX),
            read_turns: Semaphore::new(DB_REMOTE_READS_MAX),
            reading: Semaphore::new(1),
            shapes: Cache::new(DB_REMOTE_SHAPES_MAX as u64),
        })))
    }

    /// The circuit breaker of its servers.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.0.client.breaker()
    }

    /// Its servers.
    #[must_use]
    pub fn client(&self) -> &RqliteClient {
        &self.0.client
    }

    /// As [`orama_runtime::services::Database::run`].
    pub fn run(
        &self,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome> {
        if let Some(outcome) = answered(mode, &statements) {
            return Box::pin(ready(outcome));
        }
        let shared = Arc::clone(&self.0);
        // Connections and timers belong to the backplane; the caller may use any event loop.
        let task = self.0.backplane.spawn(async move { shared.run(mode, statements, deadline).await });
        Box::pin(async move {
            let waiting = Waiting(task.abort_handle());
            let outcome = task.await;
            drop(waiting);
            outcome.unwrap_or_else(|error| {
                if !error.is_cancelled() {
                    tracing::error!(%error, "a task of a database call failed");
                    return refused(ServiceError::new(ErrorCode::Internal, "the database failed"));
                }
                refused(stopping())
            })
        })
    }

    /// Drops everything in the database. Blocks. Idempotent.
    ///
    /// # Errors
    /// [`DatabasesError::Remote`]; some data may remain.
    pub fn remove(&self) -> Result<(), DatabasesError> {
        let shared = &self.0;
        let deadline = Instant::now() + DB_REMOTE_REMOVE_MAX;
        let removed = shared.backplane.block_on(async {
            // After all writes that this node has begun.
            let all = u32::try_from(DB_REMOTE_WRITES_MAX).unwrap_or(u32::MAX);
            let _turns = tokio::time::timeout_at(deadline.into(), shared.write_turns.acquire_many(all)).await;
            removal::drop_all(&shared.client, deadline).await
        });
        removed.map_err(|error| DatabasesError::remote(&shared.namespace, &error))
    }

    /// Accepts no more calls.
    pub fn close(&self) {
        self.0.write_turns.close();
        self.0.read_turns.close();
    }
}

impl Shared {
    async fn run(&self, mode: BatchMode, statements: Vec<Statement>, deadline: Instant) -> BatchOutcome {
        let turns = if mode == BatchMode::Write { &self.write_turns } else { &self.read_turns };
        let turn = match tokio::time::timeout_at(deadline.into(), turns.acquire()).await {
            Ok(Ok(turn)) if Instant::now() < deadline => turn,
            Ok(Ok(_)) => return refused(errors::deadline_exceeded()),
            Ok(Err(_)) => return refused(stopping()),
            Err(_) => {
                return refused(ServiceError::unavailable(
                    "the database was busy with other calls until the deadline",
                ));
            }
        };
        let Self { client, shapes, reading, .. } = self;
        let outcome = Batch { client, shapes, reading, deadline }.run(mode, statements).await;
        drop(turn);
        outcome
    }
}

/// The outcome of a batch that did not begin.
fn refused(error: ServiceError) -> BatchOutcome {
    BatchOutcome { failure: Some(BatchFailure { index: None, error }), ..BatchOutcome::default() }
}

fn stopping() -> ServiceError {
    ServiceError::unavailable("the node is stopping")
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
