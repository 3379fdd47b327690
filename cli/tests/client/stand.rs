//! A stand-in for the node: gives every request the same answer and records what it was sent.

use parking_lot::Mutex;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// `METHOD path?query` and the body.
pub type Request = (String, String);

/// The key with which [`Stand::command`] runs commands.
pub const KEY: &str = "orama_k";

/// Longest wait for the next bytes of a request.
const SILENCE: Duration = Duration::from_secs(5);

/// A listener that answers every request alike.
pub struct Stand {
    pub address: String,
    pub requests: Arc<Mutex<Vec<Request>>>,
    /// The value of each request's `authorization`, if any; one entry for each connection, also for those without HTTP.
    pub keys: Arc<Mutex<Vec<Option<String>>>>,
}

impl Stand {
    /// Answers with a status and a body.
    pub fn answering(status: u16, body: impl ToString) -> Self {
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        Self::start(TcpListener::bind(("127.0.0.1", 0)).unwrap(), format!("{head}{body}"))
    }

    /// Sends each connection of `listener` the bytes of `answer` after its request.
    pub fn start(listener: TcpListener, answer: String) -> Self {
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stand = Self { address, requests: Arc::default(), keys: Arc::default() };
        let (requests, keys) = (Arc::clone(&stand.requests), Arc::clone(&stand.keys));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A TLS handshake has no line to read to.
                stream.set_read_timeout(Some(SILENCE)).unwrap();
                let (mut key, request) = (None, read(&stream));
                if let Some((request, authorization)) = request {
                    key = authorization;
                    requests.lock().push(request);
                }
                keys.lock().push(key);
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        stand
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orama"));
        command.args(arguments).stdin(Stdio::null());
        command.env_remove("ORAMA_NAMESPACE").env("ORAMA_HOME", "/nonexistent");
        command.env("ORAMA_GATEWAY_URL", &self.address).env("ORAMA_API_KEY", KEY);
        command
    }

    /// Runs a command to its end and returns standard output and standard error.
    #[track_caller]
    pub fn run(&self, code: i32, arguments: &[&str]) -> (String, String) {
        said(self.command(arguments).output().unwrap(), code)
    }

    /// Runs a command with `input` on its standard input.
    #[track_caller]
    pub fn feed(&self, code: i32, arguments: &[&str], input: &[u8]) -> (String, String) {
        let mut command = self.command(arguments);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        // A command that does not read to the end closes its side.
        let _ = child.stdin.take().unwrap().write_all(input);
        said(child.wait_with_output().unwrap(), code)
    }

    /// The one request since the last call, which carried the key.
    #[track_caller]
    pub fn asked(&self) -> (String, Value) {
        let mut requests = std::mem::take(&mut *self.requests.lock());
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert_eq!(std::mem::take(&mut *self.keys.lock()), [Some(format!("Bearer {KEY}"))]);
        let (line, body) = requests.remove(0);
        (line, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// The bodies of all requests since the last call.
    pub fn bodies(&self) -> Vec<Value> {
        self.keys.lock().clear();
        let requests = std::mem::take(&mut *self.requests.lock());
        requests.iter().map(|(_, body)| serde_json::from_str(body).unwrap_or(Value::Null)).collect()
    }

    /// Fails when anyone connected since the last call of [`Stand::asked`].
    #[track_caller]
    pub fn was_not_asked(&self) {
        assert_eq!(*self.requests.lock(), []);
        assert_eq!(*self.keys.lock(), []);
    }
}

/// Reads a request and the value of its `authorization`; `None` when it is not HTTP.
fn read(stream: &TcpStream) -> Option<(Request, Option<String>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(((line, String::from_utf8(body).ok()?), authorization))
}

/// Checks a command's exit code and returns standard output and standard error.
#[track_caller]
pub fn said(output: Output, code: i32) -> (String, String) {
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "stdout: {stdout}\nstderr: {stderr}");
    (stdout, stderr)
}
