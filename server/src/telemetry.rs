//! Traces and metrics for an OpenTelemetry collector: off unless an endpoint is configured.
//!
//! A core only puts what a sampled run did into a bounded queue. A task of the backplane encodes it and sends it. What does not
//! fit, or what the collector does not take, is dropped and counted.

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use orama_platform::records::Function;
use orama_runtime::phases::Phases;
use orama_runtime::trace::{Spans, TraceContext};
use orama_store::causes::Causes;
use orama_store::egress::tls;
use prost::Message;
use reqwest::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use url::Url;

mod metrics;
mod spans;

/// Runs that wait to be sent. One has at most 128 host calls of some 600 bytes each, so all have 40 MB.
const QUEUE_MAX: usize = 512;
/// Runs in one request to the collector.
const BATCH_MAX: usize = 256;
/// How long a run waits for others to be sent with it.
const BATCH_EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take for an answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a failing collector is told of in the log.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What is sent, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    /// The collector, as OTLP over HTTP: `v1/traces` and `v1/metrics` below this URL. Nothing is sent without it.
    pub endpoint: Option<Url>,
    /// The share of requests without a trace of their own that are traced, from 0 to 1.
    pub sample: f64,
    /// How often metrics are sent; zero is never.
    pub metrics_every: Duration,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { endpoint: None, sample: 0.01, metrics_every: Duration::from_secs(60) }
    }
}

impl TelemetrySettings {
    /// Checks the URL of a collector. What is wrong is told without a password that may be in it.
    ///
    /// # Errors
    /// What is expected.
    pub fn endpoint(text: &str) -> Result<Url, String> {
        let expected = "expected a URL such as http://127.0.0.1:4318";
        let url = Url::parse(text).map_err(|error| format!("{expected}: {error}"))?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || !is_plain {
            return Err(format!("{expected}, with http or https, and without user, password and query"));
        }
        Ok(url)
    }
}

// The share is a number, as the config has checked.
impl Eq for TelemetrySettings {}

/// A run whose trace is recorded.
pub(crate) struct RunSpan {
    pub(crate) trace: TraceContext,
    pub(crate) parent_id: Option<u64>,
    pub(crate) function: Arc<Function>,
    pub(crate) version: u32,
    pub(crate) trigger_type: &'static str,
    pub(crate) request_id: String,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) phases: Phases,
    pub(crate) memory_bytes: u64,
    pub(crate) http_status: u16,
    pub(crate) error_code: Option<&'static str>,
    pub(crate) calls: Box<Spans>,
}

/// What came of traces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceCounts {
    /// Runs that the collector took.
    pub sent: u64,
    /// Runs that were lost to a full queue or a failing collector.
    pub dropped: u64,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// Which traces are recorded, and the queue of those that wait to be sent.
pub(crate) struct Traces {
    /// Numbers below this are taken.
    below: u64,
    queue: mpsc::Sender<RunSpan>,
    counters: Arc<Counters>,
}

impl Traces {
    /// Whether the trace of a random number is recorded.
    pub(crate) fn takes(&self, random: u64) -> bool {
        random < self.below
    }

    /// Queues a run. Never waits.
    pub(crate) fn send(&self, run: RunSpan) {
        if self.queue.try_send(run).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What came of them so far.
    pub(crate) fn counts(&self) -> TraceCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TraceCounts { sent: load(&self.counters.sent), dropped: load(&self.counters.dropped) }
    }
}

/// The node's metrics as text.
pub(crate) type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Why telemetry cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("telemetry.endpoint: {0}")]
pub struct TelemetryError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Sends to the collector.
#[derive(Clone)]
struct Collector {
    client: Client,
    endpoint: Url,
    counters: Arc<Counters>,
}

/// What is known of traces before anything is sent; `None` without an endpoint.
pub(crate) struct Telemetry {
    pub(crate) traces: Arc<Traces>,
    collector: Collector,
    queue: mpsc::Receiver<RunSpan>,
    metrics_every: Duration,
}

impl Telemetry {
    /// # Errors
    /// When this machine's certificates cannot be read.
    pub(crate) fn new(settings: &TelemetrySettings) -> Result<Option<Self>, TelemetryError> {
        let Some(endpoint) = settings.endpoint.clone() else { return Ok(None) };
        let client = tls::config().map_err(|error| TelemetryError(error.into()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(client)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(SEND_TIMEOUT)
            .build()
            .map_err(|error| TelemetryError(error.into()))?;
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let counters = Arc::<Counters>::default();
        let traces = Traces {
            // With a share of 1, the largest integer: all numbers but that one are below it.
            below: (settings.sample * 2_f64.powi(64)) as u64,
            queue: sender,
            counters: Arc::clone(&counters),
        };
        let collector = Collector { client, endpoint, counters };
        let metrics_every = settings.metrics_every;
        Ok(Some(Self { traces: Arc::new(traces), collector, queue, metrics_every }))
    }

    /// Sends as long as the node runs. `node` names it for the collector.
    pub(crate) fn start(self, backplane: &tokio::runtime::Handle, node: String, metrics: RenderMetrics) {
        let Self { traces: _, collector, queue, metrics_every } = self;
        if !metrics_every.is_zero() {
            backplane.spawn(send_metrics(collector.clone(), node.clone(), metrics, metrics_every));
        }
        backplane.spawn(send_traces(collector, node, queue));
    }
}

async fn send_traces(collector: Collector, node: String, mut queue: mpsc::Receiver<RunSpan>) {
    let mut told = None;
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let due = tokio::time::Instant::now() + BATCH_EVERY;
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX - batch.len();
            match tokio::time::timeout_at(due, queue.recv_many(&mut batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        let runs = batch.len() as u64;
        let encoded = spans::encode(&node, &std::mem::take(&mut batch), (Instant::now(), SystemTime::now()));
        let sent = collector.send("v1/traces", encoded.encode_to_vec(), &mut told).await;
        let counter = if sent { &collector.counters.sent } else { &collector.counters.dropped };
        counter.fetch_add(runs, Ordering::Relaxed);
    }
}

async fn send_metrics(collector: Collector, node: String, render: RenderMetrics, every: Duration) {
    let (mut told, started) = (None, SystemTime::now());
    loop {
        tokio::time::sleep(every).await;
        let (render, node) = (Arc::clone(&render), node.clone());
        let encode = move || metrics::encode(&node, &render(), (started, SystemTime::now())).encode_to_vec();
        let Ok(bytes) = tokio::task::spawn_blocking(encode).await else { return };
        collector.send("v1/metrics", bytes, &mut told).await;
    }
}

impl Collector {
    /// Sends a message; `false` if the collector did not take it, which the log tells now and then.
    async fn send(&self, path: &str, message: Vec<u8>, told: &mut Option<Instant>) -> bool {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/{path}", self.endpoint.path().trim_end_matches('/')));
        let request = self.client.post(url).header(CONTENT_TYPE, "application/x-protobuf");
        let why = match request.body(Bytes::from(message)).send().await {
            Ok(answer) if answer.status().is_success() => return true,
            Ok(answer) => told_status(answer.status()),
            Err(error) => Causes(&error.without_url()).to_string(),
        };
        if told.is_none_or(|at: Instant| at.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(
                why,
                path,
                "the collector of `telemetry.endpoint` does not take what this node sends"
            );
        }
        false
    }
}

fn told_status(status: StatusCode) -> String {
    format!("it answered {status}")
}
