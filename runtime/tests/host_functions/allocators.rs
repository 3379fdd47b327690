//! Guests' allocators as they may be: every function that gives bytes, with each of them.

use crate::guest::{FUNCTIONS, Got, good, import_and_call, run, text};
use crate::recorder::{Recorder, When};
use orama_runtime::invocation::Failure;
use std::sync::Arc;
use std::time::Duration;

fn recorder() -> Arc<Recorder> {
    Arc::new(Recorder { found: Some("found".into()), ..Recorder::default() })
}

fn with(allocator: &str, mut check: impl FnMut(&str, Got)) {
    for (name, _, result) in FUNCTIONS {
        // Without a result there is nothing to give: db_query fails.
        if result == 'b' && name != "db_query" {
            check(name, run(&text("env", name, allocator), &recorder(), &good(name), 60));
        }
    }
}

fn exporting(body: &str) -> String {
    format!(r#"(func (export "orama_alloc") (param $size i32) (result i32) {body})"#)
}

#[test]
fn good_ones_wherever_the_memory_is() {
    let mut expected = Vec::new();
    with(crate::guest::BUMP, |_, got| expected.push(got.text().to_owned()));
    assert!(expected.iter().all(|text| !text.is_empty()), "{expected:?}");
    for body in [
        // A new page for each block, at an odd address.
        "(i32.add (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)) (i32.const 1))",
        // The last bytes of the memory.
        "(i32.sub (i32.mul (memory.size) (i32.const 65536)) (local.get $size))",
        // The bytes that the guest handed over itself.
        "(i32.const 65600)",
    ] {
        let mut at = 0;
        with(&exporting(body), |name, got| {
            assert_eq!((&got.result, got.text()), (&Ok(()), expected[at].as_str()), "{name}: {body}");
            at += 1;
        });
    }
    let malloc = exporting("(i32.const 0x2800000)").replace("orama_alloc", "malloc");
    let mut at = 0;
    with(&malloc, |name, got| {
        assert_eq!(got.text(), expected[at], "{name}");
        at += 1;
    });
}

#[test]
fn none_and_one_without_memory_give_nothing_and_say_why() {
    for (allocator, why) in [
        (String::new(), "exports neither orama_alloc(i32) -> i32 nor malloc(i32) -> i32"),
        (exporting("(i32.const 0)"), "the guest's allocator returned 0 for "),
        ("(global (export \"orama_alloc\") i32 (i32.const 1))".to_owned(), "exports neither"),
    ] {
        with(&allocator, |name, got| {
            assert_eq!((&got.result, got.raw, got.log.len()), (&Ok(()), 0, 1), "{name}: {:?}", got.log);
            let line = &got.log[0];
            assert!(line.starts_with(&format!("error: {name}: ")) && line.contains(why), "{line}");
        });
    }
}

#[test]
fn an_address_outside_the_memory_traps() {
    for address in ["0xffffff00", "-1", "-2147483648", "(i32.mul (memory.size) (i32.const 65536))"] {
        let body =
            if address.starts_with('(') { address.to_owned() } else { format!("(i32.const {address})") };
        with(&exporting(&body), |name, got| {
            let trap = got.trap();
            assert!(trap.starts_with(&format!("{name}: pointer ")), "{name} {address}: {trap}");
        });
    }
    // One byte short.
    let body =
        "(i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.sub (local.get $size) (i32.const 1)))";
    with(&exporting(body), |name, got| assert!(got.trap().contains("outside the guest's memory"), "{name}"));
}

#[test]
fn one_that_ends_the_guest_ends_the_guest() {
    with(&exporting("unreachable"), |name, got| {
        assert!(got.trap().contains("unreachable"), "{name}: {}", got.trap());
    });
    let recurses = r#"(func $again (export "orama_alloc") (param i32) (result i32)
        (i32.add (call $again (local.get 0)) (i32.const 1)))"#;
    with(recurses, |name, got| assert!(got.trap().contains("call stack exhausted"), "{name}"));
    let spins = exporting("(loop $again (result i32) (br $again))");
    let got = run(&text("env", "http_fetch", &spins), &recorder(), &good("http_fetch"), 1);
    assert_eq!(got.result, Err(Failure::Timeout(1)));
}

#[test]
fn one_that_asks_for_bytes_itself_is_refused_before_the_work() {
    // The same function from within its own allocator, with the same arguments.
    for (name, _, result) in FUNCTIONS {
        if result != 'b' || name == "db_query" {
            continue;
        }
        let (_, call) = import_and_call("env", name);
        let allocator = exporting(&format!(
            "(if (i64.ne {call} (i64.const 0)) (then unreachable)) (i32.const 0x2800000)"
        ));
        let recorder = recorder();
        let got = run(&text("env", name, &allocator), &recorder, &good(name), 60);
        assert_eq!((&got.result, recorder.calls().len()), (&Ok(()), 1), "{name}");
        assert!(!got.bytes.is_empty(), "{name}");
        assert_eq!(
            got.log,
            [format!(
                "error: {name}: the guest's allocator may not call this function, and nothing else may while it runs"
            )]
        );
    }
}

#[test]
fn one_that_waits_for_a_service_is_waited_for() {
    let allocator = exporting(
        "(call $set (i32.const 65600) (i32.const 1) (i32.const 0) (i32.const 0) (i64.const 0)) (i32.const 0x2800000)",
    );
    let import = r#"(import "env" "cache_set" (func $set (param i32 i32 i32 i32 i64)))"#;
    let guest = text("env", "cache_get", &allocator).replacen("(import", &format!("{import} (import"), 1);
    for when in [When::AtOnce, When::After(Duration::from_millis(5))] {
        let recorder = Arc::new(Recorder { when, found: Some("found".into()), ..Recorder::default() });
        let got = run(&guest, &recorder, &good("cache_get"), 60);
        assert_eq!((&got.result, got.text(), recorder.calls().len()), (&Ok(()), "found", 2));
    }
    let recorder = Arc::new(Recorder { when: When::Never, ..Recorder::default() });
    assert_eq!(run(&guest, &recorder, &good("cache_get"), 1).result, Err(Failure::Timeout(1)));
}
