//! Counts of compilations and of loads of code, for the node's metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of load times, in microseconds. An artifact in the page cache falls into the first ones, a module
/// that must be compiled into the last ones.
pub const LOAD_BUCKETS_US: [u64; 9] = [250, 500, 1_000, 2_500, 5_000, 15_000, 50_000, 250_000, 2_500_000];

#[derive(Debug, Default)]
pub(super) struct Counts {
    compiled: AtomicU64,
    compile_failed: AtomicU64,
    compile_us: AtomicU64,
    /// The last one counts loads above every bound.
    loads: [AtomicU64; LOAD_BUCKETS_US.len() + 1],
    load_us: AtomicU64,
    load_failed: AtomicU64,
}

/// Counts of compilations and loads since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Compilations that succeeded.
    pub compiled: u64,
    /// Compilations that failed.
    pub compile_failed: u64,
    /// Time of all compilations, in microseconds; failed ones too.
    pub compile_us: u64,
    /// Loads that succeeded, by [`LOAD_BUCKETS_US`]. The last one counts loads above every bound.
    pub loads: [u64; LOAD_BUCKETS_US.len() + 1],
    /// Time of the loads that succeeded, in microseconds.
    pub load_us: u64,
    /// Loads that failed.
    pub load_failed: u64,
}

impl Counts {
    pub(super) fn record_compilation(&self, took: Duration, ok: bool) {
        let counter = if ok { &self.compiled } else { &self.compile_failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.compile_us.fetch_add(micros(took), Ordering::Relaxed);
    }

    pub(super) fn record_load(&self, took: Duration, ok: bool) {
        if !ok {
            self.load_failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let us = micros(took);
        let bucket = LOAD_BUCKETS_US.iter().position(|end| us <= *end).unwrap_or(LOAD_BUCKETS_US.len());
        if let Some(counter) = self.loads.get(bucket) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.load_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            compiled: load(&self.compiled),
            compile_failed: load(&self.compile_failed),
            compile_us: load(&self.compile_us),
            loads: std::array::from_fn(|bucket| self.loads.get(bucket).map_or(0, load)),
            load_us: load(&self.load_us),
            load_failed: load(&self.load_failed),
        }
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
