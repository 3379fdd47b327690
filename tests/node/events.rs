//! Events: what is published runs the functions with a trigger on its topic, in order, at least once, and never too deep.

use crate::harness::{Compiler, Node, Options, eventually, lock};
use crate::http::Answer;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

impl Node {
    #[track_caller]
    pub fn add_trigger(&self, function: &str, topic: &str) -> String {
        let path = format!("/v1/functions/{function}/triggers");
        let answer = self.request("POST", &path).body(json!({ "topic": topic }).to_string()).send();
        answer.expect(201).json()["trigger_id"].as_str().unwrap().to_owned()
    }

    pub fn publish(&self, topic: &str, data: impl Into<Value>) -> Answer {
        let body = json!({ "topic": topic, "data": data.into() }).to_string();
        self.request("POST", "/v1/pubsub/publish").body(body).send()
    }

    /// A function that logs what it is given, and fails for what has a "!" in it.
    pub fn reader(&self, name: &str, fields: &[(&str, &str)]) {
        self.deploy(name, &guests::wat("log_input"), fields);
    }

    /// The events that a reader was given, in order.
    fn events(&self, name: &str) -> Vec<Value> {
        let logs = self.logs(name, "?limit=1000");
        let records = logs["invocations"].as_array().unwrap().iter().rev();
        let texts = records.filter_map(|record| record["messages"][0]["message"].as_str());
        texts.map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    pub fn data(&self, name: &str) -> Vec<Value> {
        self.events(name).iter().map(|event| event["data"].clone()).collect()
    }

    fn dead_letters(&self, name: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/functions/{name}/dead-letters")).expect(200).json();
        assert_eq!(answer["count"], answer["dead_letters"].as_array().unwrap().len());
        answer["dead_letters"].as_array().unwrap().clone()
    }

    pub fn no_job_is_left(&self) -> bool {
        self.metric("orama_event_jobs_waiting") == 0.0 && self.metric("orama_event_jobs_running") == 0.0
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_message_runs_the_function_with_the_documented_event() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.reader("reader", &[]);
    node.reader("other", &[]);
    node.add_trigger("reader", "calls:invite");
    node.add_trigger("other", "calls:end");
    let before = unix_s();
    let body = "{\"topic\": \"calls:invite\", \"data\": {\"calleeId\":  \"ä\", \"n\": 1.50, \"n\": 9007199254740993}}";
    let answer = node.request("POST", "/v1/pubsub/publish").body(body).send().expect(202).json();
    assert_eq!(answer["topic"], "calls:invite");
    assert_eq!(answer["message_id"].as_str().unwrap().len(), 36);
    eventually("it ran", || node.logs("reader", "")["count"] == 1);
    let record = node.logs("reader", "")["invocations"][0].clone();
    let text = record["messages"][0]["message"].as_str().unwrap();
    let timestamp = serde_json::from_str::<Value>(text).unwrap()["timestamp"].as_u64().unwrap();
    assert!((before..=unix_s()).contains(&timestamp), "{timestamp}");
    assert_eq!(
        text,
        format!(
            "{{\"topic\":\"calls:invite\",\"data\":{{\"calleeId\":  \"ä\", \"n\": 1.50, \"n\": 9007199254740993}},\
             \"namespace\":\"default\",\"trigger_depth\":1,\"timestamp\":{timestamp}}}"
        )
    );
    assert_eq!(
        (&record["trigger_type"], &record["attempt"], &record["status"]),
        (&"pubsub".into(), &1.into(), &"success".into())
    );
    assert_eq!(record["input_size"], text.len());
    assert_eq!(node.logs("other", "")["count"], 0);
    // Whatever JSON it is, and bytes as the base64 text that they came as.
    for data in [Value::Null, json!(false), json!("text"), json!([1, {}])] {
        node.publish("calls:invite", data).expect(202);
    }
    let body = json!({ "topic": "calls:invite", "data_base64": "AP8=" }).to_string();
    node.request("POST", "/v1/pubsub/publish").body(body).send().expect(202);
    eventually("they ran", || node.logs("reader", "")["count"] == 6);
    let data = node.data("reader");
    assert_eq!(data[1..], [Value::Null, json!(false), json!("text"), json!([1, {}]), json!("AP8=")]);
}

#[test]
fn two_hundred_messages_come_in_their_order() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.reader("reader", &[]);
    node.add_trigger("reader", "t");
    for n in 0..200 {
        node.publish("t", n).expect(202);
    }
    eventually("all have run", || node.logs("reader", "?limit=1000")["count"] == 200);
    assert_eq!(node.data("reader"), (0..200).collect::<Vec<_>>());
    eventually("they are counted", || node.metric("orama_event_jobs_total{result=\"delivered\"}") == 200.0);
    assert!(node.no_job_is_left());
}

#[test]
fn a_slow_function_holds_up_no_other() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "60")]);
    node.reader("fast", &[]);
    node.add_trigger("slow", "t");
    node.add_trigger("fast", "t");
    for n in 0..50 {
        node.publish("t", n).expect(202);
    }
    eventually("the fast one has had all", || node.logs("fast", "?limit=1000")["count"] == 50);
    assert_eq!(node.logs("slow", "")["count"], 0, "its first is still under way");
    assert_eq!(node.metric("orama_event_jobs_running"), 1.0);
    assert_eq!(node.metric("orama_event_jobs_waiting"), 49.0);
    // What waits for a trigger goes with it, and the rest with the function.
    let triggers = node.get("/v1/functions/slow/triggers").expect(200).json();
    let id = triggers["triggers"][0]["id"].as_str().unwrap();
    node.delete(&format!("/v1/functions/slow/triggers/{id}")).expect(200);
    eventually("nothing waits", || node.metric("orama_event_jobs_waiting") == 0.0);
    node.delete("/v1/functions/slow").expect(200);
}

