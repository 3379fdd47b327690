//! SQL that is meant to take the node down: it fails alone, and a tenant beside it notices nothing.

use crate::harness::{Node, Options, eventually};
use crate::http::Request;
use serde_json::{Value, json};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A function that makes a `db_transaction` of the JSON it is sent, and answers with what came of it.
const SQL: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "env" "db_transaction" (func $transaction (param i32 i32) (result i64)))
  (memory (export "memory") 64)
  (func (export "orama_alloc") (param i32) (result i32) (i32.const 2097152))
  (func (export "_start") (local $length i32) (local $result i64)
    (loop $more
      (i32.store (i32.const 0) (i32.add (i32.const 4096) (local.get $length)))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $length (i32.add (local.get $length) (i32.load (i32.const 8))))
      (br_if $more (i32.load (i32.const 8))))
    (local.set $result (call $transaction (i32.const 4096) (local.get $length)))
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $result) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $result)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Whole numbers without an end.
const NUMBERS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";

/// Text of 4,000,000 zeros.
const ZEROS: &str = "hex(zeroblob(2000000))";

/// What the node and all that it started may hold at most, in bytes: far less than one of the inputs asks for.
const MEMORY_MAX: u64 = 1 << 30;

fn ops(statements: &[(&str, String)]) -> String {
    let ops: Vec<_> = statements.iter().map(|(kind, sql)| json!({ "kind": kind, "sql": sql })).collect();
    json!({ "ops": ops }).to_string()
}

fn times(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect::<Vec<_>>().join(", ")
}

/// Two tenants of one node: each has a function that runs SQL.
struct Tenants {
    node: Node,
    hostile: String,
    honest: String,
}

impl Tenants {
    fn start() -> Self {
        let databases = &["default", "hostile", "honest"];
        let node = Node::start(Options { databases, ..Options::default() });
        let wasm = wat::parse_str(SQL).unwrap();
        let tenant = |name: &str| {
            let body = json!({ "name": name }).to_string();
            node.request("POST", "/v1/namespaces").body(body).send().expect(201);
            let body = json!({ "namespace": name, "role": "admin" }).to_string();
            let key = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
            let key = key["api_key"].as_str().unwrap().to_owned();
            let parts: [(&str, &[u8]); 3] = [("name", b"sql"), ("timeout_seconds", b"5"), ("wasm", &wasm)];
            node.request_as(&key, "POST", "/v1/functions").form(&parts).send().expect(201);
            key
        };
        let (hostile, honest) = (tenant("hostile"), tenant("honest"));
        Self { node, hostile, honest }
    }

    fn request(&self, key: &str, statements: &[(&str, String)]) -> Request {
        self.node.request_as(key, "POST", "/v1/functions/sql/invoke").body(ops(statements))
    }

    fn does(&self, key: &str, statements: &[(&str, String)]) -> Value {
        let answer = self.request(key, statements).send().expect(200).json();
        assert_eq!(answer["error"], "", "{answer}");
        answer
    }

    /// Makes the hostile tenant's calls while the honest one works. Gives the hostile one's answers: a status, and the code of
    /// what came of the SQL.
    fn attack(&self, name: &str, calls: usize, statements: &[(&str, String)]) -> Vec<(u16, String)> {
        let (ended, node) = (AtomicBool::new(false), self.node.pid());
        std::thread::scope(|scope| {
            let honest = scope.spawn(|| {
                let mut waits = Vec::new();
                while !ended.load(Ordering::Relaxed) || waits.len() < 20 {
                    let begun = Instant::now();
                    self.does(&self.honest, &[("query", "SELECT 1 AS x".into())]);
                    self.does(&self.honest, &[("exec", "INSERT INTO t VALUES (1)".into())]);
                    waits.push(begun.elapsed());
                }
                waits
            });
            let memory = scope.spawn(|| {
                let mut most = 0;
                while !ended.load(Ordering::Relaxed) {
                    most = most.max(memory_of(node));
                    std::thread::sleep(Duration::from_millis(5));
                }
                most
            });
            let attacks: Vec<_> =
                (0..calls).map(|_| scope.spawn(|| self.request(&self.hostile, statements).send())).collect();
            let answers: Vec<_> = attacks.into_iter().map(|attack| attack.join().unwrap()).collect();
            ended.store(true, Ordering::Relaxed);
            let (mut waits, memory) = (honest.join().unwrap(), memory.join().unwrap());
            waits.sort();
            let p99 = waits[waits.len() * 99 / 100];
            eprintln!("{name}: beside it {} reads and writes, p99 {p99:?}; {} MB", waits.len(), memory >> 20);
            assert!(memory < MEMORY_MAX, "{name}: {memory} bytes");
            let told = answers.into_iter().map(|answer| {
                let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
                (answer.status, code)
            });
            told.collect()
        })
    }
}

