//! Classifies the errors of failed runs, in words for the function's author.

use crate::engine::WASM_STACK_BYTES;
use crate::guest::{GuestState, Stop};
use crate::instance::NoSlot;
use crate::invocation::{Failure, InternalError};
use crate::limits::{OUTPUT_MAX_BYTES, WASM_NAME_SHOWN_BYTES};
use rustix::io::Errno;
use std::fmt::Write;
use std::io;
use wasmtime::{Error, Trap, WasmBacktrace};

/// Frames shown of a trap's backtrace.
const FRAMES_SHOWN: usize = 8;

/// The result of a run that ended with `error`. An exit with code 0 is a success.
pub(crate) fn classify(error: Error, state: &mut GuestState) -> Result<(), Failure> {
    let out_of_memory = Failure::OutOfMemory { limit_mb: state.function.memory_limit_mb };
    let trap = error.downcast_ref::<Trap>();
    let stop = error.downcast_ref::<Stop>();
    // Only the epoch's callback interrupts a guest, and only at the deadline.
    if stop == Some(&Stop::Timeout) || trap == Some(&Trap::Interrupt) {
        let seconds = state.function.timeout_seconds;
        state.logs.set_final_message(&format!("stopped at the timeout of {seconds} s{}", frames(&error)));
        return Err(Failure::Timeout(seconds));
    }
    match stop {
        Some(Stop::Exit(0)) => return Ok(()),
        Some(Stop::OutputTooLarge) => {
            return Err(Failure::OutputTooLarge { limit_bytes: OUTPUT_MAX_BYTES });
        }
        Some(Stop::NoRoom) => return Err(Failure::Overloaded),
        _ if state.limiter.no_room => return Err(Failure::Overloaded),
        // Each language's runtime ends in its own way when memory is refused: by exit code (Go: 2), trap or abort.
        _ if state.limiter.denied => return Err(out_of_memory),
        Some(Stop::Exit(code)) => return Err(Failure::Exit(*code)),
        Some(Stop::Timeout | Stop::Snapshot) | None => {}
    }
    if error.is::<NoSlot>() || (!state.instantiated && is_out_of_resources(&error)) {
        return Err(Failure::Overloaded);
    }
    let in_guest = state.instantiated || trap.is_some() || error.is::<WasmBacktrace>();
    if !in_guest {
        return Err(Failure::Internal(InternalError::new(error)));
    }
    let what = match trap {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    // `Failure::Trap` adds this itself.
    let what = what.strip_prefix("wasm trap: ").unwrap_or(&what);
    let limit = match trap {
        Some(Trap::StackOverflow) => format!(
            "; calls within one another may take {} KiB of stack, some 20,000 calls of Go: recurse less deep, or use a loop",
            WASM_STACK_BYTES >> 10
        ),
        _ => String::new(),
    };
    Err(Failure::Trap(format!("{what}{}{limit}", frames(&error))))
}

/// Whether the system refused the process a further file, mapping or memory.
pub(crate) fn is_out_of_resources(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<Errno>().is_some_and(|errno| is_resource_error(&(*errno).into()))
            || cause.downcast_ref::<io::Error>().is_some_and(is_resource_error)
    })
}

/// Like [`is_out_of_resources`], for the error of a system call.
pub(crate) fn is_resource_error(error: &io::Error) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error.kind() == io::ErrorKind::OutOfMemory
        || error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// ` in a, called by b, ...`. A function without a name appears with its index.
fn frames(error: &Error) -> String {
    let mut text = String::new();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return text };
    // Where a module has names, only the functions that `rewrite` added have none.
    let has_names = backtrace.frames().iter().any(|frame| frame.func_name().is_some());
    let frames = backtrace.frames().iter().skip_while(|frame| has_names && frame.func_name().is_none());
    for (index, frame) in frames.take(FRAMES_SHOWN).enumerate() {
        text.push_str(if index == 0 { " in " } else { ", called by " });
        // Writing to a string cannot fail.
        let _ = match frame.func_name() {
            Some(name) => write!(text, "{}", printable(name)),
            None => write!(text, "function {}", frame.func_index()),
        };
    }
    text
}

/// Text from a guest in a form that is safe in messages: one line, no control characters, of bounded length.
pub(crate) fn printable(name: &str) -> String {
    let mut end = name.len().min(WASM_NAME_SHOWN_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let rest = if end < name.len() { "..." } else { "" };
    let begin = name.get(..end).unwrap_or_default();
    begin.chars().map(|c| if c.is_control() { '?' } else { c }).chain(rest.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhausted_resources_are_told_apart_from_other_errors() {
        for errno in [Errno::NOMEM, Errno::MFILE, Errno::NFILE] {
            assert!(is_out_of_resources(&Error::from(errno).context("mmap failed").context("to load code")));
            assert!(is_out_of_resources(&Error::from(io::Error::from(errno)).context("open failed")));
        }
        assert!(!is_out_of_resources(&Error::from(Errno::ACCESS).context("mmap failed")));
        assert!(!is_out_of_resources(&Error::msg("not compiled for this engine")));
    }

    #[test]
    fn names_are_printed_on_one_line_and_cut() {
        assert_eq!(printable("main.main"), "main.main");
        assert_eq!(printable("a\nb\x1b[31m"), "a?b?[31m");
        let long = "ä".repeat(WASM_NAME_SHOWN_BYTES);
        assert_eq!(printable(&long), format!("{}...", "ä".repeat(WASM_NAME_SHOWN_BYTES / 2)));
    }
}
