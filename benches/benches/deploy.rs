//! The cost of a deploy: the time from its request to the function's first answer, the extra memory that a start is given, and
//! the effect of a compilation on requests that are served meanwhile.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_benches::client::{Connection, post};
use orama_benches::process::{Role, Server, become_role};
use orama_benches::{Node, built, function, is_dry_run, with_note};
use orama_test_support::guests;
use orama_test_support::tools;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;
/// How long requests are counted without a compilation. Beside one they are counted for at most four times as long.
const RUN: Duration = Duration::from_secs(2);
const NO_CODE_CACHE: (&str, &str) = ("ORAMA_CODE_CACHE_MB", "0");
const TWO_CORES: (&str, &str) = ("ORAMA_BENCH_WORKERS", "2");
const PAGES: [u32; 9] = [0, 1, 2, 3, 4, 8, 16, 32, 64];

/// Builds the tests' hello with a changed text, as a user who edits it does.
fn edited(wasm_of: &str) -> Option<Vec<u8>> {
    let go = tools::require_or_report(wasm_of).ok()?;
    let source = guests::dir().join("hello");
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(source.join("function.go")).unwrap();
    let changed =
        text.replace("\"Hello, \" + request.Name", "\"Good morning, \" + request.Name + request.Name");
    assert_ne!(text, changed);
    std::fs::write(dir.path().join("function.go"), changed).unwrap();
    std::fs::copy(source.join("go.mod"), dir.path().join("go.mod")).unwrap();
    let mut command = Command::new(go);
    command.current_dir(dir.path()).env("GOWORK", "off").env("GOFLAGS", "");
    match wasm_of {
        "go" => command.env("GOOS", "wasip1").env("GOARCH", "wasm").args(["build", "-trimpath"]),
        _ => command.args(["build", "-target", "wasi"]),
    };
    assert!(command.args(["-o", "edited.wasm", "."]).status().unwrap().success());
    Some(std::fs::read(dir.path().join("edited.wasm")).unwrap())
}

/// Wall-clock time and the node's CPU time, from the deploy's request to the first answer.
fn to_first_answer(node: &Server, home: &Path, name: &str, wasm: &[u8]) -> (Duration, Duration) {
    let api_key = Server::api_key(home);
    let (begun, cpu) = (Instant::now(), node.cpu());
    node.deploy(&api_key, name, wasm, "{}");
    let request = post(&format!("/v1/functions/{name}/invoke"), &api_key, b"{}");
    assert_eq!(Connection::open(node.address).call(&request).status, 200);
    (begun.elapsed(), node.cpu() - cpu)
}

fn deploys() {
    println!(
        "\ndeploy: from its request to the function's first answer, two cores, median of {ROUNDS} new nodes"
    );
    for tool in ["go", "tinygo"] {
        let guest = if tool == "go" { guests::go("hello", &[]) } else { guests::tinygo("hello", &[]) };
        let Some((wasm, edited)) = guest.ok().zip(edited(tool)) else { continue };
        let wasm = std::fs::read(wasm).unwrap();
        let steps: [(&str, Vec<u8>); 4] = [
            ("a new module", wasm.clone()),
            ("the same one edited", edited),
            ("another one with the same functions", with_note(&wasm, 1)),
            ("the first one again", wasm),
        ];
        for (env, cache) in [(vec![TWO_CORES], "with"), (vec![TWO_CORES, NO_CODE_CACHE], "without")] {
            let mut times = vec![Vec::new(); steps.len()];
            for _ in 0..ROUNDS {
                let home = tempfile::tempdir().unwrap();
                let node = Server::start_with(Role::Node, home.path(), &env);
                for ((index, (_, wasm)), times) in steps.iter().enumerate().zip(&mut times) {
                    times.push(to_first_answer(&node, home.path(), &format!("f{index}"), wasm));
                }
            }
            for ((what, _), times) in steps.iter().zip(&mut times) {
                times.sort();
                let (time, cpu) = times[ROUNDS / 2];
                println!(
                    "{tool:<7} {what:<34} {cache:>7} a code cache {:>6.0} ms   {:>6.0} ms of CPU",
                    time.as_secs_f64() * 1e3,
                    cpu.as_secs_f64() * 1e3,
                );
            }
        }
    }
}

