//! The one shape in which every failed request is answered.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use orama_platform::quotas::QuotaExceeded;
use orama_platform::registry::Which;
use orama_store::causes::Causes;
use serde::Serialize;
use std::error::Error;
use std::sync::Arc;
use utoipa::ToSchema;

mod from;

/// The header that carries a request's id, set by the worker on every request it hands over.
pub const REQUEST_ID: http::HeaderName = http::HeaderName::from_static("x-request-id");

/// Seconds after which a client may try again when the node was busy.
const BUSY_RETRY_AFTER_S: u32 = 1;

/// A failed request: what its client is told.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// A word for programs, in SNAKE_CASE capitals.
    pub code: &'static str,
    /// A sentence for people. It holds no secret.
    pub message: String,
    /// Seconds for the Retry-After header.
    pub retry_after_s: Option<u32>,
    /// Whose limit was met: the node's, a namespace's, a key's, an address' or a function's.
    pub scope: Option<&'static str>,
    /// What the client or the operator can do about it.
    pub hint: Option<&'static str>,
    /// Why the node failed, for its log alone.
    #[source]
    pub cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// Why a request was refused.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct Body<'a> {
    /// A sentence for people.
    error: &'a str,
    /// A word for programs.
    code: &'a str,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Seconds after which to try again, as in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
    /// Whose limit was met: `node`, `namespace`, `address`, `key` or `function`.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    request_id: &'a str,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl ApiError {
    /// Any error.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message, retry_after_s: None, scope: None, hint: None, cause: None }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        )
    }

    /// 400: the request is malformed.
    #[must_use]
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 401: no credential, or one that is not known.
    #[must_use]
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// 401: no credential was sent.
    #[must_use]
    pub fn credential_needed() -> Self {
        Self::unauthorized("a credential is needed; send Authorization: Bearer <API key>, or X-API-Key")
    }

    /// 403: known, but not allowed.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// 403: a function that callers from outside do not reach.
    #[must_use]
    pub fn internal_function() -> Self {
        let hint = Some("an admin's credential may invoke it; `internal: false` in function.yaml opens it");
        let message =
            "the function is internal: only functions of its namespace, triggers and admins may run it";
        Self { hint, ..Self::new(StatusCode::FORBIDDEN, "FUNCTION_INTERNAL", message) }
    }

    /// 403: the function is disabled.
    #[must_use]
    pub fn function_disabled() -> Self {
        let hint = Some("`orama function enable` lets it run again");
        Self { hint, ..Self::new(StatusCode::FORBIDDEN, "FUNCTION_DISABLED", "the function is disabled") }
    }

    /// 404: no such path.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        let has_empty_segment = path.len() > 1 && (path.ends_with('/') || path.contains("//"));
        let hint = has_empty_segment.then_some("paths have no slash at their end, and no two in a row");
        Self { hint, ..Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path") }
    }

    /// 404: no such function, or no such version of it.
    #[must_use]
    pub fn function_not_found(name: &str, which: &Which) -> Self {
        let message = match which.named() {
            None => format!("there is no function {name:?} in this namespace"),
            Some(which) => format!("there is no {which} of a function {name:?} in this namespace"),
        };
        Self::new(StatusCode::NOT_FOUND, "FUNCTION_NOT_FOUND", message)
    }

    /// 404: no such namespace.
    #[must_use]
    pub fn namespace_not_found(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAMESPACE_NOT_FOUND", format!("there is no namespace {name:?}"))
    }

    /// 405: the path exists, the method does not. The caller adds the Allow header.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            "this path does not take the method; the Allow header lists those it takes",
        )
    }

    /// 409: the namespace may have no more of something.
    #[must_use]
    pub fn quota_exceeded(told: &QuotaExceeded) -> Self {
        Self::new(StatusCode::CONFLICT, "QUOTA_EXCEEDED", told.to_string())
    }

    /// 413: over a limit, in bytes.
    #[must_use]
    pub fn too_large(what: &str, limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "PAYLOAD_TOO_LARGE",
            format!("{what} may have at most {limit_bytes} bytes"),
        )
    }

    /// 426: the path speaks another protocol than plain HTTP.
    #[must_use]
    pub fn upgrade_required(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", message)
    }

    /// 422: a field or value that is not accepted; the message names it.
    #[must_use]
    pub fn invalid_config(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_CONFIG", message)
    }

    /// 422: a module that cannot run; the message says why.
    #[must_use]
    pub fn invalid_module(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_MODULE", message)
    }

    /// 503 with Retry-After: the node has no room for the request now.
    #[must_use]
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self {
            retry_after_s: Some(BUSY_RETRY_AFTER_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message)
        }
    }

    /// 503 with Retry-After: what the request needs cannot answer now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: "UNAVAILABLE", ..Self::overloaded(message) }
    }

    /// 500: the node failed. The cause goes to the node's log and not to the client.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::caused(
            cause,
            "INTERNAL",
            "the node failed to answer; its log tells why, under this request's id",
        )
    }

    /// 500: what was deployed is not there any more, or is damaged.
    #[must_use]
    pub fn code_unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::caused(
            cause,
            "CODE_UNAVAILABLE",
            "the function's code could not be loaded; the node's log tells why, under this request's id, and \
             deploying the module again repairs a damaged one",
        )
    }

    fn caused(cause: impl Into<Box<dyn Error + Send + Sync>>, code: &'static str, message: &str) -> Self {
        let cause = Some(Arc::from(cause.into()));
        Self { cause, ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, message) }
    }

    /// Tells the node's log what the client is not told. Called where the request's id is known.
    pub(crate) fn log(&self, request_id: &str) {
        if let Some(cause) = &self.cause {
            tracing::error!(request_id, cause = %Causes(&**cause), "a request failed inside the node");
        }
    }

    /// The answer's JSON body.
    #[must_use]
    pub fn body(&self, request_id: &str) -> Bytes {
        let body = Body {
            error: &self.message,
            code: self.code,
            retryable: self.is_retryable(),
            retry_after: self.retry_after_s,
            scope: self.scope,
            request_id,
            hint: self.hint,
        };
        // Texts and numbers always serialise; an empty body would be the honest rest.
        serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default()
    }

    /// The answer's headers, apart from those that depend on the connection.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        headers
    }
}

