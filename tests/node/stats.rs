//! Statistics by function: what the node counts, and that two faults among fifty functions are found by commands.

use crate::harness::{Node, Options, eventually};
use crate::shell::Shell;
use crate::speakers::{slow_speaker, speaker};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::time::Duration;

/// A metric that only an operator is told; named with its labels.
fn metric(node: &Node, series: &str) -> Option<f64> {
    let text = node.get("/metrics").expect(200).text();
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .map(|value| value.parse().unwrap())
}

fn stats(node: &Node, name: &str) -> Value {
    node.get(&format!("/v1/functions/{name}/stats")).expect(200).json()
}

/// Copies its input; a `!` at its beginning is what it cannot stand.
fn picky() -> Vec<u8> {
    let source = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\00\10\00\00")
  (func (export "_start")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.eq (i32.load8_u (i32.const 64)) (i32.const 33)) (then unreachable))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))"#;
    wat::parse_str(source).expect("the text is WebAssembly")
}

#[test]
fn what_a_function_did_is_counted_by_version_code_and_caller() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("f", &picky(), &[]);
    let key = node.request("POST", "/v1/keys").body(r#"{"namespace":"default","role":"invoke"}"#).send();
    let key = key.expect(201).json();
    let (id, secret) = (key["id"].as_str().unwrap(), key["api_key"].as_str().unwrap());
    let invoke = |body: &str| {
        node.request_as(secret, "POST", "/v1/functions/f/invoke")
            .header("x-request-id", "mine")
            .body(body)
            .send()
    };
    invoke("a").expect(200);
    let failed = invoke("!").expect(500);
    node.deploy("f", &speaker("two"), &[]);
    node.invoke("f", "b").expect(200);
    node.invoke("f", vec![b'x'; 2 << 20]).expect(413);
    eventually("all is counted", || stats(&node, "f")["refused"]["PAYLOAD_TOO_LARGE"] == 1);
    let all = stats(&node, "f");
    assert_eq!(
        (&all["invocations"], &all["succeeded"], &all["errors"]),
        (&json!(3), &json!(2), &json!({ "FUNCTION_TRAP": 1 }))
    );
    let versions: Vec<_> =
        all["versions"].as_array().unwrap().iter().map(|of| (&of["version"], &of["invocations"])).collect();
    assert_eq!(versions, [(&json!(2), &json!(1)), (&json!(1), &json!(2))]);
    assert_eq!(all["memory_bytes"]["max"], 131_072, "{all}");
    assert!(
        all["cold_loads"].as_u64() >= Some(2) && all["phases_ms"]["start"]["p50"].as_f64() > Some(0.0),
        "{all}"
    );
    let callers = all["callers"].as_array().unwrap();
    assert_eq!(
        (&callers[0]["caller"], &callers[0]["failures"], &callers[0]["invocations"]),
        (&json!(id), &json!(1), &json!(2))
    );
    assert_eq!(callers[0]["last_failed_request_id"].as_str(), failed.header("x-request-id"));
    assert_eq!(stats(&node, "f@1")["invocations"], 2);
    // The record tells the same of one.
    let record = node.record("f", failed.header("x-request-id").unwrap());
    assert_eq!((&record["error_code"], &record["caller"]), (&json!("FUNCTION_TRAP"), &json!(id)));
    assert_eq!((&record["client_request_id"], &record["client_ip"]), (&json!("mine"), &json!("127.0.0.1")));
    assert_eq!(record["memory_bytes"], 65_536);
    assert_eq!(node.logs("f", "?request_id=mine")["count"], 2, "the client's own id finds them, too");
    // The metrics have the same.
    let of = |code: &str| {
        metric(
            &node,
            &format!(r#"orama_function_invocations_total{{namespace="default",function="f",code="{code}"}}"#),
        )
    };
    assert_eq!((of("OK"), of("FUNCTION_TRAP")), (Some(2.0), Some(1.0)));
    let refused =
        r#"orama_function_refused_total{namespace="default",function="f",code="PAYLOAD_TOO_LARGE"}"#;
    assert_eq!(metric(&node, refused), Some(1.0));
    // Who is no operator is not told the names of functions.
    for request in [node.anonymous("GET", "/metrics"), node.request_as(secret, "GET", "/metrics")] {
        assert!(!request.send().expect(200).text().contains("orama_function_"));
    }
    let (shown, _) = Shell::of(&node).run(0, &["function", "get", "f"]);
    assert!(shown.contains("3 in 24 h, 33.3 % failed") && shown.contains("average"), "{shown}");
    // A clean stop keeps them.
    node.restart();
    assert_eq!(stats(&node, "f")["invocations"], 3);
    for (query, code) in [("?since=yesterday", "INVALID_QUERY"), ("?status=error", "INVALID_QUERY")] {
        node.get(&format!("/v1/functions/f/stats{query}")).refusal(400, code);
    }
    node.get("/v1/functions/none/stats").refusal(404, "FUNCTION_NOT_FOUND");
}

#[test]
fn host_calls_are_counted_with_the_time_that_they_took() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let Ok(wasm) = guests::go("misc", &[]) else { return };
    node.deploy("misc", &std::fs::read(wasm).unwrap(), &[]);
    let steps = json!({ "do": "steps", "steps": [
        { "do": "query", "sql": "SELECT 1 AS n", "args": [] },
        { "do": "query", "sql": "SELECT 2 AS n", "args": [] },
        { "do": "cache_get", "key": "k" },
    ] });
    let answer = node.invoke("misc", steps.to_string()).expect(200);
    let record = node.record("misc", answer.header("x-request-id").unwrap());
    assert_eq!(record["host_calls"], json!({ "database": 2, "cache": 1 }), "{record}");
    assert!(record["phases_ms"]["database"].as_f64() > Some(0.0), "{record}");
    assert_eq!(stats(&node, "misc")["host_calls"], json!({ "database": 2, "cache": 1 }));
}

