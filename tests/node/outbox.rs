//! Transactions with messages: both or neither, through kills.

use crate::harness::{Node, Options, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const ORDERS_MAX: u64 = 800;

fn order(n: u64) -> Value {
    let sql = format!("INSERT INTO orders (n) VALUES ({n})");
    json!({ "do": "outbox", "topic": "orders", "data": { "n": n, "seq": "{{seq}}" }, "sql": sql })
}

/// A node with a table, the guest that writes into it, and a function that reads the messages.
fn shop() -> Option<Node> {
    let node = Node::try_start(Options::default()).ok()?;
    node.calls("shop", &[])?;
    node.reader("reader", &[]);
    node.add_trigger("reader", "orders");
    let create = json!({ "do": "outbox", "topic": "none", "data": 0, "sql": "CREATE TABLE orders (n INTEGER PRIMARY KEY)" });
    assert_eq!(node.ask("shop", &create)["committed"], true);
    Some(node)
}

#[test]
fn a_message_is_published_with_its_transaction_and_numbered() {
    let Some(node) = shop() else { return };
    let first = node.ask("shop", &order(1));
    assert_eq!(
        (&first["committed"], &first["results"], &first["error"]),
        (&json!(true), &json!(1), &json!(""))
    );
    let seq = first["seq"].as_i64().unwrap();
    // The same row again is refused, and so is its message.
    let refused = node.ask("shop", &order(1));
    assert_eq!((&refused["committed"], &refused["seq"]), (&json!(false), &json!(0)));
    assert!(refused["error"].as_str().unwrap().contains("UNIQUE"), "{refused}");
    // What might be too large with its numbers is refused before anything is committed.
    let long = "{{seq}}".repeat(70_000);
    let too_long = json!({ "do": "outbox", "topic": "orders", "data": long, "sql": "INSERT INTO orders (n) VALUES (9)" });
    let refused = node.ask("shop", &too_long);
    assert_eq!(refused["committed"], false);
    assert!(refused["error"].as_str().unwrap().contains("at most"), "{refused}");
    let second = node.ask("shop", &order(2));
    assert_eq!(second["seq"], seq + 1, "what was rolled back has no number");
    eventually("both were read", || node.data("reader").len() == 2);
    let expected =
        [json!({ "n": 1, "seq": seq.to_string() }), json!({ "n": 2, "seq": (seq + 1).to_string() })];
    assert_eq!(node.data("reader"), expected);
    eventually("no job is left", || node.no_job_is_left());
}

/// Orders one after the other, until told or until the node is gone; not more than one page of a log shows.
fn order_until(node: &Node, next: &AtomicU64, is_told: impl Fn() -> bool) {
    while !is_told() {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n > ORDERS_MAX {
            return;
        }
        if node.invoke_request("shop").body(order(n).to_string()).try_send().is_err() {
            return;
        }
    }
}

#[test]
fn a_kill_never_leaves_a_message_without_its_row_or_a_row_without_its_message() {
    const ROUNDS: u64 = 4;
    let Some(node) = shop() else { return };
    let (next, stopped) = (AtomicU64::new(1), AtomicU64::new(0));
    for round in 0..ROUNDS {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| order_until(&node, &next, || stopped.load(Ordering::Relaxed) > round));
            }
            std::thread::sleep(Duration::from_millis(300 + 170 * round));
            node.signal(rustix::process::Signal::KILL);
            stopped.fetch_add(1, Ordering::Relaxed);
        });
        node.wait();
        node.start_again();
    }
    let select = "SELECT n FROM orders";
    node.wat("echo");
    let Some(misc) = node.misc(crate::harness::Compiler::Go, "env") else { return };
    let rows = node.ask(&misc, &json!({ "do": "query_v2", "sql": select, "args": [] }));
    let written: BTreeSet<u64> =
        rows["rows"].as_array().unwrap().iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert!(written.len() > 20, "{}", written.len());
    eprintln!("{} orders", written.len());
    let read =
        || -> BTreeSet<u64> { node.data("reader").iter().filter_map(|data| data["n"].as_u64()).collect() };
    eventually("every row has its message", || read().is_superset(&written));
    assert_eq!(read(), written, "a message without its row");
    let rows = node.ask(
        &misc,
        &json!({ "do": "query_v2", "sql": "SELECT count(*) AS n FROM _orama_outbox", "args": [] }),
    );
    eprintln!("{} rows, {} still in the outbox", written.len(), rows["rows"][0]["n"]);
}
