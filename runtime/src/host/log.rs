//! `log_info` and `log_error`: messages captured with the invocation, in order.

use super::NOT_UTF8;
use crate::abi::view;
use crate::guest::GuestState;
use crate::invocation::Level;
use wasmtime::{Caller, Linker, Result};

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    for (name, level) in [("log_info", Level::Info), ("log_error", Level::Error)] {
        linker.func_wrap(
            module,
            name,
            move |mut caller: Caller<'_, GuestState>, pointer: i32, length: i32| -> Result<()> {
                let (memory, state) = view(&mut caller)?;
                match memory.text(name, (pointer, length))? {
                    Some(message) => state.logs.push(level, message),
                    None => state.log_failure(name, NOT_UTF8),
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}
