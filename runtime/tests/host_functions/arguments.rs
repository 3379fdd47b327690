//! What a guest may hand over: within its memory, valid UTF-8 where it is text, and within the limits.

use crate::guest::{Arg, FUNCTIONS, Got, call, good, s};
use crate::recorder::Recorder;
use orama_runtime::limits::{
    CACHE_KEY_MAX_BYTES, CACHE_VALUE_MAX_BYTES, DB_ARGUMENTS_MAX_BYTES, DB_SQL_MAX_BYTES, EVENT_MAX_BYTES,
    FETCH_HEADERS_JSON_MAX_BYTES, FETCH_REQUEST_MAX_BYTES, FETCH_URL_MAX_BYTES, HOST_NAME_MAX_BYTES,
    INPUT_MAX_BYTES, SECRET_NAME_MAX_BYTES, STORAGE_MAX_BYTES, TOPIC_MAX_BYTES,
};
use std::sync::Arc;

/// Of the test guest.
const MEMORY_BYTES: i32 = 1200 * 65536;

/// Calls with arguments of which no service may hear.
#[track_caller]
fn refused(function: &str, arguments: &[Arg]) -> Got {
    let recorder = Arc::new(Recorder::default());
    let got = call(&recorder, function, arguments);
    assert_eq!(recorder.calls(), [], "{function}");
    got
}

/// What is said of a call that failed as documented: in its result where that can say it, else in one line of the log.
#[track_caller]
fn said(function: &str, got: &Got) -> String {
    assert_eq!(got.result, Ok(()), "{function}");
    let tells = matches!(
        function,
        "db_query_v2"
            | "db_execute_v2"
            | "db_transaction"
            | "db_query_batch"
            | "http_fetch"
            | "function_invoke_v2"
            | "exec_and_publish"
    );
    if tells {
        assert_eq!(got.log, Vec::<String>::new(), "{function}");
        return got.json()["error"].as_str().unwrap().to_owned();
    }
    assert_eq!((got.raw, got.log.len()), (0, 1), "{function}: {:?}", got.log);
    got.log[0].strip_prefix(&format!("error: {function}: ")).unwrap().to_owned()
}

#[test]
fn a_range_outside_the_memory_traps_whichever_argument_it_is() {
    let ranges = [
        (MEMORY_BYTES, 1),
        (MEMORY_BYTES - 1, 2),
        (0, MEMORY_BYTES + 1),
        (0, -1),
        (-1, 1),
        (-1, -1),
        (-16, 32),
        (i32::MIN, i32::MIN),
    ];
    for (function, parameters, _) in FUNCTIONS {
        for (index, _) in parameters.chars().enumerate().filter(|(_, kind)| *kind == 's') {
            for (pointer, length) in ranges {
                let mut arguments = good(function);
                arguments[index] = Arg::Range(pointer, length);
                let got = refused(function, &arguments);
                let said = format!("{function}: pointer {} with length {}", pointer as u32, length as u32);
                assert!(got.trap().starts_with(&said), "{function} {index}: {}", got.trap());
            }
            // An empty argument may lie at the very end.
            let mut arguments = good(function);
            arguments[index] = Arg::Range(MEMORY_BYTES, 0);
            assert_eq!(call(&Arc::default(), function, &arguments).result, Ok(()), "{function} {index}");
        }
    }
}

#[test]
fn a_bad_range_traps_also_behind_an_argument_that_is_refused() {
    for (function, parameters, _) in
        FUNCTIONS.into_iter().filter(|(_, parameters, _)| parameters.starts_with("ss"))
    {
        for index in 1..parameters.matches('s').count() {
            let mut arguments = good(function);
            arguments[0] = s([0xff]);
            arguments[index] = Arg::Range(-1, 1);
            let got = refused(function, &arguments);
            assert!(got.trap().starts_with(function), "{function} {index}: {}", got.trap());
        }
    }
}

