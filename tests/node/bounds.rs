//! What the author of a function bounds in `function.yaml`: invocations at once (`concurrency`), and versions that are kept.

use crate::harness::{Node, Options, eventually};
use crate::http::Connection;
use crate::shell::Shell;
use crate::speakers::{said, slow_speaker, speaker};
use serde_json::json;
use std::fs;
use std::time::Duration;

/// Long enough for everything that a test does beside it.
const SLEEP: Duration = Duration::from_secs(4);

/// Begins an invocation that sleeps.
fn begin(node: &Node, name: &str) -> Connection {
    let mut connection = node.connect();
    connection.write(node.invoke_request(name).body("").bytes());
    connection
}

fn running(node: &Node) -> f64 {
    node.metric("orama_invocations_running")
}

#[test]
fn a_function_runs_so_often_at_once_on_all_cores_and_its_callers_are_told() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("slow", &slow_speaker("slow", SLEEP), &[]);
    node.deploy("slow", &slow_speaker("slow", SLEEP), &[("concurrency", "2")]);
    node.deploy("other", &speaker("other"), &[]);
    let mut under_way = ["slow", "slow@1"].map(|name| begin(&node, name));
    eventually("both run", || running(&node) >= 2.0);
    // Connections go to both cores.
    for target in ["slow", "slow@1", "slow@2", "slow", "slow", "slow", "slow", "slow"] {
        let answer = node.invoke(target, "");
        assert_eq!(answer.header("retry-after"), Some("1"));
        let told = answer.json();
        assert_eq!((&told["scope"], &told["retryable"]), (&json!("function"), &json!(true)), "{told}");
        assert!(told["hint"].as_str().unwrap().contains("concurrency"), "{told}");
        let message = answer.refusal(429, "CONCURRENCY_LIMITED");
        assert!(message.contains("`concurrency`"), "{message}");
    }
    assert_eq!(said(node.invoke("other", "")), "other", "other functions have room");
    let refused = node.metric("orama_share_refused_total{kind=\"invocations\",scope=\"function\"}");
    assert!((refused - 8.0).abs() < 0.5, "{refused}");
    for connection in &mut under_way {
        connection.answer().expect(200);
    }
    let again = node.invoke("slow", "");
    assert_eq!(said(again), "slow", "a place is free when its invocation has ended");
}

#[test]
fn an_event_waits_for_its_place_and_loses_no_attempt() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("slow", &slow_speaker("slow", Duration::from_secs(2)), &[("concurrency", "1")]);
    node.add_trigger("slow", "work");
    let mut under_way = begin(&node, "slow");
    eventually("it runs", || running(&node) >= 1.0);
    node.publish("work", 1).expect(202);
    under_way.answer().expect(200);
    eventually("the event is handled", || node.no_job_is_left());
    let logs = node.logs("slow", "");
    let record = &logs["invocations"][0];
    assert_eq!((&record["trigger_type"], &record["attempt"]), (&json!("pubsub"), &json!(1)), "{logs}");
    assert_eq!((&record["status"], &logs["count"]), (&json!("success"), &json!(2)), "{logs}");
}

#[test]
fn a_deploy_leaves_as_many_versions_as_the_function_keeps() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let versions = |name: &str| -> Vec<u64> {
        let answer = node.get(&format!("/v1/functions/{name}/versions")).expect(200).json();
        answer["versions"].as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect()
    };
    node.deploy("shared", &speaker("one"), &[]);
    for text in ["one", "two", "three"] {
        node.deploy("kept", &speaker(text), &[("keep_versions", "2")]);
    }
    assert_eq!(versions("kept"), [3, 2]);
    node.invoke("kept@1", "").refusal(404, "FUNCTION_NOT_FOUND");
    assert_eq!(
        (said(node.invoke("kept@2", "")), said(node.invoke("kept", ""))),
        ("two".into(), "three".into())
    );
    let cid =
        |target: &str| node.get(&format!("/v1/functions/{target}")).expect(200).json()["wasm_cid"].clone();
    let stored = |cid: &serde_json::Value| node.home.join("data/blobs").join(cid.as_str().unwrap()).exists();
    let (two, one) = (cid("kept@2"), cid("shared"));
    assert!(stored(&two) && stored(&one));
    node.deploy("kept", &speaker("four"), &[("keep_versions", "1")]);
    assert_eq!(versions("kept"), [4]);
    assert!(!stored(&two), "nothing runs the module any more");
    assert_eq!(said(node.invoke("shared", "")), "one", "another function runs the module of version 1");
    node.deploy("kept", &speaker("five"), &[("keep_versions", "0")]);
    node.deploy("kept", &speaker("six"), &[]);
    assert_eq!(versions("kept"), [6, 5, 4], "without the setting all stay");
    node.restart();
    assert_eq!(versions("kept"), [6, 5, 4]);
    assert_eq!(said(node.invoke("kept@4", "")), "four");
}

#[test]
fn function_yaml_says_both_and_get_shows_them() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    fs::write(shell.dir.join("function.wasm"), speaker("hi")).unwrap();
    let yaml = "name: bounded\nconcurrency: 3\nkeep_versions: 2\n";
    fs::write(shell.dir.join("function.yaml"), yaml).unwrap();
    for _ in 0..3 {
        shell.run(0, &["function", "deploy"]);
    }
    let got = shell.json(&["function", "get", "bounded"]);
    assert_eq!((&got["concurrency"], &got["keep_versions"]), (&json!(3), &json!(2)), "{got}");
    let (shown, _) = shell.run(0, &["function", "get", "bounded"]);
    assert!(shown.contains("at once     3") && shown.contains("keeps       2"), "{shown}");
    assert_eq!(shell.json(&["function", "versions", "bounded"])["count"], 2);
    for (field, value, range) in
        [("concurrency", "10001", "between 0 and 10000"), ("keep_versions", "-1", "between 0 and 100000")]
    {
        let message =
            node.try_deploy("bad", &speaker("hi"), &[(field, value)]).refusal(422, "INVALID_CONFIG");
        assert!(message.contains(field) && message.contains(range), "{message}");
    }
}
