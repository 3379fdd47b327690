//! Why the registry failed.

use super::FILE;
use crate::limits::{KEYS_MAX, SECRETS_MAX};
use crate::quotas::QuotaExceeded;
use orama_store::replica::ReplicaError;
use orama_store::sqlite::SqliteError;

/// Why the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file cannot be opened or read.
    #[error("registry: {0}")]
    Sqlite(#[from] SqliteError),
    /// A deploy or a key named a namespace that is not there.
    #[error("there is no namespace {0:?}")]
    NoNamespace(String),
    /// A namespace of this name was deleted, and what it left is still being removed.
    #[error("namespace {0:?} was deleted a moment ago, and its data are still being removed; try again soon")]
    BeingDeleted(String),
    /// A namespace has as many keys as it may.
    #[error("namespace {0:?} has {KEYS_MAX} keys, which is the most; delete those that are not used")]
    TooManyKeys(String),
    /// A deploy would exceed a quota of its namespace.
    #[error(transparent)]
    QuotaExceeded(QuotaExceeded),
    /// A name was deployed 4,294,967,295 times.
    #[error("function {0:?} has no version numbers left")]
    NoVersionsLeft(String),
    /// A row holds what no version of this program writes.
    #[error("registry: the stored {0} is damaged; restore {FILE} from a backup")]
    Damaged(&'static str),
    /// A namespace has [`crate::limits::SECRETS_MAX`] secrets.
    #[error("namespace {0:?} has {SECRETS_MAX} secrets, which is the most that one may have")]
    TooManySecrets(String),
    /// A secret's value does not decrypt: the namespace and the name.
    #[error("the secret {1:?} of namespace {0:?} is damaged; set it again")]
    DamagedSecret(String, String),
    /// A secret is encrypted with a key that is not here: namespace, name and the key's id.
    #[error(
        "the secret {1:?} of namespace {0:?} is encrypted with the key {2}, which this node does not have; nodes that share secrets need the same keys"
    )]
    SecretKeyMissing(String, String, String),
    /// The system has no randomness for a key, or for encrypting with one.
    #[error("the system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

impl RegistryError {
    /// Why a registry that is shared cannot be changed now, where that is the reason.
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
