//! Each host function of a service on a real node, from programs of both compilers and under each import module.

use crate::harness::{Compiler, Node, Options};
use orama_test_support::tools::Missing;
use serde_json::{Value, json};

const COMPILERS: [Compiler; 2] = [Compiler::Go, Compiler::TinyGo];

/// A node and the functions on it: every build of the guest `misc`.
struct Guests {
    node: Node,
    names: Vec<String>,
}

impl Guests {
    fn start() -> Result<Self, Missing> {
        let node = Node::try_start(Options::default())?;
        let mut names = Vec::new();
        for compiler in COMPILERS {
            for module in ["env", "host", "orama"] {
                names.extend(node.misc(compiler, module));
            }
        }
        Ok(Self { node, names })
    }

    /// The answers to steps, by each guest in turn. `n` numbers the guests, for names of their own.
    fn each(&self, steps: impl Fn(usize) -> Vec<Value>, check: impl Fn(usize, Vec<Value>)) {
        for (n, name) in self.names.iter().enumerate() {
            let (answers, errors) = self.run(name, steps(n));
            assert_eq!(errors, Vec::<String>::new(), "{name}");
            check(n, answers);
        }
    }

    /// The answers to steps, and the errors that were logged.
    fn run(&self, name: &str, steps: Vec<Value>) -> (Vec<Value>, Vec<String>) {
        let body = json!({ "do": "steps", "steps": steps }).to_string();
        let answer = self.node.invoke(name, body).expect(200);
        let record = self.node.record(name, answer.header("x-request-id").unwrap());
        let messages = record["messages"].as_array().unwrap().iter();
        let errors =
            messages.filter(|m| m["level"] == "error").map(|m| m["message"].as_str().unwrap().into());
        (answer.json().as_array().unwrap().clone(), errors.collect())
    }

    /// Runs one step that must fail as documented, with one error in the log that says what was wrong.
    #[track_caller]
    fn fails(&self, step: Value, answer: Value, said: &str) {
        let Some(name) = self.names.last() else { return };
        let (answers, errors) = self.run(name, vec![step.clone()]);
        assert_eq!(answers, [answer], "{step}");
        assert!(errors.len() == 1 && errors[0].contains(said), "{step}: {errors:?}");
    }
}