#[test]
fn a_failed_event_is_tried_again_kept_and_replayed() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.reader("reader", &[("retry_count", "2"), ("retry_delay_seconds", "1")]);
    let trigger = node.add_trigger("reader", "t");
    let bad = node.publish("t", "bad!").expect(202).json();
    node.publish("t", "good").expect(202);
    eventually("it is dead", || node.dead_letters("reader").len() == 1);
    assert_eq!(
        node.data("reader"),
        ["bad!", "good", "bad!", "bad!"],
        "the one behind it does not wait for its retries"
    );
    let logs = node.logs("reader", "?status=error");
    let attempts: Vec<_> =
        logs["invocations"].as_array().unwrap().iter().map(|r| r["attempt"].clone()).collect();
    assert_eq!(attempts, [3, 2, 1]);
    let letter = node.dead_letters("reader").remove(0);
    let mut keys: Vec<_> = letter.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "attempts",
        "data",
        "error",
        "failed_at",
        "id",
        "message_id",
        "published_at",
        "request_id",
        "topic",
        "trigger_depth",
        "trigger_id",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&letter["message_id"], &letter["trigger_id"]), (&bad["message_id"], &trigger.into()));
    assert_eq!((&letter["topic"], &letter["data"]), (&"t".into(), &"bad!".into()));
    assert_eq!((&letter["attempts"], &letter["trigger_depth"]), (&3.into(), &1.into()));
    assert!(letter["error"].as_str().unwrap().contains("trapped"), "{letter}");
    assert_eq!(letter["request_id"], logs["invocations"][0]["request_id"], "the last attempt's");
    assert!(letter["failed_at"].as_str().unwrap() > letter["published_at"].as_str().unwrap(), "{letter}");

    // It survives a restart, and a version that can handle it is given it again.
    node.restart();
    assert_eq!(node.dead_letters("reader"), std::slice::from_ref(&letter));
    node.deploy("reader", &guests::wat("log_env"), &[]);
    let path = format!("/v1/functions/reader/dead-letters/{}", letter["id"].as_str().unwrap());
    let replayed = node.request("POST", &format!("{path}/replay")).send().expect(202).json();
    assert_eq!(replayed["replayed"], 1);
    eventually("the new version handled it", || node.logs("reader@2", "")["count"] == 1);
    let record = node.logs("reader@2", "")["invocations"][0].clone();
    assert_eq!((&record["status"], &record["attempt"]), (&"success".into(), &1.into()));
    assert!(node.dead_letters("reader").is_empty());
    node.request("POST", &format!("{path}/replay")).send().refusal(404, "DEAD_LETTER_NOT_FOUND");
    node.delete(&path).refusal(404, "DEAD_LETTER_NOT_FOUND");
    let none = node.request("POST", "/v1/functions/reader/dead-letters/replay").send().expect(202).json();
    assert_eq!(none["replayed"], 0);
    assert_eq!(node.metric("orama_event_jobs_total{result=\"dead\"}"), 0.0, "counted since the start");
}

