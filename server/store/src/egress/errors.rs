//! Translates failures of fetches for guests. Messages have no URL, because a URL may contain secrets.

use crate::limits::FETCH_CONNECT_TIMEOUT;
use orama_runtime::limits::FETCH_HEADERS_MAX;
use orama_runtime::services::{ErrorCode, ServiceError};
use std::error::Error;
use std::io;

/// The node's own error, passed through the HTTP client.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Denied(pub(super) ServiceError);

/// Finds the most informative cause.
pub(super) fn explain(error: &reqwest::Error) -> ServiceError {
    let mut told = None;
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(Denied(denied)) = cause.downcast_ref() {
            return denied.clone();
        }
        // The innermost cause is the most precise.
        told = words(cause).or(told);
        next = cause.source();
    }
    if let Some(told) = told {
        return told;
    }
    if error.is_timeout() {
        let message = format!("no connection within {} s", FETCH_CONNECT_TIMEOUT.as_secs());
        return ServiceError::new(ErrorCode::DeadlineExceeded, message);
    }
    if error.is_builder() {
        return ServiceError::invalid("the request is not valid HTTP");
    }
    ServiceError::unavailable(if error.is_connect() { "cannot connect" } else { "the connection failed" })
}

/// Whether the server closed or reset the connection before the head of its answer.
pub(super) fn is_dropped(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        let http = cause.downcast_ref::<hyper::Error>();
        if http.is_some_and(|error| error.is_incomplete_message() || error.is_closed()) {
            return true;
        }
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(
            io,
            Some(
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::NotConnected
                    | io::ErrorKind::UnexpectedEof
            )
        ) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn words(cause: &(dyn Error + 'static)) -> Option<ServiceError> {
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return of_io(error);
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(ServiceError::unavailable(format!("TLS: {error}")));
    }
    let error = cause.downcast_ref::<hyper::Error>()?;
    if error.is_parse_too_large() {
        return Some(ServiceError::new(
            ErrorCode::PayloadTooLarge,
            format!("the answer's headers are too large, or more than {FETCH_HEADERS_MAX}"),
        ));
    }
    let message = if error.is_parse() {
        "the server's answer is not HTTP"
    } else if error.is_incomplete_message() {
        "the server closed the connection before the end of its answer"
    } else {
        return None;
    };
    Some(ServiceError::unavailable(message))
}

fn of_io(error: &io::Error) -> Option<ServiceError> {
    // The error inside of an `io::Error` is not its `source`.
    if let Some(inner) = error.get_ref()
        && let Some(told) = words(inner)
    {
        return Some(told);
    }
    let message = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            "the server reset the connection"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to the host",
        io::ErrorKind::UnexpectedEof => "the server closed the connection before the end of its answer",
        io::ErrorKind::TimedOut => "the connection timed out",
        _ => return None,
    };
    Some(ServiceError::unavailable(message))
}
