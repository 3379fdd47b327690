//! The control plane: serves every request that is not an invocation, on the backplane.
//!
//! A route parses, authorises, calls one function and maps its error. The layer [`answer::finish`] gives each answer its request
//! id. The layer [`access::authenticate`] protects the tenants' routes.

use crate::error::ApiError;
use crate::limits::{CONTROL_BODY_MAX_BYTES, DEPLOY_MAX_BYTES};
use crate::metrics::Metrics;
use crate::shares::Shares;
use access::CredentialCache;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, delete, get, post};
use orama_platform::Platform;
use std::sync::Arc;

mod access;
mod admission;
mod answer;
mod dead_letters;
mod deploy;
mod form;
mod functions;
mod json;
mod keys;
mod logs;
mod namespaces;
mod operations;
mod page;
mod pubsub;
mod quotas;
mod secrets;
mod target;
mod triggers;

pub(crate) use admission::body_action;
pub(crate) use target::Target;

/// The dependencies of the control plane.
pub struct App {
    /// The platform's parts and use cases.
    pub platform: Arc<Platform>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// The shares of the node.
    pub shares: Arc<Shares>,
}

/// The state of all handlers.
#[derive(Clone)]
struct State {
    app: Arc<App>,
    credentials: CredentialCache,
    last_look: Arc<operations::LastLook>,
}

/// Creates the table of routes. It expects the request id in the header [`crate::error::REQUEST_ID`] and creates one if it is
/// missing.
pub fn router(app: Arc<App>) -> Router {
    let credentials =
        CredentialCache::new(app.platform.authority.clone(), app.platform.registry.generation());
    let state = State { app, credentials, last_look: Arc::default() };
    let tenants = Router::new()
        .route(
            "/v1/functions",
            get(functions::list).post(deploy::deploy).layer(DefaultBodyLimit::max(DEPLOY_MAX_BYTES)),
        )
        .route("/v1/functions/secrets", get(secrets::list).put(secrets::set))
        .route("/v1/functions/secrets/{name}", delete(secrets::delete))
        .route("/v1/secrets/rotate-key", post(secrets::rotate_key))
        .route("/v1/functions/{name}", get(functions::get).delete(functions::delete))
        .route("/v1/functions/{name}/versions", get(functions::versions))
        .route("/v1/functions/{name}/logs", get(logs::logs))
        .route("/v1/functions/{name}/triggers", get(triggers::list).post(triggers::add))
        .route("/v1/functions/{name}/triggers/{id}", delete(triggers::delete))
        .route("/v1/functions/{name}/dead-letters", get(dead_letters::list))
        .route("/v1/functions/{name}/dead-letters/replay", post(dead_letters::replay_all))
        .route("/v1/functions/{name}/dead-letters/{id}", delete(dead_letters::delete))
        .route("/v1/functions/{name}/dead-letters/{id}/replay", post(dead_letters::replay_one))
        .route("/v1/pubsub/publish", post(pubsub::publish))
        .route("/v1/namespaces", get(namespaces::list).post(namespaces::create))
        .route("/v1/namespaces/{name}", delete(namespaces::delete))
        .route("/v1/namespaces/{name}/quotas", get(quotas::get).put(quotas::set))
        .route("/v1/namespaces/{name}/usage", get(quotas::usage))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", delete(keys::delete))
        // Authenticates only existing paths and methods: without a credential, an unknown path is 404 and a wrong method 405.
        .route_layer(from_fn_with_state(state.clone(), access::authenticate));
    Router::new()
        .merge(tenants)
        .route("/ready", get(operations::ready))
        .route("/metrics", get(operations::metrics))
        // The cores answer these paths themselves. They hand over only requests with another method.
        .route("/health", any(|| answer::only("GET,HEAD")))
        .route("/v1/functions/{name}/invoke", any(|| answer::only("POST")))
        .route("/v1/functions/{name}/ws", any(|| answer::only("GET")))
        .route("/v1/invoke/{namespace}/{name}", any(|| answer::only("POST")))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .fallback(async || ApiError::not_found())
        .layer(DefaultBodyLimit::max(CONTROL_BODY_MAX_BYTES))
        .layer(from_fn_with_state(state.clone(), answer::count))
        .layer(from_fn(answer::finish))
        .with_state(state)
}

/// [`orama_store::blocking::blocking`] with the error type of all routes.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    orama_store::blocking::blocking(work).await
}

#[cfg(test)]
mod tests;
