//! HTTP/1.1 as clients, proxies and attackers speak it.

use crate::harness::{Node, Options, Shared, eventually};
use crate::http::Answer;
use orama_test_support::guests;
use std::time::{Duration, Instant};

fn strict() -> Options {
    let config = "header_timeout_seconds = 1\nbody_timeout_seconds = 1\nidle_timeout_seconds = 2\n";
    Options { config: config.to_owned(), ..Options::default() }
}

#[test]
fn one_connection_serves_many_requests() {
    let Ok(node) = Shared::node() else { return };
    let echo = node.wat("echo");
    let mut connection = node.connect();
    for n in 0..50 {
        let body = format!("[{n}]");
        connection.write(node.invoke_bytes(echo, &body));
        assert_eq!(connection.answer().expect(200).text(), body);
        // A refusal does not end the connection either, nor does another kind of request.
        connection.write(node.invoke_bytes("never-deployed", ""));
        connection.answer().refusal(404, "FUNCTION_NOT_FOUND");
        connection.write(node.request("GET", "/v1/functions/echo").bytes());
        connection.answer().expect(200);
    }
    let last = node.invoke_request(echo).header("connection", "close").body("[0]").bytes();
    connection.write(last);
    connection.answer().expect(200);
    connection.expect_closed();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let Ok(node) = Shared::node() else { return };
    let echo = node.wat("echo");
    let mut connection = node.connect();
    let mut bytes = Vec::new();
    for n in 0..50 {
        bytes.extend_from_slice(&match n % 5 {
            4 => node.request("GET", "/v1/functions/echo").bytes(),
            _ => node.invoke_bytes(echo, format!("[{n}]")),
        });
    }
    connection.write(bytes);
    for n in 0..50 {
        let answer = connection.answer().expect(200);
        match n % 5 {
            4 => assert_eq!(answer.json()["name"], "echo"),
            _ => assert_eq!(answer.text(), format!("[{n}]")),
        }
    }
}

