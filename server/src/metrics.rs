//! Counts for Prometheus: each core counts for itself, and a scrape adds them up.

use crate::telemetry::TraceCounts;
use orama_platform::events::JobCounts;
use orama_platform::records::Total;
use orama_runtime::invocation::Status;
use parking_lot::Mutex;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

mod backends;
mod functions;
mod modules;
mod process;
mod shares;
mod sizes;

pub use backends::BackendGauges;
pub use modules::ModuleGauges;
pub use process::ProcessGauges;
pub use shares::ShareGauges;
pub use sizes::{SizeGauges, Sizes};

/// Upper ends of the duration buckets, in microseconds: from a warm native guest to the longest allowed run.
const BUCKETS_US: [u64; 13] = [
    100,
    250,
    500,
    1_000,
    2_500,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
];

/// Words under which invocations are counted, in the order of [`status_index`].
const STATUSES: [Status; 3] = [Status::Success, Status::Error, Status::Timeout];

const fn status_index(status: Status) -> usize {
    match status {
        Status::Success => 0,
        Status::Error => 1,
        Status::Timeout => 2,
    }
}

/// What one core counts. Only that core writes, so its lines stay in its cache; 128 bytes are two lines, which the
/// processor fetches together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreCounters {
    requests: AtomicU64,
    running: AtomicU64,
    /// Those that its peers gave it are counted by them.
    connections: AtomicU64,
    parked: AtomicU64,
    parked_bytes: AtomicU64,
    /// Invocations by how they came to their instance: on demand, parked.
    starts: [AtomicU64; 3],
    websockets: AtomicU64,
    websocket_messages: AtomicU64,
    invocations: [AtomicU64; STATUSES.len()],
    /// The last counts what is longer than every bucket.
    durations: [AtomicU64; BUCKETS_US.len() + 1],
    duration_us: AtomicU64,
}

impl CoreCounters {
    /// A request of any kind arrived.
    pub fn requested(&self) {
        add(&self.requests, 1);
    }

    /// Sets how many invocations are under way.
    pub fn set_running(&self, count: usize) {
        self.running.store(count as u64, Ordering::Relaxed);
    }

    /// Invocations under way.
    #[must_use]
    pub fn running(&self) -> u64 {
        load(&self.running)
    }

    /// A connection was accepted for this core.
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them was closed.
    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        load(&self.connections)
    }

    /// An invocation came to its instance, which was parked for it, went on from a snapshot, or neither.
    pub fn started(&self, parked: bool, from_snapshot: bool) {
        let start = if parked { 1 } else { 2 * usize::from(from_snapshot) };
        if let Some(counter) = self.starts.get(start) {
            add(counter, 1);
        }
    }

    /// Sets how many guests wait for invocations, and their linear memory.
    pub fn set_parked(&self, guests: usize, memory_bytes: usize) {
        self.parked.store(guests as u64, Ordering::Relaxed);
        self.parked_bytes.store(memory_bytes as u64, Ordering::Relaxed);
    }

    /// Sets how many WebSockets are open.
    pub fn set_websockets(&self, count: usize) {
        self.websockets.store(count as u64, Ordering::Relaxed);
    }

    /// A WebSocket's message is invoked.
    pub fn websocket_message(&self) {
        add(&self.websocket_messages, 1);
    }

    /// An invocation ended.
    pub fn invoked(&self, status: Status, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|end| us <= *end).unwrap_or(BUCKETS_US.len());
        for counter in
            [self.invocations.get(status_index(status)), self.durations.get(bucket)].into_iter().flatten()
        {
            add(counter, 1);
        }
        add(&self.duration_us, us);
    }
}

/// What others know at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Code that is loaded.
    pub modules: ModuleGauges,
    /// Invocation records committed since the start.
    pub records_written: u64,
    /// Invocation records dropped since the start.
    pub records_dropped: u64,
    /// Jobs of events.
    pub jobs: JobCounts,
    /// Backends that are servers.
    pub backends: Vec<BackendGauges>,
    /// What all share.
    pub shares: ShareGauges,
    /// Statistics of functions since the start; none where they are not told.
    pub functions: Vec<Total>,
    /// What came of traces; `None` where none are sent.
    pub traces: Option<TraceCounts>,
    /// This process, where the system tells.
    pub process: Option<ProcessGauges>,
    /// What is on the disk.
    pub sizes: SizeGauges,
    /// Lines of the access log dropped since the start.
    pub access_lines_dropped: u64,
}

/// All counts of a node.
#[derive(Debug)]
pub struct Metrics {
    cores: Mutex<Vec<Arc<CoreCounters>>>,
    /// Control-plane answers by the status' first digit, 1 to 5.
    control: [AtomicU64; 5],
    started: SystemTime,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { cores: Mutex::default(), control: Default::default(), started: SystemTime::now() }
    }
}

