//! One tenant, or a stranger, who takes all that can be had of what all share at the edge: places, bodies, answers, memory,
//! requests. Beside each attack an honest tenant is served without a single error; how long it took is printed and not judged.

use crate::harness::{Node, Options, eventually};
use crate::http::{Answer, Connection, Request};
use crate::speakers::slow_speaker;
use orama_test_support::guests;
use rustix::net::{AddressFamily, SocketType, sockopt};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for an attack to show.
const WHILE: Duration = Duration::from_secs(3);

/// A node with an honest tenant and a hostile one.
struct Place {
    node: Node,
    honest: String,
    hostile: String,
}

impl Place {
    fn new(config: &str) -> Self {
        let node = Node::start(Options { config: config.to_owned(), ..Options::default() });
        let [honest, hostile] = ["honest", "hostile"].map(|namespace| {
            let body = json!({ "name": namespace }).to_string();
            node.request("POST", "/v1/namespaces").body(body).send().expect(201);
            key(&node, namespace, "deploy")
        });
        let place = Self { node, honest, hostile };
        place.deploy(&place.honest, "echo", &guests::wat("echo"), &[]).expect(201);
        place.deploy(&place.hostile, "echo", &guests::wat("echo"), &[("is_public", "true")]).expect(201);
        place
    }

    fn deploy(&self, key: &str, name: &str, wasm: &[u8], fields: &[(&str, &str)]) -> Answer {
        let mut parts: Vec<(&str, &[u8])> = vec![("name", name.as_bytes()), ("wasm", wasm)];
        parts.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        self.node.request_as(key, "POST", "/v1/functions").form(&parts).send()
    }

    /// A request to the hostile tenant's public function, without a credential.
    fn stranger(&self, function: &str) -> Request {
        self.node.anonymous("POST", &format!("/v1/invoke/hostile/{function}"))
    }

    /// A request of the hostile tenant to its own function.
    fn tenant(&self, function: &str) -> Request {
        self.node.request_as(&self.hostile, "POST", &format!("/v1/functions/{function}/invoke"))
    }

    /// Does something while the honest tenant calls its function without pause; none of its calls may fail.
    fn beside<T>(&self, what: &str, attack: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let calling = scope.spawn(|| {
                let mut took = Vec::new();
                let mut connection = self.node.connect();
                while !over.load(Ordering::Relaxed) {
                    let request =
                        self.node.request_as(&self.honest, "POST", "/v1/functions/echo/invoke").body("[1]");
                    let begun = Instant::now();
                    connection.write(request.bytes());
                    assert_eq!(connection.answer().expect(200).text(), "[1]", "{what}");
                    took.push(begun.elapsed());
                    sleep(Duration::from_millis(2));
                }
                took
            });
            let done = attack();
            over.store(true, Ordering::Relaxed);
            let mut took = calling.join().unwrap();
            took.sort_unstable();
            let p99 = took[(took.len() * 99 / 100).min(took.len() - 1)];
            eprintln!("{what}: {} honest calls, p99 {p99:?}, no error", took.len());
            done
        })
    }

    fn used(&self, kind: &str) -> f64 {
        self.node.metric(&format!("orama_share_used{{kind=\"{kind}\"}}"))
    }

    fn limit(&self, kind: &str) -> f64 {
        self.node.metric(&format!("orama_share_limit{{kind=\"{kind}\"}}"))
    }

    /// Resident memory of the node, in bytes.
    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.node.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn open(&self, count: usize, bytes: &[u8]) -> Vec<Connection> {
        let open = |_| {
            let mut connection = self.node.connect();
            connection.write(bytes);
            connection
        };
        (0..count).map(open).collect()
    }
}

fn key(node: &Node, namespace: &str, role: &str) -> String {
    let body = json!({ "namespace": namespace, "role": role }).to_string();
    let made = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
    made["api_key"].as_str().unwrap().to_owned()
}

/// Writes `length` bytes, of which the first is `first`.
fn long_answer(first: char, length: usize) -> Vec<u8> {
    let source = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 130)
  (data (i32.const 0) "\40\00\00\00")
  (func (export "_start")
    (memory.fill (i32.const 64) (i32.const 120) (i32.const {length}))
    (i32.store8 (i32.const 64) (i32.const {}))
    (i32.store (i32.const 4) (i32.const {length}))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        first as u32
    );
    wat::parse_str(source).unwrap()
}

