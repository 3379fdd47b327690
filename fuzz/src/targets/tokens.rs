//! A token that an issuer signed is accepted as what it says. One that was changed in any byte is not, nor is one of a key that
//! the issuer's JWKS does not have.

use crate::input::Input;
use crate::{Target, ready, texts};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use orama_platform::auth::jwt::fuzzing::check as accept;
use orama_platform::auth::jwt::{Refusal, Tokens};
use orama_platform::settings::TokenIssuer;
use orama_runtime::names::Namespace;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const TARGET: Target = Target { name: "tokens", check, seeds };

/// 1 January 2100, so that tokens stay valid and seeds stay the same.
const EXPIRES_S: u64 = 4_102_444_800;

struct Stand {
    dir: TempDir,
    runtime: Runtime,
    tokens: Tokens,
    signers: Vec<(Algorithm, EncodingKey, Jwk)>,
    /// One of each signer.
    good: Vec<String>,
}

static STAND: LazyLock<Stand> = LazyLock::new(|| {
    let dir = ready(tempfile::tempdir());
    let runtime = ready(tokio::runtime::Builder::new_current_thread().build());
    let kinds = [(Algorithm::EdDSA, "ed25519"), (Algorithm::ES256, "p256"), (Algorithm::RS256, "rsa")];
    let signers = kinds.map(|(algorithm, name)| {
        let (private, public) = (pem(&format!("{name}.pem")), pem(&format!("{name}.pub.pem")));
        let (encoding, decoding) = match algorithm {
            Algorithm::EdDSA => (EncodingKey::from_ed_pem(&private), DecodingKey::from_ed_pem(&public)),
            Algorithm::ES256 => (EncodingKey::from_ec_pem(&private), DecodingKey::from_ec_pem(&public)),
            _ => (EncodingKey::from_rsa_pem(&private), DecodingKey::from_rsa_pem(&public)),
        };
        let mut jwk = ready(Jwk::from_decoding_key(&ready(decoding), None));
        jwk.common.key_id = Some(name.to_owned());
        (algorithm, ready(encoding), jwk)
    });
    let signers = signers.to_vec();
    let jwks = json!({ "keys": signers.iter().map(|(_, _, jwk)| jwk).collect::<Vec<_>>() }).to_string();
    let tokens = open(&dir, &runtime, "all.json", jwks.as_bytes()).expect("the test keys are good");
    let claims = json!({ "sub": "0xabc", "namespace": "a", "exp": EXPIRES_S });
    let good = signers.iter().map(|signer| sign(signer, &claims)).collect();
    Stand { dir, runtime, tokens, signers, good }
});

fn pem(name: &str) -> Vec<u8> {
    ready(fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/jwt").join(name)))
}

fn open(dir: &TempDir, runtime: &Runtime, name: &str, keys: &[u8]) -> Result<Tokens, String> {
    let path: PathBuf = dir.path().join(name);
    ready(fs::write(&path, keys));
    Tokens::open(vec![TokenIssuer::file(path)], &Arc::default(), runtime.handle())
        .map_err(|error| error.to_string())
}

fn sign((algorithm, key, jwk): &(Algorithm, EncodingKey, Jwk), claims: &Value) -> String {
    let header = Header { kid: jwk.common.key_id.clone(), ..Header::new(*algorithm) };
    ready(encode(&header, claims, key))
}

pub fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind {
        b'c' => changed_ones_are_refused(&mut Input::new(rest)),
        b's' => signed_ones_say_what_they_say(rest),
        b'k' => keys_are_read(rest),
        _ => any_text_is_refused(bytes),
    }
}

fn changed_ones_are_refused(input: &mut Input<'_>) {
    let Stand { tokens, good, .. } = &*STAND;
    let token = &good[input.below(good.len())];
    let mut changed = token.clone().into_bytes();
    while !input.is_empty() {
        let at = input.below(changed.len().max(1)).min(changed.len());
        match input.byte() % 4 {
            0 => drop(changed.drain(at..(at + 1).min(changed.len()))),
            1 => changed.insert(at, input.byte()),
            // Parts of another token.
            2 => drop(changed.splice(at.., good[input.below(good.len())].bytes().skip(at))),
            _ => changed.iter_mut().skip(at).take(1).for_each(|byte| *byte = input.byte()),
        }
    }
    let Ok(changed) = String::from_utf8(changed) else { return };
    let accepted = accept(tokens, &changed).is_ok();
    assert_eq!(accepted, good.contains(&changed), "{changed}");
}

fn any_text_is_refused(bytes: &[u8]) {
    let Stand { tokens, good, .. } = &*STAND;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(refusal) = accept(tokens, text) {
        assert!(!good.iter().any(|token| token == text), "{text}: {refusal}");
        return;
    }
    assert!(good.iter().any(|token| token == text), "{text} was accepted");
}

