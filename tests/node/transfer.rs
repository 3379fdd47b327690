//! Moving: a node's data go to a cluster and back, and clients notice nothing.

use crate::harness::{Node, Options, eventually, new_dir, orama, output};
use crate::servers::{Servers, Sizes};
use crate::speakers::{said, speaker};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The master key that the servers' nodes have too.
const KEY: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

const PAGES: [&str; 10] = [
    "/v1/functions",
    "/v1/functions/kept",
    "/v1/functions/kept@1",
    "/v1/functions/kept/versions",
    "/v1/functions/kept/logs",
    "/v1/functions/secrets",
    "/v1/functions/reader/triggers",
    "/v1/functions/reader/dead-letters",
    "/v1/namespaces/default/quotas",
    "/v1/namespaces/default/rates",
];

/// A function that runs the SQL that it is sent: a query when that begins with S.
const SQL: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "env" "db_execute" (func $execute (param i32 i32 i32 i32) (result i32)))
  (import "env" "db_query" (func $query (param i32 i32 i32 i32) (result i64)))
  (memory (export "memory") 8)
  (data (i32.const 512) "[]")
  (func (export "orama_alloc") (param i32) (result i32) (i32.const 131072))
  (func (export "_start") (local $rows i64)
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 60000))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.eq (i32.load8_u (i32.const 4096)) (i32.const 83))
      (then
        (local.set $rows
          (call $query (i32.const 4096) (i32.load (i32.const 8)) (i32.const 512) (i32.const 2)))
        (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $rows) (i64.const 32))))
        (i32.store (i32.const 4) (i32.wrap_i64 (local.get $rows)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (else
        (drop (call $execute (i32.const 4096) (i32.load (i32.const 8)) (i32.const 512) (i32.const 2)))))))"#;

const ROWS: &str = "SELECT rowid, v, typeof(v) AS t FROM t ORDER BY rowid";

fn fill(node: &Node) -> String {
    node.deploy("kept", &speaker("one "), &[("timeout_seconds", "7")]);
    node.deploy(
        "kept",
        &speaker("two "),
        &[("memory_limit_mb", "17"), ("is_public", "true"), ("concurrency", "9")],
    );
    for (path, body) in [("quotas", json!({ "objects": 9 })), ("rates", json!({ "deploys_per_key": "9/s" }))]
    {
        let path = format!("/v1/namespaces/default/{path}");
        node.request("PUT", &path).body(body.to_string()).send().expect(200);
    }
    node.deploy("gone", &speaker("gone "), &[]);
    node.delete("/v1/functions/gone").expect(200);
    said(node.invoke("kept@1", "x"));
    node.deploy("sql", &wat::parse_str(SQL).unwrap(), &[]);
    for sql in [
        "CREATE TABLE t (v, UNIQUE (v))",
        "INSERT INTO t (rowid, v) VALUES (7, 1.0), (-1, x'00ff'), (3, 'text'), (4, 9223372036854775807), (5, NULL)",
        "CREATE VIEW w AS SELECT count(*) AS n FROM t",
    ] {
        node.invoke("sql", sql).expect(200);
    }
    let secret = json!({ "name": "TOKEN", "value": "kept secret" }).to_string();
    node.request("PUT", "/v1/functions/secrets").body(secret).send().expect(200);
    node.reader("reader", &[]);
    node.add_trigger("reader", "topic");
    node.publish("topic", "one").expect(202);
    node.publish("topic", "fails!").expect(202);
    eventually("the events ran", || node.no_job_is_left() && node.data("reader").len() == 2);
    eventually("what ran is known", || node.logs("kept", "")["count"] == 1);
    let key = json!({ "namespace": "default", "role": "invoke" }).to_string();
    let key = node.request("POST", "/v1/keys").body(key).send().expect(201).json();
    key["api_key"].as_str().unwrap().to_owned()
}

