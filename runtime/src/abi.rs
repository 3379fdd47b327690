//! The only code that touches guest memory: every pointer and length a guest hands over is checked here.

use crate::guest::GuestState;
use crate::limits::HOST_CHUNK_BYTES;
use crate::services::{ErrorCode, ServiceError};
use std::time::Instant;
use wasmtime::{AsContextMut, Caller, Error, Extern, Result};

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

    /// What a guest handed to a host function; a range outside its memory traps.
    pub(crate) fn argument(
        &self,
        host_function: &'static str,
        (pointer, length): (i32, i32),
    ) -> Result<&[u8]> {
        self.bytes(pointer as u32, length as u32).map_err(|error| error.trap(host_function))
    }

    /// The beginning of a text handed to a host function, at least `most + 1` bytes if there are so many: it may be as
    /// long as the memory, and only so much of it is looked at.
    pub(crate) fn beginning(
        &self,
        host_function: &'static str,
        range: (i32, i32),
        most: usize,
    ) -> Result<Result<&str, ServiceError>> {
        const LONGEST_CHARACTER: usize = 4;
        let bytes = self.argument(host_function, range)?;
        let begin = bytes.get(..most + LONGEST_CHARACTER).unwrap_or(bytes);
        Ok(match std::str::from_utf8(begin) {
            Ok(text) => Ok(text),
            // Cut within a character.
            Err(error) if error.error_len().is_none() && begin.len() < bytes.len() => {
                let valid = begin.get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(valid).map_err(|_| not_utf8("the message"))
            }
            Err(_) => Err(not_utf8("the message")),
        })
    }
}

fn not_utf8(what: &str) -> ServiceError {
    ServiceError::invalid(format!("{what} is not valid UTF-8"))
}

/// An argument of at most so many bytes; `what` names it in the error.
pub(crate) fn bounded<'a>(what: &str, bytes: &'a [u8], max_bytes: usize) -> Result<&'a [u8], ServiceError> {
    if bytes.len() <= max_bytes {
        return Ok(bytes);
    }
    let why = format!("{what} has {} bytes, more than the limit of {max_bytes}", bytes.len());
    Err(ServiceError::new(ErrorCode::PayloadTooLarge, why))
}

/// The same for text.
pub(crate) fn text<'a>(what: &str, bytes: &'a [u8], max_bytes: usize) -> Result<&'a str, ServiceError> {
    std::str::from_utf8(bounded(what, bytes, max_bytes)?).map_err(|_| not_utf8(what))
}

/// A copy of what a guest handed to a host function. A long one gives way to others.
pub(crate) async fn take(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    (pointer, length): (i32, i32),
) -> Result<Vec<u8>> {
    let (memory, _) = view(caller)?;
    let bytes = memory.argument(host_function, (pointer, length))?;
    if bytes.len() <= HOST_CHUNK_BYTES {
        return Ok(bytes.to_vec());
    }
    let mut copy = Vec::with_capacity(bytes.len());
    let mut since = Instant::now();
    loop {
        let (memory, state) = view(caller)?;
        let rest = memory.argument(host_function, (pointer, length))?.get(copy.len()..).unwrap_or_default();
        copy.extend_from_slice(rest.get(..HOST_CHUNK_BYTES).unwrap_or(rest));
        if rest.len() <= HOST_CHUNK_BYTES {
            return Ok(copy);
        }
        if let Some(others) = state.give_way(&mut since)? {
            others.await;
        }
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
    give_parts(caller, host_function, &[bytes]).await
}

/// The same for what lies in several places, which are put together in the guest's memory. Much of it gives way.
pub(crate) async fn give_parts<T: AsRef<[u8]> + Sync>(
    caller: &mut Caller<'_, GuestState>,
    host_function: &'static str,
    parts: &[T],
) -> Result<i64> {
    let length: usize = parts.iter().map(|part| part.as_ref().len()).sum();
    if length == 0 {
        return Ok(0);
    }
    let Ok(length) = i32::try_from(length) else {
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
    let (memory, _) = view(caller)?;
    memory.argument(host_function, (pointer as i32, length))?;
    let (mut at, mut since) = (pointer, None);
    for chunk in parts.iter().flat_map(|part| part.as_ref().chunks(HOST_CHUNK_BYTES)) {
        let (mut memory, state) = view(caller)?;
        let target = memory.bytes_mut(at, chunk.len() as u32).map_err(|error| error.trap(host_function))?;
        target.copy_from_slice(chunk);
        at = at.wrapping_add(chunk.len() as u32);
        if chunk.len() == HOST_CHUNK_BYTES
            && let Some(others) = state.give_way(since.get_or_insert_with(Instant::now))?
        {
            others.await;
        }
    }
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
        let key = |length| view.argument("get_env", (0, length)).unwrap();
        assert_eq!(text("the key", key(2), 2), Ok("ok"));
        assert_eq!(text("the key", key(3), 3).unwrap_err().message, "the key is not valid UTF-8");
        let long = text("the key", key(3), 2).unwrap_err();
        assert_eq!(long.code, ErrorCode::PayloadTooLarge);
        assert_eq!(long.message, "the key has 3 bytes, more than the limit of 2");
        assert!(view.beginning("log_info", (0, 3), 8).unwrap().is_err());
        let message = view.argument("get_env", (1, -1)).unwrap_err().to_string();
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
        assert!(view.beginning("log_info", all, 5000).unwrap().is_err());
    }
}
