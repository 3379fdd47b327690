//! One guest for each host function. By the first byte of its input it calls the function without end, or once with a range that
//! is not in its memory, or once with text that is not UTF-8.

use super::{Fails, Late, Row, Well};

/// Where the allocator of these guests puts everything.
const ALLOCATED: u32 = 1 << 20;

/// A host function: its name, the texts that it is given, whether a number follows, and its result.
struct Function {
    name: &'static str,
    texts: Vec<String>,
    has_number: bool,
    result: &'static str,
    /// The text whose first bytes are others in each call.
    changing: Option<usize>,
}

fn function(name: &'static str, texts: &[&str], result: &'static str) -> Function {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    Function { name, texts, has_number: false, result, changing: None }
}

fn functions() -> Vec<Function> {
    const ROWS: &str =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 9999";
    let insert = "INSERT INTO storm VALUES (zeroblob(100000))";
    let transaction =
        format!(r#"{{"ops":[{{"kind":"exec","sql":"{insert}"}},{{"kind":"exec","sql":"no"}}]}}"#);
    let batch = format!(r#"{{"ops":[{}]}}"#, vec![r#"{"sql":"SELECT 1"}"#; 100].join(","));
    let large = "x".repeat(100_000);
    vec![
        function("get_caller_wallet", &[], "i64"),
        function("get_caller_jwt_subject", &[], "i64"),
        function("get_request_id", &[], "i64"),
        function("get_caller_claim", &["sub"], "i64"),
        function("get_env", &["BIG"], "i64"),
        Function { changing: Some(0), ..function("get_secret", &["somebody-elses"], "i64") },
        function("db_query", &[ROWS, "[]"], "i64"),
        function("db_execute", &["CREATE TABLE IF NOT EXISTS storm (x)", ""], "i32"),
        function("db_query_v2", &["SELECT count(*) AS n FROM storm", "null"], "i64"),
        function("db_execute_v2", &[insert, "[]"], "i64"),
        function("db_transaction", &[&transaction], "i64"),
        function("db_query_batch", &[&batch], "i64"),
        Function { changing: Some(0), ..function("cache_get", &["12345678"], "i64") },
        Function { changing: Some(0), has_number: true, ..function("cache_set", &["12345678", &large], "") },
        Function { changing: Some(0), ..function("cache_delete", &["12345678"], "i32") },
        Function { changing: Some(0), ..function("cache_incr", &["12345678"], "i64") },
        Function { has_number: true, ..function("cache_incr_by", &["12345678"], "i64") },
        function("http_fetch", &["GET", "http://127.0.0.1:1/", "{}", &large], "i64"),
        Function { changing: Some(0), ..function("storage_put", &[&large], "i64") },
        function("storage_get", &["bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"], "i64"),
        function("pubsub_publish", &["storm", "{\"a\":[1,2,3]}"], "i32"),
        function("log_info", &[&large], ""),
        function("log_error", &["an error, and the next one"], ""),
    ]
}

impl Function {
    /// The call with its texts at these places.
    fn call(&self, ranges: &[(String, String)]) -> String {
        let ranges = ranges.iter().map(|(at, length)| format!("(i32.const {at}) (i32.const {length})"));
        let number = if self.has_number { "(i64.const 60)" } else { "" };
        let arguments = ranges.collect::<Vec<_>>().join(" ");
        let call = format!("(call $function {arguments} {number})");
        if self.result.is_empty() { call } else { format!("(drop {call})") }
    }

    fn text(&self) -> String {
        let (mut at, mut data, mut ranges) = (4096, String::new(), Vec::new());
        for text in &self.texts {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            data.push_str(&format!("(data (i32.const {at}) \"{escaped}\")\n"));
            ranges.push((at.to_string(), text.len().to_string()));
            at += text.len() + 64;
        }
        // Eight letters that are others each time.
        let change = self.changing.map_or(String::new(), |text| {
            format!(
                "(global.set $n (i64.add (global.get $n) (i64.const 0x9e3779b97f4a7c15)))
                 (i64.store (i32.const {}) (i64.or (i64.const 0x4040404040404040)
                   (i64.and (global.get $n) (i64.const 0x3f3f3f3f3f3f3f3f))))",
                ranges[text].0
            )
        });
        let beyond = vec![("-16".to_owned(), "0x7fffffff".to_owned()); self.texts.len()];
        let not_utf8 = vec![("128".to_owned(), "4".to_owned()); self.texts.len()];
        let number = if self.has_number { "i64" } else { "" };
        let result = if self.result.is_empty() { String::new() } else { format!("(result {})", self.result) };
        format!(
            r#"(module
  (import "env" "{name}" (func $function (param {texts} {number}) {result}))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 40)
  {data}
  (data (i32.const 128) "\ff\fe\80\c0")
  (global $n (mut i64) (i64.const 0))
  (func (export "orama_alloc") (param i32) (result i32) (i32.const {ALLOCATED}))
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 1))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 98)) (then {beyond} (return)))
    (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 117)) (then {not_utf8} (return)))
    (loop $again {change} {call} (br $again))))"#,
            name = self.name,
            texts = "i32 i32 ".repeat(self.texts.len()),
            beyond = self.call(&beyond),
            not_utf8 = self.call(&not_utf8),
            call = self.call(&ranges),
        )
    }

    fn rows(&self) -> Vec<Row> {
        let wasm = wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let row = |what: &str, input, ends| Row {
            input,
            has_environment: self.name == "get_env",
            ..Row::new(&format!("{} {what}", self.name), wasm.clone(), ends)
        };
        let mut rows = vec![row("without end", "s", Late)];
        if !self.texts.is_empty() {
            rows.push(row("beyond memory", "b", Fails("FUNCTION_TRAP", self.name)));
            rows.push(row("not UTF-8", "u", Well));
        }
        rows
    }
}

pub(super) fn rows() -> Vec<Row> {
    functions().iter().flat_map(Function::rows).collect()
}
