//! Authentication and authorisation: API keys, tokens, roles, and the key that a node creates on its first start.

use crate::limits::TOKEN_MAX_BYTES;
use crate::registry::{KeyEntry, RegistryError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orama_runtime::invocation::Caller;
use orama_runtime::names::{FunctionName, Namespace};
use std::fmt;
use std::sync::Arc;

mod authority;
pub mod bootstrap;
pub mod jwt;
mod uses;

pub use authority::{Authority, Known};

/// The prefix of every API key, so that leaked keys can be found by a search.
const KEY_PREFIX: &str = "orama_";

/// Random bytes in a key.
const KEY_BYTES: usize = 32;

/// Length of a key: the prefix and base64url of [`KEY_BYTES`] without padding.
const KEY_LEN: usize = KEY_PREFIX.len() + 43;

/// What a credential may do. Each role includes those after it.
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
    /// The word that is stored and sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Deploy => "deploy",
            Self::Invoke => "invoke",
        }
    }

    /// Parses [`Self::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Operator, Self::Admin, Self::Deploy, Self::Invoke].into_iter().find(|r| r.as_str() == word)
    }

    /// Whether a credential of this role may do `action` in its own namespace.
    #[must_use]
    pub const fn allows(self, action: Action) -> bool {
        match action {
            Action::Invoke => true,
            Action::Read | Action::Deploy => matches!(self, Self::Operator | Self::Admin | Self::Deploy),
            Action::InvokeInternal | Action::ManageKeys | Action::SeeUsage | Action::ReadAudit => {
                matches!(self, Self::Operator | Self::Admin)
            }
            Action::AnyNamespace | Action::Operate => matches!(self, Self::Operator),
        }
    }
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run a function.
    Invoke,
    /// Run a function that is for the namespace's own functions and triggers.
    InvokeInternal,
    /// Read functions, versions, logs and the names of secrets.
    Read,
    /// Deploy and delete functions, and change their triggers and secrets.
    Deploy,
    /// List, create and delete API keys.
    ManageKeys,
    /// Read quotas and their usage.
    SeeUsage,
    /// Read who changed what.
    ReadAudit,
    /// Act in a namespace other than the credential's own.
    AnyNamespace,
    /// Manage the node: namespaces, quotas, the master key.
    Operate,
}

impl Action {
    const fn words(self) -> &'static str {
        match self {
            Self::Invoke => "invoke functions",
            Self::InvokeInternal => "invoke internal functions",
            Self::Read => "read functions, logs or names of secrets",
            Self::Deploy => "change functions, secrets or triggers",
            Self::ManageKeys => "list, create or delete API keys",
            Self::SeeUsage => "read quotas and usage",
            Self::ReadAudit => "read the audit trail",
            Self::AnyNamespace => "act in another namespace",
            Self::Operate => "manage the node",
        }
    }
}

/// A credential's role does not allow an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a credential of role {:?} may not {}", .role.as_str(), .action.words())]
pub struct Forbidden {
    /// The credential's role.
    pub role: Role,
    /// The action that was refused.
    pub action: Action,
}

/// Why a credential was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It is an API key, and this node does not know it.
    #[error("the credential is unknown; it may have been deleted")]
    Unknown,
    /// It is an API key that expired, at a time in milliseconds since the Unix epoch.
    #[error("the API key expired at {}; ask for a new one", told(*.0))]
    Expired(i64),
    /// It is neither an API key nor a token.
    #[error("the credential is unknown: it is neither an API key nor a token that this node accepts")]
    NoCredential,
    /// The token is too long.
    #[error("a token may have at most {TOKEN_MAX_BYTES} bytes")]
    TooLong,
    /// The token was refused.
    #[error(transparent)]
    Refused(#[from] jwt::Refusal),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl CredentialError {
    /// Whether what was sent is no credential of this node at all: neither an API key nor a token that one of its issuers
    /// signed for it. An app sends such for itself.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        match self {
            Self::NoCredential | Self::TooLong => true,
            Self::Refused(refusal) => refusal.is_foreign(),
            Self::Unknown | Self::Expired(_) | Self::Registry(_) => false,
        }
    }
}

