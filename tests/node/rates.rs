//! Rates that operators set for single namespaces: they hold for requests, deploys and what is published, over HTTP and by
//! functions, at once and on every core.

use crate::harness::{Node, Options, eventually};
use crate::honest::{deploy_as, tenant_with_keys};
use crate::shell::Shell;
use orama_test_support::guests;
use serde_json::{Value, json};

/// Publishes a message and says whether it was taken.
const PUBLISHES: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "env" "pubsub_publish" (func $publish (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "news")
  (data (i32.const 32) "[1]")
  (data (i32.const 256) "no..")
  (data (i32.const 264) "took")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 256))
    (if (call $publish (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 3))
      (then (i32.store (i32.const 0) (i32.const 264))))
    (i32.store (i32.const 4) (i32.const 4))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn set(node: &Node, namespace: &str, rates: &Value) -> Value {
    let path = format!("/v1/namespaces/{namespace}/rates");
    node.request("PUT", &path).body(rates.to_string()).send().expect(200).json()
}

/// How many of many requests, each on a connection of its own, were refused with this scope.
fn refused(node: &Node, key: &str, scope: &str) -> usize {
    let refused = |_: &usize| {
        let answer = node.request_as(key, "POST", "/v1/functions/f/invoke").body("[1]").send();
        if answer.status == 200 {
            return false;
        }
        assert_eq!(answer.json()["scope"], scope);
        assert!(answer.header("retry-after").is_some());
        answer.refusal(429, "RATE_LIMITED").contains(&format!("`requests_per_{scope}`"))
    };
    (0..40).filter(refused).count()
}

#[test]
fn what_is_set_for_a_namespace_holds_there_and_on_every_core_at_once() {
    let node = Node::start(Options { databases: &["default", "a", "b"], ..Options::default() });
    let ([a, admin], [b, _]) = (tenant_with_keys(&node, "a"), tenant_with_keys(&node, "b"));
    for key in [&a, &b] {
        deploy_as(&node, key, "f", &guests::wat("echo"), &[]).expect(201);
    }
    // Both cores have taken tokens under the node's own rates.
    assert_eq!((refused(&node, &a, "namespace"), refused(&node, &b, "namespace")), (0, 0));
    let told = set(&node, "a", &json!({ "requests_per_namespace": "1/h burst 5", "deploys_per_key": "off" }));
    assert_eq!(told["rates"]["requests_per_namespace"], "1/h burst 5");
    assert_eq!(told["rates"]["deploys_per_key"], "off");
    assert_eq!(told["rates"]["publishes_per_key"], "20000/s burst 100000", "what is not set is the node's");
    assert_eq!(told["overrides"].as_object().unwrap().len(), 2);
    assert_eq!((refused(&node, &a, "namespace"), refused(&node, &b, "namespace")), (35, 0));
    set(&node, "a", &json!({ "requests_per_key": "1/h burst 4" }));
    assert_eq!(refused(&node, &a, "key"), 36, "the one that was set before is gone");
    node.restart();
    assert!(refused(&node, &a, "key") >= 36, "it outlives the node");
    set(&node, "a", &json!({}));
    assert_eq!(refused(&node, &a, "key"), 0);

    set(&node, "a", &json!({ "deploys_per_namespace": "1/h burst 1" }));
    deploy_as(&node, &a, "f", &guests::wat("echo"), &[]).expect(201);
    let message = deploy_as(&node, &a, "f", &guests::wat("echo"), &[]).refusal(429, "RATE_LIMITED");
    assert!(message.contains("`deploys_per_namespace`"), "{message}");
    let seen = node.request_as(&admin, "GET", "/v1/namespaces/a/rates").send().expect(200).json();
    assert_eq!(seen["overrides"], json!({ "deploys_per_namespace": "1/h burst 1" }));
    for (body, word) in [
        (json!({ "requests_per_address": "1/s" }), "there is no rate \"requests_per_address\""),
        (json!({ "requests_per_key": "often" }), "rate `requests_per_key`: expected a rate such as"),
        (json!({ "requests_per_key": "0/s" }), "at least 1"),
        (json!({ "requests_per_key": 5 }), "expected a string"),
    ] {
        let answer = node.request("PUT", "/v1/namespaces/a/rates").body(body.to_string()).send();
        let message = answer.refusal(400, "INVALID_BODY");
        assert!(message.contains(word), "{body}: {message}");
    }
}

