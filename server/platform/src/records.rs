//! Invocation records: a queue that cores fill, a thread that writes batches, and the queries behind a function's logs.
//!
//! A record reaches the file within about 20 ms of [`Records::submit`]; a killed process loses what has not. Records that do
//! not fit in the queue are dropped and counted; invocations never wait.

use crate::limits::{RECORDS_QUEUE_MAX, RECORDS_QUEUE_MAX_BYTES, STATS_TOLD_MAX};
use orama_runtime::invocation::{LogMessage, Status};
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::phases::Phases;
use orama_store::sqlite::{Database, Durability, SqliteError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;
use tally::Tally;

mod extras;
mod follow;
mod histogram;
mod layout;
mod minutes;
mod retention;
mod stats;
mod store;
mod tally;
mod wide;
mod writer;

pub use extras::Extras;
pub use follow::{ALONE, Cursor, Part};
pub use histogram::Histogram;
pub use retention::Retention;
pub use stats::{CALLER_ENDED, CLIENT_GONE, NODE_STOPPED, Stats};
pub use tally::{Note, Total, What};
pub use wide::{Place, WideFilter, place};

/// The file's name in the data folder.
const FILE: &str = "records.db";

/// The function to which a record belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Function {
    /// The tenant.
    pub namespace: Namespace,
    /// The function's name.
    pub name: FunctionName,
}

/// A request's id, stored inline. A UUID fits; a longer text is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    text: [u8; Self::MAX_BYTES],
    len: u8,
}

impl RequestId {
    /// Bytes of a UUID's text.
    const MAX_BYTES: usize = 36;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.get(..self.len.into()).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        let mut text = [0; Self::MAX_BYTES];
        let len = id.floor_char_boundary(Self::MAX_BYTES);
        for (to, from) in text.iter_mut().zip(&id.as_bytes()[..len]) {
            *to = *from;
        }
        Self { text, len: len as u8 }
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The record of one invocation that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// As in the response's `X-Request-ID`.
    pub request_id: RequestId,
    /// The function.
    pub function: Arc<Function>,
    /// The version that ran.
    pub version: u32,
    /// What caused it; one of [`TRIGGER_TYPES`].
    pub trigger_type: &'static str,
    /// The attempt, counted from 1. Retries keep the request id.
    pub attempt: u32,
    /// How it ended.
    pub status: Status,
    /// Duration in microseconds.
    pub duration_us: u64,
    /// Bytes of standard input.
    pub input_size: u64,
    /// Bytes of standard output.
    pub output_size: u64,
    /// The error message of a failure.
    pub error: Option<String>,
    /// Start, in milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// Its log messages, in order.
    pub messages: Vec<LogMessage>,
    /// The code of a failure, as in an error's answer; empty for a success.
    pub error_code: &'static str,
    /// The status of an answer that the function shaped; 0 for any other.
    pub http_status: u16,
    /// Where its time went.
    pub phases: Phases,
    /// Bytes of its linear memory at its end.
    pub memory_bytes: u64,
    /// Who asked for it: the subject of a token, or else the id of a key.
    pub caller: Option<Arc<str>>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The trace that it belongs to; 0 for none.
    pub trace_id: u128,
    /// The id that the client gave its request.
    pub client_request_id: Option<Box<str>>,
}

/// The possible causes of an invocation. An unknown cause is read back as `other`.
pub const TRIGGER_TYPES: [&str; 5] = ["http", "websocket", "pubsub", "function", "cron"];

impl Record {
    /// Whether it belongs to a request of this id, which the node or the client gave it.
    #[must_use]
    pub fn has_id(&self, id: &str) -> bool {
        self.request_id.as_str() == id || self.client_request_id.as_deref() == Some(id)
    }

    /// Approximate memory of the record in the queue, in bytes.
    fn cost_bytes(&self) -> usize {
        size_of::<Self>()
            + self.error.as_ref().map_or(0, String::len)
            + self.client_request_id.as_ref().map_or(0, |id| id.len())
            + self.messages.iter().map(|m| size_of::<LogMessage>() + m.message.len()).sum::<usize>()
    }
}