/// Grows its memory to `pages`, writes to each page, and sleeps for some seconds.
fn hungry(pages: u32) -> Vec<u8> {
    let source = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (if (i32.eq (memory.grow (i32.const {})) (i32.const -1)) (then unreachable))
    (loop $next
      (i32.store8 offset=4096 (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const {}))))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 64) (i64.const 0))
    (i64.store (i32.const 72) (i64.const 0))
    (i64.store (i32.const 88) (i64.const 4000000000))
    (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)))))"#,
        pages - 1,
        pages * 65_536 - 8_192
    );
    wat::parse_str(source).unwrap()
}

/// The next answer that is not an interim one.
fn final_answer(connection: &mut Connection) -> Answer {
    loop {
        let answer = connection.answer();
        if answer.status >= 200 {
            return answer;
        }
    }
}

#[test]
fn bodies_that_never_end_take_nobodys_place() {
    let place = Place::new("body_timeout_seconds = 4\n");
    let announced = place.stranger("echo").header("content-length", "2").bytes();
    let chunked = place.stranger("echo").header("transfer-encoding", "chunked").bytes();
    let large = place.tenant("echo").header("content-length", "1000000").bytes();
    for (what, count, bytes) in [
        ("one of two bytes", 1_100, [&announced[..], b"x"].concat()),
        ("half a chunk", 1_100, [&chunked[..], b"5\r\nab"].concat()),
        ("a third of a megabyte", 300, [&large[..], &vec![b'x'; 300_000]].concat()),
    ] {
        let mut connections = place.beside(what, || {
            let connections = place.open(count, &bytes);
            sleep(WHILE);
            assert!(place.used("invocations") < 16.0, "who has not sent everything runs nothing");
            assert!(place.used("body_bytes") <= place.limit("body_bytes"));
            connections
        });
        let mut late = 0;
        for connection in &mut connections {
            let answer = connection.answer();
            match answer.status {
                408 => late += 1,
                _ => drop(answer.refusal(503, "OVERLOADED")),
            }
        }
        assert!(late > count / 4, "{what}: {late} were told that they were too late");
        drop(connections);
        eventually("everything is given back", || place.used("body_bytes") == 0.0);
    }
}

#[test]
fn uploads_that_hang_stop_no_deploy() {
    let place = Place::new("");
    let invoke_only = key(&place.node, "hostile", "invoke");
    let chunked = |key: &str, method: &str, path: &str| {
        let request = place.node.request_as(key, method, path).header("transfer-encoding", "chunked");
        request.header("content-type", "multipart/form-data; boundary=x").bytes()
    };
    let part = b"20\r\n--x\r\ncontent-disposition: form-da\r\n";
    for (what, count, bytes, answered) in [
        ("deploys of a key that may only invoke", 12, chunked(&invoke_only, "POST", "/v1/functions"), true),
        (
            "secrets of a key that may only invoke",
            12,
            chunked(&invoke_only, "PUT", "/v1/functions/secrets"),
            true,
        ),
        ("deploys without a credential", 12, chunked("orama_nobody", "POST", "/v1/functions"), true),
        (
            "deploys that were begun",
            40,
            [&chunked(&place.hostile, "POST", "/v1/functions")[..], part].concat(),
            false,
        ),
        (
            "publishes that were begun",
            40,
            [&chunked(&invoke_only, "POST", "/v1/pubsub/publish")[..], b"1\r\n{\r\n"].concat(),
            false,
        ),
    ] {
        place.beside(what, || {
            let mut connections = place.open(count, &bytes);
            if answered {
                // Before a byte of the body was sent.
                for connection in &mut connections {
                    let answer = connection.answer();
                    assert!(matches!(answer.status, 401 | 403), "{what}: {answer:?}");
                }
            }
            for n in 0..3 {
                let wasm = slow_speaker(&format!("{what} {n}"), Duration::ZERO);
                place.deploy(&place.honest, "said", &wasm, &[]).expect(201);
                let secret = json!({ "name": "s", "value": "v" }).to_string();
                let set = place.node.request_as(&place.honest, "PUT", "/v1/functions/secrets");
                set.body(secret).send().expect(200);
                let publish = place.node.request_as(&place.honest, "POST", "/v1/pubsub/publish");
                publish.body("{\"topic\":\"t\",\"data\":1}").send().expect(202);
            }
            assert!(place.used("body_bytes") < 1e6, "room is taken by what has arrived");
        });
    }
}

