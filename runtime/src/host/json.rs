//! Reads the JSON that guests pass.
//!
//! Measurements chose serde_json over simd-json. simd-json took twice as long for a short list, five times as long for
//! 16 MiB of numbers, and 250 MB of memory besides. It refuses numbers beyond 64 bits, which an event may contain, and it
//! needs a copy that it can write to.

use crate::abi::{Range, bounded, text};
use crate::call::{Call, Fault};
use crate::limits::HOST_CHUNK_BYTES;
use crate::services::{ErrorCode, ServiceError};
use crate::trap::printable;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::{Error, Result};

/// Bytes encoded as base64 at a time: whole groups of three.
const BASE64_CHUNK_BYTES: usize = HOST_CHUNK_BYTES / 3 * 3;

/// An argument that is JSON text.
#[derive(Clone, Copy)]
pub(super) struct JsonArgument {
    /// Names the argument in errors.
    pub(super) what: &'static str,
    pub(super) range: Range,
    pub(super) max_bytes: usize,
}

/// Parses an argument with `parse`. A short text is parsed in place. A long one is copied and parsed where it delays no other
/// guest.
pub(super) async fn read<T: Send + 'static, E: From<ServiceError> + Send + 'static>(
    call: &mut Call<'_>,
    JsonArgument { what, range, max_bytes }: JsonArgument,
    parse: fn(&str) -> Result<T, E>,
) -> Result<Result<T, E>, Fault> {
    let (memory, _) = call.memory()?;
    let bytes = memory.argument(range)?;
    if bytes.len() <= HOST_CHUNK_BYTES {
        return Ok(text(what, bytes, max_bytes).map_err(E::from).and_then(parse));
    }
    if let Err(why) = bounded(what, bytes, max_bytes) {
        return Ok(Err(why.into()));
    }
    let copy = call.take(range).await?;
    let parsed = Arc::new(Mutex::new(None));
    let result = Arc::clone(&parsed);
    let work = Box::new(move || {
        let value = text(what, &copy, max_bytes).map_err(E::from).and_then(parse);
        *result.lock() = Some(value);
    });
    let offloaded = call.state().host.scheduler.offload(work);
    call.wait_for(offloaded).await?;
    let parsed = parsed.lock().take();
    Ok(parsed.unwrap_or_else(|| {
        Err(ServiceError::new(ErrorCode::Internal, format!("{what} could not be parsed")).into())
    }))
}

/// Adds bytes to a JSON object, which must have members already: as text under `name`, or as base64 under `name_base64` where
/// they are no UTF-8. Long ones are written in chunks, between which other guests run.
pub(super) async fn add_bytes(
    call: &mut Call<'_>,
    object: &mut Vec<u8>,
    name: &str,
    bytes: &[u8],
) -> Result<(), Fault> {
    // Reopens the object.
    object.pop();
    object.reserve(bytes.len() + bytes.len() / 2 + 64);
    let mut since = Instant::now();
    if let Ok(mut text) = std::str::from_utf8(bytes) {
        object.extend_from_slice(format!(",\"{name}\":\"").as_bytes());
        while !text.is_empty() {
            let (chunk, rest) = text.split_at(text.floor_char_boundary(HOST_CHUNK_BYTES));
            let quoted = serde_json::to_vec(chunk).map_err(Error::from)?;
            object.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default());
            text = rest;
            call.yield_if_due(&mut since).await?;
        }
    } else {
        object.extend_from_slice(format!(",\"{name}_base64\":\"").as_bytes());
        for chunk in bytes.chunks(BASE64_CHUNK_BYTES) {
            object.extend_from_slice(BASE64_STANDARD.encode(chunk).as_bytes());
            call.yield_if_due(&mut since).await?;
        }
    }
    object.extend_from_slice(b"\"}");
    Ok(())
}

/// The error for text that is not the JSON that it should be.
pub(super) fn refused(what: &str, error: &serde_json::Error) -> ServiceError {
    ServiceError::invalid(format!("{what}: {}", printable(&error.to_string())))
}

/// The first `MAX` elements of an array, not parsed, and the number of all its elements.
pub(super) struct Elements<'a, const MAX: usize> {
    pub(super) first: Vec<&'a RawValue>,
    pub(super) count: usize,
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Elements<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ElementsVisitor)
    }
}

struct ElementsVisitor<const MAX: usize>;

impl<'de, const MAX: usize> Visitor<'de> for ElementsVisitor<MAX> {
    type Value = Elements<'de, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < MAX {
            match sequence.next_element()? {
                Some(element) => first.push(element),
                None => return Ok(Elements { count: first.len(), first }),
            }
        }
        let mut count = first.len();
        while sequence.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Elements { first, count })
    }
}
