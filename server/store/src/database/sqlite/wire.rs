//! The protocol between a node and a namespace's SQL process.
//!
//! Each message is a frame of `orama_runtime::child::frame`. On the control socket, the node sends the folder of the database,
//! then [`Cancel`]s; the process sends that it is [`Ready`]. On a lane, the node sends a [`Call`], and the next one when the
//! process has answered with an [`Outcome`]. The texts of a call's rows follow its outcome as they are, so megabytes are not
//! encoded twice. The node does not trust an answer: a tenant may have taken over the process.

use orama_runtime::child::frame;
use orama_runtime::limits::DB_RESULT_MAX_BYTES;
use orama_runtime::services::{
    BatchFailure, BatchOutcome, ErrorCode, ServiceError, SqlValue, Statement, StatementKind, StatementResult,
};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;

/// Longest answer, in bytes: the maximum size of a call's rows, with counts and messages.
pub(super) const ANSWER_MAX_BYTES: usize = DB_RESULT_MAX_BYTES + (1 << 20);

/// Longest request, in bytes: far more than a guest of the largest memory can send as JSON.
pub(super) const REQUEST_MAX_BYTES: usize = 512 << 20;

/// Longest error message, in bytes. SQLite repeats names, which may have a megabyte.
const MESSAGE_MAX_BYTES: usize = 8 << 10;

/// Cancels a call.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cancel {
    pub(super) lane: u8,
    pub(super) id: u64,
}

/// What a call may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Access {
    /// Read.
    Read,
    /// Write, as long as the database stays within so many bytes.
    Write { max_bytes: u64 },
}

impl Access {
    pub(super) const fn writes(self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

/// A batch.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call<'a> {
    pub(super) id: u64,
    pub(super) access: Access,
    /// Whether the thread stays awake for the next call.
    pub(super) stays_awake: bool,
    /// Time until its deadline.
    pub(super) left: Duration,
    #[serde(borrow)]
    statements: Vec<Sent<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sent<'a> {
    is_exec: bool,
    sql: &'a str,
    #[serde(borrow)]
    args: Vec<Arg<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Arg<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
}

impl Call<'_> {
    /// The frame of a batch.
    pub(super) fn frame(
        id: u64,
        access: Access,
        stays_awake: bool,
        left: Duration,
        statements: &[Statement],
    ) -> io::Result<Vec<u8>> {
        let statements = statements.iter().map(|statement| Sent {
            is_exec: statement.kind == StatementKind::Exec,
            sql: &statement.sql,
            args: statement.args.iter().map(Arg::of).collect(),
        });
        framed(&Call { id, access, stays_awake, left, statements: statements.collect() }, 0)
    }

    /// Converts the statements back.
    pub(super) fn statements(&self) -> Vec<Statement> {
        let statements = self.statements.iter().map(|sent| Statement {
            kind: if sent.is_exec { StatementKind::Exec } else { StatementKind::Query },
            sql: sent.sql.to_owned(),
            args: sent.args.iter().map(Arg::value).collect(),
        });
        statements.collect()
    }
}

impl<'a> Arg<'a> {
    fn of(value: &'a SqlValue) -> Self {
        match value {
            SqlValue::Null => Self::Null,
            SqlValue::Integer(number) => Self::Integer(*number),
            SqlValue::Real(number) => Self::Real(*number),
            SqlValue::Text(text) => Self::Text(text),
            SqlValue::Blob(bytes) => Self::Blob(bytes),
        }
    }

    fn value(&self) -> SqlValue {
        match self {
            Self::Null => SqlValue::Null,
            Self::Integer(number) => SqlValue::Integer(*number),
            Self::Real(number) => SqlValue::Real(*number),
            Self::Text(text) => SqlValue::Text((*text).to_owned()),
            Self::Blob(bytes) => SqlValue::Blob((*bytes).to_vec()),
        }
    }
}

