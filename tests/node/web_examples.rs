//! The examples that answer the web and run by the clock, built by `orama function build` as their pages say.

use crate::example::{copy, deploy, web};
use crate::harness::{Compiler, Node, Options, eventually};
use crate::shell::Shell;
use orama_test_support::tools;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A node on which an example was deployed, after `prepare` changed its copy; none where a compiler is missing, which was
/// reported.
fn with(folder: &str, compiler: &str, options: Options, prepare: impl Fn(&Shell)) -> Option<(Node, Shell)> {
    tools::require_or_report(compiler).ok()?;
    let node = Node::try_start(options).ok()?;
    let shell = Shell::of(&node);
    copy(&shell, &["sdk/go", folder]);
    prepare(&shell);
    deploy(&shell, folder, compiler);
    Some((node, shell))
}

#[test]
fn a_job_every_five_minutes_counts_each_order_once() {
    for compiler in ["tinygo", "go"] {
        let Some((node, shell)) = with("examples/report", compiler, Options::default(), |_| {}) else {
            return;
        };
        let Some(misc) = node.misc(Compiler::Go, "env") else { return };
        node.reader("reader", &[]);
        node.add_trigger("reader", "reports");
        let run = |sql: &str| node.ask(&misc, &json!({ "do": "execute_v2", "sql": sql, "args": [] }));
        run("CREATE TABLE orders (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL, reported TEXT)");
        run("INSERT INTO orders (amount) VALUES (10), (32)");
        let schedule = node.triggers("report")[0].clone();
        assert_eq!(
            (&schedule["cron_expression"], &schedule["enabled"]),
            (&json!("*/5 * * * *"), &json!(true))
        );
        // An order more for the second run, and none for the third.
        for (more, orders) in [(Some(5), 2), (None, 1), (None, 0)] {
            let before = node.data("reader").len();
            let fired = schedule["id"].as_str().unwrap();
            shell.run(0, &["function", "triggers", "fire", "report", fired]);
            eventually("it was published", || node.data("reader").len() > before);
            let select = "SELECT orders FROM reports ORDER BY slot DESC LIMIT 1";
            let rows = node.ask(&misc, &json!({ "do": "query_v2", "sql": select, "args": [] }));
            assert_eq!(rows["rows"][0]["orders"], orders, "{compiler} {rows}");
            if let Some(amount) = more {
                run(&format!("INSERT INTO orders (amount) VALUES ({amount})"));
            }
            // A slot is named by its second.
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        let told = node.data("reader");
        assert_eq!(told[2]["number"].as_str().unwrap(), "3", "{told:?}");
        node.anonymous("POST", "/v1/invoke/default/report").send().refusal(401, "UNAUTHORIZED");
    }
}

/// Answers chat completions with the same words, and counts them.
fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            answer(&stream, &count);
        }
    });
    (address, asked)
}

fn answer(mut stream: &TcpStream, count: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut key) = (String::new(), 0, String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if lower.starts_with("authorization:") {
            key = line.trim().to_owned();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let asked: Value = serde_json::from_slice(&body).ok()?;
    let is_right = key.ends_with("Bearer sk-test") && asked["stream"] == false;
    count.fetch_add(1, Ordering::SeqCst);
    let said = json!({ "choices": [{ "message": { "content": "Hello to the whole world" } }] }).to_string();
    let status = if is_right { 200 } else { 401 };
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}", said.len())
        .ok()
}

