//! `GET /ready` and `GET /metrics`.

use super::State as AppState;
use super::{App, blocking};
use crate::bearer::sent;
use crate::error::ApiError;
use crate::metrics::{BackendGauges, Gauges, ModuleGauges, ProcessGauges, ShareGauges, SizeGauges};
use crate::process::{self, Allowed};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::future::try_join_all;
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use orama_platform::auth::Action;
use orama_store::breaker::Breaker;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use utoipa::ToSchema;

/// Seconds after which a load balancer may check again.
const NOT_READY_RETRY_AFTER_S: &str = "1";

/// How long a result is reused.
const READY_KNOWN_FOR: Duration = Duration::from_millis(200);

#[derive(Serialize, ToSchema)]
struct Readiness {
    /// `ready` or `not ready`.
    status: &'static str,
    /// The state of each part: `ok`, `degraded` or `failed`. The node's log has the reason.
    backends: BTreeMap<&'static str, &'static str>,
}

/// The result of the last check of all parts. Concurrent and later requests share it for a moment, so that a backend which is
/// down is not called for each request.
#[derive(Default)]
pub(super) struct LastLook(Mutex<Option<(Instant, BTreeMap<&'static str, &'static str>)>>);

/// Tells whether the node can serve, and the state of each part.
#[utoipa::path(
    get, path = "/ready", operation_id = "ready", tag = "node",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness, description = "A part does not work.")),
)]
pub(super) async fn ready(State(state): State<AppState>) -> Result<Response, ApiError> {
    let mut last = state.last_look.0.lock().await;
    let known = last.as_ref().filter(|(when, _)| when.elapsed() < READY_KNOWN_FOR);
    let backends = match known {
        Some((_, backends)) => backends.clone(),
        None => {
            let backends = look(&state.app).await?;
            *last = Some((Instant::now(), backends.clone()));
            backends
        }
    };
    drop(last);
    if backends.values().all(|word| matches!(*word, OK | DEGRADED)) {
        return Ok(Json(Readiness { status: "ready", backends }).into_response());
    }
    let body = Json(Readiness { status: "not ready", backends });
    Ok((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, NOT_READY_RETRY_AFTER_S)], body).into_response())
}

/// Checks all parts concurrently, because each may take until its deadline.
async fn look(app: &Arc<App>) -> Result<BTreeMap<&'static str, &'static str>, ApiError> {
    let parts = app.platform.parts.iter().filter(|part| part.is_checked()).cloned();
    let checks = parts.map(|part| blocking(move || Ok((part.name(), word(part.name(), part.check())))));
    let mut backends: BTreeMap<_, _> = try_join_all(checks).await?.into_iter().collect();
    // If one namespace's database is down, the node can still serve all others.
    if breakers(app).any(|breaker| breaker.kind() == DATABASES && breaker.is_open())
        && let Some(word) = backends.get_mut(DATABASES).filter(|word| **word == OK)
    {
        *word = DEGRADED;
    }
    Ok(backends)
}

fn breakers(app: &App) -> impl Iterator<Item = Breaker> {
    app.platform.parts.iter().flat_map(|part| part.breakers())
}

/// The name of the namespaces' databases in readiness, and their kind of circuit breakers.
const DATABASES: &str = "databases";

const OK: &str = "ok";
/// A part of it does not answer, and the node can serve all the same.
const DEGRADED: &str = "degraded";

fn word(backend: &str, checked: Result<(), impl Display>) -> &'static str {
    match checked {
        Ok(()) => OK,
        Err(error) => {
            tracing::warn!(backend, %error, "a backend is not ready");
            "failed"
        }
    }
}

/// The node's metrics, in Prometheus' text format. Those that name functions are for operators; all are, where the node has
/// another
/// address for them.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "node",
    security((), ("key" = ["operator"])),
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")),
)]
pub(super) async fn metrics(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    if state.app.metrics_apart {
        let credential = state.credentials.find_all(&sent(&parts.headers)?).await?;
        credential.require(Action::Operate)?;
        return metrics_for_all(State(state)).await;
    }
    let names_functions = is_operator(&state, &parts).await;
    rendered(state, names_functions).await
}

/// All metrics, at an address of their own.
pub(super) async fn metrics_for_all(State(state): State<AppState>) -> Result<Response, ApiError> {
    rendered(state, true).await
}

async fn rendered(state: AppState, names_functions: bool) -> Result<Response, ApiError> {
    let app = Arc::clone(&state.app);
    // Counting mappings reads a file that may be long.
    let text = blocking(move || Ok(render_metrics(&app, names_functions))).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Whether a request to a path that needs no credential has an operator's.
async fn is_operator(state: &AppState, request: &Parts) -> bool {
    // The core has looked a bad one up already.
    if request.extensions.get::<ApiError>().is_some() {
        return false;
    }
    let Ok(sent) = sent(&request.headers) else { return false };
    let found = state.credentials.find_all(&sent).await;
    found.is_ok_and(|credential| credential.role.allows(Action::Operate))
}

/// The node's metrics as text; those that name functions and their namespaces are not for everybody. Blocks.
pub(crate) fn render_metrics(app: &App, names_functions: bool) -> String {
    app.metrics.render(&Gauges {
        modules: ModuleGauges {
            loaded: app.platform.modules.usage(),
            totals: app.platform.modules.totals(),
            bounds: app.platform.modules.bounds(),
            descriptors: process::descriptors_open(),
            mappings: process::mappings(),
            allowed: Allowed::now(),
        },
        records_written: app.platform.records.written(),
        records_dropped: app.platform.records.dropped(),
        jobs: app.platform.events.counts(),
        backends: breakers(app).map(|breaker| BackendGauges::of(&breaker)).collect(),
        shares: ShareGauges::of(&app.shares),
        functions: if names_functions { app.platform.records.totals() } else { Vec::new() },
        traces: app.traces.as_ref().map(|traces| traces.counts()),
        process: ProcessGauges::now(),
        sizes: SizeGauges { disk_free: app.platform.disk.free_bytes().ok(), ..app.sizes.now() },
        access_lines_dropped: app.access_log.dropped(),
    })
}
