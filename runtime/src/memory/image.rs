//! What the memory of a module's instances holds at first.

use super::Memories;
use super::reset::page_bytes;
use crate::limits::RESET_PAGES_KEPT;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

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
    /// In a file, from this offset on, which is a page's.
    File(File, u64),
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
    /// Copies of its pages, made when an instance has written one for the first time. A copy spares the next instances a page
    /// fault.
    pages: Box<[OnceLock<Box<[u8]>>]>,
    kept: AtomicUsize,
    memories: Arc<Memories>,
}

impl MemoryImage {
    fn new(memories: &Arc<Memories>, range: Range<usize>, source: Source) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let pages = match source {
            Source::File(..) => range.len() / page_bytes(),
            Source::Zeros | Source::Memory(_) => 0,
        };
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            range,
            source,
            pages: (0..pages).map(|_| OnceLock::new()).collect(),
            kept: AtomicUsize::new(0),
            memories: Arc::clone(memories),
        }
    }

    /// An image in a file, which must not change.
    ///
    /// # Errors
    /// When the range or the offset is not one of pages.
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
        let source = if range.is_empty() { Source::Zeros } else { Source::File(file, offset) };
        Ok(Self::new(memories, range, source))
    }

    /// An image that exists only in this process.
    pub(crate) fn of_bytes(memories: &Arc<Memories>, image: &ImageBytes) -> Self {
        let (range, bytes) = image.padded();
        let range = range.start as usize..range.end as usize;
        match in_memory_file(&bytes) {
            _ if bytes.is_empty() => Self::new(memories, range, Source::Zeros),
            Ok(file) => Self::new(memories, range, Source::File(file, 0)),
            // A confined child may have none.
            Err(_) => Self::in_this_process(memories, range, bytes),
        }
    }

    /// An image of which each instance gets a copy.
    pub(super) fn in_this_process(memories: &Arc<Memories>, range: Range<usize>, bytes: Vec<u8>) -> Self {
        Self::new(memories, range, Source::Memory(bytes))
    }

    pub(crate) fn memories(&self) -> &Arc<Memories> {
        &self.memories
    }

    /// The copy of a page; `None` for a page of zeros.
    pub(super) fn page(&self, index: usize) -> Option<&OnceLock<Box<[u8]>>> {
        self.pages.get(index.checked_sub(self.range.start / page_bytes())?)
    }

    /// Whether one more copy may be kept.
    pub(super) fn keep(&self) -> bool {
        self.kept.load(Ordering::Relaxed) < RESET_PAGES_KEPT
            && self.kept.fetch_add(1, Ordering::Relaxed) < RESET_PAGES_KEPT
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
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

fn in_memory_file(bytes: &[u8]) -> io::Result<File> {
    let file = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    Ok(file)
}
