//! SQL that is slow to read before it goes to rqlite: it is refused, and a tenant beside it notices nothing.

use crate::harness::{Node, Options};
use crate::honest::{Honest, SQL, deploy_as, tenant};
use serde_json::json;

/// As many as the largest body holds.
const NAMES: usize = 100_000;
/// Callers at once, and the calls of each.
const CALLERS: usize = 4;
const CALLS: usize = 5;

#[test]
fn statements_with_many_names_hold_up_nobody() {
    let databases = &["default", "hostile", "honest"];
    let Ok(node) = Node::try_start(Options { databases, ..Options::default() }) else { return };
    let hostile = tenant(&node, "hostile", "admin");
    deploy_as(&node, &hostile, "sql", &wat::parse_str(SQL).unwrap(), &[("timeout_seconds", "5")]).expect(201);
    let honest = Honest::settle(&node);
    let names: Vec<_> = (0..NAMES).map(|n| format!(":n{n}")).collect();
    let sql = format!("SELECT 1 WHERE 1 IN ({})", names.join(","));
    let body = json!({ "ops": [{ "kind": "query", "sql": sql }] }).to_string();
    let call = || {
        let call = node.request_as(&hostile, "POST", "/v1/functions/sql/invoke").body(body.clone());
        let answer = call.send().expect(200).json();
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains("parameters"), "{answer}");
    };
    honest.beside(&node, "statements with many names", || {
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| (0..CALLS).for_each(|_| call()));
            }
        });
    });
}
