//! The hot path: from a request to an answer, on one core.

use super::cache::Ready;
use super::core::Core;
use super::run::{Cause, Running, ready, run_with_retries};
use crate::error::{ApiError, REQUEST_ID};
use crate::http::{Response, read_body};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{StatusCode, request};
use hyper::body::Incoming;
use orama_platform::auth::{Action, Credential};
use orama_runtime::invocation::{Failure, Outcome, Status};
use orama_runtime::limits::INPUT_MAX_BYTES;
use orama_runtime::names::Namespace;
use serde::Serialize;
use std::rc::Rc;
use std::time::Duration;

const DURATION_MS: HeaderName = HeaderName::from_static("x-duration-ms");

/// A failed request, and whether its body was left unread.
pub(super) struct Refused {
    pub(super) error: ApiError,
    pub(super) body_unread: bool,
}

/// Everything that is found out before the body is read.
fn before_body(error: ApiError) -> Refused {
    Refused { error, body_unread: true }
}

fn after_body(error: ApiError) -> Refused {
    Refused { error, body_unread: false }
}

/// Answers an invoke request.
pub(super) async fn invoke(
    core: &Rc<Core>,
    parts: &request::Parts,
    body: Incoming,
    (path_namespace, path_name): (Option<&str>, &str),
    request_id: &str,
) -> Result<Response, Refused> {
    let credential = core.credential(&parts.headers).await.map_err(before_body)?;
    let credential = credential.as_deref();
    let namespace = namespace(credential, path_namespace, parts.uri.query()).map_err(before_body)?;
    let ready = permitted(core, credential, &namespace, path_name).await.map_err(before_body)?;
    let running = Running::enter(core).map_err(before_body)?;
    let input = read_body(body, INPUT_MAX_BYTES, core.shared.body_timeout)
        .await
        .map_err(|error| Refused { body_unread: error.status != StatusCode::BAD_REQUEST, error })?;
    let cause = Cause {
        trigger_type: "http",
        trigger_depth: 0,
        caller: credential.and_then(|credential| credential.caller.clone()),
    };
    let (outcome, duration) = run_with_retries(running, &ready, input, request_id, &cause).await;
    answer(outcome, duration, request_id).map_err(after_body)
}

/// The function, where the credential or its being public allows to run it.
///
/// # Errors
/// 401 or 403 where it is not allowed, 404 where it is and there is no such function.
pub(super) async fn permitted(
    core: &Rc<Core>,
    credential: Option<&Credential>,
    namespace: &Namespace,
    path_name: &str,
) -> Result<Rc<Ready>, ApiError> {
    let may = credential.map_or(Ok(false), |credential| may_invoke(credential, namespace))?;
    match ready(core, namespace, path_name).await {
        Ok(ready) if may || ready.function.is_public => Ok(ready),
        // Whether a function is there is nobody's business but its namespace's.
        Ok(_) => Err(not_yours(credential.is_some())),
        Err(error) if !may && error.status == StatusCode::NOT_FOUND => Err(not_yours(credential.is_some())),
        Err(error) => Err(error),
    }
}

fn not_yours(has_credential: bool) -> ApiError {
    if has_credential {
        ApiError::forbidden("the function belongs to another namespace and is not public")
    } else {
        ApiError::unauthorized("a credential is needed: Authorization: Bearer <API key>, or X-API-Key")
    }
}

/// The namespace a request is about: the path's or the query's where one is given, else the credential's.
///
/// # Errors
/// 400 for a name that cannot be one, 401 where nothing says which.
pub(super) fn namespace(
    credential: Option<&Credential>,
    path_namespace: Option<&str>,
    query: Option<&str>,
) -> Result<Namespace, ApiError> {
    let given = match path_namespace {
        Some(namespace) => Some(Namespace::new(namespace)?),
        None => {
            match query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("namespace="))) {
                Some(namespace) => Some(Namespace::new(namespace)?),
                None => None,
            }
        }
    };
    match (given, credential) {
        (Some(namespace), _) => Ok(namespace),
        (None, Some(credential)) => Ok(credential.namespace.clone()),
        (None, None) => Err(not_yours(false)),
    }
}

/// Whether the credential alone allows it. In another namespace only public functions are left.
fn may_invoke(credential: &Credential, namespace: &Namespace) -> Result<bool, ApiError> {
    if credential.namespace != *namespace {
        return Ok(credential.role.allows(Action::AnyNamespace));
    }
    credential.require(Action::Invoke)?;
    Ok(true)
}

/// An output that is not JSON, as its client gets it.
#[derive(Serialize)]
struct Wrapped<'a> {
    request_id: &'a str,
    output: &'a str,
    status: &'a str,
    duration_ms: f64,
}

fn answer(outcome: Outcome, duration: Duration, request_id: &str) -> Result<Response, ApiError> {
    outcome.result.map_err(|failure| refusal(&failure))?;
    let body = match outcome.output.first() {
        Some(b'{' | b'[') => Bytes::from(outcome.output),
        _ => {
            let wrapped = Wrapped {
                request_id,
                output: &String::from_utf8_lossy(&outcome.output),
                status: Status::Success.as_str(),
                duration_ms: duration.as_micros() as f64 / 1000.0,
            };
            Bytes::from(serde_json::to_vec(&wrapped).map_err(ApiError::internal)?)
        }
    };
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.reserve(3);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [(DURATION_MS, milliseconds(duration)), (REQUEST_ID, request_id.to_owned())] {
        headers.insert(name, text_header(value)?);
    }
    Ok(response)
}

/// A duration in milliseconds with three decimals. Every answer has one, and formatting with padding is slow.
fn milliseconds(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut text = (micros / 1000).to_string();
    text.push('.');
    text.extend([100, 10, 1].map(|place| char::from(b'0' + (micros / place % 10) as u8)));
    text
}

/// A header from text, without copying it.
pub(super) fn text_header(text: String) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(ApiError::internal)
}

/// The answer to a failed invocation.
pub(super) fn refusal(failure: &Failure) -> ApiError {
    match failure {
        Failure::Timeout(_) => {
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, failure.code(), failure.to_string())
        }
        Failure::Overloaded => ApiError::overloaded(failure.to_string()),
        _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, failure.code(), failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_three_decimals() {
        for (micros, text) in [(0, "0.000"), (7, "0.007"), (1_040, "1.040"), (300_000_123, "300000.123")] {
            assert_eq!(milliseconds(Duration::from_micros(micros)), text);
        }
    }
}
