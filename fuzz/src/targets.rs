//! The promises, one file each.

pub mod artifact;
pub mod captured_changes;
pub mod config;
pub mod egress;
pub mod host_json;
pub mod import;
pub mod manifest;
pub mod multipart;
pub mod sql_guard;
pub mod sql_rewrite;
pub mod sql_script;
pub mod tokens;
pub mod validate;
pub mod websocket;
