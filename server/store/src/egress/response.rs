//! Reads answers within their limits.

use super::errors;
use bytes::BytesMut;
use orama_runtime::limits::{FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES, FETCH_RESPONSE_MAX_BYTES};
use orama_runtime::services::{ErrorCode, FetchResponse, ServiceError};
use reqwest::Response;

/// Reads an answer to its end. A truncated body is an error.
pub(super) async fn read(mut response: Response) -> Result<FetchResponse, ServiceError> {
    let too_large = |what: &str| {
        let message = format!(
            "the answer's {what}; the limits are {FETCH_HEADERS_MAX} headers of {FETCH_HEADERS_MAX_BYTES} bytes \
             together and a body of {FETCH_RESPONSE_MAX_BYTES} bytes"
        );
        ServiceError::new(ErrorCode::PayloadTooLarge, message)
    };
    let headers = response.headers();
    let header_bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.as_bytes().len()).sum();
    if headers.len() > FETCH_HEADERS_MAX || header_bytes > FETCH_HEADERS_MAX_BYTES {
        return Err(too_large("headers are too large"));
    }
    let announced = response.content_length().unwrap_or(0);
    let capacity = usize::try_from(announced).ok().filter(|bytes| *bytes <= FETCH_RESPONSE_MAX_BYTES);
    let capacity = capacity.ok_or_else(|| too_large("body is too large"))?;
    let status = response.status().as_u16();
    let headers = headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    // A server's Content-Length is not trusted, so it does not determine the allocation.
    let mut body = BytesMut::with_capacity(capacity.min(64 << 10));
    while let Some(chunk) = response.chunk().await.map_err(|error| errors::explain(&error))? {
        if body.len() + chunk.len() > FETCH_RESPONSE_MAX_BYTES {
            return Err(too_large("body is too large"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(FetchResponse { status, headers, body: body.freeze() })
}
