//! WebSockets: each message invokes a function and is answered in its turn.

use crate::harness::{Compiler, Node, Options, Shared, eventually, new_dir};
use crate::jwt;
use crate::speakers::{slow_speaker, speaker};
use orama_test_support::guests;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tokio_tungstenite::tungstenite;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Bytes, Error, Message};

const MIB: usize = 1 << 20;

/// An open WebSocket, from the client's side.
struct Socket(tungstenite::WebSocket<TcpStream>);

impl Socket {
    /// Opens one with these headers; the node's answer if it is another.
    fn try_open(
        node: &Node,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response), Error> {
        let mut request = format!("ws://{}{path}", node.address()).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(node.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        match tungstenite::client(request, stream) {
            Ok((socket, answer)) => Ok((Self(socket), answer)),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens one to a function with a key.
    #[track_caller]
    fn open_as(node: &Node, key: &str, name: &str) -> Self {
        let path = format!("/v1/functions/{name}/ws");
        Self::try_open(node, &path, &[("authorization", &format!("Bearer {key}"))]).unwrap().0
    }

    #[track_caller]
    fn open(node: &Node, name: &str) -> Self {
        Self::open_as(node, &node.key(), name)
    }

    #[track_caller]
    fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).unwrap();
    }

    /// The next answer; pings are passed over.
    #[track_caller]
    fn answer(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => {
                    let answer: Value = serde_json::from_str(&text).unwrap();
                    assert!(
                        answer["request_id"].is_string() && answer["duration_ms"].is_number(),
                        "{answer}"
                    );
                    return answer;
                }
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, message: impl Into<Message>) -> Value {
        self.send(message);
        self.answer()
    }

    /// The output of a message that is invoked with success.
    #[track_caller]
    fn output(&mut self, message: impl Into<Message>) -> Value {
        let answer = self.ask(message);
        assert_eq!(
            (&answer["status"], answer.as_object().unwrap().len()),
            (&json!("success"), 4),
            "{answer}"
        );
        answer["output"].clone()
    }

    /// The code of a message that fails.
    #[track_caller]
    fn failure(&mut self, message: impl Into<Message>) -> String {
        let answer = self.ask(message);
        assert_ne!(answer["status"], "success", "{answer}");
        assert!(!answer["error"].as_str().unwrap().is_empty() && answer.get("output").is_none(), "{answer}");
        answer["code"].as_str().unwrap().to_owned()
    }

    /// The code with which the node closes; nothing else may come before but pings.
    #[track_caller]
    fn closed(mut self) -> u16 {
        let code = loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => break frame.expect("a close says why").code.into(),
                Ok(Message::Ping(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        // The close is answered, and then the node closes the connection.
        match self.0.read() {
            Err(Error::ConnectionClosed) => code,
            other => panic!("{other:?}"),
        }
    }
}

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
fn each_message_is_an_invocation_and_answered_in_order() {
    let node = Node::start(Options::default());
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut socket = Socket::open(&node, "echo");
    assert_eq!(node.metric("orama_websockets_open"), 1.0);
    assert_eq!(socket.output("{\"a\": [1, 2.50]}"), json!({ "a": [1, 2.50] }));
    assert_eq!(socket.output("plain text ä"), "plain text ä");
    assert_eq!(socket.output(""), "");
    assert_eq!(socket.output("{\"broken\": "), "{\"broken\": ");
    assert_eq!(socket.output(Message::binary("[true]")), json!([true]));
    assert_eq!(socket.output(Message::binary(vec![b'x', 0xff, 0])), "x\u{fffd}\0");

    // Sent at once, answered one by one.
    let ids: Vec<String> = {
        for n in 0..200 {
            socket.send(format!("[{n}]"));
        }
        let answer = |n| {
            let answer = socket.answer();
            assert_eq!(answer["output"], json!([n]));
            answer["request_id"].as_str().unwrap().to_owned()
        };
        (0..200).map(answer).collect()
    };
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 200);
    let record = node.record("echo", &ids[100]);
    assert_eq!(record["trigger_type"], "websocket", "{record}");
    assert_eq!((&record["status"], &record["input_size"]), (&json!("success"), &json!(5)), "{record}");
    assert_eq!(node.metric("orama_websocket_messages_total"), 206.0);
    assert_eq!(node.metric("orama_invocations_total{status=\"success\"}"), 206.0);
    socket.0.close(None).unwrap();
    assert!(matches!(socket.0.read(), Ok(Message::Close(_))));
    assert!(matches!(socket.0.read(), Err(Error::ConnectionClosed)));
    eventually("it is closed", || node.metric("orama_websockets_open") == 0.0);
}

#[test]
fn a_version_may_be_named_and_the_newest_answers_each_message() {
    let node = Node::start(Options::default());
    node.deploy("talks", &speaker("one "), &[]);
    let (mut newest, mut first) = (Socket::open(&node, "talks"), Socket::open(&node, "talks@1"));
    assert_eq!((newest.output("?"), first.output("?")), (json!("one ?"), json!("one ?")));
    node.deploy("talks", &speaker("two "), &[]);
    assert_eq!((newest.output("?"), first.output("?")), (json!("two ?"), json!("one ?")));
    assert_eq!(Socket::open(&node, "talks%402").output("?"), "two ?");
    node.delete("/v1/functions/talks").expect(200);
    assert_eq!(newest.failure("?"), "FUNCTION_NOT_FOUND");
    node.deploy("talks", &speaker("three "), &[]);
    assert_eq!(newest.output("?"), "three ?", "the connection has stayed");
    assert_eq!(first.failure("?"), "FUNCTION_NOT_FOUND");
}

#[test]
fn failures_are_answered_with_their_code_and_the_connection_stays() {
    let node = Shared::node();
    for (guest, status, code) in [
        ("trap_unreachable", "error", "FUNCTION_TRAP"),
        ("exit_code", "error", "FUNCTION_EXIT"),
        ("spin", "timeout", "TIMEOUT"),
    ] {
        let mut socket = Socket::open(&node, node.wat(guest));
        for _ in 0..2 {
            let answer = socket.ask("{}");
            assert_eq!((&answer["status"], &answer["code"]), (&json!(status), &json!(code)), "{answer}");
            assert!(answer.get("output").is_none() && answer["error"].is_string(), "{answer}");
        }
    }
}

#[test]
fn a_request_that_is_no_handshake_is_told_why() {
    let node = Shared::node();
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
    let node = Node::start(Options { env: vec![("ORAMA_LOG", "trace".to_owned())], ..Options::default() });
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
    assert_eq!(refused(&node, &format!("{path}?token=other"), &[("authorization", &bearer)]), conflict);
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
    assert_eq!(refused(&node, &format!("{public}&token=wrong"), &[]), unauthorized);
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
    node.deploy("open", &guests::wat("echo"), &[]);
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
        let node = Node::start(Options { config, ..Options::default() });
        node.deploy("echo", &guests::wat("echo"), &[]);
        node
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
    let node = start("[]");
    assert!(open(&node, &format!("http://{}", node.address())), "its own pages");
    assert!(!open(&node, "http://127.0.0.1"), "another port");
    assert!(!open(&node, "https://app.example") && !open(&node, "null"));
    let node = start("[\"https://app.example\"]");
    assert!(open(&node, "https://app.example"));
    assert!(!open(&node, "http://app.example") && !open(&node, "https://app.example.evil"));
    let node = start("[\"*\"]");
    assert!(open(&node, "https://anything.example") && open(&node, "null"));
}

#[test]
fn pings_and_closes_are_answered_while_a_function_runs() {
    let node = Node::start(Options::default());
    node.deploy("slow", &slow_speaker("slept ", Duration::from_secs(3)), &[]);
    let mut socket = Socket::open(&node, "slow");
    socket.send("1");
    socket.send("2");
    for n in 0..3 {
        socket.send(Message::Ping(Bytes::from(vec![n; 125])));
        assert_eq!(socket.0.read().unwrap(), Message::Pong(Bytes::from(vec![n; 125])), "before the answer");
    }
    assert_eq!(socket.answer()["output"], "slept 1");
    // The second is under way. A close is answered at once, and ends it.
    eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
    socket.0.close(None).unwrap();
    assert!(matches!(socket.0.read(), Ok(Message::Close(_))));
    assert!(matches!(socket.0.read(), Err(Error::ConnectionClosed)));
    eventually("it is ended", || node.logs("slow", "?status=error")["count"] == 1);
    let ended = node.logs("slow", "?status=error")["invocations"][0].clone();
    assert!(ended["error"].as_str().unwrap().contains("the client closed"), "{ended}");
}

#[test]
fn a_client_that_leaves_ends_what_it_asked_for() {
    let node = Node::start(Options::default());
    node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "300")]);
    for half in [false, true] {
        let mut socket = Socket::open(&node, "slow");
        socket.send("1");
        socket.send("2");
        eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
        let stream = socket.0.get_ref().try_clone().unwrap();
        if half {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        } else {
            drop(socket);
            drop(stream);
        }
        eventually("it is ended", || node.metric("orama_invocations_running") == 0.0);
        eventually("it is closed", || node.metric("orama_websockets_open") == 0.0);
    }
    assert_eq!(node.logs("slow", "")["count"], 2, "what waited was not begun");
}

