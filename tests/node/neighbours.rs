//! Functions that take all they can get, and those beside them.

use crate::harness::{Node, Options, eventually};
use orama_test_support::guests;
use serde_json::json;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Nanoseconds that each of the node's cores has worked, by the thread's name.
fn work(node: &Node) -> HashMap<String, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
    let read = |task: std::io::Result<std::fs::DirEntry>| {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        Some((name.trim().to_owned(), stat.split(' ').next()?.parse().ok()?))
    };
    tasks.filter_map(read).filter(|(name, _): &(String, _)| name.starts_with("core-")).collect()
}

#[test]
fn two_busy_connections_keep_two_cores_busy() {
    let node = Node::start(Options { workers: 2, ..Options::default() });
    node.deploy("spin", &guests::wat("spin"), &[("timeout_seconds", "1")]);
    for round in 0..6 {
        eventually("earlier connections are closed", || node.metric("orama_http_connections") <= 1.0);
        // The last one was that of the look at the metrics.
        std::thread::sleep(Duration::from_millis(100));
        let before = work(&node);
        let mut connections = [node.connect(), node.connect()];
        connections.iter_mut().for_each(|connection| connection.write(node.invoke_bytes("spin", "")));
        for connection in &mut connections {
            connection.answer().refusal(504, "TIMEOUT");
        }
        let after = work(&node);
        let mut worked: Vec<_> = after.iter().map(|(core, ns)| ns - before[core]).collect();
        worked.sort_unstable();
        // On one core alone the other one would have next to nothing.
        assert!(worked.len() == 2 && worked[0] * 20 > worked[1], "round {round}: {worked:?}");
    }
}

#[test]
fn a_namespace_that_floods_the_cores_leaves_others_their_share() {
    let node = Node::start(Options { workers: 1, ..Options::default() });
    let body = json!({ "name": "greedy" }).to_string();
    node.request("POST", "/v1/namespaces").body(body).send().expect(201);
    let body = json!({ "namespace": "greedy", "role": "admin" }).to_string();
    let key = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
    let key = key["api_key"].as_str().unwrap();
    node.deploy("echo", &guests::wat("echo"), &[]);
    let fields = [("timeout_seconds", "3"), ("namespace", "greedy")];
    node.deploy("spin", &guests::wat("spin"), &fields);
    let mut spinning: Vec<_> = (0..200).map(|_| node.connect()).collect();
    for connection in &mut spinning {
        connection.write(node.request_as(key, "POST", "/v1/functions/spin/invoke").bytes());
    }
    eventually("they spin", || node.metric("orama_invocations_running") >= 200.0);
    let (until, mut answers) = (Instant::now() + Duration::from_secs(2), 0);
    let mut connection = node.connect();
    while Instant::now() < until {
        connection.write(node.invoke_bytes("echo", "x"));
        connection.answer().expect(200);
        answers += 1;
    }
    // In turns with each of 200 spinning guests there would be about ten.
    assert!(answers > 60, "{answers} answers in two seconds");
}
