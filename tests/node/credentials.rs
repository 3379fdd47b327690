//! A token and a key that come together, and what an app sends for itself.

use crate::harness::{Node, Options, eventually, new_dir};
use crate::honest::{deploy_as, key, tenant};
use crate::http::{Answer, Request};
use crate::jwt::{claims, eddsa, put_key, with_keys};
use crate::websocket::Socket;
use serde_json::{Value, json};

/// Answers with the caller's wallet in an array.
const TELLS_WALLET: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "env" "get_caller_wallet" (func $wallet (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 64) "[\22\22]")
  (func (export "orama_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "_start") (local $got i64)
    (local.set $got (call $wallet))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 2))
    (i32.store (i32.const 8) (i32.wrap_i64 (i64.shr_u (local.get $got) (i64.const 32))))
    (i32.store (i32.const 12) (i32.wrap_i64 (local.get $got)))
    (i32.store (i32.const 16) (i32.const 66))
    (i32.store (i32.const 20) (i32.const 2))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 32)))))"#;

/// A node that accepts tokens, with the functions `private` and `open` of the namespace `shop`.
struct Shop {
    node: Node,
    deploy: String,
    invoke: String,
}

impl Shop {
    /// `None` when a server is missing, which was reported.
    fn open(config: &str) -> Option<Self> {
        let path = new_dir("keys").join("public.pem");
        put_key(&path, "ed25519.pub.pem");
        let options = with_keys(&path, Vec::new());
        let config = format!("{config}\n{}", options.config);
        // One core, so that a key that was used is known: others are not looked up where too many were unknown.
        let options = Options { config, workers: 1, databases: &["default", "shop"], ..options };
        let node = Node::try_start(options).ok()?;
        let deploy = tenant(&node, "shop", "deploy");
        let invoke = key(&node, "shop", "invoke");
        let wasm = wat::parse_str(TELLS_WALLET).unwrap();
        deploy_as(&node, &deploy, "private", &wasm, &[]).expect(201);
        deploy_as(&node, &deploy, "open", &wasm, &[("is_public", "true")]).expect(201);
        Some(Self { node, deploy, invoke })
    }

    fn anonymous(&self, function: &str) -> Request {
        self.node.anonymous("POST", &format!("/v1/invoke/shop/{function}"))
    }

    fn both(&self, function: &str, token: &str, key: &str) -> Answer {
        self.anonymous(function)
            .header("authorization", &format!("Bearer {token}"))
            .header("x-api-key", key)
            .send()
    }
}

/// The wallet that the function saw.
#[track_caller]
fn wallet(answer: &Answer) -> String {
    answer.clone().expect(200);
    let json = answer.json();
    json[0].as_str().unwrap_or_else(|| panic!("{json}")).to_owned()
}

#[test]
fn a_token_and_a_key_together_are_one_caller_with_the_higher_role() {
    let Some(shop) = Shop::open("") else { return };
    let Shop { node, deploy, invoke } = &shop;
    let token = eddsa(&claims("0xabc", "shop"));
    // The second time comes from memory; either may be in either header.
    for _ in 0..2 {
        for (one, other) in [(&token, invoke), (invoke, &token), (&token, deploy), (&token, &token)] {
            assert_eq!(wallet(&shop.both("private", one, other)), "0xabc");
        }
    }
    let other = eddsa(&claims("0xdef", "shop"));
    assert_eq!(wallet(&shop.both("private", &other, invoke)), "0xdef", "the same key, another caller");
    assert_eq!(wallet(&shop.both("private", invoke, invoke)), "");
    let list = |token: &str, key: &str| {
        let request = node.request_as(token, "GET", "/v1/functions").header("x-api-key", key);
        request.send()
    };
    assert_eq!(list(&token, deploy).expect(200).json()["count"], 2, "the role is the key's");
    list(&token, invoke).refusal(403, "FORBIDDEN");
    let publish = json!({ "topic": "t", "data": 1 }).to_string();
    let publish =
        node.request_as(&token, "POST", "/v1/pubsub/publish").header("x-api-key", invoke).body(publish);
    publish.send().expect(202);

    // Both must be good.
    let unknown = format!("orama_{}", "A".repeat(43));
    let mut expired = claims("0xabc", "shop");
    expired["exp"] = 1_000_000_000.into();
    let expired = eddsa(&expired);
    for (token, key) in [(&token, &unknown), (&expired, invoke), (&"a.b.c".to_owned(), invoke)] {
        shop.both("private", token, key).refusal(401, "UNAUTHORIZED");
        list(token, key).refusal(401, "UNAUTHORIZED");
    }
    // And of one namespace, also where the key may go everywhere.
    let elsewhere = eddsa(&claims("0xabc", "default"));
    for key in [invoke.clone(), deploy.clone()] {
        shop.both("private", &elsewhere, &key).refusal(400, "CONFLICTING_CREDENTIALS");
        list(&elsewhere, &key).refusal(400, "CONFLICTING_CREDENTIALS");
    }
    shop.both("private", &token, &node.key()).refusal(400, "CONFLICTING_CREDENTIALS");
    for (one, two) in [(invoke, deploy), (&token, &other)] {
        let message = shop.both("private", one, two).refusal(400, "CONFLICTING_CREDENTIALS");
        assert!(message.contains("different"), "{message}");
    }
}

