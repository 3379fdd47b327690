//! Pages of other origins: what browsers are told before and with an answer of a function, and who may open its WebSockets.

use crate::harness::{Node, Options, Shared};
use crate::http::{Answer, Connection, Request};
use orama_test_support::guests;
use serde_json::json;
use std::fs;

const APP: &str = "https://app.example";

/// Deploys a module with the `cors` of a page at [`APP`].
fn deploy(node: &Node, name: &str, wasm: &[u8], fields: &[(&str, &str)]) {
    let cors = json!({"origins": [APP], "methods": ["GET", "PUT"], "headers": ["x-own"], "credentials": true, "max_age": 9});
    let metadata = json!({ "cors": cors }).to_string();
    node.deploy(name, wasm, &[&[("metadata", metadata.as_str())], fields].concat());
}

fn preflight(node: &Node, path: &str, origin: &str) -> Request {
    let request = node.anonymous("OPTIONS", path).header("origin", origin);
    request.header("access-control-request-method", "PUT").header("access-control-request-headers", "x-own")
}

/// Sends a request whose answer is a 204.
#[track_caller]
fn no_content(node: &Node, request: &Request) -> Answer {
    let mut connection = node.connect();
    connection.write(request.bytes());
    connection.answer_without_body().expect(204)
}

fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let found = answer.headers.iter().filter(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str()).collect()
}

/// Fails unless an answer tells a browser that a page at [`APP`] may read it, once.
#[track_caller]
fn is_allowed(answer: &Answer) {
    assert_eq!(all(answer, "access-control-allow-origin"), [APP], "{answer:?}");
    assert_eq!(all(answer, "access-control-allow-credentials"), ["true"], "{answer:?}");
    assert_eq!(all(answer, "access-control-expose-headers"), ["x-request-id, x-duration-ms, retry-after"]);
    assert_eq!(all(answer, "vary"), ["origin"], "{answer:?}");
}

/// Fails if an answer allows anything.
#[track_caller]
fn is_not_allowed(answer: &Answer) {
    let allows = answer.headers.iter().any(|(name, _)| name.starts_with("access-control-"));
    assert!(!allows, "{answer:?}");
}

#[test]
fn a_preflight_is_answered_without_a_run_and_without_a_credential() {
    let Ok(node) = Shared::node() else { return };
    deploy(&node, "asked", &guests::wat("echo"), &[]);
    node.deploy("unasked", &guests::wat("echo"), &[]);
    for path in [
        "/fn/default/asked",
        "/fn/default/asked@1/a/b?c=d",
        "/v1/functions/asked/invoke?namespace=default",
        "/v1/invoke/default/asked",
    ] {
        let answer = no_content(&node, &preflight(&node, path, APP));
        assert_eq!(all(&answer, "access-control-allow-origin"), [APP], "{path}");
        assert_eq!(all(&answer, "access-control-allow-credentials"), ["true"]);
        assert_eq!(all(&answer, "access-control-allow-methods"), ["GET, PUT"]);
        assert_eq!(all(&answer, "access-control-allow-headers"), ["x-own"]);
        assert_eq!(all(&answer, "access-control-max-age"), ["9"]);
        assert_eq!((all(&answer, "vary"), all(&answer, "x-request-id").len()), (vec!["origin"], 1));
        for origin in
            ["https://evil.example", "http://app.example", "null", "https://app.example.evil.example"]
        {
            let answer = no_content(&node, &preflight(&node, path, origin));
            is_not_allowed(&answer);
            assert_eq!(all(&answer, "vary"), ["origin"]);
        }
    }
    assert_eq!(node.logs("asked", "")["count"], 0, "nothing has run");
    // Several come over one connection, also with a body that nobody reads.
    let mut connection = node.connect();
    for _ in 0..3 {
        connection.write(preflight(&node, "/fn/default/asked", APP).bytes());
        is_allowed_preflight(&mut connection);
    }
    connection.write(preflight(&node, "/fn/default/asked", APP).body("body").bytes());
    is_allowed_preflight(&mut connection);
    connection.expect_closed();
    // What has no `cors` and what is not there are answered alike.
    for name in ["unasked", "nothing", "asked@9"] {
        let path = format!("/fn/default/{name}");
        preflight(&node, &path, APP).send().refusal(401, "UNAUTHORIZED");
    }
    preflight(&node, "/v1/functions/asked/invoke", APP).send().refusal(405, "METHOD_NOT_ALLOWED");
    // A new version has its own.
    node.deploy("asked", &guests::wat("echo"), &[("metadata", "{\"cors\":null}")]);
    preflight(&node, "/fn/default/asked", APP).send().refusal(401, "UNAUTHORIZED");
    no_content(&node, &preflight(&node, "/fn/default/asked@1", APP));
}

