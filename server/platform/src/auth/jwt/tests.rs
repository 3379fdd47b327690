//! Which tokens are accepted, and what is told of the others.

use super::*;
use crate::limits::TOKEN_KEYS_MAX_BYTES;
use crate::settings::KeySource;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/jwt").join(name)
}

fn signer(name: &str) -> EncodingKey {
    let pem = std::fs::read(file(name)).unwrap();
    match name {
        "rsa.pem" => EncodingKey::from_rsa_pem(&pem),
        "p256.pem" => EncodingKey::from_ec_pem(&pem),
        _ => EncodingKey::from_ed_pem(&pem),
    }
    .unwrap()
}

/// The three kinds: algorithm, private key, public key.
const KINDS: [(Algorithm, &str, &str); 3] = [
    (Algorithm::EdDSA, "ed25519.pem", "ed25519.pub.pem"),
    (Algorithm::ES256, "p256.pem", "p256.pub.pem"),
    (Algorithm::RS256, "rsa.pem", "rsa.pub.pem"),
];

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn good() -> Value {
    json!({ "sub": "0xabc", "namespace": "a", "exp": now_s() + 600 })
}

fn sign(algorithm: Algorithm, key: &str, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, &signer(key)).unwrap()
}

fn eddsa(claims: &Value) -> String {
    sign(Algorithm::EdDSA, "ed25519.pem", None, claims)
}

fn tokens(path: &Path) -> Tokens {
    tokens_of(vec![TokenIssuer::file(path.to_owned())], &Arc::default()).unwrap()
}

fn tokens_of(issuers: Vec<TokenIssuer>, generation: &Arc<AtomicU64>) -> Result<Tokens, KeysError> {
    static BACKPLANE: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    });
    Tokens::open(issuers, generation, BACKPLANE.handle())
}

fn refresh(tokens: &Tokens) {
    tokens.issuers().iter().for_each(|issuer| issuer.refresh());
}

fn check(tokens: &Tokens, token: &str) -> Result<String, Refusal> {
    tokens.check(token).map(|(caller, namespace, _)| format!("{} in {namespace}", caller.wallet))
}

/// A JWKS of public keys in PEM, with ids.
fn jwks(keys: &[(&str, Option<&str>)]) -> Value {
    let keys: Vec<Value> = keys
        .iter()
        .map(|(name, kid)| {
            let pem = std::fs::read(file(name)).unwrap();
            let key = jsonwebtoken::DecodingKey::from_ed_pem(&pem)
                .or_else(|_| jsonwebtoken::DecodingKey::from_ec_pem(&pem))
                .or_else(|_| jsonwebtoken::DecodingKey::from_rsa_pem(&pem))
                .unwrap();
            let mut jwk = jsonwebtoken::jwk::Jwk::from_decoding_key(&key, None).unwrap();
            jwk.common.key_id = kid.map(str::to_owned);
            serde_json::to_value(jwk).unwrap()
        })
        .collect();
    json!({ "keys": keys })
}

fn open(dir: &Path, content: &str) -> Result<Tokens, String> {
    let path = dir.join("keys");
    std::fs::write(&path, content).unwrap();
    tokens_of(vec![TokenIssuer::file(path)], &Arc::default()).map_err(|error| {
        let message = error.to_string();
        assert!(message.starts_with("auth.jwt: ") && message.contains("keys: "), "{message}");
        message
    })
}

#[test]
fn each_kind_of_key_accepts_its_own_algorithm_alone() {
    for (algorithm, private, public) in KINDS {
        let tokens = tokens(&file(public));
        let token = sign(algorithm, private, Some("any id"), &good());
        assert_eq!(check(&tokens, &token).unwrap(), "0xabc in a", "{algorithm:?}");
        for (other, private, _) in KINDS.into_iter().filter(|kind| kind.0 != algorithm) {
            let token = sign(other, private, None, &good());
            assert_eq!(check(&tokens, &token), Err(Refusal::Algorithm), "{other:?} with {public}");
        }
    }
    assert_eq!(
        check(&tokens(&file("rsa-pkcs1.pub.pem")), &sign(Algorithm::RS256, "rsa.pem", None, &good()))
            .unwrap(),
        "0xabc in a"
    );
    // The same key with another of its family's algorithms.
    let token = sign(Algorithm::PS256, "rsa.pem", None, &good());
    assert_eq!(check(&tokens(&file("rsa.pub.pem")), &token), Err(Refusal::Algorithm));
}

