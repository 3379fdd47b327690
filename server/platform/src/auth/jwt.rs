//! Tokens of callers: JWTs signed by a key of the operator's file, which is read again when it changes.

use super::{Credential, CredentialError, Role};
use crate::limits::TOKEN_LEEWAY;
use crate::registry::Registry;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use keys::Keys;
use orama_runtime::invocation::Caller;
use orama_runtime::names::Namespace;
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod keys;

pub use keys::KeyFileError;

/// Why a token is refused, in words that repeat nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what the variant means")]
pub enum Refusal {
    #[error("the token is not a well-formed JWT")]
    Malformed,
    #[error(
        "the token's algorithm is not accepted; EdDSA, ES256 and RS256 are, each with a key of its own kind"
    )]
    Algorithm,
    #[error("the token was signed with a key that this node does not know")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token lacks the claim {0:?}, or it is of the wrong kind")]
    Claim(&'static str),
    #[error("the token's namespace does not exist")]
    NoNamespace,
}

/// The tokens that a node accepts. One is shared by all cores.
pub struct Tokens {
    path: PathBuf,
    keys: RwLock<Arc<Keys>>,
    /// What the file looked like when it was last read.
    seen: Mutex<Option<keys::Seen>>,
    /// Moves when the keys change, as whoever remembers a token watches it; see [`Registry::generation`].
    generation: Arc<AtomicU64>,
}

impl Tokens {
    /// Reads the file: a JWKS, or one public key in PEM.
    ///
    /// # Errors
    /// [`KeyFileError`], which names the file and what is wrong with it.
    pub fn open(path: &Path, generation: Arc<AtomicU64>) -> Result<Self, KeyFileError> {
        let seen = keys::Seen::now(path);
        let keys = RwLock::new(Arc::new(Keys::read(path)?));
        Ok(Self { path: path.to_owned(), keys, seen: Mutex::new(seen), generation })
    }

    /// Reads the file again if it has changed. One that cannot be used is logged, and the keys stay as they were.
    /// Blocks.
    pub fn reload(&self) {
        let mut seen = self.seen.lock();
        let now = keys::Seen::now(&self.path);
        if *seen == now {
            return;
        }
        *seen = now;
        match Keys::read(&self.path) {
            Ok(keys) => {
                *self.keys.write() = Arc::new(keys);
                self.generation.fetch_add(1, Ordering::Release);
                tracing::info!(file = %self.path.display(), "the keys of tokens were read again");
            }
            Err(error) => tracing::error!(%error, "the keys of tokens stay as they were"),
        }
    }

    /// Who a token speaks for, and the Unix second until which it may be remembered. Takes some 100 us for the
    /// signature, and looks the namespace up: blocks.
    ///
    /// # Errors
    /// [`CredentialError::Refused`] that says why, [`CredentialError::Registry`]
    pub fn verify(&self, token: &str, registry: &Registry) -> Result<(Credential, u64), CredentialError> {
        let (caller, namespace, exp_s) = self.check(token)?;
        if !registry.namespace_exists(&namespace)? {
            return Err(Refusal::NoNamespace.into());
        }
        let caller = Some(Arc::new(caller));
        let credential = Credential { namespace, role: Role::Invoke, key_id: String::new(), caller };
        Ok((credential, exp_s.saturating_add(TOKEN_LEEWAY.as_secs())))
    }

    fn check(&self, token: &str) -> Result<(Caller, Namespace, u64), Refusal> {
        let header = decode_header(token).map_err(|error| match error.kind() {
            // The library knows neither "none" nor what is no algorithm at all.
            ErrorKind::Json(e) if e.to_string().contains("variant") => Refusal::Algorithm,
            _ => Refusal::Malformed,
        })?;
        // Extensions that a receiver must understand; none is understood here.
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(Refusal::Malformed);
        }
        if !matches!(header.alg, Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256) {
            return Err(Refusal::Algorithm);
        }
        let keys = Arc::clone(&self.keys.read());
        let validation = validation(header.alg);
        let mut refusal = if keys.has(header.alg) { Refusal::UnknownKey } else { Refusal::Algorithm };
        for key in keys.fitting(header.alg, header.kid.as_deref()) {
            match decode::<Map<String, Value>>(token, key, &validation) {
                Ok(data) => return claims(data.claims),
                Err(error) => match refused(error.kind()) {
                    Refusal::Signature => refusal = Refusal::Signature,
                    // What is signed is told as it is.
                    other => return Err(other),
                },
            }
        }
        Err(refusal)
    }
}

fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = TOKEN_LEEWAY.as_secs();
    validation.validate_nbf = true;
    // A token names a namespace, and that is its audience.
    validation.validate_aud = false;
    validation.set_required_spec_claims(&["exp", "sub"]);
    validation
}

fn refused(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYet,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            Refusal::Claim(match claim.as_str() {
                "exp" => "exp",
                "nbf" => "nbf",
                _ => "sub",
            })
        }
        _ => Refusal::Malformed,
    }
}

fn claims(claims: Map<String, Value>) -> Result<(Caller, Namespace, u64), Refusal> {
    let text = |name: &'static str| match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
        _ => Err(Refusal::Claim(name)),
    };
    let subject = text("sub")?.to_owned();
    let namespace = Namespace::new(text("namespace")?).map_err(|_| Refusal::Claim("namespace"))?;
    // The library has checked it as a number that is not negative; it may have a fraction.
    let exp = claims.get("exp").and_then(Value::as_f64).ok_or(Refusal::Claim("exp"))?;
    let claims = claims
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect();
    Ok((Caller { wallet: subject.clone(), subject, claims }, namespace, exp as u64))
}

#[cfg(test)]
mod tests;
