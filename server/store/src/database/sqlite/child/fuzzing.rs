//! What fuzz targets call of the SQL process: its guard and its rows, on a connection of the target's own.

use super::guard::Guard;
use super::rows::{self, RowsError};
use orama_runtime::limits::DB_RESULT_MAX_BYTES;
use orama_runtime::services::StatementResult;
use rusqlite::{Connection, Statement};
use std::sync::Arc;

/// The guard of a connection.
pub struct Guarded(Arc<Guard>);

impl Guarded {
    /// Sets a connection up for tenants' SQL.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn install(connection: &Connection) -> rusqlite::Result<Self> {
        Guard::install(connection).map(Self)
    }

    /// What the last refusal was for.
    #[must_use]
    pub fn take_refusal(&self) -> Option<String> {
        self.0.take_refusal()
    }
}

/// The JSON of a query's rows, as a tenant gets them.
///
/// # Errors
/// What the tenant is told instead.
pub fn rows(statement: &mut Statement<'_>) -> Result<String, String> {
    match rows::read(statement, &mut { DB_RESULT_MAX_BYTES }) {
        Ok(StatementResult::Query { rows, .. }) => Ok(rows),
        Ok(StatementResult::Exec { .. }) => Err("rows became counts".to_owned()),
        Err(RowsError::Sqlite(error)) => Err(error.to_string()),
        Err(RowsError::Limit(error)) => Err(error.to_string()),
    }
}
