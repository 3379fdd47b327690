//! Copies of fetched blobs: a folder of bounded size that evicts the least recently used copy first.

use crate::blob::local::LocalBlobs;
use crate::blob::{BlobError, Blobs};
use bytes::Bytes;
use hashlink::LruCache;
use parking_lot::Mutex;
use std::fs;
use std::path::Path;

pub(super) struct Fetched {
    store: LocalBlobs,
    kept: Mutex<Kept>,
    max_bytes: u64,
}

/// Sizes, least recently used first.
struct Kept {
    sizes: LruCache<String, u64>,
    bytes: u64,
}

impl Kept {
    fn insert(&mut self, cid: &str, size: u64) {
        self.bytes += size;
        self.bytes -= self.sizes.insert(cid.to_owned(), size).unwrap_or_default();
    }
}

impl Fetched {
    /// Opens the folder with the copies of earlier runs.
    pub(super) fn open(dir: &Path, max_bytes: u64) -> Result<Self, BlobError> {
        let store = LocalBlobs::open(dir)?;
        let mut files = Vec::new();
        for cid in store.list(usize::MAX)? {
            let path = dir.join(&cid);
            let failed = |source| BlobError::File { path: path.clone(), source };
            let metadata = fs::metadata(&path).map_err(failed)?;
            files.push((metadata.modified().map_err(failed)?, cid, metadata.len()));
        }
        files.sort();
        let mut kept = Kept { sizes: LruCache::new_unbounded(), bytes: 0 };
        files.iter().for_each(|(_, cid, size)| kept.insert(cid, *size));
        let this = Self { store, kept: Mutex::new(kept), max_bytes };
        this.shrink();
        Ok(this)
    }

    /// Reads a copy. A damaged copy counts as missing.
    pub(super) fn get(&self, cid: &str) -> Result<Option<Bytes>, BlobError> {
        if self.kept.lock().sizes.get(cid).is_none() {
            return Ok(None);
        }
        match self.store.get(cid) {
            Err(BlobError::Damaged { .. }) => {
                tracing::warn!(cid, "removed a damaged copy of a blob");
                self.remove(cid)?;
                Ok(None)
            }
            found => found,
        }
    }

    pub(super) fn put(&self, cid: &str, bytes: &Bytes) -> Result<(), BlobError> {
        self.store.put_as(cid, bytes)?;
        self.kept.lock().insert(cid, bytes.len() as u64);
        self.shrink();
        Ok(())
    }

    pub(super) fn remove(&self, cid: &str) -> Result<bool, BlobError> {
        {
            let mut kept = self.kept.lock();
            kept.bytes -= kept.sizes.remove(cid).unwrap_or_default();
        }
        self.store.remove(cid)
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.kept.lock().sizes.iter().map(|(cid, _)| cid.clone()).collect()
    }

    /// Evicts copies. The newest stays even if it alone exceeds the bound.
    fn shrink(&self) {
        loop {
            let oldest = {
                let kept = self.kept.lock();
                let is_full = kept.bytes > self.max_bytes && kept.sizes.len() > 1;
                kept.sizes.iter().next().filter(|_| is_full).map(|(cid, _)| cid.clone())
            };
            let Some(cid) = oldest else { return };
            if let Err(error) = self.remove(&cid) {
                tracing::warn!(%error, "a copy of a blob could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::cid;

    #[test]
    fn the_folder_is_bounded_and_what_was_used_last_stays() {
        let dir = tempfile::tempdir().unwrap();
        let blobs: Vec<(String, Bytes)> =
            (0..5_u8).map(|n| Bytes::from(vec![n; 100])).map(|bytes| (cid::of(&bytes), bytes)).collect();
        let fetched = Fetched::open(dir.path(), 300).unwrap();
        for (cid, bytes) in &blobs[..3] {
            fetched.put(cid, bytes).unwrap();
            fetched.put(cid, bytes).unwrap();
        }
        assert_eq!(fetched.get(&blobs[0].0).unwrap().unwrap(), blobs[0].1);
        fetched.put(&blobs[3].0, &blobs[3].1).unwrap();
        let has =
            |fetched: &Fetched| [0, 1, 2, 3, 4].map(|n: usize| fetched.get(&blobs[n].0).unwrap().is_some());
        assert_eq!(has(&fetched), [true, false, true, true, false]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        drop(fetched);
        let fetched = Fetched::open(dir.path(), 150).unwrap();
        assert_eq!(fetched.list().len(), 1, "a smaller bound holds at the next start");
        let kept = fetched.list().remove(0);
        fs::write(dir.path().join(&kept), b"damaged").unwrap();
        assert_eq!(fetched.get(&kept).unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let large = Bytes::from(vec![9; 1000]);
        fetched.put(&cid::of(&large), &large).unwrap();
        assert_eq!(fetched.list().len(), 1, "one that is too large stays until the next");
    }
}