/// The process serves. The fields tell how it is confined.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ready {
    /// By Landlock.
    pub(super) files: bool,
    /// By seccomp.
    pub(super) calls: bool,
}

/// The result of a call.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// The call's.
    pub(super) id: u64,
    /// The CPU of the thread, if the call took so little time that the caller can stay awake for the next one.
    pub(super) quick_on: Option<u32>,
    committed: bool,
    results: Vec<Given>,
    failure: Option<Failure>,
    /// For the node's log.
    pub(super) note: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Given {
    Exec {
        rows_affected: u64,
        last_insert_id: i64,
    },
    /// Size of its text, in bytes.
    Query {
        row_count: u64,
        bytes: u64,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Failure {
    index: Option<u64>,
    code: u8,
    message: String,
}

/// All codes. The index is the number on the wire.
const CODES: [ErrorCode; 6] = [
    ErrorCode::InvalidArgument,
    ErrorCode::TooManyStatements,
    ErrorCode::PayloadTooLarge,
    ErrorCode::DeadlineExceeded,
    ErrorCode::Unavailable,
    ErrorCode::Internal,
];

impl Outcome {
    /// The outcome of a call without the texts of its rows, which follow the encoded part of the frame in order.
    pub(super) fn of(id: u64, quick_on: Option<u32>, outcome: &BatchOutcome, note: Option<String>) -> Self {
        let results = outcome.results.iter().map(|result| match result {
            StatementResult::Exec { rows_affected, last_insert_id } => {
                Given::Exec { rows_affected: *rows_affected, last_insert_id: *last_insert_id }
            }
            StatementResult::Query { rows, row_count } => {
                Given::Query { row_count: *row_count as u64, bytes: rows.len() as u64 }
            }
        });
        let failure = outcome.failure.as_ref().map(|failure| Failure {
            index: failure.index.map(|index| index as u64),
            code: CODES.iter().position(|code| *code == failure.error.code).unwrap_or_default() as u8,
            message: bounded(&failure.error.message),
        });
        let note = note.as_deref().map(bounded);
        Self { id, quick_on, committed: outcome.committed, results: results.collect(), failure, note }
    }

    /// The outcome of a batch of so many statements; `None` if the answer is not valid.
    pub(super) fn into_batch(self, mut rows: &[u8], statements: usize) -> Option<BatchOutcome> {
        if self.results.len() > statements {
            return None;
        }
        let mut results = Vec::with_capacity(self.results.len());
        for given in self.results {
            results.push(match given {
                Given::Exec { rows_affected, last_insert_id } => {
                    StatementResult::Exec { rows_affected, last_insert_id }
                }
                Given::Query { row_count, bytes } => {
                    let (text, rest) = rows.split_at_checked(usize::try_from(bytes).ok()?)?;
                    rows = rest;
                    let text = std::str::from_utf8(text).ok()?.to_owned();
                    StatementResult::Query { rows: text, row_count: usize::try_from(row_count).ok()? }
                }
            });
        }
        let failure = match self.failure {
            None => None,
            Some(Failure { index, code, message }) => Some(BatchFailure {
                index: index.map(usize::try_from).transpose().ok()?.filter(|index| *index < statements),
                error: ServiceError::new(*CODES.get(usize::from(code))?, message),
            }),
        };
        rows.is_empty().then_some(BatchOutcome { committed: self.committed, results, failure })
    }
}

/// Truncates a text that is too long, and marks it.
fn bounded(text: &str) -> String {
    if text.len() <= MESSAGE_MAX_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MESSAGE_MAX_BYTES)])
}

/// The frame of a cancellation.
pub(super) fn cancel(cancel: Cancel) -> io::Result<Vec<u8>> {
    framed(&cancel, 0)
}

/// The frame of the process' first message.
pub(super) fn ready(ready: Ready) -> io::Result<Vec<u8>> {
    framed(&ready, 0)
}

