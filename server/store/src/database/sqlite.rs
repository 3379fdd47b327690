//! The embedded database: one SQLite file for each namespace, in a process of its own while it is used.
//!
//! A statement may allocate without bound, or spend minutes inside one function that nothing interrupts. The kernel bounds and
//! ends a process, so SQL runs in one process for each namespace in use ([`child`]), which can open only its namespace's folder.
//! A namespace has one writer and a few readers at a time. Acknowledged writes are durable.

use super::DatabasesError;
use super::batch_check::answered;
use crate::files;
use crate::limits::{DB_CALLS_MAX, DB_MAX_BYTES, DB_PROCESS_IDLE, DB_PROCESSES_MAX, DB_READERS_MAX};
use orama_runtime::child::Program;
use orama_runtime::names::Namespace;
use orama_runtime::services::{
    Answer, BatchFailure, BatchMode, BatchOutcome, Database, ErrorCode, ServiceError, Statement,
};
use parking_lot::{Mutex, RwLock};
use process::{NotSent, Process, Start, Turns, Waiting};
use std::collections::HashMap;
use std::fs;
use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::Access;

pub(in crate::database) mod child;
mod lanes;
mod layout;
mod process;
mod wire;

pub use child::PROCESS;
#[doc(hidden)]
pub use child::fuzzing;
pub use layout::file_of;

/// Time after the deadline in which an interrupted statement is rolled back and answers. A statement inside a function over a
/// large value cannot be interrupted: the node then answers for it, and kills the process soon after.
const LATE: Duration = Duration::from_millis(500);

/// How long a removal waits for a killed process. Only a hanging disk can delay its end.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a stopping node waits until statements are interrupted and databases are closed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// The databases of all namespaces. Clones share them.
#[derive(Clone)]
pub struct SqliteDatabases(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    program: Program,
    backplane: Handle,
    /// Bounds concurrent calls of all namespaces.
    calls: Arc<Semaphore>,
    /// Bounds processes, each until it has exited.
    places: Arc<Semaphore>,
    /// How long an idle process is kept.
    idle: Duration,
    /// All namespaces used since the start; some 200 bytes each besides the process.
    tenants: RwLock<HashMap<Namespace, Arc<Tenant>>>,
    /// Sizes that databases may have, in bytes, where it is not [`DB_MAX_BYTES`].
    limits: RwLock<HashMap<Namespace, u64>>,
    /// Held while they are read.
    reading: Mutex<()>,
}

/// One namespace's database.
struct Tenant {
    namespace: Namespace,
    /// The turn of the one writer.
    write_turns: Arc<Semaphore>,
    /// The turns of [`DB_READERS_MAX`] readers.
    read_turns: Arc<Semaphore>,
    /// Its processes: the current one last, after older ones that have not exited yet.
    processes: Mutex<Vec<Arc<Process>>>,
    /// Whether its files are being deleted.
    is_removed: AtomicBool,
}

impl Tenant {
    fn new(namespace: &Namespace) -> Self {
        Self {
            namespace: namespace.clone(),
            write_turns: Arc::new(Semaphore::new(1)),
            read_turns: Arc::new(Semaphore::new(DB_READERS_MAX)),
            processes: Mutex::default(),
            is_removed: AtomicBool::new(false),
        }
    }

    fn serving(&self) -> Option<Arc<Process>> {
        self.processes.lock().last().filter(|process| process.is_serving()).cloned()
    }
}

impl SqliteDatabases {
    /// Opens the folder, and creates it if it is missing. Processes are started from `program`.
    ///
    /// # Errors
    /// [`DatabasesError::File`]
    pub fn open(dir: &Path, backplane: Handle, program: Program) -> Result<Self, DatabasesError> {
        Self::open_with(dir, backplane, program, DB_PROCESS_IDLE)
    }

