//! Who gets in, where, and what everyone else is told.

use super::*;

#[tokio::test]
async fn without_a_known_credential_it_is_401() {
    let node = Node::new();
    for path in ["/v1/functions", "/v1/functions/f", "/v1/functions/f/versions", "/v1/functions/f/logs"] {
        let none = node.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(none.error(), (401, "UNAUTHORIZED".into()), "{path}");
        assert_eq!(none.headers["www-authenticate"], "Bearer");
        for key in [ApiKey::generate().unwrap().reveal(), "nonsense"] {
            let request = Request::get(path).header("x-api-key", key).body(Body::empty()).unwrap();
            assert_eq!(node.send(request).await.error(), (401, "UNAUTHORIZED".into()), "{path}");
        }
    }
    for (one, two, told) in [
        ("orama_one", "Bearer orama_two", (400, "CONFLICTING_CREDENTIALS")),
        (node.key.reveal(), "Basic dXNlcjpwYXNz", (401, "UNAUTHORIZED")),
        (node.key.reveal(), "Bearer a.b.c", (401, "UNAUTHORIZED")),
    ] {
        let both = Request::get("/v1/functions").header("x-api-key", one).header("authorization", two);
        let answer = node.send(both.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.error(), (told.0, told.1.into()), "{two}");
    }
}

#[tokio::test]
async fn a_role_does_what_it_may_and_no_more() {
    let node = Node::new();
    node.deployed("f", &command(1)).await;
    let invoke = node.key("a", Role::Invoke);
    let paths = ["/v1/functions", "/v1/functions/f", "/v1/functions/f/versions", "/v1/functions/f/logs"];
    for path in paths {
        let answer = node.call_as(&invoke, Method::GET, path).await;
        assert_eq!(answer.error(), (403, "FORBIDDEN".into()), "{path}");
        assert!(answer.message().contains("\"invoke\""), "{}", answer.message());
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
    let wasm = command(2);
    let answer = node.deploy_as(&invoke, "/v1/functions", &[("name", b"g"), ("wasm", &wasm)]).await;
    assert_eq!(answer.error().0, 403);
    assert_eq!(node.call_as(&invoke, Method::DELETE, "/v1/functions/f").await.error().0, 403);
    assert_eq!(node.get("/v1/functions").await.json()["count"], 1);
    let admin = node.key("a", Role::Admin);
    assert_eq!(node.call_as(&admin, Method::DELETE, "/v1/functions/f").await.status, 200);
}

#[tokio::test]
async fn another_namespace_is_for_operators_and_must_exist() {
    let node = Node::new();
    let operator = node.key("a", Role::Operator);
    let wasm = command(1);
    let into_b: &[(&str, &[u8])] = &[("name", b"f"), ("namespace", b"b"), ("wasm", &wasm)];
    assert_eq!(node.deploy(into_b).await.error(), (403, "FORBIDDEN".into()));
    let deployed = node.deploy_as(&operator, "/v1/functions", into_b).await;
    assert_eq!(deployed.json()["function"]["namespace"], "b");
    for path in ["/v1/functions", "/v1/functions/f", "/v1/functions/f/versions", "/v1/functions/f/logs"] {
        let path_b = format!("{path}?namespace=b");
        assert_eq!(node.get(&path_b).await.error(), (403, "FORBIDDEN".into()), "{path}");
        assert_eq!(node.call_as(&operator, Method::GET, &path_b).await.status, 200, "{path}");
        let gone = node.call_as(&operator, Method::GET, &format!("{path}?namespace=nobody")).await;
        assert_eq!(gone.error(), (404, "NAMESPACE_NOT_FOUND".into()), "{path}");
        let bad = node.call_as(&operator, Method::GET, &format!("{path}?namespace=.")).await;
        assert_eq!(bad.error(), (400, "INVALID_NAME".into()), "{path}");
    }
    assert_eq!(node.get("/v1/functions/f").await.error().0, 404, "a's own has no such function");
    assert_eq!(node.get("/v1/functions?namespace=a").await.status, 200, "one's own may be named");
    assert_eq!(node.call(Method::DELETE, "/v1/functions/f?namespace=b").await.error().0, 403);
    let deleted = node.call_as(&operator, Method::DELETE, "/v1/functions/f?namespace=b").await;
    assert_eq!(deleted.status, 200);
}

#[tokio::test]
async fn a_deploys_field_and_query_must_agree() {
    let node = Node::new();
    let operator = node.key("a", Role::Operator);
    let wasm = command(1);
    let fields: &[(&str, &[u8])] = &[("name", b"f"), ("namespace", b"b"), ("wasm", &wasm)];
    let answer = node.deploy_as(&operator, "/v1/functions?namespace=a", fields).await;
    assert_eq!(answer.error(), (422, "INVALID_CONFIG".into()));
    let answer =
        node.deploy_as(&operator, "/v1/functions?namespace=b", &[("name", b"f"), ("wasm", &wasm)]).await;
    assert_eq!(answer.json()["function"]["namespace"], "b");
}

#[tokio::test]
async fn a_key_is_asked_for_once_until_something_changes() {
    let node = Node::new();
    let cache =
        CredentialCache::new(node.app.platform.authority.clone(), node.app.platform.registry.generation());
    let first = cache.find(node.key.reveal()).await.unwrap();
    let second = cache.find(node.key.reveal()).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "the second comes from the cache");
    node.app.platform.registry.create_namespace(&Namespace::new("c").unwrap()).unwrap();
    let third = cache.find(node.key.reveal()).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &third), "a change of the registry empties the cache");
    assert_eq!(first.key_id, third.key_id);
}