#[test]
fn tokens_without_a_signature_or_with_a_public_key_as_secret_are_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    for (algorithm, private, public) in KINDS {
        let tokens = tokens(&file(public));
        let signed = sign(algorithm, private, None, &good());
        let payload = signed.split('.').nth(1).unwrap();
        for none in ["none", "None", "NONE", ""] {
            let header = B64.encode(json!({ "alg": none, "typ": "JWT" }).to_string());
            for signature in ["", signed.split('.').nth(2).unwrap()] {
                let token = format!("{header}.{payload}.{signature}");
                assert_eq!(check(&tokens, &token), Err(Refusal::Algorithm), "{none:?}");
            }
        }
        let pem = std::fs::read(file(public)).unwrap();
        for secret in [pem.as_slice(), pem.trim_ascii()] {
            let token = encode(&Header::default(), &good(), &EncodingKey::from_secret(secret)).unwrap();
            assert_eq!(check(&tokens, &token), Err(Refusal::Algorithm));
        }
        // A signature of another token, of another key, cut short, with a bit changed.
        let mut other = good();
        other["sub"] = "0xdef".into();
        let other = sign(algorithm, private, None, &other);
        let (head, signature) = signed.rsplit_once('.').unwrap();
        let mut bytes = B64.decode(signature).unwrap();
        bytes[10] ^= 1;
        for signature in [other.rsplit_once('.').unwrap().1, &signature[..4], "", &B64.encode(&bytes)] {
            assert_eq!(
                check(&tokens, &format!("{head}.{signature}")),
                Err(Refusal::Signature),
                "{algorithm:?}"
            );
        }
    }
    let token = sign(Algorithm::EdDSA, "ed25519-next.pem", None, &good());
    assert_eq!(check(&tokens(&file("ed25519.pub.pem")), &token), Err(Refusal::Signature));
}

#[test]
fn claims_are_checked() {
    let tokens = tokens(&file("ed25519.pub.pem"));
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        check(&tokens, &eddsa(&claims))
    };
    let now = now_s();
    assert_eq!(with("exp", (now - 61).into()), Err(Refusal::Expired));
    assert_eq!(with("exp", json!(now as f64 - 70.5)), Err(Refusal::Expired));
    assert_eq!(with("exp", 0.into()), Err(Refusal::Expired));
    with("exp", (now - 30).into()).expect("within the leeway");
    with("exp", json!(now as f64 + 10.5)).expect("a fraction is a number");
    assert_eq!(with("nbf", (now + 120).into()), Err(Refusal::NotYet));
    with("nbf", (now + 30).into()).expect("within the leeway");
    for (claim, values) in [
        ("exp", vec![json!("soon"), json!(null), json!(-1), json!({}), json!(1e300)]),
        ("nbf", vec![json!("soon"), json!([])]),
        ("sub", vec![json!(""), json!(null), json!(7)]),
        ("namespace", vec![json!(""), json!(null), json!(7), json!("../b"), json!("a".repeat(64))]),
    ] {
        for value in values {
            assert_eq!(with(claim, value.clone()), Err(Refusal::Claim(claim)), "{value}");
        }
        if claim != "nbf" {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(claim);
            assert_eq!(check(&tokens, &eddsa(&claims)), Err(Refusal::Claim(claim)));
        }
    }
    with("aud", json!(["somebody"])).expect("an audience is the signer's business");
}

#[test]
fn what_is_no_token_is_told_without_repeating_it() {
    let tokens = tokens(&file("ed25519.pub.pem"));
    let signed = eddsa(&good());
    let parts: Vec<&str> = signed.split('.').collect();
    let critical = {
        let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &good(), &signer("ed25519.pem")).unwrap()
    };
    for token in [
        "",
        "..",
        "s3cret",
        "s3cret.s3cret.s3cret",
        &critical,
        &format!("{}.{}", parts[0], parts[1]),
        &format!("{signed}.x"),
        &format!("{}.{}.{}=", parts[0], parts[1], parts[2]),
        &format!("{}.{}.{}", parts[1], parts[1], parts[2]),
        &eddsa(&json!(["sub", "namespace"])),
    ] {
        let refusal = check(&tokens, token).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed | Refusal::Algorithm), "{token}: {refusal}");
        assert!(!refusal.to_string().contains("s3cret"), "{refusal}");
    }
}

