//! Blobs as files in a folder, each under its content id.

use super::{BlobError, Blobs, Holds, cid};
use crate::files;
use bytes::Bytes;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A content-addressed store in a folder. Clones share it.
#[derive(Debug, Clone)]
pub struct LocalBlobs {
    dir: Arc<Path>,
    holds: Holds,
}

impl LocalBlobs {
    /// Opens the store. Creates the folder if it is missing, and removes temporary files that a crash left.
    ///
    /// # Errors
    /// [`BlobError::File`]
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        files::private_dir(dir)
            .and_then(|()| files::remove_temporary(dir))
            .map_err(|source| BlobError::File { path: dir.to_owned(), source })?;
        Ok(Self { dir: Arc::from(dir), holds: Holds::default() })
    }
}

impl Blobs for LocalBlobs {
    fn put_as(&self, cid: &str, bytes: &Bytes) -> Result<(), BlobError> {
        let path = self.dir.join(cid);
        // Checks the content, because a damaged file of the same name must be replaced.
        match fs::read(&path) {
            Ok(there) if there == *bytes => return Ok(()),
            Ok(_) => tracing::warn!(cid, "replacing a damaged blob"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BlobError::File { path, source }),
        }
        files::write_atomic(&path, bytes).map_err(|source| BlobError::File { path, source })
    }

    fn get(&self, cid: &str) -> Result<Option<Bytes>, BlobError> {
        // The id becomes a file name, so it must be valid.
        if !cid::is_valid(cid) {
            return Ok(None);
        }
        let path = self.dir.join(cid);
        match fs::read(&path) {
            Ok(bytes) if cid::of(&bytes) == cid => Ok(Some(bytes.into())),
            Ok(_) => Err(BlobError::Damaged { cid: cid.to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BlobError::File { path, source }),
        }
    }

    fn remove(&self, cid: &str) -> Result<bool, BlobError> {
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

    fn list(&self, max: usize) -> Result<Vec<String>, BlobError> {
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

    fn check(&self) -> Result<(), BlobError> {
        let failed = |source| BlobError::File { path: self.dir.to_path_buf(), source };
        fs::read_dir(&self.dir).map(drop).map_err(failed)
    }

    fn holds(&self) -> &Holds {
        &self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::blobs as suite;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> (tempfile::TempDir, LocalBlobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(&dir.path().join("blobs")).unwrap();
        (dir, blobs)
    }

    #[test]
    fn it_is_a_blob_store() {
        let (dir, blobs) = store();
        for (name, case) in suite::CASES {
            eprintln!("case: {name}");
            case(&blobs);
        }
        suite::damage_is_found(&blobs, &|cid| {
            let path = dir.path().join("blobs").join(cid);
            let mut bytes = fs::read(&path).unwrap();
            bytes[0] ^= 1;
            fs::write(path, bytes).unwrap();
        });
    }

    #[test]
    fn files_are_the_owners_alone() {
        let (dir, blobs) = store();
        let cid = blobs.put(b"module").unwrap();
        let mode = dir.path().join("blobs").join(&cid).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn only_content_ids_reach_the_disk() {
        let (dir, blobs) = store();
        fs::write(dir.path().join("secret"), b"s").unwrap();
        for name in ["../secret", "secret"] {
            assert_eq!(blobs.get(name).unwrap(), None);
            assert!(!blobs.remove(name).unwrap());
        }
        assert!(dir.path().join("secret").exists());
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
