//! `http_fetch`: a request to the outside. What goes wrong is told in the result and not logged.

use super::{answered, json};
use crate::abi::{bounded, give, take, text, view};
use crate::guest::GuestState;
use crate::limits::{
    FETCH_HEADERS_JSON_MAX_BYTES, FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES, FETCH_REQUEST_MAX_BYTES,
    FETCH_URL_MAX_BYTES, HOST_CHUNK_BYTES, HOST_NAME_MAX_BYTES,
};
use crate::parking::arrive;
use crate::services::{ErrorCode, FetchRequest, FetchResponse, ServiceError};
use crate::trap::shown;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Instant;
use wasmtime::{Caller, Error, Linker, Result};

const FETCH: &str = "http_fetch";

/// Bytes encoded as base64 at a time: whole groups of three.
const BASE64_CHUNK_BYTES: usize = HOST_CHUNK_BYTES / 3 * 3;

/// Pointers and lengths of method, URL, headers and body.
type Arguments = (i32, i32, i32, i32, i32, i32, i32, i32);

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    linker.func_wrap_async(module, FETCH, |mut caller: Caller<'_, GuestState>, arguments: Arguments| {
        Box::new(async move {
            arrive(&mut caller).await;

            let result = match fetch(&mut caller, arguments).await? {
                Ok(response) => in_json(&mut caller, response).await?,
                Err(why) => written(&Failure { status: 0, error: &why.message })?,
            };
            give(&mut caller, FETCH, &result).await
        })
    })?;
    Ok(())
}

#[derive(Serialize)]
struct Failure<'a> {
    status: u16,
    error: &'a str,
}

fn written(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(Error::from)
}

async fn fetch(
    caller: &mut Caller<'_, GuestState>,
    (method, method_size, url, url_size, headers, headers_size, body, body_size): Arguments,
) -> Result<Result<FetchResponse, ServiceError>> {
    let (memory, _) = view(caller)?;
    let method = memory.argument(FETCH, (method, method_size))?;
    let url = memory.argument(FETCH, (url, url_size))?;
    memory.argument(FETCH, (headers, headers_size))?;
    let checked = bounded("the body", memory.argument(FETCH, (body, body_size))?, FETCH_REQUEST_MAX_BYTES);
    let checked = checked.and_then(|_| {
        let method = text("the method", method, HOST_NAME_MAX_BYTES)?.to_owned();
        Ok((method, text("the URL", url, FETCH_URL_MAX_BYTES)?.to_owned()))
    });
    let (method, url) = match checked {
        Ok(checked) => checked,
        Err(why) => return Ok(Err(why)),
    };
    let given = ("the header object", (headers, headers_size), FETCH_HEADERS_JSON_MAX_BYTES);
    let headers = match json::read(caller, FETCH, given, header_fields).await? {
        Ok(headers) => headers,
        Err(why) => return Ok(Err(why)),
    };
    let body = Bytes::from(take(caller, FETCH, (body, body_size)).await?);
    let state = caller.data();
    let request = FetchRequest { method, url, headers, body };
    let answer = state.host.http.fetch(&state.function.namespace, request, state.deadline);
    answered(caller, answer).await
}

/// Names and values of an object whose values are strings or arrays of strings. An empty text is none, as is `null`,
/// which Go makes of a map that was never made.
fn header_fields(text: &str) -> Result<Vec<(String, String)>, ServiceError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let given: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(text)
        .map_err(|error| json::refused("the headers are not a JSON object of strings", &error))?;
    let mut fields = Vec::new();
    let mut bytes = 0;
    for (name, value) in given.into_iter().flatten() {
        let values: Vec<String> = match value.get().as_bytes().first() {
            Some(b'[') => serde_json::from_str(value.get()),
            _ => serde_json::from_str(value.get()).map(|value| vec![value]),
        }
        .map_err(|_| {
            let why = format!("the header {} is neither a string nor an array of strings", shown(&name));
            ServiceError::invalid(why)
        })?;
        for value in values {
            bytes += name.len() + value.len();
            fields.push((name.clone(), value));
        }
    }
    let too_large = |what: &str, limit: usize| {
        Err(ServiceError::new(ErrorCode::PayloadTooLarge, format!("{what}, more than the limit of {limit}")))
    };
    if fields.len() > FETCH_HEADERS_MAX {
        return too_large(&format!("there are {} headers", fields.len()), FETCH_HEADERS_MAX);
    }
    if bytes > FETCH_HEADERS_MAX_BYTES {
        return too_large(&format!("the headers have {bytes} bytes"), FETCH_HEADERS_MAX_BYTES);
    }
    Ok(fields)
}

/// A header's name as Go writes it: `content-type` is `Content-Type`.
fn canonical(name: &str) -> String {
    let mut begins = true;
    name.chars()
        .map(|c| {
            let written = if begins { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            begins = c == '-';
            written
        })
        .collect()
}

/// The result for the guest. A long body is escaped or encoded in pieces, between which others are let in.
async fn in_json(caller: &mut Caller<'_, GuestState>, response: FetchResponse) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Head {
        status: u16,
        headers: BTreeMap<String, Vec<String>>,
    }
    let mut headers = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in response.headers {
        headers.entry(canonical(&name)).or_default().push(value);
    }
    let mut json = written(&Head { status: response.status, headers })?;
    // The object goes on with the body.
    json.pop();
    json.reserve(response.body.len() + response.body.len() / 2 + 64);
    let mut since = Instant::now();
    if let Ok(mut text) = std::str::from_utf8(&response.body) {
        json.extend_from_slice(b",\"body\":\"");
        while !text.is_empty() {
            let (piece, rest) = text.split_at(text.floor_char_boundary(HOST_CHUNK_BYTES));
            let quoted = written(&piece)?;
            json.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default());
            text = rest;
            rest_of_slice(caller, &mut since).await?;
        }
    } else {
        json.extend_from_slice(b",\"body_base64\":\"");
        for piece in response.body.chunks(BASE64_CHUNK_BYTES) {
            json.extend_from_slice(BASE64_STANDARD.encode(piece).as_bytes());
            rest_of_slice(caller, &mut since).await?;
        }
    }
    json.extend_from_slice(b"\"}");
    Ok(json)
}

async fn rest_of_slice(caller: &mut Caller<'_, GuestState>, since: &mut Instant) -> Result<()> {
    if let Some(others) = caller.data().give_way(since)? {
        others.await;
    }
    Ok(())
}
