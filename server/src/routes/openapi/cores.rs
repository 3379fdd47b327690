//! Descriptions of the paths that the cores answer themselves. The handlers here answer what the cores hand over: a request with
//! another method.

use super::parameters::{Below, InNamespace, OfVersion, WebSocketQuery};
use super::shapes::Health;
use crate::routes::answer::only;
use crate::routes::target::NamespaceQuery;
use axum::response::Response;

/// Invokes a function, with the body as its standard input.
///
/// Output that is exactly one JSON value is the answer, byte for byte. Any other comes as `WrappedOutput`.
#[utoipa::path(
    post, path = "/v1/functions/{name}/invoke", operation_id = "invoke", tag = "invoke",
    security((), ("key" = ["invoke"])), params(OfVersion, NamespaceQuery),
    request_body(content((Value = "application/json"), (String = "text/plain"), (Value = "application/octet-stream"))),
    responses(
        (status = 200, body = Value, description = "The function's output."),
        (status = 504),
        (status = "default", description = "What the function shaped.", content((Value = "*/*"))),
    ),
)]
pub(in crate::routes) async fn invoke() -> Response {
    only("POST").await
}

/// Invokes a function of a namespace, with the body as its standard input.
///
/// Output that is exactly one JSON value is the answer, byte for byte. Any other comes as `WrappedOutput`.
#[utoipa::path(
    post, path = "/v1/invoke/{namespace}/{name}", operation_id = "invokeIn", tag = "invoke",
    security((), ("key" = ["invoke"])), params(InNamespace, NamespaceQuery),
    request_body(content((Value = "application/json"), (String = "text/plain"), (Value = "application/octet-stream"))),
    responses(
        (status = 200, body = Value, description = "The function's output."),
        (status = 504),
        (status = "default", description = "What the function shaped.", content((Value = "*/*"))),
    ),
)]
pub(in crate::routes) async fn invoke_in() -> Response {
    only("POST").await
}

/// Opens a WebSocket, each of whose messages invokes the function.
///
/// Each message is answered with a text: an object with `request_id`, `status`, `duration_ms`, and either `output` (or
/// `output_base64`) or `error`, `code` and `retryable`.
#[utoipa::path(
    get, path = "/v1/functions/{name}/ws", operation_id = "openWebSocket", tag = "invoke",
    security((), ("key" = ["invoke"])), params(OfVersion, WebSocketQuery),
    responses((status = 101, description = "The connection is a WebSocket from here on."), (status = 426)),
)]
pub(in crate::routes) async fn websocket() -> Response {
    only("GET").await
}

/// Tells that the node runs.
#[utoipa::path(
    get, path = "/health", operation_id = "health", tag = "node",
    responses((status = 200, body = Health, description = "It runs."))
)]
pub(in crate::routes) async fn health() -> Response {
    only("GET,HEAD").await
}

/// Serves the function as a web service: it gets the request, and decides status, headers and bytes.
#[utoipa::path(
    method(get, head, post, put, patch, delete, options), path = "/fn/{namespace}/{name}",
    operation_id = "serve", tag = "invoke", security((), ("key" = ["invoke"])), params(InNamespace),
    request_body(content((Value = "*/*"))),
    responses((status = 504), (status = "default", description = "What the function answers.", content((Value = "*/*")))),
)]
#[expect(dead_code, reason = "the cores take all methods, so that nothing is handed over")]
pub(in crate::routes) async fn web() {}

/// Serves the function as a web service: it gets the request, and decides status, headers and bytes.
#[utoipa::path(
    method(get, head, post, put, patch, delete, options), path = "/fn/{namespace}/{name}/{path}",
    operation_id = "servePath", tag = "invoke", security((), ("key" = ["invoke"])), params(Below),
    request_body(content((Value = "*/*"))),
    responses((status = 504), (status = "default", description = "What the function answers.", content((Value = "*/*")))),
)]
#[expect(dead_code, reason = "the cores take all methods, so that nothing is handed over")]
pub(in crate::routes) async fn web_below() {}
