//! The node: HTTP, registry, records and backends around the runtime.

pub mod auth;
pub mod backend;
pub mod config;
pub mod error;
pub mod records;
pub mod registry;
