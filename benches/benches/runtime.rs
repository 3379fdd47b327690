//! The cost of running a function without HTTP: instances, artifacts, compilation and restarts.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use orama_benches::{Node, built, function, group};
use orama_runtime::function::{FunctionVersion, WasmHash};
use orama_test_support::guests;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A guest that ends with `proc_exit`, as every Go program does.
const EXITS: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (memory (export "memory") 1)
    (func $exit (call $proc_exit (i32.const 0)))
    (func $main (call $exit))
    (func $rt0 (call $main))
    (func (export "_start") (call $rt0)))"#;

/// The same guest, which returns instead.
const RETURNS: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")))"#;

fn hellos() -> Vec<(&'static str, Vec<u8>)> {
    built(vec![("TinyGo hello", guests::tinygo("hello", &[])), ("Go hello", guests::go("hello", &[]))])
}

fn run(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let version = function();
    let mut group = group(
        criterion,
        "run",
        "one invocation in fresh memory, from input to output: the cost of a request without HTTP",
    );
    let mut cases = vec![
        ("empty", guests::wat("empty")),
        ("return", wat::parse_str(RETURNS).unwrap()),
        ("exit", wat::parse_str(EXITS).unwrap()),
        ("echo", guests::wat("echo")),
    ];
    cases.extend(hellos());
    let input = bytes::Bytes::from_static(br#"{"name":"Orama"}"#);
    for (name, wasm) in cases {
        let module = node.compiler.compile(&wasm).unwrap();
        assert_eq!(node.run(&module, &version, &input).result, Ok(()), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| node.run(&module, &version, &input)));
    }
    let of_go = vec![
        ("Go hello from a snapshot", guests::go("hello", &[])),
        ("Go hello with the SDK from a snapshot", guests::go("greet", &[])),
    ];
    for (name, wasm) in built(of_go) {
        let module = node.compiler.compile(&wasm).unwrap();
        let version =
            Arc::new(FunctionVersion { wasm_hash: WasmHash::of(&wasm), ..version.as_ref().clone() });
        let snapshot = node.snapshot(&module, &version);
        let resume = || node.run_from(&module, Some(&snapshot), &version, &input);
        assert_eq!(resume().result, Ok(()), "{name}");
        group.bench_function(name, |bencher| bencher.iter(resume));
    }
    group.finish();
}

/// Removes the store's files from the page cache, as a reboot does.
fn forget_pages(dir: &Path) {
    for entry in std::fs::read_dir(dir.join("artifacts")).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

fn load(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let mut group = group(
        criterion,
        "load",
        "verify and map compiled code: the wait of a function's first invocation after the node's start (cold: after the machine's)",
    );
    for (name, wasm) in hellos() {
        let hash = WasmHash::of(&wasm);
        drop(node.compiler.compile(&wasm).unwrap());
        group.bench_function(format!("{name} warm"), |bencher| {
            bencher.iter_with_large_drop(|| node.compiler.load(&hash).unwrap().unwrap());
        });
        group.sample_size(20).bench_function(format!("{name} cold"), |bencher| {
            bencher.iter_batched(
                || forget_pages(dir.path()),
                |()| node.compiler.load(&hash).unwrap().unwrap(),
                BatchSize::PerIteration,
            );
        });
        node.compiler.forget(&hash).unwrap();
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let mut group = group(
        criterion,
        "compile",
        "check a module, compile it on all cores and store it: the wait of a module's first deploy",
    );
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for (name, wasm) in hellos() {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                node.engine.validate(&wasm, 64).unwrap();
                node.compiler.compile(&wasm).unwrap()
            });
        });
    }
    group.finish();
}

fn restart(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let version = function();
    let input = bytes::Bytes::from_static(br#"{"name":"Orama"}"#);
    let mut group = group(
        criterion,
        "restart",
        "a new engine, an artifact from disk and one run: a restarted node's part of its first answer",
    );
    group.sample_size(20);
    for (name, wasm) in hellos() {
        let hash = WasmHash::of(&wasm);
        drop(Node::start(dir.path()).compiler.compile(&wasm).unwrap());
        group.bench_function(name, |bencher| {
            bencher.iter_with_large_drop(|| {
                let node = Node::start(dir.path());
                let module = node.compiler.load(&hash).unwrap().unwrap();
                assert_eq!(node.run(&module, &version, &input).result, Ok(()));
                (node, module)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, run, load, compile, restart);
criterion_main!(benches);
