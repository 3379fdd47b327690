//! Large bodies of requests: they reach their functions as they arrive, and take no room of the node.

use crate::harness::{Node, Options, Shared, eventually};
use crate::http::{Answer, Connection};
use crate::speakers::slow_speaker;
use orama_test_support::guests;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Counts standard input, and how often it waited 20 ms for it. Exits with the errno of a read that fails.
fn counter() -> Vec<u8> {
    // The iovec stands at 0, the count of bytes at 8, the counters at 16; a clock's subscription and that of descriptor 0 at 64,
    // events at 192.
    let source = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func $must (param $errno i32) (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func $add (param $at i32) (param $n i32)
    (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (i64.extend_i32_u (local.get $n)))))
  (func (export "_start")
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 20000000))
    (i64.store (i32.const 112) (i64.const 7))
    (i32.store8 (i32.const 120) (i32.const 1))
    (loop $more
      (call $must (call $poll (i32.const 64) (i32.const 192) (i32.const 2) (i32.const 32)))
      (if (i64.ne (i64.load (i32.const 192)) (i64.const 7)) (then
        (call $add (i32.const 24) (i32.const 1))
        (br $more)))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.const 65536))
      (call $must (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $add (i32.const 16) (i32.load (i32.const 8)))
      (br_if $more (i32.load (i32.const 8))))
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 16))
    (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    wat::parse_str(source).expect("the text is WebAssembly")
}

/// Bytes and waits that a counter tells.
#[track_caller]
fn counted(bytes: &[u8]) -> (u64, u64) {
    assert_eq!(bytes.len(), 16, "{}", String::from_utf8_lossy(bytes));
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    (number(0), number(8))
}

/// Deploys the site under a name, with 32 MB for bodies; `None` when Go is missing, which was reported.
fn site(node: &Node, name: &str) -> Option<()> {
    let wasm = fs::read(guests::go("site", &[]).ok()?).unwrap();
    node.deploy(name, &wasm, &[("is_public", "true"), ("max_body", "32")]);
    Some(())
}

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 % 251) as u8).collect()
}

/// What the site's `/hash` tells of a body: FNV-1a, which Go has too.
fn hash(body: &[u8]) -> String {
    let hash = body.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{} {hash:016x}", body.len())
}

/// The head of a request whose body follows.
fn head(node: &Node, path: &str, length: Option<usize>) -> Vec<u8> {
    let request = node.request("POST", path);
    let request = match length {
        Some(length) => request.header("content-length", &length.to_string()),
        None => request.header("transfer-encoding", "chunked"),
    };
    request.bytes()
}

/// A body in chunks of 64 KiB, with the last one.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(body.len() + body.len() / 1024);
    for chunk in body.chunks(64 << 10).chain([&[][..]]) {
        all.extend(format!("{:x}\r\n", chunk.len()).bytes());
        all.extend_from_slice(chunk);
        all.extend_from_slice(b"\r\n");
    }
    all
}

fn resident_mib(node: &Node) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

#[test]
fn a_large_body_reaches_its_function_as_it_arrives() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "arriving") else { return };
    let body = body(30 * MIB);
    let mut connection = node.connect();
    connection.write(head(&node, "/fn/default/arriving/progress", Some(body.len())));
    connection.write(&body[..200_000]);
    let begun = connection.begun_answer();
    assert_eq!(connection.piece().unwrap(), b"the beginning\n", "the rest is not sent yet");
    connection.write(&body[200_000..]);
    assert_eq!(String::from_utf8(connection.pieces().unwrap()).unwrap(), hash(&body));
    let record = node.record("arriving", begun.header("x-request-id").unwrap());
    assert_eq!((&record["input_size"], &record["status"]), (&body.len().into(), &"success".into()));
}

#[test]
fn a_large_body_is_read_whole_and_the_connection_goes_on() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "whole-body") else { return };
    for size in [1, MIB, MIB + 1, 30 * MIB] {
        let body = body(size);
        let mut connection = node.connect();
        for path in ["/fn/default/whole-body/hash", "/fn/default/whole-body@1/hash"] {
            connection.write(head(&node, path, Some(size)));
            connection.write(&body);
            let answer = connection.answer().expect(200);
            assert_eq!((answer.text(), answer.header("connection")), (hash(&body), None));
            connection.write(head(&node, path, None));
            connection.write(chunked(&body));
            let answer = connection.answer().expect(200);
            assert_eq!((answer.text(), answer.header("connection")), (hash(&body), None));
            let id = answer.header("x-request-id").unwrap();
            assert_eq!(node.record("whole-body", id)["input_size"], size);
        }
    }
    // The same bytes come back while they are sent.
    let body = body(20 * MIB);
    let connection = node.connect();
    let mut sender = Connection::open(node.address());
    drop(connection);
    sender.write(head(&node, "/fn/default/whole-body/echo", Some(body.len())));
    let mut stream = sender.stream.try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || stream.write_all(&sent));
    sender.begun_answer();
    let back = sender.pieces().unwrap();
    sending.join().unwrap().unwrap();
    assert!(back == body, "the bytes differ");
    // So does an invoke's body reach its function.
    node.deploy("count", &counter(), &[("max_body", "3")]);
    let answer = node.invoke("count", vec![7; 3 * MIB]).expect(200).json();
    let output = answer["output_base64"].as_str().or(answer["output"].as_str()).unwrap().to_owned();
    assert!(!output.is_empty(), "{answer}");
}

