//! The number of instructions that the host spends on one invocation, counted by valgrind's callgrind. Other load on the
//! machine does not change it, so it shows small drifts.
//!
//! Each case runs in a separate process under valgrind, once with few and once with many invocations; the difference is the
//! cost of the additional ones. The kernel's instructions are not counted. The program prints the counts beside those of
//! `instructions.json`, and fails when one is more than [`DRIFT`] above its record. `ORAMA_BENCH_RECORD=1` writes the file.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use orama_benches::client::{Connection, deploy, post};
use orama_benches::process::Server;
use orama_benches::{Node, function, is_dry_run};
use orama_runtime::EngineConfig;
use orama_server::config::IoDriver;
use orama_server::{Config, Overrides};
use orama_test_support::guests;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

/// In a process under valgrind: the case to run, and the number of invocations.
const CASE: &str = "ORAMA_BENCH_CASE";
const TIMES: &str = "ORAMA_BENCH_TIMES";
/// The home of the node that is asked.
const HOME: &str = "ORAMA_BENCH_HOME";
const RECORD: &str = "ORAMA_BENCH_RECORD";

/// Invocations of the two runs of a case.
const FEW: u64 = 200;
const MANY: u64 = 1200;

/// Calls that a guest makes of a host function.
const CALLS: u64 = 100;

/// How far above its record a count fails. Threads that meet by chance change a count by up to half a percent.
const DRIFT: f64 = 0.02;

/// valgrind holds at most 64 GiB of a program's address space, and each slot reserves 4.
const SLOTS: u32 = 2;

const INPUT: &[u8] =
    br#"{"name":"World","path":"/api/v1/hello","headers":{"host":"example.com","accept":"*/*"}}"#;

/// A count, and how it is made.
struct Line {
    name: &'static str,
    case: &'static str,
    /// A source file whose code only the counted thread runs; `None` counts the first thread.
    thread: Option<&'static str>,
    /// The case without the counted operation, whose instructions are subtracted, and how often one run does the operation.
    beside: Option<(&'static str, u64)>,
}

const LINES: [Line; 6] = [
    Line { name: "run: a guest that does nothing", case: "run empty", thread: None, beside: None },
    Line { name: "run: echo", case: "run echo", thread: None, beside: None },
    Line {
        name: "host call: nothing to answer",
        case: "call wallet",
        thread: None,
        beside: Some(("call nothing", CALLS)),
    },
    Line {
        name: "host call: get_env",
        case: "call env",
        thread: None,
        beside: Some(("call nothing", CALLS)),
    },
    Line {
        name: "request: echo, on its core",
        case: "request echo",
        thread: Some("server/src/worker/invoke.rs"),
        beside: None,
    },
    Line {
        name: "request: echo, its record",
        case: "request echo",
        thread: Some("platform/src/records/writer.rs"),
        beside: None,
    },
];

/// A guest that makes [`CALLS`] calls; with an empty `call` its loop does nothing.
fn caller(imports: &str, call: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module {imports} (memory (export "memory") 2) (data (i32.const 0) "key")
            (func (export "orama_alloc") (param i32) (result i32) (i32.const 65536))
            (func (export "_start") (local $n i32)
                (loop $again {call}
                    (br_if $again (i32.lt_u
                        (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {CALLS}))))))"#
    ))
    .unwrap()
}

/// Runs a guest on this thread, without HTTP.
fn run(wasm: &[u8], times: u64) {
    let dir = tempfile::tempdir().unwrap();
    let node =
        Node::start_with(dir.path(), &EngineConfig { instance_slots: SLOTS, ..EngineConfig::default() });
    let mut function = function();
    Arc::make_mut(&mut function).env = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
    let module = node.compiler.compile(wasm).unwrap();
    let input = Bytes::from_static(INPUT);
    for _ in 0..times {
        assert_eq!(node.run(&module, &function, &input).result, Ok(()));
    }
}

/// A node with one core in this process.
fn node(home: &Path) -> orama_server::Node {
    let mut config = Config::load(&Overrides {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        home: Some(home.to_owned()),
        workers: Some(NonZeroUsize::MIN),
        ..Overrides::default()
    })
    .unwrap();
    config.instance_slots = SLOTS;
    // valgrind waits in io_uring without letting other threads run.
    config.io_driver = IoDriver::Epoll;
    // The same code with and without valgrind, which has another processor.
    config.cpu_level = "baseline".parse().unwrap();
    orama_server::Node::start(config).unwrap()
}

