//! The stacks that guests and their host calls run on. A stack outlives its guest: threads keep some for their next one.

use crate::limits::STACKS_KEPT;
use crate::mapping::{self, Mapping, NO_ACCESS, READ_WRITE, page_bytes};
use crate::shards::Shards;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use wasmtime::{StackCreator, StackMemory};

/// The stacks of an engine, all of one size. Each is a mapping with a guard page at the bottom.
#[derive(Default)]
pub(crate) struct Stacks(Arc<Shards<Mapping>>);

fn create(stack_bytes: usize) -> io::Result<Mapping> {
    let bytes = stack_bytes.next_multiple_of(page_bytes());
    let mapping = Mapping::new(page_bytes() + bytes, NO_ACCESS, None)?;
    // SAFETY: the range lies within the mapping.
    unsafe { mapping::protect(mapping.base().add(page_bytes()), bytes, READ_WRITE)? };
    Ok(mapping)
}

// SAFETY: `new_stack` gives mappings of whole pages, with a guard page at the bottom. Stacks that were used before are not zeros;
// no guest can read its stack.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        // Another thread's stack comes before a new one, so there are never more than were in use at once.
        let kept = self.0.take(|_| true).or_else(|| self.0.take_oldest());
        let mapping = match kept.filter(|mapping| mapping.bytes() >= page_bytes() + size) {
            Some(mapping) => mapping,
            None => create(size)?,
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

impl Stack {
    /// The guard page and the stack.
    fn all(&self) -> Range<*mut u8> {
        self.mapping.as_ref().map_or(std::ptr::null_mut()..std::ptr::null_mut(), |mapping| {
            mapping.base()..mapping.base().wrapping_add(mapping.bytes())
        })
    }
}

// SAFETY: the mapping lives as long as this value.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.all().end
    }

    fn range(&self) -> Range<usize> {
        self.guard_range().end.addr()..self.top().addr()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let base = self.all().start;
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
