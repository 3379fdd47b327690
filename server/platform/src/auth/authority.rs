//! Looks credentials up: API keys in the registry, tokens by their signatures.

use super::jwt::Tokens;
use super::{Credential, CredentialError, Form, key_hash, looks_like_key};
use crate::limits::TOKEN_MAX_BYTES;
use crate::registry::Registry;
use std::sync::Arc;

/// Looks up API keys and, if issuers are configured, tokens. Clones share their state.
#[derive(Clone)]
pub struct Authority {
    registry: Registry,
    tokens: Option<Arc<Tokens>>,
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
        Self { registry, tokens }
    }

    /// Refuses texts that do not have the form of a credential, without a lookup.
    ///
    /// # Errors
    /// [`CredentialError::Unknown`], [`CredentialError::NoCredential`], [`CredentialError::TooLong`]
    pub fn screen(&self, text: &str) -> Result<(), CredentialError> {
        match Form::of(text) {
            Form::Key if looks_like_key(text) => Ok(()),
            Form::Key => Err(CredentialError::Unknown),
            Form::Token if self.tokens.is_some() && text.len() <= TOKEN_MAX_BYTES => Ok(()),
            Form::Token if self.tokens.is_some() => Err(CredentialError::TooLong),
            Form::Token | Form::Other => Err(CredentialError::NoCredential),
        }
    }

    /// Looks a credential up. Blocks.
    ///
    /// # Errors
    /// [`CredentialError`], with the reason if a token is refused.
    pub fn find(&self, text: &str) -> Result<Known, CredentialError> {
        if looks_like_key(text) {
            let credential = self.registry.credential(&key_hash(text))?.ok_or(CredentialError::Unknown)?;
            return Ok(Known { credential, expires_s: u64::MAX });
        }
        let tokens = self.tokens.as_ref().ok_or(CredentialError::NoCredential)?;
        let (credential, expires_s) = tokens.verify(text, &self.registry)?;
        Ok(Known { credential: Arc::new(credential), expires_s })
    }
}
