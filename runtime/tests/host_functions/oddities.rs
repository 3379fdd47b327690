//! Guests that call at odd times or have odd memories: only they fail.

use crate::common::node;
use crate::guest::{BUMP, FUNCTIONS, call, good, import_and_call, run, text};
use crate::recorder::{Recorder, When};
use orama_runtime::invocation::Failure;
use std::sync::Arc;
use std::time::Duration;

/// A guest without a main program, whose start section calls a function with empty arguments.
fn in_start_section(function: &str) -> String {
    let (import, call) = import_and_call("env", function);
    format!(
        r#"(module {import}
            (memory (export "memory") 1200)
            {BUMP}
            (func $prepare (drop {call}))
            (start $prepare)
            (func (export "_start")))"#
    )
}

#[test]
fn a_start_section_may_call_every_function() {
    for (function, _, _) in FUNCTIONS {
        for when in [When::AtOnce, When::After(Duration::from_millis(2))] {
            let found = Some("found".into());
            let recorder = Arc::new(Recorder { when, found, ..Recorder::default() });
            // Its arguments are at addresses that are still zero: all of them are empty.
            let got = run(&in_start_section(function), &recorder, &[], 60);
            assert_eq!(got.result, Ok(()), "{function}");
        }
    }
    let recorder = Arc::new(Recorder { when: When::Never, ..Recorder::default() });
    let got = run(&in_start_section("storage_put"), &recorder, &[], 1);
    assert_eq!(got.result, Err(Failure::Timeout(1)));
}

#[test]
fn a_start_section_with_a_bad_pointer_traps() {
    for (function, _, _) in FUNCTIONS {
        let guest = in_start_section(function).replace(
            "(start $prepare)",
            "(start $prepare) (data (i32.const 65536) \"\\ff\\ff\\ff\\ff\\01\\00\\00\\00\")",
        );
        let got = run(&guest, &Arc::default(), &[], 60);
        assert!(got.trap().starts_with(&format!("{function}: pointer 4294967295")), "{}", got.trap());
    }
}

#[test]
fn a_guest_without_a_memory_is_refused_before_it_runs() {
    for (function, _, _) in FUNCTIONS {
        let (import, _) = import_and_call("env", function);
        let guest = wat::parse_str(format!("(module {import} (func (export \"_start\")))")).unwrap();
        let why = node().load(&guest, 64).err().unwrap();
        assert!(why.contains("does not export its memory"), "{function}: {why}");
    }
}

#[test]
fn a_call_near_the_end_of_the_stack_is_a_trap_at_most() {
    for (function, _, _) in FUNCTIONS {
        let (import, call) = import_and_call("env", function);
        let guest = format!(
            r#"(module {import}
                (memory (export "memory") 1200)
                (func (export "orama_alloc") (param i32) (result i32) (i32.const 0x2800000))
                (func $deeper (result i64) (i64.add {call} (call $deeper)))
                (func (export "_start") (drop (call $deeper))))"#
        );
        let found = Some("found".into());
        let recorder = Arc::new(Recorder { found, ..Recorder::default() });
        let got = run(&guest, &recorder, &[], 60);
        assert!(got.trap().contains("call stack exhausted"), "{function}: {}", got.trap());
    }
}

#[test]
fn stacks_are_given_back_however_a_call_ends() {
    let traps = r#"(func (export "orama_alloc") (param i32) (result i32) unreachable)"#;
    let recorder = Arc::new(Recorder { found: Some("found".into()), ..Recorder::default() });
    // More often than the engine has stacks.
    for _ in 0..600 {
        assert_eq!(call(&recorder, "cache_get", &good("cache_get")).text(), "found");
        run(&text("env", "cache_get", traps), &recorder, &good("cache_get"), 60).trap();
        recorder.calls.lock().unwrap().clear();
    }
}
