//! Interrupts a running statement: at its deadline, when its call is cancelled, or when it writes too much.

use crate::database::sqlite::deadline_exceeded;
use crate::limits::DB_WRITTEN_MAX_BYTES;
use orama_runtime::services::{ErrorCode, ServiceError};
use parking_lot::Mutex;
use rusqlite::Connection;
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Instructions of SQLite between two checks of the clock: usually 10 to 50 us.
const INSTRUCTIONS: i32 = 1000;

/// Time between two reads of the written bytes, which take some 10 us each. A disk takes at most 100 MB meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a statement was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stop {
    Deadline = 1,
    Abandoned,
    Written,
}

/// Watches one call.
#[derive(Debug)]
pub(super) struct Watch {
    deadline: Instant,
    abandoned: AtomicBool,
    /// See [`DB_WRITTEN_MAX_BYTES`].
    pub(super) written_max: u64,
    /// A [`Stop`], or 0.
    stopped: AtomicU8,
    out_of_memory: AtomicBool,
    /// For the node's log.
    note: Mutex<Option<String>>,
}

impl Watch {
    pub(super) fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            abandoned: AtomicBool::new(false),
            written_max: DB_WRITTEN_MAX_BYTES,
            stopped: AtomicU8::new(0),
            out_of_memory: AtomicBool::new(false),
            note: Mutex::default(),
        }
    }

    /// Adds a note to the node's log.
    pub(super) fn note(&self, text: String) {
        *self.note.lock() = Some(text);
    }

    /// Takes the note.
    pub(super) fn take_note(&self) -> Option<String> {
        self.note.lock().take()
    }

    /// Notes that a statement reached the memory limit.
    pub(super) fn is_out_of_memory(&self) {
        self.out_of_memory.store(true, Ordering::Relaxed);
    }

    /// Whether a statement reached the memory limit.
    pub(super) fn was_out_of_memory(&self) -> bool {
        self.out_of_memory.load(Ordering::Relaxed)
    }

    /// Cancels the call.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Time until the deadline; zero when it has passed.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Interrupts statements of a connection as soon as there is a reason, until [`disarm`].
    pub(super) fn arm(self: &Arc<Self>, connection: &Connection) -> rusqlite::Result<()> {
        let this = Arc::clone(self);
        let mut look_at = Instant::now() + LOOK_EVERY;
        let mut written_before = None;
        let handler = move || {
            let now = Instant::now();
            let mut stop = this.reason(now);
            if stop.is_none() && now >= look_at {
                look_at = now + LOOK_EVERY;
                // Without the kernel's counter there is no such bound; the deadline still applies.
                if let Some(written) = written_by_this_thread() {
                    let before = *written_before.get_or_insert(written);
                    stop = (written.saturating_sub(before) > this.written_max).then_some(Stop::Written);
                }
            }
            if let Some(stop) = stop {
                this.stopped.store(stop as u8, Ordering::Relaxed);
            }
            stop.is_some()
        };
        connection.progress_handler(INSTRUCTIONS, Some(handler))
    }

    /// Checks between statements whether there is a reason to stop.
    pub(super) fn check(&self) -> Result<(), ServiceError> {
        let Some(stop) = self.reason(Instant::now()) else { return Ok(()) };
        self.stopped.store(stop as u8, Ordering::Relaxed);
        Err(self.error())
    }

    /// Why a statement was interrupted.
    pub(super) fn error(&self) -> ServiceError {
        match self.stopped.load(Ordering::Relaxed) {
            stop if stop == Stop::Abandoned as u8 => ServiceError::unavailable("the call was cancelled"),
            stop if stop == Stop::Written as u8 => ServiceError::new(
                ErrorCode::PayloadTooLarge,
                format!(
                    "the call wrote more than {} MiB to the disk, including temporary files of sorts and joins",
                    self.written_max >> 20
                ),
            ),
            _ => deadline_exceeded(),
        }
    }

    fn reason(&self, now: Instant) -> Option<Stop> {
        if now >= self.deadline {
            Some(Stop::Deadline)
        } else if self.abandoned.load(Ordering::Relaxed) {
            Some(Stop::Abandoned)
        } else {
            None
        }
    }
}

/// Stops watching a connection, for example for a rollback.
pub(super) fn disarm(connection: &Connection) {
    // Fails only for a connection that something else owns.
    let _ = connection.progress_handler(0, None::<fn() -> bool>);
}

thread_local! {
    /// The kernel's I/O counters of this thread. Opened before the process is confined and cannot open `/proc` any more.
    static COUNTS: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Opens the counters of this thread.
pub(super) fn count_writes_of_this_thread() {
    COUNTS.set(File::open("/proc/thread-self/io").ok());
}

/// Bytes that this thread has written, as the kernel counts them.
fn written_by_this_thread() -> Option<u64> {
    let mut counts = [0; 512];
    let read = COUNTS.with_borrow(|file| file.as_ref()?.read_at(&mut counts, 0).ok())?;
    let counts = std::str::from_utf8(counts.get(..read)?).ok()?;
    counts.lines().find_map(|line| line.strip_prefix("wchar: "))?.trim().parse().ok()
}
