//! Namespaces and keys: who may make and delete them, and what is left of them afterwards.

use crate::harness::{Node, Options, Shared, eventually};
use crate::http::{Answer, Connection, Request};
use crate::speakers::slow_speaker;
use orama_test_support::guests;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A namespace of a shared node, for one test.
fn new_namespace(node: &Node) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("keys-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    make_namespace(node, &name).expect(201);
    name
}

fn make_namespace(node: &Node, name: &str) -> Answer {
    node.request("POST", "/v1/namespaces").body(json!({ "name": name }).to_string()).send()
}

fn make_key(request: Request, namespace: &str, role: &str) -> Answer {
    request.body(json!({ "namespace": namespace, "role": role }).to_string()).send()
}

/// The id and the text of a new key.
#[track_caller]
fn new_key(node: &Node, namespace: &str, role: &str) -> (String, String) {
    let made = make_key(node.request("POST", "/v1/keys"), namespace, role).expect(201).json();
    (made["id"].as_str().unwrap().to_owned(), made["api_key"].as_str().unwrap().to_owned())
}

#[track_caller]
fn deploy_as(node: &Node, key: &str, name: &str, wasm: &[u8]) {
    let parts: [(&str, &[u8]); 2] = [("name", name.as_bytes()), ("wasm", wasm)];
    node.request_as(key, "POST", "/v1/functions").form(&parts).send().expect(201);
}

#[track_caller]
fn invoke_bytes(node: &Node, key: &str, name: &str, body: &str) -> Vec<u8> {
    node.request_as(key, "POST", &format!("/v1/functions/{name}/invoke")).body(body).bytes()
}

#[test]
fn a_key_is_shown_once_and_does_what_its_role_says() {
    let Ok(node) = Shared::node() else { return };
    let namespace = new_namespace(&node);
    let made = make_key(node.request("POST", "/v1/keys"), &namespace, "deploy").expect(201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    let mut fields: Vec<&String> = made.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["api_key", "id", "namespace", "role"], "{made}");
    assert_eq!((&made["namespace"], &made["role"]), (&namespace.as_str().into(), &"deploy".into()));
    let deploy = made["api_key"].as_str().unwrap();
    let (_, invoke) = new_key(&node, &namespace, "invoke");
    let (_, admin) = new_key(&node, &namespace, "admin");

    deploy_as(&node, deploy, "echo", &guests::wat("echo"));
    let run = |key: &str| node.request_as(key, "POST", "/v1/functions/echo/invoke").body("[1]").send();
    for key in [deploy, &invoke, &admin] {
        assert_eq!(run(key).expect(200).text(), "[1]");
    }
    node.request_as(&invoke, "GET", "/v1/functions").send().refusal(403, "FORBIDDEN");
    node.request_as(&invoke, "DELETE", "/v1/functions/echo").send().refusal(403, "FORBIDDEN");
    // Keys are the admin's, namespaces the operator's.
    for key in [deploy, &invoke] {
        node.request_as(key, "GET", "/v1/keys").send().refusal(403, "FORBIDDEN");
        make_key(node.request_as(key, "POST", "/v1/keys"), &namespace, "invoke").refusal(403, "FORBIDDEN");
        node.request_as(key, "DELETE", "/v1/keys/x").send().refusal(403, "FORBIDDEN");
    }
    for key in [deploy, &invoke, &admin] {
        node.request_as(key, "GET", "/v1/namespaces").send().refusal(403, "FORBIDDEN");
        let new = node.request_as(key, "POST", "/v1/namespaces").body("{\"name\":\"mine\"}");
        new.send().refusal(403, "FORBIDDEN");
        let path = format!("/v1/namespaces/{namespace}");
        node.request_as(key, "DELETE", &path).send().refusal(403, "FORBIDDEN");
    }
    let listed = node.request_as(&admin, "GET", "/v1/keys").send().expect(200);
    for key in [deploy, &invoke, &admin] {
        assert!(!listed.text().contains(key), "a key is shown once");
    }
    let listed = listed.json();
    assert_eq!(listed["count"], 3, "{listed}");
    let keys = listed["keys"].as_array().unwrap();
    let roles: Vec<&Value> = keys.iter().map(|key| &key["role"]).collect();
    assert_eq!(roles, ["deploy", "invoke", "admin"]);
    let current: Vec<bool> = keys.iter().map(|key| key.get("current") == Some(&true.into())).collect();
    assert_eq!(current, [false, false, true]);
    assert!(keys.iter().all(|key| key["namespace"] == namespace && key["created_at"].is_string()));
}

