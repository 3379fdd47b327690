//! Many guests on one thread: they take turns, end cleanly wherever they are dropped, and find the engine's limits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Node, Turns, function, invocation, resident_bytes, text, thread_cpu_ns};
use orama_runtime::LoadedModule;
use orama_runtime::function::FunctionVersion;
use orama_runtime::invocation::{Failure, Outcome};
use orama_runtime::{Engine, EngineConfig};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Far below what an unsliced host call takes, and above what the ticks in which the kernel counts, of 4 ms, add up to.
const LONGEST_TURN: Duration = Duration::from_millis(40);

type Guest<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

fn guest<'a>(
    node: &'a Node,
    module: &'a Arc<LoadedModule>,
    version: FunctionVersion,
    input: &[u8],
) -> Guest<'a> {
    let invocation = invocation("request-1", input);
    Box::pin(async move {
        node.engine.run(module, &Arc::new(version), invocation, &common::host(Turns)).await.outcome
    })
}

fn poll(guest: &mut Guest<'_>) -> Poll<Outcome> {
    guest.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Longest time on the processor that one guest kept the thread, and the outcomes in the order they came.
struct Ran {
    outcomes: Vec<(usize, Outcome)>,
    turns: Vec<u32>,
    longest_turn: Duration,
}

/// Polls all of them in turns until all ended, as an event loop does.
fn run_all(mut guests: Vec<Option<Guest<'_>>>) -> Ran {
    let mut ran = Ran { outcomes: Vec::new(), turns: vec![0; guests.len()], longest_turn: Duration::ZERO };
    while guests.iter().any(Option::is_some) {
        for (index, slot) in guests.iter_mut().enumerate() {
            let Some(guest) = slot else { continue };
            let begin = thread_cpu_ns();
            let polled = poll(guest);
            ran.longest_turn = ran.longest_turn.max(Duration::from_nanos(thread_cpu_ns() - begin));
            ran.turns[index] += 1;
            if let Poll::Ready(outcome) = polled {
                ran.outcomes.push((index, outcome));
                *slot = None;
            }
        }
    }
    ran
}

#[test]
fn guests_on_one_thread_take_turns_and_a_spinning_one_delays_nobody() {
    let node = Node::new(64);
    let (spin, echo, exit) = (node.guest("spin"), node.guest("echo_byte_by_byte"), node.guest("exit_code"));
    let input = vec![b'x'; 40_000];
    let guests: Vec<_> = (0..64)
        .map(|index| match index {
            0 => guest(&node, &spin, function(64, 1), b""),
            1..32 => guest(&node, &echo, function(64, 60), &input),
            _ => guest(&node, &exit, function(64, 60), index.to_string().as_bytes()),
        })
        .map(Some)
        .collect();
    let ran = run_all(guests);
    for (index, outcome) in &ran.outcomes {
        match index {
            0 => assert_eq!(outcome.result, Err(Failure::Timeout(1))),
            1..32 => {
                assert!(outcome.result == Ok(()) && outcome.output == input, "{index}: {:?}", outcome.result)
            }
            _ => assert_eq!(outcome.result, Err(Failure::Exit(*index as i32))),
        }
    }
    assert_eq!(ran.outcomes.len(), 64);
    assert!(ran.turns[0] > 5, "the spinning guest was asked {} times", ran.turns[0]);
    assert!(ran.longest_turn < LONGEST_TURN, "one kept the thread for {:?}", ran.longest_turn);
    assert_eq!(node.engine.instances_alive(), 0);
}

/// One that works inside a single host call or instruction, beside one that counts its own turns.
#[test]
fn long_host_calls_let_others_in() {
    let node = Node::new(4);
    let body = |memory_pages: u32, text: &str| {
        node.load(
            &wat::parse_str(format!(
                r#"(module
                (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
                (import "env" "log_info" (func $log_info (param i32 i32)))
                (import "env" "get_env" (func $get_env (param i32 i32) (result i64)))
                (memory (export "memory") {memory_pages})
                (func $iovecs (param $pointer i32) (param $length i32) (param $count i32)
                    (local $at i32)
                    (loop $next
                        (i32.store (i32.add (i32.const 1024) (local.get $at)) (local.get $pointer))
                        (i32.store (i32.add (i32.const 1028) (local.get $at)) (local.get $length))
                        (local.set $at (i32.add (local.get $at) (i32.const 8)))
                        (br_if $next (i32.lt_u (local.get $at) (i32.mul (local.get $count) (i32.const 8))))))
                (func (export "_start") {text}))"#
            ))
            .unwrap(),
            256,
        )
        .unwrap()
    };
    let cases = [
        (
            "stderr",
            body(
                4000,
                "(call $iovecs (i32.const 65536) (i32.const 0xf000000) (i32.const 1024)) (drop (call $fd_write (i32.const 2) (i32.const 1024) (i32.const 1024) (i32.const 8)))",
            ),
        ),
        (
            "stderr lines",
            body(
                4000,
                "(memory.fill (i32.const 65536) (i32.const 10) (i32.const 0x100000)) (call $iovecs (i32.const 65536) (i32.const 0x100000) (i32.const 1024)) (drop (call $fd_write (i32.const 2) (i32.const 1024) (i32.const 1024) (i32.const 8)))",
            ),
        ),
        (
            "stdout",
            body(
                200,
                "(call $iovecs (i32.const 65536) (i32.const 0x100000) (i32.const 1024)) (drop (call $fd_write (i32.const 1) (i32.const 1024) (i32.const 1024) (i32.const 8)))",
            ),
        ),
        ("random", body(4000, "(drop (call $random_get (i32.const 65536) (i32.const 0xf000000)))")),
        ("log", body(4000, "(call $log_info (i32.const 0) (i32.const 0xfa00000))")),
        ("name", body(4000, "(drop (call $get_env (i32.const 0) (i32.const 0xfa00000)))")),
    ];
    for (name, module) in &cases {
        let ran = run_all(vec![Some(guest(&node, module, function(256, 1), b""))]);
        let result = &ran.outcomes[0].1.result;
        eprintln!("{name}: longest turn {:?} of {} turns, {result:?}", ran.longest_turn, ran.turns[0]);
        assert!(ran.longest_turn < LONGEST_TURN, "{name} kept the thread for {:?}", ran.longest_turn);
    }
}

#[test]
fn dropping_guests_wherever_they_are_leaks_nothing() {
    let node = Node::new(8);
    let sleeps_in_allocator = node.wat(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "env" "get_request_id" (func $get_request_id (result i64)))
            (memory (export "memory") 1)
            (func (export "orama_alloc") (param i32) (result i32)
                (i32.store (i32.const 80) (i32.const 1))
                (i64.store (i32.const 88) (i64.const 3600000000000))
                (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)))
                (i32.const 1024))
            (func (export "_start") (drop (call $get_request_id))))"#,
    );
    let (sleep, spin) = (node.guest("sleep_hour"), node.guest("spin"));
    let drop_one = |index: u32| {
        let module = match index % 50 {
            0 => &spin,
            1..25 => &sleeps_in_allocator,
            _ => &sleep,
        };
        let mut guest = guest(&node, module, function(64, 300), b"some input");
        // Never polled, polled once, polled often.
        for _ in 0..index % 4 {
            assert!(poll(&mut guest).is_pending());
        }
    };
    (0..500).for_each(drop_one);
    let before = resident_bytes();
    (0..5000).for_each(drop_one);
    assert_eq!(node.engine.instances_alive(), 0);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more after 5,000 guests were dropped");
    assert_eq!(node.run(&node.guest("echo"), function(64, 20), b"still here").output, b"still here");
}

