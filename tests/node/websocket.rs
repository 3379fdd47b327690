//! WebSockets: each message invokes a function and is answered in its turn.

use crate::harness::{Compiler, Node, Options, Shared, eventually, new_dir};
use crate::jwt;
use crate::speakers::{slow_speaker, speaker};
use orama_test_support::guests;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::TcpStream;
use std::time::Duration;
use tokio_tungstenite::tungstenite;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::{Bytes, Error, Message};

mod limits;
mod opening;

/// An open WebSocket, from the client's side.
pub struct Socket(tungstenite::WebSocket<TcpStream>);

impl Socket {
    /// Opens one with these headers; the node's answer if it is another.
    pub fn try_open(
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
    pub fn open_as(node: &Node, key: &str, name: &str) -> Self {
        let path = format!("/v1/functions/{name}/ws");
        Self::try_open(node, &path, &[("authorization", &format!("Bearer {key}"))]).unwrap().0
    }

    #[track_caller]
    pub fn open(node: &Node, name: &str) -> Self {
        Self::open_as(node, &node.key(), name)
    }

    #[track_caller]
    pub fn send(&mut self, message: impl Into<Message>) {
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
    pub fn output(&mut self, message: impl Into<Message>) -> Value {
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
    pub fn failure(&mut self, message: impl Into<Message>) -> String {
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

#[test]
fn each_message_is_an_invocation_and_answered_in_order() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut socket = Socket::open(&node, "echo");
    assert_eq!(node.metric("orama_websockets_open"), 1.0);
    assert_eq!(socket.output("{\"a\": [1, 2.50]}"), json!({ "a": [1, 2.50] }));
    assert_eq!(socket.output("plain text ä"), "plain text ä");
    assert_eq!(socket.output(""), "");
    assert_eq!(socket.output("{\"broken\": "), "{\"broken\": ");
    assert_eq!(socket.output(Message::binary("[true]")), json!([true]));
    assert_eq!(socket.output(" 42"), json!(42));
    let bytes = socket.ask(Message::binary(vec![b'x', 0xff, 0]));
    assert_eq!((&bytes["output_base64"], bytes.get("output")), (&json!("eP8A"), None), "{bytes}");

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
    assert_eq!(node.metric("orama_websocket_messages_total"), 207.0);
    assert_eq!(node.metric("orama_invocations_total{status=\"success\"}"), 207.0);
    socket.0.close(None).unwrap();
    assert!(matches!(socket.0.read(), Ok(Message::Close(_))));
    assert!(matches!(socket.0.read(), Err(Error::ConnectionClosed)));
    eventually("it is closed", || node.metric("orama_websockets_open") == 0.0);
}

#[test]
fn a_version_may_be_named_and_the_newest_answers_each_message() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
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
    let Ok(node) = Shared::node() else { return };
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
fn pings_and_closes_are_answered_while_a_function_runs() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
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
    let Ok(node) = Node::try_start(Options::default()) else { return };
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
fn a_deleted_key_is_refused_by_the_next_message_and_the_connection_closed() {
    let Ok(node) = Node::try_start(Options { workers: 4, ..Options::default() }) else { return };
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
fn a_stopping_node_finishes_the_message_under_way() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
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
    let Ok(node) = Node::try_start(Options { config, ..Options::default() }) else { return };
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
    let Ok(node) = Node::try_start(jwt::with_keys(&path, Vec::new())) else { return };
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
