//! Aliases of a function: names that stand for one of its versions.

use super::form::alias as alias_name;
use super::functions::rfc3339;
use super::openapi::{OfAlias, OfFunction};
use super::target::{NamespaceQuery, PathName, Target, query};
use super::triggers::PathPair;
use super::{State as AppState, blocking, json};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::registry::{Alias, Which};
use orama_runtime::names::{AliasName, FunctionName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;

#[derive(Serialize, ToSchema)]
#[schema(as = Alias)]
pub(super) struct AliasObject {
    alias: String,
    version: u32,
    /// When it was set; null for a `live` that is not, so that it follows the newest version.
    #[schema(required = true, format = DateTime)]
    set_at: Option<String>,
}

impl From<Alias> for AliasObject {
    fn from(alias: Alias) -> Self {
        let set_at = alias.set_at_ms.map(rfc3339);
        Self { alias: alias.name.to_string(), version: alias.version, set_at }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Aliases {
    aliases: Vec<AliasObject>,
    count: usize,
}

/// Lists the aliases of a function.
#[utoipa::path(
    get, path = "/v1/functions/{name}/aliases", operation_id = "listAliases", tag = "versions",
    security(("key" = ["deploy"])),
    params(OfFunction, NamespaceQuery),
    responses((status = 200, body = Aliases)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
) -> Result<Json<Aliases>, ApiError> {
    let namespace = state.namespace(&credential, Action::Read, query(asked)?.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let registry = state.app.platform.registry.clone();
    blocking(move || {
        let found = registry.aliases(&namespace, &name)?;
        let found = found.ok_or_else(|| ApiError::function_not_found(name.as_str(), &Which::Live))?;
        let aliases: Vec<AliasObject> = found.into_iter().map(AliasObject::from).collect();
        Ok(Json(Aliases { count: aliases.len(), aliases }))
    })
    .await
}

/// Shows an alias.
#[utoipa::path(
    get, path = "/v1/functions/{name}/aliases/{alias}", operation_id = "getAlias", tag = "versions",
    security(("key" = ["deploy"])),
    params(OfAlias, NamespaceQuery),
    responses((status = 200, body = AliasObject), (status = 422)),
)]
pub(super) async fn get(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
) -> Result<Json<AliasObject>, ApiError> {
    let namespace = state.namespace(&credential, Action::Read, query(asked)?.namespace.as_deref()).await?;
    let (name, alias) = of_path(path)?;
    let registry = state.app.platform.registry.clone();
    blocking(move || {
        let found = registry.aliases(&namespace, &name)?;
        let found = found.ok_or_else(|| ApiError::function_not_found(name.as_str(), &Which::Live))?;
        let found = found.into_iter().find(|found| found.name == alias);
        found.map(|found| Json(found.into())).ok_or_else(|| not_found(&name, &alias))
    })
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AliasSetting)]
struct Given {
    version: u32,
}

/// Makes an alias stand for a version.
#[utoipa::path(
    put, path = "/v1/functions/{name}/aliases/{alias}", operation_id = "setAlias", tag = "versions",
    security(("key" = ["deploy"])),
    params(OfAlias, NamespaceQuery),
    request_body = Given,
    responses((status = 200, body = AliasObject), (status = 409), (status = 422)),
)]
pub(super) async fn set(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
    body: Bytes,
) -> Result<Json<AliasObject>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, alias) = of_path(path)?;
    let Given { version } = json::parse(&body)?;
    audit::is_about(&format!("{name}@{alias} = {version}"));
    let registry = state.app.platform.registry.clone();
    blocking(move || Ok(Json(registry.set_alias(&namespace, &name, &alias, version)?.into()))).await
}

#[derive(Serialize, ToSchema)]
#[schema(as = AliasDeleted)]
pub(super) struct Deleted {
    message: String,
    function: String,
    alias: String,
}

/// Deletes an alias; `live` follows the newest version again.
#[utoipa::path(
    delete, path = "/v1/functions/{name}/aliases/{alias}", operation_id = "deleteAlias", tag = "versions",
    security(("key" = ["deploy"])),
    params(OfAlias, NamespaceQuery),
    responses((status = 200, body = Deleted), (status = 422)),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
) -> Result<Json<Deleted>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, alias) = of_path(path)?;
    let registry = state.app.platform.registry.clone();
    blocking(move || {
        if !registry.delete_alias(&namespace, &name, &alias)? {
            return Err(not_found(&name, &alias));
        }
        let message = format!("alias {:?} of function {:?} deleted", alias.as_str(), name.as_str());
        Ok(Json(Deleted { message, function: name.to_string(), alias: alias.to_string() }))
    })
    .await
}

fn of_path(path: PathPair) -> Result<(FunctionName, AliasName), ApiError> {
    let Path((name, alias)) = path.map_err(|e| ApiError::bad_request("INVALID_NAME", e.body_text()))?;
    Ok((Target::parse(&name)?.without_version()?, alias_name(&alias)?))
}

fn not_found(name: &FunctionName, alias: &AliasName) -> ApiError {
    let message = format!("function {:?} has no alias {:?} that is set", name.as_str(), alias.as_str());
    ApiError::new(StatusCode::NOT_FOUND, "ALIAS_NOT_FOUND", message)
}
