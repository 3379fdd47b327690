//! Runs by the clock: schedules, messages that wait for their time, and triggers that come with a deploy.

use crate::harness::{Node, Options, eventually};
use crate::shell::Shell;
use jiff::Timestamp;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

impl Node {
    /// Runs a function by the clock. Returns the trigger's id.
    pub fn add_schedule(&self, function: &str, expression: &str) -> String {
        let path = format!("/v1/functions/{function}/triggers");
        let body = json!({ "cron_expression": expression }).to_string();
        let added = self.request("POST", &path).body(body).send().expect(201).json();
        added["trigger_id"].as_str().unwrap().to_owned()
    }

    pub fn triggers(&self, function: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/functions/{function}/triggers")).expect(200).json();
        answer["triggers"].as_array().unwrap().clone()
    }

    /// How often a reader ran for each slot.
    pub fn slots(&self, name: &str) -> BTreeMap<String, usize> {
        let log = self.logs(name, "?limit=1000");
        let mut slots = BTreeMap::new();
        for record in log["invocations"].as_array().unwrap() {
            let Some(text) = record["messages"][0]["message"].as_str() else { continue };
            let Ok(given) = serde_json::from_str::<Value>(text) else { continue };
            if let Some(at) = given["scheduled_at"].as_str() {
                assert_eq!(record["trigger_type"], "cron");
                *slots.entry(at.to_owned()).or_default() += 1;
            }
        }
        slots
    }

    fn change_trigger(&self, function: &str, id: &str, enabled: bool) -> Value {
        let path = format!("/v1/functions/{function}/triggers/{id}");
        let body = json!({ "enabled": enabled }).to_string();
        self.request("PATCH", &path).body(body).send().expect(200).json()
    }
}

#[test]
fn a_schedule_is_added_listed_run_paused_fired_and_deleted() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.reader("reader", &[]);
    let path = "/v1/functions/reader/triggers";
    let add = |body: Value| node.request("POST", path).body(body.to_string()).send();
    let yearly = json!({ "cron_expression": "0 9 1 1 *", "timezone": "Europe/Berlin" });
    let added = add(yearly.clone()).expect(201).json();
    assert_eq!(
        (&added["cron_expression"], &added["timezone"]),
        (&json!("0 9 1 1 *"), &json!("Europe/Berlin"))
    );
    assert_eq!(add(yearly).expect(200).json()["trigger_id"], added["trigger_id"]);
    let listed = &node.triggers("reader")[0];
    let next = listed["next_run_at"].as_str().unwrap();
    assert!(next.ends_with("-01-01T08:00:00.000Z"), "{listed}");
    assert_eq!((&listed["kind"], &listed["enabled"]), (&json!("cron"), &json!(true)));
    assert_eq!((&listed["last_run_at"], &listed["last_status"]), (&Value::Null, &Value::Null));
    for (body, words) in [
        (json!({ "cron_expression": "* * * *" }), "five fields"),
        (json!({ "cron_expression": "0 0 31 2 *" }), "never due"),
        (json!({ "cron_expression": "* * * * *", "timezone": "Mars/Base" }), "Mars/Base"),
        (json!({ "cron_expression": "* * * * *", "topic": "t" }), "two triggers"),
        (json!({ "topic": "t", "timezone": "UTC" }), "no timezone"),
        (json!({}), "needs a topic or a schedule"),
    ] {
        let said = add(body.clone()).refusal(400, "INVALID_TRIGGER");
        assert!(said.contains(words), "{body}: {said}");
    }

    let each = node.add_schedule("reader", "* * * * * *");
    eventually("it ran three times", || node.slots("reader").len() >= 3);
    assert!(node.slots("reader").values().all(|count| *count == 1), "{:?}", node.slots("reader"));
    let of = |id: &str| node.triggers("reader").into_iter().find(|trigger| trigger["id"] == id).unwrap();
    assert_eq!(of(&each)["last_status"], "success");
    let paused = node.change_trigger("reader", &each, false);
    assert_eq!((&paused["enabled"], &paused["next_run_at"]), (&json!(false), &Value::Null));
    sleep(Duration::from_millis(1500));
    let before = node.slots("reader").len();
    sleep(Duration::from_millis(2500));
    assert_eq!(node.slots("reader").len(), before, "a paused schedule ran");
    let fired = node.request("POST", &format!("{path}/{each}/fire")).send().expect(202).json();
    assert_eq!(fired["message_id"].as_str().unwrap().len(), 36);
    eventually("it ran once more", || node.slots("reader").len() == before + 1);
    node.change_trigger("reader", &each, true);
    eventually("it goes on", || node.slots("reader").len() > before + 1);
    node.delete(&format!("{path}/{each}")).expect(200);
    node.request("POST", &format!("{path}/{each}/fire")).send().refusal(404, "TRIGGER_NOT_FOUND");
}

