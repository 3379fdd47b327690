//! Every guest in `tests/guests/wat` and the outcome that it must have.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod limits;
mod pointers;

use common::{function, log, node, text};
use orama_runtime::invocation::{Failure, Outcome};
use orama_runtime::limits::{LOG_MESSAGE_MAX_BYTES, LOG_MESSAGES_MAX, LOG_TOTAL_MAX_BYTES};
use orama_test_support::guests;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Succeeds with exactly this output. (name, input, output)
const SUCCEEDS: &[(&str, &str, &str)] = &[
    ("alloc_both", "", "request-1"),
    ("alloc_calls_host", "", "request-1"),
    ("alloc_grows", "", "request-1"),
    ("alloc_malloc", "", "request-1"),
    ("alloc_none", "", "none"),
    ("alloc_not_a_function", "", "none"),
    ("alloc_null", "", "none"),
    ("alloc_orama", "", "request-1"),
    ("alloc_recurses", "", "none"),
    ("alloc_wrong_type", "", "none"),
    ("closes_stdio", "", ""),
    ("echo", "{\"a\":1}", "{\"a\":1}"),
    ("echo_byte_by_byte", "{\"a\":1}", "{\"a\":1}"),
    ("empty", "ignored", ""),
    ("ignores_stdin", "ignored", "{\"ok\":true}"),
    ("iovecs_too_many", "", ""),
    ("log_env", "", ""),
    ("log_host", "", ""),
    ("log_input", "{}", ""),
    ("log_orama", "", ""),
    ("logs_before_reading", "input", "input"),
    ("memory_dirty", "", "clean"),
    ("memory_grow_huge", "", ""),
    ("memory_grow_until_refused", "", "1024"),
    ("no_files", "", "refused"),
    ("poll_many", "", ""),
    ("poll_nothing", "", ""),
    ("poll_stdin", "", "ready"),
    ("reads_after_end", "abc", "end"),
    ("simd", "", ""),
    ("sleep_100_ms", "", "slept"),
    ("sleep_past", "", "slept"),
    ("start_section_grows", "", ""),
    ("start_section_reads", "abc", "abc"),
    ("start_section_works", "", "1"),
    ("reactor_prepared", "x", "1yx"),
    ("reactor_reads", "some input", "some input"),
    ("reactor_table", "", "2"),
    ("table_grow_until_refused", "", ""),
    ("writes_before_reading", "abc", "[abc]"),
    ("wrong_direction", "", ""),
];

/// Ends with this exit code. (name, input, code)
const EXITS: &[(&str, &str, i32)] = &[
    ("alloc_exits", "", 3),
    ("exit_after_output", "", 5),
    ("exit_code", "1", 1),
    ("exit_code", "255", 255),
    ("exit_code", "4294967295", -1),
    ("exit_code", "2147483648", i32::MIN),
    ("start_section_exits", "", 4),
];

/// Traps with a message that has all of these words.
const TRAPS: &[(&str, &[&str])] = &[
    ("alloc_at_the_edge", &["get_request_id", "outside the guest's memory"]),
    ("alloc_minus_one", &["get_request_id", "4294967295"]),
    ("alloc_out_of_range", &["get_request_id", "outside the guest's memory"]),
    ("alloc_traps", &["broken_allocator", "unreachable"]),
    ("data_out_of_range", &["out of bounds"]),
    ("elements_out_of_range", &["out of bounds"]),
    ("start_section_traps", &["unreachable", "trap_in_start"]),
    ("trap_after_output", &["unreachable"]),
    ("trap_call_type", &["indirect call type mismatch"]),
    ("trap_conversion", &["invalid conversion to integer"]),
    ("trap_divide", &["divide by zero"]),
    ("trap_fill", &["out of bounds memory access"]),
    ("trap_load", &["out of bounds memory access"]),
    ("trap_load_offset", &["out of bounds memory access"]),
    ("trap_null_call", &["uninitialized element"]),
    ("trap_overflow", &["integer overflow"]),
    ("trap_stack_overflow", &["call stack exhausted", "recurse_forever, called by recurse_forever"]),
    ("trap_stack_overflow_in_host", &["call stack exhausted", "recurse_with_host_calls"]),
    ("trap_store_edge", &["out of bounds memory access"]),
    ("trap_table_index", &["undefined element"]),
    ("trap_unreachable", &["unreachable", "deep_inside, called by in_between"]),
];

