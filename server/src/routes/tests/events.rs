//! Triggers, publishing and dead letters: who may, what is refused, and what is answered.

use super::*;
use orama_runtime::limits::{EVENT_MAX_BYTES, TOPIC_MAX_BYTES};
use serde_json::json;

const PUBLISH: &str = "/v1/pubsub/publish";

impl Node {
    async fn post_as(&self, key: &ApiKey, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header("x-api-key", key.reveal());
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.post_as(&self.key, path, body).await
    }

    async fn add_trigger(&self, function: &str, topic: &str) -> Answer {
        self.post(&format!("/v1/functions/{function}/triggers"), json!({ "topic": topic }).to_string()).await
    }
}

#[tokio::test]
async fn triggers_are_added_once_listed_and_deleted() {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    let added = node.add_trigger("f", "calls:invite").await;
    assert_eq!(added.status, 201);
    let id = added.json()["trigger_id"].as_str().unwrap().to_owned();
    assert_eq!(added.json(), json!({ "trigger_id": id, "function": "f", "topic": "calls:invite" }));
    let again = node.add_trigger("f", "calls:invite").await;
    assert_eq!((again.status.as_u16(), again.json()), (200, added.json()));
    node.add_trigger("f", "calls:end").await;
    let list = node.get("/v1/functions/f/triggers").await.json();
    assert_eq!(list["count"], 2);
    assert_eq!(
        list["triggers"][0],
        json!({ "id": id, "kind": "pubsub", "topic": "calls:invite", "enabled": true })
    );
    let path = format!("/v1/functions/f/triggers/{id}");
    let deleted = node.call(Method::DELETE, &path).await;
    assert_eq!(deleted.json(), json!({ "message": format!("trigger {id:?} deleted"), "trigger_id": id }));
    assert_eq!(node.call(Method::DELETE, &path).await.error(), (404, "TRIGGER_NOT_FOUND".into()));
    assert_eq!(node.get("/v1/functions/f/triggers").await.json()["count"], 1);
    // A new version changes nothing, and the last one takes them along.
    node.deployed("f", &command(2)).await;
    node.call(Method::DELETE, "/v1/functions/f@1").await;
    assert_eq!(node.get("/v1/functions/f/triggers").await.json()["count"], 1);
    node.call(Method::DELETE, "/v1/functions/f@2").await;
    assert_eq!(node.get("/v1/functions/f/triggers").await.error(), (404, "FUNCTION_NOT_FOUND".into()));
    node.deployed("f", &command(1)).await;
    assert_eq!(node.get("/v1/functions/f/triggers").await.json()["count"], 0);
}

#[tokio::test]
async fn a_refused_trigger_is_told_why() {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    for (topic, words) in
        [("", "1 to 256"), (" a", "white space"), ("a\n", "control"), (&"x".repeat(257), "256")]
    {
        let answer = node.add_trigger("f", topic).await;
        assert_eq!(answer.error(), (400, "INVALID_TOPIC".into()), "{topic:?}");
        assert!(answer.message().contains(words), "{}", answer.message());
    }
    assert_eq!(node.add_trigger("f", &"x".repeat(TOPIC_MAX_BYTES)).await.status, 201);
    let path = "/v1/functions/f/triggers";
    for (body, words) in [
        ("", "needs a body"),
        ("{\"topic\":1}", "`topic` must be a string"),
        ("{\"topic\":\"a\",\"enabled\":false}", "unknown field `enabled`"),
        ("topic", "not JSON"),
    ] {
        let answer = node.post(path, body).await;
        assert_eq!(answer.error(), (400, "INVALID_BODY".into()), "{body}");
        assert!(answer.message().contains(words), "{body}: {}", answer.message());
    }
    for neither in ["{}", "{\"topic\":null}"] {
        let answer = node.post(path, neither).await;
        assert_eq!(answer.error(), (400, "INVALID_TRIGGER".into()));
        assert!(answer.message().contains("a topic or a schedule"), "{}", answer.message());
    }
    assert_eq!(node.add_trigger("none", "t").await.error(), (404, "FUNCTION_NOT_FOUND".into()));
    assert_eq!(node.add_trigger("f@1", "t").await.error(), (400, "INVALID_NAME".into()));
    assert_eq!(
        node.post("/v1/functions/f/triggers?topic=a", "{}").await.error(),
        (400, "INVALID_QUERY".into())
    );
    for n in 1..orama_platform::limits::TRIGGERS_MAX {
        assert_eq!(node.add_trigger("f", &n.to_string()).await.status, 201);
    }
    assert_eq!(node.add_trigger("f", "one more").await.error(), (409, "TOO_MANY_TRIGGERS".into()));
}

