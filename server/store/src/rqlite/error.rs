//! Errors of calls to rqlite, which tell whether a write may have been applied.

use crate::breaker::Refused;
use crate::causes::Problem;

/// Why a call failed, and whether a write may have been applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RqliteError {
    /// Nothing was sent.
    #[error("rqlite was not called: {0}")]
    Refused(#[from] Refused),
    /// No address could be connected to, or none knows a leader: certainly not applied.
    #[error("rqlite cannot be reached: {0}")]
    Unreachable(#[source] Problem),
    /// The deadline passed, the connection broke, or rqlite failed: the write may have been applied, or may be applied later.
    #[error("rqlite did not confirm the call: {0}")]
    Unknown(#[source] Problem),
    /// A statement is not valid or violates a constraint. In a transaction, nothing was applied.
    #[error("rqlite: {message}")]
    Sql {
        /// The index of the statement, from 0.
        index: usize,
        /// SQLite's message.
        message: String,
    },
    /// The user, the password or the user's permissions: certainly not applied.
    #[error("rqlite refuses the user or the password, or the user lacks a permission for this call")]
    Unauthorized,
    /// The request cannot be sent, or rqlite refused it: certainly not applied.
    #[error("rqlite cannot process this request: {0}")]
    Invalid(#[source] Problem),
    /// The answer is too large. A write was applied.
    #[error("rqlite's answer has more than {0} bytes")]
    TooLarge(usize),
    /// The answer cannot be parsed: a write may have been applied.
    #[error("the answer is not from rqlite, or from an unsupported version: {0}")]
    Protocol(#[source] Problem),
}

impl RqliteError {
    /// Whether a transaction with this error was certainly not applied and never will be.
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

    /// Whether the cause is rqlite's state and not the call, so that a later call may succeed.
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
