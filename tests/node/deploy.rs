//! Deploys: what is accepted, what is refused and in which words, and that nothing is compiled twice.

use crate::harness::{Node, Options, Shared};
use crate::http::Answer;
use orama_test_support::guests;
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn the_answer_is_the_contracts() {
    let Ok(node) = Shared::node() else { return };
    let wasm = guests::wat("echo");
    let answer = node.deploy("shape", &wasm, &[]);
    assert_eq!(keys(&answer), ["compiled", "function", "message"]);
    let function = &answer["function"];
    let expected = [
        "concurrency",
        "created_at",
        "id",
        "internal",
        "is_public",
        "keep_versions",
        "max_body",
        "memory_limit_mb",
        "name",
        "namespace",
        "retry_count",
        "retry_delay_seconds",
        "start",
        "status",
        "timeout_seconds",
        "updated_at",
        "version",
        "wasm_cid",
    ];
    assert_eq!(keys(function), expected);
    for (key, value) in [
        ("name", json!("shape")),
        ("namespace", json!("default")),
        ("version", json!(1)),
        ("memory_limit_mb", json!(64)),
        ("timeout_seconds", json!(30)),
        ("is_public", json!(false)),
        ("retry_count", json!(0)),
        ("concurrency", json!(0)),
        ("keep_versions", json!(0)),
        ("retry_delay_seconds", json!(5)),
        ("start", json!("auto")),
        ("status", json!("active")),
    ] {
        assert_eq!(function[key], value, "{key}");
    }
    assert!(function["wasm_cid"].as_str().unwrap().starts_with("bafkrei"), "{function}");
    assert_eq!(function["created_at"], function["updated_at"]);
    assert_eq!(*function, node.get("/v1/functions/shape").expect(200).json());
    assert!(!answer.to_string().contains("env"), "{answer}");
}

#[test]
fn every_field_is_taken_and_wins_over_metadata() {
    let Ok(node) = Shared::node() else { return };
    let wasm = guests::wat("echo");
    let told = |function: &Value| {
        ["is_public", "memory_limit_mb", "timeout_seconds", "retry_count", "retry_delay_seconds"]
            .map(|key| function[key].clone())
    };
    let fields = [
        ("namespace", "default"),
        ("is_public", "true"),
        ("memory_limit_mb", "256"),
        ("timeout_seconds", "300"),
        ("retry_count", "5"),
        ("retry_delay_seconds", "86400"),
    ];
    let all = [json!(true), json!(256), json!(300), json!(5), json!(86400)];
    assert_eq!(told(&node.deploy("fields", &wasm, &fields)["function"]), all);
    let smallest = [("memory_limit_mb", "1"), ("timeout_seconds", "1"), ("retry_delay_seconds", "0")];
    // The echo guest wants more than 1 MB, so one that needs no memory of its own shows the lower end.
    let answer = node.deploy("smallest", &guests::wat("empty"), &smallest);
    assert_eq!(told(&answer["function"]), [json!(false), json!(1), json!(1), json!(0), json!(0)]);

    let metadata = json!({
        "name": "not-this", "is_public": true, "memory_limit_mb": 100, "timeout_seconds": 7, "retry_count": 2,
        "retry_delay_seconds": 9, "env_vars": { "A": "1" },
    })
    .to_string();
    let with = |more: &[(&str, &str)]| {
        let fields = [&[("metadata", metadata.as_str())], more].concat();
        node.deploy("fields", &wasm, &fields)["function"].clone()
    };
    assert_eq!(told(&with(&[])), [json!(true), json!(100), json!(7), json!(2), json!(9)]);
    let some = with(&[("timeout_seconds", "8"), ("is_public", "false")]);
    assert_eq!(told(&some), [json!(false), json!(100), json!(8), json!(2), json!(9)]);
    assert_eq!(some["name"], "fields");
    // The metadata may come last, and may bring the name.
    let parts: [(&str, &[u8]); 2] = [("wasm", &wasm), ("metadata", b"{\"name\":\"from-metadata\"}")];
    let answer = node.request("POST", "/v1/functions").form(&parts).send().expect(201).json();
    assert_eq!(answer["function"]["name"], "from-metadata");
}

