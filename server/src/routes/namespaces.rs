//! Namespaces: create, list, delete. For operators only.

use super::functions::rfc3339;
use super::openapi::{OfNamespace, PageOfAllQuery, name};
use super::page::{NoQuery, PageQuery};
use super::target::{PathName, path_text, query};
use super::{State as AppState, blocking, json};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::namespaces::{self, Deletion};
use orama_platform::registry::NamespaceEntry;
use orama_runtime::names::Namespace;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

type Caller = Extension<Arc<Credential>>;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewNamespace {
    #[schema(schema_with = name)]
    name: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Namespace)]
pub(super) struct NamespaceObject {
    name: String,
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<NamespaceEntry> for NamespaceObject {
    fn from(entry: NamespaceEntry) -> Self {
        Self { name: entry.name.to_string(), created_at: rfc3339(entry.created_at_ms) }
    }
}

/// Creates a namespace.
#[utoipa::path(
    post, path = "/v1/namespaces", operation_id = "createNamespace", tag = "namespaces",
    security(("key" = ["operator"])),
    request_body = NewNamespace,
    responses((status = 201, body = NamespaceObject), (status = 409)),
)]
pub(super) async fn create(
    State(state): State<AppState>,
    Extension(credential): Caller,
    _: NoQuery,
    body: Bytes,
) -> Result<(StatusCode, Json<NamespaceObject>), ApiError> {
    credential.require(Action::Operate)?;
    let NewNamespace { name } = json::parse(&body)?;
    let namespace = Namespace::new(&name)?;
    audit::is_about(&name);
    audit::acts_in(&namespace);
    let platform = Arc::clone(&state.app.platform);
    let made = blocking(move || Ok(namespaces::create(&platform, &namespace)?)).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

#[derive(Serialize, ToSchema)]
pub(super) struct Namespaces {
    namespaces: Vec<NamespaceObject>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists all namespaces, by name.
#[utoipa::path(
    get, path = "/v1/namespaces", operation_id = "listNamespaces", tag = "namespaces",
    security(("key" = ["operator"])),
    params(PageOfAllQuery),
    responses((status = 200, body = Namespaces)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Namespaces>, ApiError> {
    credential.require(Action::Operate)?;
    let asked = query(asked)?;
    if asked.namespace.is_some() {
        return Err(ApiError::bad_request(
            "INVALID_QUERY",
            "this path lists all namespaces; leave out the parameter `namespace`",
        ));
    }
    let (page, registry) = (asked.page()?, state.app.platform.registry.clone());
    let (found, next) = blocking(move || {
        let found = registry.namespaces(&page.after, page.to_read())?;
        Ok(page.cut(found, |entry| entry.name.to_string()))
    })
    .await?;
    let namespaces = found.into_iter().map(NamespaceObject::from).collect::<Vec<_>>();
    Ok(Json(Namespaces { count: namespaces.len(), namespaces, next }))
}

#[derive(Serialize, ToSchema)]
#[schema(as = NamespaceDeleted)]
struct Deleted {
    message: String,
    name: String,
}

/// Deletes a namespace and everything in it.
///
/// Keys and functions are deleted when it answers, and so are the data unless an invocation is still running.
#[utoipa::path(
    delete, path = "/v1/namespaces/{name}", operation_id = "deleteNamespace", tag = "namespaces",
    security(("key" = ["operator"])),
    params(OfNamespace),
    responses((status = 200, body = Deleted), (status = 202, body = Deleted, description = "Something still runs there; the data follow when it has ended."), (status = 409)),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    _: NoQuery,
) -> Result<Response, ApiError> {
    credential.require(Action::Operate)?;
    let name = path_text(path)?;
    let namespace = Namespace::new(&name)?;
    if namespace == credential.namespace {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "NAMESPACE_IN_USE",
            format!("namespace {name:?} is the namespace of the key in use; use a key of another namespace"),
        ));
    }
    audit::acts_in(&namespace);
    let (status, message) = match namespaces::delete(Arc::clone(&state.app.platform), namespace).await? {
        Deletion::Done => (StatusCode::OK, format!("namespace {name:?} and everything in it deleted")),
        Deletion::UnderWay => (
            StatusCode::ACCEPTED,
            format!(
                "namespace {name:?} deleted; its keys and functions are gone, and its data follow when what still \
                 runs there has ended"
            ),
        ),
    };
    Ok((status, Json(Deleted { message, name })).into_response())
}
