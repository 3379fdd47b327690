//! Several nodes on the same servers: what is changed on one holds on the others.

use super::nodes::{ONE_EACH, Times, node, two};
use crate::harness::{Compiler, Node, eventually, lock};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// One step of the guest `misc`.
fn step(node: &Node, name: &str, step: &Value) -> Value {
    node.invoke(name, step.to_string()).expect(200).json()
}

#[test]
fn a_secret_changed_on_one_node_is_used_by_the_other_a_hundred_times() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    let Some(misc) = a.misc(Compiler::TinyGo, "env") else { return };
    a.set_secret("TOKEN", "0");
    eventually("the other node runs it", || b.invoke(&misc, "{}").status == 200);
    let asks = json!({ "do": "secret", "name": "TOKEN" });
    let mut times = Times::default();
    for n in 1..=100 {
        let (one, other) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let value = n.to_string();
        one.set_secret("TOKEN", &value);
        assert_eq!(step(one, &misc, &asks)["value"], value, "its own at once");
        times.until("the other uses it", || step(other, &misc, &asks)["value"] == value);
    }
    times.tell("a changed secret is used on the other node");
}

#[test]
fn keys_made_and_deleted_on_one_node() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    let (mut made, mut deleted) = (Times::default(), Times::default());
    for _ in 0..10 {
        let body = json!({ "namespace": "default", "role": "deploy" }).to_string();
        let key = a.request("POST", "/v1/keys").body(body).send().expect(201).json();
        let (id, text) = (key["id"].as_str().unwrap(), key["api_key"].as_str().unwrap());
        let status = || b.request_as(text, "GET", "/v1/functions").send().status;
        made.until("the key is good", || status() == 200);
        a.delete(&format!("/v1/keys/{id}")).expect(200);
        a.request_as(text, "GET", "/v1/functions").send().refusal(401, "UNAUTHORIZED");
        deleted.until("the key is refused", || status() == 401);
    }
    made.tell("a new key is good on the other node");
    deleted.tell("a deleted key is refused on the other node");
}

#[test]
fn rates_set_on_one_node_hold_on_the_other() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    a.request("POST", "/v1/namespaces").body(json!({ "name": "shop" }).to_string()).send().expect(201);
    let body = json!({ "namespace": "shop", "role": "deploy" }).to_string();
    let key = a.request("POST", "/v1/keys").body(body).send().expect(201).json();
    let key = key["api_key"].as_str().unwrap();
    let status = || b.request_as(key, "GET", "/v1/functions").send().status;
    eventually("the other node knows the key", || status() == 200);
    let mut times = Times::default();
    for n in 0..6 {
        let (rates, expected) =
            if n % 2 == 0 { (json!({ "requests_per_key": "1/h burst 1" }), 429) } else { (json!({}), 200) };
        a.request("PUT", "/v1/namespaces/shop/rates").body(rates.to_string()).send().expect(200);
        times.until("the other node has them", || status() == expected);
    }
    times.tell("changed rates hold on the other node");
}

/// How often each number was given to a reader, by the logs of all nodes.
fn given(node: &Node, name: &str) -> BTreeMap<u64, usize> {
    let mut given = BTreeMap::new();
    // Requests brought no event.
    for n in node.data(name).iter().filter_map(Value::as_u64) {
        *given.entry(n).or_default() += 1;
    }
    given
}

#[test]
fn a_trigger_made_on_one_node_fires_once_for_what_is_published_on_the_other() {
    const MESSAGES: u64 = 60;
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    a.reader("reader", &[]);
    let id = a.add_trigger("reader", "numbers");
    // A publish before the other node knows of the trigger is one for nobody.
    eventually("the other node knows of it", || b.get("/v1/functions/reader/triggers").json()["count"] == 1);
    for n in 0..MESSAGES {
        let from = if n % 3 == 0 { &a } else { &b };
        from.publish("numbers", n).expect(202);
    }
    eventually("all were given", || given(&a, "reader").len() == MESSAGES as usize);
    for node in [&a, &b] {
        // A node that is busy may be missing in one answer.
        let has_all = || given(node, "reader").len() == MESSAGES as usize;
        eventually("the log of either node has what ran on both", has_all);
        let given = given(node, "reader");
        assert!(given.values().all(|count| *count == 1), "while leases hold each runs once: {given:?}");
    }
    let mut times = Times::default();
    b.delete(&format!("/v1/functions/reader/triggers/{id}")).expect(200);
    times.until("the trigger is gone", || a.get("/v1/functions/reader/triggers").json()["count"] == 0);
    times.tell("a deleted trigger is seen on the other node");
    eventually("no job is left", || a.no_job_is_left() && b.no_job_is_left());
}

/// Publishes the next numbers on a node that may be killed, and notes what it acknowledged at which address.
fn publish_forty(from: &Node, next: &AtomicU64, acknowledged: &Mutex<Vec<(u64, SocketAddr)>>) {
    for _ in 0..40 {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "topic": "numbers", "data": n }).to_string();
        let sent = from.request("POST", "/v1/pubsub/publish").body(body).try_send();
        match sent {
            Ok(answer) if answer.status == 202 => lock(acknowledged).push((n, from.address())),
            Ok(answer) => eprintln!("not taken: {}", answer.text()),
            // The one that is killed closes its connections.
            Err(_) => return,
        }
    }
}