#[test]
fn a_body_stays_within_max_body() {
    let Ok(node) = Shared::node() else { return };
    node.deploy("two", &counter(), &[("max_body", "2")]);
    let path = "/fn/default/two";
    let exact = node.request("POST", path).body(vec![1; 2 * MIB]).send().expect(200);
    assert_eq!(counted(&exact.body).0, 2 * MIB as u64);
    // What is announced is refused before a run, what is not as soon as it comes.
    let runs = |node: &Node| node.logs("two", "")["count"].as_u64().unwrap();
    let before = runs(&node);
    let mut connection = node.connect();
    connection.write(head(&node, path, Some(2 * MIB + 1)));
    let answer = connection.answer();
    assert!(answer.json()["hint"].as_str().unwrap().contains("max_body"), "{answer:?}");
    answer.refusal(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(runs(&node), before);
    let mut connection = node.connect();
    connection.write(head(&node, path, None));
    connection.write(chunked(&vec![1; 2 * MIB + 1]));
    let answer = connection.answer();
    let id = answer.header("x-request-id").unwrap().to_owned();
    let message = answer.refusal(413, "PAYLOAD_TOO_LARGE");
    assert!(message.contains("2097152 bytes"), "{message}");
    let record = node.record("two", &id);
    assert_eq!(record["error"], "the function exited with code 29", "its read failed");
    assert!(
        record["messages"].to_string().contains("fd_read: the request's body may have at most"),
        "{record}"
    );
    // Without the setting it is a MiB, as before.
    node.deploy("one", &counter(), &[]);
    for chunks in [false, true] {
        let mut connection = node.connect();
        connection.write(head(&node, "/fn/default/one", (!chunks).then_some(MIB + 1)));
        if chunks {
            connection.write(chunked(&vec![1; MIB + 1]));
        }
        connection.answer().refusal(413, "PAYLOAD_TOO_LARGE");
    }
    assert_eq!(node.logs("one", "")["count"], 0);
    for bad in ["0", "33", "1.5", "x"] {
        node.try_deploy("bad", &counter(), &[("max_body", bad)]).refusal(422, "INVALID_CONFIG");
    }
}

#[test]
fn a_function_may_wait_for_its_input_and_for_a_clock() {
    let Ok(node) = Shared::node() else { return };
    node.deploy("polls", &counter(), &[("max_body", "2"), ("start", "command")]);
    let mut connection = node.connect();
    connection.write(head(&node, "/fn/default/polls", Some(2 * MIB)));
    connection.write(vec![1; MIB]);
    std::thread::sleep(Duration::from_millis(300));
    connection.write(vec![2; MIB]);
    let (bytes, waits) = counted(&connection.answer().expect(200).body);
    assert_eq!(bytes, 2 * MIB as u64);
    assert!(waits > 1, "it looked at its clock {waits} times while it waited");
    // Input that is there is told at once.
    let answer = node.request("POST", "/fn/default/polls").body(vec![1; 100_000]).send().expect(200);
    assert_eq!(counted(&answer.body), (100_000, 0));
}

#[test]
fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
    let config = "body_timeout_seconds = 1\n".to_owned();
    let Ok(node) = Node::try_start(Options { config, ..Options::default() }) else { return };
    node.deploy(
        "broken",
        &counter(),
        &[("max_body", "2"), ("retry_count", "3"), ("retry_delay_seconds", "0")],
    );
    let begin = || {
        let mut connection = node.connect();
        connection.write(head(&node, "/fn/default/broken", Some(2 * MIB)));
        connection.write(vec![1; 5_000]);
        connection
    };
    let logged = |part: &str| {
        eventually(part, || node.logs("broken", "").to_string().contains(part));
        let logs = node.logs("broken", "");
        let newest = logs["invocations"][0].clone();
        assert_eq!(
            (&newest["status"], &newest["input_size"]),
            (&Value::from("error"), &Value::from(5_000)),
            "{newest}"
        );
        logs["count"].as_u64().unwrap()
    };
    // A client that sends too little is told, and its function's place is free again.
    let message = begin().answer().refusal(408, "REQUEST_TIMEOUT");
    assert!(message.contains("too slowly"), "{message}");
    assert_eq!(logged("arrives too slowly"), 1, "a body that was read in part is not sent again");
    // One that ends its input early, and one that is gone.
    let mut connection = begin();
    connection.close_sending_half();
    connection.answer().refusal(400, "BAD_BODY");
    assert_eq!(logged("broke off"), 2);
    drop(begin());
    eventually("the run of a client that left ends", || node.metric("orama_invocations_running") == 0.0);
    assert_eq!(node.logs("broken", "?status=success")["count"], 0);
    // The function's own time holds as well.
    node.deploy("short", &counter(), &[("max_body", "32"), ("timeout_seconds", "1")]);
    let mut connection = node.connect();
    connection.write(head(&node, "/fn/default/short", Some(32 * MIB)));
    for _ in 0..40 {
        if connection.try_write(vec![1; 20_000]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    connection.answer().refusal(504, "TIMEOUT");
}

#[test]
fn a_function_may_answer_before_it_has_read_everything() {
    let Ok(node) = Shared::node() else { return };
    node.deploy("early", &guests::wat("ignores_stdin"), &[("max_body", "32"), ("is_public", "true")]);
    let body = body(16 * MIB);
    for chunks in [false, true] {
        let mut connection = node.connect();
        connection.write(head(&node, "/fn/default/early", (!chunks).then_some(body.len())));
        let mut stream = connection.stream.try_clone().unwrap();
        let bytes = if chunks { chunked(&body) } else { body.clone() };
        // The node need not take all of it.
        let sending = std::thread::spawn(move || drop(stream.write_all(&bytes)));
        let answer = connection.answer().expect(200);
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("{\"ok\":true}", Some("close")));
        connection.stream.shutdown(Shutdown::Both).ok();
        sending.join().unwrap();
    }
    // A body that was waited for was read whole, whatever the function did.
    let mut connection = node.connect();
    for _ in 0..2 {
        connection.write(node.anonymous("POST", "/fn/default/early").body(&body[..MIB]).bytes());
        assert_eq!(connection.answer().expect(200).header("connection"), None);
    }
}

/// Sends 30 MiB, a MiB at a time, as far as the node takes them; the answer.
fn upload(address: SocketAddr, head: Vec<u8>, pause: Duration) -> Answer {
    let mut connection = Connection::open(address);
    connection.write(head);
    let mut stream = connection.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let piece = vec![1; MIB];
        for _ in 0..30 {
            let sent = stream.write_all(&piece);
            std::thread::sleep(pause);
            if sent.is_err() {
                return;
            }
        }
    });
    let answer = connection.answer();
    // Ends a write that the node does not take.
    let _ = connection.stream.shutdown(Shutdown::Both);
    sending.join().unwrap();
    answer
}

