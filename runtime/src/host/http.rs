//! `http_fetch`: an HTTP request to the outside. A failure is part of the result and does not go to the log.

use super::headers;
use super::json::{self, JsonArgument};
use crate::abi::{bounded, text};
use crate::call::{Call, Fault, Functions};
use crate::limits::{
    FETCH_HEADERS_JSON_MAX_BYTES, FETCH_HEADERS_MAX, FETCH_HEADERS_MAX_BYTES, FETCH_REQUEST_MAX_BYTES,
    FETCH_URL_MAX_BYTES, HOST_NAME_MAX_BYTES,
};
use crate::services::{FetchRequest, FetchResponse, ServiceError};
use crate::trace::TRACEPARENT;
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use wasmtime::{Error, Result};

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
    let mut headers = json::read(call, headers, header_fields).await??;
    let body = Bytes::from(call.take(body).await?);
    call.describe(|| format!("{method} {}", place(&url)));
    let state = call.state();
    if let Some(trace) = state.trace()
        && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT))
    {
        headers.push((TRACEPARENT.to_owned(), trace.to_string()));
    }
    let request = FetchRequest { method, url, headers, body };
    let answer = state.host.http.fetch(&state.function.namespace, request, state.deadline);
    call.ask(answer).await
}

/// Scheme, host and path of a URL. The rest may hold credentials.
fn place(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => String::new(),
    }
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

/// The result for the guest.
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
    json::add_bytes(call, &mut json, "body", &response.body).await?;
    Ok(json)
}
