//! Dead letters of a function: list, replay, delete.

use super::functions::must_exist;
use super::functions::rfc3339;
use super::openapi::{OfFunction, OfFunctionPart, dead_letters_limit};
use super::target::{NamespaceQuery, PathName, Target, query};
use super::triggers::{PathPair, pair};
use super::{State as AppState, blocking};
use crate::error::ApiError;
use crate::limits::DEAD_LETTERS_LIMIT;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use orama_platform::auth::{Action, Credential};
use orama_platform::events::DeadLetter;
use orama_runtime::names::{FunctionName, Namespace};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// The namespace to act in: the credential's own unless an operator names another one.
    namespace: Option<String>,
    /// How many dead letters to answer with.
    #[param(schema_with = dead_letters_limit)]
    limit: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
struct DeadLetterObject {
    id: String,
    message_id: String,
    trigger_id: String,
    topic: String,
    /// What was published.
    #[schema(value_type = Value)]
    data: Box<RawValue>,
    trigger_depth: u32,
    attempts: u32,
    error: String,
    request_id: String,
    #[schema(format = DateTime)]
    published_at: String,
    #[schema(format = DateTime)]
    failed_at: String,
}

impl DeadLetterObject {
    fn new(letter: DeadLetter) -> Result<Self, ApiError> {
        Ok(Self {
            id: letter.id,
            message_id: letter.message_id,
            trigger_id: letter.trigger_id,
            topic: letter.topic,
            data: RawValue::from_string(letter.data).map_err(ApiError::internal)?,
            trigger_depth: letter.trigger_depth,
            attempts: letter.attempts,
            error: letter.error,
            request_id: letter.request_id,
            published_at: rfc3339(letter.published_at_ms),
            failed_at: rfc3339(letter.failed_at_ms),
        })
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetters {
    dead_letters: Vec<DeadLetterObject>,
    count: usize,
}

/// Lists the events that a function failed to handle, newest first.
#[utoipa::path(
    get, path = "/v1/functions/{name}/dead-letters", operation_id = "listDeadLetters", tag = "dead letters",
    security(("key" = ["deploy"])),
    params(OfFunction, ListQuery),
    responses((status = 200, body = DeadLetters)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<DeadLetters>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let limit = limit(asked.limit.as_deref())?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        must_exist(&app, &namespace, &name)?;
        let found = app.platform.events.dead_letters(&namespace, &name, limit).map_err(ApiError::internal)?;
        let dead_letters = found.into_iter().map(DeadLetterObject::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Json(DeadLetters { count: dead_letters.len(), dead_letters }))
    })
    .await
}

fn limit(given: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = given else { return Ok(DEAD_LETTERS_LIMIT.default) };
    let number = text.parse().map_err(|_| format!("limit: expected a whole number, got {text:?}"));
    number
        .and_then(|number| DEAD_LETTERS_LIMIT.check(number))
        .map_err(|message| ApiError::bad_request("INVALID_QUERY", message))
}

fn not_found(name: &FunctionName) -> ApiError {
    let message = format!("function {:?} has no dead letter with this id in this namespace", name.as_str());
    ApiError::new(StatusCode::NOT_FOUND, "DEAD_LETTER_NOT_FOUND", message)
}

#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    message: String,
    replayed: usize,
}

/// Runs all dead letters of a function again.
#[utoipa::path(
    post, path = "/v1/functions/{name}/dead-letters/replay", operation_id = "replayDeadLetters", tag = "dead letters",
    security(("key" = ["deploy"])),
    params(OfFunction, NamespaceQuery),
    responses((status = 202, body = Replayed)),
)]
pub(super) async fn replay_all(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    replay(&state, namespace, name, None).await
}

/// Runs a dead letter again.
#[utoipa::path(
    post, path = "/v1/functions/{name}/dead-letters/{id}/replay", operation_id = "replayDeadLetter", tag = "dead letters",
    security(("key" = ["deploy"])),
    params(OfFunctionPart, NamespaceQuery),
    responses((status = 202, body = Replayed)),
)]
pub(super) async fn replay_one(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, id) = pair(path)?;
    replay(&state, namespace, name, Some(id)).await
}

async fn replay(
    state: &AppState,
    namespace: Namespace,
    name: FunctionName,
    id: Option<String>,
) -> Result<(StatusCode, Json<Replayed>), ApiError> {
    let app = Arc::clone(&state.app);
    blocking(move || {
        must_exist(&app, &namespace, &name)?;
        let replayed = app.platform.events.replay(&namespace, &name, id.as_deref())?;
        if id.is_some() && replayed == 0 {
            return Err(not_found(&name));
        }
        let message = format!("replayed {replayed} dead letters of function {:?}", name.as_str());
        Ok((StatusCode::ACCEPTED, Json(Replayed { message, replayed })))
    })
    .await
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterDeleted)]
pub(super) struct Deleted {
    message: String,
    id: String,
}

/// Deletes a dead letter.
#[utoipa::path(
    delete, path = "/v1/functions/{name}/dead-letters/{id}", operation_id = "deleteDeadLetter", tag = "dead letters",
    security(("key" = ["deploy"])),
    params(OfFunctionPart, NamespaceQuery),
    responses((status = 200, body = Deleted)),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
) -> Result<Json<Deleted>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, id) = pair(path)?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        must_exist(&app, &namespace, &name)?;
        let deleted = app.platform.events.delete_dead_letter(&namespace, &name, &id);
        if !deleted? {
            return Err(not_found(&name));
        }
        Ok(Json(Deleted { message: format!("dead letter {id:?} deleted"), id }))
    })
    .await
}
