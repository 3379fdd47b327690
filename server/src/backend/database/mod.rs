//! The databases of namespaces.

pub mod sqlite;
