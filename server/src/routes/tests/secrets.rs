//! Secrets: who may change them, what is refused, and that no value comes back.

use super::*;
use orama_runtime::names::SecretName;
use serde_json::json;

const PATH: &str = "/v1/functions/secrets";

impl Node {
    async fn put_as(&self, key: &ApiKey, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::put(path).header("x-api-key", key.reveal());
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn put(&self, name: &str, value: &str) -> Answer {
        self.put_as(&self.key, PATH, json!({ "name": name, "value": value }).to_string()).await
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<String> {
        let (namespace, name) = (Namespace::new(namespace).unwrap(), SecretName::new(name).unwrap());
        self.app.platform.secrets.get(&namespace, &name).unwrap().map(|value| value.reveal().to_owned())
    }
}

#[tokio::test]
async fn secrets_are_set_listed_and_deleted() {
    let node = Node::new();
    let set = node.put("TOKEN", "s3cret").await;
    assert_eq!(set.status, 200);
    assert_eq!(set.json(), json!({ "message": "secret \"TOKEN\" set", "name": "TOKEN", "namespace": "a" }));
    assert_eq!(node.put("APNS_KEY", "\"ä\"\n\0").await.status, 200);
    assert_eq!(node.put("TOKEN", "n3w").await.status, 200);
    assert_eq!(node.get(PATH).await.json(), json!({ "secrets": ["APNS_KEY", "TOKEN"], "count": 2 }));
    assert_eq!(node.secret("a", "TOKEN").as_deref(), Some("n3w"));
    assert_eq!(node.secret("a", "APNS_KEY").as_deref(), Some("\"ä\"\n\0"));
    let path = format!("{PATH}/TOKEN");
    let deleted = node.call(Method::DELETE, &path).await;
    assert_eq!(
        deleted.json(),
        json!({ "message": "secret \"TOKEN\" deleted", "name": "TOKEN", "namespace": "a" })
    );
    assert_eq!(node.call(Method::DELETE, &path).await.error(), (404, "SECRET_NOT_FOUND".into()));
    assert_eq!(node.get(PATH).await.json()["count"], 1);
    for word in ["invoke", "versions", "logs", "secrets"] {
        assert_eq!(node.put(word, "x").await.status, 200, "{word}");
        assert_eq!(node.call(Method::DELETE, &format!("{PATH}/{word}")).await.status, 200, "{word}");
    }
}

#[tokio::test]
async fn a_refused_body_is_told_without_what_it_held() {
    let node = Node::new();
    let long = json!({ "name": "s3cret", "value": "s3cret".repeat(11_000) }).to_string();
    for (body, status, code, expected) in [
        ("", 400, "INVALID_BODY", "needs a body"),
        ("s3cret", 400, "INVALID_BODY", "not JSON: line 1"),
        ("[\"s3cret\"]", 400, "INVALID_BODY", "a JSON object"),
        ("\"s3cret\"", 400, "INVALID_BODY", "a JSON object"),
        ("{\"name\":\"s3cret\"}", 400, "INVALID_BODY", "missing field `value`"),
        ("{\"value\":\"s3cret\"}", 400, "INVALID_BODY", "missing field `name`"),
        ("{\"name\":\"x\",\"value\":\"x\",\"valu\":\"s3cret\"}", 400, "INVALID_BODY", "`valu`"),
        (
            "{\"name\":\"x\",\"value\":\"x\",\"value\":\"s3cret\"}",
            400,
            "INVALID_BODY",
            "duplicate field `value`",
        ),
        ("{\"name\":\"x\",\"value\":{\"s3cret\":1}}", 400, "INVALID_BODY", "field `value` must be a string"),
        ("{\"name\":\"x\",\"value\":53}", 400, "INVALID_BODY", "field `value` must be a string"),
        ("{\"name\":\"x\",\"value\":null}", 400, "INVALID_BODY", "field `value` must be a string"),
        ("{\"name\":[\"s3cret\"],\"value\":\"x\"}", 400, "INVALID_BODY", "field `name` must be a string"),
        ("{\"name\":\"x\",\"value\":\"\\ud800 s3cret\"}", 400, "INVALID_BODY", "`value`"),
        ("{\"name\":\"s3cret value\",\"value\":\"x\"}", 400, "INVALID_NAME", "must start with a letter"),
        ("{\"name\":\"\",\"value\":\"s3cret\"}", 400, "INVALID_NAME", "at most 63 characters"),
        (&long, 413, "PAYLOAD_TOO_LARGE", "may have at most 65536 bytes"),
    ] {
        let answer = node.put_as(&node.key, PATH, body.to_owned()).await;
        let shown: String = body.chars().take(60).collect();
        assert_eq!(answer.error(), (status, code.to_owned()), "{shown}");
        let message = answer.message();
        assert!(message.contains(expected) && !message.contains("s3cret"), "{shown}: {message}");
    }
    assert_eq!(node.get(PATH).await.json()["count"], 0);
    let largest = "x".repeat(65_536);
    assert_eq!(node.put("largest", &largest).await.status, 200);
    assert_eq!(node.secret("a", "largest").as_deref(), Some(&*largest));
    let escaped = format!("{{\"name\":\"escaped\",\"value\":\"{}\"}}", "\\u0078".repeat(65_536));
    assert_eq!(node.put_as(&node.key, PATH, escaped).await.status, 200);
}

#[tokio::test]
async fn roles_and_namespaces_hold_for_secrets() {
    let node = Node::new();
    node.put("TOKEN", "of a").await;
    let (invoke, operator, other) =
        (node.key("a", Role::Invoke), node.key("a", Role::Operator), node.key("b", Role::Admin));
    let body = json!({ "name": "TOKEN", "value": "s3cret" }).to_string();
    let (delete, in_b) = (format!("{PATH}/TOKEN"), format!("{PATH}?namespace=b"));
    assert_eq!(node.put_as(&invoke, PATH, body.clone()).await.error(), (403, "FORBIDDEN".into()));
    assert_eq!(node.call_as(&invoke, Method::GET, PATH).await.error().0, 403);
    assert_eq!(node.call_as(&invoke, Method::DELETE, &delete).await.error().0, 403);
    assert_eq!(node.call_as(&other, Method::GET, PATH).await.json()["count"], 0);
    assert_eq!(node.call_as(&other, Method::DELETE, &delete).await.error(), (404, "SECRET_NOT_FOUND".into()));
    assert_eq!(node.put_as(&node.key, &in_b, body.clone()).await.error().0, 403);
    assert_eq!(node.get(&in_b).await.error().0, 403);
    assert_eq!(node.secret("a", "TOKEN").as_deref(), Some("of a"));
    assert_eq!(node.put_as(&operator, &in_b, body.clone()).await.json()["namespace"], "b");
    assert_eq!(node.secret("b", "TOKEN").as_deref(), Some("s3cret"));
    let nobody = format!("{PATH}?namespace=nobody");
    assert_eq!(node.put_as(&operator, &nobody, body).await.error(), (404, "NAMESPACE_NOT_FOUND".into()));
    assert_eq!(node.send(Request::get(PATH).body(Body::empty()).unwrap()).await.error().0, 401);
    for (method, path) in [(Method::DELETE, PATH), (Method::POST, PATH), (Method::GET, &delete)] {
        assert_eq!(node.call(method.clone(), path).await.error().0, 405, "{method} {path}");
    }
}

#[tokio::test]
async fn only_an_operator_rotates_the_key() {
    const ROTATE: &str = "/v1/secrets/rotate-key";
    let node = Node::new();
    for n in 0..3 {
        node.put(&format!("s{n}"), "v").await;
    }
    let admin = node.key("a", Role::Admin);
    for key in [&admin, &node.key] {
        let answer = node.call_as(key, Method::POST, ROTATE).await;
        assert_eq!(answer.error(), (403, "FORBIDDEN".into()));
        assert!(answer.message().contains("manage the node"), "{}", answer.message());
    }
    let operator = node.key("b", Role::Operator);
    let rotated = node.call_as(&operator, Method::POST, ROTATE).await;
    assert_eq!(rotated.status, 200);
    let rotated = rotated.json();
    assert_eq!((&rotated["reencrypted"], &rotated["unneeded_key_ids"]), (&json!(3), &json!([])));
    assert_eq!(rotated["key_id"].as_str().unwrap().len(), 16);
    assert_eq!(node.secret("a", "s2").as_deref(), Some("v"));
}