#[test]
fn a_failing_schedule_is_retried_and_ends_as_a_dead_letter() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("fails", &guests::wat("exit_code"), &[("retry_count", "1"), ("retry_delay_seconds", "0")]);
    let id = node.add_schedule("fails", "0 0 1 1 *");
    node.request("POST", &format!("/v1/functions/fails/triggers/{id}/fire")).send().expect(202);
    let letters = || node.get("/v1/functions/fails/dead-letters").expect(200).json();
    eventually("it is a dead letter", || letters()["count"] == 1);
    assert_eq!(letters()["dead_letters"][0]["trigger_id"], id);
    assert_eq!(node.triggers("fails")[0]["last_status"], "error");
}

fn second(slot: &str) -> i64 {
    slot.parse::<Timestamp>().unwrap().as_second()
}

#[test]
fn slots_that_a_killed_node_missed_are_made_up_by_one_run() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.reader("reader", &[]);
    node.add_schedule("reader", "*/2 * * * * *");
    eventually("it ran", || !node.slots("reader").is_empty());
    node.kill();
    let killed = Timestamp::now().as_second();
    sleep(Duration::from_secs(9));
    let started = Timestamp::now().as_second();
    node.start_again();
    // Of a cluster, the killed node's lease has to end first.
    eventually("it goes on", || {
        node.slots("reader").keys().filter(|slot| second(slot) > started).count() >= 2
    });
    let missed =
        node.slots("reader").keys().filter(|slot| (killed + 1..=started).contains(&second(slot))).count();
    assert!(missed <= 1, "{:?}", node.slots("reader"));
}

#[test]
fn a_message_waits_for_its_time_through_a_kill() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.reader("reader", &[]);
    node.add_trigger("reader", "later");
    let publish = |body: Value| node.request("POST", "/v1/pubsub/publish").body(body.to_string()).send();
    let waits = publish(json!({ "topic": "later", "data": 2, "delay_ms": 4000 })).expect(202).json();
    assert!(waits["deliver_at"].as_str().unwrap().starts_with("20"), "{waits}");
    publish(json!({ "topic": "later", "data": 1, "deliver_at": "2020-01-01T00:00:00Z" })).expect(202);
    eventually("the one whose time has passed ran", || node.data("reader") == [1]);
    assert_eq!(node.metric("orama_events_later"), 1.0);
    node.kill();
    node.start_again();
    eventually("the other one ran", || node.data("reader") == [1, 2]);
    eventually("none is left", || node.metric("orama_events_later") == 0.0 && node.no_job_is_left());
    for (body, words) in [
        (json!({ "topic": "t", "data": 1, "delay_ms": 30_u64 * 86_400_000 + 1 }), "30 days"),
        (json!({ "topic": "t", "data": 1, "delay_ms": -1 }), "u64"),
        (json!({ "topic": "t", "data": 1, "deliver_at": "tomorrow" }), "RFC 3339"),
        (json!({ "topic": "t", "data": 1, "deliver_at": "2030-01-01T00:00:00Z", "delay_ms": 1 }), "both"),
    ] {
        let said = publish(body.clone()).refusal(400, "INVALID_BODY");
        assert!(said.contains(words), "{body}: {said}");
    }
    publish(json!({ "topic": "_orama/x", "data": 1 })).refusal(400, "INVALID_TOPIC");
}

