//! One address of a cluster, and what its failures mean.

use super::RqliteError;
use reqwest::Response;
use std::error::Error;
use url::Url;

/// Of an answer's text that says what is wrong, so much is told on.
const WORDS_MAX: usize = 300;

/// Where one node of a cluster is.
pub(super) struct Address {
    /// Host and port, for messages.
    pub(super) name: String,
    pub(super) base: Url,
}

impl Address {
    pub(super) fn new(url: &Url) -> Result<Self, RqliteError> {
        let host = url.host_str().filter(|_| !url.cannot_be_a_base());
        let port = url.port_or_known_default();
        let (Some(host), Some(port)) = (host, port) else {
            return Err(RqliteError::Invalid("an address is not an http or https URL".to_owned()));
        };
        Ok(Self { name: format!("{host}:{port}"), base: url.clone() })
    }

    /// A failure on the way there or back.
    pub(super) fn failed(&self, error: reqwest::Error) -> RqliteError {
        let is_certain = error.is_connect() || error.is_builder();
        let mut innermost: &(dyn Error + 'static) = &error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        // The outermost one has the URL in its words.
        let words = if error.is_connect() && error.is_timeout() {
            "no connection in time".to_owned()
        } else if error.source().is_none() {
            "the connection failed".to_owned()
        } else {
            innermost.to_string()
        };
        let words = format!("{}: {words}", self.name);
        if is_certain { RqliteError::Unreachable(words) } else { RqliteError::Unknown(words) }
    }

    pub(super) fn named(&self, error: RqliteError) -> RqliteError {
        match error {
            RqliteError::Unknown(words) => RqliteError::Unknown(format!("{}: {words}", self.name)),
            RqliteError::Protocol(words) => RqliteError::Protocol(format!("{}: {words}", self.name)),
            error => error,
        }
    }
}

/// What an answer other than 200 says.
pub(super) async fn refusal(address: &Address, mut response: Response) -> RqliteError {
    let status = response.status();
    let mut text = Vec::new();
    // Without its words the status still says something.
    while let Ok(Some(piece)) = response.chunk().await
        && text.len() < WORDS_MAX
    {
        text.extend_from_slice(&piece);
    }
    text.truncate(WORDS_MAX);
    let text = String::from_utf8_lossy(&text);
    let words = format!("{}: {} {}", address.name, status.as_u16(), text.trim());
    match status.as_u16() {
        401 | 403 => RqliteError::Unauthorized,
        // It was not passed on to anybody.
        500..=599 if text.contains("leader not found") => RqliteError::Unreachable(words),
        500..=599 => RqliteError::Unknown(words),
        400 | 404 | 405 | 413 | 415 => RqliteError::Invalid(words),
        _ => RqliteError::Protocol(words),
    }
}