#[tokio::test]
async fn a_message_is_accepted_with_exactly_one_kind_of_data() {
    let node = Node::new();
    for body in [
        json!({ "topic": "t", "data": { "a": 1 } }),
        json!({ "topic": "t", "data": null }),
        json!({ "topic": "t", "data_base64": "" }),
        json!({ "topic": "t", "data_base64": "AP8=" }),
    ] {
        let answer = node.post(PUBLISH, body.to_string()).await;
        assert_eq!(answer.status, 202, "{body}");
        let json = answer.json();
        assert_eq!((json.as_object().unwrap().len(), &json["topic"]), (2, &json!("t")));
        assert_eq!(json["message_id"].as_str().unwrap().len(), 36);
    }
    for (body, words) in [
        ("", "needs a body"),
        ("{\"topic\":\"t\"}", "`data` or `data_base64`"),
        ("{\"topic\":\"t\",\"data\":1,\"data_base64\":\"\"}", "both `data` and `data_base64`"),
        ("{\"topic\":\"t\",\"data\":null,\"data_base64\":null}", "both `data` and `data_base64`"),
        ("{\"data\":1}", "missing field `topic`"),
        ("{\"topic\":7,\"data\":1}", "`topic` must be a string"),
        ("{\"topic\":\"t\",\"data_base64\":7}", "`data_base64` must be a string"),
        ("{\"topic\":\"t\",\"data_base64\":\"AP8\"}", "`data_base64` must be base64"),
        ("{\"topic\":\"t\",\"data_base64\":\"A_8=\"}", "`data_base64` must be base64"),
        ("{\"topic\":\"t\",\"data\":{\"a\":}}", "not JSON"),
        ("{\"topic\":\"t\",\"data\":1,\"depth\":1}", "unknown field `depth`"),
        ("{\"topic\":\"t\",\"data\":1,\"data\":2}", "duplicate field `data`"),
    ] {
        let answer = node.post(PUBLISH, body).await;
        assert_eq!(answer.error(), (400, "INVALID_BODY".into()), "{body}");
        assert!(answer.message().contains(words), "{body}: {}", answer.message());
    }
    let bad = node.post(PUBLISH, json!({ "topic": "\t", "data": 1 }).to_string()).await;
    assert_eq!(bad.error(), (400, "INVALID_TOPIC".into()));
    let sized = |bytes: usize| json!({ "topic": "t", "data": "x".repeat(bytes - 2) }).to_string();
    assert_eq!(node.post(PUBLISH, sized(EVENT_MAX_BYTES)).await.status, 202);
    let large = node.post(PUBLISH, sized(EVENT_MAX_BYTES + 1)).await;
    assert_eq!(large.error(), (413, "PAYLOAD_TOO_LARGE".into()));
    assert!(large.message().contains(&EVENT_MAX_BYTES.to_string()), "{}", large.message());
}

#[tokio::test]
async fn a_node_that_cannot_store_a_message_says_when_to_come_back() {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    node.add_trigger("f", "t").await;
    let body = json!({ "topic": "t", "data": 1 }).to_string();
    assert_eq!(node.post(PUBLISH, body.clone()).await.status, 202);
    let database = rusqlite::Connection::open(node.dir.path().join("events.db")).unwrap();
    database.execute_batch("ALTER TABLE messages RENAME TO hidden").unwrap();
    let answer = node.post(PUBLISH, body.clone()).await;
    assert_eq!(answer.error(), (503, "UNAVAILABLE".into()));
    assert_eq!(answer.headers["retry-after"], "1");
    database.execute_batch("ALTER TABLE hidden RENAME TO messages").unwrap();
    assert_eq!(node.post(PUBLISH, body).await.status, 202);
}

