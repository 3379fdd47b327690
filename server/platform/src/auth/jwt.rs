//! Tokens: JWTs that a configured issuer signed.

use super::{Credential, CredentialError, Role};
use crate::limits::TOKEN_LEEWAY;
use crate::registry::Registry;
use crate::settings::TokenIssuer;
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use orama_runtime::invocation::Caller;
use orama_runtime::names::Namespace;
use parking_lot::RwLock;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;

#[doc(hidden)]
pub mod fuzzing;
mod issuer;
mod keys;

pub use issuer::{Issuer, KeysError};

/// Characters of a token's subject that records keep.
pub const SUBJECT_SHOWN: usize = 256;

/// Why a token was refused. Messages do not repeat the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what the variant means")]
pub enum Refusal {
    #[error("the token is not a well-formed JWT")]
    Malformed,
    #[error("the token's algorithm is not accepted; use EdDSA, ES256 or RS256 with a key of that kind")]
    Algorithm,
    #[error("no key of the issuer matches the token's signature")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token's claim {0:?} is missing or has the wrong type")]
    Claim(&'static str),
    #[error("the token's issuer (claim \"iss\") is not configured on this node")]
    Issuer,
    #[error("the token is for another audience (claim \"aud\")")]
    Audience,
    #[error("the token's issuer may not issue tokens for its namespace")]
    OtherNamespace,
    #[error("the keys of the token's issuer have not been fetched yet; try again")]
    NoKeysYet,
    #[error("the token's namespace does not exist")]
    NoNamespace,
}

/// Verifies tokens. All cores share one.
pub struct Tokens {
    /// Locked only for a token that no core remembers.
    issuers: RwLock<Arc<[Arc<Issuer>]>>,
    /// Advanced whenever keys or issuers change.
    generation: Arc<AtomicU64>,
    backplane: Handle,
}

impl Tokens {
    /// Reads the keys of all issuers that are configured with a file. `generation` is advanced whenever keys change.
    ///
    /// # Errors
    /// [`KeysError`], which names the file and the problem.
    pub fn open(
        issuers: Vec<TokenIssuer>,
        generation: &Arc<AtomicU64>,
        backplane: &Handle,
    ) -> Result<Self, KeysError> {
        let tokens = Self {
            issuers: RwLock::new(Arc::new([])),
            generation: Arc::clone(generation),
            backplane: backplane.clone(),
        };
        tokens.set(issuers)?;
        Ok(tokens)
    }

    /// The issuers; each needs a task that refreshes it.
    #[must_use]
    pub fn issuers(&self) -> Arc<[Arc<Issuer>]> {
        Arc::clone(&self.issuers.read())
    }

    /// Replaces the issuers; those that stay keep their keys. Returns the new ones. Blocks.
    ///
    /// # Errors
    /// [`KeysError`], if the file of a new one cannot be used. Then nothing has changed.
    pub fn replace(&self, rules: Vec<TokenIssuer>) -> Result<Vec<Arc<Issuer>>, KeysError> {
        if self.issuers().iter().map(|issuer| &issuer.rule).eq(&rules) {
            return Ok(Vec::new());
        }
        let new = self.set(rules)?;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(new)
    }

    fn set(&self, rules: Vec<TokenIssuer>) -> Result<Vec<Arc<Issuer>>, KeysError> {
        let before = self.issuers();
        let (mut issuers, mut new) = (Vec::with_capacity(rules.len()), Vec::new());
        for rule in rules {
            if let Some(known) = before.iter().find(|issuer| issuer.rule == rule) {
                issuers.push(Arc::clone(known));
                continue;
            }
            let issuer = Issuer::open(rule, Arc::clone(&self.generation), self.backplane.clone())?;
            issuers.push(Arc::new(issuer));
            new.extend(issuers.last().cloned());
        }
        *self.issuers.write() = issuers.into();
        Ok(new)
    }

    /// Verifies a token. Returns its credential and the Unix second until which it may be cached. Takes about 100 us for the
    /// signature. Blocks, because it looks the namespace up.
    ///
    /// # Errors
    /// [`CredentialError::Refused`] with the reason, [`CredentialError::Registry`]
    pub fn verify(&self, token: &str, registry: &Registry) -> Result<(Credential, u64), CredentialError> {
        let (caller, namespace, exp_s) = self.check(token)?;
        if !registry.namespace_exists(&namespace)? {
            return Err(Refusal::NoNamespace.into());
        }
        let shown: String = caller.subject.chars().take(SUBJECT_SHOWN).collect();
        let credential = Credential {
            namespace,
            role: Role::Invoke,
            key_id: String::new(),
            caller: Some(Arc::new(caller)),
            functions: None,
            shown: shown.into(),
        };
        Ok((credential, exp_s.saturating_add(TOKEN_LEEWAY.as_secs())))
    }

