//! Quotas of a namespace: what an operator set, and how much is used.

use super::openapi::OfNamespace;
use super::page::NoQuery;
use super::target::{PathName, path_text};
use super::{State as AppState, blocking, json};
use crate::error::ApiError;
use axum::extract::State;
use axum::{Extension, Json};
use bytes::Bytes;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::quotas::{Quota, Usage};
use orama_platform::registry::Registry;
use orama_runtime::names::Namespace;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

type Caller = Extension<Arc<Credential>>;

#[derive(Serialize, ToSchema)]
pub(super) struct Quotas {
    namespace: String,
    /// The bounds that hold.
    quotas: BTreeMap<&'static str, u64>,
    /// Those that an operator set; the others are defaults.
    overrides: BTreeMap<&'static str, u64>,
}

/// Shows the quotas of a namespace.
#[utoipa::path(
    get, path = "/v1/namespaces/{name}/quotas", operation_id = "getQuotas", tag = "namespaces",
    security(("key" = ["admin"])),
    params(OfNamespace),
    responses((status = 200, body = Quotas)),
)]
pub(super) async fn get(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    _: NoQuery,
) -> Result<Json<Quotas>, ApiError> {
    let namespace = of_path(&state, &credential, path, Action::SeeUsage).await?;
    let registry = state.app.platform.registry.clone();
    blocking(move || Ok(Json(read(&registry, &namespace)?))).await
}

/// Replaces everything that was set: what the body does not name has its default again.
#[utoipa::path(
    put, path = "/v1/namespaces/{name}/quotas", operation_id = "setQuotas", tag = "namespaces",
    security(("key" = ["operator"])),
    params(OfNamespace),
    request_body(content = BTreeMap<String, u64>, description = "Limits by the quota's name."),
    responses((status = 200, body = Quotas)),
)]
pub(super) async fn set(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    _: NoQuery,
    body: Bytes,
) -> Result<Json<Quotas>, ApiError> {
    let namespace = of_path(&state, &credential, path, Action::Operate).await?;
    let mut quotas = BTreeMap::new();
    for (name, value) in json::parse::<BTreeMap<String, u64>>(&body)? {
        let quota = Quota::parse(&name).ok_or_else(|| {
            let known = Quota::ALL.map(Quota::name).join(", ");
            ApiError::bad_request(
                "INVALID_BODY",
                format!("there is no quota {name:?}; the quotas are {known}"),
            )
        })?;
        let most = quota.largest_limit();
        if value > most {
            let message = format!("quota `{name}` may be at most {most}");
            return Err(ApiError::bad_request("INVALID_BODY", message));
        }
        quotas.insert(quota, value);
    }
    let set: Vec<_> = quotas.iter().map(|(quota, value)| format!("{}={value}", quota.name())).collect();
    audit::is_about(&set.join(" "));
    let platform = Arc::clone(&state.app.platform);
    blocking(move || {
        platform.registry.set_quotas(&namespace, &quotas)?;
        // Here it holds before the answer; other nodes learn of it within a second.
        platform.bound_databases()?;
        Ok(Json(read(&platform.registry, &namespace)?))
    })
    .await
}

fn read(registry: &Registry, namespace: &Namespace) -> Result<Quotas, ApiError> {
    let set = registry.quotas(namespace)?;
    let limit = |quota: Quota| set.get(&quota).copied().unwrap_or(quota.default_limit());
    Ok(Quotas {
        namespace: namespace.to_string(),
        quotas: Quota::ALL.into_iter().map(|quota| (quota.name(), limit(quota))).collect(),
        overrides: set.iter().map(|(quota, value)| (quota.name(), *value)).collect(),
    })
}

#[derive(Serialize, ToSchema)]
struct Used {
    used: u64,
    limit: u64,
    percent: u64,
}

#[derive(Serialize, ToSchema)]
struct Disk {
    free_bytes: u64,
    reserve_bytes: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub(super) struct UsageObject {
    namespace: String,
    /// By the name of the quota; of `versions`, that of the function that has most.
    usage: BTreeMap<&'static str, Used>,
    /// What is nearly used up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// The node's disk, for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
}

/// Shows how much of each quota a namespace uses.
#[utoipa::path(
    get, path = "/v1/namespaces/{name}/usage", operation_id = "getUsage", tag = "namespaces",
    security(("key" = ["admin"])),
    params(OfNamespace),
    responses((status = 200, body = UsageObject)),
)]
pub(super) async fn usage(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    _: NoQuery,
) -> Result<Json<UsageObject>, ApiError> {
    let namespace = of_path(&state, &credential, path, Action::SeeUsage).await?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        let platform = &app.platform;
        let usage = platform.usage(&namespace)?;
        let warnings = usage.iter().filter(|of| of.is_near()).map(Usage::warning).collect();
        let shown = |of: Usage| Used { used: of.used, limit: of.limit, percent: of.percent() };
        let usage = usage.into_iter().map(|of| (of.quota.name(), shown(of))).collect();
        let disk = if credential.require(Action::Operate).is_ok() {
            let free_bytes = platform.disk.free_bytes().map_err(ApiError::internal)?;
            Some(Disk { free_bytes, reserve_bytes: platform.disk.reserve_bytes() })
        } else {
            None
        };
        Ok(Json(UsageObject { namespace: namespace.to_string(), usage, warnings, disk }))
    })
    .await
}

/// The namespace that the path names, where the credential may do `action` in it.
pub(super) async fn of_path(
    state: &AppState,
    credential: &Credential,
    path: PathName,
    action: Action,
) -> Result<Namespace, ApiError> {
    // Before the name is looked at: whoever may not need not learn which names there are.
    credential.require(action)?;
    state.namespace(credential, action, Some(&path_text(path)?)).await
}
