//! Turns what wasmtime says of a failed run into words for the function's author.

use crate::guest::Stop;
use crate::invocation::Failure;
use crate::limits::OUTPUT_MAX_BYTES;
use std::fmt::Write;
use wasmtime::{Error, PoolConcurrencyLimitError, Trap, WasmBacktrace};

/// Frames shown of a trap.
const FRAMES_SHOWN: usize = 8;
/// A function's name comes from the module; longer ones are cut, in bytes.
const FRAME_NAME_MAX_BYTES: usize = 120;

/// Why a run ended with `error`.
pub(crate) fn failure(error: &Error, timeout_seconds: u32, memory_limit_mb: u32, memory_denied: bool) -> Result<(), Failure> {
    match error.downcast_ref::<Stop>() {
        Some(Stop::Exit(0)) => return Ok(()),
        Some(Stop::OutputTooLarge) => return Err(Failure::OutputTooLarge { limit_bytes: OUTPUT_MAX_BYTES }),
        Some(Stop::Timeout) => return Err(Failure::Timeout(timeout_seconds)),
        // Languages' runtimes end in their own ways when memory is refused: by exit code (Go: 2), trap or abort.
        _ if memory_denied => return Err(Failure::OutOfMemory { limit_mb: memory_limit_mb }),
        Some(Stop::Exit(code)) => return Err(Failure::Exit(*code)),
        None => {}
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Err(Failure::Overloaded);
    }
    let what = match error.downcast_ref::<Trap>() {
        // Only the epoch's callback interrupts, and only at the deadline.
        Some(Trap::Interrupt) => return Err(Failure::Timeout(timeout_seconds)),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    Err(Failure::Trap(format!("{what}{}", frames(error))))
}

/// ` in a, called by b, ...`, as far as the module names its functions.
fn frames(error: &Error) -> String {
    let mut text = String::new();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return text };
    for (index, frame) in backtrace.frames().iter().take(FRAMES_SHOWN).enumerate() {
        let before = if index == 0 { " in " } else { ", called by " };
        // Writing to a string cannot fail.
        let _ = match frame.func_name() {
            Some(name) => {
                let mut end = name.len().min(FRAME_NAME_MAX_BYTES);
                while !name.is_char_boundary(end) {
                    end -= 1;
                }
                write!(text, "{before}{}", &name[..end])
            }
            None => write!(text, "{before}function {}", frame.func_index()),
        };
    }
    text
}
