//! A namespace's database from outside: statements over HTTP, `orama db`, migrations by command and by deploys.

use crate::harness::{Node, Options, eventually, new_dir, orama, output};
use crate::http::Answer;
use crate::shell::Shell;
use crate::speakers::{said, speaker};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn post(node: &Node, path: &str, body: &Value) -> Answer {
    node.request("POST", path).body(body.to_string()).send()
}

fn run_sql(node: &Node, ops: &Value) -> Answer {
    post(node, "/v1/db/query", &json!({ "ops": ops }))
}

/// Runs a command that must succeed; its standard output.
#[track_caller]
fn run(node: &Node, arguments: &[&str]) -> String {
    Shell::of(node).run(0, &[&["db"], arguments].concat()).0
}

#[track_caller]
fn refused(node: &Node, arguments: &[&str], told: &str) {
    let shell = Shell::of(node);
    let output = output(shell.command(&[&["db"], arguments].concat()));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains(told), "{arguments:?}: {stderr}");
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

#[test]
fn statements_run_as_those_of_a_transaction() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let answer = run_sql(
        &node,
        &json!([
            { "kind": "exec", "sql": "CREATE TABLE t (id INTEGER PRIMARY KEY, v)" },
            { "kind": "exec", "sql": "INSERT INTO t (v) VALUES (?), (?)", "args": ["a", null] },
            { "kind": "query", "sql": "SELECT v FROM t ORDER BY id" },
        ]),
    );
    let json = answer.expect(200).json();
    assert_eq!((&json["committed"], &json["results"][1]["rows_affected"]), (&json!(true), &json!(2)));
    assert_eq!(json["results"][2]["rows"], json!([{ "v": "a" }, { "v": null }]));
    let failed = run_sql(
        &node,
        &json!([
            { "kind": "exec", "sql": "DELETE FROM t" },
            { "kind": "exec", "sql": "INSERT INTO nowhere VALUES (1)" },
        ]),
    );
    assert!(failed.refusal(422, "SQL_REFUSED").contains("nowhere"));
    for (ops, code) in [
        (json!([{ "kind": "query", "sql": "ATTACH 'x' AS y" }]), "SQL_REFUSED"),
        (json!([{ "kind": "query", "sql": "DELETE FROM t" }]), "SQL_REFUSED"),
        (json!([{ "sql": "SELECT 1" }]), "SQL_REFUSED"),
        (json!([{ "kind": "query", "sql": "SELECT 1; SELECT 2" }]), "SQL_REFUSED"),
        (Value::Array(vec![json!({ "kind": "query", "sql": "SELECT 1" }); 101]), "TOO_MANY_STATEMENTS"),
    ] {
        run_sql(&node, &ops).refusal(422, code);
    }
    let rows = run_sql(&node, &json!([{ "kind": "query", "sql": "SELECT count(*) AS n FROM t" }]));
    assert_eq!(rows.expect(200).json()["results"][0]["rows"][0]["n"], 2, "nothing of what failed stayed");
}

#[test]
fn queries_are_printed_as_a_table() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    assert!(
        run(&node, &["query", "CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT, at REAL)"])
            .contains("0 rows changed")
    );
    assert!(
        run(&node, &["query", "INSERT INTO u (name, at) VALUES (?, ?)", "Ann", "1.5"])
            .contains("1 row changed, last id 1")
    );
    run(&node, &["query", "--write", "WITH n(v) AS (VALUES ('Bob')) INSERT INTO u (name) SELECT v FROM n"]);
    let table = run(&node, &["query", "SELECT name, at FROM u WHERE id > ? ORDER BY id", "0"]);
    assert_eq!(
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>(),
        [["name", "at"], ["Ann", "1.5"], ["Bob", "NULL"]]
    );
    let json: Value = serde_json::from_str(&run(&node, &["query", "SELECT name FROM u", "--json"])).unwrap();
    assert_eq!(json["results"][0]["rows"][0]["name"], "Ann");
    refused(&node, &["query", "SELEC 1"], "SELEC");
    refused(&node, &["query", "DELETE FROM nowhere"], "nowhere");
}

