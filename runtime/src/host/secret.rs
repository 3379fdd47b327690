//! `get_secret`: a secret of the function's own namespace.

use super::ask;
use crate::abi::{give, text, view};
use crate::guest::GuestState;
use crate::limits::SECRET_NAME_MAX_BYTES;
use crate::parking::arrive;
use wasmtime::{Caller, Linker, Result};

const GET: &str = "get_secret";

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    linker.func_wrap_async(module, GET, |mut caller: Caller<'_, GuestState>, name: (i32, i32)| {
        Box::new(async move {
            arrive(&mut caller).await;

            let (memory, state) = view(&mut caller)?;
            let asked = text("the name", memory.argument(GET, name)?, SECRET_NAME_MAX_BYTES)
                .map(|name| state.host.secrets.get(&state.function.namespace, name));
            match ask(&mut caller, GET, asked).await?.flatten() {
                Some(secret) => give(&mut caller, GET, secret.reveal().as_bytes()).await,
                None => Ok(0),
            }
        })
    })?;
    Ok(())
}
