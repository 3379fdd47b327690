//! Errors of changes to shared data.

use crate::causes::Cause;
use crate::limits::PLATFORM_COMMIT_MAX_BYTES;

/// Why shared data cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Nothing was stored, and nothing will be stored later.
    #[error("database.platform: {0}; nothing was stored")]
    Unavailable(#[source] Cause),
    /// The change may be stored already, or may be stored later.
    #[error("database.platform: {0}; it is not known whether it was stored")]
    Unknown(#[source] Cause),
    /// A newer version has changed the schema.
    #[error(
        "database.platform: the data of {stream} have layout {found}, which a newer version made, and this one knows {known}; \
         update this node"
    )]
    Newer {
        /// The stream.
        stream: &'static str,
        /// Number of migrations that were run.
        found: usize,
        /// Number of migrations that this version knows.
        known: usize,
    },
    /// A change is too large.
    #[error(
        "database.platform: a change has more than {PLATFORM_COMMIT_MAX_BYTES} bytes; nothing was stored"
    )]
    TooLarge,
    /// A shared table has no primary key to identify its rows.
    #[error("table {0:?} has no primary key")]
    NoKey(String),
    /// The file of the replica.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl ReplicaError {
    /// The message for the client that requested the change. It names no server.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match self {
            Self::Unknown(_) => {
                "the platform's database did not answer in time; it is not known whether the change was stored, so look \
                 before you try again"
            }
            Self::Newer { .. } => {
                "this node runs an older version than the platform database and cannot change it; nothing was stored; the operator must update the node"
            }
            _ => "the platform database cannot be changed now; nothing was stored; try again soon",
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unknown(_) | Self::Newer { .. })
    }
}

pub(super) fn unavailable(cause: impl Into<Cause>) -> ReplicaError {
    ReplicaError::Unavailable(cause.into())
}

pub(super) fn being_copied() -> ReplicaError {
    unavailable("this node's replica is being rebuilt; try again soon")
}
