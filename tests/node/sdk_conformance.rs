//! What the Go SDK sees on a node is what it sees on its fakes: the cases of the guest `conformance`, whose answers are kept in
//! its `testdata/answers.json`. `go test` holds the fakes to the same file.

use crate::ON_SERVERS;
use crate::harness::{Node, Options};
use crate::http::Request;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use orama_test_support::guests;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Headers of an answer that are the node's or the connection's.
const NOT_COMPARED: [&str; 7] =
    ["x-request-id", "x-duration-ms", "date", "content-length", "transfer-encoding", "connection", "vary"];

/// Cases that databases on servers answer otherwise: in other words, or because their SQLite was built otherwise.
/// The fakes' database is embedded, as a node's is by default.
const ONLY_EMBEDDED: [&str; 8] = [
    "/db-allowed",
    "/db-arguments",
    "/db-batches",
    "/db-expressions",
    "/db-functions",
    "/db-limits",
    "/db-refused",
    "/db-wrong",
];

/// The name by which the cases are asked for.
const HOST: &str = "functions.example";

/// The twin of the guest's own stand: answers what the cases fetch.
fn stand() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(&stream));
        }
    });
    address
}

fn serve(mut stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (method, path) = line.rsplit_once(' ')?.0.split_once(' ')?;
    let mut headers = std::collections::HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let (status, location, said): (&str, &str, Vec<u8>) = match path {
        "/redirect" => ("302", "/text", Vec::new()),
        "/loop" => ("302", "/loop", Vec::new()),
        "/elsewhere" => ("302", "ftp://example.org/", Vec::new()),
        "/text" => ("200", "", "some text ä".into()),
        "/bytes" => ("200", "", vec![0, 255]),
        "/empty" => ("200", "", Vec::new()),
        "/500" => ("500", "", b"failed".to_vec()),
        "/204" => ("204", "", Vec::new()),
        _ => match path.strip_prefix("/to-echo/") {
            Some(status) => (status, "/echo", Vec::new()),
            None => {
                let [from, kind, key] = ["x-from", "content-type", "authorization"].map(header);
                ("200", "", format!("{method} {path}|{from}|{kind}|{key}|{body}").into_bytes())
            }
        },
    };
    let mut head =
        format!("HTTP/1.1 {status} X\r\nx-stand: in\r\ncontent-type: text/plain\r\nconnection: close\r\n");
    if !location.is_empty() {
        head.push_str(&format!("location: {location}\r\n"));
    }
    if status != "204" {
        head.push_str(&format!("content-length: {}\r\n", said.len()));
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", &said].concat()).ok()
}

/// An answer as it came over the wire.
struct Raw {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether it came to its end.
    is_whole: bool,
}

impl Raw {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Sends a request on a connection of its own and reads until the node closes it.
fn exchange(node: &Node, request: &Request, is_head: bool) -> Raw {
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.write_all(&request.bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).unwrap();
    let (line, rest) = head.split_once("\r\n").unwrap();
    let headers = rest.lines().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut raw = Raw { status, headers, body: Vec::new(), is_whole: true };
    if raw.header("transfer-encoding") == Some("chunked") && !is_head {
        (body, raw.is_whole) = unchunked(&body);
    }
    raw.body = body;
    raw
}

/// The content of chunks, and whether the last one came.
fn unchunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (content, true);
        }
        let Some(chunk) = bytes.get(end + 2..end + 2 + size) else { break };
        content.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).unwrap_or_default();
    }
    (content, false)
}

/// Runs one case on the node: what it answers and logs, in the form of the kept answers.
fn seen(node: &Node, case: &Value, stand: SocketAddr) -> Value {
    let (method, path) = (case["method"].as_str().unwrap(), case["path"].as_str().unwrap());
    let path = format!("/fn/default/conformance{path}");
    let mut request = Request::to_host(node.address(), HOST, method, &path)
        .header("connection", "close")
        .header("x-api-key", &node.key())
        .header("x-stand", &format!("http://{stand}"));
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap());
    }
    let request = request.body(case["body"].as_str().unwrap_or_default());
    let raw = exchange(node, &request, method == "HEAD");
    let id = raw.header("x-request-id").unwrap_or_else(|| panic!("{path}: no request id"));
    let mut headers = Map::new();
    for (name, value) in &raw.headers {
        if !NOT_COMPARED.contains(&name.as_str()) {
            let values = headers.entry(name).or_insert_with(|| json!([]));
            values.as_array_mut().unwrap().push(json!(value));
        }
    }
    let mut answer = json!({ "status": raw.status, "headers": headers, "is_whole": raw.is_whole });
    let is_json = raw.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    match std::str::from_utf8(&raw.body) {
        Err(_) => answer["base64"] = json!(BASE64_STANDARD.encode(&raw.body)),
        Ok(text) => {
            let text = text.replace(id, "REQUEST");
            match serde_json::from_str::<Value>(&text) {
                Ok(value) if is_json => answer["json"] = value,
                _ => answer["text"] = json!(text),
            }
        }
    }
    json!({ "answer": answer, "logs": logged(node, id) })
}

/// `level: message` of each message of a run. What follows a panic's line is its stack, which the fakes leave to the test's log.
fn logged(node: &Node, id: &str) -> Vec<String> {
    let record = node.record("conformance", id);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let messages = record["messages"].as_array().unwrap().iter();
    let mut lines: Vec<_> =
        messages.map(|m| format!("{}: {}", text(&m["level"]), text(&m["message"]))).collect();
    if let Some(at) = lines.iter().position(|line| line.starts_with("error: panic: ")) {
        lines.truncate(at + 1);
    }
    lines
}

#[test]
fn the_sdk_sees_on_a_node_what_it_sees_on_its_fakes() {
    let Ok(wasm) = guests::go("conformance", &[]) else { return };
    let stand = stand();
    let config = format!("[egress]\nallow = [\"{stand}\"]\n");
    let Ok(node) = Node::try_start(Options { config, ..Options::default() }) else { return };
    let wasm = fs::read(wasm).unwrap();
    let metadata = json!({ "env_vars": { "MY_VAR": "my value" } }).to_string();
    for name in ["conformance", "callee"] {
        node.deploy(name, &wasm, &[("memory_limit_mb", "256"), ("metadata", &metadata)]);
    }
    let secret = json!({ "name": "S", "value": "a secret" }).to_string();
    node.request("PUT", "/v1/functions/secrets").body(secret).send().expect(200);
    let kept = fs::read(guests::dir().join("conformance/testdata/answers.json")).unwrap();
    let kept: Vec<Value> = serde_json::from_slice(&kept).unwrap();
    assert!(kept.len() > 40, "{} cases", kept.len());
    let is_compared = |case: &&Value| !ON_SERVERS || !ONLY_EMBEDDED.contains(&case["path"].as_str().unwrap());
    let mut wrong = Vec::new();
    for case in kept.iter().filter(is_compared) {
        let want = json!({ "answer": case["answer"], "logs": case["logs"] });
        let got = seen(&node, case, stand);
        if got != want {
            wrong.push(format!("{} {}\nfakes {want}\nnode  {got}", case["method"], case["path"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