#[tokio::test]
async fn roles_and_namespaces_are_kept() {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    node.add_trigger("f", "t").await;
    let id =
        node.get("/v1/functions/f/triggers").await.json()["triggers"][0]["id"].as_str().unwrap().to_owned();
    let invoke = node.key("a", Role::Invoke);
    let (other, operator) = (node.key("b", Role::Admin), node.key("b", Role::Operator));
    let message = json!({ "topic": "t", "data": 1 }).to_string();
    let topic = json!({ "topic": "t" }).to_string();
    let routes = [
        (Method::GET, "/v1/functions/f/triggers".to_owned()),
        (Method::POST, "/v1/functions/f/triggers".to_owned()),
        (Method::DELETE, format!("/v1/functions/f/triggers/{id}")),
        (Method::GET, "/v1/functions/f/dead-letters".to_owned()),
        (Method::POST, "/v1/functions/f/dead-letters/replay".to_owned()),
        (Method::POST, "/v1/functions/f/dead-letters/x/replay".to_owned()),
        (Method::DELETE, "/v1/functions/f/dead-letters/x".to_owned()),
    ];
    for (method, path) in &routes {
        let call = async |key: &ApiKey, path: &str| {
            let request = Request::builder().method(method).uri(path).header("x-api-key", key.reveal());
            node.send(request.body(Body::from(topic.clone())).unwrap()).await
        };
        assert_eq!(call(&invoke, path).await.error(), (403, "FORBIDDEN".into()), "{method} {path}");
        let (status, code) = call(&other, path).await.error();
        assert!(status == 404 && code.ends_with("_NOT_FOUND"), "{method} {path}: {status} {code}");
        let elsewhere = format!("{path}?namespace=a");
        assert_eq!(call(&other, &elsewhere).await.error(), (403, "FORBIDDEN".into()), "{method} {path}");
    }
    assert_eq!(node.get("/v1/functions/f/triggers").await.json()["count"], 1);
    assert_eq!(
        node.call_as(&operator, Method::GET, "/v1/functions/f/triggers?namespace=a").await.json()["count"],
        1
    );
    assert_eq!(node.post_as(&invoke, PUBLISH, message.clone()).await.status, 202);
    assert_eq!(node.post_as(&other, PUBLISH, message.clone()).await.status, 202);
    let jobs = || node.app.platform.events.counts().waiting;
    assert_eq!(jobs(), 1, "the topic of another namespace is another one");
    let elsewhere = format!("{PUBLISH}?namespace=a");
    assert_eq!(node.post_as(&other, &elsewhere, message.clone()).await.error(), (403, "FORBIDDEN".into()));
    assert_eq!(node.post_as(&operator, &elsewhere, message.clone()).await.status, 202);
    assert_eq!(jobs(), 2);
    let nobody = Request::post(PUBLISH).body(Body::from(message)).unwrap();
    assert_eq!(node.send(nobody).await.error(), (401, "UNAUTHORIZED".into()));
}

#[tokio::test]
async fn dead_letters_of_a_function_that_is_not_there_are_404() {
    let node = Node::new();
    let missing = (404, "FUNCTION_NOT_FOUND".to_owned());
    assert_eq!(node.get("/v1/functions/f/dead-letters").await.error(), missing);
    assert_eq!(node.post("/v1/functions/f/dead-letters/replay", "").await.error(), missing);
    node.deployed("f", &command(1)).await;
    assert_eq!(
        node.get("/v1/functions/f/dead-letters").await.json(),
        json!({ "dead_letters": [], "count": 0 })
    );
    let all = node.post("/v1/functions/f/dead-letters/replay", "").await;
    assert_eq!((all.status.as_u16(), &all.json()["replayed"]), (202, &json!(0)));
    let missing = (404, "DEAD_LETTER_NOT_FOUND".to_owned());
    assert_eq!(node.post("/v1/functions/f/dead-letters/x/replay", "").await.error(), missing);
    assert_eq!(node.call(Method::DELETE, "/v1/functions/f/dead-letters/x").await.error(), missing);
    for bad in ["limit=0", "limit=1001", "limit=x", "since=1m"] {
        let answer = node.get(&format!("/v1/functions/f/dead-letters?{bad}")).await;
        assert_eq!(answer.error(), (400, "INVALID_QUERY".into()), "{bad}");
    }
    assert_eq!(node.get("/v1/functions/f@1/dead-letters").await.error(), (400, "INVALID_NAME".into()));
}

#[tokio::test]
async fn a_deleted_function_leaves_no_jobs() {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    node.deployed("f", &command(2)).await;
    node.add_trigger("f", "t").await;
    let message = json!({ "topic": "t", "data": 1 }).to_string();
    node.post(PUBLISH, message.clone()).await;
    node.call(Method::DELETE, "/v1/functions/f@2").await;
    assert_eq!(node.app.platform.events.counts().waiting, 1);
    node.call(Method::DELETE, "/v1/functions/f").await;
    assert_eq!(node.app.platform.events.counts().waiting, 0);
    assert_eq!(node.post(PUBLISH, message).await.status, 202);
    assert_eq!(node.app.platform.events.counts().waiting, 0);
}