/// Sends requests on one connection, one at a time, until told to stop. Returns their sorted times and requests per second.
fn answers(node: &Server, request: &[u8], stop: &AtomicBool) -> (Vec<Duration>, f64) {
    let mut connection = Connection::open(node.address);
    let (mut times, begun) = (Vec::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) && begun.elapsed() < 4 * RUN {
        let sent = Instant::now();
        assert_eq!(connection.call(request).status, 200);
        times.push(sent.elapsed());
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort();
    (times, rate)
}

fn beside_a_compilation() {
    let Ok(go) = guests::go("hello", &[]) else { return };
    println!("\necho, one core, one connection: idle, and while one thread compiles a Go module");
    let home = tempfile::tempdir().unwrap();
    let node = Server::start_with(Role::Node, home.path(), &[NO_CODE_CACHE]);
    let api_key = Server::api_key(home.path());
    node.deploy(&api_key, "echo", &guests::wat("echo"), "{}");
    let request = post("/v1/functions/echo/invoke", &api_key, b"{}");
    let go = std::fs::read(go).unwrap();
    for round in 0..2 * ROUNDS as u32 {
        let stop = AtomicBool::new(false);
        let compiles = round % 2 == 1;
        let begun = Instant::now();
        let (mut times, mut rate) = (Vec::new(), 0.0);
        std::thread::scope(|scope| {
            let served = scope.spawn(|| answers(&node, &request, &stop));
            if compiles {
                node.deploy(&api_key, "go", &with_note(&go, round), "{}");
            } else {
                std::thread::sleep(RUN);
            }
            stop.store(true, Ordering::Relaxed);
            (times, rate) = served.join().unwrap();
        });
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
        println!(
            "{:<10} {rate:>7.0} requests/s   p50 {:>6.0} us   p99 {:>6.0} us   p99.9 {:>6.0} us   in {:.1} s",
            if compiles { "compiling" } else { "idle" },
            at(0.5),
            at(0.99),
            at(0.999),
            begun.elapsed().as_secs_f64(),
        );
    }
}

/// Prints the shortest of many starts and runs with each number of extra pages, in turns.
fn pages() {
    println!(
        "\nextra pages: a start and a run with so many pages of memory more at its start, us, and the node's choice"
    );
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    println!("{:<16}{}  chosen", "", PAGES.map(|pages| format!("{pages:>8}")).concat());
    for (name, wasm) in built(vec![
        ("tinygo hello", guests::tinygo("hello", &[])),
        ("tinygo misc", guests::tinygo("misc", &[])),
        ("tinygo sdk", guests::tinygo("sdk", &[])),
        ("go hello", guests::go("hello", &[])),
        ("go misc", guests::go("misc", &[])),
        ("go sdk", guests::go("sdk", &[])),
    ]) {
        let mut module = node.compiler.compile_as_declared(&wasm).unwrap();
        let chosen = node.engine.choose_extra_pages(&mut module);
        let (function, input) = (function(), bytes::Bytes::from_static(b"{}"));
        let mut best = [Duration::MAX; PAGES.len()];
        for _ in 0..50 {
            for (pages, best) in PAGES.iter().zip(&mut best) {
                module.set_extra_pages(*pages);
                let begun = Instant::now();
                drop(node.run(&module, &function, &input));
                *best = begun.elapsed().min(*best);
            }
        }
        let line = best.map(|best| format!("{:>8.1}", best.as_secs_f64() * 1e6)).concat();
        println!("{name:<16}{line}  {chosen}");
    }
}

fn main() {
    become_role();
    if !is_dry_run() {
        pages();
        deploys();
        beside_a_compilation();
    }
}