#[test]
fn jobs_of_a_node_that_was_killed_run_on_the_other() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    a.reader("reader", &[("timeout_seconds", "5")]);
    a.add_trigger("reader", "numbers");
    eventually("the other node knows of it", || {
        b.get("/v1/functions/reader/triggers").json()["count"] == 1 && b.invoke("reader", "0").status == 200
    });
    let (next, acknowledged) = (AtomicU64::new(1), Mutex::new(Vec::new()));
    for round in 0..3 {
        let before = lock(&acknowledged).len();
        std::thread::scope(|scope| {
            for from in [&a, &b] {
                scope.spawn(|| publish_forty(from, &next, &acknowledged));
            }
            eventually("some were published", || lock(&acknowledged).len() >= before + 30);
            a.signal(rustix::process::Signal::KILL);
        });
        a.wait();
        eventually(&format!("the jobs of round {round} have run on the other"), || b.no_job_is_left());
        a.start_again();
    }
    eventually("both know each other again", || {
        b.logs("reader", "?limit=1").get("missing_nodes").is_none() && !given(&a, "reader").is_empty()
    });
    let given = given(&b, "reader");
    let acknowledged = lock(&acknowledged);
    // A record may be lost with its node, a job may not: it runs again where nobody knows that it ran.
    let lost: Vec<_> = acknowledged.iter().filter(|(n, _)| !given.contains_key(n)).collect();
    assert!(lost.is_empty(), "{lost:?} of {} were never given", acknowledged.len());
    let by_b = acknowledged.iter().filter(|(_, by)| *by == b.address()).count();
    let again = given.values().filter(|count| **count > 1).count();
    eprintln!(
        "{} messages through three kills, {by_b} taken by the node that lived; none lost, {again} given more than once",
        acknowledged.len()
    );
}

#[test]
fn a_namespace_deleted_on_one_node_is_gone_on_the_other() {
    let Some((servers, a, b)) = two(ONE_EACH) else { return };
    let make = |node: &Node| {
        let body = json!({ "name": "guest" }).to_string();
        node.request("POST", "/v1/namespaces").body(body).send()
    };
    make(&a).expect(201);
    let mut times = Times::default();
    let deploy = |node: &Node| {
        let wasm = guests::wat("echo");
        let parts: [(&str, &[u8]); 3] = [("name", b"echo"), ("namespace", b"guest"), ("wasm", &wasm)];
        node.request("POST", "/v1/functions").form(&parts).send().status
    };
    times.until("the namespace is known", || deploy(&b) == 201);
    let invoke = |node: &Node| node.request("POST", "/v1/invoke/guest/echo").body("[]").send().status;
    times.until("its function runs", || invoke(&a) == 200);
    a.delete("/v1/namespaces/guest").expect(200);
    times.until("it is gone", || invoke(&b) == 404);
    times.tell("a namespace made, used and deleted by turns on two nodes");
    eventually("its name is free again", || make(&b).status == 201);
    assert_eq!(invoke(&b), 404, "nothing of the old one");
    let third = node(&servers);
    assert_eq!(invoke(&third), 404);
}

#[test]
fn an_object_stored_on_one_node_is_read_on_the_other() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    let Some(misc) = a.misc(Compiler::TinyGo, "env") else { return };
    eventually("the other node runs it", || b.invoke(&misc, "{}").status == 200);
    let mut times = Times::default();
    for n in 0..10 {
        let (one, other) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let text = format!("object {n} ").repeat(1 + n * 10_000);
        let put = step(one, &misc, &json!({ "do": "storage_put", "body": text }));
        let get = json!({ "do": "storage_get", "cid": put["cid"] });
        times.until("the other reads it", || step(other, &misc, &get)["value"] == text);
    }
    times.tell("an object is read on the other node");
}

#[test]
fn logs_on_any_node_are_those_of_all_and_say_who_is_missing() {
    let Some((_servers, a, b)) = two(ONE_EACH) else { return };
    a.deploy("logs", &guests::wat("log_input"), &[]);
    eventually("the other node runs it", || b.invoke("logs", "first").status == 200);
    let ids: Vec<String> = (0..6)
        .map(|n| {
            let on = if n % 2 == 0 { &a } else { &b };
            let answer = on.invoke("logs", format!("line {n}")).expect(200);
            std::thread::sleep(std::time::Duration::from_millis(3));
            answer.header("x-request-id").unwrap().to_owned()
        })
        .collect();
    let newest = |node: &Node| -> Vec<String> {
        let logs = node.logs("logs", "?limit=6");
        let invocations = logs["invocations"].as_array().unwrap().iter().rev();
        invocations.map(|one| one["request_id"].as_str().unwrap().to_owned()).collect()
    };
    eventually("the nodes know each other", || newest(&a) == ids && newest(&b) == ids);
    let one = b.logs("logs", &format!("?request_id={}", ids[0]));
    assert_eq!((&one["count"], &one["logs"][0]["message"]), (&json!(1), &json!("line 0")));
    let other = a.address().to_string();
    a.signal(rustix::process::Signal::STOP);
    let logs = b.logs("logs", "?limit=6");
    assert_eq!((&logs["count"], &logs["missing_nodes"]), (&json!(4), &json!([other])));
    a.signal(rustix::process::Signal::CONT);
    eventually("it answers again", || newest(&b) == ids);
}

#[test]
fn changes_are_seen_without_messages_too() {
    let Some((servers, a, b)) = two(ONE_EACH) else { return };
    let Some(misc) = a.misc(Compiler::TinyGo, "env") else { return };
    a.set_secret("TOKEN", "0");
    eventually("the other node runs it", || b.invoke(&misc, "{}").status == 200);
    servers.olric.node(0).kill();
    let asks = json!({ "do": "secret", "name": "TOKEN" });
    let mut times = Times::default();
    for n in 1..=10 {
        let value = n.to_string();
        a.set_secret("TOKEN", &value);
        times.until("the other uses it", || step(&b, &misc, &asks)["value"] == value);
    }
    times.tell("a changed secret is used on the other node while Olric is down");
}