#[track_caller]
fn is_allowed_preflight(connection: &mut Connection) {
    let answer = connection.answer_without_body().expect(204);
    assert_eq!(all(&answer, "access-control-allow-origin"), [APP]);
}

#[test]
fn every_answer_of_a_function_says_whose_pages_may_read_it() {
    let Ok(node) = Shared::node() else { return };
    deploy(&node, "told", &guests::wat("echo"), &[("is_public", "true")]);
    deploy(&node, "closed", &guests::wat("echo"), &[]);
    deploy(&node, "inside", &guests::wat("echo"), &[("internal", "true")]);
    deploy(&node, "fails", &guests::wat("trap_unreachable"), &[("is_public", "true")]);
    deploy(&node, "spins", &guests::wat("spin"), &[("is_public", "true"), ("timeout_seconds", "1")]);
    let from = |request: Request| request.header("origin", APP);
    let web = |name: &str| node.anonymous("POST", &format!("/fn/default/{name}"));
    for request in [web("told"), node.invoke_request("told"), node.request("POST", "/v1/invoke/default/told")]
    {
        is_allowed(&from(request).body("1").send().expect(200));
    }
    for _ in 0..2 {
        is_allowed(&from(web("closed")).send().expect(401));
        let key = json!({"role": "invoke"}).to_string();
        let key = node.request("POST", "/v1/keys").body(key).send().expect(201).json();
        let key = key["api_key"].as_str().unwrap();
        is_allowed(&from(node.request_as(key, "POST", "/fn/default/inside")).send().expect(403));
        is_allowed(&from(web("fails")).send().expect(500));
    }
    is_allowed(&from(web("spins")).send().expect(504));
    is_allowed(&from(web("told")).body(vec![b'x'; (1 << 20) + 1]).send().expect(413));
    // Another page is told nothing, and neither is a function's without `cors`.
    for origin in ["https://evil.example", "null"] {
        let answer = web("told").header("origin", origin).send().expect(200);
        is_not_allowed(&answer);
        assert_eq!(all(&answer, "vary"), ["origin"]);
    }
    // A cache must not give this answer to a page.
    assert_eq!(all(&web("told").send().expect(200), "vary"), ["origin"]);
    node.deploy("silent", &guests::wat("echo"), &[("is_public", "true")]);
    for answer in [from(web("silent")).send().expect(200), from(web("nothing")).send().expect(401)] {
        is_not_allowed(&answer);
        assert!(all(&answer, "vary").is_empty());
    }
}

#[test]
fn what_a_function_says_of_other_origins_itself_is_kept() {
    let Ok(node) = Shared::node() else { return };
    let Ok(site) = guests::go("site", &[]) else { return };
    let site = fs::read(site).unwrap();
    deploy(&node, "shared-site", &site, &[("is_public", "true")]);
    let get =
        |path: &str| node.anonymous("GET", &format!("/fn/default/shared-site{path}")).header("origin", APP);
    let own = get("/cors?origin=https://own.example").send().expect(200);
    assert_eq!(all(&own, "access-control-allow-origin"), ["https://own.example"]);
    assert_eq!(all(&own, "access-control-allow-credentials"), Vec::<&str>::new());
    assert_eq!(all(&own, "vary"), ["Accept, Origin"]);
    // An answer that is written has them too.
    let mut connection = node.connect();
    connection.write(get("/events").bytes());
    is_allowed(&connection.begun_answer());
    // Without `cors` a function answers preflights itself.
    node.deploy("own-site", &site, &[("is_public", "true")]);
    let asked = preflight(&node, "/fn/default/own-site/request", APP).send().expect(200).json();
    assert_eq!((&asked["method"], &asked["path"]), (&json!("OPTIONS"), &json!("/request")));
    // So does one with `cors`, where it is no preflight.
    let plain = node.anonymous("OPTIONS", "/fn/default/shared-site/request").header("origin", APP);
    let plain = plain.send().expect(200);
    is_allowed(&plain);
    assert_eq!(plain.json()["method"], "OPTIONS");
}

