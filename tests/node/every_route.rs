//! Every route of the server with every credential that may not use it, on what really exists: each is refused, and nothing has
//! changed afterwards. The rows are compared with the server's own table, so a route without a row fails here.

use crate::audit::{CHANGES, DATA};
use crate::described;
use crate::harness::{Node, eventually, new_dir};
use crate::http::{Answer, Request};
use crate::jwt::{claims, eddsa, put_key, with_keys};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The least that a key of the namespace needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Least {
    Invoke,
    Deploy,
    Admin,
    Operator,
}

use Least::{Admin, Deploy, Invoke, Operator};

#[derive(Clone)]
enum Sends {
    Nothing,
    Json(Value),
    /// The form of a deploy into the victim's namespace.
    Module,
    Handshake,
}

/// A route as a tenant would use it on what the namespace `victim` has.
struct Row {
    method: &'static str,
    route: &'static str,
    least: Least,
    /// Names the victim's namespace.
    path: String,
    /// The same without naming it, where the path names something of the victim's: then it is looked for among one's own.
    unnamed: Option<String>,
    sends: Sends,
}

/// What exists in the namespace `victim`.
struct Victim {
    trigger: String,
    dead_letter: String,
    key: String,
    keys: [String; 3],
}

/// Routes that are open to everybody.
const OPEN: [(&str, &str); 21] = [
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/console"),
    ("GET", "/console/style.css"),
    ("GET", "/console/account.js"),
    ("GET", "/console/activity.js"),
    ("GET", "/console/api.js"),
    ("GET", "/console/app.js"),
    ("GET", "/console/audit.js"),
    ("GET", "/console/chart.js"),
    ("GET", "/console/database.js"),
    ("GET", "/console/dom.js"),
    ("GET", "/console/events.js"),
    ("GET", "/console/format.js"),
    ("GET", "/console/functions.js"),
    ("GET", "/console/invoke.js"),
    ("GET", "/console/secrets.js"),
    ("GET", "/console/stats.js"),
    ("GET", "/console/versions.js"),
];

/// Routes that tell each credential of itself.
const OF_ITSELF: [(&str, &str); 1] = [("GET", "/v1/whoami")];

/// A value that nobody else may see.
const SECRET: &str = "the-victims-secret";

/// Answers with the secret `TOKEN`.
const TELLS_SECRET: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "env" "get_secret" (func $get_secret (param i32 i32) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 16) "TOKEN")
  (func (export "orama_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "_start") (local $got i64)
    (local.set $got (call $get_secret (i32.const 16) (i32.const 5)))
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $got) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $got)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn make_key(node: &Node, namespace: &str, role: &str) -> [String; 2] {
    let body = json!({ "namespace": namespace, "role": role }).to_string();
    let made = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
    ["id", "api_key"].map(|field| made[field].as_str().unwrap().to_owned())
}

fn make(node: &Node, method: &str, path: &str, body: &Value) -> Value {
    let answer = node.request(method, &format!("{path}?namespace=victim")).body(body.to_string()).send();
    assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
    answer.json()
}