#[test]
fn answers_that_nobody_reads_are_bounded_and_given_up() {
    let place = Place::new("answer_memory_mb = 64\nguest_memory_mb = 256\nsend_timeout_seconds = 4\n");
    let fields = [("is_public", "true")];
    place.deploy(&place.hostile, "text", &long_answer('x', 8_000_000), &fields).expect(201);
    place.deploy(&place.hostile, "json", &long_answer('[', 8_000_000), &fields).expect(201);
    let pipelined = [place.tenant("json").bytes(), place.tenant("json").bytes()].concat();
    let before = place.resident_bytes();
    for (what, bytes) in [
        ("a stranger that does not read text", place.stranger("text").bytes()),
        ("a tenant that does not read JSON", place.tenant("json").bytes()),
        ("a tenant that asks on without reading", pipelined),
    ] {
        let connections = place.beside(what, || {
            let connections = place.open(100, &bytes);
            let begun = Instant::now();
            while begun.elapsed() < WHILE {
                assert!(place.used("answer_bytes") <= 32e6 * 1.1, "one namespace holds at most half");
                sleep(Duration::from_millis(50));
            }
            connections
        });
        let more = place.resident_bytes().saturating_sub(before);
        assert!(more < 400 << 20, "{what}: {more} bytes more than before");
        eventually("who reads nothing is given up", || place.used("answer_bytes") == 0.0);
        drop(connections);
    }
}

/// A connection for which the system keeps little, so that what the client does not read stays with the node.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 64 << 10).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    TcpStream::from(socket)
}

#[test]
fn a_slow_reader_gets_every_byte_and_nothing_else() {
    let place =
        Place::new("idle_timeout_seconds = 1\nheader_timeout_seconds = 1\nsend_timeout_seconds = 4\n");
    place.deploy(&place.hostile, "text", &long_answer('x', 8_000_000), &[]).expect(201);
    place.deploy(&place.hostile, "json", &long_answer('[', 8_000_000), &[]).expect(201);
    // The next request's head begins to arrive, and does not go on, while the answer is read.
    for (function, more) in
        [("json", &b""[..]), ("json", b"GET /hea"), ("text", b"POST /v1/functions/x/invoke HTTP/1.1\r\n")]
    {
        let mut stream = narrow(place.node.address());
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(&[&place.tenant(function).bytes()[..], more].concat()).unwrap();
        let mut read = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        let begun = Instant::now();
        // Longer than each of the timeouts, and then to the end.
        while begun.elapsed() < Duration::from_secs(7) {
            let n = stream.read(&mut buffer[..300_000]).unwrap();
            assert!(n > 0, "cut after {} bytes", read.len());
            read.extend_from_slice(&buffer[..n]);
            sleep(Duration::from_millis(300));
        }
        loop {
            let end = read.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let whole = end + length.parse::<usize>().unwrap();
            if read.len() >= whole {
                assert!(read[end..whole].iter().filter(|byte| **byte == b'x').count() >= 7_999_999);
                break;
            }
            match stream.read(&mut buffer) {
                Ok(0) => panic!("cut after {} of {whole} bytes", read.len()),
                Ok(n) => read.extend_from_slice(&buffer[..n]),
                Err(error) => panic!("{error} after {} of {whole} bytes", read.len()),
            }
        }
    }
}

#[test]
fn sleepers_leave_room_for_others() {
    let place = Place::new("");
    let fields = [("is_public", "true"), ("timeout_seconds", "60")];
    place.deploy(&place.hostile, "sleepy", &guests::wat("sleep_hour"), &fields).expect(201);
    let honest = place.node.request_as(&place.honest, "POST", "/v1/invoke/hostile/sleepy").bytes();
    for (what, bytes, most) in [
        ("a tenant that sleeps", place.tenant("sleepy").bytes(), 512.0),
        ("a stranger that sleeps", place.stranger("sleepy").bytes(), 342.0),
        ("a neighbour that calls a public function", honest, 342.0),
    ] {
        let connections = place.beside(what, || {
            let connections = place.open(1_100, &bytes);
            eventually("it has what it gets", || place.used("invocations") > most * 0.9);
            sleep(WHILE);
            // One of the honest tenant may be under way.
            assert!(place.used("invocations") <= most + 2.0, "{}", place.used("invocations"));
            connections
        });
        drop(connections);
        eventually("they are gone", || place.used("invocations") <= 1.0);
    }
    assert!(place.node.metric("orama_share_refused_total{kind=\"invocations\",scope=\"namespace\"}") > 100.0);
    assert!(place.node.metric("orama_share_refused_total{kind=\"invocations\",scope=\"address\"}") > 100.0);
}

