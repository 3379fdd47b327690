//! API keys: create, list, delete.

use super::functions::rfc3339;
use super::page::PageQuery;
use super::target::{NamespaceQuery, PathName, path_text, query};
use super::{State as AppState, blocking, json};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use orama_platform::auth::{Action, Credential, Role};
use orama_platform::registry::{KeyEntry, RegistryError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    namespace: Option<String>,
    role: String,
}

/// The only answer that contains a key.
#[derive(Serialize)]
struct Created {
    id: String,
    api_key: String,
    namespace: String,
    role: &'static str,
}

pub(super) async fn create(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Bytes,
) -> Result<Response, ApiError> {
    credential.require(Action::ManageKeys)?;
    let asked = query(asked)?.namespace;
    let NewKey { namespace, role } = json::parse(&body)?;
    if let (Some(field), Some(query)) = (&namespace, &asked)
        && field != query
    {
        return Err(ApiError::bad_request(
            "INVALID_BODY",
            "the body's `namespace` and the query's `namespace` differ; send one of them",
        ));
    }
    let role = match Role::parse(&role) {
        Some(role) if role != Role::Operator => role,
        _ => return Err(ApiError::bad_request("INVALID_ROLE", "role must be admin, deploy or invoke")),
    };
    let requested = namespace.or(asked);
    let namespace = state.namespace(&credential, Action::ManageKeys, requested.as_deref()).await?;
    let registry = state.app.platform.registry.clone();
    let created = blocking(move || {
        let (id, key) = registry.create_key(&namespace, role).map_err(|error| match error {
            RegistryError::NoNamespace(name) => ApiError::namespace_not_found(&name),
            RegistryError::TooManyKeys(_) => {
                ApiError::new(StatusCode::CONFLICT, "TOO_MANY_KEYS", error.to_string())
            }
            _ => error.into(),
        })?;
        let api_key = key.reveal().to_owned();
        Ok(Created { id, api_key, namespace: namespace.to_string(), role: role.as_str() })
    })
    .await?;
    let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, no_store, Json(created)).into_response())
}

#[derive(Serialize)]
struct KeyObject {
    id: String,
    namespace: String,
    role: &'static str,
    created_at: String,
    /// Set only on the key that the request used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    current: bool,
}

#[derive(Serialize)]
pub(super) struct Keys {
    keys: Vec<KeyObject>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Keys>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::ManageKeys, asked.namespace.as_deref()).await?;
    let (page, registry) = (asked.page()?, state.app.platform.registry.clone());
    let (found, next) =
        blocking(move || page.of_all(registry.keys(&namespace)?, |key| key.id.clone())).await?;
    let object = |KeyEntry { id, namespace, role, created_at_ms }| KeyObject {
        current: id == credential.key_id,
        id,
        namespace: namespace.to_string(),
        role: role.as_str(),
        created_at: rfc3339(created_at_ms),
    };
    Ok(Json(Keys { count: found.len(), keys: found.into_iter().map(object).collect(), next }))
}

#[derive(Serialize)]
pub(super) struct Deleted {
    message: String,
    id: String,
}

pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    path: PathName,
    asked: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Json<Deleted>, ApiError> {
    let id = path_text(path)?;
    let asked = query(asked)?.namespace;
    let chosen = asked.is_some();
    let namespace = state.namespace(&credential, Action::ManageKeys, asked.as_deref()).await?;
    let registry = state.app.platform.registry.clone();
    blocking(move || {
        let anywhere = !chosen && credential.role.allows(Action::AnyNamespace);
        let key = registry.key(&id)?;
        let key = key.filter(|key| anywhere || key.namespace == namespace).ok_or_else(not_found)?;
        if key.role == Role::Operator {
            credential.require(Action::Operate)?;
            if key.id == credential.key_id {
                // It could not be undone.
                return Err(ApiError::new(
                    StatusCode::CONFLICT,
                    "KEY_IN_USE",
                    "an operator's key cannot delete itself; use another operator's key",
                ));
            }
        }
        if !registry.delete_key(&key.id)? {
            return Err(not_found());
        }
        Ok(Json(Deleted { message: "the key is deleted and no longer accepted".to_owned(), id: key.id }))
    })
    .await
}

fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "KEY_NOT_FOUND", "there is no key with this id")
}