#[test]
fn messages_have_the_size_of_an_invocations_input() {
    let node = Shared::node();
    let mut socket = Socket::open(&node, node.wat("echo"));
    let largest = "x".repeat(MIB);
    assert_eq!(socket.output(largest.as_str()).as_str().unwrap().len(), MIB);
    let part = |socket: &mut Socket, opcode, is_final, bytes: &[u8]| {
        let frame = Frame::message(Bytes::copy_from_slice(bytes), OpCode::Data(opcode), is_final);
        socket.0.send(Message::Frame(frame))
    };
    // In pieces, a ping between them and a letter across two of them.
    part(&mut socket, Data::Text, false, b"{\"a\": \"\xc3").unwrap();
    socket.send(Message::Ping(Bytes::new()));
    part(&mut socket, Data::Continue, false, b"").unwrap();
    part(&mut socket, Data::Continue, true, b"\xa4\"}").unwrap();
    assert_eq!(socket.0.read().unwrap(), Message::Pong(Bytes::new()));
    assert_eq!(socket.answer()["output"], json!({ "a": "ä" }));
    socket.0.send(Message::text(format!("{largest}x"))).unwrap();
    assert_eq!(socket.closed(), 1009);

    let mut socket = Socket::open(&node, "echo");
    part(&mut socket, Data::Binary, false, &vec![0; MIB - 1]).unwrap();
    part(&mut socket, Data::Continue, false, &[0; 2]).unwrap();
    assert_eq!(socket.closed(), 1009);
    // Only announced: nothing is kept for it.
    let mut socket = Socket::open(&node, "echo");
    socket.0.get_mut().write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(socket.closed(), 1009);
}