#[test]
fn memory_of_guests_stays_within_the_nodes_budget() {
    const MB: f64 = (1 << 20) as f64;
    let place = Place::new("guest_memory_mb = 600\nparked_memory_mb = 16\n");
    let fields = [("is_public", "true"), ("memory_limit_mb", "256")];
    place.deploy(&place.hostile, "large", &hungry(4_000), &fields).expect(201);
    place.deploy(&place.hostile, "middle", &hungry(500), &fields).expect(201);
    place.deploy(&place.hostile, "speaks", &long_answer('x', 8_000_000), &fields).expect(201);
    let before = place.resident_bytes();
    for (what, count, bytes) in [
        ("thirty of 250 MB", 30, place.tenant("large").bytes()),
        ("two hundred of 31 MB", 200, place.stranger("middle").bytes()),
        ("a hundred that speak", 100, place.tenant("speaks").bytes()),
    ] {
        place.beside(what, || {
            let mut connections = place.open(count, &bytes);
            let begun = Instant::now();
            while begun.elapsed() < WHILE {
                assert!(place.used("guest_memory_bytes") <= 310.0 * MB, "a namespace has half at most");
                let more = place.resident_bytes().saturating_sub(before);
                assert!(more < 900 << 20, "{what}: {more} bytes more than before");
                sleep(Duration::from_millis(50));
            }
            let mut served = 0;
            for connection in &mut connections {
                let answer = connection.answer();
                match answer.status {
                    200 => served += 1,
                    _ => drop(answer.refusal(503, "OVERLOADED")),
                }
            }
            assert!(served > 0, "{what}: {served} were served");
        });
    }
    eventually("all is given back", || place.used("guest_memory_bytes") < 32.0 * MB);
    let deny = place.tenant("large").send();
    assert_eq!(deny.status, 200, "alone it has room: {deny:?}");
}

#[test]
fn requests_that_come_too_often_are_told_when_to_come_back() {
    let place = Place::new(
        "[rates]\nrequests_per_key = \"2/s burst 30\"\ndeploys_per_namespace = \"6/h burst 3\"\n\
         publishes_per_key = \"1/h burst 1\"\n",
    );
    let limited = |answer: Answer, scope: &str| {
        let answer = answer.expect(429);
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert_eq!(answer.json()["scope"], scope);
        answer.refusal(429, "RATE_LIMITED");
        wait
    };
    let other = key(&place.node, "hostile", "invoke");
    let tired = key(&place.node, "hostile", "invoke");
    let call = |key: &str| place.node.request_as(key, "POST", "/v1/functions/echo/invoke").body("[1]");
    let (begun, mut served) = (Instant::now(), 0);
    let refused = loop {
        let answer = call(&tired).send();
        if answer.status != 200 {
            break answer;
        }
        served += 1;
    };
    let most = 30 + 2 * (begun.elapsed().as_secs() + 1);
    assert!((30..=most).contains(&served), "{served} of at most {most}");
    assert_eq!(limited(refused, "key"), 1);
    call(&other).send().expect(200);
    sleep(Duration::from_millis(1_100));
    call(&tired).send().expect(200);

    let publisher = key(&place.node, "hostile", "invoke");
    let publish = || {
        let request = place.node.request_as(&publisher, "POST", "/v1/pubsub/publish");
        request.body("{\"topic\":\"t\",\"data\":1}")
    };
    publish().send().expect(202);
    assert!((3_000..=3_600).contains(&limited(publish().send(), "key")));

    // One deploy of each namespace was made before. Another key does not help.
    for name in ["a", "b"] {
        place.deploy(&key(&place.node, "hostile", "deploy"), name, &guests::wat("echo"), &[]).expect(201);
    }
    let fresh = key(&place.node, "hostile", "deploy");
    let form: [(&str, &[u8]); 2] = [("name", b"c"), ("wasm", &guests::wat("echo"))];
    let deploy = place.node.request_as(&fresh, "POST", "/v1/functions").form(&form);
    assert!((1..=600).contains(&limited(deploy.send(), "namespace")));
    place.deploy(&place.honest, "c", &guests::wat("echo"), &[]).expect(201);
}

