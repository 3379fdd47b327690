//! The example of a call push handler from end to end, and each function of the Go SDK it is written with, built by
//! `orama function build` with both compilers.

use crate::harness::{Node, Options, eventually, lock};
use crate::http::Answer;
use crate::shell::Shell;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use orama_test_support::{guests, tools};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

const COMPILERS: [&str; 2] = ["tinygo", "go"];

/// A request that a push service got.
#[derive(Clone, Debug)]
pub struct Sent {
    /// `METHOD path`.
    pub line: String,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// Stands in for the push services: keeps what it is sent.
struct PushService {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<Sent>>>,
    /// What it answers to pushes for iOS; everything else is a 200.
    ios_status: Arc<AtomicU16>,
}

impl PushService {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::<Mutex<Vec<_>>>::default();
        let ios_status = Arc::new(AtomicU16::new(200));
        let (kept, ios) = (Arc::clone(&sent), Arc::clone(&ios_status));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = receive(&stream) else { continue };
                let is_ios = request.line.starts_with("POST /3/device/");
                let status = if is_ios { ios.load(Ordering::SeqCst) } else { 200 };
                lock(&kept).push(request);
                let head = format!("HTTP/1.1 {status} X\r\nx-stand: in\r\n");
                let _ = (&stream).write_all(
                    format!("{head}content-length: 2\r\nconnection: close\r\n\r\n{{}}").as_bytes(),
                );
            }
        });
        Self { address, sent, ios_status }
    }

    /// What it was sent since the last call, once that is as many.
    #[track_caller]
    fn received(&self, count: usize) -> Vec<Sent> {
        eventually("the push service is asked", || lock(&self.sent).len() >= count);
        let sent = std::mem::take(&mut *lock(&self.sent));
        assert_eq!(sent.len(), count, "{sent:?}");
        sent
    }

    /// A node whose functions may reach it.
    fn node(&self) -> Result<Node, tools::Missing> {
        let config = format!("[egress]\nallow = [\"{}\"]\n", self.address);
        Node::try_start(Options { config, ..Options::default() })
    }
}

pub fn receive(stream: &TcpStream) -> Option<Sent> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let line = line.rsplit_once(' ')?.0.to_owned();
    Some(Sent { line, headers, body })
}