/// Runs into its timeout of one second; the log has a line that names this function, unless it is empty.
const TIMES_OUT: &[(&str, &str)] = &[
    ("alloc_spins", ""),
    ("flood_log", ""),
    ("flood_stderr", ""),
    ("flood_stderr_one_line", ""),
    ("memory_grow_forever", ""),
    ("sleep_hour", ""),
    ("sleep_longest", ""),
    ("spin", "in spin_forever"),
    ("spin_bad_writes", ""),
    ("spin_clock", ""),
    ("spin_empty_reads", ""),
    ("spin_empty_writes", ""),
    ("spin_memory_fill", ""),
    ("spin_random", ""),
    ("spin_tail_calls", ""),
    ("spin_yield", ""),
    ("start_section_spins", "in spin_in_start"),
];

/// Refused before it is deployed, with a message that has all of these words.
const REFUSED: &[(&str, &[&str])] = &[
    ("component", &["component", "core module"]),
    ("component_with_module", &["component", "core module"]),
    ("exception", &["exceptions"]),
    ("externref", &["types", "requires gc"]),
    ("garbage_collected", &["gc"]),
    ("import_memory", &["env.memory", "not a function"]),
    ("import_preview0", &["wasi_unstable."]),
    ("import_table_and_global", &["it imports env.table", "it imports env.get_env, which is not a function"]),
    (
        "import_wrong_type",
        &[
            "env.get_env has the signature (i32 i32) -> (i64), not",
            "fd_write has the signature (i32 i32 i32 i32) -> (i32), not",
        ],
    ),
    ("invalid_body", &["type mismatch", "offset"]),
    ("invalid_index", &["unknown function", "offset"]),
    ("memory_64", &["memory64"]),
    ("memory_min_300_mb", &["314572800 bytes", "256 MB"]),
    ("memory_min_4_gib", &["4294967296 bytes", "256 MB"]),
    ("memory_not_a_memory", &["does not export its memory"]),
    ("memory_shared", &["threads"]),
    ("memory_two", &["multiple memories"]),
    ("memory_unexported", &["does not export its memory"]),
    ("no_start", &["_start"]),
    ("reactor", &["_start", "orama_handle"]),
    ("reactor_wrong_type", &["orama_handle must have the signature () -> ()", "(i32) -> ()"]),
    ("start_not_a_function", &["_start", "function", "() -> ()"]),
    ("start_wrong_type", &["_start", "() -> ()", "(i32) -> (i32)"]),
    ("table_min_huge", &["100000000 elements"]),
    (
        "unknown_imports",
        &[
            "import env.no_such_function",
            "host.db_drop_everything",
            "orama.get_ENV",
            "wasi_snapshot_preview1.fd_teleport",
            "gojs.runtime.wasmExit",
            "import .empty",
        ],
    ),
];

/// Has a test of its own in `limits` or `pointers`.
const SPECIAL: &[&str] = &[
    "flood_stdout",
    "iovecs_overlapping",
    "many_writes",
    "memory_grow_then_trap",
    "memory_min_100_mb",
    "monotonic_twice",
    "pointers_host",
    "pointers_wasi",
    "random_200_mb",
    "random_first",
    "reactor_random",
    "wall_time_first",
    "writes_not_utf8",
];

/// With 64 MB and 20 s: more than any guest that ends needs, also on a busy machine.
fn run(name: &str, input: &str) -> Outcome {
    run_with(name, input, 64, 20)
}