fn make_victim(node: &Node) -> Victim {
    for namespace in ["victim", "other"] {
        let body = json!({ "name": namespace }).to_string();
        node.request("POST", "/v1/namespaces").body(body).send().expect(201);
    }
    let secret = json!({ "name": "TOKEN", "value": SECRET });
    make(node, "PUT", "/v1/functions/secrets", &secret);
    let tells = wat::parse_str(TELLS_SECRET).unwrap();
    for (name, wasm) in [("owned", &tells), ("owned", &tells), ("reader", &guests::wat("log_input"))] {
        let parts: [(&str, &[u8]); 3] = [("name", name.as_bytes()), ("namespace", b"victim"), ("wasm", wasm)];
        node.request("POST", "/v1/functions").form(&parts).send().expect(201);
    }
    let added = make(node, "POST", "/v1/functions/reader/triggers", &json!({ "topic": "orders" }));
    // What has a "!" in it fails at once, as no retries were asked for.
    make(node, "POST", "/v1/pubsub/publish", &json!({ "topic": "orders", "data": "!" }));
    let letters = || node.get("/v1/functions/reader/dead-letters?namespace=victim").expect(200).json();
    eventually("a dead letter", || letters()["count"] == 1);
    make(node, "PUT", "/v1/functions/owned/aliases/named", &json!({ "version": 1 }));
    make(node, "PUT", "/v1/functions/owned/traffic", &json!({ "weights": { "2": 1 } }));
    let keys = ["invoke", "deploy", "admin"].map(|role| make_key(node, "victim", role));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Victim {
        trigger: text(&added["trigger_id"]),
        dead_letter: text(&letters()["dead_letters"][0]["id"]),
        key: keys[0][0].clone(),
        keys: keys.map(|[_, key]| key),
    }
}

/// A row, with values for the route's parameters.
fn row(victim: &Victim, method: &'static str, route: &'static str, least: Least, sends: Sends) -> Row {
    let path = route
        .replace("/v1/functions/secrets/{name}", "/v1/functions/secrets/TOKEN")
        .replace(
            "/v1/functions/{name}/triggers/{id}",
            &format!("/v1/functions/reader/triggers/{}", victim.trigger),
        )
        .replace("/dead-letters/{id}", &format!("/dead-letters/{}", victim.dead_letter))
        .replace("/v1/functions/{name}/dead-letters", "/v1/functions/reader/dead-letters")
        .replace("/v1/functions/{name}/triggers", "/v1/functions/reader/triggers")
        .replace("/aliases/{alias}", "/aliases/named")
        .replace("/v1/functions/{name}", "/v1/functions/owned")
        .replace("/v1/namespaces/{name}", "/v1/namespaces/victim")
        .replace("/v1/invoke/{namespace}/{name}", "/v1/invoke/victim/owned")
        .replace("/v1/keys/{id}", &format!("/v1/keys/{}", victim.key));
    assert!(!path.contains('{'), "no value for a parameter of {route}");
    let names_namespace = ["/v1/namespaces", "/v1/invoke/", "/v1/secrets/rotate-key"];
    let is_named = names_namespace.iter().any(|begin| path.starts_with(begin));
    let unnamed = (!is_named && route.contains('{')).then(|| path.clone());
    let path = if is_named { path } else { format!("{path}?namespace=victim") };
    Row { method, route, least, path, unnamed, sends }
}

