//! The cost of a whole request, from the client's socket and back: latency, CPU time beside a server that runs no function, and
//! the time from a process's start to its first answer.
//!
//! With `ORAMA_BENCH_BINARIES=before=PATH,after=PATH` it compares builds of `orama` in one run instead.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::Criterion;
use orama_benches::client::{Connection, post};
use orama_benches::process::{Role, Server, become_role, node};
use orama_benches::{built, group, is_dry_run, with_note};
use orama_test_support::guests;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const INPUT: &[u8] =
    br#"{"name":"World","path":"/api/v1/hello","headers":{"host":"example.com","accept":"*/*"}}"#;
/// Connections of the saturating load.
const CONNECTIONS: usize = 16;
/// Length of each saturating run, and the number of rounds in which the servers take turns.
const RUN: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// How long a snapshot may take to be there.
const SETTLED: Duration = Duration::from_secs(5);
/// Functions on the node that is restarted.
const DEPLOYED: usize = 1_000;

fn functions() -> Vec<(&'static str, Vec<u8>)> {
    let mut functions = vec![("echo", guests::wat("echo"))];
    functions.extend(built(vec![
        ("tinygo-hello", guests::tinygo("hello", &[])),
        ("go-hello", guests::go("hello", &[])),
        ("go-sdk-hello", guests::go("greet", &[])),
        ("go-web", guests::go("web", &[])),
        ("go-web-warmed", guests::go("web", &["warmed"])),
    ]));
    functions
}

