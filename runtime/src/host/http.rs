//! `http_fetch`: an HTTP request to the outside. A failure is part of the result and does not go to the log.

use super::headers;
use super::json::{self, JsonArgument};
use crate::abi::{bounded, text};
use crate::call::{Call, Fault, Functions};
use crate::limits::{
    FETCH_HEADERS_JSON_MAX_BYTES, FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES, FETCH_REQUEST_MAX_BYTES,
    FETCH_URL_MAX_BYTES, HOST_CHUNK_BYTES, HOST_NAME_MAX_BYTES,
};
use crate::services::{FetchRequest, FetchResponse, ServiceError};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use wasmtime::{Error, Result};

/// Bytes encoded as base64 at a time: whole groups of three.
const BASE64_CHUNK_BYTES: usize = HOST_CHUNK_BYTES / 3 * 3;

/// Pointers and lengths of method, URL, headers and body.
type Arguments = (i32, i32, i32, i32, i32, i32, i32, i32);

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_bytes("http_fetch", http_fetch)
}

async fn http_fetch(call: &mut Call<'_>, arguments: Arguments) -> Result<i64, Fault> {
    let response = fetch(call, arguments).await;
    let result = match Fault::caught(response)? {
        Ok(response) => to_json(call, response).await?,
        Err(why) => serialize(&Failure { status: 0, error: &why.message })?,
    };
    call.give(&result).await
}

/// A fetch that failed, as the guest gets it.
#[derive(Serialize)]
pub(super) struct Failure<'a> {
    pub(super) status: u16,
    pub(super) error: &'a str,
}

fn serialize(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(Error::from)
}

async fn fetch(
    call: &mut Call<'_>,
    (method, method_size, url, url_size, headers, headers_size, body, body_size): Arguments,
) -> Result<FetchResponse, Fault> {
    let (headers, body) = ((headers, headers_size), (body, body_size));
    let (memory, _) = call.memory()?;
    // A range outside the memory traps whatever else is wrong, so all ranges are checked first.
    let method = memory.argument((method, method_size))?;
    let url = memory.argument((url, url_size))?;
    memory.argument(headers)?;
    bounded("the body", memory.argument(body)?, FETCH_REQUEST_MAX_BYTES)?;
    let method = text("the method", method, HOST_NAME_MAX_BYTES)?.to_owned();
    let url = text("the URL", url, FETCH_URL_MAX_BYTES)?.to_owned();
    let headers =
        JsonArgument { what: "the header object", range: headers, max_bytes: FETCH_HEADERS_JSON_MAX_BYTES };
    let headers = json::read(call, headers, header_fields).await??;
    let body = Bytes::from(call.take(body).await?);
    let state = call.state();
    let request = FetchRequest { method, url, headers, body };
    let answer = state.host.http.fetch(&state.function.namespace, request, state.deadline);
    call.ask(answer).await
}

fn header_fields(text: &str) -> Result<Vec<(String, String)>, ServiceError> {
    headers::fields(text, FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES)
}

/// A header's name in the form that Go's net/http uses: `content-type` becomes `Content-Type`.
fn canonical(name: &str) -> String {
    let mut starts_word = true;
    name.chars()
        .map(|c| {
            let written = if starts_word { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            starts_word = c == '-';
            written
        })
        .collect()
}

/// The result for the guest. A long body is escaped or encoded in chunks, between which other guests run.
async fn to_json(call: &mut Call<'_>, response: FetchResponse) -> Result<Vec<u8>, Fault> {
    #[derive(Serialize)]
    struct Head {
        status: u16,
        headers: BTreeMap<String, Vec<String>>,
    }
    let mut headers = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in response.headers {
        headers.entry(canonical(&name)).or_default().push(value);
    }
    let mut json = serialize(&Head { status: response.status, headers })?;
    // Reopens the object for the body.
    json.pop();
    json.reserve(response.body.len() + response.body.len() / 2 + 64);
    let mut since = Instant::now();
    if let Ok(mut text) = std::str::from_utf8(&response.body) {
        json.extend_from_slice(b",\"body\":\"");
        while !text.is_empty() {
            let (chunk, rest) = text.split_at(text.floor_char_boundary(HOST_CHUNK_BYTES));
            let quoted = serialize(&chunk)?;
            json.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default());
            text = rest;
            call.yield_if_due(&mut since).await?;
        }
    } else {
        json.extend_from_slice(b",\"body_base64\":\"");
        for chunk in response.body.chunks(BASE64_CHUNK_BYTES) {
            json.extend_from_slice(BASE64_STANDARD.encode(chunk).as_bytes());
            call.yield_if_due(&mut since).await?;
        }
    }
    json.extend_from_slice(b"\"}");
    Ok(json)
}
