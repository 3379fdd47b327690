//! `db_*` from a guest's JSON to its JSON. The cases of reading and writing it are tested beside that code.

use crate::guest::{call, s};
use crate::recorder::{Call, Recorder};
use orama_runtime::services::{
    BatchFailure, BatchMode, BatchOutcome, ErrorCode, ServiceError, SqlValue, StatementResult,
};
use serde_json::json;
use std::sync::Arc;

fn bound(recorder: &Recorder) -> Vec<SqlValue> {
    match recorder.calls().pop().unwrap() {
        Call::Run(_, mut statements) => statements.pop().unwrap().args,
        other => panic!("{other:?}"),
    }
}

fn affects(rows_affected: u64) -> StatementResult {
    StatementResult::Exec { rows_affected, last_insert_id: 1 }
}

#[test]
fn arguments_reach_the_database_as_they_are() {
    let recorder = Arc::new(Recorder::default());
    call(
        &recorder,
        "db_execute",
        &[s("x"), s(r#"[null,true,false,-1,9007199254740993,1.5,"ä",[0,255],[]]"#)],
    );
    assert_eq!(
        bound(&recorder),
        [
            SqlValue::Null,
            SqlValue::Integer(1),
            SqlValue::Integer(0),
            SqlValue::Integer(-1),
            SqlValue::Integer(9_007_199_254_740_993),
            SqlValue::Real(1.5),
            SqlValue::Text("ä".into()),
            SqlValue::Blob(vec![0, 255]),
            SqlValue::Blob(vec![]),
        ]
    );
    for none in ["", "null", "[]"] {
        let recorder = Arc::new(Recorder::default());
        call(&recorder, "db_execute", &[s("x"), s(none)]);
        assert_eq!(bound(&recorder), [], "{none:?}");
    }
}

#[test]
fn a_large_argument_is_read_like_a_small_one() {
    let text = "ä\"".repeat(1 << 20);
    let blob: Vec<u8> = (0..1 << 20).map(|i| i as u8).collect();
    let recorder = Arc::new(Recorder::default());
    let got = call(&recorder, "db_execute_v2", &[s("x"), s(json!([text, blob, 7]).to_string())]);
    assert_eq!(got.json()["error"], "the database gave no result");
    assert!(bound(&recorder) == [SqlValue::Text(text), SqlValue::Blob(blob), SqlValue::Integer(7)]);
    let bad = json!(["x".repeat(100_000), {}]).to_string();
    let got = call(&recorder, "db_execute_v2", &[s("x"), s(bad)]);
    assert_eq!(got.json()["error"], "args[1]: an object is not an SQL value; pass its JSON as a string");
}

#[test]
fn a_bad_argument_is_told_where_the_guest_can_learn_of_it() {
    let bad = [s("x"), s("[1,18446744073709551616]")];
    let why = "args[1]: the integer does not fit 64 bits; pass it as a string";
    for function in ["db_query", "db_execute"] {
        let got = call(&Arc::default(), function, &bad);
        assert_eq!((got.raw, got.log), (0, vec![format!("error: {function}: {why}")]));
    }
    assert_eq!(call(&Arc::default(), "db_query_v2", &bad).json(), json!({"rows": [], "error": why}));
    let told = json!({"rows_affected": 0, "last_insert_id": 0, "error": why});
    assert_eq!(call(&Arc::default(), "db_execute_v2", &bad).json(), told);
}

#[test]
fn a_transaction_tells_each_statements_result_and_never_nothing() {
    let ops = r#"{"ops":[{"kind":"exec","sql":"A"},{"kind":"query","sql":"B"},{"kind":"exec","sql":"C"}]}"#;
    let rows = StatementResult::Query { rows: "[{\"x\":1}]".into(), row_count: 1 };
    let results = vec![affects(2), rows, affects(0)];
    let outcome = BatchOutcome { committed: true, results, failure: None };
    let recorder = Arc::new(Recorder { outcome, ..Recorder::default() });
    assert_eq!(
        call(&recorder, "db_transaction", &[s(ops)]).json(),
        json!({"committed": true, "failed_index": -1, "error": "", "code": "", "results": [
            {"kind": "exec", "rows_affected": 2, "last_insert_id": 1, "error": ""},
            {"kind": "query", "rows": [{"x": 1}], "error": ""},
            {"kind": "exec", "rows_affected": 0, "last_insert_id": 1, "error": ""},
        ]})
    );
    let Some(Call::Run(BatchMode::Write, statements)) = recorder.calls().pop() else { panic!() };
    assert_eq!(statements.iter().map(|s| s.sql.as_str()).collect::<Vec<_>>(), ["A", "B", "C"]);
    let codes = [
        (ErrorCode::TooManyStatements, "TOO_MANY_STATEMENTS"),
        (ErrorCode::PayloadTooLarge, "PAYLOAD_TOO_LARGE"),
        (ErrorCode::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (ErrorCode::Unavailable, "UNAVAILABLE"),
        (ErrorCode::InvalidArgument, "INVALID_ARGUMENT"),
        (ErrorCode::Internal, "INTERNAL"),
    ];
    for (code, word) in codes {
        let failure = Some(BatchFailure { index: Some(2), error: ServiceError::new(code, "why") });
        let outcome = BatchOutcome { committed: false, results: vec![], failure };
        let recorder = Arc::new(Recorder { outcome, ..Recorder::default() });
        let told = call(&recorder, "db_transaction", &[s(ops)]).json();
        assert_eq!((&told["committed"], &told["failed_index"]), (&false.into(), &2.into()), "{told}");
        assert_eq!((&told["code"], &told["error"]), (&word.into(), &"why".into()), "{told}");
        assert_eq!(told["results"][2]["error"], "why", "{told}");
    }
}

#[test]
fn a_hundred_statements_are_taken_and_one_more_is_not() {
    let ops = |count: usize| {
        let op = json!({"kind": "query", "sql": "SELECT 1", "args": []});
        json!({ "ops": vec![op; count] }).to_string()
    };
    for function in ["db_transaction", "db_query_batch"] {
        let recorder = Arc::new(Recorder::default());
        call(&recorder, function, &[s(ops(100))]);
        let Some(Call::Run(_, statements)) = recorder.calls().pop() else { panic!() };
        assert_eq!(statements.len(), 100);
        let recorder = Arc::new(Recorder::default());
        let told = call(&recorder, function, &[s(ops(101))]).json();
        assert_eq!(recorder.calls(), []);
        assert_eq!((&told["code"], &told["results"]), (&"TOO_MANY_STATEMENTS".into(), &json!([])));
        assert_eq!(told["error"], "there are 101 operations, more than the limit of 100");
    }
}

#[test]
fn a_bad_batch_reaches_no_database_and_says_what_is_wrong() {
    for (ops, index, word) in [
        ("", -1, "not valid"),
        ("[]", -1, "not valid"),
        (r#"{"ops":[],"timeout":5}"#, -1, "timeout"),
        (r#"{"ops":[{"kind":"query","sql":"A"},{"kind":"query","sq":"B"}]}"#, 1, "`sq`"),
    ] {
        for function in ["db_transaction", "db_query_batch"] {
            let recorder = Arc::new(Recorder::default());
            let told = call(&recorder, function, &[s(ops)]).json();
            assert_eq!(recorder.calls(), []);
            assert_eq!((&told["code"], &told["failed_index"]), (&"INVALID_ARGUMENT".into(), &index.into()));
            assert!(told["error"].as_str().unwrap().contains(word), "{told}");
        }
    }
}

#[test]
fn many_rows_arrive_as_they_are() {
    let rows = format!("[{}1]", "{\"a\":9007199254740993}, ".repeat(200_000));
    let results = vec![StatementResult::Query { rows: rows.clone(), row_count: 1 }; 1];
    let outcome = BatchOutcome { committed: true, results, failure: None };
    let recorder = Arc::new(Recorder { outcome, ..Recorder::default() });
    assert!(call(&recorder, "db_query", &[s("x"), s("")]).text() == rows);
    let v2 = call(&recorder, "db_query_v2", &[s("x"), s("")]);
    assert!(v2.text() == format!("{{\"rows\":{rows},\"error\":\"\"}}"));
}

#[test]
fn an_error_is_told_as_json_whatever_is_in_it() {
    let why = "near \"\u{7}\\\": syntax\nerror ä";
    let fail = Some(ServiceError::invalid(why));
    let recorder = Arc::new(Recorder { fail, ..Recorder::default() });
    for function in ["db_query_v2", "db_execute_v2", "http_fetch"] {
        let got = call(&recorder, function, &crate::guest::good(function));
        assert_eq!(got.json()["error"], why, "{function}");
    }
}
