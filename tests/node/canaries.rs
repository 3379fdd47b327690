//! Namespaces whose invocations are interleaved on the same connections. Each invocation fills all that it has with a canary
//! of its own; nobody else ever finds a trace of it.

use crate::harness::{Node, Options, eventually};
use crate::honest::{Ends, deploy_as, tenant};
use crate::http::Connection;
use serde_json::json;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Their first letters are in no hexadecimal number.
const NAMESPACES: [&str; 3] = ["owl", "gnu", "yak"];
/// Invocations that a run of the suite makes.
const INVOCATIONS: usize = 30_000;
/// How many it makes instead, where this variable says so.
const VARIABLE: &str = "ORAMA_CANARIES";
/// Connections, and requests on each that are sent before the first answer is read.
const CONNECTIONS: usize = 8;
const PIPELINED: usize = 24;
/// One in so many invocations traps when it has left its canary everywhere, and one in so many runs on until its deadline.
const TRAPS: usize = 50;
const SPINS: usize = 3_001;

/// Looks whether everything is as fresh as in a new instance; reads its environment, a secret and its namespace's cache; reads
/// its input, a canary of 16 letters; leaves that in all memory, tables and globals; and answers with all that it read, each
/// followed by a space. If its canary ends with `!` it traps, and with `?` it never ends.
const CANARY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "env" "get_env" (func $env (param i32 i32) (result i64)))
  (import "env" "get_secret" (func $secret (param i32 i32) (result i64)))
  (import "env" "cache_get" (func $get (param i32 i32) (result i64)))
  (import "env" "cache_set" (func $set (param i32 i32 i32 i32 i64)))
  (memory (export "memory") 2)
  (table $table 64 128 funcref)
  (elem declare func $out)
  (data (i32.const 32) "NAME TOKEN last")
  (global $canary (mut i64) (i64.const 0))
  (global $allocated (mut i32) (i32.const 4096))
  (func (export "orama_alloc") (param $size i32) (result i32)
    (global.get $allocated)
    (global.set $allocated (i32.add (global.get $allocated) (i32.add (local.get $size) (i32.const 1)))))
  ;; Writes a text, and a space.
  (func $out (param $at i32) (param $length i32)
    (i32.store8 (i32.const 24) (i32.const 32))
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (i32.store (i32.const 8) (i32.const 24))
    (i32.store (i32.const 12) (i32.const 1))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 16)) (then unreachable)))
  (func $give (param $text i64)
    (call $out (i32.wrap_i64 (i64.shr_u (local.get $text) (i64.const 32))) (i32.wrap_i64 (local.get $text))))
  ;; Says where something is not fresh.
  (func $dirty (param $at i32)
    (i32.store (i32.const 2048) (i32.const 0x54524944))
    (call $out (i32.const 2048) (i32.const 4))
    (call $out (local.get $at) (i32.const 64)))
  (func $look (param $at i32) (param $end i32)
    (loop $next
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (call $dirty (local.get $at)) (return)))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))
  (func $look_at_table (local $at i32)
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (call $dirty (i32.const 64)) (return)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (table.size $table)))))
  (func $fill (local $at i32)
    (local.set $at (i32.const 64))
    (loop $next
      (i64.store (local.get $at) (global.get $canary))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
    (table.fill $table (i32.const 0) (ref.func $out) (table.size $table)))
  (func (export "_start") (local $last i32)
    (call $look (i32.const 0) (i32.const 32))
    (call $look (i32.const 48) (i32.const 131072))
    (if (i64.ne (global.get $canary) (i64.const 0)) (then (call $dirty (i32.const 64))))
    (if (i32.ne (memory.size) (i32.const 2)) (then (call $dirty (i32.const 64))))
    (if (i32.ne (table.size $table) (i32.const 64)) (then (call $dirty (i32.const 64))))
    ;; What it gets in addition is as fresh.
    (if (i32.ne (memory.grow (i32.const 2)) (i32.const 2)) (then (call $dirty (i32.const 64))))
    (if (i32.ne (table.grow $table (ref.null func) (i32.const 64)) (i32.const 64)) (then (call $dirty (i32.const 64))))
    (call $look (i32.const 131072) (i32.const 262144))
    (call $look_at_table)
    (call $give (call $env (i32.const 32) (i32.const 4)))
    (call $give (call $secret (i32.const 37) (i32.const 5)))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 64))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (global.set $canary (i64.load (i32.const 1024)))
    (call $out (i32.const 1024) (i32.load (i32.const 16)))
    (call $give (call $get (i32.const 43) (i32.const 4)))
    (call $set (i32.const 43) (i32.const 4) (i32.const 1024) (i32.const 16) (i64.const 0))
    (local.set $last (i32.load8_u (i32.const 1039)))
    (call $fill)
    (if (i32.eq (local.get $last) (i32.const 33)) (then unreachable))
    (if (i32.eq (local.get $last) (i32.const 63)) (then (loop $again (br $again))))))"#;

