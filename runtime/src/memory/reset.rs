//! Resets a memory to its image.
//!
//! The kernel tells which pages were written (`PAGEMAP_SCAN`). The first of them are set to their image in place, and stay
//! mapped; the others are given back. Pages that are not present have to be asked for as well: one that is swapped out, or
//! that the kernel is just moving, would keep what the last instance wrote. wasmtime's own pool passes over those up to
//! version 48.

use super::image::{MemoryImage, Source};
use crate::limits::{RESET_PAGES, RESET_REGIONS};
use crate::mapping::page_bytes;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// The kernel's view of this process's pages. `None` when the kernel cannot scan it; Linux can since version 6.7.
static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();

fn pagemap() -> Option<&'static File> {
    let open = || {
        let pagemap = File::open("/proc/self/pagemap").ok()?;
        let mut regions = [Region::default()];
        // An empty range shows whether the call exists.
        scan(&pagemap, &(0..0), &mut regions).is_ok().then_some(pagemap)
    };
    PAGEMAP.get_or_init(open).as_ref()
}

/// Resets a memory to its image.
///
/// # Errors
/// When the kernel refuses. The memory must not be used again then.
///
/// # Safety
/// `memory` must be an instance's whole memory, mapped privately and page by page from its image or from zeros. Nothing else
/// may use it during the call.
pub(super) unsafe fn reset(memory: *mut [u8], image: &MemoryImage) -> io::Result<()> {
    if matches!(image.source, Source::Memory(_)) {
        // SAFETY: the caller's guarantee.
        return unsafe { give_back(memory, 0..memory.len()) };
    }
    let begin = memory.cast::<u8>().addr();
    let range = begin..begin + memory.len();
    let mut regions = [Region::default(); RESET_REGIONS];
    let scanned = pagemap().and_then(|pagemap| scan(pagemap, &range, &mut regions).ok());
    // Without a scan all is given back.
    let (found, walked) = scanned.unwrap_or((0, begin));
    for region in regions.iter().take(found) {
        for at in (region.begin as usize - begin..region.end as usize - begin).step_by(page_bytes()) {
            // SAFETY: the kernel gives regions of `range`, which is mapped and the caller's, in whole pages.
            let page = unsafe { memory.cast::<u8>().add(at) };
            match image.page(at) {
                // SAFETY: as above; the image's pages are elsewhere.
                Some(bytes) => unsafe { page.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) },
                // SAFETY: as above.
                None => unsafe { page.write_bytes(0, page_bytes()) },
            }
        }
    }
    // SAFETY: as above.
    unsafe { give_back(memory, walked - begin..memory.len()) }
}

/// Gives pages back to the kernel. They show their image, or zeros, when they are read again.
///
/// # Safety
/// As [`reset`]; the range lies within the memory, and begins and ends with a page.
unsafe fn give_back(memory: *mut [u8], range: Range<usize>) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    // SAFETY: the caller guarantees that the range is a part of its mapping.
    let result = unsafe {
        let begin = memory.cast::<u8>().add(range.start);
        libc::madvise(begin.cast(), range.len(), libc::MADV_DONTNEED)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct page_region` of the kernel's interface (linux/fs.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    begin: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of the kernel's interface.
#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::Ioctl = 0xC060_6610_u32 as libc::Ioctl;
const PAGE_IS_WRITTEN: u64 = 1 << 1;
/// Shows a page of the file that the image is mapped from.
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
/// The page is swapped out, or is being moved.
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// Shows the kernel's page of zeros.
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// Finds the pages of a range that were written, whether they are present or not: at most [`RESET_PAGES`], in as many regions
/// as there is room for. Returns the number of regions and the address up to which it looked.
fn scan(pagemap: &File, range: &Range<usize>, regions: &mut [Region]) -> io::Result<(usize, usize)> {
    let mut argument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        flags: 0,
        start: range.start as u64,
        end: range.end as u64,
        walk_end: 0,
        vec: regions.as_mut_ptr().addr() as u64,
        vec_len: regions.len() as u64,
        max_pages: RESET_PAGES as u64,
        category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
        category_mask: PAGE_IS_WRITTEN | PAGE_IS_FILE | PAGE_IS_PFNZERO,
        // Without this a page that was never touched would count as written.
        category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        return_mask: 0,
    };
    // SAFETY: the kernel writes to the argument and to `regions` alone, both of which outlive the call and have the layout and
    // the length that it is told.
    let found = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut argument) };
    let found = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
    Ok((found, argument.walk_end as usize))
}

#[cfg(test)]
mod tests;