#[test]
fn a_full_engine_says_so_and_serves_again_when_there_is_room() {
    let node = Node::new(16);
    let (sleep, echo) = (node.guest("sleep_hour"), node.guest("echo"));
    let mut sleeping: Vec<_> = (0..16).map(|_| guest(&node, &sleep, function(64, 300), b"")).collect();
    for guest in &mut sleeping {
        assert!(poll(guest).is_pending());
    }
    assert_eq!(node.engine.instances_alive(), 16);
    for _ in 0..3 {
        let outcome = node.run(&echo, function(64, 20), b"x");
        assert_eq!(outcome.result, Err(Failure::Overloaded));
    }
    sleeping.pop();
    assert_eq!(node.run(&echo, function(64, 20), b"x").result, Ok(()));
}

/// A call into the guest's allocator takes a second stack; every guest may be within one at the same time.
#[test]
fn as_many_allocators_may_run_as_there_are_instances() {
    let node = Node::new(16);
    let module = node.wat(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "env" "get_request_id" (func $get_request_id (result i64)))
            (memory (export "memory") 1)
            (func (export "orama_alloc") (param i32) (result i32)
                (i32.store (i32.const 80) (i32.const 1))
                (i64.store (i32.const 88) (i64.const 50000000))
                (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)))
                (drop (call $get_request_id))
                (i32.const 1024))
            (func (export "_start")
                (drop (call $get_request_id))
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const 9))
                (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    );
    let ran = run_all((0..16).map(|_| Some(guest(&node, &module, function(64, 20), b""))).collect());
    for (_, outcome) in &ran.outcomes {
        assert_eq!((&outcome.result, text(outcome)), (&Ok(()), "request-1"));
        assert_eq!(
            common::log(outcome),
            [
                "error: get_request_id: the guest's allocator may not call this function, and nothing else may while it runs"
            ]
        );
    }
}

