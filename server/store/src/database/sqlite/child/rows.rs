//! A query's rows, made into JSON while the query runs.

use crate::database::rows::RowsJson;
use orama_runtime::services::{ServiceError, StatementResult};
use rusqlite::{Rows, Statement};

/// Why rows could not be had.
pub(super) enum RowsError {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// A limit, which the message names.
    Limit(ServiceError),
}

impl From<rusqlite::Error> for RowsError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<ServiceError> for RowsError {
    fn from(error: ServiceError) -> Self {
        Self::Limit(error)
    }
}

/// Steps through a statement whose parameters are bound. `bytes_left` is what the call's results may still have together.
pub(super) fn read(
    statement: &mut Statement<'_>,
    bytes_left: &mut usize,
) -> Result<StatementResult, RowsError> {
    let mut json = RowsJson::new(*bytes_left)?;
    let mut is_first = true;
    let mut rows: Rows<'_> = statement.raw_query();
    while let Some(row) = rows.next()? {
        // Known with the first row: SQLite prepares a statement anew at its first step when the schema has changed.
        if std::mem::take(&mut is_first) {
            json.name_columns(row.as_ref().column_names());
        }
        json.begin_row()?;
        for column in 0..json.columns() {
            json.value(row.get_ref(column)?)?;
        }
        json.end_row()?;
    }
    Ok(json.finish(bytes_left)?)
}
