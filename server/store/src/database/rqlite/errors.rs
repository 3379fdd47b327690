//! Translates failures of the servers for guests: without addresses, and with what is certain about a write.

use crate::limits::{DB_REMOTE_REPLY_MAX_BYTES, DB_VALUE_MAX_BYTES};
use crate::rqlite::RqliteError;
use orama_runtime::services::{ErrorCode, ServiceError};
use std::time::Instant;

/// The guest's error for a failed query.
pub(super) fn of_read(error: &RqliteError, deadline: Instant) -> ServiceError {
    match error {
        RqliteError::Sql { message, .. } => of_sql(message),
        RqliteError::TooLarge(_) => ServiceError::new(
            ErrorCode::PayloadTooLarge,
            format!(
                "the rows of the call exceed {} MiB in the encoding of the database servers, where a blob counts twice",
                DB_REMOTE_REPLY_MAX_BYTES >> 20
            ),
        ),
        RqliteError::Unknown(_) | RqliteError::Unreachable(_) if Instant::now() >= deadline => {
            deadline_exceeded()
        }
        _ => of_servers(error),
    }
}

/// The guest's error for failed execs. It says whether they were rolled back or whether that is not known.
pub(super) fn of_write(error: &RqliteError, deadline: Instant) -> ServiceError {
    if error.is_certainly_not_applied() {
        return of_read(error, deadline);
    }
    tracing::warn!(%error, "it is not known whether a namespace's write was committed");
    let code = if Instant::now() >= deadline { ErrorCode::DeadlineExceeded } else { ErrorCode::Unavailable };
    ServiceError::new(
        code,
        "the database servers did not answer in time: it is not known whether the call was committed",
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
            ServiceError::unavailable("the database servers of the namespace do not answer; try again")
        }
        RqliteError::Unauthorized => {
            tracing::error!(%error, "the rqlite servers of a namespace refuse this node's credentials");
            ServiceError::unavailable(
                "the database servers of the namespace refuse the node's credentials; ask the operator",
            )
        }
        _ => {
            tracing::error!(%error, "the rqlite servers of a namespace sent an invalid answer");
            ServiceError::new(
                ErrorCode::Internal,
                "the database servers of the namespace sent an invalid answer",
            )
        }
    }
}

/// The guest's error for a message of SQLite.
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
        return ServiceError::new(ErrorCode::PayloadTooLarge, "the disk of the database servers is full");
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
