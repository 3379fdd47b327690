//! Blobs as files in a folder, each under its content id.

use super::cid;
use crate::backend::files;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a blob could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk failed.
    #[error("blob store: {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file's bytes are not those of its name.
    #[error("blob store: {cid} is damaged on disk; deploy its module again")]
    Damaged {
        /// The content id asked for.
        cid: String,
    },
}

/// A content-addressed store in a folder. Clones share it. All calls block.
#[derive(Debug, Clone)]
pub struct LocalBlobs {
    dir: Arc<Path>,
    holds: Holds,
}

/// How many times each blob is held.
type Holds = Arc<Mutex<HashMap<String, usize>>>;

/// Keeps a blob from being removed for as long as it lives. The blob need not be there yet.
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    cid: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = lock(&self.holds);
        if let Some(count) = holds.get_mut(&self.cid) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.cid);
            }
        }
    }
}

// Nothing that can panic leaves the counts half changed.
fn lock(holds: &Holds) -> MutexGuard<'_, HashMap<String, usize>> {
    holds.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LocalBlobs {
    /// Opens the store, making the folder where it is missing and removing what a crash left half written.
    ///
    /// # Errors
    /// [`BlobError::File`]
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        files::private_dir(dir)
            .and_then(|()| files::remove_temporary(dir))
            .map_err(|source| BlobError::File { path: dir.to_owned(), source })?;
        Ok(Self { dir: Arc::from(dir), holds: Arc::default() })
    }

    /// Keeps a blob and returns its content id. When it returns, the blob is on the disk.
    ///
    /// # Errors
    /// [`BlobError::File`]
    pub fn put(&self, bytes: &[u8]) -> Result<String, BlobError> {
        let cid = cid::of(bytes);
        self.put_as(&cid, bytes)?;
        Ok(cid)
    }

    /// [`Self::put`] for a caller that has computed the id with [`cid::of`] already.
    ///
    /// # Errors
    /// [`BlobError::File`]
    pub fn put_as(&self, cid: &str, bytes: &[u8]) -> Result<(), BlobError> {
        let path = self.dir.join(cid);
        // A damaged file of the same name is replaced, so its content counts, not its presence.
        match fs::read(&path) {
            Ok(there) if there == bytes => return Ok(()),
            Ok(_) => tracing::warn!(cid, "a damaged blob is replaced"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BlobError::File { path, source }),
        }
        files::write_atomic(&path, bytes).map_err(|source| BlobError::File { path, source })
    }

    /// Reads a blob; `None` when it is not here. What is returned is what the id promises.
    ///
    /// # Errors
    /// [`BlobError::Damaged`], or [`BlobError::File`].
    pub fn get(&self, cid: &str) -> Result<Option<Vec<u8>>, BlobError> {
        // The id becomes a file name, so nothing else may pass.
        if !cid::is_valid(cid) {
            return Ok(None);
        }
        let path = self.dir.join(cid);
        match fs::read(&path) {
            Ok(bytes) if cid::of(&bytes) == cid => Ok(Some(bytes)),
            Ok(_) => Err(BlobError::Damaged { cid: cid.to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BlobError::File { path, source }),
        }
    }

    /// Removes a blob; `false` when it was not here.
    ///
    /// # Errors
    /// [`BlobError::File`]
    pub fn remove(&self, cid: &str) -> Result<bool, BlobError> {
        if !cid::is_valid(cid) {
            return Ok(false);
        }
        let path = self.dir.join(cid);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(BlobError::File { path, source }),
        }
    }

    /// Holds a blob: until the hold is dropped, [`Self::unless_held`] does nothing for it. Waits for one that runs.
    #[must_use]
    pub fn hold(&self, cid: &str) -> Hold {
        *lock(&self.holds).entry(cid.to_owned()).or_insert(0) += 1;
        Hold { holds: Arc::clone(&self.holds), cid: cid.to_owned() }
    }

    /// Runs `work`, which may remove the blob, unless it is held; nobody can take a hold meanwhile. `None` when it is
    /// held. `work` should take milliseconds.
    pub fn unless_held<T>(&self, cid: &str, work: impl FnOnce() -> T) -> Option<T> {
        let holds = lock(&self.holds);
        if holds.contains_key(cid) { None } else { Some(work()) }
    }

    /// The ids of what is kept, at most `max` of them, in no order.
    ///
    /// # Errors
    /// [`BlobError::File`]
    pub fn list(&self, max: usize) -> Result<Vec<String>, BlobError> {
        let failed = |source| BlobError::File { path: self.dir.to_path_buf(), source };
        let mut cids = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(cid) = name.to_str().filter(|name| cid::is_valid(name)) {
                cids.push(cid.to_owned());
                if cids.len() == max {
                    break;
                }
            }
        }
        Ok(cids)
    }

    /// Whether the folder is there.
    ///
    /// # Errors
    /// [`BlobError::File`]
    pub fn check(&self) -> Result<(), BlobError> {
        let failed = |source| BlobError::File { path: self.dir.to_path_buf(), source };
        fs::read_dir(&self.dir).map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> (tempfile::TempDir, LocalBlobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(&dir.path().join("blobs")).unwrap();
        (dir, blobs)
    }

    #[test]
    fn what_was_put_is_read_back_and_removed() {
        let (dir, blobs) = store();
        let big = vec![7; 300_000];
        let cid = blobs.put(&big).unwrap();
        assert_eq!(blobs.put(&big).unwrap(), cid, "the same bytes are one blob");
        assert_eq!(blobs.list(10).unwrap(), std::slice::from_ref(&cid));
        assert_eq!(blobs.get(&cid).unwrap().unwrap(), big);
        let mode = dir.path().join("blobs").join(&cid).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(blobs.remove(&cid).unwrap() && !blobs.remove(&cid).unwrap());
        assert_eq!(blobs.get(&cid).unwrap(), None);
    }

    #[test]
    fn a_damaged_blob_is_told_and_replaced_by_the_next_put() {
        let (dir, blobs) = store();
        let cid = blobs.put(b"module").unwrap();
        fs::write(dir.path().join("blobs").join(&cid), b"modulf").unwrap();
        assert!(matches!(blobs.get(&cid), Err(BlobError::Damaged { cid: told }) if told == cid));
        blobs.put(b"module").unwrap();
        assert_eq!(blobs.get(&cid).unwrap().unwrap(), b"module");
    }

    #[test]
    fn only_content_ids_reach_the_disk() {
        let (dir, blobs) = store();
        fs::write(dir.path().join("secret"), b"s").unwrap();
        for name in ["../secret", "/etc/passwd", "", ".", "secret"] {
            assert_eq!(blobs.get(name).unwrap(), None);
            assert!(!blobs.remove(name).unwrap());
        }
        assert!(dir.path().join("secret").exists());
    }

    #[test]
    fn what_is_held_is_not_removed() {
        let (_dir, blobs) = store();
        let cid = blobs.put(b"module").unwrap();
        let (first, second) = (blobs.hold(&cid), blobs.clone().hold(&cid));
        let remove = || blobs.unless_held(&cid, || blobs.remove(&cid).unwrap());
        assert_eq!(remove(), None);
        drop(first);
        assert_eq!(remove(), None);
        drop(second);
        assert_eq!(remove(), Some(true));
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed_at_the_start() {
        let (dir, blobs) = store();
        let cid = blobs.put(b"module").unwrap();
        fs::write(dir.path().join("blobs/.orama-tmp-x"), b"mod").unwrap();
        let again = LocalBlobs::open(&dir.path().join("blobs")).unwrap();
        assert!(!dir.path().join("blobs/.orama-tmp-x").exists());
        assert_eq!(again.list(10).unwrap(), [cid]);
    }
}