/// A filter over the records of one function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// At most this many; the newest are returned.
    pub limit: u32,
    /// Only records that started at this time or later, in milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Only this status.
    pub status: Option<Status>,
    /// Only this request, by the node's id or the client's.
    pub request_id: Option<String>,
    /// Only this version.
    pub version: Option<u32>,
    /// Without the messages, which are most of a record.
    pub is_brief: bool,
}

/// A failure of the record store.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The file cannot be opened or read.
    #[error("records: {0}")]
    Sqlite(#[from] SqliteError),
    /// The writer's thread cannot be started.
    #[error("records: cannot start the writer: {0}")]
    Thread(#[source] std::io::Error),
    /// A row has content that no version of the node writes.
    #[error("records: a stored record is damaged")]
    Damaged,
    /// More versions than [`STATS_TOLD_MAX`] have statistics of the time that was asked for.
    #[error(
        "more than {STATS_TOLD_MAX} versions ran since then; ask for a later `since`, or for one function"
    )]
    TooManyVersions,
}

impl From<rusqlite::Error> for RecordsError {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e.into())
    }
}

/// A command for the writer.
enum Job {
    Write(Vec<Record>),
    Note(Vec<Note>),
    Flush(SyncSender<()>),
    /// The same, and the statistics of the minute that goes on.
    Close(SyncSender<()>),
}

/// Counters shared with the writer.
#[derive(Default)]
struct Counters {
    /// Bytes waiting in the queue.
    waiting_bytes: AtomicUsize,
    /// Records dropped since the start.
    dropped: AtomicU64,
    /// Records committed since the start.
    written: AtomicU64,
}

struct Inner {
    database: Arc<Database>,
    counters: Arc<Counters>,
    tally: Arc<Mutex<Tally>>,
    /// Dropped with the last clone, which tells the writer to finish.
    jobs: Option<SyncSender<Job>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    veil: follow::Veil,
}

/// The records of a node. Clones share them. Dropping the last clone writes what is still queued.
#[derive(Clone)]
pub struct Records {
    inner: Arc<Inner>,
}

impl Records {
    /// Opens the records of a data folder and starts their writer.
    ///
    /// # Errors
    /// [`RecordsError`]
    pub fn open(dir: &Path) -> Result<Self, RecordsError> {
        Self::open_with(dir, Retention::default())
    }

