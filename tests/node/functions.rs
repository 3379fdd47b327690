//! Functions and their versions: list, get, invoke, delete, and how a wrong path or method is answered.

use crate::harness::{Node, Options, Shared};
use orama_test_support::guests;
use serde_json::{Value, json};

#[track_caller]
fn versions(node: &Node, name: &str) -> Vec<u64> {
    let answer = node.get(&format!("/v1/functions/{name}/versions")).expect(200).json();
    let versions = answer["versions"].as_array().unwrap();
    assert_eq!(answer["count"], versions.len(), "{answer}");
    versions.iter().map(|function| function["version"].as_u64().unwrap()).collect()
}

/// Deploys three versions that can be told apart: they echo, answer `{"ok":true}`, and answer nothing.
fn three_versions(node: &Node, name: &str) {
    for guest in ["echo", "ignores_stdin", "empty"] {
        node.deploy(name, &guests::wat(guest), &[]);
    }
}

#[test]
fn every_version_stays_invocable() {
    let Ok(node) = Shared::node() else { return };
    three_versions(&node, "versioned");
    assert_eq!(versions(&node, "versioned"), [3, 2, 1]);
    let invoke = |target: &str| node.invoke(target, "[7]").expect(200);
    assert_eq!(invoke("versioned@1").text(), "[7]");
    assert_eq!(invoke("versioned@2").text(), "{\"ok\":true}");
    assert_eq!(invoke("versioned").json()["output"], "");
    assert_eq!(invoke("versioned@3").json()["output"], "");
    assert_eq!(invoke("versioned%401").text(), "[7]", "clients may write %40 for the @");
    assert_eq!(invoke("%76ersioned@1").text(), "[7]");
    let direct =
        |target: &str| node.request("POST", &format!("/v1/invoke/default/{target}")).body("[8]").send();
    assert_eq!(direct("versioned@1").expect(200).text(), "[8]");
    assert_eq!(direct("versioned%402").expect(200).text(), "{\"ok\":true}");
    for version in 1..=3 {
        let one = node.get(&format!("/v1/functions/versioned@{version}")).expect(200).json();
        assert_eq!(one["version"], version);
        assert_eq!(one, node.get(&format!("/v1/functions/versioned%40{version}")).expect(200).json());
    }
    let newest = node.get("/v1/functions/versioned").expect(200).json();
    assert_eq!(newest["version"], 3);
    let first = node.get("/v1/functions/versioned@1").expect(200).json();
    assert_eq!(first["created_at"], newest["created_at"]);
    assert_ne!(first["wasm_cid"], newest["wasm_cid"]);
    for (target, code) in [
        ("versioned@4", "FUNCTION_NOT_FOUND"),
        ("versioned@4294967295", "FUNCTION_NOT_FOUND"),
        ("never-deployed", "FUNCTION_NOT_FOUND"),
    ] {
        let path = format!("/v1/functions/{target}");
        assert!(node.get(&path).refusal(404, code).contains(target.split('@').next().unwrap()));
        node.invoke(target, "").refusal(404, code);
        node.delete(&path).refusal(404, code);
    }
    for target in ["versioned@", "versioned@0", "versioned@+1", "versioned@x.y", "versioned@1@2"] {
        let path = format!("/v1/functions/{target}");
        // The same mistake has the same code wherever it is made.
        let got = node.get(&path).expect(400).json()["code"].clone();
        assert_eq!(node.invoke(target, "").expect(400).json()["code"], got, "{target}");
        assert_eq!(node.delete(&path).expect(400).json()["code"], got, "{target}");
    }
    for target in ["1a", "a%20b", "%ff", "a%2Fb"] {
        node.get(&format!("/v1/functions/{target}")).refusal(400, "INVALID_NAME");
        node.invoke(target, "").refusal(400, "INVALID_NAME");
    }
}