#[test]
fn fifty_modules_run_at_once_in_one_engine() {
    let node = Node::new(64);
    let modules: Vec<_> = (0..50)
        .map(|index| {
            node.wat(&format!(
                r#"(module
                    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
                    (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
                    (memory (export "memory") 1)
                    (data (i32.const 16) "module {index:02}")
                    (func (export "_start")
                        (i32.store (i32.const 0) (i32.const 16))
                        (i32.store (i32.const 4) (i32.const 9))
                        (drop (call $sched_yield))
                        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
            ))
        })
        .collect();
    let ran =
        run_all(modules.iter().map(|module| Some(guest(&node, module, function(64, 20), b""))).collect());
    assert_eq!(ran.outcomes.len(), 50);
    for (index, outcome) in &ran.outcomes {
        assert_eq!(text(outcome), format!("module {index:02}"));
    }
}

#[test]
fn threads_share_an_engine() {
    let node = Node::new(8);
    let echo = node.guest("echo");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (node, echo) = (&node, &echo);
            scope.spawn(move || {
                for round in 0..200 {
                    let input = format!("{thread} {round}");
                    assert_eq!(node.run(echo, function(64, 20), input.as_bytes()).output, input.as_bytes());
                }
            });
        }
    });
}

#[test]
fn little_address_space_means_fewer_slots_or_a_clear_refusal() {
    const LIMIT: &str = "ORAMA_TEST_ADDRESS_SPACE_GIB";
    if let Ok(gib) = std::env::var(LIMIT) {
        // This process is one of those started below.
        let bytes = gib.parse::<u64>().unwrap() << 30;
        let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
        match Engine::new(&EngineConfig::default()) {
            Ok(engine) => {
                println!("slots {}", engine.instance_slots());
                let dir = tempfile::tempdir().unwrap();
                let node = Node { compiler: common::compiler(&engine, dir.path()), engine };
                let echo = node.guest("echo");
                println!("echo {}", text(&node.run(&echo, function(64, 20), b"works")));
            }
            Err(error) => println!("refused {error}"),
        }
        return;
    }
    let said_with = |gib: &str| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "little_address_space_means_fewer_slots_or_a_clear_refusal", "--nocapture"])
            .env(LIMIT, gib)
            .output()
            .unwrap();
        assert!(output.status.success(), "{gib}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Each slot takes 4 GiB, and each try has a quarter of the slots of the one before.
    let little = said_with("100");
    assert!(little.contains("slots 16\n") && little.contains("echo works"), "{little}");
    let more = said_with("600");
    assert!(more.contains("slots 64\n") && more.contains("echo works"), "{more}");
    let refused = said_with("20");
    assert!(
        refused.contains("refused the engine could not be created with 16 instance slots: "),
        "{refused}"
    );
}
