//! Guests at the limits of log, input, output, memory and time.

use crate::common::{Node, function, log, node, text};
use crate::{run, run_with};
use orama_runtime::invocation::Failure;
use orama_runtime::limits::OUTPUT_MAX_BYTES;
use orama_test_support::guests;
use std::time::{Duration, Instant};

#[test]
fn messages_arrive_in_order_with_their_level_and_time() {
    for name in ["log_env", "log_host", "log_orama"] {
        let unix_ms = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        let before = unix_ms();
        let outcome = run(name, "");
        assert_eq!(log(&outcome), ["info: first", "error: second"], "{name}");
        let times: Vec<i64> = outcome.messages.iter().map(|m| m.timestamp_ms).collect();
        assert!(before <= times[0] && times[0] <= times[1] && times[1] <= unix_ms(), "{name}: {times:?}");
    }
    assert_eq!(log(&run("logs_before_reading", "x")), ["info: logged before reading"]);
    assert_eq!(log(&run("alloc_calls_host", "")), ["info: none"]);
    for (name, why) in [
        ("alloc_none", "exports neither orama_alloc(i32) -> i32 nor malloc(i32) -> i32"),
        ("alloc_wrong_type", "exports neither"),
        ("alloc_null", "returned 0 for 9 bytes"),
    ] {
        let log = log(&run(name, ""));
        assert!(
            log.len() == 1 && log[0].starts_with("error: get_request_id: ") && log[0].contains(why),
            "{log:?}"
        );
    }
}

#[test]
fn a_flood_of_messages_says_how_many_were_dropped() {
    // How many it writes until its deadline is never the same.
    let run = |name| node().run(&node().guest(name), function(64, 1), b"");
    for (name, kept) in [("flood_log", "[cut after"), ("flood_stderr", "xxx")] {
        let outcome = run(name);
        let log = log(&outcome);
        assert!(log[0].contains(kept), "{name}: {}", log[0]);
        assert!(log.iter().any(|m| m.contains("more messages were dropped")), "{name}");
    }
    let outcome = run("flood_stderr_one_line");
    assert!(outcome.messages[0].message.ends_with("[cut after 8192 bytes]"), "{:?}", outcome.messages[0]);
    assert_eq!(outcome.messages.len(), 2);
}

#[test]
fn a_long_input_arrives_whole() {
    let input: String = (0..1 << 17).map(|i: u32| char::from(b'a' + (i % 26) as u8)).collect();
    for name in ["echo", "echo_byte_by_byte", "writes_before_reading"] {
        let outcome = run(name, &input);
        assert_eq!(outcome.result, Ok(()), "{name}");
        assert!(text(&outcome).trim_matches(['[', ']']) == input, "{name}");
    }
    let input = vec![b'x'; 1 << 20];
    let outcome = node().run_both(&node().guest("echo"), function(64, 20), &input);
    assert!(outcome.output == input);
}

#[test]
fn sleeping_takes_as_long_as_asked_and_no_longer() {
    for (name, at_least_ms) in [("sleep_100_ms", 100), ("sleep_past", 0)] {
        let module = node().guest(name);
        let begin = Instant::now();
        node().run_both(&module, function(64, 20), b"");
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(at_least_ms), "{name}: {took:?}");
        assert!(took < Duration::from_millis(at_least_ms + 2000), "{name}: {took:?}");
    }
}

#[test]
fn the_output_limit_ends_a_guest_and_nothing_more_is_held() {
    for name in ["flood_stdout", "iovecs_overlapping"] {
        let outcome = run(name, "");
        assert_eq!(outcome.result, Err(Failure::OutputTooLarge { limit_bytes: OUTPUT_MAX_BYTES }), "{name}");
        assert!(outcome.output.len() <= OUTPUT_MAX_BYTES, "{name}: {}", outcome.output.len());
        assert!(outcome.output.capacity() <= 2 * OUTPUT_MAX_BYTES, "{name}: {}", outcome.output.capacity());
    }
    let outcome = run("many_writes", "");
    assert_eq!((outcome.result, outcome.output.len()), (Ok(()), 200_000));
}

