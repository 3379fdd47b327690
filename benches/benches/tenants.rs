//! The effect of other tenants on a caller: the latency of a small function beside a namespace that takes all it can get. Also
//! how evenly a few busy connections load the cores.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_benches::client::{Connection, deploy, post};
use orama_benches::is_dry_run;
use orama_benches::process::{Role, Server, become_role};
use orama_test_support::guests;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const INPUT: &[u8] = br#"{"name":"World"}"#;
/// Timed requests of the small function in each case, and the pause between two of them.
const REQUESTS: usize = 1000;
const GAP: Duration = Duration::from_millis(2);
/// Length of each run with busy connections.
const RUN: Duration = Duration::from_secs(3);

/// A node with two cores and a second namespace, `greedy`.
struct Bench {
    address: SocketAddr,
    api_key: String,
    greedy_key: String,
    server: Server,
    _home: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let server = Server::start_with(Role::Node, home.path(), &[("ORAMA_BENCH_WORKERS", "2")]);
        let api_key = Server::api_key(home.path());
        let mut connection = Connection::open(server.address);
        let namespace = br#"{"name":"greedy"}"#;
        assert_eq!(connection.call(&post("/v1/namespaces", &api_key, namespace)).status, 201);
        let key = br#"{"namespace":"greedy","role":"admin"}"#;
        let answer = connection.call(&post("/v1/keys", &api_key, key));
        assert_eq!(answer.status, 201);
        let answer: serde_json::Value = serde_json::from_slice(answer.body).unwrap();
        let greedy_key = answer["api_key"].as_str().unwrap().to_owned();
        let bench = Self { address: server.address, api_key, greedy_key, server, _home: home };
        bench.deploy(&bench.api_key, "echo", &guests::wat("echo"), "{}");
        let ten_seconds = r#"{"timeout_seconds": 10, "memory_limit_mb": 256}"#;
        bench.deploy(&bench.greedy_key, "spin", &guests::wat("spin"), ten_seconds);
        for (name, code) in [("fill", "(loop $again {} (br $again))"), ("touch", "{}")] {
            let fill = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0xfa00000))";
            let code = code.replace("{}", fill);
            let module =
                format!(r#"(module (memory (export "memory") 4000) (func (export "_start") {code}))"#);
            bench.deploy(&bench.greedy_key, name, &wat::parse_str(module).unwrap(), ten_seconds);
        }
        for (name, built) in [("hello", guests::go("hello", &[])), ("misc", guests::go("misc", &[]))] {
            if let Ok(path) = built {
                bench.deploy(&bench.greedy_key, name, &std::fs::read(path).unwrap(), "{}");
            }
        }
        bench
    }

    fn deploy(&self, key: &str, name: &str, wasm: &[u8], metadata: &str) {
        let mut connection = Connection::open(self.address);
        let answer = connection.call(&deploy(name, key, wasm, metadata));
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
    }

    fn invoke(key: &str, name: &str, input: &[u8]) -> Vec<u8> {
        post(&format!("/v1/functions/{name}/invoke"), key, input)
    }

    /// Times `echo`, one request at a time on a kept connection, and sorts the latencies.
    fn echo(&self) -> Vec<Duration> {
        let request = Self::invoke(&self.api_key, "echo", INPUT);
        let mut connection = Connection::open(self.address);
        let mut latencies: Vec<_> = (0..REQUESTS)
            .map(|_| {
                sleep(GAP);
                let begun = Instant::now();
                assert_eq!(connection.call(&request).status, 200);
                begun.elapsed()
            })
            .collect();
        latencies.sort_unstable();
        latencies
    }

    /// Invokes a function again and again until told to stop, and counts the answers.
    fn ask(&self, name: &str, stop: &AtomicBool, answers: &AtomicU64) {
        let request = Self::invoke(&self.greedy_key, name, INPUT);
        let mut connection = Connection::open(self.address);
        while !stop.load(Ordering::Relaxed) {
            connection.call(&request);
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests a large answer and reads it a few bytes at a time.
    fn read_slowly(&self, stop: &AtomicBool) {
        let request = Self::invoke(&self.greedy_key, "misc", br#"{"do":"output","n":8000000}"#);
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(&request).unwrap();
        let mut few = [0; 4096];
        while !stop.load(Ordering::Relaxed) && stream.read(&mut few).unwrap() > 0 {
            sleep(Duration::from_millis(1));
        }
    }

    /// CPU time that each core has used.
    fn work(&self) -> Vec<Duration> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.server.id())).unwrap();
        let mut cores: Vec<(String, Duration)> = tasks
            .filter_map(|task| {
                let path = task.ok()?.path();
                let name = std::fs::read_to_string(path.join("comm")).ok()?;
                let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
                Some((name, Duration::from_nanos(stat.split(' ').next()?.parse().ok()?)))
            })
            .filter(|(name, _)| name.starts_with("core-"))
            .collect();
        cores.sort();
        cores.into_iter().map(|(_, work)| work).collect()
    }
}