#[test]
fn a_triggered_chain_ends_at_depth_five() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let Some(misc) = node.misc(Compiler::TinyGo, "env") else { return };
    node.add_trigger(&misc, "loop");
    node.publish("loop", json!({ "do": "republish" })).expect(202);
    eventually("the fifth has run", || node.logs(&misc, "")["count"] == 5);
    let records = node.logs(&misc, "")["invocations"].clone();
    let depths: Vec<u64> = records
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|record| {
            let event: Value =
                serde_json::from_str(record["messages"][0]["message"].as_str().unwrap()).unwrap();
            assert_eq!((&event["topic"], &event["data"]), (&"loop".into(), &json!({ "do": "republish" })));
            event["trigger_depth"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(depths, [1, 2, 3, 4, 5]);
    let said = records[0]["messages"].as_array().unwrap();
    assert!(
        said.iter().skip(1).any(|message| message["message"].as_str().unwrap().contains("depth")),
        "the last one is told that nothing fires: {said:?}"
    );
    eventually("nothing is left", || node.no_job_is_left());
    assert_eq!(node.logs(&misc, "")["count"], 5);
    // An invocation over HTTP begins anew.
    let body = json!({ "do": "publish", "topic": "loop", "data": { "do": "log_input" } }).to_string();
    assert_eq!(node.invoke(&misc, body).expect(200).json()["published"], true);
    eventually("it has run", || node.logs(&misc, "")["count"] == 7);
}

#[test]
fn a_node_that_ends_finishes_what_runs_and_the_rest_runs_later() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("slow", &guests::wat("sleep_100_ms"), &[]);
    node.add_trigger("slow", "t");
    for n in 0..30 {
        node.publish("t", n).expect(202);
    }
    assert!(node.terminate().success());
    node.start_again();
    eventually("all have run", || node.logs("slow", "?limit=1000")["count"] == 30);
    assert!(
        node.no_job_is_left() || {
            eventually("nothing is left", || node.no_job_is_left());
            true
        }
    );
    assert_eq!(node.logs("slow", "?status=error")["count"], 0, "none was cut off, and none ran twice");
}

#[test]
fn a_run_longer_than_the_grace_period_is_ended_and_runs_again() {
    let options = Options { config: "drain_grace_seconds = 0\n".to_owned(), ..Options::default() };
    let Ok(node) = Node::try_start(options) else { return };
    node.deploy("slow", &guests::wat("sleep_hour"), &[("timeout_seconds", "300")]);
    node.add_trigger("slow", "t");
    node.publish("t", 1).expect(202);
    eventually("it runs", || node.metric("orama_event_jobs_running") == 1.0);
    assert!(node.terminate().success(), "{}", node.stderr());
    node.start_again();
    eventually("it runs again", || node.metric("orama_event_jobs_running") == 1.0);
    let records = node.logs("slow", "");
    assert_eq!(records["count"], 1, "{records}");
    assert!(
        records["invocations"][0]["error"].as_str().unwrap().contains("the node was stopped"),
        "{records}"
    );
    assert!(node.dead_letters("slow").is_empty(), "being stopped is no attempt");
}

/// Publishes numbers until the node is gone, and notes those that were acknowledged.
fn publish_numbers(node: &Node, next: &AtomicU64, acknowledged: &Mutex<BTreeSet<u64>>, stop: &AtomicBool) {
    let key = node.key();
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "topic": "t", "data": n }).to_string();
        let Ok(answer) = node.request_as(&key, "POST", "/v1/pubsub/publish").body(body).try_send() else {
            return;
        };
        if answer.status == 503 {
            continue;
        }
        answer.expect(202);
        lock(acknowledged).insert(n);
        // One page of the log holds what was handled between two kills: a thousand invocations.
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn kill_9_loses_no_acknowledged_message() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    // Some fail once in a while, so that retries are cut off as well.
    node.reader("reader", &[("retry_count", "5"), ("retry_delay_seconds", "0")]);
    node.add_trigger("reader", "t");
    let (next, acknowledged) = (AtomicU64::new(0), Mutex::default());
    let mut handled = BTreeSet::new();
    for round in 0..6 {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| publish_numbers(&node, &next, &acknowledged, &stop));
            }
            std::thread::sleep(Duration::from_millis(150 + round * 53 % 200));
            node.signal(rustix::process::Signal::KILL);
            stop.store(true, Ordering::Relaxed);
        });
        node.wait();
        node.start_again();
        let published = lock(&acknowledged).clone();
        eventually("every acknowledged message was handled", || {
            handled.len() >= published.len() || node.no_job_is_left()
        });
        handled.extend(node.data("reader").iter().filter_map(Value::as_u64));
    }
    let published = lock(&acknowledged).clone();
    assert!(published.len() > 60, "too little was tried: {}", published.len());
    // Records of the last 100 ms before a kill may be lost, jobs not: what had run and is in no record was completed.
    let lost: Vec<_> = published.difference(&handled).collect();
    assert!(lost.is_empty(), "{lost:?} of {}", published.len());
}
