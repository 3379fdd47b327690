//! One address of a cluster, and the classification of its failures.

use super::RqliteError;
use crate::causes::Problem;
use reqwest::Response;
use std::error::Error;
use url::Url;

/// Bytes of an error's text that are passed on.
const WORDS_MAX: usize = 300;

/// The address of one server.
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
            return Err(RqliteError::Invalid("an address of rqlite is not an http or https URL".into()));
        };
        Ok(Self { name: format!("{host}:{port}"), base: url.clone() })
    }

    /// Classifies a failure of the connection.
    pub(super) fn failed(&self, error: reqwest::Error) -> RqliteError {
        let is_certain = error.is_connect() || error.is_builder();
        let mut innermost: &(dyn Error + 'static) = &error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        // The message of the outermost cause has the URL.
        let words = if error.is_connect() && error.is_timeout() {
            "the connection timed out".to_owned()
        } else if error.source().is_none() {
            "the connection failed".to_owned()
        } else {
            innermost.to_string()
        };
        let words = Problem::caused(words, error.without_url()).at(&self.name);
        if is_certain { RqliteError::Unreachable(words) } else { RqliteError::Unknown(words) }
    }

    pub(super) fn named(&self, error: RqliteError) -> RqliteError {
        match error {
            RqliteError::Unknown(problem) => RqliteError::Unknown(problem.at(&self.name)),
            RqliteError::Protocol(problem) => RqliteError::Protocol(problem.at(&self.name)),
            error => error,
        }
    }
}

/// Classifies an answer with another status than 200.
pub(super) async fn refusal(address: &Address, mut response: Response) -> RqliteError {
    let status = response.status();
    let mut text = Vec::new();
    // Without the text, the status still tells the kind.
    while let Ok(Some(piece)) = response.chunk().await
        && text.len() < WORDS_MAX
    {
        text.extend_from_slice(&piece);
    }
    text.truncate(WORDS_MAX);
    let text = String::from_utf8_lossy(&text);
    let words = Problem::from(format!("{}: {} {}", address.name, status.as_u16(), text.trim()));
    match status.as_u16() {
        401 | 403 => RqliteError::Unauthorized,
        // The server did not pass the request on.
        500..=599 if text.contains("leader not found") => RqliteError::Unreachable(words),
        500..=599 => RqliteError::Unknown(words),
        400 | 404 | 405 | 413 | 415 => RqliteError::Invalid(words),
        _ => RqliteError::Protocol(words),
    }
}
