//! Prints the table of left-out tests at the end of `cargo test --workspace`.
//!
//! Cargo runs the packages in the order of their names, and a package's library tests before its other tests. So this program
//! runs after all tests. It has no tests of its own: `harness = false`. If `ORAMA_LEFT_OUT_TABLE` is set, the table goes to the
//! file with that name, else to standard error.

#![allow(clippy::expect_used)]

use orama_test_support::left_out;
use std::io::Write;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let Some(table) = left_out::table() else { return };
    match std::env::var_os("ORAMA_LEFT_OUT_TABLE") {
        Some(path) => {
            std::fs::write(path, table).expect("the file that ORAMA_LEFT_OUT_TABLE names can be written")
        }
        None => drop(write!(std::io::stderr(), "\n{table}\n")),
    }
}
