//! The credential that a request's headers carry.

use crate::error::ApiError;
use http::{HeaderMap, HeaderName, header};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The credential of a request: `Authorization: Bearer X` or `X-API-Key: X`; `None` without one.
///
/// # Errors
/// 400 when the headers contradict each other, 401 when one is malformed. The message never repeats a value.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let authorization = single(headers, &header::AUTHORIZATION)?.map(bearer_value).transpose()?;
    let api_key = single(headers, &API_KEY)?;
    if api_key.is_some_and(|key| !is_token(key)) {
        return Err(ApiError::unauthorized("the X-API-Key header holds no API key"));
    }
    match (authorization, api_key) {
        (Some(a), Some(b)) if a != b => Err(ApiError::bad_request(
            "CONFLICTING_CREDENTIALS",
            "the Authorization and X-API-Key headers hold different credentials; send one of them",
        )),
        (a, b) => Ok(a.or(b)),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return Err(ApiError::bad_request(
            "CONFLICTING_CREDENTIALS",
            format!("the request has several different {name} headers; send one"),
        ));
    }
    let malformed = || ApiError::unauthorized(format!("the {name} header is not plain ASCII"));
    value.to_str().map(|text| Some(text.trim())).map_err(|_| malformed())
}

fn bearer_value(value: &str) -> Result<&str, ApiError> {
    let malformed = || ApiError::unauthorized("the Authorization header must be `Bearer` and a credential");
    let (scheme, token) = value.split_once(' ').ok_or_else(malformed)?;
    let token = token.trim_start();
    if scheme.eq_ignore_ascii_case("bearer") && is_token(token) { Ok(token) } else { Err(malformed()) }
}

/// RFC 6750's `b64token`, which API keys and JWTs are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| IN_TOKENS[usize::from(b)])
}

/// The bytes of a token: each request has its credential looked through.
static IN_TOKENS: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128_u8 {
        table[b as usize] =
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'+' | b'/' | b'=');
        b += 1;
    }
    table
};

#[cfg(test)]
mod tests;
