//! Checks of a batch that need no database.

use orama_runtime::limits::{DB_SQL_MAX_BYTES, DB_STATEMENTS_MAX};
use orama_runtime::services::{
    BatchFailure, BatchMode, BatchOutcome, ErrorCode, ServiceError, Statement, StatementKind,
};

/// The outcome of a batch that is refused or has no statements; `None` if a database must run it.
pub(super) fn answered(mode: BatchMode, statements: &[Statement]) -> Option<BatchOutcome> {
    match check(mode, statements) {
        Err(failure) => Some(BatchOutcome { failure: Some(failure), ..BatchOutcome::default() }),
        Ok(()) if statements.is_empty() => Some(BatchOutcome { committed: true, ..BatchOutcome::default() }),
        Ok(()) => None,
    }
}

fn check(mode: BatchMode, statements: &[Statement]) -> Result<(), BatchFailure> {
    if statements.len() > DB_STATEMENTS_MAX {
        let message =
            format!("{} statements in one call; at most {DB_STATEMENTS_MAX} are allowed", statements.len());
        let error = ServiceError::new(ErrorCode::TooManyStatements, message);
        return Err(BatchFailure { index: None, error });
    }
    for (index, statement) in statements.iter().enumerate() {
        let error = if statement.sql.len() > DB_SQL_MAX_BYTES {
            let message = format!("the statement is longer than {} MiB", DB_SQL_MAX_BYTES >> 20);
            ServiceError::new(ErrorCode::PayloadTooLarge, message)
        } else if statement.sql.contains('\0') {
            ServiceError::invalid("the statement contains a zero byte; remove it")
        } else if statement.kind == StatementKind::Exec && matches!(mode, BatchMode::Read(_)) {
            ServiceError::invalid("a batch of reads may contain only queries")
        } else {
            continue;
        };
        return Err(BatchFailure { index: Some(index), error });
    }
    Ok(())
}