/// One row for each route and method that needs a credential.
fn rows(victim: &Victim) -> Vec<Row> {
    let row = |method, route, least, sends| row(victim, method, route, least, sends);
    let none = || Sends::Nothing;
    let json = Sends::Json;
    let mut rows = vec![
        row("GET", "/v1/functions", Deploy, none()),
        row("POST", "/v1/functions", Deploy, Sends::Module),
        row("GET", "/v1/functions/{name}", Deploy, none()),
        row("PATCH", "/v1/functions/{name}", Deploy, json(json!({ "enabled": false }))),
        row("DELETE", "/v1/functions/{name}", Deploy, none()),
        row("GET", "/v1/functions/{name}/aliases", Deploy, none()),
        row("GET", "/v1/functions/{name}/aliases/{alias}", Deploy, none()),
        row("PUT", "/v1/functions/{name}/aliases/{alias}", Deploy, json(json!({ "version": 2 }))),
        row("DELETE", "/v1/functions/{name}/aliases/{alias}", Deploy, none()),
        row("GET", "/v1/functions/{name}/traffic", Deploy, none()),
        row("PUT", "/v1/functions/{name}/traffic", Deploy, json(json!({ "weights": { "1": 1 } }))),
        row("DELETE", "/v1/functions/{name}/traffic", Deploy, none()),
        row("GET", "/v1/functions/{name}/versions", Deploy, none()),
        row("GET", "/v1/functions/{name}/logs", Deploy, none()),
        row("GET", "/v1/functions/{name}/stats", Deploy, none()),
        row("GET", "/v1/stats", Deploy, none()),
        row("GET", "/v1/logs", Deploy, none()),
        row("POST", "/v1/functions/{name}/invoke", Invoke, json(json!({}))),
        row("POST", "/v1/invoke/{namespace}/{name}", Invoke, json(json!({}))),
        row("GET", "/v1/functions/{name}/ws", Invoke, Sends::Handshake),
        row("GET", "/v1/functions/{name}/triggers", Deploy, none()),
        row("POST", "/v1/functions/{name}/triggers", Deploy, json(json!({ "topic": "stolen" }))),
        row("PATCH", "/v1/functions/{name}/triggers/{id}", Deploy, json(json!({ "enabled": false }))),
        row("POST", "/v1/functions/{name}/triggers/{id}/fire", Deploy, none()),
        row("DELETE", "/v1/functions/{name}/triggers/{id}", Deploy, none()),
        row("GET", "/v1/functions/{name}/dead-letters", Deploy, none()),
        row("POST", "/v1/functions/{name}/dead-letters/replay", Deploy, none()),
        row("POST", "/v1/functions/{name}/dead-letters/{id}/replay", Deploy, none()),
        row("DELETE", "/v1/functions/{name}/dead-letters/{id}", Deploy, none()),
        row(
            "POST",
            "/v1/db/query",
            Deploy,
            json(json!({ "ops": [{ "kind": "exec", "sql": "CREATE TABLE stolen (a)" }] })),
        ),
        row("GET", "/v1/db/migrations", Deploy, none()),
        row(
            "POST",
            "/v1/db/migrations",
            Deploy,
            json(json!({ "migrations": [{ "name": "1.sql", "sql": "CREATE TABLE stolen (a)" }] })),
        ),
        row("POST", "/v1/pubsub/publish", Invoke, json(json!({ "topic": "orders", "data": 1 }))),
    ];
    rows.extend(rows_beside_functions(victim));
    // Keys and deploys name the namespace in their bodies too.
    let new_key = json!({ "namespace": "victim", "role": "admin" });
    rows.push(Row { path: "/v1/keys".to_owned(), ..row("POST", "/v1/keys", Admin, json(new_key)) });
    rows.push(Row {
        path: "/v1/functions".to_owned(),
        ..row("POST", "/v1/functions", Deploy, Sends::Module)
    });
    rows
}

/// Those of routes that are not below a function.
fn rows_beside_functions(victim: &Victim) -> Vec<Row> {
    let row = |method, route, least, sends| row(victim, method, route, least, sends);
    let none = || Sends::Nothing;
    let json = Sends::Json;
    vec![
        row("GET", "/v1/functions/secrets", Deploy, none()),
        row("PUT", "/v1/functions/secrets", Deploy, json(json!({ "name": "TOKEN", "value": "stolen" }))),
        row("DELETE", "/v1/functions/secrets/{name}", Deploy, none()),
        row("POST", "/v1/secrets/rotate-key", Operator, none()),
        row("GET", "/v1/namespaces", Operator, none()),
        row("POST", "/v1/namespaces", Operator, json(json!({ "name": "stolen" }))),
        row("DELETE", "/v1/namespaces/{name}", Operator, none()),
        row("GET", "/v1/namespaces/{name}/usage", Admin, none()),
        row("GET", "/v1/namespaces/{name}/quotas", Admin, none()),
        row("PUT", "/v1/namespaces/{name}/quotas", Operator, json(json!({ "functions": 1 }))),
        row("GET", "/v1/namespaces/{name}/rates", Admin, none()),
        row("PUT", "/v1/namespaces/{name}/rates", Operator, json(json!({ "deploys_per_namespace": "1/h" }))),
        row("GET", "/v1/audit", Admin, none()),
        row("GET", "/v1/keys", Admin, none()),
        row("DELETE", "/v1/keys/{id}", Admin, none()),
    ]
}