impl Metrics {
    /// Counters for one core, which a scrape includes from now on.
    #[must_use]
    pub fn register_core(&self) -> Arc<CoreCounters> {
        let counters = Arc::<CoreCounters>::default();
        self.cores.lock().push(Arc::clone(&counters));
        counters
    }

    /// The control plane answered a request.
    pub fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.control.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn render(&self, gauges: &Gauges) -> String {
        let all = AllCores(self.cores.lock().clone());
        let mut text = Text::default();
        self.render_node(&mut text, &all);
        all.render_starts(&mut text);
        all.render_invocations(&mut text, gauges);
        render_compilations(&mut text, gauges);
        render_records_and_jobs(&mut text, gauges);
        if !gauges.functions.is_empty() {
            functions::render(&mut text, &gauges.functions);
        }
        process::render(&mut text, gauges.process.as_ref());
        sizes::render(&mut text, &gauges.sizes);
        let dropped = gauges.access_lines_dropped;
        text.single("orama_access_log_dropped_total", "counter", "Lines lost to a full queue.", dropped);
        text.0
    }

    fn render_node(&self, text: &mut Text, all: &AllCores) {
        text.head("orama_build_info", "gauge", "The version that runs.");
        text.line("orama_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        text.single(
            "orama_start_time_seconds",
            "gauge",
            "Start of the node, in Unix time.",
            started.as_secs_f64(),
        );
        text.single("orama_cores", "gauge", "Serving threads.", all.0.len());

        let connections = all.sum(&CoreCounters::connections);
        text.single("orama_http_connections", "gauge", "Connections open.", connections);
        let requests = all.sum(&|core| load(&core.requests));
        text.single("orama_http_requests_total", "counter", "HTTP requests received.", requests);
        text.head("orama_control_responses_total", "counter", "Control-plane answers by class of status.");
        for (counter, class) in self.control.iter().zip(["1xx", "2xx", "3xx", "4xx", "5xx"]) {
            text.line("orama_control_responses_total", &[("class", class)], load(counter));
        }
    }
}

/// The counters of every core, which a scrape adds up.
struct AllCores(Vec<Arc<CoreCounters>>);

impl AllCores {
    fn sum(&self, of: &dyn Fn(&CoreCounters) -> u64) -> u64 {
        self.0.iter().map(|core| of(core)).sum()
    }

    fn render_starts(&self, text: &mut Text) {
        text.head(
            "orama_starts_total",
            "counter",
            "Instances that invocations were given, by how they started.",
        );
        for (index, start) in ["command", "parked", "snapshot"].into_iter().enumerate() {
            let count = self.sum(&|core| core.starts.get(index).map_or(0, load));
            text.line("orama_starts_total", &[("start", start)], count);
        }
        let parked = self.sum(&|core| load(&core.parked));
        text.single(
            "orama_parked_instances",
            "gauge",
            "Started instances that wait for an invocation.",
            parked,
        );
        let parked_bytes = self.sum(&|core| load(&core.parked_bytes));
        text.single("orama_parked_memory_bytes", "gauge", "Their linear memory.", parked_bytes);

        let open = self.sum(&|core| load(&core.websockets));
        text.single("orama_websockets_open", "gauge", "WebSockets open.", open);
        let messages = self.sum(&|core| load(&core.websocket_messages));
        text.single("orama_websocket_messages_total", "counter", "Messages received to invoke.", messages);
    }

    fn render_invocations(&self, text: &mut Text, gauges: &Gauges) {
        let running = self.sum(&|core| load(&core.running));
        text.single("orama_invocations_running", "gauge", "Invocations under way.", running);
        shares::render(text, &gauges.shares, running);
        text.head("orama_invocations_total", "counter", "Invocations that ended.");
        for status in STATUSES {
            let count = self.sum(&|core| core.invocations.get(status_index(status)).map_or(0, load));
            text.line("orama_invocations_total", &[("status", status.as_str())], count);
        }
        let name = "orama_invocation_duration_seconds";
        text.head(name, "histogram", "Time from an invocation's start to its end.");
        let mut below = 0;
        let ends = BUCKETS_US.iter().map(|us| seconds(*us).to_string()).chain(["+Inf".to_owned()]);
        for (bucket, end) in ends.enumerate() {
            below += self.sum(&|core| core.durations.get(bucket).map_or(0, load));
            text.line(&format!("{name}_bucket"), &[("le", &end)], below);
        }
        text.line(&format!("{name}_sum"), &[], seconds(self.sum(&|core| load(&core.duration_us))));
        text.line(&format!("{name}_count"), &[], below);
    }
}