#[test]
fn functions_publish_later_and_in_batches() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let Some(()) = node.calls("sender", &[]) else { return };
    node.reader("reader", &[]);
    node.add_trigger("reader", "t");
    let later = json!({ "do": "later", "topic": "t", "data": "late", "ms": 1500 });
    assert_eq!(node.ask("sender", &later)["accepted"], true);
    assert_eq!(node.ask("sender", &json!({ "do": "batch", "topic": "t", "n": 100 }))["accepted"], true);
    assert_eq!(node.ask("sender", &json!({ "do": "batch", "topic": "t", "n": 101 }))["accepted"], false);
    eventually("all ran", || node.data("reader").len() == 101);
    let mut expected: Vec<Value> = (0..100).map(Value::from).collect();
    expected.push(json!("late"));
    assert_eq!(node.data("reader"), expected);
}

/// Publishes numbers for tomorrow, but for a few of them that are due while the others wait.
fn publish_later(node: &Node, numbers: Vec<u64>) {
    let mut connection = node.connect();
    for some in numbers.chunks(50) {
        let requests = some.iter().map(|n| {
            let delay_ms = if n % 1000 == 0 { 20_000 } else { 86_400_000 };
            let body = json!({ "topic": "mine", "data": n, "delay_ms": delay_ms }).to_string();
            node.request("POST", "/v1/pubsub/publish").body(body).bytes()
        });
        connection.write(requests.collect::<Vec<_>>().concat());
        for _ in some {
            connection.answer().expect(202);
        }
    }
}

#[test]
fn a_hundred_thousand_messages_wait_and_all_are_delivered_after_a_kill() {
    // On servers a tenth of it, which takes as long.
    const ALL: u64 = if crate::ON_SERVERS { 10_000 } else { 100_000 };
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.reader("reader", &[]);
    node.add_trigger("reader", "mine");
    std::thread::scope(|scope| {
        for part in 0..8 {
            let mine = (0..ALL).filter(move |n| n % 8 == part).collect::<Vec<_>>();
            scope.spawn(|| publish_later(&node, mine));
        }
    });
    node.kill();
    node.start_again();
    let due = ALL / 1000;
    eventually("those that are due ran", || node.data("reader").len() as u64 == due);
    let mut given: Vec<_> = node.data("reader").iter().filter_map(Value::as_u64).collect();
    given.sort_unstable();
    assert_eq!(given, (0..due).map(|n| n * 1000).collect::<Vec<_>>());
    assert_eq!(node.metric("orama_events_later"), (ALL - due) as f64);
}