/// The frame of an outcome, without the `rows` bytes of rows that follow.
pub(super) fn outcome(outcome: &Outcome, rows: usize) -> io::Result<Vec<u8>> {
    framed(outcome, rows)
}

fn framed(message: &impl Serialize, behind: usize) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(message, vec![0; frame::HEADER_BYTES]).map_err(io::Error::other)?;
    let header = frame::header(bytes.len() - frame::HEADER_BYTES + behind)?;
    if let Some(place) = bytes.first_chunk_mut() {
        *place = header;
    }
    Ok(bytes)
}

/// Decodes a call.
pub(super) fn read_call(bytes: &[u8]) -> io::Result<Call<'_>> {
    postcard::from_bytes(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Decodes a cancellation.
pub(super) fn read_cancel(bytes: &[u8]) -> io::Result<Cancel> {
    postcard::from_bytes(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Decodes the process' first message.
pub(super) fn read_ready(bytes: &[u8]) -> io::Result<Ready> {
    postcard::from_bytes(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Decodes an outcome and returns the bytes after it.
pub(super) fn read_outcome(bytes: &[u8]) -> io::Result<(Outcome, &[u8])> {
    postcard::take_from_bytes(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_over_as_it_was() {
        let args = vec![
            SqlValue::Null,
            SqlValue::Integer(i64::MIN),
            SqlValue::Real(f64::INFINITY),
            SqlValue::Text("ä\u{0}".into()),
            SqlValue::Blob(vec![0, 255]),
        ];
        let statement = |kind| Statement { kind, sql: "SELECT ?".into(), args: args.clone() };
        let statements = vec![statement(StatementKind::Exec), statement(StatementKind::Query)];
        let access = Access::Write { max_bytes: 1 << 33 };
        let frame = Call::frame(7, access, true, Duration::from_millis(1500), &statements).unwrap();
        let call = read_call(&frame[frame::HEADER_BYTES..]).unwrap();
        assert_eq!((call.id, call.access, call.stays_awake), (7, access, true));
        assert_eq!(call.left, Duration::from_millis(1500));
        assert_eq!(call.statements(), statements);
    }

    #[test]
    fn an_outcome_comes_over_as_it_was_and_what_cannot_be_is_refused() {
        let rows = |text: &str| StatementResult::Query { rows: text.into(), row_count: 1 };
        let exec = StatementResult::Exec { rows_affected: 3, last_insert_id: -1 };
        let error = ServiceError::new(ErrorCode::Internal, "x".repeat(1 << 20));
        let batch = BatchOutcome {
            committed: true,
            results: vec![rows("[1]"), exec, rows("[{\"a\":\"ä\"}]")],
            failure: Some(BatchFailure { index: Some(2), error }),
        };
        let texts = "[1][{\"a\":\"ä\"}]".as_bytes();
        let mut bytes = outcome(&Outcome::of(9, Some(1), &batch, Some("note".into())), texts.len()).unwrap();
        bytes.extend_from_slice(texts);
        assert_eq!(bytes[..4], u32::try_from(bytes.len() - 4).unwrap().to_le_bytes());
        let (outcome, behind) = read_outcome(&bytes[4..]).unwrap();
        let back = outcome.into_batch(behind, 3).unwrap();
        assert_eq!(back.results, batch.results);
        let message = &back.failure.as_ref().unwrap().error.message;
        assert!(message.len() < 10_000 && message.ends_with('…'), "{}", message.len());
        let refused = |statements, behind: &[u8]| {
            read_outcome(&bytes[4..]).unwrap().0.into_batch(behind, statements).is_none()
        };
        assert!(refused(2, texts), "more results than statements");
        assert!(refused(3, &texts[1..]), "less text than announced");
        assert!(refused(3, &[texts, b"x"].concat()), "more text than announced");
        let mut broken = texts.to_vec();
        broken[0] = 0xff;
        assert!(refused(3, &broken), "no UTF-8");
        assert!(read_outcome(b"\xff\xff").is_err());
    }
}
