//! Who is asking: API keys, what their roles allow, and the key that a node makes for itself on its first start.

use crate::limits::TOKEN_MAX_BYTES;
use crate::registry::RegistryError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orama_runtime::invocation::Caller;
use orama_runtime::names::Namespace;
use std::fmt;
use std::sync::Arc;

mod authority;
pub mod bootstrap;
pub mod jwt;

pub use authority::{Authority, Known};

/// What every API key starts with, so that one is recognised where it should not be.
const KEY_PREFIX: &str = "orama_";

/// Random bytes in a key.
const KEY_BYTES: usize = 32;

/// Length of a key: the prefix and base64url of [`KEY_BYTES`] without padding.
const KEY_LEN: usize = KEY_PREFIX.len() + 43;

/// What a key may do. Each role may do what the ones after it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything, in every namespace.
    Operator,
    /// Everything in its namespace.
    Admin,
    /// Deploys, reads and invokes functions of its namespace.
    Deploy,
    /// Invokes functions of its namespace.
    Invoke,
}

impl Role {
    /// The word under which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Deploy => "deploy",
            Self::Invoke => "invoke",
        }
    }

    /// The role of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Operator, Self::Admin, Self::Deploy, Self::Invoke].into_iter().find(|r| r.as_str() == word)
    }

    /// Whether a key of this role may do `action` in its own namespace.
    #[must_use]
    pub const fn allows(self, action: Action) -> bool {
        match action {
            Action::Invoke => true,
            Action::Read | Action::Deploy => matches!(self, Self::Operator | Self::Admin | Self::Deploy),
            Action::ManageKeys | Action::SeeUsage => matches!(self, Self::Operator | Self::Admin),
            Action::AnyNamespace | Action::Operate => matches!(self, Self::Operator),
        }
    }
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run a function.
    Invoke,
    /// See functions, versions and logs, and the names of secrets.
    Read,
    /// Deploy and delete functions, and what belongs to them.
    Deploy,
    /// See, make and delete API keys.
    ManageKeys,
    /// See quotas, and how much of them is used.
    SeeUsage,
    /// Act in a namespace other than the credential's own.
    AnyNamespace,
    /// What concerns the whole node: namespaces, the key that encrypts secrets.
    Operate,
}

impl Action {
    const fn words(self) -> &'static str {
        match self {
            Self::Invoke => "invoke functions",
            Self::Read => "read functions, their logs or names of secrets",
            Self::Deploy => "change functions, secrets or triggers",
            Self::ManageKeys => "see, make or delete API keys",
            Self::SeeUsage => "see quotas and usage",
            Self::AnyNamespace => "act in another namespace",
            Self::Operate => "operate the node",
        }
    }
}

/// A role does not allow an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a credential of role {:?} may not {}", .role.as_str(), .action.words())]
pub struct Forbidden {
    /// The credential's role.
    pub role: Role,
    /// What it was to do.
    pub action: Action,
}

/// Why a credential is not known.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It is no credential of this node.
    #[error("the credential is not known")]
    Unknown,
    /// It is longer than any token may be.
    #[error("a token may have at most {TOKEN_MAX_BYTES} bytes")]
    TooLong,
    /// A token that is not accepted.
    #[error(transparent)]
    Refused(#[from] jwt::Refusal),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A known caller.
#[derive(Clone)]
pub struct Credential {
    /// The tenant that it acts for.
    pub namespace: Namespace,
    /// What it may do.
    pub role: Role,
    /// The key's id, never the key; empty for a token.
    pub key_id: String,
    /// What a verified token says of its bearer.
    pub caller: Option<Arc<Caller>>,
}

// What a token claims is its bearer's business.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("namespace", &self.namespace)
            .field("role", &self.role)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// Refuses what the role does not allow.
    ///
    /// # Errors
    /// [`Forbidden`]
    pub fn require(&self, action: Action) -> Result<(), Forbidden> {
        let role = self.role;
        if role.allows(action) { Ok(()) } else { Err(Forbidden { role, action }) }
    }
}

/// A new API key in plain text. It is shown once; only its hash is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Makes a key from the system's randomness.
    ///
    /// # Errors
    /// When the system has none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; KEY_BYTES];
        getrandom::fill(&mut random)?;
        Ok(Self(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random))))
    }

    /// The text to hand to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

// A key must not reach a log by accident.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The form in which keys are stored and looked up. Keys are 256 random bits, so a fast hash without salt is enough,
/// and looking the hash up leaks nothing about the key through timing.
#[must_use]
pub fn key_hash(key: &str) -> [u8; 32] {
    *blake3::hash(key.as_bytes()).as_bytes()
}

/// Whether a text can be an API key at all. What cannot needs no look-up.
#[must_use]
pub fn looks_like_key(text: &str) -> bool {
    text.len() == KEY_LEN
        && text
            .strip_prefix(KEY_PREFIX)
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')))
}

#[cfg(test)]
mod tests;
