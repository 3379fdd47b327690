//! Counts of loaded code, and of what it takes from the system.

use super::{Text, seconds};
use crate::process::Allowed;
use orama_platform::modules::{Bounds, LOAD_BUCKETS_US, Totals, Usage};

/// What is loaded at the moment of a scrape, and what of the system is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModuleGauges {
    /// Loaded code.
    pub loaded: Usage,
    /// Compilations and loads since the start.
    pub totals: Totals,
    /// How much may be loaded.
    pub bounds: Bounds,
    /// Files and sockets open, where the system tells.
    pub descriptors: Option<u64>,
    /// Mappings of memory, where the system tells.
    pub mappings: Option<u64>,
    /// What the system allows of both.
    pub allowed: Allowed,
}

pub(super) fn render(text: &mut Text, gauges: &ModuleGauges) {
    let ModuleGauges { loaded, totals, bounds, descriptors, mappings, allowed } = gauges;
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
    let ends = LOAD_BUCKETS_US.iter().map(|us| seconds(*us).to_string()).chain(["+Inf".to_owned()]);
    for (count, end) in totals.loads.iter().zip(ends) {
        below += count;
        text.line(&format!("{name}_bucket"), &[("le", &end)], below);
    }
    text.line(&format!("{name}_sum"), &[], seconds(totals.load_us));
    text.line(&format!("{name}_count"), &[], below);
    text.single(
        "orama_module_load_failures_total",
        "counter",
        "Loads of code that failed.",
        totals.load_failed,
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