    /// [`Self::open`] with another retention.
    ///
    /// # Errors
    /// [`RecordsError`]
    pub fn open_with(dir: &Path, retention: Retention) -> Result<Self, RecordsError> {
        let database = Arc::new(Database::open(dir, FILE, Durability::Process, &layout::migrations())?);
        let counters = Arc::new(Counters::default());
        let (jobs, queue) = mpsc::sync_channel(RECORDS_QUEUE_MAX);
        let tally = Arc::<Mutex<Tally>>::default();
        let shared = (Arc::clone(&counters), Arc::clone(&tally));
        let writer = writer::Writer::new(Arc::clone(&database), shared, retention)?;
        let writer = std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(RecordsError::Thread)?;
        let writer = Mutex::new(Some(writer));
        let veil = follow::Veil::new();
        let inner = Inner { database, counters, tally, jobs: Some(jobs), writer, veil };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Queues records. Never blocks: records that do not fit in the queue are dropped and counted.
    pub fn submit(&self, batch: Vec<Record>) {
        let cost: usize = batch.iter().map(Record::cost_bytes).sum();
        let counters = &self.inner.counters;
        let before = counters.waiting_bytes.fetch_add(cost, Ordering::Relaxed);
        let records = batch.len() as u64;
        let fits = before.saturating_add(cost) <= RECORDS_QUEUE_MAX_BYTES;
        let sent =
            fits && self.inner.jobs.as_ref().is_some_and(|jobs| jobs.try_send(Job::Write(batch)).is_ok());
        if !sent {
            counters.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
            counters.dropped.fetch_add(records, Ordering::Relaxed);
        }
    }

    /// Queues what else happened to functions. Never blocks: what does not fit in the queue is lost.
    pub fn note(&self, notes: Vec<Note>) {
        // Counts of refusals are the least to lose where the node has too much to do.
        let _lost = self.inner.jobs.as_ref().map(|jobs| jobs.try_send(Job::Note(notes)));
    }

    /// The statistics of a namespace's functions, or of one, by name and version: of the minutes and hours that end after
    /// `since_s`, in seconds since the Unix epoch. Blocks.
    ///
    /// # Errors
    /// [`RecordsError`]
    pub fn stats(
        &self,
        namespace: &Namespace,
        name: Option<&FunctionName>,
        since_s: i64,
    ) -> Result<BTreeMap<(FunctionName, u32), Stats>, RecordsError> {
        let mut found: BTreeMap<_, Stats> = BTreeMap::new();
        let mut is_over = false;
        let mut add = |function: Arc<Function>, version, stats: Stats| {
            let key = (function.name.clone(), version);
            if found.len() < STATS_TOLD_MAX || found.contains_key(&key) {
                found.entry(key).or_default().merge(&stats);
            } else {
                is_over = true;
            }
        };
        // Before the table, so that a minute that ends meanwhile is rather told twice than not at all.
        let now = self.inner.tally.lock().now(namespace);
        self.inner.database.read(|c| minutes::query(c, namespace, name, since_s, &mut add))?;
        for (function, version, stats) in now {
            if name.is_none_or(|name| *name == function.name) {
                add(function, version, stats);
            }
        }
        if is_over { Err(RecordsError::TooManyVersions) } else { Ok(found) }
    }

    /// The statistics since the start: of the functions that are used most, and of the rest together.
    #[must_use]
    pub fn totals(&self) -> Vec<Total> {
        self.inner.tally.lock().totals()
    }

    /// Waits until all records that were submitted earlier are committed. Blocks for one commit, some milliseconds.
    pub fn flush(&self) {
        self.finish(Job::Flush);
    }

    /// Waits until everything that was submitted earlier is committed, statistics too: the node stops. Blocks.
    pub fn close(&self) {
        self.finish(Job::Close);
    }

    fn finish(&self, job: impl FnOnce(SyncSender<()>) -> Job) {
        let (done, wait) = mpsc::sync_channel(1);
        if let Some(jobs) = &self.inner.jobs
            && jobs.send(job(done)).is_ok()
        {
            // An error means that the writer has ended, so there is nothing to wait for.
            let _gone = wait.recv();
        }
    }

    /// Records of one function, newest first. Blocks.
    ///
    /// # Errors
    /// [`RecordsError`]
    pub fn query(
        &self,
        namespace: &Namespace,
        name: &FunctionName,
        filter: &Filter,
    ) -> Result<Vec<Record>, RecordsError> {
        self.inner.database.read(|c| store::query(c, namespace, name, filter))
    }

    /// Deletes all records of a namespace. Records that are still queued remain; see [`Self::flush`]. Blocks.
    ///
    /// # Errors
    /// [`RecordsError`]
    pub fn remove(&self, namespace: &Namespace) -> Result<(), RecordsError> {
        self.inner.tally.lock().forget(namespace);
        self.inner.database.write(|t| minutes::remove(t, namespace))?;
        while !self.inner.database.write(|t| store::remove(t, namespace))? {}
        Ok(())
    }

    /// Records dropped since the start, because the queue was full or the disk failed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner.counters.dropped.load(Ordering::Relaxed)
    }

    /// Records committed since the start.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.inner.counters.written.load(Ordering::Relaxed)
    }

    /// Checkpoints the write-ahead log; see [`Database::checkpoint`].
    ///
    /// # Errors
    /// [`RecordsError::Sqlite`]
    pub fn checkpoint(&self) -> Result<(), RecordsError> {
        Ok(self.inner.database.checkpoint()?)
    }

    /// Whether the file can be read now.
    ///
    /// # Errors
    /// [`RecordsError::Sqlite`]
    pub fn check(&self) -> Result<(), RecordsError> {
        Ok(self.inner.database.check()?)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs = None;
        let writer = self.writer.get_mut().take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of invocation records panicked");
        }
    }
}

#[cfg(test)]
mod tests;
