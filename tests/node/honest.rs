//! An honest tenant who works on while others attack: it calls a function, reads and writes its database, and deploys. None of
//! it may fail, and meanwhile each process of the node stays within its budget of memory. How long it took is printed and not
//! judged.

use crate::harness::Node;
use crate::http::{Answer, Request};
use crate::process::children_of;
use crate::speakers::speaker;
use orama_test_support::guests;
use serde_json::json;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A function that makes a `db_transaction` of the JSON it is sent, and answers with what came of it.
pub const SQL: &str = r#"(module
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

/// What a node holds besides what its shares count, in bytes: the program, its caches, threads and connections, the heads and
/// small bodies of some thousand requests, and what the allocator has not given back yet.
const UNCOUNTED_BYTES: u64 = 300 << 20;
/// What one SQL process may have at most, in bytes (docs/OPERATIONS.md, "SQL processes").
const SQL_BYTES: u64 = 256 << 20;

/// An honest tenant of a node, with functions of its own.
pub struct Honest {
    pub key: String,
    /// Modules that it has deployed so far.
    deployed: AtomicUsize,
}

/// One kind of work, under way.
struct Work<'a> {
    name: &'static str,
    pause: Duration,
    step: Box<dyn FnMut() -> Result<(), String> + Send + 'a>,
}

/// What came of one kind of work.
struct Done {
    name: &'static str,
    /// Sorted.
    took: Vec<Duration>,
    errors: Vec<String>,
}

/// The most that was resident at a time, in bytes: of the node, and of one of its children by what it is for.
#[derive(Default)]
struct Memory {
    node: u64,
    sql: u64,
    compile: u64,
}

/// Creates a namespace, and a key of this role.
pub fn tenant(node: &Node, namespace: &str, role: &str) -> String {
    let body = json!({ "name": namespace }).to_string();
    node.request("POST", "/v1/namespaces").body(body).send().expect(201);
    key(node, namespace, role)
}

/// Creates a namespace, with a deploy key and an admin key.
pub fn tenant_with_keys(node: &Node, namespace: &str) -> [String; 2] {
    let deploy = tenant(node, namespace, "deploy");
    [deploy, key(node, namespace, "admin")]
}

/// A new key of a namespace.
pub fn key(node: &Node, namespace: &str, role: &str) -> String {
    let body = json!({ "namespace": namespace, "role": role }).to_string();
    let made = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
    made["api_key"].as_str().unwrap().to_owned()
}

/// Deploys with a key, whatever comes of it.
pub fn deploy_as(node: &Node, key: &str, name: &str, wasm: &[u8], fields: &[(&str, &str)]) -> Answer {
    let mut parts: Vec<(&str, &[u8])> = vec![("name", name.as_bytes()), ("wasm", wasm)];
    parts.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
    node.request_as(key, "POST", "/v1/functions").form(&parts).send()
}

impl Honest {
    /// Makes the namespace `honest` with its functions and its table.
    pub fn settle(node: &Node) -> Self {
        let honest = Self { key: tenant(node, "honest", "admin"), deployed: AtomicUsize::new(0) };
        deploy_as(node, &honest.key, "echo", &guests::wat("echo"), &[]).expect(201);
        deploy_as(node, &honest.key, "sql", &wat::parse_str(SQL).unwrap(), &[]).expect(201);
        honest.sql(node, "exec", "CREATE TABLE t (x)").unwrap();
        honest
    }

    fn call(&self, node: &Node, function: &str) -> Request {
        node.request_as(&self.key, "POST", &format!("/v1/functions/{function}/invoke"))
    }

