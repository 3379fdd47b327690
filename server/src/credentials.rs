//! The memory of credentials: the results of recent lookups, and the rule that says which of them may still be used.
//!
//! A core owns a memory without a lock; the control plane shares one behind a lock. Both ask the registry only for what the
//! memory does not answer.

use crate::error::ApiError;
use crate::limits::{CREDENTIALS_UNKNOWN_MAX, UNKNOWN_KNOWN_FOR};
use hashlink::LruCache;
use http::StatusCode;
use orama_platform::auth::{self, CredentialError};
use orama_store::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The hash of a key or token ([`orama_platform::auth::key_hash`]).
pub(crate) type KeyHash = [u8; 32];

/// The hash under which a token and an API key that come together are remembered.
pub(crate) fn hash_of_both(token: &str, key: &str) -> KeyHash {
    // No credential has a line break, so no other texts have this hash.
    let mut both = String::with_capacity(token.len() + 1 + key.len());
    both.extend([token, "\n", key]);
    auth::key_hash(&both)
}

/// Why a credential was not accepted.
#[derive(Debug, Clone)]
pub(crate) struct NotAccepted {
    pub(crate) error: ApiError,
    /// Whether it is no credential of this node at all: see [`CredentialError::is_foreign`].
    pub(crate) is_foreign: bool,
}

impl From<CredentialError> for NotAccepted {
    fn from(error: CredentialError) -> Self {
        Self { is_foreign: error.is_foreign(), error: error.into() }
    }
}

impl From<ApiError> for NotAccepted {
    fn from(error: ApiError) -> Self {
        Self { error, is_foreign: false }
    }
}

/// What is remembered of credentials. `T` stands for a known one.
///
/// An entry is used while all of these hold:
/// - The registry's generation is the one from before the lookup, so a deleted key stops working at once.
/// - A token has not expired.
/// - A credential that was refused with 401 was refused less than [`UNKNOWN_KNOWN_FOR`] ago.
pub(crate) struct CredentialMemory<T> {
    generation: u64,
    known: LruCache<KeyHash, Known<T>>,
    refused: LruCache<KeyHash, Refusal>,
}

struct Known<T> {
    credential: T,
    expires_s: u64,
}

struct Refusal {
    why: NotAccepted,
    until: Instant,
}

impl<T: Clone> CredentialMemory<T> {
    /// An empty memory of at most `known_max` known credentials and [`CREDENTIALS_UNKNOWN_MAX`] refused ones. The least
    /// recently used entry is evicted first.
    pub(crate) fn new(known_max: usize) -> Self {
        Self {
            generation: 0,
            known: LruCache::new(known_max),
            refused: LruCache::new(CREDENTIALS_UNKNOWN_MAX),
        }
    }

    /// Drops all entries if the registry has changed. Returns the generation to which the next lookup belongs.
    pub(crate) fn refresh(&mut self, registry_generation: &AtomicU64) -> u64 {
        let now = registry_generation.load(Ordering::Acquire);
        if now != self.generation {
            self.generation = now;
            self.known.clear();
            self.refused.clear();
        }
        now
    }

    /// What a lookup would return: a known credential or its refusal; `None` when only a lookup can tell.
    pub(crate) fn find(&mut self, hash: &KeyHash) -> Option<Result<T, NotAccepted>> {
        self.find_at(hash, || clock::now_ms().cast_unsigned() / 1000, Instant::now)
    }

    /// Asks for a time only where it matters: an API key does not expire.
    fn find_at(
        &mut self,
        hash: &KeyHash,
        now_s: impl FnOnce() -> u64,
        now: impl FnOnce() -> Instant,
    ) -> Option<Result<T, NotAccepted>> {
        if let Some(known) = self.known.get(hash)
            && (known.expires_s == u64::MAX || now_s() < known.expires_s)
        {
            return Some(Ok(known.credential.clone()));
        }
        let refusal = self.refused.get(hash)?;
        (now() < refusal.until).then(|| Err(refusal.why.clone()))
    }

    /// Remembers a credential that was looked up in `generation`, until the Unix second `expires_s` (`u64::MAX` for one that
    /// does not expire).
    pub(crate) fn keep(&mut self, generation: u64, hash: KeyHash, credential: T, expires_s: u64) {
        if generation == self.generation {
            self.known.insert(hash, Known { credential, expires_s });
        }
    }

    /// Remembers that a lookup in `generation` refused a credential. Only a 401 says something about the credential; any
    /// other error is not remembered.
    pub(crate) fn keep_refusal(&mut self, generation: u64, hash: KeyHash, why: &NotAccepted) {
        if generation == self.generation && why.error.status == StatusCode::UNAUTHORIZED {
            let until = Instant::now() + UNKNOWN_KNOWN_FOR;
            self.refused.insert(hash, Refusal { why: why.clone(), until });
        }
    }
}

#[cfg(test)]
mod tests;
