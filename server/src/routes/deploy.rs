//! `POST /v1/functions`: a new version of a function.

use super::cleaning::clean;
use super::form::DeployForm;
use super::functions::FunctionObject;
use super::target::{NamespaceQuery, query};
use super::{App, State as AppState, blocking};
use crate::auth::{Action, Credential};
use crate::backend::blob::{BlobError, cid};
use crate::backend::replica::ReplicaError;
use crate::error::ApiError;
use crate::modules::{PrepareError, Prepared};
use crate::registry::{ModuleRef, NewVersion, RegistryError};
use crate::storage::confirm;
use axum::extract::multipart::MultipartRejection;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Multipart, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use orama_runtime::function::FunctionVersion;
use orama_runtime::names::Namespace;
use serde::Serialize;
use std::sync::Arc;
use tracing::Instrument;

#[derive(Serialize)]
struct Deployed {
    message: String,
    function: FunctionObject,
    /// Whether the module had to be compiled; `false` when its code was known.
    compiled: bool,
}

pub(super) async fn deploy(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<NamespaceQuery>, QueryRejection>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, ApiError> {
    // Before the form is read: whoever may not deploy need not send a module to hear so.
    credential.require(Action::Deploy)?;
    let asked = query(asked)?.namespace;
    let form = form.map_err(|e| {
        ApiError::bad_request(
            "INVALID_FORM",
            format!("a deploy is a multipart/form-data request: {}", e.body_text()),
        )
    })?;
    let form = DeployForm::read(form).await?;
    if let (Some(field), Some(parameter)) = (&form.namespace, &asked)
        && field != parameter
    {
        return Err(ApiError::invalid_config("the form's `namespace` and the query's differ"));
    }
    let requested = form.namespace.as_deref().or(asked.as_deref());
    let namespace = state.namespace(&credential, Action::Deploy, requested).await?;
    let app = Arc::clone(&state.app);
    // A task of its own: a client that leaves does not stop a deploy halfway.
    let deploying = tokio::spawn(run(Arc::clone(&app), namespace, form).in_current_span());
    let (function, compiled) = deploying.await.map_err(|e| ApiError::internal(&e))??;
    let message = format!("function {:?} deployed as version {}", function.name.as_str(), function.version);
    let body = Deployed { message, function: FunctionObject::new(&function, &app.start_notes), compiled };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Makes the module runnable, stores it, and then names it in the registry. A crash in between leaves at most a module
/// that nothing names, which the next start removes.
///
/// From before the first step until after the last the module is held, so that a delete that takes its last other
/// user away meanwhile leaves it alone.
async fn run(
    app: Arc<App>,
    namespace: Namespace,
    form: DeployForm,
) -> Result<(Arc<FunctionVersion>, bool), ApiError> {
    let (blobs, wasm) = (app.blobs.clone(), form.wasm.clone());
    let (wasm_cid, hold) = blocking(move || {
        let cid = cid::of(&wasm);
        let hold = blobs.holds().hold(&cid);
        Ok((cid, hold))
    })
    .await?;
    let prepared = app.modules.prepare(&namespace, form.wasm.clone(), form.memory_limit_mb).await;
    let Prepared { wasm_hash, compiled } = prepared.map_err(|e| match e {
        PrepareError::Invalid(message) => ApiError::invalid_module(message),
        PrepareError::Busy => ApiError::overloaded(e.to_string()),
        PrepareError::Internal(cause) => ApiError::internal(&cause),
    })?;
    let storing = Arc::clone(&app.storing).acquire_owned().await.map_err(|e| ApiError::internal(&e))?;
    blocking(move || {
        let mut may_come = false;
        let stored = app.blobs.put_as(&wasm_cid, &form.wasm).map_err(not_stored);
        let result = stored.and_then(|()| {
            let new = NewVersion {
                namespace,
                name: form.name,
                wasm_hash,
                wasm_cid: wasm_cid.clone(),
                memory_limit_mb: form.memory_limit_mb,
                timeout_seconds: form.timeout_seconds,
                is_public: form.is_public,
                retry_count: form.retry_count,
                retry_delay_seconds: form.retry_delay_seconds,
                start: form.start,
                env: form.env,
            };
            app.registry.deploy(new).map_err(|e| match e {
                _ if matches!(e.unavailable(), Some(ReplicaError::Unknown(_))) => {
                    may_come = true;
                    e.into()
                }
                RegistryError::NoNamespace(name) => ApiError::namespace_not_found(&name),
                RegistryError::NoVersionsLeft(_) => {
                    ApiError::new(StatusCode::CONFLICT, "NO_VERSIONS_LEFT", e.to_string())
                }
                _ => e.into(),
            })
        });
        if result.is_ok() {
            confirm(&*app.blobs, &wasm_cid);
            app.modules.note_came(ModuleRef { wasm_hash, wasm_cid: wasm_cid.clone() });
        }
        drop(hold);
        // Also what was deleted again meanwhile, and left alone because it was held. What may still be named is looked at later.
        if !may_come {
            clean(&app, &ModuleRef { wasm_hash, wasm_cid });
        }
        drop(storing);
        result.map(|function| (function, compiled))
    })
    .await
}

fn not_stored(error: BlobError) -> ApiError {
    match error {
        BlobError::Unavailable(_) => {
            tracing::warn!(%error, "a module could not be stored");
            ApiError::unavailable(
                "the module cannot be stored now, as the blob store does not answer; nothing was deployed",
            )
        }
        error => ApiError::internal(&error),
    }
}
