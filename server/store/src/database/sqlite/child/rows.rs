//! Runs a query and encodes its rows as JSON.

use crate::database::rows::RowsJson;
use orama_runtime::services::{ServiceError, StatementResult};
use rusqlite::{Rows, Statement};

/// Why a query failed.
pub(super) enum RowsError {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// A limit was exceeded, which the message names.
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

/// Steps through a statement whose parameters are bound. `bytes_left` is what is left of the call's result limit.
pub(super) fn read(
    statement: &mut Statement<'_>,
    bytes_left: &mut usize,
) -> Result<StatementResult, RowsError> {
    let mut json = RowsJson::new(*bytes_left)?;
    let mut is_first = true;
    let mut rows: Rows<'_> = statement.raw_query();
    while let Some(row) = rows.next()? {
        // Known only with the first row: if the schema has changed, SQLite prepares the statement again at its first step.
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
