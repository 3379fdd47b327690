//! Ends a statement that runs: at its deadline, when nobody waits for it, when its namespace goes, when it writes too much.

use crate::limits::DB_WRITTEN_MAX_BYTES;
use orama_runtime::services::{ErrorCode, ServiceError};
use rusqlite::Connection;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Instructions of SQLite between two looks at the clock: 10 to 50 us of common work.
const INSTRUCTIONS: i32 = 1000;

/// Time between two looks at what was written, which cost some 10 us each. A disk takes 100 MB meanwhile at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a statement was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stop {
    Deadline = 1,
    Abandoned,
    Removed,
    Written,
}

/// One call's reasons to end.
#[derive(Debug)]
pub(super) struct Watch {
    deadline: Instant,
    abandoned: AtomicBool,
    /// How often the namespace was removed, now and when the call began.
    removals: Arc<AtomicU64>,
    removals_before: u64,
    /// See [`DB_WRITTEN_MAX_BYTES`].
    pub(super) written_max: u64,
    /// A [`Stop`], or 0.
    stopped: AtomicU8,
}

impl Watch {
    pub(super) fn new(deadline: Instant, removals: &Arc<AtomicU64>) -> Self {
        Self {
            deadline,
            abandoned: AtomicBool::new(false),
            removals_before: removals.load(Ordering::Acquire),
            removals: Arc::clone(removals),
            written_max: DB_WRITTEN_MAX_BYTES,
            stopped: AtomicU8::new(0),
        }
    }

    /// Nobody waits for the call any more.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Time until the deadline; zero when it has passed.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Ends what runs on a connection as soon as there is a reason, until [`disarm`].
    pub(super) fn arm(self: &Arc<Self>, connection: &Connection) -> rusqlite::Result<()> {
        let this = Arc::clone(self);
        let mut look_at = Instant::now() + LOOK_EVERY;
        let mut written_before = None;
        let handler = move || {
            let now = Instant::now();
            let mut stop = this.reason(now);
            if stop.is_none() && now >= look_at {
                look_at = now + LOOK_EVERY;
                // Without the kernel's count there is no such bound; the deadline still holds.
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

    /// Whether there is a reason to end now, for the steps between statements.
    pub(super) fn check(&self) -> Result<(), ServiceError> {
        let Some(stop) = self.reason(Instant::now()) else { return Ok(()) };
        self.stopped.store(stop as u8, Ordering::Relaxed);
        Err(self.error())
    }

    /// Why a statement was interrupted.
    pub(super) fn error(&self) -> ServiceError {
        match self.stopped.load(Ordering::Relaxed) {
            stop if stop == Stop::Abandoned as u8 => ServiceError::unavailable("the call was given up"),
            stop if stop == Stop::Removed as u8 => ServiceError::unavailable("the namespace was removed"),
            stop if stop == Stop::Written as u8 => ServiceError::new(
                ErrorCode::PayloadTooLarge,
                format!(
                    "the call wrote more than {} MiB to the disk, temporary files of sorts and joins included",
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
        } else if self.removals.load(Ordering::Acquire) != self.removals_before {
            Some(Stop::Removed)
        } else {
            None
        }
    }
}

/// Lets a connection run to the end of what it does, such as a rollback.
pub(super) fn disarm(connection: &Connection) {
    // Refused only for a connection that somebody else owns.
    let _ = connection.progress_handler(0, None::<fn() -> bool>);
}

pub(super) fn deadline_exceeded() -> ServiceError {
    ServiceError::new(
        ErrorCode::DeadlineExceeded,
        "the invocation's deadline passed while the database worked",
    )
}

/// Bytes that this thread ever gave to the system to write, as the kernel counts them.
fn written_by_this_thread() -> Option<u64> {
    let counts = fs::read_to_string("/proc/thread-self/io").ok()?;
    counts.lines().find_map(|line| line.strip_prefix("wchar: "))?.trim().parse().ok()
}
