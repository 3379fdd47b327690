//! The node's own SQLite files: one writer, many readers, recovered after a crash.

use super::files;
use super::replica::{self, Applied, Layout, Replica, ReplicaError, Shared};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rusqlite_migration::Migrations;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a statement waits for a lock. Only a checkpoint or a backup by another program holds one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle read connections that are kept; each has up to three file descriptors and about 2 MB of cache.
const IDLE_READERS_MAX: usize = 8;

/// Prepared statements cached on a connection: more than any file here uses.
const STATEMENTS_MAX: usize = 64;

/// The durability of acknowledged commits.
#[derive(Debug, Clone, Copy)]
pub enum Durability {
    /// Synced to disk: survives a power failure.
    Power,
    /// Written to the operating system: survives the end of the process.
    Process,
}

/// Why one of the node's files failed.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// The folder cannot be used.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// This version cannot read the file.
    #[error("{}: cannot migrate the file: {source}; if a newer version has written it, use that version", path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// The error of the migration.
        source: rusqlite_migration::Error,
    },
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The data are shared with other nodes and cannot be changed, or not read, now.
    #[error(transparent)]
    Shared(#[from] ReplicaError),
}

impl SqliteError {
    /// The replica's error, if that is the reason.
    #[must_use]
    pub fn unavailable(&self) -> Option<&ReplicaError> {
        match self {
            Self::Shared(error) if error.is_unavailable() => Some(error),
            _ => None,
        }
    }
}

/// One SQLite file of the node: its own, or its replica of shared data.
pub struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    replica: Option<Replica>,
}

impl Database {
    /// Opens or creates `dir/file`, recovers it after a crash, and migrates it to the current layout.
    ///
    /// # Errors
    /// [`SqliteError`], which names the file.
    pub fn open(
        dir: &Path,
        file: &str,
        durability: Durability,
        migrations: &Migrations<'_>,
    ) -> Result<Self, SqliteError> {
        let path = dir.join(file);
        let mut writer = Self::open_writer(dir, &path, durability)?;
        migrations
            .to_latest(&mut writer)
            .map_err(|source| SqliteError::Migration { path: path.clone(), source })?;
        Ok(Self { path, writer: Mutex::new(writer), readers: Mutex::new(Vec::new()), replica: None })
    }

    /// Opens or creates `dir/file` as a replica of data in rqlite that nodes share. Waits for rqlite: briefly if there is a
    /// replica already, longer if there is none.
    ///
    /// # Errors
    /// [`SqliteError`], which names the file or the config key.
    pub fn open_shared(
        dir: &Path,
        file: &str,
        layout: Layout,
        shared: Shared,
    ) -> Result<Arc<Self>, SqliteError> {
        replica::open(dir, file, layout, shared)
    }

    pub(super) fn shared(path: PathBuf, writer: Connection, replica: Replica) -> Self {
        Self { path, writer: Mutex::new(writer), readers: Mutex::new(Vec::new()), replica: Some(replica) }
    }

    pub(super) fn open_writer(
        dir: &Path,
        path: &Path,
        durability: Durability,
    ) -> Result<Connection, SqliteError> {
        files::private_dir(dir).map_err(|source| SqliteError::Folder { path: dir.to_owned(), source })?;
        let writer = Connection::open(path)?;
        writer.busy_timeout(BUSY_TIMEOUT)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(
            None,
            "synchronous",
            match durability {
                Durability::Power => "FULL",
                Durability::Process => "NORMAL",
            },
        )?;
        writer.pragma_update(None, "foreign_keys", true)?;
        writer.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(writer)
    }

    pub(super) fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    pub(super) fn writer(&self) -> &Mutex<Connection> {
        &self.writer
    }

