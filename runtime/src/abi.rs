//! The only code that touches guest memory. It checks every pointer and length that a guest passes.

use crate::call::{Call, Fault, within_allocator};
use crate::guest::GuestState;
use crate::limits::HOST_CHUNK_BYTES;
use crate::services::{ErrorCode, ServiceError};
use std::time::Instant;
use wasmtime::{AsContextMut, Caller, Error, Extern, Result, TypedFunc};

/// A pointer and a length as a guest passes them.
pub(crate) type Range = (i32, i32);

/// A range that is not within the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pointer {pointer} with length {length} is outside the guest's memory of {memory_bytes} bytes")]
pub(crate) struct OutOfBounds {
    pointer: u32,
    length: u64,
    memory_bytes: usize,
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

    /// `length` bytes at `pointer`, for writing.
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

    /// The bytes of an argument.
    pub(crate) fn argument(&self, (pointer, length): Range) -> Result<&[u8], OutOfBounds> {
        self.bytes(pointer as u32, length as u32)
    }

    /// The first `max_bytes + 1` bytes of a text argument, or a few more, or all of it. The argument may be as long as the
    /// memory; only its prefix is scanned.
    pub(crate) fn prefix(&self, range: Range, max_bytes: usize) -> Result<&str, Fault> {
        const LONGEST_CHARACTER_BYTES: usize = 4;
        let bytes = self.argument(range)?;
        let prefix = bytes.get(..max_bytes + LONGEST_CHARACTER_BYTES).unwrap_or(bytes);
        match std::str::from_utf8(prefix) {
            Ok(text) => Ok(text),
            // The prefix ends within a character.
            Err(error) if error.error_len().is_none() && prefix.len() < bytes.len() => {
                let valid = prefix.get(..error.valid_up_to()).unwrap_or_default();
                Ok(std::str::from_utf8(valid).map_err(|_| not_utf8("the message"))?)
            }
            Err(_) => Err(not_utf8("the message").into()),
        }
    }
}

fn not_utf8(what: &str) -> ServiceError {
    ServiceError::invalid(format!("{what} is not valid UTF-8"))
}

/// Checks that an argument has at most `max_bytes`; `what` names it in the error.
pub(crate) fn bounded<'a>(what: &str, bytes: &'a [u8], max_bytes: usize) -> Result<&'a [u8], ServiceError> {
    if bytes.len() <= max_bytes {
        return Ok(bytes);
    }
    let why = format!("{what} has {} bytes, more than the limit of {max_bytes}", bytes.len());
    Err(ServiceError::new(ErrorCode::PayloadTooLarge, why))
}

/// Checks that an argument is UTF-8 of at most `max_bytes`.
pub(crate) fn text<'a>(what: &str, bytes: &'a [u8], max_bytes: usize) -> Result<&'a str, ServiceError> {
    std::str::from_utf8(bounded(what, bytes, max_bytes)?).map_err(|_| not_utf8(what))
}

/// The guest's memory and its state, side by side.
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

