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

/// SQLite's page. The file's limit is in pages.
const PAGE_BYTES: u64 = 4096;

/// The largest database, whatever its namespace may have.
const DB_MAX_PAGES: u64 = DB_MAX_BYTES as u64 / PAGE_BYTES;

/// What the write-ahead log is cut back to when all of it is in the database, in bytes.
const WAL_KEPT_BYTES: i64 = 16 << 20;

/// An open connection.
struct Open {
    connection: Connection,
    guard: Arc<Guard>,
    /// To how many pages it may let the database grow.
    max_pages: u64,
}

/// What nobody uses now.
#[derive(Default)]
struct Idle {
    /// The file is there and was recovered.
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
            // Prepared statements and pages of all connections are what can be given back.
            self.close();
        }
        outcome
    }

    /// Closes what nobody uses now, the writer last: it brings the log into the file.
    pub(super) fn close(&self) {
        let (writer, readers) = {
            let mut idle = self.idle.lock();
            (idle.writer.take(), std::mem::take(&mut idle.readers))
        };
        // Outside the lock, as closing takes its time.
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
        // One in a transaction that could not be ended is of no use.
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

    /// Makes the file where it is missing, and recovers what a crash left.
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

    /// Long queries keep the write-ahead log from being written back: beyond a bound, writes wait for them.
    fn bound_log(&self, writer: &Open) -> Result<(), ServiceError> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let is_large = || fs::metadata(&log).is_ok_and(|file| file.len() > DB_WAL_MAX_BYTES);
        if is_large() {
            // What it could not do shows in the file's size.
            let _ = writer
                .connection
                .busy_timeout(Duration::ZERO)
                .and_then(|()| writer.guard.as_host(&writer.connection, "PRAGMA wal_checkpoint(TRUNCATE)"));
            if is_large() {
                return Err(ServiceError::unavailable(
                    "long queries keep the database's log from being written back; try again when they have ended",
                ));
            }
        }
        Ok(())
    }

    /// Told to the function's author without the file's name, which is the operator's.
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

/// Makes an empty file that only its owner reads; SQLite gives its log the same mode. The name is safe after a crash.
fn create(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(files::FILE_MODE).open(path) {
        Ok(_) => path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
