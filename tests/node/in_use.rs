//! Versions in use: aliases, rollbacks, shares of the traffic, updates without an upload, functions that are disabled.

use crate::harness::{Node, Options, Shared, eventually, output};
use crate::http::Answer;
use crate::process;
use crate::shell::Shell;
use crate::speakers::{said, speaker};
use orama_test_support::tools;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;

/// Answers with the variable whose name it is sent.
const TELLS_VARIABLE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "env" "get_env" (func $get_env (param i32 i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "orama_alloc") (param i32) (result i32) (i32.const 8192))
  (func (export "_start") (local $got i64)
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 64))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $got (call $get_env (i32.const 4096) (i32.load (i32.const 8))))
    (i32.store (i32.const 0) (i32.wrap_i64 (i64.shr_u (local.get $got) (i64.const 32))))
    (i32.store (i32.const 4) (i32.wrap_i64 (local.get $got)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn send(node: &Node, method: &str, path: &str, body: &Value) -> Answer {
    node.request(method, path).body(body.to_string()).send()
}

/// Versions 1 to `count`, which say `v1 ` and so on before their input.
fn versions(node: &Node, name: &str, count: u32) {
    for version in 1..=count {
        node.deploy(name, &speaker(&format!("v{version}")), &[]);
    }
}

/// Runs a command, which must end with this code; what it says.
#[track_caller]
fn ends(node: &Node, code: i32, arguments: &[&str]) -> String {
    let shell = Shell::of(node);
    let mut command = shell.command(&[&["function"], arguments].concat());
    // The tests' own folder is in a repository.
    command.env("GIT_CEILING_DIRECTORIES", shell.dir.parent().unwrap());
    let (stdout, stderr) = process::run(code, command);
    stdout + &stderr
}

#[track_caller]
fn run(node: &Node, arguments: &[&str]) -> String {
    ends(node, 0, arguments)
}

#[test]
fn an_alias_stands_for_a_version_wherever_a_number_may() {
    let Ok(node) = Shared::node() else { return };
    versions(&node, "aliased", 3);
    let path = "/v1/functions/aliased/aliases";
    let list = node.get(path).expect(200).json();
    assert_eq!(list, json!({ "count": 1, "aliases": [{ "alias": "live", "version": 3, "set_at": null }] }));
    let set = send(&node, "PUT", &format!("{path}/canary"), &json!({ "version": 2 })).expect(200).json();
    assert_eq!((&set["alias"], &set["version"]), (&json!("canary"), &json!(2)));
    assert_eq!(node.get(&format!("{path}/canary")).expect(200).json(), set);
    assert_eq!(said(node.invoke("aliased@canary", "")), "v2");
    assert_eq!(said(node.invoke("aliased%40canary", "")), "v2");
    assert_eq!(said(node.invoke("aliased@live", "")), "v3");
    assert_eq!(said(node.request("POST", "/v1/invoke/default/aliased@canary").send()), "v2");
    assert_eq!(node.request("GET", "/fn/default/aliased@canary/x").send().expect(200).text(), "v2");
    assert_eq!(node.get("/v1/functions/aliased@canary").expect(200).json()["version"], 2);
    eventually("its records", || {
        let logs = node.get("/v1/functions/aliased@canary/logs").expect(200).json();
        logs["invocations"].as_array().unwrap().iter().all(|record| record["version"] == 2)
            && logs["count"] == 4
    });
    // It moves at once.
    send(&node, "PUT", &format!("{path}/canary"), &json!({ "version": 1 })).expect(200);
    assert_eq!(said(node.invoke("aliased@canary", "")), "v1");
    node.delete("/v1/functions/aliased@1").refusal(409, "VERSION_IN_USE");
    node.delete("/v1/functions/aliased@canary").refusal(400, "INVALID_VERSION");
    node.delete(&format!("{path}/canary")).expect(200);
    node.delete(&format!("{path}/canary")).refusal(404, "ALIAS_NOT_FOUND");
    node.invoke("aliased@canary", "").refusal(404, "FUNCTION_NOT_FOUND");
    for (alias, body, status, code) in [
        ("canary", json!({ "version": 9 }), 404, "FUNCTION_NOT_FOUND"),
        ("1st", json!({ "version": 1 }), 422, "INVALID_NAME"),
        ("canary", json!({ "version": "1" }), 400, "INVALID_BODY"),
        ("canary", json!({}), 400, "INVALID_BODY"),
    ] {
        send(&node, "PUT", &format!("{path}/{alias}"), &body).refusal(status, code);
    }
    send(&node, "PUT", "/v1/functions/none/aliases/a", &json!({ "version": 1 }))
        .refusal(404, "FUNCTION_NOT_FOUND");
}

#[test]
fn a_rollback_holds_until_a_deploy_says_that_it_is_live() {
    let Ok(node) = Shared::node() else { return };
    versions(&node, "rolled", 2);
    assert!(run(&node, &["rollback", "rolled"]).contains("rolled@live is version 1"));
    assert_eq!(said(node.invoke("rolled", "")), "v1");
    assert!(ends(&node, 1, &["rollback", "rolled"]).contains("has no version before 1"));
    let third = node.deploy("rolled", &speaker("v3"), &[]);
    assert_eq!(third["live"], 1);
    assert!(third["warnings"][0].as_str().unwrap().contains("version 1 stays live"), "{third}");
    assert_eq!(said(node.invoke("rolled", "")), "v1");
    assert_eq!(node.deploy("rolled", &speaker("v4"), &[("alias", "live")])["live"], Value::Null);
    assert_eq!(said(node.invoke("rolled", "")), "v4");
    run(&node, &["rollback", "rolled", "2"]);
    assert_eq!(said(node.invoke("rolled", "")), "v2");
    assert!(run(&node, &["aliases", "list", "rolled"]).contains("live"));
    run(&node, &["aliases", "delete", "rolled", "live"]);
    assert_eq!(said(node.invoke("rolled", "")), "v4");
    // A canary leaves live what is live.
    let canary = node.deploy("rolled", &speaker("v5"), &[("alias", "canary")]);
    assert_eq!(canary["live"], 4);
    assert_eq!(
        (said(node.invoke("rolled", "")), said(node.invoke("rolled@canary", ""))),
        ("v4".into(), "v5".into())
    );
    let listed = node.get("/v1/functions/rolled/versions").expect(200).json();
    assert_eq!(listed["versions"][0]["aliases"], json!(["canary"]));
    assert_eq!(
        (&listed["versions"][1]["aliases"], &listed["versions"][1]["traffic_percent"]),
        (&json!(["live"]), &json!(100.0))
    );
}

#[test]
fn traffic_is_spread_by_weight_and_a_caller_stays_with_its_version() {
    let Ok(node) = Shared::node() else { return };
    versions(&node, "spread", 3);
    let path = "/v1/functions/spread/traffic";
    assert_eq!(node.get(path).expect(200).json()["weights"], json!({}));
    let weights = json!({ "weights": { "1": 50, "3": 50 }, "sticky": "header:x-user" });
    send(&node, "PUT", path, &weights).expect(200);
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..200 {
        *counts.entry(said(node.invoke("spread", ""))).or_default() += 1;
    }
    // The chance that one of them has fewer than 50 of 200 is below 1 in 10^12.
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["v1", "v3"]);
    assert!(counts.values().all(|count| *count >= 50), "{counts:?}");
    let as_user = |user: &str| said(node.invoke_request("spread").header("x-user", user).body("").send());
    let mut seen = BTreeMap::new();
    for user in 0..40 {
        let user = user.to_string();
        let first = as_user(&user);
        assert!((0..5).all(|_| as_user(&user) == first), "user {user} stays with {first}");
        let on_the_web = node.request("GET", "/fn/default/spread").header("x-user", &user).send();
        assert_eq!(on_the_web.expect(200).text(), first);
        seen.insert(first, ());
    }
    assert_eq!(seen.len(), 2, "users are spread too");
    assert_eq!(said(node.invoke("spread@2", "")), "v2", "who names a version gets it");
    assert_eq!(said(node.invoke("spread@live", "")), "v3", "as does who names an alias");
    node.delete("/v1/functions/spread@1").refusal(409, "VERSION_IN_USE");
    send(&node, "PUT", path, &json!({ "weights": { "1": 1 }, "sticky": "cookie:ab" })).expect(200);
    assert_eq!(said(node.invoke("spread", "")), "v1");
    let told = run(&node, &["traffic", "spread", "1=1", "2=3", "--sticky", "cookie:ab"]);
    assert!(told.contains("75.000%"), "{told}");
    let listed = node.get("/v1/functions/spread/versions").expect(200).json();
    assert_eq!(listed["versions"][1]["traffic_percent"], 75.0);
    for bad in [
        json!({ "weights": {} }),
        json!({ "weights": { "1": 0 } }),
        json!({ "weights": { "1": 100_001 } }),
        json!({ "weights": { "1": 1 }, "sticky": "user" }),
    ] {
        send(&node, "PUT", path, &bad).refusal(400, "INVALID_TRAFFIC");
    }
    send(&node, "PUT", path, &json!({ "weights": { "9": 1 } })).refusal(404, "FUNCTION_NOT_FOUND");
    assert_eq!(node.get(path).expect(200).json()["weights"], json!({ "1": 1, "2": 3 }));
    run(&node, &["rollback", "spread", "2"]);
    assert_eq!(node.get(path).expect(200).json()["weights"], json!({}), "a rollback ends the spread");
    assert!((0..10).all(|_| said(node.invoke("spread", "")) == "v2"));
}

#[test]
fn triggers_follow_what_is_live() {
    let Ok(node) = Shared::node() else { return };
    versions(&node, "followed", 2);
    send(&node, "POST", "/v1/functions/followed/triggers", &json!({ "topic": "followed" })).expect(201);
    let versions_run = || {
        let logs = node.get("/v1/functions/followed/logs").expect(200).json();
        let records = logs["invocations"].as_array().unwrap();
        records.iter().map(|record| record["version"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let publish = || {
        send(&node, "POST", "/v1/pubsub/publish", &json!({ "topic": "followed", "data": 1 })).expect(202);
    };
    publish();
    eventually("the newest version runs", || versions_run() == [2]);
    send(&node, "PUT", "/v1/functions/followed/aliases/live", &json!({ "version": 1 })).expect(200);
    send(&node, "PUT", "/v1/functions/followed/traffic", &json!({ "weights": { "2": 1 } })).expect(200);
    publish();
    eventually("the live version runs, whatever the spread says", || versions_run() == [1, 2]);
}

#[test]
fn an_update_changes_all_but_the_code() {
    let Ok(node) = Shared::node() else { return };
    let env = json!({ "env_vars": { "A": "one", "B": "two" } }).to_string();
    node.deploy(
        "updated",
        &wat::parse_str(TELLS_VARIABLE).unwrap(),
        &[("timeout_seconds", "7"), ("metadata", &env)],
    );
    let path = "/v1/functions/updated";
    let changed = json!({ "memory_limit_mb": 128, "env_vars": { "B": null, "C": "three" }, "source": { "message": "more memory" } });
    let updated = send(&node, "PATCH", path, &changed).expect(200).json();
    let (function, before) = (&updated["function"], node.get("/v1/functions/updated@1").expect(200).json());
    assert_eq!(
        (&function["version"], &function["memory_limit_mb"], &function["timeout_seconds"]),
        (&json!(2), &json!(128), &json!(7))
    );
    assert_eq!(function["wasm_cid"], before["wasm_cid"]);
    let listed = node.get("/v1/functions/updated/versions").expect(200).json();
    let newest = &listed["versions"][0];
    assert_eq!((&newest["updated_from"], &newest["source"]["message"]), (&json!(1), &json!("more memory")));
    assert_eq!(*function, node.get(path).expect(200).json());
    for (name, value) in [("A", "one"), ("B", ""), ("C", "three")] {
        assert_eq!(
            node.invoke("updated", name).expect(200).json()["output"].as_str().unwrap_or_default(),
            value,
            "{name}"
        );
    }
    let told = run(
        &node,
        &[
            "update",
            "updated",
            "--set",
            "public=true",
            "--set",
            "timeout=9",
            "--env",
            "D=4",
            "--unset-env",
            "A",
        ],
    );
    assert!(told.contains("as version 3"), "{told}");
    let third = node.get(path).expect(200).json();
    assert_eq!(
        (&third["is_public"], &third["timeout_seconds"], &third["memory_limit_mb"]),
        (&json!(true), &json!(9), &json!(128))
    );
    // From an older version, and named by an alias.
    let canary = send(&node, "PATCH", &format!("{path}@1"), &json!({ "concurrency": 3, "alias": "canary" }))
        .expect(200)
        .json();
    assert_eq!(
        (&canary["function"]["memory_limit_mb"], &canary["live"]),
        (&before["memory_limit_mb"], &json!(3))
    );
    for (body, status, code) in [
        (json!({}), 422, "INVALID_CONFIG"),
        (json!({ "memory_limit_mb": 0 }), 422, "INVALID_CONFIG"),
        (json!({ "nonsense": 1 }), 422, "INVALID_CONFIG"),
        (json!({ "name": "other" }), 422, "INVALID_CONFIG"),
        (json!({ "enabled": "no" }), 422, "INVALID_CONFIG"),
        (json!([1]), 400, "INVALID_BODY"),
        (json!({ "source": { "commit": "x".repeat(257) } }), 422, "INVALID_CONFIG"),
    ] {
        send(&node, "PATCH", path, &body).refusal(status, code);
    }
    send(&node, "PATCH", "/v1/functions/none", &json!({ "concurrency": 3 }))
        .refusal(404, "FUNCTION_NOT_FOUND");
    send(&node, "PATCH", "/v1/functions/updated@9", &json!({ "concurrency": 3 }))
        .refusal(404, "FUNCTION_NOT_FOUND");
}

#[test]
fn an_update_cannot_give_a_module_less_memory_than_it_needs() {
    let Ok(node) = Shared::node() else { return };
    let needs_64 =
        wat::parse_str(r#"(module (memory (export "memory") 1024) (func (export "_start")))"#).unwrap();
    node.deploy("large", &needs_64, &[("memory_limit_mb", "64")]);
    let refused = send(&node, "PATCH", "/v1/functions/large", &json!({ "memory_limit_mb": 32 }));
    assert!(refused.status == 422, "{}", refused.text());
    assert_eq!(node.get("/v1/functions/large").expect(200).json()["version"], 1);
}

#[test]
fn a_disabled_function_runs_for_nobody_until_it_is_enabled() {
    let Ok(node) = Shared::node() else { return };
    node.deploy("switched", &speaker("on"), &[("is_public", "true")]);
    assert_eq!(said(node.invoke("switched", "")), "on");
    run(&node, &["disable", "switched"]);
    assert_eq!(node.get("/v1/functions/switched").expect(200).json()["status"], "disabled");
    node.invoke("switched", "").refusal(403, "FUNCTION_DISABLED");
    node.invoke("switched@1", "").refusal(403, "FUNCTION_DISABLED");
    node.anonymous("POST", "/v1/invoke/default/switched").send().refusal(403, "FUNCTION_DISABLED");
    let later = node.deploy("switched", &speaker("later"), &[]);
    assert_eq!(later["function"]["status"], "disabled");
    node.invoke("switched", "").refusal(403, "FUNCTION_DISABLED");
    let on = send(&node, "PATCH", "/v1/functions/switched", &json!({ "enabled": true })).expect(200).json();
    assert_eq!((&on["function"]["status"], &on["function"]["version"]), (&json!("active"), &json!(2)));
    assert_eq!(said(node.invoke("switched", "")), "later");
    assert!(ends(&node, 3, &["enable", "switched2"]).contains("did you mean switched?"));
}

#[test]
fn versions_tell_who_deployed_them_from_where() {
    let Ok(_) = tools::require_or_report("git") else { return };
    let Ok(node) = Shared::node() else { return };
    let dir = crate::harness::new_dir("sources").join("told");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("function.wasm"), speaker("told")).unwrap();
    std::fs::write(dir.join("function.yaml"), "name: told\n").unwrap();
    let deploy = |arguments: &[&str]| {
        let mut all = vec!["deploy", dir.to_str().unwrap()];
        all.extend(arguments);
        run(&node, &all)
    };
    deploy(&["--message", "without git"]);
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(&dir).args(["-c", "user.name=A", "-c", "user.email=a@example.org"]).args(arguments);
        let output = output(git);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q", "-b", "trunk"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "Say it\n\nwith more"]);
    deploy(&["--alias", "canary"]);
    std::fs::write(dir.join("new.txt"), "x").unwrap();
    deploy(&[]);
    let listed = node.get("/v1/functions/told/versions").expect(200).json();
    let source = |at: usize| listed["versions"][at]["source"].clone();
    let head = git(&["rev-parse", "HEAD"]);
    assert_eq!(source(2), json!({ "message": "without git" }));
    assert_eq!(
        source(1),
        json!({ "commit": head, "branch": "trunk", "message": "Say it", "is_dirty": false })
    );
    assert_eq!(source(0)["is_dirty"], true);
    let key = node.get("/v1/keys").expect(200).json()["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["current"] == true)
        .unwrap()["id"]
        .clone();
    assert_eq!(listed["versions"][0]["key_id"], key);
    let table = run(&node, &["versions", "told"]);
    assert!(table.contains(&head[..9]) && table.contains("Say it") && table.contains("canary"), "{table}");
}

#[test]
fn what_is_in_use_outlives_a_kill() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    versions(&node, "lasting", 3);
    send(&node, "PUT", "/v1/functions/lasting/aliases/live", &json!({ "version": 2 })).expect(200);
    send(&node, "PUT", "/v1/functions/lasting/aliases/old", &json!({ "version": 1 })).expect(200);
    versions(&node, "split", 2);
    send(&node, "PUT", "/v1/functions/split/traffic", &json!({ "weights": { "1": 1 } })).expect(200);
    node.deploy("off", &speaker("off"), &[]);
    send(&node, "PATCH", "/v1/functions/off", &json!({ "enabled": false })).expect(200);
    node.kill();
    node.start_again();
    assert_eq!(said(node.invoke("lasting", "")), "v2");
    assert_eq!(said(node.invoke("lasting@old", "")), "v1");
    assert_eq!(said(node.invoke("split", "")), "v1");
    node.invoke("off", "").refusal(403, "FUNCTION_DISABLED");
}
