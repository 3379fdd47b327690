//! Measures the cost of a guest's call of each host function, on a node: an invocation with many calls compared with one without.

use crate::client::{Connection, get, post, put};
use crate::process::Server;
use std::path::Path;
use std::time::{Duration, Instant};

/// Invocations of each guest. The faster half counts.
const INVOCATIONS: usize = 60;

/// A host function and the number of calls in one invocation.
struct Case {
    name: &'static str,
    /// Its imports, as WAT.
    imports: &'static str,
    /// One call, as WAT, that leaves nothing on the stack.
    call: &'static str,
    calls: u32,
}

// The guest's texts. The update changes the row each time, as SQLite writes nothing for an unchanged row.
const DATA: &str = r#"
    (data (i32.const 0) "key")
    (data (i32.const 16) "some value of forty bytes, as caches hold")
    (data (i32.const 64) "counter")
    (data (i32.const 80) "SELECT id, name FROM users WHERE id = ?")
    (data (i32.const 128) "[7]")
    (data (i32.const 144) "UPDATE users SET name = hex(randomblob(4)) WHERE id = ?")
    (data (i32.const 208) "bench:topic")
    (data (i32.const 224) "{\"n\":1}")"#;

const fn case(name: &'static str, calls: u32, imports: &'static str, call: &'static str) -> Case {
    Case { name, imports, call, calls }
}

/// The cases. The empty call is first, as the others are compared with it.
const CASES: [Case; 11] = [
    // Without a token there is no wallet, so the call does nothing.
    case(
        "empty call",
        100,
        r#"(import "env" "get_caller_wallet" (func $call (result i64)))"#,
        "(drop (call $call))",
    ),
    case(
        "log_info",
        100,
        r#"(import "env" "log_info" (func $call (param i32 i32)))"#,
        "(call $call (i32.const 16) (i32.const 41))",
    ),
    case(
        "get_env",
        100,
        r#"(import "env" "get_env" (func $call (param i32 i32) (result i64)))"#,
        "(drop (call $call (i32.const 0) (i32.const 3)))",
    ),
    case(
        "get_secret",
        100,
        r#"(import "env" "get_secret" (func $call (param i32 i32) (result i64)))"#,
        "(drop (call $call (i32.const 0) (i32.const 3)))",
    ),
    case(
        "cache_get",
        100,
        r#"(import "env" "cache_get" (func $call (param i32 i32) (result i64)))"#,
        "(drop (call $call (i32.const 0) (i32.const 3)))",
    ),
    case(
        "cache_set",
        100,
        r#"(import "env" "cache_set" (func $call (param i32 i32 i32 i32 i64)))"#,
        "(call $call (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 41) (i64.const 600))",
    ),
    case(
        "cache_incr",
        100,
        r#"(import "env" "cache_incr" (func $call (param i32 i32) (result i64)))"#,
        "(drop (call $call (i32.const 64) (i32.const 7)))",
    ),
    case(
        "db_query",
        100,
        r#"(import "env" "db_query" (func $call (param i32 i32 i32 i32) (result i64)))"#,
        "(drop (call $call (i32.const 80) (i32.const 39) (i32.const 128) (i32.const 3)))",
    ),
    case(
        "db_execute",
        20,
        r#"(import "env" "db_execute" (func $call (param i32 i32 i32 i32) (result i32)))"#,
        "(drop (call $call (i32.const 144) (i32.const 55) (i32.const 128) (i32.const 3)))",
    ),
    case(
        "pubsub_publish (no trigger)",
        100,
        r#"(import "env" "pubsub_publish" (func $call (param i32 i32 i32 i32) (result i32)))"#,
        "(drop (call $call (i32.const 208) (i32.const 11) (i32.const 224) (i32.const 7)))",
    ),
    case(
        "pubsub_publish (a trigger)",
        20,
        r#"(import "env" "pubsub_publish" (func $call (param i32 i32 i32 i32) (result i32)))"#,
        "(drop (call $call (i32.const 208) (i32.const 11) (i32.const 224) (i32.const 7)))",
    ),
];

