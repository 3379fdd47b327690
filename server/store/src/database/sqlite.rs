//! The embedded database: one SQLite file for each namespace.
//!
//! Statements run on the backplane's blocking threads. A namespace has one writer and a few readers, each with its turn, so
//! that none can take all threads; its connections stay open until others need the room. What is acknowledged is on
//! the disk.

use super::DatabasesError;
use super::batch_check::answered;
use crate::files;
use crate::limits::{DB_CONNECTIONS_MAX, DB_IDLE, DB_THREADS_MAX};
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    Answer, BatchMode, BatchOutcome, Database, ErrorCode, ServiceError, Statement,
};
use rusqlite::Connection;
use std::collections::HashMap;
use std::fs;
use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tenant::{Tenant, refused};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use watch::Watch;

mod batch;
mod guard;
mod rows;
mod tenant;
mod watch;

/// Time beyond the deadline in which a statement that was interrupted is undone, and says so itself. One inside a function
/// over a large value cannot be interrupted: then the answer comes without it.
const LATE: Duration = Duration::from_millis(500);

/// How long a removal waits for statements that were told to end.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a stopping node waits for them.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How often a stopping node looks whether they have ended.
const CLOSE_POLL: Duration = Duration::from_millis(2);

/// The databases of all namespaces. Clones share them.
#[derive(Clone)]
pub struct SqliteDatabases(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    backplane: Handle,
    /// Bounds what runs in all namespaces.
    threads: Arc<Semaphore>,
    /// Every namespace that was used since the start; some 200 bytes each beside its connections.
    tenants: RwLock<HashMap<Namespace, Arc<Tenant>>>,
    /// Open connections of all of them.
    connections: Arc<AtomicUsize>,
}

impl SqliteDatabases {
    /// Opens the folder, which it makes where it is missing. Temporary files of all of the process' SQLite are in it too:
    /// they may be as large as what is sorted, and the system's own folder for them may be memory. They have no name
    /// from their beginning, so a crash leaves none.
    ///
    /// # Errors
    /// [`DatabasesError`]
    pub fn open(dir: &Path, backplane: Handle) -> Result<Self, DatabasesError> {
        files::private_dir(dir).map_err(|source| DatabasesError::File { path: dir.to_owned(), source })?;
        Connection::open_in_memory()?.pragma_update(None, "temp_store_directory", dir.to_string_lossy())?;
        Ok(Self(Arc::new(Shared {
            dir: dir.to_owned(),
            backplane,
            threads: Arc::new(Semaphore::new(DB_THREADS_MAX)),
            tenants: RwLock::default(),
            connections: Arc::default(),
        })))
    }

    /// Deletes a namespace's database. What runs in it is ended first; the next call finds an empty one. Blocks.
    ///
    /// # Errors
    /// [`DatabasesError::File`]: it may still be there.
    pub fn remove(&self, namespace: &Namespace) -> Result<(), DatabasesError> {
        let tenant = self.0.tenant(namespace);
        tenant.removals.fetch_add(1, Ordering::AcqRel);
        let turns = self.0.backplane.block_on(async {
            let all = async {
                let write = Arc::clone(&tenant.write_turns).acquire_owned().await;
                let readers = u32::try_from(crate::limits::DB_READERS_MAX).unwrap_or(u32::MAX);
                (write, Arc::clone(&tenant.read_turns).acquire_many_owned(readers).await)
            };
            tokio::time::timeout(REMOVE_PATIENCE, all).await
        });
        if turns.is_err() {
            // Its connection keeps files that have no name any more, and is closed when it comes back.
            tracing::warn!(%namespace, "a database is removed while a statement runs that could not be ended");
        }
        tenant.delete().map_err(|source| DatabasesError::File {
            path: self.0.dir.join(format!("{namespace}.db")),
            source,
        })
    }

    /// Whether the folder can be read.
    ///
    /// # Errors
    /// [`DatabasesError::File`]
    pub fn check(&self) -> Result<(), DatabasesError> {
        let failed = |source| DatabasesError::File { path: self.0.dir.clone(), source };
        fs::read_dir(&self.0.dir).map(drop).map_err(failed)
    }

