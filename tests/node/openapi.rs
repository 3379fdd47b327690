//! The description of the API: how it is served, that it is OpenAPI, and that a client which a generator makes of it works.

use crate::described::{self, DESCRIPTION};
use crate::harness::{Node, Options, new_dir, output};
use crate::http::Answer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_test_support::{guests, tools};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_description_is_open_to_everybody_and_known_by_its_tag() {
    let node = Node::start(Options::default());
    let answer = node.anonymous("GET", "/openapi.json").send().expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.json(), *DESCRIPTION, "what tests hold answers against is what a node serves");
    assert_eq!(answer.json()["openapi"], "3.1.0");
    let tag = answer.header("etag").unwrap();
    let mut connection = node.connect();
    connection.write(node.anonymous("GET", "/openapi.json").header("if-none-match", tag).bytes());
    assert_eq!(connection.answer_without_body().status, 304);
    node.anonymous("GET", "/openapi.json?x=1").send().refusal(400, "INVALID_QUERY");
    node.anonymous("POST", "/openapi.json").send().refusal(405, "METHOD_NOT_ALLOWED");
    let text = answer.text();
    assert!(!text.contains(&node.key()) && !text.contains(node.home.to_str().unwrap()), "{text}");
}

/// Whether the tests' client takes an exchange for a described one.
fn is_described(method: &str, target: &str, sent: &Value, (status, body): (u16, Value)) -> bool {
    let headers = [("content-type", "application/json"), ("x-request-id", "r-1"), ("retry-after", "1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let answer = Answer { status, headers, body: body.to_string().into_bytes() };
    described::difference(method, target, sent.to_string().as_bytes(), &answer).is_ok()
}

#[test]
fn what_is_not_described_is_found() {
    let key = json!({"id": "k", "namespace": "n", "role": "admin", "created_at": "2026-02-23T17:18:39.000Z"});
    let keys = |key: &Value| json!({"keys": [key], "count": 1});
    let list = |body: Value| is_described("GET", "/v1/keys?limit=2", &Value::Null, (200, body));
    assert!(list(keys(&key)));
    let with = |name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        keys(&key)
    };
    assert!(list(with("name", json!("n"))));
    for (name, value) in [
        ("colour", json!("red")),
        ("name", Value::Null),
        ("name", json!(1)),
        ("created_at", json!("yesterday")),
        ("functions", json!("all")),
    ] {
        assert!(!list(with(name, value.clone())), "{name}: {value}");
    }
    assert!(!list(json!({"keys": []})), "a field is missing");
    assert!(!list(json!({"keys": [], "count": 0, "previous": "k"})));

    let ask = |target: &str, status: u16| is_described("GET", target, &Value::Null, (status, keys(&key)));
    assert!(!ask("/v1/keys?colour=red", 200));
    assert!(!ask("/v1/keys", 206));
    assert!(!ask("/v1/locks", 200));
    assert!(!is_described("PUT", "/v1/keys", &Value::Null, (200, keys(&key))));

    let error = |code: &str| json!({"error": "no", "code": code, "retryable": false, "request_id": "r-1"});
    let refused =
        |status: u16, code: &str| is_described("GET", "/v1/keys", &Value::Null, (status, error(code)));
    assert!(refused(403, "FORBIDDEN") && refused(503, "OVERLOADED"));
    assert!(!refused(403, "OVERLOADED") && !refused(409, "TOO_MANY_KEYS"));

    let made = json!({"id": "k", "api_key": "orama_x", "namespace": "n", "role": "invoke"});
    let make = |sent: Value| is_described("POST", "/v1/keys", &sent, (201, made.clone()));
    assert!(make(json!({"role": "invoke", "name": null})));
    assert!(!make(json!({"role": "invoke", "colour": "red"})));
    assert!(!make(json!({"name": "n"})));

    // A trigger is on a topic or on a schedule.
    let triggers = |trigger: Value| {
        let body = json!({"triggers": [trigger], "count": 1});
        is_described("GET", "/v1/functions/f/triggers", &Value::Null, (200, body))
    };
    assert!(triggers(json!({"id": "t", "kind": "pubsub", "topic": "a", "enabled": true})));
    assert!(triggers(json!({
        "id": "t", "kind": "cron", "cron_expression": "* * * * *", "timezone": "UTC", "next_run_at": null,
        "last_run_at": null, "last_status": null, "skipped_slots": 0, "enabled": true
    })));
    assert!(!triggers(json!({"id": "t", "kind": "pubsub", "enabled": true})));
    assert!(!triggers(json!({"id": "t", "kind": "pubsub", "topic": "a", "colour": "red", "enabled": true})));
}

#[test]
fn a_client_made_of_the_description_deploys_invokes_publishes_and_reads_logs() {
    let Ok(program) = tools::require_or_report("openapi-client") else { return };
    let node = Node::start(Options::default());
    let dir = new_dir("openapi");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/openapi");
    for file in ["client.ts", "lint.mjs", "package.json", "tsconfig.json"] {
        fs::copy(sources.join(file), dir.join(file)).unwrap();
    }
    let description = node.anonymous("GET", "/openapi.json").send().expect(200);
    fs::write(dir.join("openapi.json"), &description.body).unwrap();
    let mut command = Command::new(program);
    command.arg(&dir);
    command.env("NODE_URL", format!("http://{}", node.address())).env("NODE_KEY", node.key());
    command.env("ECHO", STANDARD.encode(guests::wat("echo")));
    command.env("LOG_INPUT", STANDARD.encode(guests::wat("log_input")));
    let output = output(command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let told = json!({
        "version": 2, "memory": 32, "live": "listener", "echoed": {"greeting": "hi"}, "wrapped": "plain text",
        "logged": "\"first order\"", "trigger": "pubsub", "unknown": "FUNCTION_NOT_FOUND", "replayable": 0,
    });
    assert_eq!(last, told);
    let found = node.get("/v1/functions").expect(200).json();
    assert_eq!(found["count"], 2, "{found}");
    let _ = fs::remove_dir_all(&dir);
}
