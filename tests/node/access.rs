//! Who may do what: credentials, roles, namespaces and public functions.

use crate::harness::{Node, Options, Shared};
use orama_runtime::names::Namespace;
use orama_server::platform::auth::Role;
use orama_server::platform::registry::Registry;
use orama_test_support::guests;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Everything that needs a credential.
const TENANTS: [(&str, &str); 8] = [
    ("GET", "/v1/functions"),
    ("POST", "/v1/functions"),
    ("GET", "/v1/functions/echo"),
    ("DELETE", "/v1/functions/echo"),
    ("GET", "/v1/functions/echo/versions"),
    ("GET", "/v1/functions/echo/logs"),
    ("POST", "/v1/functions/echo/invoke"),
    ("POST", "/v1/invoke/default/echo"),
];

#[test]
fn without_a_known_credential_nothing_is_told() {
    let Ok(node) = Shared::node() else { return };
    node.wat("echo");
    let key = node.key();
    let mut other = key.clone();
    other.replace_range(key.len() - 1.., if key.ends_with('A') { "B" } else { "A" });
    let wrong = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        key.clone(),
        format!("Basic {key}"),
        format!("Bearer {other}"),
        format!("Bearer {key}x"),
        format!("Bearer {key} {key}"),
        "Bearer orama_".to_owned(),
        "Bearer ä".to_owned(),
        format!("Bearer {}", "x".repeat(8000)),
    ];
    for (method, path) in TENANTS {
        let answer = node.anonymous(method, path).send();
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        let message = answer.refusal(401, "UNAUTHORIZED");
        assert!(message.contains("Authorization"), "{message}");
        for value in &wrong {
            let answer = node.anonymous(method, path).header("authorization", value).send();
            assert!(!answer.text().contains(&key), "{}", answer.text());
            answer.refusal(401, "UNAUTHORIZED");
        }
        node.anonymous(method, path).header("x-api-key", &other).send().refusal(401, "UNAUTHORIZED");
        let both = node.request(method, path).header("x-api-key", &other).send();
        both.refusal(400, "CONFLICTING_CREDENTIALS");
    }
    let get =
        |header: &str, value: &str| node.anonymous("GET", "/v1/functions/echo").header(header, value).send();
    get("x-api-key", &key).expect(200);
    get("authorization", &format!("bearer {key}")).expect(200);
    node.request("GET", "/v1/functions/echo").header("x-api-key", &key).send().expect(200);
}

/// A node with a second namespace, `other`, and keys for it.
struct Tenants {
    node: Node,
    deploy: String,
    invoke: String,
    /// A key of role `deploy` in `default`.
    neighbour: String,
}

impl Tenants {
    fn start() -> Self {
        let node = Node::start(Options::default());
        assert!(node.terminate().success());
        let registry = Registry::open(&node.home.join("data")).unwrap();
        let (other, default) = (Namespace::new("other").unwrap(), Namespace::new("default").unwrap());
        registry.create_namespace(&other).unwrap();
        let key = |namespace, role| registry.create_key(namespace, role).unwrap().1.reveal().to_owned();
        let (deploy, invoke) = (key(&other, Role::Deploy), key(&other, Role::Invoke));
        let neighbour = key(&default, Role::Deploy);
        drop(registry);
        node.start_again();
        Self { node, deploy, invoke, neighbour }
    }

    #[track_caller]
    fn deploy(&self, key: &str, name: &str, fields: &[(&str, &[u8])]) {
        let wasm = guests::wat("echo");
        let parts = [&[("name", name.as_bytes()), ("wasm", wasm.as_slice())], fields].concat();
        self.node.request_as(key, "POST", "/v1/functions").form(&parts).send().expect(201);
    }
}

