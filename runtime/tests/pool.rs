//! Pools: how many guests are worth having, by the rate of requests and what a start takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{block_on, function, invocation, node};
use orama_runtime::function::{FunctionVersion, StartMode};
use orama_runtime::invocation::Failure;
use orama_runtime::limits::{PARKED_DEPTH_MAX, PARKED_IDLE, PARKING_PAUSE_MAX};
use orama_runtime::pool::{Pool, Totals};
use orama_runtime::{LoadedModule, NotParked};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn version(start: StartMode) -> FunctionVersion {
    FunctionVersion { start, ..function(64, 20) }
}

fn pool(start: StartMode, module: &Arc<LoadedModule>, now: Instant) -> (Pool, Rc<Totals>) {
    let totals = Rc::<Totals>::default();
    (
        Pool::new(Arc::new(version(start)), Arc::clone(module), [Rc::clone(&totals), Rc::default()], now),
        totals,
    )
}

fn add(pool: &mut Pool, module: &Arc<LoadedModule>, now: Instant) {
    pool.add(node().park(module, version(StartMode::Auto)).unwrap(), now);
}

/// Asks at this rate for a while; the time after it.
fn ask(pool: &mut Pool, from: Instant, every: Duration, times: u32) -> Instant {
    for number in 1..=times {
        drop(pool.take(from + every * number));
    }
    from + every * times
}

/// A guest whose start takes some milliseconds.
fn slow() -> Arc<LoadedModule> {
    node().wat(
        "(module (import \"wasi_snapshot_preview1\" \"fd_read\" (func $read (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"_start\") (local $n i32)
             (loop $spin
               (local.set $n (i32.add (local.get $n) (i32.const 1)))
               (br_if $spin (i32.lt_u (local.get $n) (i32.const 3000000))))
             (drop (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))))",
    )
}

#[test]
fn the_depth_follows_the_rate() {
    let (slow, begin) = (slow(), Instant::now());
    let (mut pool, _) = pool(StartMode::Auto, &slow, begin);
    let now = ask(&mut pool, begin, Duration::from_secs(1), 20);
    assert_eq!(pool.target_len(now), 1);
    let now = ask(&mut pool, now, Duration::from_millis(2), 60);
    let busy = pool.target_len(now);
    assert!((2..PARKED_DEPTH_MAX).contains(&busy), "{busy}");
    let now = ask(&mut pool, now, Duration::from_micros(50), 60);
    assert_eq!(pool.target_len(now), PARKED_DEPTH_MAX);
    // And back, also when no request comes that would show it.
    assert_eq!(pool.target_len(now + Duration::from_secs(1)), 1);
    assert_eq!(pool.target_len(now + PARKED_IDLE * 2), 0);
}

#[test]
fn guests_are_given_once_and_what_is_held_is_counted() {
    let (slow, now) = (slow(), Instant::now());
    let (mut pool, totals) = pool(StartMode::Auto, &slow, now);
    for _ in 0..3 {
        add(&mut pool, &slow, now);
    }
    // Trials may have found that it starts faster with more than the page that it declares.
    let each = node().park(&slow, version(StartMode::Auto)).unwrap().memory_bytes();
    assert!(each >= 65536);
    assert_eq!((pool.len(), totals.guests(), totals.memory_bytes()), (3, 3, 3 * each));
    let later = now + Duration::from_secs(1);
    let guests: Vec<_> = std::iter::from_fn(|| pool.take(later)).collect();
    assert_eq!((guests.len(), totals.guests(), totals.memory_bytes()), (3, 0, 0));
    for guest in guests {
        assert_eq!(block_on(guest.run(invocation("id", b""))).outcome.result, Ok(()));
    }
    for _ in 0..3 {
        add(&mut pool, &slow, now);
    }
    pool.shrink(now + Duration::from_secs(2));
    assert_eq!((pool.len(), totals.guests()), (1, 1));
    drop(pool);
    assert_eq!((totals.guests(), totals.memory_bytes()), (0, 0));
}

#[test]
fn starts_that_cost_next_to_nothing_are_not_parked_unless_it_was_asked_for() {
    let (echo, now) = (node().guest("echo"), Instant::now());
    let (mut auto, totals) = pool(StartMode::Auto, &echo, now);
    let (mut parked, _) = pool(StartMode::Parked, &echo, now);
    // Other tests keep the processor busy; the shortest of some starts counts.
    for _ in 0..200 {
        if !auto.is_disabled() {
            add(&mut auto, &echo, now);
        }
        add(&mut parked, &echo, now);
        parked.shrink(now);
    }
    assert!(auto.is_disabled() && totals.guests() == 0);
    assert_eq!((auto.target_len(now), parked.target_len(now)), (0, 1));
    assert_eq!(parked.target_len(now + PARKED_IDLE * 2), 1, "what was asked for is kept");
    let (command, _) = pool(StartMode::Command, &echo, now);
    assert!(command.is_disabled() && command.target_len(now) == 0);
}

#[test]
fn a_pool_whose_guests_are_taken_as_soon_as_they_are_there_rests_for_ever_longer() {
    let (slow, mut now) = (slow(), Instant::now());
    let (mut pool, _) = pool(StartMode::Auto, &slow, now);
    drop(pool.take(now));
    let mut rests = Vec::new();
    for _ in 0..12 {
        assert!(pool.needs_refill(now));
        add(&mut pool, &slow, now);
        drop(pool.take(now + Duration::from_micros(20)).unwrap());
        let begun = now;
        while !pool.needs_refill(now) {
            now += Duration::from_millis(1);
        }
        rests.push(now - begun);
    }
    assert!(rests.is_sorted() && rests[0] < Duration::from_millis(10), "{rests:?}");
    assert!(*rests.last().unwrap() >= PARKING_PAUSE_MAX, "{rests:?}");
    // One that finds its time again is filled again.
    for _ in 0..12 {
        add(&mut pool, &slow, now);
        now += Duration::from_secs(1);
        drop(pool.take(now).unwrap());
    }
    assert!(pool.needs_refill(now));
}

#[test]
fn a_function_whose_start_fails_is_left_alone_and_a_full_node_is_asked_again() {
    let (echo, now) = (node().guest("echo"), Instant::now());
    let (mut pool_a, _) = pool(StartMode::Auto, &echo, now);
    pool_a.record_failure(&NotParked::Failed(Failure::Overloaded), now);
    assert!(!pool_a.is_disabled() && !pool_a.needs_refill(now));
    assert!(pool_a.needs_refill(now + PARKING_PAUSE_MAX));
    let (mut pool_b, totals) = pool(StartMode::Parked, &echo, now);
    add(&mut pool_b, &echo, now);
    pool_b.record_failure(&NotParked::Failed(Failure::Exit(1)), now);
    assert!(pool_b.is_disabled() && totals.guests() == 0);
    // A guest that was on its way comes too late.
    add(&mut pool_b, &echo, now);
    assert_eq!((pool_b.len(), totals.guests()), (0, 0));
}
