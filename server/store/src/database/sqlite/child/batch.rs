//! Runs one batch on a connection.

use super::guard::Guard;
use super::rows::{self, RowsError};
use super::watch::{self, Watch};
use crate::database::sqlite::deadline_exceeded;
use crate::limits::{DB_HEAP_MAX_BYTES, DB_VALUE_MAX_BYTES};
use orama_runtime::limits::DB_RESULT_MAX_BYTES;
use orama_runtime::services::{
    BatchFailure, BatchOutcome, ErrorCode, ServiceError, SqlValue, Statement, StatementKind, StatementResult,
};
use rusqlite::types::Null;
use rusqlite::{Connection, ErrorCode as Sqlite, Statement as Prepared};
use std::sync::Arc;
use std::time::Duration;

/// Longest statement that is cached as prepared, in bytes: repeated statements are short.
const CACHED_SQL_MAX_BYTES: usize = 4 << 10;

/// Added to the time that SQLite waits for a lock, because it gives up some milliseconds early.
const LOCK_LATE: Duration = Duration::from_millis(100);

/// The context of a batch.
pub(super) struct Batch<'a> {
    pub(super) connection: &'a Connection,
    pub(super) guard: &'a Guard,
    pub(super) watch: &'a Arc<Watch>,
    /// What the database may have.
    pub(super) max_bytes: u64,
}

/// The index of a failed statement, if it is known, and the error.
type Failed = (Option<usize>, ServiceError);

