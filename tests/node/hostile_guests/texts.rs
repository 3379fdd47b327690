//! Guests as WebAssembly text, each hostile in a way of its own.

use super::{Ends, Fails, Late, Row, Well};

/// Functions of WASI that these guests import, and their types.
const WASI: &[(&str, &str)] = &[
    ("clock_res_get", "(param i32 i32) (result i32)"),
    ("clock_time_get", "(param i32 i64 i32) (result i32)"),
    ("environ_get", "(param i32 i32) (result i32)"),
    ("fd_close", "(param i32) (result i32)"),
    ("fd_fdstat_get", "(param i32 i32) (result i32)"),
    ("fd_filestat_get", "(param i32 i32) (result i32)"),
    ("fd_prestat_get", "(param i32 i32) (result i32)"),
    ("fd_read", "(param i32 i32 i32 i32) (result i32)"),
    ("fd_renumber", "(param i32 i32) (result i32)"),
    ("fd_seek", "(param i32 i64 i32 i32) (result i32)"),
    ("fd_write", "(param i32 i32 i32 i32) (result i32)"),
    ("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)"),
    ("poll_oneoff", "(param i32 i32 i32 i32) (result i32)"),
    ("proc_exit", "(param i32)"),
    ("random_get", "(param i32 i32) (result i32)"),
    ("sock_accept", "(param i32 i32 i32) (result i32)"),
    ("sock_shutdown", "(param i32 i32) (result i32)"),
];

/// Functions of the product.
const ENV: &[(&str, &str)] = &[
    ("db_query", "(param i32 i32 i32 i32) (result i64)"),
    ("get_request_id", "(result i64)"),
    ("http_fetch", "(param i32 i32 i32 i32 i32 i32 i32 i32) (result i64)"),
    ("log_info", "(param i32 i32)"),
    ("pubsub_publish", "(param i32 i32 i32 i32) (result i32)"),
];

/// What a guest consists of.
struct Text {
    name: &'static str,
    /// Pages of its memory at first.
    pages: u32,
    memory_mb: u32,
    /// Tables, data, globals and other functions.
    fields: String,
    /// The instructions of `_start`.
    body: String,
    ends: Ends,
}

fn text(name: &'static str, ends: Ends, fields: &str, body: &str) -> Text {
    Text { name, pages: 1, memory_mb: 64, fields: fields.to_owned(), body: body.to_owned(), ends }
}

/// One that does the same again and again.
fn again(name: &'static str, fields: &str, body: &str) -> Text {
    text(name, Late, fields, &format!("(loop $again {body} (br $again))"))
}

impl Text {
    fn large(self, pages: u32, memory_mb: u32) -> Self {
        Self { pages, memory_mb, ..self }
    }

    fn row(self) -> Row {
        let mut imports = String::new();
        for (module, functions) in [("wasi_snapshot_preview1", WASI), ("env", ENV)] {
            for (name, ty) in functions {
                let call = format!("(call ${name}");
                if self.fields.contains(&call) || self.body.contains(&call) {
                    imports.push_str(&format!("(import \"{module}\" \"{name}\" (func ${name} {ty}))\n"));
                }
            }
        }
        let Self { name, pages, memory_mb, fields, body, ends } = self;
        let source = format!(
            "(module {imports} (memory (export \"memory\") {pages}) {fields} (func (export \"_start\") (local $i i32) {body}))"
        );
        let wasm = wat::parse_str(source).unwrap_or_else(|error| panic!("{name}: {error}"));
        Row { memory_mb, has_environment: name.contains("environment"), ..Row::new(name, wasm, ends) }
    }
}

/// Traps unless the call was refused with an error number.
fn must_fail(call: &str) -> String {
    format!("(if (i32.eqz {call}) (then unreachable))")
}

/// Counts up a local, for a loop.
const NEXT: &str = "(local.set $i (i32.add (local.get $i) (i32.const 1)))";

