//! `cache_*`: the namespace's cache. A failure goes to the log; the guest receives a miss, 0 or nothing.

use crate::abi::{Range, bounded, text};
use crate::call::{Call, Fault, Functions};
use crate::limits::{CACHE_KEY_MAX_BYTES, CACHE_TTL_MAX, CACHE_VALUE_MAX_BYTES};
use crate::services::ServiceError;
use bytes::Bytes;
use std::time::Duration;
use wasmtime::Result;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_bytes("cache_get", cache_get)?;
    functions.add("cache_set", (), cache_set)?;
    functions.add("cache_delete", 0, cache_delete)?;
    functions.add("cache_incr", 0, cache_incr)?;
    functions.add("cache_incr_by", 0, cache_incr_by)
}

fn checked_key(bytes: &[u8]) -> Result<&str, ServiceError> {
    match text("the key", bytes, CACHE_KEY_MAX_BYTES)? {
        "" => Err(ServiceError::invalid("the key is empty")),
        key => Ok(key),
    }
}

/// `None` means that the value does not expire.
fn checked_ttl(seconds: i64) -> Result<Option<Duration>, ServiceError> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds)).filter(|ttl| *ttl <= CACHE_TTL_MAX)),
        Err(_) => Err(ServiceError::invalid(format!(
            "the TTL is {seconds} s; it must be at least 0, and 0 means no expiry"
        ))),
    }
}

async fn cache_get(call: &mut Call<'_>, key: Range) -> Result<i64, Fault> {
    let (memory, state) = call.memory()?;
    let key = checked_key(memory.argument(key)?)?;
    let answer = state.host.cache.get(&state.function.namespace, key);
    match call.ask(answer).await? {
        Some(value) => call.give(&value).await,
        None => Ok(0),
    }
}

async fn cache_set(
    call: &mut Call<'_>,
    (key, key_size, value, value_size, ttl): (i32, i32, i32, i32, i64),
) -> Result<(), Fault> {
    let (memory, state) = call.memory()?;
    let (key, value) = (memory.argument((key, key_size))?, memory.argument((value, value_size))?);
    let key = checked_key(key)?;
    let value = bounded("the value", value, CACHE_VALUE_MAX_BYTES)?;
    let (ttl, value) = (checked_ttl(ttl)?, Bytes::copy_from_slice(value));
    let answer = state.host.cache.set(&state.function.namespace, key, value, ttl);
    call.ask(answer).await
}

async fn cache_delete(call: &mut Call<'_>, key: Range) -> Result<i32, Fault> {
    let (memory, state) = call.memory()?;
    let key = checked_key(memory.argument(key)?)?;
    let answer = state.host.cache.delete(&state.function.namespace, key);
    call.ask(answer).await?;
    Ok(1)
}

fn cache_incr(call: &mut Call<'_>, key: Range) -> impl Future<Output = Result<i64, Fault>> {
    increment(call, key, 1)
}

fn cache_incr_by(
    call: &mut Call<'_>,
    (key, size, delta): (i32, i32, i64),
) -> impl Future<Output = Result<i64, Fault>> {
    increment(call, (key, size), delta)
}

async fn increment(call: &mut Call<'_>, key: Range, delta: i64) -> Result<i64, Fault> {
    let (memory, state) = call.memory()?;
    let key = checked_key(memory.argument(key)?)?;
    let answer = state.host.cache.increment(&state.function.namespace, key, delta);
    call.ask(answer).await
}
