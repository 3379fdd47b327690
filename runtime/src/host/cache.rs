//! `cache_*`: the namespace's cache. A failure is logged; the guest sees a miss, 0 or nothing.

use super::ask;
use crate::abi::{bounded, give, text, view};
use crate::guest::GuestState;
use crate::limits::{CACHE_KEY_MAX_BYTES, CACHE_TTL_MAX, CACHE_VALUE_MAX_BYTES};
use crate::parking::arrive;
use crate::services::ServiceError;
use bytes::Bytes;
use std::time::Duration;
use wasmtime::{Caller, Linker, Result};

const GET: &str = "cache_get";
const SET: &str = "cache_set";
const DELETE: &str = "cache_delete";
const INCR: &str = "cache_incr";
const INCR_BY: &str = "cache_incr_by";

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    linker.func_wrap_async(module, GET, |mut caller: Caller<'_, GuestState>, key: (i32, i32)| {
        Box::new(async move {
            arrive(&mut caller).await;
            get(&mut caller, key).await
        })
    })?;
    linker.func_wrap_async(
        module,
        SET,
        |mut caller: Caller<'_, GuestState>,
         (key, key_size, value, value_size, ttl): (i32, i32, i32, i32, i64)| {
            Box::new(async move {
                arrive(&mut caller).await;
                set(&mut caller, (key, key_size), (value, value_size), ttl).await
            })
        },
    )?;
    linker.func_wrap_async(module, DELETE, |mut caller: Caller<'_, GuestState>, key: (i32, i32)| {
        Box::new(async move {
            arrive(&mut caller).await;
            delete(&mut caller, key).await
        })
    })?;
    linker.func_wrap_async(module, INCR, |mut caller: Caller<'_, GuestState>, key: (i32, i32)| {
        Box::new(async move {
            arrive(&mut caller).await;
            increment(&mut caller, INCR, key, 1).await
        })
    })?;
    linker.func_wrap_async(
        module,
        INCR_BY,
        |mut caller: Caller<'_, GuestState>, (key, size, delta): (i32, i32, i64)| {
            Box::new(async move {
                arrive(&mut caller).await;
                increment(&mut caller, INCR_BY, (key, size), delta).await
            })
        },
    )?;
    Ok(())
}

fn checked_key(bytes: &[u8]) -> Result<&str, ServiceError> {
    match text("the key", bytes, CACHE_KEY_MAX_BYTES)? {
        "" => Err(ServiceError::invalid("the key is empty")),
        key => Ok(key),
    }
}

/// `None` is a time without an end.
fn checked_ttl(seconds: i64) -> Result<Option<Duration>, ServiceError> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds)).filter(|ttl| *ttl <= CACHE_TTL_MAX)),
        Err(_) => Err(ServiceError::invalid(format!("the TTL is {seconds} s; 0 is one without an end"))),
    }
}

async fn get(caller: &mut Caller<'_, GuestState>, key: (i32, i32)) -> Result<i64> {
    let (memory, state) = view(caller)?;
    let asked = checked_key(memory.argument(GET, key)?)
        .map(|key| state.host.cache.get(&state.function.namespace, key));
    match ask(caller, GET, asked).await?.flatten() {
        Some(value) => give(caller, GET, &value).await,
        None => Ok(0),
    }
}

async fn set(
    caller: &mut Caller<'_, GuestState>,
    key: (i32, i32),
    value: (i32, i32),
    ttl: i64,
) -> Result<()> {
    let (memory, state) = view(caller)?;
    let (key, value) = (memory.argument(SET, key)?, memory.argument(SET, value)?);
    let checked =
        || Ok((checked_key(key)?, bounded("the value", value, CACHE_VALUE_MAX_BYTES)?, checked_ttl(ttl)?));
    let asked = checked().map(|(key, value, ttl)| {
        state.host.cache.set(&state.function.namespace, key, Bytes::copy_from_slice(value), ttl)
    });
    ask(caller, SET, asked).await?;
    Ok(())
}

async fn delete(caller: &mut Caller<'_, GuestState>, key: (i32, i32)) -> Result<i32> {
    let (memory, state) = view(caller)?;
    let asked = checked_key(memory.argument(DELETE, key)?)
        .map(|key| state.host.cache.delete(&state.function.namespace, key));
    Ok(i32::from(ask(caller, DELETE, asked).await?.unwrap_or(false)))
}

async fn increment(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    key: (i32, i32),
    delta: i64,
) -> Result<i64> {
    let (memory, state) = view(caller)?;
    let asked = checked_key(memory.argument(host_function, key)?)
        .map(|key| state.host.cache.increment(&state.function.namespace, key, delta));
    Ok(ask(caller, host_function, asked).await?.unwrap_or(0))
}
