//! The disk space that tenants leave free, so that the node's own data can always be written.

use std::io;
use std::path::PathBuf;

/// The least free space of the disk that holds the node's data. Deploys and stored objects are refused below it.
#[derive(Debug, Clone)]
pub struct DiskReserve {
    dir: PathBuf,
    reserve_bytes: u64,
}

/// The disk has less free space than the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the node's disk has {} MB free, and {} MB must stay free; the operator has to make room",
    .free_bytes >> 20,
    .reserve_bytes >> 20
)]
pub struct DiskFull {
    /// What is free, in bytes.
    pub free_bytes: u64,
    /// What must stay free, in bytes.
    pub reserve_bytes: u64,
}

impl DiskReserve {
    /// Keeps `reserve_bytes` free on the disk of `dir`; zero keeps nothing.
    #[must_use]
    pub const fn new(dir: PathBuf, reserve_bytes: u64) -> Self {
        Self { dir, reserve_bytes }
    }

    /// What must stay free, in bytes.
    #[must_use]
    pub const fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// What this process may still write, in bytes. One system call, which does not wait for the disk.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Whether `more_bytes` can be written and the reserve is still free.
    ///
    /// # Errors
    /// [`DiskFull`]. A disk that does not tell counts as empty: the write itself will fail if it is full.
    pub fn check(&self, more_bytes: u64) -> Result<(), DiskFull> {
        let Self { reserve_bytes, .. } = *self;
        match self.free_bytes() {
            Ok(free_bytes) if free_bytes < reserve_bytes.saturating_add(more_bytes) => {
                Err(DiskFull { free_bytes, reserve_bytes })
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "the free space of the disk cannot be read");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_would_touch_the_reserve_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |reserve| DiskReserve::new(dir.path().to_owned(), reserve);
        let free = at(0).free_bytes().unwrap();
        assert!(free > 0);
        assert_eq!(at(0).check(1), Ok(()));
        assert_eq!(at(free / 2).check(1), Ok(()));
        let full = at(free / 2).check(free).unwrap_err();
        assert_eq!(full.reserve_bytes, free / 2);
        assert!(at(u64::MAX).check(0).is_err());
    }
}