#[test]
fn bodies_come_in_every_form_that_http_has() {
    let Ok(node) = Shared::node() else { return };
    let echo = node.wat("echo");
    let mut connection = node.connect();
    // Chunks with extensions, trailers, and a size in capitals, one byte at a time.
    let head = node.invoke_request(echo).header("transfer-encoding", "chunked").bytes();
    let body = b"1;x=y\r\n[\r\n00A\r\n123456789 \r\n1\r\n]\r\n0\r\ntrailer: x\r\n\r\n";
    for byte in [head.as_slice(), body].concat().chunks(1) {
        connection.write(byte);
    }
    assert_eq!(connection.answer().expect(200).text(), "[123456789 ]");
    // A client that waits to be told before it sends the body.
    let ask = |request: crate::http::Request| {
        request.header("expect", "100-continue").header("content-length", "3")
    };
    connection.write(ask(node.invoke_request(echo)).bytes());
    assert_eq!(connection.answer().status, 100);
    connection.write("[1]");
    assert_eq!(connection.answer().expect(200).text(), "[1]");
    // Refused before the body: it is never asked for.
    connection.write(ask(node.anonymous("POST", "/v1/functions/echo/invoke")).bytes());
    connection.answer().refusal(401, "UNAUTHORIZED");

    let mut old = node.connect();
    let key = node.key();
    old.write(format!(
        "POST /v1/functions/echo/invoke HTTP/1.0\r\nx-api-key: {key}\r\ncontent-length: 3\r\n\r\n[2]"
    ));
    assert_eq!(old.answer().expect(200).text(), "[2]");
    old.expect_closed();

    let mut head_only = node.connect();
    head_only.write(node.request("HEAD", "/v1/functions/echo").bytes());
    let answer = head_only.answer_without_body();
    assert_eq!(answer.status, 200);
    head_only.write(node.anonymous("GET", "/health").bytes());
    assert_eq!(head_only.answer().expect(200).text(), "{\"status\":\"ok\"}");

    // The absolute form that proxies use, and a query that is not ours on an invoke.
    let mut absolute = node.connect();
    absolute.write(format!(
        "GET http://node/v1/functions/echo HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\n\r\n"
    ));
    assert_eq!(absolute.answer().expect(200).json()["name"], "echo");
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let Ok(node) = Shared::node() else { return };
    node.deploy("target", &guests::wat("echo"), &[]);
    let key = node.key();
    let smuggled =
        format!("POST /v1/functions/target/invoke HTTP/1.1\r\nhost: n\r\nx-api-key: {key}\r\n\r\n");
    for (what, headers, body) in [
        ("two lengths", "content-length: 3\r\ncontent-length: 4\r\n", "[1]x"),
        ("two lengths in one", "content-length: 3, 4\r\n", "[1]x"),
        ("a signed length", "content-length: +3\r\n", "[1]"),
        ("a negative length", "content-length: -3\r\n", "[1]"),
        ("a huge length", "content-length: 99999999999999999999\r\n", "[1]"),
        ("chunked is not last", "transfer-encoding: chunked, identity\r\n", "3\r\n[1]\r\n0\r\n\r\n"),
        ("an unknown coding", "transfer-encoding: xchunked\r\n", "3\r\n[1]\r\n0\r\n\r\n"),
        ("a bad chunk size", "transfer-encoding: chunked\r\n", "zz\r\n[1]\r\n0\r\n\r\n"),
        (
            "a chunk size that overflows",
            "transfer-encoding: chunked\r\n",
            "fffffffffffffffff\r\n[1]\r\n0\r\n\r\n",
        ),
        ("no line end after a chunk", "transfer-encoding: chunked\r\n", "3\r\n[1]XX0\r\n\r\n"),
        ("a space before the colon", "content-length : 3\r\n", "[1]"),
        ("a folded header", "x: a\r\n b\r\ncontent-length: 3\r\n", "[1]"),
        ("a zero byte", "x: a\0b\r\ncontent-length: 3\r\n", "[1]"),
    ] {
        let mut connection = node.connect();
        let head = format!("POST /v1/functions/target/invoke HTTP/1.1\r\nhost: n\r\nx-api-key: {key}\r\n");
        connection.write([head.as_str(), headers, "\r\n", body, smuggled.as_str()].concat());
        let answer = connection.answer();
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        connection.expect_closed();
    }
    for line in ["GET", "GET /health HTTP/3.0", "GET  /health HTTP/1.1", "\0\0\0\0", "\u{16}\u{3}\u{1}\0 TLS"]
    {
        let mut connection = node.connect();
        connection.write(format!("{line}\r\nhost: n\r\n\r\n"));
        let status = connection.answer().status;
        assert!(matches!(status, 400 | 505), "{line:?}: {status}");
        connection.expect_closed();
    }
    // With both a length and chunks, either one is refused or the chunks count; what follows is no second request.
    let mut connection = node.connect();
    let head = format!("POST /v1/functions/target/invoke HTTP/1.1\r\nhost: n\r\nx-api-key: {key}\r\n");
    connection.write(format!(
        "{head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n{smuggled}"
    ));
    let answer = connection.answer();
    assert!(answer.status == 400 || answer.text() == "[1]", "{answer:?}");
    connection.expect_closed();
    let ran = node.logs("target", "")["count"].clone();
    let expected = u64::from(answer.status == 200);
    assert_eq!(ran, expected, "a request was taken out of another one's body");
}

#[test]
fn a_head_may_have_64_kib_and_100_lines() {
    let Ok(node) = Shared::node() else { return };
    let with = |headers: &str| -> Answer {
        let mut connection = node.connect();
        let _ = connection.try_write(format!("GET /health HTTP/1.1\r\nhost: n\r\n{headers}\r\n"));
        connection.answer()
    };
    with(&format!("x: {}\r\n", "v".repeat(50_000))).expect(200);
    with(&format!("x: {}\r\n", "v".repeat(70_000))).expect(431);
    let lines = |count: usize| (0..count).map(|n| format!("x-{n}: v\r\n")).collect::<String>();
    with(&lines(90)).expect(200);
    with(&lines(101)).expect(431);
    let mut connection = node.connect();
    let _ = connection.try_write(format!("GET /{} HTTP/1.1\r\nhost: n\r\n\r\n", "p".repeat(70_000)));
    let status = connection.answer().status;
    assert!(matches!(status, 414 | 431), "{status}");
}