fn pages(node: &Node) -> Vec<Value> {
    PAGES.iter().map(|page| node.get(page).expect(200).json()).collect()
}

/// Everything is there and works, for a key from before too.
#[track_caller]
fn assert_moved(node: &Node, before: &[Value], rows: &str, key: &str) {
    for ((page, before), after) in PAGES.iter().zip(before).zip(pages(node)) {
        assert_eq!(after, *before, "{page}");
    }
    let invoke = |path: &str| said(node.request_as(key, "POST", path).body("!").send());
    assert_eq!(invoke("/v1/functions/kept@1/invoke"), "one !");
    assert_eq!(invoke("/v1/functions/kept@2/invoke"), "two !");
    assert_eq!(node.invoke("sql", ROWS).expect(200).text(), rows);
}

#[track_caller]
fn runs(mut command: Command, arguments: &[&str]) -> String {
    let output = output({
        command.args(arguments);
        command
    });
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {told}{errors}");
    told.into_owned()
}

#[test]
fn a_node_moves_to_a_cluster_and_back() {
    let sizes = Sizes { rqlite: 1, olric: 1, kubo: 1 };
    let Ok(servers) = Servers::start(sizes, &["default"]) else { return };
    let servers = Arc::new(servers);
    let dir = new_dir("transfer");
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let options = || Options { env: vec![("ORAMA_SECRETS_KEY", KEY.to_owned())], ..Options::default() };

    let node = Node::start(options());
    let key = fill(&node);
    let rows = node.invoke("sql", ROWS).expect(200).text();
    assert!(rows.contains("9223372036854775807") && rows.contains("\"real\""), "{rows}");
    let before = pages(&node);
    assert_eq!((&before[4]["count"], &before[7]["count"]), (&json!(1), &json!(1)), "{before:?}");
    // While it runs.
    let with_key = || {
        let mut command = orama(&[]);
        command.env("ORAMA_SECRETS_KEY", KEY);
        command
    };
    let told = runs(with_key(), &["export", "--home", &text(&node.home), "--output", &path("node.tar")]);
    assert!(told.contains("function_versions: 4"), "{told}");

    let config = dir.join("cluster.toml");
    std::fs::write(&config, servers.config()).unwrap();
    let on_servers = || {
        let mut command = orama(&[]);
        command.envs(servers.env());
        command
    };
    let home = new_dir("home");
    let import = ["import", "--config", &text(&config), "--home", &text(&home), &path("node.tar")];
    runs(on_servers(), &import);
    let cluster =
        Node::start_in(home.clone(), Options { servers: Some(Arc::clone(&servers)), ..Options::default() });
    assert_moved(&cluster, &before, &rows, &key);
    cluster.publish("topic", "on the cluster").expect(202);
    eventually("the trigger fires", || cluster.data("reader").contains(&json!("on the cluster")));
    let again = output({
        let mut command = on_servers();
        command.args(["import", "--config", &text(&config), "--home", &path("other"), &path("node.tar")]);
        command
    });
    let errors = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(1));
    assert!(errors.contains("database.platform is not empty") && errors.contains("default"), "{errors}");
    assert!(cluster.terminate().success());

    let export =
        ["export", "--config", &text(&config), "--home", &text(&home), "--output", &path("cluster.tar")];
    runs(on_servers(), &export);
    let home = new_dir("home");
    runs(with_key(), &["import", "--home", &text(&home), &path("cluster.tar")]);
    let back = Node::start_in(home, options());
    assert_eq!(back.data("reader").len(), 3);
    for (page, before) in PAGES.iter().zip(&before).take(4) {
        assert_eq!(back.get(page).expect(200).json(), *before, "{page}");
    }
    assert_eq!(back.invoke("sql", ROWS).expect(200).text(), rows);
    assert_eq!(said(back.invoke("kept@1", "?")), "one ?");
    std::fs::remove_dir_all(dir).unwrap();
}
