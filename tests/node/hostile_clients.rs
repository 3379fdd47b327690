//! Clients that take their time: they send, or read, too little and too slowly. They take nobody's place.

use crate::harness::eventually;
use crate::honest::{deploy_as, key};
use crate::hostile_edge::{Place, WHILE, long_answer};
use crate::http::{Answer, Connection, Request};
use crate::speakers::slow_speaker;
use rustix::net::{AddressFamily, SocketType, sockopt};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The next answer that is not an interim one.
fn final_answer(connection: &mut Connection) -> Answer {
    loop {
        let answer = connection.answer();
        if answer.status >= 200 {
            return answer;
        }
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

/// Sends a piece on each connection again and again. A connection that the node has closed is passed over.
fn drip(connections: &mut [Connection], piece: &[u8]) {
    let begun = Instant::now();
    while begun.elapsed() < WHILE {
        for connection in &mut *connections {
            let _ = connection.try_write(piece);
        }
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn requests_that_drip_take_nobodys_place_and_are_given_up() {
    let place = Place::new("header_timeout_seconds = 2\nbody_timeout_seconds = 2\n");
    // Without the empty line that ends a head.
    let begun = |request: Request| {
        let mut bytes = request.bytes();
        bytes.truncate(bytes.len() - 2);
        bytes
    };
    let chunked = || place.stranger("echo").header("transfer-encoding", "chunked").bytes();
    let socket = place.node.anonymous("GET", "/v1/functions/echo/ws?namespace=hostile").upgrade();
    for (what, bytes, piece) in [
        ("a head, byte by byte", b"POST /v1/invoke/hostile/ec".to_vec(), &b"h"[..]),
        ("headers without end", begun(place.stranger("echo")), b"x: y\r\n"),
        ("handshakes of WebSockets", begun(socket), b"x: y\r\n"),
        ("extensions of a chunk", [&chunked()[..], b"5;"].concat(), b"a=b;"),
        ("chunks of a byte", chunked(), b"1\r\nx\r\n"),
        ("trailers", [&chunked()[..], b"1\r\nx\r\n0\r\n"].concat(), b"x: y\r\n"),
    ] {
        let mut connections = place.beside(what, || {
            let mut connections = place.open(500, &bytes);
            drip(&mut connections, piece);
            assert!(place.used("invocations") < 16.0, "{what}: who has not sent everything runs nothing");
            connections
        });
        for connection in &mut connections {
            match connection.try_answer() {
                Ok(answer) => assert!(matches!(answer.status, 400 | 408 | 503), "{what}: {answer:?}"),
                // The answer is lost where more came after it.
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
                    "{what}: {error}"
                ),
            }
        }
        drop(connections);
        eventually("everything is given back", || place.used("body_bytes") == 0.0);
    }
    assert_eq!(place.used("websockets"), 0.0);
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
                deploy_as(&place.node, &place.honest.key, "said", &wasm, &[]).expect(201);
                let secret = json!({ "name": "s", "value": "v" }).to_string();
                let set = place.node.request_as(&place.honest.key, "PUT", "/v1/functions/secrets");
                set.body(secret).send().expect(200);
                let publish = place.node.request_as(&place.honest.key, "POST", "/v1/pubsub/publish");
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
    place.deploy("text", &long_answer('x', 8_000_000), &fields).expect(201);
    place.deploy("json", &long_answer('[', 8_000_000), &fields).expect(201);
    let pipelined = [place.tenant("json").bytes(), place.tenant("json").bytes()].concat();
    // A handshake and two messages of one byte, masked with zeros.
    let socket = place.node.request_as(&place.hostile, "GET", "/v1/functions/text/ws").upgrade().bytes();
    let messages = [0x81, 0x81, 0, 0, 0, 0, b'x'].repeat(2);
    let before = place.resident_bytes();
    for (what, bytes) in [
        ("a stranger that does not read text", place.stranger("text").bytes()),
        ("a tenant that does not read JSON", place.tenant("json").bytes()),
        ("a tenant that asks on without reading", pipelined),
        ("WebSockets that are not read", [socket, messages].concat()),
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

#[test]
fn a_slow_reader_gets_every_byte_and_nothing_else() {
    let place =
        Place::new("idle_timeout_seconds = 1\nheader_timeout_seconds = 1\nsend_timeout_seconds = 4\n");
    place.deploy("text", &long_answer('x', 8_000_000), &[]).expect(201);
    place.deploy("json", &long_answer('[', 8_000_000), &[]).expect(201);
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
fn a_slow_reader_of_a_websocket_gets_every_byte() {
    let place = Place::new("send_timeout_seconds = 2\n[websocket]\nping_seconds = 1\n");
    place.deploy("text", &long_answer('x', 8_000_000), &[]).expect(201);
    let mut stream = narrow(place.node.address());
    let socket = place.node.request_as(&place.hostile, "GET", "/v1/functions/text/ws").upgrade().bytes();
    // With a message of one byte, masked with zeros.
    stream.write_all(&[&socket[..], &[0x81, 0x81, 0, 0, 0, 0, b'x']].concat()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut read, mut buffer, begun) = (0, vec![0; 100_000], Instant::now());
    while read < 8_000_000 {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "cut after {read} bytes and {:?}", begun.elapsed());
        read += buffer[..n].iter().filter(|byte| **byte == b'x').count();
        // Longer than four pings and two timeouts, in which it cannot have all of it, and then to the end.
        if begun.elapsed() < Duration::from_secs(5) {
            sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn a_client_that_has_sent_everything_gets_its_answer() {
    let place = Place::new("");
    place.deploy("slow", &slow_speaker("said ", Duration::from_secs(4)), &[]).expect(201);
    place.deploy("long", &long_answer('[', 8_000_000), &[]).expect(201);
    for (name, body) in [("slow", &b"[1]"[..]), ("echo", b"[1]"), ("echo", &[b' '; 300_000]), ("long", b"")] {
        let mut connection = place.node.connect();
        connection.write(place.tenant(name).body(body).bytes());
        connection.close_sending_half();
        let answer = final_answer(&mut connection).expect(200);
        match name {
            "slow" => assert_eq!(answer.json()["output"], "said [1]"),
            "long" => assert_eq!(answer.json()["output"].as_str().unwrap().len(), 8_000_000),
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
