//! What the system allows this process: open files and mappings of memory, and how many it has.

use crate::limits::{
    MAPPINGS_DEFAULT, MAPPINGS_OF_NODE, MODULE_DESCRIPTORS, MODULE_MAPPINGS, MODULES_DESCRIPTORS_SHARE,
    MODULES_FEWEST, SLOT_MAPPINGS,
};
use orama_platform::modules::Bounds;
use rustix::fs::StatVfsMountFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// What one process may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Open files, sockets among them.
    pub descriptors: u64,
    /// Mappings of memory.
    pub mappings: u64,
}

impl Allowed {
    /// Raises the limit of open files as far as the operator allows it, and reads both. Systems set the lower limit to
    /// 1,024 for programs that use `select`; this one does not.
    #[must_use]
    pub fn raised() -> Self {
        let maximum = getrlimit(Resource::Nofile).maximum;
        // Refused only where a sandbox forbids it; then what is there has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        Self::now()
    }

    /// Reads the limits.
    #[must_use]
    pub fn now() -> Self {
        Self {
            descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            mappings: fs::read_to_string("/proc/sys/vm/max_map_count")
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(MAPPINGS_DEFAULT),
        }
    }

    /// How much code may be loaded beside sockets, files and so many running instances.
    #[must_use]
    pub fn module_bounds(self, cache_mb: u32, instance_slots: u32) -> Bounds {
        let descriptors = self.descriptors / MODULES_DESCRIPTORS_SHARE / MODULE_DESCRIPTORS;
        let others = MAPPINGS_OF_NODE + SLOT_MAPPINGS * u64::from(instance_slots);
        let mappings = self.mappings.saturating_sub(others) / MODULE_MAPPINGS;
        let modules = usize::try_from(descriptors.min(mappings)).unwrap_or(usize::MAX);
        Bounds { bytes: u64::from(cache_mb) << 20, modules: modules.max(MODULES_FEWEST) }
    }
}

/// Whether the file system of a folder is mounted `noexec`, so that no code can be mapped from it.
///
/// # Errors
/// When the system does not tell.
pub fn forbids_execution(dir: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statvfs(dir)?.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// Files and sockets that this process has open; `None` where the system does not tell.
#[must_use]
pub fn descriptors_open() -> Option<u64> {
    // Kernels since 6.2 say it as the folder's size; older ones say 0.
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // One of them is the folder's own.
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as u64)
}

/// Mappings that this process has; `None` where the system does not tell. Takes a millisecond for some thousands.
#[must_use]
pub fn mappings() -> Option<u64> {
    let mut maps = File::open("/proc/self/maps").ok()?;
    let mut buffer = vec![0; 64 << 10];
    let mut lines = 0;
    loop {
        match maps.read(&mut buffer) {
            Ok(0) => return Some(lines),
            Ok(read) => lines += buffer.iter().take(read).filter(|byte| **byte == b'\n').count() as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_leave_room_for_everything_else() {
        let usual = Allowed { descriptors: 40_000, mappings: 65_530 };
        assert_eq!(usual.module_bounds(1024, 1024), Bounds { bytes: 1 << 30, modules: 10_000 });
        let many_files = Allowed { descriptors: u64::MAX, ..usual };
        let modules = many_files.module_bounds(1024, 1024).modules as u64;
        assert!(modules > 10_000 && modules * MODULE_MAPPINGS < usual.mappings - 4 * 1024, "{modules}");
        // More slots than the system has mappings for: slots are used one by one, and code there must be.
        let poor = Allowed { descriptors: 20, mappings: 1000 };
        assert_eq!(poor.module_bounds(16, 1024).modules, MODULES_FEWEST);
    }

    #[test]
    fn what_is_opened_and_mapped_is_counted() {
        let before = descriptors_open().unwrap();
        let files: Vec<_> = (0..500).map(|_| File::open("/proc/self/stat").unwrap()).collect();
        // Other tests open and close some at the same time.
        assert!(descriptors_open().unwrap() > before + 250, "{before}");
        drop(files);
        assert!(mappings().unwrap() > 10);
    }
}