/// Claims of any kind, signed rightly: accepted are those that say everything, as what they say.
fn signed_ones_say_what_they_say(bytes: &[u8]) {
    let Ok(claims @ Value::Object(_)) = serde_json::from_slice::<Value>(bytes) else { return };
    let Stand { tokens, signers, .. } = &*STAND;
    let found = accept(tokens, &sign(&signers[0], &claims));
    let text = |name: &str| claims[name].as_str().filter(|text| !text.is_empty());
    let number = |name: &str| claims[name].as_f64();
    let namespace = text("namespace").and_then(|name| Namespace::new(name).ok());
    // Far from now, so that no clock matters.
    let is_valid = number("exp").is_some_and(|exp| (4e9..1e18).contains(&exp))
        && claims.get("nbf").is_none_or(|nbf| nbf.as_f64().is_some_and(|nbf| (0.0..1e9).contains(&nbf)));
    let is_over = number("exp").is_none_or(|exp| exp < 1e9) || number("nbf").is_some_and(|nbf| nbf > 4e9);
    match found {
        Ok((caller, in_namespace, _)) => {
            assert!(!is_over, "{claims} was accepted");
            assert_eq!((Some(&*caller.wallet), Some(in_namespace)), (text("sub"), namespace), "{claims}");
            assert_eq!(caller.subject, caller.wallet);
        }
        Err(why) => {
            let is_right = is_valid && text("sub").is_some() && namespace.is_some();
            // The names that the library checks may be of kinds that it refuses.
            let has_more = ["aud", "iss", "iat"].iter().any(|name| claims.get(*name).is_some());
            assert!(!is_right || has_more, "{claims} was refused: {why}");
        }
    }
}

/// Any text as an issuer's keys: it is refused in one line, or accepts no token of a key that is not in it.
fn keys_are_read(text: &[u8]) {
    let Stand { dir, runtime, signers, good, .. } = &*STAND;
    let tokens = match open(dir, runtime, "some.json", text) {
        Ok(tokens) => tokens,
        Err(why) => {
            assert!(!why.is_empty() && !why.contains("BEGIN"), "{why:?}");
            return;
        }
    };
    let text = String::from_utf8_lossy(text);
    let all: Value = serde_json::from_str(&text).unwrap_or_default();
    for ((_, _, jwk), token) in signers.iter().zip(good) {
        let jwk = ready(serde_json::to_value(jwk));
        let is_in = |listed: &Value| {
            ["x", "n"].iter().any(|part| !jwk[*part].is_null() && listed[*part] == jwk[*part])
        };
        let is_listed =
            all["keys"].as_array().is_some_and(|keys| keys.iter().any(is_in)) || text.contains("-----BEGIN ");
        match accept(&tokens, token) {
            Ok(_) => assert!(is_listed, "a token of a key that is not there was accepted"),
            Err(Refusal::Signature | Refusal::UnknownKey | Refusal::Algorithm) => {}
            Err(why) => panic!("{why}"),
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let Stand { signers, good, .. } = &*STAND;
    let mut seeds = texts(&[
        "s{\"sub\": \"0xabc\", \"namespace\": \"a\", \"exp\": 4102444800}",
        "s{\"sub\": \"\", \"namespace\": \"a\", \"exp\": 4102444800.5, \"nbf\": 0}",
        "s{\"sub\": \"a\\u0000\", \"namespace\": \"A-b_1\", \"exp\": 5e9, \"more\": {\"x\": [1]}, \"aud\": \"z\", \"iss\": 7}",
        "s{\"sub\": \"x\", \"namespace\": \"a\", \"exp\": 1, \"nbf\": 5000000000}",
        "k{\"keys\": []}",
        "k{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\"}, {\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"\", \"use\": \"enc\"}]}",
    ]);
    for (index, ((_, _, jwk), token)) in signers.iter().zip(good).enumerate() {
        seeds.push(format!("k{}", json!({ "keys": [jwk] })).into_bytes());
        seeds.push(token.clone().into_bytes());
        seeds.extend([
            vec![b'c', index as u8],
            vec![b'c', index as u8, 0, 90, 3, b'A'],
            vec![b'c', index as u8, 1, 40, 2, 0],
        ]);
    }
    // `{"alg":"none"}` before the claims of a good one.
    let claims = good[0].split('.').nth(1).unwrap_or_default();
    seeds.push(format!("eyJhbGciOiJub25lIn0.{claims}.").into_bytes());
    seeds.push([b"k", pem("ed25519.pub.pem").as_slice()].concat());
    seeds.push([b"k", pem("p384.pub.pem").as_slice()].concat());
    seeds
}