    fn check(&self, token: &str) -> Result<(Caller, Namespace, u64), Refusal> {
        let header = decode_header(token).map_err(|error| match error.kind() {
            // The library accepts neither "none" nor an unknown algorithm.
            ErrorKind::Json(e) if e.to_string().contains("variant") => Refusal::Algorithm,
            _ => Refusal::Malformed,
        })?;
        // Extensions that a receiver must understand. This node supports none.
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(Refusal::Malformed);
        }
        if !matches!(header.alg, Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256) {
            return Err(Refusal::Algorithm);
        }
        // Not verified yet: it only selects the keys.
        let unverified = insecure_decode::<Map<String, Value>>(token).map_err(|_| Refusal::Malformed)?.claims;
        let issuer = unverified.get("iss").and_then(Value::as_str);
        let mut refusal = Refusal::Issuer;
        for candidate in self.issuers().iter() {
            if candidate.rule.issuer.is_some() && candidate.rule.issuer.as_deref() != issuer {
                continue;
            }
            match candidate.check(token, &header) {
                Ok(checked) => return Ok(checked),
                // The issuer that came furthest reports the reason.
                Err(why) => {
                    if why.rank() >= refusal.rank() {
                        refusal = why;
                    }
                }
            }
        }
        Err(refusal)
    }
}

impl Refusal {
    /// Whether the token is not this node's: none of its issuers signed it, or it is for another audience.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        match self {
            Self::Malformed
            | Self::Algorithm
            | Self::UnknownKey
            | Self::Signature
            | Self::Issuer
            | Self::Audience => true,
            Self::Expired
            | Self::NotYet
            | Self::Claim(_)
            | Self::OtherNamespace
            | Self::NoKeysYet
            | Self::NoNamespace => false,
        }
    }

    /// How many checks a token passed before it was refused.
    const fn rank(&self) -> u8 {
        match self {
            Self::Issuer => 0,
            Self::Malformed | Self::Algorithm => 1,
            Self::UnknownKey => 2,
            Self::NoKeysYet => 3,
            Self::Signature => 4,
            Self::Expired | Self::NotYet | Self::Claim(_) | Self::Audience => 5,
            Self::OtherNamespace | Self::NoNamespace => 6,
        }
    }
}

impl Issuer {
    fn check(&self, token: &str, header: &Header) -> Result<(Caller, Namespace, u64), Refusal> {
        let claimed = match self.verified(token, header) {
            Err(Refusal::UnknownKey | Refusal::NoKeysYet) if self.refresh_for_unknown_key() => {
                self.verified(token, header)
            }
            verified => verified,
        };
        let verified = claims(claimed?)?;
        let may_speak_for = |all: &std::collections::BTreeSet<Namespace>| all.contains(&verified.1);
        if !self.rule.namespaces.as_ref().is_none_or(may_speak_for) {
            return Err(Refusal::OtherNamespace);
        }
        Ok(verified)
    }

    /// Returns the claims of a token if this issuer signed it and it is valid now.
    fn verified(&self, token: &str, header: &Header) -> Result<Map<String, Value>, Refusal> {
        let keys = self.keys().ok_or(Refusal::NoKeysYet)?;
        let validation = self.validation(header.alg);
        let mut refusal = if keys.has(header.alg) { Refusal::UnknownKey } else { Refusal::Algorithm };
        for key in keys.fitting(header.alg, header.kid.as_deref()) {
            match decode::<Map<String, Value>>(token, key, &validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => match refused(error.kind()) {
                    Refusal::Signature => refusal = Refusal::Signature,
                    // The signature is valid, so the reason may be precise.
                    other => return Err(other),
                },
            }
        }
        Err(refusal)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = TOKEN_LEEWAY.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.rule.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.rule.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            // Without a configured audience, the namespace in the token is the audience.
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn refused(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::NotYet,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            Refusal::Claim(match claim.as_str() {
                "exp" => "exp",
                "nbf" => "nbf",
                "iss" => "iss",
                "aud" => "aud",
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
    // The library has checked that it is a number and not negative. It may have a fraction.
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
