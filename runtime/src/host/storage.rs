//! `storage_put` and `storage_get`: objects of the namespace under their content ids.

use crate::abi::{Range, bounded, text};
use crate::call::{Call, Fault, Functions};
use crate::limits::{HOST_NAME_MAX_BYTES, STORAGE_MAX_BYTES};
use bytes::Bytes;
use wasmtime::Result;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_bytes("storage_put", storage_put)?;
    functions.add_bytes("storage_get", storage_get)
}

async fn storage_put(call: &mut Call<'_>, object: Range) -> Result<i64, Fault> {
    let (memory, _) = call.memory()?;
    bounded("the object", memory.argument(object)?, STORAGE_MAX_BYTES)?;
    let object = Bytes::from(call.take(object).await?);
    let state = call.state();
    let answer = state.host.storage.put(&state.function.namespace, object);
    let cid = call.ask(answer).await?;
    call.give(cid.as_bytes()).await
}

async fn storage_get(call: &mut Call<'_>, cid: Range) -> Result<i64, Fault> {
    let (memory, state) = call.memory()?;
    let cid = text("the content id", memory.argument(cid)?, HOST_NAME_MAX_BYTES)?;
    let answer = state.host.storage.get(&state.function.namespace, cid);
    match call.ask(answer).await? {
        Some(object) => call.give(&object).await,
        None => Ok(0),
    }
}
