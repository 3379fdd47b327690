//! `log_info` and `log_error`: messages captured with the invocation, in order.

use crate::abi::view;
use crate::guest::GuestState;
use crate::invocation::Level;
use crate::limits::LOG_MESSAGE_MAX_BYTES;
use crate::parking::arrive;
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    for (name, level) in [("log_info", Level::Info), ("log_error", Level::Error)] {
        linker.func_wrap_async(
            module,
            name,
            move |mut caller: Caller<'_, GuestState>, message: (i32, i32)| {
                Box::new(async move {
                    arrive(&mut caller).await;
                    let (memory, state) = view(&mut caller)?;
                    match memory.beginning(name, message, LOG_MESSAGE_MAX_BYTES)? {
                        Ok(message) => state.logs.push(level, message),
                        Err(why) => state.log_failure(name, &why.message),
                    }
                    Ok(())
                })
            },
        )?;
    }
    Ok(())
}
