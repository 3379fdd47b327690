//! Counts of loaded code, and of what it takes from the system.

use super::{Text, load, seconds};
use crate::modules::{Bounds, Usage};
use crate::process::Allowed;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets of loads, in microseconds: from an artifact in the page cache to one compiled again.
const BUCKETS_US: [u64; 9] = [250, 500, 1_000, 2_500, 5_000, 15_000, 50_000, 250_000, 2_500_000];

/// Loads of code since the start.
#[derive(Debug, Default)]
pub(super) struct Loads {
    /// The last counts what is longer than every bucket.
    durations: [AtomicU64; BUCKETS_US.len() + 1],
    duration_us: AtomicU64,
    failed: AtomicU64,
}

/// What is loaded at the moment of a scrape, and what of the system is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModuleGauges {
    /// Loaded code.
    pub loaded: Usage,
    /// How much may be loaded.
    pub bounds: Bounds,
    /// Files and sockets open, where the system tells.
    pub descriptors: Option<u64>,
    /// Mappings of memory, where the system tells.
    pub mappings: Option<u64>,
    /// What the system allows of both.
    pub allowed: Allowed,
}

impl Loads {
    pub(super) fn loaded(&self, took: Duration, ok: bool) {
        if !ok {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|end| us <= *end).unwrap_or(BUCKETS_US.len());
        if let Some(counter) = self.durations.get(bucket) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.duration_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn render(&self, text: &mut Text, gauges: &ModuleGauges) {
        let ModuleGauges { loaded, bounds, descriptors, mappings, allowed } = gauges;
        for (name, help, value) in [
            ("orama_modules_loaded", "Modules whose code is loaded.", loaded.modules),
            ("orama_modules_loaded_max", "Modules that may be loaded.", bounds.modules as u64),
            ("orama_modules_loaded_bytes", "Bytes of loaded code.", loaded.bytes),
            ("orama_modules_loaded_bytes_max", "Bytes of code that may be loaded.", bounds.bytes),
        ] {
            text.single(name, "gauge", help, value);
        }
        text.single(
            "orama_module_evictions_total",
            "counter",
            "Modules whose code was thrown out to make room.",
            loaded.evicted,
        );
        let name = "orama_module_load_seconds";
        text.head(name, "histogram", "Time to load the code of a function that was not loaded.");
        let mut below = 0;
        let ends = BUCKETS_US.iter().map(|us| seconds(*us).to_string()).chain(["+Inf".to_owned()]);
        for (counter, end) in self.durations.iter().zip(ends) {
            below += load(counter);
            text.line(&format!("{name}_bucket"), &[("le", &end)], below);
        }
        text.line(&format!("{name}_sum"), &[], seconds(load(&self.duration_us)));
        text.line(&format!("{name}_count"), &[], below);
        text.single(
            "orama_module_load_failures_total",
            "counter",
            "Loads of code that failed.",
            load(&self.failed),
        );
        for (used, max, help, value, allowed) in [
            (
                "orama_descriptors_open",
                "orama_descriptors_max",
                "Open files and sockets",
                descriptors,
                allowed.descriptors,
            ),
            ("orama_mappings", "orama_mappings_max", "Mappings of memory", mappings, allowed.mappings),
        ] {
            if let Some(value) = value {
                text.single(used, "gauge", &format!("{help} of the node."), value);
            }
            text.single(max, "gauge", &format!("{help} that the system allows."), allowed);
        }
    }
}
