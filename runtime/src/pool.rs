//! The pool of parked guests of one function version on one core: how many it holds, and for how long.
//!
//! A start costs the same before a request as within it, so a pool helps only while the core has time to spare. The pool measures
//! the rate of requests and the time of a start, and grows with both. It pauses when requests arrive as fast as guests can
//! start, and shrinks when none arrive.

use crate::function::{FunctionVersion, StartMode};
use crate::limits::{
    PARKED_DEPTH_MAX, PARKED_IDLE, PARKING_PAUSE_MAX, PARKING_PAUSE_MIN, PARKING_WORTH, REFILL_WINDOW,
};
use crate::module::LoadedModule;
use crate::parking::{NotParked, Parked};
use crate::snapshot::{Snapshot, SnapshotKey, Start};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that arrives this soon after a guest was parked has waited for its start.
const COLLISION: Duration = Duration::from_micros(150);
/// Starts that a pool measures before it may disable itself. The first ones meet cold caches.
const MEASURED_STARTS_MIN: u32 = 4;
/// The newest gap between requests counts for 1/8 of their mean.
const GAP_WEIGHT: u32 = 8;

/// Totals of several pools: all pools of a core, or those of one namespace on it.
#[derive(Debug, Default)]
pub struct Totals {
    guests: Cell<usize>,
    memory_bytes: Cell<usize>,
}

impl Totals {
    /// The number of parked guests.
    #[must_use]
    pub fn guests(&self) -> usize {
        self.guests.get()
    }

    /// Their linear memory, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.get()
    }

    fn add(&self, parked: &Parked) {
        self.guests.set(self.guests.get() + 1);
        self.memory_bytes.set(self.memory_bytes.get() + parked.memory_bytes());
    }

    fn subtract(&self, parked: &Parked) {
        self.guests.set(self.guests.get() - 1);
        self.memory_bytes.set(self.memory_bytes.get() - parked.memory_bytes());
    }
}

/// The parked guests of one function version on one core.
pub struct Pool {
    function: Arc<FunctionVersion>,
    module: Arc<LoadedModule>,
    /// The guest parked last is taken first, because its memory is the warmest.
    parked: Vec<Parked>,
    /// The totals of its core and of its namespace.
    totals: [Rc<Totals>; 2],
    used_at: Instant,
    was_used: bool,
    /// Mean time between requests; `None` before the second request.
    gap: Option<Duration>,
    /// The shortest measured start.
    start_time: Duration,
    measured_starts: u32,
    parked_at: Option<Instant>,
    /// No guest starts before this time.
    paused_until: Instant,
    pause: Duration,
    /// Parking does not help this function, or is impossible.
    disabled: bool,
    key: SnapshotKey,
    /// What the module's starts had changed to when they were last looked at.
    starts_seen: Option<u64>,
    snapshot: Option<Rc<SharedSnapshot>>,
}

/// A snapshot, to be shared on one core, which counts for itself who uses it.
pub struct SharedSnapshot(Arc<Snapshot>);

impl std::ops::Deref for SharedSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl Pool {
    /// An empty pool. Its guests count in the `totals` of its core and of its namespace.
    #[must_use]
    pub fn new(
        function: Arc<FunctionVersion>,
        module: Arc<LoadedModule>,
        totals: [Rc<Totals>; 2],
        now: Instant,
    ) -> Self {
        Self {
            disabled: !function.start.may_park(),
            key: SnapshotKey::of(&function),
            starts_seen: None,
            snapshot: None,
            function,
            module,
            parked: Vec::new(),
            totals,
            used_at: now,
            was_used: false,
            gap: None,
            start_time: Duration::MAX,
            measured_starts: 0,
            parked_at: None,
            paused_until: now,
            pause: Duration::ZERO,
        }
    }

    /// The function version of its guests.
    #[must_use]
    pub fn function(&self) -> &Arc<FunctionVersion> {
        &self.function
    }

    /// The module that its guests run.
    #[must_use]
    pub fn module(&self) -> &Arc<LoadedModule> {
        &self.module
    }

    /// The snapshot from which the function's invocations go on, if there is one and its start mode allows it. Parked guests
    /// are dropped when it is first seen.
    pub fn snapshot(&mut self) -> Option<Rc<SharedSnapshot>> {
        let changes = self.module.starts().changes();
        if self.starts_seen != Some(changes) && self.function.start.may_resume() {
            self.starts_seen = Some(changes);
            self.snapshot = match self.module.starts().get(&self.key) {
                Some(Start::Snapshot(snapshot)) => Some(Rc::new(SharedSnapshot(snapshot))),
                Some(Start::Whole(_)) | None => None,
            };
            if self.snapshot.is_some() {
                self.disable();
            }
        }
        self.snapshot.clone()
    }

