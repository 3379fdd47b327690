//! The JSON of `db_*`: what was written is what is read, and what is read is what serde_json's values say.

use crate::input::Input;
use crate::{Target, texts};
use orama_runtime::batches::{arguments, queries, reply, transaction};
use orama_runtime::limits::{DB_STATEMENT_ARGUMENTS_MAX, DB_STATEMENTS_MAX};
use orama_runtime::services::{
    BatchFailure, BatchOutcome, ErrorCode, ServiceError, SqlValue, Statement, StatementKind, StatementResult,
};
use serde_json::{Value, json};

pub const TARGET: Target = Target { name: "host_json", check, seeds };

pub fn check(bytes: &[u8]) {
    match bytes.split_first() {
        Some((b'w', rest)) => written_is_read(&mut Input::new(rest)),
        Some((b'r', rest)) => replied_is_read(&mut Input::new(rest)),
        _ => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            arguments_are_values(text);
            batches_are_values(text);
        }
    }
}

fn same(a: &SqlValue, b: &SqlValue) -> bool {
    match (a, b) {
        // The reference reads decimals with an error in the last places.
        (SqlValue::Real(a), SqlValue::Real(b)) => {
            a == b || (a - b).abs() <= a.abs() * 1e-15 || (a - b).abs() < 1e-300
        }
        // `-0`, which is an integer for SQL.
        (SqlValue::Real(a), SqlValue::Integer(0)) => *a == 0.0,
        _ => a == b,
    }
}

fn arguments_are_values(text: &str) {
    let found = arguments(text);
    let json: Value = match serde_json::from_str(text) {
        Ok(json) => json,
        // The reference rounds the largest number up.
        Err(error) if error.to_string().contains("out of range") => return,
        // It has a limit of depth, and no argument may be deep.
        Err(error) => {
            assert!(text.is_empty() || found.is_err(), "{text:?} is no JSON ({error}) and gave {found:?}");
            return;
        }
    };
    match (expected(&json), found) {
        (Some(expected), Ok(found)) => {
            let all_same =
                expected.len() == found.len() && expected.iter().zip(&found).all(|(a, b)| same(a, b));
            assert!(all_same, "{text:?} gave {found:?} instead of {expected:?}");
        }
        (None, Err(_)) => {}
        // The reference makes a number of any size a real one.
        (Some(_), Err(error)) => assert!(error.message.contains("does not fit"), "{text:?}: {error}"),
        (None, Ok(found)) => panic!("{text:?} gave {found:?}"),
    }
}

/// The arguments by a second reading; `None` for what is refused.
fn expected(json: &Value) -> Option<Vec<SqlValue>> {
    let list = match json {
        Value::Null => return Some(Vec::new()),
        Value::Array(list) if list.len() <= DB_STATEMENT_ARGUMENTS_MAX => list,
        _ => return None,
    };
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    list.iter()
        .map(|value| {
            Some(match value {
                Value::Null => SqlValue::Null,
                Value::Bool(is_true) => SqlValue::Integer(i64::from(*is_true)),
                Value::String(text) => SqlValue::Text(text.clone()),
                Value::Array(bytes) => SqlValue::Blob(bytes.iter().map(byte).collect::<Option<_>>()?),
                Value::Object(_) => return None,
                Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                    (Some(number), _) => SqlValue::Integer(number),
                    _ if number.is_u64() => return None,
                    (None, number) => SqlValue::Real(number?),
                },
            })
        })
        .collect()
}

fn batches_are_values(text: &str) {
    for (read, kind) in [(transaction as fn(&str) -> _, None), (queries, Some(StatementKind::Query))] {
        let read: Result<(_, Vec<Statement>), BatchFailure> = read(text);
        let Ok((_, statements)) = read else { continue };
        let json: Value = match serde_json::from_str(text) {
            Ok(json) => json,
            Err(error) if error.to_string().contains("out of range") => return,
            Err(error) => panic!("{text:?} was read as {statements:?}, and is no JSON: {error}"),
        };
        let ops = json["ops"].as_array().expect("the operations are an array");
        assert_eq!(ops.len(), statements.len());
        assert!(ops.len() <= DB_STATEMENTS_MAX);
        for (op, statement) in ops.iter().zip(&statements) {
            assert_eq!(op["sql"], statement.sql.as_str());
            let named = match op["kind"].as_str() {
                Some("exec") => StatementKind::Exec,
                Some("query") => StatementKind::Query,
                _ => kind.expect("only a batch of queries leaves the kind out"),
            };
            assert_eq!(named, statement.kind);
            let args =
                expected(&op["args"]).unwrap_or_else(|| panic!("{text:?} has arguments that are refused"));
            assert!(
                args.len() == statement.args.len()
                    && args.iter().zip(&statement.args).all(|(a, b)| same(a, b)),
                "{text:?}"
            );
        }
    }
}