#[test]
fn what_is_not_the_protocol_is_closed_with_its_code() {
    let node = Shared::node();
    node.wat("echo");
    for (bytes, code) in [
        // A text that is not UTF-8, whole and in pieces.
        (vec![0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007),
        (vec![0x01, 0x81, 0, 0, 0, 0, 0xc3, 0x80, 0x81, 0, 0, 0, 0, 0x28], 1007),
        // Not masked, an unknown opcode, a reserved bit, a piece of nothing, a ping in pieces, one that is too long.
        (vec![0x81, 0x01, b'x'], 1002),
        (vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        (vec![0xc1, 0x80, 0, 0, 0, 0], 1002),
        (vec![0x80, 0x80, 0, 0, 0, 0], 1002),
        (vec![0x09, 0x80, 0, 0, 0, 0], 1002),
        ([vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0], vec![0; 126]].concat(), 1002),
    ] {
        let mut socket = Socket::open(&node, "echo");
        assert_eq!(socket.output("[1]"), json!([1]));
        socket.0.get_mut().write_all(&bytes).unwrap();
        assert_eq!(socket.closed(), code, "{bytes:02x?}");
    }
}

#[test]
fn a_deleted_key_is_refused_by_the_next_message_and_the_connection_closed() {
    let node = Node::start(Options { workers: 4, ..Options::default() });
    node.deploy("echo", &guests::wat("echo"), &[]);
    let made = node.request("POST", "/v1/keys").body("{\"role\":\"invoke\"}").send().expect(201).json();
    let (id, key) = (made["id"].as_str().unwrap(), made["api_key"].as_str().unwrap());
    let mut sockets: Vec<Socket> = (0..16).map(|_| Socket::open_as(&node, key, "echo")).collect();
    let mut other = Socket::open(&node, "echo");
    for socket in &mut sockets {
        assert_eq!(socket.output("[1]"), json!([1]));
    }
    node.delete(&format!("/v1/keys/{id}")).expect(200);
    for mut socket in sockets {
        assert_eq!(socket.failure("[2]"), "UNAUTHORIZED");
        assert_eq!(socket.closed(), 1008);
    }
    assert_eq!(other.output("[3]"), json!([3]));
}

#[test]
fn too_many_at_once_are_refused_one_by_one() {
    let config = "instance_slots = 1\n".to_owned();
    let node = Node::start(Options { workers: 1, config, ..Options::default() });
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "300")]);
    let mut socket = Socket::open(&node, "echo");
    let mut slow = Socket::open(&node, "slow");
    slow.send("1");
    eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
    for _ in 0..3 {
        assert_eq!(socket.failure("[1]"), "OVERLOADED");
    }
    drop(slow);
    eventually("it is ended", || node.metric("orama_invocations_running") == 0.0);
    assert_eq!(socket.output("[2]"), json!([2]), "the connection has stayed");
}

