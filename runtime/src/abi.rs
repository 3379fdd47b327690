//! The only code that touches guest memory: every pointer and length a guest hands over is checked here.

use crate::guest::GuestState;
use crate::limits::HOST_NAME_MAX_BYTES;
use wasmtime::{AsContextMut, Caller, Error, Extern, Result};

/// Why a call failed whose string argument is not UTF-8.
const NOT_UTF8: &str = "an argument is not valid UTF-8";

/// A range that does not lie within the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pointer {pointer} with length {length} is outside the guest's memory of {memory_bytes} bytes")]
pub(crate) struct OutOfBounds {
    pointer: u32,
    length: u64,
    memory_bytes: usize,
}

/// Traps the invocation with a message that names the host function.
#[derive(Debug, thiserror::Error)]
#[error("{host_function}: {range}")]
struct BadPointer {
    host_function: &'static str,
    // Not called source: the message of the whole is the one to show.
    range: OutOfBounds,
}

impl OutOfBounds {
    /// The trap for a host function that was handed this range.
    pub(crate) fn trap(self, host_function: &'static str) -> Error {
        Error::from(BadPointer { host_function, range: self })
    }
}

/// A guest's linear memory.
pub(crate) struct View<'a>(&'a mut [u8]);

impl View<'_> {
    fn out_of_bounds(&self, pointer: u32, length: u64) -> OutOfBounds {
        OutOfBounds { pointer, length, memory_bytes: self.0.len() }
    }

    /// `length` bytes at `pointer`.
    pub(crate) fn bytes(&self, pointer: u32, length: u32) -> Result<&[u8], OutOfBounds> {
        let start = pointer as usize;
        self.0.get(start..start + length as usize).ok_or_else(|| self.out_of_bounds(pointer, length.into()))
    }

    /// `length` bytes at `pointer`, to be written.
    pub(crate) fn bytes_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8], OutOfBounds> {
        let start = pointer as usize;
        let error = self.out_of_bounds(pointer, length.into());
        self.0.get_mut(start..start + length as usize).ok_or(error)
    }

    fn array<const N: usize>(&self, pointer: u64) -> Result<[u8; N], OutOfBounds> {
        usize::try_from(pointer)
            .ok()
            .and_then(|start| self.0.get(start..start.checked_add(N)?))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| self.out_of_bounds(pointer as u32, N as u64))
    }

    /// A little-endian number. Addresses are wider than the guest's, so that `base + offset` cannot wrap.
    pub(crate) fn u32(&self, pointer: u64) -> Result<u32, OutOfBounds> {
        self.array(pointer).map(u32::from_le_bytes)
    }

    pub(crate) fn u16(&self, pointer: u64) -> Result<u16, OutOfBounds> {
        self.array(pointer).map(u16::from_le_bytes)
    }

    pub(crate) fn u64(&self, pointer: u64) -> Result<u64, OutOfBounds> {
        self.array(pointer).map(u64::from_le_bytes)
    }

    /// Writes `bytes` at `pointer`.
    pub(crate) fn write(&mut self, pointer: u64, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let error = self.out_of_bounds(pointer as u32, bytes.len() as u64);
        usize::try_from(pointer)
            .ok()
            .and_then(|start| self.0.get_mut(start..start.checked_add(bytes.len())?))
            .ok_or(error)?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn argument(&self, host_function: &'static str, (pointer, length): (i32, i32)) -> Result<&[u8]> {
        self.bytes(pointer as u32, length as u32).map_err(|error| error.trap(host_function))
    }

    /// A name handed to a host function. The inner error says what is wrong with it, which fails the call and not the
    /// guest.
    pub(crate) fn name(
        &self,
        host_function: &'static str,
        range: (i32, i32),
    ) -> Result<Result<&str, &'static str>> {
        let bytes = self.argument(host_function, range)?;
        if bytes.len() > HOST_NAME_MAX_BYTES {
            return Ok(Err("an argument is longer than any name"));
        }
        Ok(std::str::from_utf8(bytes).map_err(|_| NOT_UTF8))
    }

    /// The beginning of a text handed to a host function, at least `most + 1` bytes if there are so many: it may be as
    /// long as the memory, and only so much of it is looked at.
    pub(crate) fn beginning(
        &self,
        host_function: &'static str,
        range: (i32, i32),
        most: usize,
    ) -> Result<Result<&str, &'static str>> {
        const LONGEST_CHARACTER: usize = 4;
        let bytes = self.argument(host_function, range)?;
        let begin = bytes.get(..most + LONGEST_CHARACTER).unwrap_or(bytes);
        Ok(match std::str::from_utf8(begin) {
            Ok(text) => Ok(text),
            // Cut within a character.
            Err(error) if error.error_len().is_none() && begin.len() < bytes.len() => {
                let valid = begin.get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(valid).map_err(|_| NOT_UTF8)
            }
            Err(_) => Err(NOT_UTF8),
        })
    }
}

