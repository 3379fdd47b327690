//! The log of invocations.

use super::*;
use jiff::Timestamp;
use orama_platform::records::Extras;
use orama_runtime::invocation::{Level, LogMessage, Status};
use orama_runtime::names::FunctionName;

fn record(n: i64, status: Status, messages: &[(Level, &str)]) -> Record {
    let started_at_ms = 1_700_000_000_000 + n;
    let function = Arc::new(orama_platform::records::Function {
        namespace: Namespace::new("a").unwrap(),
        name: FunctionName::new("f").unwrap(),
    });
    Record {
        request_id: format!("r-{n}").as_str().into(),
        function: Arc::clone(&function),
        version: u32::try_from(n).unwrap(),
        trigger_type: "http",
        attempt: 1,
        status,
        duration_us: 1_234,
        input_size: 5,
        output_size: 6,
        error: (status == Status::Error).then(|| "it failed".to_owned()),
        started_at_ms: Timestamp::now().as_millisecond() - 60_000 + n,
        messages: messages
            .iter()
            .map(|(level, text)| LogMessage {
                level: *level,
                message: (*text).to_owned(),
                timestamp_ms: started_at_ms,
            })
            .collect(),
        ..Extras::default().into_record(function)
    }
}

async fn node() -> Node {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    node.deployed("f", &command(2)).await;
    node.app.platform.records.submit(vec![record(
        1,
        Status::Success,
        &[(Level::Info, "one"), (Level::Error, "two")],
    )]);
    // The second is still with a core when the log is asked for.
    node.gathered.lock().unwrap().push(record(2, Status::Error, &[(Level::Info, "three")]));
    node
}

fn ids(json: &Value) -> Vec<&str> {
    json["invocations"].as_array().unwrap().iter().map(|i| i["request_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_log_has_the_contracts_fields_newest_first() {
    let node = node().await;
    let json = node.get("/v1/functions/f/logs").await.json();
    assert_eq!((&json["name"], &json["namespace"], &json["count"]), (&"f".into(), &"a".into(), &2.into()));
    assert_eq!(ids(&json), ["r-2", "r-1"]);
    let first = &json["invocations"][1];
    let mut keys: Vec<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "attempt",
            "duration_ms",
            "error",
            "input_size",
            "memory_bytes",
            "messages",
            "output_size",
            "phases_ms",
            "request_id",
            "started_at",
            "status",
            "trigger_type",
            "version"
        ]
    );
    assert_eq!((&first["duration_ms"], &first["status"]), (&1.234.into(), &"success".into()));
    assert_eq!((&first["trigger_type"], &first["error"]), (&"http".into(), &Value::Null));
    assert_eq!(json["invocations"][0]["error"], "it failed");
    let message =
        serde_json::json!({"level": "info", "message": "one", "timestamp": "2023-11-14T22:13:20.001Z"});
    assert_eq!(first["messages"][0], message);
    let lines: Vec<_> = json["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (l["message"].as_str().unwrap(), l["request_id"].as_str().unwrap()))
        .collect();
    assert_eq!(lines, [("three", "r-2"), ("two", "r-1"), ("one", "r-1")]);
    assert_eq!(json["logs"][1]["level"], "error");
}

#[tokio::test]
async fn the_log_can_be_narrowed() {
    let node = node().await;
    for (query, expected) in [
        ("limit=1", &["r-2"][..]),
        ("status=success", &["r-1"]),
        ("status=timeout", &[]),
        ("request_id=r-1", &["r-1"]),
        ("since=1h", &["r-2", "r-1"]),
        ("since=1s", &[]),
        ("since=2020-01-01T00:00:00Z", &["r-2", "r-1"]),
        ("since=2999-01-01T00:00:00%2B01:00", &[]),
        ("limit=1000&status=error&request_id=r-2&namespace=a", &["r-2"]),
    ] {
        let json = node.get(&format!("/v1/functions/f/logs?{query}")).await.json();
        assert_eq!(ids(&json), expected, "{query}");
        assert_eq!(json["count"], expected.len(), "{query}");
    }
    assert_eq!(ids(&node.get("/v1/functions/f@1/logs").await.json()), ["r-1"]);
}

#[tokio::test]
async fn a_bad_filter_is_named() {
    let node = node().await;
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("since=yesterday", "since"),
        ("status=ok", "status"),
        ("stats=error", "stats"),
    ] {
        let answer = node.get(&format!("/v1/functions/f/logs?{query}")).await;
        assert_eq!(answer.error(), (400, "INVALID_QUERY".into()), "{query}");
        assert!(answer.message().contains(named), "{}", answer.message());
    }
}
