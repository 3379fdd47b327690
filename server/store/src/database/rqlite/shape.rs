//! Rewrites queries so that values return unchanged.
//!
//! The server converts values by the declared type of their column: a text in a column of dates becomes another text,
//! a blob in an expression becomes broken text, a real number becomes a whole one. A query is therefore wrapped in
//! another one that adds the type of each value. It is also sent once without rows, to learn the names of its columns.

use crate::database::rows::RowsJson;
use crate::rqlite::{Rows, Statement as Sent, Value};
use orama_runtime::limits::DB_ROWS_MAX;
use orama_runtime::services::{ErrorCode, ServiceError, StatementResult};
use rusqlite::types::ValueRef;
use std::fmt::Write as _;

/// A name that tenants' tables do not have by accident.
const NAME: &str = "\"orama: rows of a query\"";

/// The query without rows.
pub(super) fn names(sql: &str, params: &[Value]) -> Sent {
    Sent::new(format!("SELECT * FROM ({sql}) LIMIT 0"), params)
}

/// The query with the type before each value. Materialized, because each row is read twice.
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

/// Whether a query failed because a change of the schema changed its number of columns.
pub(super) fn is_outdated(message: &str) -> bool {
    message.starts_with("table orama: rows of a query has ")
}

/// Encodes rows as JSON. `is_marked` means that each value has its type before it. `bytes_left` is what is left of the call's
/// result limit.
pub(super) fn json(
    names: &[String],
    rows: &Rows,
    is_marked: bool,
    bytes_left: &mut usize,
) -> Result<StatementResult, ServiceError> {
    let mut json = RowsJson::new(*bytes_left)?;
    json.name_columns(names.iter().map(String::as_str));
    for row in &rows.values {
        json.begin_row()?;
        for value in row {
            match value {
                Value::Text(text) if is_marked => marked(&mut json, text)?,
                value => json.value(value.into())?,
            }
        }
        json.end_row()?;
    }
    json.finish(bytes_left)
}

/// Adds a value of the given type.
fn marked(json: &mut RowsJson, text: &str) -> Result<(), ServiceError> {
    match text.split_at_checked(1) {
        Some(("t", text)) => json.value(ValueRef::Text(text.as_bytes())),
        Some(("r", number)) => json.value(ValueRef::Real(number.parse().map_err(|_| unreadable())?)),
        Some(("b", digits)) => json.value(ValueRef::Blob(&from_hex(digits).ok_or_else(unreadable)?)),
        _ => Err(unreadable()),
    }
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

fn unreadable() -> ServiceError {
    ServiceError::new(ErrorCode::Internal, "the database servers of the namespace sent an invalid answer")
}
