//! A guest that calls one host function with arguments from its input, and writes what it got.

use crate::common::{Turns, block_on, function, invocation, log, node};
use crate::recorder::Recorder;
use orama_runtime::LoadedModule;
use orama_runtime::invocation::{Failure, Invocation, Outcome};
use orama_runtime::services::{Exchange, Host};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// Every host function of a service with its parameters (`s` for a pointer and a length, `l` for a long) and its result
/// (`b` for bytes, `i` for an int, `l` for a long, `n` for none).
pub const FUNCTIONS: [(&str, &str, char); 22] = [
    ("get_secret", "s", 'b'),
    ("db_query", "ss", 'b'),
    ("db_execute", "ss", 'i'),
    ("db_query_v2", "ss", 'b'),
    ("db_execute_v2", "ss", 'b'),
    ("db_transaction", "s", 'b'),
    ("db_query_batch", "s", 'b'),
    ("cache_get", "s", 'b'),
    ("cache_set", "ssl", 'n'),
    ("cache_delete", "s", 'i'),
    ("cache_incr", "s", 'l'),
    ("cache_incr_by", "sl", 'l'),
    ("http_fetch", "ssss", 'b'),
    ("storage_put", "s", 'b'),
    ("storage_get", "s", 'b'),
    ("pubsub_publish", "ss", 'i'),
    ("pubsub_publish_batch", "s", 'i'),
    ("pubsub_publish_later", "ssl", 'i'),
    ("exec_and_publish", "sss", 'b'),
    ("function_invoke", "ss", 'b'),
    ("function_invoke_v2", "ss", 'b'),
    ("function_invoke_async", "ss", 'i'),
];

/// Those of the HTTP request that a run serves; `w` is for an int.
pub const WEB: [(&str, &str, char); 4] = [
    ("http_request", "", 'b'),
    ("set_http_response", "wss", 'i'),
    ("http_response_start", "ws", 'i'),
    ("http_response_write", "s", 'i'),
];

/// Those that the node does not have.
pub const ABSENT: [(&str, &str, char); 24] = [
    ("push_send", "ss", 'i'),
    ("push_send_v2", "ss", 'b'),
    ("push_send_topic", "ss", 'b'),
    ("turn_credentials", "", 'b'),
    ("webrtc_admit", "sssl", 'b'),
    ("webrtc_kick", "ss", 'i'),
    ("webrtc_mute", "ssw", 'i'),
    ("anon_fetch", "ssss", 'b'),
    ("anyone_fetch", "ssss", 'b'),
    ("capability_mint", "sl", 'b'),
    ("capability_revoke", "s", 'i'),
    ("get_caller_capability", "", 'b'),
    ("get_caller_device_id", "", 'b'),
    ("storage_fetch_cap_mint", "swl", 'b'),
    ("get_ws_client_id", "", 'b'),
    ("get_ws_event", "", 'b'),
    ("ws_send", "ss", 'i'),
    ("ws_close", "sws", 'i'),
    ("ws_pubsub_bridge", "ss", 'i'),
    ("ws_pubsub_unbridge", "ss", 'i'),
    ("ws_broadcast", "ss", 'i'),
    ("ephemeral_state_set", "sssl", 'i'),
    ("ephemeral_state_clear", "ss", 'i'),
    ("ephemeral_state_list", "s", 'b'),
];

/// An allocator that gives one block after the other, behind the input.
pub const BUMP: &str = r#"(global $next (mut i32) (i32.const 0x2800000))
    (func (export "orama_alloc") (param $size i32) (result i32)
        (global.get $next)
        (global.set $next (i32.add (global.get $next) (local.get $size))))"#;

/// Where the guest puts its input: first 16 words, two for each argument, then what they are about.
const INPUT_AT: i32 = 65536;
const WORDS_BYTES: i32 = 64;

fn shape(function: &str) -> (&'static str, char) {
    let found = FUNCTIONS.iter().chain(&WEB).chain(&ABSENT).find(|(name, ..)| *name == function);
    found.map(|(_, parameters, result)| (*parameters, *result)).unwrap()
}