/// Makes a guest with `calls` calls.
fn guest(imports: &str, call: &str, calls: u32) -> Vec<u8> {
    let body = match calls {
        0 => String::new(),
        _ => format!(
            "(loop $again {call} (br_if $again \
             (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {calls}))))"
        ),
    };
    wat::parse_str(format!(
        r#"(module {imports} (memory (export "memory") 2) {DATA}
            (func (export "orama_alloc") (param i32) (result i32) (i32.const 65536))
            (func (export "_start") (local $n i32) {body}))"#
    ))
    .unwrap()
}

/// Creates the table of the database cases.
const SETUP: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT)",
    "DELETE FROM users",
    "INSERT INTO users VALUES (7, 'a')",
];

fn setup_guest() -> Vec<u8> {
    let mut data = String::new();
    let mut calls = String::new();
    for (index, sql) in SETUP.iter().enumerate() {
        let at = 1024 * (index + 1);
        data.push_str(&format!("(data (i32.const {at}) \"{sql}\")"));
        calls.push_str(&format!(
            "(drop (call $execute (i32.const {at}) (i32.const {}) (i32.const 0) (i32.const 0)))",
            sql.len()
        ));
    }
    wat::parse_str(format!(
        r#"(module (import "env" "db_execute" (func $execute (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) {data} (func (export "_start") {calls}))"#
    ))
    .unwrap()
}

/// Time from a request to its answer: the median of the faster half of many.
fn time(connection: &mut Connection, request: &[u8]) -> Duration {
    let mut times: Vec<_> = (0..INVOCATIONS)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(connection.call(request).status, 200);
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[INVOCATIONS / 4]
}

/// Fails when the last invocation logged an error, as only calls that work are timed.
fn assert_no_errors(connection: &mut Connection, api_key: &str, name: &str) {
    let path = format!("/v1/functions/{name}/logs?limit=1");
    let answer = connection.call(&get(&path, api_key));
    let logs: serde_json::Value = serde_json::from_slice(answer.body).unwrap();
    let failed = logs["logs"].as_array().unwrap().iter().find(|line| line["level"] == "error");
    assert!(failed.is_none(), "{name}: {failed:?}");
}

/// Deploys a guest for each host function and measures one call. The empty call is first. A `quick` run only checks that each
/// call works, and measures nothing.
///
/// # Panics
/// When a call fails.
#[must_use]
pub fn measure(node: &Server, home: &Path, quick: bool) -> Vec<(&'static str, Duration)> {
    let api_key = Server::api_key(home);
    let mut connection = Connection::open(node.address);
    let secret = br#"{"name":"key","value":"a secret of forty bytes, more or less..."}"#;
    assert_eq!(connection.call(&put("/v1/functions/secrets", &api_key, secret)).status, 200);
    node.deploy(&api_key, "setup", &setup_guest(), "{}");
    node.deploy(&api_key, "sink", &guest("", "", 0), "{}");
    let invoke = |name: &str| post(&format!("/v1/functions/{name}/invoke"), &api_key, b"");
    assert_eq!(connection.call(&invoke("setup")).status, 200);
    assert_no_errors(&mut connection, &api_key, "setup");
    let mut times = Vec::new();
    for Case { name, imports, call, calls } in CASES {
        if name.contains("a trigger") {
            let path = "/v1/functions/sink/triggers";
            assert_eq!(connection.call(&post(path, &api_key, br#"{"topic":"bench:topic"}"#)).status, 201);
        }
        let metadata = r#"{"env_vars":{"key":"some value of forty bytes, as caches hold"}}"#;
        node.deploy(&api_key, "without", &guest(imports, call, 0), metadata);
        node.deploy(&api_key, "with", &guest(imports, call, calls), metadata);
        let (without, with) = (invoke("without"), invoke("with"));
        assert_eq!(connection.call(&with).status, 200);
        if quick {
            assert_no_errors(&mut connection, &api_key, "with");
            continue;
        }
        let base = time(&mut connection, &without);
        let one = time(&mut connection, &with).saturating_sub(base) / calls;
        assert_no_errors(&mut connection, &api_key, "with");
        times.push((name, one));
    }
    times
}
