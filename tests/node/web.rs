//! Functions as web services: requests reach them whole, and they shape their answers, at once or as they write them.

use crate::harness::{Node, Options, Shared, eventually};
use crate::http::{Answer, Connection};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

const MIB: usize = 1 << 20;

/// Deploys the site under a name; `None` when Go is missing, which was reported.
fn site(node: &Node, name: &str, is_public: bool) -> Option<()> {
    let wasm = fs::read(guests::go("site", &[]).ok()?).unwrap();
    node.deploy(name, &wasm, &[("is_public", if is_public { "true" } else { "false" })]);
    Some(())
}

fn get(node: &Node, path: &str) -> Answer {
    node.anonymous("GET", path).send()
}

fn request_id(answer: &Answer) -> String {
    answer.header("x-request-id").unwrap().to_owned()
}

/// Begins a request whose answer comes in pieces.
fn begin(node: &Node, path: &str) -> (Connection, Answer) {
    let mut connection = node.connect();
    connection.write(node.anonymous("GET", path).bytes());
    let answer = connection.begun_answer();
    (connection, answer)
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

#[test]
fn a_request_reaches_its_function_whole() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "whole", true) else { return };
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let request = node.anonymous(method, "/fn/default/whole/request?a=1&a=2&b=%20x&namespace=other");
        let request = request.header("X-Custom", "one").header("x-custom", "two").header("cookie", "k=v");
        let body = if method == "GET" { "" } else { "the body\0" };
        let seen = request.body(body).send().expect(200).json();
        assert_eq!(seen["method"], method);
        assert_eq!(seen["path"], "/request");
        assert_eq!(seen["uri"], "/request?a=1&a=2&b=%20x&namespace=other");
        assert_eq!(seen["query"], json!({"a": ["1", "2"], "b": [" x"], "namespace": ["other"]}));
        assert_eq!(seen["headers"]["X-Custom"], json!(["one", "two"]));
        assert_eq!(seen["headers"]["Cookie"], json!(["k=v"]));
        assert_eq!((&seen["host"], &seen["remote"]), (&json!("node"), &json!("127.0.0.1:0")));
        assert_eq!((&seen["body"], &seen["length"]), (&json!(body), &json!(body.len())));
    }
    // Nothing of the path is decoded or shortened on the way.
    assert_eq!(
        get(&node, "/fn/default/whole/request/a%2Fb%20/?").expect(200).json()["uri"],
        "/request/a%2Fb%20/"
    );
    assert_eq!(get(&node, "/fn/default/whole").expect(404).text(), "404 page not found\n");
    // A version in the path is no part of what the function sees.
    assert_eq!(get(&node, "/fn/default/whole@1/request").expect(200).json()["path"], "/request");
}

#[test]
fn a_function_shapes_its_answer() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "shapes", true) else { return };
    let answer = get(&node, "/fn/default/shapes/hello/W%C3%B6rld").expect(200);
    assert_eq!(answer.text(), "<html><p>Hello, Wörld!</p></html>");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(request_id(&answer).len(), 36);
    answer.header("x-duration-ms").unwrap().parse::<f64>().unwrap();

    let answer = get(&node, "/fn/default/shapes/cookie").expect(200);
    let cookies: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!((cookies.len(), answer.text().as_str()), (2, "none"), "{answer:?}");
    let again = node.anonymous("GET", "/fn/default/shapes/cookie").header("cookie", "session=abc");
    assert_eq!(again.send().text(), "abc");

    let answer = get(&node, "/fn/default/shapes/away").expect(302);
    assert_eq!(answer.header("location"), Some("https://example.com/there"));
    for status in [201_u16, 204, 304, 404, 418, 500, 503] {
        let mut connection = node.connect();
        for _ in 0..2 {
            connection.write(node.anonymous("GET", &format!("/fn/default/shapes/status/{status}")).bytes());
            let answer = if matches!(status, 204 | 304) {
                connection.answer_without_body()
            } else {
                connection.answer()
            };
            assert_eq!(answer.status, status);
        }
    }
    let mut connection = node.connect();
    connection.write(node.anonymous("HEAD", "/fn/default/shapes/hello/a").bytes());
    let answer = connection.answer_without_body().expect(200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    connection.write(node.anonymous("GET", "/fn/default/shapes/hello/a").bytes());
    connection.answer().expect(200);

    let answer = get(&node, "/fn/default/shapes/node-headers").expect(200);
    assert!(answer.headers.iter().all(|(_, value)| value != "forged"), "{answer:?}");
    assert_eq!((answer.header("x-own"), answer.text().as_str()), (Some("kept"), "text"));
}

#[test]
fn bytes_pass_unharmed_both_ways() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "bytes", true) else { return };
    let body: Vec<u8> = (0..MIB).map(|index| (index * 7 % 256) as u8).collect();
    let request = node.anonymous("POST", "/fn/default/bytes/echo").header("content-type", "image/png");
    let mut connection = node.connect();
    connection.write(request.body(&body[..MIB - 1]).bytes());
    let answer = connection.answer().expect(200);
    assert!(answer.body == body[..MIB - 1], "the bytes differ");
    assert_eq!(answer.header("content-type"), Some("image/png"));
    // What is larger comes as it is written, and there is no limit on it.
    for size in [8 * MIB, 40 * MIB + 3] {
        let (mut connection, answer) = begin(&node, &format!("/fn/default/bytes/bytes/{size}"));
        assert_eq!(answer.status, 200);
        let body = connection.pieces().unwrap();
        assert_eq!(body.len(), size);
        let is_right = body
            .chunks(64 << 10)
            .all(|block| block.iter().zip(0..).all(|(byte, at)| u32::from(*byte) == at % 251));
        assert!(is_right, "the bytes differ");
        connection.write(node.anonymous("GET", "/fn/default/bytes/hello/again").bytes());
        connection.answer().expect(200);
    }
}