#[test]
fn slow_clients_are_sent_away_in_time() {
    let node = Node::start(strict());
    node.deploy("echo", &guests::wat("echo"), &[]);
    let begun = Instant::now();
    // One that says nothing, one that stops within a head, one that drips it, one that stops within a body.
    let mut silent = node.connect();
    let mut stopped = node.connect();
    stopped.write("GET /health HT");
    let mut dripping = node.connect();
    let mut short = node.connect();
    let head = node.invoke_request("echo").header("content-length", "10").bytes();
    short.write([head.as_slice(), b"[1"].concat());
    let mut used = node.connect();
    used.write(node.invoke_bytes("echo", "[1]"));
    used.answer().expect(200);
    let dripped = std::thread::scope(|scope| {
        let dripper = scope.spawn(|| {
            for byte in b"GET /health HTTP/1.1\r\nhost: node\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n\r\n" {
                if dripping.try_write([*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            dripping.answer()
        });
        stopped.answer().expect(408);
        stopped.expect_closed();
        short.answer().refusal(408, "REQUEST_TIMEOUT");
        short.expect_closed();
        dripper.join().unwrap()
    });
    assert_eq!(dripped.status, 408, "{dripped:?}");
    // The idle ones are closed without a word.
    silent.expect_closed();
    used.expect_closed();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    // A request that takes longer than all of these timeouts is not disturbed by them.
    node.deploy("slow", &guests::wat("spin"), &[("timeout_seconds", "5")]);
    node.invoke("slow", "").refusal(504, "TIMEOUT");
}

#[test]
fn a_refusal_can_be_read_while_the_client_still_sends() {
    let Ok(node) = Shared::node() else { return };
    let echo = node.wat("echo");
    for request in [
        node.invoke_request(echo).header("content-length", "3000000"),
        node.anonymous("POST", "/v1/functions/echo/invoke").header("content-length", "3000000"),
        node.anonymous("POST", "/v1/functions").header("content-length", "3000000"),
    ] {
        let mut connection = node.connect();
        connection.write(request.bytes());
        // All of it is sent before the answer is looked at.
        for _ in 0..30 {
            if connection.try_write(vec![b'x'; 100_000]).is_err() {
                break;
            }
        }
        let answer = connection.answer();
        assert!(matches!(answer.status, 401 | 413), "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        connection.expect_closed();
    }
}

#[test]
fn a_client_that_leaves_is_recorded_and_frees_its_place() {
    let node = Node::start(Options { workers: 1, ..Options::default() });
    node.deploy("sleepy", &guests::wat("sleep_hour"), &[("timeout_seconds", "30")]);
    node.deploy("echo", &guests::wat("echo"), &[]);
    let begun = Instant::now();
    for n in 0..3 {
        let mut connection = node.connect();
        connection.write(node.invoke_bytes("sleepy", "[1]"));
        eventually("it has begun", || node.metric("orama_invocations_running") == 1.0);
        // One that only ends what it sends is still there, until it leaves.
        if n == 0 {
            connection.close_sending_half();
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(node.metric("orama_invocations_running"), 1.0);
        }
        drop(connection);
        eventually("it has ended", || node.metric("orama_invocations_running") == 0.0);
    }
    eventually("three records", || node.logs("sleepy", "")["count"] == 3);
    assert!(begun.elapsed() < Duration::from_secs(25), "they were not waited for");
    for record in node.logs("sleepy", "")["invocations"].as_array().unwrap() {
        assert_eq!(record["status"], "error");
        assert!(record["error"].as_str().unwrap().contains("client closed the connection"), "{record}");
        assert_eq!(record["input_size"], 3);
    }
    assert_eq!(node.metric("orama_invocations_total{status=\"error\"}"), 3.0);
}