#[test]
fn keys_belong_to_their_namespace() {
    let Ok(node) = Shared::node() else { return };
    let (mine, other) = (new_namespace(&node), new_namespace(&node));
    let (_, admin) = new_key(&node, &mine, "admin");
    let (id, neighbour) = new_key(&node, &other, "invoke");
    let keys = |key: &str, path: &str| node.request_as(key, "GET", path).send();
    keys(&admin, &format!("/v1/keys?namespace={other}")).refusal(403, "FORBIDDEN");
    make_key(node.request_as(&admin, "POST", "/v1/keys"), &other, "invoke").refusal(403, "FORBIDDEN");
    node.request_as(&admin, "DELETE", &format!("/v1/keys/{id}")).send().refusal(404, "KEY_NOT_FOUND");
    let elsewhere = format!("/v1/keys/{id}?namespace={other}");
    node.request_as(&admin, "DELETE", &elsewhere).send().refusal(403, "FORBIDDEN");
    assert_eq!(node.request_as(&neighbour, "GET", "/v1/functions").send().status, 403, "it still works");
    // Without a namespace in the body it is the key's own, or the query's.
    let own = node.request_as(&admin, "POST", "/v1/keys").body("{\"role\":\"invoke\"}").send().expect(201);
    assert_eq!(own.json()["namespace"], mine);
    let path = format!("/v1/keys?namespace={other}");
    let there = node.request("POST", &path).body("{\"role\":\"invoke\"}").send().expect(201);
    assert_eq!(there.json()["namespace"], other);
    assert_eq!(node.get(&path).expect(200).json()["count"], 2);
    make_key(node.request("POST", &path), &mine, "invoke").refusal(400, "INVALID_BODY");
    // An operator deletes any key, and only there where it names a namespace.
    node.delete(&format!("/v1/keys/{id}?namespace={mine}")).refusal(404, "KEY_NOT_FOUND");
    let deleted = node.delete(&format!("/v1/keys/{id}")).expect(200).json();
    assert_eq!(deleted["id"], id);
    node.delete(&format!("/v1/keys/{id}")).refusal(404, "KEY_NOT_FOUND");
    make_key(node.request("POST", "/v1/keys"), "nobody", "admin").refusal(404, "NAMESPACE_NOT_FOUND");
}

#[test]
fn an_operators_key_is_safe_from_others_and_from_itself() {
    let Ok(node) = Shared::node() else { return };
    let (_, admin) = new_key(&node, "default", "admin");
    let listed = node.request_as(&admin, "GET", "/v1/keys").send().expect(200).json();
    let operator = listed["keys"].as_array().unwrap().iter().find(|key| key["role"] == "operator").unwrap();
    let path = format!("/v1/keys/{}", operator["id"].as_str().unwrap());
    node.request_as(&admin, "DELETE", &path).send().refusal(403, "FORBIDDEN");
    node.delete(&path).refusal(409, "KEY_IN_USE");
    node.get("/v1/namespaces").expect(200);
    node.delete("/v1/namespaces/default").refusal(409, "NAMESPACE_IN_USE");
    for role in ["operator", "Admin", "root", ""] {
        make_key(node.request("POST", "/v1/keys"), "default", role).refusal(400, "INVALID_ROLE");
    }
}

