//! The databases of namespaces.

pub mod kept;
pub mod sqlite;
