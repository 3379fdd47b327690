//! What is said of modules that cannot run as functions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{function, node};
use orama_runtime::ModuleError;
use orama_runtime::limits::{
    BLOCK_DEPTH_MAX, INSTANCE_ENTRIES_MAX, MODULE_PROBLEMS_SHOWN, TABLE_MAX_ELEMENTS, TYPE_VALUES_MAX,
};
use orama_test_support::guests;
use std::fmt::Write;
use std::time::{Duration, Instant};

fn verdict(text: &str) -> Result<(), ModuleError> {
    node().engine.validate(&wat::parse_str(text).unwrap(), 64)
}

fn problems(text: &str) -> Vec<String> {
    match verdict(text) {
        Err(ModuleError::Unfit(problems)) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_module_is_told_by_its_first_bytes() {
    for (bytes, shown) in [
        (&b""[..], "nothing"),
        (b"\0", "00"),
        (b"\0asm", "00 61 73 6d"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "7f 45 4c 46 02 01 01 00"),
        (b"package main\n", "70 61 63 6b 61 67 65 20"),
        (b"\0asm\x02\0\0\0", "00 61 73 6d 02 00 00 00"),
    ] {
        let error = node().engine.validate(bytes, 64).unwrap_err();
        assert!(matches!(&error, ModuleError::NotAModule(found) if found == shown), "{error}");
        assert!(error.to_string().contains("00 61 73 6d 01 00 00 00"), "{error}");
    }
    let component = node().engine.validate(&guests::wat("component"), 64);
    assert!(matches!(component, Err(ModuleError::Component)), "{component:?}");
}

#[test]
fn a_module_cut_anywhere_or_with_any_byte_changed_is_judged_without_a_crash() {
    let good = guests::wat("echo");
    // Either verdict may be right, as the names at the end may go; what is accepted must also compile.
    let judge = |bytes: &[u8], what: String| {
        if node().engine.validate(bytes, 64).is_ok() {
            node().compiler.compile(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    };
    for end in 0..good.len() {
        judge(&good[..end], format!("cut to {end}"));
    }
    assert!((0..100).all(|end| node().engine.validate(&good[..end], 64).is_err()));
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            judge(&bytes, format!("byte {at} = {value}"));
        }
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = problems(
        r#"(module
            (import "env" "gone" (func))
            (import "env" "get_env" (func (param i64)))
            (import "a" "memory" (memory 1))
            (table 3000000 funcref)
            (func (export "_start") (param f32)))"#,
    );
    for expected in [
        "_start must have the signature () -> (), not (f32) -> ()",
        "the import env.gone is unknown",
        "the import env.get_env has the signature (i32 i32) -> (i64), not (i64) -> ()",
        "it imports a.memory, which is not a function",
        "its table starts with 3000000 elements",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
    }
}

#[test]
fn a_module_made_for_another_place_comes_with_one_advice_before_its_imports() {
    for (module, name, advice) in [
        ("gojs", "runtime.wasmExit", "GOOS=wasip1"),
        ("wbg", "__wbg_log_1", "wasm-bindgen"),
        ("__wbindgen_placeholder__", "__wbindgen_throw", "wasm-bindgen"),
        ("env", "emscripten_resize_heap", "wasi-sdk"),
        ("wasi:cli/stdout@0.2.0", "get-stdout", "component"),
    ] {
        let import = format!("(import \"{module}\" \"{name}\" (func))");
        let import_twice = format!("{import}(import \"{module}\" \"{name}2\" (func))");
        let problems = problems(&format!(
            "(module {import_twice} (memory (export \"memory\") 1) (func (export \"_start\")))"
        ));
        assert!(problems[0].contains(advice), "{problems:?}");
        assert_eq!(problems[1], format!("the import {module}.{name} is unknown"));
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}

#[test]
fn a_hostile_number_of_problems_makes_a_short_message() {
    let mut text = "(module".to_owned();
    for index in 0..20_000 {
        write!(text, "(import \"{}\\1b[2J\\0a\" \"f{index}\" (func))", "x".repeat(200)).unwrap();
    }
    let begin = Instant::now();
    let problems = problems(&(text + ")"));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(problems.len(), MODULE_PROBLEMS_SHOWN + 1);
    assert!(problems[MODULE_PROBLEMS_SHOWN].contains("more problems"), "{problems:?}");
    let message = problems.join("; ");
    assert!(message.len() < 8000, "{} bytes", message.len());
    assert!(!message.contains(|c: char| c.is_control()), "{message}");
}

#[test]
fn a_signature_of_a_thousand_types_is_cut() {
    let parameters = "i64 ".repeat(1000);
    let problems = problems(&format!("(module (func (export \"_start\") (param {parameters})))"));
    assert!(problems[0].len() < 250 && problems[0].ends_with("..."), "{problems:?}");
}

#[test]
fn tables_and_memories_are_counted() {
    let two = problems("(module (table 1 funcref) (table 1 funcref) (func (export \"_start\")))");
    assert_eq!(two, ["it has 2 tables; a function may have one"]);
    let most = format!("(module (table {TABLE_MAX_ELEMENTS} funcref) (func (export \"_start\")))");
    verdict(&most).unwrap();
    assert_eq!(node().run(&node().wat(&most), function(64, 20), b"").result, Ok(()));
    let memory = |pages: u32| verdict(&format!("(module (memory {pages}) (func (export \"_start\")))"));
    memory(1024).unwrap();
    let error = memory(1025).unwrap_err().to_string();
    assert!(error.contains("67174400 bytes of memory, more than its limit of 64 MB"), "{error}");
    // A maximum is only a promise not to ask for more.
    verdict("(module (memory 1 65536) (func (export \"_start\")))").unwrap();
}

#[test]
fn entries_of_instances_are_counted() {
    let many = |entries: u64| {
        let elements = "$f ".repeat(entries as usize - 1);
        verdict(&format!("(module (func $f (export \"_start\")) (elem func {elements}))"))
    };
    many(INSTANCE_ENTRIES_MAX).unwrap();
    let error = many(INSTANCE_ENTRIES_MAX + 1).unwrap_err().to_string();
    assert!(error.contains("elements of tables, more than the limit of 150000"), "{error}");
}

#[test]
fn every_host_function_is_there_under_each_name() {
    const FUNCTIONS: [(&str, &str); 51] = [
        ("get_caller_wallet", "(result i64)"),
        ("get_caller_jwt_subject", "(result i64)"),
        ("get_caller_claim", "(param i32 i32) (result i64)"),
        ("get_request_id", "(result i64)"),
        ("get_env", "(param i32 i32) (result i64)"),
        ("get_secret", "(param i32 i32) (result i64)"),
        ("db_query", "(param i32 i32 i32 i32) (result i64)"),
        ("db_execute", "(param i32 i32 i32 i32) (result i32)"),
        ("db_query_v2", "(param i32 i32 i32 i32) (result i64)"),
        ("db_execute_v2", "(param i32 i32 i32 i32) (result i64)"),
        ("db_transaction", "(param i32 i32) (result i64)"),
        ("db_query_batch", "(param i32 i32) (result i64)"),
        ("cache_get", "(param i32 i32) (result i64)"),
        ("cache_set", "(param i32 i32 i32 i32 i64)"),
        ("cache_delete", "(param i32 i32) (result i32)"),
        ("cache_incr", "(param i32 i32) (result i64)"),
        ("cache_incr_by", "(param i32 i32 i64) (result i64)"),
        ("http_fetch", "(param i32 i32 i32 i32 i32 i32 i32 i32) (result i64)"),
        ("http_request", "(result i64)"),
        ("set_http_response", "(param i32 i32 i32 i32 i32) (result i32)"),
        ("http_response_start", "(param i32 i32 i32) (result i32)"),
        ("http_response_write", "(param i32 i32) (result i32)"),
        ("push_send", "(param i32 i32 i32 i32) (result i32)"),
        ("push_send_v2", "(param i32 i32 i32 i32) (result i64)"),
        ("push_send_topic", "(param i32 i32 i32 i32) (result i64)"),
        ("turn_credentials", "(result i64)"),
        ("webrtc_admit", "(param i32 i32 i32 i32 i32 i32 i64) (result i64)"),
        ("webrtc_kick", "(param i32 i32 i32 i32) (result i32)"),
        ("webrtc_mute", "(param i32 i32 i32 i32 i32) (result i32)"),
        ("anon_fetch", "(param i32 i32 i32 i32 i32 i32 i32 i32) (result i64)"),
        ("anyone_fetch", "(param i32 i32 i32 i32 i32 i32 i32 i32) (result i64)"),
        ("capability_mint", "(param i32 i32 i64) (result i64)"),
        ("capability_revoke", "(param i32 i32) (result i32)"),
        ("get_caller_capability", "(result i64)"),
        ("get_caller_device_id", "(result i64)"),
        ("storage_fetch_cap_mint", "(param i32 i32 i32 i64) (result i64)"),
        ("get_ws_client_id", "(result i64)"),
        ("get_ws_event", "(result i64)"),
        ("ws_send", "(param i32 i32 i32 i32) (result i32)"),
        ("ws_close", "(param i32 i32 i32 i32 i32) (result i32)"),
        ("ws_pubsub_bridge", "(param i32 i32 i32 i32) (result i32)"),
        ("ws_pubsub_unbridge", "(param i32 i32 i32 i32) (result i32)"),
        ("ws_broadcast", "(param i32 i32 i32 i32) (result i32)"),
        ("ephemeral_state_set", "(param i32 i32 i32 i32 i32 i32 i64) (result i32)"),
        ("ephemeral_state_clear", "(param i32 i32 i32 i32) (result i32)"),
        ("ephemeral_state_list", "(param i32 i32) (result i64)"),
        ("storage_put", "(param i32 i32) (result i64)"),
        ("storage_get", "(param i32 i32) (result i64)"),
        ("pubsub_publish", "(param i32 i32 i32 i32) (result i32)"),
        ("log_info", "(param i32 i32)"),
        ("log_error", "(param i32 i32)"),
    ];
    for module in ["env", "host", "orama"] {
        let mut text = "(module".to_owned();
        for (name, signature) in FUNCTIONS {
            write!(text, "(import \"{module}\" \"{name}\" (func {signature}))").unwrap();
        }
        text += "(memory (export \"memory\") 1) (func (export \"_start\")))";
        verdict(&text).unwrap_or_else(|error| panic!("{module}: {error}"));
    }
}

/// Shapes that are hard on compilers: each must compile or be refused soon, and the process must survive.
#[test]
fn hostile_code_is_compiled_or_refused_soon() {
    let nested = |depth: usize| {
        format!("(module (func (export \"_start\") {} {}))", "block ".repeat(depth), "end ".repeat(depth))
    };
    let adds = format!(
        "(module (func (export \"_start\") i32.const 0 {} drop))",
        "i32.const 1 i32.add ".repeat(200_000)
    );
    let branches = format!(
        "(module (func (export \"_start\") block {} end))",
        format!("i32.const 0 br_table {} 0 ", "0 ".repeat(1000)).repeat(50)
    );
    let locals = format!("(module (func (export \"_start\") (local {})))", "v128 ".repeat(50_000));
    let functions = format!("(module {} (func (export \"_start\")))", "(func) ".repeat(100_000));
    for (name, text) in [
        ("20,000 blocks in each other", nested(20_000)),
        ("200,000 additions", adds),
        ("50 tables of 1,000 branches", branches),
        ("50,000 locals", locals),
        ("100,000 functions", functions),
    ] {
        let begin = Instant::now();
        let loaded = node().load(&wat::parse_str(&text).unwrap(), 64);
        let took = begin.elapsed();
        eprintln!(
            "{name}: {} in {took:?}",
            loaded.as_ref().map_or_else(String::clone, |_| "compiled".to_owned())
        );
        assert!(took < Duration::from_secs(60), "{name} took {took:?}");
        if let Ok(module) = loaded {
            assert_eq!(node().run(&module, function(64, 20), b"").result, Ok(()), "{name}");
        }
    }
}

#[test]
fn what_takes_far_more_memory_than_its_size_tells_is_too_complex() {
    let types = |count: usize| {
        let parameters = "i64 ".repeat(999);
        format!(
            "(module {} (func (export \"_start\")))",
            format!("(type (func (param {parameters})))").repeat(count)
        )
    };
    let blocks = |depth: usize| {
        format!("(module (func (export \"_start\") {} {}))", "block ".repeat(depth), "end ".repeat(depth))
    };
    let depth = usize::try_from(BLOCK_DEPTH_MAX).unwrap();
    for (text, words) in [
        (types(TYPE_VALUES_MAX / 1000 + 1), "parameters and results"),
        (blocks(depth + 1), "function 0 has 200001 blocks within one another"),
    ] {
        match verdict(&text) {
            Err(ModuleError::TooComplex(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    verdict(&types(TYPE_VALUES_MAX / 1000 - 1)).unwrap();
    verdict(&blocks(depth)).unwrap();
}
