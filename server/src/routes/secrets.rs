//! Secrets: set, list, delete, and the rotation of the master key. No answer and no error contains a value.

use super::openapi::{OfSecret, name};
use super::page::{NoQuery, PageQuery};
use super::target::{NamespaceQuery, PathName, path_text, query};
use super::{State as AppState, blocking, json};
use crate::error::ApiError;
use crate::limits::SECRET_VALUE_MAX_BYTES;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::registry::RegistryError;
use orama_platform::secrets::SecretsError;
use orama_runtime::limits::SECRET_NAME_MAX_BYTES;
use orama_runtime::names::SecretName;
use orama_runtime::services::SecretValue;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;

// Fields are of any type, so that the error can name the one with a wrong type.
/// A secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSecret)]
struct Given<'a> {
    #[serde(borrow)]
    #[schema(schema_with = name)]
    name: &'a RawValue,
    /// At most 64 KiB.
    #[serde(borrow)]
    #[schema(value_type = String, write_only)]
    value: &'a RawValue,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SecretChanged)]
pub(super) struct Changed {
    message: String,
    name: String,
    namespace: String,
}

/// Sets a secret.
#[utoipa::path(
    put, path = "/v1/functions/secrets", operation_id = "setSecret", tag = "secrets",
    security(("key" = ["deploy"])),
    params(NamespaceQuery),
    request_body = Given,
    responses((status = 200, body = Changed), (status = 409)),
)]
pub(super) async fn set(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: Asked,
    body: Bytes,
) -> Result<Json<Changed>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, value) = parse(&body)?;
    audit::is_about(name.as_str());
    let app = Arc::clone(&state.app);
    blocking(move || {
        app.platform.secrets.set(&namespace, &name, value.reveal()).map_err(|error| match error {
            RegistryError::NoNamespace(name) => ApiError::namespace_not_found(&name),
            RegistryError::TooManySecrets(_) => {
                ApiError::new(StatusCode::CONFLICT, "TOO_MANY_SECRETS", error.to_string())
            }
            error => error.into(),
        })?;
        let message = format!("secret {:?} set", name.as_str());
        Ok(Json(Changed { message, name: name.to_string(), namespace: namespace.to_string() }))
    })
    .await
}

fn parse(body: &[u8]) -> Result<(SecretName, SecretValue), ApiError> {
    let given: Given<'_> = json::parse(body)?;
    let text = |field: &str, raw: &RawValue| json::text(field, raw).map(SecretValue::new);
    let name = secret_name(text("name", given.name)?.reveal())?;
    let value = text("value", given.value)?;
    if value.reveal().len() > SECRET_VALUE_MAX_BYTES {
        return Err(ApiError::too_large("the value of a secret", SECRET_VALUE_MAX_BYTES));
    }
    Ok((name, value))
}

/// Parses a name. The error does not repeat it, because it may be a value that was sent in the wrong field.
fn secret_name(name: &str) -> Result<SecretName, ApiError> {
    SecretName::new(name).map_err(|_| {
        ApiError::bad_request(
            "INVALID_NAME",
            format!(
                "the name of a secret must start with a letter, go on with letters, digits, '-' or '_', and have \
                 at most {SECRET_NAME_MAX_BYTES} characters"
            ),
        )
    })
}

#[derive(Serialize, ToSchema)]
#[schema(as = SecretNames)]
pub(super) struct Names {
    secrets: Vec<String>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the names of secrets; no answer holds a value.
#[utoipa::path(
    get, path = "/v1/functions/secrets", operation_id = "listSecrets", tag = "secrets",
    security(("key" = ["deploy"])),
    params(PageQuery),
    responses((status = 200, body = Names)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Names>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let (page, app) = (asked.page()?, Arc::clone(&state.app));
    let (secrets, next) =
        blocking(move || page.of_all(app.platform.secrets.names(&namespace)?, Clone::clone)).await?;
    Ok(Json(Names { count: secrets.len(), secrets, next }))
}

/// Deletes a secret.
#[utoipa::path(
    delete, path = "/v1/functions/secrets/{name}", operation_id = "deleteSecret", tag = "secrets",
    security(("key" = ["deploy"])),
    params(OfSecret, NamespaceQuery),
    responses((status = 200, body = Changed)),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
) -> Result<Json<Changed>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let name = secret_name(&path_text(path)?)?;
    audit::is_about(name.as_str());
    let app = Arc::clone(&state.app);
    blocking(move || {
        if !app.platform.secrets.delete(&namespace, &name)? {
            let message = format!("there is no secret {:?} in this namespace", name.as_str());
            return Err(ApiError::new(StatusCode::NOT_FOUND, "SECRET_NOT_FOUND", message));
        }
        let message = format!("secret {:?} deleted", name.as_str());
        Ok(Json(Changed { message, name: name.to_string(), namespace: namespace.to_string() }))
    })
    .await
}

#[derive(Serialize, ToSchema)]
#[schema(as = KeyRotated)]
pub(super) struct Rotated {
    message: &'static str,
    key_id: String,
    reencrypted: u64,
    /// Ids of keys that can be removed from the node's environment.
    unneeded_key_ids: Vec<String>,
}

/// Encrypts all secrets of the node with another key.
#[utoipa::path(
    post, path = "/v1/secrets/rotate-key", operation_id = "rotateKey", tag = "secrets",
    security(("key" = ["operator"])),
    responses((status = 200, body = Rotated), (status = 409)),
)]
pub(super) async fn rotate_key(
    State(state): State<AppState>,
    Extension(credential): Caller,
    _: NoQuery,
) -> Result<Json<Rotated>, ApiError> {
    credential.require(Action::Operate)?;
    audit::acts_on_node();
    let app = Arc::clone(&state.app);
    blocking(move || {
        let rotation = app.platform.secrets.rotate().map_err(|error| match error {
            SecretsError::Rotating => {
                ApiError::new(StatusCode::CONFLICT, "ROTATION_UNDER_WAY", error.to_string())
            }
            // Only an operator gets this far, and can act on it.
            SecretsError::Damaged { .. } => {
                ApiError::new(StatusCode::CONFLICT, "SECRETS_DAMAGED", error.to_string())
            }
            SecretsError::Registry(error) => error.into(),
            _ => ApiError::internal(error),
        })?;
        tracing::info!(
            key_id = rotation.key_id,
            reencrypted = rotation.reencrypted,
            "the master key was rotated"
        );
        Ok(Json(Rotated {
            message: if app.platform.secrets.makes_keys() {
                "every secret is encrypted with a new key; the old one was removed from the key file"
            } else {
                "every secret is encrypted with the first key of ORAMA_SECRETS_KEY, or of the file that nodes share; the others can be removed from it"
            },
            key_id: rotation.key_id,
            reencrypted: rotation.reencrypted,
            unneeded_key_ids: rotation.unneeded,
        }))
    })
    .await
}
