//! The caches of namespaces.

pub mod memory;