#[test]
fn a_dump_makes_the_same_database_again() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    for sql in [
        "CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES \"the parent\" (k))",
        "CREATE TABLE \"the parent\" (k TEXT PRIMARY KEY, v, twice AS (v || v)) WITHOUT ROWID",
        "CREATE TABLE many (n INTEGER, t TEXT)",
        "CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "CREATE INDEX by_parent ON child (parent)",
        "CREATE VIEW seen AS SELECT count(*) AS n FROM many",
        "INSERT INTO \"the parent\" (k, v) VALUES ('it''s; \"quoted\"', x'00ff'), ('b', 1e300), ('c', 9223372036854775807), ('d', NULL), ('e', '')",
        "INSERT INTO child VALUES (1, 'b'), (7, NULL)",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000) INSERT INTO many SELECT n, 'row ' || n FROM c",
        "DELETE FROM many WHERE n % 7 = 0",
        "INSERT INTO numbered (v) VALUES ('x'), ('y')",
        "CREATE TRIGGER copies AFTER INSERT ON child BEGIN INSERT INTO many VALUES (new.id, ';'); END",
    ] {
        run(&node, &["query", "--write", sql]);
    }
    let questions = [
        "SELECT k, quote(v) AS v, twice FROM \"the parent\" ORDER BY k",
        "SELECT * FROM child ORDER BY id",
        "SELECT rowid AS r, n, t FROM many ORDER BY rowid LIMIT 10 OFFSET 3000",
        "SELECT seen.n, sum(length(t)) AS s FROM seen, many",
        "SELECT * FROM numbered",
        "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY name",
    ];
    let state = || questions.map(|sql| run(&node, &["query", sql, "--json"]));
    let before = state();
    let file = new_dir("dump").join("all.sql");
    let path = file.to_str().unwrap();
    run(&node, &["dump", "--output", path]);
    assert_eq!(
        run(&node, &["dump"]),
        fs::read_to_string(&file).unwrap(),
        "the same is written to standard output"
    );
    refused(&node, &["restore", path], "not empty");
    run(&node, &["query", "DELETE FROM many"]);
    refused(&node, &["restore", "--clean", path], "--force");
    run(&node, &["restore", "--clean", "--force", path]);
    assert_eq!(state(), before);
    refused(&node, &["restore", "--clean", "--force", "/nowhere.sql"], "nowhere.sql");
    assert_eq!(state(), before, "a file that cannot be read drops nothing");
}

#[test]
fn each_migration_runs_once() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let dir = new_dir("migrations");
    let path = dir.to_str().unwrap();
    write(
        &dir,
        "0001_init.sql",
        "-- The first\nCREATE TABLE m (id INTEGER PRIMARY KEY);\nINSERT INTO m VALUES (1);\n",
    );
    write(&dir, "0002_more.sql", "ALTER TABLE m ADD COLUMN v TEXT DEFAULT 'd;e';");
    write(&dir, "notes.txt", "not a migration");
    assert!(run(&node, &["migrate", path, "--dry-run"]).contains("0002_more.sql"));
    assert!(run(&node, &["migrate", path]).contains("2 ran now, 0 had run before"));
    assert!(run(&node, &["migrate", path]).contains("0 ran now, 2 had run before"));
    assert!(run(&node, &["migrate", path, "--dry-run"]).contains("all migrations have run"));
    let listed = node.get("/v1/db/migrations").expect(200).json();
    assert_eq!((&listed["count"], &listed["migrations"][0]["name"]), (&json!(2), &json!("0001_init.sql")));
    // One that fails leaves nothing of itself, and those before it stay.
    write(&dir, "0003_good.sql", "CREATE TABLE good (a)");
    write(&dir, "0004_bad.sql", "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1);");
    refused(&node, &["migrate", path], "migration \"0004_bad.sql\", statement 2");
    let tables = run(&node, &["query", "SELECT name FROM sqlite_schema WHERE name IN ('good', 'half')"]);
    assert!(tables.contains("good") && !tables.contains("half"), "{tables}");
    write(&dir, "0004_bad.sql", "CREATE TABLE half (a)");
    assert!(run(&node, &["migrate", path]).contains("1 ran now, 3 had run before"));
    write(&dir, "0001_init.sql", "CREATE TABLE other (id)");
    refused(&node, &["migrate", path], "ran already with other SQL");
    write(&dir, "init.sql", "SELECT 1");
    refused(&node, &["migrate", path], "must begin with a number");
    refused(&node, &["migrate", "/nowhere"], "nowhere");
}

