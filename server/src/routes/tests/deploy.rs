//! Deploys: what is accepted, what is refused and how, and that nothing refused leaves a trace.

use super::*;
use orama_runtime::limits::WASM_MAX_BYTES;
use orama_runtime::names::FunctionName;
use orama_store::blob::cid;
use std::time::{Duration, Instant};

/// The parts of a form.
type Fields<'a> = &'a [(&'a str, &'a [u8])];

#[tokio::test]
async fn a_deploy_answers_with_the_contracts_object() {
    let node = Node::new();
    let wasm = command(1);
    let answer = node.deploy(&[("name", b"hello"), ("wasm", &wasm)]).await;
    assert_eq!(answer.status, 201);
    let json = answer.json();
    assert_eq!(json["message"], "function \"hello\" deployed as version 1");
    assert_eq!(json["compiled"], true);
    let function = json["function"].as_object().unwrap();
    let mut keys: Vec<_> = function.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let mut expected = [
        "id",
        "name",
        "namespace",
        "version",
        "wasm_cid",
        "max_body",
        "memory_limit_mb",
        "timeout_seconds",
        "internal",
        "is_public",
        "retry_count",
        "retry_delay_seconds",
        "concurrency",
        "keep_versions",
        "start",
        "status",
        "created_at",
        "updated_at",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((&function["name"], &function["namespace"]), (&"hello".into(), &"a".into()));
    assert_eq!((&function["memory_limit_mb"], &function["timeout_seconds"]), (&64.into(), &30.into()));
    assert_eq!((&function["retry_count"], &function["retry_delay_seconds"]), (&0.into(), &5.into()));
    assert_eq!((&function["is_public"], &function["status"]), (&false.into(), &"active".into()));
    let created = function["created_at"].as_str().unwrap();
    assert!(created.len() == 24 && created.ends_with('Z'), "{created}");
    let stored = node.app.platform.blobs.get(function["wasm_cid"].as_str().unwrap()).unwrap().unwrap();
    assert_eq!(stored, wasm);
}

#[tokio::test]
async fn the_same_module_is_compiled_and_stored_once() {
    let node = Node::new();
    let wasm = command(1);
    node.deployed("f", &wasm).await;
    let again = node.deployed("g", &wasm).await;
    assert_eq!((&again["compiled"], node.blobs(), node.artifacts()), (&false.into(), 1, 1));
}

#[tokio::test]
async fn fields_and_metadata_are_taken_and_a_field_wins() {
    let node = Node::new();
    let metadata = br#"{"name": "other", "memory_limit_mb": 8, "timeout_seconds": 9, "retry_count": 1,
        "retry_delay_seconds": 0, "is_public": true, "namespace": "a", "env_vars": {"KEY": "v=1", "E": ""}}"#;
    let fields: &[(&str, &[u8])] =
        &[("metadata", metadata), ("name", b"f"), ("memory_limit_mb", b"16"), ("wasm", &command(1))];
    let answer = node.deploy(fields).await;
    let function = &answer.json()["function"];
    assert_eq!((&function["name"], &function["memory_limit_mb"]), (&"f".into(), &16.into()));
    assert_eq!((&function["timeout_seconds"], &function["retry_count"]), (&9.into(), &1.into()));
    assert_eq!((&function["retry_delay_seconds"], &function["is_public"]), (&0.into(), &true.into()));
    let name = FunctionName::new("f").unwrap();
    let stored =
        node.app.platform.registry.function(&Namespace::new("a").unwrap(), &name, None).unwrap().unwrap();
    assert_eq!((stored.env["KEY"].as_str(), stored.env["E"].as_str()), ("v=1", ""));

    let fields: &[(&str, &[u8])] = &[
        ("name", b"g"),
        ("namespace", b"a"),
        ("is_public", b"true"),
        ("memory_limit_mb", b"256"),
        ("timeout_seconds", b"300"),
        ("retry_count", b"5"),
        ("retry_delay_seconds", b"60"),
        ("wasm", &command(1)),
    ];
    let function = node.deploy(fields).await.json()["function"].clone();
    assert_eq!((&function["memory_limit_mb"], &function["timeout_seconds"]), (&256.into(), &300.into()));
    assert_eq!((&function["retry_count"], &function["retry_delay_seconds"]), (&5.into(), &60.into()));
    assert_eq!(function["is_public"], true);
}

