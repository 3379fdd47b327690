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

#[derive(Serialize)]
pub(super) struct Who {
    namespace: String,
    role: &'static str,
    /// The API key; null for a token alone.
    key: Option<KeyWho>,
    /// The token's subject; null for a key alone.
    subject: Option<String>,
}

#[derive(Serialize)]
struct KeyWho {
    id: String,
    name: Option<String>,
    expires_at: Option<String>,
    /// The functions that it is for; null for all.
    functions: Option<Vec<String>>,
}

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
