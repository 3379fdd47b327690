//! The linear memories of guests: slots of address space, the images that are mapped into them, and their reset.
//!
//! An instance takes a slot, and gives it back when it is dropped. The slot is reset then, so a free slot is always clean. It
//! keeps the module's image and the pages that the instance wrote, so the module's next instance finds them in place.

use crate::mapping::{self, Mapping, NO_ACCESS, READ_WRITE};
use crate::shards::Shards;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

mod image;
mod reset;
#[cfg(test)]
mod tests;

use image::Source;
pub(crate) use image::{ImageBytes, MemoryImage};

/// A page of WebAssembly's linear memory.
pub(crate) const WASM_PAGE_BYTES: u64 = 64 << 10;
/// Address space reserved for each memory. It covers every 32-bit address, so compiled code needs no bounds checks. A smaller
/// reservation measured 38% more code and 12% more time.
pub(crate) const RESERVATION_BYTES: u64 = 4 << 30;
/// Follows each reservation, and catches accesses whose constant offset reaches past it.
pub(crate) const GUARD_BYTES: u64 = 32 << 20;
const SLOT_BYTES: usize = (RESERVATION_BYTES + GUARD_BYTES) as usize;

thread_local! {
    /// The slot for the memory that wasmtime is about to create. wasmtime does not tell for which module it creates one.
    static OFFERED: RefCell<Option<(Lease, Arc<MemoryImage>)>> = const { RefCell::new(None) };
}

/// The slots of an engine.
pub(crate) struct Memories {
    space: Mapping,
    slots: u32,
    /// Slots that were in use once.
    used: AtomicU32,
    free: Shards<Slot>,
}

/// A slot that is clean: its image, where one is mapped, and zeros.
struct Slot {
    index: u32,
    /// Bytes from its beginning that can be read and written.
    accessible: usize,
    /// The id and the place of the image that it shows.
    image: Option<(u64, Range<usize>)>,
}

impl Memories {
    /// Reserves address space for `slots` memories.
    ///
    /// # Errors
    /// When the process may have no more.
    pub(crate) fn reserve(slots: u32) -> io::Result<Arc<Self>> {
        let bytes = (slots as usize).checked_mul(SLOT_BYTES);
        // A guard in front of the first, too.
        let bytes = bytes.and_then(|bytes| bytes.checked_add(GUARD_BYTES as usize));
        let space = Mapping::new(bytes.ok_or(io::ErrorKind::OutOfMemory)?, NO_ACCESS, None)?;
        Ok(Arc::new(Self { space, slots, used: AtomicU32::new(0), free: Shards::default() }))
    }

    fn address(&self, slot: &Slot) -> *mut u8 {
        // SAFETY: a slot's index is below the number of slots that are reserved.
        unsafe { self.space.base().add(GUARD_BYTES as usize + slot.index as usize * SLOT_BYTES) }
    }

    /// The number of slots.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// The number of slots in use.
    pub(crate) fn in_use(&self) -> u32 {
        let used = self.used.load(Ordering::Acquire).min(self.slots);
        used.saturating_sub(self.free.len() as u32)
    }

    /// Takes a slot, best one that has the image already; `None` when all are in use.
    pub(crate) fn take(self: &Arc<Self>, image: &MemoryImage) -> Option<Lease> {
        let slot = self.free.take(|slot| slot.image.as_ref().is_some_and(|(id, _)| *id == image.id));
        let slot = slot.or_else(|| self.unused()).or_else(|| self.free.take_oldest())?;
        Some(Lease { memories: Arc::clone(self), slot: Some(slot) })
    }

    fn unused(&self) -> Option<Slot> {
        if self.used.load(Ordering::Relaxed) >= self.slots {
            return None;
        }
        let index = self.used.fetch_add(1, Ordering::AcqRel);
        (index < self.slots).then_some(Slot { index, accessible: 0, image: None })
    }

    /// Unmaps an image from all free slots, so that its file can go.
    fn forget(&self, id: u64) {
        self.free.retain(|slot| match &slot.image {
            Some((other, _)) if *other == id => self.unmap(slot).is_ok(),
            _ => true,
        });
    }

    fn unmap(&self, slot: &mut Slot) -> io::Result<()> {
        let Some((_, range)) = slot.image.take() else { return Ok(()) };
        if range.is_empty() {
            return Ok(());
        }
        // SAFETY: the range lies within the slot, and replaces what this engine has mapped there.
        unsafe {
            let at = self.address(slot).add(range.start);
            mapping::replace(at, range.len(), READ_WRITE, None)
        }
    }

    /// Gives back a slot whose state is not known. Where it cannot even be mapped anew, nobody gets it again.
    fn scrub_and_give(&self, slot: Slot) {
        // SAFETY: the slot is the caller's.
        let mapped =
            unsafe { mapping::replace(self.address(&slot), RESERVATION_BYTES as usize, NO_ACCESS, None) };
        if mapped.is_ok() {
            self.free.give(Slot { index: slot.index, accessible: 0, image: None });
        }
    }

