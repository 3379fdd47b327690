//! Failed invocations are tried again as their function says, as long as the caller waits.

use crate::harness::{Node, Options, Shared, eventually};
use crate::http::Answer;
use crate::shell::Shell;
use crate::websocket::Socket;
use orama_test_support::guests;
use serde_json::Value;
use std::time::{Duration, Instant};

fn deploy(node: &Node, name: &str, guest: &str, count: &str, delay_seconds: &str) {
    let fields = [("retry_count", count), ("retry_delay_seconds", delay_seconds), ("timeout_seconds", "1")];
    node.deploy(name, &guests::wat(guest), &fields);
}

fn id(answer: &Answer) -> String {
    answer.header("x-request-id").unwrap().to_owned()
}

/// The attempts of a request, the last one first, each with its status.
fn attempts(node: &Node, name: &str, request_id: &str) -> Vec<(u64, String)> {
    let logs = node.logs(name, &format!("?request_id={request_id}"));
    let of =
        |record: &Value| (record["attempt"].as_u64().unwrap(), record["status"].as_str().unwrap().to_owned());
    logs["invocations"].as_array().unwrap().iter().map(of).collect()
}

fn numbered(status: &str, numbers: &[u64]) -> Vec<(u64, String)> {
    numbers.iter().map(|number| (*number, status.to_owned())).collect()
}

#[test]
fn each_attempt_has_its_record_under_the_requests_id() {
    let Ok(node) = Shared::node() else { return };
    deploy(&node, "retried-trap", "trap_unreachable", "2", "0");
    let answer = node.invoke("retried-trap", "").expect(500);
    assert_eq!(attempts(&node, "retried-trap", &id(&answer)), numbered("error", &[3, 2, 1]));
    answer.refusal(500, "FUNCTION_TRAP");

    deploy(&node, "retried-spin", "spin", "1", "0");
    let answer = node.invoke("retried-spin", "").expect(504);
    assert_eq!(attempts(&node, "retried-spin", &id(&answer)), numbered("timeout", &[2, 1]));
}

#[test]
fn calls_of_every_kind_are_tried_again() {
    let Ok(node) = Shared::node() else { return };
    deploy(&node, "retried-calls", "trap_unreachable", "1", "0");
    let shell = Shell::of(&node);
    assert_eq!(shell.code(1, &["function", "invoke", "retried-calls", "--data", ""]), "FUNCTION_TRAP");
    let mut socket = Socket::open(&node, "retried-calls");
    assert_eq!(socket.failure(""), "FUNCTION_TRAP");
    let logs = node.logs("retried-calls", "");
    let told: Vec<(&str, u64)> = logs["invocations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["trigger_type"].as_str().unwrap(), record["attempt"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("websocket", 2), ("websocket", 1), ("http", 2), ("http", 1)]);
}

#[test]
fn what_a_websocket_has_left_is_not_tried_again() {
    let Ok(node) = Shared::node() else { return };
    deploy(&node, "retried-socket", "trap_unreachable", "5", "2");
    let mut socket = Socket::open(&node, "retried-socket");
    socket.send("");
    eventually("the first attempt is over", || node.logs("retried-socket", "")["count"] == 1);
    drop(socket);
    // Past the time of the second attempt.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(node.logs("retried-socket", "")["count"], 1);
}

#[test]
fn there_is_one_attempt_where_it_succeeds_or_none_more_was_asked_for() {
    let Ok(node) = Shared::node() else { return };
    deploy(&node, "retried-echo", "echo", "5", "0");
    let answer = node.invoke("retried-echo", "[1]").expect(200);
    assert_eq!(attempts(&node, "retried-echo", &id(&answer)), numbered("success", &[1]));
    deploy(&node, "not-retried", "trap_unreachable", "0", "0");
    let answer = node.invoke("not-retried", "").expect(500);
    assert_eq!(attempts(&node, "not-retried", &id(&answer)), numbered("error", &[1]));
}

#[test]
fn a_pause_longer_than_anyone_waits_is_not_begun() {
    let Ok(node) = Shared::node() else { return };
    deploy(&node, "retried-tomorrow", "trap_unreachable", "5", "86400");
    let answer = node.invoke("retried-tomorrow", "").expect(500);
    assert_eq!(attempts(&node, "retried-tomorrow", &id(&answer)), numbered("error", &[1]));
}

#[test]
fn the_pause_takes_nobodys_place_and_ends_with_the_caller() {
    let config = "instance_slots = 1\n".to_owned();
    let Ok(node) = Node::try_start(Options { workers: 1, config, ..Options::default() }) else { return };
    deploy(&node, "failing", "trap_unreachable", "5", "2");
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut caller = node.connect();
    caller.write(node.invoke_bytes("failing", ""));
    eventually("the first attempt is over", || node.logs("failing", "")["count"] == 1);
    assert_eq!(node.invoke("echo", "[1]").expect(200).text(), "[1]");
    drop(caller);
    let left = Instant::now();
    // Past the time of the second attempt and the third.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(node.logs("failing", "")["count"], 1, "{:?} after the caller left", left.elapsed());
}
