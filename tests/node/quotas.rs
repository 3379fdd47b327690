//! Quotas of namespaces, the reserve of the disk, and lists in pages.

use crate::harness::{Node, Options, orama, output};
use crate::honest::{deploy_as, tenant_with_keys};
use orama_test_support::guests;
use serde_json::{Value, json};

fn deploy(node: &Node, key: &str, name: &str, guest: &str) -> crate::http::Answer {
    deploy_as(node, key, name, &guests::wat(guest), &[])
}

#[test]
fn a_quota_is_told_refuses_and_can_be_changed() {
    let node = Node::start(Options { databases: &["default", "q"], ..Options::default() });
    let [key, admin] = tenant_with_keys(&node, "q");
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
    assert_eq!(told["usage"]["functions"], json!({ "used": 2, "limit": 2, "percent": 100 }));
    assert_eq!(told["usage"]["versions"], json!({ "used": 2, "limit": 2, "percent": 100 }));
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
fn what_is_nearly_used_up_is_told_by_the_deploy_and_the_usage() {
    let node = Node::start(Options { databases: &["default", "n"], ..Options::default() });
    let [key, admin] = tenant_with_keys(&node, "n");
    let body = json!({ "versions": 5, "module_bytes": 1 << 20 }).to_string();
    node.request("PUT", "/v1/namespaces/n/quotas").body(body).send().expect(200);
    for _ in 0..3 {
        let deployed = deploy(&node, &key, "f", "echo").expect(201).json();
        assert!(deployed.get("warnings").is_none(), "{deployed}");
    }
    let deployed = deploy(&node, &key, "f", "echo").expect(201).json();
    let told = node.request_as(&admin, "GET", "/v1/namespaces/n/usage").send().expect(200).json();
    for warnings in [&deployed["warnings"], &told["warnings"]] {
        let warning = warnings[0].as_str().unwrap();
        for word in ["80%", "`versions`", "4 of 5", "delete versions", "the operator"] {
            assert!(warning.contains(word), "{word}: {warnings}");
        }
        assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
    }
    let shell = crate::shell::Shell::with_key(&node, &admin);
    let (table, warned) = shell.run(0, &["namespace", "usage", "n"]);
    assert!(
        table.contains("80%") && warned.contains("warning: 80% of the quota `versions`"),
        "{table}{warned}"
    );
}

/// Inserts 300 kB and says whether that was possible.
const INSERTS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "env" "db_execute" (func $execute (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "[]")
  (data (i32.const 32) "CREATE TABLE IF NOT EXISTS t (x)")
  (data (i32.const 128) "INSERT INTO t VALUES (zeroblob(300000))")
  (data (i32.const 256) "full")
  (data (i32.const 264) "took")
  (func (export "_start")
    (drop (call $execute (i32.const 32) (i32.const 32) (i32.const 16) (i32.const 2)))
    (i32.store (i32.const 0) (i32.const 256))
    (if (call $execute (i32.const 128) (i32.const 39) (i32.const 16) (i32.const 2))
      (then (i32.store (i32.const 0) (i32.const 264))))
    (i32.store (i32.const 4) (i32.const 4))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn a_database_stays_within_its_quota_which_is_told_and_can_be_changed() {
    let node = Node::start(Options { databases: &["default", "d"], ..Options::default() });
    let [key, admin] = tenant_with_keys(&node, "d");
    let parts: [(&str, &[u8]); 2] = [("name", b"fill"), ("wasm", &wat::parse_str(INSERTS).unwrap())];
    node.request_as(&key, "POST", "/v1/functions").form(&parts).send().expect(201);
    let usage = || node.request_as(&admin, "GET", "/v1/namespaces/d/usage").send().expect(200).json();
    let set = |body: Value| {
        node.request("PUT", "/v1/namespaces/d/quotas").body(body.to_string()).send().expect(200);
    };
    assert_eq!(usage()["usage"]["database_bytes"], json!({ "used": 0, "limit": 1 << 30, "percent": 0 }));
    let fill = || {
        let answer = node.request_as(&key, "POST", "/v1/functions/fill/invoke").body("").send().expect(200);
        (
            answer.json()["output"].as_str().unwrap().to_owned(),
            answer.header("x-request-id").unwrap().to_owned(),
        )
    };
    assert_eq!(fill().0, "took");
    set(json!({ "database_bytes": 1 << 20 }));
    let mut took = 1;
    let refused = loop {
        let (said, id) = fill();
        if said == "full" {
            break id;
        }
        took += 1;
        assert!(took < 10, "300 kB each in 1 MiB");
    };
    assert_eq!(took, 3);
    let path = format!("/v1/functions/fill/logs?request_id={refused}");
    let logs = node.request_as(&key, "GET", &path).send().expect(200).text();
    assert!(logs.contains("quota `database_bytes`") && logs.contains("1048576 bytes"), "{logs}");
    let told = usage();
    assert!(told["usage"]["database_bytes"]["used"].as_u64().unwrap() > 900_000, "{told}");
    assert!(told["warnings"][0].as_str().unwrap().contains("`database_bytes`"), "{told}");
    set(json!({}));
    assert_eq!(fill().0, "took", "at once, in the process that runs");
}

#[test]
fn quotas_are_the_operators_and_usage_the_admins() {
    let node = Node::start(Options { databases: &["default", "r", "s"], ..Options::default() });
    let ([deploy, admin], [_, other]) = (tenant_with_keys(&node, "r"), tenant_with_keys(&node, "s"));
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
        ("{\"database_bytes\":1073741825}", "at most 1073741824"),
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
fn the_command_line_follows_pages_to_the_end_or_to_the_limit() {
    let node = Node::start(Options::default());
    let shell = crate::shell::Shell::of(&node);
    node.deploy("f", &guests::wat("echo"), &[]);
    // More than one page has.
    let mut connection = node.connect();
    for number in 0..1000 {
        let body = json!({ "name": format!("S{number:04}"), "value": "v" }).to_string();
        connection.write(node.request("PUT", "/v1/functions/secrets").body(body).bytes());
        connection.answer().expect(200);
    }
    for number in 0..60 {
        let body = json!({ "topic": format!("t{number}") }).to_string();
        connection.write(node.request("POST", "/v1/functions/f/triggers").body(body).bytes());
        connection.answer().expect(201);
    }
    let keys: Vec<String> = (0..1001).map(|number| format!("n{number:04}")).collect();
    for name in &keys {
        let body = json!({ "name": name }).to_string();
        connection.write(node.request("POST", "/v1/namespaces").body(body).bytes());
        connection.answer().expect(201);
    }
    let listed = shell.json(&["namespace", "list"]);
    assert_eq!((&listed["count"], listed.get("next")), (&json!(1002), None), "with `default`");
    assert_eq!(listed["namespaces"][1001]["name"], "n1000");
    assert_eq!(shell.run(0, &["namespace", "list"]).0.lines().count(), 1003, "and the head of the table");
    let some = shell.json(&["namespace", "list", "--limit", "1001"]);
    assert_eq!((&some["count"], &some["next"]), (&json!(1001), &json!("n0999")));
    assert_eq!(shell.run(0, &["fn", "secrets", "list"]).0.lines().count(), 1000);
    assert_eq!(shell.run(0, &["fn", "secrets", "list", "--limit", "7"]).0.lines().count(), 7);
    let triggers = shell.json(&["fn", "triggers", "list", "f", "--limit", "59"]);
    assert_eq!(triggers["count"], 59);
    assert_eq!(shell.json(&["fn", "versions", "f", "--limit", "5"])["count"], 1);
    assert_eq!(shell.json(&["fn", "list", "--limit", "1"])["count"], 1);
    assert_eq!(shell.json(&["keys", "list", "--limit", "1"])["count"], 1);
    shell.run(2, &["fn", "list", "--limit", "0"]);
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
    let quotas = run(&["namespace", "quotas", "default", "--set", "functions=9", "--set", "objects=8"]);
    let line = |name: &str| quotas.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("functions ").contains('9') && line("functions ").contains("operator"), "{quotas}");
    assert!(!line("versions ").contains("operator"), "{quotas}");
    // What is not named stays.
    let quotas = run(&["namespace", "quotas", "default", "--unset", "functions", "--json"]);
    let quotas: Value = serde_json::from_str(&quotas).unwrap();
    assert_eq!(quotas["overrides"], serde_json::json!({ "objects": 8 }));
}