    /// Whether the data are shared with other nodes.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.replica.is_some()
    }

    /// Sets a listener that is called after changes of other nodes were applied and can be read. Only the first call has an
    /// effect. The listener must not write to this database. It is never called for the node's own file.
    pub fn on_applied(&self, callback: impl Fn(&Applied) + Send + Sync + 'static) {
        if let Some(replica) = &self.replica {
            replica.on_applied(Box::new(callback));
        }
    }

    /// Runs `work` in the write transaction, which is committed if `work` succeeds and rolled back otherwise. If the data are
    /// shared, `work` runs again when another node was first, and the call takes at least a round trip.
    ///
    /// # Errors
    /// The error of `work`, SQLite's error, or [`SqliteError::Shared`]. Nothing was changed, unless the error says that this is
    /// not known.
    pub fn write<T, E: From<SqliteError>>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(replica) = &self.replica {
            return replica.write(&self.writer, work);
        }
        // A panic in `work` rolls back.
        let mut writer = self.writer.lock();
        let transaction =
            writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(SqliteError::from)?;
        let value = work(&transaction)?;
        transaction.commit().map_err(SqliteError::from)?;
        Ok(value)
    }

    /// Catches a replica up with the end of the log: [`Self::read`] then sees every change that any node acknowledged before this
    /// call. The node's own file is always up to date. Blocks for a few seconds at most.
    ///
    /// # Errors
    /// [`SqliteError::Shared`] if the end of the log cannot be reached.
    pub fn catch_up(&self) -> Result<(), SqliteError> {
        match &self.replica {
            Some(replica) => Ok(replica.catch_up_now(&self.writer)?),
            None => Ok(()),
        }
    }

    /// [`Self::write`] for work that fails only with SQLite's errors.
    #[cfg(test)]
    pub(crate) fn change<T>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, SqliteError> {
        self.write(|t| Ok(work(t)?))
    }

    /// Runs `work` on a connection that cannot write. It sees all earlier commits.
    ///
    /// # Errors
    /// The error of `work`, or SQLite's error.
    pub fn read<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.readers.lock().pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.open_reader()?,
        };
        let value = work(&reader);
        let mut idle = self.readers.lock();
        if idle.len() < IDLE_READERS_MAX {
            idle.push(reader);
        }
        value
    }

    fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags)?;
        reader.busy_timeout(BUSY_TIMEOUT)?;
        reader.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(reader)
    }

    /// Checkpoints and truncates the write-ahead log, so that the next start need not read it. Writers wait meanwhile, some 10 ms
    /// for a full log of 4 MB. A concurrent reader leaves a part for the next checkpoint.
    ///
    /// # Errors
    /// SQLite's error.
    pub fn checkpoint(&self) -> Result<(), SqliteError> {
        let writer = self.writer.lock();
        Ok(writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Checks that the file can be read.
    ///
    /// # Errors
    /// SQLite's error.
    pub fn check(&self) -> Result<(), SqliteError> {
        self.read(|reader| Ok(reader.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite_migration::M;

    fn migrations(n: usize) -> Migrations<'static> {
        let steps = ["CREATE TABLE t (x INTEGER) STRICT;", "CREATE TABLE u (x INTEGER) STRICT;"];
        Migrations::new(steps.into_iter().take(n).map(M::up).collect())
    }

    fn count(database: &Database) -> i64 {
        database
            .read::<_, rusqlite::Error>(|c| c.query_row("SELECT count(*) FROM t", [], |r| r.get(0)))
            .unwrap()
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), "x.db", Durability::Power, &migrations(1)).unwrap();
        let failed: Result<(), SqliteError> = database.write(|t| {
            t.execute("INSERT INTO t VALUES (1)", [])?;
            Err(rusqlite::Error::QueryReturnedNoRows.into())
        });
        assert!(failed.is_err());
        assert_eq!(count(&database), 0);
        database.change(|t| t.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        assert_eq!(count(&database), 1);
        let refused = database.read(|c| c.execute("DELETE FROM t", []));
        assert!(refused.unwrap_err().to_string().contains("readonly"));
    }

    #[test]
    fn a_checkpoint_empties_the_log_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), "x.db", Durability::Power, &migrations(1)).unwrap();
        database.change(|t| t.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        let log = dir.path().join("x.db-wal");
        assert!(log.metadata().unwrap().len() > 0);
        database.checkpoint().unwrap();
        assert_eq!((log.metadata().unwrap().len(), count(&database)), (0, 1));
    }

    #[test]
    fn a_newer_files_layout_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        drop(Database::open(dir.path(), "x.db", Durability::Power, &migrations(2)).unwrap());
        let error = Database::open(dir.path(), "x.db", Durability::Power, &migrations(1)).err().unwrap();
        let message = error.to_string();
        assert!(message.contains("x.db") && message.contains("newer version"), "{message}");
    }
}
