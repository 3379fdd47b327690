//! `POST /v1/functions`: a new version of a function.

use super::access::not_for;
use super::form::DeployForm;
use super::functions::FunctionObject;
use super::target::{NamespaceQuery, query};
use super::{State as AppState, blocking};
use crate::error::ApiError;
use axum::extract::multipart::MultipartRejection;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Multipart, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::deploy::{self, NewFunction};
use orama_platform::quotas::Usage;
use orama_platform::registry::{Origin, VersionSettings};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
struct Deployed {
    message: String,
    function: FunctionObject,
    /// Whether the module was compiled; `false` if the node had its artifact.
    compiled: bool,
    /// The version that the function's name stands for, where that is not this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<u32>,
    /// Quotas that are nearly used up, and what is live instead of the new version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Deploys a new version of a function.
///
/// The answer comes when the module was compiled and the version is on disk.
#[utoipa::path(
    post, path = "/v1/functions", operation_id = "deploy", tag = "functions",
    security(("key" = ["deploy"])),
    params(NamespaceQuery),
    request_body(content = ref("#/components/schemas/DeployForm"), content_type = "multipart/form-data"),
    responses((status = 201, body = Deployed), (status = 409), (status = 422), (status = 504), (status = 507)),
)]
pub(super) async fn deploy(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<NamespaceQuery>, QueryRejection>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, ApiError> {
    // Before the form is read, so that a refused client need not send its module.
    credential.require(Action::Deploy)?;
    let asked = query(asked)?.namespace;
    let form = form.map_err(|e| {
        ApiError::bad_request(
            "INVALID_FORM",
            format!("a deploy must be a multipart/form-data request: {}", e.body_text()),
        )
    })?;
    let form = DeployForm::read(form).await?;
    audit::is_about(form.name.as_str());
    if let (Some(field), Some(parameter)) = (&form.namespace, &asked)
        && field != parameter
    {
        return Err(ApiError::invalid_config(
            "the field `namespace` and the query parameter `namespace` differ; send one of them",
        ));
    }
    let requested = form.namespace.as_deref().or(asked.as_deref());
    let namespace = state.namespace(&credential, Action::Deploy, requested).await?;
    if !credential.is_for(form.name.as_str())
        || (credential.functions.is_some() && !form.migrations.is_empty())
    {
        return Err(not_for(&credential));
    }
    let DeployForm { wasm, name, settings, triggers, alias, source, migrations, .. } = form;
    let platform = &state.app.platform;
    let (registry, of, function) = (platform.registry.clone(), namespace.clone(), name.clone());
    let settings = blocking(move || {
        let last = registry.function(&of, &function, None)?;
        settings.after(&last.as_deref().map_or_else(VersionSettings::default, VersionSettings::from))
    })
    .await?;
    let origin = Origin { source, ..origin_of(&credential) };
    let new = NewFunction { namespace, name, wasm, settings, triggers, alias, origin, migrations };
    let deployed = deploy::deploy(Arc::clone(platform), new).await?;
    let function = &deployed.function;
    let message = format!("function {:?} deployed as version {}", function.name.as_str(), function.version);
    let live = Some(deployed.live).filter(|live| *live != function.version);
    let mut warnings: Vec<_> = deployed.near.iter().map(Usage::warning).collect();
    warnings.extend(not_live(function.version, deployed.live, deployed.is_spread));
    let function = FunctionObject::new(function, &platform.start_notes);
    let answer = Deployed { message, function, compiled: deployed.compiled, live, warnings };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// Who made a version, by the credential of the request.
pub(super) fn origin_of(credential: &Credential) -> Origin {
    let key_id = Some(credential.key_id.clone()).filter(|id| !id.is_empty());
    let subject = credential.caller.as_ref().map(|_| credential.shown.to_string());
    Origin { key_id, subject, ..Origin::default() }
}

/// What a client is told of a new version that the function's name does not stand for.
pub(super) fn not_live(version: u32, live: u32, is_spread: bool) -> Option<String> {
    if is_spread {
        return Some(format!(
            "calls of the name are spread by weight, and version {version} has no weight; \
             `orama function traffic` shows and changes that"
        ));
    }
    (live != version).then(|| {
        format!("version {live} stays live, as the alias `live` is set to it; `orama function aliases set` changes that")
    })
}
