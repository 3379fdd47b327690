//! Functions that call functions: what goes along, what comes back, and that callers who wait hold up nobody.

use crate::harness::{Node, Options, eventually, new_dir};
use crate::jwt::{claims, eddsa, put_key, with_keys};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

impl Node {
    /// Deploys the guest that calls others; `None` when Go is missing, which was reported.
    pub fn calls(&self, name: &str, fields: &[(&str, &str)]) -> Option<()> {
        let wasm = fs::read(guests::go("calls", &[]).ok()?).unwrap();
        self.deploy(name, &wasm, fields);
        Some(())
    }

    /// Has it do something.
    pub fn ask(&self, name: &str, what: &Value) -> Value {
        self.invoke(name, what.to_string()).expect(200).json()
    }
}

fn newest(node: &Node, name: &str) -> Value {
    node.logs(name, "?limit=1")["invocations"][0].clone()
}

#[test]
fn a_function_gets_the_output_of_another_one() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let Some(()) = node.calls("parent", &[]) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("echo", &guests::wat("exit_code"), &[]);
    let whole = json!({ "do": "invoke", "name": "echo@1", "input": { "a": [1, "ä"] } });
    assert_eq!(node.ask("parent", &whole), json!({ "a": [1, "ä"] }));
    eventually("its run has a record", || node.logs("echo", "")["count"] == 1);
    let record = newest(&node, "echo");
    assert_eq!((&record["trigger_type"], &record["version"]), (&json!("function"), &json!(1)));
    assert_eq!(record["status"], "success");
    // Bytes that are no text come back as they were.
    let bytes = json!({ "do": "invoke", "name": "echo@1", "bytes": "AP/+gA==" });
    assert_eq!(node.ask("parent", &bytes)["output_base64"], "AP/+gA==");
    // Without a version it is the newest one, which fails.
    let told = node.ask("parent", &json!({ "do": "invoke", "name": "echo", "input": null }));
    assert_eq!(
        (&told["status"], &told["code"], &told["run"]),
        (&json!("error"), &json!("FUNCTION_EXIT"), &json!(true))
    );
}

#[test]
fn every_refusal_is_told_as_one() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let Some(()) = node.calls("parent", &[]) else { return };
    let Some(()) = node.calls("slow", &[("timeout_seconds", "1")]) else { return };
    let Some(()) = node.calls("single", &[("concurrency", "1")]) else { return };
    node.request("POST", "/v1/namespaces").body(json!({ "name": "shop" }).to_string()).send().expect(201);
    node.deploy("theirs", &guests::wat("echo"), &[("namespace", "shop"), ("is_public", "true")]);
    let told = |by: &str, name: &str, input: Value| {
        let told = node.ask(by, &json!({ "do": "invoke", "name": name, "input": input }));
        let text = |key: &str| told[key].as_str().unwrap().to_owned();
        (text("status"), text("code"), text("error"), told["run"] == true)
    };
    let sleep = json!({ "do": "sleep", "ms": 20_000 });
    for (name, code) in [
        ("nobody", "FUNCTION_NOT_FOUND"),
        ("parent@7", "FUNCTION_NOT_FOUND"),
        ("theirs", "FUNCTION_NOT_FOUND"),
        ("no name", "INVALID_NAME"),
        ("parent@x", "FUNCTION_NOT_FOUND"),
        ("parent@x.y", "INVALID_VERSION"),
    ] {
        let (status, said, error, ran) = told("parent", name, Value::Null);
        assert_eq!((status.as_str(), said.as_str(), ran), ("error", code, false), "{name}: {error}");
        assert!(!error.is_empty(), "{name}");
    }
    let (status, code, _, ran) = told("parent", "slow", sleep);
    assert_eq!((status.as_str(), code.as_str(), ran), ("timeout", "TIMEOUT", true));
    // It would wait for itself.
    let (status, code, error, ran) = told("single", "single", json!({ "do": "sleep" }));
    assert_eq!((status.as_str(), code.as_str(), ran), ("error", "CONCURRENCY_LIMITED", false));
    assert!(error.contains("concurrency"), "{error}");
}

#[test]
fn calls_are_eight_deep_at_most() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let Some(()) = node.calls("down", &[]) else { return };
    let down = |n: u32| node.ask("down", &json!({ "do": "down", "n": n, "self": "down" }));
    let eight = down(8);
    assert_eq!((&eight["depth"], eight["error"].as_str()), (&json!(8), Some("")), "{eight}");
    let nine = down(9);
    assert!(nine["error"].as_str().unwrap().contains("8 deep"), "{nine}");
    assert_eq!(nine["depth"], 9);
}

#[test]
fn the_callers_identity_goes_along() {
    let path = new_dir("keys").join("public.pem");
    put_key(&path, "ed25519.pub.pem");
    let Ok(node) = Node::try_start(with_keys(&path, Vec::new())) else { return };
    let Some(()) = node.calls("down", &[]) else { return };
    let body = json!({ "do": "down", "n": 3, "self": "down" }).to_string();
    let token = eddsa(&claims("0xabc", "default"));
    let request = node.request_as(&token, "POST", "/v1/functions/down/invoke");
    let told = request.body(body).send().expect(200).json();
    assert_eq!((&told["depth"], &told["subject"]), (&json!(3), &json!("0xabc")), "{told}");
}