/// The guest's memory and state side by side.
pub(crate) fn view<'a>(caller: &'a mut Caller<'_, GuestState>) -> Result<(View<'a>, &'a mut GuestState)> {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        // A start section runs before the instance is known.
        None => match caller.get_export("memory") {
            Some(Extern::Memory(memory)) => {
                caller.data_mut().memory = Some(memory);
                memory
            }
            _ => return Err(Error::msg("the module exports no memory")),
        },
    };
    let (bytes, state) = memory.data_and_store_mut(caller.as_context_mut());
    Ok((View(bytes), state))
}

/// Hands `bytes` to the guest in memory that its own allocator gives: `(pointer << 32) | length`, or 0 for nothing.
pub(crate) async fn give(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    bytes: &[u8],
) -> Result<i64> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let Ok(length) = i32::try_from(bytes.len()) else {
        caller.data_mut().log_failure(host_function, "the result is larger than a guest can hold");
        return Ok(0);
    };
    if caller.data().allocating {
        caller.data_mut().log_failure(host_function, "the guest's allocator may not call it");
        return Ok(0);
    }
    let allocator = match &caller.data().allocator {
        Some(allocator) => allocator.clone(),
        None => {
            let found = ["orama_alloc", "malloc"]
                .into_iter()
                .find_map(|name| caller.get_export(name)?.into_func()?.typed::<i32, i32>(&*caller).ok());
            let Some(allocator) = found else {
                caller.data_mut().log_failure(
                    host_function,
                    "the guest exports neither orama_alloc(i32) -> i32 nor malloc(i32) -> i32, so it cannot be given the result",
                );
                return Ok(0);
            };
            caller.data_mut().allocator = Some(allocator.clone());
            allocator
        }
    };
    caller.data_mut().allocating = true;
    let pointer = allocator.call_async(&mut *caller, length).await? as u32;
    caller.data_mut().allocating = false;
    if pointer == 0 {
        let why = format!("the guest's allocator gave no memory for {length} bytes");
        caller.data_mut().log_failure(host_function, &why);
        return Ok(0);
    }
    let (mut memory, _) = view(caller)?;
    memory
        .bytes_mut(pointer, length as u32)
        .map_err(|error| error.trap(host_function))?
        .copy_from_slice(bytes);
    Ok(((u64::from(pointer) << 32) | length as u64) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_at_every_edge() {
        let mut bytes = vec![7u8; 64];
        let mut view = View(&mut bytes);
        assert_eq!(view.bytes(0, 64).unwrap().len(), 64);
        assert_eq!(view.bytes(64, 0).unwrap().len(), 0);
        for (pointer, length) in
            [(0, 65), (64, 1), (65, 0), (u32::MAX, 1), (u32::MAX, u32::MAX), (1, u32::MAX)]
        {
            assert!(view.bytes(pointer, length).is_err(), "{pointer}+{length}");
            assert!(view.bytes_mut(pointer, length).is_err(), "{pointer}+{length}");
        }
        assert_eq!(view.u32(60).unwrap(), 0x0707_0707);
        for pointer in [61, 64, u64::from(u32::MAX), u64::from(u32::MAX) + 61, u64::MAX] {
            assert!(view.u32(pointer).is_err() && view.write(pointer, &[0; 4]).is_err(), "{pointer}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_no_text() {
        let mut bytes = b"ok\xff".to_vec();
        let view = View(&mut bytes);
        assert_eq!(view.name("get_env", (0, 2)).unwrap(), Ok("ok"));
        assert_eq!(view.name("get_env", (0, 3)).unwrap(), Err(NOT_UTF8));
        assert_eq!(view.beginning("log_info", (0, 3), 8).unwrap(), Err(NOT_UTF8));
        let message = view.name("get_env", (1, -1)).unwrap_err().to_string();
        assert!(message.contains("get_env") && message.contains("4294967295"), "{message}");
    }

    #[test]
    fn only_the_beginning_of_a_long_text_is_looked_at() {
        let mut bytes = [0xc3, 0xa4].repeat(1000);
        bytes.push(0xff);
        let all = (0, bytes.len() as i32);
        let view = View(&mut bytes);
        for most in 0..16 {
            let begin = view.beginning("log_info", all, most).unwrap().unwrap();
            assert!(begin.len() > most && begin.chars().all(|c| c == 'ä'), "{most}: {begin}");
        }
        assert_eq!(view.beginning("log_info", all, 5000).unwrap(), Err(NOT_UTF8));
    }
}
