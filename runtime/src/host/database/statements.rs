//! Parses statements and their arguments from a guest's JSON.

use super::Batch;
use crate::abi::bounded;
use crate::host::json::{Elements, refused};
use crate::limits::{
    DB_READS_KEPT_MAX, DB_SQL_MAX_BYTES, DB_STATEMENT_ARGUMENTS_MAX, DB_STATEMENTS_MAX, OUTBOX_STATEMENTS_MAX,
};
use crate::services::{
    BatchFailure, BatchMode, Consistency, ErrorCode, ServiceError, SqlValue, Statement, StatementKind,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// The argument of `db_transaction`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transaction<'a> {
    #[serde(borrow)]
    ops: Elements<'a, DB_STATEMENTS_MAX>,
}

/// The argument of `db_query_batch`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryBatch<'a> {
    #[serde(borrow)]
    ops: Elements<'a, DB_STATEMENTS_MAX>,
    consistency: Option<Freshness>,
    /// The greatest age of the rows, in seconds.
    cache_ttl: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Freshness {
    Weak,
    None,
    Strong,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Op<'a> {
    kind: Option<Kind>,
    sql: String,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Exec,
    Query,
}

/// Reads an object. Left to itself, serde takes an array for one, with the fields in their order.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    if text.trim_ascii_start().starts_with('[') {
        return Err(serde::de::Error::custom("invalid type: sequence, expected an object"));
    }
    serde_json::from_str(text)
}

/// The statements of a transaction.
pub(super) fn transaction(text: &str) -> Result<Batch, BatchFailure> {
    let given: Transaction<'_> = object(text).map_err(|error| unparsed(&error))?;
    let statements = statements(given.ops, |kind| match kind {
        Some(Kind::Exec) => Ok(StatementKind::Exec),
        Some(Kind::Query) => Ok(StatementKind::Query),
        None => Err("the field kind is missing: it is \"exec\" or \"query\""),
    })?;
    Ok((BatchMode::Write, statements))
}

/// The statements of a transaction with a message.
pub(super) fn with_message(text: &str) -> Result<Batch, BatchFailure> {
    let (mode, statements) = transaction(text)?;
    if statements.len() > OUTBOX_STATEMENTS_MAX {
        let why = format!(
            "there are {} operations, more than the limit of {OUTBOX_STATEMENTS_MAX} beside a message",
            statements.len()
        );
        let error = ServiceError::new(ErrorCode::TooManyStatements, why);
        return Err(BatchFailure { index: None, error });
    }
    Ok((mode, statements))
}

/// The statements of a batch of queries.
pub(super) fn queries(text: &str) -> Result<Batch, BatchFailure> {
    let given: QueryBatch<'_> = object(text).map_err(|error| unparsed(&error))?;
    let consistency = match (given.consistency, given.cache_ttl) {
        (Some(Freshness::Strong), Some(1..)) => {
            let why = "cache_ttl cannot be combined with the consistency \"strong\"";
            return Err(ServiceError::invalid(why).into());
        }
        (_, Some(seconds)) if seconds > DB_READS_KEPT_MAX.as_secs() => {
            let why = format!(
                "cache_ttl is {seconds} seconds, more than the limit of {}",
                DB_READS_KEPT_MAX.as_secs()
            );
            return Err(ServiceError::invalid(why).into());
        }
        (_, Some(seconds @ 1..)) => Consistency::Within(Duration::from_secs(seconds)),
        (Some(Freshness::None), _) => Consistency::None,
        (Some(Freshness::Strong), _) => Consistency::Strong,
        (Some(Freshness::Weak) | None, _) => Consistency::Weak,
    };
    let statements = statements(given.ops, |kind| match kind {
        Some(Kind::Query) | None => Ok(StatementKind::Query),
        Some(Kind::Exec) => {
            Err("the field kind is \"exec\", but a batch of queries can contain only \"query\"")
        }
    })?;
    Ok((BatchMode::Read(consistency), statements))
}

