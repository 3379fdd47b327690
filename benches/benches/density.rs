//! Many functions on one node: the time of a start, the memory, the cost of a cold function's first call, the cost of calls to
//! all functions while their code is loaded and evicted, and the memory of warm functions of Go that share their code.
//!
//! `ORAMA_DENSITY_FUNCTIONS=1000` sets the number of functions (10,000 by default). `ORAMA_DENSITY_HOME=PATH` keeps the node's
//! folder there, so that the next run need not deploy again.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_benches::client::{Connection, deploy, get, post};
use orama_benches::process::{Role, Server, become_role};
use orama_benches::{built, is_dry_run, with_note};
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
/// Functions on the node by default.
const FUNCTIONS: usize = 10_000;
/// Connections that deploy.
const DEPLOYING: usize = 8;
/// Starts in each line of the output.
const STARTS: usize = 15;
/// Functions of Go that are kept warm.
const WARM: usize = 1_000;
/// Functions of each kind whose first call is measured.
const FIRST_CALLS: usize = 100;
/// Connections of the load over all functions, and its length.
const CONNECTIONS: usize = 16;
const RUN: Duration = Duration::from_secs(10);
/// The exponent of the Zipf distribution of calls: the function at rank r is called in proportion to 1 / r.
const ZIPF_EXPONENT: f64 = 1.0;

/// A guest, and its share: one of every `every` functions.
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

/// The kind of the function with a number.
fn kind_of(kinds: &[Kind], index: usize) -> &Kind {
    kinds.iter().find(|kind| index.is_multiple_of(kind.every)).expect("every function can be echo")
}

/// The module of the function with a number, which no other function has.
fn module(kinds: &[Kind], index: usize) -> Vec<u8> {
    with_note(&kind_of(kinds, index).wasm, u32::try_from(index).expect("fewer functions"))
}

/// A deployed function.
struct Function {
    kind: &'static str,
    request: Vec<u8>,
    artifact: PathBuf,
}

/// A node's folder and its deployed functions.
struct Deployed {
    home: PathBuf,
    functions: Vec<Function>,
}

impl Deployed {
    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |function| function.kind == kind)
    }
}

/// Deploys the functions that the node does not have.
fn deployed(home: &Path, kinds: &[Kind], count: usize) -> Deployed {
    let node = Server::start(Role::Node, home);
    let api_key = Server::api_key(home);
    let begun = Instant::now();
    let (next, added) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..DEPLOYING {
            scope.spawn(|| {
                let mut connection = Connection::open(node.address);
                let indexes = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                for index in indexes.take_while(|index| *index < count) {
                    let new = deploy_missing(&mut connection, &api_key, kinds, index);
                    added.fetch_add(usize::from(new), Ordering::Relaxed);
                }
            });
        }
    });
    let artifacts = artifacts(home);
    let functions = (0..count).map(|index| {
        let hash = WasmHash::of(&module(kinds, index)).to_string();
        let artifact = artifacts.get(&hash).unwrap_or_else(|| panic!("f{index} has no code")).clone();
        let request = post(&format!("/v1/functions/f{index}/invoke"), &api_key, INPUT);
        Function { kind: kind_of(kinds, index).name, request, artifact }
    });
    let deployed = Deployed { home: home.to_owned(), functions: functions.collect() };
    let (added, took) = (added.into_inner(), begun.elapsed());
    println!("\ndeployed {added} of {count} functions in {:.0} s:", took.as_secs_f64());
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

/// Deploys one function if the node does not have it. Returns whether it did.
fn deploy_missing(connection: &mut Connection, api_key: &str, kinds: &[Kind], index: usize) -> bool {
    let name = format!("f{index}");
    if connection.call(&get(&format!("/v1/functions/{name}"), api_key)).status == 200 {
        return false;
    }
    let answer = connection.call(&deploy(&name, api_key, &module(kinds, index), "{}"));
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
    true
}

/// The node's artifacts, by the hash of their module.
fn artifacts(home: &Path) -> HashMap<String, PathBuf> {
    let entries = fs::read_dir(home.join("data/artifacts")).expect("artifacts");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let named = paths.filter_map(|path| {
        let hash = path.file_name()?.to_str()?.split_once('-')?.0.to_owned();
        Some((hash, path))
    });
    named.collect()
}

/// Removes a file from the page cache.
fn make_cold(path: &Path) {
    let file = File::open(path).expect("a file");
    // Only pages that are on the disk can be evicted.
    file.sync_data().expect("a disk");
    fadvise(&file, 0, None, Advice::DontNeed).expect("advice that is taken");
}

/// Removes all files of a node from the page cache.
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

fn page_cache(cold: bool) -> &'static str {
    if cold { "page cache emptied" } else { "page cache warm" }
}

fn starts(deployed: &Deployed, kinds: &[Kind]) {
    println!("\nstart: from starting the process to the first answer of a function, {STARTS} starts each");
    for (kind, cold) in kinds.iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let (mut answers, mut servings) = (Vec::new(), Vec::new());
        for function in deployed.of_kind(kind.name).take(STARTS) {
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
            "{:<14} {:<22} median {median:>6.1} ms ({serving:.1} ms of it until the node serves), longest {longest:.1} ms",
            kind.name,
            page_cache(cold),
        );
    }
}

