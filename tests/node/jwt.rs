//! Tokens of callers: who they speak for, what they may do, and how their signers' keys change while a node serves.

use crate::harness::{Compiler, Node, Options, eventually, new_dir, orama, output};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use orama_test_support::guests;
use orama_test_support::tools::Missing;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

fn fixture(name: &str) -> PathBuf {
    guests::dir().join("../fixtures/jwt").join(name)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn sign(algorithm: Algorithm, key: &str, claims: &Value) -> String {
    let pem = fs::read(fixture(key)).unwrap();
    let key = match algorithm {
        Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&pem),
        _ => EncodingKey::from_rsa_pem(&pem),
    };
    encode(&Header::new(algorithm), claims, &key.unwrap()).unwrap()
}

pub fn eddsa(claims: &Value) -> String {
    sign(Algorithm::EdDSA, "ed25519.pem", claims)
}

pub fn claims(wallet: &str, namespace: &str) -> Value {
    json!({ "sub": wallet, "namespace": namespace, "exp": now_s() + 600 })
}

/// The file with the keys, replaced as an operator would: the old or the new, never a part.
pub fn put_key(path: &Path, fixture_name: &str) {
    let next = path.with_extension("next");
    fs::copy(fixture(fixture_name), &next).unwrap();
    fs::rename(next, path).unwrap();
}

