//! Many functions on one node: how long it takes to start, what it holds in memory, what the first call of a cold
//! function costs, and what calls over all of them cost while their code comes and goes.
//!
//! `ORAMA_DENSITY_FUNCTIONS=1000` deploys so many instead of 10,000; `ORAMA_DENSITY_HOME=PATH` keeps the node's folder
//! there, and finds the functions again in the next run.

// A benchmark says by panicking that it could not be set up.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_benches::built;
use orama_benches::client::{Connection, deploy, get, post};
use orama_benches::process::{Role, Server, become_role};
use orama_runtime::function::WasmHash;
use orama_test_support::guests;
use rustix::fs::{Advice, fadvise};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const INPUT: &[u8] =
    br#"{"name":"World","path":"/api/v1/hello","headers":{"host":"example.com","accept":"*/*"}}"#;
/// Functions on the node, unless it is said otherwise.
const FUNCTIONS: usize = 10_000;
/// Connections that deploy.
const DEPLOYING: usize = 8;
/// Starts of each line.
const STARTS: usize = 15;
/// Functions of each kind whose first call is measured.
const FIRST_CALLS: usize = 100;
/// Connections of the load over all functions, and its length.
const CONNECTIONS: usize = 16;
const RUN: Duration = Duration::from_secs(10);
/// How skewed the choice among all functions is: the one at rank r is called in proportion to 1 / r.
const ZIPF_EXPONENT: f64 = 1.0;

/// A guest, and every how many functions there is one of it.
struct Kind {
    name: &'static str,
    wasm: Vec<u8>,
    every: usize,
}

fn kinds() -> Vec<Kind> {
    let mut kinds = vec![];
    let built =
        built(vec![("go-hello", guests::go("hello", &[])), ("tinygo-hello", guests::tinygo("hello", &[]))]);
    for (name, wasm) in built {
        kinds.push(Kind { name, wasm, every: if name == "go-hello" { 250 } else { 25 } });
    }
    kinds.push(Kind { name: "echo", wasm: guests::wat("echo"), every: 1 });
    kinds
}

/// A deployed function.
struct Function {
    kind: &'static str,
    request: Vec<u8>,
    artifact: PathBuf,
}

/// A node's folder, and what is deployed there.
struct Deployed {
    home: PathBuf,
    functions: Vec<Function>,
}

impl Deployed {
    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |function| function.kind == kind)
    }
}

/// The module with a custom section that holds a number, which makes it a module of its own.
fn with_note(wasm: &[u8], number: usize) -> Vec<u8> {
    let mut noted = wasm.to_vec();
    // Section 0, 9 bytes: a name of 4 bytes with its length, and the number.
    noted.extend_from_slice(&[0, 9, 4, b'n', b'o', b't', b'e']);
    noted.extend_from_slice(&u32::try_from(number).expect("fewer functions").to_le_bytes());
    noted
}

