//! Guests that differ from one another: each says a text of its own, then what it was sent.

use crate::http::Answer;
use std::time::Duration;

/// Says `text` and then its input. No two texts give the same module.
pub fn speaker(text: &str) -> Vec<u8> {
    slow_speaker(text, Duration::ZERO)
}

/// Sleeps before it speaks.
pub fn slow_speaker(text: &str, sleep: Duration) -> Vec<u8> {
    assert!(
        text.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !text.contains(['"', '\\']),
        "{text:?}"
    );
    let (length, sleep_ns) = (text.len(), sleep.as_nanos());
    // The iovec stands at 0, the count of bytes at 8, a clock's subscription at 64, its event at 128.
    let source = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "{text}")
  (func $vector (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length)))
  (func $must (param $errno i32) (if (local.get $errno) (then unreachable)))
  (func (export "_start")
    (if (i64.ne (i64.const {sleep_ns}) (i64.const 0)) (then
      (i32.store (i32.const 80) (i32.const 1))
      (i64.store (i32.const 88) (i64.const {sleep_ns}))
      (call $must (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)))))
    (call $vector (i32.const 1024) (i32.const {length}))
    (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $more
      (call $vector (i32.const 65536) (i32.const 65536))
      (call $must (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (call $vector (i32.const 65536) (i32.load (i32.const 8)))
        (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $more))))))"#
    );
    wat::parse_str(source).expect("the text is WebAssembly")
}

/// What a speaker said.
#[track_caller]
pub fn said(answer: Answer) -> String {
    answer.expect(200).json()["output"].as_str().unwrap().to_owned()
}
