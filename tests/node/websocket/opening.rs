//! How a WebSocket is opened, and who may.

use super::Socket;
use crate::harness::{Node, Options, Shared};
use orama_test_support::guests;
use orama_test_support::tools::Missing;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Error};

/// Status and code of a handshake that is refused.
#[track_caller]
fn refused(node: &Node, path: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
    let error = match Socket::try_open(node, path, headers) {
        Err(Error::Http(answer)) => answer,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{path} was opened"),
    };
    let body: Value = serde_json::from_slice(error.body().as_ref().unwrap()).unwrap();
    assert_eq!(body["request_id"], error.headers()["x-request-id"].to_str().unwrap(), "{body}");
    (error.status().as_u16(), body["code"].as_str().unwrap().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn a_request_that_is_no_handshake_is_told_why() {
    let Ok(node) = Shared::node() else { return };
    node.wat("echo");
    let good = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let ask = |change: &[(&str, Option<&str>)]| {
        let mut request = node.request("GET", "/v1/functions/echo/ws");
        for (name, value) in good {
            match change.iter().find(|(changed, _)| *changed == name) {
                None => request = request.header(name, value),
                Some((_, Some(other))) => request = request.header(name, other),
                Some((_, None)) => {}
            }
        }
        for (name, value) in change.iter().filter(|(name, _)| !good.iter().any(|(known, _)| known == name)) {
            request = request.header(name, value.unwrap());
        }
        request.send()
    };
    let opened = ask(&[("connection", Some("keep-alive, UPGRADE")), ("upgrade", Some("h2c, WebSocket"))]);
    assert_eq!(opened.status, 101);
    // The example of RFC 6455.
    assert_eq!(opened.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(opened.header("x-request-id").is_some() && opened.header("sec-websocket-protocol").is_none());
    for change in [
        [("upgrade", None)],
        [("upgrade", Some("h2c"))],
        [("connection", None)],
        [("connection", Some("keep-alive"))],
        [("sec-websocket-version", None)],
        [("sec-websocket-version", Some("8"))],
    ] {
        let answer = ask(&change);
        assert_eq!(answer.header("upgrade"), Some("websocket"), "{change:?}");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{change:?}");
        answer.refusal(426, "UPGRADE_REQUIRED");
    }
    for change in [
        [("sec-websocket-key", None)],
        [("sec-websocket-key", Some("short"))],
        [("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ=?"))],
        [("content-length", Some("3"))],
    ] {
        ask(&change).refusal(400, "INVALID_HANDSHAKE");
    }
    for method in ["POST", "PUT", "HEAD"] {
        let mut connection = node.connect();
        connection.write(node.request(method, "/v1/functions/echo/ws").bytes());
        let answer = if method == "HEAD" { connection.answer_without_body() } else { connection.answer() };
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{method}");
    }
    // What comes with the request is the first message.
    let mut connection = node.connect();
    let mut bytes = node.request("GET", "/v1/functions/echo/ws").bytes();
    bytes.truncate(bytes.len() - 2);
    for (name, value) in good {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    bytes.extend(b"\r\n\x81\x83\0\0\0\0[7]");
    connection.write(bytes);
    assert_eq!(connection.answer().status, 101);
    let stream = connection.stream.try_clone().unwrap();
    let mut rest = Socket(tungstenite::WebSocket::from_partially_read(
        stream,
        connection.into_buffer(),
        tungstenite::protocol::Role::Client,
        None,
    ));
    assert_eq!(rest.answer()["output"], json!([7]));
}

#[test]
fn a_credential_comes_in_a_header_a_protocol_or_the_query_and_stays_secret() {
    let Ok(node) =
        Node::try_start(Options { env: vec![("ORAMA_LOG", "trace".to_owned())], ..Options::default() })
    else {
        return;
    };
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("open", &guests::wat("echo"), &[("is_public", "true")]);
    let key = node.key();
    let path = "/v1/functions/echo/ws";
    let (bearer, protocol) = (format!("Bearer {key}"), format!("bearer.{key}"));
    let both = format!("orama, {protocol}");
    let in_query = format!("{path}?token={}", key.replace('_', "%5F"));
    for (path, headers) in [
        (path, vec![("authorization", bearer.as_str())]),
        (path, vec![("x-api-key", key.as_str())]),
        (path, vec![("sec-websocket-protocol", both.as_str())]),
        (in_query.as_str(), vec![]),
        (in_query.as_str(), vec![("authorization", bearer.as_str())]),
    ] {
        let (mut socket, answer) = Socket::try_open(&node, path, &headers).unwrap();
        let named = headers.iter().any(|(name, _)| *name == "sec-websocket-protocol");
        let expected = named.then_some("orama");
        assert_eq!(answer.headers().get("sec-websocket-protocol").map(|p| p.to_str().unwrap()), expected);
        assert_eq!(socket.output("[1]"), json!([1]));
    }
    let unauthorized = is(401, "UNAUTHORIZED");
    assert_eq!(refused(&node, path, &[]), unauthorized);
    assert_eq!(refused(&node, path, &[("authorization", "Bearer orama_wrong")]), unauthorized);
    assert_eq!(refused(&node, path, &[("sec-websocket-protocol", "orama, bearer.wrong")]), unauthorized);
    assert_eq!(refused(&node, &format!("{path}?token=wrong"), &[]), unauthorized);
    let conflict = is(400, "CONFLICTING_CREDENTIALS");
    assert_eq!(refused(&node, &format!("{path}?token=orama_x"), &[("authorization", &bearer)]), conflict);
    assert_eq!(refused(&node, &format!("{path}?token=other"), &[("authorization", &bearer)]), unauthorized);
    assert_eq!(
        refused(&node, "/v1/functions/nothing/ws", &[("authorization", &bearer)]),
        is(404, "FUNCTION_NOT_FOUND")
    );
    assert_eq!(refused(&node, "/v1/functions/9/ws", &[("authorization", &bearer)]), is(400, "INVALID_NAME"));

    // A public function needs its namespace alone.
    let public = "/v1/functions/open/ws?namespace=default";
    assert_eq!(Socket::try_open(&node, public, &[]).unwrap().0.output("[2]"), json!([2]));
    assert_eq!(refused(&node, "/v1/functions/open/ws", &[]), unauthorized);
    assert_eq!(refused(&node, "/v1/functions/echo/ws?namespace=default", &[]), unauthorized);
    assert_eq!(refused(&node, &format!("{public}&token=orama_wrong"), &[]), unauthorized);
    // Another namespace's key reaches public functions and no others.
    node.request("POST", "/v1/namespaces").body("{\"name\":\"shop\"}").send().expect(201);
    let shop = node.request("POST", "/v1/keys").body("{\"namespace\":\"shop\",\"role\":\"invoke\"}").send();
    let shop = format!("Bearer {}", shop.expect(201).json()["api_key"].as_str().unwrap());
    assert_eq!(
        refused(&node, &format!("{path}?namespace=default"), &[("authorization", &shop)]),
        is(403, "FORBIDDEN")
    );
    assert_eq!(refused(&node, path, &[("authorization", &shop)]), is(404, "FUNCTION_NOT_FOUND"));
    let mut socket = Socket::try_open(&node, public, &[("authorization", &shop)]).unwrap().0;
    assert_eq!(socket.output("[3]"), json!([3]));
    // Private from now on: refused, and nothing that follows would be answered otherwise for the anonymous.
    let mut anonymous = Socket::try_open(&node, public, &[]).unwrap().0;
    node.deploy("open", &guests::wat("echo"), &[("is_public", "false")]);
    assert_eq!(socket.failure("[4]"), "FORBIDDEN");
    assert_eq!(anonymous.failure("[4]"), "UNAUTHORIZED");
    assert_eq!(anonymous.closed(), 1008);
    assert!(node.terminate().success());
    assert!(!node.stderr().contains(key.trim_start_matches("orama_")), "the key stands in the log");
}

#[test]
fn pages_of_other_origins_are_refused_unless_they_are_listed() {
    let start = |origins: &str| {
        let config = format!("[websocket]\nallowed_origins = {origins}\n");
        let node = Node::try_start(Options { config, ..Options::default() })?;
        node.deploy("echo", &guests::wat("echo"), &[]);
        Ok::<_, Missing>(node)
    };
    let open = |node: &Node, origin: &str| {
        let bearer = format!("Bearer {}", node.key());
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        match Socket::try_open(node, "/v1/functions/echo/ws", &headers) {
            Ok((mut socket, _)) => socket.output("[]") == json!([]),
            Err(Error::Http(answer)) => {
                assert_eq!(answer.status(), 403);
                let body = String::from_utf8_lossy(answer.body().as_ref().unwrap()).into_owned();
                assert!(body.contains("ORIGIN_NOT_ALLOWED"), "{body}");
                false
            }
            Err(error) => panic!("{error}"),
        }
    };
    let Ok(node) = start("[]") else { return };
    assert!(open(&node, &format!("http://{}", node.address())), "its own pages");
    assert!(!open(&node, "http://127.0.0.1"), "another port");
    assert!(!open(&node, "https://app.example") && !open(&node, "null"));
    let Ok(node) = start("[\"https://app.example\"]") else { return };
    assert!(open(&node, "https://app.example"));
    assert!(!open(&node, "http://app.example") && !open(&node, "https://app.example.evil"));
    let Ok(node) = start("[\"*\"]") else { return };
    assert!(open(&node, "https://anything.example") && open(&node, "null"));
}