#[test]
fn a_new_namespace_does_not_have_the_rates_of_an_earlier_one_of_its_name() {
    let node = Node::start(Options { databases: &["default", "a"], ..Options::default() });
    tenant_with_keys(&node, "a");
    set(&node, "a", &json!({ "requests_per_namespace": "1/h burst 1" }));
    node.request("DELETE", "/v1/namespaces/a").send().expect(200);
    let [key, _] = tenant_with_keys(&node, "a");
    assert_eq!(node.get("/v1/namespaces/a/rates").expect(200).json()["overrides"], json!({}));
    eventually("the node has forgotten them", || {
        node.request_as(&key, "GET", "/v1/functions").send().status == 200
            && node.request_as(&key, "GET", "/v1/functions").send().status == 200
    });
}

#[test]
fn what_functions_publish_counts_and_beyond_the_rate_they_are_told() {
    let node = Node::start(Options { databases: &["default", "a"], ..Options::default() });
    let [key, _] = tenant_with_keys(&node, "a");
    deploy_as(&node, &key, "f", &wat::parse_str(PUBLISHES).unwrap(), &[]).expect(201);
    deploy_as(&node, &key, "reader", &guests::wat("log_input"), &[]).expect(201);
    let body = json!({ "topic": "news" }).to_string();
    node.request_as(&key, "POST", "/v1/functions/reader/triggers").body(body).send().expect(201);
    set(&node, "a", &json!({ "publishes_per_namespace": "1/h burst 7" }));
    let publish = || {
        let body = json!({ "topic": "news", "data": 1 }).to_string();
        node.request_as(&key, "POST", "/v1/pubsub/publish").body(body).send()
    };
    publish().expect(202);
    publish().expect(202);
    let mut took = 0;
    let mut last = String::new();
    // Whichever core runs it, the rate is that of all together.
    for _ in 0..20 {
        let answer = node.request_as(&key, "POST", "/v1/functions/f/invoke").body("").send().expect(200);
        match answer.json()["output"].as_str().unwrap() {
            "took" => took += 1,
            _ => last = answer.header("x-request-id").unwrap().to_owned(),
        }
    }
    assert_eq!(took, 5);
    let path = format!("/v1/functions/f/logs?request_id={last}");
    let logs = node.request_as(&key, "GET", &path).send().expect(200).json();
    let message = logs["logs"][0]["message"].as_str().unwrap();
    assert!(message.contains("pubsub_publish") && message.contains("`publishes_per_namespace`"), "{message}");
    assert!(publish().refusal(429, "RATE_LIMITED").contains("`publishes_per_namespace`"));
    eventually("what was taken is delivered", || node.no_job_is_left());
    let read = node.request_as(&key, "GET", "/v1/functions/reader/logs").send().expect(200).json();
    assert_eq!(read["count"], 7);
    let limited = node.metric("orama_rate_limited_total{kind=\"publishes\",scope=\"namespace\"}");
    assert!(limited >= 16.0, "{limited}");
}

#[test]
fn the_command_line_shows_and_changes_rates() {
    let node = Node::start(Options::default());
    let shell = Shell::of(&node);
    let rates = ["namespace", "rates", "default"];
    let (shown, _) = shell.run(0, &rates);
    assert!(shown.contains("requests_per_namespace") && !shown.contains("operator"), "{shown}");
    let set = ["--set", "requests_per_key=5000/s burst 9000", "--set", "deploys_per_key=off"];
    let (shown, _) = shell.run(0, &[&rates[..], &set[..]].concat());
    let line = shown.lines().find(|line| line.starts_with("requests_per_key")).unwrap();
    assert!(line.contains("5000/s burst 9000") && line.contains("the operator"), "{shown}");
    let told = shell.json(&[&rates[..], &["--unset", "deploys_per_key"]].concat());
    assert_eq!(told["overrides"], json!({ "requests_per_key": "5000/s burst 9000" }));
    assert_eq!(shell.code(1, &[&rates[..], &["--set", "requests_per_key=never"]].concat()), "INVALID_BODY");
    shell.run(1, &[&rates[..], &["--unset", "deploys_per_key"]].concat());
    shell.run(2, &[&rates[..], &["--set", "deploys_per_key"]].concat());
}