/// Deploys a function, without valgrind: a node cannot start its compiling process from there.
fn prepare(home: &Path, name: &str) {
    let node = node(home);
    let deploy = deploy(name, &Server::api_key(home), &guests::wat(name), "{}");
    assert_eq!(Connection::open(node.local_addr()).call(&deploy).status, 201);
}

/// Sends requests, one after the other, to a node on a home where the function is deployed.
fn request(home: &Path, name: &str, times: u64) {
    let node = node(home);
    let api_key = Server::api_key(home);
    let mut connection = Connection::open(node.local_addr());
    let request = post(&format!("/v1/functions/{name}/invoke"), &api_key, INPUT);
    for _ in 0..times {
        assert_eq!(connection.call(&request).status, 200);
    }
}

fn run_case(case: &str, times: u64) {
    match case {
        "run empty" => run(&guests::wat("empty"), times),
        "run echo" => run(&guests::wat("echo"), times),
        "call nothing" => run(&caller("", ""), times),
        "call wallet" => run(
            &caller(r#"(import "env" "get_caller_wallet" (func $call (result i64)))"#, "(drop (call $call))"),
            times,
        ),
        "call env" => run(
            &caller(
                r#"(import "env" "get_env" (func $call (param i32 i32) (result i64)))"#,
                "(drop (call $call (i32.const 0) (i32.const 3)))",
            ),
            times,
        ),
        "request echo" => request(Path::new(&std::env::var(HOME).unwrap()), "echo", times),
        other => panic!("there is no case {other:?}"),
    }
}

/// Callgrind's output for one thread, and the number of instructions that it ran.
type Thread = (String, u64);

/// Runs a case under valgrind and reads its threads, the first one first.
fn threads_of(case: &str, times: u64) -> Vec<Thread> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let home = tempfile::tempdir().unwrap();
    if case.starts_with("request") {
        prepare(home.path(), "echo");
    }
    let status = Command::new("valgrind")
        .args(["-q", "--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .env(CASE, case)
        .env(HOME, home.path())
        .env(TIMES, times.to_string())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{case}, {times} times, under valgrind: {status}");
    let mut files: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The first thread's name ends with -01.
    files.sort();
    let read = |file| {
        let text = std::fs::read_to_string(file).unwrap();
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()?;
        Some((text, total))
    };
    files.iter().filter_map(read).collect()
}

fn count(threads: &[Thread], only: Option<&str>) -> u64 {
    match only {
        None => threads.first().map_or(0, |thread| thread.1),
        // The first thread started the others, so its file names every source file.
        Some(file) => {
            threads.iter().skip(1).filter(|thread| thread.0.contains(file)).map(|thread| thread.1).sum()
        }
    }
}

fn measure() -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    let mut of_case = |case: &'static str, thread| {
        let (few, many) = seen.entry(case).or_insert_with(|| (threads_of(case, FEW), threads_of(case, MANY)));
        count(many, thread).saturating_sub(count(few, thread)) / (MANY - FEW)
    };
    let mut counts = BTreeMap::new();
    for line in &LINES {
        let all = of_case(line.case, line.thread);
        let one = match line.beside {
            Some((beside, by)) => all.saturating_sub(of_case(beside, line.thread)) / by,
            None => all,
        };
        assert!(one > 0, "{}: nothing was counted", line.name);
        counts.insert(line.name.to_owned(), one);
    }
    counts
}

fn main() -> ExitCode {
    if let Some(code) = orama_runtime::child::dispatch(orama_server::CHILDREN) {
        return code;
    }
    if let Ok(case) = std::env::var(CASE) {
        run_case(&case, std::env::var(TIMES).unwrap().parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if is_dry_run() {
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("\ninstructions of an invocation: left out, as valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    println!("\ninstructions of an invocation: the host's and the guest's, without the kernel's");
    let counts = measure();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    if std::env::var_os(RECORD).is_some() {
        std::fs::write(&file, serde_json::to_string_pretty(&counts).unwrap() + "\n").unwrap();
    }
    let recorded: BTreeMap<String, u64> =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let mut drifted = false;
    for (name, count) in &counts {
        let Some(before) = recorded.get(name) else {
            println!("{name:<34} {count:>8}   not recorded");
            continue;
        };
        let drift = *count as f64 / *before as f64 - 1.0;
        drifted |= drift > DRIFT;
        println!("{name:<34} {count:>8}   recorded {before:>8}   drift {:>+6.1} %", drift * 100.0);
    }
    if drifted {
        println!(
            "a count is more than {:.0} % above its record; set {RECORD}=1 to record the new counts",
            DRIFT * 100.0
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