#[test]
fn a_field_that_is_not_accepted_is_named() {
    let Ok(node) = Shared::node() else { return };
    let wasm = guests::wat("echo");
    for (field, value) in [
        ("memory_limit_mb", "0"),
        ("memory_limit_mb", "257"),
        ("memory_limit_mb", "64.5"),
        ("memory_limit_mb", "-1"),
        ("timeout_seconds", "0"),
        ("timeout_seconds", "301"),
        ("timeout_seconds", ""),
        ("retry_count", "6"),
        ("retry_count", "99999999999999999999"),
        ("retry_delay_seconds", "-1"),
        ("is_public", "yes"),
        ("internal", "yes"),
        ("max_body", "33"),
        ("cors", "{}"),
        ("colour", "red"),
        ("env_vars", "{}"),
        ("metadata", "not json"),
        ("metadata", "[]"),
    ] {
        let message = node.try_deploy("refused", &wasm, &[(field, value)]).refusal(422, "INVALID_CONFIG");
        assert!(message.contains(field), "{field}={value}: {message}");
    }
    for (metadata, named) in [
        (json!({ "memory_limit_mb": 257 }), "memory_limit_mb"),
        (json!({ "memory_limit_mb": "64" }), "memory_limit_mb"),
        (json!({ "timeout_seconds": 1.5 }), "timeout_seconds"),
        (json!({ "is_public": "true" }), "is_public"),
        (json!({ "cors": { "origins": ["app.example"] } }), "cors.origins"),
        (json!({ "cors": { "origins": ["*"], "method": [] } }), "method"),
        (json!({ "cors": [["https://app.example"]] }), "cors"),
        (json!({ "colour": 1 }), "colour"),
        (json!({ "env_vars": [] }), "env_vars"),
        (json!({ "env_vars": { "PORT": 80 } }), "PORT"),
        (json!({ "env_vars": { "A=B": "x" } }), "A=B"),
        (json!({ "env_vars": { "BIG": "x".repeat(70_000) } }), "env_vars"),
    ] {
        let answer = node.try_deploy("refused", &wasm, &[("metadata", &metadata.to_string())]);
        let message = answer.refusal(422, "INVALID_CONFIG");
        assert!(message.contains(named) && message.len() < 500, "{metadata}: {message}");
    }
    let long = "n".repeat(64);
    for name in ["", "1a", "-a", "a b", "a/b", "a@2", "a.b", "ä", "secrets", &long] {
        let message = node.try_deploy(name, &wasm, &[]).refusal(422, "INVALID_NAME");
        assert!(name != "secrets" || message.contains("reserved"), "{message}");
    }
    node.deploy(&long[1..], &wasm, &[]);
    node.deploy("Secrets", &wasm, &[]);
    let twice = node.try_deploy("refused", &wasm, &[("retry_count", "1"), ("retry_count", "1")]);
    assert!(twice.refusal(422, "INVALID_CONFIG").contains("retry_count"));
    node.get("/v1/functions/refused").refusal(404, "FUNCTION_NOT_FOUND");
}

#[test]
fn a_form_that_is_none_is_refused() {
    let Ok(node) = Shared::node() else { return };
    let post = || node.request("POST", "/v1/functions");
    let wasm = guests::wat("echo");
    let message = post().form(&[("name", b"x")]).send().refusal(422, "INVALID_CONFIG");
    assert!(message.contains("`wasm`"), "{message}");
    let message = post().form(&[("wasm", &wasm)]).send().refusal(422, "INVALID_CONFIG");
    assert!(message.contains("`name`"), "{message}");
    post().send().refusal(400, "INVALID_FORM");
    post().header("content-type", "application/json").body("{}").send().refusal(400, "INVALID_FORM");
    let multipart = "multipart/form-data; boundary=x";
    for body in [
        &b"--x\r\ncontent-disposition: form-data; name=\"name\"\r\n\r\nabc"[..],
        b"--y\r\n\r\n--y--\r\n",
        b"--x\r\n\xff\xfe",
        b"--x\r\ncontent-disposition: form-data\r\n\r\nabc\r\n--x--\r\n",
        b"--x\r\ncontent-disposition: form-data; name=\"wasm\"; filename=\"f\"\r\n\r\n\0asm",
    ] {
        post().header("content-type", multipart).body(body).send().refusal(400, "INVALID_FORM");
    }
}

