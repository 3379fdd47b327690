//! What a node keeps things in: files, SQLite, content-addressed blobs and memory.

pub mod blob;
pub mod cache;
#[cfg(test)]
pub(crate) mod conformance;
pub mod database;
pub mod files;
pub mod sqlite;
