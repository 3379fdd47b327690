//! Answers of invocations: how output becomes a body, and what a client that does not take it may hold.

use super::core::Core;
use super::exchange::{Begun, WholeAnswer};
use crate::error::{ApiError, REQUEST_ID};
use crate::http::{AnswerBody, Response};
use crate::json::is_one_json_value;
use crate::limits::{ANSWER_COUNTED_FROM_BYTES, ENCODED_ON_CORE_MAX_BYTES};
use crate::shares::{Kind, NoRoom, Party, Permit, Shares};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use orama_runtime::invocation::{Failure, Outcome, Status};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

const DURATION_MS: HeaderName = HeaderName::from_static("x-duration-ms");

/// An output that is not JSON, as its client gets it.
#[derive(Serialize, ToSchema)]
#[schema(as = WrappedOutput)]
pub(crate) struct Wrapped<'a> {
    request_id: &'a str,
    #[serde(flatten)]
    output: Text<'a>,
    status: &'a str,
    duration_ms: f64,
}

/// Output as a part of JSON: the text, or base64 where it is none.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OutputText)]
pub(crate) enum Text<'a> {
    #[serde(rename = "output")]
    Utf8(&'a str),
    #[serde(rename = "output_base64")]
    Base64(String),
}

impl<'a> Text<'a> {
    pub(super) fn of(output: &'a [u8]) -> Self {
        std::str::from_utf8(output).map_or_else(|_| Self::Base64(STANDARD.encode(output)), Self::Utf8)
    }
}

/// Bytes of an answer and their share, both as long as the connection needs them.
struct Held {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts the bytes of an answer until its client has taken them, unless they are few.
///
/// # Errors
/// [`NoRoom`]
pub(super) fn held(
    shares: &Arc<Shares>,
    bytes: Bytes,
    parties: [Option<Arc<Party>>; 2],
) -> Result<Bytes, ApiError> {
    let permit = room_for(shares, bytes.len(), parties)?;
    Ok(hold(bytes, permit))
}

fn hold(bytes: Bytes, permit: Option<Permit>) -> Bytes {
    match permit {
        Some(permit) => Bytes::from_owner(Held { bytes, _permit: permit }),
        None => bytes,
    }
}

/// A permit for an answer of so many bytes; `None` for one that is not counted.
///
/// # Errors
/// [`NoRoom`]
pub(super) fn room_for(
    shares: &Arc<Shares>,
    bytes: usize,
    parties: [Option<Arc<Party>>; 2],
) -> Result<Option<Permit>, NoRoom> {
    if bytes <= ANSWER_COUNTED_FROM_BYTES {
        return Ok(None);
    }
    let mut permit = shares.permit(Kind::AnswerBytes, parties);
    permit.grow(bytes)?;
    Ok(Some(permit))
}

/// How output becomes a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON, in an object where the output is none.
    Invoke,
    /// The output as it is.
    Web,
}

/// The answer to an invocation.
///
/// # Errors
/// The failure as it is answered, or [`NoRoom`].
pub(super) async fn answer(
    core: &Core,
    (outcome, duration): (Outcome, Duration),
    shaped: Option<WholeAnswer>,
    form: Form,
    request_id: &str,
    parties: [Option<Arc<Party>>; 2],
) -> Result<Response, ApiError> {
    if let Some(error) = refusal(&outcome, &parties) {
        return Err(error);
    }
    if let Some(WholeAnswer { status, headers, body }) = shaped {
        let body = held(&core.shared.shares, body, parties)?;
        return response((status, headers, body.into()), Some(duration), request_id);
    }
    let output = outcome.output;
    // Before it is encoded: those that wait for that hold their output.
    let mut permit = room_for(&core.shared.shares, output.len(), parties)?;
    let (content_type, body) = if output.len() <= ENCODED_ON_CORE_MAX_BYTES {
        body(output, form, duration, request_id)?
    } else {
        let request_id = request_id.to_owned();
        core.ask(move || body(output, form, duration, &request_id)).await??
    };
    if let Some(permit) = &mut permit {
        permit.set(body.len())?;
    }
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(CONTENT_TYPE, content_type);
    response((StatusCode::OK, headers, hold(body, permit).into()), Some(duration), request_id)
}

/// The beginning of an answer that its function writes.
///
/// # Errors
/// 500 when the request's id is not a header, which it is.
pub(super) fn begun_answer(begun: Begun, request_id: &str) -> Result<Response, ApiError> {
    response((begun.status, begun.headers, begun.body.into()), None, request_id)
}

fn response(
    (status, headers, body): (StatusCode, HeaderMap, AnswerBody),
    duration: Option<Duration>,
    request_id: &str,
) -> Result<Response, ApiError> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    if let Some(duration) = duration {
        headers.insert(DURATION_MS, text_header(milliseconds(duration))?);
    }
    headers.insert(REQUEST_ID, text_header(request_id.to_owned())?);
    Ok(response)
}

/// A body and its type.
fn body(
    output: Vec<u8>,
    form: Form,
    duration: Duration,
    request_id: &str,
) -> Result<(HeaderValue, Bytes), ApiError> {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    if is_one_json_value(&output) {
        return Ok((JSON, Bytes::from(output)));
    }
    if form == Form::Web {
        let is_text = std::str::from_utf8(&output).is_ok();
        let kind = if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
        return Ok((HeaderValue::from_static(kind), Bytes::from(output)));
    }
    let wrapped = Wrapped {
        request_id,
        output: Text::of(&output),
        status: Status::Success.as_str(),
        duration_ms: duration.as_micros() as f64 / 1000.0,
    };
    let wrapped = serde_json::to_vec(&wrapped).map_err(ApiError::internal)?;
    Ok((JSON, Bytes::from(wrapped)))
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

/// The answer to an invocation that has failed; `None` for a success. Strangers, who count for their address, are not told
/// what the function said.
pub(super) fn refusal(outcome: &Outcome, [_, address]: &[Option<Arc<Party>>; 2]) -> Option<ApiError> {
    let failure = outcome.result.as_ref().err()?;
    let message = match address {
        Some(_) => failure.to_string(),
        None => outcome.error().unwrap_or_default(),
    };
    Some(match failure {
        Failure::Timeout(_) => ApiError::new(StatusCode::GATEWAY_TIMEOUT, failure.code(), message),
        Failure::Overloaded => ApiError::overloaded(message),
        _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, failure.code(), message),
    })
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