/// Waits until a node knows how a function of Go starts. A build without snapshots never does.
fn settle(connection: &mut Connection, name: &str, api_key: &str) {
    let until = Instant::now() + SETTLED;
    let details = orama_benches::client::get(&format!("/v1/functions/{name}"), api_key);
    while name.starts_with("go-") && Instant::now() < until {
        if connection.call(&details).body.windows(10).any(|bytes| bytes == b"start_note") {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn invoke(name: &str, api_key: &str) -> Vec<u8> {
    post(&format!("/v1/functions/{name}/invoke"), api_key, INPUT)
}

/// One connection, one request at a time, against a node in this process.
fn latency(criterion: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    let node = node(home.path(), NonZeroUsize::MIN);
    let api_key = Server::api_key(home.path());
    let mut connection = Connection::open(node.local_addr());
    let mut group = group(
        criterion,
        "http invoke",
        "one client, one request at a time: how long a caller on the same machine waits for an answer",
    );
    for (name, wasm) in functions() {
        let deployed = connection.call(&orama_benches::client::deploy(name, &api_key, &wasm, "{}")).status;
        assert_eq!(deployed, 201);
        settle(&mut connection, name, &api_key);
        let request = invoke(name, &api_key);
        assert_eq!(connection.call(&request).status, 200);
        group.bench_function(name, |bencher| bencher.iter(|| connection.call(&request).status));
    }
    group.finish();
}

/// Measures a server that `CONNECTIONS` clients keep busy: its CPU time per request, and requests per second.
fn saturate(server: &Server, request: &[u8]) -> (Duration, f64) {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = server.cpu();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::open(server.address);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(connection.call(request).status, 200);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(RUN);
        stop.store(true, Ordering::Relaxed);
    });
    let requests = count.load(Ordering::Relaxed);
    (
        (server.cpu() - before) / u32::try_from(requests).unwrap(),
        requests as f64 / begun.elapsed().as_secs_f64(),
    )
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// Measures both servers in turns, so that a change of the machine's speed affects both.
fn cpu_beside_bare_http() {
    println!(
        "\ncpu per request: the operator's cost; one core, {CONNECTIONS} connections, median of {ROUNDS} runs, \
         beside may_minihttp answering the same request without a function"
    );
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Server::start(Role::Node, home.path());
    let bare = Server::start(Role::BareHttp, elsewhere.path());
    let api_key = Server::api_key(home.path());
    for (name, wasm) in functions() {
        node.deploy(&api_key, name, &wasm, "{}");
        settle(&mut Connection::open(node.address), name, &api_key);
        let request = invoke(name, &api_key);
        let (mut ours, mut bares, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (cpu, rate) = saturate(&node, &request);
            ours.push(cpu);
            rates.push(rate);
            bares.push(saturate(&bare, &request).0);
        }
        let (ours, bare) = (median(ours), median(bares));
        rates.sort_by(f64::total_cmp);
        println!(
            "{name:<14} node {:>7.1} us   may_minihttp {:>5.1} us   ratio {:>6.1}   {:>7.0} requests/s",
            ours.as_nanos() as f64 / 1e3,
            bare.as_nanos() as f64 / 1e3,
            ours.as_secs_f64() / bare.as_secs_f64(),
            rates[ROUNDS / 2],
        );
    }
}

/// Measures builds of `orama` in turns, and prints each one's ratio to the first.
fn builds_side_by_side(builds: &str) {
    println!(
        "\ncpu per request of each build: one core, {CONNECTIONS} connections, median of {ROUNDS} runs in turns"
    );
    let nodes: Vec<_> = builds
        .split(',')
        .map(|build| {
            let (name, path) = build.split_once('=').expect("NAME=PATH,NAME=PATH");
            let home = tempfile::tempdir().unwrap();
            (name, Server::of_binary(path.as_ref(), home.path()), home)
        })
        .collect();
    for (function, wasm) in functions() {
        let takes = |(_, node, home): &(&str, Server, tempfile::TempDir)| {
            let deploy = orama_benches::client::deploy(function, &Server::api_key(home.path()), &wasm, "{}");
            Connection::open(node.address).call(&deploy).status == 201
        };
        if !nodes.iter().all(takes) {
            println!("{function:<14} left out: a build does not have the host functions that it imports");
            continue;
        }
        let requests: Vec<_> = nodes
            .iter()
            .map(|(_, node, home)| {
                let api_key = Server::api_key(home.path());
                settle(&mut Connection::open(node.address), function, &api_key);
                invoke(function, &api_key)
            })
            .collect();
        let mut cpus = vec![Vec::new(); nodes.len()];
        for _ in 0..ROUNDS {
            for ((_, node, _), (request, cpus)) in nodes.iter().zip(requests.iter().zip(&mut cpus)) {
                cpus.push(saturate(node, request).0);
            }
        }
        let medians: Vec<_> = cpus.into_iter().map(median).collect();
        for ((name, ..), cpu) in nodes.iter().zip(&medians) {
            println!(
                "{function:<14} {name:<10} {:>7.1} us   ratio {:>5.2}",
                cpu.as_nanos() as f64 / 1e3,
                cpu.as_secs_f64() / medians[0].as_secs_f64(),
            );
        }
    }
}

/// Measures the time from the start of the process to the first answer of a function whose code is on disk.
fn restart() {
    println!("\nrestart: from starting the process to the first answer, with {DEPLOYED} functions deployed");
    for (name, wasm) in functions() {
        let home = tempfile::tempdir().unwrap();
        let node = Server::start(Role::Node, home.path());
        let api_key = Server::api_key(home.path());
        let mut distinct = wasm;
        for index in 0..DEPLOYED {
            // Each is a different module. The code cache has its functions; the artifact store does not have the module.
            if index > 0 && name == "echo" {
                distinct = with_note(&distinct, index as u32);
            }
            node.deploy(&api_key, &format!("f{index}"), &distinct, "{}");
        }
        drop(node);
        let mut times = Vec::new();
        for index in 0..20 {
            let begun = Instant::now();
            let node = Server::start(Role::Node, home.path());
            let serving = begun.elapsed();
            let status = Connection::open(node.address).call(&invoke(&format!("f{index}"), &api_key)).status;
            assert_eq!(status, 200);
            times.push((begun.elapsed(), serving));
        }
        times.sort();
        let (answer, serving) = times[times.len() / 2];
        println!(
            "{name:<14} median {:>5.1} ms to the first answer ({:.1} ms of it until the node serves), slowest {:.1} ms",
            answer.as_secs_f64() * 1e3,
            serving.as_secs_f64() * 1e3,
            times[times.len() - 1].0.as_secs_f64() * 1e3,
        );
    }
}

fn main() {
    become_role();
    if let Ok(builds) = std::env::var("ORAMA_BENCH_BINARIES") {
        return builds_side_by_side(&builds);
    }
    let mut criterion = Criterion::default().configure_from_args();
    latency(&mut criterion);
    if !is_dry_run() {
        cpu_beside_bare_http();
        restart();
    }
    criterion.final_summary();
}