#[test]
fn a_deleted_key_is_refused_by_the_next_request_on_every_core_and_kept_connection() {
    let Ok(node) = Node::try_start(Options { workers: 4, ..Options::default() }) else { return };
    make_namespace(&node, "shop").expect(201);
    let (_, deploy) = new_key(&node, "shop", "deploy");
    deploy_as(&node, &deploy, "echo", &guests::wat("echo"));
    let (mut id, mut key) = new_key(&node, "shop", "invoke");
    // Enough connections that every core has some; each core knows the key before it goes.
    let mut connections: Vec<Connection> = (0..40).map(|_| node.connect()).collect();
    for round in 0..5 {
        for connection in &mut connections {
            connection.write(invoke_bytes(&node, &key, "echo", "[1]"));
        }
        for connection in &mut connections {
            connection.answer().expect(200);
        }
        node.delete(&format!("/v1/keys/{id}")).expect(200);
        for connection in &mut connections {
            connection.write(invoke_bytes(&node, &key, "echo", ""));
            connection.write(node.request_as(&key, "GET", "/v1/functions").bytes());
        }
        for connection in &mut connections {
            connection.answer().refusal(401, "UNAUTHORIZED");
            connection.answer().refusal(401, "UNAUTHORIZED");
        }
        if round == 2 {
            node.restart();
            connections = (0..40).map(|_| node.connect()).collect();
            connections[0].write(invoke_bytes(&node, &key, "echo", ""));
            connections[0].answer().refusal(401, "UNAUTHORIZED");
        }
        (id, key) = new_key(&node, "shop", "invoke");
    }
}

#[test]
fn what_is_malformed_is_told_and_a_key_never_repeated() {
    let Ok(node) = Shared::node() else { return };
    for (path, body, code) in [
        ("/v1/namespaces", "", "INVALID_BODY"),
        ("/v1/namespaces", "{", "INVALID_BODY"),
        ("/v1/namespaces", "{\"name\":1}", "INVALID_BODY"),
        ("/v1/namespaces", "{\"name\":\"x\",\"nmae\":1}", "INVALID_BODY"),
        ("/v1/namespaces", "{\"name\":\"9lives\"}", "INVALID_NAME"),
        ("/v1/namespaces", "{\"name\":\"a/b\"}", "INVALID_NAME"),
        ("/v1/keys", "[]", "INVALID_BODY"),
        ("/v1/keys", "{\"namespace\":\"default\"}", "INVALID_BODY"),
        ("/v1/keys", "{\"namespace\":\"..\",\"role\":\"admin\"}", "INVALID_NAME"),
        ("/v1/keys?name=x", "{\"role\":\"admin\"}", "INVALID_QUERY"),
    ] {
        let message = node.request("POST", path).body(body).send().refusal(400, code);
        assert!(!message.contains("struct"), "{message}");
    }
    make_namespace(&node, "default").refusal(409, "NAMESPACE_EXISTS");
    node.delete("/v1/namespaces/nobody").refusal(404, "NAMESPACE_NOT_FOUND");
    node.delete("/v1/namespaces/..").refusal(400, "INVALID_NAME");
    node.delete("/v1/keys/nothing").refusal(404, "KEY_NOT_FOUND");
    for (method, path) in [("DELETE", "/v1/keys"), ("GET", "/v1/keys/x"), ("PUT", "/v1/namespaces")] {
        node.request(method, path).send().refusal(405, "METHOD_NOT_ALLOWED");
    }
}

