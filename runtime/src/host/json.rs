//! Reads the JSON that guests hand over.
//!
//! serde_json instead of simd-json, as it was measured: simd-json took twice as long for a short list, five times as
//! long for 16 MiB of numbers and 250 MB of memory beside them, refuses numbers beyond 64 bits, which an event may
//! have, and wants a copy to write in.

use super::answered;
use crate::abi::{bounded, take, text, view};
use crate::guest::GuestState;
use crate::limits::HOST_CHUNK_BYTES;
use crate::services::{ErrorCode, ServiceError};
use crate::trap::shown;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::{Caller, Result};

/// What `read` makes of a text that a guest handed over. A short text is read where it lies; a long one is copied and
/// read where that holds up no other guest.
pub(super) async fn read<T: Send + 'static, E: From<ServiceError> + Send + 'static>(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    (what, range, max_bytes): (&'static str, (i32, i32), usize),
    read: fn(&str) -> Result<T, E>,
) -> Result<Result<T, E>> {
    let (memory, _) = view(caller)?;
    let bytes = memory.argument(host_function, range)?;
    if bytes.len() <= HOST_CHUNK_BYTES {
        return Ok(text(what, bytes, max_bytes).map_err(E::from).and_then(read));
    }
    if let Err(why) = bounded(what, bytes, max_bytes) {
        return Ok(Err(why.into()));
    }
    let copy = take(caller, host_function, range).await?;
    let done = Arc::new(Mutex::new(None));
    let result = Arc::clone(&done);
    let work = Box::new(move || {
        let read = text(what, &copy, max_bytes).map_err(E::from).and_then(read);
        *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
    });
    let reading = caller.data().host.scheduler.offload(work);
    answered(caller, reading).await?;
    let read = done.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(read.unwrap_or_else(|| {
        Err(ServiceError::new(ErrorCode::Internal, format!("{what} could not be read")).into())
    }))
}

/// Why a text was not what it should be, in words that can be shown.
pub(super) fn refused(what: &str, error: &serde_json::Error) -> ServiceError {
    ServiceError::invalid(format!("{what}: {}", shown(&error.to_string())))
}

/// The first elements of an array as they stand there, and how many it has. What is beyond `MAX` is counted only.
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
