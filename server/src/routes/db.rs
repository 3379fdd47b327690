//! The namespace's database over HTTP: statements as `db_transaction` takes them, and migrations.

use super::functions::rfc3339;
use super::openapi::{StatementResults, Statements};
use super::target::{NamespaceQuery, query};
use super::{State as AppState, json};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use orama_platform::auth::{Action, Credential};
use orama_platform::migrations::{self, Migration};
use orama_runtime::batches;
use orama_runtime::services::{
    BatchFailure, BatchMode, Consistency, Database, ErrorCode, ServiceError, StatementKind,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// How long the statements of a request may take.
const TIMEOUT: Duration = Duration::from_secs(60);

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;

/// Runs statements.
///
/// Queries alone read one state of the database. With execs, these run in one transaction, and then the queries.
#[utoipa::path(
    post, path = "/v1/db/query", operation_id = "runStatements", tag = "database",
    security(("key" = ["deploy"])),
    params(NamespaceQuery),
    request_body = Statements,
    responses((status = 200, body = StatementResults), (status = 422), (status = 504)),
)]
pub(super) async fn run(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: Asked,
    body: Bytes,
) -> Result<Response, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let text = std::str::from_utf8(&body)
        .map_err(|_| ApiError::bad_request("INVALID_BODY", "the request's body is not UTF-8"))?;
    let (mode, statements) = batches::transaction(text).map_err(|failure| refused(false, failure))?;
    let kinds: Vec<_> = statements.iter().map(|statement| statement.kind).collect();
    let has_execs = kinds.contains(&StatementKind::Exec);
    let mode = if has_execs { mode } else { BatchMode::Read(Consistency::Strong) };
    let deadline = Instant::now() + TIMEOUT;
    let mut outcome = state.app.platform.databases.run(&namespace, mode, statements, deadline).await;
    if let Some(failure) = outcome.failure.take() {
        return Err(refused(has_execs && outcome.committed, failure));
    }
    Ok(([(CONTENT_TYPE, "application/json")], batches::reply(&kinds, outcome)).into_response())
}

/// The error of statements that failed. `committed` says that the execs are durable all the same.
fn refused(committed: bool, failure: BatchFailure) -> ApiError {
    let index = failure.index.map_or_else(String::new, |index| format!("ops[{index}]: "));
    let done = if committed { "the execs were committed, but a query failed: " } else { "" };
    let message = format!("{done}{index}{}", failure.error.message.trim_start_matches(&index));
    of_service(&failure.error, message)
}

/// The status of a failure of a service.
pub(super) fn of_service(error: &ServiceError, message: String) -> ApiError {
    let (status, code) = match error.code {
        ErrorCode::InvalidArgument => (StatusCode::UNPROCESSABLE_ENTITY, "SQL_REFUSED"),
        ErrorCode::TooManyStatements => (StatusCode::UNPROCESSABLE_ENTITY, "TOO_MANY_STATEMENTS"),
        ErrorCode::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
        ErrorCode::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED"),
        ErrorCode::Unavailable => return ApiError::unavailable(message),
        ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    };
    ApiError::new(status, code, message)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Migrations)]
struct Given {
    migrations: Vec<Migration>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Migrated {
    /// The names of those that ran now.
    applied: Vec<String>,
    /// How many had run before.
    present: usize,
}

/// Runs the migrations that did not run yet, in their order.
#[utoipa::path(
    post, path = "/v1/db/migrations", operation_id = "migrate", tag = "database",
    security(("key" = ["deploy"])),
    params(NamespaceQuery),
    request_body = Given,
    responses((status = 200, body = Migrated), (status = 409), (status = 422), (status = 504)),
)]
pub(super) async fn migrate(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: Asked,
    body: Bytes,
) -> Result<Json<Migrated>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let Given { migrations } = json::parse(&body)?;
    let migrations = migrations::ordered(migrations)?;
    let databases = state.app.platform.databases.clone();
    // Goes on when the client stops waiting, so that a list is not left in the middle.
    let count = migrations.len();
    let run = async move { migrations::run(&databases, &namespace, &migrations).await };
    let applied = tokio::spawn(run).await.map_err(ApiError::internal)??;
    Ok(Json(Migrated { present: count - applied.len(), applied }))
}

#[derive(Serialize, ToSchema)]
#[schema(as = AppliedMigration)]
struct AppliedObject {
    name: String,
    #[schema(format = DateTime)]
    applied_at: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct AppliedMigrations {
    migrations: Vec<AppliedObject>,
    count: usize,
}

/// Lists the migrations that ran.
#[utoipa::path(
    get, path = "/v1/db/migrations", operation_id = "listMigrations", tag = "database",
    security(("key" = ["deploy"])),
    params(NamespaceQuery),
    responses((status = 200, body = AppliedMigrations), (status = 422), (status = 504)),
)]
pub(super) async fn migrations(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: Asked,
) -> Result<Json<AppliedMigrations>, ApiError> {
    let namespace = state.namespace(&credential, Action::Read, query(asked)?.namespace.as_deref()).await?;
    let applied = migrations::applied(&state.app.platform.databases, &namespace).await?;
    let object = |applied: migrations::Applied| AppliedObject {
        name: applied.name,
        applied_at: rfc3339(applied.applied_ms),
    };
    let migrations: Vec<_> = applied.into_iter().map(object).collect();
    Ok(Json(AppliedMigrations { count: migrations.len(), migrations }))
}