fn render_compilations(text: &mut Text, gauges: &Gauges) {
    let totals = &gauges.modules.totals;
    text.head("orama_compilations_total", "counter", "Modules compiled.");
    text.line("orama_compilations_total", &[("result", "ok")], totals.compiled);
    text.line("orama_compilations_total", &[("result", "error")], totals.compile_failed);
    let compile_seconds = seconds(totals.compile_us);
    text.single("orama_compilation_seconds_total", "counter", "Time spent compiling.", compile_seconds);
    backends::render(text, &gauges.backends);
    modules::render(text, &gauges.modules);
}

fn render_records_and_jobs(text: &mut Text, gauges: &Gauges) {
    let written = gauges.records_written;
    text.single("orama_invocation_records_written_total", "counter", "Invocation records stored.", written);
    let dropped = gauges.records_dropped;
    text.single(
        "orama_invocation_records_dropped_total",
        "counter",
        "Invocation records lost to a full queue or a failing disk.",
        dropped,
    );
    if let Some(TraceCounts { sent, dropped }) = gauges.traces {
        let name = "orama_trace_runs_total";
        text.head(name, "counter", "Runs whose trace was recorded, by what came of it.");
        text.line(name, &[("result", "sent")], sent);
        text.line(name, &[("result", "dropped")], dropped);
    }
    let JobCounts { waiting, running, delivered, retried, dead, later, skipped } = gauges.jobs;
    text.single(
        "orama_event_jobs_waiting",
        "gauge",
        "Events accepted for a trigger and not running.",
        waiting,
    );
    text.single("orama_event_jobs_running", "gauge", "Events that a function is handling.", running);
    let ends = "Attempts to handle events, by what came of them.";
    text.head("orama_event_jobs_total", "counter", ends);
    for (result, count) in [("delivered", delivered), ("retried", retried), ("dead", dead)] {
        text.line("orama_event_jobs_total", &[("result", result)], count);
    }
    text.single("orama_events_later", "gauge", "Messages that wait for their time.", later);
    text.single(
        "orama_schedule_slots_skipped_total",
        "counter",
        "Slots of schedules left out because the last run went on.",
        skipped,
    );
}

/// Adds to a counter that only this core writes, which saves locking its line.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(load(counter).wrapping_add(more), Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

/// Text under construction. Writing to a `String` cannot fail, so results are not looked at.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Labels hold fixed words only, which need no escaping.
    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_platform::modules::Totals;
    use std::collections::HashSet;

    #[test]
    fn a_scrape_adds_the_cores_up() {
        let metrics = Metrics::default();
        let (a, b) = (metrics.register_core(), metrics.register_core());
        a.requested();
        b.requested();
        a.set_running(2);
        a.set_running(1);
        b.set_running(3);
        a.set_websockets(2);
        b.set_websockets(1);
        b.websocket_message();
        a.invoked(Status::Success, Duration::from_micros(90));
        b.invoked(Status::Success, Duration::from_millis(2));
        b.invoked(Status::Timeout, Duration::from_secs(400));
        metrics.answered(http::StatusCode::NOT_FOUND);
        let totals = Totals { compiled: 1, compile_failed: 1, compile_us: 2_000_000, ..Totals::default() };
        let modules = ModuleGauges { totals, ..ModuleGauges::default() };
        let text = metrics.render(&Gauges { modules, records_dropped: 3, ..Gauges::default() });
        for line in [
            "orama_cores 2",
            "orama_http_requests_total 2",
            "orama_invocations_running 4",
            "orama_websockets_open 3",
            "orama_websocket_messages_total 1",
            "orama_control_responses_total{class=\"4xx\"} 1",
            "orama_invocations_total{status=\"success\"} 2",
            "orama_invocations_total{status=\"timeout\"} 1",
            "orama_invocation_duration_seconds_bucket{le=\"0.0001\"} 1",
            "orama_invocation_duration_seconds_bucket{le=\"0.0025\"} 2",
            "orama_invocation_duration_seconds_bucket{le=\"300\"} 2",
            "orama_invocation_duration_seconds_bucket{le=\"+Inf\"} 3",
            "orama_invocation_duration_seconds_count 3",
            "orama_invocation_duration_seconds_sum 400.00209",
            "orama_compilations_total{result=\"error\"} 1",
            "orama_compilation_seconds_total 2",
            "orama_invocation_records_dropped_total 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_text_is_well_formed() {
        let text = Metrics::default().render(&Gauges::default());
        assert!(text.ends_with('\n'));
        let (mut typed, mut seen) = (HashSet::new(), HashSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(typed.insert(rest.split(' ').next().unwrap().to_owned()), "{line} twice");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let value: f64 = value.parse().unwrap();
                assert!(value.is_finite() && seen.insert(series.to_owned()), "{line}");
                let name = series.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end))
                    .unwrap_or(name);
                assert!(typed.contains(family), "{line} has no type");
            }
        }
    }

    #[test]
    fn cores_do_not_share_cache_lines() {
        assert!(align_of::<CoreCounters>() >= 128);
    }
}
