//! The HTTP request that a run serves, and its answer: whole, or sent as it is written.

use super::headers;
use super::json::{self, JsonArgument};
use crate::abi::{Range, bounded};
use crate::call::{Call, Fault, Functions};
use crate::guest::Stop;
use crate::limits::{
    ANSWER_HEADERS_JSON_MAX_BYTES, ANSWER_HEADERS_MAX, ANSWER_HEADERS_MAX_BYTES, ANSWER_WRITE_MAX_BYTES,
    OUTPUT_COUNTED_FROM_BYTES, OUTPUT_MAX_BYTES,
};
use crate::phases::Kind;
use crate::services::{AnswerHead, Exchange, ServiceError};
use bytes::Bytes;
use std::sync::Arc;
use wasmtime::Result;

/// Statuses that a function may answer with. Those below are not whole answers.
const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_bytes("http_request", http_request)?;
    functions.add("set_http_response", 0, set_http_response)?;
    functions.of_kind(Kind::Sending).add("http_response_start", 0, http_response_start)?;
    functions.add("http_response_write", 0, http_response_write)
}

async fn http_request(call: &mut Call<'_>, (): ()) -> Result<i64, Fault> {
    let request = call.state().invocation.exchange.as_ref().map(|exchange| exchange.request());
    match request {
        Some(request) => call.give(&request).await,
        None => Ok(0),
    }
}

async fn set_http_response(
    call: &mut Call<'_>,
    (status, headers, headers_size, body, body_size): (i32, i32, i32, i32, i32),
) -> Result<i32, Fault> {
    let (memory, _) = call.memory()?;
    // A range outside the memory traps whatever else is wrong, so all ranges are checked first.
    memory.argument((headers, headers_size))?;
    bounded("the body", memory.argument((body, body_size))?, OUTPUT_MAX_BYTES)?;
    let head = head(call, status, (headers, headers_size)).await?;
    let body = call.take((body, body_size)).await?;
    let state = call.state();
    if body.len() > OUTPUT_COUNTED_FROM_BYTES && !state.limiter.take(body.len()) {
        return Err(Stop::NoRoom.into());
    }
    exchange(call)?.respond(head, Bytes::from(body))?;
    Ok(1)
}

async fn http_response_start(
    call: &mut Call<'_>,
    (status, headers, headers_size): (i32, i32, i32),
) -> Result<i32, Fault> {
    let (memory, _) = call.memory()?;
    memory.argument((headers, headers_size))?;
    let head = head(call, status, (headers, headers_size)).await?;
    exchange(call)?.begin(head)?;
    Ok(1)
}

async fn http_response_write(call: &mut Call<'_>, bytes: Range) -> Result<i32, Fault> {
    let (memory, _) = call.memory()?;
    bounded("the bytes", memory.argument(bytes)?, ANSWER_WRITE_MAX_BYTES)?;
    let exchange = exchange(call)?;
    let bytes = call.take(bytes).await?;
    let is_there = call.ask(exchange.write(Bytes::from(bytes))).await?;
    Ok(is_there.into())
}

async fn head(call: &mut Call<'_>, status: i32, headers: Range) -> Result<AnswerHead, Fault> {
    let known = u16::try_from(status).ok().filter(|status| STATUSES.contains(status));
    let status = known.ok_or_else(|| {
        let (first, last) = (STATUSES.start(), STATUSES.end());
        ServiceError::invalid(format!("the status must be from {first} to {last}, got {status}"))
    })?;
    let headers =
        JsonArgument { what: "the header object", range: headers, max_bytes: ANSWER_HEADERS_JSON_MAX_BYTES };
    let headers =
        json::read(call, headers, |text| headers::fields(text, ANSWER_HEADERS_MAX, ANSWER_HEADERS_MAX_BYTES))
            .await??;
    Ok(AnswerHead { status, headers })
}

fn exchange(call: &mut Call<'_>) -> Result<Arc<dyn Exchange>, ServiceError> {
    let exchange = call.state().invocation.exchange.clone();
    exchange.ok_or_else(|| ServiceError::invalid("no HTTP request caused this run"))
}
