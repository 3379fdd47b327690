//! Why shared data cannot be changed.

use crate::limits::PLATFORM_COMMIT_MAX_BYTES;

/// Why data that all nodes share cannot be changed now.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Nothing was stored, and nothing will be.
    #[error("database.platform: {0}; nothing was stored")]
    Unavailable(String),
    /// It is stored, or not, or will be.
    #[error("database.platform: {0}; it is not known whether it was stored")]
    Unknown(String),
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
    /// For whoever asked for the change, without the servers' addresses.
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

    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unknown(_) | Self::Newer { .. })
    }
}

pub(super) fn unavailable(error: impl std::fmt::Display) -> ReplicaError {
    ReplicaError::Unavailable(error.to_string())
}

pub(super) fn being_copied() -> ReplicaError {
    unavailable("this node's copy of the data is being made anew; try again soon")
}
