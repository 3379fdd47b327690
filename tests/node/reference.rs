//! Every row of the HTTP reference once, in the order in which a developer meets them, with the fields that clients rely on.

use crate::harness::{Node, Options};
use crate::http::Answer;
use orama_test_support::guests;
use serde_json::{Value, json};

/// The fields of an object, sorted.
#[track_caller]
fn fields(value: &Value) -> Vec<&str> {
    let mut fields: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

const FUNCTION: [&str; 18] = [
    "concurrency",
    "created_at",
    "id",
    "internal",
    "is_public",
    "keep_versions",
    "max_body",
    "memory_limit_mb",
    "name",
    "namespace",
    "retry_count",
    "retry_delay_seconds",
    "start",
    "status",
    "timeout_seconds",
    "updated_at",
    "version",
    "wasm_cid",
];

/// Sends requests to a node as its operator; null is no body.
fn sender(node: &Node) -> impl Fn(&str, &str, Value) -> Answer {
    |method, path, body| {
        let request = node.request(method, path);
        if body.is_null() { request.send() } else { request.body(body.to_string()).send() }
    }
}

#[test]
fn every_row_of_the_http_reference_answers_as_documented() {
    let node = Node::start(Options::default());
    check_functions(&node);
    check_websocket(&node);
    check_secrets(&node);
    check_events(&node);
    check_namespaces_and_keys(&node);
    let send = sender(&node);
    // DELETE /v1/functions/{name}
    send("DELETE", "/v1/functions/hello", Value::Null).expect(200);
    send("GET", "/v1/functions/hello", Value::Null).refusal(404, "FUNCTION_NOT_FOUND");
    // GET /health, /ready, /metrics, /openapi.json
    for path in ["/health", "/ready", "/metrics", "/openapi.json"] {
        node.anonymous("GET", path).send().expect(200);
    }
}

fn check_functions(node: &Node) {
    let send = sender(node);
    // POST /v1/functions
    let deployed =
        node.try_deploy("hello", &guests::wat("echo"), &[("is_public", "true")]).expect(201).json();
    assert_eq!(fields(&deployed), ["compiled", "function", "message"]);
    assert_eq!(fields(&deployed["function"]), FUNCTION);
    // GET /v1/functions
    let list = send("GET", "/v1/functions", Value::Null).expect(200).json();
    assert_eq!((fields(&list), &list["count"]), (vec!["count", "functions"], &json!(1)));
    assert_eq!(list["functions"][0], deployed["function"]);
    // GET /v1/functions/{name}
    assert_eq!(send("GET", "/v1/functions/hello", Value::Null).expect(200).json(), deployed["function"]);
    // POST /v1/functions/{name}/invoke, and of one version
    for path in ["/v1/functions/hello/invoke", "/v1/functions/hello@1/invoke"] {
        let answer = send("POST", path, json!({ "name": "World" })).expect(200);
        assert_eq!(answer.json(), json!({ "name": "World" }));
        assert!(answer.header("x-request-id").is_some() && answer.header("x-duration-ms").is_some());
    }
    // POST /v1/invoke/{namespace}/{name}, which a public function takes from anyone
    let anyone = node.anonymous("POST", "/v1/invoke/default/hello").body("plain").send().expect(200).json();
    assert_eq!(fields(&anyone), ["duration_ms", "output", "request_id", "status"]);
    assert_eq!((&anyone["output"], &anyone["status"]), (&json!("plain"), &json!("success")));
    // GET /v1/functions/{name}/versions
    let versions = send("GET", "/v1/functions/hello/versions", Value::Null).expect(200).json();
    assert_eq!((fields(&versions), &versions["count"]), (vec!["count", "versions"], &json!(1)));
    // GET /v1/functions/{name}/logs
    let logs = send("GET", "/v1/functions/hello/logs", Value::Null).expect(200).json();
    assert_eq!(fields(&logs), ["count", "invocations", "logs", "name", "namespace"]);
    assert_eq!(logs["count"], 3);
}

fn check_websocket(node: &Node) {
    // WS /v1/functions/{name}/ws
    let upgrade = node
        .request("GET", "/v1/functions/hello/ws")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut connection = node.connect();
    connection.write(upgrade.bytes());
    let accepted = connection.answer_without_body().expect(101);
    // RFC 6455's own example.
    assert_eq!(accepted.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

fn check_secrets(node: &Node) {
    let send = sender(node);
    // PUT, GET, DELETE /v1/functions/secrets
    let secret = json!({ "name": "KEY", "value": "v" });
    let set = send("PUT", "/v1/functions/secrets", secret).expect(200).json();
    assert_eq!(fields(&set), ["message", "name", "namespace"]);
    let names = send("GET", "/v1/functions/secrets", Value::Null).expect(200).json();
    assert_eq!(names, json!({ "secrets": ["KEY"], "count": 1 }));
    send("DELETE", "/v1/functions/secrets/KEY", Value::Null).expect(200);
    send("DELETE", "/v1/functions/secrets/KEY", Value::Null).refusal(404, "SECRET_NOT_FOUND");
}

fn check_events(node: &Node) {
    let send = sender(node);
    // POST, GET, DELETE /v1/functions/{name}/triggers
    let path = "/v1/functions/hello/triggers";
    let added = send("POST", path, json!({ "topic": "calls:invite" })).expect(201).json();
    assert_eq!(fields(&added), ["function", "topic", "trigger_id"]);
    let triggers = send("GET", path, Value::Null).expect(200).json();
    let trigger =
        json!({ "id": added["trigger_id"], "kind": "pubsub", "topic": "calls:invite", "enabled": true });
    assert_eq!(triggers, json!({ "triggers": [trigger], "count": 1 }));
    // POST /v1/pubsub/publish
    let event = json!({ "topic": "other", "data": { "n": 1 } });
    let published = send("POST", "/v1/pubsub/publish", event).expect(202).json();
    assert_eq!((fields(&published), &published["topic"]), (vec!["message_id", "topic"], &json!("other")));
    let one = format!("{path}/{}", added["trigger_id"].as_str().unwrap());
    send("DELETE", &one, Value::Null).expect(200);
    send("DELETE", &one, Value::Null).refusal(404, "TRIGGER_NOT_FOUND");
}

fn check_namespaces_and_keys(node: &Node) {
    let send = sender(node);
    // POST, GET, DELETE /v1/namespaces and /v1/keys
    send("POST", "/v1/namespaces", json!({ "name": "shop" })).expect(201);
    send("POST", "/v1/namespaces", json!({ "name": "shop" })).refusal(409, "NAMESPACE_EXISTS");
    assert_eq!(send("GET", "/v1/namespaces", Value::Null).expect(200).json()["count"], 2);
    let key = send("POST", "/v1/keys", json!({ "namespace": "shop", "role": "invoke" })).expect(201).json();
    assert_eq!(fields(&key), ["api_key", "id", "namespace", "role"]);
    let invoke = |key: &Value| {
        node.request_as(key["api_key"].as_str().unwrap(), "POST", "/v1/functions/hello/invoke").send()
    };
    invoke(&key).refusal(404, "FUNCTION_NOT_FOUND");
    let keys = send("GET", "/v1/keys?namespace=shop", Value::Null).expect(200);
    assert_eq!(keys.json()["count"], 1);
    assert!(!keys.text().contains(key["api_key"].as_str().unwrap()), "a key is shown once");
    send("DELETE", &format!("/v1/keys/{}", key["id"].as_str().unwrap()), Value::Null).expect(200);
    invoke(&key).refusal(401, "UNAUTHORIZED");
    send("DELETE", "/v1/namespaces/shop", Value::Null).expect(200);
}
