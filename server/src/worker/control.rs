//! Hands everything that is not an invocation to the control plane, with its bounded body.

use super::core::Core;
use super::invoke::{Refused, text_header};
use crate::error::{ApiError, REQUEST_ID};
use crate::http::{Response, read_body};
use crate::limits::{CONTROL_BODIES_MAX_BYTES, CONTROL_BODY_MAX_BYTES, DEPLOY_MAX_BYTES};
use axum::body::Body;
use bytes::Bytes;
use http::{Method, request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use std::sync::atomic::{AtomicUsize, Ordering};
use tower::ServiceExt;

/// Memory set aside for a request's body.
struct Reserved<'a>(&'a AtomicUsize, usize);

impl<'a> Reserved<'a> {
    fn take(all: &'a AtomicUsize, bytes: usize) -> Result<Self, ApiError> {
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Self(all, bytes);
        if before + bytes > CONTROL_BODIES_MAX_BYTES {
            return Err(ApiError::overloaded("too many large requests are under way"));
        }
        Ok(reserved)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Answers a control-plane request.
pub(super) async fn forward(
    core: &Core,
    mut parts: request::Parts,
    body: Incoming,
    request_id: &str,
) -> Result<Response, Refused> {
    let is_deploy = parts.method == Method::POST && parts.uri.path() == "/v1/functions";
    let limit_bytes = if is_deploy { DEPLOY_MAX_BYTES } else { CONTROL_BODY_MAX_BYTES };
    let unread = |error| Refused { error, body_unread: true };
    let mut reserved = None;
    let body = if body.is_end_stream() {
        Bytes::new()
    } else {
        // Nobody without a credential gets to fill this node's memory; what it may do is the control plane's business.
        if core.credential(&parts.headers).await.map_err(unread)?.is_none() {
            return Err(unread(ApiError::unauthorized(
                "a credential is needed: Authorization: Bearer <API key>, or X-API-Key",
            )));
        }
        let announced = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let expected_bytes = announced.unwrap_or(limit_bytes).min(limit_bytes);
        reserved = Some(Reserved::take(&core.shared.control_bytes, expected_bytes).map_err(unread)?);
        read_body(body, limit_bytes, core.shared.body_timeout).await.map_err(unread)?
    };
    let refused = |error| Refused { error, body_unread: false };
    // Whatever the client sent under this name, the id is ours.
    let id = text_header(request_id.to_owned()).map_err(refused)?;
    parts.headers.insert(REQUEST_ID, id.clone());
    let request = http::Request::from_parts(parts, Body::from(body));
    let router = core.shared.control_plane.clone();
    let answering = core.shared.backplane.spawn(async move {
        let response = match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        body.collect().await.map(|body| http::Response::from_parts(parts, Full::new(body.to_bytes())))
    });
    let answered = answering.await;
    drop(reserved);
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(refused(ApiError::internal(error))),
        Err(error) => return Err(refused(ApiError::internal(error))),
    };
    response.headers_mut().insert(REQUEST_ID, id);
    Ok(response)
}
