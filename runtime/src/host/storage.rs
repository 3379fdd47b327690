//! `storage_put` and `storage_get`: objects of the namespace under their content ids.

use super::ask;
use crate::abi::{bounded, give, take, text, view};
use crate::guest::GuestState;
use crate::limits::{HOST_NAME_MAX_BYTES, STORAGE_MAX_BYTES};
use crate::parking::arrive;
use bytes::Bytes;
use wasmtime::{Caller, Linker, Result};

const PUT: &str = "storage_put";
const GET: &str = "storage_get";

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    linker.func_wrap_async(module, PUT, |mut caller: Caller<'_, GuestState>, object: (i32, i32)| {
        Box::new(async move {
            arrive(&mut caller).await;
            put(&mut caller, object).await
        })
    })?;
    linker.func_wrap_async(module, GET, |mut caller: Caller<'_, GuestState>, cid: (i32, i32)| {
        Box::new(async move {
            arrive(&mut caller).await;
            get(&mut caller, cid).await
        })
    })?;
    Ok(())
}

async fn put(caller: &mut Caller<'_, GuestState>, object: (i32, i32)) -> Result<i64> {
    let (memory, _) = view(caller)?;
    let checked = bounded("the object", memory.argument(PUT, object)?, STORAGE_MAX_BYTES).map(|_| ());
    let asked = match checked {
        Ok(()) => {
            let object = Bytes::from(take(caller, PUT, object).await?);
            let state = caller.data();
            Ok(state.host.storage.put(&state.function.namespace, object))
        }
        Err(why) => Err(why),
    };
    match ask(caller, PUT, asked).await? {
        Some(cid) => give(caller, PUT, cid.as_bytes()).await,
        None => Ok(0),
    }
}

async fn get(caller: &mut Caller<'_, GuestState>, cid: (i32, i32)) -> Result<i64> {
    let (memory, state) = view(caller)?;
    let asked = text("the content id", memory.argument(GET, cid)?, HOST_NAME_MAX_BYTES)
        .map(|cid| state.host.storage.get(&state.function.namespace, cid));
    match ask(caller, GET, asked).await?.flatten() {
        Some(object) => give(caller, GET, &object).await,
        None => Ok(0),
    }
}
