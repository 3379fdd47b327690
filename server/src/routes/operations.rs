//! What operators ask: whether the node is ready, and its counts.

use super::State as AppState;
use super::blocking;
use crate::error::ApiError;
use crate::metrics::{Gauges, ModuleGauges};
use crate::process::{self, Allowed};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

/// Seconds after which a load balancer may ask again.
const NOT_READY_RETRY_AFTER_S: &str = "1";

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    /// Each is `ok` or `failed`; the node's log tells why.
    backends: BTreeMap<&'static str, &'static str>,
}

pub(super) async fn ready(State(state): State<AppState>) -> Result<Response, ApiError> {
    let app = Arc::clone(&state.app);
    let backends = blocking(move || {
        let mut backends = BTreeMap::from([
            ("registry", word("registry", app.registry.check())),
            ("records", word("records", app.records.check())),
            ("blobs", word("blobs", app.blobs.check())),
            ("events", word("events", app.events.check())),
        ]);
        backends.extend(app.checks.iter().map(|(name, check)| (*name, word(name, check()))));
        Ok(backends)
    })
    .await?;
    if backends.values().all(|word| *word == OK) {
        return Ok(Json(Readiness { status: "ready", backends }).into_response());
    }
    let body = Json(Readiness { status: "not ready", backends });
    Ok((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, NOT_READY_RETRY_AFTER_S)], body).into_response())
}

const OK: &str = "ok";

fn word(backend: &str, checked: Result<(), impl Display>) -> &'static str {
    match checked {
        Ok(()) => OK,
        Err(error) => {
            tracing::warn!(backend, %error, "a backend is not ready");
            "failed"
        }
    }
}

pub(super) async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    let app = Arc::clone(&state.app);
    // Counting what is mapped reads a file that may be long.
    let text = blocking(move || {
        Ok(app.metrics.render(&Gauges {
            modules: ModuleGauges {
                loaded: app.modules.usage(),
                bounds: app.modules.bounds(),
                descriptors: process::descriptors_open(),
                mappings: process::mappings(),
                allowed: Allowed::now(),
            },
            records_written: app.records.written(),
            records_dropped: app.records.dropped(),
            jobs: app.events.counts(),
        }))
    })
    .await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