#[test]
fn a_call_ends_with_the_run_that_made_it() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let Some(()) = node.calls("hasty", &[("timeout_seconds", "1")]) else { return };
    let Some(()) = node.calls("slow", &[("timeout_seconds", "60")]) else { return };
    let sleep = json!({ "do": "sleep", "ms": 50_000 });
    let call = json!({ "do": "invoke", "name": "slow", "input": sleep });
    node.invoke("hasty", call.to_string()).refusal(504, "TIMEOUT");
    eventually("the call has ended", || node.logs("slow", "")["count"] == 1);
    let record = newest(&node, "slow");
    let error = record["error"].as_str().unwrap();
    assert!(error.contains("the function that called it ended") || record["status"] == "timeout", "{record}");
    assert!(record["duration_ms"].as_f64().unwrap() < 30_000.0, "{record}");
    eventually("nothing runs", || node.metric("orama_invocations_running") == 0.0);
}

#[test]
fn a_run_that_is_asked_for_is_durable_and_retried() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let Some(()) = node.calls("parent", &[]) else { return };
    let retry: &[(&str, &str)] = &[("retry_count", "1"), ("retry_delay_seconds", "0")];
    node.reader("reader", retry);
    let ask = |name: &str, input: Value| {
        let asked = json!({ "do": "async", "name": name, "input": input });
        node.ask("parent", &asked)["accepted"] == true
    };
    assert!(ask("reader", json!("one")) && ask("reader@1", json!("two")));
    assert!(!ask("nobody", Value::Null) && !ask("reader@9", Value::Null));
    let log = newest(&node, "parent");
    assert!(log["messages"][0]["message"].as_str().unwrap().contains("version 9 of function"), "{log}");
    eventually("both ran", || node.logs("reader", "")["count"] == 2);
    let record = newest(&node, "reader");
    assert_eq!((&record["trigger_type"], &record["attempt"]), (&json!("function"), &json!(1)));
    // The input is what was given, not an event.
    assert!(["\"one\"", "\"two\""].contains(&record["messages"][0]["message"].as_str().unwrap()), "{record}");
    assert!(ask("reader", json!("fails!")));
    let letters = || node.get("/v1/functions/reader/dead-letters").expect(200).json();
    eventually("it is a dead letter", || letters()["count"] == 1);
    assert_eq!(letters()["dead_letters"][0]["attempts"], 2);
    node.request("POST", "/v1/functions/reader/dead-letters/replay").send().expect(202);
    eventually("it failed again", || letters()["count"] == 1 && node.no_job_is_left());
    // What was accepted survives the end of the node.
    for n in 0..50 {
        assert!(ask("reader", json!(format!("late {n}"))));
    }
    node.kill();
    node.start_again();
    let late = || {
        let log = node.logs("reader", "?limit=1000");
        let records = log["invocations"].as_array().unwrap().clone();
        let texts = records.iter().filter_map(|record| record["messages"][0]["message"].as_str());
        let mut late: Vec<_> = texts.filter(|text| text.contains("late")).map(str::to_owned).collect();
        late.sort();
        late.dedup();
        late.len()
    };
    eventually("all of them ran", || late() == 50);
}

/// Sends a thousand requests at once, again where the node had no room, and tells how often that was.
fn thousand(node: &Node, name: &str, body: &str) -> usize {
    let mut refused = 0;
    let mut open: Vec<_> = (0..1000).map(|_| node.connect()).collect();
    while !open.is_empty() {
        for connection in &mut open {
            connection.write(node.invoke_request(name).body(body).bytes());
        }
        let mut again = Vec::new();
        for mut connection in open {
            let answer = connection.answer();
            match answer.status {
                200 => assert_eq!(answer.json()["slept"], 20, "{answer:?}"),
                _ => {
                    answer.refusal(503, "OVERLOADED");
                    again.push(connection);
                }
            }
        }
        refused += again.len();
        open = again;
        std::thread::sleep(Duration::from_millis(20));
    }
    refused
}

#[test]
fn a_thousand_parents_at_once_on_sixty_four_slots_all_end_with_their_children() {
    let config = "instance_slots = 64\n".to_owned();
    let Ok(node) = Node::try_start(Options { config, ..Options::default() }) else { return };
    let Some(()) = node.calls("parent", &[("timeout_seconds", "120")]) else { return };
    let call = json!({ "do": "invoke", "name": "parent", "input": { "do": "sleep", "ms": 20 } });
    let refused = thousand(&node, "parent", &call.to_string());
    eprintln!("{refused} requests found no room and were sent again");
    assert!(refused > 0, "the node was never full");
    eventually("nothing runs", || node.metric("orama_invocations_running") == 0.0);
    // Chains of three as well: the deeper ones have places that the others cannot take.
    let inner = json!({ "do": "invoke", "name": "parent", "input": { "do": "sleep", "ms": 20 } });
    let call = json!({ "do": "invoke", "name": "parent", "input": inner });
    thousand(&node, "parent", &call.to_string());
}