#[test]
fn a_client_that_does_not_read_is_not_read_either_and_loses_nothing() {
    let node = Node::start(Options::default());
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut socket = Socket::open(&node, "echo");
    socket.0.get_mut().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // Messages of 256 KiB until they are not taken any more.
    let message = |n: usize| format!("{n:06}{}", "x".repeat(MIB / 4));
    let mut sent = 0;
    loop {
        match socket.0.send(Message::text(message(sent))) {
            Ok(()) => sent += 1,
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 4000, "a gigabyte was taken although no answer was");
    }
    assert!(sent > 1, "{sent}");
    // The rest of the one that was cut short follows while the answers are read.
    let reader = socket.0.get_ref().try_clone().unwrap();
    let mut reader =
        Socket(tungstenite::WebSocket::from_raw_socket(reader, tungstenite::protocol::Role::Client, None));
    let rest = std::thread::spawn(move || {
        socket.0.get_mut().set_write_timeout(None).unwrap();
        socket.0.flush().unwrap();
        socket
    });
    for n in 0..=sent {
        let answer = reader.answer();
        let output = answer["output"].as_str().unwrap();
        assert_eq!((output[..6].parse(), output.len()), (Ok(n), 6 + MIB / 4));
    }
    drop(rest.join().unwrap());
}