#[test]
fn a_verified_token_tells_its_claims() {
    let tokens = tokens(&file("ed25519.pub.pem"));
    let mut claims = good();
    claims["plan"] = "gold".into();
    claims["roles"] = json!(["a", "b"]);
    claims["level"] = 3.into();
    let (caller, _, exp_s) = tokens.check(&eddsa(&claims)).unwrap();
    assert_eq!((caller.wallet.as_str(), caller.subject.as_str()), ("0xabc", "0xabc"));
    let claim = |name: &str| caller.claims.get(name).map(String::as_str);
    assert_eq!(claim("plan"), Some("gold"));
    assert_eq!(claim("roles"), Some("[\"a\",\"b\"]"));
    assert_eq!(claim("level"), Some("3"));
    assert_eq!(claim("none"), None);
    assert_eq!(exp_s, claims["exp"].as_u64().unwrap());
}

#[test]
fn a_jwks_is_searched_by_id_or_tried_key_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let keys = jwks(&[
        ("ed25519.pub.pem", Some("one")),
        ("ed25519-next.pub.pem", Some("two")),
        ("p256.pub.pem", Some("three")),
        ("p384.pub.pem", Some("four")),
    ]);
    let tokens = open(dir.path(), &keys.to_string()).unwrap();
    let signed = |key, kid| check(&tokens, &sign(Algorithm::EdDSA, key, kid, &good()));
    assert!(signed("ed25519.pem", Some("one")).is_ok());
    assert!(signed("ed25519-next.pem", Some("two")).is_ok());
    assert!(signed("ed25519.pem", None).is_ok() && signed("ed25519-next.pem", None).is_ok());
    assert_eq!(signed("ed25519.pem", Some("two")), Err(Refusal::Signature));
    assert_eq!(signed("ed25519.pem", Some("five")), Err(Refusal::UnknownKey));
    assert_eq!(signed("ed25519.pem", Some("three")), Err(Refusal::UnknownKey), "that key is of another kind");
    let es256 = sign(Algorithm::ES256, "p256.pem", Some("three"), &good());
    assert!(check(&tokens, &es256).is_ok());
    let rs256 = sign(Algorithm::RS256, "rsa.pem", None, &good());
    assert_eq!(check(&tokens, &rs256), Err(Refusal::Algorithm));
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let mut private = jwks(&[("ed25519.pub.pem", Some("one"))]);
    private["keys"][0]["d"] = "s3cret".into();
    let mut for_encryption = jwks(&[("rsa.pub.pem", Some("one"))]);
    for_encryption["keys"][0]["use"] = "enc".into();
    let mut other_algorithm = jwks(&[("rsa.pub.pem", Some("one"))]);
    other_algorithm["keys"][0]["alg"] = "RS512".into();
    let mut short = jwks(&[("ed25519.pub.pem", None)]);
    short["keys"][0]["x"] = "AAAA".into();
    let mut off_curve = jwks(&[("p256.pub.pem", None)]);
    off_curve["keys"][0]["x"] = off_curve["keys"][0]["y"].clone();
    let symmetric = json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }] });
    let many = jwks(&[("ed25519.pub.pem", None); 65]);
    for (content, word) in [
        (String::new(), "JSON"),
        ("{}".to_owned(), "\"keys\""),
        ("{\"keys\": []}".to_owned(), "it has no usable key"),
        (read("ed25519.pem"), "private key"),
        (read("rsa.pem"), "private key"),
        (read("ed25519.pub.pem").replace("MCow", "MCox"), "public key"),
        (read("ed25519.pub.pem").repeat(2), "JWKS"),
        (read("rsa-1024.pub.pem"), "2048"),
        (read("p384.pub.pem"), "P-256"),
        (private.to_string(), "private key"),
        (for_encryption.to_string(), "not for signatures"),
        (other_algorithm.to_string(), "alg"),
        (short.to_string(), "it has no usable key"),
        (off_curve.to_string(), "it has no usable key"),
        (symmetric.to_string(), "it has no usable key"),
        (many.to_string(), "at most 64"),
        (" ".repeat(2 << 20), "bytes"),
    ] {
        let message = open(dir.path(), &content).err().unwrap_or_else(|| panic!("accepted: {content}"));
        assert!(message.contains(word), "{word}: {message}");
        assert!(!message.contains("s3cret") && !message.contains('\n'), "{message}");
    }
    let nothing = TokenIssuer::file(dir.path().join("nothing"));
    let missing = tokens_of(vec![nothing], &Arc::default()).err().unwrap().to_string();
    assert!(missing.contains("nothing") && missing.contains("No such file"), "{missing}");
}