#[test]
fn namespaces_are_closed_to_each_other() {
    let tenants = Tenants::start();
    let Tenants { node, deploy, invoke, neighbour } = &tenants;
    tenants.deploy(deploy, "private", &[]);
    tenants.deploy(deploy, "open", &[("is_public", b"true")]);
    let status = |key: &str, method: &str, path: &str| {
        let answer =
            node.request_as(key, method, path).body(if method == "POST" { "[1]" } else { "" }).send();
        (answer.status, answer.text())
    };

    // In its own namespace, by role.
    assert_eq!(status(invoke, "POST", "/v1/functions/private/invoke").0, 200);
    assert_eq!(status(invoke, "POST", "/v1/invoke/other/private").0, 200);
    for (method, path) in [
        ("GET", "/v1/functions"),
        ("GET", "/v1/functions/private"),
        ("GET", "/v1/functions/private/logs"),
        ("DELETE", "/v1/functions/private"),
        ("POST", "/v1/functions"),
    ] {
        node.request_as(invoke, method, path).send().refusal(403, "FORBIDDEN");
    }
    assert_eq!(node.request_as(deploy, "GET", "/v1/functions").send().expect(200).json()["count"], 2);
    assert_eq!(node.request_as(neighbour, "GET", "/v1/functions").send().expect(200).json()["count"], 0);

    // In another one: the same answer for what is there and what is not.
    for path in ["/v1/functions/{}/invoke?namespace=other", "/v1/invoke/other/{}"] {
        let told = |name: &str| {
            let answer = node.request_as(neighbour, "POST", &path.replace("{}", name)).send();
            answer.refusal(403, "FORBIDDEN")
        };
        assert_eq!(told("private"), told("absent"));
        assert_eq!(told("private@1"), told("private@9"));
        let anonymous = |name: &str| {
            node.anonymous("POST", &path.replace("{}", name)).send().refusal(401, "UNAUTHORIZED")
        };
        assert_eq!(anonymous("private"), anonymous("absent"));
    }
    for (method, path) in [
        ("GET", "/v1/functions?namespace=other"),
        ("GET", "/v1/functions/private?namespace=other"),
        ("DELETE", "/v1/functions/private?namespace=other"),
        ("GET", "/v1/functions/private/logs?namespace=other"),
        ("GET", "/v1/functions?namespace=not-even-there"),
        ("POST", "/v1/invoke/not-even-there/private"),
    ] {
        node.request_as(neighbour, method, path).send().refusal(403, "FORBIDDEN");
    }
    let wasm = guests::wat("echo");
    let parts: [(&str, &[u8]); 3] = [("name", b"intruder"), ("namespace", b"other"), ("wasm", &wasm)];
    node.request_as(neighbour, "POST", "/v1/functions").form(&parts).send().refusal(403, "FORBIDDEN");
    for header in ["x-namespace", "x-orama-namespace", "namespace"] {
        let list = node.request_as(neighbour, "GET", "/v1/functions").header(header, "other").send();
        assert_eq!(list.expect(200).json()["count"], 0, "a header chose the namespace");
    }

    // The operator goes everywhere.
    assert_eq!(node.get("/v1/functions?namespace=other").expect(200).json()["count"], 2);
    assert_eq!(node.request("POST", "/v1/invoke/other/private").body("[2]").send().expect(200).text(), "[2]");
    let logs = node.get("/v1/functions/private/logs?namespace=other").expect(200).json();
    assert_eq!((&logs["namespace"], &logs["count"]), (&"other".into(), &3.into()));
    node.get("/v1/functions/private").refusal(404, "FUNCTION_NOT_FOUND");
    // After all of this the function is still there.
    assert_eq!(status(deploy, "POST", "/v1/functions/private/invoke"), (200, "[1]".to_owned()));
}

#[test]
fn a_public_function_needs_no_credential_and_only_to_be_invoked() {
    let tenants = Tenants::start();
    let Tenants { node, deploy, neighbour, .. } = &tenants;
    tenants.deploy(deploy, "open", &[("is_public", b"true")]);
    for path in [
        "/v1/functions/open/invoke?namespace=other",
        "/v1/invoke/other/open",
        "/v1/invoke/other/open@1",
        "/v1/functions/open%401/invoke?namespace=other",
    ] {
        assert_eq!(node.anonymous("POST", path).body("[3]").send().expect(200).text(), "[3]", "{path}");
        assert_eq!(
            node.request_as(neighbour, "POST", path).body("[4]").send().expect(200).text(),
            "[4]",
            "{path}"
        );
    }
    // Not where the namespace is left open, not in another one, not with a wrong key.
    node.anonymous("POST", "/v1/functions/open/invoke").send().refusal(401, "UNAUTHORIZED");
    node.anonymous("POST", "/v1/invoke/default/open").send().refusal(401, "UNAUTHORIZED");
    let wrong = node.anonymous("POST", "/v1/invoke/other/open").header("x-api-key", "orama_wrong").send();
    wrong.refusal(401, "UNAUTHORIZED");
    for path in ["/v1/functions/open?namespace=other", "/v1/functions/open/logs?namespace=other"] {
        node.anonymous("GET", path).send().refusal(401, "UNAUTHORIZED");
    }
    // The newest version decides for all.
    tenants.deploy(deploy, "open", &[("is_public", b"false")]);
    node.anonymous("POST", "/v1/invoke/other/open").send().refusal(401, "UNAUTHORIZED");
    node.anonymous("POST", "/v1/invoke/other/open@1").body("[5]").send().refusal(401, "UNAUTHORIZED");
}

#[test]
fn the_first_start_writes_a_credential_that_stays_secret() {
    let node = Node::start(Options { env: vec![("ORAMA_LOG", "trace".to_owned())], ..Options::default() });
    node.deploy(
        "echo",
        &guests::wat("echo"),
        &[("metadata", "{\"env_vars\":{\"TOKEN\":\"env-value-7c1f\"}}")],
    );
    node.invoke("echo", "{}").expect(200);
    node.anonymous("GET", "/v1/functions").header("authorization", "Bearer orama_wrong").send().expect(401);
    let path = node.home.join("credentials.json");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&node.home.join("data")), 0o700);
    let read = || -> serde_json::Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
    let (first, key) = (read(), node.key());
    assert_eq!(first.as_object().unwrap().len(), 3, "only the contract's three fields");
    assert_eq!(first["namespace"], "default");
    assert_eq!(first["gateway_url"], format!("http://{}", node.address()));
    assert!(key.starts_with("orama_") && key.len() == 49, "{} characters", key.len());
    node.restart();
    let second = read();
    assert_eq!(second["api_key"], first["api_key"], "a restart keeps the key");
    assert_eq!(second["gateway_url"], format!("http://{}", node.address()));
    assert_eq!(mode(&path), 0o600);
    assert!(node.terminate().success());

    let stderr = node.stderr();
    assert!(stderr.contains("draining"), "the log was captured");
    let without_prefix = key.trim_start_matches("orama_");
    for secret in [without_prefix, "env-value-7c1f"] {
        assert!(!stderr.contains(secret), "a secret stands in the node's log");
    }
    // Nothing in the data folder holds the key either.
    let mut folders = vec![node.home.join("data")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(without_prefix.len()).any(|window| window == without_prefix.as_bytes());
            assert!(!found, "the key stands in {}", path.display());
        }
    }
}
