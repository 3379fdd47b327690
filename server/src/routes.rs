//! The control plane: serves every request that is not an invocation, on the backplane.
//!
//! A route parses, authorises, calls one function and maps its error. The layer [`answer::finish`] gives each answer its request
//! id. The layer [`access::authenticate`] protects the tenants' routes.

use crate::access_log::AccessLog;
use crate::error::ApiError;
use crate::limits::{CONTROL_BODY_MAX_BYTES, DEPLOY_MAX_BYTES};
use crate::metrics::{Metrics, Sizes};
use crate::shares::Shares;
use crate::telemetry::Traces;
use access::CredentialCache;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, any, delete, get, post};
use openapi::cores;
use orama_platform::Platform;
use std::sync::Arc;

mod access;
mod admission;
mod aliases;
mod answer;
mod audit;
mod console;
mod db;
mod dead_letters;
mod deploy;
mod form;
mod functions;
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod keys;
mod logs;
mod namespace_logs;
mod namespaces;
pub mod openapi;
mod operations;
mod page;
mod pubsub;
mod quotas;
mod rates;
mod secrets;
mod stats;
mod target;
mod traffic;
mod triggers;
mod update;
mod whoami;

pub(crate) use admission::body_action;
pub(crate) use audit::{ClientAddress, refused};
pub(crate) use operations::render_metrics;
pub(crate) use target::Target;

/// The dependencies of the control plane.
pub struct App {
    /// The platform's parts and use cases.
    pub platform: Arc<Platform>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// The shares of the node.
    pub shares: Arc<Shares>,
    /// Where traces go; none unless it was configured.
    pub(crate) traces: Option<Arc<Traces>>,
    /// What its data take of the disk.
    pub(crate) sizes: Sizes,
    /// The log of requests.
    pub(crate) access_log: Arc<AccessLog>,
    /// Whether metrics have an address of their own, so that the main one keeps them from strangers.
    pub metrics_apart: bool,
}

/// The state of all handlers.
#[derive(Clone)]
struct State {
    app: Arc<App>,
    credentials: CredentialCache,
    last_look: Arc<operations::LastLook>,
}

/// Routes that need a credential.
fn of_tenants() -> Vec<(&'static str, MethodRouter<State>)> {
    let deploys = get(functions::list).post(deploy::deploy).layer(DefaultBodyLimit::max(DEPLOY_MAX_BYTES));
    vec![
        ("/v1/functions", deploys),
        ("/v1/functions/secrets", get(secrets::list).put(secrets::set)),
        ("/v1/functions/secrets/{name}", delete(secrets::delete)),
        ("/v1/secrets/rotate-key", post(secrets::rotate_key)),
        ("/v1/functions/{name}", get(functions::get).patch(update::update).delete(functions::delete)),
        ("/v1/functions/{name}/versions", get(functions::versions)),
        ("/v1/functions/{name}/aliases", get(aliases::list)),
        ("/v1/functions/{name}/aliases/{alias}", get(aliases::get).put(aliases::set).delete(aliases::delete)),
        ("/v1/functions/{name}/traffic", get(traffic::get).put(traffic::set).delete(traffic::end)),
        ("/v1/functions/{name}/logs", get(logs::logs)),
        ("/v1/functions/{name}/stats", get(stats::of_one)),
        ("/v1/stats", get(stats::of_all)),
        ("/v1/functions/{name}/triggers", get(triggers::list).post(triggers::add)),
        ("/v1/functions/{name}/triggers/{id}", delete(triggers::delete).patch(triggers::enable)),
        ("/v1/functions/{name}/triggers/{id}/fire", post(triggers::fire)),
        ("/v1/functions/{name}/dead-letters", get(dead_letters::list)),
        ("/v1/functions/{name}/dead-letters/replay", post(dead_letters::replay_all)),
        ("/v1/functions/{name}/dead-letters/{id}", delete(dead_letters::delete)),
        ("/v1/functions/{name}/dead-letters/{id}/replay", post(dead_letters::replay_one)),
        ("/v1/db/query", post(db::run)),
        ("/v1/db/migrations", get(db::migrations).post(db::migrate)),
        ("/v1/pubsub/publish", post(pubsub::publish)),
        ("/v1/namespaces", get(namespaces::list).post(namespaces::create)),
        ("/v1/namespaces/{name}", delete(namespaces::delete)),
        ("/v1/namespaces/{name}/quotas", get(quotas::get).put(quotas::set)),
        ("/v1/namespaces/{name}/rates", get(rates::get).put(rates::set)),
        ("/v1/namespaces/{name}/usage", get(quotas::usage)),
        ("/v1/audit", get(audit::list)),
        ("/v1/logs", get(namespace_logs::logs)),
        ("/v1/whoami", get(whoami::whoami)),
        ("/v1/keys", get(keys::list).post(keys::create)),
        ("/v1/keys/{id}", delete(keys::delete)),
    ]
}

/// Routes that need none, and those that the cores answer themselves: what they hand over has another method.
fn of_all() -> Vec<(&'static str, MethodRouter<State>)> {
    let mut routes = vec![
        ("/ready", get(operations::ready)),
        ("/metrics", get(operations::metrics)),
        ("/openapi.json", get(openapi::document)),
        ("/health", any(cores::health)),
        ("/v1/functions/{name}/invoke", any(cores::invoke)),
        ("/v1/functions/{name}/ws", any(cores::websocket)),
        ("/v1/invoke/{namespace}/{name}", any(cores::invoke_in)),
    ];
    routes.extend(console::routes());
    routes
}

/// Every path that a node answers; braces stand around parameters.
/// `tests/node/every_route.rs` fails for a route that it has no row for.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    of_tenants().into_iter().chain(of_all()).map(|(path, _)| path).collect()
}

fn table(routes: Vec<(&'static str, MethodRouter<State>)>) -> Router<State> {
    routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

/// Creates the table of routes. It expects the request id in the header [`crate::error::REQUEST_ID`] and creates one if it is
/// missing.
pub fn router(app: Arc<App>) -> Router {
    let credentials =
        CredentialCache::new(app.platform.authority.clone(), app.platform.registry.generation());
    let state = State { app, credentials, last_look: Arc::default() };
    // Only where a path and its method exist: an unknown path is 404 and a wrong method 405 for everyone.
    let tenants = table(of_tenants())
        .route_layer(from_fn_with_state(state.clone(), audit::record))
        .route_layer(from_fn_with_state(state.clone(), access::authenticate));
    tenants
        .merge(table(of_all()))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .fallback(async |uri: axum::http::Uri| ApiError::not_found(uri.path()))
        .layer(from_fn(answer::no_empty_segment))
        .layer(DefaultBodyLimit::max(CONTROL_BODY_MAX_BYTES))
        .layer(from_fn_with_state(state.clone(), answer::count))
        .layer(from_fn(answer::finish))
        .with_state(state)
}

/// The routes of the address that is for metrics alone. It answers `/health` itself.
pub(crate) fn operations_router(app: Arc<App>) -> Router {
    let credentials =
        CredentialCache::new(app.platform.authority.clone(), app.platform.registry.generation());
    let state = State { app, credentials, last_look: Arc::default() };
    Router::new()
        .route("/ready", get(operations::ready))
        .route("/metrics", get(operations::metrics_for_all))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .fallback(async |uri: axum::http::Uri| ApiError::not_found(uri.path()))
        .layer(from_fn(answer::finish))
        .with_state(state)
}

/// [`orama_platform::audit::blocking`] with the error type of all routes.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    orama_platform::audit::blocking(work).await
}

#[cfg(test)]
mod tests;
