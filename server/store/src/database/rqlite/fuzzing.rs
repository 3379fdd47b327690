//! What fuzz targets call of the SQL that a namespace's rqlite is sent.

use super::guard::{self, Allowed, Kind};
use super::{rewrite, shape};
use crate::rqlite::{Rows, Statement, Value};
use jiff::Timestamp;
use orama_runtime::limits::DB_RESULT_MAX_BYTES;
use orama_runtime::services::{ServiceError, SqlValue, StatementKind, StatementResult};

/// A statement that changes something, as a server is sent it.
pub struct Exec {
    /// The statement.
    pub sent: Statement,
    /// It is refused where it changes more than one row.
    pub one_row: bool,
    /// It makes or removes a table, a trigger or the like.
    pub is_schema: bool,
    /// It changes rows, so that a later statement may ask how many.
    pub changes_rows: bool,
    /// It is refused where one of these is the inside of a virtual table.
    pub maybe_shadows: Vec<String>,
}

/// Reads and rewrites an exec. `now_ms` is Unix time.
///
/// # Errors
/// The refusal that a tenant is told.
pub fn exec(sql: &str, args: Vec<SqlValue>, is_first: bool, now_ms: i64) -> Result<Exec, ServiceError> {
    let now =
        Timestamp::from_millisecond(now_ms).map_err(|error| ServiceError::invalid(error.to_string()))?;
    let allowed = guard::check(sql, StatementKind::Exec)?;
    let rewritten = rewrite::exec(&allowed, args, is_first, now)?;
    let Allowed { kind, maybe_shadows, .. } = allowed;
    Ok(Exec {
        sent: Statement::new(rewritten.sql, rewritten.params),
        one_row: rewritten.one_row,
        is_schema: matches!(kind, Kind::Define | Kind::Other),
        changes_rows: kind.changes_rows(),
        maybe_shadows,
    })
}

/// A query as a server is sent it.
pub struct Query {
    /// The statement alone.
    pub sent: Statement,
    /// Whether it can be a part of another query.
    pub gives_rows: bool,
    /// How many columns it has, where its text says so.
    pub columns: Option<usize>,
}

/// Reads and rewrites a query.
///
/// # Errors
/// The refusal that a tenant is told.
pub fn query(sql: &str, args: Vec<SqlValue>) -> Result<Query, ServiceError> {
    let allowed = guard::check(sql, StatementKind::Query)?;
    let rewritten = rewrite::query(&allowed, args, None)?;
    let (gives_rows, columns) = match allowed.kind {
        Kind::Rows { columns } => (true, columns),
        _ => (false, None),
    };
    Ok(Query { sent: Statement::new(rewritten.sql, rewritten.params), gives_rows, columns })
}

impl Query {
    /// The query for the names of its columns.
    #[must_use]
    pub fn names(&self) -> Statement {
        shape::names(&self.sent.sql, &self.sent.params)
    }

    /// The query for its rows.
    #[must_use]
    pub fn values(&self, columns: usize) -> Statement {
        shape::values(&self.sent.sql, self.sent.params.clone(), columns)
    }
}

/// The JSON of the rows that [`Query::values`] gave.
///
/// # Errors
/// As a tenant is told it.
pub fn json(names: &[String], values: Vec<Vec<Value>>) -> Result<String, ServiceError> {
    let rows = Rows { values, ..Rows::default() };
    match shape::json(names, &rows, true, &mut { DB_RESULT_MAX_BYTES })? {
        StatementResult::Query { rows, .. } => Ok(rows),
        StatementResult::Exec { .. } => Err(ServiceError::invalid("rows became counts")),
    }
}
