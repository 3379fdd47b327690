//! Encodes statements as rqlite's JSON and decodes its answers, without loss.

use super::{RqliteError, Value};
use crate::causes::Problem;
use serde::de;
use serde_json::value::RawValue;
use std::fmt::{self, Write};

/// A statement and its parameters, `?1` first.
#[derive(Clone, PartialEq)]
pub struct Statement {
    /// The text. It may have several statements if the caller has checked them and there are no parameters.
    pub sql: String,
    /// The parameters. Text for which [`is_taken_for_blob`] holds, and numbers that are not finite, cannot be sent.
    pub params: Vec<Value>,
}

impl Statement {
    /// A statement with parameters.
    pub fn new(sql: impl Into<String>, params: impl Into<Vec<Value>>) -> Self {
        Self { sql: sql.into(), params: params.into() }
    }
}

impl fmt::Debug for Statement {
    // Parameters and literals are a tenant's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({} bytes, {} parameters)", self.sql.len(), self.params.len())
    }
}

/// Whether rqlite would bind a text as a blob, as it does for every text like `x'00ff'`.
#[must_use]
pub fn is_taken_for_blob(text: &str) -> bool {
    let inner = text.trim().strip_prefix(['x', 'X']).and_then(|text| text.strip_prefix('\''));
    inner.and_then(|text| text.strip_suffix('\'')).is_some_and(|digits| {
        digits.len().is_multiple_of(2) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// The rows of a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The declared types of the columns in lower case, or the types of the first row's values; empty if not known.
    pub types: Vec<String>,
    /// The rows.
    pub values: Vec<Vec<Value>>,
}

/// The result of a write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Number of changed rows.
    pub rows_affected: i64,
    /// The last row id of the connection, whichever statement it is from.
    pub last_insert_id: i64,
}

/// The answer to one statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Of a query.
    Rows(Rows),
    /// Of any other statement.
    Changed(Changed),
}

/// The body of a request.
pub(super) fn request(statements: &[Statement]) -> Result<Vec<u8>, RqliteError> {
    let bytes: usize = statements.iter().map(|statement| statement.sql.len() + 64).sum();
    let mut body = String::with_capacity(bytes + bytes / 8);
    body.push('[');
    for (index, Statement { sql, params }) in statements.iter().enumerate() {
        body.push_str(if index == 0 { "[" } else { ",[" });
        text(&mut body, sql)?;
        for value in params {
            body.push(',');
            param(&mut body, value)?;
        }
        body.push(']');
    }
    body.push(']');
    Ok(body.into_bytes())
}

fn text(body: &mut String, text: &str) -> Result<(), RqliteError> {
    let json = serde_json::to_string(text).map_err(|error| RqliteError::Invalid(Problem::of(error)))?;
    body.push_str(&json);
    Ok(())
}

fn param(body: &mut String, value: &Value) -> Result<(), RqliteError> {
    // Writing to a string does not fail.
    let _ = match value {
        Value::Null => write!(body, "null"),
        Value::Integer(number) => write!(body, "{number}"),
        // With a point or an exponent, so that it is not taken for an integer.
        Value::Real(number) if number.is_finite() => write!(body, "{number:?}"),
        Value::Real(_) => {
            return Err(RqliteError::Invalid("a number that is not finite cannot be sent to rqlite".into()));
        }
        Value::Text(value) if is_taken_for_blob(value) => {
            return Err(RqliteError::Invalid(
                "a text like x'00' cannot be sent as a parameter: rqlite would bind it as a blob".into(),
            ));
        }
        Value::Text(value) => return text(body, value),
        Value::Blob(bytes) => {
            body.push('[');
            for (index, byte) in bytes.iter().enumerate() {
                let _ = write!(body, "{}{byte}", if index == 0 { "" } else { "," });
            }
            write!(body, "]")
        }
    };
    Ok(())
}

#[derive(serde::Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    results: Option<Vec<Outcome<'a>>>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(serde::Deserialize)]
struct Outcome<'a> {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    columns: Option<Vec<String>>,
    #[serde(default)]
    types: Option<Vec<String>>,
    #[serde(borrow, default)]
    values: Option<Vec<Option<Vec<Cell<'a>>>>>,
    #[serde(default)]
    rows_affected: i64,
    #[serde(default)]
    last_insert_id: i64,
}

/// A value as JSON text, which keeps numbers exact.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Cell<'a>(#[serde(borrow)] &'a RawValue);

impl Cell<'_> {
    fn value(&self) -> Result<Value, serde_json::Error> {
        let json = self.0.get();
        Ok(match json.as_bytes().first() {
            Some(b'n') => Value::Null,
            Some(b't') => Value::Integer(1),
            Some(b'f') => Value::Integer(0),
            Some(b'"') => Value::Text(serde_json::from_str(json)?),
            Some(b'[') => Value::Blob(serde_json::from_str(json)?),
            _ => match json.parse::<i64>() {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Real(json.parse().map_err(de::Error::custom)?),
            },
        })
    }
}