/// Arguments that are written come back exactly.
fn written_is_read(input: &mut Input<'_>) {
    let mut values = Vec::new();
    while !input.is_empty() && values.len() < 64 {
        values.push(match input.below(5) {
            0 => SqlValue::Null,
            1 => SqlValue::Integer(input.number()),
            2 => SqlValue::Real(
                Some(f64::from_bits(input.number() as u64)).filter(|real| real.is_finite()).unwrap_or(-0.0),
            ),
            3 => SqlValue::Text(input.text()),
            _ => SqlValue::Blob(input.some().to_vec()),
        });
    }
    let json: Vec<Value> = values
        .iter()
        .map(|value| match value {
            SqlValue::Null => Value::Null,
            SqlValue::Integer(number) => json!(number),
            SqlValue::Real(number) => json!(number),
            SqlValue::Text(text) => json!(text),
            SqlValue::Blob(bytes) => json!(bytes),
        })
        .collect();
    let bits = |values: &[SqlValue]| -> Vec<_> {
        values
            .iter()
            .map(|value| match value {
                SqlValue::Real(real) => format!("real {:x}", real.to_bits()),
                value => format!("{value:?}"),
            })
            .collect()
    };
    let text = Value::from(json).to_string();
    let found = arguments(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(bits(&found), bits(&values), "{text}");
}

/// What a guest is told of a transaction is JSON that says what happened.
fn replied_is_read(input: &mut Input<'_>) {
    let (mut kinds, mut results) = (Vec::new(), Vec::new());
    for _ in 0..input.below(6) {
        let text = input.text();
        let (kind, result) = match input.below(2) {
            0 => {
                let number = input.number();
                let result =
                    StatementResult::Exec { rows_affected: number.unsigned_abs(), last_insert_id: number };
                (StatementKind::Exec, result)
            }
            _ => (
                StatementKind::Query,
                StatementResult::Query { rows: json!([{ text: 1 }]).to_string(), row_count: 1 },
            ),
        };
        kinds.push(kind);
        results.push(result);
    }
    let message = input.text();
    let failure = (input.below(2) == 1).then(|| {
        let index = (!kinds.is_empty()).then(|| input.below(kinds.len()));
        BatchFailure { index, error: ServiceError::new(ErrorCode::InvalidArgument, message.clone()) }
    });
    if let Some(index) = failure.as_ref().and_then(|failure| failure.index) {
        results.truncate(index);
    }
    let expected: Vec<Value> = results.iter().map(|result| match result {
        StatementResult::Exec { rows_affected, last_insert_id } => {
            json!({"kind": "exec", "rows_affected": rows_affected, "last_insert_id": last_insert_id, "error": ""})
        }
        StatementResult::Query { rows, .. } => {
            json!({"kind": "query", "rows": serde_json::from_str::<Value>(rows).expect("rows are JSON"), "error": ""})
        }
    }).collect();
    let failed = failure.as_ref().map(|failure| failure.index);
    let text = reply(&kinds, BatchOutcome { committed: failed.is_none(), results, failure });
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let told = json["results"].as_array().expect("results are an array");
    assert_eq!(told[..expected.len()], expected[..], "{text}");
    assert_eq!(json["committed"], failed.is_none());
    match failed {
        None => assert_eq!(
            (&json["error"], &json["failed_index"], told.len()),
            (&json!(""), &json!(-1), expected.len())
        ),
        Some(index) => {
            assert_eq!(
                (&json["error"], &json["failed_index"]),
                (&json!(message), &index.map_or(json!(-1), |index| json!(index)))
            );
            if let Some(index) = index {
                assert_eq!((told.len(), &told[index]["error"]), (index + 1, &json!(message)));
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "[1, -0, 0.0, -0.0, 1e2, 9223372036854775807, 9223372036854775808, -9223372036854775808, 1.7976931348623157e308]",
        "[null, true, false, \"a\\u0000\\ud83d\\ude00\\n\", [], [0, 255], \"\"]",
        "null",
        " [ [256] , {} , \"\\ud800\" , 1e400 , [1.0] ] ",
        "[[[[[[[[1]]]]]]]]",
        "{\"ops\": [{\"kind\": \"exec\", \"sql\": \"INSERT INTO t VALUES (?)\", \"args\": [1]}, {\"kind\": \"query\", \"sql\": \"SELECT 1\", \"args\": null}]}",
        "{\"ops\": [{\"sql\": \"\\u0053ELECT ?\", \"args\": [[1, 2]]}, {\"sql\": \"\", \"kind\": \"query\"}], \"consistency\": \"none\", \"cache_ttl\": 3}",
        "{\"cache_ttl\": 0, \"consistency\": \"strong\", \"ops\": []}",
        "w\u{1}\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{3}\u{4}a\"\\b\u{4}\u{2}xy\u{2}\u{9}\u{9}\u{9}\u{9}\u{9}\u{9}\u{9}\u{3f}\0",
        "r\u{4}\u{2}ab\0\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{3}\"\\x\u{1}\u{0}\u{0}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{5}err\"\n\u{1}\u{1}",
    ])
}
