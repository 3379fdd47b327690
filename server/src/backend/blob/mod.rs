//! Content-addressed stores for modules.

pub mod cid;
mod local;

pub use local::{BlobError, LocalBlobs};