#[test]
fn uploads_that_nobody_reads_take_no_memory() {
    const CLIENTS: usize = 20;
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let fields = [("max_body", "32"), ("timeout_seconds", "60")];
    node.deploy("sleeps", &slow_speaker("late", Duration::from_secs(6)), &fields);
    node.deploy("counts", &counter(), &fields);
    node.request("POST", "/fn/default/counts").body(vec![1; 30 * MIB]).send().expect(200);
    let before = resident_mib(&node);
    // Functions that do not read hold up their clients.
    let start = |path: &str, pause: Duration| {
        let (address, head) = (node.address(), head(&node, path, Some(30 * MIB)));
        std::thread::spawn(move || upload(address, head, pause))
    };
    let sleeping: Vec<_> = (0..CLIENTS).map(|_| start("/fn/default/sleeps", Duration::ZERO)).collect();
    let counting: Vec<_> =
        (0..CLIENTS).map(|_| start("/fn/default/counts", Duration::from_millis(50))).collect();
    let mut most = 0;
    while !counting.iter().all(std::thread::JoinHandle::is_finished) {
        most = most.max(resident_mib(&node));
        std::thread::sleep(Duration::from_millis(20));
    }
    for counted_by in counting {
        assert_eq!(counted(&counted_by.join().unwrap().expect(200).body).0, 30 * MIB as u64);
    }
    // They echo what was sent, which is more than an output may have.
    for sleeper in sleeping {
        let answer = sleeper.join().unwrap();
        assert!([200, 500].contains(&answer.status), "{answer:?}");
    }
    let took = most.saturating_sub(before);
    assert!(took < 160, "{took} MiB for {} bodies of 30 MiB", 2 * CLIENTS);
}
