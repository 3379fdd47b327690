//! What goes well: each function from each module, what reaches the service, what the guest gets of its answer.

use crate::common::Turns;
use crate::guest::{Arg, BUMP, FUNCTIONS, call, call_from, good, run_at_depth, run_with, s, text};
use crate::recorder::{Call, Recorder};
use bytes::Bytes;
use orama_runtime::invocation::Invocation;
use orama_runtime::limits::{CACHE_TTL_MAX, STORAGE_MAX_BYTES};
use orama_runtime::services::{
    BatchMode, BatchOutcome, Consistency, ErrorCode, Event, FetchRequest, LaterRun, ServiceError, SqlValue,
    Statement, StatementKind, StatementResult,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

fn query_result() -> BatchOutcome {
    let rows = r#"[{"n":9007199254740993}]"#.to_owned();
    BatchOutcome {
        committed: true,
        results: vec![StatementResult::Query { rows, row_count: 1 }],
        failure: None,
    }
}

fn exec_result() -> BatchOutcome {
    let results = vec![StatementResult::Exec { rows_affected: 3, last_insert_id: -7 }];
    BatchOutcome { committed: true, results, failure: None }
}

/// What a service must have been asked by the good arguments of a function.
fn expected_call(function: &str) -> Call {
    let statement = |kind, sql: &str, args| vec![Statement { kind, sql: sql.to_owned(), args }];
    let read = |consistency, sql, args| {
        Call::Run(BatchMode::Read(consistency), statement(StatementKind::Query, sql, args))
    };
    let write = |sql, args| Call::Run(BatchMode::Write, statement(StatementKind::Exec, sql, args));
    match function {
        "get_secret" => Call::Secret("NAME".into()),
        "db_query" | "db_query_v2" => read(Consistency::Weak, "SELECT ?", vec![SqlValue::Integer(1)]),
        "db_execute" | "db_execute_v2" => {
            write("DELETE FROM t WHERE a = ?", vec![SqlValue::Text("x".into())])
        }
        "db_transaction" => write("DELETE FROM t", vec![]),
        "db_query_batch" => read(Consistency::None, "SELECT 1", vec![]),
        "cache_get" => Call::CacheGet("key".into()),
        "cache_set" => Call::CacheSet("key".into(), "value".into(), Some(Duration::from_secs(60))),
        "cache_delete" => Call::CacheDelete("key".into()),
        "cache_incr" => Call::CacheIncrement("key".into(), 1),
        "cache_incr_by" => Call::CacheIncrement("key".into(), -5),
        "http_fetch" => Call::Fetch(FetchRequest {
            method: "POST".into(),
            url: "https://example.com/".into(),
            headers: vec![("a".into(), "b".into())],
            body: "body".into(),
        }),
        "storage_put" => Call::Put("object".into()),
        "storage_get" => Call::Get("bafkreicid".into()),
        "pubsub_publish" => Call::Publish(vec![Event {
            topic: "topic".into(),
            data: r#"{"a":1}"#.into(),
            depth: 1,
            trace: None,
        }]),
        "pubsub_publish_batch" => Call::Publish(vec![
            Event { topic: "one".into(), data: r#"{"a":1}"#.into(), depth: 1, trace: None },
            Event { topic: "two".into(), data: r#""/w==""#.into(), depth: 1, trace: None },
        ]),
        "pubsub_publish_later" => Call::PublishLater(
            Event { topic: "topic".into(), data: r#"{"a":1}"#.into(), depth: 1, trace: None },
            Duration::from_millis(1500),
        ),
        "exec_and_publish" => Call::WithMessage(
            statement(StatementKind::Exec, "DELETE FROM t", vec![]),
            Event { topic: "topic".into(), data: r#"{"n":{{seq}}}"#.into(), depth: 1, trace: None },
        ),
        "function_invoke" | "function_invoke_v2" => Call::Function {
            function: "callee@2".into(),
            payload: "input".into(),
            depth: 1,
            trigger_depth: 0,
        },
        "function_invoke_async" => Call::RunLater(LaterRun {
            function: "callee@2".into(),
            payload: "input".into(),
            depth: 1,
            trace: None,
        }),
        other => panic!("{other}"),
    }
}

/// What the guest gets when all goes well: the number, or the bytes.
fn expected_result(function: &str) -> Result<i64, &'static str> {
    match function {
        "get_secret" | "cache_get" | "storage_get" => Err("found"),
        "db_query" => Err(r#"[{"n":9007199254740993}]"#),
        "db_query_v2" => Err(r#"{"rows":[{"n":9007199254740993}],"error":""}"#),
        "db_execute" => Ok(3),
        "db_execute_v2" => Err(r#"{"rows_affected":3,"last_insert_id":-7,"error":""}"#),
        "db_transaction" => Err(
            r#"{"committed":true,"results":[{"kind":"exec","rows_affected":3,"last_insert_id":-7,"error":""}],"failed_index":-1,"error":"","code":""}"#,
        ),
        "db_query_batch" => Err(
            r#"{"results":[{"kind":"query","rows":[{"n":9007199254740993}],"error":""}],"failed_index":-1,"error":"","code":""}"#,
        ),
        "cache_set" => Ok(0),
        "cache_delete" | "pubsub_publish" | "pubsub_publish_batch" | "pubsub_publish_later" => Ok(1),
        "function_invoke_async" => Ok(1),
        "exec_and_publish" => Err(
            r#"{"seq":7,"published":true,"publish_error":"","committed":true,"results":[{"kind":"exec","rows_affected":3,"last_insert_id":-7,"error":""}],"failed_index":-1,"error":"","code":""}"#,
        ),
        "function_invoke" => Err("output"),
        "function_invoke_v2" => {
            Err(r#"{"status":"success","error":"","code":"","request_id":"r-2","output":"output"}"#)
        }
        "cache_incr" | "cache_incr_by" => Ok(i64::MIN + 1),
        "http_fetch" => Err(r#"{"status":200,"headers":{},"body":""}"#),
        "storage_put" => Err("bafkreicid"),
        other => panic!("{other}"),
    }
}

#[test]
fn each_function_reaches_its_service_from_each_module() {
    for (function, _, _) in FUNCTIONS {
        for module in ["env", "host", "orama"] {
            let outcome = if function.contains("query") { query_result() } else { exec_result() };
            let recorder = Arc::new(Recorder {
                outcome,
                found: Some("found".into()),
                sum: i64::MIN + 1,
                ..Recorder::default()
            });
            let got = call_from(module, &recorder, function, &good(function));
            assert_eq!(got.result, Ok(()), "{module}.{function}");
            assert_eq!(recorder.calls(), [expected_call(function)], "{module}.{function}");
            match expected_result(function) {
                Ok(number) => assert_eq!(got.raw, number, "{module}.{function}"),
                Err(text) => assert_eq!(got.text(), text, "{module}.{function}"),
            }
            assert_eq!(got.log, Vec::<String>::new(), "{module}.{function}");
        }
    }
}

#[test]
fn each_functions_failure_is_the_documented_one() {
    let why = "busy: come back later";
    for (function, _, _) in FUNCTIONS {
        let fail = Some(ServiceError::new(ErrorCode::Unavailable, why));
        let recorder = Arc::new(Recorder { fail, ..Recorder::default() });
        let got = call(&recorder, function, &good(function));
        assert_eq!(got.result, Ok(()), "{function}");
        let failed_exec = json!({"kind": "exec", "rows_affected": 0, "last_insert_id": 0, "error": why});
        let failed_query = json!({"kind": "query", "rows": [], "error": why});
        let told = match function {
            "db_query_v2" => json!({"rows": [], "error": why}),
            "db_execute_v2" => json!({"rows_affected": 0, "last_insert_id": 0, "error": why}),
            "db_transaction" => {
                json!({"committed": false, "results": [failed_exec], "failed_index": 0, "error": why, "code": "UNAVAILABLE"})
            }
            "db_query_batch" => {
                json!({"results": [failed_query], "failed_index": 0, "error": why, "code": "UNAVAILABLE"})
            }
            "exec_and_publish" => {
                json!({"seq": 0, "published": false, "publish_error": "", "committed": false, "results": [],
                    "failed_index": -1, "error": why, "code": "UNAVAILABLE"})
            }
            "function_invoke_v2" => {
                json!({"status": "timeout", "output": "", "error": why, "code": "UNAVAILABLE", "request_id": ""})
            }
            "http_fetch" => json!({"status": 0, "error": why}),
            // What the guest cannot be told is in its log.
            _ => {
                assert_eq!((got.raw, got.text()), (0, ""), "{function}");
                assert_eq!(got.log, [format!("error: {function}: {why}")], "{function}");
                continue;
            }
        };
        assert_eq!(got.json(), told, "{function}");
        assert_eq!(got.log, Vec::<String>::new(), "{function}");
    }
}

#[test]
fn what_is_not_there_is_empty_and_no_failure() {
    for (function, _, _) in FUNCTIONS {
        let recorder = Arc::new(Recorder::default());
        let got = call(&recorder, function, &good(function));
        if matches!(function, "get_secret" | "cache_get" | "storage_get" | "cache_incr") {
            assert_eq!((got.raw, got.log.len()), (0, 0), "{function}");
        }
        // A database that gives no result for a statement has failed.
        if function.starts_with("db_") && !function.contains("batch") && !function.contains("transaction") {
            let said = format!("{}{:?}", got.text(), got.log);
            assert!(said.contains("gave no result"), "{function}: {said}");
        }
    }
}

#[test]
fn empty_values_are_values() {
    let recorder = Arc::new(Recorder { found: Some(Bytes::new()), ..Recorder::default() });
    call(&recorder, "cache_set", &[s("key"), s(""), Arg::Long(0)]);
    call(&recorder, "storage_put", &[s("")]);
    assert_eq!(call(&recorder, "storage_get", &[s("")]).raw, 0);
    call(&recorder, "http_fetch", &[s("GET"), s("http://a/"), s(""), s("")]);
    let empty = FetchRequest {
        method: "GET".into(),
        url: "http://a/".into(),
        headers: Vec::new(),
        body: Bytes::new(),
    };
    assert_eq!(
        recorder.calls(),
        [
            Call::CacheSet("key".into(), Bytes::new(), None),
            Call::Put(Bytes::new()),
            Call::Get(String::new()),
            Call::Fetch(empty)
        ]
    );
}

#[test]
fn a_ttl_is_seconds_and_0_or_a_very_long_one_has_no_end() {
    let longest = CACHE_TTL_MAX.as_secs() as i64;
    for (seconds, ttl) in [
        (0, None),
        (1, Some(Duration::from_secs(1))),
        (longest, Some(CACHE_TTL_MAX)),
        (longest + 1, None),
        (i64::MAX, None),
    ] {
        let recorder = Arc::new(Recorder::default());
        call(&recorder, "cache_set", &[s("key"), s("v"), Arg::Long(seconds)]);
        assert_eq!(recorder.calls(), [Call::CacheSet("key".into(), "v".into(), ttl)], "{seconds}");
    }
    for seconds in [-1, i64::MIN] {
        let recorder = Arc::new(Recorder::default());
        let got = call(&recorder, "cache_set", &[s("key"), s("v"), Arg::Long(seconds)]);
        assert_eq!(recorder.calls(), []);
        let line =
            format!("error: cache_set: the TTL is {seconds} s; it must be at least 0, and 0 means no expiry");
        assert_eq!((got.result, got.log), (Ok(()), vec![line]));
    }
}

#[test]
fn numbers_are_exact_in_all_64_bits() {
    for number in [0, -1, 9_007_199_254_740_993, i64::MAX, i64::MIN] {
        let recorder = Arc::new(Recorder { sum: number, ..Recorder::default() });
        let got = call(&recorder, "cache_incr_by", &[s("n"), Arg::Long(number)]);
        assert_eq!(got.raw, number);
        assert_eq!(recorder.calls(), [Call::CacheIncrement("n".into(), number)]);
    }
    for (affected, told) in [(0, 0), (i32::MAX as u64, i32::MAX), (u64::MAX, i32::MAX)] {
        let results = vec![StatementResult::Exec { rows_affected: affected, last_insert_id: 0 }];
        let outcome = BatchOutcome { committed: true, results, failure: None };
        let recorder = Arc::new(Recorder { outcome, ..Recorder::default() });
        assert_eq!(call(&recorder, "db_execute", &good("db_execute")).raw, i64::from(told));
    }
}

#[test]
fn an_object_of_the_largest_size_goes_in_and_comes_out_whole() {
    let mut object: Vec<u8> = (0..STORAGE_MAX_BYTES).map(|i| (i % 251) as u8).collect();
    let recorder = Arc::new(Recorder::default());
    assert_eq!(call(&recorder, "storage_put", &[s(&object)]).text(), "bafkreicid");
    assert!(recorder.calls() == [Call::Put(object.clone().into())]);
    let found = Some(Bytes::from(object.clone()));
    let recorder = Arc::new(Recorder { found, ..Recorder::default() });
    let got = call(&recorder, "storage_get", &[s("cid")]);
    assert_eq!(got.raw & 0xffff_ffff, STORAGE_MAX_BYTES as i64);
    object.truncate(3 << 20);
    let found = Some(Bytes::from(object.clone()));
    let recorder = Arc::new(Recorder { found, ..Recorder::default() });
    assert!(call(&recorder, "storage_get", &[s("cid")]).bytes == object);
}

#[test]
fn an_event_is_one_deeper_than_what_published_it() {
    for (depth, told) in [(0, 1), (1, 2), (5, 6), (u32::MAX, u32::MAX)] {
        let recorder = Arc::new(Recorder::default());
        let guest = text("env", "pubsub_publish", BUMP);
        let got = run_at_depth(depth, &guest, &recorder.host(Turns), &[s("t"), s(" {\"a\": 1e400} ")], 60);
        assert_eq!(got.raw, 1);
        let event = Event { topic: "t".into(), data: " {\"a\": 1e400} ".into(), depth: told, trace: None };
        assert_eq!(recorder.calls(), [Call::Publish(vec![event])]);
    }
}

#[test]
fn triggers_that_did_not_fire_are_told_in_the_log() {
    let recorder = Arc::new(Recorder { suppressed_triggers: 2, ..Recorder::default() });
    let got = call(&recorder, "pubsub_publish", &[s("t"), s("1")]);
    assert_eq!(got.raw, 1);
    assert_eq!(got.log, ["error: pubsub_publish: 2 triggers did not fire: the depth limit of 5 was reached"]);
}

#[test]
fn calls_are_so_deep_and_no_deeper() {
    for (depth, goes) in [(0, true), (7, true), (8, false)] {
        let recorder = Arc::new(Recorder::default());
        let guest = text("env", "function_invoke_v2", BUMP);
        let invocation = |invocation: &mut Invocation| invocation.call_depth = depth;
        let got = run_with(&guest, &recorder.host(Turns), &[s("f"), s("")], 60, invocation);
        assert_eq!(recorder.calls().len(), usize::from(goes), "{depth}");
        if !goes {
            assert_eq!(got.json()["code"], "INVALID_ARGUMENT");
            assert!(got.json()["error"].as_str().unwrap().contains("8 deep"), "{}", got.json());
        }
    }
}
