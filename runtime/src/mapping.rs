//! Memory that is mapped from the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

pub(crate) const NO_ACCESS: i32 = libc::PROT_NONE;
pub(crate) const READ: i32 = libc::PROT_READ;
pub(crate) const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// A private mapping, which ends with this value.
pub(crate) struct Mapping {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: `base` is an address. Who may use what lies there is for the owner to say.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps zeros, or a file from an offset on.
    ///
    /// # Errors
    /// When the process may have no more.
    pub(crate) fn new(bytes: usize, protection: i32, file: Option<(&File, u64)>) -> io::Result<Self> {
        // SAFETY: without `MAP_FIXED` it replaces no other mapping.
        let base = unsafe { map(std::ptr::null_mut(), bytes, protection, 0, file)? };
        Ok(Self { base, bytes })
    }

    /// Its first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`, and its owner is gone.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

/// Replaces a part of a mapping by zeros, or by a file from an offset on.
///
/// # Errors
/// When the process may have no more mappings.
///
/// # Safety
/// The range must be a part of the caller's mapping, and nothing may use it.
pub(crate) unsafe fn replace(
    at: *mut u8,
    bytes: usize,
    protection: i32,
    file: Option<(&File, u64)>,
) -> io::Result<()> {
    // SAFETY: the caller's guarantee.
    unsafe { map(at, bytes, protection, libc::MAP_FIXED, file) }.map(drop)
}

/// # Safety
/// With `MAP_FIXED`, as [`replace`].
unsafe fn map(
    at: *mut u8,
    bytes: usize,
    protection: i32,
    flags: i32,
    file: Option<(&File, u64)>,
) -> io::Result<*mut u8> {
    let anonymous = if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
    let flags = flags | anonymous | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let (descriptor, offset) = file.map_or((-1, 0), |(file, offset)| (file.as_raw_fd(), offset));
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: the caller's guarantee.
    let mapped = unsafe { libc::mmap(at.cast(), bytes, protection, flags, descriptor, offset) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped.cast()) }
}

/// Changes what may be done with a part of a mapping.
///
/// # Errors
/// When the process may have no more mappings.
///
/// # Safety
/// The range must be a part of the caller's mapping.
pub(crate) unsafe fn protect(at: *mut u8, bytes: usize, protection: i32) -> io::Result<()> {
    // SAFETY: the caller's guarantee.
    let result = unsafe { libc::mprotect(at.cast(), bytes, protection) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The size of the system's pages. The C library knows it from the start of the process, so a confined child can ask.
static PAGE_BYTES: LazyLock<usize> = LazyLock::new(|| {
    // SAFETY: it has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
});

/// The size of the system's pages, in bytes.
pub(crate) fn page_bytes() -> usize {
    *PAGE_BYTES
}