/// The cells of the line that begins with a name.
fn row(table: &str, name: &str) -> Vec<String> {
    let line = table.lines().find(|line| line.split("  ").next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("no line of {name} in\n{table}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

#[test]
fn among_fifty_functions_the_failing_one_and_the_slow_one_are_found() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    for n in 0..48 {
        node.deploy(&format!("fine-{n}"), &speaker("fine"), &[]);
    }
    node.deploy("orders", &picky(), &[]);
    node.deploy("prices", &speaker("quick"), &[]);
    for n in 0..48 {
        (0..3).for_each(|_| drop(node.invoke(&format!("fine-{n}"), "").expect(200)));
    }
    (0..10).for_each(|_| drop(node.invoke("prices", "").expect(200)));
    node.deploy("prices", &slow_speaker("slow", Duration::from_millis(40)), &[]);
    (0..10).for_each(|_| drop(node.invoke("prices", "").expect(200)));
    // A hundred customers, each with a key of its own. What one of them sends, the function cannot stand.
    let customers: Vec<(String, String)> = (0..100)
        .map(|_| {
            let made =
                node.request("POST", "/v1/keys").body(r#"{"namespace":"default","role":"invoke"}"#).send();
            let made = made.expect(201).json();
            (made["id"].as_str().unwrap().to_owned(), made["api_key"].as_str().unwrap().to_owned())
        })
        .collect();
    for (n, (_, key)) in customers.iter().enumerate() {
        for _ in 0..2 {
            let body = if n == 42 { "!" } else { "order" };
            let answer = node.request_as(key, "POST", "/v1/functions/orders/invoke").body(body).send();
            answer.expect(if n == 42 { 500 } else { 200 });
        }
    }
    // One command shows which function fails, and which was quicker before its last version.
    let (all, _) = shell.run(0, &["function", "stats"]);
    assert_eq!(all.lines().count(), 51, "{all}");
    let failing: Vec<_> = all.lines().skip(1).filter(|line| !line.contains(" 0.0 %")).collect();
    assert_eq!(failing.len(), 1, "{all}");
    assert!(failing[0].starts_with("orders ") && failing[0].contains(" 1.0 %"), "{all}");
    let slow: Vec<_> = all.lines().skip(1).filter(|line| line.contains("(v1)")).collect();
    assert!(slow.len() == 1 && slow[0].starts_with("prices "), "{all}");
    let prices = row(&all, "prices");
    let ms = |cell: &str| cell.split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(ms(&prices[4]) > 4.0 * ms(&prices[6]), "{prices:?}");
    // A second one tells whose requests fail, with the id of one.
    let (orders, _) = shell.run(0, &["function", "stats", "orders"]);
    let mut callers = orders.lines().skip_while(|line| !line.starts_with("CALLER")).skip(1);
    let first: Vec<_> = callers.next().unwrap().split_whitespace().collect();
    assert_eq!((first[0], first[1], first[2]), (customers[42].0.as_str(), "2", "2"), "{orders}");
    assert!(callers.next().unwrap().split_whitespace().nth(2) == Some("0"), "{orders}");
    let (log, _) = shell.run(0, &["function", "logs", "orders", "--request-id", first[3]]);
    assert!(log.contains("the function trapped"), "{log}");
    // And where the time of the slow one goes.
    let (prices, _) = shell.run(0, &["function", "stats", "prices"]);
    assert!(prices.contains("own") && prices.contains("VERSION"), "{prices}");
}

#[test]
fn the_metrics_stay_small_however_many_functions_there_are() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    for n in 0..80 {
        node.deploy(&format!("f-{n}"), &speaker("same"), &[]);
        node.invoke(&format!("f-{n}"), "").expect(200);
    }
    let text = || node.get("/metrics").expect(200).text();
    let rest = r#"orama_function_invocations_total{namespace="*",function="*",code="OK"}"#;
    eventually("the rest is counted together", || metric(&node, rest) == Some(40.0));
    let own = text().lines().filter(|line| line.starts_with("orama_function_invocations_total{")).count();
    assert_eq!(own, 41);
    assert!(text().len() < 1_000_000);
}
