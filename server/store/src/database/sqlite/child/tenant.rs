//! The namespace's file and its connections.

use super::batch::Batch;
use super::guard::Guard;
use super::watch::Watch;
use crate::database::sqlite::refused;
use crate::database::sqlite::wire::Access;
use crate::files;
use crate::limits::{DB_MAX_BYTES, DB_WAL_MAX_BYTES};
use orama_runtime::services::{BatchOutcome, ErrorCode, ServiceError, Statement};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Size of a SQLite page, in bytes. The limit of the file is set in pages.
const PAGE_BYTES: u64 = 4096;

/// The largest database, whatever its namespace may have.
const DB_MAX_PAGES: u64 = DB_MAX_BYTES as u64 / PAGE_BYTES;

/// Size to which the write-ahead log is truncated after a checkpoint, in bytes.
const WAL_KEPT_BYTES: i64 = 16 << 20;

/// An open connection.
struct Open {
    connection: Connection,
    guard: Arc<Guard>,
    /// To how many pages it may let the database grow.
    max_pages: u64,
}

/// Idle connections.
#[derive(Default)]
struct Idle {
    /// Whether the file exists and was recovered.
    is_made: bool,
    writer: Option<Open>,
    readers: Vec<Open>,
}

/// The namespace's database. The node lets one call write and [`crate::limits::DB_READERS_MAX`] read at once.
pub(super) struct Tenant {
    path: PathBuf,
    idle: Mutex<Idle>,
}

impl Tenant {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default() }
    }

    /// Runs a batch. Blocks.
    pub(super) fn run(&self, access: Access, statements: &[Statement], watch: &Arc<Watch>) -> BatchOutcome {
        let taken = watch.check().and_then(|()| match access {
            Access::Write { max_bytes } => self.writer(max_bytes, watch),
            Access::Read => self.reader(watch),
        });
        let open = match taken {
            Ok(open) => open,
            Err(error) => return refused(error),
        };
        let max_bytes = open.max_pages * PAGE_BYTES;
        let batch = Batch { connection: &open.connection, guard: &open.guard, watch, max_bytes };
        let outcome = batch.run(statements);
        self.give_back(open, access.writes());
        if watch.was_out_of_memory() {
            // Closing frees the prepared statements and pages of idle connections.
            self.close();
        }
        outcome
    }

    /// Closes idle connections, the writer last: it checkpoints the log.
    pub(super) fn close(&self) {
        let (writer, readers) = {
            let mut idle = self.idle.lock();
            (idle.writer.take(), std::mem::take(&mut idle.readers))
        };
        // Outside the lock, because closing takes time.
        drop(readers);
        drop(writer);
    }

    fn writer(&self, max_bytes: u64, watch: &Watch) -> Result<Open, ServiceError> {
        let idle = {
            let mut idle = self.idle.lock();
            self.make(&mut idle, watch)?;
            idle.writer.take()
        };
        let mut writer = idle.map_or_else(|| self.open_writer().map_err(|e| self.failed(&e, watch)), Ok)?;
        bound_size(&mut writer, max_bytes).map_err(|error| self.failed(&error, watch))?;
        self.bound_log(&writer)?;
        Ok(writer)
    }

    fn reader(&self, watch: &Watch) -> Result<Open, ServiceError> {
        let idle = {
            let mut idle = self.idle.lock();
            self.make(&mut idle, watch)?;
            idle.readers.pop()
        };
        idle.map_or_else(|| self.open_reader().map_err(|e| self.failed(&e, watch)), Ok)
    }

    fn give_back(&self, open: Open, writes: bool) {
        // A connection whose rollback failed cannot be used again.
        if !open.connection.is_autocommit() {
            return;
        }
        let mut idle = self.idle.lock();
        if writes {
            idle.writer = Some(open);
        } else {
            idle.readers.push(open);
        }
    }

    /// Creates the file if it is missing, and recovers it after a crash.
    fn make(&self, idle: &mut Idle, watch: &Watch) -> Result<(), ServiceError> {
        if idle.is_made {
            return Ok(());
        }
        create(&self.path).map_err(|error| self.failed(&error, watch))?;
        idle.writer = Some(self.open_writer().map_err(|error| self.failed(&error, watch))?);
        idle.is_made = true;
        Ok(())
    }

    fn open_writer(&self) -> rusqlite::Result<Open> {
        self.open(OpenFlags::SQLITE_OPEN_READ_WRITE, |connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
            connection.pragma_update(None, "max_page_count", DB_MAX_PAGES as i64)
        })
    }

    fn open_reader(&self) -> rusqlite::Result<Open> {
        self.open(OpenFlags::SQLITE_OPEN_READ_ONLY, |_| Ok(()))
    }

    fn open(
        &self,
        flags: OpenFlags,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<Open> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        prepare(&connection)?;
        let guard = Guard::install(&connection)?;
        Ok(Open { connection, guard, max_pages: DB_MAX_PAGES })
    }

    /// Long queries prevent checkpoints of the write-ahead log. Above a bound, writes are refused.
    fn bound_log(&self, writer: &Open) -> Result<(), ServiceError> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let is_large = || fs::metadata(&log).is_ok_and(|file| file.len() > DB_WAL_MAX_BYTES);
        if is_large() {
            // The size of the file shows whether it succeeded.
            let _ = writer
                .connection
                .busy_timeout(Duration::ZERO)
                .and_then(|()| writer.guard.as_host(&writer.connection, "PRAGMA wal_checkpoint(TRUNCATE)"));
            if is_large() {
                return Err(ServiceError::unavailable(
                    "long queries prevent a checkpoint of the database's log; try again when they have ended",
                ));
            }
        }
        Ok(())
    }

    /// The guest's error, without the file's name, which only the operator may see.
    fn failed(&self, error: &dyn std::error::Error, watch: &Watch) -> ServiceError {
        watch.note(format!("{} could not be opened: {error}", self.path.display()));
        ServiceError::new(ErrorCode::Internal, "the database could not be opened")
    }
}

/// Lets a database grow to what its namespace may have now. One that is larger already stays as it is.
fn bound_size(writer: &mut Open, max_bytes: u64) -> rusqlite::Result<()> {
    let pages = (max_bytes / PAGE_BYTES).clamp(1, DB_MAX_PAGES);
    if pages != writer.max_pages {
        writer.guard.as_host(&writer.connection, &format!("PRAGMA max_page_count = {pages}"))?;
        writer.max_pages = pages;
    }
    Ok(())
}

/// Creates an empty file that only its owner can read; SQLite gives its log the same mode. Syncs the folder.
fn create(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(files::FILE_MODE).open(path) {
        Ok(_) => path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