#[test]
fn a_nodes_default_holds_where_a_function_says_nothing() {
    let config = "trusted_proxies = [\"127.0.0.1\"]\n[cors]\norigins = [\"*\"]\n".to_owned();
    let Ok(node) = Node::try_start(Options { config, ..Options::default() }) else { return };
    node.deploy("default", &guests::wat("echo"), &[("is_public", "true")]);
    deploy(&node, "own", &guests::wat("echo"), &[]);
    let answer = no_content(&node, &preflight(&node, "/fn/default/default", "https://any.example"));
    assert_eq!(all(&answer, "access-control-allow-origin"), ["*"]);
    assert_eq!(all(&answer, "access-control-allow-methods"), ["GET, HEAD, POST, PUT, PATCH, DELETE"]);
    assert_eq!(all(&answer, "access-control-allow-headers"), ["authorization, content-type"]);
    assert_eq!(all(&answer, "access-control-allow-credentials"), Vec::<&str>::new());
    // What is not there is answered as what says nothing.
    let unknown = no_content(&node, &preflight(&node, "/fn/default/nothing", "https://any.example"));
    assert_eq!(all(&unknown, "access-control-allow-origin"), ["*"]);
    is_not_allowed(&no_content(&node, &preflight(&node, "/fn/default/own", "https://any.example")));
    let any = |path: &str| node.anonymous("POST", path).header("origin", "https://any.example").send();
    assert_eq!(all(&any("/fn/default/default").expect(200), "access-control-allow-origin"), ["*"]);
    assert_eq!(all(&any("/fn/default/nothing").expect(401), "access-control-allow-origin"), ["*"]);
    assert_eq!(all(&any("/v1/functions/x/invoke").expect(401), "access-control-allow-origin"), ["*"]);
    // The control plane is none of a page's business.
    is_not_allowed(&node.request("GET", "/v1/functions").header("origin", "https://any.example").send());

    let socket = |origin: &str, host: &str| {
        let request = node.request("GET", "/v1/functions/own/ws").upgrade().header("x-forwarded-host", host);
        request.header("origin", origin).send()
    };
    assert_eq!(socket(APP, "shop.example").status, 101, "its `cors` lists it");
    assert_eq!(
        socket("https://shop.example", "shop.example").status,
        101,
        "the proxy says that it is its own"
    );
    let message = socket("https://evil.example", "shop.example").refusal(403, "ORIGIN_NOT_ALLOWED");
    for part in [
        "the origin \"https://evil.example\"",
        "the host \"shop.example\"",
        "websocket.allowed_origins = [\"https://evil.example\"]",
        "cors: {origins: [\"https://evil.example\"]}",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let long = format!("https://{}", "a".repeat(10_000));
    let message = socket(&long, "shop.example").refusal(403, "ORIGIN_NOT_ALLOWED");
    assert!(message.len() < 2_000, "{}", message.len());
}

#[test]
fn preflights_cost_their_address_a_token() {
    let config = "[rates]\nrequests_per_address = \"1/h burst 20\"\n".to_owned();
    // What a refusal says comes from the memory of the core that refuses.
    let Ok(node) = Node::try_start(Options { config, workers: 1, ..Options::default() }) else { return };
    deploy(&node, "limited", &guests::wat("echo"), &[]);
    let mut connection = node.connect();
    let mut answered = 0;
    let refused = loop {
        connection.write(preflight(&node, "/fn/default/limited", APP).bytes());
        let answer = connection.answer();
        if answer.status != 204 {
            break answer;
        }
        answered += 1;
        assert!(answered < 100);
    };
    refused.refusal(429, "RATE_LIMITED");
    // The page is told why its request fails.
    let answer = node.anonymous("POST", "/fn/default/limited").header("origin", APP).send();
    is_allowed(&answer.clone());
    answer.refusal(429, "RATE_LIMITED");
}
