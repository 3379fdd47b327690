//! What a node keeps things in: files, SQLite, content-addressed blobs, a cache and messages, each in this process or on servers;
//! and the HTTP of guests.
//!
//! The crate implements the runtime's service traits. It knows disks and servers, and nothing of what is deployed.

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
pub mod replica;
pub mod rqlite;
pub mod settings;
pub mod single_flight;
pub mod sqlite;