    fn sql(&self, node: &Node, kind: &str, sql: &str) -> Result<(), String> {
        let body = json!({ "ops": [{ "kind": kind, "sql": sql }] }).to_string();
        let answer = self.call(node, "sql").body(body).try_send().map_err(|error| error.to_string())?;
        let is_done = answer.status == 200 && answer.json()["error"] == "";
        if is_done { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
    }

    /// Does something while the honest tenant works and the node's memory is watched.
    #[track_caller]
    pub fn beside<T>(&self, node: &Node, what: &str, attack: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        let (value, done, memory) = std::thread::scope(|scope| {
            let (over, memory) = (&over, scope.spawn(|| watch(node.pid(), &over)));
            let works: Vec<_> =
                self.works(node).into_iter().map(|work| scope.spawn(move || go_on(work, over))).collect();
            // Ends the others also when the attack's own checks fail.
            let ends = Ends(over);
            let value = attack();
            drop(ends);
            let done: Vec<_> = works.into_iter().map(|work| work.join().unwrap()).collect();
            (value, done, memory.join().unwrap())
        });
        report(what, &done, &memory);
        for Done { name, errors, .. } in &done {
            assert_eq!(errors.first(), None, "{what}: {} errors of honest {name}", errors.len());
        }
        memory.check(node, what);
        value
    }

    fn works<'a>(&'a self, node: &'a Node) -> Vec<Work<'a>> {
        let mut connection = node.connect();
        let request = self.call(node, "echo").body("[1]").bytes();
        let echo = move || {
            connection.try_write(&request).map_err(|error| error.to_string())?;
            match connection.try_answer() {
                Ok(answer) if answer.status == 200 && answer.body == b"[1]" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        let deploy = || {
            let text = format!("honest {}", self.deployed.fetch_add(1, Ordering::Relaxed));
            let answer = deploy_as(node, &self.key, "said", &speaker(&text), &[]);
            if answer.status == 201 { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
        };
        let ms = Duration::from_millis;
        vec![
            Work { name: "echo", pause: ms(2), step: Box::new(echo) },
            Work { name: "query", pause: ms(5), step: Box::new(|| self.sql(node, "query", "SELECT 1 AS x")) },
            Work {
                name: "write",
                pause: ms(20),
                step: Box::new(|| self.sql(node, "exec", "INSERT INTO t VALUES (1)")),
            },
            Work { name: "deploy", pause: ms(100), step: Box::new(deploy) },
        ]
    }
}

/// Says that something is over when it is dropped, also by a test that fails.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Works without pause until the attack is over, and once in any case.
fn go_on(mut work: Work<'_>, over: &AtomicBool) -> Done {
    let mut done = Done { name: work.name, took: Vec::new(), errors: Vec::new() };
    loop {
        let begun = Instant::now();
        done.errors.extend((work.step)().err());
        done.took.push(begun.elapsed());
        if over.load(Ordering::Relaxed) {
            done.took.sort_unstable();
            return done;
        }
        std::thread::sleep(work.pause);
    }
}

/// One line of a table: for each kind of work the count, the errors, the median and the 99th percentile.
fn report(what: &str, done: &[Done], memory: &Memory) {
    let of_each = done.iter().map(|Done { name, took, errors }| {
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
        format!("{name} {} err {} {:.1}/{:.1} ms", took.len(), errors.len(), at(50), at(99))
    });
    let of_each = of_each.collect::<Vec<_>>().join(" | ");
    let [node, sql, compile] = [memory.node, memory.sql, memory.compile].map(|bytes| bytes >> 20);
    eprintln!("beside {what:<44} | {of_each} | node {node} sql {sql} compile {compile} MB");
}

/// Looks at the memory of a node and its children until the attack is over.
fn watch(node: u32, over: &AtomicBool) -> Memory {
    let mut most = Memory::default();
    while !over.load(Ordering::Relaxed) {
        most.node = most.node.max(resident_bytes(node, "VmRSS:"));
        for child in children_of(node) {
            let command = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            // Until it executes its program it has the node's memory.
            if !command.windows(7).any(|seven| seven == b"__child") {
                continue;
            }
            // The program's own pages are the node's as well.
            let bytes = resident_bytes(child, "RssAnon:");
            let most = if command.windows(4).any(|four| four == b"\0sql") {
                &mut most.sql
            } else {
                &mut most.compile
            };
            *most = bytes.max(*most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    most
}

impl Memory {
    /// Fails when a process had more than its configuration says.
    #[track_caller]
    fn check(&self, node: &Node, what: &str) {
        let shares = ["guest_memory_bytes", "body_bytes", "answer_bytes"];
        let shared: f64 =
            shares.iter().map(|kind| node.metric(&format!("orama_share_limit{{kind=\"{kind}\"}}"))).sum();
        let config = |key: &str, default: u64| {
            let lines = node.config().lines();
            let value = lines.filter_map(|line| line.split_once(" = ")).find(|(name, _)| *name == key);
            value.map_or(default, |(_, value)| value.parse().unwrap()) << 20
        };
        let [cache, compile] = [config("memory_mb", 256), config("compile_memory_mb", 2048)];
        for (of, bytes, most) in [
            ("the node", self.node, shared as u64 + cache + UNCOUNTED_BYTES),
            ("a SQL process", self.sql, SQL_BYTES),
            ("a compiling process", self.compile, compile),
        ] {
            assert!(bytes <= most, "{what}: {of} had {} MB of {}", bytes >> 20, most >> 20);
        }
    }
}

/// A line of a process' status, in bytes; 0 when the process is gone.
pub fn resident_bytes(process: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    found.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
}
