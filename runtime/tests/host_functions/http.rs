//! `http_fetch`: the request as the guest wrote it, the answer as JSON.

use crate::guest::{Got, call, s};
use crate::recorder::{Call, Recorder};
use bytes::Bytes;
use orama_runtime::services::{FetchRequest, FetchResponse};
use serde_json::json;
use std::sync::Arc;

fn with_headers(headers: &str) -> (Got, Vec<Call>) {
    let recorder = Arc::new(Recorder::default());
    let got = call(&recorder, "http_fetch", &[s("GET"), s("http://a/"), s(headers), s("")]);
    (got, recorder.calls())
}

fn answered(headers: &[(&str, &str)], body: impl Into<Bytes>) -> Got {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let response = FetchResponse { status: 404, headers, body: body.into() };
    let recorder = Arc::new(Recorder { response, ..Recorder::default() });
    call(&recorder, "http_fetch", &[s("GET"), s("http://a/"), s(""), s("")])
}

#[test]
fn headers_are_strings_or_arrays_of_strings() {
    for (text, expected) in [
        ("", vec![]),
        ("{}", vec![]),
        ("null", vec![]),
        (r#"{"A":"1"}"#, vec![("A", "1")]),
        (r#"{"A":["1","2"],"b":"ä\u0000","C":[]}"#, vec![("A", "1"), ("A", "2"), ("b", "ä\0")]),
    ] {
        let (got, calls) = with_headers(text);
        assert_eq!(got.json()["status"], 200, "{text}");
        let [Call::Fetch(FetchRequest { headers, .. })] = &calls[..] else { panic!("{calls:?}") };
        let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, expected, "{text}");
    }
    for (text, why) in [
        ("[]", "the headers are not a JSON object of strings: "),
        ("{", "the headers are not a JSON object of strings: "),
        ("5", "the headers are not a JSON object of strings: "),
        (r#"{"A":5}"#, "the header A is neither a string nor an array of strings"),
        (r#"{"A":null}"#, "the header A is neither"),
        (r#"{"A":["1",2]}"#, "the header A is neither"),
        (r#"{"A\n":{"secret":1}}"#, "the header A? is neither"),
    ] {
        let (got, calls) = with_headers(text);
        assert_eq!((calls.len(), got.log.len()), (0, 0), "{text}");
        let told = got.json();
        assert_eq!(told["status"], 0);
        let said = told["error"].as_str().unwrap();
        assert!(said.starts_with(why) && !said.contains("secret"), "{text}: {said}");
    }
}

#[test]
fn headers_have_limits_in_number_and_size() {
    let many = |count: usize| json!({ "A": vec!["x"; count] }).to_string();
    assert_eq!(with_headers(&many(100)).1.len(), 1);
    let (got, calls) = with_headers(&many(101));
    assert_eq!(calls, []);
    assert_eq!(got.json()["error"], "there are 101 headers, more than the limit of 100");
    let long = |bytes: usize| json!({ "A": "x".repeat(bytes - 1) }).to_string();
    assert_eq!(with_headers(&long(65_536)).1.len(), 1);
    let (got, calls) = with_headers(&long(65_537));
    assert_eq!(calls, []);
    assert_eq!(got.json()["error"], "the headers have 65537 bytes, more than the limit of 65536");
}

#[test]
fn an_answer_has_canonical_names_and_all_values() {
    let headers =
        [("content-type", "text/plain"), ("set-cookie", "a=1"), ("x-API-key", "k"), ("set-cookie", "b=2")];
    assert_eq!(
        answered(&headers, "{\"a\":\"ä\"}\n").json(),
        json!({
            "status": 404,
            "headers": {"Content-Type": ["text/plain"], "Set-Cookie": ["a=1", "b=2"], "X-Api-Key": ["k"]},
            "body": "{\"a\":\"ä\"}\n",
        })
    );
}

#[test]
fn a_body_that_is_no_text_comes_as_base64() {
    let got = answered(&[], &b"\x00\xff\xfe"[..]).json();
    assert_eq!(got, json!({"status": 404, "headers": {}, "body_base64": "AP/+"}));
    let got = answered(&[], &b"\xff"[..]).json();
    assert_eq!(got["body_base64"], "/w==");
}

#[test]
fn long_bodies_are_written_in_pieces_that_fit_together() {
    use base64::Engine;
    for length in [65_535, 65_536, 65_537, 200_000, 3_000_000] {
        // Characters of two bytes, so that one of them lies where a piece would end.
        let text = format!("x{}", "\"ä\n\u{1}".repeat(length / 5));
        assert!(answered(&[], text.clone()).json()["body"] == text, "{length}");
        let bytes: Vec<u8> = (0..length).map(|i| 255 - (i % 251) as u8).collect();
        let encoded = base64::prelude::BASE64_STANDARD.encode(&bytes);
        assert!(answered(&[], bytes).json()["body_base64"] == encoded, "{length}");
    }
}
