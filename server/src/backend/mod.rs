//! What a node keeps things in: files, SQLite, content-addressed blobs, memory and messages.

pub mod blob;
pub mod cache;
#[cfg(test)]
pub(crate) mod conformance;
pub mod database;
pub mod files;
pub mod olric;
pub mod pubsub;
pub mod reach;
pub mod replica;
pub mod rqlite;
pub mod sqlite;
