//! The errors of the registry.

use super::FILE;
use crate::limits::{ALIASES_MAX, KEYS_MAX, PATTERNS_MAX, SECRETS_MAX, TRIGGERS_MAX};
use crate::quotas::QuotaExceeded;
use orama_store::replica::ReplicaError;
use orama_store::sqlite::SqliteError;

/// A failure of the registry, or a change that it refuses.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file cannot be opened or read.
    #[error("registry: {0}")]
    Sqlite(#[from] SqliteError),
    /// The namespace does not exist.
    #[error("there is no namespace {0:?}")]
    NoNamespace(String),
    /// A namespace of this name was deleted, and its data are still being removed.
    #[error("namespace {0:?} was deleted recently, and its data are still being removed; try again soon")]
    BeingDeleted(String),
    /// The namespace has the maximum number of keys.
    #[error("namespace {0:?} has {KEYS_MAX} keys, which is the maximum; delete keys that are not used")]
    TooManyKeys(String),
    /// A deploy would exceed a quota of its namespace.
    #[error(transparent)]
    QuotaExceeded(QuotaExceeded),
    /// The function has been deployed 4,294,967,295 times.
    #[error("function {0:?} has no version numbers left")]
    NoVersionsLeft(String),
    /// The function would have more triggers than [`TRIGGERS_MAX`].
    #[error(
        "function {0:?} would have more than {TRIGGERS_MAX} triggers, which is the maximum; delete triggers that are not used"
    )]
    TooManyTriggers(String),
    /// The namespace would have more triggers on patterns than [`PATTERNS_MAX`].
    #[error(
        "namespace {0:?} would have more than {PATTERNS_MAX} triggers on patterns of topics, which is the maximum"
    )]
    TooManyPatterns(String),
    /// The function has no such version.
    #[error("function {0:?} has no version {1}")]
    NoVersion(String, u32),
    /// The version cannot be deleted: function, version, and what names it.
    #[error("version {1} of function {0:?} is in use: {2}")]
    VersionInUse(String, u32, String),
    /// The function would have more aliases than [`ALIASES_MAX`].
    #[error(
        "function {0:?} would have more than {ALIASES_MAX} aliases, which is the maximum; delete aliases that are not used"
    )]
    TooManyAliases(String),
    /// A row has content that no version of the node writes.
    #[error("registry: the stored {0} is damaged; restore {FILE} from a backup")]
    Damaged(&'static str),
    /// The namespace has [`crate::limits::SECRETS_MAX`] secrets.
    #[error(
        "namespace {0:?} has {SECRETS_MAX} secrets, which is the maximum; delete secrets that are not used"
    )]
    TooManySecrets(String),
    /// A secret's value does not decrypt: the namespace and the name.
    #[error("the secret {1:?} of namespace {0:?} is damaged; set it again")]
    DamagedSecret(String, String),
    /// A secret is encrypted with a master key that this node lacks: namespace, name and the key's id.
    #[error(
        "the secret {1:?} of namespace {0:?} is encrypted with the master key {2}, which this node lacks; give all nodes of the cluster the same keys"
    )]
    SecretKeyMissing(String, String, String),
    /// The system provides no random bytes for a key or a nonce.
    #[error("the system provides no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

impl RegistryError {
    /// The replica's error, if that is why a shared registry cannot be changed.
    #[must_use]
    pub fn unavailable(&self) -> Option<&ReplicaError> {
        match self {
            Self::Sqlite(error) => error.unavailable(),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for RegistryError {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e.into())
    }
}
