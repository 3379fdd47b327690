//! Quotas of namespaces, the reserve of the disk, and lists in pages.

use crate::harness::{Node, Options, orama, output};
use orama_test_support::guests;
use serde_json::{Value, json};

/// A namespace of its own with a deploy key and an admin's.
fn tenant(node: &Node, name: &str) -> [String; 2] {
    node.request("POST", "/v1/namespaces").body(json!({ "name": name }).to_string()).send().expect(201);
    ["deploy", "admin"].map(|role| {
        let body = json!({ "namespace": name, "role": role }).to_string();
        let made = node.request("POST", "/v1/keys").body(body).send().expect(201).json();
        made["api_key"].as_str().unwrap().to_owned()
    })
}

fn deploy(node: &Node, key: &str, name: &str, guest: &str) -> crate::http::Answer {
    let wasm = guests::wat(guest);
    let parts: [(&str, &[u8]); 2] = [("name", name.as_bytes()), ("wasm", &wasm)];
    node.request_as(key, "POST", "/v1/functions").form(&parts).send()
}

#[test]
fn a_quota_is_told_refuses_and_can_be_changed() {
    let node = Node::start(Options { databases: &["default", "q"], ..Options::default() });
    let [key, admin] = tenant(&node, "q");
    let quotas = |body: Value| {
        let answer = node.request("PUT", "/v1/namespaces/q/quotas").body(body.to_string()).send();
        answer.expect(200).json()
    };
    let usage = || node.request_as(&admin, "GET", "/v1/namespaces/q/usage").send().expect(200).json();
    let set = quotas(json!({ "functions": 2, "versions": 2 }));
    assert_eq!(set["overrides"], json!({ "functions": 2, "versions": 2 }));
    assert_eq!((&set["quotas"]["functions"], &set["quotas"]["objects"]), (&json!(2), &json!(10_000)));
    for (name, guest) in [("f", "echo"), ("f", "empty"), ("g", "echo")] {
        deploy(&node, &key, name, guest).expect(201);
    }
    let told = usage();
    assert_eq!(told["usage"]["functions"], json!({ "used": 2, "limit": 2 }));
    assert_eq!(told["usage"]["versions"], json!({ "used": 2, "limit": 2 }));
    let bytes = guests::wat("echo").len() + guests::wat("empty").len();
    assert_eq!(told["usage"]["module_bytes"]["used"], bytes);
    assert!(told.get("disk").is_none(), "the disk is the operator's business: {told}");
    let operators = node.get("/v1/namespaces/q/usage").json();
    assert!(operators["disk"]["free_bytes"].as_u64().unwrap() > 0, "{operators}");

    let message = deploy(&node, &key, "h", "echo").refusal(409, "QUOTA_EXCEEDED");
    for word in ["\"q\"", "`functions`", "2 used", "2 allowed", "delete functions"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let message = deploy(&node, &key, "f", "echo").refusal(409, "QUOTA_EXCEEDED");
    assert!(message.contains("`versions`") && message.contains("delete versions"), "{message}");
    let compilations = node.compilations();
    deploy(&node, &key, "h", "many_writes").refusal(409, "QUOTA_EXCEEDED");
    assert!(node.compilations() - compilations < 0.5, "nothing is compiled in vain");

    node.request_as(&key, "DELETE", "/v1/functions/f@1").send().expect(200);
    deploy(&node, &key, "f", "echo").expect(201);
    quotas(json!({}));
    deploy(&node, &key, "h", "echo").expect(201);
}

#[test]
fn quotas_are_the_operators_and_usage_the_admins() {
    let node = Node::start(Options { databases: &["default", "r", "s"], ..Options::default() });
    let ([deploy, admin], [_, other]) = (tenant(&node, "r"), tenant(&node, "s"));
    for (key, method, path, status) in [
        (&deploy, "GET", "usage", 403),
        (&other, "GET", "usage", 403),
        (&admin, "GET", "usage", 200),
        (&admin, "GET", "quotas", 200),
        (&other, "GET", "quotas", 403),
        (&admin, "PUT", "quotas", 403),
    ] {
        let request = node.request_as(key, method, &format!("/v1/namespaces/r/{path}"));
        assert_eq!(request.body("{}").send().status, status, "{method} {path}");
    }
    for (body, word) in [
        ("{\"functions\":-1}", "expected"),
        ("{\"functions\":\"1\"}", "expected"),
        ("{\"functionz\":1}", "there is no quota \"functionz\""),
        ("{\"functions\":9007199254740993}", "at most"),
        ("[]", "expected a map"),
    ] {
        let request = node.request("PUT", "/v1/namespaces/r/quotas").body(body);
        let message = request.send().refusal(400, "INVALID_BODY");
        assert!(message.contains(word), "{body}: {message}");
    }
    node.request("GET", "/v1/namespaces/none/usage").send().refusal(404, "NAMESPACE_NOT_FOUND");
    for path in
        ["/v1/namespaces/r/usage?namespace=s", "/v1/namespaces/r/quotas?x=1", "/v1/namespaces?namespace=r"]
    {
        node.request("GET", path).send().refusal(400, "INVALID_QUERY");
    }
}

#[test]
fn a_disk_with_nothing_but_its_reserve_takes_no_deploy() {
    let config = "disk_reserve_mb = 1048576\n".to_owned();
    let node = Node::start(Options { config, ..Options::default() });
    let message = deploy(&node, &node.key(), "f", "echo").refusal(507, "INSUFFICIENT_STORAGE");
    assert!(message.contains("1048576 MB must stay free"), "{message}");
    assert_eq!(node.get("/v1/functions").json()["count"], 0);
}

#[test]
fn lists_come_in_pages_that_name_the_next_one() {
    let node = Node::start(Options::default());
    let wasm = guests::wat("echo");
    for name in ["c", "a", "b", "a", "a"] {
        node.deploy(name, &wasm, &[]);
    }
    for (path, of, key, expected) in [
        ("/v1/functions", "functions", "name", vec!["a", "b", "c"]),
        ("/v1/functions/a/versions", "versions", "version", vec!["3", "2", "1"]),
    ] {
        assert!(node.get(path).json().get("next").is_none(), "{path}: all of it fits into one page");
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = node.get(&format!("{path}?limit=2{after}")).json();
            for entry in page[of].as_array().unwrap() {
                seen.push(entry[key].as_str().map_or_else(|| entry[key].to_string(), str::to_owned));
            }
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen, expected, "{path}");
    }
    for query in ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "before=a"] {
        node.request("GET", &format!("/v1/functions?{query}")).send().refusal(400, "INVALID_QUERY");
    }
    node.request("GET", "/v1/functions/a/versions?after=x").send().refusal(400, "INVALID_QUERY");
}

#[test]
fn the_command_line_shows_usage() {
    let node = Node::start(Options::default());
    node.deploy("f", &guests::wat("echo"), &[]);
    let run = |arguments: &[&str]| {
        let mut command = orama(arguments);
        command.env("ORAMA_HOME", &node.home);
        let output = output(command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = run(&["namespace", "usage"]);
    let line = table.lines().find(|line| line.contains("functions ")).unwrap_or_else(|| panic!("{table}"));
    assert!(line.contains('1') && line.contains("1000"), "{table}");
    let json: Value = serde_json::from_str(&run(&["namespace", "usage", "default", "--json"])).unwrap();
    assert_eq!(json["usage"]["functions"]["used"], 1);
}
