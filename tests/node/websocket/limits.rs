//! What a WebSocket's client may do to a node, and what is done about it.

use super::Socket;
use crate::harness::{Node, Options, Shared, eventually};
use crate::speakers::slow_speaker;
use orama_test_support::guests;
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Bytes, Error, Message};

const MIB: usize = 1 << 20;

#[test]
fn messages_have_the_size_of_an_invocations_input() {
    let Ok(node) = Shared::node() else { return };
    let mut socket = Socket::open(&node, node.wat("echo"));
    let largest = "x".repeat(MIB);
    assert_eq!(socket.output(largest.as_str()).as_str().unwrap().len(), MIB);
    let part = |socket: &mut Socket, opcode, is_final, bytes: &[u8]| {
        let frame = Frame::message(Bytes::copy_from_slice(bytes), OpCode::Data(opcode), is_final);
        socket.0.send(Message::Frame(frame))
    };
    // In pieces, a ping between them and a letter across two of them.
    part(&mut socket, Data::Text, false, b"{\"a\": \"\xc3").unwrap();
    socket.send(Message::Ping(Bytes::new()));
    part(&mut socket, Data::Continue, false, b"").unwrap();
    part(&mut socket, Data::Continue, true, b"\xa4\"}").unwrap();
    assert_eq!(socket.0.read().unwrap(), Message::Pong(Bytes::new()));
    assert_eq!(socket.answer()["output"], json!({ "a": "ä" }));
    socket.0.send(Message::text(format!("{largest}x"))).unwrap();
    assert_eq!(socket.closed(), 1009);

    let mut socket = Socket::open(&node, "echo");
    part(&mut socket, Data::Binary, false, &vec![0; MIB - 1]).unwrap();
    part(&mut socket, Data::Continue, false, &[0; 2]).unwrap();
    assert_eq!(socket.closed(), 1009);
    // Only announced: nothing is kept for it.
    let mut socket = Socket::open(&node, "echo");
    socket.0.get_mut().write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(socket.closed(), 1009);
}

#[test]
fn what_is_not_the_protocol_is_closed_with_its_code() {
    let Ok(node) = Shared::node() else { return };
    node.wat("echo");
    for (bytes, code) in [
        // A text that is not UTF-8, whole and in pieces.
        (vec![0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007),
        (vec![0x01, 0x81, 0, 0, 0, 0, 0xc3, 0x80, 0x81, 0, 0, 0, 0, 0x28], 1007),
        // Not masked, an unknown opcode, a reserved bit, a piece of nothing, a ping in pieces, one that is too long.
        (vec![0x81, 0x01, b'x'], 1002),
        (vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        (vec![0xc1, 0x80, 0, 0, 0, 0], 1002),
        (vec![0x80, 0x80, 0, 0, 0, 0], 1002),
        (vec![0x09, 0x80, 0, 0, 0, 0], 1002),
        ([vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0], vec![0; 126]].concat(), 1002),
    ] {
        let mut socket = Socket::open(&node, "echo");
        assert_eq!(socket.output("[1]"), json!([1]));
        socket.0.get_mut().write_all(&bytes).unwrap();
        assert_eq!(socket.closed(), code, "{bytes:02x?}");
    }
}

#[test]
fn too_many_at_once_are_refused_one_by_one() {
    let config = "instance_slots = 1\n".to_owned();
    let Ok(node) = Node::try_start(Options { workers: 1, config, ..Options::default() }) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "300")]);
    let mut socket = Socket::open(&node, "echo");
    let mut slow = Socket::open(&node, "slow");
    slow.send("1");
    eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
    for _ in 0..3 {
        assert_eq!(socket.failure("[1]"), "OVERLOADED");
    }
    drop(slow);
    eventually("it is ended", || node.metric("orama_invocations_running") == 0.0);
    assert_eq!(socket.output("[2]"), json!([2]), "the connection has stayed");
}

