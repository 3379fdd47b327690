//! Rates of a namespace: what an operator set beside what the node's configuration says.

use super::openapi::OfNamespace;
use super::page::NoQuery;
use super::quotas::of_path;
use super::target::PathName;
use super::{App, State as AppState, blocking, json};
use crate::error::ApiError;
use crate::shares::{OVERRIDABLE, RateName, Rates};
use axum::extract::State;
use axum::{Extension, Json};
use bytes::Bytes;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::registry::SetRates;
use orama_runtime::names::Namespace;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

type Caller = Extension<Arc<Credential>>;

#[derive(Serialize, ToSchema)]
#[schema(as = Rates)]
pub(super) struct RatesObject {
    namespace: String,
    /// The rates that hold on this node.
    rates: BTreeMap<String, String>,
    /// Those that an operator set; the others are those of the configuration.
    #[schema(value_type = BTreeMap<String, String>)]
    overrides: SetRates,
}

/// Shows the rates of a namespace.
#[utoipa::path(
    get, path = "/v1/namespaces/{name}/rates", operation_id = "getRates", tag = "namespaces",
    security(("key" = ["admin"])),
    params(OfNamespace),
    responses((status = 200, body = RatesObject)),
)]
pub(super) async fn get(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    _: NoQuery,
) -> Result<Json<RatesObject>, ApiError> {
    let namespace = of_path(&state, &credential, path, Action::SeeUsage).await?;
    let app = Arc::clone(&state.app);
    blocking(move || Ok(Json(read(&app, &namespace)?))).await
}

/// Replaces everything that was set: what the body does not name is as the configuration says again.
#[utoipa::path(
    put, path = "/v1/namespaces/{name}/rates", operation_id = "setRates", tag = "namespaces",
    security(("key" = ["operator"])),
    params(OfNamespace),
    request_body(content = BTreeMap<String, String>, description = "Rates such as `100/s burst 500` or `off`, by their names."),
    responses((status = 200, body = RatesObject)),
)]
pub(super) async fn set(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    _: NoQuery,
    body: Bytes,
) -> Result<Json<RatesObject>, ApiError> {
    let namespace = of_path(&state, &credential, path, Action::Operate).await?;
    let mut rates = SetRates::new();
    for (name, text) in json::parse::<BTreeMap<String, String>>(&body)? {
        let refused = |message| ApiError::bad_request("INVALID_BODY", message);
        if !OVERRIDABLE.iter().any(|known| known.to_string() == name) {
            let known = OVERRIDABLE.map(|known| known.to_string()).join(", ");
            return Err(refused(format!("there is no rate {name:?} of a namespace; the rates are {known}")));
        }
        let rate = Rates::parse(&text).map_err(|message| refused(format!("rate `{name}`: {message}")))?;
        rates.insert(name, rate.map_or(text, |rate| rate.to_string()));
    }
    let set: Vec<_> = rates.iter().map(|(name, rate)| format!("{name}={rate}")).collect();
    audit::is_about(&set.join(" "));
    let app = Arc::clone(&state.app);
    blocking(move || {
        let registry = &app.platform.registry;
        registry.set_rates(&namespace, &rates)?;
        // Here it holds before the answer; other nodes learn of it within a second.
        app.shares.read_rates(registry)?;
        Ok(Json(read(&app, &namespace)?))
    })
    .await
}

fn read(app: &App, namespace: &Namespace) -> Result<RatesObject, ApiError> {
    let overrides = app.platform.registry.rates(namespace)?;
    let holds = app.shares.rates_with(&overrides);
    let text = |name: RateName| (name.to_string(), holds.text(name));
    Ok(RatesObject {
        namespace: namespace.to_string(),
        rates: OVERRIDABLE.into_iter().map(text).collect(),
        overrides,
    })
}