/// The failure of a batch that could not be parsed.
fn unparsed(error: &serde_json::Error) -> BatchFailure {
    BatchFailure { index: None, error: refused("the operations are not valid", error) }
}

fn statements(
    ops: Elements<'_, DB_STATEMENTS_MAX>,
    kind: fn(Option<Kind>) -> Result<StatementKind, &'static str>,
) -> Result<Vec<Statement>, BatchFailure> {
    if ops.count > DB_STATEMENTS_MAX {
        let why = format!("there are {} operations, more than the limit of {DB_STATEMENTS_MAX}", ops.count);
        return Err(BatchFailure {
            index: None,
            error: ServiceError::new(ErrorCode::TooManyStatements, why),
        });
    }
    let ops = ops.first.into_iter().enumerate();
    ops.map(|(index, op)| {
        statement(index, op, kind).map_err(|error| BatchFailure { index: Some(index), error })
    })
    .collect()
}

fn statement(
    index: usize,
    op: &RawValue,
    kind: fn(Option<Kind>) -> Result<StatementKind, &'static str>,
) -> Result<Statement, ServiceError> {
    let op: Op<'_> = object(op.get()).map_err(|error| refused(&format!("ops[{index}]"), &error))?;
    let at_index =
        |error: ServiceError| ServiceError::new(error.code, format!("ops[{index}]: {}", error.message));
    let kind = kind(op.kind).map_err(|why| at_index(ServiceError::invalid(why)))?;
    bounded("the SQL", op.sql.as_bytes(), DB_SQL_MAX_BYTES).map_err(at_index)?;
    let args = op.args.map_or_else(|| Ok(Vec::new()), |args| arguments(args.get())).map_err(at_index)?;
    Ok(Statement { kind, sql: op.sql, args })
}

/// The arguments of one statement: a JSON array. An empty text means no arguments. So does `null`, which Go writes for a nil
/// slice.
pub(super) fn arguments(text: &str) -> Result<Vec<SqlValue>, ServiceError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let given: Option<Elements<'_, DB_STATEMENT_ARGUMENTS_MAX>> =
        serde_json::from_str(text).map_err(|error| refused("the arguments are not a JSON array", &error))?;
    let Some(given) = given else { return Ok(Vec::new()) };
    if given.count > DB_STATEMENT_ARGUMENTS_MAX {
        let why = format!(
            "there are {} arguments, more than the limit of {DB_STATEMENT_ARGUMENTS_MAX}",
            given.count
        );
        return Err(ServiceError::new(ErrorCode::PayloadTooLarge, why));
    }
    let values = given.first.into_iter().enumerate();
    values
        .map(|(index, raw)| {
            value(raw.get()).map_err(|why| ServiceError::invalid(format!("args[{index}]: {why}")))
        })
        .collect()
}

/// One argument. The error does not show the value, which may be a secret.
fn value(json: &str) -> Result<SqlValue, &'static str> {
    match json.as_bytes().first() {
        Some(b'n') => Ok(SqlValue::Null),
        Some(b't') => Ok(SqlValue::Integer(1)),
        Some(b'f') => Ok(SqlValue::Integer(0)),
        Some(b'"') => serde_json::from_str(json)
            .map(SqlValue::Text)
            .map_err(|_| "the string contains an escape sequence that is not a character"),
        Some(b'[') => serde_json::from_str(json)
            .map(SqlValue::Blob)
            .map_err(|_| "an array is a blob; its elements must be integers from 0 to 255"),
        Some(b'{') => Err("an object is not an SQL value; pass its JSON as a string"),
        _ if json.contains(['.', 'e', 'E']) => match json.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(SqlValue::Real(number)),
            _ => Err("the number does not fit a 64-bit floating point number"),
        },
        _ => json
            .parse()
            .map(SqlValue::Integer)
            .map_err(|_| "the integer does not fit 64 bits; pass it as a string"),
    }
}

#[cfg(test)]
mod tests;