#[test]
fn events_arrive_as_they_are_written() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "events", true) else { return };
    let (mut connection, answer) = begin(&node, "/fn/default/events/events");
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(request_id(&answer).len(), 36);
    let mut arrivals = Vec::new();
    let mut written = Vec::new();
    for number in 0..3 {
        let event = String::from_utf8(connection.piece().unwrap()).unwrap();
        arrivals.push(now_us());
        let (id, at) = event.trim().strip_prefix("id: ").unwrap().split_once("\ndata: ").unwrap();
        assert_eq!(id, number.to_string());
        written.push(at.parse::<i64>().unwrap());
    }
    // The first one was here before the last one was written.
    assert!(arrivals[0] < written[2], "{arrivals:?} {written:?}");
    assert!(connection.piece().unwrap().is_empty());
    let record = node.record("events", &request_id(&answer));
    assert_eq!(record["status"], "success", "{record}");
    connection.write(node.anonymous("GET", "/fn/default/events/hello/again").bytes());
    connection.answer().expect(200);
}

#[test]
fn a_client_that_leaves_ends_the_run_that_writes_to_it() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "leaves", true) else { return };
    let (mut connection, answer) = begin(&node, "/fn/default/leaves/bytes/100000000000");
    assert!(!connection.piece().unwrap().is_empty());
    drop(connection);
    let id = request_id(&answer);
    let found = || -> Option<Value> {
        let logs = node.logs("leaves", "?limit=100");
        logs["invocations"]
            .as_array()
            .unwrap()
            .iter()
            .find(|record| record["request_id"] == id.as_str())
            .cloned()
    };
    eventually("the run has ended", || found().is_some());
    let record = found().unwrap();
    assert!(record["error"].as_str().unwrap().contains("the client closed the connection"), "{record}");
}

#[test]
fn a_run_that_fails_is_told_to_its_client() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "fails", true) else { return };
    let answer = get(&node, "/fn/default/fails/fails");
    answer.refusal(500, "FUNCTION_EXIT");
    // After its beginning, an answer can only be broken off.
    let (mut connection, answer) = begin(&node, "/fn/default/fails/breaks");
    assert_eq!(connection.piece().unwrap(), b"the beginning");
    connection.piece().unwrap_err();
    let record = node.record("fails", &request_id(&answer));
    assert_eq!(record["error"], "the function exited with code 3", "{record}");
}

#[test]
fn a_web_path_asks_for_the_same_credential_as_an_invoke() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "private", false) else { return };
    get(&node, "/fn/default/private/request").refusal(401, "UNAUTHORIZED");
    get(&node, "/fn/no-such/private/request").refusal(401, "UNAUTHORIZED");
    node.get("/fn/default/no-such/request").refusal(404, "FUNCTION_NOT_FOUND");
    let seen = node.get("/fn/default/private/request").expect(200).json();
    // Nobody hands on the credential of a caller.
    for name in ["Authorization", "X-Api-Key"] {
        assert!(seen["headers"].get(name).is_none(), "{seen}");
    }
    let Some(()) = site(&node, "open", true) else { return };
    let request =
        node.anonymous("GET", "/fn/default/open/request").header("authorization", "Bearer app-token");
    let seen = request.send().expect(200).json();
    assert_eq!(seen["headers"]["Authorization"], json!(["Bearer app-token"]));
}

#[test]
fn an_invoke_is_shaped_too() {
    let Ok(node) = Shared::node() else { return };
    let Some(()) = site(&node, "invoked", false) else { return };
    let answer = node.invoke("invoked", "{}").expect(404);
    assert_eq!(answer.text(), "404 page not found\n");
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn output_is_the_body_where_nothing_is_shaped() {
    let Ok(node) = Shared::node() else { return };
    node.deploy("output", &guests::wat("echo"), &[("is_public", "true")]);
    for (body, kind) in [
        (&b" {\"a\": 1}\n"[..], "application/json"),
        (b"42", "application/json"),
        (b"{\"a\": 1} and more", "text/plain; charset=utf-8"),
        (b"", "text/plain; charset=utf-8"),
        (b"\xff\xfe\0", "application/octet-stream"),
    ] {
        let answer = node.anonymous("POST", "/fn/default/output").body(body).send().expect(200);
        assert_eq!((answer.body.as_slice(), answer.header("content-type")), (body, Some(kind)));
    }
    get(&node, "/fn/default/output/any/path?any=query").expect(200);
}

#[test]
fn a_slow_client_holds_up_nobody_but_its_own_run() {
    let Ok(node) = Node::try_start(Options { workers: 1, ..Options::default() }) else { return };
    let Some(()) = site(&node, "slow", true) else { return };
    let (mut slow, _) = begin(&node, "/fn/default/slow/bytes/30000000");
    for _ in 0..20 {
        get(&node, "/fn/default/slow/hello/quick").expect(200);
    }
    assert_eq!(slow.pieces().unwrap().len(), 30_000_000);
}
