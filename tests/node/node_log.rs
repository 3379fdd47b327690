//! What a node says of itself on standard error: its start, requests where that is asked for, and JSON.

use crate::harness::{Node, Options, eventually};
use crate::http::Connection;
use orama_test_support::guests;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;

fn with(config: &str) -> Options {
    Options { config: config.to_owned(), ..Options::default() }
}

/// The lines of the log, each of which must be a JSON object.
fn lines(node: &Node) -> Vec<Value> {
    let text = node.stderr();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    whole.lines().map(parse).collect()
}

/// The line of a request, once it is there.
fn access_line(node: &Node, request_id: &str) -> Value {
    let find = || {
        lines(node).into_iter().find(|line| line["request_id"] == request_id && line["target"] == "access")
    };
    eventually("the request is logged", || find().is_some());
    find().unwrap()
}

#[test]
fn a_start_says_where_the_node_serves_and_where_its_files_are() {
    let env = vec![("ORAMA_LISTN", "s3cret".to_owned())];
    let node = Node::start(Options { env, ..Options::default() });
    eventually("the start is logged", || node.stderr().contains("serving address"));
    let stderr = node.stderr();
    let misspelt = "nothing reads the variable ORAMA_LISTN; did you mean ORAMA_LISTEN?";
    assert!(stderr.contains(misspelt) && !stderr.contains("s3cret"), "{stderr}");
    let home = node.home.display().to_string();
    let line = stderr.lines().find(|line| line.contains("serving")).unwrap_or_else(|| panic!("{stderr}"));
    assert!(line.contains(&node.address().to_string()) && line.contains(&home), "{line}");
    assert!(line.contains(env!("CARGO_PKG_VERSION")), "{line}");
    assert!(stderr.contains(&format!("{home}/credentials.json")), "{stderr}");
    // Nobody asked for the lines of requests.
    node.get("/v1/functions").expect(200);
    node.terminate();
    assert!(!node.stderr().contains("access"), "{}", node.stderr());
}

#[test]
fn each_request_is_a_line_of_json_where_that_is_asked_for() {
    let node = Node::start(with("[log]\nfilter = \"warn\"\nformat = \"json\"\naccess = true\n"));
    node.deploy("echo", &guests::wat("echo"), &[]);
    let answer =
        node.request("POST", "/v1/functions/echo/invoke?namespace=default").body("[1, 2]").send().expect(200);
    let line = access_line(&node, answer.header("x-request-id").unwrap());
    let key = node.get("/v1/whoami").expect(200).json()["key"]["id"].clone();
    for (field, value) in [
        ("method", "POST".into()),
        ("path", "/v1/functions/echo/invoke".into()),
        ("status", 200.into()),
        ("bytes", 6.into()),
        ("client", "127.0.0.1".into()),
        ("level", "INFO".into()),
        ("key_id", key),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{line}");

    // A stranger, a refusal, and a credential that is none; no line holds what was sent as one.
    let answer = node.anonymous("GET", "/v1/functions?api_key=s3cret").send().expect(401);
    let line = access_line(&node, answer.header("x-request-id").unwrap());
    assert_eq!((&line["status"], &line["key_id"]), (&401.into(), &"".into()), "{line}");
    let answer = node.request_as("orama_s3cret", "GET", "/v1/functions").send().expect(401);
    access_line(&node, answer.header("x-request-id").unwrap());

    // What a path holds of control characters stays within its line.
    let mut connection = Connection::open(node.address());
    connection.write(b"GET /x%0aINFO\xc2\x9b%1b[2J HTTP/1.1\r\nhost: node\r\n\r\n");
    let answer = connection.answer();
    if let Some(id) = answer.header("x-request-id") {
        let line = access_line(&node, id);
        assert!(line["path"].as_str().unwrap().starts_with("/x%0aINFO"), "{line}");
    }
    let long = format!("/{}", "x".repeat(20_000));
    let answer = node.anonymous("GET", &long).send().expect(404);
    let line = access_line(&node, answer.header("x-request-id").unwrap());
    assert_eq!(line["path"].as_str().unwrap().len(), 1024);

    assert_eq!(node.metric("orama_access_log_dropped_total"), 0.0);
    // The last ones are written before the process ends.
    for _ in 0..200 {
        node.get("/v1/functions").expect(200);
    }
    assert!(node.terminate().success());
    assert!(
        lines(&node).iter().filter(|line| line["path"] == "/v1/functions" && line["status"] == 200).count()
            >= 200
    );
    let raw = node.stderr();
    assert!(!raw.contains("s3cret") && !raw.contains(&raw_key(&node)), "{raw}");
    assert!(raw.chars().all(|c| c == '\n' || !c.is_control()), "{raw:?}");
}

fn raw_key(node: &Node) -> String {
    let text = fs::read_to_string(node.home.join("credentials.json")).unwrap();
    let credentials: Value = serde_json::from_str(&text).unwrap();
    credentials["api_key"].as_str().unwrap().to_owned()
}

#[test]
fn a_streamed_answer_is_logged_at_its_end_with_all_of_its_bytes() {
    let Ok(site) = guests::go("site", &[]) else { return };
    let node = Node::start(with("[log]\nformat = \"json\"\naccess = true\n"));
    node.deploy("site", &fs::read(site).unwrap(), &[("is_public", "true")]);
    let mut connection = node.connect();
    connection.write(node.anonymous("GET", "/fn/default/site/events").bytes());
    let answer = connection.begun_answer();
    let body = connection.pieces().unwrap();
    assert!(!body.is_empty());
    let line = access_line(&node, answer.header("x-request-id").unwrap());
    assert_eq!(line["bytes"], body.len(), "{line}");
}

#[test]
fn requests_are_logged_from_a_reload_on() {
    let node = Node::start(with("[log]\naccess = false\n"));
    node.get("/v1/functions").expect(200);
    let path = node.home.join("test.toml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("false", "true")).unwrap();
    node.signal(Signal::HUP);
    eventually("the configuration was read again", || node.stderr().contains("was read again"));
    node.get("/v1/whoami").expect(200);
    eventually("a line of a request", || node.stderr().contains("path=\"/v1/whoami\""));
    assert!(!node.stderr().contains("path=\"/v1/functions\""), "{}", node.stderr());
}
