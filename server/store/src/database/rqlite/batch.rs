//! Runs one batch on the servers.

use super::guard::{self, Allowed, Kind};
use super::rewrite::{self, Left, Rewritten};
use super::{errors, shape};
use crate::limits::{
    DB_REMOTE_PARSES_MAX, DB_REMOTE_REPLY_MAX_BYTES, DB_REMOTE_SQL_MAX_BYTES, DB_REMOTE_WRITE_MIN,
};
use crate::rqlite::{Level, Options, Reply, Rows, RqliteClient, RqliteError, Statement as Sent};
use jiff::Timestamp;
use moka::sync::Cache;
use orama_runtime::limits::DB_RESULT_MAX_BYTES;
use orama_runtime::services::{
    BatchFailure, BatchMode, BatchOutcome, Consistency, ErrorCode, ServiceError, SqlValue, Statement,
    StatementKind, StatementResult,
};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The part of a deadline reserved for the answer's transfer, so that the server reports which statement took too long.
const WAY_PART: u32 = 8;

/// Its maximum.
const WAY_MAX: Duration = Duration::from_millis(250);

/// Statements of a call that are parsed without a turn, in bytes: less than a millisecond of work.
const READ_AT_ONCE_MAX_BYTES: usize = 16 << 10;

/// Turns to parse longer statements, for all namespaces.
static READS: Semaphore = Semaphore::const_new(DB_REMOTE_PARSES_MAX);

/// The index of a failed statement, if it is known, and the error.
type Failed = (Option<usize>, ServiceError);

/// The context of a batch.
pub(super) struct Batch<'a> {
    pub(super) client: &'a RqliteClient,
    pub(super) shapes: &'a Cache<String, usize>,
    /// The namespace's turn to parse long statements.
    pub(super) reading: &'a Semaphore,
    pub(super) deadline: Instant,
}

/// A query of the batch.
struct Ask {
    index: usize,
    rewritten: Rewritten,
    /// `None` for statements that cannot be a part of a query.
    columns: Option<Columns>,
}

enum Columns {
    /// Known from the text.
    Known(usize),
    /// Known only from the schema.
    OfSchema,
}

/// The purpose of a statement of a request.
enum Part {
    /// The tenant's own statement.
    Own(usize, Kind),
    /// Fails if a table is a shadow table of a virtual table.
    NoShadow(usize, String),
    /// Fails if the previous statement changed more than one row.
    OneRow(usize),
}

