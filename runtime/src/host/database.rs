//! `db_*`: SQL on the namespace's database.
//!
//! `db_query` and `db_execute` return 0 for a failure and write it to the log, as existing functions expect. The other four
//! report a failure in their result, and so does `exec_and_publish`, a transaction with a message.

pub mod batches;
mod masked;
mod reply;
mod statements;

use super::json::{self, JsonArgument};
use super::pubsub;
use crate::abi::{Range, text};
use crate::call::{Call, Fault, Functions};
use crate::limits::{DB_ARGUMENTS_MAX_BYTES, DB_SQL_MAX_BYTES};
use crate::services::{
    BatchFailure, BatchMode, BatchOutcome, Consistency, ErrorCode, OutboxOutcome, ServiceError, Statement,
    StatementKind, StatementResult,
};
use wasmtime::Result;

/// Pointers and lengths of SQL and arguments.
type Sql = (i32, i32, i32, i32);

/// The statements of a batch and its mode.
type Batch = (BatchMode, Vec<Statement>);

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_bytes("db_query", db_query)?;
    functions.add("db_execute", 0, db_execute)?;
    functions.add_bytes("db_query_v2", db_query_v2)?;
    functions.add_bytes("db_execute_v2", db_execute_v2)?;
    functions.add_bytes("db_transaction", db_transaction)?;
    functions.add_bytes("db_query_batch", db_query_batch)?;
    functions.add_bytes("exec_and_publish", exec_and_publish)
}

async fn db_query(call: &mut Call<'_>, sql: Sql) -> Result<i64, Fault> {
    let rows = query(call, sql).await?;
    call.give(rows.as_bytes()).await
}

async fn db_execute(call: &mut Call<'_>, sql: Sql) -> Result<i32, Fault> {
    let (rows_affected, _) = execute(call, sql).await?;
    Ok(i32::try_from(rows_affected).unwrap_or(i32::MAX))
}

async fn db_query_v2(call: &mut Call<'_>, sql: Sql) -> Result<i64, Fault> {
    let rows = query(call, sql).await;
    call.give_parts(&reply::rows(Fault::caught(rows)?)).await
}

async fn db_execute_v2(call: &mut Call<'_>, sql: Sql) -> Result<i64, Fault> {
    let affected = execute(call, sql).await;
    call.give(reply::affected(Fault::caught(affected)?).as_bytes()).await
}

async fn db_transaction(call: &mut Call<'_>, ops: Range) -> Result<i64, Fault> {
    let (kinds, outcome) = run_batch(call, ops, statements::transaction).await?;
    call.give_parts(&reply::transaction(&kinds, outcome)).await
}

async fn db_query_batch(call: &mut Call<'_>, ops: Range) -> Result<i64, Fault> {
    let (kinds, outcome) = run_batch(call, ops, statements::queries).await?;
    call.give_parts(&reply::query_batch(&kinds, outcome)).await
}

async fn exec_and_publish(
    call: &mut Call<'_>,
    (ops, ops_size, topic, topic_size, data, data_size): (i32, i32, i32, i32, i32, i32),
) -> Result<i64, Fault> {
    let ops = JsonArgument {
        what: "the operation list",
        range: (ops, ops_size),
        max_bytes: DB_ARGUMENTS_MAX_BYTES,
    };
    let (memory, _) = call.memory()?;
    // A range outside the memory traps whatever else is wrong, so all ranges are checked first.
    memory.argument(ops.range)?;
    memory.argument((topic, topic_size))?;
    memory.argument((data, data_size))?;
    let (kinds, outcome) = match json::read(call, ops, statements::with_message).await? {
        Ok((_, statements)) => {
            let kinds = statements.iter().map(|statement| statement.kind).collect();
            let event =
                pubsub::event(call, (topic, topic_size), (data, data_size), pubsub::value_with_seq).await;
            let outcome = match Fault::caught(event)? {
                Ok(event) => {
                    let state = call.state();
                    let namespace = &state.function.namespace;
                    let answer = state.host.outbox.run(namespace, statements, event, state.deadline);
                    call.wait_for(answer).await?
                }
                Err(error) => OutboxOutcome::refused(error),
            };
            (kinds, outcome)
        }
        Err(failure) => {
            let batch = BatchOutcome { failure: Some(failure), ..BatchOutcome::default() };
            (Vec::new(), OutboxOutcome { batch, seq: 0, published: None })
        }
    };
    if let Some(Ok(suppressed)) = &outcome.published {
        pubsub::note_suppressed(call, *suppressed);
    }
    call.give_parts(&reply::with_message(&kinds, outcome)).await
}

async fn query(call: &mut Call<'_>, sql: Sql) -> Result<String, Fault> {
    let mode = BatchMode::Read(Consistency::default());
    match run_one(call, mode, StatementKind::Query, sql).await? {
        StatementResult::Query { rows, .. } => Ok(rows),
        StatementResult::Exec { .. } => Err(no_result().into()),
    }
}

async fn execute(call: &mut Call<'_>, sql: Sql) -> Result<(u64, i64), Fault> {
    match run_one(call, BatchMode::Write, StatementKind::Exec, sql).await? {
        StatementResult::Exec { rows_affected, last_insert_id } => Ok((rows_affected, last_insert_id)),
        StatementResult::Query { .. } => Err(no_result().into()),
    }
}

fn no_result() -> ServiceError {
    ServiceError::new(ErrorCode::Internal, "the database gave no result")
}

/// Runs the one statement that a guest passed.
async fn run_one(
    call: &mut Call<'_>,
    mode: BatchMode,
    kind: StatementKind,
    (sql, sql_size, args, args_size): Sql,
) -> Result<StatementResult, Fault> {
    let args = JsonArgument {
        what: "the argument list",
        range: (args, args_size),
        max_bytes: DB_ARGUMENTS_MAX_BYTES,
    };
    let (memory, _) = call.memory()?;
    memory.argument(args.range)?;
    let sql = text("the SQL", memory.argument((sql, sql_size))?, DB_SQL_MAX_BYTES)?.to_owned();
    let args = json::read(call, args, statements::arguments).await??;
    let mut outcome = run(call, mode, vec![Statement { kind, sql, args }]).await?;
    match outcome.failure {
        Some(failure) => Err(failure.error.into()),
        None => Ok(outcome.results.pop().ok_or_else(no_result)?),
    }
}

/// Parses and runs the batch that a guest passed. Returns the kinds of its statements and the outcome.
async fn run_batch(
    call: &mut Call<'_>,
    ops: Range,
    parse: fn(&str) -> Result<Batch, BatchFailure>,
) -> Result<(Vec<StatementKind>, BatchOutcome), Fault> {
    let ops = JsonArgument { what: "the operation list", range: ops, max_bytes: DB_ARGUMENTS_MAX_BYTES };
    match json::read(call, ops, parse).await? {
        Ok((mode, statements)) => {
            let kinds = statements.iter().map(|statement| statement.kind).collect();
            Ok((kinds, run(call, mode, statements).await?))
        }
        Err(failure) => Ok((Vec::new(), BatchOutcome { failure: Some(failure), ..BatchOutcome::default() })),
    }
}

async fn run(
    call: &mut Call<'_>,
    mode: BatchMode,
    statements: Vec<Statement>,
) -> Result<BatchOutcome, Fault> {
    call.describe(|| masked::all(&statements));
    let state = call.state();
    let answer = state.host.database.run(&state.function.namespace, mode, statements, state.deadline);
    let outcome = call.wait_for(answer).await?;
    if outcome.failure.is_some() {
        call.note_failure();
    }
    Ok(outcome)
}