/// The routes of the server with their methods, as the server itself tells them.
fn served(node: &Node) -> BTreeSet<(String, String)> {
    let mut served = BTreeSet::new();
    for path in orama_server::routes::paths() {
        let asked = path.replace(['{', '}'], "");
        let answer = node.anonymous("TRACE", &asked).send();
        let allow = answer.header("allow").unwrap_or_else(|| panic!("{path}: {}", answer.text()));
        let methods = allow.split(',').map(str::trim).filter(|method| *method != "HEAD");
        served.extend(methods.map(|method| (method.to_owned(), path.to_owned())));
    }
    served
}

fn request(request: Request, sends: &Sends) -> Request {
    match sends {
        Sends::Nothing => request,
        Sends::Json(body) => request.body(body.to_string()),
        Sends::Module => {
            let wasm = guests::wat("echo");
            request.form(&[("name", b"owned"), ("namespace", b"victim"), ("wasm", &wasm)])
        }
        Sends::Handshake => request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    }
}

/// Sends a row's request with a credential; it must be refused with one of the statuses, and tell nothing.
#[track_caller]
fn refused(node: &Node, row: &Row, path: &str, (who, credential): (&str, Option<&str>), statuses: &[u16]) {
    let asked = match credential {
        Some(credential) => node.request_as(credential, row.method, path),
        None => node.anonymous(row.method, path),
    };
    let answer: Answer = request(asked, &row.sends).send();
    let (text, row) = (answer.text(), format!("{} {path} with {who}", row.method));
    assert!(statuses.contains(&answer.status), "{row}: {} {text}", answer.status);
    assert!(!text.contains(SECRET), "{row}: {text}");
    let code = answer.json()["code"].as_str().unwrap_or_else(|| panic!("{row}: {text}")).to_owned();
    let json = answer.json();
    let may_retry = matches!(answer.status, 408 | 429 | 503 | 504);
    assert_eq!(json["retryable"], may_retry, "{row}: {text}");
    assert_eq!(json["request_id"].as_str(), answer.header("x-request-id"), "{row}: {text}");
    assert!(!json["error"].as_str().unwrap_or_default().is_empty(), "{row}: {text}");
    let is_fitting = match answer.status {
        401 => code == "UNAUTHORIZED",
        403 => code == "FORBIDDEN",
        _ => code.ends_with("_NOT_FOUND"),
    };
    assert!(is_fitting, "{row}: {} {text}", answer.status);
}

/// All that could have changed, as its operator sees it.
fn state(node: &Node, victim: &Victim) -> Vec<String> {
    let lists = [
        "/v1/functions?namespace=",
        "/v1/functions/secrets?namespace=",
        "/v1/keys?namespace=",
        "/v1/functions/owned/versions?namespace=",
        "/v1/functions/owned/aliases?namespace=",
        "/v1/functions/owned/traffic?namespace=",
        "/v1/functions/reader/triggers?namespace=",
        "/v1/functions/owned/triggers?namespace=",
        "/v1/functions/reader/dead-letters?namespace=",
        "/v1/functions/reader/logs?namespace=",
        "/v1/functions/owned/logs?namespace=",
    ];
    let ask = |path: String| {
        let answer = node.get(&path);
        // An error tells the id of its request, which is another each time.
        if answer.status != 200 {
            return answer.json()["code"].to_string();
        }
        let mut json = answer.json();
        // A refused use is a use.
        for key in json["keys"].as_array_mut().into_iter().flatten() {
            key.as_object_mut().unwrap().remove("last_used_at");
        }
        json.to_string()
    };
    let of = |namespace: &'static str| lists.into_iter().map(move |list| format!("{list}{namespace}"));
    let mut all: Vec<_> = of("victim").chain(of("other")).map(ask).collect();
    for path in ["/v1/namespaces", "/v1/namespaces/victim/quotas", "/v1/namespaces/victim/rates"] {
        all.push(node.get(path).expect(200).text());
    }
    let usage = node.request_as(&victim.keys[2], "GET", "/v1/namespaces/victim/usage").send();
    all.push(usage.expect(200).text());
    all
}

