//! Metrics by function: of those that are used most, and of the rest together, whose labels are `*`.

use super::{Text, seconds};
use orama_platform::records::{Histogram, Stats, Total};
use orama_runtime::phases::Kind;

/// What stands for the functions that have no series of their own. No function has such a name.
const REST: &str = "*";

/// Upper ends of the buckets of durations: powers of two of a microsecond, from 128 us to 134 s.
const DURATION_BITS: [u32; 11] = [7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27];
/// The same for phases, from 1 ms to 0.5 s.
const PHASE_BITS: [u32; 4] = [10, 13, 16, 19];

/// A count of statistics.
type Count = fn(&Stats) -> u64;

/// A function's two labels, and what it had.
type Of<'a> = ([(&'a str, &'a str); 2], &'a Stats);

pub(super) fn render(text: &mut Text, totals: &[Total]) {
    let all: Vec<Of<'_>> = totals
        .iter()
        .map(|Total { function, stats }| {
            let (namespace, name) =
                function.as_ref().map_or((REST, REST), |of| (of.namespace.as_str(), of.name.as_str()));
            ([("namespace", namespace), ("function", name)], stats)
        })
        .collect();
    invocations(text, &all);
    let name = "orama_function_duration_seconds";
    text.head(name, "histogram", "Time from an invocation's start to its end, by function.");
    for (labels, stats) in &all {
        histogram(text, name, labels, &stats.duration, &DURATION_BITS);
    }
    phases(text, &all);
    let name = "orama_function_memory_max_bytes";
    text.head(name, "gauge", "The most linear memory that an invocation had at its end.");
    for (labels, stats) in &all {
        text.line(name, labels, stats.memory_max_bytes);
    }
}

fn invocations(text: &mut Text, all: &[Of<'_>]) {
    let name = "orama_function_invocations_total";
    text.head(name, "counter", "Invocations that ended, by function and by how: `OK` or the error's code.");
    for ([namespace, function], stats) in all {
        let ok = ("OK", stats.succeeded);
        let failed = stats.failed.iter().map(|(code, times)| (code.as_str(), *times));
        for (code, times) in std::iter::once(ok).chain(failed) {
            text.line(name, &[*namespace, *function, ("code", code)], times);
        }
    }
    let name = "orama_function_refused_total";
    text.head(name, "counter", "Requests that were refused before they ran, by function and code.");
    for ([namespace, function], stats) in all {
        for (code, times) in &stats.refused {
            text.line(name, &[*namespace, *function, ("code", code)], times);
        }
    }
    let single: [(&str, &str, Count); 3] = [
        ("orama_function_server_errors_total", "Runs that ended well with a status of 500 or above.", |s| {
            s.server_errors
        }),
        ("orama_function_retries_total", "Attempts after the first.", |s| s.retries),
        ("orama_function_cold_loads_total", "How often a core had to load the code.", |s| s.cold_loads),
    ];
    for (name, help, of) in single {
        text.head(name, "counter", help);
        for (labels, stats) in all {
            text.line(name, labels, of(stats));
        }
    }
    let name = "orama_function_host_calls_total";
    text.head(name, "counter", "Host calls, by function and kind.");
    for ([namespace, function], stats) in all {
        for (kind, calls) in Kind::ALL.into_iter().zip(stats.host_calls).filter(|(_, calls)| *calls > 0) {
            text.line(name, &[*namespace, *function, ("kind", kind.as_str())], calls);
        }
    }
}

fn phases(text: &mut Text, all: &[Of<'_>]) {
    let name = "orama_function_phase_seconds";
    text.head(
        name,
        "histogram",
        "Where the time of invocations went: `wait` for a turn, `start`, `own` code, and waiting for host calls by kind.",
    );
    for ([namespace, function], stats) in all {
        let own = [("wait", &stats.wait), ("start", &stats.start), ("own", &stats.own)];
        let host = Kind::ALL.into_iter().map(Kind::as_str).zip(&stats.host);
        for (phase, of) in own.into_iter().chain(host).filter(|(_, of)| of.count() > 0) {
            histogram(text, name, &[*namespace, *function, ("phase", phase)], of, &PHASE_BITS);
        }
    }
}

fn histogram(text: &mut Text, name: &str, labels: &[(&str, &str)], of: &Histogram, bits: &[u32]) {
    let ends = bits.iter().map(|bits| (seconds(1 << bits).to_string(), of.below(*bits)));
    for (end, below) in ends.chain([("+Inf".to_owned(), of.count())]) {
        let labels = [labels, &[("le", end.as_str())]].concat();
        text.line(&format!("{name}_bucket"), &labels, below);
    }
    text.line(&format!("{name}_sum"), labels, seconds(of.sum_us()));
    text.line(&format!("{name}_count"), labels, of.count());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Gauges, Metrics};
    use orama_platform::limits::STATS_FUNCTIONS_MAX;
    use orama_platform::records::{Extras, Function, Record};
    use orama_runtime::invocation::Failure;
    use orama_runtime::names::{FunctionName, Namespace};
    use orama_runtime::phases::{HostCalls, Phases};
    use std::sync::Arc;

    /// A function with the longest names, every code and every phase.
    fn full(n: usize) -> Total {
        let function = Arc::new(Function {
            namespace: Namespace::new(&format!("n{n:062}")).unwrap(),
            name: FunctionName::new(&format!("f{n:062}")).unwrap(),
        });
        let mut stats = Stats::default();
        let calls = [HostCalls { count: 1_000_000, waited_us: 100_000 }; Kind::ALL.len()];
        for code in Failure::CODES {
            let phases = Phases { wait_us: 1, start_us: 1, calls };
            stats.add(&Record {
                duration_us: 3_000_000,
                phases,
                error_code: code,
                ..Extras::default().into_record(Arc::clone(&function))
            });
        }
        for code in ["RATE_LIMITED", "OVERLOADED", "PAYLOAD_TOO_LARGE", "REQUEST_TIMEOUT"] {
            stats.refuse(code, 1_000_000);
        }
        Total { function: Some(function), stats }
    }

    #[test]
    fn the_most_that_functions_can_have_stays_below_a_megabyte() {
        let mut functions: Vec<_> = (0..STATS_FUNCTIONS_MAX).map(full).collect();
        functions.push(Total { function: None, stats: full(0).stats });
        let text = Metrics::default().render(&Gauges { functions, ..Gauges::default() });
        assert!(text.len() < 1_000_000, "{} bytes", text.len());
        let line = "orama_function_phase_seconds_bucket{namespace=\"*\",function=\"*\",phase=\"own\",le=\"0.001024\"} 0";
        assert!(text.lines().any(|l| l == line), "{}", &text[..20_000]);
    }
}