fn memory_and_tables() -> Vec<Text> {
    let walk = "(i32.store8 (local.get $i) (i32.const 1))
        (local.set $i (i32.and (i32.add (local.get $i) (i32.const 4097)) (i32.const 0xfffffff)))";
    let table = "(table $t 262144 funcref) (elem declare func $f) (func $f)";
    let passive = format!("(data $d \"{}\")", "x".repeat(60_000));
    vec![
        again("walks over 256 MB", "", walk).large(4096, 256),
        again("grows by nothing", "", "(drop (memory.grow (i32.const 0)))"),
        again(
            "grows and touches",
            "",
            "(drop (memory.grow (i32.const 1))) (i32.store (i32.const 65532) (memory.size))",
        ),
        again(
            "grows a table by one",
            "(table $t 1 funcref)",
            "(drop (table.grow $t (ref.null func) (i32.const 1)))",
        ),
        again("fills a table", table, "(table.fill $t (i32.const 0) (ref.func $f) (i32.const 262144))"),
        again("copies a table", table, "(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 262143))"),
        again("copies 30 MB", "", "(memory.copy (i32.const 0x1e00000) (i32.const 0) (i32.const 0x1e00000))")
            .large(960, 64),
        again("copies onto itself", "", "(memory.copy (i32.const 1) (i32.const 0) (i32.const 0x3bfffff))")
            .large(960, 64),
        again("fills all its memory", "", "(memory.fill (i32.const 0) (i32.const 7) (i32.const 0xfa00000))")
            .large(4000, 256),
        again("copies data in", &passive, "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 60000))"),
        text(
            "an allocator that takes all memory",
            Fails("OUT_OF_MEMORY", "64 MB"),
            "(func (export \"orama_alloc\") (param i32) (result i32)
               (i32.mul (memory.grow (i32.const 64)) (i32.const 65536)))",
            "(loop $again (drop (call $get_request_id)) (br $again))",
        ),
    ]
}

fn stacks() -> Vec<Text> {
    let locals = (0..200).map(|n| format!("(local $l{n} i64)")).collect::<String>();
    let loads =
        (0..200).map(|n| format!("(local.set $l{n} (i64.load (i32.const {})))", n * 8)).collect::<String>();
    let uses =
        (0..200).map(|n| format!("(i64.store (i32.const {}) (local.get $l{n}))", n * 8)).collect::<String>();
    let exhausted = Fails("FUNCTION_TRAP", "call stack exhausted");
    let long = "f".repeat(60_000);
    vec![
        text(
            "two that call each other",
            exhausted,
            "(func $a (call $b) (i32.store (i32.const 0) (i32.const 1)))
             (func $b (call $a) (i32.store (i32.const 4) (i32.const 1)))",
            "(call $a)",
        ),
        text(
            "recursion through a table",
            exhausted,
            "(table funcref (elem $a)) (type $t (func))
             (func $a (call_indirect (type $t) (i32.const 0)) (i32.store (i32.const 0) (i32.const 1)))",
            "(call $a)",
        ),
        text(
            "recursion with large frames",
            exhausted,
            &format!("(func $a {locals} {loads} (call $a) {uses})"),
            "(call $a)",
        ),
        text(
            "recursion in the start section",
            exhausted,
            "(func $a (call $a) (i32.store (i32.const 0) (i32.const 1))) (start $a)",
            "",
        ),
        text(
            "recursion in an allocator",
            exhausted,
            "(func $a (export \"orama_alloc\") (param i32) (result i32)
               (call $log_info (i32.const 0) (i32.const 1)) (i32.add (call $a (local.get 0)) (i32.const 1)))",
            "(drop (call $get_request_id))",
        ),
        text(
            "an exit in an allocator, deep in recursion",
            Fails("FUNCTION_EXIT", "9"),
            "(func (export \"orama_alloc\") (param i32) (result i32) (call $proc_exit (i32.const 9)) (i32.const 64))
             (func $a (param i32)
               (if (i32.eqz (local.get 0))
                 (then (drop (call $get_request_id)))
                 (else (call $a (i32.sub (local.get 0) (i32.const 1)))))
               (i32.store (i32.const 0) (local.get 0)))",
            "(call $a (i32.const 2000))",
        ),
        text(
            "an exit with 0 in an allocator",
            Well,
            "(func (export \"orama_alloc\") (param i32) (result i32) (call $proc_exit (i32.const 0)) (i32.const 64))",
            "(drop (call $get_request_id)) unreachable",
        ),
        text(
            "functions with long names",
            Fails("FUNCTION_TRAP", "unreachable"),
            &format!("(func ${long}1 unreachable) (func ${long}2 (call ${long}1)) (func ${long}3 (call ${long}2))"),
            &format!("(call ${long}3)"),
        ),
    ]
}