#[test]
fn the_database_is_the_namespaces_own_and_speaks_sql() {
    let Ok(guests) = Guests::start() else { return };
    guests.each(
        |n| {
            let table = format!("devices{n}");
            vec![
                json!({ "do": "execute", "sql": format!("CREATE TABLE {table} (user_id TEXT, push_token TEXT, n INTEGER, x REAL, b BLOB)") }),
                json!({ "do": "execute", "sql": format!("INSERT INTO {table} VALUES (?, ?, ?, ?, ?)"),
                        "args": ["user123", "abc…", 9_007_199_254_740_993_i64, 1.5, [0, 255]] }),
                json!({ "do": "execute", "sql": format!("INSERT INTO {table} VALUES ('other', NULL, NULL, NULL, NULL)") }),
                json!({ "do": "query", "sql": format!("SELECT push_token, n, x, b FROM {table} WHERE user_id = ?"), "args": ["user123"] }),
                json!({ "do": "query", "sql": format!("SELECT * FROM {table} WHERE user_id = 'nobody'") }),
                json!({ "do": "execute", "sql": format!("UPDATE {table} SET x = 2") }),
                json!({ "do": "query_v2", "sql": format!("SELECT count(*) AS n FROM {table}") }),
                json!({ "do": "query_v2", "sql": "SELECT x FROM nowhere" }),
                json!({ "do": "execute_v2", "sql": format!("INSERT INTO {table} (user_id) VALUES ('third')") }),
                json!({ "do": "transaction", "ops": [
                    { "kind": "exec", "sql": format!("DELETE FROM {table} WHERE user_id = ?"), "args": ["third"] },
                    { "kind": "query", "sql": format!("SELECT count(*) AS n FROM {table}"), "args": [] } ] }),
                json!({ "do": "transaction", "ops": [
                    { "kind": "exec", "sql": format!("DELETE FROM {table}") },
                    { "kind": "exec", "sql": "INSERT INTO nowhere VALUES (1)" } ] }),
                json!({ "do": "query_batch", "ops": [
                    { "sql": format!("SELECT user_id FROM {table} ORDER BY user_id") }, { "sql": "SELECT 1 AS one" } ] }),
            ]
        },
        |_, answers| {
            assert_eq!(answers[1], json!({ "rows_affected": 1 }));
            assert_eq!(
                answers[3],
                json!({ "rows": [{ "push_token": "abc…", "n": 9_007_199_254_740_993_i64, "x": 1.5, "b": "AP8=" }] })
            );
            assert_eq!(answers[4], json!({ "rows": [] }));
            assert_eq!(answers[5], json!({ "rows_affected": 2 }));
            assert_eq!(answers[6], json!({ "rows": [{ "n": 2 }], "error": "" }));
            assert_eq!(answers[7]["rows"], json!([]));
            assert!(answers[7]["error"].as_str().unwrap().contains("nowhere"), "{}", answers[7]);
            assert_eq!((&answers[8]["rows_affected"], &answers[8]["error"]), (&1.into(), &"".into()));
            assert_eq!((&answers[9]["committed"], &answers[9]["error"]), (&true.into(), &"".into()));
            assert_eq!(answers[9]["results"][0]["rows_affected"], 1);
            assert_eq!(answers[9]["results"][1]["rows"], json!([{ "n": 2 }]));
            assert_eq!((&answers[10]["committed"], &answers[10]["failed_index"]), (&false.into(), &1.into()));
            assert_eq!(answers[10]["code"], "INVALID_ARGUMENT");
            assert_eq!(
                answers[11]["results"][0]["rows"],
                json!([{ "user_id": "other" }, { "user_id": "user123" }]),
                "the failed transaction deleted nothing"
            );
            assert_eq!(answers[11]["results"][1]["rows"], json!([{ "one": 1 }]));
        },
    );
    guests.fails(json!({ "do": "query", "sql": "SELEC 1" }), json!({ "rows": null }), "db_query: ");
    guests.fails(
        json!({ "do": "execute", "sql": "ATTACH '/etc/passwd' AS x" }),
        json!({ "rows_affected": 0 }),
        "db_execute: ",
    );
    guests.fails(
        json!({ "do": "query", "sql": "DELETE FROM devices0" }),
        json!({ "rows": null }),
        "db_query: ",
    );
}

#[test]
fn the_cache_keeps_values_counters_and_their_time() {
    let Ok(guests) = Guests::start() else { return };
    guests.each(
        |n| {
            let (key, counter) = (format!("key{n}"), format!("counter{n}"));
            vec![
                json!({ "do": "cache_get", "key": key }),
                json!({ "do": "cache_set", "key": key, "value": "v", "ttl": 0 }),
                json!({ "do": "cache_get", "key": key }),
                json!({ "do": "cache_delete", "key": key }),
                json!({ "do": "cache_delete", "key": key }),
                json!({ "do": "cache_incr", "key": counter }),
                json!({ "do": "cache_incr_by", "key": counter, "delta": 9_007_199_254_740_992_i64 }),
                json!({ "do": "cache_incr_by", "key": counter, "delta": -1 }),
                json!({ "do": "cache_get", "key": counter }),
                json!({ "do": "cache_set", "key": key, "value": "short", "ttl": 1 }),
                json!({ "do": "cache_get", "key": key }),
                json!({ "do": "sleep", "ms": 1100 }),
                json!({ "do": "cache_get", "key": key }),
            ]
        },
        |_, answers| {
            let values: Vec<_> = [0, 2, 8, 10, 12].map(|at: usize| answers[at]["value"].clone()).into();
            assert_eq!(values, ["", "v", "9007199254740992", "short", ""]);
            assert_eq!((&answers[3]["deleted"], &answers[4]["deleted"]), (&1.into(), &1.into()));
            assert_eq!(answers[5]["value"], 1);
            assert_eq!(answers[6]["value"], 9_007_199_254_740_993_i64);
            assert_eq!(answers[7]["value"], 9_007_199_254_740_992_i64);
        },
    );
    let set = json!({ "do": "cache_set", "key": "text", "value": "no number", "ttl": 0 });
    let Some(name) = guests.names.last() else { return };
    guests.run(name, vec![set]);
    guests.fails(json!({ "do": "cache_incr", "key": "text" }), json!({ "value": 0 }), "cache_incr: ");
    guests.fails(json!({ "do": "cache_get", "key": "k".repeat(300) }), json!({ "value": "" }), "cache_get: ");
}