#[test]
fn a_module_that_cannot_run_is_refused_with_the_reason() {
    let Ok(node) = Shared::node() else { return };
    let refused = |wasm: &[u8], named: &[&str]| {
        let message = node.try_deploy("cannot-run", wasm, &[]).refusal(422, "INVALID_MODULE");
        for part in named {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    };
    refused(b"", &["WebAssembly"]);
    refused(b"\x7fELF not wasm", &["WebAssembly"]);
    refused(b"(module)", &["WebAssembly"]);
    let echo = guests::wat("echo");
    refused(&echo[..echo.len() - 3], &[]);
    refused(&guests::wat("component"), &["component"]);
    refused(&guests::wat("no_start"), &["_start"]);
    refused(&guests::wat("reactor"), &["_start"]);
    refused(&guests::wat("start_wrong_type"), &["_start"]);
    let unknown = [
        "env.no_such_function",
        "host.db_drop_everything",
        "orama.get_ENV",
        "wasi_snapshot_preview1.fd_teleport",
        "gojs.runtime.wasmExit",
    ];
    refused(&guests::wat("unknown_imports"), &unknown);
    refused(&guests::wat("import_wrong_type"), &["get_env", "fd_write"]);
    refused(&guests::wat("import_memory"), &["env.memory"]);
    refused(&guests::wat("memory_min_100_mb"), &["104857600 bytes", "64 MB"]);
    refused(&guests::wat("memory_min_300_mb"), &["314572800 bytes"]);
    refused(&guests::wat("memory_shared"), &[]);
    refused(&guests::wat("invalid_body"), &[]);
    node.deploy("fits", &guests::wat("memory_min_100_mb"), &[("memory_limit_mb", "128")]);
    node.invoke("fits", "").expect(200);
    // Nothing of a refused module is kept.
    node.get("/v1/functions/cannot-run").refusal(404, "FUNCTION_NOT_FOUND");
}

#[test]
fn every_hostile_module_is_refused_or_runs_within_its_limits() {
    let Ok(node) = Shared::node() else { return };
    for guest in guests::wat_names() {
        let wasm = guests::wat(&guest);
        let deployed = node.try_deploy("hostile", &wasm, &[("timeout_seconds", "1")]);
        if deployed.status == 201 {
            let answer = node.invoke("hostile", "input");
            assert!(matches!(answer.status, 200 | 500 | 504), "{guest}: {answer:?}");
            assert!(!answer.text().contains("\"INTERNAL\""), "{guest}: {}", answer.text());
        } else {
            deployed.refusal(422, "INVALID_MODULE");
        }
    }
    node.anonymous("GET", "/ready").send().expect(200);
}

fn files(node: &Node, folder: &str) -> usize {
    std::fs::read_dir(node.home.join("data").join(folder)).unwrap().count()
}

#[test]
fn what_a_deploy_does_not_say_stays() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let wasm = guests::wat("echo");
    let cors = json!({ "origins": ["https://app.example"] });
    let metadata = json!({ "env_vars": { "KEY": "value" }, "cors": cors }).to_string();
    let fields: &[(&str, &str)] = &[
        ("is_public", "true"),
        ("memory_limit_mb", "32"),
        ("timeout_seconds", "7"),
        ("retry_count", "2"),
        ("max_body", "9"),
        ("metadata", &metadata),
    ];
    node.deploy("f", &wasm, fields);
    let shown = |node: &Node| {
        let mut shown = node.get("/v1/functions/f").expect(200).json();
        for changes in ["id", "version", "created_at", "updated_at", "start_note"] {
            shown.as_object_mut().unwrap().remove(changes);
        }
        shown
    };
    let before = shown(&node);
    node.deploy("f", &wasm, &[]);
    assert_eq!(shown(&node), before);
    node.deploy("f", &wasm, &[("timeout_seconds", "9"), ("metadata", "{\"cors\":null}")]);
    let after = shown(&node);
    assert_eq!((&after["timeout_seconds"], &after["cors"]), (&json!(9), &Value::Null));
    assert_eq!((&after["retry_count"], &after["is_public"]), (&before["retry_count"], &json!(true)));
    let said = node.try_deploy("f", &wasm, &[("internal", "true")]).refusal(422, "INVALID_CONFIG");
    assert!(said.contains("internal"), "{said}");
}