fn loops() -> Vec<Text> {
    vec![
        again(
            "a branch table",
            "",
            &format!(
                "(block $a (block $b (block $c (br_table $a $b $c (i32.rem_u (local.get $i) (i32.const 4))))
                   (i32.store (i32.const 0) (local.get $i)))) {NEXT}"
            ),
        ),
        text(
            "loops within loops",
            Late,
            "(global $n (mut i64) (i64.const -1))",
            "(loop $a (loop $b (loop $c (global.set $n (i64.sub (global.get $n) (i64.const 1)))
               (br_if $c (i64.ne (global.get $n) (i64.const 0)))) (br $b)) (br $a))",
        ),
        again(
            "numbers that are hardly any",
            "(global $f (mut f64) (f64.const 4.9e-324))",
            "(global.set $f (f64.sqrt (f64.mul (global.get $f) (f64.const 1e-300))))
             (if (f64.eq (global.get $f) (f64.const 1)) (then unreachable))",
        ),
        again(
            "calls through a table",
            "(table funcref (elem $f)) (type $t (func)) (func $f)",
            "(call_indirect (type $t) (i32.const 0))",
        ),
        again(
            "asks for 250 MB of randomness",
            "",
            "(drop (call $random_get (i32.const 0) (i32.const 0xfa00000)))",
        )
        .large(4000, 256),
        again("asks for no randomness", "", "(drop (call $random_get (i32.const 0) (i32.const 0)))"),
        again(
            "clocks that there are not",
            "",
            &format!(
                "(drop (call $clock_time_get (local.get $i) (i64.const 0) (i32.const 0)))
             (drop (call $clock_res_get (local.get $i) (i32.const 0))) {NEXT}"
            ),
        ),
        again("its environment", "", "(drop (call $environ_get (i32.const 0) (i32.const 4096)))")
            .large(4, 64),
    ]
}