#[test]
fn a_token_and_a_key_are_good_as_long_as_both_are() {
    let Some(shop) = Shop::open("") else { return };
    let Shop { node, deploy, .. } = &shop;
    let made = json!({ "namespace": "shop", "role": "invoke" }).to_string();
    let made = node.request("POST", "/v1/keys").body(made).send().expect(201).json();
    let [id, key] = ["id", "api_key"].map(|field| made[field].as_str().unwrap().to_owned());
    let token = eddsa(&claims("0xabc", "shop"));
    assert_eq!(wallet(&shop.both("private", &token, &key)), "0xabc");
    node.delete(&format!("/v1/keys/{id}")).expect(200);
    shop.both("private", &token, &key).refusal(401, "UNAUTHORIZED");
    // A minute of leeway is left to a token, less some seconds.
    let mut short = claims("0xabc", "shop");
    short["exp"] = (short["exp"].as_u64().unwrap() - 600 - 55).into();
    let short = eddsa(&short);
    assert_eq!(wallet(&shop.both("private", &short, deploy)), "0xabc");
    eventually("the token has expired", || shop.both("private", &short, deploy).status == 401);
    let socket = |token: &str, key: &str| {
        let protocols = format!("orama, bearer.{token}, bearer.{key}");
        let headers = [("sec-websocket-protocol", protocols.as_str())];
        Socket::try_open(node, "/v1/functions/private/ws", &headers)
            .map(|(mut socket, _)| socket.output("{}"))
    };
    assert_eq!(socket(&token, deploy).unwrap(), json!(["0xabc"]));
    assert!(socket(&short, deploy).is_err());
}

#[test]
fn a_public_function_ignores_what_is_no_credential_of_the_node() {
    let Some(shop) = Shop::open("[rates]\nfailed_credentials_per_address = \"1/min burst 4\"\n") else {
        return;
    };
    let Shop { node, deploy, .. } = &shop;
    let own_app = {
        let token = eddsa(&claims("0xabc", "shop"));
        let (head, signature) = token.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { 'B' } else { 'A' };
        format!("Bearer {head}.{other}{}", &signature[1..])
    };
    let long = format!("Bearer a.{}.c", "b".repeat(9 << 10));
    let foreign = [
        ("authorization", "Basic dXNlcjpwYXNz"),
        ("authorization", "Bearer sk_live_51H"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu/s3/aws4_request, Signature=00"),
        ("authorization", "Bearer ä"),
        ("authorization", ""),
        ("authorization", "Bearer a.b.c"),
        // {"alg":"HS256"}
        ("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"),
        ("authorization", &own_app),
        ("authorization", &long),
        ("x-api-key", "of-another-service"),
        ("x-api-key", "two words"),
    ];
    // More often than credentials may fail.
    for _ in 0..3 {
        for (name, value) in foreign {
            let answer = shop.anonymous("open").header(name, value).send();
            assert_eq!(wallet(&answer), "", "{name}: {value}");
        }
    }
    // Beside what is the node's, it changes nothing.
    let beside = shop.anonymous("open").header("authorization", "Basic dXNlcjpwYXNz");
    let token = eddsa(&claims("0xabc", "shop"));
    assert_eq!(wallet(&beside.header("x-api-key", &token).send()), "0xabc");
    let beside = shop.anonymous("open").header("authorization", &own_app);
    assert_eq!(wallet(&beside.header("x-api-key", deploy).send()), "");
    let path = "/v1/functions/open/ws?namespace=shop&token=wrong";
    assert_eq!(Socket::try_open(node, path, &[]).unwrap().0.output("{}"), json!([""]));
    shop.anonymous("open").header("x-api-key", &token).send().expect(200);

    // What is the node's and not good is refused, and counts. So does anything where a credential is needed.
    let unknown = |n: usize| shop.anonymous("open").header("x-api-key", &format!("orama_{n:043}")).send();
    unknown(1).refusal(401, "UNAUTHORIZED");
    let mut expired = claims("0xabc", "shop");
    expired["exp"] = 1_000_000_000.into();
    let message =
        shop.anonymous("open").header("x-api-key", &eddsa(&expired)).send().refusal(401, "UNAUTHORIZED");
    assert!(message.contains("expired"), "{message}");
    let private = |name: &str| shop.anonymous(name).header("authorization", "Basic dXNlcjpwYXNz").send();
    let told = private("private").refusal(401, "UNAUTHORIZED");
    assert!(told.contains("Authorization"), "{told}");
    assert_eq!(private("absent").refusal(401, "UNAUTHORIZED"), told, "nothing is told of what is there");
    private("private").refusal(429, "RATE_LIMITED");
    unknown(2).refusal(429, "RATE_LIMITED");
    // An app's own header is no guess, whoever else of the address has guessed.
    assert_eq!(wallet(&shop.anonymous("open").header("authorization", "Basic dXNlcjpwYXNz").send()), "");
    let known: Value = node.request_as(deploy, "GET", "/v1/functions").send().expect(200).json();
    assert_eq!(known["count"], 2);
}
