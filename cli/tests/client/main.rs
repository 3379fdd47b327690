//! The commands that talk to a node, run against a stand-in for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod credentials;
mod services;
mod stand;
