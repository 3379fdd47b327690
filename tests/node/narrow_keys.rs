//! Keys with a name, an expiry and a last use, and keys that are for some functions only.

use crate::harness::{Node, Options, Shared, eventually};
use crate::http::Answer;
use crate::speakers::{said, speaker};
use serde_json::{Value, json};

fn create(node: &Node, body: &Value) -> Answer {
    node.request("POST", "/v1/keys").body(body.to_string()).send()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn in_seconds(seconds: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string()
}

#[test]
fn a_narrowed_key_reaches_its_functions_and_nothing_else() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    for name in ["mine", "other"] {
        node.deploy(name, &speaker(name), &[]);
    }
    node.deploy("open", &speaker("open"), &[("is_public", "true")]);
    let made = create(
        &node,
        &json!({ "role": "deploy", "name": "ci", "functions": ["mine"], "expires_at": in_seconds(3600) }),
    );
    let made = made.expect(201).json();
    assert_eq!((&made["name"], &made["functions"]), (&json!("ci"), &json!(["mine"])));
    let key = text(&made["api_key"]);
    let send = |method: &str, path: &str| node.request_as(&key, method, path);
    let invoke = |name: &str| send("POST", &format!("/v1/functions/{name}/invoke")).body("").send();
    assert_eq!(said(invoke("mine")), "mine");
    assert_eq!(said(invoke("mine@1")), "mine");
    assert_eq!(said(invoke("open")), "open", "as everybody may");
    invoke("other").refusal(403, "FORBIDDEN");
    invoke("other@1").refusal(403, "FORBIDDEN");
    send("GET", "/fn/default/other/x").send().refusal(403, "FORBIDDEN");
    send("POST", "/v1/invoke/default/other").send().refusal(403, "FORBIDDEN");
    let list = send("GET", "/v1/functions").send().expect(200).json();
    assert_eq!((&list["count"], &list["functions"][0]["name"]), (&json!(1), &json!("mine")));
    for path in [
        "/v1/functions/mine",
        "/v1/functions/mine@1",
        "/v1/functions/mine/logs",
        "/v1/functions/mine/versions",
    ] {
        send("GET", path).send().expect(200);
    }
    let wasm = speaker("again");
    send("POST", "/v1/functions").form(&[("name", b"mine"), ("wasm", &wasm)]).send().expect(201);
    send("POST", "/v1/functions")
        .form(&[("name", b"other"), ("wasm", &wasm)])
        .send()
        .refusal(403, "FORBIDDEN");
    send("POST", "/v1/functions")
        .form(&[("name", b"third"), ("wasm", &wasm)])
        .send()
        .refusal(403, "FORBIDDEN");
    let migrations =
        json!({ "migrations": [{ "name": "1.sql", "sql": "CREATE TABLE stolen (a)" }] }).to_string();
    let form: [(&str, &[u8]); 3] = [("name", b"mine"), ("wasm", &wasm), ("metadata", migrations.as_bytes())];
    send("POST", "/v1/functions").form(&form).send().refusal(403, "FORBIDDEN");
    for (method, path, body) in [
        ("GET", "/v1/functions/other", ""),
        ("GET", "/v1/functions/%6fther", ""),
        ("DELETE", "/v1/functions/other", ""),
        ("PATCH", "/v1/functions/other", r#"{"enabled":false}"#),
        ("PUT", "/v1/functions/other/aliases/live", r#"{"version":1}"#),
        ("GET", "/v1/functions/secrets", ""),
        ("PUT", "/v1/functions/secrets", r#"{"name":"A","value":"b"}"#),
        ("POST", "/v1/pubsub/publish", r#"{"topic":"t","data":1}"#),
        ("POST", "/v1/db/query", r#"{"ops":[{"kind":"query","sql":"SELECT 1"}]}"#),
        ("GET", "/v1/db/migrations", ""),
    ] {
        send(method, path).body(body).send().refusal(403, "FORBIDDEN");
    }
    let who = send("GET", "/v1/whoami").send().expect(200).json();
    assert_eq!(
        (&who["role"], &who["key"]["name"], &who["key"]["functions"]),
        (&json!("deploy"), &json!("ci"), &json!(["mine"]))
    );
}

#[test]
fn a_narrowed_keys_list_comes_in_pages() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    for name in ["b", "a", "c", "other"] {
        node.deploy(name, &speaker(name), &[]);
    }
    let made = create(&node, &json!({ "role": "deploy", "functions": ["c", "a", "gone", "b", "a"] }));
    let key = text(&made.expect(201).json()["api_key"]);
    let page = |after: &str| {
        let path = format!("/v1/functions?limit=2&after={after}");
        let page = node.request_as(&key, "GET", &path).send().expect(200).json();
        let names: Vec<_> = page["functions"].as_array().unwrap().iter().map(|f| text(&f["name"])).collect();
        (names.concat(), page["next"].as_str().map(str::to_owned))
    };
    assert_eq!(page(""), ("ab".to_owned(), Some("b".to_owned())));
    assert_eq!(page("b"), ("c".to_owned(), None));
}

#[test]
fn an_expired_key_is_refused_with_its_time() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("timed", &speaker("timed"), &[]);
    let expires_at = in_seconds(3);
    let made = create(&node, &json!({ "role": "deploy", "expires_at": expires_at })).expect(201).json();
    let key = text(&made["api_key"]);
    let invoke = || node.request_as(&key, "POST", "/v1/functions/timed/invoke").body("").send();
    let get = || node.request_as(&key, "GET", "/v1/functions/timed").send();
    invoke().expect(200);
    get().expect(200);
    eventually("its end", || invoke().status == 401 && get().status == 401);
    let told = get().refusal(401, "UNAUTHORIZED");
    assert!(told.contains("expired at"), "{told}");
    let told = invoke().refusal(401, "UNAUTHORIZED");
    assert!(told.contains("expired at"), "{told}");
}

#[test]
fn a_list_tells_when_a_key_was_last_used() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let made = create(&node, &json!({ "role": "invoke", "name": "seldom" })).expect(201).json();
    let listed = || {
        let keys = node.get("/v1/keys").expect(200).json();
        keys["keys"].as_array().unwrap().iter().find(|key| key["id"] == made["id"]).unwrap().clone()
    };
    assert_eq!((&listed()["name"], &listed()["last_used_at"]), (&json!("seldom"), &Value::Null));
    node.request_as(&text(&made["api_key"]), "GET", "/v1/whoami").send().expect(200);
    assert!(listed()["last_used_at"].is_string(), "{}", listed());
}

#[test]
fn keys_that_cannot_be_are_refused() {
    let Ok(node) = Shared::node() else { return };
    for (body, told) in [
        (json!({ "role": "admin", "functions": ["a"] }), "deploy and invoke"),
        (json!({ "role": "invoke", "functions": [] }), "functions"),
        (json!({ "role": "invoke", "functions": ["1a"] }), "1a"),
        (json!({ "role": "invoke", "name": "" }), "name"),
        (json!({ "role": "invoke", "name": "a\nb" }), "name"),
        (json!({ "role": "invoke", "name": "x".repeat(65) }), "name"),
        (json!({ "role": "invoke", "expires_at": "2020-01-01T00:00:00Z" }), "expires_at"),
        (json!({ "role": "invoke", "expires_at": "soon" }), "expires_at"),
    ] {
        let why = create(&node, &body).refusal(400, "INVALID_BODY");
        assert!(why.contains(told), "{body}: {why}");
    }
}
