//! The cost of a guest's call of each host function, on a node with embedded services.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_benches::host_calls::measure;
use orama_benches::is_dry_run;
use orama_benches::process::{Role, Server, become_role};
use std::time::Duration;

fn main() {
    become_role();
    let quick = is_dry_run();
    let home = tempfile::tempdir().unwrap();
    let node = Server::start(Role::Node, home.path());
    let times = measure(&node, home.path(), quick);
    println!("\nhost calls: time of one call in the guest, from the call to its return, embedded services");
    let empty = times.first().map_or(Duration::ZERO, |(_, empty)| *empty);
    for (name, one) in times {
        println!(
            "{name:<28} {:>9.2} us   over an empty call {:>9.2} us",
            one.as_nanos() as f64 / 1e3,
            one.saturating_sub(empty).as_nanos() as f64 / 1e3,
        );
    }
}