/// A process' children, of all its threads.
fn children_of(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// Bytes of memory that a process and its children have resident, without what they share with others.
fn memory_of(process: u32) -> u64 {
    let of_one = |id: u32| {
        let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    of_one(process) + children_of(process).into_iter().map(of_one).sum::<u64>()
}

/// `orama: sql` processes of a node, and whether each is a zombie.
fn sql_processes(node: u32) -> Vec<(u32, bool)> {
    let named = children_of(node).into_iter().filter_map(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (name, state) = stat.rsplit_once(") ")?;
        name.ends_with("(orama-sql").then(|| (id, state.starts_with('Z')))
    });
    named.collect()
}

#[test]
fn statements_that_take_memory_without_end_fail_alone() {
    let tenants = Tenants::start();
    tenants.does(&tenants.honest, &[("exec", "CREATE TABLE t (x)".into())]);
    let name = "n".repeat(500_000);
    tenants.does(
        &tenants.hostile,
        &[
            ("exec", format!("CREATE TABLE t (\"{name}\")")),
            ("exec", "INSERT INTO t VALUES (1)".into()),
            ("exec", "CREATE VIRTUAL TABLE ft USING fts5 (x)".into()),
            ("exec", "INSERT INTO ft (ft, rank) VALUES ('hashsize', 2000000000)".into()),
        ],
    );
    let numbers = NUMBERS.trim_start_matches("WITH RECURSIVE ");
    let inputs = [
        ("long names, many times", ("query", format!("SELECT {} FROM t", vec!["*"; 1900].join(",")))),
        (
            "arrays of megabytes",
            (
                "query",
                format!(
                    "WITH v (h) AS MATERIALIZED (SELECT substr({ZEROS}, 1, 3000000)), {numbers}
                     SELECT {} FROM (SELECT i FROM n LIMIT 400), v",
                    times(8, |_| "json_group_array(h || i)".into())
                ),
            ),
        ),
        (
            "pending terms",
            (
                "exec",
                format!(
                    "{NUMBERS} INSERT INTO ft SELECT hex(randomblob(9)) || ' ' || hex(randomblob(9)) FROM n"
                ),
            ),
        ),
        ("large texts", ("query", format!("SELECT {}", times(60, |n| format!("max({ZEROS} || {n})"))))),
        ("blobs", ("query", format!("SELECT {}", times(60, |_| "max(randomblob(4000000))".into())))),
    ];
    for (name, statement) in inputs {
        for (status, code) in tenants.attack(name, 3, std::slice::from_ref(&statement)) {
            // A slow machine may come to the deadline first.
            let is_told = status == 200 && ["PAYLOAD_TOO_LARGE", "UNAVAILABLE"].contains(&code.as_str());
            assert!(is_told || status == 504, "{name}: {status} {code}");
        }
        tenants.does(&tenants.hostile, &[("query", "SELECT 1".into())]);
    }
    assert!(sql_processes(tenants.node.pid()).iter().all(|(_, is_zombie)| !is_zombie));
}

#[test]
fn functions_that_cannot_be_interrupted_end_with_their_deadline() {
    let tenants = Tenants::start();
    tenants.does(&tenants.honest, &[("exec", "CREATE TABLE t (x)".into())]);
    let inputs = [
        ("instr", format!("SELECT instr({ZEROS}, hex(zeroblob(1000000)) || '1')")),
        ("trim", format!("SELECT length(trim({ZEROS}, replace(hex(zeroblob(150000)), '00', 'ab') || '0'))")),
        ("replace", format!("SELECT length(replace({ZEROS}, hex(zeroblob(1000000)) || '1', 'x'))")),
    ];
    for (name, sql) in inputs {
        for (status, _) in tenants.attack(name, 3, &[("query", sql.clone())]) {
            assert_eq!(status, 504, "{name}");
        }
        // No turn is lost, and no core burns on.
        tenants.does(&tenants.hostile, &[("query", "SELECT 1".into())]);
        assert!(tenants.node.stderr().contains("a call exceeded its deadline"), "{name}");
    }
}

#[test]
fn a_killed_sql_process_fails_calls_under_way_and_loses_nothing_acknowledged() {
    let tenants = Tenants::start();
    tenants.does(&tenants.honest, &[("exec", "CREATE TABLE t (x)".into())]);
    let (mut acknowledged, mut failed) = (0, 0);
    for round in 0..10 {
        let processes = sql_processes(tenants.node.pid());
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(3 * round));
            for (id, _) in processes {
                let pid = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        for _ in 0..10 {
            let insert = [("exec", "INSERT INTO t VALUES (1)".to_owned())];
            let answer = tenants.request(&tenants.honest, &insert).send().expect(200).json();
            if answer["committed"] == true {
                acknowledged += 1;
            } else {
                assert_eq!(answer["code"], "UNAVAILABLE", "{answer}");
                failed += 1;
            }
        }
        killer.join().unwrap();
    }
    // The last kill may meet this call instead of an insert.
    let query = [("query", "SELECT count(*) AS n FROM t".to_owned())];
    let answer = loop {
        let answer = tenants.request(&tenants.honest, &query).send().expect(200).json();
        if answer["committed"] == true {
            break answer;
        }
        assert_eq!(answer["code"], "UNAVAILABLE", "{answer}");
        failed += 1;
        assert!(failed <= 10, "one call at most for each kill: {failed}");
    };
    assert!(failed <= 10, "one call at most for each kill: {failed}");
    let count = answer["results"][0]["rows"][0]["n"].as_i64().unwrap();
    assert!(
        (acknowledged..=acknowledged + failed).contains(&count),
        "{count} of {acknowledged} and {failed}"
    );
}

#[test]
fn a_killed_node_leaves_no_sql_process() {
    let tenants = Tenants::start();
    tenants.does(&tenants.honest, &[("exec", "CREATE TABLE t (x)".into())]);
    let processes = sql_processes(tenants.node.pid());
    assert_eq!(processes.len(), 1);
    tenants.node.kill();
    // Whoever inherits it may not have waited for it yet.
    let has_ended =
        |id: &u32| fs::read_to_string(format!("/proc/{id}/stat")).map_or(true, |stat| stat.contains(") Z "));
    eventually("its process is gone", || processes.iter().all(|(id, _)| has_ended(id)));
    tenants.node.start_again();
    let answer = tenants.does(&tenants.honest, &[("query", "SELECT count(*) AS n FROM t".into())]);
    assert_eq!(answer["results"][0]["rows"][0]["n"], 0);
}