    fn open_with(
        dir: &Path,
        backplane: Handle,
        program: Program,
        idle: Duration,
    ) -> Result<Self, DatabasesError> {
        files::private_dir(dir).map_err(|source| DatabasesError::File { path: dir.to_owned(), source })?;
        Ok(Self(Arc::new(Shared {
            // Absolute, because a process has another current folder.
            dir: std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()),
            program,
            backplane,
            calls: Arc::new(Semaphore::new(DB_CALLS_MAX)),
            places: Arc::new(Semaphore::new(DB_PROCESSES_MAX)),
            idle,
            tenants: RwLock::default(),
            limits: RwLock::default(),
            reading: Mutex::default(),
        })))
    }

    /// Takes over the sizes that databases may have, in bytes, from where they are stored. They hold for the next call. Blocks.
    ///
    /// # Errors
    /// What `read` returns; then everything stays as it was.
    pub fn read_limits<E>(&self, read: impl FnOnce() -> Result<HashMap<Namespace, u64>, E>) -> Result<(), E> {
        // From the read on, so that an older state never replaces a newer one.
        let _reading = self.0.reading.lock();
        let limits = read()?;
        *self.0.limits.write() = limits;
        Ok(())
    }

    /// The size of a namespace's database with its log, in bytes; 0 where there is none. Blocks.
    ///
    /// # Errors
    /// [`DatabasesError::File`]
    pub fn used_bytes(&self, namespace: &Namespace) -> Result<u64, DatabasesError> {
        layout::used_bytes(&self.0.dir, namespace)
            .map_err(|source| DatabasesError::File { path: self.0.dir.join(namespace.as_str()), source })
    }

    /// Deletes a namespace's database. Its process is killed first; the next call finds an empty one. Blocks.
    ///
    /// # Errors
    /// [`DatabasesError::File`]; the database may remain.
    pub fn remove(&self, namespace: &Namespace) -> Result<(), DatabasesError> {
        let tenant = self.0.tenant(namespace);
        let by = Instant::now() + REMOVE_PATIENCE;
        // Holds the lock that starting a process takes.
        let processes = {
            let processes = tenant.processes.lock();
            tenant.is_removed.store(true, Ordering::Release);
            processes.clone()
        };
        processes.iter().for_each(|process| process.kill());
        if !processes.iter().all(|process| process.wait_until(by)) {
            // Only deleted files are open in the process.
            tracing::warn!(%namespace, "a database is removed although its killed process has not exited yet");
        }
        let removed = layout::remove(&self.0.dir, namespace);
        tenant.is_removed.store(false, Ordering::Release);
        removed.map_err(|source| DatabasesError::File { path: self.0.dir.join(namespace.as_str()), source })
    }

    /// Checks that the folder can be read.
    ///
    /// # Errors
    /// [`DatabasesError::File`]
    pub fn check(&self) -> Result<(), DatabasesError> {
        let failed = |source| DatabasesError::File { path: self.0.dir.clone(), source };
        fs::read_dir(&self.0.dir).map(drop).map_err(failed)
    }

    /// Interrupts running statements, accepts no more calls, and ends all processes, which close their databases. Blocks for at
    /// most [`CLOSE_PATIENCE`]; a process that cannot be interrupted is then killed.
    pub fn close(&self) {
        let by = Instant::now() + CLOSE_PATIENCE;
        self.0.calls.close();
        self.0.places.close();
        let tenants: Vec<_> = self.0.tenants.read().values().cloned().collect();
        for tenant in &tenants {
            tenant.write_turns.close();
            tenant.read_turns.close();
        }
        let processes: Vec<_> = tenants.iter().flat_map(|tenant| tenant.processes.lock().clone()).collect();
        processes.iter().for_each(|process| process.stop(by));
        for process in processes {
            // Killed at that time, and exits a moment later.
            process.wait_until(by + CLOSE_PATIENCE);
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
        Box::pin(
            async move { shared.run(&namespace, mode, &statements, deadline).await.unwrap_or_else(refused) },
        )
    }
}