pub fn with_keys(path: &Path, env: Vec<(&'static str, String)>) -> Options {
    let config = format!("[auth]\njwt = {:?}\n", path.display().to_string());
    Options { config, env, ..Options::default() }
}

fn start(public_key: &str) -> Result<(Node, PathBuf), Missing> {
    let path = new_dir("keys").join("public.pem");
    put_key(&path, public_key);
    Ok((Node::try_start(with_keys(&path, Vec::new()))?, path))
}

#[test]
fn a_function_learns_its_caller_from_a_verified_token_alone() {
    for (algorithm, private, public) in [
        (Algorithm::EdDSA, "ed25519.pem", "ed25519.pub.pem"),
        (Algorithm::ES256, "p256.pem", "p256.pub.pem"),
        (Algorithm::RS256, "rsa.pem", "rsa.pub.pem"),
    ] {
        let Ok((node, _)) = start(public) else { return };
        for compiler in [Compiler::Go, Compiler::TinyGo] {
            let Some(misc) = node.misc(compiler, "env") else { continue };
            let path = format!("/v1/functions/{misc}/invoke");
            let ask = |credential: &str, claim: &str| {
                let request = node.request_as(credential, "POST", &path);
                // What a client says of itself in headers is no one's business.
                let request = [
                    "x-wallet",
                    "x-caller-wallet",
                    "x-wallet-address",
                    "x-namespace",
                    "x-user-id",
                    "x-jwt-subject",
                ]
                .iter()
                .fold(request, |request, name| request.header(name, "0xforged"));
                let body = json!({ "do": "context", "key": claim }).to_string();
                let told = request.body(body).send().expect(200).json();
                assert!(!told.to_string().contains("forged"), "{told}");
                ["caller_wallet", "jwt_subject", "claim"]
                    .map(|field| told[field].as_str().unwrap().to_owned())
            };
            let mut token = claims("0xAbC1", "default");
            token["plan"] = "gold".into();
            token["roles"] = json!(["reader", 2]);
            let token = sign(algorithm, private, &token);
            // The second comes from memory.
            for _ in 0..2 {
                assert_eq!(ask(&token, "plan"), ["0xAbC1", "0xAbC1", "gold"], "{algorithm:?} {misc}");
            }
            assert_eq!(ask(&token, "roles")[2], "[\"reader\",2]");
            assert_eq!(ask(&token, "missing")[2], "");
            let other = sign(algorithm, private, &claims("0xDEF", "default"));
            assert_eq!(ask(&other, "plan"), ["0xDEF", "0xDEF", ""]);
            assert_eq!(ask(&node.key(), "plan"), ["", "", ""], "a key has no wallet");
        }
    }
}

#[test]
fn a_token_invokes_in_its_namespace_and_does_nothing_else() {
    let Ok((node, _)) = start("ed25519.pub.pem") else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    node.deploy("open", &guests::wat("echo"), &[("is_public", "true")]);
    let token = eddsa(&claims("0xabc", "default"));
    let call =
        |token: &str, method: &str, path: &str| node.request_as(token, method, path).body("[1]").send();
    call(&token, "POST", "/v1/functions/echo/invoke").expect(200);
    call(&token, "POST", "/v1/invoke/default/echo").expect(200);
    node.anonymous("POST", "/v1/functions/echo/invoke").header("x-api-key", &token).send().expect(200);
    for (method, path) in [
        ("GET", "/v1/functions"),
        ("DELETE", "/v1/functions/echo"),
        ("GET", "/v1/functions/echo/logs"),
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("GET", "/v1/namespaces"),
        ("DELETE", "/v1/namespaces/default"),
    ] {
        call(&token, method, path).refusal(403, "FORBIDDEN");
    }
    call(&token, "POST", "/v1/functions/nothing/invoke").refusal(404, "FUNCTION_NOT_FOUND");

    // Its namespace is the token's, whatever the path, the query or a header says.
    let elsewhere = eddsa(&claims("0xabc", "shop"));
    let message = call(&elsewhere, "POST", "/v1/functions/echo/invoke").refusal(401, "UNAUTHORIZED");
    assert!(message.contains("namespace does not exist"), "{message}");
    node.request("POST", "/v1/namespaces").body("{\"name\":\"shop\"}").send().expect(201);
    call(&elsewhere, "POST", "/v1/functions/echo/invoke").refusal(404, "FUNCTION_NOT_FOUND");
    call(&elsewhere, "POST", "/v1/functions/echo/invoke?namespace=default").refusal(403, "FORBIDDEN");
    call(&elsewhere, "POST", "/v1/invoke/default/echo").refusal(403, "FORBIDDEN");
    call(&elsewhere, "POST", "/v1/invoke/default/open").expect(200);
    node.delete("/v1/namespaces/shop").expect(200);
    call(&elsewhere, "POST", "/v1/functions/echo/invoke").refusal(401, "UNAUTHORIZED");
}

#[test]
fn a_token_that_is_not_good_is_refused_and_never_repeated() {
    let path = new_dir("keys").join("public.pem");
    put_key(&path, "rsa.pub.pem");
    let Ok(node) = Node::try_start(with_keys(&path, vec![("ORAMA_LOG", "trace".to_owned())])) else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    let rsa = |claims: &Value| sign(Algorithm::RS256, "rsa.pem", claims);
    let with = |name: &str, value: Value| {
        let mut claims = claims("0xabc", "default");
        claims[name] = value;
        rsa(&claims)
    };
    let good = rsa(&claims("0xabc", "default"));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let payload = head.split_once('.').unwrap().1;
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let public = fs::read(fixture("rsa.pub.pem")).unwrap();
    let secret = EncodingKey::from_secret(&public);
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let bad = [
        (format!("{none}.{payload}."), "algorithm"),
        (format!("{none}.{payload}.{signature}"), "algorithm"),
        (encode(&Header::new(Algorithm::HS256), &claims("0xabc", "default"), &secret).unwrap(), "algorithm"),
        (eddsa(&claims("0xabc", "default")), "algorithm"),
        (sign(Algorithm::RS512, "rsa.pem", &claims("0xabc", "default")), "algorithm"),
        (format!("{head}.{other}{}", &signature[1..]), "signature"),
        (format!("{head}."), "signature"),
        (with("exp", (now_s() - 120).into()), "expired"),
        (with("nbf", (now_s() + 300).into()), "not valid yet"),
        (with("sub", Value::Null), "\"sub\""),
        (with("namespace", Value::Null), "\"namespace\""),
        (with("exp", Value::Null), "\"exp\""),
        (with("namespace", "../default".into()), "\"namespace\""),
        (with("filler", "x".repeat(8 << 10).into()), "8192 bytes"),
        ("a.b.c".to_owned(), "well-formed"),
        ("a.b".to_owned(), "unknown"),
    ];
    for (token, reason) in &bad {
        for (method, path) in [("POST", "/v1/functions/echo/invoke"), ("GET", "/v1/functions")] {
            let answer = node.request_as(token, method, path).send();
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let message = answer.refusal(401, "UNAUTHORIZED");
            assert!(message.contains(reason), "{reason}: {message}");
            assert!(message.len() < 200 && !message.contains(payload), "{message}");
        }
    }
    node.request_as(&good, "POST", "/v1/functions/echo/invoke").send().expect(200);
    assert!(node.terminate().success());
    let log = node.stderr();
    for (token, reason) in
        bad.iter().map(|(token, reason)| (token.as_str(), *reason)).chain([(good.as_str(), "good")])
    {
        assert!(token.len() < 20 || !log.contains(token), "a token stands in the log: {reason}");
    }
    assert!(!log.contains(signature), "a signature stands in the log");
}

#[test]
fn a_token_that_expires_is_refused_also_where_it_is_remembered() {
    let Ok((node, _)) = start("ed25519.pub.pem") else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    let mut short = claims("0xabc", "default");
    // A minute of leeway is left to it, less some seconds.
    short["exp"] = (now_s() - 50).into();
    let token = eddsa(&short);
    let request = node.request_as(&token, "POST", "/v1/functions/echo/invoke").bytes();
    let mut connections: Vec<_> = (0..8).map(|_| node.connect()).collect();
    let mut statuses = || -> Vec<u16> {
        connections
            .iter_mut()
            .map(|connection| {
                connection.write(&request);
                connection.answer().status
            })
            .collect()
    };
    assert_eq!(statuses(), [200; 8]);
    let begun = std::time::Instant::now();
    while statuses() != [401; 8] {
        assert!(begun.elapsed().as_secs() < 60, "still accepted");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn keys_rotate_while_the_node_serves() {
    let Ok((node, path)) = start("ed25519.pub.pem") else { return };
    node.deploy("echo", &guests::wat("echo"), &[]);
    let old = eddsa(&claims("0xabc", "default"));
    let new = sign(Algorithm::EdDSA, "ed25519-next.pem", &claims("0xabc", "default"));
    let status = |token: &str| node.request_as(token, "POST", "/v1/functions/echo/invoke").send().status;
    assert_eq!((status(&old), status(&new)), (200, 401));
    // Both at once, as a rotation needs it.
    let both = json!({ "keys": [
        { "kty": "OKP", "crv": "Ed25519", "x": ed25519_x("ed25519.pub.pem") },
        { "kty": "OKP", "crv": "Ed25519", "x": ed25519_x("ed25519-next.pub.pem"), "use": "sig", "alg": "EdDSA" },
        { "kty": "EC", "crv": "P-521", "kid": "of no use here" },
    ] });
    fs::write(path.with_extension("next"), both.to_string()).unwrap();
    fs::rename(path.with_extension("next"), &path).unwrap();
    eventually("both are accepted", || (status(&old), status(&new)) == (200, 200));
    put_key(&path, "ed25519-next.pub.pem");
    eventually("the old one is refused", || (status(&old), status(&new)) == (401, 200));
    // A mistake changes nothing but the log.
    put_key(&path, "ed25519.pem");
    eventually("it is told", || node.stderr().contains("continues with the previous keys"));
    assert_eq!((status(&old), status(&new)), (401, 200));
    assert!(node.stderr().contains("private key"), "{}", node.stderr());
}

/// The `x` of a JWK: the last 32 bytes of the key in PEM, which stand in its last 43 characters.
fn ed25519_x(name: &str) -> String {
    let pem = fs::read_to_string(fixture(name)).unwrap();
    let base64 = pem.lines().nth(1).unwrap().trim_end_matches('=');
    // 12 bytes come before it, which are 16 characters.
    base64[16..].replace('+', "-").replace('/', "_")
}

#[test]
fn a_bad_key_file_stops_the_start_and_is_named() {
    let dir = new_dir("keys");
    for (name, word) in [
        ("rsa-1024.pub.pem", "2048"),
        ("p384.pub.pem", "P-256"),
        ("ed25519.pem", "private key"),
        ("README.md", "JSON"),
        ("", "No such file"),
    ] {
        let path = dir.join(format!("bad-{name}"));
        if !name.is_empty() {
            put_key(&path, name);
        }
        let mut command = orama(&["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--home"]);
        command.arg(dir.join("home")).env("ORAMA_AUTH_JWT", &path);
        let output = output(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(output.stdout.is_empty(), "it does not serve");
        let line =
            stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{stderr}"));
        assert!(line.contains("auth.jwt") && line.contains(&path.display().to_string()), "{line}");
        assert!(line.contains(word), "{word}: {line}");
    }
}
