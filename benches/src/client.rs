//! A minimal HTTP client that can drive a server to its limit: one connection, and requests prepared as bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for bytes of an answer. A deploy compiles a module for some seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection that is kept open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer: its status, its body, and the time until it came.
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
    /// From the request's last byte to the answer's first.
    pub waited: Duration,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("a server that listens")
    }

    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Self { stream, buffer: vec![0; 64 << 10] })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Panics
    /// When the connection breaks, or the answer is not HTTP with a `content-length`.
    pub fn call(&mut self, request: &[u8]) -> Answer<'_> {
        self.try_call(request).expect("a server that answers")
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is not HTTP with a `content-length`. The connection cannot be used again.
    pub fn try_call(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request)?;
        let sent = Instant::now();
        let (mut have, mut waited) = (0, None);
        loop {
            if have == self.buffer.len() {
                self.buffer.resize(2 * have, 0);
            }
            let read = match self.stream.read(&mut self.buffer[have..]) {
                // A child of the node in this process has ended.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let waited = *waited.get_or_insert_with(|| sent.elapsed());
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            have += read;
            let Some((status, body_at, length)) = head(&self.buffer[..have])? else { continue };
            if have >= body_at + length {
                return Ok(Answer { status, body: &self.buffer[body_at..body_at + length], waited });
            }
        }
    }
}

/// The status, the start of the body and its length; `None` while the head is incomplete.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let known = std::str::from_utf8(&bytes[..end]).ok().and_then(|text| {
        let status = text.get(9..12)?.parse().ok()?;
        let length = text.lines().find_map(|line| {
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        });
        Some((status, end + 4, length?.1.trim().parse().ok()?))
    });
    known.map(Some).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the answer has no status or no content-length")
    })
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