/// The canary of an invocation: 16 letters, of which the first three name its namespace.
fn canary(namespace: &str, n: usize) -> String {
    let ends = match n {
        n if n % SPINS == SPINS - 1 => '?',
        n if n % TRAPS == TRAPS - 1 => '!',
        _ => '.',
    };
    format!("{namespace}{n:012}{ends}")
}

struct Tenant {
    name: &'static str,
    key: String,
}

impl Tenant {
    fn settle(node: &Node, name: &'static str, wasm: &[u8]) -> Self {
        let key = tenant(node, name, "deploy");
        let metadata = json!({ "timeout_seconds": 1, "env_vars": { "NAME": format!("{name}-env") } });
        deploy_as(node, &key, "canary", wasm, &[("metadata", &metadata.to_string())]).expect(201);
        let secret = json!({ "name": "TOKEN", "value": format!("{name}-secret") }).to_string();
        node.request_as(&key, "PUT", "/v1/functions/secrets").body(secret).send().expect(200);
        Self { name, key }
    }

    fn request(&self, node: &Node, canary: &str) -> Vec<u8> {
        node.request_as(&self.key, "POST", "/v1/functions/canary/invoke").body(canary).bytes()
    }

    /// Reads an answer, which must hold what is this tenant's and this invocation's, and nothing else.
    fn check(&self, connection: &mut Connection, canary: &str) {
        let (name, answer) = (self.name, connection.answer());
        match &canary[15..] {
            "!" => assert_eq!(answer.json()["code"], "FUNCTION_TRAP", "{canary}: {answer:?}"),
            "?" => assert_eq!(answer.json()["code"], "TIMEOUT", "{canary}: {answer:?}"),
            _ => {
                let json = answer.json();
                let output = json["output"].as_str().unwrap_or_else(|| panic!("{canary}: {json}"));
                let mut words = output.split(' ');
                let told: Vec<_> = words.by_ref().take(3).collect();
                assert_eq!(told, [&format!("{name}-env"), &format!("{name}-secret"), canary], "{output}");
                // The first of all finds nothing in the cache, and any other one what one of its namespace left.
                let (last, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
                let is_own = last.is_empty() || (last.starts_with(name) && last.len() == 16);
                assert!(is_own && rest == [""], "{canary}: {output}");
            }
        }
        let text = answer.text();
        let others = NAMESPACES.iter().filter(|other| **other != name);
        for other in others {
            for trace in [format!("{other}0"), format!("{other}-")] {
                assert!(!text.contains(&trace), "{canary} of {name} was told {text}");
            }
        }
    }
}

/// Sends and reads on one connection, the namespaces in turns, until all numbers are taken.
fn interleave(node: &Node, tenants: &[Tenant], next: &AtomicUsize, total: usize) {
    let mut connection = node.connect();
    loop {
        let first = next.fetch_add(PIPELINED, Ordering::Relaxed);
        if first >= total {
            return;
        }
        let all = (first..first + PIPELINED).map(|n| {
            let tenant = &tenants[n * 7 % tenants.len()];
            (tenant, canary(tenant.name, n))
        });
        let all: Vec<_> = all.collect();
        connection
            .write(all.iter().flat_map(|(tenant, canary)| tenant.request(node, canary)).collect::<Vec<_>>());
        all.iter().for_each(|(tenant, canary)| tenant.check(&mut connection, canary));
    }
}

/// Has the kernel move pages about, where this process may ask for it. What is on its way must be as fresh as the rest.
fn compact_memory(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) && fs::write("/proc/sys/vm/compact_memory", "1").is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn no_invocation_finds_a_trace_of_another() {
    let total = std::env::var(VARIABLE).map_or(INVOCATIONS, |count| count.parse().unwrap());
    // Few slots, so that each is used again and again.
    let config = "instance_slots = 32\n".to_owned();
    let node = Node::start(Options { config, databases: &NAMESPACES, ..Options::default() });
    let wasm = wat::parse_str(CANARY).unwrap();
    let tenants = NAMESPACES.map(|name| Tenant::settle(&node, name, &wasm));
    let (next, over, begun) = (AtomicUsize::new(0), AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| compact_memory(&over));
        let _ends = Ends(&over);
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| interleave(&node, &tenants, &next, total));
            }
        });
    });
    let made = total.div_ceil(PIPELINED) * PIPELINED;
    let of = |status: &str| node.metric(&format!("orama_invocations_total{{status=\"{status}\"}}"));
    let counts = ["success", "error", "timeout"].map(of);
    eprintln!("{made} invocations in {:.1?}: {counts:?} succeeded, trapped, timed out", begun.elapsed());
    assert_eq!(counts.iter().sum::<f64>(), made as f64);
    assert!(counts.iter().all(|count| *count > 0.0), "{counts:?}");
    eventually("nothing runs any more", || node.metric("orama_invocations_running") == 0.0);
}
