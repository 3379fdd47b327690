//! The traffic of a function: how the calls of its name are spread over its versions.

use super::functions::must_exist;
use super::openapi::OfFunction;
use super::target::{NamespaceQuery, PathName, Target, query};
use super::{State as AppState, blocking, json};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::registry::{Sticky, Traffic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;

#[derive(Serialize, ToSchema)]
#[schema(as = Traffic)]
pub(super) struct TrafficObject {
    function: String,
    /// Weights by version; empty where all calls go to the live version.
    weights: BTreeMap<u32, u32>,
    /// `header:NAME` or `cookie:NAME`: callers with the same value get the same version.
    #[schema(required = true)]
    sticky: Option<String>,
}

impl TrafficObject {
    fn new(function: String, traffic: Option<Traffic>) -> Self {
        let sticky = traffic.as_ref().and_then(|traffic| traffic.sticky.as_ref().map(Sticky::to_string));
        let weights = traffic.map_or_else(BTreeMap::new, |traffic| traffic.weights().clone());
        Self { function, weights, sticky }
    }
}

/// Shows how the calls of a function's name are spread over its versions.
#[utoipa::path(
    get, path = "/v1/functions/{name}/traffic", operation_id = "getTraffic", tag = "versions",
    security(("key" = ["deploy"])),
    params(OfFunction, NamespaceQuery),
    responses((status = 200, body = TrafficObject)),
)]
pub(super) async fn get(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
) -> Result<Json<TrafficObject>, ApiError> {
    let namespace = state.namespace(&credential, Action::Read, query(asked)?.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        must_exist(&app, &namespace, &name)?;
        Ok(Json(TrafficObject::new(name.to_string(), app.platform.registry.traffic(&namespace, &name)?)))
    })
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TrafficSetting)]
struct Given {
    /// Weights by version, at most 100,000 each, of at most 16 versions.
    weights: BTreeMap<u32, u32>,
    /// `header:NAME` or `cookie:NAME`: callers with the same value get the same version.
    sticky: Option<String>,
}

/// Spreads the calls of a function's name over its versions.
#[utoipa::path(
    put, path = "/v1/functions/{name}/traffic", operation_id = "setTraffic", tag = "versions",
    security(("key" = ["deploy"])),
    params(OfFunction, NamespaceQuery),
    request_body = Given,
    responses((status = 200, body = TrafficObject), (status = 409)),
)]
pub(super) async fn set(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
    body: Bytes,
) -> Result<Json<TrafficObject>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let Given { weights, sticky } = json::parse(&body)?;
    let refused = |why: String| ApiError::bad_request("INVALID_TRAFFIC", why);
    let sticky = match sticky.as_deref() {
        None => None,
        Some(text) => Some(Sticky::parse(text).ok_or_else(|| {
            refused("`sticky`: expected \"header:NAME\", \"cookie:NAME\" or null".to_owned())
        })?),
    };
    let traffic = Traffic::new(&weights, sticky).map_err(|why| refused(format!("`weights`: {why}")))?;
    let shares: Vec<_> =
        traffic.weights().iter().map(|(version, weight)| format!("{version}={weight}")).collect();
    audit::is_about(&format!("{name} {}", shares.join(" ")));
    let app = Arc::clone(&state.app);
    blocking(move || {
        app.platform.registry.set_traffic(&namespace, &name, Some(&traffic))?;
        Ok(Json(TrafficObject::new(name.to_string(), Some(traffic))))
    })
    .await
}

/// Sends all calls to the live version again.
#[utoipa::path(
    delete, path = "/v1/functions/{name}/traffic", operation_id = "endTraffic", tag = "versions",
    security(("key" = ["deploy"])),
    params(OfFunction, NamespaceQuery),
    responses((status = 200, body = TrafficObject)),
)]
pub(super) async fn end(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
) -> Result<Json<TrafficObject>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        must_exist(&app, &namespace, &name)?;
        app.platform.registry.set_traffic(&namespace, &name, None)?;
        Ok(Json(TrafficObject::new(name.to_string(), None)))
    })
    .await
}
