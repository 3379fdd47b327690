//! Content-addressed stores, for modules and for objects.

use crate::causes::SharedCause;
use bytes::Bytes;
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

pub mod cid;
mod holds;
pub mod ipfs;
pub mod local;

pub use holds::{Hold, Holds};

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk failed.
    #[error("blob store: {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file's bytes do not match its content id.
    #[error("blob store: {cid} is damaged on disk; deploy its module again, or store the object again")]
    Damaged {
        /// The content id.
        cid: String,
    },
    /// kubo cannot be reached or failed. The call may be retried.
    #[error("blob store: kubo: {0}")]
    Unavailable(#[source] SharedCause),
}

/// A content-addressed store. All calls block.
pub trait Blobs: Send + Sync + 'static {
    /// Stores a blob durably and returns its content id.
    ///
    /// # Errors
    /// [`BlobError`]
    fn put(&self, bytes: &[u8]) -> Result<String, BlobError> {
        let cid = cid::of(bytes);
        self.put_as(&cid, &Bytes::copy_from_slice(bytes))?;
        Ok(cid)
    }

    /// [`Self::put`] for a caller that has already computed the id with [`cid::of`].
    ///
    /// # Errors
    /// [`BlobError`]
    fn put_as(&self, cid: &str, bytes: &Bytes) -> Result<(), BlobError>;

    /// Called after the registry named a blob that was put before. If another node has removed the blob in between, it is stored
    /// again when this returns.
    ///
    /// # Errors
    /// [`BlobError`]
    fn confirm(&self, cid: &str) -> Result<(), BlobError> {
        let _ = cid;
        Ok(())
    }

    /// Reads a blob, whose bytes are verified against the id. `None` if the store does not have it.
    ///
    /// # Errors
    /// [`BlobError::Damaged`], or another failure.
    fn get(&self, cid: &str) -> Result<Option<Bytes>, BlobError>;

    /// Removes a blob. Returns `false` if the store does not have it.
    ///
    /// # Errors
    /// [`BlobError`]
    fn remove(&self, cid: &str) -> Result<bool, BlobError>;

    /// Lists ids of stored blobs, at most `max`, in any order.
    ///
    /// # Errors
    /// [`BlobError`]
    fn list(&self, max: usize) -> Result<Vec<String>, BlobError>;

    /// Retries removals that failed because a server was unreachable.
    fn retry_removals(&self) {}

    /// Restores blobs that a server has lost although they are named. Returns how many it lacked.
    ///
    /// # Errors
    /// [`BlobError`]
    fn repair(&self, is_named: &HashSet<String>) -> Result<usize, BlobError> {
        let _ = is_named;
        Ok(0)
    }

    /// Checks that the store can be used.
    ///
    /// # Errors
    /// [`BlobError`]
    fn check(&self) -> Result<(), BlobError>;

    /// The holds on blobs of this store.
    fn holds(&self) -> &Holds;
}