#[test]
fn a_changed_file_is_taken_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    let put = |name: &str| {
        // As an operator would: the old or the new, never a part.
        let next = dir.path().join("next");
        std::fs::copy(file(name), &next).unwrap();
        std::fs::rename(next, &path).unwrap();
    };
    put("ed25519.pub.pem");
    let generation: Arc<AtomicU64> = Arc::default();
    let tokens = tokens_of(vec![TokenIssuer::file(path.clone())], &generation).unwrap();
    let (old, new) = (eddsa(&good()), sign(Algorithm::EdDSA, "ed25519-next.pem", None, &good()));
    refresh(&tokens);
    assert_eq!(generation.load(Ordering::Acquire), 0, "nothing has changed");
    put("ed25519-next.pub.pem");
    refresh(&tokens);
    assert_eq!(generation.load(Ordering::Acquire), 1);
    assert_eq!(check(&tokens, &old), Err(Refusal::Signature));
    assert!(check(&tokens, &new).is_ok());
    put("README.md");
    refresh(&tokens);
    std::fs::remove_file(&path).unwrap();
    refresh(&tokens);
    assert!(check(&tokens, &new).is_ok(), "the keys stay as they were");
    assert_eq!(generation.load(Ordering::Acquire), 1);
    put("ed25519.pub.pem");
    refresh(&tokens);
    assert!(check(&tokens, &old).is_ok());
}

#[test]
fn the_namespace_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let tokens = tokens(&file("ed25519.pub.pem"));
    let refused = tokens.verify(&eddsa(&good()), &registry).unwrap_err();
    assert!(matches!(refused, CredentialError::Refused(Refusal::NoNamespace)), "{refused}");
    registry.create_namespace(&Namespace::new("a").unwrap()).unwrap();
    let (credential, until_s) = tokens.verify(&eddsa(&good()), &registry).unwrap();
    assert_eq!((credential.role, credential.key_id.as_str()), (Role::Invoke, ""));
    let left = Duration::from_secs(until_s - now_s());
    assert!(left > Duration::from_secs(600) && left <= Duration::from_secs(661), "{left:?}");
}