/// Deploys forms that must be refused, each with a code and a message, without a trace.
async fn check_refusals(cases: &[(Fields<'_>, &str, &str)]) {
    let node = Node::new();
    for (fields, code, message) in cases {
        let answer = node.deploy(fields).await;
        assert_eq!(answer.error(), (422, (*code).to_owned()), "{message}: {}", answer.message());
        assert!(answer.message().contains(message), "{:?} lacks {message:?}", answer.message());
    }
    assert_eq!(node.get("/v1/functions").await.json()["count"], 0);
    assert_eq!((node.blobs(), node.artifacts()), (0, 0));
}

#[tokio::test]
async fn fields_that_are_not_accepted_are_named_and_leave_nothing() {
    let wasm: &[u8] = &command(1);
    let long = "x".repeat(64);
    let cases: &[(Fields<'_>, &str, &str)] = &[
        (&[("wasm", wasm)], "INVALID_CONFIG", "lacks the field `name`"),
        (&[("name", b"f")], "INVALID_CONFIG", "lacks the field `wasm`"),
        (&[("name", b"1f"), ("wasm", wasm)], "INVALID_NAME", "\"1f\""),
        (&[("name", long.as_bytes()), ("wasm", wasm)], "INVALID_NAME", "at most 63"),
        (&[("name", b"secrets"), ("wasm", wasm)], "INVALID_NAME", "reserved"),
        (&[("name", b"f"), ("wasm", b"")], "INVALID_MODULE", ""),
        (&[("name", b"f"), ("wasm", b"not wasm at all")], "INVALID_MODULE", ""),
        (&[("name", b"f"), ("wasm", b"\0asm\x01\0\0\0")], "INVALID_MODULE", "_start"),
        (&[("name", b"f"), ("wasm", wasm), ("memory", b"1")], "INVALID_CONFIG", "unknown field \"memory\""),
        (
            &[("name", b"f"), ("wasm", wasm), ("env_vars", b"{}")],
            "INVALID_CONFIG",
            "unknown field \"env_vars\"",
        ),
        (&[("name", b"f"), ("name", b"f"), ("wasm", wasm)], "INVALID_CONFIG", "`name` more than once"),
        (&[("name", b"f"), ("wasm", wasm), ("wasm", wasm)], "INVALID_CONFIG", "`wasm` more than once"),
        (
            &[("name", b"f"), ("wasm", wasm), ("memory_limit_mb", b"257")],
            "INVALID_CONFIG",
            "`memory_limit_mb`: the value must be between 1 and 256 MB, got 257",
        ),
        (&[("name", b"f"), ("wasm", wasm), ("memory_limit_mb", b"0")], "INVALID_CONFIG", "`memory_limit_mb`"),
        (
            &[("name", b"f"), ("wasm", wasm), ("timeout_seconds", b"301")],
            "INVALID_CONFIG",
            "`timeout_seconds`",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("timeout_seconds", b"soon")],
            "INVALID_CONFIG",
            "`timeout_seconds`: expected a whole number",
        ),
        (&[("name", b"f"), ("wasm", wasm), ("retry_count", b"6")], "INVALID_CONFIG", "`retry_count`"),
        (
            &[("name", b"f"), ("wasm", wasm), ("retry_delay_seconds", b"-1")],
            "INVALID_CONFIG",
            "`retry_delay_seconds`",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("is_public", b"yes")],
            "INVALID_CONFIG",
            "`is_public`: expected true or false",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("is_public", b"\xff")],
            "INVALID_CONFIG",
            "`is_public`: expected UTF-8",
        ),
    ];
    check_refusals(cases).await;
}

#[tokio::test]
async fn metadata_that_is_not_accepted_is_named_and_leaves_nothing() {
    let wasm: &[u8] = &command(1);
    let many = format!(
        "{{\"env_vars\": {{{}}}}}",
        (0..129).map(|n| format!("\"K{n}\": \"\"")).collect::<Vec<_>>().join(",")
    );
    let big = format!("{{\"env_vars\": {{\"K\": \"{}\"}}}}", "x".repeat(65_536));
    let cases: &[(Fields<'_>, &str, &str)] = &[
        (&[("name", b"f"), ("wasm", wasm), ("metadata", b"{")], "INVALID_CONFIG", "`metadata` is not JSON"),
        (
            &[("name", b"f"), ("wasm", wasm), ("metadata", b"[]")],
            "INVALID_CONFIG",
            "`metadata`: expected a JSON object",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("metadata", b"{\"memroy\": 1}")],
            "INVALID_CONFIG",
            "unknown key \"memroy\"",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("metadata", b"{\"timeout_seconds\": \"9\"}")],
            "INVALID_CONFIG",
            "`timeout_seconds`: expected a whole number",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("metadata", b"{\"env_vars\": {\"A=B\": \"\"}}")],
            "INVALID_CONFIG",
            "\"A=B\" is not a valid name",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("metadata", b"{\"env_vars\": {\"A\": 1}}")],
            "INVALID_CONFIG",
            "\"A\" must be a string",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("metadata", b"{\"env_vars\": {\"A\": \"\\u0000\"}}")],
            "INVALID_CONFIG",
            "zero byte",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("metadata", many.as_bytes())],
            "INVALID_CONFIG",
            "at most 128 entries",
        ),
        (
            &[("name", b"f"), ("wasm", wasm), ("metadata", big.as_bytes())],
            "INVALID_CONFIG",
            "at most 65536 bytes",
        ),
    ];
    check_refusals(cases).await;
}