/// Decodes each statement's answer or SQLite's message.
pub(super) fn replies(body: &[u8]) -> Result<Vec<Result<Reply, String>>, RqliteError> {
    let unreadable = |error: serde_json::Error| RqliteError::Protocol(Problem::of(error));
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(unreadable)?;
    if let Some(error) = answer.error {
        // During an election, or when the commit itself failed.
        return Err(RqliteError::Unknown(error.into()));
    }
    let Some(results) = answer.results else {
        return Err(RqliteError::Protocol("the answer has no results".into()));
    };
    results.into_iter().map(|outcome| outcome.reply().map_err(unreadable)).collect()
}

impl Outcome<'_> {
    fn reply(self) -> Result<Result<Reply, String>, serde_json::Error> {
        if let Some(error) = self.error {
            return Ok(Err(error));
        }
        let Some(columns) = self.columns else {
            let Self { rows_affected, last_insert_id, .. } = self;
            return Ok(Ok(Reply::Changed(Changed { rows_affected, last_insert_id })));
        };
        let width = columns.len();
        let rows = self.values.unwrap_or_default().into_iter().map(|row| {
            // A row whose values are all NULL may come as null.
            let Some(row) = row else { return Ok(vec![Value::Null; width]) };
            if row.len() != width {
                return Err(de::Error::custom("a row has another width than its columns"));
            }
            row.iter().map(Cell::value).collect()
        });
        let values = rows.collect::<Result<_, _>>()?;
        Ok(Ok(Reply::Rows(Rows { columns, types: self.types.unwrap_or_default(), values })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_sent_as_they_are() {
        let values = [
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Real(2.0),
            Value::Real(1e300),
            Value::Text("a\"\u{0}é".to_owned()),
            Value::Blob(vec![0, 255]),
        ];
        let body = request(&[Statement::new("SELECT ?", values), Statement::new("x", [])]).unwrap();
        let expected = r#"[["SELECT ?",null,-9223372036854775808,2.0,1e300,"a\"\u0000é",[0,255]],["x"]]"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn what_rqlite_would_change_is_refused() {
        for text in ["x''", "X'00fF'", " x'41' "] {
            assert!(is_taken_for_blob(text), "{text}");
            assert!(request(&[Statement::new("?", [Value::Text(text.to_owned())])]).is_err());
        }
        for text in ["", "x", "x'", "x'4'", "x'4g'", "ax'41'", "x'41'b"] {
            assert!(!is_taken_for_blob(text), "{text}");
        }
        for number in [f64::NAN, f64::INFINITY] {
            assert!(request(&[Statement::new("?", [Value::Real(number)])]).is_err());
        }
    }

    #[test]
    fn answers_are_read_exactly() {
        let body = br#"{"results":[{"last_insert_id":9007199254740993,"rows_affected":2},{},
            {"columns":["a","b"],"types":["integer",""],"values":[[9223372036854775807,0.1],["\u0000",[1,255]],[null,true]]},
            {"columns":["a"],"types":[""]},{"error":"no such table: x"}],"time":0.1}"#;
        let replies = replies(body).unwrap();
        let changed = Changed { rows_affected: 2, last_insert_id: 9_007_199_254_740_993 };
        assert_eq!(replies[0], Ok(Reply::Changed(changed)));
        assert_eq!(replies[1], Ok(Reply::Changed(Changed::default())));
        let Ok(Reply::Rows(rows)) = &replies[2] else { panic!("{replies:?}") };
        assert_eq!(rows.values[0], [Value::Integer(i64::MAX), Value::Real(0.1)]);
        assert_eq!(rows.values[1], [Value::Text("\0".to_owned()), Value::Blob(vec![1, 255])]);
        assert_eq!(rows.values[2], [Value::Null, Value::Integer(1)]);
        assert!(matches!(&replies[3], Ok(Reply::Rows(rows)) if rows.values.is_empty()));
        assert_eq!(replies[4], Err("no such table: x".to_owned()));
    }

    #[test]
    fn answers_that_say_nothing_certain_are_errors() {
        let election = br#"{"results":[],"error":"node failed to process Execute on remote node"}"#;
        assert!(matches!(replies(election), Err(RqliteError::Unknown(_))));
        for body in [
            &b""[..],
            b"{}",
            b"[]",
            b"<html>",
            br#"{"results":[{"columns":["a"],"values":[[1,2]]}]}"#,
            br#"{"results":[{"columns":["a"],"values":[[{}]]}]}"#,
            br#"{"results":[{"columns":["a"],"values":[[[256]]]}]}"#,
        ] {
            assert!(matches!(replies(body), Err(RqliteError::Protocol(_))), "{}", body.escape_ascii());
        }
    }
}
