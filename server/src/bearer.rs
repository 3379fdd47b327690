//! The credentials that a request's headers carry.

use crate::error::ApiError;
use http::{HeaderMap, HeaderName, header};
use orama_platform::auth::Form;

pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a request sends as its credentials. A token and an API key may come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent<T> {
    /// What has the form of a token.
    pub token: Option<T>,
    /// What has the form of an API key.
    pub key: Option<T>,
    /// Why something else is no credential of this node.
    pub foreign: Option<&'static str>,
}

impl<T> Default for Sent<T> {
    fn default() -> Self {
        Self { token: None, key: None, foreign: None }
    }
}

/// Two different tokens, or two different API keys.
pub struct Conflict;

impl From<Conflict> for ApiError {
    fn from(_: Conflict) -> Self {
        Self::bad_request(
            "CONFLICTING_CREDENTIALS",
            "the request holds different API keys or different tokens; send one of each at most",
        )
    }
}

impl<T: AsRef<str> + PartialEq> Sent<T> {
    /// Adds a text that was sent as a credential. The same one may come several times.
    ///
    /// # Errors
    /// [`Conflict`]
    pub fn add(&mut self, text: T) -> Result<(), Conflict> {
        let known = match Form::of(text.as_ref()) {
            Form::Token => &mut self.token,
            Form::Key => &mut self.key,
            Form::Other => {
                self.foreign = Some("the credential is unknown: it is neither an API key nor a token");
                return Ok(());
            }
        };
        match known {
            Some(known) if *known != text => return Err(Conflict),
            known => *known = Some(text),
        }
        Ok(())
    }

    /// The same with texts of another type.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Sent<U> {
        Sent { token: self.token.map(&mut change), key: self.key.map(change), foreign: self.foreign }
    }
}

/// The credentials of a request: `Authorization: Bearer X` and `X-API-Key: X`, of which each may hold a key or a token.
///
/// # Errors
/// 400 when the headers contradict each other. The message never repeats a value.
pub fn sent(headers: &HeaderMap) -> Result<Sent<&str>, ApiError> {
    let mut sent = Sent::default();
    if let Some(value) = single(headers, &header::AUTHORIZATION)? {
        match bearer_value(value) {
            Some(text) => sent.add(text)?,
            None => sent.foreign = Some("the Authorization header must be `Bearer` and a credential"),
        }
    }
    if let Some(value) = single(headers, &API_KEY)? {
        match text(value).filter(|text| is_token(text)) {
            Some(text) => sent.add(text)?,
            None => sent.foreign = Some("the X-API-Key header holds no API key"),
        }
    }
    Ok(sent)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return Err(ApiError::bad_request(
            "CONFLICTING_CREDENTIALS",
            format!("the request has several different {name} headers; send one"),
        ));
    }
    Ok(Some(value.as_bytes()))
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().map(str::trim)
}

fn bearer_value(value: &[u8]) -> Option<&str> {
    let (scheme, token) = text(value)?.split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && is_token(token)).then_some(token)
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
