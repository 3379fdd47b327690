//! The logs of all functions of a namespace: in order, filtered, in pages, and followed without a gap.

use crate::cli_services::Follower;
use crate::harness::{Node, Options, eventually};
use crate::shell::Shell;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

fn invoke(node: &Node, name: &str, input: &str) -> String {
    // So that each starts in a millisecond of its own.
    std::thread::sleep(Duration::from_millis(2));
    node.invoke(name, input).header("x-request-id").unwrap().to_owned()
}

fn logs(node: &Node, query: &str) -> Value {
    node.get(&format!("/v1/logs?{query}")).expect(200).json()
}

fn ids(logs: &Value) -> Vec<String> {
    let of = |invocation: &Value| invocation["request_id"].as_str().unwrap().to_owned();
    logs["invocations"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_namespaces_logs_are_filtered_and_come_in_pages() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    for name in ["first", "second", "third"] {
        node.deploy(name, &guests::wat("log_input"), &[]);
    }
    let sent = [
        ("first", "Card ACCEPTED"),
        ("second", "card declined!"),
        ("first", "refund"),
        ("third", "ping"),
        ("second", "Card accepted"),
    ];
    let sent = sent.map(|(name, input)| (name, input, invoke(&node, name, input)));
    let newest = |names: &[usize]| -> Vec<String> { names.iter().map(|n| sent[*n].2.clone()).collect() };
    let all = logs(&node, "");
    assert_eq!(ids(&all), newest(&[4, 3, 2, 1, 0]));
    let names: Vec<_> = all["invocations"].as_array().unwrap().iter().map(|i| &i["function"]).collect();
    assert_eq!(names, ["second", "third", "first", "second", "first"]);
    let line = &all["logs"][0];
    assert_eq!((&line["function"], &line["version"]), (&json!("second"), &json!(1)));
    assert_eq!((&line["message"], &line["request_id"]), (&json!("Card accepted"), &json!(sent[4].2)));

    for (query, found) in [
        ("function=first", vec![2, 0]),
        ("function=first,third", vec![3, 2, 0]),
        ("function=absent", vec![]),
        ("text=card%20acc", vec![4, 0]),
        ("text=declined&level=info", vec![1]),
        ("text=ping&function=first", vec![]),
        ("status=error", vec![1]),
        ("status=success&function=second", vec![4]),
        ("since=1h", vec![4, 3, 2, 1, 0]),
        ("since=2999-01-01T00:00:00Z", vec![]),
        ("limit=2", vec![4, 3]),
    ] {
        assert_eq!(ids(&logs(&node, query)), newest(&found), "{query}");
    }
    assert_eq!(ids(&logs(&node, &format!("request_id={}", sent[2].2))), newest(&[2]));
    // Only what was asked for of an invocation.
    let only = logs(&node, "text=declined");
    assert_eq!(only["logs"].as_array().unwrap().len(), 1, "{only}");
    let failed = logs(&node, "level=error");
    assert_eq!(ids(&failed), newest(&[1]), "{failed}");

    let (mut after, mut paged) = (String::new(), Vec::new());
    for _ in 0..10 {
        let page = logs(&node, &format!("limit=2{after}"));
        paged.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, newest(&[4, 3, 2, 1, 0]));
    for bad in
        ["level=warn", "status=x", "after=1", "cursor=x", "limit=0", "since=x", "function=1x", "colour=red"]
    {
        assert_eq!(node.get(&format!("/v1/logs?{bad}")).status, 400, "{bad}");
    }

    // Each sees its own.
    let key = json!({ "role": "deploy", "functions": ["third"] }).to_string();
    let made = node.request("POST", "/v1/keys").body(key).send().expect(201).json();
    let narrow = |query: &str| {
        node.request_as(made["api_key"].as_str().unwrap(), "GET", &format!("/v1/logs{query}")).send()
    };
    assert_eq!(ids(&narrow("").expect(200).json()), newest(&[3]));
    narrow("?function=first").refusal(403, "FORBIDDEN");
    let other = json!({ "name": "other" }).to_string();
    node.request("POST", "/v1/namespaces").body(other).send().expect(201);
    assert_eq!(logs(&node, "namespace=other")["count"], 0);
    let cursor = logs(&node, "")["cursor"].as_str().unwrap().to_owned();
    invoke(&node, "first", "mine");
    assert_eq!(logs(&node, &format!("namespace=other&cursor={cursor}"))["count"], 0);
    assert_eq!(logs(&node, &format!("cursor={cursor}"))["count"], 1);
}

#[test]
fn following_misses_nothing_and_repeats_nothing() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let names = ["one", "two", "three"];
    for name in names {
        node.deploy(name, &guests::wat("log_input"), &[]);
    }
    invoke(&node, "one", "before");
    let mut cursor = logs(&node, "")["cursor"].as_str().unwrap().to_owned();
    let (mut sent, mut came) = (BTreeSet::new(), Vec::new());
    for round in 0..20 {
        for n in 0..50 {
            sent.insert(
                node.invoke(names[n % 3], format!("{round} {n}")).header("x-request-id").unwrap().to_owned(),
            );
        }
        let page = logs(&node, &format!("cursor={cursor}"));
        came.extend(ids(&page));
        cursor = page["cursor"].as_str().unwrap().to_owned();
    }
    came.extend(ids(&logs(&node, &format!("cursor={cursor}"))));
    assert_eq!(came.len(), sent.len(), "each comes once");
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), sent);
}

#[test]
fn the_command_prints_lines_in_order_and_follows_across_a_restart() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let shell = Shell::of(&node);
    for name in ["left", "right"] {
        node.deploy(name, &guests::wat("log_input"), &[]);
    }
    let ids: Vec<_> = ["left", "right", "left"].map(|name| invoke(&node, name, "begin")).into();
    let (shown, _) = shell.run(0, &["logs"]);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 6, "{shown}");
    for (n, line) in lines.iter().enumerate() {
        let name = ["left@1", "left@1", "right@1", "right@1", "left@1", "left@1"][n];
        assert!(line.contains(name) && line.contains(&ids[n / 2]), "{n}: {shown}");
        assert!(line.contains(if n % 2 == 0 { "info     begin" } else { "success  after" }), "{n}: {shown}");
    }
    assert!(lines.is_sorted(), "they begin with their time: {shown}");

    let people = Follower::of(shell.command(&["logs", "--follow", "--limit", "1"]));
    people.printed(2);
    let programs =
        Follower::of(shell.command(&["logs", "-f", "--json", "--text", "PAID", "--function", "left"]));
    std::thread::sleep(Duration::from_secs(2));
    invoke(&node, "right", "paid elsewhere");
    let paid = invoke(&node, "left", "was paid");
    people.printed(6);
    node.restart();
    let failed = invoke(&node, "right", "lost!");
    let last = invoke(&node, "left", "paid again");
    let is_there = |shown: &[String], id: &str, word: &str| {
        shown.iter().any(|line| line.contains(id) && line.contains(word))
    };
    eventually("both are shown", || {
        let shown = people.printed(10);
        is_there(&shown, &failed, "  error  ") && is_there(&shown, &last, "  success  ")
    });
    let shown = people.printed(10);
    assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), shown.len(), "each once: {shown:?}");
    let objects: Vec<Value> =
        programs.printed(2).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (object, (id, message)) in objects.iter().zip([(&paid, "was paid"), (&last, "paid again")]) {
        assert_eq!(
            (&object["request_id"], &object["message"], &object["function"], &object["level"]),
            (&json!(id), &json!(message), &json!("left"), &json!("info"))
        );
    }
    [people, programs].into_iter().for_each(Follower::interrupt);
}
