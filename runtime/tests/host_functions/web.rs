//! The HTTP request that a run serves, and its answer: what reaches the exchange, and what is refused before.

use crate::guest::{Arg, Got, WEB, call_serving, s};
use bytes::Bytes;
use orama_runtime::limits::{ANSWER_HEADERS_MAX, ANSWER_HEADERS_MAX_BYTES, OUTPUT_MAX_BYTES};
use orama_runtime::services::{Answer, AnswerHead, Exchange, ServiceError};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// What reached the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Respond(AnswerHead, Bytes),
    Begin(AnswerHead),
    Write(Bytes),
}

/// Takes everything; its client has gone where `is_gone` says so.
#[derive(Default)]
struct Recording {
    seen: Mutex<Vec<Seen>>,
    is_gone: bool,
}

impl Recording {
    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }
}

impl Exchange for Recording {
    fn request(&self) -> Vec<u8> {
        b"{\"method\":\"GET\"}".to_vec()
    }

    fn respond(&self, head: AnswerHead, body: Bytes) -> Result<(), ServiceError> {
        self.note(Seen::Respond(head, body));
        Ok(())
    }

    fn begin(&self, head: AnswerHead) -> Result<(), ServiceError> {
        self.note(Seen::Begin(head));
        Ok(())
    }

    fn write(&self, bytes: Bytes) -> Answer<Result<bool, ServiceError>> {
        self.note(Seen::Write(bytes));
        let is_there = !self.is_gone;
        Box::pin(async move { Ok(is_there) })
    }
}

fn status(status: i64) -> Arg {
    Arg::Long(status)
}

fn serve(name: &str, arguments: &[Arg]) -> (Got, Vec<Seen>) {
    let exchange = Arc::new(Recording::default());
    let got = call_serving(Some(exchange.clone()), name, arguments);
    let seen = exchange.seen.lock().unwrap().clone();
    (got, seen)
}

fn head(status: u16, headers: &[(&str, &str)]) -> AnswerHead {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    AnswerHead { status, headers }
}

#[test]
fn what_a_guest_hands_over_reaches_the_exchange() {
    assert_eq!(serve("http_request", &[]).0.text(), "{\"method\":\"GET\"}");
    let headers = s(r#"{"A":"1","B":["2","3"]}"#);
    let expected = head(404, &[("A", "1"), ("B", "2"), ("B", "3")]);
    let (got, seen) = serve("set_http_response", &[status(404), headers.clone(), s(b"\xff body")]);
    assert_eq!((got.raw, seen), (1, vec![Seen::Respond(expected.clone(), Bytes::from_static(b"\xff body"))]));
    let (got, seen) = serve("http_response_start", &[status(404), headers]);
    assert_eq!((got.raw, seen), (1, vec![Seen::Begin(expected)]));
    let (got, seen) = serve("http_response_write", &[s("piece")]);
    assert_eq!((got.raw, seen), (1, vec![Seen::Write(Bytes::from_static(b"piece"))]));
    // A client that has gone is told without a line in the log.
    let gone = Recording { is_gone: true, ..Recording::default() };
    let got = call_serving(Some(Arc::new(gone)), "http_response_write", &[s("piece")]);
    assert_eq!((got.raw, got.log.len()), (0, 0));
}

#[test]
fn what_cannot_be_an_answer_is_refused_before() {
    let many = json!({ "A": vec!["x"; ANSWER_HEADERS_MAX + 1] }).to_string();
    let long = json!({ "A": "x".repeat(ANSWER_HEADERS_MAX_BYTES) }).to_string();
    let refused = |name: &str, arguments: &[Arg], why: &str| {
        let (got, seen) = serve(name, arguments);
        assert_eq!((got.raw, seen.len(), got.log.len()), (0, 0, 1), "{name} {why}: {:?}", got.log);
        assert!(got.log[0].contains(why), "{name}: {:?}", got.log);
    };
    for (code, headers, why) in [
        (0, "", "the status must be from 200 to 599, got 0"),
        (199, "", "got 199"),
        (600, "", "got 600"),
        (-1, "", "got -1"),
        (65_736, "", "got 65736"),
        (200, "[]", "not a JSON object of strings"),
        (200, &many, "there are 65 headers"),
        (200, &long, "the headers have 16385 bytes"),
        (200, "{\"A\":1}", "neither a string nor an array"),
    ] {
        refused("set_http_response", &[status(code), s(headers), s("")], why);
        refused("http_response_start", &[status(code), s(headers)], why);
    }
    let large = vec![b'x'; OUTPUT_MAX_BYTES + 1];
    refused("set_http_response", &[status(200), s(""), s(&large)], "8388608");
    refused("http_response_write", &[s(&large)], "8388608");
    assert_eq!(serve("set_http_response", &[status(200), s(""), s(&large[1..])]).0.raw, 1);
}

#[test]
fn without_a_request_there_is_nothing_to_answer() {
    let arguments = |name: &str| match name {
        "http_request" => vec![],
        "set_http_response" => vec![status(200), s(""), s("")],
        "http_response_start" => vec![status(200), s("")],
        _ => vec![s("piece")],
    };
    for (name, ..) in WEB {
        let got = call_serving(None, name, &arguments(name));
        assert_eq!((got.raw, got.result), (0, Ok(())), "{name}");
        let said = got.log.iter().any(|line| line.contains("no HTTP request caused this run"));
        assert_eq!(said, name != "http_request", "{name}: {:?}", got.log);
    }
}

#[test]
fn a_range_outside_the_memory_ends_the_run() {
    let outside = Arg::Range(i32::MAX, 16);
    for (name, arguments) in [
        ("set_http_response", vec![status(200), outside.clone(), s("")]),
        ("set_http_response", vec![status(0), s(""), outside.clone()]),
        ("http_response_start", vec![status(0), outside.clone()]),
        ("http_response_write", vec![outside]),
    ] {
        let (got, seen) = serve(name, &arguments);
        assert!(got.trap().starts_with(name), "{}", got.trap());
        assert!(seen.is_empty());
    }
}
