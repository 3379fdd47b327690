//! A query's rows as JSON text, made while the query runs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_runtime::limits::{DB_RESULT_MAX_BYTES, DB_ROWS_MAX};
use orama_runtime::services::{ErrorCode, ServiceError, StatementResult};
use rusqlite::types::ValueRef;
use rusqlite::{Rows, Statement};
use std::collections::HashSet;
use std::io::{self, Write};

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

/// Text that is refused when it grows beyond what is left of a call's bytes.
struct Bounded {
    text: Vec<u8>,
    max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max - self.text.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Steps through a statement whose parameters are bound. `bytes_left` is what the call's results may still have together.
pub(super) fn read(
    statement: &mut Statement<'_>,
    bytes_left: &mut usize,
) -> Result<StatementResult, RowsError> {
    // Known with the first row: SQLite prepares a statement anew at its first step when the schema has changed.
    let mut keys = Vec::new();
    let mut out = Bounded { text: Vec::new(), max: *bytes_left };
    let mut row_count = 0;
    let mut rows: Rows<'_> = statement.raw_query();
    put(&mut out, b"[")?;
    while let Some(row) = rows.next()? {
        if row_count == DB_ROWS_MAX {
            let message =
                format!("the query gives more than {DB_ROWS_MAX} rows; ask for them in parts with LIMIT");
            return Err(RowsError::Limit(ServiceError::new(ErrorCode::PayloadTooLarge, message)));
        }
        if row_count == 0 {
            keys = keys_of(row.as_ref());
        } else {
            put(&mut out, b",")?;
        }
        row_count += 1;
        for (column, key) in keys.iter().enumerate() {
            put(&mut out, if column == 0 { b"{" } else { b"," })?;
            put(&mut out, key)?;
            put_value(&mut out, row.get_ref(column)?)?;
        }
        put(&mut out, b"}")?;
    }
    put(&mut out, b"]")?;
    *bytes_left -= out.text.len();
    // Only whole texts were written.
    let rows = String::from_utf8(out.text).map_err(|error| {
        RowsError::Limit(ServiceError::new(ErrorCode::Internal, format!("rows are not UTF-8: {error}")))
    })?;
    Ok(StatementResult::Query { rows, row_count })
}

/// The columns' names as JSON with the colon behind. A name that is there already gets `:1`, `:2`, as SQLite itself names
/// such columns of a subquery, so that none is lost.
fn keys_of(statement: &Statement<'_>) -> Vec<Vec<u8>> {
    let mut seen = HashSet::new();
    let names = statement.column_names().into_iter().map(|name| {
        let mut unique = name.to_owned();
        let mut number = 0;
        while !seen.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}:{number}");
        }
        let mut key = serde_json::to_vec(&unique).unwrap_or_default();
        key.push(b':');
        key
    });
    names.collect()
}

fn put_value(out: &mut Bounded, value: ValueRef<'_>) -> Result<(), RowsError> {
    let written = match value {
        ValueRef::Null => return put(out, b"null"),
        ValueRef::Integer(number) => serde_json::to_writer(&mut *out, &number),
        // Infinity, which JSON does not have, becomes null.
        ValueRef::Real(number) => serde_json::to_writer(&mut *out, &number),
        ValueRef::Text(text) => serde_json::to_writer(&mut *out, &*String::from_utf8_lossy(text)),
        // Its letters need no escaping.
        ValueRef::Blob(bytes) => serde_json::to_writer(&mut *out, &STANDARD.encode(bytes)),
    };
    written.map_err(|_| too_large())
}

fn put(out: &mut Bounded, bytes: &[u8]) -> Result<(), RowsError> {
    out.write_all(bytes).map_err(|_| too_large())
}

fn too_large() -> RowsError {
    RowsError::Limit(ServiceError::new(
        ErrorCode::PayloadTooLarge,
        format!("the rows of the call have more than {} MiB of JSON", DB_RESULT_MAX_BYTES >> 20),
    ))
}