fn descriptors() -> Vec<Text> {
    let subscriptions = "(loop $fill
        (i64.store offset=24 (i32.mul (local.get $i) (i32.const 48)) (i64.const 1))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $i) (i32.const 64))))";
    let poll = |count: u32| {
        format!(
            "(call $poll_oneoff (i32.const 0) (i32.const 1048576) (i32.const {count}) (i32.const 4194300))"
        )
    };
    let open = must_fail(
        "(call $path_open (local.get $i) (i32.const 1) (i32.const 64) (i32.const 25) (i32.const 0) (i64.const -1)
           (i64.const -1) (i32.const 0) (i32.const 0))",
    );
    let vectors = "(loop $fill
        (i32.store offset=8192 (i32.mul (local.get $i) (i32.const 8)) (i32.const 0))
        (i32.store offset=8196 (i32.mul (local.get $i) (i32.const 8)) (i32.const 8192))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $i) (i32.const 1024))))";
    let million = |call: &str, fd: u32| {
        must_fail(&format!(
            "(call ${call} (i32.const {fd}) (i32.const 0) (i32.const 1000000) (i32.const 8388608))"
        ))
    };
    vec![
        text("a million vectors", Well, "", &format!("{} {}", million("fd_write", 1), million("fd_read", 0))).large(160, 64),
        text(
            "standard error from many vectors",
            Late,
            "",
            &format!(
                "{vectors} (loop $again
                   (drop (call $fd_write (i32.const 2) (i32.const 8192) (i32.const 1024) (i32.const 0)))
                   (br $again))"
            ),
        ),
        text(
            "writes to what it closed",
            Late,
            "",
            "(drop (call $fd_close (i32.const 1))) (i32.store (i32.const 4) (i32.const 60000))
             (loop $again (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $again))",
        ),
        again("closes and moves everything", "", &format!(
            "(drop (call $fd_close (local.get $i))) (drop (call $fd_renumber (local.get $i) (i32.const 1))) {NEXT}"
        )),
        text(
            "paths out of every folder",
            Well,
            "(data (i32.const 64) \"../../../../../etc/passwd\")",
            &format!("(loop $again {open} {NEXT} (br_if $again (i32.lt_u (local.get $i) (i32.const 64))))"),
        ),
        again("asks after every descriptor", "", &format!(
            "(drop (call $fd_fdstat_get (local.get $i) (i32.const 64)))
             (drop (call $fd_prestat_get (local.get $i) (i32.const 64)))
             (drop (call $fd_filestat_get (local.get $i) (i32.const 64)))
             (drop (call $sock_accept (local.get $i) (i32.const 0) (i32.const 64)))
             (drop (call $sock_shutdown (local.get $i) (i32.const 3)))
             (drop (call $fd_seek (local.get $i) (i64.const -1) (i32.const 2) (i32.const 64))) {NEXT}"
        )),
        text("naps", Late, "", &format!("{subscriptions} (loop $again (drop {}) (br $again))", poll(64))).large(64, 64),
        again("waits for thousands", "", &format!("(drop {})", poll(20_000))).large(64, 64),
        text(
            "sleeps for hours at once",
            Late,
            "",
            &format!("{} (drop {})", subscriptions.replace("(i64.const 1)", "(i64.const 3600000000000)"), poll(64)),
        )
        .large(64, 64),
    ]
}

fn outputs_and_json() -> Vec<Text> {
    let write = |bytes: usize| {
        format!(
            "(memory.fill (i32.const 64) (i32.const 91) (i32.const {bytes}))
             (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {bytes}))
             (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
        )
    };
    // Brackets that open and never close.
    let brackets =
        |bytes: usize| format!("(memory.fill (i32.const 4096) (i32.const 91) (i32.const {bytes}))");
    let data = "(data (i32.const 64) \"SELECT 1\") (data (i32.const 128) \"GET\") (data (i32.const 160) \"http://127.0.0.1/\")
        (func (export \"orama_alloc\") (param i32) (result i32) (i32.const 2097152))";
    let query = "(if (i64.ne (i64.const 0)
          (call $db_query (i32.const 64) (i32.const 8) (i32.const 4096) (i32.const 60000)))
        (then unreachable))";
    let publish = must_fail(
        "(i32.eqz (call $pubsub_publish (i32.const 64) (i32.const 6) (i32.const 4096) (i32.const 1000000)))",
    );
    let fetch = "(drop (call $http_fetch (i32.const 128) (i32.const 3) (i32.const 160) (i32.const 17)
          (i32.const 4096) (i32.const 200000) (i32.const 0) (i32.const 0)))";
    vec![
        text("as much output as it may have", Well, "", &write(8 << 20)).large(130, 64),
        text("one byte too much", Fails("OUTPUT_TOO_LARGE", ""), "", &write((8 << 20) + 1)).large(130, 64),
        text("a megabyte of brackets", Well, "", &write(1 << 20)).large(20, 64),
        text("arguments within arguments", Well, data, &format!("{} {query}", brackets(60_000)))
            .large(48, 64),
        text("an event within events", Well, data, &format!("{} {publish}", brackets(1_000_000)))
            .large(48, 64),
        text("headers within headers", Well, data, &format!("{} {fetch}", brackets(200_000))).large(48, 64),
        again("messages without a word", "", "(call $log_info (i32.const 0) (i32.const 0))"),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let all = [memory_and_tables(), stacks(), loops(), descriptors(), outputs_and_json()];
    all.into_iter().flatten().map(Text::row).collect()
}
