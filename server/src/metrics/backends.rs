//! Counts of calls to the backends that are servers, by what they are for: namespaces' databases count together, as anyone may
//! read the metrics.

use super::Text;
use orama_store::breaker::{Breaker, Calls};
use std::collections::BTreeMap;

/// One backend at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendGauges {
    /// What it is for.
    pub name: String,
    /// What became of its calls.
    pub calls: Calls,
    /// Whether it is not asked now.
    pub is_open: bool,
}

impl BackendGauges {
    /// Reads a circuit.
    #[must_use]
    pub fn of(breaker: &Breaker) -> Self {
        Self { name: breaker.kind().to_owned(), calls: breaker.calls(), is_open: breaker.is_open() }
    }
}

pub(super) fn render(text: &mut Text, gauges: &[BackendGauges]) {
    let mut sums: BTreeMap<&str, (Calls, u64)> = BTreeMap::new();
    for BackendGauges { name, calls, is_open } in gauges {
        let (sum, open) = sums.entry(name).or_default();
        sum.reached += calls.reached;
        sum.failed += calls.failed;
        sum.refused += calls.refused;
        sum.retried += calls.retried;
        *open += u64::from(*is_open);
    }
    if sums.is_empty() {
        return;
    }
    let name = "orama_backend_calls_total";
    text.head(name, "counter", "Calls to servers of backends, by what became of them.");
    for (backend, (calls, _)) in &sums {
        for (result, count) in [("ok", calls.reached), ("failed", calls.failed), ("refused", calls.refused)] {
            text.line(name, &[("backend", backend), ("result", result)], count);
        }
    }
    let name = "orama_backend_retries_total";
    text.head(name, "counter", "Calls that were made once more.");
    for (backend, (calls, _)) in &sums {
        text.line(name, &[("backend", backend)], calls.retried);
    }
    let name = "orama_backend_circuits_open";
    text.head(name, "gauge", "Backends that are not asked now, as they did not answer.");
    for (backend, (_, open)) in &sums {
        text.line(name, &[("backend", backend)], open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuits_of_one_name_count_together() {
        let gauges = |name: &str, is_open| BackendGauges {
            name: name.to_owned(),
            calls: Calls { reached: 2, failed: 1, refused: 0, retried: 3 },
            is_open,
        };
        let mut text = Text::default();
        render(&mut text, &[gauges("databases", true), gauges("platform", false), gauges("databases", true)]);
        for line in [
            "orama_backend_calls_total{backend=\"databases\",result=\"ok\"} 4",
            "orama_backend_calls_total{backend=\"platform\",result=\"failed\"} 1",
            "orama_backend_retries_total{backend=\"databases\"} 6",
            "orama_backend_circuits_open{backend=\"databases\"} 2",
            "orama_backend_circuits_open{backend=\"platform\"} 0",
        ] {
            assert!(text.0.lines().any(|l| l == line), "{line} is not in\n{}", text.0);
        }
    }
}
