//! Traces: what a client, functions, calls, messages and fetches have to do with one another, as a collector gets it.

use crate::example::{Sent, receive};
use crate::harness::{Node, Options, eventually, lock, new_dir};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use orama_test_support::guests;
use prost::Message;
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Takes OTLP over HTTP and keeps each message in a file; also what functions fetch from.
struct Collector {
    address: SocketAddr,
    dir: PathBuf,
    fetched: Arc<Mutex<Vec<Sent>>>,
}

impl Collector {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, dir) = (listener.local_addr().unwrap(), new_dir("collector"));
        let fetched = Arc::<Mutex<Vec<_>>>::default();
        let (to, kept) = (dir.clone(), Arc::clone(&fetched));
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let Some(request) = receive(&stream) else { continue };
                match request.line.split(' ').nth(1) {
                    Some("/v1/traces") => {
                        fs::write(to.join(format!("{n:06}.traces")), &request.body).unwrap()
                    }
                    Some("/v1/metrics") => {
                        fs::write(to.join(format!("{n:06}.metrics")), &request.body).unwrap()
                    }
                    _ => lock(&kept).push(request),
                }
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = (&stream).write_all(head.as_bytes());
            }
        });
        Self { address, dir, fetched }
    }

    fn node(&self, sample: &str) -> Option<Node> {
        let address = self.address;
        let config = format!(
            "[egress]\nallow = [\"{address}\"]\n[telemetry]\nendpoint = \"http://{address}\"\nsample = {sample}\nmetrics_seconds = 1\n"
        );
        Node::try_start(Options { config, ..Options::default() }).ok()
    }

    fn files(&self, kind: &str) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let is_of = |path: &PathBuf| path.extension().is_some_and(|extension| extension == kind);
        paths.into_iter().filter(is_of).map(|path| fs::read(path).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let read = |bytes: Vec<u8>| ExportTraceServiceRequest::decode(&bytes[..]).unwrap_or_default();
        let resources = self.files("traces").into_iter().flat_map(|bytes| read(bytes).resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Attribute::StringValue(text) => Some(text.clone()),
        Attribute::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0bb902b7-01";

/// The names from a span up to the one that the client's is the parent of.
fn lineage(span: &Span, all: &HashMap<Vec<u8>, &Span>) -> Vec<String> {
    let mut names = vec![span.name.clone()];
    let mut parent = &span.parent_span_id;
    while let Some(span) = all.get(parent) {
        names.push(span.name.clone());
        parent = &span.parent_span_id;
    }
    assert_eq!(*parent, 0x00f0_67aa_0bb9_02b7_u64.to_be_bytes(), "{names:?} hangs below the client's span");
    names.reverse();
    names
}

#[test]
fn a_request_through_three_functions_is_one_tree() {
    let collector = Collector::start(200);
    let Some(node) = collector.node("0") else { return };
    let Some(()) = node.calls("front", &[]) else { return };
    let Ok(misc) = guests::go("misc", &[]) else { return };
    node.deploy("worker", &fs::read(misc).unwrap(), &[]);
    node.deploy("listener", &guests::wat("echo"), &[]);
    node.request("POST", "/v1/functions/listener/triggers").body(r#"{"topic":"done"}"#).send().expect(201);
    let url = format!("http://user:secret@{}/price?token=secret", collector.address);
    let steps = json!({ "do": "steps", "steps": [
        { "do": "query", "sql": "SELECT 'a secret' AS s, 7 AS n WHERE 1 = ?", "args": [1] },
        { "do": "fetch", "method": "GET", "url": url },
        { "do": "publish", "topic": "done", "data": { "id": 1 } },
    ] });
    let what = json!({ "do": "invoke", "name": "worker", "input": steps }).to_string();
    let answer = node.invoke_request("front").header("traceparent", PARENT).body(what).send().expect(200);
    let of_run = |spans: &[Span], name: &str| {
        spans.iter().find(|span| span.name == name && attribute(span, "faas.name").is_some()).cloned()
    };
    eventually("the last function's span is there", || of_run(&collector.spans(), "listener").is_some());
    let spans = collector.spans();
    let all: HashMap<_, _> = spans.iter().map(|span| (span.span_id.clone(), span)).collect();
    assert_eq!(all.len(), spans.len(), "each span has an id of its own");
    let mut lines: Vec<_> = spans.iter().map(|span| lineage(span, &all).join(" > ")).collect();
    lines.sort();
    lines.retain(|line| !line.ends_with("wait") && !line.ends_with("start"));
    let worker = "front > run > function_invoke_v2 > worker";
    let wanted = [
        "front".to_owned(),
        "front > run".to_owned(),
        "front > run > function_invoke_v2".to_owned(),
        worker.to_owned(),
        format!("{worker} > run"),
        format!("{worker} > run > db_query"),
        format!("{worker} > run > http_fetch"),
        format!("{worker} > run > pubsub_publish"),
        format!("{worker} > run > pubsub_publish > listener"),
        format!("{worker} > run > pubsub_publish > listener > run"),
    ];
    assert_eq!(lines, wanted);
    let trace_id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128;
    assert!(spans.iter().all(|span| span.trace_id == trace_id.to_be_bytes()));
    assert!(spans.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let sql = attribute(named("db_query"), "db.query.text").unwrap();
    assert_eq!(sql, "SELECT ? AS s, ? AS n WHERE ? = ?");
    let fetched = attribute(named("http_fetch"), "url.full").unwrap();
    assert_eq!(fetched, format!("GET http://{}/price", collector.address));
    assert_eq!(attribute(named("pubsub_publish"), "messaging.destination.name").unwrap(), "done");
    let front = of_run(&spans, "front").unwrap();
    assert_eq!(attribute(&front, "faas.invocation_id").as_deref(), answer.header("x-request-id"));
    assert_eq!(
        (front.kind, of_run(&spans, "listener").unwrap().kind),
        (SpanKind::Server as i32, SpanKind::Consumer as i32)
    );
    // The one that was fetched from is told the trace, and the record keeps it.
    let told = lock(&collector.fetched)[0].headers["traceparent"].clone();
    let fetch_id: String = named("http_fetch").span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(told, format!("00-{trace_id:032x}-{fetch_id}-01"));
    let record = node.record("front", answer.header("x-request-id").unwrap());
    assert_eq!(record["trace_id"], format!("{trace_id:032x}"));
    eventually("metrics come, too", || !collector.files("metrics").is_empty());
    let metrics =
        ExportMetricsServiceRequest::decode(&collector.files("metrics").pop().unwrap()[..]).unwrap();
    let scope = &metrics.resource_metrics[0].scope_metrics[0];
    assert!(scope.metrics.iter().any(|metric| metric.name == "orama_function_duration_seconds"));
}

#[test]
fn what_is_not_sampled_is_passed_on_and_not_told() {
    let collector = Collector::start(200);
    let Some(node) = collector.node("0") else { return };
    let Ok(misc) = guests::go("misc", &[]) else { return };
    node.deploy("worker", &fs::read(misc).unwrap(), &[("is_public", "true")]);
    let fetch = json!({ "do": "fetch", "method": "GET", "url": format!("http://{}/", collector.address) })
        .to_string();
    node.invoke("worker", &fetch).expect(200);
    let unsampled = PARENT.replace("-01", "-00");
    node.invoke_request("worker").header("traceparent", &unsampled).body(&*fetch).send().expect(200);
    // A stranger cannot have the node record anything.
    let stranger = node.anonymous("POST", "/v1/invoke/default/worker").header("traceparent", PARENT);
    stranger.body(&*fetch).send().expect(200);
    let told: Vec<_> =
        lock(&collector.fetched).iter().map(|sent| sent.headers.get("traceparent").cloned()).collect();
    assert_eq!(told, [None, Some(unsampled.clone()), Some(unsampled)]);
    // What comes later was sampled, so the others would be there.
    node.invoke_request("worker").header("traceparent", PARENT).body("{}").send();
    eventually("the sampled one is there", || !collector.spans().is_empty());
    assert_eq!(collector.spans().iter().filter(|span| span.name == "worker").count(), 1);
}

#[test]
fn a_share_of_requests_is_traced_and_a_collector_that_fails_holds_nothing_up() {
    let collector = Collector::start(503);
    let Some(node) = collector.node("1.0") else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    for _ in 0..20 {
        node.invoke("echo", "a").expect(200);
    }
    let dropped = "orama_trace_runs_total{result=\"dropped\"}";
    eventually("what the collector refuses is counted", || node.metric(dropped) == 20.0);
    let told = node.stderr().matches("does not take what this node sends").count();
    assert!(told <= 2, "{}", node.stderr());
    assert!(node.stderr().contains("it answered 503"), "{}", node.stderr());
}

#[test]
fn without_a_collector_a_trace_is_passed_on_all_the_same() {
    let collector = Collector::start(200);
    let config = format!("[egress]\nallow = [\"{}\"]\n", collector.address);
    let Ok(node) = Node::try_start(Options { config, ..Options::default() }) else { return };
    let Ok(misc) = guests::go("misc", &[]) else { return };
    node.deploy("worker", &fs::read(misc).unwrap(), &[]);
    let fetch = json!({ "do": "fetch", "method": "GET", "url": format!("http://{}/", collector.address) })
        .to_string();
    node.invoke_request("worker").header("traceparent", PARENT).body(fetch).send().expect(200);
    assert_eq!(lock(&collector.fetched)[0].headers["traceparent"], PARENT);
}
