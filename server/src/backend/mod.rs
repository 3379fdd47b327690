//! What a node keeps things in: files, SQLite and content-addressed blobs.

pub mod blob;
pub mod files;
pub mod sqlite;
