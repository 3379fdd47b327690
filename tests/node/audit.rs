//! The audit trail: each change leaves one record with it, a refused one too, and a stranger cannot fill it.

use crate::harness::{Node, Options, eventually};
use crate::http::{Answer, Request};
use crate::shell::Shell;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::time::Duration;

/// Requests that change something of the control plane.
pub const CHANGES: [(&str, &str); 19] = [
    ("POST", "/v1/functions"),
    ("PATCH", "/v1/functions/{name}"),
    ("DELETE", "/v1/functions/{name}"),
    ("PUT", "/v1/functions/{name}/aliases/{alias}"),
    ("DELETE", "/v1/functions/{name}/aliases/{alias}"),
    ("PUT", "/v1/functions/{name}/traffic"),
    ("DELETE", "/v1/functions/{name}/traffic"),
    ("POST", "/v1/functions/{name}/triggers"),
    ("PATCH", "/v1/functions/{name}/triggers/{id}"),
    ("DELETE", "/v1/functions/{name}/triggers/{id}"),
    ("PUT", "/v1/functions/secrets"),
    ("DELETE", "/v1/functions/secrets/{name}"),
    ("POST", "/v1/secrets/rotate-key"),
    ("POST", "/v1/namespaces"),
    ("DELETE", "/v1/namespaces/{name}"),
    ("PUT", "/v1/namespaces/{name}/quotas"),
    ("PUT", "/v1/namespaces/{name}/rates"),
    ("POST", "/v1/keys"),
    ("DELETE", "/v1/keys/{id}"),
];

/// Requests about data, which leave no record.
pub const DATA: [(&str, &str); 9] = [
    ("POST", "/v1/functions/{name}/invoke"),
    ("POST", "/v1/invoke/{namespace}/{name}"),
    ("POST", "/v1/functions/{name}/triggers/{id}/fire"),
    ("POST", "/v1/functions/{name}/dead-letters/replay"),
    ("POST", "/v1/functions/{name}/dead-letters/{id}/replay"),
    ("DELETE", "/v1/functions/{name}/dead-letters/{id}"),
    ("POST", "/v1/db/query"),
    ("POST", "/v1/db/migrations"),
    ("POST", "/v1/pubsub/publish"),
];

const SECRET: &str = "a-value-that-nobody-may-see";

