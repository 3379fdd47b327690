//! Guests that pass bad pointers.

use crate::common::{function, node, text};
use orama_runtime::invocation::Failure;

#[test]
fn host_functions_check_every_pointer() {
    const FUNCTIONS: [&str; 20] = [
        "get_caller_claim",
        "get_env",
        "get_secret",
        "db_query",
        "db_execute",
        "db_query_v2",
        "db_execute_v2",
        "db_transaction",
        "db_query_batch",
        "cache_get",
        "cache_set",
        "cache_delete",
        "cache_incr",
        "cache_incr_by",
        "http_fetch",
        "storage_put",
        "storage_get",
        "pubsub_publish",
        "log_info",
        "log_error",
    ];
    let module = node().guest("pointers_host");
    for (letter, name) in ('a'..).zip(FUNCTIONS) {
        for case in '0'..='6' {
            let outcome = node().run_both(&module, function(64, 20), format!("{letter}{case}").as_bytes());
            match (&outcome.result, case) {
                (Err(Failure::Trap(message)), '0'..='3') => {
                    assert!(message.starts_with(&format!("{name}: pointer ")), "{name} {case}: {message}");
                    assert!(
                        message.contains("in _start") || message.contains("function"),
                        "{name} {case}: {message}"
                    );
                }
                (Ok(()), '4'..='6') => assert_eq!(text(&outcome), "returned", "{name} {case}"),
                (other, _) => panic!("{name} {case}: {other:?}"),
            }
        }
    }
}

#[test]
fn wasi_functions_check_every_pointer() {
    const FUNCTIONS: &str = "abcdefghijklmnopq";
    let module = node().guest("pointers_wasi");
    for letter in FUNCTIONS.chars() {
        for case in '0'..='3' {
            let outcome = node().run_both(&module, function(64, 20), format!("{letter}{case}").as_bytes());
            match (outcome.result, case) {
                (Err(Failure::Exit(101..)), _) | (Err(Failure::Trap(_)), _) => {}
                // Only the length is bad, and not all of them take one.
                (Err(Failure::Exit(100)), '1' | '3') => {}
                (other, _) => panic!("{letter} {case}: {other:?}"),
            }
        }
    }
}
