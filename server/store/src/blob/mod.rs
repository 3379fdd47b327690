//! Content-addressed stores: of modules, and of what guests store.

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
    #[error("blob store: {cid} is damaged on disk; deploy its module, or store the object, once more")]
    Damaged {
        /// The content id asked for.
        cid: String,
    },
    /// kubo cannot be reached, or did not do what it was asked. The call may be retried.
    #[error("blob store: kubo: {0}")]
    Unavailable(#[source] SharedCause),
}

/// A content-addressed store. All calls block.
pub trait Blobs: Send + Sync + 'static {
    /// Keeps a blob and returns its content id. When it returns, the blob is durable.
    ///
    /// # Errors
    /// [`BlobError`]
    fn put(&self, bytes: &[u8]) -> Result<String, BlobError> {
        let cid = cid::of(bytes);
        self.put_as(&cid, &Bytes::copy_from_slice(bytes))?;
        Ok(cid)
    }

    /// [`Self::put`] for a caller that has computed the id with [`cid::of`] already.
    ///
    /// # Errors
    /// [`BlobError`]
    fn put_as(&self, cid: &str, bytes: &Bytes) -> Result<(), BlobError>;

    /// Says that the registry names a blob now that was put before: what another node has removed meanwhile, as it was not
    /// named yet, is there again when this returns.
    ///
    /// # Errors
    /// [`BlobError`]
    fn confirm(&self, cid: &str) -> Result<(), BlobError> {
        let _ = cid;
        Ok(())
    }

    /// Reads a blob; `None` when it is not here. What is returned is what the id promises.
    ///
    /// # Errors
    /// [`BlobError::Damaged`], or another failure.
    fn get(&self, cid: &str) -> Result<Option<Bytes>, BlobError>;

    /// Removes a blob; `false` when it was not here.
    ///
    /// # Errors
    /// [`BlobError`]
    fn remove(&self, cid: &str) -> Result<bool, BlobError>;

    /// The ids of what is kept, at most `max` of them, in no order.
    ///
    /// # Errors
    /// [`BlobError`]
    fn list(&self, max: usize) -> Result<Vec<String>, BlobError>;

    /// Tries removals again that failed as a server could not be reached.
    fn retry_removals(&self) {}

    /// Sees to it that a server has what is kept here and named, as it may have lost it; how many blobs it lacked.
    ///
    /// # Errors
    /// [`BlobError`]
    fn repair(&self, is_named: &HashSet<String>) -> Result<usize, BlobError> {
        let _ = is_named;
        Ok(0)
    }

    /// Whether the store can be used now.
    ///
    /// # Errors
    /// [`BlobError`]
    fn check(&self) -> Result<(), BlobError>;

    /// What may not be removed now.
    fn holds(&self) -> &Holds;
}