/// What the namespace `greedy` does meanwhile.
enum Others {
    Nothing,
    Ask(&'static str, usize),
    ReadSlowly(usize),
}

fn latency_beside_others(bench: &Bench, cases: &[(&str, Others)]) {
    println!(
        "\necho of one namespace, {REQUESTS} requests, one at a time, beside another namespace on two cores"
    );
    println!("{:<52} {:>10} {:>10} {:>10}", "", "p50", "p99", "longest");
    let ms = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1e3);
    for (what, others) in cases {
        let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        let latencies = std::thread::scope(|scope| {
            match others {
                Others::Nothing => {}
                Others::Ask(name, connections) => {
                    for _ in 0..*connections {
                        scope.spawn(|| bench.ask(name, &stop, &answers));
                    }
                }
                Others::ReadSlowly(connections) => {
                    for _ in 0..*connections {
                        scope.spawn(|| bench.read_slowly(&stop));
                    }
                }
            }
            sleep(Duration::from_millis(500));
            let latencies = bench.echo();
            stop.store(true, Ordering::Relaxed);
            latencies
        });
        let [p50, p99, longest] = [REQUESTS / 2, REQUESTS * 99 / 100, REQUESTS - 1].map(|at| latencies[at]);
        println!("{what:<52} {:>10} {:>10} {:>10}", ms(p50), ms(p99), ms(longest));
    }
}

/// Measures how evenly few connections load both cores.
fn few_connections(bench: &Bench, name: &str) {
    println!("\nGo hello over few connections on two cores: how much of the time each core worked");
    for connections in [1, 2, 3, 4, 8] {
        let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        let (before, begun) = (bench.work(), Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| bench.ask(name, &stop, &answers));
            }
            sleep(RUN);
            stop.store(true, Ordering::Relaxed);
        });
        let took = begun.elapsed();
        let shares: Vec<String> = bench
            .work()
            .iter()
            .zip(&before)
            .map(|(after, before)| {
                format!("{:>4.0} %", 100.0 * (*after - *before).as_secs_f64() / took.as_secs_f64())
            })
            .collect();
        let rate = answers.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
        println!("{connections} connections: {}   {rate:>6.0} requests/s", shares.join(" "));
    }
}

fn main() {
    become_role();
    if is_dry_run() {
        return;
    }
    let bench = Bench::start();
    let mut cases = vec![
        ("alone", Others::Nothing),
        ("two invocations that spin", Others::Ask("spin", 2)),
        ("200 invocations that spin", Others::Ask("spin", 200)),
        ("four that fill 250 MB again and again", Others::Ask("fill", 4)),
        ("four that touch 250 MB and end", Others::Ask("touch", 4)),
    ];
    let has_go = guests::go("hello", &[]).is_ok();
    if has_go {
        cases.push(("64 connections of Go hello", Others::Ask("hello", 64)));
        cases.push(("16 clients that read 8 MB answers slowly", Others::ReadSlowly(16)));
    }
    latency_beside_others(&bench, &cases);
    if has_go {
        few_connections(&bench, "hello");
    }
}
