//! The node's own SQLite files: one writer, many readers, whole after a crash.

use super::files;
use super::replica::{self, Applied, Layout, Replica, ReplicaError, Shared};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rusqlite_migration::Migrations;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a statement waits for a lock; only a checkpoint or a backup from outside ever holds one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Read connections kept for later; each holds a file descriptor or three and about 2 MB of cache.
const IDLE_READERS_MAX: usize = 8;

/// Statements kept prepared on a connection; more than one module here ever uses.
const STATEMENTS_MAX: usize = 64;

/// How far a commit must have come before it is acknowledged.
#[derive(Debug, Clone, Copy)]
pub enum Durability {
    /// On the disk: nothing acknowledged is lost when the power fails.
    Power,
    /// With the system: nothing acknowledged is lost when the process dies.
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
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not one that this version can read.
    #[error("{}: cannot bring the file to this version's layout: {source}; a file written by a newer version needs that version", path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// What the migration said.
        source: rusqlite_migration::Error,
    },
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The data are shared with other nodes, and cannot be changed or brought here now.
    #[error(transparent)]
    Shared(#[from] ReplicaError),
}

impl SqliteError {
    /// Why what all nodes share cannot be changed now, where that is the reason.
    #[must_use]
    pub fn unavailable(&self) -> Option<&ReplicaError> {
        match self {
            Self::Shared(error) if error.is_unavailable() => Some(error),
            _ => None,
        }
    }
}

/// One SQLite file of the node: its own, or its copy of what all nodes share.
pub struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    replica: Option<Replica>,
}

impl Database {
    /// Opens or makes `dir/file`, recovers what a crash left, and brings it to the newest layout.
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

    /// Opens or makes `dir/file` as a copy of data that are in rqlite and shared with other nodes. Waits for rqlite, for a
    /// moment where there is a copy already, and for longer where there is none.
    ///
    /// # Errors
    /// [`SqliteError`], which names the file or the key of the config.
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

    /// Whether other nodes change these data too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.replica.is_some()
    }

    /// Sets who is told when changes of other nodes were applied, after they can be read; the first call counts. It must
    /// not write here. Where the file is the node's own, there are none.
    pub fn on_applied(&self, callback: impl Fn(&Applied) + Send + Sync + 'static) {
        if let Some(replica) = &self.replica {
            replica.on_applied(Box::new(callback));
        }
    }

    /// Runs `work` in the one write transaction; it is committed when `work` succeeds, else nothing happened. Where the
    /// data are shared, it runs again when another node changed them meanwhile, and takes a round trip and more.
    ///
    /// # Errors
    /// What `work` returns, SQLite's own, or [`SqliteError::Shared`]: then nothing happened either, unless it says that this
    /// is not known.
    pub fn write<T, E: From<SqliteError>>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(replica) = &self.replica {
            return replica.write(&self.writer, work);
        }
        // A panic in `work` rolls its transaction back.
        let mut writer = self.writer.lock();
        let transaction =
            writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(SqliteError::from)?;
        let value = work(&transaction)?;
        transaction.commit().map_err(SqliteError::from)?;
        Ok(value)
    }

    /// Brings a replica to the end of the log, so that [`Self::read`] sees every change that any node acknowledged before
    /// this call. A file that is the node's own always does. Blocks, for a few seconds at most.
    ///
    /// # Errors
    /// [`SqliteError::Shared`] where the end of the log cannot be reached now.
    pub fn catch_up(&self) -> Result<(), SqliteError> {
        match &self.replica {
            Some(replica) => Ok(replica.catch_up_now(&self.writer)?),
            None => Ok(()),
        }
    }

    /// [`Self::write`] for statements alone.
    #[cfg(test)]
    pub(crate) fn change<T>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, SqliteError> {
        self.write(|t| Ok(work(t)?))
    }

    /// Runs `work` on a connection that cannot write. It sees everything committed before.
    ///
    /// # Errors
    /// What `work` returns, or SQLite's own.
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

    /// Brings what was committed from the log into the file and empties the log, which the next start would have to
    /// read. Writers wait meanwhile, some 10 ms for a full log of 4 MB; a reader at work leaves the rest for the next time.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn checkpoint(&self) -> Result<(), SqliteError> {
        let writer = self.writer.lock();
        Ok(writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Whether the file can be read now.
    ///
    /// # Errors
    /// SQLite's own.
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
