//! Answers of invocations: how output becomes a body, and what a client that does not take it may hold.

use super::core::Core;
use crate::error::{ApiError, REQUEST_ID};
use crate::http::Response;
use crate::json::is_one_json_value;
use crate::limits::{ANSWER_COUNTED_FROM_BYTES, ENCODED_ON_CORE_MAX_BYTES};
use crate::shares::{Kind, NoRoom, Party, Permit, Shares};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use orama_runtime::invocation::{Failure, Outcome, Status};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

const DURATION_MS: HeaderName = HeaderName::from_static("x-duration-ms");

/// An output that is not JSON, as its client gets it.
#[derive(Serialize)]
struct Wrapped<'a> {
    request_id: &'a str,
    #[serde(flatten)]
    output: Text<'a>,
    status: &'a str,
    duration_ms: f64,
}

/// Output as a part of JSON: the text, or base64 where it is none.
#[derive(Debug, Serialize)]
pub(super) enum Text<'a> {
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

/// The answer to an invocation.
///
/// # Errors
/// The failure as it is answered, or [`NoRoom`].
pub(super) async fn answer(
    core: &Core,
    (outcome, duration): (Outcome, Duration),
    request_id: &str,
    parties: [Option<Arc<Party>>; 2],
) -> Result<Response, ApiError> {
    outcome.result.map_err(|failure| refusal(&failure))?;
    let output = outcome.output;
    // Before it is encoded: those that wait for that hold their output.
    let mut permit = room_for(&core.shared.shares, output.len(), parties)?;
    let body = if output.len() <= ENCODED_ON_CORE_MAX_BYTES {
        body(output, duration, request_id)?
    } else {
        let request_id = request_id.to_owned();
        core.ask(move || body(output, duration, &request_id)).await??
    };
    if let Some(permit) = &mut permit {
        permit.set(body.len())?;
    }
    let mut response = Response::new(hold(body, permit).into());
    let headers = response.headers_mut();
    headers.reserve(3);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [(DURATION_MS, milliseconds(duration)), (REQUEST_ID, request_id.to_owned())] {
        headers.insert(name, text_header(value)?);
    }
    Ok(response)
}

/// The output as it is where it is one JSON value, else within an object.
fn body(output: Vec<u8>, duration: Duration, request_id: &str) -> Result<Bytes, ApiError> {
    if is_one_json_value(&output) {
        return Ok(Bytes::from(output));
    }
    let wrapped = Wrapped {
        request_id,
        output: Text::of(&output),
        status: Status::Success.as_str(),
        duration_ms: duration.as_micros() as f64 / 1000.0,
    };
    serde_json::to_vec(&wrapped).map(Bytes::from).map_err(ApiError::internal)
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
