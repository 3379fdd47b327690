//! Many at once: nobody gets another one's answer, and nothing is left behind.

use crate::deploy::unique;
use crate::harness::{Node, Options, eventually};
use orama_test_support::guests;
use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Duration;

/// Invokes from `threads` connections at once, `each` times on each; every answer must be its own payload, and every
/// record must be the request's.
fn storm(node: &Node, threads: usize, each: usize, name: impl Fn(usize) -> String + Sync) {
    let barrier = Barrier::new(threads);
    let ids: HashMap<String, (String, usize)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, name) = (&barrier, &name);
                scope.spawn(move || {
                    let mut connection = node.connect();
                    barrier.wait();
                    let mut ids = Vec::new();
                    for n in 0..each {
                        // Of different lengths, so that a mixed-up answer shows in the record as well.
                        let payload = format!("[\"{thread}\",\"{n}\",\"{}\"]", "x".repeat(thread * 31 + n));
                        connection.write(node.invoke_bytes(&name(thread), &payload));
                        let answer = connection.answer().expect(200);
                        assert_eq!(answer.text(), payload);
                        let id = answer.header("x-request-id").unwrap().to_owned();
                        ids.push((id, (name(thread), payload.len())));
                    }
                    ids
                })
            })
            .collect();
        all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), threads * each, "request ids repeat");
    for name in ids.values().map(|(name, _)| name).collect::<std::collections::HashSet<_>>() {
        let logs = node.logs(name, "?limit=1000");
        for record in logs["invocations"].as_array().unwrap() {
            let (of, size) = &ids[record["request_id"].as_str().unwrap()];
            assert_eq!(of, name);
            assert_eq!(
                (&record["input_size"], &record["output_size"]),
                (&(*size).into(), &(*size).into()),
                "{record}"
            );
        }
        let expected = ids.values().filter(|(of, _)| of == name).count();
        assert_eq!(logs["count"], expected, "{name}");
    }
}

#[test]
fn requests_at_once_never_get_each_others_answers() {
    let node = Node::start(Options::default());
    node.deploy("one", &guests::wat("echo"), &[]);
    storm(&node, 64, 10, |_| "one".to_owned());
    for n in 0..50 {
        node.deploy(&format!("many-{n}"), &unique("echo", &n.to_string()), &[]);
    }
    // Also right after a start, when every first invocation loads its code.
    node.restart();
    storm(&node, 50, 5, |thread| format!("many-{thread}"));
    assert_eq!(node.metric("orama_invocations_total{status=\"success\"}"), 250.0);
    assert_eq!(node.metric("orama_invocation_records_dropped_total"), 0.0);
}

#[test]
fn a_spinning_function_does_not_fail_its_neighbours() {
    let node = Node::start(Options { workers: 1, ..Options::default() });
    node.deploy("spin", &guests::wat("spin"), &[("timeout_seconds", "4")]);
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut spinning = node.connect();
    spinning.write(node.invoke_bytes("spin", ""));
    storm(&node, 20, 10, |_| "echo".to_owned());
    spinning.stream.set_nonblocking(true).unwrap();
    assert!(spinning.try_answer().is_err(), "all were answered while it ran");
    spinning.stream.set_nonblocking(false).unwrap();
    spinning.answer().refusal(504, "TIMEOUT");
}

#[test]
fn more_than_the_node_can_run_are_told_to_come_back() {
    // The smallest pool that a node takes; one core may fill it.
    let node = Node::start(Options {
        workers: 1,
        config: "instance_slots = 16\nnamespace_share_percent = 100\n".to_owned(),
        ..Options::default()
    });
    node.deploy("sleepy", &guests::wat("sleep_hour"), &[("timeout_seconds", "3")]);
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut connections: Vec<_> = (0..24).map(|_| node.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.write(node.invoke_bytes("sleepy", "")));
    let mut refused = 0;
    for connection in &mut connections {
        let answer = connection.answer();
        if answer.status == 503 {
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            answer.refusal(503, "OVERLOADED");
            refused += 1;
        } else {
            answer.refusal(504, "TIMEOUT");
        }
    }
    assert_eq!(refused, 8);
    // Afterwards there is room again, for as many.
    storm(&node, 16, 2, |_| "echo".to_owned());
}

#[test]
fn dropped_connections_leave_nothing_behind() {
    let node = Node::start(Options { config: "instance_slots = 256\n".to_owned(), ..Options::default() });
    node.deploy("sleepy", &guests::wat("sleep_hour"), &[("timeout_seconds", "60")]);
    node.deploy("echo", &guests::wat("echo"), &[]);
    let address = node.address();
    let begun = node.invoke_bytes("sleepy", "[1]");
    let half = node.invoke_request("echo").header("content-length", "100").bytes();
    let before = node.open_sockets();
    for n in 0..2_000 {
        let mut stream = TcpStream::connect(address).unwrap();
        let bytes: &[u8] = match n % 5 {
            0 => b"",
            1 => b"POST /v1/fun",
            2 => &half,
            3 => &begun,
            _ => b"GET /health HTTP/1.1\r\nhost: n\r\n\r\n",
        };
        // Every other one resets the connection instead of closing it: unread bytes do that.
        stream.write_all(bytes).unwrap();
        if n % 100 < 5 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    eventually("none is still running", || node.metric("orama_invocations_running") == 0.0);
    eventually("every invocation that had begun is recorded", || {
        let metric = node.metric("orama_invocations_total{status=\"error\"}");
        node.logs("sleepy", "?limit=1000")["count"].as_f64() == Some(metric)
    });
    eventually("every socket is closed", || node.open_sockets() <= before + 1);
    node.anonymous("GET", "/ready").send().expect(200);
    // As many as the node has slots for, all at once: none of them is still taken.
    let mut connections: Vec<_> = (0..100).map(|_| node.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.write(node.invoke_bytes("echo", "[1]")));
    for connection in &mut connections {
        assert_eq!(connection.answer().expect(200).text(), "[1]");
    }
}
