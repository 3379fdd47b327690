//! No guest keeps its thread for long: neither by what it executes, nor by what it leaves behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Node, Turns, function, invocation};
use orama_runtime::invocation::Failure;
use orama_runtime::names::Namespace;
use orama_runtime::services::{Host, Scheduler};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Counts how often a guest asked to wait.
struct Counting(std::sync::atomic::AtomicU32);

impl Scheduler for Counting {
    fn yield_now(&self, namespace: &Namespace) -> orama_runtime::services::Wait {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Turns.yield_now(namespace)
    }

    fn sleep(&self, duration: Duration) -> orama_runtime::services::Wait {
        Turns.sleep(duration)
    }
}

#[test]
fn a_spinning_guest_yields_about_each_millisecond() {
    let node = Node::new(2);
    let spin = node.guest("spin");
    let scheduler = Arc::new(Counting(0.into()));
    let host = Arc::new(Host::without_services(scheduler.clone()));
    let begin = Instant::now();
    let version = Arc::new(function(64, 1));
    let outcome = common::block_on(node.engine.run(&spin, &version, invocation("id", b""), &host));
    assert_eq!(outcome.outcome.result, Err(Failure::Timeout(1)));
    let yields = scheduler.0.load(std::sync::atomic::Ordering::Relaxed);
    let most = begin.elapsed().as_millis() as u32 + 1;
    assert!((50..=most).contains(&yields), "{yields} yields");
}

#[test]
fn a_guest_that_does_nothing_but_bulk_operations_yields_too() {
    let node = Node::new(2);
    let straight = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000))".repeat(4_000);
    let tables = "(table.copy (i32.const 0) (i32.const 1) (i32.const 200000))".repeat(80_000);
    for code in [
        &straight,
        &tables,
        "(loop $l (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x3000000)) (br $l))",
    ] {
        let module = node.wat(&format!(
            r#"(module (memory (export "memory") 1024) (table 200001 funcref) (func (export "_start") {code}))"#
        ));
        let scheduler = Arc::new(Counting(0.into()));
        let host = Arc::new(Host::without_services(scheduler.clone()));
        let version = Arc::new(function(64, 1));
        let outcome = common::block_on(node.engine.run(&module, &version, invocation("id", b""), &host));
        assert_eq!(outcome.outcome.result, Err(Failure::Timeout(1)));
        // On an idle machine there are 1,000; without checkpoints the first two do not yield at all, and the last one 60 times.
        let yields = scheduler.0.load(std::sync::atomic::Ordering::Relaxed);
        assert!(yields >= 100, "{yields} yields");
    }
}

/// Counts the memory that guests have, and remembers which thread gave it back, by name.
#[derive(Default)]
struct Memory {
    bytes: std::sync::atomic::AtomicUsize,
    given_back: std::sync::Mutex<Vec<Option<String>>>,
}

impl orama_runtime::services::GuestMemory for Memory {
    fn take(&self, _namespace: &Namespace, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        true
    }

    fn give_back(&self, _namespace: &Namespace, bytes: usize) {
        self.bytes.fetch_sub(bytes, std::sync::atomic::Ordering::Relaxed);
        self.given_back.lock().unwrap().push(std::thread::current().name().map(str::to_owned));
    }
}

#[test]
fn large_guests_are_dropped_elsewhere_and_their_slot_is_waited_for() {
    // One slot, so that each guest needs the one of the guest before.
    let node = Node::new(1);
    let touches = |pages: u32, then: &str| {
        node.wat(&format!(
            r#"(module (memory (export "memory") {pages}) (func (export "_start")
                (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536))) {then}))"#
        ))
    };
    let memory = Arc::new(Memory::default());
    let host = Arc::new(Host { memory: memory.clone(), ..Host::without_services(Arc::new(Turns)) });
    let version = Arc::new(function(64, 20));
    let (large, small) = (touches(1000, ""), touches(10, ""));
    for module in [&large, &large, &small, &large] {
        let ended = common::block_on(node.engine.run(module, &version, invocation("id", b""), &host));
        assert_eq!(ended.outcome.result, Ok(()));
    }
    while node.engine.instances_alive() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // One that is given up while it runs.
    let spins = touches(1000, "(loop $again (br $again))");
    let mut running = Box::pin(node.engine.run(&spins, &version, invocation("id", b""), &host));
    let mut context = Context::from_waker(Waker::noop());
    while node.engine.instances_alive() == 0 {
        assert!(running.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(
        memory.bytes.load(std::sync::atomic::Ordering::Relaxed),
        1000 << 16,
        "what its own memory takes"
    );
    drop(running);
    let deadline = Instant::now() + Duration::from_secs(20);
    while memory.bytes.load(std::sync::atomic::Ordering::Relaxed) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let given_back = memory.given_back.lock().unwrap();
    // Further ones are of attempts that found no slot.
    let elsewhere = given_back.iter().filter(|name| name.as_deref() == Some("reclaim")).count();
    assert_eq!(elsewhere, 4, "{given_back:?}");
    assert_eq!(memory.bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
}