/// The import of a function, and its call with arguments from the input, which leaves a long on the stack.
pub fn import_and_call(module: &str, function: &str) -> (String, String) {
    let (parameters, result) = shape(function);
    let (mut types, mut loads) = (String::new(), String::new());
    for (index, parameter) in parameters.chars().enumerate() {
        let at = INPUT_AT + 8 * index as i32;
        if parameter == 's' {
            types.push_str(" i32 i32");
            loads.push_str(&format!("(i32.load (i32.const {at})) (i32.load (i32.const {}))", at + 4));
        } else if parameter == 'w' {
            types.push_str(" i32");
            loads.push_str(&format!("(i32.load (i32.const {at}))"));
        } else {
            types.push_str(" i64");
            loads.push_str(&format!("(i64.load (i32.const {at}))"));
        }
    }
    let (result_type, call) = match result {
        'n' => ("", format!("(call $f {loads}) (i64.const 0)")),
        'i' => ("(result i32)", format!("(i64.extend_i32_s (call $f {loads}))")),
        _ => ("(result i64)", format!("(call $f {loads})")),
    };
    (format!(r#"(import "{module}" "{function}" (func $f (param{types}) {result_type}))"#), call)
}

/// The text of a guest: reads its input, calls, writes the result and, if it is one, the bytes behind it.
pub fn text(module: &str, function: &str, allocator: &str) -> String {
    let (import, call) = import_and_call(module, function);
    // Only of bytes, and not of more than fits the output.
    let write_bytes = if shape(function).1 == 'b' {
        r#"(if (i32.lt_u (i32.wrap_i64 (local.get $result)) (i32.const 0x700000)) (then
            (call $write (i32.wrap_i64 (i64.shr_u (local.get $result) (i64.const 32))) (i32.wrap_i64 (local.get $result)))))"#
    } else {
        ""
    };
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        {import}
        (memory (export "memory") 1200)
        {allocator}
        (func $write (param $pointer i32) (param $length i32)
            (i32.store (i32.const 0) (local.get $pointer))
            (i32.store (i32.const 4) (local.get $length))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func (export "_start") (local $result i64)
            (i32.store (i32.const 0) (i32.const {INPUT_AT}))
            (i32.store (i32.const 4) (i32.const 0x2700000))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $result {call})
            (i64.store (i32.const 16) (local.get $result))
            (call $write (i32.const 16) (i32.const 8))
            {write_bytes}))"#
    )
}

/// What a guest hands over.
#[derive(Clone)]
pub enum Arg {
    Bytes(Vec<u8>),
    Long(i64),
    /// A pointer and a length as they are.
    Range(i32, i32),
}

pub fn s(text: impl AsRef<[u8]>) -> Arg {
    Arg::Bytes(text.as_ref().to_vec())
}

/// The input that stands for arguments.
pub fn input(arguments: &[Arg]) -> Vec<u8> {
    let (mut words, mut data) = (Vec::new(), Vec::new());
    for argument in arguments {
        let (first, second) = match argument {
            Arg::Bytes(bytes) => {
                let at = INPUT_AT + WORDS_BYTES + data.len() as i32;
                data.extend_from_slice(bytes);
                (at, bytes.len() as i32)
            }
            Arg::Long(number) => (*number as i32, (*number >> 32) as i32),
            Arg::Range(pointer, length) => (*pointer, *length),
        };
        words.extend_from_slice(&first.to_le_bytes());
        words.extend_from_slice(&second.to_le_bytes());
    }
    words.resize(WORDS_BYTES as usize, 0);
    words.extend_from_slice(&data);
    words
}

/// What a guest got.
pub struct Got {
    pub raw: i64,
    pub bytes: Vec<u8>,
    pub log: Vec<String>,
    pub result: Result<(), Failure>,
}

impl Got {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    #[track_caller]
    pub fn trap(&self) -> &str {
        match &self.result {
            Err(Failure::Trap(message)) => message,
            other => panic!("{other:?}, {:?}", self.log),
        }
    }
}

impl From<Outcome> for Got {
    fn from(outcome: Outcome) -> Self {
        let log = log(&outcome);
        let (raw, bytes) = match outcome.output.split_first_chunk::<8>() {
            Some((raw, bytes)) => (i64::from_le_bytes(*raw), bytes.to_vec()),
            None => (0, outcome.output),
        };
        Self { raw, bytes, log, result: outcome.result }
    }
}

