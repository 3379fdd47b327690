//! Paths and queries are taken exactly: what a node does not know is told, whoever asks.

use crate::harness::Shared;
use crate::http::Answer;

/// The hint of an answer.
fn hint(answer: &Answer) -> String {
    answer.json()["hint"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_wrong_path_is_404_whoever_asks() {
    let Ok(node) = Shared::node() else { return };
    node.wat("echo");
    let unknown = format!("orama_{}", "A".repeat(43));
    let paths = [
        "/",
        "/v1",
        "/v2/functions",
        "/v1/function",
        "/v1/functions/echo/invok",
        "/v1/functions/echo/invoke/more",
        "/v1/functions//invoke",
        "/v1/functions//triggers",
        "/v1/functions//versions",
        "//v1/functions",
        "/v1/invoke/default",
        "/v1/invoke/default/echo/more",
        "/v1/invoke//echo",
        "/v1/keys/one/more",
        "/v1/secrets",
        "/Health",
    ];
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let ask = |credential: Option<&str>| {
                let request = match credential {
                    Some(credential) => node.request_as(credential, method, path),
                    None => node.anonymous(method, path),
                };
                if method == "GET" { request } else { request.body("[1]") }.send()
            };
            for credential in [None, Some(unknown.as_str()), Some("no-credential"), Some(&*node.key())] {
                ask(credential).refusal(404, "NOT_FOUND");
            }
        }
    }
}

#[test]
fn a_slash_at_the_end_is_404_with_a_hint() {
    let Ok(node) = Shared::node() else { return };
    node.wat("echo");
    for path in orama_server::routes::paths() {
        let path = path.replace("{namespace}", "default").replace("{name}", "echo").replace("{id}", "x");
        for method in ["GET", "POST"] {
            let answer = node.request(method, &format!("{path}/")).send();
            assert!(hint(&answer).contains("no slash at their end"), "{method} {path}/: {}", answer.text());
            answer.refusal(404, "NOT_FOUND");
            let answer = node.anonymous(method, &format!("{path}/")).send();
            answer.refusal(404, "NOT_FOUND");
        }
    }
}

#[test]
fn a_query_that_a_path_does_not_take_is_400_and_named() {
    let Ok(node) = Shared::node() else { return };
    node.wat("echo");
    let mut asked = 0;
    for path in orama_server::routes::paths() {
        let path = path.replace("{namespace}", "default").replace("{name}", "echo").replace("{id}", "x");
        let allow = node.anonymous("TRACE", &path).send();
        let allow = allow.header("allow").unwrap_or_else(|| panic!("{path}")).to_owned();
        for method in allow.split(',').map(str::trim).filter(|method| *method != "HEAD") {
            if ["/health", "/ready", "/metrics"].contains(&path.as_str()) {
                node.anonymous(method, &format!("{path}?colour=red")).send().expect(200);
                continue;
            }
            let request = node.request(method, &format!("{path}?colour=red"));
            let request = match (method, path.ends_with("/ws")) {
                ("GET", true) => request.upgrade(),
                ("POST", _) if path == "/v1/functions" => request.form(&[("name", b"x")]),
                ("POST" | "PUT", _) => request.body("{}"),
                _ => request,
            };
            let answer = request.send();
            let status = answer.status;
            assert_eq!(status, 400, "{method} {path}: {}", answer.text());
            let message = answer.refusal(400, "INVALID_QUERY");
            assert!(message.contains("colour"), "{method} {path}: {message}");
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn a_query_must_name_the_namespace_that_the_path_names() {
    let Ok(node) = Shared::node() else { return };
    node.wat("echo");
    let invoke = |path: &str| node.request("POST", path).body("[1]").send();
    for path in [
        "/v1/invoke/default/echo",
        "/v1/invoke/default/echo?",
        "/v1/invoke/default/echo?namespace=default",
        "/v1/functions/echo/invoke?namespace=defaul%74",
    ] {
        assert_eq!(invoke(path).expect(200).text(), "[1]", "{path}");
    }
    for path in [
        "/v1/invoke/default/echo?namespace=other",
        "/v1/invoke/default/echo?namespace=",
        "/v1/functions/echo/invoke?namespace=default&namespace=other",
    ] {
        let message = invoke(path).refusal(400, "INVALID_QUERY");
        assert!(message.contains("namespace"), "{path}: {message}");
    }
    invoke("/v1/functions/echo/invoke?namespace=").refusal(400, "INVALID_NAME");
    let quotas = node.get("/v1/namespaces/default/quotas?namespace=other");
    assert!(quotas.refusal(400, "INVALID_QUERY").contains("namespace"));
}

#[test]
fn every_error_has_the_same_shape() {
    let Ok(node) = Shared::node() else { return };
    node.wat("echo");
    let shape = |answer: Answer, what: &str| {
        let json = answer.json();
        assert!(json["retryable"].is_boolean(), "{what}: {json}");
        let code = json["code"].as_str().unwrap_or_else(|| panic!("{what}: {json}")).to_owned();
        let status = answer.status;
        answer.refusal(status, &code);
    };
    let mut errors = 0;
    let form = "multipart/form-data; boundary=b";
    for path in orama_server::routes::paths() {
        let path = path.replace("{namespace}", "%ff").replace("{name}", "%ff").replace("{id}", "%ff");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            for (kind, body) in [
                ("application/json", &b"{"[..]),
                ("application/json", b"{\"unknown\":1}"),
                ("text/plain", b"\xff"),
                (form, b"--b\r\nbroken"),
                ("multipart/form-data", b"no boundary"),
            ] {
                let request = node.request(method, &path).header("content-type", kind).body(body);
                let answer = request.send();
                if answer.status >= 400 {
                    errors += 1;
                    shape(answer, &format!("{method} {path} {kind}"));
                }
            }
        }
    }
    assert!(errors > 500, "{errors}");
    // Over a limit.
    let large = vec![b' '; (1 << 20) + 1];
    for path in ["/v1/keys", "/v1/pubsub/publish", "/v1/functions/echo/invoke"] {
        let answer = node.request("POST", path).body(&large).send();
        assert_eq!(answer.status, 413, "{path}");
        shape(answer, path);
    }
}
