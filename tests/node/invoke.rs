//! Invocations: what comes back, what is recorded, and how a function can fail.

use crate::harness::{Node, Options, Shared, output};
use crate::http::{Answer, Connection};
use crate::shell::Shell;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn request_id(answer: &Answer) -> String {
    answer.header("x-request-id").unwrap_or_else(|| panic!("no request id: {answer:?}")).to_owned()
}

/// The answer when the output was wrapped: the output.
#[track_caller]
fn wrapped(answer: &Answer) -> String {
    let json = answer.json();
    let mut keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["duration_ms", "output", "request_id", "status"], "{json}");
    assert_eq!(json["status"], "success");
    assert_eq!(json["request_id"], request_id(answer));
    let duration: f64 = answer.header("x-duration-ms").unwrap().parse().unwrap();
    assert_eq!(json["duration_ms"], duration, "{json}");
    json["output"].as_str().unwrap().to_owned()
}

#[test]
fn json_comes_back_byte_for_byte() {
    let Ok(node) = Shared::node() else { return };
    let echo = node.wat("echo");
    let large = format!(" [{}\"\"]\n", "\"x\", ".repeat(100_000));
    for body in [
        "{\"b\": 1.0,  \"a\":\"\\u00e4\"}\n",
        "[1, 2]",
        " {\"a\":1}",
        "42",
        "-1.50",
        "null",
        "true\n",
        "\"quoted\"",
        &large,
    ] {
        let answer = node.invoke(echo, body).expect(200);
        assert_eq!(answer.text(), body);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let duration: f64 = answer.header("x-duration-ms").unwrap().parse().unwrap();
        assert!((0.0..10_000.0).contains(&duration), "{duration}");
        assert_eq!(request_id(&answer).len(), 36);
    }
    let ids: std::collections::HashSet<String> =
        (0..50).map(|_| request_id(&node.invoke(echo, "{}"))).collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn other_output_is_wrapped() {
    let Ok(node) = Shared::node() else { return };
    let echo = node.wat("echo");
    let large = format!("[{}", "\"x\", ".repeat(100_000));
    for text in [
        "plain text\n",
        "debugging\n{\"a\":1}",
        "{\"a\":1}\n{\"b\":2}",
        "{",
        "[not json",
        "nul",
        "ä\u{1F600}\u{0}\u{7f}",
        &large,
    ] {
        let answer = node.invoke(echo, text).expect(200);
        assert_eq!(wrapped(&answer), text);
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(wrapped(&node.invoke(node.wat("empty"), "input nobody reads").expect(200)), "");
    assert_eq!(wrapped(&node.invoke(echo, "").expect(200)), "");
    let guest = node.wat("writes_not_utf8");
    let answer = node.invoke(guest, "").expect(200);
    let record = node.record(guest, &request_id(&answer));
    assert!(record["messages"][0]["message"].as_str().unwrap().contains('\u{fffd}'), "{record}");
}

/// Writes as many bytes of all values as an output may have.
const WRITES_BYTES: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 129)
  (func (export "_start") (local $at i32)
    (loop $more
      (i32.store (i32.add (i32.const 65536) (local.get $at)) (i32.mul (local.get $at) (i32.const 0x9E3779B1)))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 8388608))))
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 8388608))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn bytes_come_back_unharmed() {
    let Ok(node) = Shared::node() else { return };
    let bytes = |answer: &Answer| -> Vec<u8> {
        let json = answer.json();
        let mut keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["duration_ms", "output_base64", "request_id", "status"]);
        assert_eq!((&json["status"], &json["request_id"]), (&json!("success"), &json!(request_id(answer))));
        STANDARD.decode(json["output_base64"].as_str().unwrap()).unwrap()
    };
    let echo = node.wat("echo");
    for sent in [&b"a\xff\xfe\x00\x80z"[..], b"{\"a\":\"\xff\"}", &b"\xf0\x00".repeat(100_000)] {
        assert!(bytes(&node.invoke(echo, sent).expect(200)) == sent);
    }
    node.deploy("bytes", &wat::parse_str(WRITES_BYTES).unwrap(), &[("memory_limit_mb", "16")]);
    let mut expected: Vec<u8> = Vec::new();
    for at in (0..8_388_608_u32).step_by(4) {
        expected.extend(at.wrapping_mul(0x9E37_79B1).to_le_bytes());
    }
    assert!(bytes(&node.invoke("bytes", "").expect(200)) == expected, "8 MiB of bytes");
    // The command line prints them.
    let printed = output(Shell::of(&node).command(&["function", "invoke", "bytes", "--data", ""]));
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    assert!(printed.stdout == expected, "{} bytes were printed", printed.stdout.len());
}

