//! kill -9 while secrets, triggers and messages come in: what was acknowledged is there afterwards.

use crate::harness::{Node, Options, eventually, lock};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const ROUNDS: u64 = 12;

/// What clients of the node were told, over all its lives.
#[derive(Default)]
struct Told {
    count: AtomicUsize,
    /// Deployed functions.
    functions: Mutex<BTreeSet<String>>,
    /// The last acknowledged value of each secret, and values that were sent later without an answer.
    secrets: Mutex<BTreeMap<String, (String, Vec<String>)>>,
    /// Ids of triggers.
    triggers: Mutex<BTreeSet<String>>,
    /// Acknowledged messages.
    published: Mutex<BTreeSet<usize>>,
}

impl Told {
    fn next(&self) -> usize {
        self.count.fetch_add(1, Ordering::Relaxed)
    }
}

/// One kind of work; `None` when the node is gone.
type Work = fn(&Node, &Told) -> Option<()>;

fn set_a_secret(node: &Node, told: &Told) -> Option<()> {
    let n = told.next();
    let (name, value) = (format!("SECRET_{}", n % 7), format!("value-{n}"));
    let body = json!({ "name": name, "value": value }).to_string();
    if let Some((_, later)) = lock(&told.secrets).get_mut(&name) {
        later.push(value.clone());
    }
    node.request("PUT", "/v1/functions/secrets").body(body).try_send().ok()?.expect(200);
    lock(&told.secrets).insert(name, (value, Vec::new()));
    Some(())
}

fn deploy_and_add_a_trigger(node: &Node, told: &Told) -> Option<()> {
    let n = told.next();
    let name = format!("f{n}");
    let answer = node.deploy_request(&name, &guests::wat("echo"), &[]).try_send().ok()?;
    if answer.status == 503 {
        return Some(());
    }
    answer.expect(201);
    lock(&told.functions).insert(name.clone());
    let path = format!("/v1/functions/{name}/triggers");
    let answer = node.request("POST", &path).body(json!({ "topic": format!("t{n}") }).to_string());
    let id = answer.try_send().ok()?.expect(201).json()["trigger_id"].as_str().unwrap().to_owned();
    lock(&told.triggers).insert(format!("{name} {id}"));
    Some(())
}

fn publish(node: &Node, told: &Told) -> Option<()> {
    let n = told.next();
    // What the triggered function does: it notes in its database that it was run.
    let note = json!({ "do": "execute", "sql": "INSERT OR IGNORE INTO handled VALUES (?)", "args": [n] });
    let body = json!({ "topic": "messages", "data": note }).to_string();
    let answer = node.request("POST", "/v1/pubsub/publish").body(body).try_send().ok()?;
    if answer.status == 503 {
        return Some(());
    }
    answer.expect(202);
    lock(&told.published).insert(n);
    Some(())
}

#[test]
fn kill_9_loses_no_function_no_secret_no_trigger_and_no_message() {
    let Ok(misc) = guests::tinygo("misc", &[]) else { return };
    let node = Node::start(Options::default());
    node.deploy("reader", &std::fs::read(misc).unwrap(), &[]);
    let trigger = json!({ "topic": "messages" }).to_string();
    node.request("POST", "/v1/functions/reader/triggers").body(trigger).send().expect(201);
    let table = json!({ "do": "execute", "sql": "CREATE TABLE handled (n INTEGER PRIMARY KEY)" });
    node.invoke("reader", table.to_string()).expect(200);
    let told = Told::default();
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let kinds: [Work; 4] = [set_a_secret, deploy_and_add_a_trigger, publish, publish];
            for work in kinds {
                let (node, told, stop) = (&node, &told, &stop);
                scope.spawn(move || while !stop.load(Ordering::Relaxed) && work(node, told).is_some() {});
            }
            // At another moment each time, from just started to well under way.
            std::thread::sleep(Duration::from_millis(30 + 41 * (round * 7 % 11)));
            node.signal(rustix::process::Signal::KILL);
            stop.store(true, Ordering::Relaxed);
        });
        node.wait();
        node.start_again();
        check(&node, &told, round);
    }
    let published = lock(&told.published).clone();
    assert!(published.len() > 20, "only {} messages were acknowledged", published.len());
    eventually("every acknowledged message was handled", || handled(&node).is_superset(&published));
}

fn check(node: &Node, told: &Told, round: u64) {
    for name in lock(&told.functions).iter() {
        assert_eq!(node.invoke(name, "[1]").status, 200, "round {round}: {name} was lost");
    }
    for (name, (value, later)) in lock(&told.secrets).iter_mut() {
        let request = json!({ "do": "secret", "name": name }).to_string();
        let now = node.invoke("reader", request).expect(200).json()["value"].as_str().unwrap().to_owned();
        assert!(now == *value || later.contains(&now), "round {round}: {name} is {now}, not {value}");
        // What is there now must stay.
        *value = now;
        later.clear();
    }
    for trigger in lock(&told.triggers).iter() {
        let (function, id) = trigger.split_once(' ').unwrap();
        let triggers = node.get(&format!("/v1/functions/{function}/triggers")).expect(200).json();
        let ids: Vec<_> = triggers["triggers"].as_array().unwrap().iter().map(|t| t["id"].clone()).collect();
        assert_eq!(ids, [Value::from(id)], "round {round}: the trigger of {function} was lost");
    }
}

/// The numbers of the messages that the triggered function was run for.
fn handled(node: &Node) -> BTreeSet<usize> {
    let query = json!({ "do": "query", "sql": "SELECT n FROM handled" }).to_string();
    let answer = node.invoke("reader", query).expect(200).json();
    answer["rows"].as_array().unwrap().iter().map(|row| row["n"].as_u64().unwrap() as usize).collect()
}