fn first_calls(deployed: &Deployed, kinds: &[Kind]) {
    println!("\nfirst call of a function whose code is not loaded, one client");
    for (kind, cold) in kinds.iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let node = Server::start(Role::Node, &deployed.home);
        let mut connection = Connection::open(node.address);
        // One call first, so that the node's own first-time work is not counted.
        let mut functions = deployed.of_kind(kind.name);
        connection.call(&functions.next().expect("one").request);
        let mut times = Vec::new();
        for function in functions.take(FIRST_CALLS) {
            if cold {
                make_cold(&function.artifact);
            }
            let begun = Instant::now();
            assert_eq!(connection.call(&function.request).status, 200);
            times.push(begun.elapsed());
        }
        let count = times.len();
        let [median, p99, longest] = percentiles(times);
        println!(
            "{:<14} {:<22} median {median:>6.2} ms, p99 {p99:>6.2} ms, longest {longest:>6.2} ms of {count}",
            kind.name,
            page_cache(cold),
        );
    }
}

/// Describes the memory, mappings and descriptors of a node's process.
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

/// A pseudo-random sequence, the same in each run.
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

/// The cumulative distribution of calls over `count` ranks.
fn zipf(count: usize) -> Vec<f64> {
    let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)).collect();
    let all: f64 = weights.iter().sum();
    let sums = weights.iter().scan(0.0, |sum, weight| {
        *sum += weight / all;
        Some(*sum)
    });
    sums.collect()
}

/// Calls functions at random on one connection until told to stop. Returns the times of the calls.
fn call_at_random(
    deployed: &Deployed,
    node: &Server,
    ends: &[f64],
    seed: u64,
    stop: &AtomicBool,
) -> Vec<Duration> {
    let mut numbers = Numbers(seed);
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
}

/// Measures calls to all functions, a few of which are called often, with caches of several sizes.
fn skewed_calls(deployed: &Deployed) {
    let ends = zipf(deployed.functions.len());
    println!(
        "\ncalls to {} functions, the one at rank r in proportion to 1/r; one core, {CONNECTIONS} connections, {} s",
        deployed.functions.len(),
        RUN.as_secs()
    );
    for cache_mb in ["16", "64", "256", "1024"] {
        let node = Server::start_with(Role::Node, &deployed.home, &[("ORAMA_MODULE_CACHE_MB", cache_mb)]);
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        let times: Vec<Duration> = std::thread::scope(|scope| {
            let (ends, stop, node) = (&ends, &stop, &node);
            let seeds = (0..CONNECTIONS as u64).map(|client| 0x9e37_79b9_7f4a_7c15 ^ client);
            let clients: Vec<_> = seeds
                .map(|seed| scope.spawn(move || call_at_random(deployed, node, ends, seed, stop)))
                .collect();
            std::thread::sleep(RUN);
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
        });
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        let [median, p99, longest] = percentiles(times);
        println!(
            "{cache_mb:>5} MB of code   {rate:>7.0} calls/s, median {median:.2} ms, p99 {p99:.2} ms, longest {longest:.1} ms; \
             {} loads, {} evictions, {} loaded at the end",
            metric(&node, "orama_module_load_seconds_count"),
            metric(&node, "orama_module_evictions_total"),
            metric(&node, "orama_modules_loaded"),
        );
        println!("{:>16} {}", "", footprint(&node));
    }
}

/// What a node holds after it has served each of many functions of Go once: they share a module, and each has a snapshot of its
/// own.
fn warm_functions() {
    let Some((_, wasm)) = built(vec![("go-hello", guests::go("hello", &[]))]).pop() else { return };
    let home = tempfile::tempdir().expect("a folder");
    let node = Server::start_with(
        Role::Node,
        home.path(),
        &[("ORAMA_RATES_DEPLOYS_PER_NAMESPACE", "off"), ("ORAMA_RATES_DEPLOYS_PER_KEY", "off")],
    );
    let api_key = Server::api_key(home.path());
    let mut connection = Connection::open(node.address);
    let request = |index: usize| post(&format!("/v1/functions/w{index}/invoke"), &api_key, INPUT);
    for index in 0..WARM {
        let answer = connection.call(&deploy(&format!("w{index}"), &api_key, &wasm, "{}"));
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
    }
    println!("\n{WARM} functions of Go with one module");
    let mut kept = 0;
    for index in 0..WARM {
        let mut has_note = || {
            let answer = connection.call(&get(&format!("/v1/functions/w{index}"), &api_key));
            let text = String::from_utf8_lossy(answer.body).into_owned();
            text.contains("start_note").then(|| text.contains("starts from a snapshot"))
        };
        let found = (0..200).find_map(|_| {
            let found = has_note();
            if found.is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
            found
        });
        kept += usize::from(found == Some(true));
    }
    drop(connection);
    drop(node);
    let node = Server::start(Role::Node, home.path());
    let mut connection = Connection::open(node.address);
    assert_eq!(connection.call(&request(0)).status, 200);
    println!("{kept} with a snapshot; one served  {}", footprint(&node));
    for rounds in 1..=2 {
        for index in 0..WARM {
            assert_eq!(connection.call(&request(index)).status, 200);
        }
        println!("all served, {rounds} times          {}", footprint(&node));
    }
    println!("starts from a snapshot: {}", metric(&node, "orama_starts_total{start=\"snapshot\"}"));
}

fn main() {
    become_role();
    if is_dry_run() {
        return;
    }
    let count =
        std::env::var("ORAMA_DENSITY_FUNCTIONS").map_or(FUNCTIONS, |text| text.parse().expect("a number"));
    let only = std::env::var("ORAMA_DENSITY_ONLY").unwrap_or_default();
    let temporary = tempfile::tempdir().expect("a folder");
    let home =
        std::env::var_os("ORAMA_DENSITY_HOME").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|only| only == part);
    if wanted("warm") {
        warm_functions();
    }
    if only == "warm" {
        return;
    }
    let kinds = kinds();
    let deployed = deployed(&home, &kinds, count);
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