fn run_with(name: &str, input: &str, memory_mb: u32, timeout_seconds: u32) -> Outcome {
    node().run_both(&node().guest(name), function(memory_mb, timeout_seconds), input.as_bytes())
}

#[test]
fn every_guest_stands_in_one_table() {
    let mut seen = BTreeMap::<&str, Vec<&str>>::new();
    let mut note = |table, name| seen.entry(name).or_default().push(table);
    SUCCEEDS.iter().for_each(|case| note("SUCCEEDS", case.0));
    EXITS.iter().for_each(|case| note("EXITS", case.0));
    TRAPS.iter().for_each(|case| note("TRAPS", case.0));
    TIMES_OUT.iter().for_each(|case| note("TIMES_OUT", case.0));
    REFUSED.iter().for_each(|case| note("REFUSED", case.0));
    SPECIAL.iter().for_each(|name| note("SPECIAL", name));
    for (name, tables) in &mut seen {
        tables.dedup();
        assert_eq!(tables.len(), 1, "{name} stands in {tables:?}");
    }
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), guests::wat_names());
}

#[test]
fn guests_that_succeed() {
    for (name, input, output) in SUCCEEDS {
        let outcome = run(name, input);
        assert_eq!(outcome.result, Ok(()), "{name}: {:?}", log(&outcome));
        assert_eq!(text(&outcome), *output, "{name}: {:?}", log(&outcome));
    }
}

#[test]
fn guests_that_exit() {
    for (name, input, code) in EXITS {
        let outcome = run(name, input);
        assert_eq!(outcome.result, Err(Failure::Exit(*code)), "{name}");
    }
    assert_eq!(run("exit_code", "0").result, Ok(()));
    assert_eq!(run("exit_code", "4294967296").result, Ok(()));
    assert_eq!(text(&run("exit_after_output", "")).chars().next(), Some('{'));
}

#[test]
fn guests_that_trap() {
    for (name, words) in TRAPS {
        match run(name, "").result {
            Err(Failure::Trap(message)) => {
                assert!(words.iter().all(|word| message.contains(word)), "{name}: {message}");
                assert!(!message.contains("wasm trap") && !message.contains('\n'), "{name}: {message}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn guests_that_time_out_do_so_at_their_deadline() {
    std::thread::scope(|scope| {
        for (name, stopped_in) in TIMES_OUT {
            let module = node().guest(name);
            scope.spawn(move || {
                let begin = Instant::now();
                let outcome = node().run(&module, function(64, 1), b"");
                let took = begin.elapsed();
                assert_eq!(outcome.result, Err(Failure::Timeout(1)), "{name}");
                // All of them share the processors, so that some are asked late; none goes on.
                assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{name}: {took:?}");
                let log = log(&outcome);
                let last = log.last().unwrap();
                assert!(last.starts_with("error: stopped at the timeout of 1 s"), "{name}: {last}");
                assert!(last.contains(stopped_in), "{name}: {last}");
                assert_log_is_bounded(name, &outcome);
            });
        }
    });
}

fn assert_log_is_bounded(name: &str, outcome: &Outcome) {
    // One message may pass the total, one says what was dropped, one why it ended.
    assert!(outcome.messages.len() <= LOG_MESSAGES_MAX + 2, "{name}: {}", outcome.messages.len());
    let bytes: usize = outcome.messages.iter().map(|m| m.message.len()).sum();
    assert!(bytes <= LOG_TOTAL_MAX_BYTES + 2 * LOG_MESSAGE_MAX_BYTES, "{name}: {bytes} bytes");
}

#[test]
fn guests_that_are_refused() {
    for (name, words) in REFUSED {
        let message =
            node().load(&guests::wat(name), 256).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(words.iter().all(|word| message.contains(word)), "{name}: {message}");
    }
}
