//! A node behind the servers that people put before it, set up as docs/HTTP.md says.

use crate::harness::{Node, Options, eventually, new_dir};
use crate::http::{Connection, Request};
use crate::process::InFolder;
use orama_test_support::guests;
use orama_test_support::tools;
use serde_json::json;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_tungstenite::tungstenite;
use tungstenite::client::IntoClientRequest;

const PAGE: &str = include_str!("../../docs/HTTP.md");
/// Where the documented proxies listen, and what they pass on to.
const NODE: &str = "127.0.0.1:6001";
const HOST: &str = "shop.example";
/// The client's, which is not the proxy's.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// The block of the documentation in a language.
fn block(language: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n```{language}\n")).expect("docs/HTTP.md has the block");
    let (block, _) = rest.split_once("\n```\n").unwrap();
    assert!(block.contains(NODE) && block.contains(HOST), "{block}");
    block
}

/// A proxy that runs.
struct Proxy {
    _process: InFolder,
    address: SocketAddr,
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Proxy {
    /// Starts a program with a configuration that is made of the documented block for a port.
    fn start(name: &str, configured: impl Fn(u16) -> String, command: impl Fn(&Path) -> Command) -> Self {
        let dir = new_dir(name);
        let port = free_port();
        let file = dir.join("config");
        fs::write(&file, configured(port)).unwrap();
        let process = InFolder::start(command(&file), dir);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(name, || {
            process.must_run();
            TcpStream::connect(address).is_ok()
        });
        Self { _process: process, address }
    }

    fn caddy(node: SocketAddr) -> Option<Self> {
        let program = tools::require_or_report("caddy").ok()?;
        let configured = |port: u16| {
            let site = block("caddy").replace(NODE, &node.to_string());
            // Without a certificate, which it could not get here.
            let site = site.replacen(HOST, &format!("http://{HOST}:{port}"), 1);
            format!("{{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}}\n{site}\n")
        };
        Some(Self::start("caddy", configured, |file| {
            let mut command = Command::new(&program);
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            command
        }))
    }

    fn nginx(node: SocketAddr) -> Option<Self> {
        let program = tools::require_or_report("nginx").ok()?;
        let configured = |port: u16| {
            let site = block("nginx").replace(NODE, &node.to_string());
            let site = site.replacen("listen 80;", &format!("listen 127.0.0.1:{port};"), 1);
            let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|what| format!("{what}_temp_path {what};\n"))
                .concat();
            format!(
                "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{folders}{site}\n}}\n"
            )
        };
        Some(Self::start("nginx", configured, |file| {
            let mut command = Command::new(&program);
            command.arg("-p").arg(file.parent().unwrap()).arg("-c").arg(file);
            command
        }))
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::to_host(self.address, HOST, method, path)
    }

    /// Sends a request as the client.
    fn connection(&self, request: &Request) -> Connection {
        let mut connection = Connection::from(CLIENT, self.address);
        connection.write(request.bytes());
        connection
    }
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

#[test]
fn what_the_documentation_says_of_proxies_works() {
    let config = "trusted_proxies = [\"127.0.0.1\"]\n".to_owned();
    let node = Node::start(Options { config, ..Options::default() });
    let Ok(site) = guests::go("site", &[]) else { return };
    node.deploy("site", &fs::read(site).unwrap(), &[("is_public", "true"), ("max_body", "32")]);
    node.deploy("echo", &guests::wat("echo"), &[]);
    let proxies = [Proxy::caddy(node.address()), Proxy::nginx(node.address())];
    for proxy in proxies.into_iter().flatten() {
        sees_its_client(&proxy);
        sends_events_as_they_are_written(&proxy);
        takes_large_bodies(&proxy);
        opens_websockets(&node, &proxy);
    }
}

fn sees_its_client(proxy: &Proxy) {
    let request = proxy.request("GET", "/fn/default/site/request?a=b").header("cookie", "k=v");
    // What the client itself claims is not believed.
    let forged = request.header("x-forwarded-for", "9.9.9.9").header("x-forwarded-proto", "https");
    let forged = forged.header("x-forwarded-host", "evil.example");
    let seen = proxy.connection(&forged).answer().expect(200).json();
    assert_eq!((&seen["host"], &seen["uri"]), (&json!(HOST), &json!("/request?a=b")), "{seen}");
    assert_eq!(seen["remote"], format!("{CLIENT}:0"), "{seen}");
    assert_eq!(seen["scheme"], "http", "{seen}");
    assert_eq!(seen["headers"]["Cookie"], json!(["k=v"]));
}

fn sends_events_as_they_are_written(proxy: &Proxy) {
    let mut connection = proxy.connection(&proxy.request("GET", "/fn/default/site/events"));
    let answer = connection.begun_answer().expect(200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let first = connection.piece().unwrap();
    let arrived = now_us();
    let events = [first, connection.pieces().unwrap()].concat();
    let events = String::from_utf8(events).unwrap();
    let written: Vec<i64> = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|written| written.parse().unwrap())
        .collect();
    // The first one was here before the last one was written.
    assert!(written.len() == 3 && arrived < written[2], "{arrived} {written:?}");
}

fn takes_large_bodies(proxy: &Proxy) {
    let body = vec![b'x'; 20 << 20];
    let request = proxy.request("POST", "/fn/default/site/hash").body(&body);
    let answer = proxy.connection(&request).answer().expect(200);
    assert!(answer.text().starts_with("20971520 "), "{answer:?}");
}

fn opens_websockets(node: &Node, proxy: &Proxy) {
    let open = |origin: &str| {
        let path = format!("ws://{HOST}/v1/functions/echo/ws");
        let mut request = path.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.append("authorization", format!("Bearer {}", node.key()).parse().unwrap());
        headers.append("origin", origin.parse().unwrap());
        tungstenite::client(request, TcpStream::connect(proxy.address).unwrap())
            .map_err(|error| error.to_string())
    };
    // The page's origin is the host that the proxy was asked for.
    let (mut socket, _) = open(&format!("https://{HOST}")).unwrap();
    for _ in 0..3 {
        socket.send(tungstenite::Message::text("1")).unwrap();
        let answer: serde_json::Value =
            serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
    }
    let refused = open("https://evil.example").err();
    assert!(refused.is_some_and(|error| error.contains("403")));
}
