//! Tests of which `cors` settings are accepted.

use super::*;
use serde_json::json;

fn read(value: serde_json::Value) -> Result<Cors, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn what_is_left_out_has_a_default() {
    let cors =
        read(json!({"origins": ["https://App.example:8443", "http://[::1]:3000", "capacitor://localhost"]}));
    let cors = cors.unwrap();
    assert_eq!(cors.origins(), ["https://app.example:8443", "http://[::1]:3000", "capacitor://localhost"]);
    assert_eq!(cors.methods(), CORS_METHODS_DEFAULT);
    assert_eq!(cors.headers(), ["authorization", "content-type"]);
    assert_eq!((cors.credentials(), cors.max_age_seconds(), cors.allows_all()), (false, 600, false));
    // It is stored as it is read.
    let stored = serde_json::to_string(&cors).unwrap();
    assert_eq!(serde_json::from_str::<Cors>(&stored).unwrap(), cors);
    let all = read(json!({"origins": ["https://a.example", "*"], "headers": ["*"], "max_age": 0})).unwrap();
    assert!(all.allows_all());
    assert_eq!((all.origins(), all.headers()), (&["*".to_owned()][..], &["*".to_owned()][..]));
}

#[test]
fn what_browsers_would_not_understand_is_refused() {
    let long = format!("https://{}.example", "a".repeat(300));
    let many: Vec<_> = (0..=CORS_ENTRIES_MAX).map(|n| format!("https://a{n}.example")).collect();
    for (value, told) in [
        (json!({}), "at least one origin"),
        (json!({"origins": []}), "at least one origin"),
        (json!({"origins": ["app.example"]}), "cors.origins: expected an origin such as"),
        (json!({"origins": ["https://app.example/"]}), "cors.origins"),
        (json!({"origins": ["https://app.example/a"]}), "cors.origins"),
        (json!({"origins": ["https://u@app.example"]}), "cors.origins"),
        (json!({"origins": ["https://*.example"]}), "cors.origins"),
        (json!({"origins": ["https://app.example:0"]}), "cors.origins"),
        (json!({"origins": ["https://app.example:+80"]}), "cors.origins"),
        (json!({"origins": ["https://app.example\r\nx: y"]}), "cors.origins"),
        (json!({"origins": ["https://"]}), "cors.origins"),
        (json!({"origins": ["null"]}), "cors.origins"),
        (json!({"origins": [long]}), "cors.origins"),
        (json!({"origins": many}), "cors.origins may have at most 64 entries"),
        (json!({"origins": ["*"], "credentials": true}), "exclude each other"),
        (json!({"origins": ["https://a.b"], "headers": ["*"], "credentials": true}), "cors.headers: \"*\""),
        (json!({"origins": ["*"], "methods": ["GET,PUT"]}), "cors.methods: expected a method"),
        (json!({"origins": ["*"], "headers": ["x y"]}), "cors.headers: expected the name of a header"),
        (json!({"origins": ["*"], "max_age": 86_401}), "cors.max_age must be between 0 and 86400 seconds"),
        (json!({"origins": ["*"], "max_age": -1}), "cors.max_age"),
        (json!({"origins": ["*"], "method": ["GET"]}), "unknown field `method`"),
        (json!({"origins": "*"}), "invalid type"),
    ] {
        let error = read(value.clone()).expect_err(&value.to_string());
        assert!(error.contains(told) && error.len() < 300, "{value}: {error}");
    }
}

#[test]
fn a_function_is_not_internal_and_public() {
    let internal = WebSettings { is_internal: true, ..WebSettings::default() };
    assert_eq!(internal.check(true), Err(InternalAndPublic));
    assert_eq!(internal.check(false), Ok(()));
    assert_eq!(WebSettings::default().check(true), Ok(()));
}