    /// Makes a slot show an image in a memory of `bytes`, or of the image's own size where that is more.
    fn prepare(&self, slot: &mut Slot, image: &MemoryImage, bytes: usize) -> io::Result<()> {
        let bytes = bytes.max(image.memory_bytes);
        if slot.image.as_ref().is_some_and(|(id, _)| *id != image.id) {
            self.unmap(slot)?;
        }
        self.resize(slot, bytes)?;
        if slot.image.is_some() {
            return Ok(());
        }
        if image.range.end > bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: the range lies within the accessible part of the slot, as just checked.
        unsafe {
            let at = self.address(slot).add(image.range.start);
            match &image.source {
                Source::File(pages) => {
                    mapping::replace(at, image.range.len(), READ_WRITE, Some((&pages.file, pages.offset)))?;
                    slot.image = Some((image.id, image.range.clone()));
                }
                Source::Zeros => slot.image = Some((image.id, 0..0)),
                // The reset gives all of it back.
                Source::Memory(bytes) => at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()),
            }
        }
        Ok(())
    }

    /// Makes exactly the first `bytes` of a slot accessible. What becomes so are zeros.
    fn resize(&self, slot: &mut Slot, bytes: usize) -> io::Result<()> {
        let (range, protection) = if bytes > slot.accessible {
            (slot.accessible..bytes, READ_WRITE)
        } else {
            (bytes..slot.accessible, NO_ACCESS)
        };
        if bytes as u64 > RESERVATION_BYTES {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if !range.is_empty() {
            // SAFETY: the range lies within the slot.
            unsafe { mapping::protect(self.address(slot).add(range.start), range.len(), protection)? };
        }
        slot.accessible = bytes;
        Ok(())
    }
}

/// A slot that is taken. Dropping it gives the slot back.
pub(crate) struct Lease {
    memories: Arc<Memories>,
    /// `None` once an instance has it.
    slot: Option<Slot>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.memories.free.give(slot);
        }
    }
}

impl Lease {
    /// Offers the slot to the next memory that wasmtime creates on this thread.
    pub(crate) fn offer(self, image: &Arc<MemoryImage>) {
        OFFERED.set(Some((self, Arc::clone(image))));
    }

    /// Gives back the slot that was offered on this thread, if wasmtime created no memory.
    pub(crate) fn withdraw() {
        OFFERED.take();
    }
}

// SAFETY: `new_memory` returns memories that are mapped as the trait demands; see `GuestMemory`.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        // The engine's settings; a slot has no room for more.
        if reserved_size_in_bytes.is_some_and(|bytes| bytes as u64 > RESERVATION_BYTES)
            || guard_size_in_bytes as u64 > GUARD_BYTES
        {
            return Err("the slots of memories are too small for this engine".to_owned());
        }
        let (mut lease, image) = OFFERED.take().ok_or("no slot was offered for this memory")?;
        let Some(mut slot) = lease.slot.take() else { return Err("the slot is in use".to_owned()) };
        let memories = Arc::clone(&lease.memories);
        if let Err(error) = memories.prepare(&mut slot, &image, minimum) {
            memories.scrub_and_give(slot);
            return Err(format!("a memory cannot be mapped: {error}"));
        }
        Ok(Box::new(GuestMemory { base: memories.address(&slot), memories, slot: Some(slot), image }))
    }
}

/// The memory of an instance.
struct GuestMemory {
    base: *mut u8,
    memories: Arc<Memories>,
    /// `None` only while it is dropped.
    slot: Option<Slot>,
    image: Arc<MemoryImage>,
}

// SAFETY: `base` is an address, and the slot that lies there belongs to this value.
unsafe impl Send for GuestMemory {}
// SAFETY: as above.
unsafe impl Sync for GuestMemory {}

// SAFETY: the slot is mapped for as long as the value lives, at the same address; its first `byte_size` bytes can be read and
// written, and the rest of the reservation and the guard behind it cannot be accessed.
unsafe impl LinearMemory for GuestMemory {
    fn byte_size(&self) -> usize {
        self.slot.as_ref().map_or(0, |slot| slot.accessible)
    }

    fn byte_capacity(&self) -> usize {
        RESERVATION_BYTES as usize
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if let Some(slot) = &mut self.slot {
            self.memories.resize(slot, new_size)?;
        }
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let bytes = std::ptr::slice_from_raw_parts_mut(self.base, slot.accessible);
        // SAFETY: this is the whole accessible memory of the slot, which nobody else has: the instance is gone.
        match unsafe { reset::reset(bytes, &self.image) } {
            Ok(()) => self.memories.free.give(slot),
            Err(_) => self.memories.scrub_and_give(slot),
        }
    }
}
