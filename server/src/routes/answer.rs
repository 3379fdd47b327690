//! The layers around all routes: the request id, error bodies and metrics.

use super::State as AppState;
use crate::error::{ApiError, REQUEST_ID};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_LENGTH, HeaderValue};
use orama_store::ids::new_id;
use tracing::Instrument;

/// Gives request, log and answer the same id.
pub(super) async fn finish(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let id = given.unwrap_or_else(new_id);
    let header = HeaderValue::try_from(&id).ok();
    if let Some(header) = &header {
        request.headers_mut().insert(REQUEST_ID, header.clone());
    }
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let mut response = next.run(request).instrument(span).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        error.log(&id);
        let body = error.body(&id);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        *response.body_mut() = Body::from(body);
    }
    if let Some(header) = header {
        response.headers_mut().insert(REQUEST_ID, header);
    }
    response
}

/// Counts answers by status.
pub(super) async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    state.app.metrics.answered(response.status());
    response
}

/// 404 for a path with an empty segment, which the table of routes would take for a parameter.
pub(super) async fn no_empty_segment(request: Request, next: Next) -> Result<Response, ApiError> {
    let path = request.uri().path();
    if path.contains("//") { Err(ApiError::not_found(path)) } else { Ok(next.run(request).await) }
}

/// 405 for a path whose allowed methods are served elsewhere.
pub(super) async fn only(allow: &'static str) -> Response {
    ([(ALLOW, allow)], ApiError::method_not_allowed()).into_response()
}
