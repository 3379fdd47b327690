//! More functions than may be loaded at once: all answer, whichever of them was called last, and the metrics tell.

use crate::harness::{Node, Options, eventually};
use crate::http::Connection;
use crate::speakers::{said, slow_speaker, speaker};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::time::Duration;

const FUNCTIONS: usize = 200;
/// Half of them are for modules, which have two each.
const OPEN_FILES: u64 = 160;
const LOADED_MAX: f64 = OPEN_FILES as f64 / 4.0;

fn name(n: usize) -> String {
    format!("function-{n}")
}

/// Calls functions one after the other over one connection; each must say its own text.
#[track_caller]
fn call_all(node: &Node, numbers: impl Iterator<Item = usize>) {
    let mut connection = node.connect();
    for n in numbers {
        connection.write(node.invoke_bytes(&name(n), "?"));
        assert_eq!(said(connection.answer()), format!("f{n} ?"));
    }
}

#[test]
fn functions_whose_code_was_thrown_out_answer_as_before() {
    let node = Node::start(Options { open_files: Some(OPEN_FILES), ..Options::default() });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let node = &node;
            scope.spawn(move || {
                for n in (thread..FUNCTIONS).step_by(4) {
                    node.deploy(&name(n), &speaker(&format!("f{n} ")), &[]);
                }
            });
        }
    });
    node.deploy("slow", &slow_speaker("slow ", Duration::from_secs(2)), &[]);
    assert_eq!(node.metric("orama_descriptors_max"), OPEN_FILES as f64);
    assert_eq!(node.metric("orama_modules_loaded_max"), LOADED_MAX);
    // It runs while its code is thrown out, and again after that.
    let slow = || {
        let mut connection = node.connect();
        connection.write(node.invoke_bytes("slow", "?"));
        connection
    };
    let mut running: Connection = slow();
    eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
    let evicted = node.metric("orama_module_evictions_total");
    call_all(&node, 0..FUNCTIONS);
    call_all(&node, (0..FUNCTIONS).map(|n| n * 77 % FUNCTIONS));
    assert_eq!(said(running.answer()), "slow ?");
    assert_eq!(said(slow().answer()), "slow ?");
    assert_eq!(node.metric("orama_modules_loaded"), LOADED_MAX);
    let evictions = node.metric("orama_module_evictions_total") - evicted;
    assert!(evictions >= FUNCTIONS as f64, "only {evictions} were thrown out");
    assert!(node.metric("orama_module_load_seconds_count") >= evictions);
    let open = || node.metric("orama_descriptors_open");
    eventually("what was thrown out is let go of", || open() < OPEN_FILES as f64 - 20.0);
    assert_eq!(node.compilations(), FUNCTIONS as f64 + 1.0, "code is compiled once");
    assert_eq!(node.metric("orama_module_load_failures_total"), 0.0);

    node.restart();
    assert_eq!(node.metric("orama_modules_loaded"), 0.0);
    call_all(&node, (0..FUNCTIONS).rev());
    assert_eq!(node.compilations(), 0.0);
}

#[test]
fn a_node_without_a_free_descriptor_says_so_and_recovers() {
    let node = Node::start(Options::default());
    for n in 0..4 {
        node.deploy(&name(n), &speaker(&format!("f{n} ")), &[]);
    }
    node.restart();
    let mut connection = node.connect();
    // Without a body, as a refusal that leaves one unread closes the connection, and there will be no other.
    let mut call = |n: usize| {
        connection.write(node.invoke_bytes(&name(n), ""));
        connection.answer()
    };
    assert_eq!(said(call(0)), "f0 ");
    let limit_files = |to: Rlimit| {
        let pid = Pid::from_raw(node.pid().cast_signed());
        prlimit(pid, Resource::Nofile, to).unwrap()
    };
    // Fewer than are open.
    let before = limit_files(Rlimit { current: Some(8), maximum: getrlimit(Resource::Nofile).maximum });
    for _ in 0..3 {
        let answer = call(1);
        assert!(answer.header("retry-after").is_some());
        answer.refusal(503, "OVERLOADED");
    }
    limit_files(before);
    for n in 0..4 {
        assert_eq!(said(call(n)), format!("f{n} "));
    }
    assert_eq!(node.metric("orama_module_load_failures_total"), 3.0);
    assert_eq!(node.compilations(), 0.0, "the code was not lost");
}
