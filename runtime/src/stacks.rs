//! The stacks that guests and their host calls run on. A stack outlives its guest: threads keep some for their next one.

use crate::limits::STACKS_KEPT;
use crate::memory::page_bytes;
use crate::shards::Shards;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use wasmtime::{StackCreator, StackMemory};

/// The stacks of an engine.
#[derive(Default)]
pub(crate) struct Stacks(Arc<Shards<Mapping>>);

/// A stack with the guard page in front of it.
struct Mapping {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: `base` is an address, and the mapping there belongs to this value.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(stack_bytes: usize) -> io::Result<Self> {
        let bytes = stack_bytes.next_multiple_of(page_bytes()) + page_bytes();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Self { base: base.cast(), bytes };
        let stack = mapping.stack();
        // SAFETY: the range lies within the mapping.
        let result = unsafe {
            libc::mprotect(
                mapping.base.add(page_bytes()).cast(),
                stack.len(),
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if result == 0 { Ok(mapping) } else { Err(io::Error::last_os_error()) }
    }

    fn stack(&self) -> Range<usize> {
        self.base.addr() + page_bytes()..self.base.addr() + self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`, and nothing runs on it.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

// SAFETY: `new_stack` gives mappings of whole pages, with a guard page at the bottom. Stacks that were used before are not zeros;
// no guest can read its stack.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let mapping = match self.0.take(|mapping| mapping.stack().len() >= size) {
            Some(mapping) => mapping,
            None => Mapping::new(size)?,
        };
        Ok(Box::new(Stack { mapping: Some(mapping), kept: Arc::clone(&self.0) }))
    }
}

/// A stack in use.
struct Stack {
    /// `None` only while it is dropped.
    mapping: Option<Mapping>,
    kept: Arc<Shards<Mapping>>,
}

// SAFETY: the mapping lives as long as this value.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.mapping.as_ref().map_or(std::ptr::null_mut(), |mapping| mapping.base.wrapping_add(mapping.bytes))
    }

    fn range(&self) -> Range<usize> {
        self.mapping.as_ref().map_or(0..0, Mapping::stack)
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let base = self.mapping.as_ref().map_or(std::ptr::null_mut(), |mapping| mapping.base);
        base..base.wrapping_add(page_bytes())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(mapping) = self.mapping.take()
            && self.kept.len_here() < STACKS_KEPT
        {
            self.kept.give(mapping);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 64 << 10;

    #[test]
    fn a_thread_keeps_its_stacks_up_to_a_number() {
        let stacks = Stacks::default();
        let first = stacks.new_stack(BYTES, false).unwrap();
        let (top, range, guard) = (first.top(), first.range(), first.guard_range());
        assert_eq!((top.addr(), range.len(), guard.end.addr()), (range.end, BYTES, range.start));
        // SAFETY: the bytes belong to the stack.
        unsafe { top.sub(1).write(7) };
        drop(first);
        let again = stacks.new_stack(BYTES, false).unwrap();
        assert_eq!(again.top(), top);
        let all: Vec<_> = (0..STACKS_KEPT + 10).map(|_| stacks.new_stack(BYTES, false).unwrap()).collect();
        drop((all, again));
        assert_eq!(stacks.0.len(), STACKS_KEPT);
    }
}
