//! Callers that wait, leave, or are too many: what each of them is told, and what stays of them.

use crate::harness::{Node, Options, eventually};
use crate::http::Connection;
use crate::speakers::{said, slow_speaker};
use orama_test_support::guests;
use rustix::net::sockopt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn one_worker() -> Options {
    Options { workers: 1, ..Options::default() }
}

fn running(node: &Node) -> f64 {
    node.metric("orama_invocations_running")
}

fn begin(node: &Node, function: &str) -> Connection {
    let mut connection = node.connect();
    connection.write(node.invoke_bytes(function, "?"));
    connection
}

/// Closes a connection so that the other side is told of an error, as when a client crashes.
fn reset(connection: Connection) {
    sockopt::set_socket_linger(&connection.stream, Some(Duration::ZERO)).unwrap();
}

#[test]
fn sleeping_functions_block_nobody() {
    const SLEEP: Duration = Duration::from_secs(3);
    let node = Node::start(one_worker());
    node.deploy("slow", &slow_speaker("slept ", SLEEP), &[]);
    node.deploy("echo", &guests::wat("echo"), &[]);
    said(node.invoke("slow", "first"));
    let begun = Instant::now();
    let mut sleeping: Vec<Connection> = (0..100).map(|_| begin(&node, "slow")).collect();
    eventually("all sleep", || running(&node) == 100.0);
    for n in 0..100 {
        assert_eq!(node.invoke("echo", format!("[{n}]")).expect(200).text(), format!("[{n}]"));
    }
    assert_eq!(running(&node), 100.0, "all the echoes were answered while the others slept");
    for connection in &mut sleeping {
        assert_eq!(said(connection.answer()), "slept ?");
    }
    let took = begun.elapsed();
    assert!((SLEEP..SLEEP * 4).contains(&took), "a hundred sleeps of {SLEEP:?} took {took:?}");
    assert_eq!(running(&node), 0.0);
}

#[test]
fn a_client_that_leaves_ends_its_invocation_and_the_record_says_so() {
    let node = Node::start(one_worker());
    for (guest, leave) in [("sleep_hour", drop as fn(Connection)), ("spin", reset), ("sleep_hour", reset)] {
        let name =
            node.deploy(guest, &guests::wat(guest), &[("timeout_seconds", "60")])["function"]["name"].clone();
        let connection = begin(&node, guest);
        eventually("it runs", || running(&node) == 1.0);
        let left = Instant::now();
        leave(connection);
        eventually("it has ended", || running(&node) == 0.0);
        assert!(left.elapsed() < Duration::from_secs(10), "{name} ran on for {:?}", left.elapsed());
        let record = node.logs(guest, "?limit=1")["invocations"][0].clone();
        assert_eq!(record["status"], "error", "{record}");
        let error = record["error"].as_str().unwrap();
        assert!(error.contains("the client closed the connection before"), "{error}");
        assert!(record["duration_ms"].as_f64().unwrap() < 30_000.0, "{record}");
    }
    assert_eq!(node.metric("orama_invocations_total{status=\"error\"}"), 3.0);
}

/// Connects, does one of six things by the number, and leaves in one of two ways.
fn come_and_go(node: &Node, n: usize, [half_a_body, asleep, whole]: [&[u8]; 3]) {
    let mut connection = node.connect();
    match n / 8 % 6 {
        0 => {}
        1 => connection.write("POST /v1/functions/ec"),
        2 => connection.write(half_a_body),
        3 => connection.write(asleep),
        4 => connection.write([whole, whole, &whole[..40]].concat()),
        _ => {
            connection.write(whole);
            assert_eq!(connection.answer().expect(200).text(), "[1]");
        }
    }
    if n.is_multiple_of(3) {
        std::thread::sleep(Duration::from_millis(5));
    }
    if n.is_multiple_of(2) { reset(connection) } else { drop(connection) }
}

#[test]
fn callers_are_served_while_a_thousand_others_come_and_go() {
    let node = Node::start(Options::default());
    node.deploy("sleepy", &guests::wat("sleep_hour"), &[("timeout_seconds", "60")]);
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.invoke("echo", "[]").expect(200);
    let before = node.open_sockets();
    let half_a_body = node.invoke_request("echo").header("content-length", "100").bytes();
    let (asleep, whole) = (node.invoke_bytes("sleepy", ""), node.invoke_bytes("echo", "[1]"));
    let gone = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let (mut served, mut connection) = (0, node.connect());
            while !gone.load(Ordering::Relaxed) {
                let body = format!("[{served}]");
                connection.write(node.invoke_bytes("echo", &body));
                assert_eq!(connection.answer().expect(200).text(), body);
                served += 1;
            }
            served
        });
        let comers: Vec<_> = (0..8)
            .map(|comer| {
                let (node, requests) = (&node, [&half_a_body[..], &asleep, &whole]);
                scope.spawn(move || (comer..1000).step_by(8).for_each(|n| come_and_go(node, n, requests)))
            })
            .collect();
        comers.into_iter().for_each(|comer| comer.join().unwrap());
        gone.store(true, Ordering::Relaxed);
        serving.join().unwrap()
    });
    assert!(served > 10, "only {served} were served meanwhile");
    eventually("nothing runs any more", || running(&node) == 0.0);
    // One more is the connection that a scrape or this test itself has open.
    eventually("every socket is closed", || node.open_sockets() <= before + 1);
    assert_eq!(node.anonymous("GET", "/ready").send().expect(200).json()["status"], "ready");
}

#[test]
fn a_full_node_says_so_at_once_and_recovers() {
    let env =
        vec![("ORAMA_INSTANCE_SLOTS", "16".to_owned()), ("ORAMA_NAMESPACE_SHARE_PERCENT", "100".to_owned())];
    let node = Node::start(Options { env, ..one_worker() });
    node.deploy("sleepy", &guests::wat("sleep_hour"), &[("timeout_seconds", "60")]);
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut sleeping: Vec<Connection> = (0..16).map(|_| begin(&node, "sleepy")).collect();
    eventually("every slot is taken", || running(&node) == 16.0);
    for _ in 0..20 {
        let begun = Instant::now();
        let answer = node.invoke("echo", "[1]");
        assert!(begun.elapsed() < Duration::from_secs(2), "refused only after {:?}", begun.elapsed());
        let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&wait), "{wait}");
        answer.refusal(503, "OVERLOADED");
    }
    // Nobody was pushed out, and what needs no slot still works.
    assert_eq!(running(&node), 16.0);
    node.get("/v1/functions").expect(200);
    node.anonymous("GET", "/health").send().expect(200);
    drop(sleeping.pop());
    eventually("one has left", || running(&node) == 15.0);
    assert_eq!(node.invoke("echo", "[1]").expect(200).text(), "[1]");
    drop(sleeping);
    eventually("all have left", || running(&node) == 0.0);
    for n in 0..32 {
        assert_eq!(node.invoke("echo", format!("[{n}]")).expect(200).text(), format!("[{n}]"));
    }
    // A refusal is no invocation.
    assert_eq!(node.logs("echo", "")["count"], 33);
}
