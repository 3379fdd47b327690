//! API keys: create, list, delete.

use super::functions::rfc3339;
use super::openapi::OfKey;
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
use jiff::Timestamp;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential, Role};
use orama_platform::limits::{KEY_FUNCTIONS_MAX, KEY_NAME_MAX};
use orama_platform::registry::{KeyEntry, NewKey, RegistryError};
use orama_runtime::names::FunctionName;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey)]
struct Given {
    /// The credential's own unless an operator names another one.
    namespace: Option<String>,
    /// `admin`, `deploy` or `invoke`.
    role: String,
    /// What it is called.
    #[schema(min_length = 1, max_length = 64)]
    name: Option<String>,
    /// From when on it is refused.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The functions that it is for; not for keys of the role admin.
    #[schema(min_items = 1, max_items = 100)]
    functions: Option<Vec<String>>,
}

/// The only answer that contains a key.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedKey)]
struct Created {
    id: String,
    /// The key itself.
    api_key: String,
    namespace: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<Vec<String>>,
}

/// # Errors
/// 400 for a name that is empty or too long, or that has control characters.
fn key_name(name: String) -> Result<String, ApiError> {
    let length = name.chars().count();
    if length == 0 || length > KEY_NAME_MAX || name.chars().any(char::is_control) {
        let message = format!("`name` has 1 to {KEY_NAME_MAX} characters, none of them a control character");
        return Err(ApiError::bad_request("INVALID_BODY", message));
    }
    Ok(name)
}

/// # Errors
/// 400 for what is no time, or is past.
fn expiry(text: &str) -> Result<Timestamp, ApiError> {
    let at: Option<Timestamp> = text.parse().ok();
    at.filter(|at| *at > Timestamp::now()).ok_or_else(|| {
        let message = "`expires_at` must be a time in the future, such as 2027-01-01T00:00:00Z";
        ApiError::bad_request("INVALID_BODY", message)
    })
}

/// # Errors
/// 400 for a list that cannot be one, and for a role that reaches beyond functions.
fn functions_of(names: Vec<String>, role: Role) -> Result<Vec<FunctionName>, ApiError> {
    let refused = |message: String| ApiError::bad_request("INVALID_BODY", message);
    if role.allows(Action::ManageKeys) {
        return Err(refused(
            "`functions`: only keys of the roles deploy and invoke can be narrowed".to_owned(),
        ));
    }
    if names.is_empty() || names.len() > KEY_FUNCTIONS_MAX {
        return Err(refused(format!("`functions` has 1 to {KEY_FUNCTIONS_MAX} names")));
    }
    let name = |name: &String| FunctionName::new(name).map_err(|e| refused(format!("`functions`: {e}")));
    names.iter().map(name).collect()
}

/// Creates an API key.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "createKey", tag = "keys",
    security(("key" = ["admin"])),
    params(NamespaceQuery),
    request_body = Given,
    responses((status = 201, body = Created), (status = 409)),
)]
pub(super) async fn create(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Bytes,
) -> Result<Response, ApiError> {
    credential.require(Action::ManageKeys)?;
    let asked = query(asked)?.namespace;
    let Given { namespace, role, name, expires_at, functions } = json::parse(&body)?;
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
    let name = name.map(key_name).transpose()?;
    let functions = functions.map(|functions| functions_of(functions, role)).transpose()?;
    let expires_at = expires_at.as_deref().map(expiry).transpose()?;
    let requested = namespace.or(asked);
    let namespace = state.namespace(&credential, Action::ManageKeys, requested.as_deref()).await?;
    let registry = state.app.platform.registry.clone();
    let created = blocking(move || {
        let expires_at_ms = expires_at.map(Timestamp::as_millisecond);
        let new = NewKey { namespace: namespace.clone(), role, name, expires_at_ms, functions };
        let (id, key) = registry.create_key_as(&new).map_err(|error| match error {
            RegistryError::NoNamespace(name) => ApiError::namespace_not_found(&name),
            RegistryError::TooManyKeys(_) => {
                ApiError::new(StatusCode::CONFLICT, "TOO_MANY_KEYS", error.to_string())
            }
            _ => error.into(),
        })?;
        let api_key = key.reveal().to_owned();
        let NewKey { name, functions, .. } = new;
        Ok(Created {
            id,
            api_key,
            namespace: namespace.to_string(),
            role: role.as_str(),
            name,
            expires_at: expires_at_ms.map(rfc3339),
            functions: functions.map(|functions| functions.iter().map(FunctionName::to_string).collect()),
        })
    })
    .await?;
    let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, no_store, Json(created)).into_response())
}

#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyObject {
    id: String,
    namespace: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Exact to an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<Vec<String>>,
    /// Set only on the key that the request used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    current: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<KeyObject>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the API keys of a namespace, oldest first.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "listKeys", tag = "keys",
    security(("key" = ["admin"])),
    params(PageQuery),
    responses((status = 200, body = Keys)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Keys>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::ManageKeys, asked.namespace.as_deref()).await?;
    let (page, app) = (asked.page()?, Arc::clone(&state.app));
    let (found, next) = blocking(move || {
        app.platform.authority.write_uses();
        page.of_all(app.platform.registry.keys(&namespace)?, |key| key.id.clone())
    })
    .await?;
    let object =
        |KeyEntry { id, namespace, role, created_at_ms, name, expires_at_ms, functions, last_used_ms }| {
            KeyObject {
                current: id == credential.key_id,
                id,
                namespace: namespace.to_string(),
                role: role.as_str(),
                name,
                created_at: rfc3339(created_at_ms),
                expires_at: expires_at_ms.map(rfc3339),
                last_used_at: last_used_ms.map(rfc3339),
                functions: functions.map(|functions| functions.iter().map(FunctionName::to_string).collect()),
            }
        };
    Ok(Json(Keys { count: found.len(), keys: found.into_iter().map(object).collect(), next }))
}

#[derive(Serialize, ToSchema)]
#[schema(as = KeyDeleted)]
pub(super) struct Deleted {
    message: String,
    id: String,
}

/// Deletes an API key, which is refused from then on.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", operation_id = "deleteKey", tag = "keys",
    security(("key" = ["admin"])),
    params(OfKey, NamespaceQuery),
    responses((status = 200, body = Deleted), (status = 409)),
)]
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
        audit::acts_in(&key.namespace);
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