    /// The number of parked guests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether it has no parked guest.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// When [`Self::take`] was last called.
    #[must_use]
    pub fn used_at(&self) -> Instant {
        self.used_at
    }

    /// Whether every request of this function starts its own guest.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// Takes a guest for a request that arrives now, if one is parked. Must not be called once the pool
    /// [is disabled](Self::is_disabled).
    pub fn take(&mut self, now: Instant) -> Option<Parked> {
        if std::mem::replace(&mut self.was_used, true) {
            let gap = now.duration_since(self.used_at);
            self.gap = Some(self.gap.map_or(gap, |mean| (mean * (GAP_WEIGHT - 1) + gap) / GAP_WEIGHT));
        }
        self.used_at = now;
        if let Some(parked_at) = self.parked_at.take() {
            // This request has waited for the start of that guest, which is slower than a start on demand.
            if now.duration_since(parked_at) < COLLISION {
                self.pause(now);
            } else {
                self.pause /= 2;
            }
        }
        let parked = self.parked.pop()?;
        self.totals.iter().for_each(|totals| totals.subtract(&parked));
        Some(parked)
    }

    /// How many guests the pool should hold.
    #[must_use]
    pub fn target_len(&self, now: Instant) -> usize {
        if self.disabled || self.module.is_evicted() {
            return 0;
        }
        let since = now.duration_since(self.used_at);
        if since > PARKED_IDLE {
            return usize::from(self.function.start == StartMode::Parked);
        }
        let Some(gap) = self.gap else { return 1 };
        let gap = gap.max(since).max(Duration::from_micros(1));
        let start_time = if self.measured_starts == 0 { Duration::ZERO } else { self.start_time };
        // The expected number of requests until another guest can be parked, plus two standard deviations.
        let expected = (REFILL_WINDOW + 2 * start_time).as_secs_f64() / gap.as_secs_f64();
        let most = PARKED_DEPTH_MAX as f64;
        (expected + 2.0 * expected.sqrt()).clamp(1.0, most) as usize
    }

    /// Whether another guest should start now.
    #[must_use]
    pub fn needs_refill(&self, now: Instant) -> bool {
        self.parked.len() < self.target_len(now) && self.paused_until <= now
    }

    /// Adds a parked guest.
    pub fn add(&mut self, parked: Parked, now: Instant) {
        self.start_time = self.start_time.min(parked.start_time());
        self.measured_starts = self.measured_starts.saturating_add(1);
        if self.function.start == StartMode::Auto
            && self.measured_starts >= MEASURED_STARTS_MIN
            && self.start_time < PARKING_WORTH
        {
            self.disable();
        }
        if self.disabled {
            return;
        }
        self.parked_at = Some(now);
        self.totals.iter().for_each(|totals| totals.add(&parked));
        self.parked.push(parked);
    }

    /// Reacts to a guest that could not be parked.
    pub fn record_failure(&mut self, why: &NotParked, now: Instant) {
        if why.is_permanent() {
            self.disable();
        } else {
            self.pause(now);
        }
    }

    /// Starts no guest for some time. Each pause is twice as long as the one before, up to a limit.
    pub fn pause(&mut self, now: Instant) {
        self.pause = (2 * self.pause).clamp(PARKING_PAUSE_MIN, PARKING_PAUSE_MAX);
        self.paused_until = now + self.pause;
    }

    /// Drops all guests and accepts no others.
    pub fn disable(&mut self) {
        self.disabled = true;
        self.drain();
    }

    /// Drops guests above the [target](Self::target_len).
    pub fn shrink(&mut self, now: Instant) {
        let target = self.target_len(now);
        while self.parked.len() > target {
            self.drop_one();
        }
    }

    /// Drops the guest that was parked first. Returns `false` if there is none.
    pub fn drop_one(&mut self) -> bool {
        if self.parked.is_empty() {
            return false;
        }
        let parked = self.parked.remove(0);
        self.totals.iter().for_each(|totals| totals.subtract(&parked));
        true
    }

    /// Drops all guests.
    pub fn drain(&mut self) {
        while self.drop_one() {}
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.drain();
    }
}
