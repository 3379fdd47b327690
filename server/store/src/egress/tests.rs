//! Guests' HTTP against real servers on this machine, and look-ups that a test answers.

mod answers;
mod limits;
mod redirects;
mod targets;
mod tls;

use super::*;
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What a server does after a request.
enum Reply {
    /// Sends this and waits for the next one.
    Send(Vec<u8>),
    /// Sends this and closes.
    Close(Vec<u8>),
    /// Sends this and nothing more.
    Hang(Vec<u8>),
    /// Sends the first and then the second for ever.
    Endless(Vec<u8>, Vec<u8>),
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Send(text.into())
    }
}

/// A server that shows what it was sent.
struct Server {
    address: SocketAddr,
    /// Each request with the number of its connection.
    seen: Arc<Mutex<Vec<(usize, String)>>>,
    /// Connections that the client has closed.
    closed: Arc<Semaphore>,
}

impl Server {
    async fn start<R: Into<Reply>>(reply: impl Fn(&str) -> R + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            closed: Arc::new(Semaphore::new(0)),
        };
        let (seen, closed, reply) = (Arc::clone(&server.seen), Arc::clone(&server.closed), Arc::new(reply));
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, closed, reply) = (Arc::clone(&seen), Arc::clone(&closed), Arc::clone(&reply));
                tokio::spawn(async move {
                    let _ = talk(stream, number, &seen, &*reply).await;
                    closed.add_permits(1);
                });
            }
        });
        server
    }

    /// One that answers everything with `ok`.
    async fn ok() -> Self {
        Self::start(|_| OK).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }

    /// Numbers of the connections over which requests came.
    fn connections(&self) -> Vec<usize> {
        self.seen.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }
}

/// Answers requests until the client or the reply ends it.
async fn talk<S: AsyncRead + AsyncWrite + Unpin, R: Into<Reply>>(
    mut stream: S,
    number: usize,
    seen: &Mutex<Vec<(usize, String)>>,
    reply: &(impl Fn(&str) -> R + Send + Sync),
) -> io::Result<()> {
    while let Some(request) = read_request(&mut stream).await? {
        let reply = reply(&request).into();
        seen.lock().unwrap().push((number, request));
        match reply {
            Reply::Send(bytes) => stream.write_all(&bytes).await?,
            Reply::Close(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Reply::Hang(bytes) => {
                stream.write_all(&bytes).await?;
                stream.read_u8().await?;
            }
            Reply::Endless(first, then) => {
                stream.write_all(&first).await?;
                loop {
                    stream.write_all(&then).await?;
                }
            }
        }
    }
    Ok(())
}

/// A request with its body as one text; `None` at the end of the connection.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    while bytes.len() < head + length.unwrap_or(0) {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// TLS that trusts nobody but who made these certificates.
fn trusting(certificates: &[rustls::pki_types::CertificateDer<'static>]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

fn egress_with(
    allow: &[&str],
    look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> Egress {
    let allow = allow.iter().map(|entry| entry.parse().unwrap()).collect();
    egress_of(Rules { allow, ..nothing_special() }, look_up)
}

/// Rules of a machine without addresses, so that servers of tests count as others' and an entry without a port opens them.
fn nothing_special() -> Rules {
    Rules { allow: Vec::new(), deny: Vec::new(), is_own: |_| false, servers: Arc::default() }
}

fn egress_of(
    rules: Rules,
    look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> Egress {
    Egress::with(rules, Arc::new(look_up), Ok(trusting(&[])).into(), Handle::current())
}

/// Every name is this machine.
fn here(_: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(vec![(Ipv4Addr::LOCALHOST, port).into()])
}

fn egress(allow: &[&str]) -> Egress {
    egress_with(allow, here)
}

fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

fn get(url: impl Into<String>) -> FetchRequest {
    FetchRequest { method: "GET".into(), url: url.into(), headers: Vec::new(), body: Bytes::new() }
}

fn post(url: impl Into<String>, body: &'static str) -> FetchRequest {
    FetchRequest { method: "POST".into(), body: body.into(), ..get(url) }
}

fn with(mut request: FetchRequest, headers: &[(&str, &str)]) -> FetchRequest {
    request.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    request
}

type Fetched = Result<FetchResponse, ServiceError>;

impl Egress {
    async fn fetch_as(&self, of: &str, request: FetchRequest) -> Fetched {
        self.fetch(&namespace(of), request, Instant::now() + Duration::from_secs(60)).await
    }

    async fn run(&self, request: FetchRequest) -> Fetched {
        self.fetch_as("a", request).await
    }

    /// The message of a fetch that must fail, with the word of its code.
    async fn refused(&self, request: FetchRequest) -> String {
        let error = self.run(request).await.unwrap_err();
        format!("{} {}", error.code.as_str(), error.message)
    }
}
