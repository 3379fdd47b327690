//! The node's own SQLite files: one writer, many readers, whole after a crash.

use super::files;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rusqlite_migration::Migrations;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
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
}

/// One SQLite file of the node.
pub struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
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
        files::private_dir(dir).map_err(|source| SqliteError::Folder { path: dir.to_owned(), source })?;
        let path = dir.join(file);
        let mut writer = Connection::open(&path)?;
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
        migrations
            .to_latest(&mut writer)
            .map_err(|source| SqliteError::Migration { path: path.clone(), source })?;
        Ok(Self { path, writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    /// Runs `work` in the one write transaction; it is committed when `work` succeeds, else nothing happened.
    ///
    /// # Errors
    /// What `work` returns, or SQLite's own.
    pub fn write<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        // A panic in `work` rolled its transaction back, so a poisoned lock hides nothing broken.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Runs `work` on a connection that cannot write. It sees everything committed before.
    ///
    /// # Errors
    /// What `work` returns, or SQLite's own.
    pub fn read<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.open_reader()?,
        };
        let value = work(&reader);
        let mut idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
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
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
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
        let failed: Result<(), rusqlite::Error> = database.write(|t| {
            t.execute("INSERT INTO t VALUES (1)", [])?;
            Err(rusqlite::Error::QueryReturnedNoRows)
        });
        assert!(failed.is_err());
        assert_eq!(count(&database), 0);
        database.write(|t| t.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        assert_eq!(count(&database), 1);
        let refused = database.read(|c| c.execute("DELETE FROM t", []));
        assert!(refused.unwrap_err().to_string().contains("readonly"));
    }

    #[test]
    fn a_checkpoint_empties_the_log_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), "x.db", Durability::Power, &migrations(1)).unwrap();
        database.write(|t| t.execute("INSERT INTO t VALUES (1)", [])).unwrap();
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
