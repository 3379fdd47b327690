//! An HTTP client that hides nothing: one socket, bytes as they are, answers one by one.

use crate::described;
use rustix::net::{AddressFamily, SocketType};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any test waits for an answer on purpose.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless the answer has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}\n{}", self.headers, self.text());
        self
    }

    /// Fails unless this is an error answer in the contract's shape; returns its message.
    #[track_caller]
    pub fn refusal(self, status: u16, code: &str) -> String {
        let answer = self.expect(status);
        let json = answer.json();
        let known = ["error", "code", "retryable", "retry_after", "scope", "request_id", "hint"];
        assert!(json.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{json}");
        assert_eq!(json["retryable"], matches!(status, 408 | 429 | 503 | 504), "{json}");
        let wait = answer.header("retry-after").map(|wait| wait.parse::<u64>().unwrap());
        assert_eq!(json["retry_after"].as_u64(), wait, "{answer:?}");
        assert_eq!(json["code"], code, "{json}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(json["request_id"].as_str(), answer.header("x-request-id"), "{answer:?}");
        assert!(!json["request_id"].as_str().unwrap().is_empty(), "{json}");
        let message = json["error"].as_str().unwrap().to_owned();
        assert!(!message.is_empty(), "{json}");
        message
    }
}

/// One connection to a node.
pub struct Connection {
    pub stream: TcpStream,
    /// Read from the socket and not yet part of an answer.
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap()
    }

    pub fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// A connection whose client has an address of its own.
    pub fn from(client: IpAddr, address: SocketAddr) -> Self {
        let family = if client.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::new(client, 0)).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).unwrap();
    }

    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub fn close_sending_half(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer; a provisional one (1xx) counts as one.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        match self.try_answer() {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The next answer.
    pub fn try_answer(&mut self) -> std::io::Result<Answer> {
        self.read_answer(true)
    }

    /// The answer to a HEAD: it has no body, whatever its headers say.
    #[track_caller]
    pub fn answer_without_body(&mut self) -> Answer {
        match self.read_answer(false) {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The status and the headers of an answer that comes in pieces.
    #[track_caller]
    pub fn begun_answer(&mut self) -> Answer {
        let answer = self.read_head().unwrap_or_else(|error| panic!("no answer: {error}"));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{answer:?}");
        answer
    }

    /// The next piece of such an answer; an empty one ends it.
    pub fn piece(&mut self) -> std::io::Result<Vec<u8>> {
        let line_end = loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let line: Vec<u8> = self.buffer.drain(..line_end + 2).collect();
        let length =
            std::str::from_utf8(&line[..line_end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let length = length.unwrap_or_else(|| panic!("no length of a piece: {line:?}"));
        while self.buffer.len() < length + 2 {
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let mut piece: Vec<u8> = self.buffer.drain(..length + 2).collect();
        assert_eq!(piece.split_off(length), b"\r\n");
        Ok(piece)
    }

    /// All pieces up to the end.
    pub fn pieces(&mut self) -> std::io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match self.piece()? {
                piece if piece.is_empty() => return Ok(all),
                piece => all.extend(piece),
            }
        }
    }

    fn read_answer(&mut self, has_body: bool) -> std::io::Result<Answer> {
        let mut answer = self.read_head()?;
        assert_eq!(answer.header("transfer-encoding"), None, "the answer is not sent whole: {answer:?}");
        if has_body && answer.status >= 200 && answer.status != 204 {
            let length = answer.header("content-length").and_then(|length| length.parse().ok());
            let length: usize = length.unwrap_or_else(|| panic!("no length: {answer:?}"));
            while self.buffer.len() < length {
                if self.fill()? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        Ok(answer)
    }

    fn read_head(&mut self) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head is ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no status line: {head:?}"));
        let headers: Vec<(String, String)> = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}")))
            .map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Answer { status, headers, body: Vec::new() })
    }

    /// What was read from the socket beyond the answers.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut bytes = vec![0; 64 << 10];
        let read = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..read]);
        Ok(read)
    }

    /// Fails unless the other side closes the connection without another byte.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        assert!(self.buffer.is_empty(), "more came: {:?}", String::from_utf8_lossy(&self.buffer));
        match self.fill() {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Ok(_) => panic!("more came: {:?}", String::from_utf8_lossy(&self.buffer)),
            Err(error) => panic!("not closed: {error}"),
        }
    }
}

/// A request under construction, which goes over a connection of its own.
pub struct Request {
    address: SocketAddr,
    head: String,
    body: Vec<u8>,
    /// Whether the node's description of its API has what is asked and answered.
    is_described: bool,
}

impl Request {
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        Self::to_host(address, "node", method, path)
    }

    /// A request that asks for a host by name.
    pub fn to_host(address: SocketAddr, host: &str, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        Self { address, head, body: Vec::new(), is_described: false }
    }

    /// Fails later unless the node's description of its API has the request and its answer.
    pub fn described(mut self) -> Self {
        self.is_described = true;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Asks for a WebSocket.
    pub fn upgrade(self) -> Self {
        let request = self.header("connection", "upgrade").header("upgrade", "websocket");
        request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// A deploy form: `wasm` is a file, the others are fields.
    pub fn form(self, parts: &[(&str, &[u8])]) -> Self {
        const BOUNDARY: &str = "--form-boundary--8c1d";
        let mut body = Vec::new();
        for (name, value) in parts {
            let file = if *name == "wasm" { "; filename=\"function.wasm\"" } else { "" };
            let head =
                format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.header("content-type", &format!("multipart/form-data; boundary=\"{BOUNDARY}\"")).body(body)
    }

    /// The request's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone().into_bytes();
        if !self.body.is_empty() {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    #[track_caller]
    pub fn send(self) -> Answer {
        let what = self.head.lines().next().unwrap_or_default().to_owned();
        match self.try_send() {
            Ok(answer) => answer,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    #[track_caller]
    pub fn try_send(self) -> std::io::Result<Answer> {
        let mut connection = Connection::try_open(self.address)?;
        connection.try_write(self.bytes())?;
        let answer = connection.try_answer()?;
        if self.is_described {
            described::check(&self.head, &self.body, &answer);
        }
        Ok(answer)
    }
}
