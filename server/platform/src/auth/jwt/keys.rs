//! Parses the public keys of an issuer: a JWKS, or one key in PEM.

use crate::limits::TOKEN_KEYS_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::verify;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

struct Key {
    /// Its id (`kid`). A key without one is tried for every token of its algorithm.
    id: Option<String>,
    /// The only algorithm that it accepts.
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Public keys, each with the one algorithm that it accepts.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Parses the content of a file or a server's answer.
    ///
    /// # Errors
    /// The problem, for the operator.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("-----BEGIN ") { from_pem(text) } else { from_jwks(text) }
    }

    /// Whether any key accepts an algorithm.
    pub(super) fn has(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|key| key.algorithm == algorithm)
    }

    /// The keys that may have signed a token.
    pub(super) fn fitting(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| {
            let id_fits = match (id, &key.id) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            };
            key.algorithm == algorithm && id_fits
        };
        self.0.iter().filter(fits).map(|key| &key.key)
    }
}

fn from_pem(text: &str) -> Result<Keys, String> {
    const WANTED: &str = "expected one public key, as `openssl pkey -pubout` writes it";
    if text.contains("PRIVATE KEY-----") {
        return Err(format!("it is a private key, which belongs only to the issuer; {WANTED}"));
    }
    let begins = text.matches("-----BEGIN ").count();
    let public =
        text.contains("-----BEGIN PUBLIC KEY-----") || text.contains("-----BEGIN RSA PUBLIC KEY-----");
    if begins != 1 || !public {
        return Err(format!("{WANTED}; use a JWKS for several keys"));
    }
    let pem = text.as_bytes();
    let key = DecodingKey::from_ed_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_rsa_pem(pem))
        .map_err(|_| format!("the public key cannot be read; {WANTED}"))?;
    let algorithm = algorithm_of(&key)?;
    Ok(Keys(vec![Key { id: None, algorithm, key }]))
}

fn from_jwks(text: &str) -> Result<Keys, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| {
        format!("neither a public key in PEM nor JSON: line {}, column {}", e.line(), e.column())
    })?;
    let listed = file.get("keys").and_then(Value::as_array).ok_or("a JWKS needs a list named \"keys\"")?;
    if listed.len() > TOKEN_KEYS_MAX {
        return Err(format!("it has {} keys; at most {TOKEN_KEYS_MAX} are accepted", listed.len()));
    }
    let (mut keys, mut skipped) = (Vec::new(), Vec::new());
    for (index, value) in listed.iter().enumerate() {
        let name = match value.get("kid").and_then(Value::as_str) {
            Some(id) => format!("key {id:?}"),
            None => format!("key number {}", index + 1),
        };
        if value.get("d").is_some() {
            return Err(format!("{name} is a private key, which belongs only to the issuer"));
        }
        match from_jwk(value) {
            Ok(key) => keys.push(key),
            // A JWKS of an identity provider may have keys for other uses.
            Err(why) => skipped.push(format!("{name}: {why}")),
        }
    }
    if keys.is_empty() {
        let why = if skipped.is_empty() { "the list is empty".to_owned() } else { skipped.join("; ") };
        return Err(format!("it has no usable key ({why})"));
    }
    for skipped in skipped {
        tracing::info!(skipped, "ignored a key of an issuer");
    }
    Ok(Keys(keys))
}

fn from_jwk(value: &Value) -> Result<Key, String> {
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| "not a key".to_owned())?;
    if matches!(jwk.common.public_key_use, Some(ref usage) if *usage != PublicKeyUse::Signature) {
        return Err("not for signatures".to_owned());
    }
    if matches!(jwk.common.key_operations, Some(ref operations) if !operations.contains(&KeyOperations::Verify))
    {
        return Err("not for verifying".to_owned());
    }
    let is_known = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => key.curve == EllipticCurve::P256,
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
        AlgorithmParameters::RSA(_) => true,
        _ => false,
    };
    if !is_known {
        return Err("only Ed25519, P-256 and RSA keys are accepted".to_owned());
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its parameters are not valid".to_owned())?;
    let algorithm = algorithm_of(&key)?;
    if jwk.common.key_algorithm.is_some_and(|named| named != KeyAlgorithm::from(algorithm)) {
        return Err(format!("its \"alg\" is not {algorithm:?}"));
    }
    Ok(Key { id: jwk.common.key_id, algorithm, key })
}

/// The algorithm of a key, after a check that the key is valid and strong enough.
fn algorithm_of(key: &DecodingKey) -> Result<Algorithm, String> {
    let unreadable = |_| "not an Ed25519, P-256 or RSA key".to_owned();
    let parts = Jwk::from_decoding_key(key, None).map_err(unreadable)?.algorithm;
    let algorithm = match (key.family(), parts) {
        (AlgorithmFamily::Ed, _) => Algorithm::EdDSA,
        (AlgorithmFamily::Ec, AlgorithmParameters::EllipticCurve(key))
            if key.curve == EllipticCurve::P256 =>
        {
            Algorithm::ES256
        }
        (AlgorithmFamily::Rsa, AlgorithmParameters::RSA(key)) => {
            let modulus = URL_SAFE_NO_PAD.decode(&key.n).map_err(|_| "not an RSA key".to_owned())?;
            let bits = modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
            // Shorter keys can be broken, and the library does not support longer ones.
            if !(2048..=4096).contains(&bits) {
                return Err(format!("an RSA key must have 2048 to 4096 bits, this one has {bits}"));
            }
            Algorithm::RS256
        }
        _ => return Err("only Ed25519, P-256 and RSA keys are accepted".to_owned()),
    };
    // Only a trial shows whether the point is on the curve.
    verify("", b"", key, algorithm).map_err(unreadable)?;
    Ok(algorithm)
}
