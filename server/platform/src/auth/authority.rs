//! Looks credentials up: API keys in the registry, tokens by their signatures.

use super::jwt::{Issuer, KeysError, Tokens};
use super::uses::KeyUses;
use super::{Credential, CredentialError, Form, key_hash, looks_like_key};
use crate::limits::{KEY_USE_NOTED_EVERY, TOKEN_MAX_BYTES};
use crate::registry::Registry;
use crate::settings::TokenIssuer;
use orama_store::clock::now_ms;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Looks up API keys and, if issuers are configured, tokens. Clones share their state.
#[derive(Clone)]
pub struct Authority {
    registry: Registry,
    tokens: Option<Arc<Tokens>>,
    uses: Arc<KeyUses>,
}

/// The result of a lookup. It may be cached until it expires or the registry's generation advances.
#[derive(Clone)]
pub struct Known {
    /// The credential.
    pub credential: Arc<Credential>,
    /// The Unix second from which it must be looked up again; `u64::MAX` if it does not expire.
    pub expires_s: u64,
}

impl Authority {
    /// Looks keys up in `registry` and verifies tokens with `tokens`.
    #[must_use]
    pub fn new(registry: Registry, tokens: Option<Arc<Tokens>>) -> Self {
        let uses = Arc::new(KeyUses::new(registry.clone()));
        Self { registry, tokens, uses }
    }

    /// Writes from time to time which keys were used, until the last clone is dropped.
    pub fn start(&self, backplane: &Handle) {
        KeyUses::start(&self.uses, backplane);
    }

    /// Writes which keys this node knows to have been used. Blocks.
    pub fn write_uses(&self) {
        self.uses.write();
    }

    /// What verifies tokens, while an issuer is configured.
    fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_deref().filter(|tokens| !tokens.issuers().is_empty())
    }

    /// Takes over other issuers, and reads the keys of those that stay again. Returns the new ones, which need a task that
    /// refreshes them. A file that cannot be used is logged, and its previous keys stay. Blocks.
    ///
    /// # Errors
    /// [`KeysError`] for a new issuer; then the issuers stay as they were.
    pub fn reload(&self, rules: Vec<TokenIssuer>) -> Result<Vec<Arc<Issuer>>, KeysError> {
        let Some(tokens) = &self.tokens else { return Ok(Vec::new()) };
        let before = tokens.issuers();
        let new = tokens.replace(rules);
        let now = tokens.issuers();
        for issuer in now.iter().filter(|issuer| before.iter().any(|known| Arc::ptr_eq(known, issuer))) {
            issuer.reload();
        }
        new
    }

    /// Refuses texts that do not have the form of a credential, without a lookup.
    ///
    /// # Errors
    /// [`CredentialError::Unknown`], [`CredentialError::NoCredential`], [`CredentialError::TooLong`]
    pub fn screen(&self, text: &str) -> Result<(), CredentialError> {
        match Form::of(text) {
            Form::Key if looks_like_key(text) => Ok(()),
            Form::Key => Err(CredentialError::Unknown),
            Form::Token if self.tokens().is_some() && text.len() <= TOKEN_MAX_BYTES => Ok(()),
            Form::Token if self.tokens().is_some() => Err(CredentialError::TooLong),
            Form::Token | Form::Other => Err(CredentialError::NoCredential),
        }
    }

    /// Looks a credential up. Blocks.
    ///
    /// # Errors
    /// [`CredentialError`], with the reason if a token is refused.
    pub fn find(&self, text: &str) -> Result<Known, CredentialError> {
        if looks_like_key(text) {
            let key = self.registry.key_of_hash(&key_hash(text))?.ok_or(CredentialError::Unknown)?;
            let now_ms = now_ms();
            if let Some(expired_ms) = key.expires_at_ms.filter(|expires_ms| *expires_ms <= now_ms) {
                return Err(CredentialError::Expired(expired_ms));
            }
            self.uses.note(&key, now_ms);
            // It is looked up again from time to time, so that its use is noted again.
            let look_up_ms = now_ms + KEY_USE_NOTED_EVERY.as_millis() as i64;
            let expires_ms = key.expires_at_ms.map_or(look_up_ms, |expires_ms| expires_ms.min(look_up_ms));
            let credential = Arc::new(Credential::of_key(key));
            return Ok(Known { credential, expires_s: expires_ms.div_euclid(1000).unsigned_abs() });
        }
        let tokens = self.tokens().ok_or(CredentialError::NoCredential)?;
        let (credential, expires_s) = tokens.verify(text, &self.registry)?;
        Ok(Known { credential: Arc::new(credential), expires_s })
    }
}
