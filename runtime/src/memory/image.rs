//! What the memory of a module's instances holds at first.

use super::Memories;
use crate::mapping::{Mapping, READ, page_bytes};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes with which a memory begins, as the compiler gives them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ImageBytes {
    /// The address of the first. All bytes around them begin as zeros.
    pub(crate) start: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Where an image's pages are.
pub(super) enum Source {
    /// There are none: the memory begins as zeros.
    Zeros,
    /// In a file.
    File(FilePages),
    /// Where the process may make no file.
    Memory(Vec<u8>),
}

/// A module's image, which its instances share until they write.
pub(crate) struct MemoryImage {
    /// Identifies it within the process.
    pub(super) id: u64,
    /// The part of the memory that it sets, in whole pages.
    pub(super) range: Range<usize>,
    pub(super) source: Source,
    /// The size with which a memory begins, where it is more than its module declares.
    pub(super) memory_bytes: usize,
    memories: Arc<Memories>,
}

/// Whole pages of a file, from which slots map them.
pub(super) struct FilePages {
    pub(super) file: File,
    pub(super) offset: u64,
    /// The same pages, to read from when a slot is reset.
    mapped: Mapping,
}

impl FilePages {
    fn new(file: File, offset: u64, bytes: usize) -> io::Result<Self> {
        let mapped = Mapping::new(bytes, READ, Some((&file, offset)))?;
        Ok(Self { file, offset, mapped })
    }

    /// The bytes.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping can be read and lives as long as this value. Its file is never changed in place.
        unsafe { std::slice::from_raw_parts(self.mapped.base(), self.mapped.bytes()) }
    }
}

impl MemoryImage {
    fn new(memories: &Arc<Memories>, range: Range<usize>, source: Source) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Self { id, range, source, memory_bytes: 0, memories: Arc::clone(memories) }
    }

    /// An image in a file, which must not change.
    ///
    /// # Errors
    /// When the range or the offset is not one of pages, or the file cannot be mapped.
    pub(crate) fn of_file(
        memories: &Arc<Memories>,
        range: Range<u64>,
        file: File,
        offset: u64,
    ) -> io::Result<Self> {
        let page = page_bytes() as u64;
        let is_aligned = [range.start, range.end, offset].iter().all(|at| at % page == 0);
        let fits = range.start <= range.end && range.end <= super::RESERVATION_BYTES;
        if !(is_aligned && fits) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // In the address space, as just checked.
        let range = range.start as usize..range.end as usize;
        let source = if range.is_empty() {
            Source::Zeros
        } else {
            Source::File(FilePages::new(file, offset, range.len())?)
        };
        Ok(Self::new(memories, range, source))
    }

    /// An image that exists only in this process.
    pub(crate) fn of_bytes(memories: &Arc<Memories>, image: &ImageBytes) -> Self {
        let (range, bytes) = image.padded();
        let range = range.start as usize..range.end as usize;
        match in_memory_file(&bytes) {
            _ if bytes.is_empty() => Self::new(memories, range, Source::Zeros),
            Ok(pages) => Self::new(memories, range, Source::File(pages)),
            // A confined child may have none.
            Err(_) => Self::in_this_process(memories, range, bytes),
        }
    }

    /// An image of which each instance gets a copy.
    pub(super) fn in_this_process(memories: &Arc<Memories>, range: Range<usize>, bytes: Vec<u8>) -> Self {
        Self::new(memories, range, Source::Memory(bytes))
    }

    /// The same image in memories that begin with so many bytes.
    pub(crate) fn with_memory(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    pub(crate) fn memories(&self) -> &Arc<Memories> {
        &self.memories
    }

    /// The bytes of the page at this place of the memory; `None` for a page of zeros.
    pub(super) fn page(&self, at: usize) -> Option<&[u8]> {
        let bytes = match &self.source {
            Source::Zeros => return None,
            Source::File(pages) => pages.bytes(),
            Source::Memory(bytes) => bytes,
        };
        let at = at.checked_sub(self.range.start)?;
        bytes.get(at..at + page_bytes())
    }
}

impl Drop for MemoryImage {
    fn drop(&mut self) {
        self.memories.forget(self.id);
    }
}

impl ImageBytes {
    /// The same in whole pages: their range, and their bytes.
    pub(crate) fn padded(&self) -> (Range<u64>, Vec<u8>) {
        let page = page_bytes() as u64;
        let start = self.start / page * page;
        let before = (self.start - start) as usize;
        let length = if self.bytes.is_empty() {
            0
        } else {
            (before + self.bytes.len()).next_multiple_of(page as usize)
        };
        let mut bytes = vec![0; length];
        if let Some(own) = bytes.get_mut(before..before + self.bytes.len()) {
            own.copy_from_slice(&self.bytes);
        }
        (start..start + length as u64, bytes)
    }
}

fn in_memory_file(bytes: &[u8]) -> io::Result<FilePages> {
    let file = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    FilePages::new(file, 0, bytes.len())
}
