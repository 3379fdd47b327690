//! Rows that come back as they are.
//!
//! The server gives values by what their column was declared as: a text in a column of dates as another text, a blob in an
//! expression as broken text, a real number as a whole one. So a query is sent as a part of another one that says of each value what it
//! is, and beside it once without its rows, for the columns' names.

use crate::backend::rqlite::{Rows, Statement as Sent, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_runtime::limits::{DB_RESULT_MAX_BYTES, DB_ROWS_MAX};
use orama_runtime::services::{ErrorCode, ServiceError, StatementResult};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, Write};

/// No tenant's table has such a name by accident.
const NAME: &str = "\"orama: rows of a query\"";

/// The query without its rows.
pub(super) fn names(sql: &str, params: &[Value]) -> Sent {
    Sent::new(format!("SELECT * FROM ({sql}) LIMIT 0"), params)
}

/// The query with the kind of each value in front of it. The rows are made once, before anything asks them twice.
pub(super) fn values(sql: &str, params: Vec<Value>, columns: usize) -> Sent {
    let mut text = format!("WITH {NAME} (");
    let list = |text: &mut String, column: &dyn Fn(&mut String, usize)| {
        for index in 0..columns {
            if index > 0 {
                text.push(',');
            }
            column(text, index);
        }
    };
    // Writing to a string does not fail.
    list(&mut text, &|text, index| {
        let _ = write!(text, "c{index}");
    });
    let _ = write!(text, ") AS MATERIALIZED (SELECT * FROM ({sql}) LIMIT {}) SELECT ", DB_ROWS_MAX + 1);
    list(&mut text, &|text, index| {
        let _ = write!(
            text,
            "CASE typeof(c{index}) WHEN 'text' THEN 't' || c{index} WHEN 'blob' THEN 'b' || hex(c{index}) \
             WHEN 'real' THEN 'r' || quote(c{index}) ELSE c{index} END"
        );
    });
    let _ = write!(text, " FROM {NAME}");
    Sent::new(text, params)
}

/// Whether it failed because the schema gave it another number of columns since.
pub(super) fn is_outdated(message: &str) -> bool {
    message.starts_with("table orama: rows of a query has ")
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

/// The JSON of rows. `is_marked` says that values have their kind in front. `bytes_left` is what the call's results may still
/// have together.
pub(super) fn json(
    names: &[String],
    rows: &Rows,
    is_marked: bool,
    bytes_left: &mut usize,
) -> Result<StatementResult, ServiceError> {
    let row_count = rows.values.len();
    if row_count > DB_ROWS_MAX {
        let message =
            format!("the query gives more than {DB_ROWS_MAX} rows; ask for them in parts with LIMIT");
        return Err(ServiceError::new(ErrorCode::PayloadTooLarge, message));
    }
    let keys = keys_of(names);
    let mut out = Bounded { text: Vec::new(), max: *bytes_left };
    put(&mut out, b"[")?;
    for (index, row) in rows.values.iter().enumerate() {
        if index > 0 {
            put(&mut out, b",")?;
        }
        for (column, (key, value)) in keys.iter().zip(row).enumerate() {
            put(&mut out, if column == 0 { b"{" } else { b"," })?;
            put(&mut out, key)?;
            put_value(&mut out, value, is_marked)?;
        }
        put(&mut out, b"}")?;
    }
    put(&mut out, b"]")?;
    *bytes_left -= out.text.len();
    let rows = String::from_utf8(out.text).map_err(|_| unreadable())?;
    Ok(StatementResult::Query { rows, row_count })
}

/// The columns' names as JSON with the colon behind. SQLite has made them different already, but those of its own reports.
fn keys_of(names: &[String]) -> Vec<Vec<u8>> {
    let mut seen = HashSet::new();
    let keys = names.iter().map(|name| {
        let mut unique = name.clone();
        let mut number = 0;
        while !seen.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}:{number}");
        }
        let mut key = serde_json::to_vec(&unique).unwrap_or_default();
        key.push(b':');
        key
    });
    keys.collect()
}

fn put_value(out: &mut Bounded, value: &Value, is_marked: bool) -> Result<(), ServiceError> {
    let written = match value {
        Value::Null => return put(out, b"null"),
        Value::Integer(number) => serde_json::to_writer(&mut *out, number),
        // Infinity, which JSON does not have, becomes null.
        Value::Real(number) => serde_json::to_writer(&mut *out, number),
        Value::Blob(bytes) => serde_json::to_writer(&mut *out, &STANDARD.encode(bytes)),
        Value::Text(text) if !is_marked => serde_json::to_writer(&mut *out, text),
        Value::Text(text) => match text.split_at_checked(1) {
            Some(("t", text)) => serde_json::to_writer(&mut *out, text),
            Some(("r", number)) => {
                let number: f64 = number.parse().map_err(|_| unreadable())?;
                serde_json::to_writer(&mut *out, &number)
            }
            Some(("b", digits)) => {
                let bytes = from_hex(digits).ok_or_else(unreadable)?;
                serde_json::to_writer(&mut *out, &STANDARD.encode(bytes))
            }
            _ => return Err(unreadable()),
        },
    };
    written.map_err(|_| too_large())
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

fn put(out: &mut Bounded, bytes: &[u8]) -> Result<(), ServiceError> {
    out.write_all(bytes).map_err(|_| too_large())
}

fn too_large() -> ServiceError {
    ServiceError::new(
        ErrorCode::PayloadTooLarge,
        format!("the rows of the call have more than {} MiB of JSON", DB_RESULT_MAX_BYTES >> 20),
    )
}

fn unreadable() -> ServiceError {
    ServiceError::new(
        ErrorCode::Internal,
        "the servers of the namespace's database gave no answer that can be used",
    )
}
