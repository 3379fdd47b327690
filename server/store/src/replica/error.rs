//! Why shared data cannot be changed.

use crate::causes::Cause;
use crate::limits::PLATFORM_COMMIT_MAX_BYTES;

/// Why data that all nodes share cannot be changed now.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Nothing was stored, and nothing will be.
    #[error("database.platform: {0}; nothing was stored")]
    Unavailable(#[source] Cause),
    /// The change may be stored, now or later.
    #[error("database.platform: {0}; it is not known whether it was stored")]
    Unknown(#[source] Cause),
    /// Another node runs a newer version.
    #[error(
        "database.platform: the data of {stream} have layout {found}, which a newer version made, and this one knows {known}; \
         update this node"
    )]
    Newer {
        /// Which data.
        stream: &'static str,
        /// Steps of the schema that were taken.
        found: usize,
        /// Those that this version knows.
        known: usize,
    },
    /// A change is larger than it may be.
    #[error(
        "database.platform: a change has more than {PLATFORM_COMMIT_MAX_BYTES} bytes; nothing was stored"
    )]
    TooLarge,
    /// A table whose rows cannot be told apart cannot be shared.
    #[error("table {0:?} has no primary key")]
    NoKey(String),
    /// The copy's own file.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl ReplicaError {
    /// The message for the client that asked for the change. It names no server.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match self {
            Self::Unknown(_) => {
                "the platform's database did not answer in time; it is not known whether the change was stored, so look \
                 before you try again"
            }
            Self::Newer { .. } => {
                "this node is older than the platform's data and cannot change them; nothing was stored"
            }
            _ => "the platform's database cannot be changed now; nothing was stored; try again soon",
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