#[test]
fn a_flood_of_empty_frames_leaves_the_core_to_others() {
    let node = Node::start(Options { workers: 1, ..Options::default() });
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut flooding: Vec<Socket> = (0..3).map(|_| Socket::open(&node, "echo")).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (n, socket) in flooding.iter_mut().enumerate() {
            let stop = &stop;
            // A message that never ends, pings, and messages of nothing.
            let (first, more): (&[u8], &[u8]) = match n {
                0 => (&[0x01, 0x80, 0, 0, 0, 0], &[0x00, 0x80, 0, 0, 0, 0]),
                1 => (&[], &[0x89, 0x80, 0, 0, 0, 0]),
                _ => (&[], &[0x8a, 0x80, 0, 0, 0, 0]),
            };
            let stream = socket.0.get_mut();
            stream.write_all(first).unwrap();
            let reader = stream.try_clone().unwrap();
            if n == 1 {
                scope.spawn(move || {
                    let mut reader = reader;
                    let mut pongs = [0; 4096];
                    while !matches!(reader.read(&mut pongs), Ok(0) | Err(_)) {}
                });
            }
            scope.spawn(move || {
                let block = more.repeat(10_000);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) && stream.write_all(&block).is_ok() {}
                let _ = stream.shutdown(std::net::Shutdown::Both);
            });
        }
        for n in 0..50 {
            let n = n.to_string();
            assert_eq!(node.invoke("echo", format!("[{n}]")).expect(200).text(), format!("[{n}]"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn who_does_not_answer_pings_is_closed_and_who_does_stays() {
    let config =
        "idle_timeout_seconds = 1\nheader_timeout_seconds = 1\n[websocket]\nping_seconds = 1\n".to_owned();
    let node = Node::start(Options { config, ..Options::default() });
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("slow", &slow_speaker("slept ", Duration::from_secs(7)), &[]);
    let (silent, mut lively) = (Socket::open(&node, "echo"), Socket::open(&node, "echo"));
    let mut busy = Socket::open(&node, "slow");
    // Longer than any timeout, and than the pings that may be left unanswered.
    busy.send("?");
    let mut pings = 0;
    while pings < 6 {
        match lively.0.read().unwrap() {
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
        lively.0.flush().unwrap();
    }
    assert_eq!(lively.output("[1]"), json!([1]));
    eventually("the silent one is closed", || node.metric("orama_websockets_open") <= 2.0);
    for mut socket in [silent, busy] {
        // Neither was read from, so pings stand before the close.
        let mut bytes = Vec::new();
        let _ = socket.0.get_mut().read_to_end(&mut bytes);
        let close = bytes.iter().position(|byte| *byte == 0x88).expect("a close frame");
        assert!(close > 0 && bytes[..close].chunks(2).all(|frame| frame == [0x89, 0]), "{bytes:?}");
        assert_eq!(bytes[close + 2..close + 4], 1001_u16.to_be_bytes());
    }
}

#[test]
fn a_stopping_node_finishes_the_message_under_way() {
    let node = Node::start(Options::default());
    node.deploy("slow", &slow_speaker("slept ", Duration::from_secs(2)), &[]);
    let (mut busy, idle) = (Socket::open(&node, "slow"), Socket::open(&node, "slow"));
    busy.send("1");
    busy.send("2");
    eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
    let address = node.address();
    node.signal(Signal::TERM);
    eventually("new connections are refused", || TcpStream::connect(address).is_err());
    assert_eq!(idle.closed(), 1001);
    let answer = busy.answer();
    assert_eq!(answer["output"], "slept 1");
    assert_eq!(busy.closed(), 1001, "the next one is not begun");
    assert_eq!(node.wait().code(), Some(0));
    node.start_again();
    let record = node.record("slow", answer["request_id"].as_str().unwrap());
    assert_eq!(record["status"], "success", "{record}");
    assert_eq!(node.logs("slow", "")["count"], 1);
}

#[test]
fn what_runs_longer_than_the_grace_period_is_ended_and_recorded() {
    let config = "drain_grace_seconds = 1\n".to_owned();
    let node = Node::start(Options { config, ..Options::default() });
    node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "300")]);
    let mut socket = Socket::open(&node, "slow");
    socket.send("1");
    eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
    assert_eq!(node.terminate().code(), Some(0));
    assert!(socket.0.read().is_err());
    node.start_again();
    let logs = node.logs("slow", "");
    let error = logs["invocations"][0]["error"].as_str().unwrap();
    assert!(error.contains("the node was stopped"), "{logs}");
}

#[test]
fn a_token_tells_functions_who_sends_each_message_until_it_expires() {
    let path = new_dir("keys").join("public.pem");
    jwt::put_key(&path, "ed25519.pub.pem");
    let node = Node::start(jwt::with_keys(&path, Vec::new()));
    let Some(misc) = node.misc(Compiler::TinyGo, "env") else { return };
    let token = jwt::eddsa(&jwt::claims("0xabc", "default"));
    let protocols = format!("orama, bearer.{token}");
    let ws = format!("/v1/functions/{misc}/ws");
    let (mut socket, _) =
        Socket::try_open(&node, &ws, &[("sec-websocket-protocol", &protocols), ("x-wallet", "0xforged")])
            .unwrap();
    let context = json!({ "do": "context", "text": "?" }).to_string();
    for _ in 0..2 {
        let told = socket.output(context.as_str());
        assert_eq!(
            (&told["caller_wallet"], &told["jwt_subject"]),
            (&json!("0xabc"), &json!("0xabc")),
            "{told}"
        );
    }
    // Its signer's key goes.
    jwt::put_key(&path, "ed25519-next.pub.pem");
    let refused = loop {
        let answer = socket.ask(context.as_str());
        if answer["status"] != "success" {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(refused["code"], "UNAUTHORIZED", "{refused}");
    assert_eq!(socket.closed(), 1008);
}
