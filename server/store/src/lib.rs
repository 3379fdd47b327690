//! The backends of a node: files, SQLite, content-addressed blobs, the cache and pubsub, each embedded or on servers; and
//! `http_fetch`.
//!
//! The crate implements the runtime's service traits. It knows disks and servers, and nothing about what is deployed.

pub mod blob;
pub mod blocking;
pub mod breaker;
pub mod cache;
pub mod causes;
pub mod clock;
#[cfg(test)]
mod conformance;
pub mod database;
pub mod egress;
pub mod files;
pub mod ids;
pub mod limits;
pub mod olric;
pub mod part;
pub mod pubsub;
pub mod readiness;
pub mod replica;
pub mod rqlite;
pub mod settings;
pub mod single_flight;
pub mod sqlite;
pub mod versions;