/// Copies folders of the repository into the shell's, so that nothing is built among the sources and paths between them
/// still fit.
pub fn copy(shell: &Shell, folders: &[&str]) {
    let repository = guests::dir().join("../..");
    for folder in folders {
        copy_folder(&repository.join(folder), &shell.dir.join(folder));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else if name != "function.wasm" {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Builds and deploys a folder.
#[track_caller]
pub fn deploy(shell: &Shell, folder: &str, compiler: &str) {
    let (_, stderr) = shell.run(0, &["function", "deploy", folder, "--compiler", compiler]);
    assert!(stderr.contains("built function.wasm with "), "{stderr}");
}

#[test]
fn a_call_invite_reaches_the_callees_devices() {
    for compiler in COMPILERS {
        if tools::require_or_report(compiler).is_ok() {
            call_push_handler(compiler);
        }
    }
}

/// Deploys the handler and what registers devices, with the secrets, the devices and the trigger that it needs.
fn set_up_handler(shell: &Shell, service: &PushService, compiler: &str) {
    let handler = "examples/call-push-handler";
    copy(shell, &[handler, "examples/register-device", "sdk/go"]);
    let manifest = shell.dir.join(handler).join("function.yaml");
    let url = format!("  PUSH_URL: \"http://{}\"", service.address);
    edit(&manifest, "#  PUSH_URL: \"http://127.0.0.1:9000\"", &url);
    edit(&manifest, "delay: 5", "delay: 0");
    deploy(shell, handler, compiler);
    deploy(shell, "examples/register-device", compiler);

    let p256 = guests::dir().join("../fixtures/jwt/p256.pem");
    let set = |name: &str, rest: &[&str]| {
        shell.run(0, &[&["function", "secrets", "set", name], rest].concat());
    };
    set("FCM_SERVER_KEY", &["fcm-key"]);
    set("APNS_KEY_PEM", &["--from-file", p256.to_str().unwrap()]);
    set("APNS_KEY_ID", &["ABC123"]);
    set("APNS_TEAM_ID", &["TEAM456"]);
    let register = |user: &str, token: &str, kind: &str| {
        let device = json!({ "userId": user, "pushToken": token, "deviceType": kind }).to_string();
        shell.run(0, &["function", "invoke", "register-device", "--data", &device]);
    };
    register("user123", "android-token", "android");
    register("user123", "ios-token", "ios");
    register("somebody else", "other-token", "ios");
    shell.run(0, &["function", "triggers", "add", "call-push-handler", "--topic", "calls:invite"]);
}

fn call_push_handler(compiler: &str) {
    let service = PushService::start();
    let Ok(node) = service.node() else { return };
    let shell = Shell::of(&node);
    set_up_handler(&shell, &service, compiler);
    let publish = |callee: &str, caller: &str| {
        let invite = json!({ "calleeId": callee, "callerName": caller, "callType": "video" }).to_string();
        shell.run(0, &["pubsub", "publish", "calls:invite", &invite]);
    };

    publish("user123", "Ann");
    let mut sent = service.received(2);
    sent.sort_by(|a, b| a.line.cmp(&b.line));
    check_apns(&sent[0], "Ann");
    check_fcm(&sent[1]);
    // The newest record, once so many attempts are recorded.
    let recorded = |count: usize| {
        let logs = || shell.json(&["function", "logs", "call-push-handler"]);
        eventually("the attempt is recorded", || logs()["count"].as_u64() >= Some(count as u64));
        logs()["invocations"][0].clone()
    };
    let record = recorded(1);
    assert_eq!((&record["status"], &record["trigger_type"]), (&"success".into(), &"pubsub".into()));
    assert_eq!(messages(&record), ["info: Push sent to user123"]);

    // What fails is tried again and then kept; a replay reaches the device when the service is well. The other device
    // was reached at the first attempt and is left in peace.
    service.ios_status.store(500, Ordering::SeqCst);
    publish("user123", "Bob");
    let reached: Vec<bool> = service.received(4).iter().map(|sent| sent.line.contains("ios")).collect();
    assert_eq!(reached.iter().filter(|ios| **ios).count(), 3, "{reached:?}");
    let record = recorded(4);
    assert_eq!((&record["status"], &record["attempt"]), (&"error".into(), &3.into()));
    assert!(messages(&record)[0].contains("push service answered 500"), "{record}");
    assert!(shell.run(0, &["function", "logs", "call-push-handler"]).0.contains("error (attempt 3)"));
    let letters = || shell.json(&["function", "triggers", "dead-letters", "call-push-handler"]);
    eventually("the message is a dead letter", || letters()["count"] == 1);
    let letter = letters()["dead_letters"][0].clone();
    assert_eq!((&letter["attempts"], &letter["data"]["calleeId"]), (&3.into(), &"user123".into()));
    service.ios_status.store(200, Ordering::SeqCst);
    let id = letter["id"].as_str().unwrap();
    shell.run(0, &["function", "triggers", "replay", "call-push-handler", id]);
    check_apns(&service.received(1)[0], "Bob");
    eventually("the dead letter is gone", || letters()["count"] == 0);
    assert_eq!(
        shell.code(3, &["fn", "triggers", "replay", "call-push-handler", id]),
        "DEAD_LETTER_NOT_FOUND"
    );

    // A device that the service does not know any more is forgotten.
    service.ios_status.store(410, Ordering::SeqCst);
    publish("somebody else", "Ann");
    service.received(1);
    assert_eq!(recorded(6)["status"], "success");
    publish("somebody else", "Ann");
    assert_eq!(messages(&recorded(7)), ["info: No devices of somebody else"]);
    assert_eq!(lock(&service.sent).len(), 0);

    let triggers = shell.json(&["function", "triggers", "list", "call-push-handler"]);
    let id = triggers["triggers"][0]["id"].as_str().unwrap().to_owned();
    shell.run(0, &["function", "triggers", "delete", "call-push-handler", &id]);
    assert_eq!(shell.code(3, &["fn", "triggers", "delete", "call-push-handler", &id]), "TRIGGER_NOT_FOUND");
    assert_eq!(shell.json(&["fn", "triggers", "list", "call-push-handler"])["count"], 0);
}

fn check_fcm(sent: &Sent) {
    assert_eq!(sent.line, "POST /v1/projects/my-project/messages:send");
    assert_eq!(sent.headers["authorization"], "Bearer fcm-key");
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["message"]["token"], "android-token");
    assert_eq!(body["message"]["data"], json!({ "callerName": "Ann", "callType": "video" }));
}

fn check_apns(sent: &Sent, caller: &str) {
    assert_eq!(sent.line, "POST /3/device/ios-token");
    assert_eq!(sent.headers["apns-push-type"], "voip");
    assert_eq!(sent.headers["apns-topic"], "com.example.calls.voip");
    let token = sent.headers["authorization"].strip_prefix("bearer ").unwrap();
    assert_eq!(decode_header(token).unwrap().kid.as_deref(), Some("ABC123"));
    let public = fs::read(guests::dir().join("../fixtures/jwt/p256.pub.pem")).unwrap();
    let mut rules = Validation::new(Algorithm::ES256);
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    let claims = decode::<Value>(token, &DecodingKey::from_ec_pem(&public).unwrap(), &rules).unwrap().claims;
    assert_eq!(claims["iss"], "TEAM456");
    assert!(claims["iat"].is_u64(), "{claims}");
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body, json!({ "aps": {}, "callerName": caller, "callType": "video" }));
}

/// `level: message` of each message of a record.
fn messages(record: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = record["messages"].as_array().unwrap();
    all.iter().map(|m| format!("{}: {}", text(&m["level"]), text(&m["message"]))).collect()
}

#[test]
fn every_function_of_the_go_sdk_works_on_a_node() {
    for compiler in COMPILERS {
        if tools::require_or_report(compiler).is_ok() {
            sdk(compiler);
        }
    }
}

fn sdk(compiler: &str) {
    let service = PushService::start();
    let Ok(node) = service.node() else { return };
    let shell = Shell::of(&node);
    copy(&shell, &["tests/guests/sdk", "sdk/go"]);
    deploy(&shell, "tests/guests/sdk", compiler);
    shell.run(0, &["function", "secrets", "set", "S", "a secret"]);
    let input = json!({ "url": format!("http://{}/path", service.address) }).to_string();
    let answer = shell.json(&["function", "invoke", "sdk", "--data", &input]);
    let id = answer["request_id"].as_str().unwrap();
    let expected = json!({
        "context": [id, "", "", "", "my value", "", "a secret", ""],
        "cache": ["value", true, false, true, true, 1, -4],
        "storage": [11, true, false],
        "fetch": [200, "in", "{}", true],
        "published": true,
        "calls": ["error", "FUNCTION_NOT_FOUND", "", true, true, true, true, 1, true],
        "database": {
            "inserted": 1, "insert_id": true, "is_whole": true, "typed": true,
            "rows": [{ "id": 9_007_199_254_740_993_i64, "text": "a'b", "x": 1.5, "b": "00FF", "n": null }],
            "wrong": answer["output"]["database"]["wrong"],
            "transaction": [true, 1, [{ "n": 2 }]],
            "undone": [false, 1, "INVALID_ARGUMENT"],
            "left": [{ "n": 2 }],
        },
    });
    assert_eq!(answer["output"], expected, "{compiler}");
    let wrong = answer["output"]["database"]["wrong"].as_str().unwrap();
    assert!(wrong.starts_with("database: ") && wrong.contains("nowhere"), "{wrong}");
    let sent = &service.received(1)[0];
    assert_eq!((sent.line.as_str(), &sent.body[..]), ("POST /path", &b"body"[..]));
    assert_eq!(sent.headers["x-from"], "sdk");
    let logged = messages(&node.record("sdk", id));
    assert!(
        logged.contains(&"info: info".to_owned()) && logged.contains(&"error: error".to_owned()),
        "{logged:?}"
    );

    // What a handler returns as an error is logged and fails the invocation, and so does input that does not fit.
    for (input, why) in [("{}", "no url was given"), ("[]", "the input is not what this function expects")] {
        let (_, stderr) = shell.run(1, &["function", "invoke", "sdk", "--data", input]);
        assert!(stderr.contains("FUNCTION_EXIT"), "{stderr}");
        let logs = shell.json(&["function", "logs", "sdk", "--limit", "1"]);
        assert!(messages(&logs["invocations"][0])[0].contains(why), "{logs}");
    }
}

#[test]
fn the_go_sdk_passes_its_own_tests() {
    let Ok(go) = tools::require_or_report("go") else { return };
    let mut command = Command::new(go);
    command.args(["test", "./..."]).current_dir(guests::dir().join("../../sdk/go"));
    command.env("GOWORK", "off").env("GOFLAGS", "").stdin(Stdio::null());
    let output = crate::harness::output(command);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A request to a function under `/fn`.
pub fn web(node: &Node, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let request = node.anonymous(method, &format!("/fn/default/{path}"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(body).send()
}

/// Runs `test` with a node on which an example of the folder was deployed, once for each compiler.
fn with_example(folder: &str, secret: (&str, &str), test: impl Fn(&Node)) {
    for compiler in COMPILERS.into_iter().filter(|compiler| tools::require_or_report(compiler).is_ok()) {
        let Ok(node) = Node::try_start(Options::default()) else { return };
        let shell = Shell::of(&node);
        copy(&shell, &["sdk/go", folder]);
        shell.run(0, &["function", "secrets", "set", secret.0, secret.1]);
        deploy(&shell, folder, compiler);
        test(&node);
    }
}

#[test]
fn short_links_are_followed_and_counted() {
    with_example("examples/shortener", ("SHORTENER_TOKEN", "token"), |node| {
        let url = "https://example.com/a/long/path?q=1";
        let put = |token, body| web(node, "PUT", "shortener/docs", &[("x-token", token)], body);
        put("guess", url).expect(403);
        assert!(put("token", "ftp://example.com").expect(400).text().contains("http://"));
        assert_eq!(put("token", url).expect(201).json(), json!({"name": "docs", "url": url}));
        put("token", "https://example.com/other").expect(409);
        for _ in 0..3 {
            let answer = web(node, "GET", "shortener/docs", &[], "").expect(302);
            assert_eq!((answer.header("location"), answer.body.len()), (Some(url), 0));
        }
        assert_eq!(
            web(node, "GET", "shortener/docs/visits", &[], "").expect(200).json(),
            json!({"visits": 3})
        );
        let missing = web(node, "GET", "shortener/none", &[], "").expect(404);
        assert_eq!(missing.json(), json!({"error": "no such link"}));
        web(node, "GET", "shortener", &[], "").expect(404);
        web(node, "DELETE", "shortener/docs", &[], "").expect(405);
    });
}

#[test]
fn a_signed_delivery_is_taken_once() {
    with_example("examples/webhook", ("WEBHOOK_SECRET", "It's a Secret to Everybody"), |node| {
        // The example of GitHub's documentation.
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let post = |signature, id, body| {
            let headers =
                [("x-hub-signature-256", signature), ("x-github-delivery", id), ("x-github-event", "ping")];
            web(node, "POST", "webhook", &headers, body)
        };
        // Signed, and no JSON.
        assert!(post(signature, "1", "Hello, World!").expect(400).text().contains("not JSON"));
        post(signature, "1", "Hello, World?").expect(401);
        post("sha256=nonsense", "1", "{}").expect(401);
        let (signature, body) = (
            "sha256=5953c9925783375d303fcdedc048a559b7ecd3e439d806a193269f065a310a45",
            "{\"zen\":\"Keep it simple.\"}",
        );
        for is_new in [true, false, false] {
            let answer = post(signature, "2", body).expect(202).json();
            assert_eq!(answer, json!({"id": "2", "new": is_new}));
        }
        web(node, "GET", "webhook", &[], "").expect(405);
    });
}