/// Deploys what is not there yet.
fn deployed(home: &Path, kinds: &[Kind], count: usize) -> Deployed {
    let node = Server::start(Role::Node, home);
    let api_key = Server::api_key(home);
    let begun = Instant::now();
    let (next, added) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let kind =
        |index: usize| kinds.iter().find(|kind| index.is_multiple_of(kind.every)).expect("echo is every one");
    std::thread::scope(|scope| {
        for _ in 0..DEPLOYING {
            scope.spawn(|| {
                let mut connection = Connection::open(node.address);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let name = format!("f{index}");
                    if connection.call(&get(&format!("/v1/functions/{name}"), &api_key)).status == 200 {
                        continue;
                    }
                    let wasm = with_note(&kind(index).wasm, index);
                    let answer = connection.call(&deploy(&name, &api_key, &wasm, "{}"));
                    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
                    added.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let artifacts = artifacts(home);
    let functions: Vec<Function> = (0..count)
        .map(|index| {
            let Kind { name, wasm, .. } = kind(index);
            let hash = WasmHash::of(&with_note(wasm, index)).to_string();
            let artifact = artifacts.get(&hash).unwrap_or_else(|| panic!("f{index} has no code")).clone();
            Function {
                kind: name,
                request: post(&format!("/v1/functions/f{index}/invoke"), &api_key, INPUT),
                artifact,
            }
        })
        .collect();
    let deployed = Deployed { home: home.to_owned(), functions };
    println!(
        "\ndeployed {} of {count} functions in {:.0} s:",
        added.into_inner(),
        begun.elapsed().as_secs_f64()
    );
    for Kind { name, .. } in kinds {
        let sizes: Vec<u64> = deployed
            .of_kind(name)
            .map(|function| function.artifact.metadata().expect("its code").len())
            .collect();
        let mean = sizes.iter().sum::<u64>() / sizes.len().max(1) as u64;
        println!("{name:<14} {:>6} functions, {:>6} kB of code each", sizes.len(), mean / 1000);
    }
    deployed
}

/// Files with code, by the hash of their module.
fn artifacts(home: &Path) -> HashMap<String, PathBuf> {
    let entries = fs::read_dir(home.join("data/artifacts")).expect("artifacts");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let named = paths.filter_map(|path| {
        let hash = path.file_name()?.to_str()?.split_once('-')?.0.to_owned();
        Some((hash, path))
    });
    named.collect()
}

/// Takes a file out of the page cache.
fn make_cold(path: &Path) {
    let file = File::open(path).expect("a file");
    // Only pages that are on the disk can be given up.
    file.sync_data().expect("a disk");
    fadvise(&file, 0, None, Advice::DontNeed).expect("advice that is taken");
}

/// Takes everything of a node out of the page cache.
fn make_all_cold(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { make_all_cold(&path) } else { make_cold(&path) }
    }
}

/// The median, the 99th percentile and the longest, in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3;
    [at(0.5), at(0.99), at(1.0)]
}

fn starts(deployed: &Deployed, kinds: &[Kind]) {
    println!("\nstart: from starting the process to the first answer of a function, {STARTS} starts each");
    for Kind { name, .. } in kinds {
        for cold in [false, true] {
            let (mut answers, mut servings) = (Vec::new(), Vec::new());
            for function in deployed.of_kind(name).take(STARTS) {
                if cold {
                    make_all_cold(&deployed.home);
                }
                let begun = Instant::now();
                let node = Server::start(Role::Node, &deployed.home);
                servings.push(begun.elapsed());
                let status = Connection::open(node.address).call(&function.request).status;
                answers.push(begun.elapsed());
                assert_eq!(status, 200);
            }
            let ([median, _, longest], [serving, ..]) = (percentiles(answers), percentiles(servings));
            println!(
                "{name:<14} {:<22} median {median:>6.1} ms ({serving:.1} ms of it until the node serves), longest {longest:.1} ms",
                if cold { "page cache emptied" } else { "page cache warm" },
            );
        }
    }
}

fn first_calls(deployed: &Deployed, kinds: &[Kind]) {
    println!("\nfirst call of a function whose code is not loaded, one client");
    for Kind { name, .. } in kinds {
        for cold in [false, true] {
            let node = Server::start(Role::Node, &deployed.home);
            let mut connection = Connection::open(node.address);
            // What the node itself does for the first time is not the function's.
            let mut functions = deployed.of_kind(name);
            connection.call(&functions.next().expect("one").request);
            let times: Vec<Duration> = functions
                .take(FIRST_CALLS)
                .map(|function| {
                    if cold {
                        make_cold(&function.artifact);
                    }
                    let begun = Instant::now();
                    assert_eq!(connection.call(&function.request).status, 200);
                    begun.elapsed()
                })
                .collect();
            let count = times.len();
            let [median, p99, longest] = percentiles(times);
            println!(
                "{name:<14} {:<22} median {median:>6.2} ms, p99 {p99:>6.2} ms, longest {longest:>6.2} ms of {count}",
                if cold { "page cache emptied" } else { "page cache warm" },
            );
        }
    }
}

/// What the system knows of a process.
fn footprint(node: &Server) -> String {
    let proc = PathBuf::from(format!("/proc/{}", node.id()));
    let rollup = fs::read_to_string(proc.join("smaps_rollup")).expect("smaps_rollup");
    let mb = |key: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") / 1e3
    };
    let mappings = fs::read_to_string(proc.join("maps")).expect("maps").lines().count();
    let descriptors = fs::read_dir(proc.join("fd")).expect("fd").count();
    format!(
        "{:>6.1} MB resident ({:.1} of it anonymous, {:.1} shared in part), {mappings} mappings, {descriptors} descriptors",
        mb("Rss:"),
        mb("Anonymous:"),
        mb("Pss:"),
    )
}

fn metric(node: &Server, name: &str) -> f64 {
    let mut connection = Connection::open(node.address);
    let body = connection.call(&get("/metrics", "")).body.to_vec();
    let text = String::from_utf8(body).expect("text");
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap_or(f64::NAN)
}

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Calls over all functions, few of which are called often.
fn skewed_calls(deployed: &Deployed) {
    let weights: Vec<f64> =
        (1..=deployed.functions.len()).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)).collect();
    let all: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let ends: Vec<f64> = weights
        .iter()
        .map(|weight| {
            sum += weight / all;
            sum
        })
        .collect();
    println!(
        "\ncalls over {} functions, the one at rank r in proportion to 1/r; one core, {CONNECTIONS} connections, {} s",
        deployed.functions.len(),
        RUN.as_secs()
    );
    for cache_mb in ["16", "64", "256", "1024"] {
        let node = Server::start_with(Role::Node, &deployed.home, &[("ORAMA_MODULE_CACHE_MB", cache_mb)]);
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        let times: Vec<Duration> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CONNECTIONS)
                .map(|client| {
                    let (ends, stop, node) = (&ends, &stop, &node);
                    scope.spawn(move || {
                        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ client as u64);
                        let mut connection = Connection::open(node.address);
                        let mut times = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            let chosen = numbers.next();
                            let rank = ends.partition_point(|end| *end < chosen).min(ends.len() - 1);
                            // Ranks in another order than the deploys.
                            let index = rank.wrapping_mul(7919) % ends.len();
                            let begun = Instant::now();
                            let answer = connection.call(&deployed.functions[index].request);
                            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(answer.body));
                            times.push(begun.elapsed());
                        }
                        times
                    })
                })
                .collect();
            std::thread::sleep(RUN);
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
        });
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        let [median, p99, longest] = percentiles(times);
        println!(
            "{cache_mb:>5} MB of code   {rate:>7.0} calls/s, median {median:.2} ms, p99 {p99:.2} ms, longest {longest:.1} ms; \
             {} loads, {} thrown out, {} loaded at the end",
            metric(&node, "orama_module_load_seconds_count"),
            metric(&node, "orama_module_evictions_total"),
            metric(&node, "orama_modules_loaded"),
        );
        println!("{:>16} {}", "", footprint(&node));
    }
}

fn main() {
    become_role();
    // `cargo test` and `--list` only look whether a benchmark runs.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let count =
        std::env::var("ORAMA_DENSITY_FUNCTIONS").map_or(FUNCTIONS, |text| text.parse().expect("a number"));
    let only = std::env::var("ORAMA_DENSITY_ONLY").unwrap_or_default();
    let temporary = tempfile::tempdir().expect("a folder");
    let home =
        std::env::var_os("ORAMA_DENSITY_HOME").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let kinds = kinds();
    let deployed = deployed(&home, &kinds, count);
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|only| only == part);
    if wanted("start") {
        starts(&deployed, &kinds);
    }
    if wanted("rest") {
        println!("\nat rest, {count} functions deployed");
        let node = Server::start(Role::Node, &deployed.home);
        println!("served nothing     {}", footprint(&node));
        std::thread::sleep(Duration::from_secs(2));
        println!("two seconds later  {}", footprint(&node));
    }
    if wanted("first") {
        first_calls(&deployed, &kinds);
    }
    if wanted("skewed") {
        skewed_calls(&deployed);
    }
}