#[test]
fn guesses_of_credentials_are_slowed_down_and_known_ones_are_not() {
    let config =
        "trusted_proxies = [\"127.0.0.1\"]\n[rates]\nfailed_credentials_per_address = \"1/min burst 4\"\n";
    let place = Place::new(config);
    let guess = |n: usize, from: &str| {
        let key = format!("orama_{n:043}");
        let request = place.node.request_as(&key, "POST", "/v1/functions/echo/invoke");
        request.header("x-forwarded-for", from).send()
    };
    place.beside("guessing credentials", || {
        for n in 0..4 {
            guess(n, "192.0.2.1").refusal(401, "UNAUTHORIZED");
        }
        for n in 0..200 {
            guess(n, "192.0.2.1").refusal(429, "RATE_LIMITED");
        }
        // The client's own claim stands before what the proxy saw of it.
        guess(5, "198.51.100.9, 192.0.2.1").refusal(429, "RATE_LIMITED");
        guess(6, "192.0.2.2").refusal(401, "UNAUTHORIZED");
        // A key that was known before a change of the registry is still known after it.
        place.deploy(&place.honest, "other", &guests::wat("echo"), &[]).expect(201);
        let known = place.node.request_as(&place.honest, "POST", "/v1/functions/echo/invoke");
        known.header("x-forwarded-for", "192.0.2.1").body("[1]").send().expect(200);
    });
    let alone = Place::new("[rates]\nfailed_credentials_per_address = \"1/min burst 4\"\n");
    for n in 0..8 {
        let request = alone.node.request_as(&format!("orama_{n:043}"), "GET", "/v1/functions");
        let answer = request.header("x-forwarded-for", &format!("192.0.2.{n}")).send();
        assert_eq!(answer.status, if n < 4 { 401 } else { 429 }, "nobody else's word counts");
    }
}

#[test]
fn a_client_that_has_sent_everything_gets_its_answer() {
    let place = Place::new("");
    place.deploy(&place.hostile, "slow", &slow_speaker("said ", Duration::from_secs(4)), &[]).expect(201);
    place.deploy(&place.hostile, "long", &long_answer('[', 8_000_000), &[]).expect(201);
    for (name, body) in [("slow", &b"[1]"[..]), ("echo", b"[1]"), ("echo", &[b' '; 300_000]), ("long", b"")] {
        let mut connection = place.node.connect();
        connection.write(place.tenant(name).body(body).bytes());
        connection.close_sending_half();
        let answer = final_answer(&mut connection).expect(200);
        match name {
            "slow" => assert_eq!(answer.json()["output"], "said [1]"),
            "long" => assert_eq!(answer.body.len(), 8_000_000),
            _ => assert!(answer.body.len() >= body.len()),
        }
        connection.expect_closed();
    }
    // Two in a row, and a request that is not whole.
    let mut connection = place.node.connect();
    let twice = [place.tenant("echo").body("[1]").bytes(), place.tenant("echo").body("[2]").bytes()].concat();
    connection.write(twice);
    connection.close_sending_half();
    assert_eq!(connection.answer().expect(200).text(), "[1]");
    assert_eq!(connection.answer().expect(200).text(), "[2]");
    let mut connection = place.node.connect();
    connection.write(place.tenant("echo").header("content-length", "10").bytes());
    connection.close_sending_half();
    match connection.try_answer() {
        Ok(answer) => drop(answer.refusal(400, "BAD_BODY")),
        Err(error) => assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)),
    }
}

#[test]
fn public_belongs_to_the_function_and_not_to_a_version() {
    let place = Place::new("");
    let call = |name: &str| place.stranger(name).body("[1]").send().status;
    place.deploy(&place.hostile, "door", &guests::wat("echo"), &[("is_public", "true")]).expect(201);
    assert_eq!((call("door"), call("door@1")), (200, 200));
    place.deploy(&place.hostile, "door", &guests::wat("echo"), &[("is_public", "false")]).expect(201);
    assert_eq!((call("door"), call("door@1"), call("door@2")), (401, 401, 401));
    place.tenant("door@1").body("[1]").send().expect(200);
    place.deploy(&place.hostile, "door", &guests::wat("echo"), &[("is_public", "true")]).expect(201);
    assert_eq!((call("door"), call("door@2"), call("door@1")), (200, 200, 200));
    place.node.request_as(&place.hostile, "DELETE", "/v1/functions/door@3").send().expect(200);
    assert_eq!((call("door"), call("door@1")), (401, 401), "the newest that is left says so");
}

#[test]
fn what_was_not_known_is_known_as_soon_as_it_is_there() {
    let place = Place::new("");
    for n in 0..20 {
        let name = format!("new-{n}");
        place.tenant(&name).send().refusal(404, "FUNCTION_NOT_FOUND");
        place.tenant(&name).send().refusal(404, "FUNCTION_NOT_FOUND");
        place.stranger(&name).send().refusal(401, "UNAUTHORIZED");
        place.deploy(&place.hostile, &name, &guests::wat("echo"), &[]).expect(201);
        place.tenant(&name).body("[1]").send().expect(200);
    }
}
