use super::*;
use SqlValue::{Blob, Integer, Null, Real, Text};

fn refuses(text: &str) -> String {
    let why = arguments(text).unwrap_err();
    assert_eq!(why.code, ErrorCode::InvalidArgument, "{text}");
    why.message
}

#[test]
fn arguments_are_what_json_says_exactly() {
    for none in ["", "[]", " [ ] ", "null"] {
        assert_eq!(arguments(none).unwrap(), [], "{none:?}");
    }
    assert_eq!(
        arguments(r#"[null, true, false, "ä\n\u0000", [0, 255], []]"#).unwrap(),
        [Null, Integer(1), Integer(0), Text("ä\n\0".into()), Blob(vec![0, 255]), Blob(vec![])]
    );
    assert_eq!(
        arguments("[0,-0,9007199254740993,9223372036854775807,-9223372036854775808]").unwrap(),
        [0, 0, 9_007_199_254_740_993, i64::MAX, i64::MIN].map(Integer)
    );
    assert_eq!(
        arguments("[1.0,0.1,-1E2,1e-400,1.7976931348623157e308,9007199254740993.0]").unwrap(),
        [1.0, 0.1, -100.0, 0.0, f64::MAX, 9_007_199_254_740_992.0].map(Real)
    );
}

#[test]
fn what_cannot_be_bound_is_named_by_its_index() {
    for (text, index, why) in [
        ("[1,9223372036854775808]", 1, "64 bits"),
        ("[-9223372036854775809]", 0, "64 bits"),
        ("[1e999]", 0, "floating point"),
        ("[null,null,{}]", 2, "object"),
        ("[[256]]", 0, "0 to 255"),
        ("[[-1]]", 0, "0 to 255"),
        ("[[1.5]]", 0, "0 to 255"),
        ("[[\"secret\"]]", 0, "0 to 255"),
        (r#"["\ud800"]"#, 0, "escape"),
    ] {
        let message = refuses(text);
        assert!(
            message.starts_with(&format!("args[{index}]: ")) && message.contains(why),
            "{text}: {message}"
        );
        assert!(!message.contains("secret"), "{message}");
    }
    for text in ["{}", "5", "\"a\"", "[1", "[1,]", "[NaN]", "[1] 2", "[01]", " ", "[\"\u{1}\"]"] {
        let message = refuses(text);
        assert!(message.starts_with("the arguments are not a JSON array: "), "{text}: {message}");
    }
}

#[test]
fn a_statement_takes_as_many_arguments_as_sqlite() {
    let ones = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(arguments(&ones(DB_STATEMENT_ARGUMENTS_MAX)).unwrap().len(), DB_STATEMENT_ARGUMENTS_MAX);
    let why = arguments(&ones(DB_STATEMENT_ARGUMENTS_MAX + 1)).unwrap_err();
    assert_eq!(why.code, ErrorCode::PayloadTooLarge);
    assert_eq!(why.message, "there are 32767 arguments, more than the limit of 32766");
}

#[test]
fn operations_are_read_with_their_kinds() {
    let read = transaction(
        r#"{"ops":[{"kind":"exec","sql":"A ?","args":[1]},{"kind":"query","sql":"B"},{"sql":"C","args":null,"kind":"exec"}]}"#,
    );
    let statement = |kind, sql: &str, args| Statement { kind, sql: sql.to_owned(), args };
    assert_eq!(
        read.unwrap(),
        (
            BatchMode::Write,
            vec![
                statement(StatementKind::Exec, "A ?", vec![Integer(1)]),
                statement(StatementKind::Query, "B", vec![]),
                statement(StatementKind::Exec, "C", vec![]),
            ]
        )
    );
    for (text, consistency) in [
        (r#"{"ops":[{"sql":"A"}]}"#, Consistency::Weak),
        (r#"{"ops":[{"sql":"A","kind":"query"}],"consistency":"weak"}"#, Consistency::Weak),
        (r#"{"consistency":"none","ops":[{"sql":"A","args":[]}]}"#, Consistency::None),
        (r#"{"consistency":null,"ops":[{"sql":"A","args":[]}]}"#, Consistency::Weak),
        (r#"{"consistency":"strong","ops":[{"sql":"A"}],"cache_ttl":0}"#, Consistency::Strong),
        (r#"{"ops":[{"sql":"A"}],"cache_ttl":0}"#, Consistency::Weak),
        (
            r#"{"ops":[{"sql":"A"}],"cache_ttl":5,"consistency":"none"}"#,
            Consistency::Within(Duration::from_secs(5)),
        ),
    ] {
        let expected = vec![statement(StatementKind::Query, "A", vec![])];
        assert_eq!(queries(text).unwrap(), (BatchMode::Read(consistency), expected), "{text}");
    }
    assert_eq!(transaction(r#"{"ops":[]}"#).unwrap(), (BatchMode::Write, vec![]));
}

#[test]
fn a_bad_operation_is_named_by_its_index_and_field() {
    for (text, index, words) in [
        (r#"{"ops":[{"kind":"exec","sql":"A","arguments":[]}]}"#, Some(0), vec!["ops[0]", "arguments"]),
        (r#"{"ops":[{"kind":"exec","sql":"A"},{"kind":"exec"}]}"#, Some(1), vec!["ops[1]", "sql"]),
        (r#"{"ops":[{"sql":"A"}]}"#, Some(0), vec!["ops[0]", "kind is missing"]),
        (r#"{"ops":[{"kind":"drop","sql":"A"}]}"#, Some(0), vec!["ops[0]", "drop", "exec"]),
        (r#"{"ops":[{"kind":"exec","sql":5}]}"#, Some(0), vec!["ops[0]", "string"]),
        (r#"{"ops":[{"kind":"exec","kind":"query","sql":"A"}]}"#, Some(0), vec!["duplicate field", "kind"]),
        (r#"{"ops":[{"kind":"exec","sql":"A","args":[{}]}]}"#, Some(0), vec!["ops[0]: args[0]: an object"]),
        (r#"{"ops":[{"kind":"exec","sql":"A","args":5}]}"#, Some(0), vec!["ops[0]", "array"]),
        (r#"{"ops":[7]}"#, Some(0), vec!["ops[0]"]),
        (r#"{"ops":[],"consistency":"weak"}"#, None, vec!["unknown field", "consistency"]),
        (r#"{"ops":{}}"#, None, vec!["array"]),
        (r#"{}"#, None, vec!["missing field", "ops"]),
        ("", None, vec!["the operations are not valid"]),
        ("[]", None, vec!["the operations are not valid"]),
    ] {
        let failure = transaction(text).unwrap_err();
        assert_eq!((failure.index, failure.error.code), (index, ErrorCode::InvalidArgument), "{text}");
        let message = &failure.error.message;
        assert!(words.iter().all(|word| message.contains(word)), "{text}: {message}");
    }
    for (text, word) in [
        (r#"{"ops":[{"kind":"exec","sql":"A"}]}"#, "queries"),
        (r#"{"ops":[{"sql":"A"}],"consistency":"perhaps"}"#, "perhaps"),
        (r#"{"ops":[{"sql":"A"}],"consistency":"strong","cache_ttl":1}"#, "cannot be combined"),
        (
            r#"{"ops":[{"sql":"A"}],"cache_ttl":3601}"#,
            "cache_ttl is 3601 seconds, more than the limit of 3600",
        ),
        (r#"{"ops":[{"sql":"A"}],"cache_ttl":-1}"#, "-1"),
    ] {
        let message = queries(text).unwrap_err().error.message;
        assert!(message.contains(word), "{text}: {message}");
    }
}

#[test]
fn a_batch_has_at_most_a_hundred_statements_of_bounded_length() {
    let ops = |count: usize| format!("{{\"ops\":[{}]}}", vec![r#"{"sql":"A"}"#; count].join(","));
    assert_eq!(queries(&ops(100)).unwrap().1.len(), 100);
    let failure = queries(&ops(101)).unwrap_err();
    assert_eq!((failure.index, failure.error.code), (None, ErrorCode::TooManyStatements));
    assert_eq!(failure.error.message, "there are 101 operations, more than the limit of 100");
    let long = format!(r#"{{"ops":[{{"sql":"A"}},{{"sql":"{}"}}]}}"#, "A".repeat(DB_SQL_MAX_BYTES + 1));
    let failure = queries(&long).unwrap_err();
    assert_eq!((failure.index, failure.error.code), (Some(1), ErrorCode::PayloadTooLarge));
    assert!(
        failure.error.message.starts_with("ops[1]: the SQL has 1048577 bytes"),
        "{}",
        failure.error.message
    );
}

#[test]
fn messages_stay_short_whatever_a_guest_hands_over() {
    let long = "x".repeat(1 << 20);
    let bad = format!(r#"{{"ops":[{{"kind":"{long}","sql":"A"}},{{"{long}":1}}],"{long}":1}}"#);
    assert!(transaction(&bad).unwrap_err().error.message.len() < 400);
    let bad = format!(r#"{{"ops":[{{"kind":"{long}","sql":"A"}}]}}"#);
    assert!(transaction(&bad).unwrap_err().error.message.len() < 400);
}

#[test]
fn fields_in_an_array_are_no_object() {
    let op = r#"{"kind":"query","sql":"SELECT 1"}"#;
    assert!(transaction(&format!(r#"{{"ops":[{op}]}}"#)).is_ok());
    for text in [format!("[[{op}]]"), format!(" [[{op}]]"), r#"{"ops":[["query","SELECT 1",[]]]}"#.to_owned()]
    {
        let failure = transaction(&text).unwrap_err();
        assert!(failure.error.message.contains("expected an object"), "{text}: {failure:?}");
    }
    assert!(queries("[[],null,null]").is_err());
}