fn trail(node: &Node, query: &str) -> Vec<Value> {
    let found = node.get(&format!("/v1/audit?limit=1000{query}")).expect(200).json();
    found["records"].as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Sends a change; it must leave one record more, at once.
#[track_caller]
fn does(node: &Node, request: Request, action: &str, target: &str) -> Answer {
    let before = trail(node, "").len();
    let answer = request.send();
    assert!((200..300).contains(&answer.status), "{action}: {} {}", answer.status, answer.text());
    let after = trail(node, "");
    assert_eq!(after.len(), before + 1, "{action}: {after:?}");
    let record = &after[0];
    assert_eq!((text(&record["action"]), text(&record["outcome"])), (action.to_owned(), "ok".to_owned()));
    assert!(text(&record["target"]).contains(target), "{action}: {record}");
    assert_eq!((&record["address"], &record["count"]), (&json!("127.0.0.1"), &json!(1)), "{record}");
    assert!(!text(&record["key_id"]).is_empty() && record["subject"].is_null(), "{record}");
    answer
}

fn body(node: &Node, method: &str, path: &str, body: &Value) -> Request {
    node.request(method, path).body(body.to_string())
}

#[test]
fn every_change_leaves_one_record_and_none_holds_a_secret() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let wasm = guests::wat("log_input");
    for version in 1..=2 {
        does(&node, node.deploy_request("f", &wasm, &[]), "deploy", &format!("f@{version}"));
    }
    let send = |method, path: &str, value: Value| body(&node, method, path, &value);
    does(&node, send("PATCH", "/v1/functions/f", json!({ "timeout_seconds": 9 })), "update", "f@3");
    does(&node, send("PATCH", "/v1/functions/f", json!({ "enabled": false })), "disable", "f");
    does(&node, send("PATCH", "/v1/functions/f", json!({ "enabled": true })), "enable", "f");
    // Even where nothing is other than before.
    does(&node, send("PATCH", "/v1/functions/f", json!({ "enabled": true })), "enable", "f");
    let alias = "/v1/functions/f/aliases/live";
    does(&node, send("PUT", alias, json!({ "version": 2 })), "alias.set", "f@live = 2");
    does(&node, node.request("DELETE", alias), "alias.delete", "f@live");
    let traffic = "/v1/functions/f/traffic";
    does(&node, send("PUT", traffic, json!({ "weights": { "1": 9, "2": 1 } })), "traffic.set", "f 1=9 2=1");
    for _ in 0..2 {
        does(&node, node.request("DELETE", traffic), "traffic.end", "f");
    }
    let triggers = "/v1/functions/f/triggers";
    let add = || send("POST", triggers, json!({ "topic": "orders" }));
    let id = text(&does(&node, add(), "trigger.add", "f orders").json()["trigger_id"]);
    does(&node, add(), "trigger.add", "f orders");
    let schedule = json!({ "cron_expression": "0 0 1 1 *" });
    does(&node, send("POST", triggers, schedule), "trigger.add", "f 0 0 1 1 * UTC");
    let trigger = format!("{triggers}/{id}");
    does(&node, send("PATCH", &trigger, json!({ "enabled": false })), "trigger.pause", &id);
    does(&node, node.request("DELETE", &trigger), "trigger.delete", &id);
    let secret = json!({ "name": "TOKEN", "value": SECRET });
    does(&node, send("PUT", "/v1/functions/secrets", secret), "secret.set", "TOKEN");
    does(&node, node.request("POST", "/v1/secrets/rotate-key"), "master-key.rotate", "");
    assert_eq!(trail(&node, "")[0]["namespace"], Value::Null, "it is the operator's");
    does(&node, node.request("DELETE", "/v1/functions/secrets/TOKEN"), "secret.delete", "TOKEN");
    does(&node, send("POST", "/v1/namespaces", json!({ "name": "shop" })), "namespace.create", "shop");
    let quotas = json!({ "functions": 5 });
    does(&node, send("PUT", "/v1/namespaces/shop/quotas", quotas), "quotas.set", "functions=5");
    let rates = json!({ "deploys_per_namespace": "5/h" });
    does(&node, send("PUT", "/v1/namespaces/shop/rates", rates), "rates.set", "deploys_per_namespace=5/h");
    let key = json!({ "namespace": "shop", "role": "admin" });
    let made = does(&node, send("POST", "/v1/keys", key), "key.create", "admin").json();
    assert_eq!(trail(&node, "")[0]["namespace"], "shop");
    does(
        &node,
        node.request("DELETE", &format!("/v1/keys/{}", text(&made["id"]))),
        "key.delete",
        &text(&made["id"]),
    );
    does(&node, node.request("DELETE", "/v1/functions/f@1"), "delete", "f@1");
    does(&node, node.request("DELETE", "/v1/functions/f"), "delete", "f");
    does(&node, node.request("DELETE", "/v1/namespaces/shop"), "namespace.delete", "shop");

    // What is about data leaves none.
    let before = trail(&node, "").len();
    body(&node, "POST", "/v1/pubsub/publish", &json!({ "topic": "t", "data": 1 })).send().expect(202);
    assert_eq!(trail(&node, "").len(), before);

    let (all, log) = (format!("{:?}", trail(&node, "")), node.stderr());
    for hidden in [SECRET, &text(&made["api_key"]), &node.key()] {
        assert!(!all.contains(hidden) && !log.contains(hidden), "{hidden} is told");
    }
    for told in ["deploy", "alias.set", "namespace.delete"] {
        eventually("the node's log tells it", || node.stderr().contains(told));
    }
}

