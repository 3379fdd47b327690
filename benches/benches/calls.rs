//! What it costs to call a function from a function, beside the called function's own run, and to reach one under `/fn` beside an
//! invoke.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::Criterion;
use orama_benches::client::{Connection, deploy, get, post};
use orama_benches::group;
use orama_benches::process::{Server, become_role, node};
use orama_test_support::guests;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// Calls of one run.
const CALLS: u32 = 100;
/// Rounds of which the median counts.
const ROUNDS: usize = 200;
/// How long records may take to be in the log.
const RECORDED: Duration = Duration::from_millis(300);

const INPUT: &[u8] = br#"{"name":"World","path":"/api/v1/hello"}"#;

/// A function that calls `echo` so many times.
fn caller(calls: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "env" "function_invoke" (func $invoke (param i32 i32 i32 i32) (result i64)))
        (memory (export "memory") 1)
        (data (i32.const 0) "echo")
        (data (i32.const 16) "{{\"n\":1}}")
        (func (export "orama_alloc") (param i32) (result i32) (i32.const 4096))
        (func (export "_start") (local $left i32)
            (local.set $left (i32.const {calls}))
            (loop $more
                (if (i32.eqz (local.get $left)) (then (return)))
                (if (i64.eqz (call $invoke (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 7))) (then unreachable))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br $more))))"#
    );
    wat::parse_str(text).expect("the text is WebAssembly")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(connection: &mut Connection, request: &[u8]) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        assert_eq!(connection.call(request).status, 200);
        begun.elapsed()
    });
    median(times.collect())
}

/// The median duration of the newest runs that functions called.
fn own_run(connection: &mut Connection, api_key: &str) -> Duration {
    std::thread::sleep(RECORDED);
    let log = connection.call(&get("/v1/functions/echo/logs?limit=1000", api_key)).body;
    let log: Value = serde_json::from_slice(log).unwrap();
    let runs = log["invocations"].as_array().unwrap().iter().filter(|run| run["trigger_type"] == "function");
    let runs = runs.map(|run| Duration::from_secs_f64(run["duration_ms"].as_f64().unwrap() / 1000.0));
    median(runs.collect())
}

fn main() {
    become_role();
    let mut criterion = Criterion::default().configure_from_args();
    let home = tempfile::tempdir().unwrap();
    let node = node(home.path(), NonZeroUsize::MIN);
    let api_key = Server::api_key(home.path());
    let mut connection = Connection::open(node.local_addr());
    for (name, wasm) in
        [("echo", guests::wat("echo")), ("none", caller(0)), ("one", caller(1)), ("many", caller(CALLS))]
    {
        assert_eq!(connection.call(&deploy(name, &api_key, &wasm, "{}")).status, 201);
    }
    let invoke = |name: &str| post(&format!("/v1/functions/{name}/invoke"), &api_key, INPUT);
    let web = post("/fn/default/echo", &api_key, INPUT);
    let mut group = group(
        &mut criterion,
        "calls",
        "one client, one request at a time: an invoke, the same under /fn, and runs that call echo",
    );
    for (name, request) in [
        ("echo by invoke", invoke("echo")),
        ("echo under /fn", web),
        ("no call", invoke("none")),
        ("one call", invoke("one")),
        ("a hundred calls", invoke("many")),
    ] {
        assert_eq!(connection.call(&request).status, 200);
        group.bench_function(name, |bencher| bencher.iter(|| connection.call(&request).status));
    }
    group.finish();
    let (none, many) = (timed(&mut connection, &invoke("none")), timed(&mut connection, &invoke("many")));
    let call = many.saturating_sub(none) / CALLS;
    let own = own_run(&mut connection, &api_key);
    println!(
        "a call of echo takes {call:?}, of which its own run {own:?}: {:?} more",
        call.saturating_sub(own)
    );
}