/// A server of keys: what it answers can be changed, and it counts who asks.
struct KeyServer {
    url: url::Url,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap()).parse().unwrap();
        let server = Self { url, answer: Arc::new(Mutex::new(answer)), asked: Arc::default() };
        let (answer, asked) = (Arc::clone(&server.answer), Arc::clone(&server.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head = BufReader::new(stream.try_clone().unwrap()).lines();
                assert!(head.map(Result::unwrap).take_while(|line| !line.is_empty()).count() > 0);
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                // A client that has seen enough may have closed.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        server
    }

    fn put(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn issuer(&self) -> TokenIssuer {
        TokenIssuer {
            keys: KeySource::Url(self.url.clone()),
            issuer: Some("https://one.test".to_owned()),
            audience: Some("orama".to_owned()),
            namespaces: Some([Namespace::new("a").unwrap()].into()),
        }
    }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// Claims as [`KeyServer::issuer`] takes them.
fn of_one() -> Value {
    let mut claims = good();
    claims["iss"] = "https://one.test".into();
    claims["aud"] = json!(["other", "orama"]);
    claims
}

#[test]
fn a_token_is_its_issuers_for_its_audience_and_its_namespaces_alone() {
    let one = TokenIssuer {
        keys: KeySource::File(file("ed25519.pub.pem")),
        ..KeyServer::start(String::new()).issuer()
    };
    let two = TokenIssuer {
        keys: KeySource::File(file("ed25519-next.pub.pem")),
        issuer: Some("https://two.test".to_owned()),
        audience: None,
        namespaces: None,
    };
    let tokens = tokens_of(vec![one, two], &Arc::default()).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = of_one();
        claims[name] = value;
        claims
    };
    let one = |claims: &Value| check(&tokens, &eddsa(claims));
    let two = |claims: &Value| check(&tokens, &sign(Algorithm::EdDSA, "ed25519-next.pem", None, claims));
    assert!(one(&of_one()).is_ok());
    assert_eq!(one(&with("namespace", "b".into())), Err(Refusal::OtherNamespace));
    assert_eq!(one(&with("aud", "other".into())), Err(Refusal::Audience));
    assert_eq!(one(&with("aud", json!(null))), Err(Refusal::Claim("aud")));
    assert_eq!(one(&with("iss", "https://two.test".into())), Err(Refusal::Signature), "signed by another");
    for issuer in [
        json!("https://three.test"),
        json!("https://one.test/"),
        json!(""),
        json!(null),
        json!(["https://one.test"]),
    ] {
        assert_eq!(one(&with("iss", issuer.clone())), Err(Refusal::Issuer), "{issuer}");
    }
    assert_eq!(one(&good()), Err(Refusal::Issuer));
    assert_eq!(two(&of_one()), Err(Refusal::Signature));
    for (namespace, audience) in [("a", "x"), ("b", "y")] {
        let mut claims = with("iss", "https://two.test".into());
        claims["namespace"] = namespace.into();
        claims["aud"] = audience.into();
        assert!(two(&claims).is_ok());
    }
}

#[test]
fn an_issuer_with_several_entries_speaks_for_what_any_of_them_allows() {
    let entry = |audience: &str, namespace: &str| TokenIssuer {
        keys: KeySource::File(file("ed25519.pub.pem")),
        issuer: Some("https://one.test".to_owned()),
        audience: Some(audience.to_owned()),
        namespaces: Some([Namespace::new(namespace).unwrap()].into()),
    };
    let tokens = tokens_of(vec![entry("for-a", "a"), entry("for-b", "b")], &Arc::default()).unwrap();
    for (audience, namespace, expected) in [
        ("for-a", "a", Ok(())),
        ("for-b", "b", Ok(())),
        ("for-a", "b", Err(Refusal::OtherNamespace)),
        ("for-b", "a", Err(Refusal::OtherNamespace)),
        ("for-c", "a", Err(Refusal::Audience)),
    ] {
        let mut claims = of_one();
        claims["aud"] = audience.into();
        claims["namespace"] = namespace.into();
        assert_eq!(check(&tokens, &eddsa(&claims)).map(drop), expected, "{audience} in {namespace}");
    }
}

#[test]
fn keys_of_a_server_are_fetched_kept_and_fetched_again_for_an_unknown_key() {
    let old = jwks(&[("ed25519.pub.pem", Some("old"))]).to_string();
    let both = jwks(&[("ed25519.pub.pem", Some("old")), ("ed25519-next.pub.pem", Some("new"))]).to_string();
    let server = KeyServer::start(http("503 Service Unavailable", ""));
    let generation: Arc<AtomicU64> = Arc::default();
    let tokens = tokens_of(vec![server.issuer()], &generation).unwrap();
    let signed = |key, kid| sign(Algorithm::EdDSA, key, Some(kid), &of_one());
    let asked = || server.asked.load(Ordering::SeqCst);

    refresh(&tokens);
    assert_eq!(asked(), 1);
    refresh(&tokens);
    assert_eq!(asked(), 1, "a server that failed is not asked at once again");
    server.put(http("200 OK", &old));
    assert!(
        check(&tokens, &signed("ed25519.pem", "old")).is_ok(),
        "a token that needs the keys has them fetched"
    );
    assert_eq!((asked(), generation.load(Ordering::SeqCst)), (2, 1));

    server.put(http("200 OK", &both));
    for _ in 0..3 {
        assert_eq!(check(&tokens, &signed("ed25519-next.pem", "new")), Err(Refusal::UnknownKey));
    }
    assert_eq!(asked(), 2, "tokens with unknown keys cause a fetch now and then at most");
    let issuer = &tokens.issuers()[0];
    issuer.allow_fetch();
    assert!(check(&tokens, &signed("ed25519-next.pem", "new")).is_ok());
    assert_eq!((asked(), generation.load(Ordering::SeqCst)), (3, 2));

    // Whatever it answers that is no key, the last good keys stay.
    for bad in [
        http("404 Not Found", &old),
        format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", server.url),
        http("200 OK", "{\"keys\": []}"),
        http("200 OK", &" ".repeat(TOKEN_KEYS_MAX_BYTES as usize + 1)),
        "nonsense".to_owned(),
    ] {
        server.put(bad);
        let before = asked();
        issuer.allow_fetch();
        assert_eq!(check(&tokens, &signed("ed25519.pem", "none")), Err(Refusal::UnknownKey));
        assert_eq!(asked(), before + 1);
        assert!(check(&tokens, &signed("ed25519.pem", "old")).is_ok());
    }
    assert_eq!(generation.load(Ordering::SeqCst), 2);
}
