//! What a failure of the servers is for the function's author: no address of theirs, and what is certain.

use crate::limits::{DB_REMOTE_REPLY_MAX_BYTES, DB_VALUE_MAX_BYTES};
use crate::rqlite::RqliteError;
use orama_runtime::services::{ErrorCode, ServiceError};
use std::time::Instant;

/// Why a query failed.
pub(super) fn of_read(error: &RqliteError, deadline: Instant) -> ServiceError {
    match error {
        RqliteError::Sql { message, .. } => of_sql(message),
        RqliteError::TooLarge(_) => ServiceError::new(
            ErrorCode::PayloadTooLarge,
            format!(
                "the rows of the call have more than {} MiB as the database's servers send them; a blob counts twice",
                DB_REMOTE_REPLY_MAX_BYTES >> 20
            ),
        ),
        RqliteError::Unknown(_) | RqliteError::Unreachable(_) if Instant::now() >= deadline => {
            deadline_exceeded()
        }
        _ => of_servers(error),
    }
}

/// Why execs failed: whether they were undone, or nobody knows.
pub(super) fn of_write(error: &RqliteError, deadline: Instant) -> ServiceError {
    if error.is_certainly_not_applied() {
        return of_read(error, deadline);
    }
    tracing::warn!(%error, "it is not known whether a namespace's write was committed");
    let code = if Instant::now() >= deadline { ErrorCode::DeadlineExceeded } else { ErrorCode::Unavailable };
    ServiceError::new(
        code,
        "the database's servers did not say in time what became of the call: it is not known whether it was committed",
    )
}

pub(super) fn deadline_exceeded() -> ServiceError {
    ServiceError::new(
        ErrorCode::DeadlineExceeded,
        "the invocation's deadline passed while the database worked",
    )
}

fn of_servers(error: &RqliteError) -> ServiceError {
    match error {
        RqliteError::Refused(_) | RqliteError::Unreachable(_) | RqliteError::Unknown(_) => {
            ServiceError::unavailable("the servers of the namespace's database do not answer; try again")
        }
        RqliteError::Unauthorized => {
            tracing::error!(%error, "a namespace's database refuses this node");
            ServiceError::unavailable("the servers of the namespace's database refuse the node's credentials")
        }
        _ => {
            tracing::error!(%error, "a namespace's database gave no answer that can be used");
            ServiceError::new(
                ErrorCode::Internal,
                "the servers of the namespace's database gave no answer that can be used",
            )
        }
    }
}

/// What SQLite said, as far as it is not about the SQL.
pub(super) fn of_sql(message: &str) -> ServiceError {
    const TIME: [&str; 4] = ["query timeout", "execute timeout", "context deadline exceeded", "interrupted"];
    const BROKEN: [&str; 5] = [
        "disk I/O error",
        "database disk image is malformed",
        "file is not a database",
        "unable to open database file",
        "attempt to write a readonly database",
    ];
    if TIME.contains(&message) {
        return deadline_exceeded();
    }
    if message == "string or blob too big" {
        let message = format!("{message}; a value or a row may have {} MiB", DB_VALUE_MAX_BYTES >> 20);
        return ServiceError::new(ErrorCode::PayloadTooLarge, message);
    }
    if message == "database or disk is full" {
        return ServiceError::new(ErrorCode::PayloadTooLarge, "the disk of the database's servers is full");
    }
    if message.starts_with("database is locked") || message.starts_with("database table is locked") {
        return ServiceError::unavailable("the database is locked; try again");
    }
    if BROKEN.iter().any(|broken| message.starts_with(broken)) {
        tracing::error!(message, "a namespace's database failed");
        return ServiceError::new(ErrorCode::Internal, format!("the database failed: {message}"));
    }
    ServiceError::invalid(message)
}
