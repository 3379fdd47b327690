//! Real programs from standard Go and from TinyGo, over HTTP.

use crate::harness::{Compiler, Node, Shared};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

const COMPILERS: [Compiler; 2] = [Compiler::Go, Compiler::TinyGo];

#[track_caller]
fn run(node: &Node, name: &str, input: &Value) -> Value {
    node.invoke(name, input.to_string()).expect(200).json()
}

/// `level: message` of each message of a record.
fn messages(record: &Value) -> Vec<String> {
    let all = record["messages"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.iter().map(|m| format!("{}: {}", text(&m["level"]), text(&m["message"]))).collect()
}

/// A successful invocation's answer and messages.
#[track_caller]
fn run_logged(node: &Node, name: &str, input: &Value) -> (Value, Vec<String>, String) {
    let answer = node.invoke(name, input.to_string()).expect(200);
    let id = answer.header("x-request-id").unwrap().to_owned();
    (answer.json(), messages(&node.record(name, &id)), id)
}

#[test]
fn a_guest_learns_its_context_under_each_module_name() {
    let Ok(node) = Shared::node() else { return };
    for compiler in COMPILERS {
        for module in ["env", "host", "orama"] {
            let Some(misc) = node.misc(compiler, module) else { continue };
            // Headers a client can write itself say nothing about who it is.
            let answer = node
                .invoke_request(&misc)
                .header("x-wallet", "0xforged")
                .header("x-caller-wallet", "0xforged")
                .header("x-request-id", "forged")
                .body(json!({ "do": "context", "text": "told" }).to_string())
                .send()
                .expect(200);
            let id = answer.header("x-request-id").unwrap().to_owned();
            let expected = json!({
                "caller_wallet": "", "jwt_subject": "", "claim": "", "request_id": id, "env": "my value",
                "env_missing": "", "env_empty_key": "", "leaked": 0,
            });
            assert_eq!(answer.json(), expected, "{misc}");
            let record = node.record(&misc, &id);
            assert_eq!(messages(&record), ["info: info: told", "error: error: told", "info: "], "{misc}");
        }
    }
}

#[test]
fn a_program_sees_its_environment_its_name_and_nothing_else() {
    let Ok(node) = Shared::node() else { return };
    for misc in COMPILERS.into_iter().filter_map(|compiler| node.misc(compiler, "env")) {
        let told = run(&node, &misc, &json!({ "do": "env" }));
        assert_eq!(told, json!({ "args": [misc], "environ": ["MY_VAR=my value"] }));
        let files = run(&node, &misc, &json!({ "do": "files" }));
        for (what, error) in files.as_object().unwrap() {
            assert_ne!(error, "", "{misc}: {what} was allowed");
        }
        assert!(files.as_object().unwrap().len() >= 7, "{files}");
        let random = [(); 2].map(|()| run(&node, &misc, &json!({ "do": "random" }))["random"].clone());
        assert_ne!(random[0], random[1]);
        let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let clocks = run(&node, &misc, &json!({ "do": "time", "ms": 30 }));
        let wall: u128 = clocks["unix_nanos"].as_str().unwrap().parse().unwrap();
        assert!((before..before + 30_000_000_000).contains(&wall), "{before} {clocks}");
        assert!(
            (30_000_000..30_000_000_000_i64).contains(&clocks["elapsed_nanos"].as_i64().unwrap()),
            "{clocks}"
        );
        assert_eq!(run(&node, &misc, &json!({ "do": "goroutines", "n": 10 })), json!({ "sum": 45 }));
        assert_eq!(run(&node, &misc, &json!({ "do": "output", "n": 1_000_000 })), json!([]));
        let (_, messages, _) = run_logged(&node, &misc, &json!({ "do": "stderr", "n": 2 }));
        let expected =
            ["error: stderr line 0", "error: stderr line 1", "error: stderr without an end of line"];
        assert_eq!(messages, expected);
        let (_, messages, _) = run_logged(&node, &misc, &json!({ "do": "logs", "n": 3, "text": "line " }));
        assert_eq!(messages, ["info: line 0", "info: line 1", "info: line 2"]);
    }
}

#[test]
fn programs_fail_in_their_own_ways() {
    let Ok(node) = Shared::node() else { return };
    for compiler in COMPILERS {
        let Some(misc) = node.misc(compiler, "env") else { continue };
        let fails = |input: Value, status: u16, code: &str| {
            let answer = node.invoke(&misc, input.to_string());
            let id = answer.header("x-request-id").unwrap().to_owned();
            (answer.refusal(status, code), messages(&node.record(&misc, &id)).join("\n"))
        };
        let (_, log) = fails(json!({ "do": "exit", "code": 3, "partial": true }), 500, "FUNCTION_EXIT");
        assert_eq!(log, "info: stdout: {\"partial\":");
        fails(json!({ "do": "oom" }), 500, "OUT_OF_MEMORY");
        fails(json!({ "do": "flood" }), 500, "OUTPUT_TOO_LARGE");
        let (message, _) = fails(json!({ "do": "recurse" }), 500, "FUNCTION_TRAP");
        assert!(message.contains("main.recurseForever"), "{message}");
        let panic = json!({ "do": "panic", "text": "on purpose" });
        if compiler == Compiler::Go {
            let (message, log) = fails(panic, 500, "FUNCTION_EXIT");
            assert_eq!(message, "the function exited with code 2; panic: panicked: on purpose");
            assert!(log.contains("on purpose") && log.contains("main.main"), "{log}");
        } else {
            let (message, log) = fails(panic, 500, "FUNCTION_TRAP");
            assert!(message.ends_with("; panic: panicked: on purpose"), "{message}");
            assert!(log.contains("stdout: panic: panicked: on purpose"), "{log}");
            let panic = json!({ "do": "panic", "text": "on purpose", "partial": true });
            let (message, log) = fails(panic, 500, "FUNCTION_TRAP");
            assert!(message.ends_with("; panic: panicked: on purpose"), "{message}");
            assert!(log.contains("stdout: {\"partial\":"), "{log}");
            assert!(!log.is_empty() || message.contains("runtime"), "{message}\n{log}");
        }
        // The next one is none the worse for it.
        let told = run(&node, &misc, &json!({ "do": "" }));
        assert!(told["input_bytes"].as_u64() > Some(0), "{told}");
    }
}

#[test]
fn a_goroutine_gets_its_own_answer_or_is_refused_before_the_work() {
    let Ok(wasm) = guests::go("allocator", &[]) else { return };
    let Ok(node) = Shared::node() else { return };
    node.deploy("allocator", &fs::read(wasm).unwrap(), &[]);
    // While the allocator runs, nobody could be given an answer, so nothing is written.
    let answer = node.invoke("allocator", "within").expect(200);
    let record = node.record("allocator", answer.header("x-request-id").unwrap());
    assert_eq!(answer.json(), json!({ "answers": [""], "rows": "[]" }));
    let log = messages(&record).join("\n");
    assert!(log.contains("db_execute_v2: the guest's allocator may not call this function"), "{log}");
    let told = node.invoke("allocator", "beside").expect(200).json();
    let ids = told["answers"].as_array().unwrap().iter().map(|answer| {
        let answer: Value = serde_json::from_str(answer.as_str().unwrap()).unwrap();
        assert_eq!(answer["rows_affected"], 1, "{answer}");
        answer["last_insert_id"].as_i64().unwrap()
    });
    let ids: BTreeSet<i64> = ids.collect();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>(), "each its own");
}
