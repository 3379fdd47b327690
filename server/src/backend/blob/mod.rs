//! Content-addressed stores for modules.

pub mod cid;
pub mod local;
