//! List, get, versions and delete.

use super::*;
use orama_platform::clean::clean_unreferenced;
use orama_store::blob::cid;
use serde_json::json;

#[tokio::test]
async fn functions_are_listed_in_their_newest_version() {
    let node = Node::new();
    for (name, n) in [("g", 1), ("f", 2), ("f", 3)] {
        node.deployed(name, &command(n)).await;
    }
    let list = node.get("/v1/functions").await.json();
    assert_eq!(list["count"], 2);
    let listed: Vec<_> = list["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["name"].as_str().unwrap(), f["version"].as_u64().unwrap()))
        .collect();
    assert_eq!(listed, [("f", 2), ("g", 1)]);
}

#[tokio::test]
async fn every_version_can_be_asked_for() {
    let node = Node::new();
    let first = node.deployed("f", &command(1)).await;
    let second = node.deployed("f", &command(2)).await;
    assert_eq!(node.get("/v1/functions/f").await.json(), second["function"]);
    assert_eq!(node.get("/v1/functions/f@1").await.json(), first["function"]);
    assert_eq!(node.get("/v1/functions/f%401").await.json(), first["function"]);
    let versions = node.get("/v1/functions/f/versions").await.json();
    assert_eq!(versions["count"], 2);
    for (at, deployed, aliases, percent) in
        [(0, &second, json!(["live"]), 100.0), (1, &first, json!([]), 0.0)]
    {
        let mut listed = versions["versions"][at].clone();
        let fields = listed.as_object_mut().unwrap();
        assert_eq!(
            (fields.remove("aliases"), fields.remove("traffic_percent")),
            (Some(aliases), Some(percent.into()))
        );
        assert!(fields.remove("key_id").is_some(), "who deployed it");
        assert_eq!(listed, deployed["function"]);
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_cannot_be_is_400() {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    let missing = (404, "FUNCTION_NOT_FOUND".to_owned());
    for path in [
        "/v1/functions/none",
        "/v1/functions/none/versions",
        "/v1/functions/none/logs",
        "/v1/functions/f@2",
        "/v1/functions/f@2/logs",
    ] {
        assert_eq!(node.get(path).await.error(), missing, "{path}");
    }
    for path in ["/v1/functions/none", "/v1/functions/f@9"] {
        assert_eq!(node.call(Method::DELETE, path).await.error(), missing, "{path}");
    }
    for (path, code) in [
        ("/v1/functions/1f", "INVALID_NAME"),
        ("/v1/functions/f%00", "INVALID_NAME"),
        ("/v1/functions/%ff", "INVALID_NAME"),
        ("/v1/functions/f@0", "INVALID_VERSION"),
        ("/v1/functions/f@x.y/logs", "INVALID_VERSION"),
        ("/v1/functions/f@1/versions", "INVALID_NAME"),
        ("/v1/functions?nmespace=a", "INVALID_QUERY"),
        ("/v1/functions/f?limit=1", "INVALID_QUERY"),
    ] {
        assert_eq!(node.get(path).await.error(), (400, code.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_delete_takes_one_version_or_all() {
    let node = Node::new();
    for n in 1..=3 {
        node.deployed("f", &command(n)).await;
    }
    let one = node.call(Method::DELETE, "/v1/functions/f@2").await.json();
    assert_eq!(one["message"], "version 2 of function \"f\" deleted");
    assert_eq!(one["versions_deleted"], 1);
    assert_eq!(node.get("/v1/functions/f@2").await.status, 404);
    assert_eq!(node.get("/v1/functions/f").await.json()["version"], 3);
    let all = node.call(Method::DELETE, "/v1/functions/f").await.json();
    assert_eq!(
        (&all["name"], &all["namespace"], &all["versions_deleted"]),
        (&"f".into(), &"a".into(), &2.into())
    );
    assert_eq!(node.get("/v1/functions/f").await.status, 404);
    assert_eq!(
        node.deployed("f", &command(1)).await["function"]["version"],
        4,
        "numbers are not given twice"
    );
}

#[tokio::test]
async fn a_module_goes_with_its_last_user() {
    let node = Node::new();
    let shared = command(1);
    node.deployed("f", &shared).await;
    node.deployed("f", &command(2)).await;
    node.deployed("g", &shared).await;
    assert_eq!((node.blobs(), node.artifacts()), (2, 2));
    node.call(Method::DELETE, "/v1/functions/f").await;
    assert_eq!(node.app.platform.blobs.list(9).unwrap(), [cid::of(&shared)], "g still runs it");
    assert_eq!(node.artifacts(), 1);
    node.call(Method::DELETE, "/v1/functions/g").await;
    assert_eq!((node.blobs(), node.artifacts()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_delete_never_takes_a_module_from_a_concurrent_deploy() {
    let node = Arc::new(Node::new());
    let wasm = command(1);
    let mut tasks = tokio::task::JoinSet::new();
    for name in ["f", "g", "h"] {
        let (node, wasm) = (Arc::clone(&node), wasm.clone());
        tasks.spawn(async move {
            for _ in 0..25 {
                node.deployed(name, &wasm).await;
                // Only this task deletes the function, so its module must be here now.
                assert!(
                    node.app.platform.blobs.get(&cid::of(&wasm)).unwrap().is_some(),
                    "{name} lost its module"
                );
                node.call(Method::DELETE, &format!("/v1/functions/{name}")).await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!((node.blobs(), node.artifacts()), (0, 0));
}

#[tokio::test]
async fn a_held_module_survives_the_delete_of_its_last_user() {
    let node = Node::new();
    let wasm = command(1);
    node.deployed("f", &wasm).await;
    let hold = node.app.platform.blobs.holds().hold(&cid::of(&wasm));
    node.call(Method::DELETE, "/v1/functions/f").await;
    assert_eq!((node.blobs(), node.artifacts()), (1, 1));
    drop(hold);
    // What a deploy that failed after all would have left is removed by the next start.
    let app = Arc::clone(&node.app);
    tokio::task::spawn_blocking(move || clean_unreferenced(&app.platform)).await.unwrap();
    assert_eq!((node.blobs(), node.artifacts()), (0, 0));
}

#[tokio::test]
async fn cleaning_at_the_start_takes_only_what_nothing_names() {
    let node = Node::new();
    let wasm = command(1);
    node.deployed("f", &wasm).await;
    node.app.platform.blobs.put(b"left by a crash").unwrap();
    let app = Arc::clone(&node.app);
    tokio::task::spawn_blocking(move || clean_unreferenced(&app.platform)).await.unwrap();
    assert_eq!(node.app.platform.blobs.list(9).unwrap(), [cid::of(&wasm)]);
    assert_eq!(node.artifacts(), 1);
}