#[test]
fn the_same_module_is_compiled_once() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let wasm = guests::wat("echo");
    let compiled = |answer: Value| answer["compiled"].clone();
    assert_eq!(compiled(node.deploy("a", &wasm, &[])), true);
    assert_eq!(node.compilations(), 1.0);
    assert_eq!(compiled(node.deploy("a", &wasm, &[])), false);
    assert_eq!(compiled(node.deploy("b", &wasm, &[("memory_limit_mb", "32")])), false);
    node.restart();
    assert_eq!(compiled(node.deploy("c", &wasm, &[])), false);
    assert_eq!(node.compilations(), 0.0);
    assert_eq!((files(&node, "blobs"), files(&node, "artifacts")), (1, 1));

    // A module's bytes and code go with the last function that uses them.
    node.delete("/v1/functions/a").expect(200);
    node.delete("/v1/functions/b").expect(200);
    assert_eq!(node.invoke("c", "[1]").expect(200).text(), "[1]");
    node.delete("/v1/functions/c").expect(200);
    assert_eq!((files(&node, "blobs"), files(&node, "artifacts")), (0, 0));
    assert_eq!(compiled(node.deploy("c", &wasm, &[])), true);
    // A refused module leaves nothing behind.
    node.try_deploy("d", &guests::wat("no_start"), &[]).refusal(422, "INVALID_MODULE");
    assert_eq!((files(&node, "blobs"), files(&node, "artifacts")), (1, 1));
}

#[test]
fn what_was_compiled_once_is_known_to_the_next_module_also_on_a_new_home() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    node.deploy("first", &unique("echo", "first"), &[]);
    let known = || {
        let entries =
            std::fs::read_dir(node.home.join("data/code")).expect("the compiling process keeps code");
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let first = known();
    assert!(first > 0);
    node.deploy("second", &unique("echo", "second"), &[]);
    assert_eq!(known(), first, "its functions are the same");
}

#[test]
fn a_module_over_the_limit_is_refused_before_and_after_it_is_sent() {
    let Ok(node) = Shared::node() else { return };
    // The announced length alone is enough.
    let mut connection = node.connect();
    let head = node
        .request("POST", "/v1/functions")
        .header("content-type", "multipart/form-data; boundary=x")
        .header("content-length", &(70 << 20).to_string())
        .bytes();
    connection.write(head);
    let message = connection.answer().refusal(413, "PAYLOAD_TOO_LARGE");
    assert!(message.contains("bytes"), "{message}");
    connection.expect_closed();
    // A module of one byte too many, in a request that is within its own limit.
    let wasm = vec![0; (64 << 20) + 1];
    let message = node.try_deploy("large", &wasm, &[]).refusal(413, "PAYLOAD_TOO_LARGE");
    assert!(message.contains("`wasm`") && message.contains("67108864"), "{message}");
}

/// A module that no other test has: `echo` with a custom section.
pub fn unique(guest: &str, mark: &str) -> Vec<u8> {
    let mut wasm = guests::wat(guest);
    let mark = format!("mark{mark}");
    wasm.extend_from_slice(&[0, u8::try_from(mark.len() + 1).unwrap(), 4]);
    wasm.extend_from_slice(mark.as_bytes());
    wasm
}

#[test]
fn many_deploys_at_once_each_get_a_version_of_their_own() {
    let Ok(node) = Node::try_start(Options::default()) else { return };
    let deploy = |thread: usize, n: usize| -> Answer {
        // Half of them bring a module of their own, half the same one. A node that has too much to compile says so.
        let wasm =
            if n.is_multiple_of(2) { guests::wat("echo") } else { unique("echo", &format!("{thread}-{n}")) };
        loop {
            let answer = node.try_deploy("contended", &wasm, &[]);
            assert!(answer.status == 201 || answer.header("retry-after").is_some(), "{answer:?}");
            match answer.status {
                503 => drop(answer.refusal(503, "OVERLOADED")),
                // On a slow machine, attempts that found no room take all tokens of the key.
                429 => drop(answer.refusal(429, "RATE_LIMITED")),
                _ => return answer,
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let versions: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..24)
            .map(|thread| {
                let deploy = &deploy;
                scope.spawn(move || {
                    (0..4)
                        .map(|n| {
                            deploy(thread, n).expect(201).json()["function"]["version"].as_u64().unwrap()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut sorted = versions.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=96).collect::<Vec<u64>>());
    // 48 of their own, and the one that all share.
    assert_eq!(node.compilations(), 49.0);
    for version in [1, 50, 96] {
        assert_eq!(node.invoke(&format!("contended@{version}"), "[2]").expect(200).text(), "[2]");
    }
}