#[test]
fn deleting_a_version_leaves_the_others_and_its_number_is_not_given_again() {
    let Ok(node) = Shared::node() else { return };
    three_versions(&node, "shrinking");
    let deleted = node.delete("/v1/functions/shrinking@3").expect(200).json();
    assert_eq!((&deleted["name"], &deleted["versions_deleted"]), (&json!("shrinking"), &json!(1)));
    assert_eq!(versions(&node, "shrinking"), [2, 1]);
    node.invoke("shrinking@3", "").refusal(404, "FUNCTION_NOT_FOUND");
    assert_eq!(node.invoke("shrinking", "").expect(200).text(), "{\"ok\":true}", "the newest that is left");
    let version = |answer: Value| answer["function"]["version"].clone();
    assert_eq!(version(node.deploy("shrinking", &guests::wat("echo"), &[])), 4);
    node.delete("/v1/functions/shrinking@1").expect(200);
    assert_eq!(versions(&node, "shrinking"), [4, 2]);
    node.delete("/v1/functions/shrinking@1").refusal(404, "FUNCTION_NOT_FOUND");

    assert_eq!(node.delete("/v1/functions/shrinking").expect(200).json()["versions_deleted"], 2);
    for path in ["", "@2", "/versions", "/logs"] {
        node.get(&format!("/v1/functions/shrinking{path}")).refusal(404, "FUNCTION_NOT_FOUND");
    }
    node.invoke("shrinking", "").refusal(404, "FUNCTION_NOT_FOUND");
    node.delete("/v1/functions/shrinking").refusal(404, "FUNCTION_NOT_FOUND");
    assert_eq!(version(node.deploy("shrinking", &guests::wat("echo"), &[])), 5);
    // The last version goes, and with it the function.
    node.delete("/v1/functions/shrinking@5").expect(200);
    node.get("/v1/functions/shrinking/versions").refusal(404, "FUNCTION_NOT_FOUND");
}

#[test]
fn the_list_has_the_newest_version_of_each_function() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    assert_eq!(node.get("/v1/functions").expect(200).json(), json!({ "functions": [], "count": 0 }));
    three_versions(&node, "b");
    node.deploy("a", &guests::wat("echo"), &[]);
    let list = node.get("/v1/functions").expect(200).json();
    assert_eq!(list["count"], 2);
    let of = |n: usize| (list["functions"][n]["name"].clone(), list["functions"][n]["version"].clone());
    assert_eq!((of(0), of(1)), ((json!("a"), json!(1)), (json!("b"), json!(3))));
    assert_eq!(list["functions"][1], node.get("/v1/functions/b").expect(200).json());
    assert_eq!(list, node.get("/v1/functions?namespace=default").expect(200).json());
    node.get("/v1/functions?colour=red").refusal(400, "INVALID_QUERY");
    node.get("/v1/functions?namespace=nowhere").refusal(404, "NAMESPACE_NOT_FOUND");
}

#[test]
fn wrong_paths_and_methods_are_answered_as_errors() {
    let Ok(node) = Shared::node() else { return };
    let echo = node.wat("echo");
    for path in
        ["/", "/v1", "/v1/function", "/v1/functions/a/b/c", "/v2/functions", "/v1/functions/a/b/invoke", "//"]
    {
        node.get(path).refusal(404, "NOT_FOUND");
        node.anonymous("POST", path).send().refusal(404, "NOT_FOUND");
    }
    for (method, path, allowed) in [
        ("PUT", "/v1/functions", &["GET", "POST"][..]),
        ("DELETE", "/v1/functions", &["GET", "POST"]),
        ("POST", "/v1/functions/echo", &["GET", "DELETE"]),
        ("PUT", "/v1/functions/echo@1", &["GET", "PATCH", "DELETE"]),
        ("POST", "/v1/functions/echo/versions", &["GET"]),
        ("DELETE", "/v1/functions/echo/logs", &["GET"]),
        ("GET", "/v1/functions/echo/invoke", &["POST"]),
        ("PUT", "/v1/invoke/default/echo", &["POST"]),
        ("POST", "/health", &["GET"]),
        ("POST", "/ready", &["GET"]),
        ("DELETE", "/metrics", &["GET"]),
        ("BREW", "/v1/functions", &["GET", "POST"]),
    ] {
        for request in [node.request(method, path), node.anonymous(method, path)] {
            let answer = request.send();
            let allow =
                answer.header("allow").unwrap_or_else(|| panic!("{method} {path}: {answer:?}")).to_owned();
            for method in allowed {
                assert!(allow.split(',').any(|word| word.trim() == *method), "{method} {path}: {allow}");
            }
            answer.refusal(405, "METHOD_NOT_ALLOWED");
        }
    }
    let health = node.anonymous("GET", "/health").send().expect(200);
    assert_eq!(health.json(), json!({ "status": "ok" }));
    let ready = node.anonymous("GET", "/ready").send().expect(200).json();
    let mut backends = json!({
        "registry": "ok", "records": "ok", "blobs": "ok", "databases": "ok", "objects": "ok", "events": "ok"
    });
    if crate::ON_SERVERS {
        ["platform", "cache", "pubsub"].iter().for_each(|server| backends[server] = "ok".into());
    }
    assert_eq!(ready, json!({ "status": "ready", "backends": backends }));
    let before = node.metric("orama_invocations_total{status=\"success\"}");
    node.invoke(echo, "{}").expect(200);
    assert!(node.metric("orama_invocations_total{status=\"success\"}") >= before + 1.0);
}
