//! What tests and benchmarks of all crates share: guests built from `tests/guests`, the tools to build them with, and real
//! servers of every backend.
//!
//! ```no_run
//! use orama_test_support::{guests, tools};
//! let echo: Vec<u8> = guests::wat("echo"); // tests/guests/wat/echo.wat
//! // A toolchain that is missing leaves the test out, visibly; with ORAMA_REQUIRE_TOOLS=1 it fails the test.
//! let Ok(hello) = guests::tinygo("hello", &[]) else { return };
//! let wasm = std::fs::read(hello).unwrap();
//! let Ok(misc) = guests::go("misc", &["host_orama"]) else { return };
//! let Ok(ipfs) = tools::require_or_report("ipfs") else { return };
//! ```
//!
//! Guests are kept in `target/guests`, named by what they were made from; several processes may ask for one at once.

// Helpers of tests say what is wrong by panicking, as the tests themselves do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod backends;
pub mod children;
pub mod guests;
pub mod left_out;
pub mod ports;
pub mod proxy;
pub mod tools;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks although a test that failed may have held it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
