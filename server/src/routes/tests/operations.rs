//! Readiness, metrics, and what every answer has in common.

use super::*;

async fn plain(node: &Node, method: Method, path: &str) -> Answer {
    node.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_node_is_ready_while_its_stores_are() {
    let node = Node::new();
    let ready = plain(&node, Method::GET, "/ready").await;
    assert_eq!(ready.status, 200);
    let expected = serde_json::json!({"status": "ready", "backends": {"registry": "ok", "records": "ok", "blobs": "ok", "events": "ok"}});
    assert_eq!(ready.json(), expected);
    std::fs::remove_dir_all(node.dir.path().join("blobs")).unwrap();
    // What the last look found counts for a moment.
    let mut broken = ready;
    while broken.status == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        broken = plain(&node, Method::GET, "/ready").await;
    }
    assert_eq!((broken.status.as_u16(), &broken.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(broken.json()["backends"]["blobs"], "failed");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    node.get("/v1/functions/none").await;
    let answer = plain(&node, Method::GET, "/metrics").await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = std::str::from_utf8(&answer.body).unwrap();
    for line in [
        "orama_control_responses_total{class=\"2xx\"} 1",
        "orama_control_responses_total{class=\"4xx\"} 1",
        "orama_compilations_total{result=\"ok\"} 1",
        "orama_modules_loaded 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn unknown_paths_are_404_for_everyone() {
    let node = Node::new();
    for path in [
        "/",
        "/v1",
        "/v1/functions/",
        "/v1/functions/f/nothing",
        "/v2/functions",
        "/v1/functions/f/versions/1",
    ] {
        assert_eq!(plain(&node, Method::GET, path).await.error(), (404, "NOT_FOUND".into()), "{path}");
    }
}

#[tokio::test]
async fn wrong_methods_are_405_and_told_the_right_ones() {
    let node = Node::new();
    for (method, path, allow) in [
        (Method::PUT, "/v1/functions", "GET,HEAD,POST"),
        (Method::POST, "/v1/functions/f", "GET,HEAD,PATCH,DELETE"),
        (Method::DELETE, "/v1/functions/f/versions", "GET,HEAD"),
        (Method::POST, "/v1/functions/f/logs", "GET,HEAD"),
        (Method::POST, "/ready", "GET,HEAD"),
        (Method::DELETE, "/metrics", "GET,HEAD"),
        (Method::POST, "/health", "GET,HEAD"),
        (Method::GET, "/v1/functions/f/invoke", "POST"),
        (Method::GET, "/v1/invoke/a/f", "POST"),
    ] {
        let answer = plain(&node, method.clone(), path).await;
        assert_eq!(answer.error(), (405, "METHOD_NOT_ALLOWED".into()), "{method} {path}");
        assert_eq!(answer.headers["allow"], allow, "{method} {path}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_requests_id() {
    let node = Node::new();
    for path in ["/ready", "/nothing"] {
        let request = Request::get(path).header("x-request-id", "from-the-core").body(Body::empty()).unwrap();
        assert_eq!(node.send(request).await.headers["x-request-id"], "from-the-core");
        let made = plain(&node, Method::GET, path).await;
        assert_eq!(made.headers["x-request-id"].len(), 36, "{path}");
    }
    let request =
        Request::get("/nothing").header("x-request-id", "from-the-core").body(Body::empty()).unwrap();
    assert_eq!(node.send(request).await.json()["request_id"], "from-the-core");
}