#[tokio::test]
async fn a_module_needs_to_fit_its_memory_limit() {
    let node = Node::new();
    let wasm = wat::parse_str("(module (memory (export \"memory\") 64) (func (export \"_start\")))").unwrap();
    let answer = node.deploy(&[("name", b"f"), ("wasm", &wasm), ("memory_limit_mb", b"1")]).await;
    assert_eq!(answer.error(), (422, "INVALID_MODULE".into()), "4 MB do not fit 1 MB");
}

#[tokio::test]
async fn what_is_not_a_form_is_malformed() {
    let node = Node::new();
    let send = async |kind: &str, body: &[u8]| {
        let request = Request::post("/v1/functions")
            .header("x-api-key", node.key.reveal())
            .header("content-type", kind);
        node.send(request.body(Body::from(body.to_vec())).unwrap()).await.error()
    };
    let malformed = (400, "INVALID_FORM".to_owned());
    assert_eq!(send("application/json", b"{}").await, malformed);
    assert_eq!(send("multipart/form-data", b"").await, malformed);
    assert_eq!(send("multipart/form-data; boundary=x", b"--x\r\ncontent-disp").await, malformed);
    let nameless = b"--x\r\ncontent-disposition: form-data\r\n\r\nv\r\n--x--\r\n";
    assert_eq!(send("multipart/form-data; boundary=x", nameless).await, malformed);
}

#[tokio::test]
async fn a_module_may_be_larger_than_other_requests() {
    let node = Node::new();
    let pad = "x".repeat(3 << 20);
    let text = format!(
        "(module (@custom \"pad\" \"{pad}\") (memory (export \"memory\") 1) (func (export \"_start\")))"
    );
    let wasm = wat::parse_str(text).unwrap();
    let function = node.deployed("f", &wasm).await["function"].clone();
    let stored = node.app.platform.blobs.get(function["wasm_cid"].as_str().unwrap()).unwrap().unwrap();
    assert_eq!(stored, wasm);
}

#[tokio::test]
async fn parts_over_their_limit_are_too_large() {
    let node = Node::new();
    let wasm = vec![0; WASM_MAX_BYTES + 1];
    let answer = node.deploy(&[("name", b"f"), ("wasm", &wasm)]).await;
    assert_eq!(answer.error(), (413, "PAYLOAD_TOO_LARGE".into()));
    let answer = node.deploy(&[("metadata", &vec![b' '; (1 << 20) + 1]), ("wasm", b"")]).await;
    assert_eq!(answer.error(), (413, "PAYLOAD_TOO_LARGE".into()));
    let answer = node.deploy(&[("other", &vec![0; crate::limits::DEPLOY_MAX_BYTES])]).await;
    assert_eq!(answer.error().0, 413);
}

#[tokio::test]
async fn concurrent_deploys_of_one_function_get_consecutive_versions() {
    let node = Arc::new(Node::new());
    let mut deploys = tokio::task::JoinSet::new();
    for n in 0..12 {
        let node = Arc::clone(&node);
        deploys.spawn(async move {
            node.deployed("f", &command(n % 3)).await["function"]["version"].as_u64().unwrap()
        });
    }
    let mut versions = deploys.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_a_deploy_halfway() {
    let node = Node::new();
    let wasm = command(1);
    let cid = cid::of(&wasm);
    let begun = async {
        while node.app.platform.blobs.holds().unless_held(&cid, || ()).is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = begun => {}
        _ = node.deployed("f", &wasm) => panic!("the deploy ended before its client could leave"),
    }
    let end = Instant::now() + Duration::from_secs(20);
    while node.get("/v1/functions/f").await.status != 200 {
        assert!(Instant::now() < end, "the deploy was not finished");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(node.blobs(), 1);
}
