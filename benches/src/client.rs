//! The smallest HTTP client that can drive a server to its limit: one connection, requests that are ready as bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A kept connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer's status and body.
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a server that listens");
        stream.set_nodelay(true).expect("a live socket");
        Self { stream, buffer: vec![0; 64 << 10] }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Panics
    /// When the connection breaks, or the answer is not HTTP with a `content-length`.
    pub fn call(&mut self, request: &[u8]) -> Answer<'_> {
        self.stream.write_all(request).expect("a server that reads");
        let mut have = 0;
        loop {
            if have == self.buffer.len() {
                self.buffer.resize(2 * have, 0);
            }
            let read = self.stream.read(&mut self.buffer[have..]).expect("a server that answers");
            assert!(read > 0, "the server closed the connection");
            have += read;
            let Some((status, body_at, length)) = head(&self.buffer[..have]) else { continue };
            if have >= body_at + length {
                return Answer { status, body: &self.buffer[body_at..body_at + length] };
            }
        }
    }
}

fn head(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).expect("a head in ASCII");
    let status = text.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
    let length = text
        .lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")))
        .and_then(|(_, value)| value.trim().parse().ok())
        .expect("a content-length");
    Some((status, end + 4, length))
}

/// A request with an API key and a JSON body.
#[must_use]
pub fn post(path: &str, api_key: &str, body: &[u8]) -> Vec<u8> {
    request("POST", path, api_key, "application/json", body)
}

/// A PUT with an API key and a JSON body.
#[must_use]
pub fn put(path: &str, api_key: &str, body: &[u8]) -> Vec<u8> {
    request("PUT", path, api_key, "application/json", body)
}

/// A GET with an API key.
#[must_use]
pub fn get(path: &str, api_key: &str) -> Vec<u8> {
    request("GET", path, api_key, "application/json", b"")
}

/// A request that deploys `wasm` as `name`, with settings as a JSON object.
#[must_use]
pub fn deploy(name: &str, api_key: &str, wasm: &[u8], metadata: &str) -> Vec<u8> {
    let mut body = format!(
        "--b\r\ncontent-disposition: form-data; name=\"name\"\r\n\r\n{name}\r\n\
         --b\r\ncontent-disposition: form-data; name=\"metadata\"\r\n\r\n{metadata}\r\n\
         --b\r\ncontent-disposition: form-data; name=\"wasm\"; filename=\"function.wasm\"\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(wasm);
    body.extend_from_slice(b"\r\n--b--\r\n");
    request("POST", "/v1/functions", api_key, "multipart/form-data; boundary=b", &body)
}

fn request(method: &str, path: &str, api_key: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {api_key}\r\n\
         content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}
