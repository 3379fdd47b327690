//! `log_info` and `log_error`: messages in the invocation's log, in order.

use crate::abi::Range;
use crate::call::{Call, Fault, Functions};
use crate::invocation::Level;
use crate::limits::LOG_MESSAGE_MAX_BYTES;
use wasmtime::Result;

pub(super) fn link(functions: &mut Functions<'_>) -> Result<()> {
    functions.add("log_info", (), log_info)?;
    functions.add("log_error", (), log_error)
}

async fn log_info(call: &mut Call<'_>, message: Range) -> Result<(), Fault> {
    log(call, Level::Info, message)
}

async fn log_error(call: &mut Call<'_>, message: Range) -> Result<(), Fault> {
    log(call, Level::Error, message)
}

fn log(call: &mut Call<'_>, level: Level, message: Range) -> Result<(), Fault> {
    let (memory, state) = call.memory()?;
    state.logs.push(level, memory.prefix(message, LOG_MESSAGE_MAX_BYTES)?);
    Ok(())
}
