//! A WebSocket's messages are the same in whatever frames they are sent and in whatever pieces these arrive.

use crate::input::Input;
use crate::{Target, ready};
use bytes::Bytes;
use orama_runtime::names::Namespace;
use orama_server::fuzzing::hear;

pub const TARGET: Target = Target { name: "websocket", check, seeds };

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.byte().is_multiple_of(2) {
        messages_are_heard(&mut input);
    } else {
        any_bytes_are_heard_alike(&mut input);
    }
}

fn heard(read: &[u8], pieces: Vec<Vec<u8>>) -> (Vec<Bytes>, String) {
    hear(read.to_vec(), pieces.into_iter().map(Bytes::from).collect(), ready(Namespace::new("a")))
}

/// Messages that are sent as the protocol says, with pings between their frames.
fn messages_are_heard(input: &mut Input<'_>) {
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..input.below(8) {
        let is_text = input.below(2) == 0;
        let message =
            if is_text { input.text().into_bytes() } else { input.some().repeat(1 + input.below(400)) };
        let mut left = &message[..];
        let mut opcode = if is_text { 1 } else { 2 };
        loop {
            let (fragment, rest) = left.split_at(input.below(left.len() + 2).min(left.len()));
            // Some fragments are empty; few, so that there is an end.
            let is_last = rest.is_empty() || input.is_empty();
            let fragment = if is_last { left } else { fragment };
            frame(&mut sent, opcode, is_last, fragment, input);
            if is_last {
                break;
            }
            (left, opcode) = (rest, 0);
            if input.below(4) == 0 {
                let payload = input.text();
                frame(
                    &mut sent,
                    9 + input.below(2) as u8,
                    true,
                    &payload.as_bytes()[..payload.len().min(125)],
                    input,
                );
            }
        }
        expected.push(Bytes::from(message));
    }
    frame(&mut sent, 8, true, &[], input);
    let (read, rest) = sent.split_at(input.below(sent.len() + 1));
    let found = heard(read, input.cut(rest));
    assert_eq!(found, (expected, "closed".to_owned()), "of the bytes {sent:02x?}");
}

/// Appends a frame as RFC 6455, 5.2 has it, masked as a client's must be.
fn frame(to: &mut Vec<u8>, opcode: u8, is_last: bool, payload: &[u8], input: &mut Input<'_>) {
    to.push(opcode | if is_last { 0x80 } else { 0 });
    match payload.len() {
        short @ 0..126 => to.push(0x80 | short as u8),
        long if long < 1 << 16 => {
            to.push(0x80 | 126);
            to.extend((long as u16).to_be_bytes());
        }
        long => {
            to.push(0x80 | 127);
            to.extend((long as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = std::array::from_fn(|_| input.byte());
    to.extend(mask);
    to.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// What no client of the protocol sends: where it is cut changes nothing of what is heard.
fn any_bytes_are_heard_alike(input: &mut Input<'_>) {
    let cuts = input.some();
    let bytes = input.rest();
    let whole = heard(&[], vec![bytes.to_vec()]);
    let mut cuts = Input::new(cuts);
    let (read, rest) = bytes.split_at(cuts.below(bytes.len() + 1));
    assert_eq!(heard(read, cuts.cut(rest)), whole, "cut, and whole");
    let messages: usize = whole.0.iter().map(Bytes::len).sum();
    assert!(messages <= bytes.len(), "more was heard than was sent");
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        vec![
            0, 3, 0, 5, b'h', b'e', b'l', b'l', b'o', 3, 1, 2, 3, 4, 0, 2, b'p', b'i', 0, 9, 9, 9, 9, 2, 1,
            1, 1, 1,
        ],
        vec![0, 1, 1, 3, 0, 1, 2, 1, 99, 200, 5, 1, 2, 3, 4, 1, 0, 50, 6, 7, 8, 9, 1, 1, 1, 1, 1],
        vec![0, 7],
    ];
    let mut quiet = Input::new(&[7, 7, 7, 7, 1, 2, 3, 4, 0, 0, 0, 1]);
    let mut frames = Vec::new();
    frame(&mut frames, 1, false, "hé".as_bytes(), &mut quiet);
    frame(&mut frames, 9, true, b"ping", &mut quiet);
    frame(&mut frames, 0, true, b"llo", &mut quiet);
    frame(&mut frames, 2, true, &[0; 300], &mut quiet);
    frame(&mut frames, 8, true, &[3, 232, b'x'], &mut quiet);
    // Whole; not masked; a text that is no UTF-8; a length that is too large; a continuation of nothing.
    for bytes in [
        &frames[..],
        &[0x81, 1, b'a'],
        &[0x81, 0x81, 0, 0, 0, 0, 0xff],
        &[0x82, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0, 1, 1, 1, 1],
        &[0x80, 0x80, 0, 0, 0, 0],
    ] {
        seeds.push([&[1, 4, 0, 2, 1, 3], bytes].concat());
    }
    seeds
}