#[test]
fn every_route_refuses_every_credential_that_may_not_use_it() {
    let path = new_dir("keys").join("public.pem");
    put_key(&path, "ed25519.pub.pem");
    let node = Node::start(with_keys(&path, Vec::new()));
    let victim = make_victim(&node);
    let rows = rows(&victim);
    let mut known: BTreeSet<_> =
        rows.iter().map(|row| (row.method.to_owned(), row.route.to_owned())).collect();
    known.extend(OF_ITSELF.map(|(method, path)| (method.to_owned(), path.to_owned())));
    for (method, path) in OF_ITSELF {
        node.anonymous(method, path).send().refusal(401, "UNAUTHORIZED");
    }
    known.extend(OPEN.map(|(method, path)| (method.to_owned(), path.to_owned())));
    assert_eq!(served(&node), known, "each route of the server has a row here, and each row is served");
    let changing: BTreeSet<_> =
        rows.iter().map(|row| (row.method, row.route)).filter(|(method, _)| *method != "GET").collect();
    let told = CHANGES.into_iter().chain(DATA).collect();
    assert_eq!(changing, told, "what a route changes is recorded, or is known to be data");
    known.retain(|(_, path)| !path.starts_with("/console"));
    assert_eq!(described::operations(), known, "each route but the console's is described");
    for Row { method, route, least, .. } in &rows {
        let told = described::role(method, route).unwrap_or_default();
        assert_eq!(told, format!("{least:?}").to_lowercase(), "the description's role of {method} {route}");
    }

    let others = ["invoke", "deploy", "admin"].map(|role| make_key(&node, "other", role)[1].clone());
    let other_token = eddsa(&claims("0xother", "other"));
    let own_token = eddsa(&claims("0xown", "victim"));
    let unknown_key = format!("orama_{}", "A".repeat(43));
    let before = state(&node, &victim);
    let mut asked = 0;
    for row in &rows {
        for (who, credential) in [("no credential", None), ("an unknown key", Some(unknown_key.as_str()))] {
            refused(&node, row, &row.path, (who, credential), &[401]);
            asked += 1;
        }
        let strangers = others.iter().chain([&other_token]);
        let names =
            ["another's invoke key", "another's deploy key", "another's admin key", "another's token"];
        for (who, credential) in names.into_iter().zip(strangers) {
            refused(&node, row, &row.path, (who, Some(credential)), &[403]);
            asked += 1;
            if let Some(unnamed) = &row.unnamed {
                refused(&node, row, unnamed, (who, Some(credential)), &[403, 404]);
                asked += 1;
            }
        }
        let own = victim.keys.iter().chain([&own_token]);
        let names = ["the own invoke key", "the own deploy key", "the own admin key", "an own token"];
        for ((who, credential), role) in names.into_iter().zip(own).zip([Invoke, Deploy, Admin, Invoke]) {
            if role < row.least {
                refused(&node, row, &row.path, (who, Some(credential)), &[403]);
                asked += 1;
            }
        }
    }
    assert!(asked > 8 * rows.len(), "{asked} requests for {} rows", rows.len());
    assert_eq!(state(&node, &victim), before, "nothing has changed");
    assert!(node.no_job_is_left());
    let told = node.request_as(&victim.keys[0], "POST", "/v1/functions/owned/invoke").body("").send();
    assert_eq!(told.expect(200).json()["output"], SECRET, "it is what it was, and its own function reads it");
    for (method, path) in OPEN {
        let open = node.anonymous(method, path).send().expect(200).text();
        assert!(!open.contains("victim"), "{path} is open to everybody: {open}");
    }
}