impl Batch<'_> {
    /// Runs the execs in one transaction, then the queries.
    pub(super) async fn run(&self, mode: BatchMode, mut statements: Vec<Statement>) -> BatchOutcome {
        if let Err(error) = bound(&statements) {
            return BatchOutcome { failure: Some(error.into()), ..BatchOutcome::default() };
        }
        let mut results: Vec<Option<StatementResult>> = statements.iter().map(|_| None).collect();
        let args: Vec<_> =
            statements.iter_mut().map(|statement| std::mem::take(&mut statement.args)).collect();
        let has_execs = statements.iter().any(|statement| statement.kind == StatementKind::Exec);
        let (mut left, mut args) = (None, args);
        if has_execs {
            match self.execs(&statements, &mut args, &mut results).await {
                Ok(state) => left = Some(state),
                Err((index, error)) => {
                    let failure = Some(BatchFailure { index, error });
                    return BatchOutcome { failure, ..BatchOutcome::default() };
                }
            }
        }
        let level = match mode {
            // Must see what was just committed.
            BatchMode::Write | BatchMode::Read(Consistency::Strong) => Level::Linearizable,
            BatchMode::Read(Consistency::Weak | Consistency::Within(_)) => Level::Weak,
            BatchMode::Read(Consistency::None) => Level::None,
        };
        let failed = self.queries(&statements, &mut args, left, level, &mut results).await.err();
        let done = failed.as_ref().and_then(|(index, _)| *index).unwrap_or(results.len());
        BatchOutcome {
            committed: has_execs || failed.is_none(),
            results: results.into_iter().take(done).flatten().collect(),
            failure: failed.map(|(index, error)| BatchFailure { index, error }),
        }
    }

    async fn execs(
        &self,
        statements: &[Statement],
        args: &mut [Vec<SqlValue>],
        results: &mut [Option<StatementResult>],
    ) -> Result<Left, Failed> {
        let read = self.reads(statements, || read_execs(statements, args)).await;
        let (sent, parts) = read.map_err(|error| (None, error))??;
        let timeout = self.left().max(DB_REMOTE_WRITE_MIN);
        let options = self.options(Level::Weak, timeout);
        let replies = self.client.execute(&sent, &options, self.deadline).await;
        let replies = replies.map_err(|error| self.failed_exec(&error, &parts))?;
        let mut left = Left { last_insert_id: 0, changes: 0 };
        if replies.len() != parts.len() {
            let error = RqliteError::Protocol(format!("{} answers to {}", replies.len(), parts.len()).into());
            return Err((None, errors::of_write(&error, self.deadline)));
        }
        for (part, reply) in parts.iter().zip(replies) {
            let (Part::Own(index, kind), Reply::Changed(changed)) = (part, reply) else { continue };
            // For a statement without counts, the server repeats those of an earlier one.
            let rows_affected =
                if kind.changes_rows() { u64::try_from(changed.rows_affected).unwrap_or(0) } else { 0 };
            let last_insert_id = changed.last_insert_id;
            left.last_insert_id = last_insert_id;
            if kind.changes_rows() {
                left.changes = rows_affected;
            }
            if let Some(result) = results.get_mut(*index) {
                *result = Some(StatementResult::Exec { rows_affected, last_insert_id });
            }
        }
        Ok(left)
    }

    fn failed_exec(&self, error: &RqliteError, parts: &[Part]) -> Failed {
        let RqliteError::Sql { index, .. } = error else {
            return (None, errors::of_write(error, self.deadline));
        };
        match parts.get(*index) {
            Some(Part::NoShadow(index, table)) => {
                (Some(*index), ServiceError::invalid(format!("table {table} may not be modified")))
            }
            Some(Part::OneRow(index)) => (
                Some(*index),
                ServiceError::invalid(
                    "an UPDATE with random() or randomblob() may change one row only; give the values as arguments",
                ),
            ),
            Some(Part::Own(index, _)) => (Some(*index), errors::of_write(error, self.deadline)),
            None => (None, errors::of_write(error, self.deadline)),
        }
    }

    async fn queries(
        &self,
        statements: &[Statement],
        args: &mut [Vec<SqlValue>],
        left: Option<Left>,
        level: Level,
        results: &mut [Option<StatementResult>],
    ) -> Result<(), Failed> {
        let read = self.reads(statements, || read_queries(statements, args, left)).await;
        let (asks, refusal) = read.map_err(|error| (None, error))?;
        if !asks.is_empty() {
            let again = self.ask(&asks, level, results).await?;
            if again {
                // The schema changed meanwhile; a second time in a row would be a table that changes all the time.
                for ask in &asks {
                    self.shapes.invalidate(&ask.rewritten.sql);
                }
                if self.ask(&asks, level, results).await? {
                    let error = ServiceError::unavailable("the schema changed while it was read; try again");
                    return Err((None, error));
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Runs the queries. Returns `true` if the schema has changed and the columns are stale.
    async fn ask(
        &self,
        asks: &[Ask],
        level: Level,
        results: &mut [Option<StatementResult>],
    ) -> Result<bool, Failed> {
        let only = if let [ask] = asks { Some(ask.index) } else { None };
        let failed = |error: &RqliteError| (only, errors::of_read(error, self.deadline));
        let left = self.left();
        let options = self.options(level, left - (left / WAY_PART).min(WAY_MAX));
        let (asks, unknown) = self.look_up(asks, &options).await.map_err(|error| failed(&error))?;
        let mut sent = Vec::new();
        for (ask, columns) in &asks {
            let Rewritten { sql, params, .. } = &ask.rewritten;
            if let Some(columns) = columns {
                sent.push(shape::names(sql, params));
                sent.push(shape::values(sql, params.clone(), *columns));
            } else {
                sent.push(Sent::new(sql.clone(), params.clone()));
            }
        }
        let mut replies = Vec::new();
        if !sent.is_empty() {
            replies = self.client.query_each(&sent, &options, self.deadline).await.map_err(|e| failed(&e))?;
        }
        let (mut replies, mut bytes_left) = (replies.into_iter(), DB_RESULT_MAX_BYTES);
        let mut next = |index: usize| match replies.next() {
            Some(Ok(rows)) => Ok(rows),
            Some(Err(message)) => Err((Some(index), message)),
            None => Err((Some(index), "the database returned no result".to_owned())),
        };
        let told = |(index, message): (Option<usize>, String)| (index, errors::of_sql(&message));
        for (ask, columns) in asks {
            let first: Rows = next(ask.index).map_err(told)?;
            let json = if columns.is_some() {
                let values = match next(ask.index) {
                    Err((_, message)) if shape::is_outdated(&message) => return Ok(true),
                    values => values.map_err(told)?,
                };
                shape::json(&first.columns, &values, true, &mut bytes_left)
            } else {
                shape::json(&first.columns, &first, false, &mut bytes_left)
            };
            let json = json.map_err(|error| (Some(ask.index), error))?;
            if let Some(result) = results.get_mut(ask.index) {
                *result = Some(json);
            }
        }
        unknown.map_or(Ok(false), |(index, message)| Err((Some(index), errors::of_sql(&message))))
    }

    /// Finds the number of columns of each query, up to the first for which the schema does not tell it.
    async fn look_up<'b>(
        &self,
        asks: &'b [Ask],
        options: &Options,
    ) -> Result<(Vec<(&'b Ask, Option<usize>)>, Option<(usize, String)>), RqliteError> {
        let is_unknown = |ask: &&Ask| {
            matches!(ask.columns, Some(Columns::OfSchema)) && !self.shapes.contains_key(&ask.rewritten.sql)
        };
        let unknown: Vec<_> = asks.iter().filter(is_unknown).collect();
        let sent: Vec<_> =
            unknown.iter().map(|ask| shape::names(&ask.rewritten.sql, &ask.rewritten.params)).collect();
        let mut failed = None;
        if !sent.is_empty() {
            let replies = self.client.query_each(&sent, options, self.deadline).await?;
            for (ask, reply) in unknown.iter().zip(replies) {
                match reply {
                    Ok(rows) => self.shapes.insert(ask.rewritten.sql.clone(), rows.columns.len()),
                    Err(message) => {
                        failed = Some((ask.index, message));
                        break;
                    }
                }
            }
        }
        let mut known = Vec::with_capacity(asks.len());
        for ask in asks {
            if failed.as_ref().is_some_and(|(index, _)| *index <= ask.index) {
                break;
            }
            known.push((
                ask,
                match ask.columns {
                    None => None,
                    Some(Columns::Known(columns)) => Some(columns),
                    // An evicted entry is found again the next time.
                    Some(Columns::OfSchema) => Some(self.shapes.get(&ask.rewritten.sql).unwrap_or_default()),
                },
            ));
        }
        Ok((known, failed))
    }

    /// Parses statements: short ones at once, long ones in turns and as blocking work, one call of a namespace at a time.
    async fn reads<T>(&self, statements: &[Statement], read: impl FnOnce() -> T) -> Result<T, ServiceError> {
        if text_bytes(statements) <= READ_AT_ONCE_MAX_BYTES {
            return Ok(read());
        }
        let turns = async { Some((self.reading.acquire().await.ok()?, READS.acquire().await.ok()?)) };
        match tokio::time::timeout_at(self.deadline.into(), turns).await {
            Ok(Some(_turns)) => Ok(tokio::task::block_in_place(read)),
            Ok(None) => Err(super::stopping()),
            Err(_) => Err(errors::deadline_exceeded()),
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn options(&self, level: Level, statement_timeout: Duration) -> Options {
        Options {
            level,
            transaction: true,
            // It has been rewritten already.
            rewrites: false,
            statement_timeout: Some(statement_timeout),
            reply_max_bytes: DB_REMOTE_REPLY_MAX_BYTES,
        }
    }
}

/// Refuses a call whose statements would take long to parse.
fn bound(statements: &[Statement]) -> Result<(), ServiceError> {
    if text_bytes(statements) <= DB_REMOTE_SQL_MAX_BYTES {
        return Ok(());
    }
    let message = format!(
        "the statements of the call have more than {} MiB in total; pass values as arguments",
        DB_REMOTE_SQL_MAX_BYTES >> 20
    );
    Err(ServiceError::new(ErrorCode::PayloadTooLarge, message))
}

fn text_bytes(statements: &[Statement]) -> usize {
    statements.iter().map(|statement| statement.sql.len()).sum()
}

/// The execs as they are sent, each with its purpose.
fn read_execs(
    statements: &[Statement],
    args: &mut [Vec<SqlValue>],
) -> Result<(Vec<Sent>, Vec<Part>), Failed> {
    let (mut sent, mut parts) = (Vec::new(), Vec::new());
    let (mut is_first, now) = (true, Timestamp::now());
    for (index, (statement, args)) in statements.iter().zip(args).enumerate() {
        if statement.kind != StatementKind::Exec {
            continue;
        }
        let at = |error| (Some(index), error);
        let allowed = guard::check(&statement.sql, StatementKind::Exec).map_err(at)?;
        let Allowed { kind, ref maybe_shadows, .. } = allowed;
        for table in maybe_shadows {
            sent.push(no_shadow(table));
            parts.push(Part::NoShadow(index, table.clone()));
        }
        let rewritten = rewrite::exec(&allowed, std::mem::take(args), is_first, now).map_err(at)?;
        sent.push(Sent::new(rewritten.sql, rewritten.params));
        parts.push(Part::Own(index, kind));
        if rewritten.one_row {
            sent.push(Sent::new(format!("SELECT {FAIL} WHERE changes() > 1"), []));
            parts.push(Part::OneRow(index));
        }
        is_first &= !kind.changes_rows();
    }
    Ok((sent, parts))
}

/// The queries before the first one that is refused.
fn read_queries(
    statements: &[Statement],
    args: &mut [Vec<SqlValue>],
    left: Option<Left>,
) -> (Vec<Ask>, Option<Failed>) {
    let mut asks = Vec::new();
    for (index, (statement, args)) in statements.iter().zip(args).enumerate() {
        if statement.kind != StatementKind::Query {
            continue;
        }
        match ask(index, statement, std::mem::take(args), left) {
            Ok(ask) => asks.push(ask),
            Err(error) => return (asks, Some((Some(index), error))),
        }
    }
    (asks, None)
}

/// A SQL expression whose evaluation fails.
const FAIL: &str = "abs(-9223372036854775808)";

fn no_shadow(table: &str) -> Sent {
    let table = table.replace('\'', "''");
    Sent::new(
        format!("SELECT {FAIL} FROM pragma_table_list WHERE type = 'shadow' AND lower(name) = '{table}'"),
        [],
    )
}

fn ask(
    index: usize,
    statement: &Statement,
    args: Vec<SqlValue>,
    left: Option<Left>,
) -> Result<Ask, ServiceError> {
    let allowed = guard::check(&statement.sql, StatementKind::Query)?;
    let columns = match allowed.kind {
        Kind::Rows { columns: Some(columns) } => Some(Columns::Known(columns)),
        Kind::Rows { columns: None } => Some(Columns::OfSchema),
        _ => None,
    };
    Ok(Ask { index, rewritten: rewrite::query(&allowed, args, left)?, columns })
}
