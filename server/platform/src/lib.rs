//! What is deployed, who may use it, and what happens to it.
//!
//! [`Platform`] holds the parts; the use cases (`deploy`, `delete`, `namespaces`, `reconciler`) work on it. Request handlers and
//! background work call them. The crate knows no HTTP.

pub mod audit;
pub mod auth;
pub mod blob_stores;
pub mod clean;
pub mod delete;
pub mod deploy;
pub mod disk;
pub mod events;
pub mod limits;
pub mod migrations;
pub mod modules;
pub mod namespaces;
pub mod outbox;
pub mod peers;
mod platform;
pub mod quotas;
pub mod reconciler;
pub mod records;
pub mod registry;
mod rotation;
pub mod secrets;
pub mod settings;
pub mod start_notes;
pub mod storage;
#[cfg(test)]
mod test_database;
pub mod transfer;

pub use platform::{FlushCores, Platform, RunsIn, UsageError};