/// A time as a message tells it.
fn told(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "another time".to_owned(), |at| format!("{at:.0}"))
}

/// A token and an API key that came together belong to different namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token and the API key of the request belong to different namespaces")]
pub struct DifferentNamespaces;

/// A credential that was accepted.
#[derive(Clone)]
pub struct Credential {
    /// The namespace that it belongs to.
    pub namespace: Namespace,
    /// Its role.
    pub role: Role,
    /// The API key's id, never the key itself; empty for a token.
    pub key_id: String,
    /// The claims of a verified token.
    pub caller: Option<Arc<Caller>>,
    /// The functions that it is for; `None` for all.
    pub functions: Option<Arc<[FunctionName]>>,
    /// How records name it: the subject of its token, or else the key's id.
    pub shown: Arc<str>,
}

// Claims are personal data, so they are left out.
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
    /// What an API key may do.
    #[must_use]
    pub fn of_key(key: KeyEntry) -> Self {
        let KeyEntry { id, namespace, role, functions, .. } = key;
        let shown = Arc::from(id.as_str());
        Self { namespace, role, key_id: id, caller: None, functions, shown }
    }

    /// Whether it is for a function of its namespace.
    #[must_use]
    pub fn is_for(&self, function: &str) -> bool {
        let of_it = |functions: &Arc<[FunctionName]>| functions.iter().any(|name| name.as_str() == function);
        self.functions.as_ref().is_none_or(of_it)
    }

    /// Checks that the role allows an action.
    ///
    /// # Errors
    /// [`Forbidden`]
    pub fn require(&self, action: Action) -> Result<(), Forbidden> {
        let role = self.role;
        if role.allows(action) { Ok(()) } else { Err(Forbidden { role, action }) }
    }

    /// What a token and an API key that came together may do: the token says who calls, and the higher role counts.
    ///
    /// # Errors
    /// [`DifferentNamespaces`]
    pub fn joined(token: &Self, key: &Self) -> Result<Self, DifferentNamespaces> {
        if token.namespace != key.namespace {
            return Err(DifferentNamespaces);
        }
        Ok(Self {
            namespace: key.namespace.clone(),
            // The highest role is the first.
            role: token.role.min(key.role),
            key_id: key.key_id.clone(),
            caller: token.caller.clone(),
            functions: key.functions.clone(),
            shown: Arc::clone(&token.shown),
        })
    }
}

/// A new API key in plain text. It is shown once; only its hash is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Generates a key from random bytes of the system.
    ///
    /// # Errors
    /// If the system provides none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; KEY_BYTES];
        getrandom::fill(&mut random)?;
        Ok(Self(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random))))
    }

    /// The text of the key, for its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

// Keeps the key out of logs.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The hash by which keys are stored and looked up. Keys have 256 random bits, so a fast hash without a salt is enough, and the
/// timing of a lookup reveals nothing about a key.
#[must_use]
pub fn key_hash(key: &str) -> [u8; 32] {
    *blake3::hash(key.as_bytes()).as_bytes()
}

/// What a text that came as a credential may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An API key: it begins as every key does, and may be damaged.
    Key,
    /// A token: it has the three parts of a JWT.
    Token,
    /// Neither.
    Other,
}

impl Form {
    /// The form of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.starts_with(KEY_PREFIX) {
            Self::Key
        } else if text.bytes().filter(|byte| *byte == b'.').count() == 2 {
            Self::Token
        } else {
            Self::Other
        }
    }
}

/// Whether a text has the form of an API key. Any other text needs no lookup.
#[must_use]
pub fn looks_like_key(text: &str) -> bool {
    text.len() == KEY_LEN
        && text
            .strip_prefix(KEY_PREFIX)
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')))
}

#[cfg(test)]
mod tests;
