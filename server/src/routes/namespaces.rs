//! Namespaces: make, list, delete. For operators only.

use super::cleaning::clean;
use super::deletion;
use super::functions::rfc3339;
use super::target::{PathName, path_text};
use super::{State as AppState, blocking, json};
use crate::auth::{Action, Credential};
use crate::error::ApiError;
use crate::registry::{NamespaceEntry, RegistryError};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use orama_runtime::limits::NAMESPACE_DELETION_PATIENCE;
use orama_runtime::names::Namespace;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

type Caller = Extension<Arc<Credential>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNamespace {
    name: String,
}

#[derive(Serialize)]
pub(super) struct NamespaceObject {
    name: String,
    created_at: String,
}

impl From<NamespaceEntry> for NamespaceObject {
    fn from(entry: NamespaceEntry) -> Self {
        Self { name: entry.name.to_string(), created_at: rfc3339(entry.created_at_ms) }
    }
}

pub(super) async fn create(
    State(state): State<AppState>,
    Extension(credential): Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<NamespaceObject>), ApiError> {
    credential.require(Action::Operate)?;
    let NewNamespace { name } = json::parse(&body)?;
    let namespace = Namespace::new(&name)?;
    let registry = state.app.registry.clone();
    let conflict = |code, message| ApiError::new(StatusCode::CONFLICT, code, message);
    let made = blocking(move || match registry.create_namespace(&namespace) {
        Ok(Some(made)) => Ok(made),
        Ok(None) => Err(conflict("NAMESPACE_EXISTS", format!("there is a namespace {name:?} already"))),
        Err(error @ RegistryError::BeingDeleted(_)) => {
            Err(conflict("NAMESPACE_BEING_DELETED", error.to_string()))
        }
        Err(error) => Err(error.into()),
    });
    Ok((StatusCode::CREATED, Json(made.await?.into())))
}

#[derive(Serialize)]
pub(super) struct Namespaces {
    namespaces: Vec<NamespaceObject>,
    count: usize,
}

pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Caller,
) -> Result<Json<Namespaces>, ApiError> {
    credential.require(Action::Operate)?;
    let registry = state.app.registry.clone();
    let found = blocking(move || registry.namespaces().map_err(|e| ApiError::internal(&e))).await?;
    Ok(Json(Namespaces { count: found.len(), namespaces: found.into_iter().map(Into::into).collect() }))
}

#[derive(Serialize)]
struct Deleted {
    message: String,
    name: String,
}

/// Keys and functions are gone when this answers, and the data too, unless an invocation is still under way there.
pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
) -> Result<Response, ApiError> {
    credential.require(Action::Operate)?;
    let name = path_text(path)?;
    let namespace = Namespace::new(&name)?;
    if namespace == credential.namespace {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "NAMESPACE_IN_USE",
            format!("namespace {name:?} is that of the key in use; it cannot delete itself"),
        ));
    }
    let (app, deleted) = (Arc::clone(&state.app), namespace.clone());
    blocking(move || {
        let begun = app.registry.begin_namespace_deletion(&deleted)?;
        let modules = begun.ok_or_else(|| ApiError::namespace_not_found(deleted.as_str()))?;
        for module in &modules {
            clean(&app, module);
        }
        Ok(())
    })
    .await?;
    // A task of its own: it goes on when this client leaves.
    let rest = tokio::spawn(deletion::finish(Arc::clone(&state.app), namespace));
    let (status, message) = match tokio::time::timeout(NAMESPACE_DELETION_PATIENCE, rest).await {
        Ok(Ok(())) => (StatusCode::OK, format!("namespace {name:?} and everything in it deleted")),
        Ok(Err(error)) => return Err(ApiError::internal(&error)),
        Err(_) => (
            StatusCode::ACCEPTED,
            format!(
                "namespace {name:?} deleted; its keys and functions are gone, and its data follow when what still \
                 runs there has ended"
            ),
        ),
    };
    Ok((status, Json(Deleted { message, name })).into_response())
}
