//! Runs as spans: one for the run, and below it waiting, start, the code, and each host call that was made.

use super::RunSpan;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use orama_runtime::trace::HostSpan;
use std::time::{Duration, Instant, SystemTime};

/// The least status of an answer that is the function's fault.
const SERVER_ERRORS: u16 = 500;

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: impl Into<i64>) -> KeyValue {
    attribute(key, Value::IntValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Who sends.
pub(super) fn resource(node: &str) -> Resource {
    let attributes = vec![
        text("service.name", "orama"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", node),
    ];
    Resource { attributes, ..Resource::default() }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "orama".to_owned(), ..InstrumentationScope::default() }
}

/// Nanoseconds since the Unix epoch.
pub(super) fn nanos(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Tells the time of the wall from that of the machine.
struct Clock {
    now: (Instant, SystemTime),
}

impl Clock {
    fn nanos(&self, at: Instant) -> u64 {
        let (now, wall) = self.now;
        nanos(wall.checked_sub(now.saturating_duration_since(at)).unwrap_or(wall))
    }
}

/// The message for a collector. `now` is one moment on both clocks.
pub(super) fn encode(node: &str, runs: &[RunSpan], now: (Instant, SystemTime)) -> ExportTraceServiceRequest {
    let clock = Clock { now };
    let spans = runs.iter().flat_map(|run| run_spans(run, &clock)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
    let resource = Some(resource(node));
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

fn run_spans(run: &RunSpan, clock: &Clock) -> Vec<Span> {
    let own_id = run.trace.span_id;
    let span =
        |id: u64, parent_id: Option<u64>, name: String, kind, (begun, ended): (Instant, Instant)| Span {
            trace_id: run.trace.trace_id.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: parent_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
            name,
            kind: kind as i32,
            start_time_unix_nano: clock.nanos(begun),
            end_time_unix_nano: clock.nanos(ended),
            ..Span::default()
        };
    let kind = match run.trigger_type {
        "http" | "websocket" => SpanKind::Server,
        "pubsub" => SpanKind::Consumer,
        _ => SpanKind::Internal,
    };
    let mut whole = span(own_id, run.parent_id, run.function.name.to_string(), kind, (run.begun, run.ended));
    whole.attributes = attributes(run);
    let is_failed = run.error_code.is_some() || run.http_status >= SERVER_ERRORS;
    whole.status = is_failed.then(|| failed(run.error_code.unwrap_or("the function answered so")));

    // Ids next to the run's own, on the other side than those of host calls.
    let id_of = |part: u64| own_id.wrapping_sub(part).max(1);
    let micros = |us: u32| Duration::from_micros(us.into());
    let starts = (run.begun + micros(run.phases.wait_us)).min(run.ended);
    let runs = (starts + micros(run.phases.start_us)).min(run.ended);
    let mut spans = vec![whole];
    for (part, name, times) in
        [(1, "wait", (run.begun, starts)), (2, "start", (starts, runs)), (3, "run", (runs, run.ended))]
    {
        spans.push(span(id_of(part), Some(own_id), name.to_owned(), SpanKind::Internal, times));
    }
    for call in &run.calls.calls {
        let HostSpan { name, span_id, begun, ended, detail, is_failed } = call;
        let (kind, key) = about(name);
        let mut child = span(*span_id, Some(id_of(3)), (*name).to_owned(), kind, (*begun, *ended));
        if !detail.is_empty() {
            child.attributes.push(text(key, detail.as_str()));
        }
        child.status = is_failed.then(|| failed("the call failed"));
        spans.push(child);
    }
    spans
}

fn failed(message: &str) -> Status {
    Status { message: message.to_owned(), code: StatusCode::Error as i32 }
}

/// The kind of a host call's span, and the attribute that its detail is.
fn about(name: &str) -> (SpanKind, &'static str) {
    match name {
        "pubsub_publish" | "pubsub_publish_batch" | "pubsub_publish_later" | "exec_and_publish" => {
            (SpanKind::Producer, "messaging.destination.name")
        }
        "function_invoke_async" => (SpanKind::Producer, "faas.invoked_name"),
        "function_invoke" | "function_invoke_v2" => (SpanKind::Client, "faas.invoked_name"),
        "http_fetch" => (SpanKind::Client, "url.full"),
        name if name.starts_with("db_") => (SpanKind::Client, "db.query.text"),
        _ => (SpanKind::Client, "orama.detail"),
    }
}

fn attributes(run: &RunSpan) -> Vec<KeyValue> {
    let trigger = match run.trigger_type {
        "http" | "websocket" => "http",
        "pubsub" => "pubsub",
        "cron" => "timer",
        _ => "other",
    };
    let mut attributes = vec![
        text("faas.name", run.function.name.as_str()),
        text("faas.version", run.version.to_string()),
        text("faas.invocation_id", run.request_id.as_str()),
        text("faas.trigger", trigger),
        text("orama.namespace", run.function.namespace.as_str()),
        number("orama.memory_bytes", i64::try_from(run.memory_bytes).unwrap_or(i64::MAX)),
    ];
    if run.http_status > 0 {
        attributes.push(number("http.response.status_code", run.http_status));
    }
    if let Some(code) = run.error_code {
        attributes.push(text("error.type", code));
    }
    if run.calls.left_out > 0 {
        attributes.push(number("orama.host_calls_left_out", run.calls.left_out));
    }
    attributes
}