#[test]
fn text_that_is_not_utf8_fails_the_call_and_not_the_guest() {
    // By name and index; the others are bytes.
    for (function, index, what) in [
        ("get_secret", 0, "the name"),
        ("db_query", 0, "the SQL"),
        ("db_query", 1, "the argument list"),
        ("db_execute", 0, "the SQL"),
        ("db_execute", 1, "the argument list"),
        ("db_query_v2", 0, "the SQL"),
        ("db_query_v2", 1, "the argument list"),
        ("db_execute_v2", 0, "the SQL"),
        ("db_execute_v2", 1, "the argument list"),
        ("db_transaction", 0, "the operation list"),
        ("db_query_batch", 0, "the operation list"),
        ("cache_get", 0, "the key"),
        ("cache_set", 0, "the key"),
        ("cache_delete", 0, "the key"),
        ("cache_incr", 0, "the key"),
        ("cache_incr_by", 0, "the key"),
        ("http_fetch", 0, "the method"),
        ("http_fetch", 1, "the URL"),
        ("http_fetch", 2, "the header object"),
        ("storage_get", 0, "the content id"),
        ("pubsub_publish", 0, "the topic"),
        ("pubsub_publish", 1, "the data"),
        ("pubsub_publish_batch", 0, "the messages"),
        ("pubsub_publish_later", 1, "the data"),
        ("exec_and_publish", 0, "the operation list"),
        ("exec_and_publish", 1, "the topic"),
        ("exec_and_publish", 2, "the data"),
        ("function_invoke", 0, "the function's name"),
        ("function_invoke_v2", 0, "the function's name"),
        ("function_invoke_async", 0, "the function's name"),
    ] {
        for bytes in [&b"\xff"[..], b"\"\xc3\"", b"\xed\xa0\x80", b"a\xf0\x9f\x98"] {
            let mut arguments = good(function);
            arguments[index] = s(bytes);
            let got = refused(function, &arguments);
            assert_eq!(said(function, &got), format!("{what} is not valid UTF-8"), "{function} {bytes:?}");
        }
    }
    // A long one is read elsewhere, with the same result.
    let mut long = vec![b' '; 200_000];
    long.push(0xff);
    let got = refused("db_query", &[s("SELECT 1"), s(long)]);
    assert_eq!(said("db_query", &got), "the argument list is not valid UTF-8");
}

/// Makes an argument of so many bytes.
type OfLength<'a> = &'a dyn Fn(usize) -> String;

