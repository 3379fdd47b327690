//! What a guest's call of each host function costs on a node with its embedded services.

// A benchmark says by panicking that it could not be set up.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_benches::host_calls::measure;
use orama_benches::process::{Role, Server, become_role};
use std::time::Duration;

fn main() {
    become_role();
    // `cargo test` and `--list` only look whether a benchmark runs.
    let quick = std::env::args().any(|argument| argument == "--test" || argument == "--list");
    let home = tempfile::tempdir().unwrap();
    let node = Server::start(Role::Node, home.path());
    let times = measure(&node, home.path(), quick);
    println!("\nhost calls: what one call costs a guest, from the call to its return, embedded services");
    let empty = times.first().map_or(Duration::ZERO, |(_, empty)| *empty);
    for (name, one) in times {
        println!(
            "{name:<28} {:>9.2} us   over an empty call {:>9.2} us",
            one.as_nanos() as f64 / 1e3,
            one.saturating_sub(empty).as_nanos() as f64 / 1e3,
        );
    }
}