#[test]
fn migrations_that_run_at_once_run_once_each() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let migrations: Vec<Value> = (1..=8)
        .map(|n| json!({ "name": format!("{n}.sql"), "sql": format!("CREATE TABLE t{n} (a); INSERT INTO t{n} VALUES ({n})") }))
        .collect();
    let body = json!({ "migrations": migrations });
    let applied: usize = std::thread::scope(|scope| {
        let ran = || {
            post(&node, "/v1/db/migrations", &body).expect(200).json()["applied"].as_array().unwrap().len()
        };
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(ran)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(applied, 8);
    let rows = run_sql(
        &node,
        &json!([{ "kind": "query", "sql": "SELECT (SELECT count(*) FROM t1) + (SELECT count(*) FROM t8) AS n" }]),
    );
    assert_eq!(rows.expect(200).json()["results"][0]["rows"][0]["n"], 2);
}

#[test]
fn a_deploy_runs_its_migrations_before_its_version_is_there() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let dir = new_dir("migrated").join("migrated");
    fs::create_dir_all(dir.join("sql")).unwrap();
    write(&dir, "function.wasm", "");
    fs::write(dir.join("function.wasm"), speaker("one")).unwrap();
    write(&dir, "function.yaml", "name: migrated\nmigrations: ./sql\n");
    write(&dir.join("sql"), "1_init.sql", "CREATE TABLE migrated (a)");
    let deploy = || {
        let mut command = orama(&["function", "deploy"]);
        command.arg(&dir).env("ORAMA_HOME", &node.home);
        output(command)
    };
    assert!(deploy().status.success());
    assert!(deploy().status.success(), "they ran already");
    run(&node, &["query", "SELECT a FROM migrated"]);
    write(&dir.join("sql"), "2_bad.sql", "CREATE TABLES x (a)");
    fs::write(dir.join("function.wasm"), speaker("two")).unwrap();
    let failed = deploy();
    assert!(!failed.status.success());
    let stderr = String::from_utf8(failed.stderr).unwrap();
    assert!(stderr.contains("2_bad.sql") && stderr.contains("TABLES"), "{stderr}");
    assert_eq!(said(node.invoke("migrated", "")), "one", "the new version is not there");
    assert_eq!(node.get("/v1/functions/migrated").expect(200).json()["version"], 2);
}

#[test]
fn an_environment_changes_what_a_deploy_sets() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let dir = new_dir("environments").join("staged");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("function.wasm"), speaker("staged")).unwrap();
    write(
        &dir,
        "function.yaml",
        "name: staged\npublic: true\ntimeout: 5\nenv: {A: a, B: b}\nenvironments:\n  staging: {env: {B: c}, public: false}\n",
    );
    let deploy = |arguments: &[&str]| {
        let mut command = orama(&["function", "deploy"]);
        command.arg(&dir).args(arguments).env("ORAMA_HOME", &node.home);
        output(command)
    };
    assert!(deploy(&["--env", "staging"]).status.success());
    let staged = node.get("/v1/functions/staged").expect(200).json();
    assert_eq!((&staged["is_public"], &staged["timeout_seconds"]), (&json!(false), &json!(5)));
    assert!(deploy(&[]).status.success());
    assert_eq!(node.get("/v1/functions/staged").expect(200).json()["is_public"], true);
    let unknown = deploy(&["--env", "production"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("there is no environment \"production\""));
}

#[test]
fn work_counts_until_it_ends_although_its_client_has_left() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let sql = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30000000) SELECT count(*) AS n FROM c";
    let ops = json!({ "ops": [{ "kind": "query", "sql": sql }] }).to_string();
    let slow = node.request("POST", "/v1/db/query").body(ops).bytes();
    // The request for the metrics is one, too.
    let used = || node.metric("orama_share_used{kind=\"control_requests\"}");
    let mut clients: Vec<_> = (0..3).map(|_| node.connect()).collect();
    clients.iter_mut().for_each(|client| client.write(&slow));
    eventually("the work has begun", || used() == 4.0);
    drop(clients);
    eventually("the node knows that they left", || node.metric("orama_http_connections") == 1.0);
    assert!(used() > 1.0, "what they asked for still runs");
    eventually("it has ended", || used() == 1.0);
}
