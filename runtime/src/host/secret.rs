//! `get_secret`: a secret of the function's own namespace.

use crate::abi::{Range, text};
use crate::call::{Call, Fault, Functions};
use crate::limits::SECRET_NAME_MAX_BYTES;
use wasmtime::Result;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add_bytes("get_secret", get_secret)
}

async fn get_secret(call: &mut Call<'_>, name: Range) -> Result<i64, Fault> {
    let (memory, state) = call.memory()?;
    let name = text("the name", memory.argument(name)?, SECRET_NAME_MAX_BYTES)?;
    let answer = state.host.secrets.get(&state.function.namespace, name);
    match call.ask(answer).await? {
        Some(secret) => call.give(secret.reveal().as_bytes()).await,
        None => Ok(0),
    }
}
