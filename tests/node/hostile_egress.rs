//! What hostile functions try to reach with `http_fetch`: this machine, the node itself and its servers.

use crate::harness::{Node, Options};
use crate::honest::Honest;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Fetches the URL on its standard input and writes what came back.
const FETCH: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "env" "http_fetch"
    (func $http_fetch (param i32 i32 i32 i32 i32 i32 i32 i32) (result i64)))
  (memory (export "memory") 4)
  (data (i32.const 32) "GET")
  (global $next (mut i32) (i32.const 65536))
  (func (export "orama_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $size))))
  (func (export "_start") (local $answer i64)
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $answer (call $http_fetch (i32.const 32) (i32.const 3) (i32.const 1024) (i32.load (i32.const 8))
      (i32.const 32) (i32.const 0) (i32.const 32) (i32.const 0)))
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $answer) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $answer)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// A web service of this machine that counts who comes.
struct Service {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Service {
    /// Serves at one address of the machine.
    fn start(at: IpAddr) -> Self {
        Self::answering(at, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_owned())
    }

    /// Answers everybody with a redirect.
    fn redirecting(to: &str) -> Self {
        let answer =
            format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        Self::answering([127, 0, 0, 1].into(), answer)
    }

    fn answering(at: IpAddr, answer: String) -> Self {
        let listener = TcpListener::bind((at, 0)).unwrap();
        let service = Self { address: listener.local_addr().unwrap(), came: Arc::default() };
        let came = Arc::clone(&service.came);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                came.fetch_add(1, Ordering::SeqCst);
                // A request that is refused may have been closed by its client.
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        service
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

/// The address by which other machines reach this one; loopback where it has none.
fn outward() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let connected = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr());
    connected.map_or([127, 0, 0, 1].into(), |address| address.ip())
}

fn node(config: &str, env: Vec<(&'static str, String)>) -> Node {
    let node = Node::start(Options { config: config.to_owned(), env, ..Options::default() });
    node.deploy("fetch", &wat::parse_str(FETCH).unwrap(), &[]);
    node
}

fn fetch(node: &Node, url: &str) -> Value {
    node.invoke("fetch", url).expect(200).json()
}

#[track_caller]
fn expect_refused(node: &Node, url: &str, word: &str) {
    let answer = fetch(node, url);
    assert_eq!(answer["status"], 0, "{url}: {answer}");
    assert!(answer["error"].as_str().unwrap().contains(word), "{url}: {answer}");
}

#[test]
fn the_machine_is_out_of_reach_on_every_port_and_under_every_spelling() {
    let [own, loopback] = [outward(), [127, 0, 0, 1].into()].map(Service::start);
    // Networks that contain everything do not contain the machine.
    let node = node("[egress]\nallow = [\"0.0.0.0/0\", \"::/0\", \"localhost\"]\n", Vec::new());
    let honest = Honest::settle(&node);
    let serving = node.address();
    let exactly = "allow exactly this host and port";
    let (ip, port) = (own.address.ip(), own.address.port());
    honest.beside(&node, "fetches of the machine's own addresses", || {
        for host in [
            format!("{ip}:{port}"),
            format!("[::ffff:{ip}]:{port}"),
            format!("[::{ip}]:{port}"),
            format!("[64:ff9b::{ip}]:{port}"),
            format!("{serving}"),
            format!("{ip}:{}", serving.port()),
        ] {
            expect_refused(&node, &format!("http://{host}/health"), exactly);
        }
        for host in [
            "127.0.0.1",
            "localhost",
            "127.1",
            "0.0.0.0",
            "0",
            "[::1]",
            "[::]",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "127.255.1.9",
            "[0:0:0:0:0:ffff:7f00:1]",
            "LOCALHOST",
        ] {
            expect_refused(&node, &format!("http://{host}:{}/", loopback.address.port()), exactly);
        }
        // The machine's own name, where it leads to one of its addresses.
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let name = name.trim();
        if (name, port).to_socket_addrs().is_ok() {
            expect_refused(&node, &format!("http://{name}:{port}/"), exactly);
        }
    });
    assert_eq!((own.came(), loopback.came()), (0, 0));
}

#[test]
fn a_redirect_leads_to_nothing_that_could_not_be_fetched() {
    let other = Service::start([127, 0, 0, 1].into());
    let port = other.address.port();
    let own = outward();
    for to in [
        format!("http://{}/", other.address),
        format!("http://2130706433:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("//0.0.0.0:{port}/"),
        format!("http://{own}:{port}/"),
    ] {
        let open = Service::redirecting(&to);
        let config = format!("[egress]\nallow = [\"{}\"]\n", open.address);
        let node = node(&config, Vec::new());
        let answer = fetch(&node, &format!("http://{}/", open.address));
        assert_eq!((&answer["status"], open.came()), (&json!(0), 1), "{to}: {answer}");
        assert!(answer["error"].as_str().unwrap().starts_with("address "), "{to}: {answer}");
    }
    assert_eq!(other.came(), 0);
}

#[test]
fn exactly_what_the_operator_names_is_reached_unless_it_is_denied() {
    let [open, other, denied] = [[127, 0, 0, 1]; 3].map(|address| Service::start(address.into()));
    let config = format!(
        "[egress]\nallow = [\"{}\", \"{}\"]\ndeny = [\"{}\"]\n",
        open.address, denied.address, denied.address
    );
    let node = node(&config, Vec::new());
    assert_eq!(fetch(&node, &format!("http://{}/", open.address))["body"], "ok");
    expect_refused(&node, &format!("http://{}/", other.address), "is loopback");
    expect_refused(&node, &format!("http://{}/", denied.address), "egress.deny");
    assert_eq!((open.came(), other.came(), denied.came()), (1, 0, 0));
}

#[test]
fn the_nodes_servers_are_out_of_reach_in_an_allowed_network() {
    // Nothing answers there, and the node starts without it: pubsub and cache wait for Olric.
    let config = "[cache]\nkind = \"olric\"\naddresses = [\"10.255.255.1:3320\", \"localhost:3320\"]\n\
                  [egress]\nallow = [\"10.0.0.0/8\"]\n";
    let node = node(config, Vec::new());
    for url in ["http://10.255.255.1:3320/", "http://10.255.255.1/", "http://[::ffff:10.255.255.1]:3322/"] {
        expect_refused(&node, url, "that of a server of this node");
    }
}

#[test]
fn variables_that_name_proxies_change_nothing() {
    let [proxy, open] = [[127, 0, 0, 1]; 2].map(|address| Service::start(address.into()));
    let at = format!("http://{}", proxy.address);
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let config = format!("[egress]\nallow = [\"{}\"]\n", open.address);
    let node = node(&config, names.map(|name| (name, at.clone())).to_vec());
    assert_eq!(fetch(&node, &format!("http://{}/", open.address))["body"], "ok");
    expect_refused(&node, "http://10.0.0.1/", "is private");
    expect_refused(&node, "https://169.254.169.254/", "is link-local");
    let unknown = fetch(&node, "https://name.invalid/");
    assert!(unknown["error"].as_str().unwrap().contains("cannot resolve host name.invalid"), "{unknown}");
    assert_eq!((proxy.came(), open.came()), (0, 1));
}