impl Call<'_> {
    /// A copy of an argument. Copying a long one yields to other guests.
    pub(crate) async fn take(&mut self, range: Range) -> Result<Vec<u8>, Fault> {
        let (memory, _) = self.memory()?;
        let bytes = memory.argument(range)?;
        if bytes.len() <= HOST_CHUNK_BYTES {
            return Ok(bytes.to_vec());
        }
        let mut copy = Vec::with_capacity(bytes.len());
        let mut since = Instant::now();
        loop {
            let (memory, _) = self.memory()?;
            let rest = memory.argument(range)?.get(copy.len()..).unwrap_or_default();
            copy.extend_from_slice(rest.get(..HOST_CHUNK_BYTES).unwrap_or(rest));
            if rest.len() <= HOST_CHUNK_BYTES {
                return Ok(copy);
            }
            self.yield_if_due(&mut since).await?;
        }
    }

    /// Passes `bytes` to the guest in memory from the guest's own allocator: `(pointer << 32) | length`, or 0 for no bytes.
    pub(crate) async fn give(&mut self, bytes: &[u8]) -> Result<i64, Fault> {
        self.give_parts(&[bytes]).await
    }

    /// Like [`Self::give`], for bytes in several places: they are joined in the guest's memory. A long copy yields to other
    /// guests.
    pub(crate) async fn give_parts<T: AsRef<[u8]> + Sync>(&mut self, parts: &[T]) -> Result<i64, Fault> {
        let length: usize = parts.iter().map(|part| part.as_ref().len()).sum();
        if length == 0 {
            return Ok(0);
        }
        let length = i32::try_from(length)
            .map_err(|_| ServiceError::invalid("the result is larger than a guest's memory"))?;
        let allocator = self.allocator()?;
        self.state().allocating = true;
        let pointer = allocator.call_async(&mut self.caller, length).await? as u32;
        self.state().allocating = false;
        if pointer == 0 {
            let why = format!("the guest's allocator returned 0 for {length} bytes");
            return Err(ServiceError::invalid(why).into());
        }
        let (memory, _) = self.memory()?;
        memory.argument((pointer as i32, length))?;
        let (mut at, mut since) = (pointer, None);
        for chunk in parts.iter().flat_map(|part| part.as_ref().chunks(HOST_CHUNK_BYTES)) {
            let (mut memory, _) = self.memory()?;
            memory.bytes_mut(at, chunk.len() as u32)?.copy_from_slice(chunk);
            at = at.wrapping_add(chunk.len() as u32);
            if chunk.len() == HOST_CHUNK_BYTES {
                self.yield_if_due(since.get_or_insert_with(Instant::now)).await?;
            }
        }
        Ok(((u64::from(pointer) << 32) | length as u64) as i64)
    }

    /// The guest's allocator, unless it is what makes this call.
    fn allocator(&mut self) -> Result<TypedFunc<i32, i32>, ServiceError> {
        if self.state().allocating {
            return Err(within_allocator());
        }
        if let Some(allocator) = &self.state().allocator {
            return Ok(allocator.clone());
        }
        let caller = &mut self.caller;
        let found = ["orama_alloc", "malloc"]
            .into_iter()
            .find_map(|name| caller.get_export(name)?.into_func()?.typed::<i32, i32>(&*caller).ok())
            .ok_or_else(|| {
                ServiceError::invalid(
                    "the guest cannot receive the result: it exports neither orama_alloc(i32) -> i32 nor malloc(i32) -> i32",
                )
            })?;
        self.state().allocator = Some(found.clone());
        Ok(found)
    }
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
        let key = |length| view.argument((0, length)).unwrap();
        assert_eq!(text("the key", key(2), 2), Ok("ok"));
        assert_eq!(text("the key", key(3), 3).unwrap_err().message, "the key is not valid UTF-8");
        let long = text("the key", key(3), 2).unwrap_err();
        assert_eq!(long.code, ErrorCode::PayloadTooLarge);
        assert_eq!(long.message, "the key has 3 bytes, more than the limit of 2");
        assert!(view.prefix((0, 3), 8).is_err());
        let message = view.argument((1, -1)).unwrap_err().to_string();
        assert!(message.contains("4294967295"), "{message}");
    }

    #[test]
    fn only_the_prefix_of_a_long_text_is_scanned() {
        let mut bytes = [0xc3, 0xa4].repeat(1000);
        bytes.push(0xff);
        let all = (0, bytes.len() as i32);
        let view = View(&mut bytes);
        for most in 0..16 {
            let begin = view.prefix(all, most).ok().unwrap();
            assert!(begin.len() > most && begin.chars().all(|c| c == 'ä'), "{most}: {begin}");
        }
        assert!(view.prefix(all, 5000).is_err());
    }
}