#[test]
fn a_deleted_namespace_leaves_nothing_to_the_next_of_its_name() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    for round in 0..3 {
        make_namespace(&node, "shop").expect(201);
        make_namespace(&node, "shop").refusal(409, "NAMESPACE_EXISTS");
        let names = node.get("/v1/namespaces").expect(200).json();
        assert_eq!(names["count"], 2, "{names}");
        assert_eq!(names["namespaces"][1]["name"], "shop", "{names}");
        let (_, key) = new_key(&node, "shop", "deploy");
        assert_eq!(node.get("/v1/functions?namespace=shop").expect(200).json()["count"], 0, "round {round}");
        deploy_as(&node, &key, "talks", &guests::wat("log_env"));
        let version = node.request_as(&key, "GET", "/v1/functions/talks").send().expect(200).json();
        assert_eq!(version["version"], 1, "{version}");
        let empty = node.request_as(&key, "GET", "/v1/functions/talks/logs").send().expect(200).json();
        assert_eq!(empty["count"], 0, "{empty}");
        node.request_as(&key, "POST", "/v1/functions/talks/invoke").body("{}").send().expect(200);
        let logs = node.request_as(&key, "GET", "/v1/functions/talks/logs").send().expect(200).json();
        assert_eq!(logs["count"], 1, "{logs}");
        let deleted = node.delete("/v1/namespaces/shop").expect(200).json();
        assert_eq!(deleted["name"], "shop");
        node.delete("/v1/namespaces/shop").refusal(404, "NAMESPACE_NOT_FOUND");
        node.get("/v1/functions?namespace=shop").refusal(404, "NAMESPACE_NOT_FOUND");
        node.request_as(&key, "GET", "/v1/functions").send().refusal(401, "UNAUTHORIZED");
        node.request_as(&key, "POST", "/v1/functions/talks/invoke").send().refusal(401, "UNAUTHORIZED");
        node.request("POST", "/v1/invoke/shop/talks").send().refusal(404, "FUNCTION_NOT_FOUND");
    }
    assert_eq!(node.get("/v1/functions").expect(200).json()["count"], 0, "the other namespace is as it was");
    let blobs = node.home.join("data").join("blobs");
    eventually("the module is gone", || files(&blobs) == 0);
    node.restart();
    assert_eq!(node.get("/v1/namespaces").expect(200).json()["count"], 1);
}

fn files(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[test]
fn the_name_is_free_when_the_last_invocation_has_ended_also_after_a_kill() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    make_namespace(&node, "shop").expect(201);
    let (_, key) = new_key(&node, "shop", "deploy");
    deploy_as(&node, &key, "slow", &slow_speaker("slept ", Duration::from_secs(20)));
    let mut running = node.connect();
    running.write(invoke_bytes(&node, &key, "slow", "?"));
    eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
    // The request waits a while for it, and is then told that the rest follows.
    let deleted = node.delete("/v1/namespaces/shop").expect(202).json();
    assert!(deleted["message"].as_str().unwrap().contains("still runs"), "{deleted}");
    node.request_as(&key, "GET", "/v1/functions").send().refusal(401, "UNAUTHORIZED");
    make_namespace(&node, "shop").refusal(409, "NAMESPACE_BEING_DELETED");
    assert_eq!(running.answer().expect(200).json()["output"], "slept ?", "what runs is not cut short");
    eventually("the name is free", || make_namespace(&node, "shop").status == 201);

    let (_, key) = new_key(&node, "shop", "deploy");
    deploy_as(&node, &key, "slow", &slow_speaker("slept ", Duration::from_secs(20)));
    let mut running = node.connect();
    running.write(invoke_bytes(&node, &key, "slow", "?"));
    eventually("it runs", || node.metric("orama_invocations_running") == 1.0);
    let mut deleting = node.connect();
    deleting.write(node.request("DELETE", "/v1/namespaces/shop").bytes());
    eventually("it is marked", || make_namespace(&node, "shop").json()["code"] == "NAMESPACE_BEING_DELETED");
    node.kill();
    node.start_again();
    eventually("the name is free", || make_namespace(&node, "shop").status == 201);
    assert_eq!(node.get("/v1/functions?namespace=shop").expect(200).json()["count"], 0);
}

