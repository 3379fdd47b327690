//! Encodes the rows of a query as JSON, with a bound on its size, alike for all databases.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_runtime::limits::{DB_RESULT_MAX_BYTES, DB_ROWS_MAX};
use orama_runtime::services::{ErrorCode, ServiceError, StatementResult};
use rusqlite::types::ValueRef;
use std::collections::HashSet;
use std::io::{self, Write};

/// A text with a maximum size: what is left of the call's result limit.
struct Bounded {
    text: Vec<u8>,
    max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max - self.text.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let room = self.text.capacity() - self.text.len();
        if bytes.len() > room {
            // Doubled up to the bound. If the allocator refuses, the call fails.
            let more = self.text.capacity().max(bytes.len()).min(self.max - self.text.len());
            self.text.try_reserve_exact(more).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An encoder of rows.
pub(super) struct RowsJson {
    out: Bounded,
    /// The names of columns as JSON, each with a colon.
    keys: Vec<Vec<u8>>,
    row_count: usize,
    column: usize,
}

impl RowsJson {
    /// Begins. `bytes_left` is what is left of the call's result limit.
    ///
    /// # Errors
    /// Too large.
    pub(super) fn new(bytes_left: usize) -> Result<Self, ServiceError> {
        let out = Bounded { text: Vec::new(), max: bytes_left };
        let mut rows = Self { out, keys: Vec::new(), row_count: 0, column: 0 };
        rows.put(b"[")?;
        Ok(rows)
    }

    /// Sets the names of the columns, before the first row. A repeated name gets the suffix `:1`, `:2`, as SQLite names such
    /// columns of a subquery, so that no value is lost.
    pub(super) fn name_columns<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let mut seen = HashSet::new();
        let keys = names.into_iter().map(|name| {
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
        self.keys = keys.collect();
    }

    /// Number of columns.
    pub(super) fn columns(&self) -> usize {
        self.keys.len()
    }

    /// Begins a row.
    ///
    /// # Errors
    /// Too many, or too large.
    pub(super) fn begin_row(&mut self) -> Result<(), ServiceError> {
        if self.row_count == DB_ROWS_MAX {
            let message =
                format!("the query returns more than {DB_ROWS_MAX} rows; read them in parts with LIMIT");
            return Err(ServiceError::new(ErrorCode::PayloadTooLarge, message));
        }
        if self.row_count > 0 {
            self.put(b",")?;
        }
        self.row_count += 1;
        self.column = 0;
        Ok(())
    }

    /// Adds the next value of the row. A value beyond the last column is ignored.
    ///
    /// # Errors
    /// Too large.
    pub(super) fn value(&mut self, value: ValueRef<'_>) -> Result<(), ServiceError> {
        let Some(key) = self.keys.get(self.column) else { return Ok(()) };
        let begin: &[u8] = if self.column == 0 { b"{" } else { b"," };
        self.column += 1;
        let out = &mut self.out;
        let written = out.write_all(begin).and_then(|()| out.write_all(key)).and_then(|()| match value {
            ValueRef::Null => out.write_all(b"null"),
            ValueRef::Integer(number) => Ok(serde_json::to_writer(out, &number)?),
            // JSON has no infinity, so it becomes null.
            ValueRef::Real(number) => Ok(serde_json::to_writer(out, &number)?),
            ValueRef::Text(text) => Ok(serde_json::to_writer(out, &*String::from_utf8_lossy(text))?),
            // Base64 needs no escaping.
            ValueRef::Blob(bytes) => Ok(serde_json::to_writer(out, &STANDARD.encode(bytes))?),
        });
        written.map_err(|_| too_large())
    }

    /// Ends a row.
    ///
    /// # Errors
    /// Too large.
    pub(super) fn end_row(&mut self) -> Result<(), ServiceError> {
        self.put(b"}")
    }

    /// Ends, and subtracts the size from `bytes_left`.
    ///
    /// # Errors
    /// Too large.
    pub(super) fn finish(mut self, bytes_left: &mut usize) -> Result<StatementResult, ServiceError> {
        self.put(b"]")?;
        *bytes_left -= self.out.text.len();
        // Always UTF-8, because only whole texts were written.
        let rows = String::from_utf8(self.out.text).map_err(|error| {
            ServiceError::new(ErrorCode::Internal, format!("rows are not UTF-8: {error}"))
        })?;
        Ok(StatementResult::Query { rows, row_count: self.row_count })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ServiceError> {
        self.out.write_all(bytes).map_err(|_| too_large())
    }
}

fn too_large() -> ServiceError {
    ServiceError::new(
        ErrorCode::PayloadTooLarge,
        format!(
            "the rows of the call exceed {} MiB of JSON; read fewer rows or columns",
            DB_RESULT_MAX_BYTES >> 20
        ),
    )
}
