//! What fuzz targets call of the JSON that guests pass to `db_*` and get from it.

use super::{reply, statements};
use crate::services::{
    BatchFailure, BatchMode, BatchOutcome, ServiceError, SqlValue, Statement, StatementKind,
};

/// Reads the arguments of one statement.
///
/// # Errors
/// As a guest is told it.
pub fn arguments(text: &str) -> Result<Vec<SqlValue>, ServiceError> {
    statements::arguments(text)
}

/// Reads the statements of a transaction.
///
/// # Errors
/// As a guest is told it.
pub fn transaction(text: &str) -> Result<(BatchMode, Vec<Statement>), BatchFailure> {
    statements::transaction(text)
}

/// Reads a batch of queries.
///
/// # Errors
/// As a guest is told it.
pub fn queries(text: &str) -> Result<(BatchMode, Vec<Statement>), BatchFailure> {
    statements::queries(text)
}

/// What a guest gets for a transaction.
#[must_use]
pub fn reply(kinds: &[StatementKind], outcome: BatchOutcome) -> String {
    reply::transaction(kinds, outcome).concat()
}
