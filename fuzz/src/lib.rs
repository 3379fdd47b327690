//! The oracles of the fuzz targets as plain functions: each takes bytes and panics where a promise is broken.
//!
//! They run under libFuzzer (`fuzz_targets/`) and, on their seeds and what a few mutations make of these, in an ordinary program
//! (`src/main.rs`).

mod input;
pub mod mutate;
mod sqlite;
pub mod targets;

use std::fmt::Debug;

/// A promise, and what fuzzing begins with.
pub struct Target {
    pub name: &'static str,
    /// Panics where the promise is broken.
    pub check: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::artifact::TARGET,
    targets::captured_changes::TARGET,
    targets::config::TARGET,
    targets::egress::TARGET,
    targets::host_json::TARGET,
    targets::import::TARGET,
    targets::manifest::TARGET,
    targets::multipart::TARGET,
    targets::sql_guard::TARGET,
    targets::sql_rewrite::TARGET,
    targets::sql_script::TARGET,
    targets::tokens::TARGET,
    targets::validate::TARGET,
    targets::websocket::TARGET,
];

/// A value that a harness cannot do without; what is missing is not the product's fault.
fn ready<T, E: Debug>(value: Result<T, E>) -> T {
    value.expect("the harness is set up")
}

/// Seeds that are texts.
fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
