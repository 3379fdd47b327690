//! The databases of namespaces: embedded, or on rqlite servers of the namespace's own.

use crate::breaker::Breaker;
use crate::rqlite::RqliteError;
use crate::settings::{Backends, NamespaceDatabase};
use orama_runtime::child::Program;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Answer, BatchMode, BatchOutcome, Database, ServiceError, Statement};
use rqlite::RqliteDatabase;
use sqlite::SqliteDatabases;
use std::collections::HashMap;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;

mod batch_check;
mod policy;
pub mod read_cache;
mod rows;
pub mod rqlite;
pub mod script;
pub mod sqlite;

/// A failure of a database outside of a guest's call.
#[derive(Debug, thiserror::Error)]
pub enum DatabasesError {
    /// The disk.
    #[error("databases: {}: {source}", path.display())]
    File {
        /// The folder, or a namespace's file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The rqlite servers of a namespace.
    #[error("the database of the namespace {namespace}: {source}")]
    Remote {
        /// The namespace.
        namespace: Namespace,
        /// The error.
        source: RqliteError,
    },
}

impl DatabasesError {
    fn remote(namespace: &Namespace, source: &RqliteError) -> Self {
        Self::Remote { namespace: namespace.clone(), source: source.clone() }
    }
}

/// The databases of all namespaces. Clones share them.
#[derive(Clone)]
pub struct Databases(Arc<Shared>);

struct Shared {
    files: SqliteDatabases,
    /// Databases named in the configuration; `None` is an embedded one.
    named: HashMap<Namespace, Option<RqliteDatabase>>,
    /// Whether a namespace that is not named has no database.
    must_be_named: bool,
}

impl Databases {
    /// Opens the folder of embedded databases. Servers are connected on first use. SQL processes are started from `program`.
    ///
    /// # Errors
    /// [`DatabasesError`]
    pub fn open(
        dir: &Path,
        backends: &Backends,
        backplane: &Handle,
        program: Program,
    ) -> Result<Self, DatabasesError> {
        let files = SqliteDatabases::open(dir, backplane.clone(), program)?;
        let named = backends.namespaces.iter().map(|(namespace, at)| {
            let remote = match at {
                NamespaceDatabase::Sqlite => None,
                NamespaceDatabase::Rqlite(at) => Some(RqliteDatabase::new(namespace, at, backplane.clone())?),
            };
            Ok((namespace.clone(), remote))
        });
        let named = named.collect::<Result<_, DatabasesError>>()?;
        Ok(Self(Arc::new(Shared { files, named, must_be_named: backends.databases_are_mapped() })))
    }

    /// Takes over the sizes that databases in files may have, in bytes; what is not named may have the most that there is.
    /// Servers have bounds of their own. Blocks.
    ///
    /// # Errors
    /// What `read` returns; then everything stays as it was.
    pub fn read_limits<E>(&self, read: impl FnOnce() -> Result<HashMap<Namespace, u64>, E>) -> Result<(), E> {
        self.0.files.read_limits(read)
    }

    /// Whether other nodes may use one of these databases too.
    #[must_use]
    pub fn may_be_shared(&self) -> bool {
        self.0.named.values().any(Option::is_some)
    }

    /// The size of a namespace's database, in bytes; none where it is on servers, or where there cannot be one. Blocks.
    ///
    /// # Errors
    /// [`DatabasesError::File`]
    pub fn used_bytes(&self, namespace: &Namespace) -> Result<Option<u64>, DatabasesError> {
        let is_file = match self.0.named.get(namespace) {
            Some(named) => named.is_none(),
            None => !self.0.must_be_named,
        };
        is_file.then(|| self.0.files.used_bytes(namespace)).transpose()
    }

    /// Deletes a namespace's data. The next call finds an empty database. Blocks. Idempotent.
    ///
    /// # Errors
    /// [`DatabasesError`]; some data may remain.
    pub fn remove(&self, namespace: &Namespace) -> Result<(), DatabasesError> {
        if let Some(Some(remote)) = self.0.named.get(namespace) {
            remote.remove()?;
        }
        // An embedded database from before the namespace had servers, or from after.
        self.0.files.remove(namespace)
    }

    /// Checks that the folder can be read. [`Self::breakers`] gives access to the servers.
    ///
    /// # Errors
    /// [`DatabasesError::File`]
    pub fn check(&self) -> Result<(), DatabasesError> {
        self.0.files.check()
    }

    /// The circuit breakers of all servers.
    #[must_use]
    pub fn breakers(&self) -> Vec<Breaker> {
        self.remote().map(|remote| remote.breaker().clone()).collect()
    }

    /// Ends running calls, accepts no more, and closes all files. Blocks.
    pub fn close(&self) {
        self.remote().for_each(RqliteDatabase::close);
        self.0.files.close();
    }

    fn remote(&self) -> impl Iterator<Item = &RqliteDatabase> {
        self.0.named.values().flatten()
    }
}

impl Database for Databases {
    fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome> {
        match self.0.named.get(namespace) {
            Some(Some(remote)) => remote.run(mode, statements, deadline),
            None if self.0.must_be_named => {
                let error = ServiceError::unavailable(format!(
                    "the namespace {namespace} has no database; the operator must configure one in database.namespaces.{namespace}"
                ));
                Box::pin(ready(BatchOutcome { failure: Some(error.into()), ..BatchOutcome::default() }))
            }
            Some(None) | None => self.0.files.run(namespace, mode, statements, deadline),
        }
    }
}
