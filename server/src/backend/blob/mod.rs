//! Content-addressed stores: of modules, and of what guests store.

use std::io;
use std::path::PathBuf;

pub mod cid;
mod holds;
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
}

/// A content-addressed store. All calls block.
pub trait Blobs: Send + Sync + 'static {
    /// Keeps a blob and returns its content id. When it returns, the blob is durable.
    ///
    /// # Errors
    /// [`BlobError`]
    fn put(&self, bytes: &[u8]) -> Result<String, BlobError> {
        let cid = cid::of(bytes);
        self.put_as(&cid, bytes)?;
        Ok(cid)
    }

    /// [`Self::put`] for a caller that has computed the id with [`cid::of`] already.
    ///
    /// # Errors
    /// [`BlobError`]
    fn put_as(&self, cid: &str, bytes: &[u8]) -> Result<(), BlobError>;

    /// Reads a blob; `None` when it is not here. What is returned is what the id promises.
    ///
    /// # Errors
    /// [`BlobError::Damaged`], or another failure.
    fn get(&self, cid: &str) -> Result<Option<Vec<u8>>, BlobError>;

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

    /// Whether the store can be used now.
    ///
    /// # Errors
    /// [`BlobError`]
    fn check(&self) -> Result<(), BlobError>;

    /// What may not be removed now.
    fn holds(&self) -> &Holds;
}
