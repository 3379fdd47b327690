//! The thread that writes records: it collects a batch, commits it, and deletes old records when it is idle.

use super::retention::{Cleaner, Retention};
use super::{Counters, Job, Record, RecordsError, store};
use crate::limits::RECORD_COMMIT_EVERY;
use orama_store::sqlite::Database;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// Maximum records in one commit, so a flush never waits long.
const COMMIT_RECORDS_MAX: usize = 8192;

/// How long deletion of old records may be postponed while records keep arriving.
const CLEAN_EVERY: Duration = Duration::from_millis(250);

/// How often an idle writer checks for expired records.
const IDLE_WAIT: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    database: Arc<Database>,
    counters: Arc<Counters>,
    cleaner: Cleaner,
}

/// A batch taken from the queue for one commit.
#[derive(Default)]
struct Gathered {
    records: Vec<Record>,
    waiting: Vec<SyncSender<()>>,
}

impl Gathered {
    fn take(&mut self, job: Job) {
        match job {
            Job::Write(batch) => self.records.extend(batch),
            Job::Flush(done) => self.waiting.push(done),
        }
    }
}

impl Writer {
    pub(super) fn new(
        database: Arc<Database>,
        counters: Arc<Counters>,
        retention: Retention,
    ) -> Result<Self, RecordsError> {
        let cleaner = Cleaner::new(&database, retention)?;
        Ok(Self { database, counters, cleaner })
    }

    /// Runs until every sender is gone and the queue is empty.
    pub(super) fn run(mut self, queue: &Receiver<Job>) {
        let mut cleaned = Instant::now();
        loop {
            // Pending deletions run as soon as the queue is empty.
            let wait = if self.cleaner.has_work() { Duration::ZERO } else { IDLE_WAIT };
            match queue.recv_timeout(wait) {
                Ok(job) => {
                    let gathered = gather(job, queue);
                    self.commit(gathered);
                    if cleaned.elapsed() < CLEAN_EVERY {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            cleaned = Instant::now();
            if let Err(e) = self.cleaner.step(&self.database) {
                tracing::error!(error = %e, "old invocation records could not be deleted");
            }
        }
    }

    fn commit(&mut self, gathered: Gathered) {
        let Gathered { records, waiting } = gathered;
        if !records.is_empty() {
            let count = records.len() as u64;
            match self.database.write(|t| store::insert(t, &records)) {
                Ok(added) => {
                    self.counters.written.fetch_add(count, Ordering::Relaxed);
                    self.cleaner.wrote(added);
                }
                Err(e) => {
                    tracing::error!(error = %e, count, "invocation records could not be written");
                    self.counters.dropped.fetch_add(count, Ordering::Relaxed);
                }
            }
            let cost: usize = records.iter().map(Record::cost_bytes).sum();
            self.counters.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
        }
        for done in waiting {
            // The caller of the flush may have stopped waiting.
            let _gone = done.send(());
        }
    }
}

/// Collects records until the commit is due: after a short time, when the batch is full, or at once when a flush waits.
fn gather(first: Job, queue: &Receiver<Job>) -> Gathered {
    let due = Instant::now() + RECORD_COMMIT_EVERY;
    let mut gathered = Gathered::default();
    gathered.take(first);
    while gathered.waiting.is_empty() && gathered.records.len() < COMMIT_RECORDS_MAX {
        match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(job) => gathered.take(job),
            Err(_) => break,
        }
    }
    gathered
}
