//! A stand-in for the node: answers what it is told to, and keeps what it was asked.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// `METHOD path?query` and the body.
pub type Request = (String, String);

/// Answers each request alike and keeps it.
pub struct Stand {
    pub address: String,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl Stand {
    pub fn answering(status: u16, body: impl ToString) -> Self {
        let body = body.to_string();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let kept = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = read(&stream) else { continue };
                kept.lock().unwrap().push(request);
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = (&stream).write_all(format!("{head}{body}").as_bytes());
            }
        });
        Self { address, requests }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orama"));
        command.args(arguments).stdin(Stdio::null());
        command.env_remove("ORAMA_NAMESPACE").env("ORAMA_HOME", "/nonexistent");
        command.env("ORAMA_GATEWAY_URL", &self.address).env("ORAMA_API_KEY", "orama_k");
        command
    }

    /// Runs it to its end; standard output and standard error.
    #[track_caller]
    pub fn run(&self, code: i32, arguments: &[&str]) -> (String, String) {
        said(self.command(arguments).output().unwrap(), code)
    }

    /// The same with something on standard input.
    #[track_caller]
    pub fn feed(&self, code: i32, arguments: &[&str], input: &[u8]) -> (String, String) {
        let mut command = self.command(arguments);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        // A command that does not read to the end closes its side.
        let _ = child.stdin.take().unwrap().write_all(input);
        said(child.wait_with_output().unwrap(), code)
    }

    /// The one request since the last call of this.
    #[track_caller]
    pub fn asked(&self) -> (String, Value) {
        let mut requests = std::mem::take(&mut *self.requests.lock().unwrap());
        assert_eq!(requests.len(), 1, "{requests:?}");
        let (line, body) = requests.remove(0);
        (line, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    #[track_caller]
    pub fn was_not_asked(&self) {
        assert_eq!(*self.requests.lock().unwrap(), []);
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        assert!(!header.starts_with("authorization") || header == "authorization: bearer orama_k");
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some((line, String::from_utf8(body).ok()?))
}

#[track_caller]
fn said(output: Output, code: i32) -> (String, String) {
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "stdout: {stdout}\nstderr: {stderr}");
    (stdout, stderr)
}
