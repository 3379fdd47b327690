//! Why a call to rqlite failed, and whether it may have been applied.

use crate::breaker::Refused;

/// Why a call failed, and what that says about a write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RqliteError {
    /// Nothing was sent.
    #[error("rqlite is not asked: {0}")]
    Refused(#[from] Refused),
    /// No address could be connected to, or none knows a leader: certainly not applied.
    #[error("rqlite cannot be reached: {0}")]
    Unreachable(String),
    /// The deadline passed, the connection broke, or rqlite failed meanwhile: it may have been applied, or still may be.
    #[error("rqlite did not answer as it should: {0}")]
    Unknown(String),
    /// A statement is wrong, or broke a constraint. In a transaction, nothing was applied.
    #[error("rqlite: {message}")]
    Sql {
        /// Which statement, from 0.
        index: usize,
        /// What SQLite said.
        message: String,
    },
    /// The user, the password or what the user may do: certainly not applied.
    #[error("rqlite does not accept the user and the password, or the user may not do this")]
    Unauthorized,
    /// The request cannot be sent, or was not understood: certainly not applied.
    #[error("rqlite cannot take this request: {0}")]
    Invalid(String),
    /// The answer is larger than it may be. A write was applied.
    #[error("rqlite's answer has more than {0} bytes")]
    TooLarge(usize),
    /// The answer cannot be read: a write may have been applied.
    #[error("what answered is not rqlite, or another version of it: {0}")]
    Protocol(String),
}

impl RqliteError {
    /// Whether a transaction that ended so was certainly not applied, and never will be.
    #[must_use]
    pub fn is_certainly_not_applied(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Unreachable(_)
            | Self::Sql { .. }
            | Self::Unauthorized
            | Self::Invalid(_) => true,
            Self::Unknown(_) | Self::TooLarge(_) | Self::Protocol(_) => false,
        }
    }

    /// Whether rqlite is not there or not well, rather than the call wrong: later it may succeed.
    #[must_use]
    pub fn is_about_rqlite(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Unreachable(_)
            | Self::Unknown(_)
            | Self::Unauthorized
            | Self::Protocol(_) => true,
            Self::Sql { .. } | Self::Invalid(_) | Self::TooLarge(_) => false,
        }
    }
}
