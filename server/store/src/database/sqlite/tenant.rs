//! One namespace's file and its connections.

use super::batch::Batch;
use super::guard::Guard;
use super::watch::Watch;
use crate::files;
use crate::limits::{DB_MAX_BYTES, DB_READERS_MAX, DB_WAL_MAX_BYTES};
use orama_runtime::names::Namespace;
use orama_runtime::services::{BatchFailure, BatchOutcome, ErrorCode, ServiceError, Statement};
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// SQLite's page. The file's limit is in pages.
const PAGE_BYTES: i64 = 4096;

/// What the write-ahead log is cut back to when all of it is in the database, in bytes.
const WAL_KEPT_BYTES: i64 = 16 << 20;

/// An open connection, counted.
pub(super) struct Open {
    connection: Connection,
    guard: Arc<Guard>,
    count: Arc<AtomicUsize>,
    /// How often the namespace had been removed when it was opened.
    removals: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What nobody uses now.
#[derive(Default)]
struct Idle {
    /// The file is there and was recovered.
    is_made: bool,
    writer: Option<Open>,
    readers: Vec<Open>,
    used_at: Option<Instant>,
}

/// One namespace's database.
pub(super) struct Tenant {
    path: PathBuf,
    /// One at a time writes.
    pub(super) write_turns: Arc<Semaphore>,
    /// [`DB_READERS_MAX`] at a time read.
    pub(super) read_turns: Arc<Semaphore>,
    /// How often the namespace was removed.
    pub(super) removals: Arc<AtomicU64>,
    idle: Mutex<Idle>,
    /// Open connections of all namespaces.
    count: Arc<AtomicUsize>,
}

impl Tenant {
    pub(super) fn new(dir: &Path, namespace: &Namespace, count: &Arc<AtomicUsize>) -> Self {
        Self {
            path: dir.join(format!("{namespace}.db")),
            write_turns: Arc::new(Semaphore::new(1)),
            read_turns: Arc::new(Semaphore::new(DB_READERS_MAX)),
            removals: Arc::default(),
            idle: Mutex::default(),
            count: Arc::clone(count),
        }
    }

    /// Runs a batch; the caller has a turn to write or to read. Blocks.
    pub(super) fn run(&self, writes: bool, statements: &[Statement], watch: &Arc<Watch>) -> BatchOutcome {
        let taken = watch.check().and_then(|()| if writes { self.writer() } else { self.reader() });
        let open = match taken {
            Ok(open) => open,
            Err(error) => return refused(error),
        };
        let outcome = Batch { connection: &open.connection, guard: &open.guard, watch }.run(statements);
        self.give_back(open, writes);
        outcome
    }

    /// When the namespace was last used, if it has connections that can be closed.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        // One that makes its file is in use. It may take long, and others do not wait for it.
        let idle = self.idle.try_lock().ok()?;
        if idle.writer.is_none() && idle.readers.is_empty() { None } else { idle.used_at }
    }

    /// Closes what nobody uses now. The writer stays while somebody reads: only it can write the log back, when it goes last.
    pub(super) fn close_idle(&self) {
        let are_back = self.read_turns.available_permits() == DB_READERS_MAX;
        self.close(are_back);
    }

    fn close(&self, with_writer: bool) {
        let (writer, readers) = {
            let mut idle = self.lock();
            (if with_writer { idle.writer.take() } else { None }, std::mem::take(&mut idle.readers))
        };
        // Outside the lock, as closing takes its time.
        drop(readers);
        drop(writer);
    }

    /// Deletes the files. The caller has all turns, or those who have them were told to end.
    pub(super) fn delete(&self) -> io::Result<()> {
        self.close(true);
        let mut idle = self.lock();
        idle.is_made = false;
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    /// Sets the idle writer another limit, in pages.
    #[cfg(test)]
    pub(super) fn bound_pages_for_test(&self, pages: i64) {
        let idle = self.lock();
        let writer = idle.writer.as_ref().unwrap();
        writer.guard.as_host(&writer.connection, &format!("PRAGMA max_page_count = {pages}")).unwrap();
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Nothing that can panic leaves it half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> Result<Open, ServiceError> {
        let idle = {
            let mut idle = self.lock();
            self.make(&mut idle)?;
            idle.writer.take()
        };
        let writer = idle.map_or_else(|| self.open_writer().map_err(|e| self.failed(&e)), Ok)?;
        self.bound_log(&writer)?;
        Ok(writer)
    }

    fn reader(&self) -> Result<Open, ServiceError> {
        let idle = {
            let mut idle = self.lock();
            self.make(&mut idle)?;
            idle.readers.pop()
        };
        idle.map_or_else(|| self.open_reader().map_err(|e| self.failed(&e)), Ok)
    }

    fn give_back(&self, open: Open, writes: bool) {
        // One in a transaction that could not be ended is of no use, nor one whose file is gone.
        let is_whole = open.connection.is_autocommit();
        let mut idle = self.lock();
        if !is_whole || open.removals != self.removals.load(Ordering::Acquire) || self.write_turns.is_closed()
        {
            drop(idle);
            return drop(open);
        }
        idle.used_at = Some(Instant::now());
        if writes {
            idle.writer = Some(open);
        } else {
            idle.readers.push(open);
        }
    }

    /// Makes the file where it is missing, and recovers what a crash left.
    fn make(&self, idle: &mut Idle) -> Result<(), ServiceError> {
        if idle.is_made {
            return Ok(());
        }
        create(&self.path).map_err(|error| self.failed(&error))?;
        idle.writer = Some(self.open_writer().map_err(|error| self.failed(&error))?);
        idle.is_made = true;
        Ok(())
    }

    fn open_writer(&self) -> rusqlite::Result<Open> {
        self.open(OpenFlags::SQLITE_OPEN_READ_WRITE, |connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
            connection.pragma_update(None, "max_page_count", DB_MAX_BYTES as i64 / PAGE_BYTES)
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
        let removals = self.removals.load(Ordering::Acquire);
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        prepare(&connection)?;
        let guard = Guard::install(&connection)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(Open { connection, guard, count: Arc::clone(&self.count), removals })
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
    fn failed(&self, error: &dyn std::error::Error) -> ServiceError {
        tracing::error!(%error, path = %self.path.display(), "a namespace's database could not be opened");
        ServiceError::new(ErrorCode::Internal, "the database could not be opened")
    }
}

/// A batch that did not begin.
pub(super) fn refused(error: ServiceError) -> BatchOutcome {
    BatchOutcome { failure: Some(BatchFailure { index: None, error }), ..BatchOutcome::default() }
}

/// Makes an empty file that only its owner reads; SQLite gives its log the same mode. The name is safe after a crash.
fn create(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(files::FILE_MODE).open(path) {
        Ok(_) => path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
