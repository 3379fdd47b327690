//! Turns what wasmtime says of a failed run into words for the function's author.

use crate::guest::{GuestState, Stop};
use crate::invocation::Failure;
use crate::limits::{OUTPUT_MAX_BYTES, WASM_NAME_SHOWN_BYTES};
use rustix::io::Errno;
use std::fmt::Write;
use std::io;
use wasmtime::{Error, PoolConcurrencyLimitError, Trap, WasmBacktrace};

/// Frames shown of a trap.
const FRAMES_SHOWN: usize = 8;

/// Why a run ended with `error`.
pub(crate) fn failure(error: &Error, state: &mut GuestState) -> Result<(), Failure> {
    let out_of_memory = Failure::OutOfMemory { limit_mb: state.function.memory_limit_mb };
    let trap = error.downcast_ref::<Trap>();
    let stop = error.downcast_ref::<Stop>();
    // Only the epoch's callback interrupts, and only at the deadline.
    if stop == Some(&Stop::Timeout) || trap == Some(&Trap::Interrupt) {
        let seconds = state.function.timeout_seconds;
        state.logs.end_with(&format!("stopped at the timeout of {seconds} s{}", frames(error)));
        return Err(Failure::Timeout(seconds));
    }
    match stop {
        Some(Stop::Exit(0)) => return Ok(()),
        Some(Stop::OutputTooLarge) => {
            return Err(Failure::OutputTooLarge { limit_bytes: OUTPUT_MAX_BYTES });
        }
        Some(Stop::NoRoom) => return Err(Failure::Overloaded),
        _ if state.limiter.no_room => return Err(Failure::Overloaded),
        // Languages' runtimes end in their own ways when memory is refused: by exit code (Go: 2), trap or abort.
        _ if state.limiter.denied => return Err(out_of_memory),
        Some(Stop::Exit(code)) => return Err(Failure::Exit(*code)),
        Some(Stop::Timeout) | None => {}
    }
    if error.is::<PoolConcurrencyLimitError>() || (!state.instantiated && is_no_room(error)) {
        return Err(Failure::Overloaded);
    }
    let what = match trap {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let in_guest = state.instantiated || trap.is_some() || error.is::<WasmBacktrace>();
    if !in_guest {
        return Err(Failure::Internal(what));
    }
    // The failure itself says that it is a trap.
    let what = what.strip_prefix("wasm trap: ").unwrap_or(&what);
    Err(Failure::Trap(format!("{what}{}", frames(error))))
}

/// Whether the system gave the process no further file, mapping or memory.
pub(crate) fn is_no_room(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<Errno>().is_some_and(|errno| no_room(&(*errno).into()))
            || cause.downcast_ref::<io::Error>().is_some_and(no_room)
    })
}

/// The same of a system call's own error.
pub(crate) fn no_room(error: &io::Error) -> bool {
    let no_room = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error.kind() == io::ErrorKind::OutOfMemory
        || error.raw_os_error().is_some_and(|code| no_room.contains(&code))
}

/// ` in a, called by b, ...`, as far as the module names its functions.
fn frames(error: &Error) -> String {
    let mut text = String::new();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return text };
    for (index, frame) in backtrace.frames().iter().take(FRAMES_SHOWN).enumerate() {
        text.push_str(if index == 0 { " in " } else { ", called by " });
        // Writing to a string cannot fail.
        let _ = match frame.func_name() {
            Some(name) => write!(text, "{}", shown(name)),
            None => write!(text, "function {}", frame.func_index()),
        };
    }
    text
}

/// A name from a module as it can be shown anywhere: on one line, without what a terminal obeys, and not too long.
pub(crate) fn shown(name: &str) -> String {
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
    fn what_the_system_refused_for_want_of_room_is_told_apart() {
        for errno in [Errno::NOMEM, Errno::MFILE, Errno::NFILE] {
            assert!(is_no_room(&Error::from(errno).context("mmap failed").context("to load code")));
            assert!(is_no_room(&Error::from(io::Error::from(errno)).context("open failed")));
        }
        assert!(!is_no_room(&Error::from(Errno::ACCESS).context("mmap failed")));
        assert!(!is_no_room(&Error::msg("not compiled for this engine")));
    }

    #[test]
    fn names_are_shown_on_one_line_and_cut() {
        assert_eq!(shown("main.main"), "main.main");
        assert_eq!(shown("a\nb\x1b[31m"), "a?b?[31m");
        let long = "ä".repeat(WASM_NAME_SHOWN_BYTES);
        assert_eq!(shown(&long), format!("{}...", "ä".repeat(WASM_NAME_SHOWN_BYTES / 2)));
    }
}