#[test]
fn what_is_longer_than_its_limit_is_refused_with_the_limit() {
    let a_string = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let an_array = |bytes: usize| format!("[{}]", a_string(bytes - 2));
    let an_object = |bytes: usize| format!("{{\"a\":\"\"{}}}", " ".repeat(bytes - 8));
    let text = |bytes: usize| "x".repeat(bytes);
    let cases: [(&str, usize, usize, OfLength<'_>); 20] = [
        ("get_secret", 0, SECRET_NAME_MAX_BYTES, &text),
        ("db_query", 0, DB_SQL_MAX_BYTES, &text),
        ("db_query", 1, DB_ARGUMENTS_MAX_BYTES, &an_array),
        ("db_execute_v2", 1, DB_ARGUMENTS_MAX_BYTES, &an_array),
        ("cache_get", 0, CACHE_KEY_MAX_BYTES, &text),
        ("cache_set", 0, CACHE_KEY_MAX_BYTES, &text),
        ("cache_set", 1, CACHE_VALUE_MAX_BYTES, &text),
        ("cache_incr", 0, CACHE_KEY_MAX_BYTES, &text),
        ("http_fetch", 0, HOST_NAME_MAX_BYTES, &text),
        ("http_fetch", 1, FETCH_URL_MAX_BYTES, &text),
        ("http_fetch", 2, FETCH_HEADERS_JSON_MAX_BYTES, &an_object),
        ("http_fetch", 3, FETCH_REQUEST_MAX_BYTES, &text),
        ("storage_put", 0, STORAGE_MAX_BYTES, &text),
        ("pubsub_publish", 0, TOPIC_MAX_BYTES, &text),
        ("pubsub_publish", 1, EVENT_MAX_BYTES, &a_string),
        ("pubsub_publish_later", 1, EVENT_MAX_BYTES, &a_string),
        ("function_invoke", 0, HOST_NAME_MAX_BYTES, &text),
        ("function_invoke", 1, INPUT_MAX_BYTES, &text),
        ("function_invoke_v2", 1, INPUT_MAX_BYTES, &text),
        ("function_invoke_async", 1, EVENT_MAX_BYTES, &text),
    ];
    for (function, index, limit, of_length) in cases {
        let mut arguments = good(function);
        arguments[index] = s(of_length(limit));
        let recorder = Arc::new(Recorder::default());
        call(&recorder, function, &arguments);
        assert_eq!(recorder.calls().len(), 1, "{function} {index} at the limit");
        arguments[index] = s(of_length(limit + 1));
        let said = said(function, &refused(function, &arguments));
        let rest = format!(" has {} bytes, more than the limit of {limit}", limit + 1);
        assert!(said.ends_with(&rest), "{function} {index}: {said}");
    }
    let got = refused("db_transaction", &[s(" ".repeat(DB_ARGUMENTS_MAX_BYTES + 1))]);
    assert_eq!(got.json()["code"], "PAYLOAD_TOO_LARGE");
}

#[test]
fn a_key_or_a_topic_is_not_empty() {
    for function in ["cache_get", "cache_set", "cache_delete", "cache_incr", "cache_incr_by"] {
        let mut arguments = good(function);
        arguments[0] = s("");
        assert_eq!(said(function, &refused(function, &arguments)), "the key is empty");
    }
    let got = refused("pubsub_publish", &[s(""), s("1")]);
    assert_eq!(said("pubsub_publish", &got), "the topic is empty");
}

#[test]
fn published_data_is_one_json_value() {
    for bad in ["", " ", "{", "{\"a\":1}}", "1 2", "nul", "[1,]", "'a'", "NaN", "\"\u{1}\""] {
        let said = said("pubsub_publish", &refused("pubsub_publish", &[s("t"), s(bad)]));
        assert!(said.starts_with("the data is not a JSON value: "), "{bad:?}: {said}");
    }
    let long = format!("[{}]", "1,".repeat(100_000));
    let said = said("pubsub_publish", &refused("pubsub_publish", &[s("t"), s(long)]));
    assert!(said.starts_with("the data is not a JSON value: "), "{said}");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for good in ["null", " 5 ", "\"\\ud83d\\ude00\"", "123456789012345678901234567890", &deep] {
        assert_eq!(call(&Arc::default(), "pubsub_publish", &[s("t"), s(good)]).raw, 1, "{good:.40}");
    }
}

#[test]
fn a_batch_names_the_message_that_is_wrong() {
    for (batch, why) in [
        ("{}", "the messages: invalid type: map"),
        (
            r#"[{"topic":"a","data":1},{"topic":"","data":1}]"#,
            "message 1 (counted from 0): the topic is empty",
        ),
        (r#"[{"topic":"a"}]"#, "message 0 (counted from 0): it needs either data or data_base64"),
        (r#"[{"topic":"a","data":1,"data_base64":""}]"#, "message 0 (counted from 0): it needs either"),
        (
            r#"[{"topic":"a","data_base64":"=="}]"#,
            "message 0 (counted from 0): the field data_base64 must be",
        ),
        (
            r#"[{"topic":"a","data":1,"dta":1}]"#,
            "message 0 (counted from 0): it is not understood: unknown field",
        ),
    ] {
        let got = refused("pubsub_publish_batch", &[s(batch)]);
        let said = said("pubsub_publish_batch", &got);
        assert!(said.starts_with(why), "{batch}: {said}");
    }
    let message = r#"{"topic":"a","data":null}"#;
    let batch = |count: usize| format!("[{}]", vec![message; count].join(","));
    assert_eq!(call(&Arc::default(), "pubsub_publish_batch", &[s(batch(100))]).raw, 1);
    let got = refused("pubsub_publish_batch", &[s(batch(101))]);
    assert_eq!(said("pubsub_publish_batch", &got), "a batch has at most 100 messages, not 101");
    let long = format!(r#"[{{"topic":"a","data":"{}"}}]"#, "x".repeat(EVENT_MAX_BYTES));
    let said = said("pubsub_publish_batch", &refused("pubsub_publish_batch", &[s(long)]));
    assert!(said.contains("message 0") && said.contains("more than the limit"), "{said}");
}

#[test]
fn a_delay_is_from_now_to_thirty_days() {
    let most = 30 * 86_400_000;
    for delay in [0, most] {
        let got = call(&Arc::default(), "pubsub_publish_later", &[s("t"), s("1"), Arg::Long(delay)]);
        assert_eq!(got.raw, 1, "{delay}");
    }
    for delay in [-1, most + 1, i64::MIN, i64::MAX] {
        let got = refused("pubsub_publish_later", &[s("t"), s("1"), Arg::Long(delay)]);
        let said = said("pubsub_publish_later", &got);
        assert!(said.contains("30 days") && said.ends_with(&delay.to_string()), "{delay}: {said}");
    }
}

#[test]
fn a_number_in_a_message_stands_where_json_has_one() {
    let ops = r#"{"ops":[]}"#;
    for (data, good) in [
        (r#"{"n":{{seq}}}"#, true),
        (r#"{"n":"order-{{seq}}","m":{{seq}}}"#, true),
        ("{{seq}}", true),
        ("1", true),
        ("{{seq}", false),
        ("{{seq}}{{seq}}}", false),
        ("{{ seq }}", false),
    ] {
        let recorder = Arc::new(Recorder::default());
        let got = call(&recorder, "exec_and_publish", &[s(ops), s("t"), s(data)]);
        assert_eq!(recorder.calls().len(), usize::from(good), "{data}");
        assert_eq!(got.json()["error"] == "", good, "{data}: {}", got.json());
    }
    let many = |count: usize| {
        let op = r#"{"kind":"exec","sql":"SELECT 1"}"#;
        format!(r#"{{"ops":[{}]}}"#, vec![op; count].join(","))
    };
    assert_eq!(call(&Arc::default(), "exec_and_publish", &[s(many(98)), s("t"), s("1")]).json()["error"], "");
    let got = refused("exec_and_publish", &[s(many(99)), s("t"), s("1")]);
    assert_eq!(got.json()["code"], "TOO_MANY_STATEMENTS");
}
