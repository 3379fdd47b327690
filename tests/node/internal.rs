//! Internal functions: what a namespace's own functions, triggers and admins run, and nobody else from outside.

use crate::harness::{Node, Options, Shared, eventually};
use crate::shell::Shell;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::fs;

#[track_caller]
fn key(node: &Node, role: &str) -> String {
    let body = json!({ "role": role }).to_string();
    let answer = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
    answer["api_key"].as_str().unwrap().to_owned()
}

#[test]
fn only_admins_and_triggers_run_an_internal_function() {
    let Ok(node) = Shared::node() else { return };
    let echo = guests::wat("echo");
    node.deploy("inner", &echo, &[]);
    node.deploy("inner", &echo, &[("internal", "true")]);
    let (admin, deploy, invoke) = (key(&node, "admin"), key(&node, "deploy"), key(&node, "invoke"));
    // As public does, it belongs to the function and not to a version.
    for name in ["inner", "inner@1", "inner@2"] {
        for (method, path) in
            [("POST", format!("/v1/functions/{name}/invoke")), ("GET", format!("/fn/default/{name}/x"))]
        {
            for _ in 0..2 {
                node.request(method, &path).send().expect(200);
                node.request_as(&admin, method, &path).send().expect(200);
                for other in [&deploy, &invoke] {
                    let answer = node.request_as(other, method, &path).send();
                    assert!(answer.json()["hint"].as_str().unwrap().contains("admin"), "{answer:?}");
                    let message = answer.refusal(403, "FUNCTION_INTERNAL");
                    assert!(
                        message.contains("only functions of its namespace, triggers and admins"),
                        "{message}"
                    );
                }
                let namespace = if method == "GET" { "" } else { "?namespace=default" };
                let stranger = node.anonymous(method, &format!("{path}{namespace}"));
                stranger.send().refusal(401, "UNAUTHORIZED");
            }
        }
    }
    node.request_as(&invoke, "GET", "/v1/functions/inner/ws")
        .upgrade()
        .send()
        .refusal(403, "FUNCTION_INTERNAL");
    assert_eq!(node.request_as(&admin, "GET", "/v1/functions/inner/ws").upgrade().send().status, 101);
    // Who may not run it is not told more of others.
    node.request_as(&invoke, "POST", "/v1/functions/nothing/invoke")
        .send()
        .refusal(404, "FUNCTION_NOT_FOUND");

    let trigger = json!({"topic": "inner-topic"}).to_string();
    node.request("POST", "/v1/functions/inner/triggers").body(trigger).send().expect(201);
    let message = json!({"topic": "inner-topic", "data": 1}).to_string();
    node.request("POST", "/v1/pubsub/publish").body(message).send().expect(202);
    eventually("the trigger runs it", || {
        let logs = node.logs("inner", "?status=success");
        let all = logs["invocations"].as_array().unwrap().clone();
        all.iter().any(|run| run["trigger_type"] == "pubsub")
    });
    // Opened again, everybody of the namespace runs it.
    node.deploy("inner", &echo, &[("internal", "false")]);
    node.request_as(&invoke, "POST", "/v1/functions/inner@2/invoke").body("1").send().expect(200);
}

#[test]
fn internal_and_public_exclude_each_other() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let echo = guests::wat("echo");
    let both = node.try_deploy("both", &echo, &[("internal", "true"), ("is_public", "true")]);
    let message = both.refusal(422, "INVALID_CONFIG");
    assert!(message.contains("`internal`") && message.contains("internal and public"), "{message}");
    let metadata = json!({"internal": true, "is_public": true}).to_string();
    node.try_deploy("both", &echo, &[("metadata", &metadata)]).refusal(422, "INVALID_CONFIG");

    let shell = Shell::of(&node);
    fs::write(shell.dir.join("function.wasm"), &echo).unwrap();
    let yaml = |text: &str| fs::write(shell.dir.join("function.yaml"), text).unwrap();
    yaml("name: both\npublic: true\ninternal: true\n");
    let (_, told) = shell.run(1, &["function", "deploy"]);
    assert!(told.contains("function.yaml:3:1: ") && told.contains("internal and public"), "{told}");
    yaml("name: inside\ninternal: true\n");
    shell.run(0, &["function", "deploy"]);
    assert_eq!(shell.json(&["function", "get", "inside"])["internal"], Value::Bool(true));
    let (shown, _) = shell.run(0, &["function", "get", "inside"]);
    assert!(shown.lines().any(|line| line == "internal    yes"), "{shown}");
    node.restart();
    assert_eq!(node.get("/v1/functions/inside").expect(200).json()["internal"], true);
}
