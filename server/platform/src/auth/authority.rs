//! Who a credential is: the look-up behind every memory of credentials.

use super::jwt::Tokens;
use super::{Credential, CredentialError, key_hash, looks_like_key};
use crate::limits::TOKEN_MAX_BYTES;
use crate::registry::Registry;
use std::sync::Arc;

/// Knows API keys and, where the operator has named their signers, tokens. Clones share what they know.
#[derive(Clone)]
pub struct Authority {
    registry: Registry,
    tokens: Option<Arc<Tokens>>,
}

/// A credential that was looked up. It may be remembered until it expires or the registry's generation moves.
#[derive(Clone)]
pub struct Known {
    /// Whose it is.
    pub credential: Arc<Credential>,
    /// The Unix second from which it must be looked up again; `u64::MAX` for what does not expire.
    pub expires_s: u64,
}

impl Authority {
    /// Looks keys up in the registry, and tokens up with `tokens`.
    #[must_use]
    pub fn new(registry: Registry, tokens: Option<Arc<Tokens>>) -> Self {
        Self { registry, tokens }
    }

    /// Refuses what cannot be a credential of this node at all, so that it costs no look-up.
    ///
    /// # Errors
    /// [`CredentialError::Unknown`], [`CredentialError::TooLong`]
    pub fn screen(&self, text: &str) -> Result<(), CredentialError> {
        let may_be_token = self.tokens.is_some() && text.bytes().filter(|byte| *byte == b'.').count() == 2;
        if looks_like_key(text) || (may_be_token && text.len() <= TOKEN_MAX_BYTES) {
            return Ok(());
        }
        Err(if may_be_token { CredentialError::TooLong } else { CredentialError::Unknown })
    }

    /// Whose credential a text is. Blocks.
    ///
    /// # Errors
    /// [`CredentialError`], with the reason of a token's refusal.
    pub fn find(&self, text: &str) -> Result<Known, CredentialError> {
        if looks_like_key(text) {
            let credential = self.registry.credential(&key_hash(text))?.ok_or(CredentialError::Unknown)?;
            return Ok(Known { credential, expires_s: u64::MAX });
        }
        let tokens = self.tokens.as_ref().ok_or(CredentialError::Unknown)?;
        let (credential, expires_s) = tokens.verify(text, &self.registry)?;
        Ok(Known { credential: Arc::new(credential), expires_s })
    }
}