fn chunked(node: &Node, name: &str, body: &[u8]) -> Answer {
    let head = node.invoke_request(name).header("transfer-encoding", "chunked").bytes();
    let mut connection = node.connect();
    connection.write(head);
    for chunk in body.chunks(100_000) {
        // The node may have refused already, and says so in its answer.
        let frame = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        if connection.try_write(frame).is_err() {
            break;
        }
    }
    let _ = connection.try_write("0\r\n\r\n");
    connection.answer()
}

#[test]
fn input_may_have_one_mebibyte_and_not_a_byte_more() {
    let Ok(node) = Shared::node() else { return };
    let echo = node.wat("echo");
    let mut body: Vec<u8> = (0..MIB).map(|n| b'a' + (n % 25) as u8).collect();
    (body[0], body[MIB - 1]) = (b'"', b'"');
    assert!(node.invoke(echo, &body).expect(200).body == body, "the echo differs");
    assert!(chunked(&node, echo, &body).expect(200).body == body, "the echo differs");
    body.push(b'x');
    let message = node.invoke(echo, &body).refusal(413, "PAYLOAD_TOO_LARGE");
    assert!(message.contains("1048576 bytes"), "{message}");
    chunked(&node, echo, &body).refusal(413, "PAYLOAD_TOO_LARGE");
    // The refused ones never ran.
    let largest = node.logs(echo, "?limit=1000")["invocations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["input_size"].as_u64().unwrap())
        .max();
    assert_eq!(largest, Some(MIB as u64));
}

/// What a failed invocation must be: the answer, and its record.
#[track_caller]
fn fails(node: &Node, name: &str, input: &str, status: u16, code: &str) -> (String, Value) {
    let answer = node.invoke(name, input);
    let id = request_id(&answer);
    let message = answer.refusal(status, code);
    let record = node.record(name, &id);
    assert_eq!(record["status"], if code == "TIMEOUT" { "timeout" } else { "error" }, "{record}");
    assert_eq!(record["error"], message.as_str(), "{record}");
    (message, record)
}

#[test]
fn a_failure_says_what_happened_and_is_recorded() {
    let Ok(node) = Shared::node() else { return };
    let (message, _) = fails(&node, node.wat("exit_code"), "7", 500, "FUNCTION_EXIT");
    assert_eq!(message, "the function exited with code 7");
    wrapped(&node.invoke("exit_code", "0").expect(200));
    // A whole JSON object before the failure is no answer.
    fails(&node, node.wat("exit_after_output"), "", 500, "FUNCTION_EXIT");
    fails(&node, node.wat("trap_after_output"), "", 500, "FUNCTION_TRAP");
    let (message, _) = fails(&node, node.wat("trap_unreachable"), "", 500, "FUNCTION_TRAP");
    assert!(message.contains("in deep_inside, called by in_between"), "{message}");
    let (message, _) = fails(&node, node.wat("trap_stack_overflow"), "", 500, "FUNCTION_TRAP");
    assert!(message.contains("recurse_forever"), "{message}");
    let (message, _) = fails(&node, node.wat("memory_grow_then_trap"), "", 500, "OUT_OF_MEMORY");
    assert!(message.contains("64 MB"), "{message}");
    let (message, record) = fails(&node, node.wat("flood_stdout"), "", 500, "OUTPUT_TOO_LARGE");
    assert!(message.contains("8388608 bytes"), "{message}");
    assert!(record["output_size"].as_u64().unwrap() <= 8 << 20, "{record}");
    let (message, record) = fails(&node, node.wat("spin"), "", 504, "TIMEOUT");
    assert!(message.contains("1 s"), "{message}");
    let last = record["messages"].as_array().unwrap().last().unwrap();
    assert!(last["message"].as_str().unwrap().contains("spin_forever"), "{record}");
    fails(&node, node.wat("sleep_hour"), "", 504, "TIMEOUT");
    // A start section is the function's code as well.
    fails(&node, node.wat("start_section_traps"), "", 500, "FUNCTION_TRAP");
    let (message, _) = fails(&node, node.wat("start_section_exits"), "", 500, "FUNCTION_EXIT");
    assert!(message.contains("code 4"), "{message}");
}

/// Writes two lines to standard output, floods its log, panics as a Go program does, writes its stack, and exits with code 2.
const PANICS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "reading\0athe order\0a")
  (data (i32.const 128) "a step\0a")
  (data (i32.const 192) "panic: no order 7\0a\0agoroutine 1 [running]:\0a")
  (func $write (param i32 i32 i32)
    (i32.store (i32.const 0) (local.get 1))
    (i32.store (i32.const 4) (local.get 2))
    (drop (call $fd_write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $steps (param i32)
    (loop $more
      (call $write (i32.const 2) (i32.const 128) (i32.const 7))
      (br_if $more (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "_start")
    (call $write (i32.const 1) (i32.const 64) (i32.const 18))
    (call $steps (i32.const 500))
    (call $write (i32.const 2) (i32.const 192) (i32.const 42))
    (call $steps (i32.const 50))
    (call $exit (i32.const 2))))"#;

#[test]
fn a_failures_output_and_panic_are_told_to_who_may_read_the_log() {
    let Ok(node) = Shared::node() else { return };
    let fields = [("is_public", "true"), ("retry_count", "0")];
    node.deploy("panics", &wat::parse_str(PANICS).unwrap(), &fields);
    let (message, record) = fails(&node, "panics", "", 500, "FUNCTION_EXIT");
    assert_eq!(message, "the function exited with code 2; panic: no order 7");
    let messages: Vec<&str> = record["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages.len(), 203, "{messages:?}");
    assert_eq!((messages[0], messages[99]), ("a step", "a step"));
    assert!(messages[100].starts_with("353 more messages were dropped"), "{}", messages[100]);
    assert_eq!(messages[148..151], ["panic: no order 7", "", "goroutine 1 [running]:"]);
    assert_eq!(messages[200..], ["a step", "stdout: reading", "stdout: the order"]);
    // What the function knows is nobody else's business.
    let stranger = node.anonymous("POST", "/v1/invoke/default/panics").send();
    let id = request_id(&stranger);
    assert_eq!(stranger.refusal(500, "FUNCTION_EXIT"), "the function exited with code 2");
    assert_eq!(node.record("panics", &id)["error"], message.as_str());
}

#[test]
fn a_timeout_comes_at_its_deadline() {
    let Ok(node) = Shared::node() else { return };
    for (name, seconds) in [("deadline-1", 1.0), ("deadline-2", 2.0)] {
        node.deploy(name, &guests::wat("spin"), &[("timeout_seconds", &seconds.to_string())]);
        let begun = Instant::now();
        let answer = node.invoke(name, "");
        let took = begun.elapsed().as_secs_f64();
        let id = request_id(&answer);
        answer.refusal(504, "TIMEOUT");
        // Never early; late only by what a machine shared with other tests takes to look.
        assert!((seconds..seconds + 3.0).contains(&took), "{took} s for a timeout of {seconds} s");
        let duration = node.record(name, &id)["duration_ms"].as_f64().unwrap();
        assert!((seconds * 1000.0..seconds * 1000.0 + 3000.0).contains(&duration), "{duration} ms");
    }
}

#[test]
fn a_guest_that_never_waits_does_not_delay_its_neighbours() {
    let Ok(node) = Node::try_start(Options { workers: 1, ..Options::default() }) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    // Loops of the guest's own, and loops of host calls that are always ready.
    for guest in ["spin", "spin_yield", "spin_clock", "spin_empty_reads", "sleep_hour", "flood_stderr"] {
        node.deploy(guest, &guests::wat(guest), &[("timeout_seconds", "2")]);
        let mut spinning: Vec<Connection> = (0..2).map(|_| node.connect()).collect();
        spinning.iter_mut().for_each(|connection| connection.write(node.invoke_bytes(guest, "")));
        let mut neighbour = node.connect();
        for n in 0..50 {
            let body = format!("[{n}]");
            neighbour.write(node.invoke_bytes("echo", &body));
            assert_eq!(neighbour.answer().expect(200).text(), body);
        }
        // All fifty were answered while the others still ran.
        for connection in &mut spinning {
            connection.stream.set_nonblocking(true).unwrap();
            let error = connection.try_answer().expect_err("the guest still runs");
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{guest}");
            connection.stream.set_nonblocking(false).unwrap();
        }
        for connection in &mut spinning {
            connection.answer().refusal(504, "TIMEOUT");
        }
    }
}

#[test]
fn every_invocation_starts_with_fresh_memory() {
    let Ok(node) = Shared::node() else { return };
    let dirty = node.wat("memory_dirty");
    for _ in 0..20 {
        assert_eq!(wrapped(&node.invoke(dirty, "").expect(200)), "clean");
    }
}

#[test]
fn clocks_are_real_and_randomness_differs() {
    let Ok(node) = Shared::node() else { return };
    let hex = |name: &str| {
        let answer = node.invoke(name, "").expect(200);
        // Digits alone may be a number.
        let told = if answer.json().is_object() { wrapped(&answer) } else { answer.text() };
        u64::from_str_radix(&told, 16).unwrap()
    };
    let now_ns = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(now.as_nanos()).unwrap()
    };
    let (wall, random) = (node.wat("wall_time_first"), node.wat("random_first"));
    for _ in 0..5 {
        let before = now_ns();
        let told = hex(wall);
        assert!((before..=now_ns()).contains(&told), "{before} {told}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let drawn: std::collections::HashSet<u64> = (0..20).map(|_| hex(random)).collect();
    assert_eq!(drawn.len(), 20);
}

#[test]
fn messages_are_kept_in_order_with_their_invocation() {
    let Ok(node) = Shared::node() else { return };
    for guest in ["log_env", "log_host", "log_orama"] {
        let answer = node.invoke(node.wat(guest), "").expect(200);
        let record = node.record(guest, &request_id(&answer));
        let levels: Vec<_> =
            record["messages"].as_array().unwrap().iter().map(|m| m["level"].as_str().unwrap()).collect();
        assert_eq!(levels, ["info", "error"], "{record}");
    }
    // The messages of a function that calls log_info before it reads belong to the request that it answered.
    let guest = node.wat("logs_before_reading");
    for n in 0..5 {
        let answer = node.invoke(guest, format!("[{n}]")).expect(200);
        assert_eq!(answer.text(), format!("[{n}]"));
        let record = node.record(guest, &request_id(&answer));
        assert_eq!(record["messages"].as_array().unwrap().len(), 1, "{record}");
    }
}

#[test]
fn a_flood_of_messages_is_cut_and_says_so() {
    let Ok(node) = Shared::node() else { return };
    for guest in ["flood_log", "flood_stderr", "flood_stderr_one_line"] {
        let (_, record) = fails(&node, node.wat(guest), "", 504, "TIMEOUT");
        let messages = record["messages"].as_array().unwrap();
        let bytes: usize = messages.iter().map(|m| m["message"].as_str().unwrap().len()).sum();
        assert!(messages.len() <= 203 && bytes < 100 << 10, "{guest}: {} {bytes}", messages.len());
        let told = messages.iter().any(|m| {
            let text = m["message"].as_str().unwrap();
            text.contains("more messages were dropped") || text.contains("[cut after")
        });
        assert!(told, "{guest}: {record}");
    }
}

#[test]
fn logs_have_the_contracts_shape_and_filters() {
    let Ok(node) = Shared::node() else { return };
    let wasm = guests::wat("exit_code");
    node.deploy("logged", &wasm, &[]);
    node.deploy("logged", &wasm, &[]);
    let ids: Vec<String> = ["0", "1", "2", "0"]
        .iter()
        .enumerate()
        .map(|(n, code)| {
            // Times are told in milliseconds, so these differ.
            std::thread::sleep(Duration::from_millis(2));
            request_id(&node.invoke(&format!("logged@{}", 1 + n % 2), code))
        })
        .collect();
    let all = node.logs("logged", "");
    assert_eq!(
        (&all["name"], &all["namespace"], &all["count"]),
        (&json!("logged"), &json!("default"), &json!(4))
    );
    let seen: Vec<&str> =
        all["invocations"].as_array().unwrap().iter().map(|r| r["request_id"].as_str().unwrap()).collect();
    assert_eq!(seen, ids.iter().rev().map(String::as_str).collect::<Vec<_>>(), "newest first");
    let record = all["invocations"][0].as_object().unwrap();
    let mut keys: Vec<&str> = record.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "attempt",
        "caller",
        "client_ip",
        "duration_ms",
        "error",
        "input_size",
        "memory_bytes",
        "messages",
        "output_size",
        "phases_ms",
        "request_id",
        "started_at",
        "status",
        "trigger_type",
        "version",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&record["trigger_type"], &record["version"]), (&json!("http"), &json!(2)));
    assert_eq!(
        (&record["input_size"], &record["output_size"], &record["error"]),
        (&json!(1), &json!(0), &Value::Null)
    );

    let ids_of = |name: &str, query: &str| -> Vec<String> {
        let logs = node.logs(name, query);
        let found = logs["invocations"].as_array().unwrap().clone();
        found.iter().map(|record| record["request_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids_of("logged", "?limit=1"), [ids[3].clone()]);
    assert_eq!(ids_of("logged", "?status=error"), [ids[2].clone(), ids[1].clone()]);
    assert_eq!(ids_of("logged", "?status=timeout").len(), 0);
    assert_eq!(ids_of("logged@1", ""), [ids[2].clone(), ids[0].clone()]);
    assert_eq!(ids_of("logged", "?since=2999-01-01T00:00:00Z").len(), 0);
    assert_eq!(ids_of("logged", "?request_id=no-such-id").len(), 0);
    for bad in ["?limit=0", "?limit=1001", "?limit=x", "?since=yesterday", "?status=fine", "?colour=red"] {
        node.get(&format!("/v1/functions/logged/logs{bad}")).refusal(400, "INVALID_QUERY");
    }
    node.get("/v1/functions/never-deployed/logs").refusal(404, "FUNCTION_NOT_FOUND");
}

#[test]
fn since_takes_times_with_offsets_unix_seconds_and_ages() {
    let Ok(node) = Shared::node() else { return };
    node.deploy("logged-since", &guests::wat("echo"), &[]);
    node.invoke("logged-since", "[1]").expect(200);
    let count = |since: &str| node.logs("logged-since", &format!("?since={since}"))["count"].clone();
    for since in [
        "15m",
        "90m",
        "1d",
        "1970-01-01T00:00:00Z",
        "1970-01-01T02:00:00+02:00",
        "1970-01-01T02:00:00%2B02:00",
        "1000",
        "1000.5",
    ] {
        assert_eq!(count(since), 1, "{since}");
    }
    for since in ["2999-01-01T02:00:00+02:00", "32472144000"] {
        assert_eq!(count(since), 0, "{since}");
    }
    for bad in ["-1", "1970-01-01T00:00:00", "1e3", "1%20parsec"] {
        let message =
            node.get(&format!("/v1/functions/logged-since/logs?since={bad}")).refusal(400, "INVALID_QUERY");
        assert!(message.contains("since"), "{message}");
    }
}