/// A guest from its text, each compiled once.
pub fn module(text: &str) -> Arc<LoadedModule> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<LoadedModule>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let wasm = || wat::parse_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Arc::clone(known.entry(text.to_owned()).or_insert_with(|| node().load(&wasm(), 256).unwrap()))
}

/// Runs a guest with services.
pub fn run(text: &str, recorder: &Arc<Recorder>, arguments: &[Arg], timeout_seconds: u32) -> Got {
    run_at_depth(0, text, &recorder.host(Turns), arguments, timeout_seconds)
}

/// The same behind so many triggers.
pub fn run_at_depth(
    depth: u32,
    text: &str,
    host: &Arc<Host>,
    arguments: &[Arg],
    timeout_seconds: u32,
) -> Got {
    run_with(text, host, arguments, timeout_seconds, |invocation| invocation.trigger_depth = depth)
}

/// The same with an invocation that differs in something.
pub fn run_with(
    text: &str,
    host: &Arc<Host>,
    arguments: &[Arg],
    timeout_seconds: u32,
    change: impl FnOnce(&mut Invocation),
) -> Got {
    let module = module(text);
    let mut invocation = invocation("request-1", &input(arguments));
    change(&mut invocation);
    let function = Arc::new(function(128, timeout_seconds));
    block_on(node().engine.run(&module, &function, invocation, host)).outcome.into()
}

/// Calls a function of [`WEB`] in a run that serves a request, if there is one.
pub fn call_serving(exchange: Option<Arc<dyn Exchange>>, name: &str, arguments: &[Arg]) -> Got {
    let module = module(&text("env", name, BUMP));
    let invocation = Invocation { exchange, ..invocation("request-1", &input(arguments)) };
    let host = Arc::new(Recorder::default()).host(Turns);
    block_on(node().engine.run(&module, &Arc::new(function(128, 60)), invocation, &host)).outcome.into()
}

/// Calls a host function once, imported from `module`, by a guest with a good allocator.
pub fn call_from(module: &str, recorder: &Arc<Recorder>, function: &str, arguments: &[Arg]) -> Got {
    run(&text(module, function, BUMP), recorder, arguments, 60)
}

pub fn call(recorder: &Arc<Recorder>, function: &str, arguments: &[Arg]) -> Got {
    call_from("env", recorder, function, arguments)
}

/// Good arguments for each function.
pub fn good(function: &str) -> Vec<Arg> {
    match function {
        "db_query" | "db_query_v2" => vec![s("SELECT ?"), s("[1]")],
        "db_execute" | "db_execute_v2" => vec![s("DELETE FROM t WHERE a = ?"), s(r#"["x"]"#)],
        "db_transaction" => vec![s(r#"{"ops":[{"kind":"exec","sql":"DELETE FROM t"}]}"#)],
        "db_query_batch" => vec![s(r#"{"ops":[{"sql":"SELECT 1"}],"consistency":"none"}"#)],
        "cache_set" => vec![s("key"), s("value"), Arg::Long(60)],
        "cache_incr_by" => vec![s("key"), Arg::Long(-5)],
        "http_fetch" => vec![s("POST"), s("https://example.com/"), s(r#"{"a":"b"}"#), s("body")],
        "storage_put" => vec![s("object")],
        "storage_get" => vec![s("bafkreicid")],
        "pubsub_publish" => vec![s("topic"), s(r#"{"a":1}"#)],
        "pubsub_publish_batch" => {
            vec![s(r#"[{"topic":"one","data":{"a":1}},{"topic":"two","data_base64":"/w=="}]"#)]
        }
        "pubsub_publish_later" => vec![s("topic"), s(r#"{"a":1}"#), Arg::Long(1500)],
        "exec_and_publish" => {
            vec![s(r#"{"ops":[{"kind":"exec","sql":"DELETE FROM t"}]}"#), s("topic"), s(r#"{"n":{{seq}}}"#)]
        }
        "function_invoke" | "function_invoke_v2" | "function_invoke_async" => vec![s("callee@2"), s("input")],
        "get_secret" => vec![s("NAME")],
        _ => vec![s("key")],
    }
}