/// Of eight records: two of aliases, three of new keys.
#[track_caller]
fn comes_in_pages_and_filtered(node: &Node, admin: &str, records: &Value) {
    // Pages, newest first, without a gap.
    let (mut after, mut ids) = (String::new(), Vec::new());
    loop {
        let page =
            node.request_as(admin, "GET", &format!("/v1/audit?limit=3{after}")).send().expect(200).json();
        ids.extend(page["records"].as_array().unwrap().iter().map(|record| text(&record["id"])));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(
        ids,
        records["records"].as_array().unwrap().iter().map(|r| text(&r["id"])).collect::<Vec<_>>()
    );
    for (query, count) in
        [("action=alias", 2), ("action=key.create", 3), ("action=al", 0), ("since=1h", 8), ("until=1h", 0)]
    {
        let found = node.request_as(admin, "GET", &format!("/v1/audit?{query}")).send().expect(200).json();
        assert_eq!(found["count"], count, "{query}");
    }
}

#[test]
fn a_refused_change_leaves_its_code_and_each_namespace_has_its_own_trail() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("f", &guests::wat("echo"), &[]);
    let namespace = json!({ "name": "other" }).to_string();
    node.request("POST", "/v1/namespaces").body(&namespace).send().expect(201);
    let key = |role: &str| {
        let new = json!({ "namespace": "other", "role": role }).to_string();
        text(&node.request("POST", "/v1/keys").body(new).send().expect(201).json()["api_key"])
    };
    let (admin, deploy, invoke) = (key("admin"), key("deploy"), key("invoke"));
    let version = json!({ "version": 7 }).to_string();
    let path = "/v1/functions/f/aliases/canary";
    node.request("PUT", path).body(&version).send().refusal(404, "FUNCTION_NOT_FOUND");
    // Whoever is refused finds it in its own trail, not in that of whom it was about.
    let foreign = format!("{path}?namespace=default");
    node.request_as(&admin, "PUT", &foreign).body(&version).send().refusal(403, "FORBIDDEN");
    node.request_as(&invoke, "PUT", path).body(&version).send().refusal(403, "FORBIDDEN");
    node.request_as(&invoke, "DELETE", "/v1/functions/f").send().refusal(403, "FORBIDDEN");
    node.request_as(&deploy, "DELETE", "/v1/functions/f").send().refusal(404, "FUNCTION_NOT_FOUND");
    let own = |key: &str| node.request_as(key, "GET", "/v1/audit").send();
    let outcomes = |records: &Value| -> Vec<String> {
        let of = |r: &Value| format!("{} {}", text(&r["action"]), text(&r["outcome"]));
        records["records"].as_array().unwrap().iter().map(of).collect()
    };
    eventually("the refusals are recorded", || own(&admin).expect(200).json()["count"] == 8);
    let records = own(&admin).expect(200).json();
    assert_eq!(
        outcomes(&records),
        [
            "delete FUNCTION_NOT_FOUND",
            "delete FORBIDDEN",
            "alias.set FORBIDDEN",
            "alias.set FORBIDDEN",
            "key.create ok",
            "key.create ok",
            "key.create ok",
            "namespace.create ok",
        ]
    );
    let of_default = node.get("/v1/audit?namespace=default").expect(200).json();
    assert_eq!(outcomes(&of_default), ["alias.set FUNCTION_NOT_FOUND", "deploy ok"]);
    assert_eq!(of_default["records"][0]["target"], "f@canary = 7");

    comes_in_pages_and_filtered(&node, &admin, &records);

    own(&deploy).refusal(403, "FORBIDDEN");
    own(&invoke).refusal(403, "FORBIDDEN");
    node.request_as(&admin, "GET", "/v1/audit?namespace=default").send().refusal(403, "FORBIDDEN");
    node.get("/v1/audit?after=x").refusal(400, "INVALID_QUERY");
    node.get("/v1/audit?since=x").refusal(400, "INVALID_QUERY");

    // Another namespace of the same name finds nothing of this one, and operators find both.
    node.delete("/v1/namespaces/other").expect(200);
    node.request("POST", "/v1/namespaces").body(&namespace).send().expect(201);
    let admin = key("admin");
    assert_eq!(outcomes(&own(&admin).expect(200).json()), ["key.create ok", "namespace.create ok"]);
    assert_eq!(trail(&node, "&namespace=other").len(), 11);

    let shell = Shell::of(&node);
    let listed = shell.json(&["audit", "--action", "deploy", "--since", "1h"]);
    assert_eq!((&listed["count"], &listed["records"][0]["target"]), (&json!(1), &json!("f@1")));
    let (table, _) = shell.run(0, &["audit", "--limit", "2", "--namespace", "other"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("AT") && lines[1].contains("key.create"), "{table}");
}

#[test]
fn a_record_survives_what_follows_its_answer() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("f", &guests::wat("echo"), &[]);
    for n in 0..10 {
        let alias = format!("/v1/functions/f/aliases/a{n}");
        body(&node, "PUT", &alias, &json!({ "version": 1 })).send().expect(200);
        node.kill();
        node.start_again();
        assert_eq!(text(&trail(&node, "&action=alias")[0]["target"]), format!("f@a{n} = 1"));
    }
    assert_eq!(trail(&node, "&action=alias").len(), 10);
}

#[test]
fn bad_credentials_are_counted_and_fill_nothing() {
    let options = Options { config: "trusted_proxies = [\"127.0.0.1\"]\n".to_owned(), ..Options::default() };
    let Ok(node) = Node::try_start(options) else { return };
    node.deploy("f", &guests::wat("echo"), &[]);
    let wrong = |n: usize| format!("orama_{n:043}");
    let try_from = |n: usize, address: &str| {
        let request = node.request_as(&wrong(n), "POST", "/v1/functions/f/invoke").body("1");
        request.header("x-forwarded-for", address).send().status
    };
    let refused = (0..50).filter(|n| try_from(*n, "192.0.2.7") == 401).count();
    assert!(refused > 4, "{refused}");
    eventually("it is recorded", || trail(&node, "&action=login").len() == 1);
    // From more addresses than are told apart.
    for n in 0..600 {
        assert_eq!(try_from(1000 + n, &format!("198.51.{}.{}", n / 200, n % 200)), 401);
    }
    std::thread::sleep(Duration::from_secs(1));
    node.restart();
    let logins = trail(&node, "&action=login");
    assert!(logins.len() <= 257, "{}", logins.len());
    let counted: u64 = logins.iter().map(|record| record["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, refused as u64 + 600);
    let first = logins.iter().find(|record| record["address"] == "192.0.2.7").unwrap();
    assert_eq!((&first["count"], &first["outcome"]), (&json!(refused), &json!("UNAUTHORIZED")), "{first}");
    assert!(first["namespace"].is_null() && first["key_id"].is_null(), "{first}");
    assert_eq!(trail(&node, "&action=deploy").len(), 1, "what was done is still told");
    // Admins see none of it.
    assert!(trail(&node, "&namespace=default&action=login").is_empty());
}