#[test]
fn secrets_are_read_as_they_are_now() {
    let Ok(guests) = Guests::start() else { return };
    let set = |value: &str| {
        let body = json!({ "name": "APNS_KEY_ID", "value": value }).to_string();
        guests.node.request("PUT", "/v1/functions/secrets").body(body).send().expect(200);
    };
    let read = || vec![json!({ "do": "secret", "name": "APNS_KEY_ID" })];
    guests.each(|_| read(), |_, answers| assert_eq!(answers[0]["value"], ""));
    for value in ["ABC123DEF", "another\nwith lines", "ABC123DEF"] {
        set(value);
        guests.each(|_| read(), |_, answers| assert_eq!(answers[0]["value"], value));
    }
    guests.node.delete("/v1/functions/secrets/APNS_KEY_ID").expect(200);
    guests.each(|_| read(), |_, answers| assert_eq!(answers[0]["value"], ""));
}

#[test]
fn stored_objects_come_back_by_their_content_id() {
    let Ok(guests) = Guests::start() else { return };
    let Some(name) = guests.names.first() else { return };
    guests.each(
        |n| {
            vec![
                json!({ "do": "storage_put", "body": format!("object {n}") }),
                json!({ "do": "storage_put", "body": "object" }),
                json!({ "do": "storage_get", "cid": "bafkreidrgkrh5zvuh3njesy5cypwof7f5dob5i54qgjcxpn67poburisna" }),
            ]
        },
        |n, answers| {
            let cid = &answers[0]["cid"];
            assert!(cid.as_str().unwrap().starts_with("bafkrei"), "{cid}");
            // As `ipfs add --cid-version=1` gives it.
            assert_eq!(answers[1]["cid"], "bafkreibjldkbnuekuwshfv5vbebwzn7k7vkcvxmekj7gnikf5jsmwtg4ou");
            assert_eq!(answers[2]["value"], "");
            let (back, errors) = guests.run(name, vec![json!({ "do": "storage_get", "cid": cid })]);
            assert_eq!(back, [json!({ "value": format!("object {n}") })]);
            assert_eq!(errors, Vec::<String>::new());
        },
    );
    let (answers, _) = guests.run(name, vec![json!({ "do": "storage_put", "n": 3 << 20 })]);
    let (back, _) = guests.run(name, vec![json!({ "do": "storage_get", "cid": answers[0]["cid"], "n": 3 })]);
    assert_eq!(back, [json!({ "size": 3 << 20, "value": "xxx" })]);
}

#[test]
fn published_messages_are_accepted_or_refused() {
    let Ok(guests) = Guests::start() else { return };
    guests.each(
        |_| {
            vec![
                json!({ "do": "publish", "topic": "calls:invite", "data": { "calleeId": "u1" } }),
                json!({ "do": "publish", "topic": "calls:invite", "data": null }),
            ]
        },
        |_, answers| assert_eq!(answers, [json!({ "published": true }), json!({ "published": true })]),
    );
    for (topic, raw) in [("t", "{"), ("t", ""), ("", "1"), ("t", "1 2")] {
        let step = json!({ "do": "publish", "topic": topic, "raw": raw });
        guests.fails(step, json!({ "published": false }), "pubsub_publish: ");
    }
}

#[test]
fn fetch_reaches_nothing_private_unless_the_operator_allows_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let Ok(guests) = Guests::start() else { return };
    guests.each(
        |_| {
            let fetch = |url: String| json!({ "do": "fetch", "method": "GET", "url": url });
            vec![
                fetch(format!("http://{address}/")),
                fetch(format!("http://localhost:{}/", address.port())),
                fetch("file:///etc/passwd".to_owned()),
                fetch("http://169.254.169.254/latest/meta-data".to_owned()),
            ]
        },
        |_, answers| {
            for answer in answers {
                assert_eq!(answer["status"], 0, "{answer}");
                assert!(!answer["error"].as_str().unwrap().is_empty(), "{answer}");
            }
        },
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody connected");
}
