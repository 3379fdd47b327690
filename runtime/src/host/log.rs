//! `log_info` and `log_error`: messages in the invocation's log, in order.

use crate::abi::Range;
use crate::call::{Call, Fault, Functions};
use crate::invocation::Level;
use crate::limits::LOG_MESSAGE_MAX_BYTES;
use std::future::{Ready, ready};
use wasmtime::Result;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add("log_info", (), log_info)?;
    functions.add("log_error", (), log_error)
}

fn log_info(call: &mut Call<'_>, message: Range) -> Ready<Result<(), Fault>> {
    ready(log(call, Level::Info, message))
}

fn log_error(call: &mut Call<'_>, message: Range) -> Ready<Result<(), Fault>> {
    ready(log(call, Level::Error, message))
}

fn log(call: &mut Call<'_>, level: Level, message: Range) -> Result<(), Fault> {
    let (memory, state) = call.memory()?;
    state.logs.push(level, memory.prefix(message, LOG_MESSAGE_MAX_BYTES)?);
    Ok(())
}