/// Runs steps of the guest `misc`; what each gave.
fn run_steps(node: &Node, key: &str, steps: &Value) -> Vec<Value> {
    let body = json!({ "do": "steps", "steps": steps }).to_string();
    let answer = node.request_as(key, "POST", "/v1/functions/misc/invoke").body(body).send().expect(200);
    answer.json().as_array().unwrap().clone()
}

/// What a function finds in every store.
fn stored(node: &Node, key: &str, cid: &Value) -> Vec<Value> {
    let steps = json!([
        { "do": "query", "sql": "SELECT name FROM sqlite_schema" },
        { "do": "cache_get", "key": "k" },
        { "do": "cache_incr", "key": "n" },
        { "do": "secret", "name": "S" },
        { "do": "storage_get", "cid": cid },
    ]);
    run_steps(node, key, &steps)
}

/// How many records, triggers, dead letters and secrets there are.
fn counts(node: &Node, key: &str) -> [Value; 4] {
    let count = |path: &str| node.request_as(key, "GET", path).send().expect(200).json()["count"].clone();
    [
        count("/v1/functions/misc/logs"),
        count("/v1/functions/misc/triggers"),
        count("/v1/functions/misc/dead-letters"),
        count("/v1/functions/secrets"),
    ]
}

#[test]
fn a_deleted_namespaces_data_are_gone_from_every_store() {
    let Ok(node) = Node::try_start(Options { databases: &["default", "shop"], ..Options::default() }) else {
        return;
    };
    let Ok(misc) = guests::tinygo("misc", &[]) else { return };
    let misc = std::fs::read(misc).unwrap();
    let nothing = json!([
        { "rows": [] },
        { "value": "" },
        { "value": 1 },
        { "value": "" },
        { "value": "" },
    ]);
    let mut cid = json!("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
    for round in 0..3 {
        eventually("the name is free", || make_namespace(&node, "shop").status == 201);
        let (_, key) = new_key(&node, "shop", "deploy");
        deploy_as(&node, &key, "misc", &misc);
        assert_eq!(counts(&node, &key), [0, 0, 0, 0], "round {round}");
        assert_eq!(json!(stored(&node, &key, &cid)), nothing, "round {round}");

        let put = node.request_as(&key, "PUT", "/v1/functions/secrets");
        put.body("{\"name\":\"S\",\"value\":\"s\"}").send().expect(200);
        let answers = run_steps(
            &node,
            &key,
            &json!([
                { "do": "execute", "sql": "CREATE TABLE t (x)" },
                { "do": "cache_set", "key": "k", "value": "v", "ttl": 0 },
                { "do": "storage_put", "body": "object of the shop" },
            ]),
        );
        cid = answers[2]["cid"].clone();
        let add = node.request_as(&key, "POST", "/v1/functions/misc/triggers");
        add.body("{\"topic\":\"orders\"}").send().expect(201);
        let publish = node.request_as(&key, "POST", "/v1/pubsub/publish");
        publish.body("{\"topic\":\"orders\",\"data\":{\"do\":\"exit\",\"code\":3}}").send().expect(202);
        eventually("the event has failed", || counts(&node, &key)[2] == 1);
        assert_eq!(
            json!(stored(&node, &key, &cid)),
            json!([
                { "rows": [{ "name": "t" }] },
                { "value": "v" },
                { "value": 2 },
                { "value": "s" },
                { "value": "object of the shop" },
            ])
        );
        assert_eq!(&counts(&node, &key)[1..], [1, 1, 1]);
        if round == 1 {
            // A crash between the steps: the next start goes on.
            let mut deleting = node.connect();
            deleting.write(node.request("DELETE", "/v1/namespaces/shop").bytes());
            eventually("it has begun", || node.get("/v1/functions?namespace=shop").status == 404);
            node.kill();
            node.start_again();
        } else {
            node.delete("/v1/namespaces/shop").expect(200);
        }
    }
}
