//! `GET /v1/whoami`: what a credential is and may do.

use super::functions::rfc3339;
use super::page::NoQuery;
use super::{State as AppState, blocking};
use crate::error::ApiError;
use axum::extract::State;
use axum::{Extension, Json};
use orama_platform::auth::Credential;
use orama_runtime::names::FunctionName;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Who {
    namespace: String,
    role: &'static str,
    /// The API key; null for a token alone.
    #[schema(required = true)]
    key: Option<KeyWho>,
    /// The token's subject; null for a key alone.
    #[schema(required = true)]
    subject: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = WhoKey)]
struct KeyWho {
    id: String,
    #[schema(required = true)]
    name: Option<String>,
    #[schema(required = true, format = DateTime)]
    expires_at: Option<String>,
    /// The functions that it is for; null for all.
    #[schema(required = true)]
    functions: Option<Vec<String>>,
}

/// Tells what the credential of the request is.
#[utoipa::path(
    get, path = "/v1/whoami", operation_id = "whoami", tag = "keys",
    security(("key" = [])),
    responses((status = 200, body = Who)),
)]
pub(super) async fn whoami(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    _: NoQuery,
) -> Result<Json<Who>, ApiError> {
    let registry = state.app.platform.registry.clone();
    blocking(move || {
        let key = if credential.key_id.is_empty() { None } else { registry.key(&credential.key_id)? };
        let key = key.map(|key| KeyWho {
            id: key.id,
            name: key.name,
            expires_at: key.expires_at_ms.map(rfc3339),
            functions: key.functions.map(|functions| functions.iter().map(FunctionName::to_string).collect()),
        });
        Ok(Json(Who {
            namespace: credential.namespace.to_string(),
            role: credential.role.as_str(),
            key,
            subject: credential.caller.as_ref().map(|caller| caller.subject.clone()),
        }))
    })
    .await
}