/// The response carries the error as an extension too, from which the router's outermost layer writes the body
/// again with the request's id: here the request is not at hand.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.headers(), self.body("")).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::{Limited, NoRoom, Scope};

    fn json(error: &ApiError) -> serde_json::Value {
        serde_json::from_slice(&error.body("r-1")).unwrap()
    }

    #[test]
    fn the_body_has_the_contracts_fields() {
        let body = json(&ApiError::function_not_found("a\"b", &Which::Number(3)));
        assert!(body["error"].as_str().unwrap().contains("version 3"), "{body}");
        let rest = serde_json::json!({
            "error": body["error"], "code": "FUNCTION_NOT_FOUND", "retryable": false, "request_id": "r-1"
        });
        assert_eq!(body, rest);
    }

    #[test]
    fn who_met_a_limit_is_told_whose_and_when_to_come_back() {
        let wait = std::time::Duration::from_millis(2_500);
        let error = Limited { kind: crate::shares::RateKind::Deploys, scope: Scope::Key, wait }.into();
        let body = json(&error);
        assert_eq!((error.status.as_u16(), &body["code"]), (429, &"RATE_LIMITED".into()));
        assert_eq!((&body["retryable"], &body["retry_after"]), (&true.into(), &3.into()));
        assert_eq!((&body["scope"], &error.headers()["retry-after"]), (&"key".into(), &"3".parse().unwrap()));
        let error = NoRoom { kind: crate::shares::Kind::BodyBytes, scope: Scope::Namespace }.into();
        let body = json(&error);
        assert_eq!((&body["code"], &body["scope"]), (&"OVERLOADED".into(), &"namespace".into()));
        assert!(body["hint"].as_str().unwrap().contains("namespace_share_percent"), "{body}");
        let error = NoRoom { kind: crate::shares::Kind::Invocations, scope: Scope::Function }.into();
        let body = json(&error);
        assert_eq!((error.status.as_u16(), &body["scope"]), (429, &"function".into()));
        assert_eq!((&body["retryable"], &body["retry_after"]), (&true.into(), &1.into()));
    }

    #[test]
    fn headers_fit_the_status() {
        let busy = ApiError::overloaded("full").into_response();
        assert_eq!(busy.status(), 503);
        assert_eq!(busy.headers()["retry-after"], "1");
        assert_eq!(busy.headers()["content-type"], "application/json");
        let unknown = ApiError::unauthorized("no").into_response();
        assert_eq!(unknown.headers()["www-authenticate"], "Bearer");
        assert!(!unknown.headers().contains_key("retry-after"));
    }

    #[test]
    fn an_internal_cause_is_not_told_to_the_client() {
        let error = ApiError::internal("disk /secret/place is gone");
        assert!(!error.message.contains("secret"), "{error}");
        assert!(Error::source(&error).is_some(), "it is for the node's log");
    }
}