#[test]
fn output_need_not_be_utf8_and_messages_are_made_so() {
    let outcome = run("writes_not_utf8", "");
    assert_eq!((outcome.result, outcome.output.as_slice()), (Ok(()), &[0xff, 0xfe, 0x00, 0x80, 0x0a][..]));
    assert_eq!(outcome.messages[0].message, "\u{fffd}\u{fffd}\0\u{fffd}");
}

#[test]
fn memory_has_its_limit_and_running_into_it_is_named() {
    for (memory_mb, pages) in [(1, "16"), (64, "1024"), (256, "4096")] {
        assert_eq!(text(&run_with("memory_grow_until_refused", "", memory_mb, 20)), pages);
        let outcome = run_with("memory_grow_then_trap", "", memory_mb, 20);
        assert_eq!(outcome.result, Err(Failure::OutOfMemory { limit_mb: memory_mb }));
    }
    let wasm = guests::wat("memory_min_100_mb");
    let refused = node().load(&wasm, 64).err().unwrap();
    assert!(refused.contains("104857600 bytes") && refused.contains("64 MB"), "{refused}");
    let module = node().load(&wasm, 128).unwrap();
    assert_eq!(node().run_both(&module, function(128, 20), b"").result, Ok(()));
    // Another version of the same module may have a lower limit than the one it was checked for.
    let failed = node().run_both(&module, function(64, 20), b"").result;
    assert_eq!(failed, Err(Failure::OutOfMemory { limit_mb: 64 }));
}

#[test]
fn a_refused_growth_is_no_excuse_for_a_later_exit() {
    let exits_after = |more: &str| {
        let module = node().wat(&format!(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
                (memory (export "memory") 1)
                (func (export "_start")
                    (drop (memory.grow (i32.const 60000)))
                    {more}
                    (call $proc_exit (i32.const 7))))"#
        ));
        node().run_both(&module, function(64, 20), b"").result
    };
    assert_eq!(exits_after(""), Err(Failure::OutOfMemory { limit_mb: 64 }));
    assert_eq!(exits_after("(drop (memory.grow (i32.const 1)))"), Err(Failure::Exit(7)));
}

#[test]
fn memory_is_fresh_whatever_came_before() {
    let node = Node::new(1);
    let dirty = node.guest("memory_dirty");
    let others =
        ["trap_unreachable", "spin", "exit_code", "memory_grow_until_refused"].map(|name| node.guest(name));
    for other in &others {
        assert_eq!(text(&node.run(&dirty, function(64, 20), b"")), "clean");
        // The engine has one slot, so each run is in the memory of the one before.
        drop(node.run(other, function(64, 1), b"3"));
        assert_eq!(text(&node.run(&dirty, function(64, 20), b"")), "clean");
    }
    let traps_dirty = node.wat(
        r#"(module (memory (export "memory") 256)
            (func (export "_start")
                (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 0x1000000))
                unreachable))"#,
    );
    let spins_dirty = node.wat(
        r#"(module (memory (export "memory") 256)
            (func (export "_start")
                (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 0x1000000))
                (loop $again (br $again))))"#,
    );
    for module in [&traps_dirty, &spins_dirty] {
        assert!(node.run(module, function(64, 1), b"").result.is_err());
        assert_eq!(text(&node.run(&dirty, function(64, 20), b"")), "clean");
    }
}

#[test]
fn clocks_and_randomness_are_real() {
    let number = |name| {
        let outcome = node().run(&node().guest(name), function(64, 20), b"");
        u64::from_str_radix(text(&outcome), 16).unwrap()
    };
    let before = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let told = number("wall_time_first");
    let after = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    assert!((before..=after).contains(&told), "{before} {told} {after}");
    let passed = number("monotonic_twice");
    assert!(passed < 20_000_000_000, "{passed}");
    assert_ne!(number("random_first"), number("random_first"));
    let outcome = run_with("random_200_mb", "", 256, 60);
    assert_eq!((outcome.result.clone(), text(&outcome)), (Ok(()), "drawn"));
}