#[test]
fn a_client_that_does_not_read_is_not_read_either_and_loses_nothing() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut socket = Socket::open(&node, "echo");
    socket.0.get_mut().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // Messages of 256 KiB until they are not taken any more.
    let message = |n: usize| format!("{n:06}{}", "x".repeat(MIB / 4));
    let mut sent = 0;
    loop {
        match socket.0.send(Message::text(message(sent))) {
            Ok(()) => sent += 1,
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 4000, "a gigabyte was taken although no answer was");
    }
    assert!(sent > 1, "{sent}");
    // The rest of the one that was cut short follows while the answers are read.
    let reader = socket.0.get_ref().try_clone().unwrap();
    let mut reader =
        Socket(tungstenite::WebSocket::from_raw_socket(reader, tungstenite::protocol::Role::Client, None));
    let rest = std::thread::spawn(move || {
        socket.0.get_mut().set_write_timeout(None).unwrap();
        socket.0.flush().unwrap();
        socket
    });
    for n in 0..=sent {
        let answer = reader.answer();
        let output = answer["output"].as_str().unwrap();
        assert_eq!((output[..6].parse(), output.len()), (Ok(n), 6 + MIB / 4));
    }
    drop(rest.join().unwrap());
}

#[test]
fn a_client_that_pings_and_takes_no_pong_is_not_read_for_ever() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut socket = Socket::open(&node, "echo");
    let stream = socket.0.get_mut();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let ping = [vec![0x89, 0xfd, 0, 0, 0, 0], vec![0; 125]].concat();
    let block = ping.repeat(1000);
    let mut taken = 0;
    while stream.write_all(&block).is_ok() {
        taken += block.len();
        assert!(taken < 256 * MIB, "{taken} bytes were taken although no pong was");
    }
    drop(socket);
    eventually("it is closed", || node.metric("orama_websockets_open") == 0.0);
}

/// Reads until the other side closes, and keeps nothing.
fn read_to_the_end(mut reader: impl Read) {
    let mut bytes = [0; 4096];
    while !matches!(reader.read(&mut bytes), Ok(0) | Err(_)) {}
}

#[test]
fn a_flood_of_empty_frames_leaves_the_core_to_others() {
    let Ok(node) = Node::try_start(Options { workers: 1, ..Options::default() }) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut flooding: Vec<Socket> = (0..3).map(|_| Socket::open(&node, "echo")).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (n, socket) in flooding.iter_mut().enumerate() {
            let stop = &stop;
            // A message that never ends, pings, and messages of nothing.
            let (first, more): (&[u8], &[u8]) = match n {
                0 => (&[0x01, 0x80, 0, 0, 0, 0], &[0x00, 0x80, 0, 0, 0, 0]),
                1 => (&[], &[0x89, 0x80, 0, 0, 0, 0]),
                _ => (&[], &[0x8a, 0x80, 0, 0, 0, 0]),
            };
            let stream = socket.0.get_mut();
            stream.write_all(first).unwrap();
            let reader = stream.try_clone().unwrap();
            if n == 1 {
                scope.spawn(move || read_to_the_end(reader));
            }
            scope.spawn(move || {
                let block = more.repeat(10_000);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) && stream.write_all(&block).is_ok() {}
                let _ = stream.shutdown(std::net::Shutdown::Both);
            });
        }
        for n in 0..50 {
            let n = n.to_string();
            assert_eq!(node.invoke("echo", format!("[{n}]")).expect(200).text(), format!("[{n}]"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn who_does_not_answer_pings_is_closed_and_who_does_stays() {
    let config =
        "idle_timeout_seconds = 1\nheader_timeout_seconds = 1\n[websocket]\nping_seconds = 1\n".to_owned();
    let Ok(node) = Node::try_start(Options { config, ..Options::default() }) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("slow", &slow_speaker("slept ", Duration::from_secs(7)), &[]);
    let (silent, mut lively) = (Socket::open(&node, "echo"), Socket::open(&node, "echo"));
    let mut busy = Socket::open(&node, "slow");
    // Longer than any timeout, and than the pings that may be left unanswered.
    busy.send("?");
    let mut pings = 0;
    while pings < 6 {
        match lively.0.read().unwrap() {
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
        lively.0.flush().unwrap();
    }
    assert_eq!(lively.output("[1]"), json!([1]));
    eventually("the silent one is closed", || node.metric("orama_websockets_open") <= 2.0);
    for mut socket in [silent, busy] {
        // Neither was read from, so pings stand before the close.
        let mut bytes = Vec::new();
        let _ = socket.0.get_mut().read_to_end(&mut bytes);
        let close = bytes.iter().position(|byte| *byte == 0x88).expect("a close frame");
        assert!(close > 0 && bytes[..close].chunks(2).all(|frame| frame == [0x89, 0]), "{bytes:?}");
        assert_eq!(bytes[close + 2..close + 4], 1001_u16.to_be_bytes());
    }
}