#[test]
fn a_chat_is_answered_as_a_stream_of_events_and_remembered() {
    let (address, asked) = upstream();
    let config = format!("[egress]\nallow = [\"{address}\"]\n");
    let options = Options { config, ..Options::default() };
    let found = with("examples/chat", "go", options, |shell| {
        shell.run(0, &["function", "secrets", "set", "UPSTREAM_KEY", "sk-test"]);
        let yaml = shell.dir.join("examples/chat/function.yaml");
        let text = fs::read_to_string(&yaml).unwrap();
        fs::write(&yaml, text.replace("https://api.example.com", &format!("http://{address}"))).unwrap();
    });
    let Some((node, _)) = found else { return };
    let body = json!({ "model": "small", "messages": [{ "role": "user", "content": "Hi" }], "stream": true });
    for _ in 0..2 {
        let request = node.anonymous("POST", "/fn/default/chat/v1/chat/completions");
        let mut connection = node.connect();
        connection.write(request.header("origin", "https://page.example").body(body.to_string()).bytes());
        let begun = connection.begun_answer().expect(200);
        assert_eq!(begun.header("content-type"), Some("text/event-stream"));
        assert_eq!(begun.header("access-control-allow-origin"), Some("*"));
        let text = String::from_utf8(connection.pieces().unwrap()).unwrap();
        let events: Vec<_> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(events.last(), Some(&"[DONE]"), "{text}");
        let words: String = events[..events.len() - 1]
            .iter()
            .map(|event| serde_json::from_str::<Value>(event).unwrap())
            .map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((words.as_str(), events.len()), ("Hello to the whole world", 6));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the second answer was not remembered");
    web(&node, "POST", "chat/v1/chat/completions", &[], "{}").expect(400);
    web(&node, "GET", "chat/v1/chat/completions", &[], "").expect(405);
}

#[test]
fn an_upload_of_thirty_megabytes_comes_back_as_it_was() {
    let Some((node, _)) = with("examples/upload", "go", Options::default(), |_| {}) else { return };
    let file: Vec<u8> = (0..30_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let post = |body: &[u8]| node.anonymous("POST", "/fn/default/upload/").body(body).send();
    let stored = post(&file).expect(201).json();
    assert_eq!((&stored["size"], &stored["pieces"]), (&json!(file.len()), &json!(30)));
    let path = format!("/fn/default/upload/{}", stored["sha256"].as_str().unwrap());
    let mut connection = node.connect();
    connection.write(node.anonymous("GET", &path).bytes());
    let begun = connection.begun_answer().expect(200);
    assert_eq!(begun.header("content-type"), Some("application/octet-stream"));
    assert!(connection.pieces().unwrap() == file, "the file came back changed");
    assert_eq!(post(b"").expect(201).json()["size"], 0);
    web(&node, "GET", "upload/0123", &[], "").expect(404);
}

#[test]
fn notes_are_kept_by_the_api_that_the_page_uses() {
    let Some((node, _)) = with("examples/notes", "go", Options::default(), |_| {}) else { return };
    let page = web(&node, "GET", "notes/", &[], "").expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("<title>Notes</title>"));
    let api = |method: &str, path: &str, body: &str| {
        web(&node, method, &format!("notes/api/notes{path}"), &[("content-type", "application/json")], body)
    };
    assert_eq!(api("GET", "", "").expect(200).json(), json!([]));
    let added = api("POST", "", r#"{"text":"milk"}"#).expect(201);
    assert_eq!(
        (added.header("location"), added.json()),
        (Some("notes/1"), json!({ "id": 1, "text": "milk" }))
    );
    api("POST", "", r#"{"text":"<b>eggs</b>"}"#).expect(201);
    api("PUT", "/1", r#"{"text":"oat milk"}"#).expect(200);
    let all = api("GET", "", "").expect(200).json();
    assert_eq!(all, json!([{ "id": 2, "text": "<b>eggs</b>" }, { "id": 1, "text": "oat milk" }]));
    assert!(api("DELETE", "/1", "").expect(204).body.is_empty());
    for (method, path, body, status) in [
        ("DELETE", "/1", "", 404),
        ("PUT", "/1", r#"{"text":"x"}"#, 404),
        ("PUT", "/x", r#"{"text":"x"}"#, 404),
        ("POST", "", "{}", 400),
        ("POST", "", "not JSON", 400),
        ("PATCH", "/2", "", 405),
    ] {
        let answer = api(method, path, body).expect(status);
        assert!(!answer.body.is_empty(), "{method} {path}");
    }
}
