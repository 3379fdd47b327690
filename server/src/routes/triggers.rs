//! Triggers of a function: add, list, delete.

use super::page::PageQuery;
use super::target::{NamespaceQuery, PathName, Target, query};
use super::{State as AppState, blocking, json};
use crate::error::ApiError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use orama_platform::auth::{Action, Credential};
use orama_platform::events::check_topic;
use orama_platform::limits::TRIGGERS_MAX;
use orama_platform::registry::AddedTrigger;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;
/// A function's name and an id.
pub(super) type PathPair = Result<Path<(String, String)>, PathRejection>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTrigger<'a> {
    #[serde(borrow)]
    topic: &'a RawValue,
}

/// The topic in a body.
///
/// # Errors
/// 400 with the rule.
pub(super) fn topic(raw: &RawValue) -> Result<String, ApiError> {
    let topic = json::text("topic", raw)?;
    check_topic(&topic).map_err(|error| ApiError::bad_request("INVALID_TOPIC", error.to_string()))?;
    Ok(topic)
}

/// The function's name and the id of a path.
///
/// # Errors
/// 400 for an invalid name or id.
pub(super) fn pair(path: PathPair) -> Result<(orama_runtime::names::FunctionName, String), ApiError> {
    let Path((name, id)) = path.map_err(|e| ApiError::bad_request("INVALID_NAME", e.body_text()))?;
    Ok((Target::parse(&name)?.without_version()?, id))
}

#[derive(Serialize)]
pub(super) struct Added {
    trigger_id: String,
    function: String,
    topic: String,
}

/// Adds a trigger: 201 for a new one, 200 if it exists.
pub(super) async fn add(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
    body: Bytes,
) -> Result<(StatusCode, Json<Added>), ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let topic = topic(json::parse::<NewTrigger<'_>>(&body)?.topic)?;
    let registry = state.app.platform.registry.clone();
    blocking(move || {
        let added = registry.add_trigger(&namespace, &name, &topic)?;
        let (status, trigger) = match added {
            AddedTrigger::New(trigger) => (StatusCode::CREATED, trigger),
            AddedTrigger::Known(trigger) => (StatusCode::OK, trigger),
            AddedTrigger::NoFunction => return Err(ApiError::function_not_found(name.as_str(), None)),
            AddedTrigger::TooMany => {
                let message =
                    format!("function {:?} has {TRIGGERS_MAX} triggers, which is the maximum; delete triggers that are not used", name.as_str());
                return Err(ApiError::new(StatusCode::CONFLICT, "TOO_MANY_TRIGGERS", message));
            }
        };
        let added =
            Added { trigger_id: trigger.id, function: trigger.function.to_string(), topic: trigger.topic };
        Ok((status, Json(added)))
    })
    .await
}

#[derive(Serialize)]
struct TriggerObject {
    id: String,
    kind: &'static str,
    topic: String,
    enabled: bool,
}

#[derive(Serialize)]
pub(super) struct Triggers {
    triggers: Vec<TriggerObject>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Triggers>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let page = asked.page()?;
    let registry = state.app.platform.registry.clone();
    blocking(move || {
        let found = registry.triggers(&namespace, &name)?;
        let found = found.ok_or_else(|| ApiError::function_not_found(name.as_str(), None))?;
        let (found, next) = page.of_all(found, |trigger| trigger.id.clone())?;
        let triggers: Vec<_> = found
            .into_iter()
            .map(|trigger| TriggerObject {
                id: trigger.id,
                kind: "pubsub",
                topic: trigger.topic,
                enabled: true,
            })
            .collect();
        Ok(Json(Triggers { count: triggers.len(), triggers, next }))
    })
    .await
}

#[derive(Serialize)]
pub(super) struct Deleted {
    message: String,
    trigger_id: String,
}

pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
) -> Result<Json<Deleted>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, trigger_id) = pair(path)?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        let deleted = app.platform.registry.delete_trigger(&namespace, &name, &trigger_id);
        if !deleted? {
            let message = format!("function {:?} has no trigger with this id in this namespace", name.as_str());
            return Err(ApiError::new(StatusCode::NOT_FOUND, "TRIGGER_NOT_FOUND", message));
        }
        // The trigger is deleted all the same, and its waiting jobs still run.
        if let Err(error) = app.platform.events.remove_trigger(&namespace, &trigger_id) {
            tracing::error!(%error, %namespace, trigger_id, "the waiting jobs of a deleted trigger could not be removed");
        }
        Ok(Json(Deleted { message: format!("trigger {trigger_id:?} deleted"), trigger_id }))
    })
    .await
}
