//! The thread that writes records: it collects a batch, commits it, and deletes old records when it is idle.

use super::retention::{Cleaner, Retention};
use super::tally::{Part, Tally};
use super::{Counters, Job, Note, Record, RecordsError, minutes, store};
use crate::limits::RECORD_COMMIT_EVERY;
use orama_store::clock::now_ms;
use orama_store::sqlite::Database;
use parking_lot::Mutex;
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
    tally: Arc<Mutex<Tally>>,
    cleaner: Cleaner,
    /// Whether there are statistics to pack or to delete.
    is_untidy: bool,
}

/// A batch taken from the queue for one commit.
#[derive(Default)]
struct Gathered {
    records: Vec<Record>,
    notes: Vec<Note>,
    waiting: Vec<SyncSender<()>>,
    /// The node stops.
    is_last: bool,
}

impl Gathered {
    fn take(&mut self, job: Job) {
        match job {
            Job::Write(batch) => self.records.extend(batch),
            Job::Note(notes) => self.notes.extend(notes),
            Job::Flush(done) => self.waiting.push(done),
            Job::Close(done) => {
                self.waiting.push(done);
                self.is_last = true;
            }
        }
    }
}

impl Writer {
    pub(super) fn new(
        database: Arc<Database>,
        (counters, tally): (Arc<Counters>, Arc<Mutex<Tally>>),
        retention: Retention,
    ) -> Result<Self, RecordsError> {
        let cleaner = Cleaner::new(&database, retention)?;
        tally.lock().end_minute(now_ms() / 1000);
        Ok(Self { database, counters, tally, cleaner, is_untidy: true })
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
                Err(RecvTimeoutError::Disconnected) => return self.keep_stats(true),
            }
            cleaned = Instant::now();
            self.keep_stats(false);
            if let Err(e) = self.cleaner.step(&self.database) {
                tracing::error!(error = %e, "old invocation records could not be deleted");
            }
        }
    }

    fn commit(&mut self, gathered: Gathered) {
        let Gathered { records, notes, waiting, is_last } = gathered;
        {
            let mut tally = self.tally.lock();
            tally.add(&records);
            tally.note(&notes);
        }
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
        if is_last {
            self.keep_stats(true);
        }
        for done in waiting {
            // The caller of the flush may have stopped waiting.
            let _gone = done.send(());
        }
    }
}

impl Writer {
    /// Writes the statistics of a minute that is over, or of the one that goes on as the node stops.
    fn keep_stats(&mut self, is_last: bool) {
        let now_s = now_ms() / 1000;
        let ended = {
            let mut tally = self.tally.lock();
            if is_last { Some(tally.end_now()) } else { tally.end_minute(now_s) }
        };
        let is_ended = ended.is_some();
        let (minute_s, parts): (i64, Vec<Part>) = ended.unwrap_or_default();
        self.is_untidy |= is_ended;
        if parts.is_empty() && (!self.is_untidy || is_last) {
            return;
        }
        let written = self.database.write(|t| {
            minutes::keep(t, minute_s, &parts)?;
            if is_last { Ok(false) } else { minutes::tidy(t, now_s) }
        });
        match written {
            Ok(is_untidy) => self.is_untidy = is_untidy,
            Err(error) => {
                self.is_untidy = false;
                tracing::error!(%error, "statistics of functions could not be written");
            }
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