impl Batch<'_> {
    /// Runs the execs in one transaction, then the queries. Leaves the connection without a transaction.
    pub(super) fn run(&self, statements: &[Statement]) -> BatchOutcome {
        let mut results: Vec<Option<StatementResult>> = statements.iter().map(|_| None).collect();
        let has_execs = statements.iter().any(|statement| statement.kind == StatementKind::Exec);
        if has_execs && let Err((index, error)) = self.execs(statements, &mut results) {
            return BatchOutcome { failure: Some(BatchFailure { index, error }), ..BatchOutcome::default() };
        }
        let failed = self.queries(statements, &mut results).err();
        let done = failed.as_ref().and_then(|(index, _)| *index).unwrap_or(results.len());
        BatchOutcome {
            committed: has_execs || failed.is_none(),
            results: results.into_iter().take(done).flatten().collect(),
            failure: failed.map(|(index, error)| BatchFailure { index, error }),
        }
    }

    fn execs(&self, statements: &[Statement], results: &mut [Option<StatementResult>]) -> Result<(), Failed> {
        self.begin(Some("BEGIN IMMEDIATE"))?;
        let done = self.each(statements, results, StatementKind::Exec, |batch, statement| {
            batch.exec(statement).map_err(|error| batch.explain(error))
        });
        // A commit that has begun is completed.
        let done = done.and_then(|()| self.watch.check().map_err(|error| (None, error)));
        watch::disarm(self.connection);
        let done = done.and_then(|()| {
            self.guard.as_host(self.connection, "COMMIT").map_err(|error| (None, self.explain(error)))
        });
        self.end_transaction();
        done
    }

    fn queries(
        &self,
        statements: &[Statement],
        results: &mut [Option<StatementResult>],
    ) -> Result<(), Failed> {
        let count = statements.iter().filter(|statement| statement.kind == StatementKind::Query).count();
        if count == 0 {
            return Ok(());
        }
        // One snapshot for all queries; a single query has its own.
        self.begin((count > 1).then_some("BEGIN"))?;
        let mut bytes_left = DB_RESULT_MAX_BYTES;
        let done = self.each(statements, results, StatementKind::Query, |batch, statement| {
            batch.query(statement, &mut bytes_left).map_err(|error| match error {
                RowsError::Sqlite(error) => batch.explain(error),
                RowsError::Limit(error) => error,
            })
        });
        watch::disarm(self.connection);
        self.end_transaction();
        done
    }

    /// Runs the statements of one kind in order.
    fn each(
        &self,
        statements: &[Statement],
        results: &mut [Option<StatementResult>],
        kind: StatementKind,
        mut run: impl FnMut(&Self, &Statement) -> Result<StatementResult, ServiceError>,
    ) -> Result<(), Failed> {
        for (index, (statement, result)) in statements.iter().zip(results).enumerate() {
            if statement.kind == kind {
                let ran = self.watch.check().and_then(|()| run(self, statement));
                *result = Some(ran.map_err(|error| (Some(index), error))?);
            }
        }
        Ok(())
    }

    /// Begins a transaction, if one is requested, and watches what follows.
    fn begin(&self, transaction: Option<&str>) -> Result<(), Failed> {
        // Another program may hold a lock, for example to make a backup.
        let mut begun = self.connection.busy_timeout(self.watch.left() + LOCK_LATE);
        if let Some(sql) = transaction {
            begun = begun.and_then(|()| self.guard.as_host(self.connection, sql));
        }
        begun.and_then(|()| self.watch.arm(self.connection)).map_err(|error| {
            self.end_transaction();
            (None, self.explain(error))
        })
    }

    /// Rolls back. SQLite does that itself after some errors.
    fn end_transaction(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.guard.as_host(self.connection, "ROLLBACK")
        {
            self.watch.note(format!("a transaction could not be rolled back: {error}"));
        }
    }

    fn exec(&self, statement: &Statement) -> rusqlite::Result<StatementResult> {
        let changes_before = self.connection.total_changes();
        self.with_prepared(statement, |prepared| {
            let mut rows = prepared.raw_query();
            // The rows of RETURNING are ignored.
            while rows.next()?.is_some() {}
            Ok::<_, rusqlite::Error>(())
        })??;
        // A statement that cannot change rows leaves SQLite's count as it was.
        let changed = self.connection.total_changes() != changes_before;
        Ok(StatementResult::Exec {
            rows_affected: if changed { self.connection.changes() } else { 0 },
            last_insert_id: self.connection.last_insert_rowid(),
        })
    }

    fn query(&self, statement: &Statement, bytes_left: &mut usize) -> Result<StatementResult, RowsError> {
        self.with_prepared(statement, |prepared| {
            if !prepared.readonly() {
                let message = "a query may not change anything; run this statement as an exec";
                return Err(RowsError::Limit(ServiceError::invalid(message)));
            }
            rows::read(prepared, bytes_left)
        })?
    }

    fn with_prepared<T>(
        &self,
        statement: &Statement,
        run: impl FnOnce(&mut Prepared<'_>) -> T,
    ) -> rusqlite::Result<T> {
        let (mut cached, mut single);
        let prepared: &mut Prepared<'_> = if statement.sql.len() <= CACHED_SQL_MAX_BYTES {
            cached = self.connection.prepare_cached(&statement.sql)?;
            &mut cached
        } else {
            single = self.connection.prepare(&statement.sql)?;
            &mut single
        };
        let wanted = prepared.parameter_count();
        if wanted != statement.args.len() {
            return Err(rusqlite::Error::InvalidParameterCount(statement.args.len(), wanted));
        }
        for (index, value) in (1..).zip(&statement.args) {
            match value {
                SqlValue::Null => prepared.raw_bind_parameter(index, Null),
                SqlValue::Integer(number) => prepared.raw_bind_parameter(index, number),
                SqlValue::Real(number) => prepared.raw_bind_parameter(index, number),
                SqlValue::Text(text) => prepared.raw_bind_parameter(index, text),
                SqlValue::Blob(bytes) => prepared.raw_bind_parameter(index, bytes),
            }?;
        }
        Ok(run(prepared))
    }

    /// The guest's error for an error of SQLite.
    fn explain(&self, error: rusqlite::Error) -> ServiceError {
        use rusqlite::Error;
        let (code, message) = match error {
            Error::SqliteFailure(error, message) => (error, message.unwrap_or_else(|| error.to_string())),
            Error::SqlInputError { error, msg, .. } => (error, msg),
            Error::MultipleStatement => {
                return ServiceError::invalid("the string has more than one SQL statement");
            }
            Error::InvalidParameterCount(given, wanted) => {
                let message =
                    format!("the statement has {wanted} parameters, but {given} arguments were given");
                return ServiceError::invalid(message);
            }
            error => return ServiceError::invalid(error.to_string()),
        };
        match code.code {
            Sqlite::OperationInterrupted => self.watch.error(),
            Sqlite::AuthorizationForStatementDenied => {
                ServiceError::invalid(self.guard.take_refusal().unwrap_or(message))
            }
            Sqlite::ApiMisuse => ServiceError::invalid("the string has no SQL statement"),
            Sqlite::DatabaseBusy | Sqlite::DatabaseLocked if self.watch.left().is_zero() => {
                deadline_exceeded()
            }
            Sqlite::DatabaseBusy | Sqlite::DatabaseLocked => {
                ServiceError::unavailable("the database is locked; try again")
            }
            Sqlite::TooBig => ServiceError::new(
                ErrorCode::PayloadTooLarge,
                format!("{message}; a value or a row may have {} MiB", DB_VALUE_MAX_BYTES >> 20),
            ),
            Sqlite::DiskFull => ServiceError::new(
                ErrorCode::PayloadTooLarge,
                format!(
                    "the database is full: the namespace may have {} bytes (quota `database_bytes`), and the disk must have room",
                    self.max_bytes
                ),
            ),
            Sqlite::OutOfMemory => {
                self.watch.is_out_of_memory();
                ServiceError::new(
                    ErrorCode::PayloadTooLarge,
                    format!(
                        "the statement needs more memory than the {} MiB that a namespace's database may use",
                        DB_HEAP_MAX_BYTES >> 20
                    ),
                )
            }
            Sqlite::DatabaseCorrupt
            | Sqlite::NotADatabase
            | Sqlite::CannotOpen
            | Sqlite::SystemIoFailure
            | Sqlite::PermissionDenied
            | Sqlite::FileLockingProtocolFailed
            | Sqlite::NoLargeFileSupport
            | Sqlite::InternalMalfunction => {
                self.watch.note(format!("SQLite failed with code {}: {message}", code.extended_code));
                ServiceError::new(ErrorCode::Internal, format!("the database failed: {message}"))
            }
            _ => ServiceError::invalid(message),
        }
    }
}
