//! The end of a node: who is still answered, how long that may take, and what is kept.

use crate::harness::{Node, Options, eventually};
use crate::http::Connection;
use crate::speakers::{said, slow_speaker};
use orama_test_support::guests;
use rustix::process::Signal;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn begin(node: &Node, function: &str) -> Connection {
    let before = node.metric("orama_invocations_running");
    let mut connection = node.connect();
    connection.write(node.invoke_bytes(function, "?"));
    eventually("it runs", || node.metric("orama_invocations_running") == before + 1.0);
    connection
}

#[test]
fn what_runs_is_answered_and_recorded() {
    let node = Node::start(Options::default());
    node.deploy("slow", &slow_speaker("slept ", Duration::from_secs(2)), &[]);
    let mut running: Vec<Connection> = (0..3).map(|_| begin(&node, "slow")).collect();
    let address = node.address();
    node.signal(Signal::TERM);
    eventually("new connections are refused", || TcpStream::connect(address).is_err());
    let ids: Vec<String> = running
        .iter_mut()
        .map(|connection| {
            let answer = connection.answer();
            let id = answer.header("x-request-id").unwrap().to_owned();
            assert_eq!(said(answer), "slept ?");
            id
        })
        .collect();
    assert_eq!(node.wait().code(), Some(0));
    node.start_again();
    for id in ids {
        let record = node.record("slow", &id);
        assert_eq!((&record["status"], &record["output_size"]), (&"success".into(), &7.into()), "{record}");
    }
}

#[test]
fn what_runs_longer_than_the_grace_period_is_ended_and_recorded() {
    let options = Options { config: "drain_grace_seconds = 1\n".to_owned(), ..Options::default() };
    let node = Node::start(options);
    node.deploy("slow", &slow_speaker("slept ", Duration::from_secs(30)), &[("timeout_seconds", "60")]);
    let mut running: Vec<Connection> = (0..3).map(|_| begin(&node, "slow")).collect();
    let begun = Instant::now();
    assert_eq!(node.terminate().code(), Some(0));
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "{took:?} for a grace of 1 s");
    running.iter_mut().for_each(Connection::expect_closed);
    node.start_again();
    let logs = node.logs("slow", "");
    assert_eq!(logs["count"], 3, "{logs}");
    for record in logs["invocations"].as_array().unwrap() {
        assert_eq!(record["status"], "error", "{record}");
        assert!(record["error"].as_str().unwrap().contains("the node was stopped"), "{record}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let node = Node::start(Options::default());
        node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "300")]);
        let mut running = begin(&node, "slow");
        node.signal(Signal::TERM);
        eventually("it drains", || node.stderr().contains("draining"));
        let begun = Instant::now();
        node.signal(signal);
        assert_eq!(node.wait().code(), Some(1));
        assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
        running.expect_closed();
        node.start_again();
        node.get("/ready").expect(200);
    }
}
