//! `db_*`: SQL on the namespace's database.
//!
//! The first two functions answer as functions in use expect, with 0 for a failure, which is then in the log. The
//! others tell a failure in their result.

mod reply;
mod statements;

use super::{answered, json};
use crate::abi::{give, give_parts, text, view};
use crate::guest::GuestState;
use crate::limits::{DB_ARGUMENTS_MAX_BYTES, DB_SQL_MAX_BYTES};
use crate::parking::arrive;
use crate::services::{
    BatchFailure, BatchMode, BatchOutcome, Consistency, ErrorCode, ServiceError, Statement, StatementKind,
    StatementResult,
};
use wasmtime::{Caller, Linker, Result};

const QUERY: &str = "db_query";
const EXECUTE: &str = "db_execute";
const QUERY_V2: &str = "db_query_v2";
const EXECUTE_V2: &str = "db_execute_v2";
const TRANSACTION: &str = "db_transaction";
const QUERY_BATCH: &str = "db_query_batch";

/// Pointers and lengths of SQL and arguments.
type Sql = (i32, i32, i32, i32);

/// Statements and how they belong together.
type Batch = (BatchMode, Vec<Statement>);

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    linker.func_wrap_async(module, QUERY, |mut caller: Caller<'_, GuestState>, sql: Sql| {
        Box::new(async move {
            arrive(&mut caller).await;

            match query(&mut caller, QUERY, sql).await? {
                Ok(rows) => give(&mut caller, QUERY, rows.as_bytes()).await,
                Err(why) => {
                    caller.data_mut().log_failure(QUERY, &why.message);
                    Ok(0)
                }
            }
        })
    })?;
    linker.func_wrap_async(module, EXECUTE, |mut caller: Caller<'_, GuestState>, sql: Sql| {
        Box::new(async move {
            arrive(&mut caller).await;

            match execute(&mut caller, EXECUTE, sql).await? {
                Ok((rows_affected, _)) => Ok(i32::try_from(rows_affected).unwrap_or(i32::MAX)),
                Err(why) => {
                    caller.data_mut().log_failure(EXECUTE, &why.message);
                    Ok(0)
                }
            }
        })
    })?;
    linker.func_wrap_async(module, QUERY_V2, |mut caller: Caller<'_, GuestState>, sql: Sql| {
        Box::new(async move {
            arrive(&mut caller).await;

            let result = query(&mut caller, QUERY_V2, sql).await?;
            give_parts(&mut caller, QUERY_V2, &reply::rows(result)).await
        })
    })?;
    linker.func_wrap_async(module, EXECUTE_V2, |mut caller: Caller<'_, GuestState>, sql: Sql| {
        Box::new(async move {
            arrive(&mut caller).await;

            let result = execute(&mut caller, EXECUTE_V2, sql).await?;
            give(&mut caller, EXECUTE_V2, reply::affected(result).as_bytes()).await
        })
    })?;
    linker.func_wrap_async(module, TRANSACTION, |mut caller: Caller<'_, GuestState>, ops: (i32, i32)| {
        Box::new(async move {
            arrive(&mut caller).await;

            let (kinds, outcome) = run_batch(&mut caller, TRANSACTION, ops, statements::transaction).await?;
            give_parts(&mut caller, TRANSACTION, &reply::transaction(&kinds, outcome)).await
        })
    })?;
    linker.func_wrap_async(module, QUERY_BATCH, |mut caller: Caller<'_, GuestState>, ops: (i32, i32)| {
        Box::new(async move {
            arrive(&mut caller).await;

            let (kinds, outcome) = run_batch(&mut caller, QUERY_BATCH, ops, statements::queries).await?;
            give_parts(&mut caller, QUERY_BATCH, &reply::query_batch(&kinds, outcome)).await
        })
    })?;
    Ok(())
}

async fn query(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    sql: Sql,
) -> Result<Result<String, ServiceError>> {
    let mode = BatchMode::Read(Consistency::default());
    Ok(match run_one(caller, host_function, mode, StatementKind::Query, sql).await? {
        Ok(StatementResult::Query { rows, .. }) => Ok(rows),
        Ok(StatementResult::Exec { .. }) => Err(no_answer()),
        Err(why) => Err(why),
    })
}

async fn execute(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    sql: Sql,
) -> Result<Result<(u64, i64), ServiceError>> {
    Ok(match run_one(caller, host_function, BatchMode::Write, StatementKind::Exec, sql).await? {
        Ok(StatementResult::Exec { rows_affected, last_insert_id }) => Ok((rows_affected, last_insert_id)),
        Ok(StatementResult::Query { .. }) => Err(no_answer()),
        Err(why) => Err(why),
    })
}

fn no_answer() -> ServiceError {
    ServiceError::new(ErrorCode::Internal, "the database gave no result")
}

/// Runs the one statement that a guest handed over.
async fn run_one(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    mode: BatchMode,
    kind: StatementKind,
    (sql, sql_size, args, args_size): Sql,
) -> Result<Result<StatementResult, ServiceError>> {
    let (memory, _) = view(caller)?;
    memory.argument(host_function, (args, args_size))?;
    let sql = memory.argument(host_function, (sql, sql_size))?;
    let sql = match text("the SQL", sql, DB_SQL_MAX_BYTES) {
        Ok(sql) => sql.to_owned(),
        Err(why) => return Ok(Err(why)),
    };
    let given = ("the argument list", (args, args_size), DB_ARGUMENTS_MAX_BYTES);
    let args = match json::read(caller, host_function, given, statements::arguments).await? {
        Ok(args) => args,
        Err(why) => return Ok(Err(why)),
    };
    let mut outcome = run(caller, mode, vec![Statement { kind, sql, args }]).await?;
    Ok(match outcome.failure {
        Some(failure) => Err(failure.error),
        None => outcome.results.pop().ok_or_else(no_answer),
    })
}

/// Runs the batch that a guest handed over, as `read` understands it. The kinds are those of its statements.
async fn run_batch(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    ops: (i32, i32),
    read: fn(&str) -> Result<Batch, BatchFailure>,
) -> Result<(Vec<StatementKind>, BatchOutcome)> {
    let given = ("the operation list", ops, DB_ARGUMENTS_MAX_BYTES);
    Ok(match json::read(caller, host_function, given, read).await? {
        Ok((mode, statements)) => {
            let kinds = statements.iter().map(|statement| statement.kind).collect();
            (kinds, run(caller, mode, statements).await?)
        }
        Err(failure) => {
            let failure = Some(failure);
            (Vec::new(), BatchOutcome { failure, ..BatchOutcome::default() })
        }
    })
}

async fn run(
    caller: &mut Caller<'_, GuestState>,
    mode: BatchMode,
    statements: Vec<Statement>,
) -> Result<BatchOutcome> {
    let state = caller.data();
    let answer = state.host.database.run(&state.function.namespace, mode, statements, state.deadline);
    answered(caller, answer).await
}
