//! How many parked guests of one function version are worth having on one core, and for how long.
//!
//! A start before its request costs what it costs within the request, so a pool pays only where the core has time to
//! spare. It grows with the rate of requests and the time that a start takes, both measured; it stops where requests come as
//! fast as guests can be started; and it dries up when no requests come.

use crate::function::{FunctionVersion, StartMode};
use crate::limits::{
    PARKED_DEPTH_MAX, PARKED_IDLE, PARKING_PAUSE_MAX, PARKING_PAUSE_MIN, PARKING_WORTH, REFILL_WINDOW,
};
use crate::module::LoadedModule;
use crate::parking::{NotParked, Parked};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that comes so soon after a guest was parked has waited for it.
const COLLISION: Duration = Duration::from_micros(150);
/// Starts timed before a pool may find that they are not worth parking: the first ones meet cold caches.
const STARTS_TIMED: u32 = 4;
/// Share of the newest gap in the mean gap between requests: one in so many.
const GAP_WEIGHT: u32 = 8;

/// What several pools hold together: all of a core, or those of one namespace there.
#[derive(Debug, Default)]
pub struct Totals {
    guests: Cell<usize>,
    memory_bytes: Cell<usize>,
}

impl Totals {
    /// Parked guests.
    #[must_use]
    pub fn guests(&self) -> usize {
        self.guests.get()
    }

    /// Their linear memory.
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
    /// The last one parked is taken first: its memory is the warmest.
    parked: Vec<Parked>,
    /// Where its guests count.
    totals: [Rc<Totals>; 2],
    used_at: Instant,
    was_used: bool,
    /// Mean time between requests; `None` before the second.
    gap: Option<Duration>,
    /// The shortest time that a start took.
    start_time: Duration,
    starts_timed: u32,
    parked_at: Option<Instant>,
    /// No guest is started before.
    paused_until: Instant,
    pause: Duration,
    /// Parking brings nothing, or cannot be.
    given_up: bool,
}

impl Pool {
    /// An empty pool, whose guests count in the `totals` of its core and of its namespace.
    #[must_use]
    pub fn new(
        function: Arc<FunctionVersion>,
        module: Arc<LoadedModule>,
        totals: [Rc<Totals>; 2],
        now: Instant,
    ) -> Self {
        Self {
            given_up: function.start == StartMode::Command,
            function,
            module,
            parked: Vec::new(),
            totals,
            used_at: now,
            was_used: false,
            gap: None,
            start_time: Duration::MAX,
            starts_timed: 0,
            parked_at: None,
            paused_until: now,
            pause: Duration::ZERO,
        }
    }

    /// Whose guests they are.
    #[must_use]
    pub fn function(&self) -> &Arc<FunctionVersion> {
        &self.function
    }

    /// What they run.
    #[must_use]
    pub fn module(&self) -> &Arc<LoadedModule> {
        &self.module
    }

    /// Guests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// When it was last asked for a guest.
    #[must_use]
    pub fn used_at(&self) -> Instant {
        self.used_at
    }

    /// Whether requests of this function are always started on demand.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// A guest for a request that came now, if one waits. Not to be asked once the pool [has given
    /// up](Self::has_given_up).
    pub fn take(&mut self, now: Instant) -> Option<Parked> {
        if std::mem::replace(&mut self.was_used, true) {
            let gap = now.duration_since(self.used_at);
            self.gap = Some(self.gap.map_or(gap, |mean| (mean * (GAP_WEIGHT - 1) + gap) / GAP_WEIGHT));
        }
        self.used_at = now;
        if let Some(parked_at) = self.parked_at.take() {
            // Whoever comes at once has waited for the start, as without a pool, and for more than that.
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

    /// How many guests should wait.
    #[must_use]
    pub fn wanted(&self, now: Instant) -> usize {
        if self.given_up || self.module.is_thrown_out() {
            return 0;
        }
        let since = now.duration_since(self.used_at);
        if since > PARKED_IDLE {
            return usize::from(self.function.start == StartMode::Parked);
        }
        let Some(gap) = self.gap else { return 1 };
        let gap = gap.max(since).max(Duration::from_micros(1));
        let start_time = if self.starts_timed == 0 { Duration::ZERO } else { self.start_time };
        // Requests to be expected until another guest can be parked, and the spread of such a number.
        let expected = (REFILL_WINDOW + 2 * start_time).as_secs_f64() / gap.as_secs_f64();
        let most = PARKED_DEPTH_MAX as f64;
        (expected + 2.0 * expected.sqrt()).clamp(1.0, most) as usize
    }

    /// Whether another guest should be started now.
    #[must_use]
    pub fn wants_more(&self, now: Instant) -> bool {
        self.parked.len() < self.wanted(now) && self.paused_until <= now
    }

    /// Takes in a guest that was parked.
    pub fn add(&mut self, parked: Parked, now: Instant) {
        self.start_time = self.start_time.min(parked.start_time());
        self.starts_timed = self.starts_timed.saturating_add(1);
        if self.function.start == StartMode::Auto
            && self.starts_timed >= STARTS_TIMED
            && self.start_time < PARKING_WORTH
        {
            self.close();
        }
        if self.given_up {
            return;
        }
        self.parked_at = Some(now);
        self.totals.iter().for_each(|totals| totals.add(&parked));
        self.parked.push(parked);
    }

    /// Learns that a guest could not be parked.
    pub fn failed(&mut self, why: &NotParked, now: Instant) {
        if why.is_lasting() {
            self.close();
        } else {
            self.pause(now);
        }
    }

    /// Starts nothing for some time, twice as long as the last time.
    pub fn pause(&mut self, now: Instant) {
        self.pause = (2 * self.pause).clamp(PARKING_PAUSE_MIN, PARKING_PAUSE_MAX);
        self.paused_until = now + self.pause;
    }

    /// Drops all guests and takes in no others.
    pub fn close(&mut self) {
        self.given_up = true;
        self.drain();
    }

    /// Drops the guests that are more than wanted.
    pub fn shrink(&mut self, now: Instant) {
        let wanted = self.wanted(now);
        while self.parked.len() > wanted {
            self.drop_one();
        }
    }

    /// Drops the guest that has waited longest; `false` when there is none.
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
