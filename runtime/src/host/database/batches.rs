//! The JSON of SQL batches as `db_*` has it, for those who take it from others than guests.

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

/// Reads the argument of `db_transaction`.
///
/// # Errors
/// As a guest is told it.
pub fn transaction(text: &str) -> Result<(BatchMode, Vec<Statement>), BatchFailure> {
    statements::transaction(text)
}

/// Reads the argument of `db_query_batch`.
///
/// # Errors
/// As a guest is told it.
pub fn queries(text: &str) -> Result<(BatchMode, Vec<Statement>), BatchFailure> {
    statements::queries(text)
}

/// The result of `db_transaction`.
#[must_use]
pub fn reply(kinds: &[StatementKind], outcome: BatchOutcome) -> String {
    reply::transaction(kinds, outcome).concat()
}