    /// Ends what runs, takes nothing more, and closes every file. Blocks, at most [`CLOSE_PATIENCE`] for what cannot be
    /// interrupted.
    pub fn close(&self) {
        let tenants: Vec<_> = self.0.read().values().cloned().collect();
        for tenant in &tenants {
            tenant.write_turns.close();
            tenant.read_turns.close();
            tenant.removals.fetch_add(1, Ordering::AcqRel);
        }
        self.0.threads.close();
        let until = Instant::now() + CLOSE_PATIENCE;
        loop {
            tenants.iter().for_each(|tenant| tenant.close_idle());
            if self.0.connections.load(Ordering::Relaxed) == 0 || Instant::now() >= until {
                return;
            }
            std::thread::sleep(CLOSE_POLL);
        }
    }
}

impl Database for SqliteDatabases {
    fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome> {
        if let Some(outcome) = answered(mode, &statements) {
            return Box::pin(ready(outcome));
        }
        let (shared, namespace) = (Arc::clone(&self.0), namespace.clone());
        Box::pin(async move {
            shared
                .run(&namespace, mode == BatchMode::Write, statements, deadline)
                .await
                .unwrap_or_else(refused)
        })
    }
}

/// Tells a running call that nobody waits for it.
struct Waiting(Arc<Watch>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Shared {
    async fn run(
        self: Arc<Self>,
        namespace: &Namespace,
        writes: bool,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Result<BatchOutcome, ServiceError> {
        let tenant = self.tenant(namespace);
        // First its own namespace's, so that a crowded namespace waits without a thread.
        let turn = self.turn(if writes { &tenant.write_turns } else { &tenant.read_turns }, deadline).await?;
        let thread = self.turn(&self.threads, deadline).await?;
        let watch = Arc::new(Watch::new(deadline, &tenant.removals));
        let waiting = Waiting(Arc::clone(&watch));
        let backplane = self.backplane.clone();
        let shared = Arc::clone(&self);
        let ran = backplane.spawn_blocking(move || {
            shared.make_room(&tenant);
            let outcome = tenant.run(writes, &statements, &watch);
            drop((turn, thread));
            outcome
        });
        let ran = self.by(deadline + LATE, ran).await;
        drop(waiting);
        match ran {
            Some(Ok(outcome)) => Ok(outcome),
            Some(Err(error)) if error.is_cancelled() => Err(stopping()),
            Some(Err(error)) => {
                tracing::error!(%error, "a database call failed");
                Err(ServiceError::new(ErrorCode::Internal, "the database failed"))
            }
            None => Err(watch::deadline_exceeded()),
        }
    }

    /// A turn of a namespace's, or a thread.
    async fn turn(
        &self,
        turns: &Arc<Semaphore>,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, ServiceError> {
        if let Ok(turn) = Arc::clone(turns).try_acquire_owned() {
            return Ok(turn);
        }
        match self.by(deadline, Arc::clone(turns).acquire_owned()).await {
            Some(turn) => turn.map_err(|_| stopping()),
            None => {
                Err(ServiceError::unavailable("the database was busy with other calls until the deadline"))
            }
        }
    }

    /// What a future gives until a time. The clock is the backplane's, so that it works on any event loop.
    async fn by<T>(&self, deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
        let sleep = {
            let _backplane = self.backplane.enter();
            tokio::time::sleep_until(deadline.into())
        };
        tokio::select! {
            biased;
            value = future => Some(value),
            () = sleep => None,
        }
    }

    fn tenant(&self, namespace: &Namespace) -> Arc<Tenant> {
        if let Some(tenant) = self.read().get(namespace) {
            return Arc::clone(tenant);
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let tenant = tenants.entry(namespace.clone());
        Arc::clone(tenant.or_insert_with(|| Arc::new(Tenant::new(&self.dir, namespace, &self.connections))))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Namespace, Arc<Tenant>>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what was not used for long, before a namespace without connections opens some, and while there are too many.
    fn make_room(&self, user: &Arc<Tenant>) {
        let is_full = || self.connections.load(Ordering::Relaxed) >= DB_CONNECTIONS_MAX;
        if !is_full() && user.idle_since().is_some() {
            return;
        }
        let mut idle: Vec<_> = self
            .read()
            .values()
            .filter(|tenant| !Arc::ptr_eq(tenant, user))
            .filter_map(|tenant| Some((tenant.idle_since()?, Arc::clone(tenant))))
            .collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        for (since, tenant) in idle {
            if since.elapsed() < DB_IDLE && !is_full() {
                return;
            }
            tenant.close_idle();
        }
    }
}

fn stopping() -> ServiceError {
    ServiceError::unavailable("the node is stopping")
}

#[cfg(test)]
mod tests;