impl Shared {
    async fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: &[Statement],
        deadline: Instant,
    ) -> Result<BatchOutcome, ServiceError> {
        let tenant = self.tenant(namespace);
        let access = if mode == BatchMode::Write {
            let max_bytes = self.limits.read().get(namespace).copied().unwrap_or(DB_MAX_BYTES as u64);
            Access::Write { max_bytes }
        } else {
            Access::Read
        };
        // The namespace's turn first, so that calls of a busy namespace wait without a place of the node.
        let turn = self
            .turn(if access.writes() { &tenant.write_turns } else { &tenant.read_turns }, deadline)
            .await?;
        let call = self.turn(&self.calls, deadline).await?;
        let waiting = self.call(&tenant, access, statements, deadline, (turn, call)).await?;
        waiting.outcome(deadline + LATE, &self.backplane).await
    }

    /// Sends a call to the namespace's process; starts the process if there is none.
    async fn call(
        &self,
        tenant: &Arc<Tenant>,
        access: Access,
        statements: &[Statement],
        deadline: Instant,
        mut turns: Turns,
    ) -> Result<Waiting, ServiceError> {
        loop {
            let process = self.process(tenant, deadline).await?;
            match process.call(access, statements, deadline, turns) {
                Ok(waiting) => return Ok(waiting),
                Err(NotSent::Failed(error)) => return Err(error),
                // The process ended meanwhile; the next attempt starts another.
                Err(NotSent::Ended(back)) => turns = back,
            }
        }
    }

    async fn process(&self, tenant: &Arc<Tenant>, deadline: Instant) -> Result<Arc<Process>, ServiceError> {
        if let Some(process) = tenant.serving() {
            return Ok(process);
        }
        if self.places.available_permits() == 0 {
            self.end_longest_idle();
        }
        let place = self.turn(&self.places, deadline).await?;
        let mut processes = tenant.processes.lock();
        if tenant.is_removed.load(Ordering::Acquire) {
            return Err(ServiceError::unavailable("the namespace is being removed"));
        }
        // Another call may have started a process meanwhile.
        if let Some(process) = processes.last().filter(|process| process.is_serving()) {
            return Ok(Arc::clone(process));
        }
        processes.retain(|process| !process.is_gone());
        let start = Start {
            program: self.program.clone(),
            namespace: tenant.namespace.clone(),
            dir: self.dir.clone(),
            idle: self.idle,
            _place: place,
        };
        let process = Process::start(start).map_err(|error| {
            tracing::error!(namespace = %tenant.namespace, %error, "a namespace's SQL process could not be started");
            ServiceError::unavailable("the namespace's SQL process could not be started; try again")
        })?;
        processes.push(Arc::clone(&process));
        Ok(process)
    }

    fn end_longest_idle(&self) {
        let tenants = self.tenants.read();
        let idle = tenants.values().filter_map(|tenant| {
            let process = tenant.serving()?;
            Some((process.idle_since()?, process))
        });
        if let Some((_, process)) = idle.min_by_key(|(since, _)| *since) {
            process.end_if_idle();
        }
    }

    /// Acquires a turn of a namespace, or a place of the node.
    async fn turn(
        &self,
        turns: &Arc<Semaphore>,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, ServiceError> {
        if let Ok(turn) = Arc::clone(turns).try_acquire_owned() {
            return Ok(turn);
        }
        match by(&self.backplane, deadline, Arc::clone(turns).acquire_owned()).await {
            Some(turn) => turn.map_err(|_| stopping()),
            None => {
                Err(ServiceError::unavailable("the database was busy with other calls until the deadline"))
            }
        }
    }

    fn tenant(&self, namespace: &Namespace) -> Arc<Tenant> {
        if let Some(tenant) = self.tenants.read().get(namespace) {
            return Arc::clone(tenant);
        }
        let mut tenants = self.tenants.write();
        Arc::clone(tenants.entry(namespace.clone()).or_insert_with(|| Arc::new(Tenant::new(namespace))))
    }
}

/// Waits for a future until a deadline. Uses the backplane's timers, so it works on any event loop.
async fn by<T>(backplane: &Handle, deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    let sleep = {
        let _backplane = backplane.enter();
        tokio::time::sleep_until(deadline.into())
    };
    tokio::select! {
        biased;
        value = future => Some(value),
        () = sleep => None,
    }
}

/// The outcome of a batch that did not begin, or whose outcome is not known.
fn refused(error: ServiceError) -> BatchOutcome {
    BatchOutcome { failure: Some(BatchFailure { index: None, error }), ..BatchOutcome::default() }
}

fn deadline_exceeded() -> ServiceError {
    ServiceError::new(
        ErrorCode::DeadlineExceeded,
        "the invocation's deadline passed while the database worked",
    )
}

fn stopping() -> ServiceError {
    ServiceError::unavailable("the node is stopping")
}

#[cfg(test)]
pub(in crate::database) mod tests;
