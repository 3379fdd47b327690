//! Reads a request's body within its limits of size and time.

use crate::error::ApiError;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use hyper::body::{Body, Incoming};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// The slowest upload that is waited for, in bytes a second beyond the fixed time.
const SLOWEST_BYTES_PER_S: usize = 1 << 20;

/// Reads all of `body`. One that has arrived with its head, as most do, costs no timer and no copy.
///
/// # Errors
/// 413 over `limit_bytes`, before a byte is read where the length is announced; 408 when it takes longer than
/// `timeout` and a second for each MiB allowed; 400 when it breaks off.
pub(crate) async fn read_body(
    mut body: Incoming,
    limit_bytes: usize,
    timeout: Duration,
) -> Result<Bytes, ApiError> {
    let announced = body.size_hint().lower();
    if announced > limit_bytes as u64 {
        return Err(ApiError::too_large("the request's body", limit_bytes));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut read = pin!(collect(&mut body, limit_bytes));
    let at_once = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
    match at_once {
        Poll::Ready(result) => result,
        Poll::Pending => {
            let timeout = timeout + Duration::from_secs((limit_bytes / SLOWEST_BYTES_PER_S) as u64);
            monoio::time::timeout(timeout, read).await.unwrap_or_else(|_| {
                Err(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "REQUEST_TIMEOUT",
                    format!("the request's body did not arrive within {} s", timeout.as_secs()),
                ))
            })
        }
    }
}

async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, ApiError> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => {
                return Err(ApiError::bad_request(
                    "BAD_BODY",
                    format!("the request's body broke off: {error}"),
                ));
            }
        }
    }
}

async fn collect(body: &mut Incoming, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::too_large("the request's body", limit_bytes);
    let Some(first) = next_data(body).await? else { return Ok(Bytes::new()) };
    if first.len() > limit_bytes {
        return Err(too_large());
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = next_data(body).await? else { return Ok(first) };
    // What was announced may be a lie, so memory is taken as bytes arrive.
    let mut all = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(data) = next {
        if data.len() > limit_bytes - all.len() {
            return Err(too_large());
        }
        all.extend_from_slice(&data);
        next = next_data(body).await?;
    }
    Ok(all.freeze())
}