#[test]
fn a_deploy_brings_the_triggers_of_its_file_and_leaves_those_made_by_hand() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    shell.run(0, &["function", "init", "job"]);
    let dir = shell.dir.join("job");
    fs::remove_file(dir.join("function.go")).unwrap();
    fs::remove_file(dir.join("go.mod")).unwrap();
    fs::write(dir.join("function.wasm"), guests::wat("log_input")).unwrap();
    let deploy = |triggers: &str| {
        fs::write(dir.join("function.yaml"), format!("name: job\n{triggers}")).unwrap();
        shell.run(0, &["function", "deploy", "job"]);
        let mut on: Vec<_> = node
            .triggers("job")
            .iter()
            .map(|trigger| {
                trigger["topic"].as_str().or(trigger["cron_expression"].as_str()).unwrap().to_owned()
            })
            .collect();
        on.sort();
        on
    };
    let first =
        "triggers:\n  - topic: \"calls:*\"\n  - schedule: \"0 9 * * *\"\n    timezone: Europe/Berlin\n";
    assert_eq!(deploy(first), ["0 9 * * *", "calls:*"]);
    let id = |node: &Node| {
        let all = node.triggers("job");
        all.iter().find(|trigger| trigger["topic"] == "calls:*").unwrap()["id"].clone()
    };
    let kept = id(&node);
    node.add_trigger("job", "by:hand");
    let second = "triggers:\n  - topic: \"calls:*\"\n  - schedule: \"*/5 * * * *\"\n";
    assert_eq!(deploy(second), ["*/5 * * * *", "by:hand", "calls:*"]);
    assert_eq!(id(&node), kept, "one that stays keeps its id");
    // Over HTTP, a deploy that says nothing of triggers leaves them.
    node.deploy("job", &guests::wat("log_input"), &[]);
    assert_eq!(node.triggers("job").len(), 3);
    let metadata = json!({ "triggers": [{ "topic": "x" }, { "schedule": "* * * *" }] }).to_string();
    let said = node.try_deploy("job", &guests::wat("log_input"), &[("metadata", &metadata)]);
    let said = said.refusal(422, "INVALID_CONFIG");
    assert!(said.contains("triggers[1]") && said.contains("five fields"), "{said}");
    node.publish("calls:invite", 7).expect(202);
    eventually("the pattern fired", || node.data("job") == [7]);
    assert_eq!(deploy(""), ["by:hand"]);
}

#[test]
fn the_command_line_adds_lists_pauses_and_fires() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    node.reader("job", &[]);
    let triggers = |rest: &[&str]| shell.run(0, &[&["function", "triggers"][..], rest].concat()).0;
    let added = triggers(&["add", "job", "--schedule", "0 9 * * MON", "--timezone", "Europe/Berlin"]);
    assert!(added.contains("job runs by the schedule 0 9 * * MON Europe/Berlin"), "{added}");
    let id = node.triggers("job")[0]["id"].as_str().unwrap().to_owned();
    let listed = triggers(&["list", "job"]);
    // Of winter or of summer.
    let is_next = listed.contains("T08:00:00.000Z") || listed.contains("T07:00:00.000Z");
    assert!(listed.contains("NEXT RUN") && is_next, "{listed}");
    assert_eq!(triggers(&["pause", "job", &id]), format!("paused trigger {id}\n"));
    assert!(triggers(&["list", "job"]).contains("no"));
    assert!(triggers(&["fire", "job", &id]).starts_with(&format!("fired trigger {id}")));
    eventually("it ran", || node.slots("job").len() == 1);
    assert_eq!(triggers(&["resume", "job", &id]), format!("resumed trigger {id}\n"));
    triggers(&["add", "job", "--topic", "calls:**"]);
    let pattern = node.triggers("job").into_iter().find(|trigger| trigger["kind"] == "pubsub").unwrap();
    let pattern = pattern["id"].as_str().unwrap();
    let refused = shell.code(1, &["function", "triggers", "fire", "job", pattern]);
    assert_eq!(refused, "INVALID_TOPIC");
    triggers(&["fire", "job", pattern, "--topic", "calls:a:b", "--data", "{\"n\": 1}"]);
    eventually("it was given the message", || node.data("job").contains(&json!({ "n": 1 })));
    shell.run(2, &["function", "triggers", "add", "job"]);
    shell.run(2, &["function", "triggers", "add", "job", "--topic", "t", "--schedule", "* * * * *"]);
    let (said, _) = shell.run(0, &["pubsub", "publish", "calls:x", "5", "--delay", "1s"]);
    assert!(said.contains("waits until"), "{said}");
    eventually("its time came", || node.data("job").contains(&json!(5)));
    shell.run(2, &["pubsub", "publish", "calls:x", "5", "--delay", "soon"]);
}
